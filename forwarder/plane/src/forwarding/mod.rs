//! What the control thread asks of the forwarder: `control::runtime::Forwarding` over the CRT and the workers.
//!
//! In reading order: [`Plane`] (each call), [`names`] (DVIPA ↔ its number), [`connections`] (what stacks say of theirs), [`account`] (all that a stack has), [`claims`] (two stacks that say that they have one),
//! [`moving`] (connections that move), [`purge`] (entries of dead stacks), [`reselecting`] (connections that workers want moved), [`retiring`] (numbers that are given back), [`walk`] (the way round the CRT), [`snapshot`] (tables for the workers), [`tokens`] (that stacks give them), [`volumes`] (what workers have sent to whom), [`watch`] (a worker that stands still), [`link`] (a link that is lost), [`counters`] (what
//! `baton stats` shows), [`looking`] (what is asked about packets), [`fates`] (what became of connections).

mod account;
mod claims;
mod connections;
mod counters;
mod fates;
mod link;
mod looking;
mod moving;
mod names;
mod purge;
mod reselecting;
mod retiring;
mod snapshot;
mod tokens;
mod volumes;
mod walk;
mod watch;

pub use connections::Connections;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::config::shared_interface;
use control::machine::{Among, ToChoose};
use control::runtime::environment::Environment;
use control::runtime::looking::{Fate, Foretold, PacketQuestion, SeenPage, TraceOrder};
use control::runtime::{
    Account, Counter, CrtCursor, CrtEntry, CrtStats, Forwarding, Given, NotHandedOver, PortView, RouteCount,
    TICK_MS, Ticked,
};
use forwarder::crt::{Crt, CrtState, Cursor};
use forwarder::trace::Trace;
use forwarder::traffic::{Pair, Volume};
use forwarder::{Choosers, Handoffs, Lastings, Mac, Now, Pools, Tables};
use model::dpt::{Distribution, Dpt, Duty, Method, Reach, Shared};
use model::handoff::{Handoff, Token};
use model::numbering::Numbering;
use model::{Connection, Dvipa, DvipaIndex, StackIndex};

use self::link::Link;
use self::looking::Tracing;
use self::snapshot::Snapshots;
use self::tokens::Asked;
use self::volumes::Volumes;
use self::watch::{Change, Watch};
use crate::announce;
use crate::groups::Groups;
use crate::kernel::{
    self,
    watch::{Needs, Watch as Watched},
};
use crate::next_hop::{Known, NextHops, Wanted};
use crate::node::Node;
use crate::routes::Routes;
use crate::table::system_ms;

/// So long after stacks were told when they were asked about connections they are told the next time at the earliest: looks cost each of
/// them a message.
const ASKED_MS: u64 = 50;
/// Places that one step of a scan looks at.
const SCAN_STEP: usize = 4096;

/// The forwarder as the control thread sees it. Owned by that thread.
#[derive(Debug)]
pub struct Plane {
    node: Node,
    /// The kernel's settings.
    watched: Watched,
    next_hops: NextHops,
    dpt: Dpt,
    known: Arc<Known>,
    snapshots: Snapshots<Tables>,
    handoffs: Snapshots<Handoffs>,
    pools: Snapshots<Pools>,
    traces: Snapshots<Option<Trace>>,
    /// What the workers look at, or what they have looked at.
    tracing: Option<Tracing>,
    /// Traces so far.
    trace: u64,
    asked: Asked,
    /// Stacks that first requests may go to.
    routed: BTreeSet<StackIndex>,
    connections: Connections,
    volumes: Volumes,
    choosers: Choosers<Among>,
    lastings: Lastings,
    /// Some service selects by what stacks have to do.
    by_load: bool,
    watches: Vec<Watch>,
    /// The NIC's and the local port's.
    links: [Link; 2],
    /// Lines that aging looks at in a tick.
    aged_a_tick: usize,
    ipv6_allowed: bool,
    groups: Groups,
    /// If there are to be any.
    routes: Option<Routes>,
    /// What the CRT's file says that the numbers mean.
    recorded: Vec<u8>,
    /// When stacks were told last until when workers have asked.
    told_asked: Now,
}

impl Plane {
    /// Takes charge of a running node.
    ///
    /// # Errors
    /// The thread that looks at the kernel's settings can't be had.
    pub fn new(node: Node, next_hops: NextHops, routes: Option<Routes>) -> io::Result<Self> {
        kernel::tell(&kernel::Settings::default().allow_ipv4(&node.interface.name));
        let watched = Watched::start(needs(&node))?;
        let now_ms = node.shared.clock.ms();
        let aged_a_tick = node.shared.crt.age_budget(Duration::from_millis(TICK_MS));
        let watches =
            node.workers.iter().map(|worker| Watch::new(Arc::clone(&worker.gauges), now_ms)).collect();
        let groups = Groups::new(node.interface.index);
        let connections = Connections::new(Now { ms: now_ms });
        // A former process's table has the flows as packets made them.
        let connections = if node.numbering.is_some() { connections.settled() } else { connections };
        let links = [&node.nic, &node.local].map(|port| Link::new(port.link_is_up()));
        Ok(Self {
            links,
            node,
            watched,
            next_hops,
            dpt: Dpt::default(),
            known: Arc::default(),
            snapshots: Snapshots::default(),
            handoffs: Snapshots::default(),
            pools: Snapshots::default(),
            traces: Snapshots::default(),
            tracing: None,
            trace: 0,
            asked: Asked::default(),
            routed: BTreeSet::new(),
            connections,
            volumes: Volumes::default(),
            choosers: Choosers::default(),
            lastings: Lastings::default(),
            by_load: false,
            watches,
            aged_a_tick,
            ipv6_allowed: false,
            groups,
            routes,
            recorded: Vec::new(),
            told_asked: Now { ms: 0 },
        })
    }

    fn crt(&self) -> &Crt {
        &self.node.shared.crt
    }

    fn now(&self) -> Now {
        Now { ms: self.node.shared.clock.ms() }
    }

    /// Gives the workers the successor of their tables.
    fn replace(&mut self, successor: impl FnOnce(&Self, &Tables) -> Tables) {
        let tables = successor(self, &self.node.shared.tables.load_full());
        tracing::debug!(generation = tables.generation(), built = ?tables.built(), "tables");
        self.snapshots.replace(&self.node.shared.tables, tables);
    }

    /// Has the next hops on the ways to all stacks resolved.
    fn want_next_hops(&mut self) {
        let wanted = self.dpt.stacks.iter().flat_map(|stack| {
            let (index, state) = (stack.index, stack.state);
            let addresses: Vec<_> = match &stack.reach {
                Reach::Local => Vec::new(),
                Reach::Remote { cluster_address, .. } => cluster_address.iter().collect(),
            };
            addresses.into_iter().map(move |address| Wanted { stack: index, address, state })
        });
        self.next_hops.want(wanted.collect());
    }

    /// Says what has become of the links; `true`: the NIC's is back.
    fn look_at_links(&mut self) -> bool {
        let now_ms = self.now().ms;
        let mut nic_returned = false;
        let ports = [&self.node.nic, &self.node.local];
        for (number, (port, link)) in ports.into_iter().zip(&mut self.links).enumerate() {
            match link.look(now_ms, || port.link_is_up()) {
                Some(link::Change::Lost) => tracing::error!(device = port.device(), "the link is lost"),
                Some(link::Change::Returned) => {
                    tracing::warn!(device = port.device(), "the link is back");
                    nic_returned |= number == 0;
                }
                None => {}
            }
        }
        nic_returned
    }

    /// Takes over what is known of next hops; returns which hosts do not answer, if that changed.
    fn look_at_next_hops(&mut self) -> Option<Vec<StackIndex>> {
        let known = self.next_hops.table();
        if Arc::ptr_eq(&known, &self.known) {
            return None;
        }
        let before = std::mem::replace(&mut self.known, known);
        if before.neighbours != self.known.neighbours {
            self.replace(|plane, tables| tables.with_neighbours(&plane.known.neighbours));
        }
        (before.silent != self.known.silent).then(|| self.known.silent.clone())
    }

    /// The time, if workers wait for stacks to have looked.
    fn asked_until(&mut self, now: Now) -> Option<u64> {
        let is_due = now.ms.saturating_sub(self.told_asked.ms) >= ASKED_MS;
        (is_due && self.node.identity.looks.take_wanted()).then(|| {
            self.told_asked = now;
            now.ms
        })
    }

    fn watch(&mut self) {
        let now_ms = self.now().ms;
        for (worker, watch) in self.watches.iter_mut().enumerate() {
            match watch.look(now_ms) {
                Some(Change::Stalled) => tracing::error!(
                    worker,
                    "the worker has not polled for a second: other programs use its core (`forwarder.workers`), or it hangs"
                ),
                Some(Change::Resumed) => tracing::warn!(worker, "the worker polls again"),
                None => {}
            }
        }
    }
}

/// What each worker has counted by service.
fn counted(node: &Node) -> impl Iterator<Item = (Pair, Volume)> {
    node.workers.iter().flat_map(|worker| worker.counters.traffic().volumes())
}

/// What the node needs of its kernel.
fn needs(node: &Node) -> Needs {
    let read = [&node.nic, &node.local].into_iter().filter_map(|port| shared_interface(port.device()));
    let (local, mtu) = (node.interface.name.clone(), node.identity.fabric_mtu);
    Needs { local, mac: Mac(node.nic.mac()), read: read.map(str::to_owned).collect(), mtu }
}

impl Forwarding for Plane {
    fn remembered(&mut self) -> Option<Numbering> {
        self.node.numbering.take()
    }

    fn remember(&mut self, numbering: &dyn Fn() -> Numbering) {
        if !self.crt().is_in_a_file() {
            return;
        }
        let bytes = numbering().encode();
        if bytes != self.recorded {
            if !self.crt().record(&bytes) {
                tracing::error!(
                    "the CRT's file has no room for the names of all stacks: a restart begins with an empty CRT"
                );
            }
            self.recorded = bytes;
        }
    }

    fn publish(&mut self, dpt: &Dpt) {
        let stacks_before = std::mem::replace(&mut self.dpt, dpt.clone()).stacks;
        self.routed = tokens::routed(dpt);
        self.by_load = dpt.distributions.iter().any(|row| row.method == Method::PowerOfTwo);
        self.connections.publish(dpt);
        let ours = || dpt.dvipas.iter().filter(|entry| entry.duty != Duty::Backup);
        if !self.ipv6_allowed && ours().any(|entry| entry.dvipa.address().is_ipv6()) {
            kernel::tell(&kernel::Settings::default().allow_ipv6(&self.node.interface.name));
            self.watched.ipv6();
            self.ipv6_allowed = true;
        }
        self.groups.want(ours().filter_map(|entry| match entry.dvipa.address() {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }));
        if !stacks_before.is(&dpt.stacks) {
            self.want_next_hops();
            // What a stack that has come says nothing of is known from its first answer on.
            self.node.identity.looks.want();
        }
        self.replace(|plane, tables| {
            tables.rebuild(&plane.dpt, &plane.known.neighbours, &plane.node.identity)
        });
        self.connections.keep(&self.node.shared.tables.load());
        if let Err(error) = self.node.run() {
            tracing::error!(%error, "a worker does not run");
        }
    }

    fn newconn(
        &mut self,
        owner: StackIndex,
        connections: &[Connection],
        account: Account,
        moving: &[Connection],
    ) -> usize {
        let now = self.now();
        self.connections.newconn(&self.node.shared.crt, owner, connections, account, moving, now)
    }

    fn termconn(&mut self, owner: StackIndex, connections: &[Connection]) {
        let now = self.now();
        self.connections.termconn(&self.node.shared.crt, owner, connections, now);
    }

    fn freeze(&mut self, connection: &Connection, owner: StackIndex) {
        self.hold(connection, owner);
    }

    fn thaw(&mut self, connection: &Connection, owner: Option<StackIndex>) {
        self.release(connection, owner);
        self.choosers.settled(connection);
    }

    fn hand_over(
        &mut self,
        connection: &Connection,
        to: StackIndex,
        handoff: &Handoff,
    ) -> Result<(), NotHandedOver> {
        self.choosers.settled(connection);
        self.hand_over_to(connection, to, handoff)
    }

    fn tokens(&mut self, stack: StackIndex, tokens: Option<Vec<Token>>) {
        self.take_tokens(stack, tokens);
    }

    fn declined(&mut self, connection: &Connection, by: StackIndex) {
        let entry = self.entry_of(connection);
        if entry.is_some_and(|entry| entry.stack == by && entry.state == CrtState::HalfOpen) {
            self.remove(connection);
        }
    }

    fn stay(&mut self, connection: &Connection) {
        self.tell_stays(connection);
    }

    fn end(&mut self, connection: &Connection) {
        self.remove(connection);
        self.choosers.settled(connection);
    }

    fn choose(&mut self, wanted: &ToChoose, row: &Shared<Distribution>) -> Option<StackIndex> {
        let (crt, now) = (&self.node.shared.crt, self.now());
        let (among, all) = (&wanted.among, wanted.among.with_all());
        self.choosers.choose((among, &all), row, &wanted.connection, (&self.dpt.stacks, crt, now))
    }

    fn crt_entry(&self, connection: &Connection) -> Option<CrtEntry> {
        self.entry_of(connection)
    }

    fn retire(&mut self, stacks: Vec<StackIndex>, dvipas: Vec<DvipaIndex>) {
        self.connections.retire(stacks, dvipas);
    }

    fn announce(&mut self, dvipa: Dvipa) {
        let identity = &self.node.identity;
        let frame = announce::frame(dvipa, identity.mac, identity.vlan);
        if !self.node.workers.first().is_some_and(|worker| worker.inbox.put(frame)) {
            tracing::warn!(%dvipa, "not announced: too many packets wait for the worker");
        }
    }

    fn fence(&mut self, until: Instant) {
        // In this order: a process that is stopped in between sets an earlier time, not a later one.
        let now = self.now();
        let left = until.saturating_duration_since(Instant::now());
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        self.node.identity.fence.set(Now { ms: now.ms.saturating_add(left) });
    }

    fn looked(&mut self, stack: StackIndex, since: u64, until: u64) {
        self.node.identity.looks.looked(stack, Now { ms: since }, Now { ms: until });
    }

    fn loaded(&mut self, stack: StackIndex, idle: u32, elsewhere: u32) {
        self.crt().loads().say(stack, idle, elsewhere);
    }

    fn route(&mut self, dvipas: BTreeSet<Dvipa>) {
        if let Some(routes) = &self.routes {
            routes.set(dvipas.into_iter().map(Dvipa::address).collect());
        }
    }

    fn tick(&mut self) -> Ticked {
        let now = self.now();
        self.crt().keep_time(now, system_ms());
        let current = self.node.shared.tables.load().generation();
        let oldest = self.snapshots.in_use().map(Tables::generation).min().unwrap_or(current);
        let vacant = self.connections.step(&self.node.shared.crt, oldest.min(current), now);
        if let Some((stacks, dvipas)) = &vacant {
            self.volumes.forget(counted(&self.node), stacks, dvipas);
            stacks.iter().for_each(|stack| self.lastings.forget(&self.node.shared.crt, *stack));
        }
        if self.by_load {
            let stacks = self.dpt.stacks.iter().map(|stack| stack.index);
            self.lastings.pass(&self.node.shared.crt, stacks, now);
        } else {
            self.lastings = Lastings::default();
        }
        self.crt().age(now, self.aged_a_tick);
        self.watch();
        self.snapshots.free();
        self.handoffs.free();
        self.pools.free();
        self.end_old_trace();
        let tokens_low = self.tokens_low(now);
        let asked = self.asked_until(now);
        Ticked {
            tokens_low,
            silent: self.look_at_next_hops(),
            link_returned: self.look_at_links(),
            vacant,
            asked,
        }
    }

    fn reads_requests(&self) -> bool {
        self.node.shared.tables.load().reads_requests()
    }

    fn wanted(&mut self) -> Vec<control::machine::Wanted> {
        self.asked_by_workers()
    }

    fn ports(&self) -> Vec<PortView> {
        let ports = [("nic", &self.node.nic), ("local", &self.node.local)];
        let view = |((role, port), link): ((&str, &ffi::Port), &Link)| PortView {
            role: role.to_owned(),
            device: port.device().to_owned(),
            driver: port.driver().to_owned(),
            link: link.is_up(),
            lost: link.lost(),
            steered: port.steered().iter().filter(|s| s.refused.is_none()).map(|s| s.name.clone()).collect(),
        };
        ports.into_iter().zip(&self.links).map(view).collect()
    }

    fn environment(&self) -> Environment {
        self.watched.environment()
    }

    fn crt_scan(&self, from: CrtCursor, each: &mut dyn FnMut(CrtEntry)) -> Option<CrtCursor> {
        let next = self.crt().scan(Cursor(from.0), SCAN_STEP, self.now(), |row| {
            if let Some(entry) = self.connections.entry(row) {
                each(entry);
            }
        });
        next.map(|cursor| CrtCursor(cursor.0))
    }

    fn crt_stats(&self) -> CrtStats {
        let stats = self.crt().stats();
        CrtStats {
            entries_v4: stats.v4.entries,
            capacity_v4: stats.v4.capacity,
            entries_v6: stats.v6.entries,
            capacity_v6: stats.v6.capacity,
            flows_udp: stats.flows_v4.entries + stats.flows_v6.entries,
            flows_udp_capacity: stats.flows_v4.capacity + stats.flows_v6.capacity,
            half_open: stats.half_open_v4.entries + stats.half_open_v6.entries,
            half_open_capacity: stats.half_open_v4.capacity + stats.half_open_v6.capacity,
        }
    }

    fn connections(&self) -> Vec<(StackIndex, u64)> {
        let counts = self
            .dpt
            .stacks
            .iter()
            .map(|stack| (stack.index, u64::from(self.crt().stack_count(stack.index).connections)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    fn routes(&self, most: usize) -> Vec<RouteCount> {
        let tables = self.node.shared.tables.load();
        let count = |(index, port, route, requests): (_, _, &str, _)| {
            let entry = self.dpt.dvipas.iter().find(|entry| entry.index == index)?;
            Some(RouteCount { dvipa: entry.dvipa.address(), port, route: route.to_owned(), requests })
        };
        tables.routes().filter_map(count).take(most).collect()
    }

    fn foretell(&self, question: &PacketQuestion) -> io::Result<Foretold> {
        self.foretold(question)
    }

    fn fates(&self, connection: &Connection) -> Vec<Fate> {
        self.connections.fates.of(connection)
    }

    fn begin_trace(&mut self, order: &TraceOrder) -> Option<u64> {
        self.trace_from(order)
    }

    fn traced(&mut self, trace: u64) -> Option<SeenPage> {
        self.seen(trace)
    }

    fn end_trace(&mut self, trace: u64) -> bool {
        self.trace_until(trace)
    }

    fn given(&self) -> Given {
        self.volumes.given(counted(&self.node), &self.connections)
    }

    fn counters(&self) -> Vec<Counter> {
        counters::all(&self.node, &self.crt().stats(), self.connections.counts())
    }
}
