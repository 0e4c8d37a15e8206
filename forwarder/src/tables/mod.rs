//! The control thread's decisions, in the form in which the workers use them.
//!
//! [`Tables`] are made once from a [`Dpt`] and what the node's kernel knows about next hops, and never change: a new
//! DPT makes new tables. What has not changed, above all the services, is shared between tables and their successors.
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
use model::dpt::{Ask, Distribution, Dpt, DvipaEntry, Method, Reach, Refuse, StackState, WeightedTarget};
use model::{ClusterAddress, DvipaIndex, Protocol, StackIndex};

use crate::crt::KeyParts;
use crate::{Mac, Port, Reason};
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
    /// Nothing is heard of the stack.
    lost: bool,
    /// With the handoff option, and with the ask option; rarely used, so apart.
    handoff: Box<[Carrier; 2]>,
    ask: Box<[Carrier; 2]>,
    /// It is the node's own kernel.
    local: bool,
}

/// Immutable snapshot of everything the control thread decided, made ready: header templates, schedules, look-ups.
#[derive(Debug)]
pub struct Tables {
    generation: u64,
    node: Node,
    dvipas_v4: OpenMap<u32, DvipaIndex>,
    dvipas_v6: OpenMap<u128, DvipaIndex>,
    dvipas: Box<[Option<DvipaEntry>]>,
    ways: Box<[Way]>,
    senders: OpenMap<u128, StackIndex>,
    own_stack: Option<StackIndex>,
    defences: Defences,
    services: OpenMap<u32, u32>,
    /// What the services were made from, in the same order.
    rows: Box<[Distribution]>,
    distributions: Box<[Arc<Service>]>,
}

impl Tables {
    /// Makes the tables for the first time.
    pub fn build(dpt: &Dpt, neighbours: &Neighbours, node: &Node) -> Self {
        Self::make(dpt, neighbours, node, None)
    }

    /// Makes the successor of these tables; services that are the same are shared, rotations of others go on where they
    /// were.
    pub fn rebuild(&self, dpt: &Dpt, neighbours: &Neighbours, node: &Node) -> Self {
        Self::make(dpt, neighbours, node, Some(self))
    }

    fn make(dpt: &Dpt, neighbours: &Neighbours, node: &Node, before: Option<&Self>) -> Self {
        let defences = before.map_or_else(Defences::new, |before| before.defences.clone());
        let mut builder = Services { dpt, before, maglevs: HashMap::new() };
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
            dvipas: entries(dpt),
            ways: ways(dpt, neighbours, node),
            senders: OpenMap::new(senders(dpt)),
            defences,
            own_stack: dpt.stacks.iter().find(|s| matches!(s.reach, Reach::Local)).map(|s| s.index),
            services: OpenMap::new(keys.into_iter()),
            rows: dpt.distributions.clone().into(),
            distributions,
        }
    }

    /// A service, and what it was made from.
    fn row(&self, key: u32) -> Option<(&Distribution, &Arc<Service>)> {
        let at = usize::try_from(self.services.get(key)?).ok()?;
        self.rows.get(at).zip(self.distributions.get(at))
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
        self.entry(dvipa).map(|entry| entry.dvipa.address())
    }

    fn entry(&self, dvipa: DvipaIndex) -> Option<&DvipaEntry> {
        self.dvipas.get(usize::from(dvipa.0))?.as_ref()
    }

    /// Who is asked about a connection to a DVIPA that has no entry.
    pub(crate) fn ask(&self, dvipa: DvipaIndex) -> &Ask {
        static NOBODY: Ask = Ask { candidates: Vec::new(), certain: false };
        self.entry(dvipa).map_or(&NOBODY, |entry| &entry.ask)
    }

    /// The number of the candidate that most likely has a connection, if its service's method tells.
    pub(crate) fn first_asked(&self, key: KeyParts) -> Option<usize> {
        let service = self.service(key.dvipa, key.dvipa_port, key.protocol)?;
        let target = service.hashed(key.client.ip(), key.client.port())?;
        self.ask(key.dvipa).candidates.binary_search(&target).ok()
    }

    /// What a client is told that nothing serves.
    pub(crate) fn refuse(&self, dvipa: DvipaIndex, port: u16, protocol: Protocol) -> Refuse {
        let of_dvipa = || self.entry(dvipa).map(|entry| entry.refuse);
        self.service(dvipa, port, protocol)
            .map(|service| service.refuse)
            .or_else(of_dvipa)
            .unwrap_or_default()
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

    /// Whether nothing is heard of a stack, so that a SYN on one of its entries is selected anew.
    pub(crate) fn is_lost(&self, stack: StackIndex) -> bool {
        self.ways.get(usize::from(stack.0)).is_some_and(|way| way.lost)
    }

    /// How packets of a family are carried to a stack with the handoff option.
    pub(crate) fn handoff_carrier(&self, stack: StackIndex, family: Family) -> Option<&Carrier> {
        let [v4, v6] = &*self.ways.get(usize::from(stack.0))?.handoff;
        Some(if family == Family::V4 { v4 } else { v6 })
    }

    /// How packets of a family are carried to a stack with the ask option, and through which port.
    pub(crate) fn ask_carrier(&self, stack: StackIndex, family: Family) -> Option<(&Carrier, Port)> {
        let way = self.ways.get(usize::from(stack.0))?;
        let [v4, v6] = &*way.ask;
        let port = if way.local { Port::Local } else { Port::Nic };
        Some((if family == Family::V4 { v4 } else { v6 }, port))
    }

    /// The targets of a service, if it is distributed.
    pub(crate) fn service(&self, dvipa: DvipaIndex, port: u16, protocol: Protocol) -> Option<&Service> {
        let at = self.services.get(service_key(dvipa, port, protocol))?;
        self.distributions.get(at as usize).map(Arc::as_ref)
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

fn entries(dpt: &Dpt) -> Box<[Option<DvipaEntry>]> {
    let len = dpt.dvipas.iter().map(|d| usize::from(d.index.0).saturating_add(1)).max().unwrap_or(0);
    let mut entries = vec![None; len];
    for d in &dpt.dvipas {
        if let Some(entry) = entries.get_mut(usize::from(d.index.0)) {
            *entry = Some(d.clone());
        }
    }
    entries.into()
}

fn ways(dpt: &Dpt, neighbours: &Neighbours, node: &Node) -> Box<[Way]> {
    let len = dpt.stacks.iter().map(|s| usize::from(s.index.0).saturating_add(1)).max().unwrap_or(0);
    let none = || Carrier::missing(Reason::StackUnreachable);
    let pair = || Box::new([none(), none()]);
    let unknown = || Way { v4: none(), v6: none(), handoff: pair(), ask: pair(), local: false, lost: false };
    let mut ways: Vec<_> = (0..len).map(|_| unknown()).collect();
    for stack in &dpt.stacks {
        if let Some(way) = ways.get_mut(usize::from(stack.index.0)) {
            let carrier = |family| Carrier::new(stack, family, neighbours, node);
            let handoff = |family| Carrier::handoff(stack, family, neighbours, node);
            let ask = |family| Carrier::ask(stack, family, neighbours, node);
            *way = Way {
                v4: carrier(Family::V4),
                v6: carrier(Family::V6),
                lost: stack.state != StackState::Up,
                handoff: Box::new([Family::V4, Family::V6].map(handoff)),
                ask: Box::new([Family::V4, Family::V6].map(ask)),
                local: stack.reach == Reach::Local,
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
    before: Option<&'d Tables>,
    maglevs: HashMap<Vec<(StackIndex, u16)>, Arc<Maglev>>,
}

impl Services<'_> {
    fn service(&mut self, d: &Distribution) -> Arc<Service> {
        let before = self.before.and_then(|before| before.row(service_key(d.dvipa, d.port, d.protocol)));
        let before = match before {
            Some((row, service)) if row == d => return Arc::clone(service),
            before => before.map(|(_, service)| service),
        };
        let turn = |choice: Option<&Choice>| choice.and_then(Choice::turn).cloned().unwrap_or_default();
        let policies = d.policies.iter().enumerate().map(|(i, policy)| {
            let turn = turn(before.and_then(|before| before.policies.get(i)).map(|(_, choice)| choice));
            (policy.client, self.choice(d.method, turn, &policy.targets))
        });
        let policies: Vec<(IpNet, Choice)> = policies.collect();
        let default = self.choice(d.method, turn(before.map(|before| &before.default)), &d.targets);
        let serving = d.serving.as_slice().into();
        Arc::new(Service { policies: policies.into(), default, serving, refuse: d.refuse })
    }

    fn choice(&mut self, method: Method, turn: Turn, targets: &[WeightedTarget]) -> Choice {
        Choice::new(method, targets, turn, || {
            let set = targets.iter().map(|t| (t.stack, t.weight)).collect();
            let name = |index| self.dpt.stacks.iter().find(|s| s.index == index).map(|s| &s.name);
            let make = || Arc::new(Maglev::new(&choice::named(targets, name)));
            self.maglevs.entry(set).or_insert_with(make).clone()
        })
    }
}

#[cfg(test)]
mod tests;
