//! The processes, the network between them, and what disturbs both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use histories::{Clock, Nanos, Queue, ms};
use model::ownership::{Ask, FromWitness, ToWitness};
use model::{Dvipa, Epoch};

use super::checks::Record;
use super::etcd::Etcd;
use super::process::{Host, Mail, Node, node_name, witness_name};
use super::{Fault, Judge, Settings};
use crate::etcd::{Answer, News, Question};
use crate::lease::DRIFT;
use crate::{Action, Deed};

mod questions;

/// What arrives, or happens, at a time.
#[derive(Clone, Debug)]
enum Arrival {
    ToWitness {
        from: usize,
        to: usize,
        message: ToWitness,
    },
    FromWitness {
        from: usize,
        to: usize,
        message: FromWitness,
    },
    ToEtcd {
        from: usize,
        run: u64,
        ask: Ask,
        question: Question,
    },
    /// `None`: to each run.
    FromEtcd {
        to: usize,
        run: Option<u64>,
        news: News,
    },
    Packet {
        from: usize,
        target: usize,
        dvipa: Dvipa,
        epoch: Epoch,
    },
    /// A node's workers forward something to each target.
    Forward,
    Disturbance,
    /// A process that was stopped goes on, or one that was killed begins anew.
    Rises(Process),
    /// The link begins to take messages again.
    Mends(Link),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Process {
    Node(usize),
    Witness(usize),
    Etcd,
}

/// From one to the other.
type Link = (Process, Process);

/// All of a history.
pub(super) struct World {
    pub(super) settings: Settings,
    rng: Rng,
    pub(super) now: Nanos,
    pub(super) nodes: Vec<Node>,
    pub(super) hosts: Vec<Host>,
    etcd: Option<Etcd>,
    /// The clocks of its members.
    members: Vec<Clock>,
    pub(super) dvipas: Vec<Dvipa>,
    /// The highest epoch of a packet that each target has taken.
    fences: BTreeMap<(usize, Dvipa), Epoch>,
    queue: Queue<Arrival>,
    cut: BTreeSet<Link>,
    runs: u64,
    /// Nothing goes wrong any more.
    calm: bool,
    pub(super) record: Record,
}

impl World {
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let nodes = (0..settings.nodes).map(|_| Node::new(Clock::draw(&mut rng, DRIFT))).collect();
        let hosts = (0..settings.witnesses).map(|_| Host::new(Clock::draw(&mut rng, DRIFT))).collect();
        let etcd = (settings.judge == Judge::Etcd).then(|| Etcd::new(settings.fault));
        let members = (0..3).map(|_| Clock::draw(&mut rng, DRIFT)).collect();
        let dvipas = (0..settings.dvipas).map(|n| format!("198.18.9.{}", n + 1));
        let dvipas = dvipas.map(|text| Dvipa::new(text.parse().expect("an address"))).collect();
        let mut world = Self {
            settings,
            rng,
            now: 0,
            nodes,
            hosts,
            etcd,
            members,
            dvipas,
            fences: BTreeMap::new(),
            queue: Queue::default(),
            cut: BTreeSet::new(),
            runs: 0,
            calm: false,
            record: Record::default(),
        };
        for process in world.processes() {
            world.rise(process);
        }
        world.put(ms(1), Arrival::Forward);
        world.put(ms(1), Arrival::Disturbance);
        world
    }

    fn processes(&self) -> Vec<Process> {
        let nodes = (0..self.nodes.len()).map(Process::Node);
        let witnesses = (0..self.hosts.len()).map(Process::Witness);
        nodes.chain(witnesses).chain(self.etcd.iter().map(|_| Process::Etcd)).collect()
    }

    fn put(&mut self, at: Nanos, what: Arrival) {
        self.queue.put(at, what);
    }

    /// Lets everything happen until this time.
    pub(super) fn run_until(&mut self, end: Nanos) {
        while self.record.wrong.is_none() {
            let arrival = self.queue.next();
            let nodes = self.nodes.iter().map(Node::deadline).enumerate();
            let nodes = nodes.filter_map(|(place, at)| Some((at?, Process::Node(place))));
            let hosts = self.hosts.iter().map(Host::deadline).enumerate();
            let hosts = hosts.filter_map(|(place, at)| Some((at?, Process::Witness(place))));
            let etcd = self.etcd.as_ref().and_then(|etcd| Some((etcd.deadline()?, Process::Etcd)));
            let timer = nodes.chain(hosts).chain(etcd).min();
            let at = arrival.into_iter().chain(timer.map(|(at, _)| at)).min().unwrap_or(end);
            if at >= end {
                self.now = end;
                return self.record.look(&self.nodes, &self.dvipas, end);
            }
            self.now = self.now.max(at);
            match timer {
                Some((due, process)) if due <= at => self.tick(process),
                _ => {
                    if let Some(what) = self.queue.pop() {
                        self.arrive(what);
                    }
                }
            }
            self.record.look(&self.nodes, &self.dvipas, self.now);
        }
    }

    fn arrive(&mut self, what: Arrival) {
        match what {
            Arrival::ToWitness { from, to, message } => {
                if !self.cut.contains(&(Process::Node(from), Process::Witness(to))) {
                    self.hosts[to].inbox.push_back((from, message));
                    self.read_host(to);
                }
            }
            Arrival::FromWitness { from, to, message } => {
                if !self.cut.contains(&(Process::Witness(from), Process::Node(to))) {
                    self.nodes[to].inbox.push_back(Mail::Witness(from, message));
                    self.read_node(to);
                }
            }
            Arrival::ToEtcd { from, run, ask, question } => {
                if !self.cut.contains(&(Process::Node(from), Process::Etcd)) {
                    self.answer(from, run, ask, &question);
                }
            }
            Arrival::FromEtcd { to, run, news } => {
                let is_answer = !matches!(news, News::Answer { answer: Answer::Failed, .. });
                let is_cut = is_answer && self.cut.contains(&(Process::Etcd, Process::Node(to)));
                if !is_cut && run.is_none_or(|run| run == self.nodes[to].run) {
                    self.nodes[to].inbox.push_back(Mail::Etcd(news));
                    self.read_node(to);
                }
            }
            Arrival::Packet { from, target, dvipa, epoch } => self.packet(from, target, dvipa, epoch),
            Arrival::Forward => self.forward(),
            Arrival::Disturbance if self.calm => {}
            Arrival::Disturbance => self.disturb(),
            Arrival::Rises(process) => self.rise(process),
            Arrival::Mends(link) => drop(self.cut.remove(&link)),
        }
    }

    fn tick(&mut self, process: Process) {
        match process {
            Process::Node(place) => {
                let node = &mut self.nodes[place];
                let local = node.clock.at(self.now);
                if let Some(tenures) = &mut node.tenures {
                    tenures.tick(local);
                }
                self.act(place);
            }
            Process::Witness(place) => {
                let host = &mut self.hosts[place];
                let local = host.clock.at(self.now);
                if let Some(witness) = &mut host.witness {
                    witness.tick(local);
                }
                self.do_deeds(place);
            }
            Process::Etcd => {
                let freed = self.etcd.as_mut().map_or_else(Vec::new, |etcd| etcd.expire(self.now));
                self.tell_freed(freed);
            }
        }
    }

    /// The node reads what has arrived, if it runs.
    fn read_node(&mut self, place: usize) {
        let counts_from_answer = self.settings.fault == Some(Fault::CountsFromAnswer);
        while self.nodes[place].stopped.is_none()
            && let Some(mail) = self.nodes[place].inbox.pop_front()
        {
            let node = &mut self.nodes[place];
            let local = node.clock.at(self.now);
            let Some(tenures) = &mut node.tenures else { continue };
            if counts_from_answer {
                tenures.asked_now(local);
            }
            match mail {
                Mail::Witness(from, message) => tenures.heard(&witness_name(from), message, local),
                Mail::Etcd(news) => tenures.told(news, local),
            }
            self.act(place);
        }
    }

    fn read_host(&mut self, place: usize) {
        while self.hosts[place].stopped.is_none()
            && let Some((from, message)) = self.hosts[place].inbox.pop_front()
        {
            let host = &mut self.hosts[place];
            let local = host.clock.at(self.now);
            let Some(witness) = &mut host.witness else { continue };
            witness.heard(&node_name(from), message, local);
            self.do_deeds(place);
        }
    }

    /// Does what a node wants done.
    fn act(&mut self, place: usize) {
        loop {
            let node = &mut self.nodes[place];
            let Some(tenures) = &mut node.tenures else { return };
            let action = tenures.poll();
            node.worker.fence = tenures.fence();
            match action {
                None => return,
                Some(Action::Keep { epoch }) => node.keep(epoch),
                Some(Action::Gained { dvipa, epoch }) => {
                    let epoch = match self.settings.fault {
                        Some(Fault::EpochFromClock) => {
                            let clock = node.clock.at(self.now).duration_since(Clock::beginning());
                            Epoch(u64::try_from(clock.as_millis()).expect("a history is short"))
                        }
                        _ => epoch,
                    };
                    node.worker.owned.insert(dvipa, epoch);
                    if self.settings.fault == Some(Fault::NoFence) {
                        node.worker.fence_is_void = true;
                    }
                    self.record.gained(place, dvipa, epoch);
                }
                Some(Action::Lost { dvipa, .. }) => drop(node.worker.owned.remove(&dvipa)),
                Some(Action::Send { to, message }) => {
                    let to = (0..self.hosts.len()).find(|w| witness_name(*w) == to).expect("a witness");
                    for delay in self.ways() {
                        let message = message.clone();
                        self.put(self.now + delay, Arrival::ToWitness { from: place, to, message });
                    }
                }
                Some(Action::Ask { ask, question }) => self.ask(place, ask, &question),
            }
            self.perhaps_kill(Process::Node(place));
        }
    }

    fn do_deeds(&mut self, place: usize) {
        while let Some(deed) = self.hosts[place].witness.as_mut().and_then(|witness| witness.poll()) {
            match deed {
                Deed::Keep(kept) => self.hosts[place].keep(kept),
                Deed::Send { to, message } => {
                    let to = (0..self.nodes.len()).find(|n| node_name(*n) == to).expect("a node");
                    for delay in self.ways() {
                        let message = message.clone();
                        self.put(self.now + delay, Arrival::FromWitness { from: place, to, message });
                    }
                }
            }
            self.perhaps_kill(Process::Witness(place));
        }
    }

    /// Now and then a process dies between two of its deeds.
    fn perhaps_kill(&mut self, process: Process) {
        if !self.calm && self.rng.u16(..) < 20 {
            self.kill(process);
        }
    }

    /// How long each copy of a message is under way; none: it is lost.
    fn ways(&mut self) -> Vec<Nanos> {
        let slow = self.settings.slow;
        let delay = |rng: &mut Rng| match rng.u8(..) {
            0..4 if !self.calm => ms(rng.u64(100..3000)) * slow,
            4..20 if !self.calm => ms(rng.u64(5..200)),
            _ => rng.u64(ms(1) / 10..ms(3)),
        };
        let copies = match self.rng.u8(..) {
            0..16 if !self.calm => 0,
            16..24 if !self.calm => 2,
            _ => 1,
        };
        (0..copies).map(|_| delay(&mut self.rng)).collect()
    }

    /// Every worker that takes itself for an owner's forwards a packet to each target.
    fn forward(&mut self) {
        for place in 0..self.nodes.len() {
            let node = &self.nodes[place];
            if node.stopped.is_some() || node.tenures.is_none() {
                continue;
            }
            let local = node.clock.at(self.now);
            let owned = self.dvipas.iter().filter_map(|d| Some((*d, node.worker.forwards(*d, local)?)));
            for (dvipa, epoch) in owned.collect::<Vec<_>>() {
                for target in 0..self.settings.targets {
                    let delay = if self.rng.u8(..) < 8 { ms(self.rng.u64(1..2000)) } else { ms(1) };
                    self.put(self.now + delay, Arrival::Packet { from: place, target, dvipa, epoch });
                }
            }
        }
        let next = self.now + ms(self.rng.u64(10..100));
        self.put(next, Arrival::Forward);
    }

    /// A target takes packets of the highest epoch that it has seen.
    fn packet(&mut self, from: usize, target: usize, dvipa: Dvipa, epoch: Epoch) {
        let highest = self.fences.entry((target, dvipa)).or_default();
        if epoch >= *highest || self.settings.fault == Some(Fault::TargetsTakeAll) {
            *highest = epoch.max(*highest);
            self.record.accepted(target, dvipa, epoch, from);
        }
    }

    fn disturb(&mut self) {
        let processes = self.processes();
        let victim = processes[self.rng.usize(..processes.len())];
        let long = ms(self.rng.u64(1..1500)) * self.settings.slow;
        match self.rng.u8(0..10) {
            0 => self.kill(victim),
            1 | 2 => self.stop(victim, long),
            3 => self.isolate(victim, long),
            4 => self.cut_one_way(long),
            5 if self.etcd.is_some() => self.rise(Process::Etcd),
            _ => self.operate(),
        }
        let next = self.now + ms(self.rng.u64(1..300)) * self.settings.slow;
        self.put(next, Arrival::Disturbance);
    }

    fn kill(&mut self, process: Process) {
        match process {
            Process::Node(place) => self.nodes[place].kill(),
            Process::Witness(place) => self.hosts[place].kill(),
            Process::Etcd => {
                if let Some(etcd) = &mut self.etcd {
                    etcd.fall_silent();
                }
            }
        }
        let back = self.now + ms(self.rng.u64(0..1200)) * self.settings.slow;
        self.put(back, Arrival::Rises(process));
    }

    fn stop(&mut self, process: Process, long: Nanos) {
        let until = Some(self.now + long);
        match process {
            Process::Node(place) => self.nodes[place].stopped = until,
            Process::Witness(place) => self.hosts[place].stopped = until,
            // Another member leads meanwhile, and what stops is the former leader.
            Process::Etcd => self.rise(process),
        }
        self.put(self.now + long, Arrival::Rises(process));
    }

    /// One process hears none, and none hears it, or one of both.
    fn isolate(&mut self, process: Process, long: Nanos) {
        let (hears, is_heard) = [(false, false), (true, false), (false, true)][self.rng.usize(..3)];
        for other in self.processes() {
            if !hears {
                self.cut_link((other, process), long);
            }
            if !is_heard {
                self.cut_link((process, other), long);
            }
        }
    }

    fn cut_one_way(&mut self, long: Nanos) {
        let node = Process::Node(self.rng.usize(..self.nodes.len()));
        let witness = match self.etcd {
            Some(_) => Process::Etcd,
            None => Process::Witness(self.rng.usize(..self.hosts.len())),
        };
        let link = if self.rng.bool() { (node, witness) } else { (witness, node) };
        self.cut_link(link, long);
    }

    fn cut_link(&mut self, link: Link, long: Nanos) {
        self.cut.insert(link);
        self.put(self.now + long, Arrival::Mends(link));
    }

    /// An operator, or a rank, has a node want a DVIPA or not want it any more; sessions begin anew too.
    fn operate(&mut self) {
        let place = self.rng.usize(..self.nodes.len());
        let dvipa = self.dvipas[self.rng.usize(..self.dvipas.len())];
        match self.rng.u8(0..4) {
            0 => self.want(place, dvipa, false),
            1 => {
                let others = (0..self.nodes.len()).filter(|other| *other != place);
                for other in others.collect::<Vec<_>>() {
                    self.want(other, dvipa, false);
                }
                self.want(place, dvipa, true);
            }
            2 => self.want(place, dvipa, true),
            _ => self.renew_session(place),
        }
    }

    fn renew_session(&mut self, place: usize) {
        if self.hosts.is_empty() {
            return;
        }
        let witness = witness_name(self.rng.usize(..self.hosts.len()));
        let node = &mut self.nodes[place];
        let local = node.clock.at(self.now);
        if let Some(tenures) = node.tenures.as_mut().filter(|_| node.stopped.is_none()) {
            tenures.session(&witness, false, local);
            tenures.session(&witness, true, local);
        }
        self.act(place);
    }

    /// The node wants the DVIPA from now on, or does not; one that is stopped learns it when it goes on.
    pub(super) fn want(&mut self, place: usize, dvipa: Dvipa, wanted: bool) {
        let node = &mut self.nodes[place];
        if wanted {
            node.wants.insert(dvipa);
        } else {
            node.wants.remove(&dvipa);
        }
        if node.stopped.is_none() {
            self.tell_wishes(place);
        }
    }

    fn tell_wishes(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        let local = node.clock.at(self.now);
        if let Some(tenures) = &mut node.tenures {
            for dvipa in &self.dvipas {
                tenures.want(*dvipa, node.wants.contains(dvipa), local);
            }
        }
        self.act(place);
    }

    fn rise(&mut self, process: Process) {
        let now = self.now;
        match process {
            Process::Node(place) => {
                let node = &mut self.nodes[place];
                node.stopped = node.stopped.filter(|until| *until > now);
                if node.tenures.is_none() {
                    self.runs += 1;
                    node.start(&self.settings, self.runs, now);
                    self.act(place);
                } else if node.stopped.is_none() {
                    // What is done first when it goes on.
                    if self.rng.bool() {
                        self.tell_wishes(place);
                        self.read_node(place);
                    } else {
                        self.read_node(place);
                        self.tell_wishes(place);
                    }
                }
            }
            Process::Witness(place) => {
                let host = &mut self.hosts[place];
                host.stopped = host.stopped.filter(|until| *until > now);
                if host.witness.is_none() {
                    host.start(&self.settings, now);
                }
                self.read_host(place);
            }
            Process::Etcd => {
                if !self.calm {
                    self.elect();
                }
            }
        }
    }

    /// From here on nothing goes wrong: all run, all links carry.
    pub(super) fn heal(&mut self) {
        self.calm = true;
        self.cut.clear();
        for process in self.processes() {
            match process {
                Process::Node(place) => self.nodes[place].stopped = None,
                Process::Witness(place) => self.hosts[place].stopped = None,
                Process::Etcd => {
                    self.heal_etcd();
                    continue;
                }
            }
            self.rise(process);
        }
    }

    /// Who forwards this DVIPA as its owner.
    pub(super) fn owner(&self, dvipa: Dvipa) -> Option<usize> {
        let forwards = |node: &Node| node.worker.forwards(dvipa, node.clock.at(self.now)).is_some();
        self.nodes.iter().position(forwards)
    }

    pub(super) fn lease(&self) -> Nanos {
        nanos(self.settings.lease)
    }
}

pub(super) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).expect("a history is short")
}
