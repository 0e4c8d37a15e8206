//! An ICMP message on its way back: from the DVIPA to whoever sent the packet that it answers.

use std::net::IpAddr;

use super::datagram::Datagram;
use crate::packet::{Sum, chunk_at_mut, copy, ethernet, icmp, ipv4, ipv6, protocol};
use crate::tables::Family;
use crate::{PacketBuffer, Tables};

/// TTL and hop limit of messages that this node sends.
const HOPS: u8 = 64;
/// Bytes of the longest Ethernet header, with two tags.
const ETHERNET_BYTES: usize = ethernet::HEADER_BYTES + 2 * ethernet::TAG_BYTES;

/// What the IP header says beside addresses and length. The last two only count for IPv4.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) traffic_class: u8,
    pub(super) identification: u16,
    /// The word of flags and offset.
    pub(super) flags: u16,
}

/// The way back: the Ethernet header of the packet that is answered, tags included, its addresses turned round.
#[derive(Debug)]
pub(super) struct WayBack {
    ethernet: [u8; ETHERNET_BYTES],
    bytes: usize,
}

impl WayBack {
    /// The way back to the sender of `frame`.
    pub(super) fn of(frame: &[u8], d: &Datagram, tables: &Tables) -> Option<Self> {
        let mut way = Self { ethernet: [0; ETHERNET_BYTES], bytes: d.ethernet.header_bytes };
        copy(way.ethernet.get_mut(..way.bytes)?, frame.get(..way.bytes)?)?;
        ethernet::set_addresses(&mut way.ethernet, d.ethernet.source, tables.node().mac);
        Some(way)
    }

    /// Makes an ICMP message a frame: checksum, IP header, Ethernet header.
    ///
    /// In: the message alone. `None`: no room before it.
    pub(super) fn wrap<B: PacketBuffer>(&self, message: &mut B, d: &Datagram, marks: Marks) -> Option<()> {
        let message_bytes = u16::try_from(message.bytes().len()).ok()?;
        seal(message.bytes_mut(), d, message_bytes)?;
        let ip_bytes = plain_header_bytes(d.family);
        if !message.prepend(self.bytes.saturating_add(ip_bytes)) {
            return None;
        }
        let (head, ip) = message.bytes_mut().split_at_mut_checked(self.bytes)?;
        copy(head, self.ethernet.get(..self.bytes)?)?;
        match (d.address, d.source) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = ipv4::Header {
                    traffic_class: marks.traffic_class,
                    total_bytes: message_bytes.checked_add(ipv4::HEADER_BYTES as u16)?,
                    identification: marks.identification,
                    flags: marks.flags,
                    ttl: HOPS,
                    protocol: protocol::ICMP,
                    source,
                    destination,
                };
                *ip.first_chunk_mut()? = header.to_bytes();
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = ipv6::Header {
                    traffic_class: marks.traffic_class,
                    payload_bytes: message_bytes,
                    next_header: protocol::ICMPV6,
                    hop_limit: HOPS,
                    source,
                    destination,
                };
                *ip.first_chunk_mut()? = header.to_bytes();
            }
            _ => return None,
        }
        Some(())
    }
}

/// Bytes of an IP header with neither options nor extension headers.
pub(super) fn plain_header_bytes(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::HEADER_BYTES,
        Family::V6 => ipv6::HEADER_BYTES,
    }
}

/// The sum over what an ICMP message's checksum covers beside the message: of ICMPv6, the pseudo-header, which is the
/// same in both directions.
pub(super) fn pseudo_header(d: &Datagram, message_bytes: u16) -> Sum {
    match (d.source, d.address) {
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            Sum::ZERO.pseudo_v6(a.octets(), b.octets(), message_bytes, protocol::ICMPV6)
        }
        _ => Sum::ZERO,
    }
}

/// Writes a message's checksum.
fn seal(message: &mut [u8], d: &Datagram, message_bytes: u16) -> Option<()> {
    *chunk_at_mut(message, icmp::CHECKSUM_AT)? = [0, 0];
    let checksum = pseudo_header(d, message_bytes).bytes(message).finish();
    *chunk_at_mut(message, icmp::CHECKSUM_AT)? = checksum.to_be_bytes();
    Some(())
}
