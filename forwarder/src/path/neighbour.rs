//! Neighbour discovery for DVIPAs (RFC 4861 7.2.3, 7.2.4).

use super::bucket::{Budgets, Matter};
use super::emit::End;
use super::{Context, answer};
use crate::packet::frame::{self, Link};
use crate::packet::neighbour::{self, ALL_NODES, ALL_NODES_MAC, Advertisement};
use crate::packet::{Ethernet, Ipv6, Malformed, Solicitation, icmp, protocol};
use crate::{PacketBuffer, Reason, Tables};

/// Answers a solicitation for a DVIPA in its own buffer.
///
/// In: an IPv6 frame. Out: the advertisement for the port that it came from, or why it is dropped; `None`: no message
/// of neighbour discovery about a DVIPA. Tags stay as they are.
pub(super) fn answer<B: PacketBuffer>(
    packet: &mut B,
    eth: Ethernet,
    cx: &Context<'_>,
    budgets: &mut Budgets,
) -> Option<End> {
    let ip = Ipv6::parse(packet.bytes().get(eth.header_bytes..)?).ok()?;
    if ip.protocol() != protocol::ICMPV6 || ip.fragment().is_some() {
        return None;
    }
    let target = neighbour::target(ip.payload()).ok()?;
    match ip.payload().first().copied()? {
        icmp::v6::SOLICITATION if cx.tables.owned_v6(target, cx.now).is_some() => {}
        icmp::v6::ADVERTISEMENT => {
            let dvipa = cx.tables.owned_v6(target, cx.now)?;
            return Some(answer::claim(packet, (dvipa, target.into()), cx));
        }
        _ => return None,
    }
    let solicitation = match Solicitation::parse(&ip) {
        Ok(solicitation) => solicitation,
        Err(Malformed::Checksum) => return Some(End::dropped(Reason::BadChecksum)),
        Err(_) => return Some(End::dropped(Reason::BadNeighbour)),
    };
    if !budgets.take(Matter::Neighbour, eth.source, cx.now) {
        return Some(End::dropped(Reason::NeighbourLimited));
    }
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
    let link = Link::back(packet.bytes(), Ethernet { source: to, ..eth }, mac);
    frame::replace(packet, &frame::advertisement(&link, advertisement))
}
