//! Definitions as they are written to peers, and as they are read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;

use ipnet::IpNet;
use model::codec::Address;
use model::dpt::{Affinity, Method, Refuse};
use model::peer::{self, Definition, Definitions, Distribute, Weight};
use model::{Dvipa, Limits, Protocol, StackName, quic};
use routes::Routes;

use super::super::succession::Claim;
use crate::config::{
    AFFINITY_CLIENTS, Candidate, Destip, MOST_AFFINITY_CLIENTS, Moveable, Routing, ServicePolicy,
    TargetRules, VipaDistribute, VipaDynamic, Weights,
};

const REFUSALS: [Refuse; 2] = [Refuse::Reset, Refuse::Silent];
const MOVEABLE: [Moveable; 4] =
    [Moveable::Immediate, Moveable::WhenIdle, Moveable::NonDisruptive, Moveable::Disruptive];
/// The most ports, candidates, weights and policies of a distribution that are read.
const MAX_LIST: usize = 65_536;
/// So long a part of the list becomes, in bytes: a message that carries one definition more is shorter than sessions take (4 MiB).
const MAX_PART: usize = 1 << 20;
/// So long one definition may be, in bytes.
pub(super) const MAX_DEFINITION: usize = 3 << 20;

/// The number of a word of a list.
fn number<T: PartialEq>(all: &[T], word: &T) -> u8 {
    all.iter().position(|known| known == word).and_then(|at| u8::try_from(at).ok()).unwrap_or_default()
}

/// The word with a number; the first one of a list where the number is of a later version.
fn word<T: Copy + Default>(all: &[T], number: u8) -> T {
    all.get(usize::from(number)).copied().unwrap_or_default()
}

/// Whether a peer has the DVIPA out of a range.
pub(super) fn is_of_a_range(said: &Definition) -> bool {
    let moveable = said.moveable.and_then(|number| MOVEABLE.get(usize::from(number)));
    matches!(moveable, Some(Moveable::NonDisruptive | Moveable::Disruptive))
}

/// A DVIPA of this stack.
pub(super) fn definition(written: &VipaDynamic, claim: Claim, dvipa: Dvipa) -> Definition {
    let (define, backup) = (written.define_of(dvipa), written.backup_of(dvipa));
    let moveable = define.map(|d| d.moveable).or_else(|| backup.and_then(|b| b.moveable));
    let owner = claim.owns.is_some();
    let owns = claim.owns.unwrap_or_default();
    Definition {
        address: Address(dvipa.address()),
        epoch: owns.epoch,
        owner,
        rank: claim.rank,
        prefix_bits: define.map(|d| d.prefix_bits).or_else(|| backup.and_then(|b| b.prefix_bits)),
        moveable: moveable.map(|moveable| number(&MOVEABLE, &moveable)),
        by_order: owns.by_order.then_some(true),
        next: claim.next,
        refuse: define.map(|define| number(&REFUSALS, &define.refuse)),
        distributes: written.distributes_of(dvipa).iter().map(distribute).collect(),
        wants: claim.wants.then_some(true),
    }
}

/// The list in parts that are no longer than messages may be.
pub(super) fn parts(all: &Definitions) -> Vec<Definitions> {
    let Definitions { leaving, lease_ms, .. } = *all;
    let head =
        || Definitions { leaving, lease_ms, witnesses: all.witnesses.clone(), ..Definitions::default() };
    let (mut parts, mut last, mut bytes) = (Vec::new(), head(), 0);
    for definition in &all.dvipas {
        let more = size(definition);
        if bytes + more > MAX_PART && !last.dvipas.is_empty() {
            parts.push(Definitions { more: Some(true), ..std::mem::replace(&mut last, head()) });
            bytes = 0;
        }
        last.dvipas.push(definition.clone());
        bytes += more;
    }
    parts.push(last);
    parts
}

/// How long a definition is at most, in bytes.
pub(super) fn size(definition: &Definition) -> usize {
    let names = |list: &[String]| list.iter().map(|name| name.len() + 5).sum::<usize>();
    let weights = |w: &peer::Weights| w.configured.iter().map(|w| w.candidate.len() + 12).sum::<usize>() + 8;
    let policy = |p: &peer::Policy| names(&p.destip) + weights(&p.weights) + 40;
    let distribute = |d: &Distribute| {
        let policies: usize = d.policies.iter().map(policy).sum();
        let ids =
            d.quic.iter().flat_map(|quic| &quic.server_ids).map(|given| given.stack.as_str().len() + 24);
        let quic = ids.sum::<usize>() + d.quic.len() * 40;
        d.ports.len() * 3 + names(&d.destip) + weights(&d.weights) + policies + quic + 90
    };
    definition.distributes.iter().map(distribute).sum::<usize>() + 160
}

fn distribute(d: &VipaDistribute) -> Distribute {
    Distribute {
        protocol: d.protocol,
        ports: d.ports.clone(),
        destip: destip(&d.destip),
        method: number(&Method::ALL, &d.method),
        weights: weights(&d.weights),
        content_routed: d.content_routed,
        refuse: Some(number(&REFUSALS, &d.refuse)),
        policies: d.policies.iter().map(policy).collect(),
        routes: d.routing.as_ref().map(|routing| (*routing.set).clone()),
        rules: Some(peer::TargetRules {
            panic_percent: d.rules.panic_percent,
            slow_start_s: d.rules.slow_start_s,
            max_connections: d.rules.max_connections.map(NonZeroU32::get),
            affinity_s: d.rules.affinity.map(|affinity| affinity.seconds),
            affinity_clients: d.rules.affinity.map(|affinity| affinity.clients),
        }),
        quic: d.quic.to_vec(),
        limits: (d.limits != Limits::NONE).then_some(d.limits),
    }
}

fn destip(destip: &Destip) -> Vec<String> {
    match destip {
        Destip::All => Vec::new(),
        Destip::List(list) => list.iter().map(ToString::to_string).collect(),
    }
}

fn weights(weights: &Weights) -> peer::Weights {
    let weight = |(candidate, weight): (&Candidate, &u16)| Weight {
        candidate: candidate.to_string(),
        weight: *weight,
    };
    match weights {
        Weights::Equal => peer::Weights::default(),
        Weights::Load => peer::Weights { load: true, configured: Vec::new() },
        Weights::Configured(all) => {
            peer::Weights { load: false, configured: all.iter().map(weight).collect() }
        }
    }
}

fn policy(policy: &ServicePolicy) -> peer::Policy {
    peer::Policy {
        network: Address(policy.client.network()),
        prefix_bits: policy.client.prefix_len(),
        destip: destip(&policy.destip),
        weights: weights(&policy.weights),
    }
}

/// What a peer distributes. What can't be meant is left out.
pub(super) fn distributes(said: &Definition) -> Vec<VipaDistribute> {
    let dvipa = Dvipa::new(said.address.0);
    let mut read: Vec<VipaDistribute> = Vec::new();
    for d in said.distributes.iter().take(MAX_LIST) {
        let mut ports: Vec<u16> = d.ports.iter().copied().filter(|port| *port != 0).collect();
        ports.sort_unstable();
        ports.dedup();
        let of_it = read.iter().filter(|other| other.protocol == d.protocol);
        // As a file may have it: no port in two of them, and at most one without ports.
        let mut twice = of_it.filter(|other| match ports.is_empty() {
            true => other.ports.is_empty(),
            false => other.ports.iter().any(|port| ports.binary_search(port).is_ok()),
        });
        if twice.next().is_some() || ports.is_empty() != d.ports.is_empty() {
            continue;
        }
        let Some(destip) = read_destip(&d.destip) else { continue };
        // Without its routes, clients would get to targets that can't serve them.
        let routes_fit = |set| d.protocol == Protocol::Tcp && Routes::compile(set).is_ok();
        if !d.routes.as_ref().is_none_or(routes_fit) {
            continue;
        }
        read.push(VipaDistribute {
            dvipa,
            protocol: d.protocol,
            ports,
            destip,
            method: word(&Method::ALL, d.method),
            weights: read_weights(&d.weights),
            content_routed: d.content_routed && d.protocol == Protocol::Tcp,
            refuse: word(&REFUSALS, d.refuse.unwrap_or_default()),
            rules: d.rules.as_ref().map(read_rules).unwrap_or_default(),
            policies: d.policies.iter().take(MAX_LIST).filter_map(read_policy).collect(),
            routing: d.routes.clone().map(Routing::new),
            quic: read_quic(d).into(),
            limits: d.limits.unwrap_or(Limits::NONE),
        });
    }
    read
}

fn read_rules(said: &peer::TargetRules) -> TargetRules {
    TargetRules {
        panic_percent: said.panic_percent.clamp(1, 100),
        slow_start_s: said.slow_start_s,
        max_connections: said.max_connections.and_then(NonZeroU32::new),
        affinity: said.affinity_s.map(|seconds| Affinity {
            seconds,
            clients: said
                .affinity_clients
                .map_or(AFFINITY_CLIENTS, |clients| clients.min(MOST_AFFINITY_CLIENTS)),
        }),
    }
}

/// How servers make connection IDs; what this version can't read leaves packets to their flows.
fn read_quic(d: &Distribute) -> Vec<quic::Configuration> {
    let fits = d.protocol == Protocol::Udp && quiclb::Reader::new(&d.quic).is_ok();
    if fits { d.quic.clone() } else { Vec::new() }
}

/// `None`: none of those that are named can be read, which is not ALL.
fn read_destip(said: &[String]) -> Option<Destip> {
    let list: Vec<Candidate> = said.iter().take(MAX_LIST).filter_map(|text| candidate(text)).collect();
    match (said.is_empty(), list.is_empty()) {
        (true, _) => Some(Destip::All),
        (false, true) => None,
        (false, false) => Some(Destip::List(list)),
    }
}

fn candidate(text: &str) -> Option<Candidate> {
    let address = text.parse::<IpAddr>().ok().map(|address| Candidate::Address(address.to_canonical()));
    address.or_else(|| StackName::new(text).ok().map(Candidate::Name))
}

fn read_weights(said: &peer::Weights) -> Weights {
    let weight = |said: &Weight| Some((candidate(&said.candidate)?, said.weight));
    let configured: BTreeMap<Candidate, u16> =
        said.configured.iter().take(MAX_LIST).filter_map(weight).collect();
    match (said.load, configured.is_empty()) {
        (true, _) => Weights::Load,
        (false, true) => Weights::Equal,
        (false, false) => Weights::Configured(configured),
    }
}

fn read_policy(said: &peer::Policy) -> Option<ServicePolicy> {
    let client = IpNet::new(said.network.0, said.prefix_bits).ok()?.trunc();
    Some(ServicePolicy { client, destip: read_destip(&said.destip)?, weights: read_weights(&said.weights) })
}
