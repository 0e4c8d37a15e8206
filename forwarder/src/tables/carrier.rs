//! How packets are carried to a stack: the outer header made beforehand.

use std::net::IpAddr;
use std::sync::Arc;

use model::ClusterAddress;
use model::dpt::{Encapsulation, Reach, StackEntry, StackState};

use super::{Family, Neighbours, Node, Way};
use crate::Reason;
use crate::packet::frame::{Ip, Link};
use crate::packet::{Mac, Sum, gue, protocol, transport};
use crate::path::OPTION_BYTES;

/// Bytes of the longest outer header: tagged Ethernet, IPv6, UDP, GUE with the handoff option.
pub(crate) const MAX_BYTES: usize = 94;
/// How much longer the handoff option with all that is around it makes a packet, at most: IPv6, UDP, GUE.
pub(crate) const LONGEST_HANDOFF: u16 = 40 + UDP_GUE_BYTES as u16 + OPTION_BYTES as u16;
/// The least MTU of an IPv6 link (RFC 8200 5).
const LEAST_V6_MTU: u16 = 1280;

/// The form of a [`Carrier`]'s header: one number to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Form {
    /// Nothing goes before the packet: it is for the node's own kernel.
    Local,
    /// Nothing can be sent.
    Missing,
    /// Only Ethernet.
    L2,
    /// Only Ethernet, with a VLAN tag.
    L2Tagged,
    /// Outer IPv4.
    Ipip4,
    /// Outer IPv4, tagged.
    Ipip4Tagged,
    /// Outer IPv4, UDP, GUE.
    Gue4,
    /// Outer IPv4, UDP, GUE, tagged.
    Gue4Tagged,
    /// Outer IPv6.
    Ipip6,
    /// Outer IPv6, tagged.
    Ipip6Tagged,
    /// Outer IPv6, UDP, GUE.
    Gue6,
    /// Outer IPv6, UDP, GUE, tagged.
    Gue6Tagged,
}

/// What goes before a packet of one family on its way to one stack.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Carrier {
    /// The longest packet that fits, in bytes from its IP header on; 0 if nothing goes before it.
    pub(crate) max_inner: u16,
    /// The longest packet that goes the fast way: 0 if the stack is not heard of, because then it has to be seen which
    /// packets open a connection.
    pub(crate) fast_inner: u16,
    /// How much longer the header makes a packet, in bytes from its IP header on.
    overhead: u16,
    /// The header's form.
    pub(crate) form: Form,
    /// Why nothing can be sent, if so.
    pub(crate) missing: Reason,
    /// The sum over the outer IPv4 header, its total length and traffic class taken as zero.
    pub(crate) sum: u16,
    /// The header; lengths, traffic class, source port and checksum are zero.
    pub(crate) header: [u8; MAX_BYTES],
}

impl Carrier {
    /// A carrier that carries nothing.
    pub(crate) const fn missing(reason: Reason) -> Self {
        Self::bare(Form::Missing, reason)
    }

    const fn bare(form: Form, missing: Reason) -> Self {
        Self { max_inner: 0, fast_inner: 0, overhead: 0, form, missing, sum: 0, header: [0; MAX_BYTES] }
    }

    /// The carrier of packets of family `inner` to `stack`.
    pub(super) fn new(stack: &StackEntry, inner: Family, neighbours: &Neighbours, node: &Node) -> Self {
        let Reach::Remote { cluster_address, encapsulation } = stack.reach else {
            return Self::bare(Form::Local, Reason::StackUnreachable);
        };
        let hop = next_hop(stack, cluster_address, encapsulation, neighbours, node);
        Self::remote(cluster_address, encapsulation, &[], inner, hop, node).to(stack, inner, neighbours)
    }

    /// The carrier of packets with the handoff option, which is GUE's, however the stack's other packets are carried. Its
    /// header ends with the option's place.
    pub(super) fn handoff(stack: &StackEntry, inner: Family, neighbours: &Neighbours, node: &Node) -> Self {
        let Reach::Remote { cluster_address, .. } = stack.reach else {
            return Self::missing(Reason::HandoffUnknown);
        };
        let option = [0; OPTION_BYTES];
        let hop = next_hop(stack, cluster_address, Encapsulation::Gue, neighbours, node);
        let carrier = Self::remote(cluster_address, Encapsulation::Gue, &option, inner, hop, node);
        carrier.to(stack, inner, neighbours)
    }

    /// The carrier of packets with the ask option, which is GUE's too. To the node's own kernel they go encapsulated as well,
    /// through the local port: its agent's program reads the option.
    pub(super) fn ask(stack: &StackEntry, inner: Family, neighbours: &Neighbours, node: &Node) -> Self {
        let (gue, option) = (Encapsulation::Gue, &model::ask::OPTION);
        match stack.reach {
            Reach::Local => {
                let untagged = Node { vlan: None, ..node.clone() };
                Self::remote(node.cluster_address, gue, option, inner, Some(node.mac), &untagged)
            }
            Reach::Remote { cluster_address, .. } => {
                let hop = next_hop(stack, cluster_address, gue, neighbours, node);
                Self::remote(cluster_address, gue, option, inner, hop, node).to(stack, inner, neighbours)
            }
        }
    }

    fn remote(
        cluster_address: ClusterAddress,
        encapsulation: Encapsulation,
        option: &[u8],
        inner: Family,
        hop: Option<Mac>,
        node: &Node,
    ) -> Self {
        let Some(outer) = outer_family(cluster_address, node) else {
            return Self::missing(Reason::StackUnreachable);
        };
        let (l2, ipip) = (encapsulation == Encapsulation::L2, encapsulation == Encapsulation::Ipip);
        let Some(hop) = hop else {
            return Self::missing(Reason::NextHopUnresolved);
        };
        let payload = match inner {
            Family::V4 => protocol::IPV4,
            Family::V6 => protocol::IPV6,
        };
        let next = if ipip { payload } else { protocol::UDP };
        let ip = ip_header(cluster_address, node, outer, next);
        let ethertype = if l2 { inner.ethertype() } else { outer.ethertype() };
        let [p0, p1] = gue::PORT.to_be_bytes();
        // The header's length, in words after the first.
        let words = u8::try_from(option.len() / 4).unwrap_or(0);
        let udp_gue = [&[0, 0, p0, p1, 0, 0, 0, 0, words, payload, 0, 0], option].concat();
        let (ip, udp_gue) = match (l2, ipip) {
            (true, _) => (&[][..], &[][..]),
            (false, true) => (&ip[..], &[][..]),
            (false, false) => (&ip[..], &udp_gue[..]),
        };
        let mut header = [0; MAX_BYTES];
        let eth = Link::new(hop, node.mac, node.vlan).header(ethertype);
        let parts = eth.iter().chain(ip).chain(udp_gue);
        header.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        let overhead = ip.len().saturating_add(udp_gue.len());
        let overhead = u16::try_from(overhead).unwrap_or(u16::MAX);
        let max_inner = node.fabric_mtu.saturating_sub(overhead);
        let (form, sum) = (form(encapsulation, outer, node.vlan.is_some()), Sum::ZERO.bytes(ip).folded());
        let fast_inner = max_inner;
        Self { max_inner, fast_inner, overhead, form, missing: Reason::StackUnreachable, sum, header }
    }

    /// The same to a stack that may not be heard of, on a way whose MTU a router may have told.
    fn to(mut self, stack: &StackEntry, inner: Family, neighbours: &Neighbours) -> Self {
        let outer = match self.form {
            Form::Ipip4 | Form::Ipip4Tagged | Form::Gue4 | Form::Gue4Tagged => Some(Family::V4),
            Form::Ipip6 | Form::Ipip6Tagged | Form::Gue6 | Form::Gue6Tagged => Some(Family::V6),
            Form::Local | Form::Missing | Form::L2 | Form::L2Tagged => None,
        };
        if let Some(mtu) = outer.and_then(|outer| neighbours.mtu(stack.index, outer)) {
            let longest = mtu.saturating_sub(self.overhead);
            // No IPv6 sender is told of a path MTU below its least one (RFC 2473 7.1).
            let longest = if inner == Family::V6 { longest.max(LEAST_V6_MTU) } else { longest };
            self.max_inner = self.max_inner.min(longest);
        }
        self.fast_inner = if stack.state == StackState::Up { self.max_inner } else { 0 };
        self
    }
}

/// The next hop on the way to a stack.
fn next_hop(
    stack: &StackEntry,
    cluster_address: ClusterAddress,
    encapsulation: Encapsulation,
    neighbours: &Neighbours,
    node: &Node,
) -> Option<Mac> {
    let hop = |family| neighbours.get(stack.index, family);
    match encapsulation {
        Encapsulation::L2 => hop(Family::V4).or(hop(Family::V6)),
        Encapsulation::Ipip | Encapsulation::Gue => hop(outer_family(cluster_address, node)?),
    }
}

fn form(encapsulation: Encapsulation, outer: Family, tagged: bool) -> Form {
    match (encapsulation, outer, tagged) {
        (Encapsulation::L2, _, false) => Form::L2,
        (Encapsulation::L2, _, true) => Form::L2Tagged,
        (Encapsulation::Ipip, Family::V4, false) => Form::Ipip4,
        (Encapsulation::Ipip, Family::V4, true) => Form::Ipip4Tagged,
        (Encapsulation::Gue, Family::V4, false) => Form::Gue4,
        (Encapsulation::Gue, Family::V4, true) => Form::Gue4Tagged,
        (Encapsulation::Ipip, Family::V6, false) => Form::Ipip6,
        (Encapsulation::Ipip, Family::V6, true) => Form::Ipip6Tagged,
        (Encapsulation::Gue, Family::V6, false) => Form::Gue6,
        (Encapsulation::Gue, Family::V6, true) => Form::Gue6Tagged,
    }
}

/// The family of the outer header: IPv4 if both ends have it, else IPv6.
fn outer_family(stack: ClusterAddress, node: &Node) -> Option<Family> {
    let v4 = stack.v4.is_some() && node.cluster_address.v4.is_some();
    let v6 = stack.v6.is_some() && node.cluster_address.v6.is_some();
    if v4 { Some(Family::V4) } else { v6.then_some(Family::V6) }
}

fn ip_header(stack: ClusterAddress, node: &Node, outer: Family, next: u8) -> Vec<u8> {
    let ends = match outer {
        Family::V4 => node.cluster_address.v4.map(IpAddr::V4).zip(stack.v4.map(IpAddr::V4)),
        Family::V6 => node.cluster_address.v6.map(IpAddr::V6).zip(stack.v6.map(IpAddr::V6)),
    };
    match ends.map(|(source, destination)| Ip::new(source, destination, next)) {
        Some(Ip::V4(header)) => header.without_checksum().to_vec(),
        Some(Ip::V6(header)) => header.to_bytes().to_vec(),
        None => Vec::new(),
    }
}

/// Bytes of UDP and GUE headers together.
pub(crate) const UDP_GUE_BYTES: usize = transport::UDP_BYTES.saturating_add(gue::HEADER_BYTES);

/// How each stack is reached, by its number.
pub(super) fn ways(stacks: &[StackEntry], neighbours: &Neighbours, node: &Node) -> Arc<[Way]> {
    let len = stacks.iter().map(|s| usize::from(s.index.0).saturating_add(1)).max().unwrap_or(0);
    let none = || Carrier::missing(Reason::StackUnreachable);
    let pair = || Box::new([none(), none()]);
    let state = StackState::Up;
    let unknown = || Way { v4: none(), v6: none(), handoff: pair(), ask: pair(), local: false, state };
    let mut ways: Vec<_> = (0..len).map(|_| unknown()).collect();
    for stack in stacks {
        if let Some(way) = ways.get_mut(usize::from(stack.index.0)) {
            let carrier = |family| Carrier::new(stack, family, neighbours, node);
            let handoff = |family| Carrier::handoff(stack, family, neighbours, node);
            let ask = |family| Carrier::ask(stack, family, neighbours, node);
            *way = Way {
                v4: carrier(Family::V4),
                v6: carrier(Family::V6),
                state: stack.state,
                handoff: Box::new([Family::V4, Family::V6].map(handoff)),
                ask: Box::new([Family::V4, Family::V6].map(ask)),
                local: stack.reach == Reach::Local,
            };
        }
    }
    ways.into()
}
