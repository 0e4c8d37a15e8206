//! What the control thread asks of the forwarder: `control::runtime::Forwarding` over the CRT and the workers.
//!
//! In reading order: [`Plane`] (each call), [`names`] (DVIPA ↔ its number), [`account`] (a stack's complete account of
//! its connections), [`claims`] (two stacks that say that they have one), [`moving`] (connections that move), [`purge`] (entries of dead stacks), [`snapshot`] (tables for the workers), [`watch`] (a worker that stands still), [`link`] (a link that is lost), [`counters`] (what
//! `baton stats` shows).

mod account;
mod claims;
mod counters;
mod link;
mod moving;
mod names;
mod purge;
mod snapshot;
mod watch;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use control::runtime::environment::Environment;
use control::runtime::{
    Account, Counter, CrtEntry, CrtFilter, CrtPage, CrtStats, Forwarding, NotHandedOver, PortView, TICK_MS,
    Ticked,
};
use forwarder::crt::{BURST, Burst, Confirmed, Crt, Cursor, KeyParts, KeyV4, KeyV6, Refused, Row};
use forwarder::{AnyKey, Handoffs, Mac, Now, Tables};
use hashbrown::HashMap;
use model::dpt::{Dpt, Reach, StackState};
use model::handoff::Handoff;
use model::{Connection, Dvipa, Protocol, StackIndex};

use self::account::OpenAccount;
use self::claims::Claim;
use self::link::Link;
use self::names::Names;
use self::purge::Purge;
use self::snapshot::Snapshots;
use self::watch::{Change, Watch};
use crate::announce;
use crate::groups::Groups;
use crate::kernel::{
    self,
    watch::{Needs, Watch as Watched},
};
use crate::next_hop::{Known, NextHops, Wanted};
use crate::node::Node;

/// In this time after the start every stack has said which UDP flows it has.
const SETTLING_MS: u64 = 10_000;
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
    purge: Purge,
    snapshots: Snapshots<Tables>,
    handoffs: Snapshots<Handoffs>,
    names: Names,
    accounts: HashMap<StackIndex, OpenAccount>,
    watches: Vec<Watch>,
    /// Until then the stacks' word on UDP flows counts more than what packets have made.
    settled_ms: u64,
    /// The NIC's and the local port's.
    links: [Link; 2],
    /// Lines that aging looks at in a tick.
    aged_a_tick: usize,
    ipv6_allowed: bool,
    groups: Groups,
    strays: u64,
    contested: u64,
    /// Scratch space.
    confirming: Confirming,
}

/// Keys of a NEWCONN on their way into the CRT.
#[derive(Debug, Default)]
struct Confirming {
    v4: Burst<KeyV4>,
    v6: Burst<KeyV6>,
}

impl Confirming {
    fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
    }
}

impl Plane {
    /// Takes charge of a running node.
    ///
    /// # Errors
    /// The thread that looks at the kernel's settings can't be had.
    pub fn new(node: Node, next_hops: NextHops) -> io::Result<Self> {
        kernel::tell(&kernel::Settings::default().allow_ipv4(&node.interface.name));
        let watched = Watched::start(needs(&node))?;
        let now_ms = node.shared.clock.ms();
        let aged_a_tick = node.shared.crt.age_budget(Duration::from_millis(TICK_MS));
        let watches =
            node.workers.iter().map(|worker| Watch::new(Arc::clone(&worker.gauges), now_ms)).collect();
        let groups = Groups::new(node.interface.index);
        let links = [&node.nic, &node.local].map(|port| Link::new(port.link_is_up()));
        Ok(Self {
            links,
            node,
            watched,
            next_hops,
            dpt: Dpt::default(),
            known: Arc::default(),
            purge: Purge::default(),
            snapshots: Snapshots::default(),
            handoffs: Snapshots::default(),
            names: Names::default(),
            accounts: HashMap::new(),
            watches,
            settled_ms: now_ms.saturating_add(SETTLING_MS),
            aged_a_tick,
            ipv6_allowed: false,
            groups,
            strays: 0,
            contested: 0,
            confirming: Confirming::default(),
        })
    }

    fn crt(&self) -> &Crt {
        &self.node.shared.crt
    }

    fn now(&self) -> Now {
        Now { ms: self.node.shared.clock.ms() }
    }

    /// Gives the workers tables of the DPT and the next hops as they are now.
    fn rebuild(&mut self) {
        let shared = &self.node.shared;
        let tables =
            shared.tables.load_full().rebuild(&self.dpt, &self.known.neighbours, &self.node.identity);
        self.snapshots.replace(&shared.tables, tables);
    }

    /// The connections' entries exist or are made at `owner`. A UDP flow that has one stays where it is, because its packets went
    /// there; but after the start a packet may have come before the word of the stack that had the flow.
    fn confirm(&mut self, owner: StackIndex, connections: &[Connection]) {
        let now = self.now();
        let only_fills_in = |c: &Connection| c.protocol == Protocol::Udp && now.ms > self.settled_ms;
        for part in connections.chunks(BURST) {
            self.confirming.clear();
            for connection in part {
                let key = self.names.key(connection);
                let is_tcp = connection.protocol == Protocol::Tcp;
                if is_tcp && key.is_some_and(|key| self.is_void_claim(key, owner, now)) {
                    self.contested += 1;
                    continue;
                }
                match key {
                    Some(key) if only_fills_in(connection) => {
                        let _ = key.insert_flow(&self.node.shared.crt, owner, now);
                    }
                    Some(AnyKey::V4(key)) => drop(self.confirming.v4.push(key)),
                    Some(AnyKey::V6(key)) => drop(self.confirming.v6.push(key)),
                    None => self.strays += 1,
                }
            }
            let crt = &self.node.shared.crt;
            crt.newconn_all(&mut self.confirming.v4, owner, now, no_entry);
            crt.newconn_all(&mut self.confirming.v6, owner, now, no_entry);
        }
    }

    /// Whether the owner's claim to a connection is void, because another stack has it.
    fn is_void_claim(&self, key: AnyKey, by: StackIndex, now: Now) -> bool {
        let entry = match key {
            AnyKey::V4(key) => self.crt().get(key, now),
            AnyKey::V6(key) => self.crt().get(key, now),
        };
        let Some(entry) = entry else { return false };
        let owner = self.dpt.stacks.get(usize::from(entry.owner.0));
        let owner_is_up = owner.is_some_and(|owner| owner.state == StackState::Up);
        Claim { by, in_account: self.accounts.contains_key(&by), owner_is_up }.is_void(entry)
    }

    fn terminate(&self, owner: StackIndex, connection: &Connection) {
        let (crt, now) = (self.crt(), self.now());
        match self.names.key(connection) {
            Some(AnyKey::V4(key)) => drop(crt.terminate(key, owner, now)),
            Some(AnyKey::V6(key)) => drop(crt.terminate(key, owner, now)),
            None => {}
        }
    }

    /// Shows every connection of the CRT.
    fn scan(&self, mut each: impl FnMut(CrtEntry)) {
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            cursor = self.crt().scan(from, SCAN_STEP, self.now(), |row| {
                if let Some(entry) = self.entry(row) {
                    each(entry);
                }
            });
        }
    }

    fn entry(&self, row: Row) -> Option<CrtEntry> {
        Some(CrtEntry {
            connection: self.names.connection(&row.key)?,
            stack: row.entry.owner,
            state: row.entry.state,
            idle_ms: u64::from(row.idle_s) * 1000,
        })
    }

    /// The owner's confirmed TCP connections: what its complete account has to name for them to stay.
    fn accountable(&self, owner: StackIndex) -> OpenAccount {
        let mut account = OpenAccount::default();
        self.scan(|entry| {
            if entry.stack == owner {
                account.opened_with(&entry);
            }
        });
        account
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
            self.rebuild();
        }
        (before.silent != self.known.silent).then(|| self.known.silent.clone())
    }

    fn watch(&mut self) {
        let now_ms = self.now().ms;
        for (worker, watch) in self.watches.iter_mut().enumerate() {
            match watch.look(now_ms) {
                Some(Change::Stalled) => tracing::error!(worker, "the worker stands still"),
                Some(Change::Resumed) => tracing::warn!(worker, "the worker goes on"),
                None => {}
            }
        }
    }
}

/// What the node needs of its kernel.
fn needs(node: &Node) -> Needs {
    let read =
        [&node.nic, &node.local].into_iter().filter_map(|port| kernel::shared_interface(port.device()));
    let (local, mtu) = (node.interface.name.clone(), node.identity.fabric_mtu);
    Needs { local, mac: Mac(node.nic.mac()), read: read.map(str::to_owned).collect(), mtu }
}

/// What is said of a connection that is at its stack and gets no entry here.
fn no_entry<K: Into<KeyParts>>(key: K, done: Result<Confirmed, Refused>) {
    if let Err(refused) = done {
        let KeyParts { client, dvipa_port, .. } = key.into();
        tracing::debug!(%client, dvipa_port, %refused, "no entry");
    }
}

impl Forwarding for Plane {
    fn publish(&mut self, dpt: &Dpt) {
        self.dpt = dpt.clone();
        self.names.learn(&dpt.dvipas);
        if !self.ipv6_allowed && dpt.dvipas.iter().any(|entry| entry.dvipa.address().is_ipv6()) {
            kernel::tell(&kernel::Settings::default().allow_ipv6(&self.node.interface.name));
            self.watched.ipv6();
            self.ipv6_allowed = true;
        }
        self.groups.want(dpt.dvipas.iter().filter_map(|entry| match entry.dvipa.address() {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }));
        let wanted = dpt.stacks.iter().flat_map(|stack| {
            let (index, state) = (stack.index, stack.state);
            let addresses: Vec<_> = match &stack.reach {
                Reach::Local => Vec::new(),
                Reach::Remote { cluster_address, .. } => cluster_address.iter().collect(),
            };
            addresses.into_iter().map(move |address| Wanted { stack: index, address, state })
        });
        self.next_hops.want(wanted.collect());
        self.purge.of(dpt);
        self.rebuild();
    }

    fn newconn(
        &mut self,
        owner: StackIndex,
        connections: &[Connection],
        account: Account,
        moving: &[Connection],
    ) {
        if account.first {
            let open = self.accountable(owner);
            self.accounts.insert(owner, open);
        }
        self.confirm(owner, connections);
        if let Some(open) = self.accounts.get_mut(&owner) {
            connections.iter().chain(moving).for_each(|connection| open.named(connection));
        }
        if account.last {
            for ended in self.accounts.remove(&owner).into_iter().flat_map(OpenAccount::unnamed) {
                self.terminate(owner, &ended);
            }
        }
    }

    fn termconn(&mut self, owner: StackIndex, connections: &[Connection]) {
        for connection in connections {
            self.terminate(owner, connection);
        }
    }

    fn freeze(&mut self, connection: &Connection, owner: StackIndex) {
        self.hold(connection, owner);
    }

    fn thaw(&mut self, connection: &Connection, owner: Option<StackIndex>) {
        self.release(connection, owner);
    }

    fn hand_over(
        &mut self,
        connection: &Connection,
        to: StackIndex,
        handoff: &Handoff,
    ) -> Result<(), NotHandedOver> {
        self.hand_over_to(connection, to, handoff)
    }

    fn end(&mut self, connection: &Connection) {
        self.remove(connection);
    }

    fn crt_entry(&self, connection: &Connection) -> Option<CrtEntry> {
        self.entry_of(connection)
    }

    fn announce(&mut self, dvipa: Dvipa) {
        let identity = &self.node.identity;
        let frame = announce::frame(dvipa, identity.mac, identity.vlan);
        if !self.node.workers.first().is_some_and(|worker| worker.inbox.put(frame)) {
            tracing::warn!(%dvipa, "not announced: too many packets wait for the worker");
        }
    }

    fn tick(&mut self) -> Ticked {
        self.purge.step(&self.node.shared.crt, self.now());
        self.crt().age(self.now(), self.aged_a_tick);
        self.watch();
        self.snapshots.free();
        self.handoffs.free();
        Ticked { silent: self.look_at_next_hops(), link_returned: self.look_at_links() }
    }

    fn ports(&self) -> Vec<PortView> {
        let ports = [("nic", &self.node.nic), ("local", &self.node.local)];
        let view = |((role, port), link): ((&str, &ffi::Port), &Link)| PortView {
            role: role.to_owned(),
            device: port.device().to_owned(),
            driver: port.driver().to_owned(),
            link: link.is_up(),
            lost: link.lost(),
        };
        ports.into_iter().zip(&self.links).map(view).collect()
    }

    fn environment(&self) -> Environment {
        self.watched.environment()
    }

    fn crt_list(&self, filter: &CrtFilter, limit: usize) -> CrtPage {
        let mut page = CrtPage::default();
        self.scan(|entry| {
            if !filter.admits(&entry) {
                return;
            }
            if page.entries.len() < limit {
                page.entries.push(entry);
            } else {
                page.more += 1;
            }
        });
        page
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

    fn counters(&self) -> Vec<Counter> {
        counters::all(&self.node, &self.crt().stats(), [self.strays, self.contested])
    }
}
