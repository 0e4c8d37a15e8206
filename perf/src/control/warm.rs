//! What it costs to keep a backup warm, and how long one takes that begins cold.
//!
//! The machines that decide, the routing stack's ([`RoutingStack`](control::machine::RoutingStack), as backup of `rt2`) and the agents'
//! ([`Machine`]), and the frames between them. Agents are hosts of their own: what each does is timed apart.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agent::machine as host;
use agent::machine::{Bound, Cookie, Ifindex, Inherited, Listener, Machine, Own, Picture, Scope};
use control::machine::{Action, Event};
use model::codec;
use model::codec::Address;
use model::message::{FromStack, Newconn, ToStack, VipaList};
use model::peer::{Definition, Definitions, Distribute, ToPeer, Weights};
use model::{ClusterAddress, Connection, Epoch, Protocol, StackName};

use super::{Cluster, Entries, Frame, HEARTBEAT, NODE, PATIENCE, address, name, parse};
use crate::rows::Rows;
use crate::timing::{processor_time, sized};

/// Hosts with agents.
const AGENTS: u64 = 10;
/// Connections that they have, all together, when the cold node comes.
const HELD: u64 = 1_000_000;
/// Connections that begin in a second, and as many that end.
const A_SECOND: u64 = 100_000;
/// Connections that begin in a turn of an agent, and as many that end: ten hosts share them, a turn a millisecond.
const A_TURN: u64 = 10;
/// Times that an agent's second is measured; the quickest counts.
const TIMES: u64 = 5;
/// The epoch in which the other routing stack owns the DVIPA.
const THEIRS: Epoch = Epoch(5);

const ROWS: [&str; 4] =
    ["cold_node_1m_s", "cold_node_agent_turn_ratio", "warm_backup_cpu_ratio", "warm_backup_node_percent"];

/// Measures what is asked for.
pub(crate) fn measure(rows: &mut Rows) {
    if rows.wants(&ROWS[..2]) {
        cold(rows);
    }
    if rows.wants(&ROWS[2..]) {
        warm(rows);
    }
}

/// A node comes that knows nothing, and each agent gives it a complete account.
fn cold(rows: &mut Rows) {
    let share = sized(HELD, 20_000) / AGENTS;
    let (mut cluster, lists) = backup((share * AGENTS) as usize);
    let (mut longest, mut accounts) = (Duration::ZERO, Vec::new());
    for n in 0..AGENTS {
        let connections = (n * share..(n + 1) * share).map(|c| cluster.connection(c));
        let mut host = Host::new(n, &[routing_stack("rt1")], connections.collect());
        let list = list_of(&lists, n);
        let frames = host.account("rt1", list);
        longest = longest.max(host.longest);
        accounts.push(frames.into_iter());
    }
    let mut frames = Vec::new();
    while accounts.iter().any(|account| account.len() > 0) {
        frames.extend(accounts.iter_mut().filter_map(Iterator::next));
    }
    let begun = processor_time();
    let (turn, _) = cluster.turns_for(frames, PATIENCE);
    cluster.look_through();
    let took = processor_time() - begun;
    let known: u64 = (0..AGENTS).map(|n| cluster.entries.count(cluster.index(n))).sum();
    assert!(known == 0 || known == share * AGENTS, "{known} of {} connections are known", share * AGENTS);
    let note = format!(
        "processor time of the control thread until it knows {} connections of {AGENTS} hosts; its longest turn {:.1} ms; {}; without sessions",
        share * AGENTS,
        turn.as_secs_f64() * 1e3,
        Entries::MEASURED,
    );
    rows.add(ROWS[0], "s", took.as_secs_f64(), note);
    let note = format!(
        "{:.1} ms, the longest turn of an agent that gives an account of {share} connections, in the interval of heartbeats; without the kernel's list of sockets",
        longest.as_secs_f64() * 1e3
    );
    rows.add(ROWS[1], "", longest.as_secs_f64() / HEARTBEAT.as_secs_f64(), note);
}

/// Connections come and go at hosts that tell one routing stack, or two.
fn warm(rows: &mut Rows) {
    let n = sized(A_SECOND, 2_000);
    let (mut cluster, lists) = backup(1 << 20);
    let connections: Vec<Connection> = (0..n).map(|c| cluster.connection(c)).collect();
    let list = list_of(&lists, 0);
    let mut best = [Duration::MAX; 2];
    let mut told = Vec::new();
    for _ in 0..sized(TIMES, 1) {
        for (best, names) in best.iter_mut().zip([&["rt1"][..], &["rt1", "rt2"]]) {
            let names: Vec<StackName> = names.iter().map(|name| routing_stack(name)).collect();
            let mut host = Host::new(0, &names, Vec::new());
            let accounts: Vec<_> =
                names.iter().map(|name| host.account(name.as_str(), list.clone())).collect();
            let begun = processor_time();
            let frames = host.serve(&connections);
            *best = (*best).min(processor_time() - begun);
            told = accounts.into_iter().take(1).flatten().chain(frames).collect();
        }
    }
    let [alone, both] = best.map(|time| time.as_secs_f64());
    let percent = |time: f64| 100.0 * time * A_SECOND as f64 / n as f64;
    let note = format!(
        "of agents that tell two routing stacks of {A_SECOND} connections a second that begin and end, to one: {:.1} % and {:.1} % of a core, all hosts together; without sessions",
        percent(both),
        percent(alone)
    );
    rows.add(ROWS[2], "", both / alone, note);
    let begun = processor_time();
    cluster.turns_of_frames(told);
    let took = (processor_time() - begun).as_secs_f64();
    let note = format!(
        "of a core of the backup's control thread, as its owner's; {}; without sessions",
        Entries::MEASURED
    );
    rows.add(ROWS[3], "%", percent(took), note);
}

/// `rt1`, which backs up a DVIPA of `rt2` and knows no connection, and what it has listed to each agent.
fn backup(connections: usize) -> (Cluster, BTreeMap<StackName, VipaList>) {
    let dvipa = address(0);
    let config = parse(&format!(
        "{NODE}[[vipadynamic.vipabackup]]\naddress = \"{dvipa}\"\nrank = 100\n\
         [[routing_stack]]\nname = \"rt2\"\naddress = \"198.18.0.11:7441\"\n"
    ));
    let mut cluster = Cluster::over(config, AGENTS, 1, 1);
    cluster.entries = Entries::new(connections);
    let rt2 = routing_stack("rt2");
    cluster.hand_over(Event::PeerUp { stack: rt2.clone() });
    let definition = Definition {
        address: Address(dvipa),
        epoch: THEIRS,
        owner: true,
        rank: 255,
        prefix_bits: Some(24),
        moveable: Some(0),
        by_order: None,
        next: None,
        refuse: None,
        distributes: vec![Distribute {
            protocol: Protocol::Tcp,
            ports: vec![80],
            destip: Vec::new(),
            method: 0,
            weights: Weights::default(),
            content_routed: false,
            routes: None,
            rules: None,
            limits: None,
            quic: Vec::new(),
            refuse: None,
            policies: Vec::new(),
        }],
        wants: None,
    };
    let said = ToPeer::Definitions(Definitions { dvipas: vec![definition], ..Definitions::default() });
    cluster.hand_over(Event::PeerMessage { from: rt2, message: said });
    for n in 0..AGENTS {
        cluster.comes(n, 1).into_iter().for_each(|event| cluster.hand_over(event));
    }
    cluster.machine.hurry();
    let mut lists = BTreeMap::new();
    while let Some(action) = cluster.machine.poll() {
        match action {
            Action::Send { to, message: ToStack::VipaList(list) } => drop(lists.insert(to, list)),
            Action::Publish(dpt) => cluster.published(&dpt),
            _ => {}
        }
    }
    (cluster, lists)
}

fn list_of(lists: &BTreeMap<StackName, VipaList>, n: u64) -> VipaList {
    lists.get(&name(n)).cloned().unwrap_or_else(|| unreachable!("every stack that greets gets a list"))
}

fn routing_stack(name: &str) -> StackName {
    StackName::new(name).unwrap_or_else(|bad| unreachable!("{bad}"))
}

/// A host with a server on port 80.
struct Host {
    machine: Machine,
    name: StackName,
    has: Picture,
    now: Instant,
    /// The processor time of its longest turn.
    longest: Duration,
}

impl Host {
    fn new(n: u64, routing_stacks: &[StackName], connections: Vec<Connection>) -> Self {
        let (name, now) = (name(n), Instant::now());
        let own = Own {
            name: name.clone(),
            cluster_address: ClusterAddress { v4: Some([10, 0, 0, n as u8 + 1].into()), v6: None },
            interfaces: vec![Ifindex(2)],
            routing_stacks: routing_stacks.to_vec(),
            repair: Duration::from_secs(3600),
            unanswered: None,
        };
        let web = Listener { protocol: Protocol::Tcp, bound: Bound::AnyDual, port: 80, interface: None };
        let cookies = (1..).map(Cookie);
        let has = Picture {
            listeners: vec![(Cookie(0), web)],
            connections: cookies.zip(connections).collect(),
            flows: Vec::new(),
        };
        let machine = Machine::new(own, Inherited::default(), now);
        Self { machine, name, has, now, longest: Duration::ZERO }
    }

    /// What it says to a routing stack that comes and lists this: a complete account, in frames.
    fn account(&mut self, from: &str, list: VipaList) -> Vec<Frame> {
        let from = routing_stack(from);
        self.machine.handle(host::Event::SessionUp(from.clone()), self.now);
        self.machine.handle(host::Event::Listed(from.clone(), list), self.now);
        self.said(&from)
    }

    /// Connections begin, and end one turn later. What `rt1` is told of them, in frames; those for others are made and dropped.
    fn serve(&mut self, connections: &[Connection]) -> Vec<Frame> {
        let (mut frames, mut last, rt1) = (Vec::new(), 0..0, routing_stack("rt1"));
        let mut turns = connections.chunks(A_TURN as usize);
        loop {
            let begins = turns.next().unwrap_or_default();
            last.clone().for_each(|n| self.machine.handle(host::Event::Ended(Cookie(n)), self.now));
            let first = last.end.max(1);
            last = first..first + begins.len() as u64;
            for (n, connection) in last.clone().zip(begins) {
                self.machine.handle(host::Event::Established(Cookie(n), *connection), self.now);
            }
            frames.extend(self.said(&rt1));
            if begins.is_empty() {
                return frames;
            }
        }
    }

    /// What it has to say to this routing stack, in frames. It looks at its sockets whenever it wants to.
    fn said(&mut self, to_whom: &StackName) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let begun = processor_time();
            let mut looked = Duration::ZERO;
            while let Some(action) = self.machine.poll(self.now) {
                match action {
                    host::Action::Look(scope) => {
                        let begun = processor_time();
                        let seen = if scope == Scope::All { self.has.clone() } else { Picture::default() };
                        looked += processor_time() - begun;
                        self.machine.handle(host::Event::Seen(scope, seen), self.now);
                    }
                    host::Action::Send(to, message) => {
                        let frame = codec::encode(&message).unwrap_or_else(|e| unreachable!("{e}"));
                        if to == *to_whom {
                            let message = FromStack::Newconn(Newconn::default());
                            frames.push((Event::Message { from: self.name.clone(), message }, Some(frame)));
                        }
                    }
                    _ => {}
                }
            }
            let goes_on = self.machine.step();
            self.longest = self.longest.max((processor_time() - begun).saturating_sub(looked));
            if !goes_on {
                return frames;
            }
        }
    }
}
