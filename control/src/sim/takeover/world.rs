//! The processes, the clients, and what happens to all of them; what they say to each other is in [`super::sessions`], what they do in
//! [`super::deeds`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use agent::machine::{Event as AgentEvent, Scope as LookScope, Takes};
use fastrand::Rng;
use histories::{Clock, Nanos, Queue, ms};
use model::handoff::Token;
use model::message::{FromStack, Hello, ToStack};
use model::ownership::{FromWitness, ToWitness};
use model::peer::ToPeer;
use model::transfer::TransferId;
use model::{Connection, Dvipa, Protocol, StackName};
use ownership::lease::DRIFT;

use super::Scale;
use super::checks::Record;
use super::history::{End, Step, TARGETS};
use super::host::{Host, Socket, listener};
use super::links::{Links, SessionId};
use super::routing::{NODES, Node, Stopped, address, dvipa};
use crate::machine::{Event, Scope};

/// How often sessions are looked after: signs of life, and dialling.
const PULSE: Nanos = ms(100);
/// A peer that was silent for so long is gone: another routing stack, an agent.
pub(super) const PEER_LOST: Nanos = ms(600);
pub(super) const AGENT_LOST: Nanos = ms(1_500);
/// How long a look at all sockets takes.
pub(super) const LOOK: Nanos = ms(8);
/// How often clients say something.
const CLIENTS: Nanos = ms(150);

/// Something on its way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) from: End,
    pub(super) to: End,
    pub(super) session: SessionId,
    pub(super) said: Said,
}

#[derive(Clone, Debug)]
pub(super) enum Said {
    /// The session begins.
    Dials(Box<Hello>),
    /// It is over.
    Over,
    FromHost(Box<FromStack>),
    ToHost(Box<ToStack>),
    Peer(Box<ToPeer>),
    Claims(ToWitness),
    Grants(FromWitness),
}

/// What happens at a time.
#[derive(Clone, Debug)]
pub(super) enum Happens {
    Arrives(Parcel),
    Pulse,
    Clients,
    Mends {
        from: End,
        to: End,
    },
    GoesOn(End),
    Begins(End),
    Looked {
        host: usize,
        run: u64,
        scope: LookScope,
    },
    SilentHosts,
    HostBack(usize),
    /// An application answers an offer.
    Answers {
        host: usize,
        run: u64,
        transfer: TransferId,
    },
    /// A packet that makes a connection arrives.
    Handed {
        host: usize,
        from: usize,
        connection: Connection,
        token: Token,
    },
}

/// All of a history.
pub(super) struct World {
    pub(super) scale: Scale,
    pub(super) random: Rng,
    pub(super) now: Nanos,
    pub(super) nodes: Vec<Node>,
    pub(super) hosts: Vec<Host>,
    pub(super) links: Links,
    queue: Queue<Happens>,
    runs: u64,
    /// Where the segment has heard each DVIPA to be.
    pub(super) place: BTreeMap<Dvipa, usize>,
    /// Nothing goes wrong any more.
    pub(super) calm: bool,
    client_port: u16,
    /// Connections that go on, unless an application ends them or a host dies that has them.
    pub(super) alive: BTreeSet<Connection>,
    /// Connections that may be lost, because a host has died that had to do with them.
    pub(super) excused: BTreeSet<Connection>,
    pub(super) record: Record,
}

impl World {
    pub(super) fn new(scale: Scale, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let nodes = (0..NODES).map(|at| Node::new(at, Clock::draw(&mut random, DRIFT))).collect();
        let hosts: Vec<Host> =
            (0..scale.hosts()).map(|at| Host::new(at, Clock::draw(&mut random, DRIFT))).collect();
        let mut links = Links::default();
        for node in 0..NODES {
            (0..node).for_each(|other| links.add(End::Node(other), End::Node(node)));
            (0..hosts.len()).for_each(|host| links.add(End::Host(host), End::Node(node)));
        }
        let mut world = Self {
            scale,
            random,
            now: 0,
            nodes,
            hosts,
            links,
            queue: Queue::default(),
            runs: 0,
            place: BTreeMap::new(),
            calm: false,
            client_port: 1024,
            alive: BTreeSet::new(),
            excused: BTreeSet::new(),
            record: Record::default(),
        };
        world.links.ends().into_iter().for_each(|end| world.begin(end));
        world.put(ms(1), Happens::Pulse);
        world.put(ms(1), Happens::Clients);
        world
    }

    pub(super) fn put(&mut self, at: Nanos, what: Happens) {
        self.queue.put(at, what);
    }

    /// Does one step of a history.
    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::Wait { ms: long } => self.run_until(self.now + ms(long)),
            Step::Listen { host, port, listens } => self.listen(host, port, listens),
            Step::Connect { dvipa: at, port, count } => {
                (0..count).for_each(|_| self.connect(dvipa(at), port))
            }
            Step::Disconnect { host, count } => {
                self.disconnect(host, count);
            }
            Step::Transfer { host, to, count } => self.ask_for_moves(host, to, count),
            Step::UsePorts { host, dvipa: at, ports } => self.use_ports(host, dvipa(at), Some(ports)),
            Step::FreePorts { host, dvipa: at } => self.use_ports(host, dvipa(at), None),
            Step::Cut { from, to, ms: long } => self.cut(from, to, ms(long)),
            Step::Isolate { end, hears, is_heard, ms: long } => {
                for other in self.links.ends().into_iter().filter(|other| *other != end) {
                    if !hears {
                        self.cut(other, end, ms(long));
                    }
                    if !is_heard {
                        self.cut(end, other, ms(long));
                    }
                }
            }
            Step::Slow { end, ms: long } => drop(self.links.slow.insert(end, ms(long))),
            Step::Break { one, other } => {
                self.give_up(one, other);
                self.give_up(other, one);
            }
            Step::Kill { end, back_ms } => {
                self.kill(end);
                self.put(self.now + ms(back_ms), Happens::Begins(end));
            }
            Step::Stop { end, ms: long, workers_run } => self.stop(end, ms(long), workers_run),
            Step::KillHost { host, back_ms } => {
                self.may_be_lost(host);
                self.kill(End::Host(host));
                self.hosts[host].is_dead = true;
                self.hosts[host].deaths += 1;
                self.hosts[host].died = Some(self.now);
                self.hosts[host].kernel = super::host::Kernel::default();
                self.put(self.now + ms(400), Happens::SilentHosts);
                self.put(self.now + ms(back_ms), Happens::HostBack(host));
            }
            Step::Move { dvipa: at, to } => {
                if let Some(owner) = self.owner(dvipa(at)) {
                    let to = self.nodes[to].name.clone();
                    self.tell_node(owner, Event::MoveDvipa { dvipa: dvipa(at), to });
                }
            }
            Step::Leave { node, leaves } => {
                self.nodes[node].leaves = leaves;
                self.tell_node(node, Event::Leave(leaves));
            }
            Step::Drain { host, dvipa: at } => {
                let stack = self.hosts[host].name.clone();
                self.each_node(|_| Event::Drain { stack: stack.clone(), scope: Scope::Dvipa(dvipa(at)) });
            }
            Step::Resume { host, dvipa: at } => {
                let stack = self.hosts[host].name.clone();
                self.each_node(|_| Event::Resume { stack: stack.clone(), scope: Scope::Dvipa(dvipa(at)) });
            }
            Step::Reload { node, settings } => self.reload(node, settings),
        }
    }

    pub(super) fn each_node(&mut self, event: impl Fn(usize) -> Event) {
        (0..NODES).for_each(|node| self.tell_node(node, event(node)));
    }

    pub(super) fn reload(&mut self, node: usize, settings: super::routing::Settings) {
        self.nodes[node].settings = settings;
        let config = settings.config(node, self.scale);
        self.tell_node(node, Event::Configure(Box::new(config)));
    }

    pub(super) fn listen(&mut self, host: usize, port: u16, listens: bool) {
        if self.hosts[host].is_dead || self.hosts[host].kernel.listens(port) == listens {
            return;
        }
        let kernel = &mut self.hosts[host].kernel;
        let told = match listens {
            true => vec![kernel.open(Socket::Listens(listener(port)))],
            false => kernel.close(1, |s| matches!(s, Socket::Listens(l) if l.port == port)),
        };
        self.tell_host(host, told);
    }

    /// The oldest connections of a host end there, of those that it does not move.
    fn disconnect(&mut self, host: usize, count: usize) {
        let kernel = &mut self.hosts[host].kernel;
        let of_its = |connection: &Connection| !kernel.moves.concern(connection);
        let goes: BTreeSet<Connection> = kernel.connections().filter(of_its).take(count).collect();
        let ended = kernel.close(count, |s| matches!(s, Socket::Connected(c) if goes.contains(c)));
        self.alive.retain(|connection| !goes.contains(connection));
        self.tell_host(host, ended);
    }

    pub(super) fn use_ports(&mut self, host: usize, dvipa: Dvipa, ports: Option<u32>) {
        self.hosts[host].kernel.pools.take(dvipa, ports);
        let Host { agent, kernel, stopped: None, .. } = &mut self.hosts[host] else { return };
        if let Some(agent) = agent {
            agent.ports.give_back(&kernel.pools);
        }
        self.act_host(host);
    }

    /// A client opens a connection: its SYN goes where the segment has heard the DVIPA to be.
    pub(super) fn connect(&mut self, dvipa: Dvipa, port: u16) {
        let Some(node) = self.place.get(&dvipa).copied().filter(|node| self.nodes[*node].forwards()) else {
            return;
        };
        let workers = &self.nodes[node].workers;
        if workers.duty(dvipa).is_none_or(|duty| duty == model::dpt::Duty::Backup) {
            return;
        }
        let Some(index) = workers.dpt.dvipas.iter().find(|e| e.dvipa == dvipa).map(|e| e.index) else {
            return;
        };
        let row = workers.dpt.distributions.iter().find(|row| (row.dvipa, row.port) == (index, port));
        let targets = row.map(|row| row.targets.clone()).unwrap_or_default();
        if targets.is_empty() {
            return;
        }
        let target = targets[self.random.usize(0..targets.len())].stack;
        let target =
            workers.stack(target).and_then(|name| self.hosts.iter().position(|host| host.name == *name));
        let Some(host) = target else { return };
        self.client_port = self.client_port.checked_add(1).unwrap_or(1024);
        let client = if dvipa.address().is_ipv4() { "198.18.0.2" } else { "2001:db8::2" };
        let client = SocketAddr::new(client.parse().expect("an address"), self.client_port);
        let to = SocketAddr::new(dvipa.address(), port);
        let Some(connection) = Connection::new(Protocol::Tcp, client, to) else { return };
        let kernel = &mut self.hosts[host].kernel;
        let takes = kernel.takes(address(node), dvipa) == Some(Takes::All);
        if takes && kernel.listens(port) && kernel.dvipas.contains_key(&dvipa) {
            let told = kernel.open(Socket::Connected(connection));
            self.alive.insert(connection);
            self.tell_host(host, vec![told]);
        }
    }

    pub(super) fn cut(&mut self, from: End, to: End, long: Nanos) {
        if from == to || self.links.between(from, to).is_none() {
            return;
        }
        *self.links.cut.entry((from, to)).or_default() += 1;
        self.put(self.now + long, Happens::Mends { from, to });
    }

    pub(super) fn stop(&mut self, end: End, long: Nanos, workers_run: bool) {
        self.note(format!("{end:?} stops for {} ms", long / 1_000_000));
        let stopped = Some(Stopped { since: self.now, until: self.now + long, workers_run });
        match end {
            End::Node(node) => self.nodes[node].stopped = stopped,
            End::Host(host) => self.hosts[host].stopped = stopped,
        }
        self.put(self.now + long, Happens::GoesOn(end));
    }

    pub(super) fn kill(&mut self, end: End) {
        self.note(format!("{end:?} is killed"));
        self.links.forget(end);
        match end {
            End::Node(at) => {
                let node = &mut self.nodes[at];
                let keeps = self.random.bool();
                let former = node.machine.take().filter(|_| keeps).map(|machine| machine.numbering());
                (node.stopped, node.due) = (None, None);
                node.inbox.clear();
                node.former = former;
                node.leaves = false;
            }
            End::Host(at) => {
                let host = &mut self.hosts[at];
                if let Some(agent) = host.agent.take() {
                    host.kernel.agent_died(&agent.process);
                }
                (host.stopped, host.due) = (None, None);
                host.inbox.clear();
                host.ring.clear();
            }
        }
    }

    /// A process begins, if there is none.
    pub(super) fn begin(&mut self, end: End) {
        self.runs += 1;
        match end {
            End::Node(at) if self.nodes[at].machine.is_none() => {
                self.nodes[at].start(at, self.scale, self.runs, self.now);
                self.act_node(at);
            }
            End::Host(at) if self.hosts[at].agent.is_none() && !self.hosts[at].is_dead => {
                self.hosts[at].start(self.now);
                self.inherit(at);
                self.act_host(at);
            }
            End::Node(_) | End::Host(_) => {}
        }
    }

    pub(super) fn go_on(&mut self, end: End) {
        let now = self.now;
        let is_over = |stopped: &mut Option<Stopped>| stopped.take_if(|stopped| stopped.until <= now);
        let stopped = match end {
            End::Node(at) => is_over(&mut self.nodes[at].stopped),
            End::Host(at) => is_over(&mut self.hosts[at].stopped),
        };
        let Some(Stopped { since, .. }) = stopped else { return };
        // It has heard nothing for long: that its peers have said something meanwhile it may notice first, or not.
        let gives_up = now - since > PEER_LOST && self.random.bool();
        for other in self.links.ends().into_iter().filter(|_| gives_up) {
            self.give_up(end, other);
        }
        let parcels = match end {
            End::Node(at) => std::mem::take(&mut self.nodes[at].inbox),
            End::Host(at) => {
                let host = &mut self.hosts[at];
                let told = std::mem::take(&mut host.ring);
                told.into_iter().for_each(|event| host.tell(event, now));
                std::mem::take(&mut host.inbox)
            }
        };
        if self.random.bool() {
            self.tick(end);
        }
        parcels.into_iter().for_each(|parcel| self.read(parcel));
        self.tick(end);
    }

    /// Lets everything happen until this time.
    pub(super) fn run_until(&mut self, end: Nanos) {
        while self.record.wrong.is_none() {
            let arrival = self.queue.next();
            let nodes = self.nodes.iter().enumerate();
            let nodes = nodes
                .filter(|(_, n)| n.stopped.is_none())
                .filter_map(|(at, n)| Some((n.due?, End::Node(at))));
            let hosts = self.hosts.iter().enumerate();
            let hosts = hosts
                .filter(|(_, h)| h.stopped.is_none())
                .filter_map(|(at, h)| Some((h.due?, End::Host(at))));
            let timer = nodes.chain(hosts).min();
            let at = arrival.into_iter().chain(timer.map(|(at, _)| at)).min().unwrap_or(end);
            if at >= end {
                self.now = end;
                return self.look();
            }
            self.now = self.now.max(at);
            match timer {
                Some((due, process)) if due <= at => self.tick(process),
                _ => {
                    if let Some(what) = self.queue.pop() {
                        self.happen(what);
                    }
                }
            }
            self.look();
        }
    }

    pub(super) fn happen(&mut self, what: Happens) {
        match what {
            Happens::Arrives(parcel) => self.arrive(parcel),
            Happens::Pulse => {
                self.pulse();
                self.put(self.now + PULSE, Happens::Pulse);
            }
            Happens::Clients => {
                self.clients();
                self.put(self.now + CLIENTS, Happens::Clients);
            }
            Happens::Mends { from, to } => {
                self.links.mend(from, to).into_iter().for_each(|parcel| self.arrive(parcel));
            }
            Happens::GoesOn(end) => self.go_on(end),
            Happens::Begins(end) => self.begin(end),
            Happens::Looked { host, run, scope } => {
                let picture = self.hosts[host].kernel.picture(scope);
                if self.hosts[host].agent.as_ref().is_some_and(|agent| agent.run == run) {
                    self.tell_host(host, vec![AgentEvent::Seen(scope, picture)]);
                }
            }
            Happens::Answers { host, run, transfer } => self.answers(host, run, transfer),
            Happens::Handed { host, from, connection, token } => self.handed(host, from, connection, token),
            Happens::SilentHosts => self.tell_silent_hosts(),
            Happens::HostBack(host) => {
                self.hosts[host].is_dead = false;
                self.begin(End::Host(host));
                self.tell_silent_hosts();
            }
        }
    }

    pub(super) fn runs(&self, end: End) -> bool {
        match end {
            End::Node(at) => self.nodes[at].runs(),
            End::Host(at) => self.hosts[at].runs(),
        }
    }

    /// From here on nothing goes wrong: all run, all links carry.
    pub(super) fn heal(&mut self) {
        self.note("all goes well from here on".to_owned());
        self.calm = true;
        self.links.slow.clear();
        for end in self.links.ends() {
            for other in self.links.ends() {
                while self.links.is_cut(other, end) {
                    self.links.mend(other, end).into_iter().for_each(|parcel| self.arrive(parcel));
                }
            }
        }
        for host in 0..self.hosts.len() {
            self.hosts[host].is_dead = false;
        }
        for end in self.links.ends() {
            let stopped = match end {
                End::Node(at) => &mut self.nodes[at].stopped,
                End::Host(at) => &mut self.hosts[at].stopped,
            };
            if let Some(stopped) = stopped {
                stopped.until = self.now;
            }
            self.go_on(end);
            self.begin(end);
        }
        self.tell_silent_hosts();
    }

    /// The targets of a service by the truth.
    pub(super) fn listening(&self, port: u16) -> Vec<StackName> {
        let such = self.hosts[..TARGETS].iter().filter(|host| host.kernel.listens(port));
        such.map(|host| host.name.clone()).collect()
    }
}
