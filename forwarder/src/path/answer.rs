//! Answer it: what the routing node itself has to say about a frame or a packet, in its own buffer.

use super::datagram::Datagram;
use super::emit::End;
use super::{Context, arp, echo, neighbour};
use crate::packet::{Ethernet, Icmp, ethernet, icmp};
use crate::tables::Family;
use crate::{PacketBuffer, Reason};

/// Answers a question of the segment about a DVIPA. `None`: it is none.
pub(super) fn segment<B: PacketBuffer>(packet: &mut B, eth: Ethernet, cx: &Context<'_>) -> Option<End> {
    match eth.ethertype {
        ethernet::ARP => arp::answer(packet, eth, cx),
        ethernet::IPV6 => neighbour::answer(packet, eth, cx),
        _ => None,
    }
}

/// Answers an ICMP message to a DVIPA that is no error: an echo request, or it is dropped.
pub(super) fn icmp<B: PacketBuffer>(packet: &mut B, d: &Datagram, cx: &Context<'_>) -> End {
    let echo_request = match d.family {
        Family::V4 => icmp::v4::ECHO_REQUEST,
        Family::V6 => icmp::v6::ECHO_REQUEST,
    };
    match Icmp::parse(d.payload(packet.bytes())) {
        Ok(message) if message.kind == echo_request && message.code == 0 => echo::answer(packet, d, cx),
        Ok(_) => End::dropped(Reason::IcmpUnsupported),
        Err(malformed) => End::dropped(malformed.into()),
    }
}
