//! Over to the other port: packets that are none of ours.
//!
//! What keeps the node in its cluster and on its segment goes ahead of the rest ([`End::ahead`]) and has limits of its own, so
//! that neither a flood to the node's own address nor one of ARP keeps its kernel from hearing of the other stacks.

use std::net::IpAddr;

use super::Context;
use super::bucket::{Asker, Budgets, Matter};
use super::emit::End;
use crate::packet::{Ethernet, Ipv4, Ipv6, Mac, Ports, ethernet, icmp, protocol};
use crate::{Port, Reason};

/// EtherTypes of link aggregation (IEEE 802.1AX) and LLDP (802.1AB).
const OF_THE_LINK: [u16; 2] = [0x8809, 0x88cc];
/// IP protocol of OSPF (RFC 2328).
const OSPF: u8 = 89;
/// TCP port of BGP (RFC 4271), and UDP ports of BFD (RFC 5881, RFC 5883).
const BGP: u16 = 179;
const BFD: [u16; 3] = [3784, 3785, 4784];

/// Lets a frame cross.
///
/// In: a frame that is none of ours. Out: it, for the other port; or why it is dropped: its kind's limit is used up.
pub(super) fn crosses(frame: &[u8], cx: &Context<'_>, budgets: &mut Budgets) -> End {
    if cx.from == Port::Local {
        return End::sent(Port::Nic, Reason::PassedToNic);
    }
    let (matter, asker) = whose(frame, cx);
    if !budgets.take(matter, asker, cx.now) {
        return End::dropped(Reason::LocalLimited);
    }
    match matter {
        Matter::Link | Matter::Session => End::ahead(Reason::PassedToLocal),
        _ => End::sent(Port::Local, Reason::PassedToLocal),
    }
}

/// What kind of packet it is, and whose share it takes.
fn whose(frame: &[u8], cx: &Context<'_>) -> (Matter, Asker) {
    let Ok(eth) = Ethernet::parse(frame) else { return (Matter::Other, Mac::default().into()) };
    let link = (Matter::Link, eth.source.into());
    let bytes = frame.get(eth.header_bytes..).unwrap_or_default();
    let read: Option<(IpAddr, IpAddr, u8, &[u8])> = match eth.ethertype {
        ethernet::ARP => return link,
        other if OF_THE_LINK.contains(&other) => return link,
        ethernet::IPV4 => Ipv4::parse(bytes)
            .ok()
            .map(|ip| (ip.source().into(), ip.destination().into(), ip.protocol(), ip.payload())),
        ethernet::IPV6 => Ipv6::parse(bytes)
            .ok()
            .map(|ip| (ip.source().into(), ip.destination().into(), ip.protocol(), ip.payload())),
        _ => None,
    };
    let Some((source, destination, protocol, payload)) = read else {
        return (Matter::Other, eth.source.into());
    };
    if protocol == protocol::ICMPV6 && payload.first().is_some_and(|kind| icmp::v6::is_of_the_link(*kind)) {
        return link;
    }
    let ours = cx.tables.node().cluster_address.iter().any(|own| own == destination);
    if is_routing(protocol, payload) || (ours && cx.tables.sender(source).is_some()) {
        return (Matter::Session, Asker::host(source));
    }
    (Matter::Other, source.into())
}

/// Whether it is a routing protocol's, or of the failure detection beside it.
fn is_routing(number: u8, payload: &[u8]) -> bool {
    let ports = || Ports::parse(payload).map_or([0; 2], |ports| [ports.source, ports.destination]);
    match number {
        OSPF => true,
        protocol::TCP => ports().contains(&BGP),
        protocol::UDP => ports().iter().any(|port| BFD.contains(port)),
        _ => false,
    }
}
