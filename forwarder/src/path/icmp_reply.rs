//! An ICMP message on its way back: from the DVIPA to the sender of the packet that it answers.

use super::datagram::Datagram;
use crate::packet::frame::{self, Ip, Link};
use crate::packet::{Sum, chunk_at_mut, icmp, ipv4, ipv6, protocol};
use crate::tables::Family;
use crate::{PacketBuffer, Tables};

/// What the IP header says beside addresses and length. The last two only count for IPv4.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) traffic_class: u8,
    pub(super) identification: u16,
    /// The word of flags and offset.
    pub(super) flags: u16,
}

/// The way back to the sender of `frame`.
pub(super) fn way_back(frame: &[u8], d: &Datagram, tables: &Tables) -> Link {
    Link::back(frame, d.ethernet, tables.node().mac)
}

/// Makes an ICMP message a frame: checksum, IP header, Ethernet header.
///
/// In: the message alone. `None`: no room before it.
pub(super) fn wrap<B: PacketBuffer>(
    message: &mut B,
    way_back: &Link,
    d: &Datagram,
    marks: Marks,
) -> Option<()> {
    let message_bytes = u16::try_from(message.bytes().len()).ok()?;
    let mut ip = header(d).with_traffic_class(marks.traffic_class);
    if let Ip::V4(header) = &mut ip {
        (header.identification, header.flags) = (marks.identification, marks.flags);
    }
    seal(message.bytes_mut(), ip.pseudo_header(message_bytes))?;
    frame::prepend(message, &frame::head(way_back, ip, message_bytes))
}

/// The header of a message about a packet.
fn header(d: &Datagram) -> Ip {
    let icmp = match d.family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    };
    Ip::new(d.address, d.source, icmp)
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
    header(d).pseudo_header(message_bytes)
}

/// Writes a message's checksum.
fn seal(message: &mut [u8], pseudo_header: Sum) -> Option<()> {
    *chunk_at_mut(message, icmp::CHECKSUM_AT)? = [0, 0];
    let checksum = pseudo_header.bytes(message).finish();
    *chunk_at_mut(message, icmp::CHECKSUM_AT)? = checksum.to_be_bytes();
    Some(())
}
