//! Neighbour discovery for DVIPAs (RFC 4861 7.2.3, 7.2.4).

use super::Context;
use super::emit::End;
use crate::packet::neighbour::{
    self, ADVERTISEMENT_BYTES, ALL_NODES, ALL_NODES_MAC, Advertisement, HOP_LIMIT,
};
use crate::packet::{Ethernet, Ipv6, Malformed, Solicitation, icmp, ipv6, protocol};
use crate::{PacketBuffer, Reason, Tables};

/// Answers a solicitation for a DVIPA in its own buffer.
///
/// In: an IPv6 frame. Out: the advertisement for the port that it came from, or why it is dropped; `None`: no message
/// of neighbour discovery about a DVIPA. Tags stay as they are.
pub(super) fn answer<B: PacketBuffer>(packet: &mut B, eth: Ethernet, cx: &Context<'_>) -> Option<End> {
    let ip = Ipv6::parse(packet.bytes().get(eth.header_bytes..)?).ok()?;
    if ip.protocol() != protocol::ICMPV6 || ip.fragment().is_some() {
        return None;
    }
    let target = neighbour::target(ip.payload()).ok()?;
    match ip.payload().first().copied()? {
        icmp::v6::SOLICITATION if cx.tables.dvipa_v6(target).is_some() => {}
        icmp::v6::ADVERTISEMENT if cx.tables.dvipa_v6(target).is_some() => {
            return Some(End::dropped(Reason::DvipaConflict));
        }
        _ => return None,
    }
    let solicitation = match Solicitation::parse(&ip) {
        Ok(solicitation) => solicitation,
        Err(Malformed::Checksum) => return Some(End::dropped(Reason::BadChecksum)),
        Err(_) => return Some(End::dropped(Reason::BadNeighbour)),
    };
    Some(match write(packet, eth, solicitation, cx.tables) {
        Some(()) => End::sent(cx.from, Reason::AnsweredNeighbour),
        None => End::dropped(Reason::NoHeadroom),
    })
}

fn write<B: PacketBuffer>(packet: &mut B, eth: Ethernet, asked: Solicitation, tables: &Tables) -> Option<()> {
    let mac = tables.node().mac;
    let tests_duplicate = asked.source.is_unspecified();
    let (destination, to) =
        if tests_duplicate { (ALL_NODES, ALL_NODES_MAC) } else { (asked.source, eth.source) };
    let advertisement = Advertisement { target: asked.target, mac, destination, solicited: !tests_duplicate };
    let len = eth.header_bytes.saturating_add(ipv6::HEADER_BYTES).saturating_add(ADVERTISEMENT_BYTES);
    let missing = len.saturating_sub(packet.bytes().len());
    if missing > 0 && !packet.extend(missing) {
        return None;
    }
    packet.truncate(len);
    crate::packet::ethernet::set_addresses(packet.bytes_mut(), to, mac);
    write_message(packet.bytes_mut().get_mut(eth.header_bytes..)?, advertisement)
}

/// Writes IPv6 header and message.
pub(super) fn write_message(bytes: &mut [u8], advertisement: Advertisement) -> Option<()> {
    let header = ipv6::Header {
        traffic_class: 0,
        payload_bytes: ADVERTISEMENT_BYTES as u16,
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        source: advertisement.target,
        destination: advertisement.destination,
    };
    let (head, body) = bytes.split_first_chunk_mut()?;
    *head = header.to_bytes();
    *body.first_chunk_mut()? = advertisement.to_bytes();
    Some(())
}
