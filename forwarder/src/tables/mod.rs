//! The control thread's decisions, in the form in which the workers use them.
//!
//! [`Tables`] are made once from a [`Dpt`] and what the node's kernel knows about next hops, and never change: a new
//! DPT makes new tables. What has not changed is shared between tables and their successors: each service by itself, the ways to the
//! stacks, the look-ups. [`Built`] counts what was made.
//!
//! In reading order: [`neighbours`], [`carrier`] (header templates), [`open_map`] and [`lookups`] (address → DVIPA, service → targets),
//! [`service`], [`choice`] with [`schedule`], [`pair`] and [`maglev`] (selection), [`limiter`] (how many connections may begin), [`quic`] (connection IDs), [`choosers`] (the same for connections that move),
//! [`defences`] (of claimed addresses), [`apart`] (for questions).

mod affinity;
mod apart;
pub(crate) mod carrier;
mod choice;
mod choosers;
mod defences;
mod limiter;
mod lookups;
mod maglev;
mod neighbours;
mod open_map;
mod pair;
mod quic;
mod schedule;
mod service;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

use ::routes::Routes;
use ipnet::IpNet;
use model::dpt::{
    Ask, Distribution, Dpt, Duty, DvipaEntry, Method, Reach, Refuse, Routing, Shared, StackEntry, StackState,
    WeightedTarget,
};
use model::{ClusterAddress, DvipaIndex, Protocol, StackIndex, StackName};

use crate::crt::KeyParts;
use crate::{Fence, Looks, Mac, Now, Port, Reason};
pub use affinity::Affinities;
pub use apart::WayTo;
use carrier::{Carrier, ways};
pub(crate) use choice::Counts;
use choice::{Choice, Limited, Sticky, Turn};
pub use choosers::Choosers;
use defences::Defences;
use limiter::{Limiter, SharedClients};
use lookups::{dvipas_v4, dvipas_v6, entries, forwards, key_of, sender_key, senders, service_key};
use maglev::Maglev;
pub use neighbours::{Family, Neighbours};
use open_map::OpenMap;
use pair::Pairs;
pub(crate) use quic::{ConnectionIds, Names};
pub(crate) use service::{Routed, Service};

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
    /// Until when it owns what the tables say.
    pub fence: Fence,
    /// How far the stacks have looked for what its workers ask.
    pub looks: Looks,
}

/// The stack's carriers for both families of packets.
#[derive(Debug)]
struct Way {
    v4: Carrier,
    v6: Carrier,
    /// What is heard of the stack.
    state: StackState,
    /// With the handoff option, and with the ask option; rarely used, so apart.
    handoff: Box<[Carrier; 2]>,
    ask: Box<[Carrier; 2]>,
    /// It is the node's own kernel.
    local: bool,
}

/// Immutable snapshot of everything the control thread decided, made ready: header templates, schedules, look-ups. A clone
/// shares everything.
#[derive(Clone, Debug)]
pub struct Tables {
    generation: u64,
    node: Node,
    dvipas_v4: OpenMap<u32, DvipaIndex>,
    dvipas_v6: OpenMap<u128, DvipaIndex>,
    dvipas: Arc<[Option<Shared<DvipaEntry>>]>,
    ways: Arc<[Way]>,
    senders: OpenMap<u128, StackIndex>,
    own_stack: Option<StackIndex>,
    defences: Defences,
    services: OpenMap<u32, u32>,
    /// Some service has routes.
    reads: bool,
    /// Some service has QUIC servers whose connection IDs are known.
    follows_ids: bool,
    distributions: Arc<[Arc<Service>]>,
    from: MadeFrom,
    built: Built,
}

/// What tables were made from.
#[derive(Clone, Debug)]
struct MadeFrom {
    neighbours: Arc<Neighbours>,
    stacks: Shared<Vec<StackEntry>>,
    /// In the order of the services.
    rows: Arc<[Shared<Distribution>]>,
    maglevs: Arc<Maglevs>,
    clients: SharedClients,
}

/// The Maglev tables in use, by the targets that they were made from.
type Maglevs = HashMap<Arc<[(StackIndex, u16)]>, Weak<Maglev>>;

/// What was made for tables, and not taken over from their predecessors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// Services.
    pub services: usize,
    /// Maglev tables.
    pub maglevs: usize,
    /// Ways to stacks: header templates.
    pub ways: usize,
    /// Look-ups: by address, by service, by sender.
    pub lookups: usize,
}

impl Tables {
    /// Makes the tables for the first time.
    pub fn build(dpt: &Dpt, neighbours: &Neighbours, node: &Node) -> Self {
        Self::make(dpt, neighbours, node, None)
    }

    /// Makes the successor of these tables; what is the same is shared, rotations of services that are not go on where they
    /// were.
    pub fn rebuild(&self, dpt: &Dpt, neighbours: &Neighbours, node: &Node) -> Self {
        Self::make(dpt, neighbours, node, Some(self))
    }

    /// The same tables with other next hops.
    pub fn with_neighbours(&self, neighbours: &Neighbours) -> Self {
        let ways = ways(&self.from.stacks, neighbours, &self.node);
        let built = Built { ways: ways.len(), ..Built::default() };
        let from = MadeFrom { neighbours: Arc::new(neighbours.clone()), ..self.from.clone() };
        Self { ways, from, built, ..self.clone() }
    }

    fn make(dpt: &Dpt, neighbours: &Neighbours, node: &Node, before: Option<&Self>) -> Self {
        let mut built = Built::default();
        let defences = before.map_or_else(Defences::new, |before| before.defences.clone());
        let maglevs = before.map(|before| Arc::clone(&before.from.maglevs)).unwrap_or_default();
        let clients = before.map(|before| Arc::clone(&before.from.clients)).unwrap_or_default();
        let mut builder = Builder { stacks: &dpt.stacks, maglevs, clients: &clients, built: &mut built };
        let distributions = dpt.distributions.iter().enumerate();
        let distributions: Arc<[Arc<Service>]> = distributions
            .map(|(at, row)| builder.successor(row, before.and_then(|before| before.row(at, row))))
            .collect();
        let mut maglevs = builder.maglevs;
        if built.maglevs > 0 {
            Arc::make_mut(&mut maglevs).retain(|_, table| table.strong_count() > 0);
        }

        let same_rows = before.filter(|before| before.has_services_of(dpt));
        let services = same_rows.map(|before| before.services.clone()).unwrap_or_else(|| {
            built.lookups = built.lookups.saturating_add(1);
            let keys = dpt.distributions.iter().enumerate();
            let keys: Vec<_> = keys.map(|(i, d)| (key_of(d), i as u32)).collect();
            OpenMap::new(keys.into_iter())
        });
        let same_dvipas = before.filter(|before| before.has_dvipas_of(dpt));
        let dvipas = same_dvipas.map(|b| (b.dvipas_v4.clone(), b.dvipas_v6.clone()));
        let (dvipas_v4, dvipas_v6) = dvipas.unwrap_or_else(|| {
            built.lookups = built.lookups.saturating_add(1);
            (dvipas_v4(dpt), dvipas_v6(dpt))
        });
        let same_stacks = before.filter(|before| before.from.stacks == dpt.stacks);
        let senders = same_stacks.map(|before| before.senders.clone()).unwrap_or_else(|| {
            built.lookups = built.lookups.saturating_add(1);
            OpenMap::new(senders(dpt))
        });
        let same_ways =
            same_stacks.filter(|before| *before.from.neighbours == *neighbours && before.node == *node);
        let ways = same_ways.map(|before| Arc::clone(&before.ways)).unwrap_or_else(|| {
            let ways = ways(&dpt.stacks, neighbours, node);
            built.ways = ways.len();
            ways
        });
        let neighbours = match same_ways {
            Some(before) => Arc::clone(&before.from.neighbours),
            None => Arc::new(neighbours.clone()),
        };
        let (stacks, rows) = (dpt.stacks.clone(), dpt.distributions.as_slice().into());
        Self {
            generation: dpt.generation,
            node: node.clone(),
            dvipas_v4,
            dvipas_v6,
            dvipas: entries(dpt),
            ways,
            senders,
            own_stack: dpt.stacks.iter().find(|s| matches!(s.reach, Reach::Local)).map(|s| s.index),
            defences,
            services,
            reads: distributions.iter().any(|service: &Arc<Service>| service.routed().is_some()),
            follows_ids: distributions.iter().any(|service| service.ids.is_some()),
            distributions,
            from: MadeFrom { neighbours, stacks, rows, maglevs, clients },
            built,
        }
    }

    /// Whether the DPT has the same services in the same order, whatever they are made of.
    fn has_services_of(&self, dpt: &Dpt) -> bool {
        let (rows, others) = (&self.from.rows, &dpt.distributions);
        rows.len() == others.len() && rows.iter().zip(others).all(|(a, b)| a.is(b) || key_of(a) == key_of(b))
    }

    /// Whether the DPT has the same DVIPAs under the same numbers, and packets to the same ones are this node's.
    fn has_dvipas_of(&self, dpt: &Dpt) -> bool {
        let same = |d: &Shared<DvipaEntry>| {
            let is_same = |entry: &DvipaEntry| entry.dvipa == d.dvipa && forwards(entry) == forwards(d);
            self.entry(d.index).is_some_and(is_same)
        };
        self.dvipas.iter().flatten().count() == dpt.dvipas.len() && dpt.dvipas.iter().all(same)
    }

    /// A service, and what it was made from; `at` is where it stands if none before it came or went.
    fn row(&self, at: usize, of: &Shared<Distribution>) -> Option<(&Shared<Distribution>, &Arc<Service>)> {
        let rows = &self.from.rows;
        let at = match rows.get(at).filter(|row| row.is(of)) {
            Some(_) => at,
            None => usize::try_from(self.services.get(key_of(of))?).ok()?,
        };
        rows.get(at).zip(self.distributions.get(at))
    }

    /// What was made for these tables.
    pub fn built(&self) -> Built {
        self.built
    }

    /// The generation of the DPT that they were made from.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The node that they were made for.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The DVIPA with this address, if packets to it are this node's.
    #[inline(always)]
    pub fn dvipa_v4(&self, address: Ipv4Addr) -> Option<DvipaIndex> {
        self.dvipas_v4.get(address.to_bits())
    }

    /// The DVIPA with this address, if packets to it are this node's.
    #[inline(always)]
    pub fn dvipa_v6(&self, address: Ipv6Addr) -> Option<DvipaIndex> {
        self.dvipas_v6.get(address.to_bits())
    }

    /// The DVIPA with this address, if this node owns it now: it says so, and where the address is.
    pub(crate) fn owned_v4(&self, address: Ipv4Addr, now: Now) -> Option<DvipaIndex> {
        self.dvipa_v4(address).filter(|dvipa| self.owns(*dvipa, now))
    }

    /// As [`Self::owned_v4`].
    pub(crate) fn owned_v6(&self, address: Ipv6Addr, now: Now) -> Option<DvipaIndex> {
        self.dvipa_v6(address).filter(|dvipa| self.owns(*dvipa, now))
    }

    fn owns(&self, dvipa: DvipaIndex, now: Now) -> bool {
        self.entry(dvipa).is_some_and(|entry| entry.duty == Duty::Owner) && self.node.fence.holds(now)
    }

    /// The address of a DVIPA that this node owns or would take over.
    pub fn dvipa_address(&self, dvipa: DvipaIndex) -> Option<IpAddr> {
        self.entry(dvipa).map(|entry| entry.dvipa.address())
    }

    fn entry(&self, dvipa: DvipaIndex) -> Option<&DvipaEntry> {
        self.dvipas.get(usize::from(dvipa.0))?.as_deref()
    }

    /// Who is asked about a connection to a DVIPA that has no entry.
    pub(crate) fn ask(&self, dvipa: DvipaIndex) -> &Ask {
        static NOBODY: Ask = Ask { candidates: Vec::new(), certain: false };
        self.entry(dvipa).map_or(&NOBODY, |entry| &entry.ask)
    }

    /// The number of the candidate that most likely has a connection, if its service's method tells.
    pub(crate) fn first_asked(&self, key: KeyParts, now: Now) -> Option<usize> {
        let service = self.service(key.dvipa, key.dvipa_port, key.protocol)?;
        let target = service.hashed(key.client, now)?;
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

    /// What is heard of a stack: of one that is not there nothing is needed.
    pub(crate) fn state(&self, stack: StackIndex) -> StackState {
        self.ways.get(usize::from(stack.0)).map_or(StackState::Up, |way| way.state)
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

    /// Whether this node reads requests at all.
    #[inline(always)]
    pub fn reads_requests(&self) -> bool {
        self.reads
    }

    /// Whether packets of some service follow QUIC connection IDs.
    #[inline(always)]
    pub(crate) fn follows_ids(&self) -> bool {
        self.follows_ids
    }

    /// Whether this node reads the first request of such a connection.
    #[inline(always)]
    pub(crate) fn reads(&self, key: KeyParts) -> bool {
        let has_routes = |service: &Service| service.routed().is_some();
        self.reads && self.service(key.dvipa, key.dvipa_port, key.protocol).is_some_and(has_routes)
    }

    /// Each route's service, its name, and how many requests workers have sent to a target by it.
    pub fn routes(&self) -> impl Iterator<Item = (DvipaIndex, u16, &str, u64)> {
        let services = self.from.rows.iter().zip(self.distributions.iter());
        services.flat_map(|(row, service)| {
            let handed = service.routed().into_iter().flat_map(Routed::handed);
            handed.map(move |(name, count)| (row.dvipa, row.port, name, count))
        })
    }

    /// The TCP services whose clients keep their targets for a time, and those clients.
    pub fn affinities(&self) -> impl Iterator<Item = ((DvipaIndex, u16), &Arc<Affinities>)> {
        let services = self.from.rows.iter().zip(self.distributions.iter());
        services.filter_map(|(row, service)| Some(((row.dvipa, row.port), service.affinities()?)))
    }

    /// The targets of a service, if it is distributed.
    #[inline]
    pub(crate) fn service(&self, dvipa: DvipaIndex, port: u16, protocol: Protocol) -> Option<&Service> {
        let at = self.services.get(service_key(dvipa, port, protocol))?;
        self.distributions.get(at as usize).map(Arc::as_ref)
    }
}

/// Weights of backends count, unless another method needs them.
fn weighted(method: Method) -> Method {
    match method {
        Method::RoundRobin | Method::WeightedRoundRobin => Method::WeightedRoundRobin,
        Method::LeastConnections
        | Method::Maglev
        | Method::Source
        | Method::HotStandby
        | Method::PowerOfTwo => method,
    }
}

/// What is selected by beside the method.
struct Rules {
    most: Option<NonZeroU32>,
    kept: Option<(Arc<Affinities>, u16)>,
}

/// Makes services; equal sets of targets share one Maglev table, also with the tables before.
struct Builder<'d> {
    stacks: &'d [StackEntry],
    maglevs: Arc<Maglevs>,
    clients: &'d SharedClients,
    built: &'d mut Built,
}

impl Builder<'_> {
    /// The service of a row: the one before it, if nothing has changed.
    fn successor(
        &mut self,
        row: &Shared<Distribution>,
        before: Option<(&Shared<Distribution>, &Arc<Service>)>,
    ) -> Arc<Service> {
        match before {
            Some((former, service)) if former == row => Arc::clone(service),
            before => Arc::new(self.service(row, before.map(|(_, service)| &**service))),
        }
    }

    /// A service whose rotations go on where those of the one before are.
    fn service(&mut self, d: &Distribution, before: Option<&Service>) -> Service {
        self.built.services = self.built.services.saturating_add(1);
        let turn = |choice: Option<&Choice>| choice.and_then(Choice::turn).cloned().unwrap_or_default();
        let affinities = Affinities::successor(before.and_then(Service::affinities), d.affinity);
        let kept = affinities.clone().zip(d.affinity.map(|affinity| affinity.seconds));
        let rules = Rules { most: d.max_connections, kept };
        let policies = d.policies.iter().enumerate().map(|(i, policy)| {
            let turn = turn(before.and_then(|before| before.policies.get(i)).map(|(_, choice)| choice));
            (policy.client, self.choice((d.method, &rules), turn, &policy.targets))
        });
        let policies: Vec<(IpNet, Choice)> = policies.collect();
        let turn = turn(before.map(|before| &before.default));
        let default = self.choice((d.method, &rules), turn, &d.targets);
        let serving = d.serving.iter().copied().collect();
        let routed = d.routing.as_ref();
        let routed = routed.and_then(|routing| self.routed((d.method, &rules), routing, before));
        let ids = ConnectionIds::new(&d.quic, self.stacks).map(Arc::new);
        let former = before.and_then(|before| before.limiter.as_ref());
        let limiter = Limiter::new(d.limits, key_of(d), self.clients, former);
        let (policies, refuse) = (policies.into(), d.refuse);
        Service { policies, default, serving, refuse, affinities, routed, ids, limiter }
    }

    /// Routes are compiled once for all tables that have the same. What can't be compiled was refused with the configuration.
    fn routed(
        &mut self,
        (method, rules): (Method, &Rules),
        routing: &Routing,
        before: Option<&Service>,
    ) -> Option<Routed> {
        let former = before.and_then(Service::routed);
        let before = former.filter(|former| former.set == routing.set);
        let (routes, handed) = match before {
            Some(before) => (Arc::clone(&before.routes), Arc::clone(&before.handed)),
            None => (Arc::new(Routes::compile(&routing.set).ok()?), Routed::counts(&routing.set, former)),
        };
        let choices = routing.targets.iter().enumerate().map(|(at, targets)| {
            let turn = before.and_then(|before| before.choices.get(at)).and_then(Choice::turn);
            self.choice((weighted(method), rules), turn.cloned().unwrap_or_default(), targets)
        });
        let stacks = |targets: &Vec<WeightedTarget>| {
            targets.iter().filter(|t| t.weight > 0).map(|t| t.stack).collect()
        };
        let takers = routing.targets.iter().map(stacks).collect();
        Some(Routed { set: routing.set.clone(), choices: choices.collect(), takers, routes, handed })
    }

    fn choice(
        &mut self,
        (method, rules): (Method, &Rules),
        turn: Turn,
        targets: &[WeightedTarget],
    ) -> Choice {
        let mut choice = self.unlimited(method, turn, targets);
        if let Some(most) = rules.most {
            choice = Choice::Limited(Box::new(Limited::new(choice, most, targets)));
        }
        if let Some(kept) = &rules.kept {
            choice = Choice::Sticky(Box::new(Sticky::new(choice, targets, kept.clone())));
        }
        choice
    }

    fn unlimited(&mut self, method: Method, turn: Turn, targets: &[WeightedTarget]) -> Choice {
        match method {
            Method::RoundRobin => Choice::Rotation { list: schedule::equal(targets), turn },
            Method::WeightedRoundRobin => Choice::Rotation { list: schedule::weighted(targets), turn },
            Method::LeastConnections => {
                Choice::Least { targets: targets.iter().filter(|t| t.weight > 0).copied().collect(), turn }
            }
            Method::Maglev => Choice::Maglev(self.maglev(targets)),
            Method::Source => Choice::Source(self.maglev(targets)),
            Method::PowerOfTwo => Choice::Pair { pairs: Pairs::new(targets), turn },
            Method::HotStandby => Choice::First(choice::first(&choice::named(targets, |i| self.name(i)))),
        }
    }

    fn name(&self, index: StackIndex) -> Option<&StackName> {
        let entry = self.stacks.get(usize::from(index.0)).filter(|entry| entry.index == index);
        entry.or_else(|| self.stacks.iter().find(|s| s.index == index)).map(|entry| &entry.name)
    }

    fn maglev(&mut self, targets: &[WeightedTarget]) -> Arc<Maglev> {
        let set: Arc<[_]> = targets.iter().map(|t| (t.stack, t.weight)).collect();
        if let Some(table) = self.maglevs.get(&set).and_then(Weak::upgrade) {
            return table;
        }
        self.built.maglevs = self.built.maglevs.saturating_add(1);
        let table = Arc::new(Maglev::new(&choice::named(targets, |index| self.name(index))));
        Arc::make_mut(&mut self.maglevs).insert(set, Arc::downgrade(&table));
        table
    }
}

#[cfg(test)]
mod tests;
