//! Connections and flows that targets open themselves with a DVIPA as source (rows W6, R7).
//!
//! A target's agent sends the first SYN of such a connection encapsulated through this node, so that the CRT has the
//! entry before the answer can come; of a UDP flow that the target begins a datagram now and then, and each ICMP echo
//! request. An echo exchange is entered as a UDP flow from the other end's port 0, which no sender of UDP that wants an
//! answer has (RFC 768), to the identifier as port.

use std::net::{IpAddr, SocketAddr};

use model::{DvipaIndex, Protocol, StackIndex};

use super::Context;
use super::datagram::Datagram;
use super::emit::End;
use super::ends::Ends;
use crate::packet::{
    Ethernet, Gue, Ipv4, Ipv6, Ports, Sum, Tcp, Udp, chunk_at_mut, ethernet, gue, icmp, protocol,
};
use crate::tables::Family;
use crate::{PacketBuffer, Port, Reason};

/// The outer header, as far as it matters.
struct Outer {
    stack: StackIndex,
    /// Bytes before the inner packet, Ethernet header included.
    bytes: usize,
    /// Its ECN field.
    ecn: u8,
    inner: Family,
}

/// Enters an outgoing connection or flow in the CRT and sets its packet free.
///
/// In: an IP packet that is not to a DVIPA. If it is encapsulated to this node by a known stack, and the inner source
/// is a DVIPA, it is one of these; otherwise `None`. Out: the inner packet for the node's own kernel, which routes it
/// on, or why it is dropped. Touches the CRT entry.
pub(super) fn admit<B: PacketBuffer>(packet: &mut B, eth: Ethernet, cx: &Context<'_>) -> Option<End> {
    let outer = outer(packet.bytes(), eth, cx)?;
    let inner = packet.bytes().get(outer.bytes..)?;
    let ends = match inner_ends(inner, outer.inner, cx)? {
        Ok(ends) => ends,
        Err(reason) => return Some(End::dropped(reason)),
    };
    Some(match enter(ends, outer.stack, cx).and_then(|()| decapsulate(packet, eth, &outer)) {
        Ok(()) => End::sent(Port::Local, Reason::Outgoing),
        Err(reason) => End::dropped(reason),
    })
}

fn outer(frame: &[u8], eth: Ethernet, cx: &Context<'_>) -> Option<Outer> {
    let bytes = frame.get(eth.header_bytes..)?;
    let ours = cx.tables.node().cluster_address;
    let (source, number, header_bytes, payload, traffic_class): (IpAddr, _, _, _, _) = match eth.ethertype {
        ethernet::IPV4 => {
            let ip = Ipv4::parse(bytes)
                .ok()
                .filter(|ip| Some(ip.destination()) == ours.v4 && ip.fragment().is_none())?;
            (ip.source().into(), ip.protocol(), ip.header_bytes(), ip.payload(), ip.traffic_class())
        }
        ethernet::IPV6 => {
            let ip = Ipv6::parse(bytes)
                .ok()
                .filter(|ip| Some(ip.destination()) == ours.v6 && ip.fragment().is_none())?;
            (ip.source().into(), ip.protocol(), ip.header_bytes(), ip.payload(), ip.traffic_class())
        }
        _ => return None,
    };
    let (number, tunnel_bytes) = match number {
        protocol::UDP => {
            let udp = Udp::parse(payload).ok().filter(|u| u.ports.destination == gue::PORT)?;
            let gue = Gue::parse(payload.get(8..udp.len)?).ok()?;
            (gue.protocol, gue.header_bytes.saturating_add(8))
        }
        number => (number, 0),
    };
    let inner = match number {
        protocol::IPV4 => Family::V4,
        protocol::IPV6 => Family::V6,
        _ => return None,
    };
    let bytes = eth.header_bytes.saturating_add(header_bytes).saturating_add(tunnel_bytes);
    Some(Outer { stack: cx.tables.sender(source)?, bytes, ecn: traffic_class & 3, inner })
}

/// The connection that the inner packet opens; `None` if its source is no DVIPA.
fn inner_ends(bytes: &[u8], family: Family, cx: &Context<'_>) -> Option<Result<Ends, Reason>> {
    let (dvipa, client, number, whole, payload): (_, IpAddr, _, _, _) = match family {
        Family::V4 => {
            let ip = Ipv4::parse(bytes).ok()?;
            let dvipa = cx.tables.dvipa_v4(ip.source())?;
            (dvipa, ip.destination().into(), ip.protocol(), ip.fragment().is_none(), ip.payload())
        }
        Family::V6 => {
            let ip = Ipv6::parse(bytes).ok()?;
            let dvipa = cx.tables.dvipa_v6(ip.source())?;
            (dvipa, ip.destination().into(), ip.protocol(), ip.fragment().is_none(), ip.payload())
        }
    };
    let ends = |ports: Ports, protocol| {
        let client = SocketAddr::new(client, ports.destination);
        Ends { client, dvipa, port: ports.source, protocol }
    };
    let opened = match (number, family) {
        _ if !whole => None,
        (protocol::TCP, _) => {
            Tcp::parse(payload).ok().filter(|t| t.opens()).map(|t| ends(t.ports, Protocol::Tcp))
        }
        (protocol::UDP, _) => Udp::parse(payload).ok().map(|u| ends(u.ports, Protocol::Udp)),
        (protocol::ICMP, Family::V4) => echo(payload, icmp::v4::ECHO_REQUEST, client, dvipa),
        (protocol::ICMPV6, Family::V6) => echo(payload, icmp::v6::ECHO_REQUEST, client, dvipa),
        _ => None,
    };
    Some(opened.ok_or(Reason::OutgoingRefused))
}

/// What an echo exchange of this host with `client` is called in the CRT, if the message is of this kind.
fn echo(message: &[u8], kind: u8, client: IpAddr, dvipa: DvipaIndex) -> Option<Ends> {
    let [found, 0, _, _, high, low, _, _] = *message.first_chunk()? else { return None };
    let port = u16::from_be_bytes([high, low]);
    let ends = Ends { client: SocketAddr::new(client, 0), dvipa, port, protocol: Protocol::Udp };
    (found == kind).then_some(ends)
}

/// Finds the stack that sent the request of an echo reply to a DVIPA. `None`: it is no echo reply.
pub(super) fn echoed(
    message: &[u8],
    d: &Datagram,
    cx: &Context<'_>,
) -> Option<Result<(Ends, StackIndex), Reason>> {
    let kind = match d.family {
        Family::V4 => icmp::v4::ECHO_REPLY,
        Family::V6 => icmp::v6::ECHO_REPLY,
    };
    let ends = echo(message, kind, d.source, d.dvipa)?;
    Some(ends.key().get(cx).map(|entry| (ends, entry.owner)).ok_or(Reason::IcmpUnmatched))
}

/// Makes the entry. One of another stack that is in force is a collision of ports: the SYN may not pass.
fn enter(ends: Ends, stack: StackIndex, cx: &Context<'_>) -> Result<(), Reason> {
    let entry = ends.key().insert(stack, cx)?;
    if entry.owner == stack { Ok(()) } else { Err(Reason::OutgoingRefused) }
}

/// Takes the outer header off; the Ethernet header goes before the inner packet, its tags are gone.
fn decapsulate<B: PacketBuffer>(packet: &mut B, eth: Ethernet, outer: &Outer) -> Result<(), Reason> {
    let taken = outer.bytes.saturating_sub(ethernet::HEADER_BYTES);
    if !packet.trim_front(taken) {
        return Err(Reason::Truncated);
    }
    let (head, inner) =
        packet.bytes_mut().split_at_mut_checked(ethernet::HEADER_BYTES).ok_or(Reason::Truncated)?;
    ethernet::set_addresses(head, eth.destination, eth.source);
    if let Some(ethertype) = chunk_at_mut::<2>(head, 12) {
        *ethertype = outer.inner.ethertype().to_be_bytes();
    }
    if pass_congestion_on(inner, outer) { Ok(()) } else { Err(Reason::Congested) }
}

const ECT1: u8 = 1;
const ECT0: u8 = 2;
const CE: u8 = 3;

/// Passes the outer header's ECN field on (RFC 6040 4.2, figure 4). `false` if the inner packet can't carry a mark: it
/// has to be dropped.
fn pass_congestion_on(inner: &mut [u8], outer: &Outer) -> bool {
    let Some([_, place]) = inner.first_chunk_mut::<2>() else { return false };
    let shift = match outer.inner {
        Family::V4 => 0,
        Family::V6 => 4,
    };
    let ecn = match (outer.ecn, *place >> shift & CE) {
        (CE, 0) => return false,
        (CE, _) => CE,
        (ECT1, ECT0) => ECT1,
        _ => return true,
    };
    *place = *place & !(CE << shift) | ecn << shift;
    if outer.inner == Family::V4 {
        renew_checksum(inner);
    }
    true
}

/// Computes an IPv4 header's checksum anew.
fn renew_checksum(packet: &mut [u8]) {
    let len = packet.first().map_or(0, |b| usize::from(b & 0x0f).saturating_mul(4));
    let Some(header) = packet.get_mut(..len) else { return };
    if let Some(place) = chunk_at_mut(header, 10) {
        *place = [0, 0];
    }
    let sum = Sum::ZERO.bytes(header).finish().to_be_bytes();
    if let Some(place) = chunk_at_mut(header, 10) {
        *place = sum;
    }
}
