//! What routers on the way to a stack say of packets that were too big for them (RFC 2003 4, RFC 2473 8).
//!
//! Such an ICMP error goes to the outer source address, which is the node's own. So it passes the forwarder like any other
//! packet for the node's kernel, and is read there from a raw socket: no worker has to look for it. Whoever sends one can
//! only make packets smaller, and only as small as the resolver believes.

use std::io;
use std::net::IpAddr;

use forwarder::packet::{Icmp, Ipv4, Ipv6, Sum, icmp, protocol};
use nix::libc;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;

/// Bytes of a message that are looked at; more than is quoted of any packet (RFC 4443 2.4 c).
const LONGEST: usize = 1500;

/// A raw socket that hears one family's messages.
#[derive(Debug)]
pub(super) struct Ear {
    /// Raw, for all that its type says of UDP: what is asked of it is to receive.
    socket: UdpSocket,
    is_v4: bool,
}

impl Ear {
    /// Hears what the kernel of this network namespace hears. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The system's, for instance without CAP_NET_RAW.
    pub(super) fn open(is_v4: bool) -> io::Result<Self> {
        let (domain, protocol) =
            if is_v4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.attach_filter(&filter(is_v4))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, is_v4 })
    }

    /// The next message about a packet of a tunnel: where the packet was to go, and the longest that fits there, in bytes.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn hear(&self) -> io::Result<(IpAddr, u16)> {
        let mut bytes = [0; LONGEST];
        loop {
            let received = self.socket.recv(&mut bytes).await?;
            let message = bytes.get(..received).unwrap_or_default();
            let found = if self.is_v4 { of_v4(message) } else { of_v6(message) };
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }
}

/// Lets only the right types through: a flood of echo requests wakes nobody.
fn filter(is_v4: bool) -> Vec<SockFilter> {
    let load = |at, mode| SockFilter::new((libc::BPF_LD | libc::BPF_B | mode) as u16, 0, 0, at);
    // Not equal: over the other instructions to the last, which takes nothing.
    let equals = |value: u8, over| {
        SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, over, value.into())
    };
    let take = |bytes| SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, bytes);
    let header_bytes = SockFilter::new((libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16, 0, 0, 0);
    if is_v4 {
        vec![
            header_bytes,
            load(0, libc::BPF_IND),
            equals(icmp::v4::UNREACHABLE, 3),
            load(1, libc::BPF_IND),
            equals(icmp::v4::FRAGMENTATION_NEEDED, 1),
            take(u32::MAX),
            take(0),
        ]
    } else {
        vec![load(0, libc::BPF_ABS), equals(icmp::v6::TOO_BIG, 1), take(u32::MAX), take(0)]
    }
}

/// A raw IPv4 socket gives the whole packet, before the kernel has summed the message up.
fn of_v4(packet: &[u8]) -> Option<(IpAddr, u16)> {
    let outer = Ipv4::parse(packet).ok()?;
    let message = Icmp::parse(outer.payload()).ok()?;
    let is_too_big = (message.kind, message.code) == (icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED);
    if !is_too_big || Sum::default().bytes(outer.payload()).finish() != 0 {
        return None;
    }
    let mtu = u16::from_be_bytes(outer.payload().get(6..8)?.try_into().ok()?);
    let quoted = Ipv4::parse_quoted(message.body).ok()?;
    // The quoted packet is one that the node sent to whom it is tunnelled; a router of RFC 792 says no MTU.
    let ours = quoted.source() == outer.destination() && is_tunnel(quoted.protocol(), quoted.payload());
    (ours && mtu > 0).then(|| (quoted.destination().into(), mtu))
}

/// A raw ICMPv6 socket gives the message, which the kernel has summed up (RFC 3542 3.1).
fn of_v6(bytes: &[u8]) -> Option<(IpAddr, u16)> {
    let message = Icmp::parse(bytes).ok()?;
    let mtu = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    let quoted = Ipv6::parse_quoted(message.body).ok()?;
    let ours = message.kind == icmp::v6::TOO_BIG && is_tunnel(quoted.protocol(), quoted.payload());
    ours.then(|| (quoted.destination().into(), u16::try_from(mtu).unwrap_or(u16::MAX)))
}

/// The packet is encapsulated as the forwarder does it.
fn is_tunnel(number: u8, payload: &[u8]) -> bool {
    match number {
        protocol::IPV4 | protocol::IPV6 => true,
        protocol::UDP => payload.get(2..4) == Some(&forwarder::packet::gue::PORT.to_be_bytes()[..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: [u8; 4] = [198, 18, 0, 10];
    const T1: [u8; 4] = [198, 18, 0, 21];

    /// An IPv4 header without checksum, which is put in.
    fn v4(source: [u8; 4], destination: [u8; 4], number: u8, payload: &[u8]) -> Vec<u8> {
        forwarder::packet::ipv4::Header {
            traffic_class: 0,
            total_bytes: u16::try_from(20 + payload.len()).unwrap(),
            identification: 0,
            flags: 0,
            ttl: 64,
            protocol: number,
            source: source.into(),
            destination: destination.into(),
        }
        .to_bytes()
        .into_iter()
        .chain(payload.iter().copied())
        .collect()
    }

    fn too_big(mtu: u16, quoted: &[u8]) -> Vec<u8> {
        let [m0, m1] = mtu.to_be_bytes();
        let mut message = [&[3, 4, 0, 0, 0, 0, m0, m1][..], quoted].concat();
        let sum = Sum::default().bytes(&message).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        v4([198, 18, 0, 254], US, protocol::ICMP, &message)
    }

    /// What is quoted of a GUE packet at least: 8 bytes behind the header.
    fn gue(source: [u8; 4]) -> Vec<u8> {
        v4(source, T1, protocol::UDP, &[0xc0, 0, 0x17, 0xc0, 0, 100, 0, 0])
    }

    #[test]
    fn a_message_about_a_tunnelled_packet_of_ours_tells_the_mtu() {
        assert_eq!(of_v4(&too_big(1400, &gue(US))), Some((IpAddr::from(T1), 1400)));
        let ipip = v4(US, T1, protocol::IPV4, &[0x45, 0, 0, 40, 0, 0, 0, 0]);
        assert_eq!(of_v4(&too_big(1300, &ipip)), Some((IpAddr::from(T1), 1300)));
    }

    #[test]
    fn other_messages_tell_nothing() {
        assert_eq!(of_v4(&too_big(1400, &gue([198, 18, 0, 66]))), None, "not sent by this node");
        assert_eq!(of_v4(&too_big(0, &gue(US))), None, "a router that says no MTU");
        let web = v4(US, T1, protocol::TCP, &[0, 80, 0, 80, 0, 0, 0, 0]);
        assert_eq!(of_v4(&too_big(1400, &web)), None, "the kernel's own business");
        let mut wrong = too_big(1400, &gue(US));
        wrong[27] ^= 1;
        assert_eq!(of_v4(&wrong), None, "a wrong checksum");
        let whole = too_big(1400, &gue(US));
        assert!((0..whole.len()).all(|n| of_v4(&whole[..n]).is_none()), "cut off anywhere");
    }

    #[test]
    fn icmpv6_tells_the_same() {
        let t1: std::net::Ipv6Addr = "2001:db8::21".parse().unwrap();
        let header = forwarder::packet::ipv6::Header {
            traffic_class: 0,
            payload_bytes: 100,
            next_header: protocol::UDP,
            hop_limit: 64,
            source: "2001:db8::10".parse().unwrap(),
            destination: t1,
        };
        let udp = [0xc0, 0, 0x17, 0xc0, 0, 100, 0, 0];
        let message = [&[2, 0, 0, 0, 0, 0, 0x05, 0x78][..], &header.to_bytes(), &udp].concat();
        assert_eq!(of_v6(&message), Some((IpAddr::V6(t1), 1400)));
        assert_eq!(of_v6(&[&[1][..], &message[1..]].concat()), None);
    }
}
