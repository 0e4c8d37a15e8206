//! Which packets have a receive queue of the NIC to themselves, where it can steer them: those that keep the node in its cluster and
//! on its segment. They are lost with all others otherwise when packets come faster than a worker can tell them apart.
//!
//! NICs differ in what they match, so that each kind has alternatives, the narrowest first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use control::config::Config;
use ffi::steer::{Kind, Pattern, Wanted};
use forwarder::packet::{ethernet, protocol};

/// TCP port of BGP (RFC 4271).
const BGP: u16 = 179;
/// ICMPv6 types of router advertisement, neighbour solicitation and advertisement (RFC 4861).
const DISCOVERY: [u8; 3] = [134, 135, 136];
/// Where neighbour solicitations go (RFC 4291 2.7.1), and router advertisements.
const SOLICITED_NODE: (Ipv6Addr, u8) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0), 104);
const ALL_NODES: (Ipv6Addr, u8) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 128);

/// What is to be steered for this node: untagged, and with the VLAN's tag if the NIC has one.
pub fn wanted(config: &Config) -> Vec<Wanted> {
    let tagged = config.forwarder.nic.vlan.map(|vlan| (Some(vlan), format!(" in VLAN {vlan}")));
    let all = std::iter::once((None, String::new())).chain(tagged);
    all.flat_map(|(vlan, suffix)| {
        kinds(config).into_iter().map(move |(name, alternatives)| Wanted {
            name: format!("{name}{suffix}"),
            alternatives: alternatives
                .into_iter()
                .map(|kinds| kinds.into_iter().map(|kind| Pattern { vlan, kind }).collect())
                .collect(),
        })
    })
    .collect()
}

/// Their names, and for each the alternatives.
type Kinds = Vec<(String, Vec<Vec<Kind>>)>;

fn kinds(config: &Config) -> Kinds {
    let own: Vec<IpAddr> = config.node.cluster_address.iter().collect();
    let listen = config.cluster.listen;
    let heard = |address: &IpAddr| {
        let any = listen.ip().is_unspecified() && (listen.is_ipv6() || address.is_ipv4());
        any || listen.ip() == *address
    };
    let mut kinds = vec![("ARP".to_owned(), vec![vec![Kind::EtherType(ethernet::ARP)]])];
    if let Some(address) = own.iter().find(|address| address.is_ipv6()) {
        kinds.push(("ND".to_owned(), discovery(*address)));
    }
    // What it listens on may be an address that is not the cluster's.
    let listening = own
        .iter()
        .copied()
        .filter(heard)
        .chain((!listen.ip().is_unspecified() && !own.contains(&listen.ip())).then_some(listen.ip()));
    for address in listening {
        let each = |to| vec![ports(to, protocol::UDP, 0, listen.port())];
        kinds.push((format!("sessions over {}", family(address)), alternatives(address, each)));
    }
    for address in own {
        // Either may have opened the connection.
        let each = |to| vec![ports(to, protocol::TCP, 0, BGP), ports(to, protocol::TCP, BGP, 0)];
        kinds.push((format!("BGP over {}", family(address)), alternatives(address, each)));
    }
    kinds
}

/// By type; or all of ICMPv6 to where neighbour discovery goes.
fn discovery(own: IpAddr) -> Vec<Vec<Kind>> {
    let to = |(network, bits): (IpAddr, u8)| Kind::Protocol(network, bits, protocol::ICMPV6);
    let groups = [SOLICITED_NODE, ALL_NODES].map(|(group, bits)| (group.into(), bits));
    vec![DISCOVERY.map(Kind::Icmp6).into(), groups.into_iter().chain([(own, 128)]).map(to).collect()]
}

/// To this address; or to any of its family.
fn alternatives(address: IpAddr, each: impl Fn((IpAddr, u8)) -> Vec<Kind>) -> Vec<Vec<Kind>> {
    let (bits, any): (u8, IpAddr) = if address.is_ipv4() {
        (32, Ipv4Addr::UNSPECIFIED.into())
    } else {
        (128, Ipv6Addr::UNSPECIFIED.into())
    };
    vec![each((address, bits)), each((any, 0))]
}

fn ports(to: (IpAddr, u8), protocol: u8, source: u16, destination: u16) -> Kind {
    Kind::Ports { to, protocol, source, destination }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests;
