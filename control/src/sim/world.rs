//! The cluster and its clock.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use model::Dvipa;
use model::message::{FromStack, ToStack};

use super::history::Step;
use super::network::{Link, Notice, SessionId, To};
use super::node::{Node, service, settings_config};
use super::settings::{DVIPAS, NODES, PORTS, Settings, TARGETS};
use super::target::Target;
use crate::machine::fixture::name;
use crate::machine::{Action, Event, Scope};

/// How long an end waits for a silent peer.
const LOST_AFTER_MS: u64 = 1500;
/// How often a target without a session dials.
const DIAL_MS: u64 = 100;
/// How long after the last fault the tables must be right.
const RECOVERY_MS: u64 = 6_000;

/// Everything.
pub(super) struct World {
    start: Instant,
    now_ms: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) targets: Vec<Target>,
    links: Vec<Vec<Link>>,
    last_session: SessionId,
    drained: BTreeSet<(usize, usize)>,
}

impl World {
    pub(super) fn new() -> Self {
        let start = Instant::now();
        let mut world = Self {
            start,
            now_ms: 0,
            nodes: (0..NODES).map(|node| Node::new(node, Settings::Listed, 1, start)).collect(),
            targets: (0..TARGETS).map(Target::new).collect(),
            links: (0..NODES).map(|_| (0..TARGETS).map(|_| Link::default()).collect()).collect(),
            last_session: 0,
            drained: BTreeSet::new(),
        };
        for node in 0..NODES {
            world.act(node).expect("a new node");
        }
        world
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    /// Does one step of a history.
    pub(super) fn step(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Wait { ms } => return self.run_until(self.now_ms + ms),
            Step::Listen { target, port, bound_to_dvipa } => {
                let told = self.targets[target].listener(port, Some(bound_to_dvipa));
                self.tell(target, told);
            }
            Step::Stop { target, port } => {
                let told = self.targets[target].listener(port, None);
                self.tell(target, told);
            }
            Step::Connect { target, node, count } => {
                let told = self.targets[target].connect(node, count);
                self.tell(target, told);
            }
            Step::Disconnect { target, count } => {
                let told = self.targets[target].disconnect(count);
                self.tell(target, told);
            }
            Step::Load { target, cpu_permille } => {
                let told = self.targets[target].load(cpu_permille);
                self.tell(target, told);
            }
            Step::Break { node, target } => {
                self.drop_at_target(node, target);
                return self.drop_at_node(node, target);
            }
            Step::BreakUnnoticed { node, target } => self.drop_at_target(node, target),
            Step::Partition { node, target } => self.links[node][target].partitioned = true,
            Step::Heal { node, target } => self.links[node][target].partitioned = false,
            Step::Slow { target, ms } => self.targets[target].delay_ms = ms,
            Step::CrashNode { node } => self.crash_node(node)?,
            Step::CrashAgent { target } => self.crash_agent(target),
            Step::CrashHost { target } => {
                self.crash_agent(target);
                self.targets[target].listeners.clear();
                self.targets[target].connections.clear();
            }
            Step::Drain { node, target } => {
                self.drained.insert((node, target));
                self.nodes[node].watch.drain(target, true);
                let stack = name(&self.targets[target].name);
                // A stack that is neither known nor named can't be drained.
                if self.handle(node, Event::Drain { stack, scope: Scope::All })?.is_err() {
                    self.drained.remove(&(node, target));
                    self.nodes[node].watch.drain(target, false);
                }
            }
            Step::Resume { node, target } => {
                self.drained.remove(&(node, target));
                self.nodes[node].watch.drain(target, false);
                let stack = name(&self.targets[target].name);
                let _ = self.handle(node, Event::Resume { stack, scope: Scope::All })?;
            }
            Step::Reload { node, settings } => {
                self.nodes[node].settings = settings;
                let config = settings_config(node, settings);
                if let Err(refusal) = self.handle(node, Event::Configure(Box::new(config)))? {
                    return Err(format!("a good configuration was refused: {refusal}"));
                }
            }
            Step::SetWeight { node, target, port, weight, seconds } => {
                let service = service(node, port);
                let weights = vec![(name(&self.targets[target].name), weight)];
                let ttl = Duration::from_secs(seconds);
                let _ = self.handle(node, Event::SetWeights { service, weights, ttl })?;
            }
            Step::SayOldEpoch { node, target, port } => {
                if let Some(message) = self.targets[target].old_epoch(node, port) {
                    self.tell(target, vec![(node, message)]);
                }
            }
            Step::BreakAPromise => return Err("a promise was broken".to_owned()),
        }
        Ok(())
    }

    /// The faults end; after some time everything must be right.
    pub(super) fn recover(&mut self) -> Result<(), String> {
        for link in self.links.iter_mut().flatten() {
            link.partitioned = false;
        }
        for target in &mut self.targets {
            target.delay_ms = 1;
        }
        // Weights that a controller set have expired by then.
        self.run_until(self.now_ms + RECOVERY_MS.max(31_000))?;
        for node in 0..NODES {
            self.tables_are_true(node)?;
        }
        Ok(())
    }

    /// Is the DPT what the applications do, and the CRT what the connections are?
    fn tables_are_true(&self, at: usize) -> Result<(), String> {
        let node = &self.nodes[at];
        for port in PORTS {
            let wanted: Vec<&str> = (0..TARGETS)
                .filter(|target| !self.drained.contains(&(at, *target)))
                .filter(|target| {
                    let bound = self.targets[*target].listeners.get(&port);
                    bound.is_some_and(|bound| node.settings.distributes(*target, port, *bound))
                })
                .map(|target| self.targets[target].name.as_str())
                .collect();
            let mut have = node.watch.selectable(&node.machine, service(at, port));
            have.sort();
            if have != wanted {
                return Err(format!(
                    "rt{}: port {port} is served by {wanted:?}, and the DPT has {have:?}",
                    at + 1
                ));
            }
        }
        if !node.settings.owned() {
            return Ok(());
        }
        let dvipa = Dvipa::new(DVIPAS[at].parse().unwrap());
        for target in &self.targets {
            let index = node.machine.stack_index(&name(&target.name));
            let said = target.lists[at].as_ref().is_some_and(|list| {
                list.dvipas
                    .iter()
                    .flat_map(|d| &d.distributions)
                    .any(|d| d.candidates.is_empty() || d.candidates.contains(&target.name))
            });
            let real = target.connections.iter().filter(|c| said && c.service().dvipa == dvipa).count();
            let known = index.map_or(0, |index| node.crt.count(index));
            if real != known {
                return Err(format!(
                    "rt{}: {} has {real} connections, and the CRT {known}",
                    at + 1,
                    target.name
                ));
            }
        }
        Ok(())
    }

    /// Time passes.
    fn run_until(&mut self, until_ms: u64) -> Result<(), String> {
        loop {
            let arrival = self.next_arrival();
            let dial = self.next_dial();
            let timer = self.next_timer();
            let next =
                [arrival.map(|a| a.0), dial.map(|d| d.0), timer.map(|t| t.0)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until_ms) else {
                self.now_ms = until_ms;
                return Ok(());
            };
            self.now_ms = self.now_ms.max(next);
            if let Some((_, node, target, to)) = arrival.filter(|a| a.0 == next) {
                self.arrive(node, target, to)?;
            } else if let Some((_, node, target)) = dial.filter(|d| d.0 == next) {
                self.dial(node, target);
            } else if let Some((_, node)) = timer {
                let now = self.now();
                self.nodes[node].machine.tick(now);
                self.act(node)?;
            }
        }
    }

    fn next_arrival(&self) -> Option<(u64, usize, usize, To)> {
        let all = self.pairs().filter_map(|(node, target)| {
            let (at, to) = self.links[node][target].next_ms()?;
            Some((at, node, target, to))
        });
        all.min_by_key(|(at, ..)| *at)
    }

    fn next_dial(&self) -> Option<(u64, usize, usize)> {
        let without = self.pairs().filter(|(node, target)| self.links[*node][*target].at_target.is_none());
        without.map(|(node, target)| (self.links[node][target].next_dial_ms, node, target)).min()
    }

    fn next_timer(&self) -> Option<(u64, usize)> {
        let all = self.nodes.iter().enumerate().filter_map(|(i, node)| {
            let due = node.machine.next_deadline()?.saturating_duration_since(self.start);
            Some((u64::try_from(due.as_millis()).ok()?, i))
        });
        all.min()
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        (0..NODES).flat_map(|node| (0..TARGETS).map(move |target| (node, target)))
    }

    /// Something arrives at one end of a link.
    fn arrive(&mut self, node: usize, target: usize, to: To) -> Result<(), String> {
        let Some(notice) = self.links[node][target].receive(to) else {
            self.time_out(node, target);
            return Ok(());
        };
        let stack = name(&self.targets[target].name);
        match (to, notice) {
            (_, Notice::Up(session, hello)) => {
                self.links[node][target].at_node = Some(session);
                self.nodes[node].watch.session(target, true);
                let _ = self.handle(node, Event::SessionUp { stack, hello: *hello })?;
            }
            (To::Node, Notice::Down(_)) => self.drop_at_node(node, target)?,
            (_, Notice::Said(_, message)) => {
                let Node { watch, machine, .. } = &mut self.nodes[node];
                watch.heard(target, &message, machine);
                let outcome = self.handle(node, Event::Message { from: stack, message: *message })?;
                if let Err(refusal) = outcome
                    && refusal.contains("that it did not begin")
                {
                    return Err(format!("rt{} and a target count differently: {refusal}", node + 1));
                }
            }
            (_, Notice::Told(_, message)) => match *message {
                ToStack::VipaList(list) => {
                    let answers = self.targets[target].list(node, list);
                    self.tell(target, answers.into_iter().map(|answer| (node, answer)).collect());
                }
                ToStack::Heard(heard) => self.targets[target].heard(node, heard.number),
                _ => {}
            },
            (To::Target, Notice::Down(_)) => self.drop_at_target(node, target),
        }
        Ok(())
    }

    /// A target dials a routing node and greets.
    fn dial(&mut self, node: usize, target: usize) {
        self.links[node][target].next_dial_ms = self.now_ms + DIAL_MS;
        if self.links[node][target].partitioned {
            return;
        }
        self.last_session += 1;
        let session = self.last_session;
        let link = &mut self.links[node][target];
        link.at_target = Some(session);
        let at = self.now_ms + self.targets[target].delay_ms;
        link.send(To::Node, at, Notice::Up(session, Box::new(self.targets[target].hello())));
    }

    /// A target says something to routing nodes, where it has a session.
    fn tell(&mut self, target: usize, messages: Vec<(usize, FromStack)>) {
        let at = self.now_ms + self.targets[target].delay_ms;
        for (node, message) in messages {
            let link = &mut self.links[node][target];
            let Some(session) = link.at_target else { continue };
            if link.partitioned {
                link.dead = Some(session);
                self.time_out(node, target);
                continue;
            }
            link.send(To::Node, at, Notice::Said(session, Box::new(message)));
        }
    }

    /// The session of a pair lost something: both ends notice after a while.
    fn time_out(&mut self, node: usize, target: usize) {
        let link = &mut self.links[node][target];
        let Some(session) = link.dead else { return };
        if link.at_node == Some(session) {
            link.send(To::Node, self.now_ms + LOST_AFTER_MS, Notice::Down(session));
        }
        if link.at_target == Some(session) {
            link.send(To::Target, self.now_ms + LOST_AFTER_MS + 7, Notice::Down(session));
        }
    }

    fn drop_at_target(&mut self, node: usize, target: usize) {
        self.links[node][target].cut(To::Target);
        self.links[node][target].next_dial_ms = self.now_ms + DIAL_MS;
        self.targets[target].apart(node);
    }

    fn drop_at_node(&mut self, node: usize, target: usize) -> Result<(), String> {
        if self.links[node][target].at_node.take().is_some() {
            self.nodes[node].watch.session(target, false);
            let _ = self.handle(node, Event::SessionDown { stack: name(&self.targets[target].name) })?;
        }
        Ok(())
    }

    fn crash_agent(&mut self, target: usize) {
        self.targets[target].restart();
        for node in 0..NODES {
            // A kernel that closes its sockets tells the peer; a crashed one does not, and the peer finds out.
            if let Some(session) = self.links[node][target].at_target {
                self.links[node][target].send(To::Node, self.now_ms + LOST_AFTER_MS, Notice::Down(session));
            }
            self.drop_at_target(node, target);
        }
    }

    fn crash_node(&mut self, at: usize) -> Result<(), String> {
        let now = self.now();
        self.nodes[at].succeed(at, now);
        for target in 0..TARGETS {
            self.drained.remove(&(at, target));
            self.links[at][target].cut(To::Node);
            if let Some(session) = self.links[at][target].at_target {
                self.links[at][target].send(To::Target, self.now_ms + LOST_AFTER_MS, Notice::Down(session));
            }
        }
        self.act(at)
    }

    /// Gives an event to a machine and does what it wants done.
    fn handle(&mut self, node: usize, event: Event) -> Result<Result<(), String>, String> {
        let now = self.now();
        let outcome = self.nodes[node].machine.handle(event, now).map_err(|refusal| refusal.to_string());
        self.act(node)?;
        Ok(outcome)
    }

    fn act(&mut self, at: usize) -> Result<(), String> {
        let now = self.now();
        while let Some(action) = self.nodes[at].machine.poll() {
            let node = &mut self.nodes[at];
            node.watch.action(&action, &node.machine).map_err(|wrong| format!("rt{}: {wrong}", at + 1))?;
            match action {
                Action::Send { to, message } => {
                    let Some(target) = self.targets.iter().position(|t| t.name == to.as_str()) else {
                        continue;
                    };
                    let due = self.now_ms + self.targets[target].delay_ms;
                    let link = &mut self.links[at][target];
                    let Some(session) = link.at_node else { continue };
                    if link.partitioned {
                        link.dead = Some(session);
                        self.time_out(at, target);
                    } else {
                        link.send(To::Target, due, Notice::Told(session, Box::new(message)));
                    }
                }
                Action::Newconn { owner, first, last, connections, .. } => {
                    node.crt.newconn(owner, first, last, connections);
                }
                Action::Termconn { owner, connections } => node.crt.termconn(owner, &connections),
                Action::Publish(_)
                | Action::Announce { .. }
                | Action::Looked { .. }
                | Action::Loaded { .. }
                | Action::Route { .. }
                | Action::Freeze { .. }
                | Action::Thaw { .. }
                | Action::HandOver { .. }
                | Action::End { .. }
                | Action::Stay { .. }
                | Action::Choose { .. }
                | Action::List { .. }
                | Action::Count { .. }
                | Action::CountStacks { .. }
                | Action::Tell { .. }
                | Action::AskEtcd { .. }
                | Action::Retire { .. }
                | Action::Tokens { .. }
                | Action::Declined { .. }
                | Action::Note(_)
                | Action::Report { .. } => {}
            }
        }
        let node = &mut self.nodes[at];
        node.watch.settled(&node.machine, now).map_err(|wrong| format!("rt{}: {wrong}", at + 1))
    }
}
