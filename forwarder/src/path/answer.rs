//! Answer it: what the routing node itself has to say about a frame or a packet, in its own buffer.

use std::net::IpAddr;

use model::DvipaIndex;

use super::bucket::Budgets;
use super::datagram::Datagram;
use super::emit::End;
use super::{Context, arp, echo, neighbour};
use crate::packet::{Ethernet, Icmp, ethernet, frame, icmp};
use crate::tables::Family;
use crate::{PacketBuffer, Port, Reason};

/// Answers a question of the segment about a DVIPA. `None`: it is none.
pub(super) fn segment<B: PacketBuffer>(
    packet: &mut B,
    eth: Ethernet,
    cx: &Context<'_>,
    budgets: &mut Budgets,
) -> Option<End> {
    match eth.ethertype {
        ethernet::ARP => arp::answer(packet, eth, cx, budgets),
        ethernet::IPV6 => neighbour::answer(packet, eth, cx, budgets),
        _ => None,
    }
}

/// Another host claims a DVIPA: it is announced anew in the claim's own buffer, once in ten seconds (RFC 5227 2.4).
pub(super) fn claim<B: PacketBuffer>(packet: &mut B, claimed: (DvipaIndex, IpAddr), cx: &Context<'_>) -> End {
    let (dvipa, address) = claimed;
    let node = cx.tables.node();
    if cx.from == Port::Nic && cx.tables.defends(dvipa, cx.now.ms) {
        let announcement = frame::announcement(address, node.mac, node.vlan);
        if frame::replace(packet, &announcement).is_some() {
            return End::sent(Port::Nic, Reason::DvipaDefended);
        }
    }
    End::dropped(Reason::DvipaConflict)
}

/// Answers an ICMP message to a DVIPA that is no error: an echo request, or it is dropped.
pub(super) fn icmp<B: PacketBuffer>(
    packet: &mut B,
    d: &Datagram,
    cx: &Context<'_>,
    budgets: &mut Budgets,
) -> End {
    let echo_request = match d.family {
        Family::V4 => icmp::v4::ECHO_REQUEST,
        Family::V6 => icmp::v6::ECHO_REQUEST,
    };
    match Icmp::parse(d.payload(packet.bytes())) {
        Ok(message) if message.kind == echo_request && message.code == 0 => {
            echo::answer(packet, d, cx, budgets)
        }
        Ok(_) => End::dropped(Reason::IcmpUnsupported),
        Err(malformed) => End::dropped(malformed.into()),
    }
}
