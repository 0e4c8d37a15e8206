//! What the control thread asks of the forwarder: `control::runtime::Forwarding` over the CRT and the workers.
//!
//! In reading order: [`Plane`] (each call), [`names`] (DVIPA ↔ its number), [`account`] (a stack's complete account of
//! its connections), [`moving`] (connections that move), [`snapshot`] (tables for the workers), [`watch`] (a worker that stands still), [`link`] (a link that is lost), [`counters`] (what
//! `baton stats` shows).

mod account;
mod counters;
mod link;
mod moving;
mod names;
mod snapshot;
mod watch;

use std::sync::Arc;

use arrayvec::ArrayVec;
use control::runtime::{
    Account, Counter, CrtEntry, CrtFilter, CrtPage, CrtStats, Forwarding, NotHandedOver, PortView,
};
use forwarder::crt::{BURST, Burst, Confirmed, Crt, Cursor, KeyParts, KeyV4, KeyV6, Refused, Row, Stats};
use forwarder::{AnyKey, Handoffs, Neighbours, Now, Tables};
use hashbrown::HashMap;
use model::dpt::{Dpt, Reach};
use model::handoff::Handoff;
use model::{Connection, Dvipa, StackIndex};

use self::account::OpenAccount;
use self::link::Link;
use self::names::Names;
use self::snapshot::Snapshots;
use self::watch::{Change, Watch};
use crate::announce;
use crate::kernel;
use crate::next_hop::NextHops;
use crate::node::Node;

/// In how many ticks aging goes once round the CRT.
const TICKS_A_ROUND: u64 = 100;
/// Places that aging looks at in a tick at least.
const LEAST_AGED: u64 = 1024;
/// Places that one step of a scan looks at.
const SCAN_STEP: usize = 4096;

/// The forwarder as the control thread sees it. Owned by that thread.
#[derive(Debug)]
pub struct Plane {
    node: Node,
    next_hops: NextHops,
    dpt: Dpt,
    neighbours: Arc<Neighbours>,
    snapshots: Snapshots<Tables>,
    handoffs: Snapshots<Handoffs>,
    names: Names,
    accounts: HashMap<StackIndex, OpenAccount>,
    watches: Vec<Watch>,
    /// The NIC's and the local port's.
    links: [Link; 2],
    /// Places that aging looks at in a tick.
    aged_a_tick: usize,
    ipv6_allowed: bool,
    strays: u64,
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
    pub fn new(node: Node, next_hops: NextHops) -> Self {
        kernel::Settings::default().allow_ipv4(&node.interface.name);
        let now_ms = node.shared.clock.ms();
        let aged_a_tick = aged_a_tick(&node.shared.crt.stats());
        let watches =
            node.workers.iter().map(|worker| Watch::new(Arc::clone(&worker.gauges), now_ms)).collect();
        let links = [&node.nic, &node.local].map(|port| Link::new(port.link_is_up()));
        Self {
            links,
            node,
            next_hops,
            dpt: Dpt::default(),
            neighbours: Arc::default(),
            snapshots: Snapshots::default(),
            handoffs: Snapshots::default(),
            names: Names::default(),
            accounts: HashMap::new(),
            watches,
            aged_a_tick,
            ipv6_allowed: false,
            strays: 0,
            confirming: Confirming::default(),
        }
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
        let tables = shared.tables.load_full().rebuild(&self.dpt, &self.neighbours, &self.node.identity);
        self.snapshots.replace(&shared.tables, tables);
    }

    /// The connections' entries exist or are made at `owner`.
    fn confirm(&mut self, owner: StackIndex, connections: &[Connection]) {
        let now = self.now();
        for part in connections.chunks(BURST) {
            self.confirming.clear();
            for connection in part {
                match self.names.key(connection) {
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
        let ports = [&self.node.nic, &self.node.local];
        let news = ports.into_iter().zip(&mut self.links).map(|(port, link)| {
            let change = link.look(now_ms, || port.link_is_up());
            match change {
                Some(link::Change::Lost) => tracing::error!(device = port.device(), "the link is lost"),
                Some(link::Change::Returned) => tracing::warn!(device = port.device(), "the link is back"),
                None => {}
            }
            change
        });
        news.collect::<ArrayVec<_, 2>>().first() == Some(&Some(link::Change::Returned))
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
            kernel::Settings::default().allow_ipv6(&self.node.interface.name);
            self.ipv6_allowed = true;
        }
        let ways = dpt.stacks.iter().flat_map(|stack| match &stack.reach {
            Reach::Local => vec![],
            Reach::Remote { cluster_address, .. } => {
                cluster_address.iter().map(|a| (stack.index, a)).collect()
            }
        });
        self.next_hops.want(ways.collect());
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

    fn tick(&mut self) -> bool {
        self.crt().age(self.now(), self.aged_a_tick);
        self.watch();
        self.snapshots.free();
        self.handoffs.free();
        let neighbours = self.next_hops.table();
        if !Arc::ptr_eq(&neighbours, &self.neighbours) {
            self.neighbours = neighbours;
            self.rebuild();
        }
        self.look_at_links()
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
        counters::all(&self.node, &self.crt().stats(), self.strays)
    }
}

/// So many that aging goes once round the CRT in [`TICKS_A_ROUND`].
fn aged_a_tick(stats: &Stats) -> usize {
    let fills = [stats.v4, stats.v6, stats.half_open_v4, stats.half_open_v6];
    let places: u64 = fills.iter().map(|fill| fill.capacity).sum();
    usize::try_from((places / TICKS_A_ROUND).max(LEAST_AGED)).unwrap_or(usize::MAX)
}
