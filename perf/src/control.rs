//! The rows of the control thread: what an event costs in a cluster of 1 000 stacks and 4 000 services.
//!
//! The machine that decides ([`RoutingStack`]), the CRT ([`Entries`]), the tables that follow for the workers ([`Tables`]) and the
//! frames of what is sent and received, without sessions and ports: frames are made beforehand, and decoded and handed over in turns as
//! the control thread's loop does it.

#[cfg(feature = "transfer")]
pub(crate) mod warm;

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use control::config::Config;
use control::machine::{Action, Event, Identity, RoutingStack, Work};
use control::runtime::{CONNECTIONS_A_TURN, EVENTS_A_TURN, TICK_MS};
use forwarder::{Fence, Looks, Mac, Neighbours, Node, Tables};
use model::codec::{self, Address, WireConnection};
use model::dpt::Dpt;
use model::message::{FromStack, Hello, Listen, Newconn, Srvstat};
use model::{ClusterAddress, Connection, Dvipa, Epoch, Protocol, Service, StackIndex, StackName};

use crate::entries::Entries;
use crate::rows::Rows;
use crate::timing::{processor_time, sized};

/// Stacks of the cluster.
const STACKS: u64 = 1000;
/// DVIPAs, each with [`PORTS`] services.
const DVIPAS: u64 = 100;
const PORTS: u16 = 40;
/// The first epoch of every DVIPA.
const EPOCH: Epoch = Epoch(1);
/// NEWCONNs of one connection each, and connections of the account.
const NEWCONNS: u64 = 200_000;
const ACCOUNT: u64 = 1_000_000;
/// Connections in the CRT when accounts are given, of all stacks.
const ENTRIES: u64 = 10_000_000;
/// One of so many has ended when its stack gives its account.
const ENDED: u64 = 1000;
/// Connections in a message of an account, as agents send them.
const A_MESSAGE: usize = 10_000;
/// Reloads of which the quickest counts.
const RELOADS: u64 = 5;
/// Looks of the page that are timed, and the targets of services that one shows.
const LOOKS: u32 = 20;
const LOOKED_AT: usize = 4096;
/// The default interval of heartbeats, in which each session has to be served.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// The longest that agents are watched coming back, in processor time.
const PATIENCE: Duration = Duration::from_secs(60);

const ROWS: [&str; 9] = [
    "control_newconn_per_s",
    "control_newconn_services",
    "control_reload_one_of_4000_ratio",
    "control_reload_services",
    "control_listen_services",
    "control_look_share",
    "control_account_1m_s",
    "control_heartbeat_gap_ratio",
    "control_return_s",
];

/// Measures what is asked for.
pub(crate) fn measure(rows: &mut Rows) {
    if !rows.wants(&ROWS) {
        return;
    }
    let (stacks, dvipas) = (sized(STACKS, 20), sized(DVIPAS, 4));
    let mut cluster = Cluster::new(stacks, dvipas, PORTS);
    cluster.all_come();
    if rows.wants(&ROWS[..2]) {
        newconn(rows, &mut cluster);
    }
    if rows.wants(&ROWS[2..4]) {
        reload(rows, &mut cluster);
    }
    if rows.wants(&[ROWS[4]]) {
        listen(rows, &mut cluster);
    }
    if rows.wants(&[ROWS[5]]) {
        look(rows, &cluster);
    }
    if rows.wants(&ROWS[6..]) {
        cluster.fill();
        account(rows, &mut cluster);
        return_of_all(rows, &mut cluster);
    }
}

fn newconn(rows: &mut Rows, cluster: &mut Cluster) {
    let events: Vec<Event> = (0..sized(NEWCONNS, 2000))
        .map(|n| cluster.newconn(n, false, false, &[cluster.connection(n)]))
        .collect();
    let (before, n, start) = (cluster.machine.work(), events.len() as f64, processor_time());
    cluster.turns(events);
    let per_s = n / (processor_time() - start).as_secs_f64();
    rows.add(ROWS[0], "/s", per_s, "one connection a message, from all stacks in turn");
    rows.add(ROWS[1], "", cluster.since(before).services as f64, "services computed meanwhile");
}

fn reload(rows: &mut Rows, cluster: &mut Cluster) {
    let mut one = Cluster::new(cluster.stacks, 1, 1);
    one.all_come();
    let alone = one.reload_s();
    let before = cluster.machine.work();
    let among = cluster.reload_s();
    let services = cluster.since(before).services as f64 / RELOADS as f64;
    rows.add(ROWS[2], "", among / alone, format!("{:.2} ms, and {:.2} ms", among * 1e3, alone * 1e3));
    rows.add(ROWS[3], "", services, "services computed for a reload that changes one");
}

fn listen(rows: &mut Rows, cluster: &mut Cluster) {
    let before = cluster.machine.work();
    for listening in [false, true] {
        cluster.turns(vec![cluster.srvstat(7, 2, listening, &[80])]);
        cluster.settle();
    }
    let Work { services, targets, .. } = cluster.since(before);
    let note = format!("services computed for a listen of one stack; {} candidates looked at", targets / 2);
    rows.add(ROWS[4], "", services as f64 / 2.0, note);
}

/// The pictures that the web page and `baton top` get, once a second.
fn look(rows: &mut Rows, cluster: &Cluster) {
    let (machine, start) = (&cluster.machine, processor_time());
    let mut left_out = 0;
    for _ in 0..LOOKS {
        let now = Instant::now();
        // Counters have the refusals of a status too.
        black_box((
            machine.status_view(),
            machine.status_view(),
            machine.vipa_view(),
            machine.evacuation_views(now),
        ));
        left_out = black_box(machine.dpt_view_within(LOOKED_AT, now)).1;
    }
    let took = (processor_time() - start) / LOOKS;
    let note = format!("{:.2} ms, {left_out} services left out", took.as_secs_f64() * 1e3);
    rows.add(ROWS[5], "", took.as_secs_f64(), note);
}

/// The first stack, which has the first connections of the table, names all that it has.
fn account(rows: &mut Rows, cluster: &mut Cluster) {
    let all = sized(ACCOUNT, 20_000);
    let has: Vec<u64> = (0..all).filter(|n| n % ENDED > 0).collect();
    let frames = cluster.account(0, &has);
    let start = processor_time();
    cluster.turns_of_frames(frames);
    cluster.look_through();
    let took = (processor_time() - start).as_secs_f64();
    let left = cluster.entries.count(cluster.index(0));
    assert!(left == 0 || left == has.len() as u64, "{left} entries of {} are left", has.len());
    let note = format!("{}; {} of the table's {} entries", Entries::MEASURED, has.len(), cluster.filled);
    rows.add(ROWS[6], "s", took, note);
}

/// Every session ends, and all agents come back at once and report everything, a report of each in turn: as new processes, which
/// name all connections that they have.
fn return_of_all(rows: &mut Rows, cluster: &mut Cluster) {
    let gone = (0..cluster.stacks).map(|n| Event::SessionDown { stack: name(n) }).collect();
    cluster.turns(gone);
    cluster.settle();
    let (stacks, dvipas) = (cluster.stacks, cluster.dvipas);
    let (first, share) = (sized(ACCOUNT, 20_000), cluster.share());
    let mut events: Vec<Frame> =
        (0..stacks).flat_map(|n| cluster.comes(n, 2)).map(|event| (event, None)).collect();
    let reports = (0..dvipas).flat_map(|step| (0..stacks).map(move |n| (n, (step + n * 7) % dvipas)));
    let ports = cluster.ports();
    events.extend(reports.map(|(n, dvipa)| (cluster.srvstat(n, dvipa, true, &ports), None)));
    let mut accounts: Vec<_> = (1..stacks)
        .map(|n| {
            let has: Vec<u64> =
                (0..share).map(|i| first + (n - 1) * share + i).filter(|c| c % ENDED > 0).collect();
            cluster.account(n, &has).into_iter()
        })
        .collect();
    while accounts.iter().any(|account| account.len() > 0) {
        events.extend(accounts.iter_mut().filter_map(Iterator::next));
    }
    let (all, before, start) = (events.len(), cluster.machine.work(), processor_time());
    let (longest, done) = cluster.turns_for(events, PATIENCE);
    cluster.look_through();
    let (took, work) = ((processor_time() - start).as_secs_f64(), cluster.since(before));
    let note = format!(
        "the longest turn {:.1} ms; {done} of {all} events; {} services computed, {} candidates looked at",
        longest.as_secs_f64() * 1e3,
        work.services,
        work.targets,
    );
    rows.add(ROWS[7], "", longest.as_secs_f64() / HEARTBEAT.as_secs_f64(), note);
    let note =
        format!("until all is as they say, {} connections; {}", cluster.filled - first, Entries::MEASURED);
    rows.add(ROWS[8], "s", took, note);
}

/// An event, and the frame that it comes out of, if it names connections.
type Frame = (Event, Option<Vec<u8>>);

/// A routing stack among simulated peers.
struct Cluster {
    machine: RoutingStack,
    tables: Tables,
    entries: Entries,
    /// Connections that the CRT was filled with.
    filled: u64,
    last_tick: Duration,
    node: Node,
    stacks: u64,
    dvipas: u64,
    ports: u16,
}

impl Cluster {
    fn new(stacks: u64, dvipas: u64, ports: u16) -> Self {
        Self::over(config(dvipas, ports, "round-robin"), stacks, dvipas, ports)
    }

    fn over(config: Config, stacks: u64, dvipas: u64, ports: u16) -> Self {
        let identity = Identity { incarnation: 1, version: "perf".to_owned(), first_epoch: EPOCH };
        let machine = RoutingStack::new(identity, config, Instant::now());
        let machine = machine.unwrap_or_else(|refusal| unreachable!("few DVIPAs: {refusal}"));
        let cluster_address = ClusterAddress { v4: Some([198, 18, 0, 10].into()), v6: None };
        let node = Node {
            mac: Mac([2; 6]),
            cluster_address,
            fabric_mtu: 1500,
            vlan: None,
            fence: Fence::default(),
            looks: Looks::default(),
        };
        let tables = Tables::build(machine.dpt(), &Neighbours::new(), &node);
        let (entries, last_tick) = (Entries::new(1 << 20), processor_time());
        Self { machine, tables, entries, filled: 0, last_tick, node, stacks, dvipas, ports }
    }

    /// All stacks come and report all listens.
    fn all_come(&mut self) {
        let ports = self.ports();
        for n in 0..self.stacks {
            let mut events = self.comes(n, 1);
            events.extend((0..self.dvipas).map(|dvipa| self.srvstat(n, dvipa, true, &ports)));
            for event in events {
                self.hand_over(event);
            }
        }
        self.settle();
    }

    /// Fills the CRT: the first stack has a million connections, the others share the rest.
    fn fill(&mut self) {
        let (all, first) = (sized(ENTRIES, 100_000), sized(ACCOUNT, 20_000));
        self.entries = Entries::new(all as usize);
        self.entries.publish(self.machine.dpt());
        self.filled = first + (self.stacks - 1) * ((all - first) / (self.stacks - 1));
        let share = self.share();
        for n in 0..self.stacks {
            let (from, len) = if n == 0 { (0, first) } else { (first + (n - 1) * share, share) };
            let part: Vec<Connection> = (from..from + len).map(|n| self.connection(n)).collect();
            self.entries.newconn(self.index(n), &part, false, false);
        }
    }

    /// Connections of each stack but the first.
    fn share(&self) -> u64 {
        (self.filled - sized(ACCOUNT, 20_000)) / (self.stacks - 1)
    }

    fn index(&self, n: u64) -> StackIndex {
        self.machine.stack_index(&name(n)).unwrap_or_else(|| unreachable!("it has greeted"))
    }

    /// A complete account of these connections, in frames.
    fn account(&self, n: u64, connections: &[u64]) -> Vec<Frame> {
        let parts = connections.chunks(A_MESSAGE);
        let last = parts.len() - 1;
        let frame = |(i, part): (usize, &[u64])| {
            let part: Vec<Connection> = part.iter().map(|n| self.connection(*n)).collect();
            let event = self.newconn(n, i == 0, i == last, &part);
            let Event::Message { from, message } = event else { unreachable!("a message") };
            let frame = codec::encode(&message).unwrap_or_else(|e| unreachable!("{e}"));
            let empty = FromStack::Newconn(Newconn::default());
            (Event::Message { from, message: empty }, Some(frame))
        };
        parts.enumerate().map(frame).collect()
    }

    /// Hands events over in turns, as the control thread's loop does it.
    fn turns(&mut self, events: Vec<Event>) {
        self.turns_of_frames(events.into_iter().map(|event| (event, None)).collect());
    }

    fn turns_of_frames(&mut self, frames: Vec<Frame>) {
        self.turns_for(frames, Duration::MAX);
    }

    /// As [`Self::turns`], not for longer than this; returns the longest turn, and how many events were handed over.
    fn turns_for(&mut self, frames: Vec<Frame>, patience: Duration) -> (Duration, usize) {
        let (begun, mut longest, mut done) = (processor_time(), Duration::ZERO, 0);
        let mut frames = frames.into_iter().peekable();
        while frames.peek().is_some() && processor_time() - begun < patience {
            let (start, mut events, mut connections) = (processor_time(), 0, 0);
            while events < EVENTS_A_TURN && connections < CONNECTIONS_A_TURN {
                let Some((event, frame)) = frames.next() else { break };
                let event = decoded(event, frame);
                if let Event::Message { message: FromStack::Newconn(newconn), .. } = &event {
                    connections += newconn.connections.len();
                }
                self.hand_over(event);
                events += 1;
            }
            done += events;
            self.act();
            if processor_time() - self.last_tick >= Duration::from_millis(TICK_MS) {
                self.last_tick = processor_time();
                self.entries.tick();
            }
            longest = longest.max(processor_time() - start);
        }
        (longest, done)
    }

    /// Ticks until nothing is looked for in the CRT.
    fn look_through(&mut self) {
        while self.entries.tick() {}
    }

    fn hand_over(&mut self, event: Event) {
        if let Err(refusal) = self.machine.handle(event, Instant::now()) {
            unreachable!("a good event is refused: {refusal}");
        }
    }

    /// Does what the machine wants done, as far as it costs the control thread anything.
    fn act(&mut self) {
        while let Some(action) = self.machine.poll() {
            match action {
                Action::Publish(dpt) => self.published(&dpt),
                Action::Newconn { owner, first, last, connections, .. } => {
                    self.entries.newconn(owner, &connections, first, last);
                }
                Action::Termconn { owner, connections } => self.entries.termconn(owner, &connections),
                Action::Send { message, .. } => drop(black_box(codec::encode(&message))),
                other => drop(black_box(other)),
            }
        }
    }

    fn published(&mut self, dpt: &Dpt) {
        self.entries.publish(dpt);
        self.tables = self.tables.rebuild(dpt, &Neighbours::new(), &self.node);
    }

    /// Nothing waits any more.
    fn settle(&mut self) {
        self.machine.hurry();
        self.act();
    }

    /// Seconds of a reload that changes the method of one service, the quickest of several.
    fn reload_s(&mut self) -> f64 {
        let reload = |n: u64| {
            let method = if n.is_multiple_of(2) { "weighted-round-robin" } else { "round-robin" };
            let event = Event::Configure(Box::new(config(self.dvipas, self.ports, method)));
            let start = processor_time();
            self.hand_over(event);
            self.act();
            (processor_time() - start).as_secs_f64()
        };
        (0..RELOADS).map(reload).fold(f64::INFINITY, f64::min)
    }

    fn since(&self, before: Work) -> Work {
        let Work { settles, services, targets } = self.machine.work();
        let (settles, services) = (settles - before.settles, services - before.services);
        Work { settles, services, targets: targets - before.targets }
    }

    fn ports(&self) -> Vec<u16> {
        (80..80 + self.ports).collect()
    }

    /// The stack comes up and greets.
    fn comes(&self, n: u64, incarnation: u64) -> Vec<Event> {
        let hello = Hello {
            stack: name(n).to_string(),
            cluster_addresses: vec![Address([10, 0, (n / 250) as u8, (n % 250) as u8 + 1].into())],
            incarnation,
            version: "perf".to_owned(),
            ..Hello::default()
        };
        vec![Event::SessionUp { stack: name(n), hello }]
    }

    /// The stack reports on these ports of a DVIPA: on all of them or, if it is one, on that only.
    fn srvstat(&self, n: u64, dvipa: u64, listening: bool, ports: &[u16]) -> Event {
        let listens = ports.iter().map(|port| Listen { protocol: Protocol::Tcp, port: *port, listening });
        let message = FromStack::Srvstat(Srvstat {
            dvipa: Address(address(dvipa)),
            epoch: EPOCH,
            complete: ports.len() > 1,
            listens: listens.collect(),
        });
        Event::Message { from: name(n % self.stacks), message }
    }

    fn newconn(&self, n: u64, first: bool, last: bool, connections: &[Connection]) -> Event {
        let connections = connections.iter().copied().map(WireConnection).collect();
        let message = FromStack::Newconn(Newconn { first, last, connections });
        Event::Message { from: name(n % self.stacks), message }
    }

    fn connection(&self, n: u64) -> Connection {
        let client = Ipv4Addr::from_bits((n >> 12) as u32 | 0x0b00_0000);
        let client = SocketAddr::new(client.into(), 1024 + (n & 4095) as u16);
        let dvipa = Dvipa::new(address(n % self.dvipas));
        let service = Service { dvipa, port: 80, protocol: Protocol::Tcp };
        Connection {
            client,
            dvipa: SocketAddr::new(dvipa.address(), service.port),
            protocol: service.protocol,
        }
    }
}

/// The event with the message of its frame.
fn decoded(event: Event, frame: Option<Vec<u8>>) -> Event {
    let (Event::Message { from, .. }, Some(frame)) = (&event, frame) else { return event };
    let (header, body) = frame.split_first_chunk().unwrap_or_else(|| unreachable!("a whole frame"));
    let read = codec::decode_header(*header).and_then(|header| codec::decode_body(header, body));
    match read {
        Ok(codec::Received::Message(message)) => Event::Message { from: from.clone(), message },
        other => unreachable!("{other:?}"),
    }
}

fn name(n: u64) -> StackName {
    StackName::new(format!("t{n:04}")).unwrap_or_else(|bad| unreachable!("{bad}"))
}

fn address(dvipa: u64) -> IpAddr {
    Ipv4Addr::new(198, 19, (dvipa / 250) as u8, (dvipa % 250) as u8 + 1).into()
}

/// The configuration of `rt1`, up to its definitions.
const NODE: &str = r#"
        node = { name = "rt1", cluster_address = ["198.18.0.10"] }
        cluster = { listen = "198.18.0.10:7440", ca = "ca.pem", certificate = "rt1.pem", key = "rt1.key" }
        admin = { socket = "batond.sock" }
        [forwarder]
        workers = [1]
        port = [
            { role = "nic", device = "net_null0" },
            { role = "local", device = "net_null1", interface = "loc0" },
        ]
        [[vipadynamic]]
"#;

/// So many DVIPAs with a definition for each port, for all stacks; `method` is the first service's.
fn config(dvipas: u64, ports: u16, method: &str) -> Config {
    let mut text = String::from(NODE);
    let mut method = Some(method);
    for address in (0..dvipas).map(address) {
        let _ = write!(text, "[[vipadynamic.vipadefine]]\naddress = \"{address}\"\nmask = 24\n");
        for port in 80..80 + ports {
            let _ = write!(
                text,
                "[[vipadynamic.vipadistribute]]\naddress = \"{address}\"\nports = [{port}]\ndestip = \"all\"\n\
                 method = \"{}\"\n",
                method.take().unwrap_or("round-robin")
            );
        }
    }
    parse(&text)
}

fn parse(text: &str) -> Config {
    Config::parse("perf", text, Path::new("")).unwrap_or_else(|mistakes| unreachable!("{mistakes}"))
}
