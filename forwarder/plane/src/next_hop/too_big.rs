//! What routers on the way to a stack say of packets that were too big for them (RFC 2003 4, RFC 2473 8).
//!
//! Such an ICMP error goes to the outer source address, which is the node's own. So it passes the forwarder like any other
//! packet for the node's kernel, and is read there from a raw socket: no worker has to look for it. A forged one can only make packets
//! smaller, and only as small as the resolver believes: that depends on whether the quoted packet is one that this node sends there.

use std::io;
use std::net::{IpAddr, SocketAddr};

use forwarder::packet::{Icmp, Ipv4, Ipv6, Ports, Sum, gue, icmp, protocol};
use model::{Connection, Protocol as Carried};
use nix::libc;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;

/// Bytes of a message that are looked at; more than is quoted of any packet (RFC 4443 2.4 c).
const LONGEST: usize = 1500;

/// What a router says of a packet of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooBig {
    /// Where the packet was to go.
    pub(super) destination: IpAddr,
    /// The longest IP packet that fits there, in bytes.
    pub(super) mtu: u16,
    /// Whose packet was in the tunnel, if so much of it is quoted.
    pub(super) carried: Option<Connection>,
}

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

    /// The next message about a packet of a tunnel.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn hear(&self) -> io::Result<TooBig> {
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
fn of_v4(packet: &[u8]) -> Option<TooBig> {
    let outer = Ipv4::parse(packet).ok()?;
    let message = Icmp::parse(outer.payload()).ok()?;
    let is_too_big = (message.kind, message.code) == (icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED);
    if !is_too_big || Sum::default().bytes(outer.payload()).finish() != 0 {
        return None;
    }
    let mtu = u16::from_be_bytes(outer.payload().get(6..8)?.try_into().ok()?);
    let quoted = Ipv4::parse_quoted(message.body).ok()?;
    // The quoted packet is one that the node sent to whom it is tunnelled; a router of RFC 792 says no MTU.
    let is_ours = quoted.source() == outer.destination() && is_tunnel(quoted.protocol(), quoted.payload());
    let is_too_long = mtu > 0 && number_at(message.body, 2)? > mtu;
    (is_ours && is_too_long).then(|| TooBig {
        destination: quoted.destination().into(),
        mtu,
        carried: carried(quoted.protocol(), quoted.payload()),
    })
}

/// A raw ICMPv6 socket gives the message, which the kernel has summed up (RFC 3542 3.1).
fn of_v6(bytes: &[u8]) -> Option<TooBig> {
    let message = Icmp::parse(bytes).ok()?;
    let mtu = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    let quoted = Ipv6::parse_quoted(message.body).ok()?;
    let is_ours = message.kind == icmp::v6::TOO_BIG && is_tunnel(quoted.protocol(), quoted.payload());
    let payload_bytes = u32::from(number_at(message.body, 4)?);
    let is_too_long = payload_bytes.saturating_add(forwarder::packet::ipv6::HEADER_BYTES as u32) > mtu;
    (is_ours && is_too_long).then(|| TooBig {
        destination: quoted.destination().into(),
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        carried: carried(quoted.protocol(), quoted.payload()),
    })
}

/// A number in the header of a quoted packet: what is quoted may be shorter than that.
fn number_at(header: &[u8], at: usize) -> Option<u16> {
    header.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// The connection of a client's packet in a tunnel, whose beginning this is.
fn carried(number: u8, payload: &[u8]) -> Option<Connection> {
    let (number, inner) = match number {
        protocol::UDP => {
            let [lead, number, ..] = *payload.get(8..)?.first_chunk::<{ gue::HEADER_BYTES }>()?;
            let options = usize::from(lead & 0x1f).saturating_mul(4);
            (number, payload.get(8_usize.saturating_add(gue::HEADER_BYTES).saturating_add(options)..)?)
        }
        _ => (number, payload),
    };
    let (source, destination, number, payload): (IpAddr, IpAddr, _, _) = if number == protocol::IPV4 {
        let ip = Ipv4::parse_quoted(inner).ok()?;
        (ip.source().into(), ip.destination().into(), ip.protocol(), ip.payload())
    } else {
        let ip = Ipv6::parse_quoted(inner).ok()?;
        (ip.source().into(), ip.destination().into(), ip.protocol(), ip.payload())
    };
    let protocol = match number {
        protocol::TCP => Carried::Tcp,
        protocol::UDP => Carried::Udp,
        _ => return None,
    };
    let ports = Ports::parse(payload).ok()?;
    let (client, dvipa) =
        (SocketAddr::new(source, ports.source), SocketAddr::new(destination, ports.destination));
    Connection::new(protocol, client, dvipa)
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

    /// The beginning of an IPv4 packet of 1500 bytes.
    fn v4(source: [u8; 4], destination: [u8; 4], number: u8, payload: &[u8]) -> Vec<u8> {
        long(1500, source, destination, number, payload)
    }

    fn long(total_bytes: u16, source: [u8; 4], destination: [u8; 4], number: u8, payload: &[u8]) -> Vec<u8> {
        forwarder::packet::ipv4::Header {
            traffic_class: 0,
            total_bytes,
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
        let total_bytes = u16::try_from(20 + message.len()).unwrap();
        long(total_bytes, [198, 18, 0, 254], US, protocol::ICMP, &message)
    }

    fn heard(mtu: u16, carried: Option<Connection>) -> Option<TooBig> {
        Some(TooBig { destination: IpAddr::from(T1), mtu, carried })
    }

    /// What is quoted of a GUE packet at least: 8 bytes behind the header.
    fn gue(source: [u8; 4]) -> Vec<u8> {
        v4(source, T1, protocol::UDP, &[0xc0, 0, 0x17, 0xc0, 0, 100, 0, 0])
    }

    #[test]
    fn a_message_about_a_tunnelled_packet_of_ours_tells_the_mtu() {
        assert_eq!(of_v4(&too_big(1400, &gue(US))), heard(1400, None));
        let ipip = v4(US, T1, protocol::IPV4, &[0x45, 0, 0, 40, 0, 0, 0, 0]);
        assert_eq!(of_v4(&too_big(1300, &ipip)), heard(1300, None));
    }

    #[test]
    fn a_long_quotation_names_the_connection() {
        let (client, dvipa) = ([198, 18, 0, 2], [198, 18, 9, 1]);
        let inner = v4(client, dvipa, protocol::TCP, &[0x9c, 0x40, 0, 80]);
        let expected = Connection::new(Carried::Tcp, (client, 40_000).into(), (dvipa, 80).into());
        assert!(expected.is_some());
        assert_eq!(of_v4(&too_big(1400, &v4(US, T1, protocol::IPV4, &inner))), heard(1400, expected));
        // Behind a GUE header with an option of one word.
        let udp = [0xc0, 0, 0x17, 0xc0, 5, 200, 0, 0, 1, protocol::IPV4, 0, 0, 7, 7, 7, 7];
        let quoted = v4(US, T1, protocol::UDP, &[&udp[..], &inner].concat());
        assert_eq!(of_v4(&too_big(1400, &quoted)), heard(1400, expected));
        for bytes in 28..quoted.len() {
            assert_eq!(of_v4(&too_big(1400, &quoted[..bytes])), heard(1400, None), "cut off anywhere");
        }
    }

    #[test]
    fn other_messages_tell_nothing() {
        assert_eq!(of_v4(&too_big(1400, &gue([198, 18, 0, 66]))), None, "not sent by this node");
        assert_eq!(of_v4(&too_big(0, &gue(US))), None, "a router that says no MTU");
        assert_eq!(of_v4(&too_big(1500, &gue(US))), None, "the packet was no longer than that");
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
            payload_bytes: 1460,
            next_header: protocol::UDP,
            hop_limit: 64,
            source: "2001:db8::10".parse().unwrap(),
            destination: t1,
        };
        let udp = [0xc0, 0, 0x17, 0xc0, 0, 100, 0, 0];
        let message = [&[2, 0, 0, 0, 0, 0, 0x05, 0x78][..], &header.to_bytes(), &udp].concat();
        assert_eq!(of_v6(&message), Some(TooBig { destination: IpAddr::V6(t1), mtu: 1400, carried: None }));
        assert_eq!(of_v6(&[&[1][..], &message[1..]].concat()), None);
    }
}
