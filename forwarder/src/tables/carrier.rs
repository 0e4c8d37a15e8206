//! How packets are carried to a stack: the outer header made beforehand.

use std::net::IpAddr;

use model::ClusterAddress;
use model::dpt::{Encapsulation, Reach, StackEntry};

use super::{Family, Neighbours, Node};
use crate::Reason;
use crate::packet::frame::{Ip, Link};
use crate::packet::{Sum, gue, protocol, transport};
use crate::path::OPTION_BYTES;

/// Bytes of the longest outer header: tagged Ethernet, IPv6, UDP, GUE with the handoff option.
pub(crate) const MAX_BYTES: usize = 86;

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
    /// The header's form.
    pub(crate) form: Form,
    /// Why nothing can be sent, if so.
    pub(crate) missing: Reason,
    /// The sum over the outer IPv4 header, its total length and traffic class taken as zero.
    pub(crate) sum: Sum,
    /// The header; lengths, traffic class, source port and checksum are zero.
    pub(crate) header: [u8; MAX_BYTES],
}

impl Carrier {
    /// A carrier that carries nothing.
    pub(crate) const fn missing(reason: Reason) -> Self {
        Self::bare(Form::Missing, reason)
    }

    const fn bare(form: Form, missing: Reason) -> Self {
        Self { max_inner: 0, form, missing, sum: Sum::ZERO, header: [0; MAX_BYTES] }
    }

    /// The carrier of packets of family `inner` to `stack`.
    pub(super) fn new(stack: &StackEntry, inner: Family, neighbours: &Neighbours, node: &Node) -> Self {
        let Reach::Remote { cluster_address, encapsulation } = stack.reach else {
            return Self::bare(Form::Local, Reason::StackUnreachable);
        };
        Self::remote(stack, cluster_address, encapsulation, &[], inner, neighbours, node)
    }

    /// The carrier of packets with the handoff option, which is GUE's, however the stack's other packets are carried. Its
    /// header ends with the option's place.
    pub(super) fn handoff(stack: &StackEntry, inner: Family, neighbours: &Neighbours, node: &Node) -> Self {
        let Reach::Remote { cluster_address, .. } = stack.reach else {
            return Self::missing(Reason::HandoffUnknown);
        };
        let option = [0; OPTION_BYTES];
        Self::remote(stack, cluster_address, Encapsulation::Gue, &option, inner, neighbours, node)
    }

    fn remote(
        stack: &StackEntry,
        cluster_address: ClusterAddress,
        encapsulation: Encapsulation,
        option: &[u8],
        inner: Family,
        neighbours: &Neighbours,
        node: &Node,
    ) -> Self {
        let Some(outer) = outer_family(cluster_address, node) else {
            return Self::missing(Reason::StackUnreachable);
        };
        let hop = |family| neighbours.get(stack.index, family);
        let (l2, ipip) = (encapsulation == Encapsulation::L2, encapsulation == Encapsulation::Ipip);
        let hop = if l2 { hop(Family::V4).or(hop(Family::V6)) } else { hop(outer) };
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
        let max_inner = node.fabric_mtu.saturating_sub(u16::try_from(overhead).unwrap_or(u16::MAX));
        let (form, sum) = (form(encapsulation, outer, node.vlan.is_some()), Sum::ZERO.bytes(ip));
        Self { max_inner, form, missing: Reason::StackUnreachable, sum, header }
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
