//! Frames that this node makes: the one place that writes them.
//!
//! A short frame is written whole ([`arp`], [`advertisement`], [`segment`]); what has a payload already gets its headers
//! ([`head`]). Each goes out by a [`Link`]: new, or the way back of a received frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;

use super::arp::Operation;
use super::neighbour::{ADVERTISEMENT_BYTES, ALL_NODES, ALL_NODES_MAC, Advertisement, HOP_LIMIT};
use super::transport::TCP_BYTES;
use super::{Arp, Ethernet, Mac, Ports, Sum, ethernet, ipv4, ipv6, protocol};
use crate::PacketBuffer;

/// The longest frame that is written whole.
pub const BYTES: usize = 128;
/// Bytes of both addresses and two tags.
const LINK_BYTES: usize = 20;
/// Bytes of the most options that a TCP header has room for.
pub const OPTION_BYTES: usize = 40;
/// TTL and hop limit of packets that this node makes.
const HOPS: u8 = 64;

const _: () = assert!(LINK_BYTES + 2 + ipv6::HEADER_BYTES + TCP_BYTES + OPTION_BYTES <= BYTES);

/// A frame, or its beginning.
pub type Bytes = ArrayVec<u8, BYTES>;

/// The parts of a frame one after the other. They fit: the assertion above has the longest.
fn joined(parts: &[&[u8]]) -> Bytes {
    let mut bytes = Bytes::new();
    for part in parts {
        let _ = bytes.try_extend_from_slice(part);
    }
    bytes
}

/// An Ethernet header up to its EtherType: addresses and tags.
#[derive(Clone, Debug)]
pub struct Link(ArrayVec<u8, LINK_BYTES>);

impl Link {
    /// For a frame that begins here.
    pub fn new(destination: Mac, source: Mac, vlan: Option<u16>) -> Self {
        let mut bytes = ArrayVec::new();
        let _ = bytes.try_extend_from_slice([destination.0, source.0].as_flattened());
        if let Some(vlan) = vlan {
            bytes.extend(ethernet::VLAN.to_be_bytes().into_iter().chain((vlan & 0x0fff).to_be_bytes()));
        }
        Self(bytes)
    }

    /// The way back to the sender of `frame` from `ours`, by the tags that it came with.
    pub fn back(frame: &[u8], ethernet: Ethernet, ours: Mac) -> Self {
        let mut link = Self::new(ethernet.source, ours, None);
        let tags = frame.get(12..ethernet.header_bytes.saturating_sub(2)).unwrap_or_default();
        let _ = link.0.try_extend_from_slice(tags);
        link
    }

    /// The whole header.
    pub fn header(&self, ethertype: u16) -> Bytes {
        joined(&[&self.0, &ethertype.to_be_bytes()])
    }
}

/// An IP header of either family, without options or extension headers.
#[derive(Clone, Copy, Debug)]
pub enum Ip {
    /// Of IPv4; the total length counts not.
    V4(ipv4::Header),
    /// Of IPv6; the payload length counts not.
    V6(ipv6::Header),
}

impl Ip {
    /// The header of a packet that this node makes. Of addresses of two families, IPv4's is written as IPv6's (RFC 4291
    /// 2.5.5.2).
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Self::v4(source, destination, protocol),
            (source, destination) => Self::v6(mapped(source), mapped(destination), protocol),
        }
    }

    fn v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        Ip::V4(ipv4::Header {
            traffic_class: 0,
            total_bytes: 0,
            // Atomic datagrams need none (RFC 6864 4.1).
            identification: 0,
            flags: ipv4::DONT_FRAGMENT,
            ttl: HOPS,
            protocol,
            source,
            destination,
        })
    }

    fn v6(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8) -> Self {
        let (traffic_class, payload_bytes, hop_limit) = (0, 0, HOPS);
        Ip::V6(ipv6::Header { traffic_class, payload_bytes, next_header, hop_limit, source, destination })
    }

    /// The same with DSCP and ECN.
    #[must_use]
    pub fn with_traffic_class(mut self, class: u8) -> Self {
        match &mut self {
            Ip::V4(header) => header.traffic_class = class,
            Ip::V6(header) => header.traffic_class = class,
        }
        self
    }

    /// The sum over the pseudo-header of a payload (RFC 9293 3.1, RFC 8200 8.1); ICMP for IPv4 has none.
    pub fn pseudo_header(self, payload_bytes: u16) -> Sum {
        match self {
            Ip::V4(ipv4::Header { protocol: protocol::ICMP, .. }) => Sum::ZERO,
            Ip::V4(ipv4::Header { source, destination, protocol, .. }) => {
                let addresses = Sum::ZERO.bytes(&source.octets()).bytes(&destination.octets());
                addresses.word(payload_bytes).word(protocol.into())
            }
            Ip::V6(ipv6::Header { source, destination, next_header, .. }) => {
                Sum::ZERO.pseudo_v6(source.octets(), destination.octets(), payload_bytes, next_header)
            }
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Ethernet and IP header of a payload of so many bytes.
pub fn head(link: &Link, ip: Ip, payload_bytes: u16) -> Bytes {
    match ip {
        Ip::V4(header) => {
            let total_bytes = payload_bytes.saturating_add(ipv4::HEADER_BYTES as u16);
            let header = ipv4::Header { total_bytes, ..header }.to_bytes();
            joined(&[&link.0, &ethernet::IPV4.to_be_bytes(), &header])
        }
        Ip::V6(header) => {
            let header = ipv6::Header { payload_bytes, ..header }.to_bytes();
            joined(&[&link.0, &ethernet::IPV6.to_be_bytes(), &header])
        }
    }
}

/// An ARP message as a frame.
pub fn arp(link: &Link, message: Arp) -> Bytes {
    joined(&[&link.header(ethernet::ARP), &message.to_bytes()])
}

/// The frame that says to all that `address` is at `mac`: an ARP request whose sender and target are the address (RFC 5227
/// 1.1 and 3), or an advertisement to all nodes with the override flag (RFC 4861 7.2.6).
pub fn announcement(address: IpAddr, mac: Mac, vlan: Option<u16>) -> Bytes {
    match address {
        IpAddr::V4(address) => {
            let (operation, target_mac) = (Operation::Request, Mac::default());
            let message = Arp { operation, sender_mac: mac, sender: address, target_mac, target: address };
            arp(&Link::new(Mac::BROADCAST, mac, vlan), message)
        }
        IpAddr::V6(target) => {
            let message = Advertisement { target, mac, destination: ALL_NODES, solicited: false };
            advertisement(&Link::new(ALL_NODES_MAC, mac, vlan), message)
        }
    }
}

/// A neighbour advertisement as a frame.
pub fn advertisement(link: &Link, message: Advertisement) -> Bytes {
    let header = ipv6::Header {
        traffic_class: 0,
        payload_bytes: 0,
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        source: message.target,
        destination: message.destination,
    };
    joined(&[&head(link, Ip::V6(header), ADVERTISEMENT_BYTES as u16), &message.to_bytes()])
}

/// What a TCP segment without data says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Both ports.
    pub ports: Ports,
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgment number.
    pub acknowledgment: u32,
    /// The flag bits ([`flags`](super::transport::flags)).
    pub flags: u8,
    /// The window, not scaled.
    pub window: u16,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
}

/// A TCP segment as a frame. `ip`'s protocol is TCP.
pub fn segment(link: &Link, ip: Ip, segment: Segment) -> Bytes {
    let option = segment.timestamps.map(|(value, echo)| {
        let ([v0, v1, v2, v3], [e0, e1, e2, e3]) = (value.to_be_bytes(), echo.to_be_bytes());
        [1, 1, 8, 10, v0, v1, v2, v3, e0, e1, e2, e3]
    });
    segment_with(link, ip, segment, option.as_ref().map_or(&[][..], |option| &option[..]), &[])
}

/// All headers of a TCP segment with this data, and with these options (whole words, up to [`OPTION_BYTES`]) instead of its timestamps. The data is
/// to be put behind them.
pub fn segment_with(link: &Link, ip: Ip, segment: Segment, options: &[u8], data: &[u8]) -> Bytes {
    let header_bytes = TCP_BYTES.saturating_add(options.len());
    let len = header_bytes.saturating_add(data.len()) as u16;
    let mut header = segment.header((header_bytes >> 2) as u8);
    let checksum = ip.pseudo_header(len).bytes(&header).bytes(options).bytes(data).finish();
    [header[16], header[17]] = checksum.to_be_bytes();
    let mut bytes = head(link, ip, len);
    let _ = bytes.try_extend_from_slice(&header);
    let _ = bytes.try_extend_from_slice(options);
    bytes
}

impl Segment {
    /// The header without options and checksum; `words`: how long it is with the options.
    #[inline(always)]
    fn header(&self, words: u8) -> [u8; TCP_BYTES] {
        let ([s0, s1], [d0, d1]) = (self.ports.source.to_be_bytes(), self.ports.destination.to_be_bytes());
        let ([n0, n1, n2, n3], [a0, a1, a2, a3]) =
            (self.sequence.to_be_bytes(), self.acknowledgment.to_be_bytes());
        let [w0, w1] = self.window.to_be_bytes();
        let (words, flags) = (words << 4, self.flags);
        [s0, s1, d0, d1, n0, n1, n2, n3, a0, a1, a2, a3, words, flags, w0, w1, 0, 0, 0, 0]
    }
}

/// Makes a packet this frame, whatever it was. `None`, and it is of no use, if its buffer is too small.
pub fn replace<B: PacketBuffer>(packet: &mut B, frame: &[u8]) -> Option<()> {
    packet.truncate(frame.len());
    let missing = frame.len().saturating_sub(packet.bytes().len());
    if missing > 0 && !packet.extend(missing) {
        return None;
    }
    super::copy(packet.bytes_mut(), frame)
}

/// Puts headers before a payload. `None` if there is no room.
pub fn prepend<B: PacketBuffer>(payload: &mut B, head: &[u8]) -> Option<()> {
    if !payload.prepend(head.len()) {
        return None;
    }
    super::copy(payload.bytes_mut().get_mut(..head.len())?, head)
}
