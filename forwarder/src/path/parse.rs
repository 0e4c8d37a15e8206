//! First stage: which packets are plain, and what they are called in the CRT.

use std::net::{Ipv4Addr, Ipv6Addr};

use model::{DvipaIndex, Protocol};

use crate::crt::{KeyV4, KeyV6};
use crate::packet::{chunk_at, ethernet, ipv4, ipv6, protocol};
use crate::{Mac, Port, Tables};

/// Which frames are addressed to this node, made ready for a burst: the first 8 bytes of the frame, less what the mask
/// leaves out, are as expected. Of a frame whose [`Tag`] was looked at, nothing is expected any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    mask: u64,
    expected: u64,
}

impl Gate {
    /// From its own kernel, every frame is for this node.
    pub(crate) fn new(from: Port, tables: &Tables) -> Self {
        match (from, tables.node().vlan) {
            (Port::Nic, None) => Self::of(tables.node().mac),
            (Port::Local, _) | (Port::Nic, Some(_)) => Self { mask: 0, expected: 0 },
        }
    }

    fn of(mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        let all = 0xff;
        let mask = [all, all, all, all, all, all, 0, 0];
        Self { mask: u64::from_ne_bytes(mask), expected: u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]) }
    }

    #[inline(always)]
    fn admits<const N: usize>(self, head: &[u8; N]) -> bool {
        u64::from_ne_bytes(chunk_at(head, 0).copied().unwrap_or_default()) & self.mask == self.expected
    }
}

/// What tagged frames to this node begin with, made ready for a burst: its address, and the tag of its VLAN with any
/// priority.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    gate: Gate,
    tag: u32,
}

impl Tag {
    pub(crate) fn new(tables: &Tables) -> Self {
        let vlan = tables.node().vlan.unwrap_or_default() & 0x0fff;
        Self { gate: Gate::of(tables.node().mac), tag: u32::from(ethernet::VLAN) << 16 | u32::from(vlan) }
    }

    /// The frame without the first `TAG` bytes, if it has a tag and that and its address are ours. What is left is read as an
    /// untagged frame: its EtherType is where that of one is. Without a tag (`TAG` is 0), the frame as it is.
    #[inline(always)]
    pub(crate) fn behind<const TAG: usize>(self, frame: &[u8]) -> Option<&[u8]> {
        if TAG == 0 {
            return Some(frame);
        }
        let head = frame.first_chunk::<16>()?;
        let ours = self.gate.admits(head) & (word(head, 12) & 0xffff_0fff == self.tag);
        frame.get(TAG..).filter(|_| ours)
    }
}

/// Ethernet and IPv4 headers, and TCP up to its flags.
const V4_BYTES: usize = 48;
/// Where the IP header begins in an untagged frame.
const IP: usize = ethernet::HEADER_BYTES;
/// Where the transport header begins in a plain IPv4 packet.
const L4_V4: usize = 34;
/// Ethernet and IPv6 headers, and TCP up to its flags.
const V6_BYTES: usize = 68;
/// Where the transport header begins in a plain IPv6 packet.
const L4_V6: usize = 54;

/// Recognises a plain packet: of no VLAN or behind this node's [`Tag`], IPv4 without options, whole, TTL left, TCP or UDP, to a DVIPA, and every check
/// passed that [`Datagram::parse`](super::datagram::Datagram::parse) makes.
///
/// In: a frame, and whether its device has verified the header's checksum. Out: its key; or `None` for the general way, which also finds out what is wrong with it. Touches the frame's first line and one slot of the DVIPA map. Costs a read of each word of the
/// headers and branches that go the same way for next to all packets.
#[inline(always)]
pub(crate) fn plain_v4(frame: &[u8], gate: Gate, verified: bool, tables: &Tables) -> Option<KeyV4> {
    const TWO_HOPS: u32 = 2 << 8;
    let head = frame.first_chunk::<V4_BYTES>()?;
    // EtherType, version and header length. First of all, so that an IPv6 packet is soon tried as such.
    if word(head, 12) >> 8 != u32::from(ethernet::IPV4) << 8 | 0x45 {
        return None;
    }
    let len = half(head, IP + 2);
    // Flags and fragment offset, of which "don't fragment" and the reserved bit are left out; TTL; protocol. A fragment is beyond
    // the greatest TTL.
    let middle = word(head, IP + 6) & 0x3fff_ffff;
    // A branch each: what they compare is needed no longer then, and the registers suffice.
    let odd = !(TWO_HOPS..0x1_0000).contains(&middle)
        || usize::from(len) > frame.len().wrapping_sub(IP)
        || !gate.admits(head)
        || !(verified || header_sum_is_right(head))
        || !ipv4::is_host_octet(head[IP + 12])
        || word(head, IP + 12) == word(head, IP + 16);
    if odd {
        return None;
    }
    let udp = middle as u8 == protocol::UDP;
    let form = half(head, L4_V4 + 4);
    let whole = if udp {
        (form.wrapping_add(20) == len) & (len >= 28)
    } else {
        (middle as u8 == protocol::TCP) & (len >= 40) & (head[L4_V4 + 12] >= 0x50)
    };
    if !whole {
        return None;
    }
    // An index that no key has: the general way says so.
    let dvipa = tables.dvipa_v4(Ipv4Addr::from_bits(word(head, IP + 16)))?;
    let dvipa = Some(dvipa).filter(|dvipa| dvipa.0 <= DvipaIndex::MAX)?;
    let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
    Some(KeyV4::of_ends(u64::from(word(head, IP + 12)) << 32 | u64::from(word(head, L4_V4)), dvipa, protocol))
}

/// As [`plain_v4`], for IPv6 without extension headers.
#[inline(always)]
pub(crate) fn plain_v6(frame: &[u8], gate: Gate, tables: &Tables) -> Option<KeyV6> {
    let head = frame.first_chunk::<V6_BYTES>()?;
    let front = word(head, 12);
    let (payload, protocol, hops) = (half(head, IP + 4), head[IP + 6], head[IP + 7]);
    let (source, destination, ports) = (wide(head, IP + 8), wide(head, IP + 24), word(head, L4_V6));
    let len = payload.checked_add(40)?;
    let odd = front >> 12 != u32::from(ethernet::IPV6) << 4 | 6
        || hops <= 1
        || usize::from(len) > frame.len().wrapping_sub(IP)
        || !gate.admits(head)
        || !ipv6::is_host(Ipv6Addr::from_bits(source))
        || source == destination;
    if odd {
        return None;
    }
    let udp = protocol == protocol::UDP;
    let whole = if udp {
        (half(head, L4_V6 + 4) == payload) & (payload >= 8)
    } else {
        (protocol == protocol::TCP) & (payload >= 20) & (head[L4_V6 + 12] >= 0x50)
    };
    if !whole {
        return None;
    }
    let dvipa = tables.dvipa_v6(Ipv6Addr::from_bits(destination))?;
    let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
    Some(KeyV6::new(Ipv6Addr::from_bits(source), (ports >> 16) as u16, dvipa, ports as u16, protocol))
}

/// Two bytes, big-endian. The places are constants within the array: nothing is checked at run time.
#[inline(always)]
fn half<const N: usize>(head: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes(chunk_at(head, at).copied().unwrap_or_default())
}

/// Four bytes.
#[inline(always)]
fn word<const N: usize>(head: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes(chunk_at(head, at).copied().unwrap_or_default())
}

/// Sixteen bytes.
#[inline(always)]
fn wide<const N: usize>(head: &[u8; N], at: usize) -> u128 {
    u128::from_be_bytes(chunk_at(head, at).copied().unwrap_or_default())
}

/// The checksum of an IPv4 header without options: the header as a number is a multiple of 2^16 - 1 (RFC 1071 2 C: the
/// ones' complement sum is the remainder, also of 32-bit words, in any byte order), and not 0, since the version isn't.
#[inline(always)]
fn header_sum_is_right(head: &[u8; V4_BYTES]) -> bool {
    let long = |at: usize| u64::from_ne_bytes(chunk_at(head, at).copied().unwrap_or_default());
    let last = u32::from_ne_bytes(chunk_at(head, IP + 16).copied().unwrap_or_default());
    // Modulo 2^64 - 1, which is a multiple of 2^16 - 1: a carry is added at the other end, and does not make another one.
    let add = |a: u64, b: u64| {
        let (sum, carry) = a.overflowing_add(b);
        sum.wrapping_add(carry.into())
    };
    add(add(long(IP), long(IP + 8)), last.into()) % 0xffff == 0
}

/// 14 bits over the client's address and both ports: the low bits of GUE's source port, so that the fabric and the
/// target's RSS spread flows and keep each in order.
#[inline(always)]
pub(crate) fn flow_hash(source: u32, ports: u32) -> u16 {
    let mixed = (u64::from(source) << 32 | u64::from(ports)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 50) as u16
}

/// [`flow_hash`] for IPv6.
#[inline(always)]
pub(crate) fn flow_hash_v6(source: u128, ports: u32) -> u16 {
    let folded = (source >> 64) as u64 ^ (source as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    flow_hash((folded >> 32) as u32 ^ folded as u32, ports)
}
