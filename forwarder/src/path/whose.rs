//! Whose is it: the general way of reading a packet, for every one that is not plain.

use std::net::SocketAddr;

use model::Protocol;

use super::bucket::Budgets;
use super::datagram::Datagram;
use super::emit::End;
use super::ends::AnyKey;
use super::fate::Fate;
use super::fragments::{self, DatagramKey};
use super::{Context, answer, crossing, outgoing, quoted};
use crate::crt::KeyParts;
use crate::packet::{Ethernet, Icmp, protocol};
use crate::tables::Family;
use crate::traffic::{Pair, What};
use crate::{PacketBuffer, Port, Reason};

/// A packet to a DVIPA, as far as its delivery needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) datagram: Datagram,
    /// The connection that it belongs to or is about; `None` of a fragment without ports.
    pub(crate) key: Option<AnyKey>,
    /// The flow's hash, of fragments the datagram's.
    pub(crate) hash: u16,
}

/// Says what becomes of any packet.
///
/// In: a frame. Out: what it is and what becomes of it, if it is to be delivered; else its end, and the frame is what is
/// to be sent. Order of questions: is it for this node, ARP or neighbour discovery about a DVIPA, an IP packet to a
/// DVIPA, an outgoing connection's SYN; what is left crosses to the other port unchanged.
pub(super) fn is_it<B: PacketBuffer>(
    packet: &mut B,
    cx: &Context<'_>,
    budgets: &mut Budgets,
) -> Result<(Read, Fate), End> {
    // The node's kernel may know what to do with a frame that can't be read; so may the network.
    let Some(eth) = Ethernet::parse(packet.bytes()).ok().filter(|eth| concerns_us(*eth, cx)) else {
        return Err(crossing::crosses(packet.bytes(), cx, budgets));
    };
    if let Some(end) = answer::segment(packet, eth, cx, budgets) {
        return Err(end);
    }
    // A frame to another station was flooded; one to a group is no unicast packet's (RFC 1122 3.3.6).
    let to_us = eth.destination == cx.tables.node().mac || cx.from == Port::Local;
    let datagram =
        if to_us { Datagram::parse(packet.bytes(), eth, cx.tables).map_err(End::dropped)? } else { None };
    if let Some(datagram) = datagram {
        return to_dvipa(packet, datagram, cx, budgets);
    }
    Err(outgoing::admit(packet, eth, cx).unwrap_or_else(|| crossing::crosses(packet.bytes(), cx, budgets)))
}

/// The frame is in our VLAN. An untagged one (a priority tag has VLAN 0) is in none: a tag that a device took off is back
/// before the path sees the frame.
fn concerns_us(eth: Ethernet, cx: &Context<'_>) -> bool {
    let ours = cx.tables.node().vlan.map(|v| v & 0x0fff);
    cx.from == Port::Local || ours.is_none_or(|ours| eth.vlan == Some(ours))
}

fn to_dvipa<B: PacketBuffer>(
    packet: &mut B,
    datagram: Datagram,
    cx: &Context<'_>,
    budgets: &mut Budgets,
) -> Result<(Read, Fate), End> {
    let icmp = match datagram.family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    };
    match datagram.fragment {
        _ if datagram.protocol == icmp => icmp_message(packet, datagram, cx, budgets),
        Some(fragment) if !fragment.is_first() => Ok(later_fragment(datagram, cx)),
        _ => with_ports(packet, datagram, cx, budgets).map_err(End::dropped),
    }
}

fn icmp_message<B: PacketBuffer>(
    packet: &mut B,
    d: Datagram,
    cx: &Context<'_>,
    budgets: &mut Budgets,
) -> Result<(Read, Fate), End> {
    if d.fragment.is_some() {
        return Err(End::dropped(Reason::IcmpUnsupported));
    }
    let message = Icmp::parse(d.payload(packet.bytes())).map_err(|m| End::dropped(m.into()))?;
    let is_error = match d.family {
        Family::V4 => message.is_error_v4(),
        Family::V6 => message.is_error_v6(),
    };
    if is_error {
        return quoted::whose(message, &d, cx).map_err(End::dropped);
    }
    if let Some(found) = outgoing::echoed(d.payload(packet.bytes()), &d, cx) {
        let (ends, to) = found.map_err(End::dropped)?;
        let fate = Fate::Forward { to, counts: Reason::ForwardedEcho };
        return Ok((Read { datagram: d, key: Some(ends.key()), hash: ends.hash() }, fate));
    }
    Err(answer::icmp(packet, &d, cx, budgets))
}

/// A whole packet, or a first fragment.
fn with_ports<B: PacketBuffer>(
    packet: &B,
    d: Datagram,
    cx: &Context<'_>,
    budgets: &mut Budgets,
) -> Result<(Read, Fate), Reason> {
    let (ends, opens) = d.ends(packet.bytes())?;
    let fate = ends.key().fate((opens, d.protocol == protocol::UDP), cx, budgets);
    let hash = if d.fragment.is_some() { fragments::hash(&d) } else { ends.hash() };
    Ok((Read { datagram: d, key: Some(ends.key()), hash }, fate))
}

/// A fragment without ports.
fn later_fragment(d: Datagram, cx: &Context<'_>) -> (Read, Fate) {
    let fate = match DatagramKey::of(&d).owner(cx) {
        Some(to) => Fate::Forward { to, counts: Reason::ForwardedFragment },
        None => Fate::Hold,
    };
    (Read::fragment(d), fate)
}

impl Read {
    /// A fragment without ports.
    pub(super) fn fragment(datagram: Datagram) -> Self {
        Self { datagram, key: None, hash: fragments::hash(&datagram) }
    }

    /// What happens to it, as it is counted: without ports, as of the DVIPA's other ports.
    pub(super) fn pair(&self, what: What) -> Pair {
        let d = &self.datagram;
        let protocol = if d.protocol == protocol::UDP { Protocol::Udp } else { Protocol::Tcp };
        match self.key {
            Some(key) => Pair::new(key.into(), what),
            None => {
                let (client, dvipa) = (SocketAddr::new(d.source, 0), d.dvipa);
                Pair::new(KeyParts { client, dvipa, dvipa_port: 0, protocol }, what).of_other_ports()
            }
        }
    }
}
