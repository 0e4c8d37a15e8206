//! Hosts, the routing node, clients, and everything that can happen next.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use model::transfer::{FromHost, ToHost, ToSource, TransferId};
use model::{Connection, Epoch, StackName};

use super::hands::flow_of;
use super::host::{Host, request};
use super::kernel::{Fate, Packet, Socket};
use super::node::{CrtEntry, Forwarded, Handoff, Node, option_of};
use super::process::{Application, Noted};
use super::{Fault, Settings};
use crate::Owner;
use crate::fixture::{dvipa, numbered, stack};
use crate::giving::Event;
use crate::routing::{self, Reach, Routing, Step, Targets};
use crate::taking::Standing;
use crate::timers::Timer;

/// A client and its stream in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Client {
    /// How many of its bytes it has sent at least once.
    pub(super) sent: u8,
    /// How many are acknowledged.
    pub(super) acknowledged: u8,
    /// How many answers it has.
    pub(super) received: u8,
}

/// A message under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mail {
    pub(super) from: StackName,
    pub(super) to: StackName,
    pub(super) said: Said,
}

/// What it says, by its direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Said {
    ToHost(ToHost),
    FromHost(FromHost),
}

/// One thing that can happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Choice {
    /// The agent does its next deed.
    Act(usize),
    /// It dies in the middle, after so many calls of its kernel.
    ActAndDie(usize, usize),
    /// The routing node does.
    NodeActs,
    /// A message arrives; a copy of it may arrive again.
    Deliver(Mail),
    /// A message arrives, or is lost, for the last time.
    Lose(Mail),
    /// A packet arrives; a copy of it may arrive again.
    Arrive(Forwarded),
    /// A packet is lost.
    Miss(Forwarded),
    /// A host's kernel makes the connection of a packet that has claimed it, or drops the packet.
    Make { host: usize, flow: usize, packet: Packet, made: bool },
    /// An agent sees that packets have claimed admissions.
    SeeClaims(usize),
    /// It learns that these packets are through.
    Through(usize),
    /// It looks again whether a server is idle.
    Look { host: usize, flow: usize },
    /// A second passes for everybody: a look's patience ends with it.
    Tick,
    /// Half of the time passes that a source may be in doubt.
    Wait,
    /// The client sends this byte (again), or an ACK.
    ClientSends { flow: usize, byte: Option<u8> },
    /// A host sends its oldest unacknowledged byte (again), or an ACK, and it arrives.
    ServerSends { flow: usize, host: usize },
    /// An application reads a byte and answers it.
    Serve { flow: usize, host: usize },
    /// An application asks for a transfer; it may give its last descriptor away.
    Ask { flow: usize, from: usize, to: usize, gives_last: bool },
    /// An operator wants a connection of a server without control socket moved.
    Order { flow: usize, from: usize, to: usize },
    /// An application asks the next agent what became of its request.
    Resume { flow: usize, host: usize },
    /// It reads its control socket.
    Receive { flow: usize, host: usize },
    /// It asks the next agent whether the connection of a silent descriptor is its own.
    Claim { flow: usize, host: usize },
    /// An application takes its request back.
    Cancel { flow: usize, host: usize },
    /// A target application answers an offer.
    Answer { host: usize, transfer: TransferId, accept: bool },
    /// It ends while it thinks about one.
    Quit { host: usize, transfer: TransferId },
    /// A timer fires, however early.
    SourceTimer(usize, Connection, Timer),
    /// A timer fires, however early.
    TargetTimer(usize, TransferId, Timer),
    /// A timer fires, however early.
    NodeTimer(TransferId, Timer),
    /// An agent's process dies.
    KillAgent(usize),
    /// The routing node's process dies.
    KillNode,
    /// A host dies.
    CrashHost(usize),
    /// It is started again.
    StartAgent(usize),
    /// It is started again.
    StartNode,
    /// A session begins (anew).
    Session(usize),
    /// A session breaks, and the routing node notices.
    Break(usize),
}

/// Everything.
#[derive(Clone, Debug, Hash)]
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) now: Instant,
    pub(super) hosts: Vec<Host>,
    pub(super) node: Option<Node>,
    epoch: Epoch,
    pub(super) clients: Vec<Client>,
    pub(super) mail: BTreeSet<Mail>,
    pub(super) packets: BTreeSet<Forwarded>,
    /// Which hosts have a session with the present routing node.
    pub(super) sessions: Vec<bool>,
    pub(super) kills: usize,
    pub(super) asks: usize,
    /// A kill has taken what may have been the only copy.
    pub(super) may_be_lost: Vec<bool>,
    /// Its source has given it up.
    pub(super) given_up: Vec<bool>,
    /// A promise that was broken.
    pub(super) wrong: Option<String>,
}

/// Which hosts have a control socket.
struct Dpt<'a>(&'a [Host]);

impl Targets for Dpt<'_> {
    fn reach(
        &self,
        _: &Connection,
        target: &StackName,
        _: Option<&str>,
    ) -> Result<Reach, model::transfer::Reason> {
        let host = self.0.iter().find(|host| host.name == *target);
        let host = host.ok_or(model::transfer::Reason::NotATarget)?;
        Ok(if host.kernel.listener { Reach::Listener } else { Reach::ControlSocket })
    }
}

fn router() -> StackName {
    stack("rt1")
}

impl World {
    /// The first host has all connections; the sessions are up.
    pub(super) fn new(settings: Settings) -> Self {
        let (flows, hosts) = (settings.flows, settings.hosts);
        let mut world = Self {
            settings,
            now: super::now(),
            hosts: (0..hosts).map(|i| Host::new(i, settings, super::now())).collect(),
            node: None,
            epoch: Epoch(0),
            clients: vec![Client::default(); flows],
            mail: BTreeSet::new(),
            packets: BTreeSet::new(),
            sessions: vec![false; hosts],
            kills: 0,
            asks: 0,
            may_be_lost: vec![false; flows],
            given_up: vec![false; flows],
            wrong: None,
        };
        for flow in 0..flows {
            let sent = u8::from(settings.unread);
            (world.clients[flow].sent, world.clients[flow].acknowledged) = (sent, sent);
            let mut socket = Socket::restored(&[sent, 0, 0, 0]).expect("four numbers");
            (socket.repair, socket.by_agent, socket.by_application) = (false, false, true);
            world.hosts[0].kernel.slots[flow].socket = Some(socket);
            world.hosts[0].kernel.applications[flow] = Some(Application::default());
        }
        world.apply(&Choice::StartNode);
        for host in 0..hosts {
            world.apply(&Choice::Session(host));
        }
        world.run_deeds();
        for mail in std::mem::take(&mut world.mail) {
            world.deliver(&mail);
        }
        world
    }

    /// Does everything that processes are about to do.
    pub(super) fn run_deeds(&mut self) {
        loop {
            let claimed = self.hosts.iter().position(|host| !host.kernel.claims.is_empty());
            let through = |host: &Host| host.kernel.process.awaits.is_some();
            if let Some((host, (flow, packet))) =
                claimed.and_then(|host| Some((host, *self.hosts[host].kernel.claims.first()?)))
            {
                self.apply(&Choice::Make { host, flow, packet, made: true });
            } else if let Some(host) = self.hosts.iter().position(|host| host.is_busy(self.now)) {
                self.apply(&Choice::Act(host));
            } else if let Some(host) = self.hosts.iter().position(through) {
                self.apply(&Choice::Through(host));
            } else if self.node.as_ref().is_some_and(|node| !node.pending.is_empty()) {
                self.apply(&Choice::NodeActs);
            } else {
                return;
            }
        }
    }

    /// Makes it happen.
    pub(super) fn apply(&mut self, choice: &Choice) {
        match *choice {
            Choice::Act(host) => self.act(host, None),
            Choice::ActAndDie(host, calls) => {
                self.act(host, Some(calls));
                self.kill_agent(host);
            }
            Choice::NodeActs => self.node_acts(),
            Choice::Deliver(ref mail) => {
                if !self.settings.copies {
                    self.mail.remove(mail);
                }
                self.deliver(mail);
            }
            Choice::Lose(ref mail) => {
                self.mail.remove(mail);
            }
            Choice::Arrive(packet) => {
                if !self.settings.copies {
                    self.packets.remove(&packet);
                }
                self.arrive(packet);
            }
            Choice::Miss(packet) => {
                self.packets.remove(&packet);
            }
            Choice::Make { host, flow, packet, made } => {
                let was = self.hosts[host].kernel.claims.remove(&(flow, packet));
                if was && made {
                    self.hosts[host].kernel.make(flow, packet);
                    self.enter(host, flow, packet);
                }
            }
            Choice::SeeClaims(host) => {
                let now = self.now;
                self.hosts[host].with(|machine, kernel| machine.look_for_claimed(kernel, now));
            }
            Choice::Through(host) => {
                let (now, host) = (self.now, &mut self.hosts[host]);
                let transfers = host.kernel.process.awaits.take().unwrap_or_default();
                host.with(|machine, kernel| machine.claims_are_through(&transfers, kernel, now));
            }
            Choice::Look { host, flow } => {
                let now = self.now;
                self.hosts[host].with(|machine, kernel| machine.look(numbered(flow), kernel, now));
            }
            Choice::Wait => self.wait(),
            Choice::Tick => self.time_passes(Duration::from_secs(1)),
            Choice::ClientSends { flow, byte } => self.client_sends(flow, byte),
            Choice::ServerSends { flow, host } => self.server_sends(flow, host),
            Choice::Serve { flow, host } => self.serve(flow, host),
            Choice::Ask { flow, from, to, gives_last } => self.ask(flow, from, to, gives_last),
            Choice::Order { flow, from, to } => self.order(flow, from, to),
            Choice::Resume { flow, host } => {
                if let Some(application) = &mut self.hosts[host].kernel.applications[flow] {
                    application.asks_again = false;
                }
                let (now, (who, request)) = (self.now, request(flow));
                self.hosts[host].with(|machine, kernel| {
                    machine.resumed(who, request, numbered(flow), kernel, now);
                });
            }
            Choice::Receive { flow, host } => self.hosts[host].kernel.receive(flow),
            Choice::Claim { flow, host } => {
                let (who, request) = request(flow);
                self.hosts[host].with(|machine, kernel| {
                    machine.claimed(who, request, numbered(flow), kernel);
                });
            }
            Choice::Cancel { flow, host } => {
                let now = self.now;
                self.hosts[host].with(|machine, _| {
                    let _ = machine.machines().0.handle(Event::Cancelled(numbered(flow)), now);
                });
            }
            Choice::Answer { host, transfer, accept } => {
                self.hosts[host].answer(transfer, Some(accept), self.now);
            }
            Choice::Quit { host, transfer } => self.hosts[host].answer(transfer, None, self.now),
            Choice::SourceTimer(host, connection, timer) => self.source_timer(host, connection, timer),
            Choice::TargetTimer(host, transfer, timer) => {
                let now = self.now;
                self.hosts[host].with(|machine, _| machine.machines().1.fire(transfer, timer, now));
            }
            Choice::NodeTimer(transfer, timer) => {
                if let Some(node) = &mut self.node {
                    node.machine.fire(transfer, timer, self.now);
                    // What was lost was lost with a session, and the next one begins.
                    if timer == Timer::Repeat {
                        node.machine.send_parts(transfer);
                    }
                }
                self.collect();
            }
            Choice::KillAgent(host) => self.kill_agent(host),
            Choice::KillNode => {
                self.kills += 1;
                self.node = None;
                self.sessions.fill(false);
                self.under_way_is_lost(&router());
            }
            Choice::CrashHost(host) => self.crash_host(host),
            Choice::StartAgent(host) => self.hosts[host].start(self.now),
            Choice::StartNode => self.start_node(),
            Choice::Session(host) => self.session(host),
            Choice::Break(host) => self.session_over(host),
        }
        if self.kills > 1 {
            self.both_died();
        }
        for host in 0..self.hosts.len() {
            for connection in self.hosts[host].rested() {
                self.tells_of(host, flow_of(&connection));
            }
        }
        self.look();
    }

    /// What must hold at every instant.
    fn look(&mut self) {
        for flow in 0..self.clients.len() {
            let owners: Vec<_> = self
                .hosts
                .iter()
                .filter(|host| host.kernel.slots[flow].owns())
                .map(|host| host.name.as_str())
                .collect();
            if owners.len() > 1 && self.wrong.is_none() {
                self.wrong = Some(format!("connection {flow} is at {}", owners.join(" and at ")));
            }
        }
        let thinking = self.hosts.iter().flat_map(Host::offers);
        let stands = thinking.filter_map(|transfer| Some((transfer, self.stands_still(transfer)?))).next();
        if let Some((transfer, place)) = stands {
            self.wrong.get_or_insert(format!("an application thinks about {transfer}, frozen at {place}"));
        }
    }

    /// Where a transfer keeps its connection from going on.
    fn stands_still(&self, transfer: TransferId) -> Option<&str> {
        let at = |host: &&Host| host.kernel.leaving.iter().any(|(note, _)| note.transfer == transfer);
        if let Some(source) = self.hosts.iter().find(at) {
            return Some(source.name.as_str());
        }
        let node = self.node.as_ref()?;
        let of_it = |(flow, entry): (usize, &Option<CrtEntry>)| {
            let under_way = node.machine.under_way(&numbered(flow))?;
            (under_way.transfer == transfer && entry.as_ref()?.frozen).then_some("the routing stack")
        };
        node.crt.iter().enumerate().find_map(of_it)
    }

    pub(super) fn node(&mut self, event: routing::Event) {
        if let Some(node) = &mut self.node {
            let _ = node.machine.handle(event, &Dpt(&self.hosts), self.now);
        }
        self.collect();
    }

    fn collect(&mut self) {
        if let Some(node) = &mut self.node {
            while let Some(action) = node.machine.poll() {
                node.pending.push_back(action);
            }
        }
    }

    fn index(&self, name: &StackName) -> usize {
        self.hosts.iter().position(|host| host.name == *name).unwrap_or(usize::MAX)
    }

    fn node_acts(&mut self) {
        let Some(action) = self.node.as_mut().and_then(|node| node.pending.pop_front()) else { return };
        let owner_of = |owner: &StackName| self.index(owner);
        match action {
            routing::Action::Send { to, message } => {
                let (owner, fault) = (owner_of(&to), self.settings.fault);
                if let (ToHost::Source(ToSource::Consult(m)), Some(node)) = (&message, &mut self.node)
                    && fault == Some(Fault::HeldWhileAsked)
                {
                    let flow = flow_of(&m.about.connection.0);
                    node.crt[flow].get_or_insert(CrtEntry::of(owner)).frozen = true;
                }
                self.mail.insert(Mail { from: router(), to, said: Said::ToHost(message) });
            }
            routing::Action::Freeze { connection, owner } => {
                let owner = owner_of(&owner);
                if let Some(node) = &mut self.node {
                    let entry = node.crt[flow_of(&connection)].get_or_insert(CrtEntry::of(owner));
                    entry.frozen = true;
                    entry.handoff = None;
                }
            }
            routing::Action::Thaw { connection, owner } => {
                let (flow, owner) = (flow_of(&connection), owner.as_ref().map(owner_of));
                self.point(flow, owner, None);
            }
            routing::Action::HandOver { connection, target, token, parcel } => {
                let (flow, target) = (flow_of(&connection), owner_of(&target));
                let socket = Socket::restored(&parcel.socket).expect("a dump of ours");
                let handoff = option_of(&socket, token);
                self.point(flow, Some(target), Some(handoff));
                // The packet that makes the connection if the client is silent and has all that it was sent.
                let packet = Packet { byte: None, begins: socket.read, ack: socket.acknowledged };
                self.packets.insert(Forwarded { host: target, flow, packet, handoff: Some(handoff) });
            }
            routing::Action::End(connection) => {
                if let Some(node) = &mut self.node {
                    node.crt[flow_of(&connection)] = None;
                }
            }
            routing::Action::Report { .. } => {}
        }
    }

    fn point(&mut self, flow: usize, owner: Option<usize>, handoff: Option<Handoff>) {
        let Some(node) = &mut self.node else { return };
        if let Some(owner) = owner {
            let entry = node.crt[flow].get_or_insert(CrtEntry::of(owner));
            entry.owner = owner;
        }
        if let Some(entry) = &mut node.crt[flow] {
            entry.handoff = handoff;
        }
        let packets = node.let_go(flow);
        self.packets.extend(packets);
    }

    fn deliver(&mut self, mail: &Mail) {
        let Mail { from, to, said } = mail.clone();
        let message = match said {
            Said::FromHost(message) => return self.node(routing::Event::Received { from, message }),
            Said::ToHost(message) => message,
        };
        let host = self.index(&to);
        if let ToHost::Source(ToSource::Consult(m)) = &message
            && self.settings.fault == Some(Fault::FrozenWhileAsked)
        {
            self.hosts[host].source_freezes(m.about);
        }
        let now = self.now;
        self.hosts[host].with(|machine, _| {
            let _ = machine.received(from, message, now);
        });
    }

    fn arrive(&mut self, forwarded: Forwarded) {
        let Forwarded { host, flow, packet, .. } = forwarded;
        let claims = self.hosts[host].kernel.claim(forwarded);
        // A packet that the option does not turn into a connection is none of this host's, and draws no answer.
        let is_its = forwarded.handoff.is_none() || self.hosts[host].kernel.slots[flow].socket.is_some();
        if is_its && !claims {
            self.enter(host, flow, packet);
        }
    }

    /// A packet gets into a host's kernel.
    fn enter(&mut self, host: usize, flow: usize, packet: Packet) {
        let wrong = match self.hosts[host].kernel.slots[flow].arrive(packet) {
            Fate::Dropped | Fate::Taken => return,
            Fate::Reset if self.may_be_lost[flow] => return,
            Fate::Reset => "answers a packet with RST",
            Fate::Absurd => "is told that bytes have arrived which it has not sent",
        };
        self.wrong.get_or_insert(format!("{} {wrong}, connection {flow}", self.hosts[host].name));
    }

    fn kill_agent(&mut self, host: usize) {
        self.kills += 1;
        // What an application gave its last descriptor of dies with the agent.
        for (flow, slot) in self.hosts[host].kernel.slots.iter().enumerate() {
            let last = slot.socket.is_some_and(|socket| socket.by_agent && !socket.is_an_applications());
            let leaves = self.hosts[host].kernel.applications[flow].is_some();
            self.may_be_lost[flow] |= last && leaves;
        }
        for flow in self.hosts[host].kill() {
            if !self.may_be_lost[flow] {
                self.wrong.get_or_insert(format!("connection {flow}: FIN by a dying agent"));
            }
        }
        self.under_way_is_lost(&self.hosts[host].name.clone());
        self.session_over(host);
    }

    fn crash_host(&mut self, host: usize) {
        self.kills += 1;
        let name = self.hosts[host].name.clone();
        for flow in 0..self.clients.len() {
            let permitted = self.node.as_ref().and_then(|node| node.machine.under_way(&numbered(flow)));
            let permitted = permitted.is_some_and(|transfer| {
                *transfer.target == name && matches!(transfer.step, Step::Committed | Step::InDoubt)
            });
            let noted = self.hosts[host].kernel.noted.values().any(|(note, noted)| {
                let node = self.node.as_ref();
                let open = node.is_none_or(|node| node.machine.speaks_for(&note.connection));
                flow_of(&note.connection) == flow && (open || *noted != Noted::Stands(Standing::Barred))
            });
            let has = self.hosts[host].kernel.slots[flow].socket.is_some();
            self.may_be_lost[flow] |= permitted || noted || has;
        }
        self.hosts[host].crash();
        // It takes longer to come back than a packet lives, or what was said before.
        self.packets.retain(|packet| packet.host != host);
        self.mail.retain(|mail| mail.from != name);
        self.session_over(host);
    }

    /// The routing stack that permitted a transfer and the host that was permitted are both gone: no one can say any more.
    fn both_died(&mut self) {
        let present = self.node.as_ref().map(|node| 500 + node.epoch.0);
        let notes: Vec<_> = self.hosts.iter().flat_map(|host| host.kernel.leaving.clone()).collect();
        for (note, _) in notes {
            let flow = flow_of(&note.connection);
            let other_ledger = self.hosts[self.index(&note.target)].kernel.ledger != note.ledger.0;
            self.may_be_lost[flow] |= other_ledger && present != Some(note.transfer.incarnation);
        }
    }

    fn start_node(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
        let machine = Routing::new(500 + self.epoch.0);
        let crt = vec![None; self.clients.len()];
        self.node = Some(Node { epoch: self.epoch, machine, crt, pending: Default::default() });
        let (dvipa, epoch) = (dvipa(), self.epoch);
        self.node(routing::Event::Owns { dvipa, epoch });
    }

    /// A session begins: both ends learn of each other, and the agent gives its account of connections (NEWCONN).
    fn session(&mut self, host: usize) {
        let Some(epoch) = self.node.as_ref().map(|node| node.epoch) else { return };
        self.sessions[host] = true;
        let owner = Some(Owner { stack: router(), epoch });
        let now = self.now;
        self.hosts[host].with(|machine, _| machine.owner(dvipa(), owner, now));
        self.node(routing::Event::SessionUp(self.hosts[host].name.clone()));
        for flow in 0..self.clients.len() {
            self.tells_of(host, flow);
        }
    }

    /// An agent tells of a connection that it has (NEWCONN), if it does not move.
    fn tells_of(&mut self, host: usize, flow: usize) {
        let connection = numbered(flow);
        let (Some(node), Some(agent)) = (&mut self.node, &self.hosts[host].agent) else { return };
        let here = self.hosts[host].kernel.slots[flow].socket.is_some_and(|socket| !socket.repair);
        let moves = agent.moving.contains(&connection) || node.machine.speaks_for(&connection);
        if here && !moves && self.sessions[host] {
            node.crt[flow] = Some(CrtEntry::of(host));
        }
    }

    /// What is under way from and to a process that dies is lost with its sessions, as if it was lost or had arrived before.
    /// Unless copies are late, or words outlive the run that they were meant for: a sender knows its name and not its run.
    fn under_way_is_lost(&mut self, process: &StackName) {
        let Settings { copies, outlives, .. } = self.settings;
        if !copies {
            self.mail.retain(|mail| mail.from != *process && (outlives || mail.to != *process));
        }
    }

    fn session_over(&mut self, host: usize) {
        if std::mem::take(&mut self.sessions[host]) {
            // What an agent can do it says to a session.
            let name = self.hosts[host].name.clone();
            self.mail.retain(|m| m.from != name || !matches!(m.said, Said::FromHost(FromHost::Abilities(_))));
            self.node(routing::Event::SessionDown(self.hosts[host].name.clone()));
        }
    }
}
