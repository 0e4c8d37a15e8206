//! The control thread's decisions, in the form in which the workers use them.
//!
//! [`Tables`] are made once from a [`Dpt`] and what the node's kernel knows about next hops, and never change: a new
//! DPT makes new tables. Only the places of rotations are shared between tables and their successors.
//!
//! In reading order: [`neighbours`], [`carrier`] (header templates), [`open_map`] (address → DVIPA, service → targets),
//! [`service`], [`choice`] with [`schedule`] and [`maglev`] (selection), [`defences`] (of claimed addresses).

pub(crate) mod carrier;
mod choice;
mod defences;
mod maglev;
mod neighbours;
mod open_map;
mod schedule;
mod service;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use model::dpt::{Distribution, Dpt, Reach, WeightedTarget};
use model::{ClusterAddress, DvipaIndex, Protocol, StackIndex};

use crate::{Mac, Reason};
use carrier::Carrier;
use choice::{Choice, Turn};
use defences::Defences;
use maglev::Maglev;
pub use neighbours::{Family, Neighbours};
use open_map::OpenMap;
pub(crate) use service::Service;

/// What the workers know about their own node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The NIC's link-layer address; the kernel's end of the local port has the same one.
    pub mac: Mac,
    /// Outer source addresses; also where targets send encapsulated first SYNs.
    pub cluster_address: ClusterAddress,
    /// The longest IP packet that the way to the targets takes, in bytes.
    pub fabric_mtu: u16,
    /// The VLAN that this node's frames on the NIC are tagged with. Tagged frames of another VLAN are none of ours.
    pub vlan: Option<u16>,
}

/// The stack's carriers for both families of packets.
#[derive(Debug)]
struct Way {
    v4: Carrier,
    v6: Carrier,
    /// With the handoff option; rarely used, so apart.
    handoff: Box<[Carrier; 2]>,
}

/// The key of a rotation: a service, and the number of a policy in it or none.
type TurnKey = (u32, Option<usize>);

/// Immutable snapshot of everything the control thread decided, made ready: header templates, schedules, look-ups.
#[derive(Debug)]
pub struct Tables {
    generation: u64,
    node: Node,
    dvipas_v4: OpenMap<u32, DvipaIndex>,
    dvipas_v6: OpenMap<u128, DvipaIndex>,
    addresses: Box<[Option<IpAddr>]>,
    ways: Box<[Way]>,
    senders: OpenMap<u128, StackIndex>,
    own_stack: Option<StackIndex>,
    defences: Defences,
    services: OpenMap<u32, u32>,
    distributions: Box<[Service]>,
    turns: HashMap<TurnKey, Turn>,
}

impl Tables {
    /// Makes the tables for the first time.
    pub fn build(dpt: &Dpt, neighbours: &Neighbours, node: &Node) -> Self {
        Self::make(dpt, neighbours, node, &HashMap::new(), Defences::new())
    }

    /// Makes the successor of these tables; rotations go on where they were.
    pub fn rebuild(&self, dpt: &Dpt, neighbours: &Neighbours, node: &Node) -> Self {
        Self::make(dpt, neighbours, node, &self.turns, self.defences.clone())
    }

    fn make(
        dpt: &Dpt,
        neighbours: &Neighbours,
        node: &Node,
        turns: &HashMap<TurnKey, Turn>,
        defences: Defences,
    ) -> Self {
        let mut builder = Services { dpt, before: turns, turns: HashMap::new(), maglevs: HashMap::new() };
        let distributions = dpt.distributions.iter().map(|d| builder.service(d)).collect();
        let keys = dpt.distributions.iter().enumerate();
        let keys: Vec<_> = keys.map(|(i, d)| (service_key(d.dvipa, d.port, d.protocol), i as u32)).collect();
        Self {
            generation: dpt.generation,
            node: node.clone(),
            dvipas_v4: OpenMap::new(dvipas(dpt, |a| match a {
                IpAddr::V4(a) => Some(a.to_bits()),
                IpAddr::V6(_) => None,
            })),
            dvipas_v6: OpenMap::new(dvipas(dpt, |a| match a {
                IpAddr::V4(_) => None,
                IpAddr::V6(a) => Some(a.to_bits()),
            })),
            addresses: addresses(dpt),
            ways: ways(dpt, neighbours, node),
            senders: OpenMap::new(senders(dpt)),
            defences,
            own_stack: dpt.stacks.iter().find(|s| matches!(s.reach, Reach::Local)).map(|s| s.index),
            services: OpenMap::new(keys.into_iter()),
            distributions,
            turns: builder.turns,
        }
    }

    /// The generation of the DPT that they were made from.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The node that they were made for.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The DVIPA with this address.
    #[inline(always)]
    pub fn dvipa_v4(&self, address: Ipv4Addr) -> Option<DvipaIndex> {
        self.dvipas_v4.get(address.to_bits())
    }

    /// The DVIPA with this address.
    #[inline(always)]
    pub fn dvipa_v6(&self, address: Ipv6Addr) -> Option<DvipaIndex> {
        self.dvipas_v6.get(address.to_bits())
    }

    /// The address of a DVIPA that this node owns.
    pub fn dvipa_address(&self, dvipa: DvipaIndex) -> Option<IpAddr> {
        self.addresses.get(usize::from(dvipa.0)).copied().flatten()
    }

    /// The stack that has this cluster address.
    pub(crate) fn sender(&self, address: IpAddr) -> Option<StackIndex> {
        self.senders.get(sender_key(address))
    }

    /// Whether another host's claim to this DVIPA is to be answered with an announcement now (RFC 5227 2.4).
    pub(crate) fn defends(&self, dvipa: DvipaIndex, now_ms: u64) -> bool {
        self.defences.begin(dvipa, now_ms)
    }

    /// The stack that is this node's own kernel, if an agent reports for it: it has the DVIPAs that this node owns.
    pub(crate) fn own_stack(&self) -> Option<StackIndex> {
        self.own_stack
    }

    /// How packets of a family are carried to a stack.
    #[inline(always)]
    pub(crate) fn carrier(&self, stack: StackIndex, family: Family) -> &Carrier {
        static UNKNOWN: Carrier = Carrier::missing(Reason::StackUnreachable);
        match (self.ways.get(usize::from(stack.0)), family) {
            (Some(way), Family::V4) => &way.v4,
            (Some(way), Family::V6) => &way.v6,
            (None, _) => &UNKNOWN,
        }
    }

    /// How packets of a family are carried to a stack with the handoff option.
    pub(crate) fn handoff_carrier(&self, stack: StackIndex, family: Family) -> Option<&Carrier> {
        let [v4, v6] = &*self.ways.get(usize::from(stack.0))?.handoff;
        Some(if family == Family::V4 { v4 } else { v6 })
    }

    /// The targets of a service, if it is distributed.
    pub(crate) fn service(&self, dvipa: DvipaIndex, port: u16, protocol: Protocol) -> Option<&Service> {
        let at = self.services.get(service_key(dvipa, port, protocol))?;
        self.distributions.get(at as usize)
    }
}

fn service_key(dvipa: DvipaIndex, port: u16, protocol: Protocol) -> u32 {
    u32::from(dvipa.0) << 17 | u32::from(port) << 1 | u32::from(protocol == Protocol::Udp)
}

fn sender_key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().to_bits(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn dvipas<K>(dpt: &Dpt, key: impl Fn(IpAddr) -> Option<K>) -> std::vec::IntoIter<(K, DvipaIndex)> {
    let pairs = dpt.dvipas.iter().filter_map(|d| key(d.dvipa.address()).map(|k| (k, d.index)));
    pairs.collect::<Vec<_>>().into_iter()
}

fn addresses(dpt: &Dpt) -> Box<[Option<IpAddr>]> {
    let len = dpt.dvipas.iter().map(|d| usize::from(d.index.0).saturating_add(1)).max().unwrap_or(0);
    let mut addresses = vec![None; len];
    for d in &dpt.dvipas {
        if let Some(address) = addresses.get_mut(usize::from(d.index.0)) {
            *address = Some(d.dvipa.address());
        }
    }
    addresses.into()
}

fn ways(dpt: &Dpt, neighbours: &Neighbours, node: &Node) -> Box<[Way]> {
    let len = dpt.stacks.iter().map(|s| usize::from(s.index.0).saturating_add(1)).max().unwrap_or(0);
    let none = || Carrier::missing(Reason::StackUnreachable);
    let mut ways: Vec<_> =
        (0..len).map(|_| Way { v4: none(), v6: none(), handoff: Box::new([none(), none()]) }).collect();
    for stack in &dpt.stacks {
        if let Some(way) = ways.get_mut(usize::from(stack.index.0)) {
            let carrier = |family| Carrier::new(stack, family, neighbours, node);
            let handoff = |family| Carrier::handoff(stack, family, neighbours, node);
            *way = Way {
                v4: carrier(Family::V4),
                v6: carrier(Family::V6),
                handoff: Box::new([Family::V4, Family::V6].map(handoff)),
            };
        }
    }
    ways.into()
}

fn senders(dpt: &Dpt) -> std::vec::IntoIter<(u128, StackIndex)> {
    let remote = dpt.stacks.iter().filter_map(|s| match s.reach {
        Reach::Local => None,
        Reach::Remote { cluster_address, .. } => Some((s.index, cluster_address)),
    });
    let pairs =
        remote.flat_map(|(index, c)| c.iter().map(move |a| (sender_key(a), index)).collect::<Vec<_>>());
    pairs.collect::<Vec<_>>().into_iter()
}

/// Makes services; equal sets of targets share one Maglev table.
struct Services<'d> {
    dpt: &'d Dpt,
    before: &'d HashMap<TurnKey, Turn>,
    turns: HashMap<TurnKey, Turn>,
    maglevs: HashMap<Vec<(StackIndex, u16)>, Arc<Maglev>>,
}

impl Services<'_> {
    fn service(&mut self, distribution: &Distribution) -> Service {
        let policies = distribution.policies.iter().enumerate();
        let policies: Vec<(IpNet, Choice)> =
            policies.map(|(i, p)| (p.client, self.choice(distribution, Some(i), &p.targets))).collect();
        Service { policies: policies.into(), default: self.choice(distribution, None, &distribution.targets) }
    }

    fn choice(&mut self, d: &Distribution, policy: Option<usize>, targets: &[WeightedTarget]) -> Choice {
        let key = (service_key(d.dvipa, d.port, d.protocol), policy);
        let turn = self.before.get(&key).cloned().unwrap_or_default();
        self.turns.insert(key, turn.clone());
        Choice::new(d.method, targets, turn, || {
            let set = targets.iter().map(|t| (t.stack, t.weight)).collect();
            let name = |index| self.dpt.stacks.iter().find(|s| s.index == index).map(|s| &s.name);
            let make = || Arc::new(Maglev::new(&choice::named(targets, name)));
            self.maglevs.entry(set).or_insert_with(make).clone()
        })
    }
}

#[cfg(test)]
mod tests;
