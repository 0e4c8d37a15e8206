//! ARP for DVIPAs (RFC 826).

use super::bucket::{Budgets, Matter};
use super::emit::End;
use super::{Context, answer};
use crate::packet::arp::Operation;
use crate::packet::frame::{self, Link};
use crate::packet::{Arp, Ethernet, copy};
use crate::{PacketBuffer, Reason};

/// Answers a request for a DVIPA in the request's own buffer.
///
/// In: an ARP frame. Out: the reply for the port that it came from, or what becomes of another host's claim to a DVIPA;
/// `None`: not about a DVIPA. Padding and tags stay as they are.
pub(super) fn answer<B: PacketBuffer>(
    packet: &mut B,
    eth: Ethernet,
    cx: &Context<'_>,
    budgets: &mut Budgets,
) -> Option<End> {
    let request = Arp::parse(packet.bytes().get(eth.header_bytes..)?).ok()?;
    let mac = cx.tables.node().mac;
    if let Some(dvipa) = cx.tables.owned_v4(request.sender, cx.now) {
        return Some(answer::claim(packet, (dvipa, request.sender.into()), cx));
    }
    if request.operation != Operation::Request || cx.tables.owned_v4(request.target, cx.now).is_none() {
        return None;
    }
    if !budgets.take(Matter::Neighbour, eth.source, cx.now) {
        return Some(End::dropped(Reason::NeighbourLimited));
    }
    let reply = Arp {
        operation: Operation::Reply,
        sender_mac: mac,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    let reply = frame::arp(&Link::back(packet.bytes(), eth, mac), reply);
    copy(packet.bytes_mut().get_mut(..reply.len())?, &reply)?;
    Some(End::sent(cx.from, Reason::AnsweredArp))
}
