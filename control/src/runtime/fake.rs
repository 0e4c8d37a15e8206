//! For tests of what stands around the control thread: a forwarder whose CRT is a `Vec`, and a directory with all
//! files of a routing node.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::dpt::{Distribution, Dpt, Shared};
use model::handoff::Handoff;
use model::{Connection, CrtState, Dvipa, DvipaIndex, StackIndex, StackName};
use transport::{IdentityFiles, pki};

use crate::machine::ToChoose;

use super::forwarding::{
    Account, Counter, CrtCursor, CrtEntry, CrtStats, Forwarding, NotHandedOver, PortView, Ticked,
};
use super::looking::{Fate, Foretold, PacketQuestion, Seen as Passing, SeenPage, TraceOrder};

/// Entries that are shown at once.
const A_SCAN: usize = 16;

/// What a [`FakeForwarding`] was told, shared with the test.
#[derive(Debug, Default)]
pub struct Seen {
    /// The DPT in force.
    pub dpt: Dpt,
    /// The CRT.
    pub entries: Vec<CrtEntry>,
    /// DVIPAs announced, in order.
    pub announced: Vec<Dvipa>,
    /// DVIPAs that have routes.
    pub routes: BTreeSet<Dvipa>,
    /// Parts of accounts, with how many connections each had.
    pub accounts: Vec<(StackIndex, Account, usize)>,
    /// Connections handed over, in order.
    pub handed_over: Vec<(Connection, Handoff)>,
    /// It sends handoff options.
    pub hands_over: bool,
    /// How often it aged.
    pub ticks: u64,
    /// The next tick says that the link is back.
    pub link_returns: bool,
    /// Numbers that the next tick gives back.
    pub vacant: Option<(Vec<StackIndex>, Vec<DvipaIndex>)>,
    /// How often a part of the CRT was shown, and how long that takes each time.
    pub scans: u64,
    /// See `scans`.
    pub scan_takes: Duration,
    /// What would become of every packet.
    pub foretold: Foretold,
    /// What became of every connection.
    pub fates: Vec<Fate>,
    /// What the next traces see.
    pub packets: Vec<Passing>,
    /// The trace that is under way.
    pub trace: Option<TraceOrder>,
    /// What the account under way has not named yet.
    unnamed: Vec<Connection>,
}

impl Seen {
    fn put(&mut self, connection: &Connection, stack: StackIndex, state: CrtState) {
        self.entries.retain(|e| e.connection != *connection);
        self.entries.push(CrtEntry { connection: *connection, stack, state, idle_ms: 1 });
    }
}

/// A forwarder without packets. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct FakeForwarding(Arc<Mutex<Seen>>);

impl FakeForwarding {
    /// What it was told so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forwarding for FakeForwarding {
    fn publish(&mut self, dpt: &Dpt) {
        self.seen().dpt = dpt.clone();
    }

    fn newconn(
        &mut self,
        owner: StackIndex,
        connections: &[Connection],
        account: Account,
        moving: &[Connection],
    ) -> usize {
        let mut seen = self.seen();
        seen.accounts.push((owner, account, connections.len()));
        if account.first {
            seen.unnamed = seen.entries.iter().filter(|e| e.stack == owner).map(|e| e.connection).collect();
        }
        let mut held_elsewhere = 0;
        for connection in connections {
            let entry = seen.entries.iter().find(|entry| entry.connection == *connection);
            if entry.is_some_and(|entry| entry.stack != owner) {
                held_elsewhere += 1;
            } else {
                seen.put(connection, owner, CrtState::Established);
            }
        }
        if account.last {
            let (named, unnamed) = ([connections, moving].concat(), std::mem::take(&mut seen.unnamed));
            seen.entries.retain(|e| {
                e.stack != owner || !unnamed.contains(&e.connection) || named.contains(&e.connection)
            });
        } else {
            seen.unnamed.retain(|c| !connections.contains(c));
        }
        held_elsewhere
    }

    fn freeze(&mut self, connection: &Connection, owner: StackIndex) {
        let owner = self.crt_entry(connection).map_or(owner, |entry| entry.stack);
        self.seen().put(connection, owner, CrtState::Frozen);
    }

    fn thaw(&mut self, connection: &Connection, owner: Option<StackIndex>) {
        let owner = owner.or_else(|| Some(self.crt_entry(connection)?.stack));
        if let Some(owner) = owner {
            self.seen().put(connection, owner, CrtState::Established);
        }
    }

    fn hand_over(
        &mut self,
        connection: &Connection,
        to: StackIndex,
        handoff: &Handoff,
    ) -> Result<(), NotHandedOver> {
        let mut seen = self.seen();
        if !seen.hands_over {
            return Err(NotHandedOver::OwnKernel);
        }
        seen.handed_over.push((*connection, *handoff));
        seen.put(connection, to, CrtState::Established);
        Ok(())
    }

    fn end(&mut self, connection: &Connection) {
        self.seen().entries.retain(|e| e.connection != *connection);
    }

    fn choose(&mut self, _: &ToChoose, row: &Shared<Distribution>) -> Option<StackIndex> {
        row.targets.first().map(|target| target.stack)
    }

    fn crt_entry(&self, connection: &Connection) -> Option<CrtEntry> {
        self.seen().entries.iter().find(|e| e.connection == *connection).copied()
    }

    fn termconn(&mut self, owner: StackIndex, connections: &[Connection]) {
        self.seen().entries.retain(|e| e.stack != owner || !connections.contains(&e.connection));
    }

    fn retire(&mut self, stacks: Vec<StackIndex>, dvipas: Vec<DvipaIndex>) {
        self.seen().vacant = Some((stacks, dvipas));
    }

    fn announce(&mut self, dvipa: Dvipa) {
        self.seen().announced.push(dvipa);
    }

    fn route(&mut self, dvipas: BTreeSet<Dvipa>) {
        self.seen().routes = dvipas;
    }

    fn tick(&mut self) -> Ticked {
        let mut seen = self.seen();
        seen.ticks += 1;
        let link_returned = std::mem::take(&mut seen.link_returns);
        Ticked { link_returned, tokens_low: Vec::new(), vacant: seen.vacant.take(), ..Ticked::default() }
    }

    fn foretell(&self, _: &PacketQuestion) -> std::io::Result<Foretold> {
        Ok(self.seen().foretold.clone())
    }

    fn fates(&self, _: &Connection) -> Vec<Fate> {
        self.seen().fates.clone()
    }

    fn begin_trace(&mut self, order: &TraceOrder) -> Option<u64> {
        let mut seen = self.seen();
        let is_first = seen.trace.is_none();
        is_first.then(|| seen.trace = Some(*order)).map(|()| 1)
    }

    fn traced(&mut self, trace: u64) -> Option<SeenPage> {
        let mut seen = self.seen();
        let packets = std::mem::take(&mut seen.packets);
        (trace == 1).then(|| SeenPage { packets, missed: 3, over: seen.trace.is_none() })
    }

    fn end_trace(&mut self, trace: u64) -> bool {
        trace == 1 && self.seen().trace.take().is_some()
    }

    fn ports(&self) -> Vec<PortView> {
        let (role, device, driver) = ("nic".into(), "net_null0".into(), "net_null".into());
        vec![PortView { role, device, driver, link: true, lost: 2, steered: vec!["ARP".into()] }]
    }

    fn crt_scan(&self, from: CrtCursor, each: &mut dyn FnMut(CrtEntry)) -> Option<CrtCursor> {
        let mut seen = self.seen();
        seen.scans += 1;
        std::thread::sleep(seen.scan_takes);
        let at = usize::try_from(from.0).unwrap_or(usize::MAX);
        let rest = seen.entries.get(at..).unwrap_or_default();
        rest.iter().take(A_SCAN).for_each(|entry| each(*entry));
        (rest.len() > A_SCAN).then(|| CrtCursor(from.0 + A_SCAN as u64))
    }

    fn crt_stats(&self) -> CrtStats {
        let seen = self.seen();
        let count = |v4: bool| seen.entries.iter().filter(|e| e.connection.client.is_ipv4() == v4).count();
        CrtStats {
            entries_v4: u64::try_from(count(true)).unwrap_or(u64::MAX),
            capacity_v4: 1_000_000,
            entries_v6: u64::try_from(count(false)).unwrap_or(u64::MAX),
            capacity_v6: 250_000,
            flows_udp: 0,
            flows_udp_capacity: 262_144,
            half_open: 0,
            half_open_capacity: 262_144,
        }
    }

    fn connections(&self) -> Vec<(StackIndex, u64)> {
        let mut counts = std::collections::BTreeMap::new();
        for entry in &self.seen().entries {
            *counts.entry(entry.stack).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    fn counters(&self) -> Vec<Counter> {
        vec![
            Counter {
                name: "forwarded",
                value: 17,
                fault: None,
                sentence: "Encapsulated and sent to a target.",
            },
            Counter {
                name: "no_connection",
                value: 3,
                fault: Some(model::Blame::Client),
                sentence: "A TCP packet that is neither a SYN nor of a known connection.",
            },
        ]
    }
}

/// A directory with the certificates of `rt1`, `t1` and `t2`, and the `batond.toml` of `rt1`.
#[derive(Debug)]
pub struct NodeDirectory {
    dir: PathBuf,
    /// Where sessions are accepted: a loopback address that no other directory of this process has.
    pub listen: SocketAddr,
}

impl NodeDirectory {
    /// Fills a directory.
    ///
    /// # Errors
    /// What the system or [`transport::pki`] says.
    pub fn fill(dir: &Path, definitions: &str) -> Result<Self, Box<dyn std::error::Error>> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        pki::init(&dir.join("pki"))?;
        for name in ["rt1", "t1", "t2"] {
            pki::issue(&dir.join("pki"), &StackName::new(name)?, 2)?;
        }
        // Test processes side by side differ in the port.
        let port = 20_000 + u16::try_from(std::process::id() % 10_000)?;
        let listen = SocketAddr::from(([127, 0, NEXT.fetch_add(1, Ordering::Relaxed), 1], port));
        let new = Self { dir: dir.to_owned(), listen };
        new.define(definitions)?;
        Ok(new)
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.dir.join("batond.toml")
    }

    /// The admin socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("admin.sock")
    }

    /// The file with the token for orders from the web page, which is at [`Self::listen`]; it is not there yet.
    pub fn web_token(&self) -> PathBuf {
        self.dir.join("web.token")
    }

    /// The PEM files of a stack.
    pub fn identity(&self, stack: &str) -> IdentityFiles {
        let at = |file: String| self.dir.join("pki").join(file);
        let (certificate, key) = (at(format!("{stack}.pem")), at(format!("{stack}.key")));
        IdentityFiles { ca: at("ca.pem".into()), certificate, key }
    }

    /// Writes the configuration file with these definitions behind its fixed part.
    ///
    /// # Errors
    /// What the system says.
    pub fn define(&self, definitions: &str) -> std::io::Result<()> {
        let (listen, socket) = (self.listen, self.socket());
        let fixed = format!(
            r#"
[node]
name = "rt1"
cluster_address = ["198.18.0.10"]
[cluster]
listen = "{listen}"
ca = "pki/ca.pem"
certificate = "pki/rt1.pem"
key = "pki/rt1.key"
heartbeat_ms = 100
lost_after_ms = 1000
directory = "state"
[admin]
socket = "{}"
metrics_socket = "metrics.sock"
metrics_mode = 0o640
web = "{listen}"
web_token = "web.token"
web_hosts = ["rt1.example"]
[forwarder]
workers = [1]
[[forwarder.port]]
role = "nic"
device = "net_null0"
[[forwarder.port]]
role = "local"
device = "net_null1"
interface = "loc0"
"#,
            socket.display()
        );
        std::fs::write(self.file(), fixed + definitions)
    }
}
