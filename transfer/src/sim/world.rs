//! Hosts, the routing node, clients, and everything that can happen next.

use std::collections::BTreeSet;

use model::transfer::{TransferId, TransferMessage};
use model::{Connection, Epoch, StackName};

use super::host::{Effects, Host, flow_of};
use super::kernel::{Fate, Packet, Socket};
use super::node::{CrtEntry, Forwarded, Handoff, Node, option_of};
use super::{Fault, Settings};
use crate::Owner;
use crate::fixture::{dvipa, numbered, stack};
use crate::routing::{self, Reach, Routing, Step, Targets};
use crate::source::{self, Ask};
use crate::target::{self, Standing};
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
    pub(super) message: TransferMessage,
}

/// One thing that can happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Choice {
    /// The agent does its next deed.
    Act(usize),
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
    /// An agent admits other packets, because those that had claimed admissions were dropped.
    Reopen(usize),
    /// The client sends this byte (again), or an ACK.
    ClientSends { flow: usize, byte: Option<u8> },
    /// A host sends its oldest unacknowledged byte (again), or an ACK, and it arrives.
    ServerSends { flow: usize, host: usize },
    /// An application reads a byte and answers it.
    Serve { flow: usize, host: usize },
    /// An application asks for a transfer; it may give its last descriptor away.
    Ask { flow: usize, from: usize, to: usize, gives_last: bool },
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
        Ok(if host.listener { Reach::Listener } else { Reach::ControlSocket })
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
            hosts: (0..hosts)
                .map(|i| Host::new(i, flows, settings.listener == Some(i), settings.fault))
                .collect(),
            node: None,
            epoch: Epoch(0),
            clients: vec![Client::default(); flows],
            mail: BTreeSet::new(),
            packets: BTreeSet::new(),
            sessions: vec![false; hosts],
            kills: 0,
            asks: 0,
            may_be_lost: vec![false; flows],
            wrong: None,
        };
        for flow in 0..flows {
            let sent = u8::from(settings.unread);
            (world.clients[flow].sent, world.clients[flow].acknowledged) = (sent, sent);
            let mut socket = Socket::restored(&[sent, 0, 0, 0]).expect("four numbers");
            (socket.repair, socket.by_agent, socket.by_application) = (false, false, true);
            world.hosts[0].slots[flow].socket = Some(socket);
            world.hosts[0].applications[flow] = Some(super::host::Application { answered: 0, waits: false });
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
            let busy = |host: &Host| host.agent.as_ref().is_some_and(|agent| !agent.pending.is_empty());
            let claimed = self.hosts.iter().position(|host| !host.claims.is_empty());
            if let Some((host, (flow, packet))) =
                claimed.and_then(|host| Some((host, *self.hosts[host].claims.first()?)))
            {
                self.apply(&Choice::Make { host, flow, packet, made: true });
            } else if let Some(host) = self.hosts.iter().position(busy) {
                self.apply(&Choice::Act(host));
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
            Choice::Act(host) => {
                let Effects { sent } = self.hosts[host].act(self.settings.fault);
                let from = self.hosts[host].name.clone();
                self.mail.extend(sent.into_iter().map(|(to, message)| Mail {
                    from: from.clone(),
                    to,
                    message,
                }));
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
                let was = self.hosts[host].claims.remove(&(flow, packet));
                if was && made {
                    self.hosts[host].make(flow, packet);
                    self.enter(host, flow, packet);
                }
            }
            Choice::Reopen(host) => self.hosts[host].reopen(),
            Choice::ClientSends { flow, byte } => self.client_sends(flow, byte),
            Choice::ServerSends { flow, host } => self.server_sends(flow, host),
            Choice::Serve { flow, host } => self.serve(flow, host),
            Choice::Ask { flow, from, to, gives_last } => self.ask(flow, from, to, gives_last),
            Choice::Cancel { flow, host } => {
                self.hosts[host].source(source::Event::Cancelled(numbered(flow as u16)));
            }
            Choice::Answer { host, transfer, accept } => self.hosts[host].answer(transfer, accept),
            Choice::Quit { host, transfer } => self.hosts[host].quit(transfer),
            Choice::SourceTimer(host, connection, timer) => self.source_timer(host, connection, timer),
            Choice::TargetTimer(host, transfer, timer) => {
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.target.fire(transfer, timer, super::now());
                }
                self.hosts[host].collect();
            }
            Choice::NodeTimer(transfer, timer) => {
                if let Some(node) = &mut self.node {
                    node.machine.fire(transfer, timer, super::now());
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
            Choice::StartAgent(host) => self.hosts[host].start(self.settings.fault),
            Choice::StartNode => self.start_node(),
            Choice::Session(host) => self.session(host),
            Choice::Break(host) => self.session_over(host),
        }
        if self.kills > 1 {
            self.both_died();
        }
        self.look();
    }

    /// What must hold at every instant.
    fn look(&mut self) {
        for flow in 0..self.clients.len() {
            let owners: Vec<_> = self
                .hosts
                .iter()
                .filter(|host| host.slots[flow].owns())
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
        let at = |host: &&Host| host.leaving.values().any(|note| note.transfer == transfer);
        if let Some(source) = self.hosts.iter().find(at) {
            return Some(source.name.as_str());
        }
        let node = self.node.as_ref()?;
        let of_it = |(flow, entry): (usize, &Option<CrtEntry>)| {
            let under_way = node.machine.under_way(&numbered(flow as u16))?;
            (under_way.transfer == transfer && entry.as_ref()?.frozen).then_some("the routing stack")
        };
        node.crt.iter().enumerate().find_map(of_it)
    }

    fn node(&mut self, event: routing::Event) {
        if let Some(node) = &mut self.node {
            let _ = node.machine.handle(event, &Dpt(&self.hosts), super::now());
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
                if let (TransferMessage::Consult(m), Some(node)) = (&message, &mut self.node)
                    && fault == Some(Fault::HeldWhileAsked)
                {
                    let flow = flow_of(&m.about.connection.0);
                    node.crt[flow].get_or_insert(CrtEntry::of(owner)).frozen = true;
                }
                self.mail.insert(Mail { from: router(), to, message });
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
                // The packet that makes the connection if the client is silent.
                let packet = Packet { byte: None, begins: socket.read, ack: socket.written };
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
        let (from, message) = (mail.from.clone(), mail.message.clone());
        if mail.to == router() {
            return self.node(routing::Event::Received { from, message });
        }
        let host = self.index(&mail.to);
        if let (TransferMessage::Consult(m), Some(Fault::FrozenWhileAsked)) = (&message, self.settings.fault)
        {
            self.hosts[host].source_freezes(m.about);
        }
        match message {
            TransferMessage::Refuse(_)
            | TransferMessage::Consult(_)
            | TransferMessage::Freeze(_)
            | TransferMessage::Released(_)
            | TransferMessage::Aborted(_)
            | TransferMessage::Lost(_) => {
                self.hosts[host].source(source::Event::Received { from, message });
            }
            _ => self.hosts[host].target(target::Event::Received { from, message }),
        }
    }

    fn arrive(&mut self, forwarded: Forwarded) {
        let Forwarded { host, flow, packet, .. } = forwarded;
        let claims = self.hosts[host].claim(forwarded, self.settings.fault);
        // A packet that the option does not turn into a connection is none of this host's, and draws no answer.
        let is_its = forwarded.handoff.is_none() || self.hosts[host].slots[flow].socket.is_some();
        if is_its && !claims {
            self.enter(host, flow, packet);
        }
    }

    /// A packet gets into a host's kernel.
    fn enter(&mut self, host: usize, flow: usize, packet: Packet) {
        let wrong = match self.hosts[host].slots[flow].arrive(packet) {
            Fate::Dropped | Fate::Taken => return,
            Fate::Reset if self.may_be_lost[flow] => return,
            Fate::Reset => "answers a packet with RST",
            Fate::Absurd => "is told that bytes have arrived which it has not sent",
        };
        self.wrong.get_or_insert(format!("{} {wrong}, connection {flow}", self.hosts[host].name));
    }

    fn client_sends(&mut self, flow: usize, byte: Option<u8>) {
        let client = &mut self.clients[flow];
        client.sent = client.sent.max(byte.map_or(0, |byte| byte + 1));
        let packet = Packet { byte, begins: byte.unwrap_or(client.sent), ack: client.received };
        if let Some(forwarded) = self.node.as_mut().and_then(|node| node.forward(flow, packet)) {
            self.packets.insert(forwarded);
        }
    }

    fn server_sends(&mut self, flow: usize, host: usize) {
        let Some(socket) = self.hosts[host].slots[flow].socket else { return };
        let client = &mut self.clients[flow];
        if socket.received > client.sent {
            self.wrong.get_or_insert(format!("connection {flow}: bytes are acknowledged that were not sent"));
        }
        client.acknowledged = client.acknowledged.max(socket.received);
        if socket.acknowledged <= client.received && client.received < socket.written {
            client.received += 1;
        }
    }

    fn serve(&mut self, flow: usize, host: usize) {
        let host = &mut self.hosts[host];
        let (Some(socket), Some(application)) = (&mut host.slots[flow].socket, &mut host.applications[flow])
        else {
            return;
        };
        let numbers = (socket.read, socket.written, application.answered);
        if socket.read != socket.written || socket.read != application.answered {
            self.wrong.get_or_insert(format!("{}: read, written, answered are {numbers:?}", host.name));
        }
        socket.read += 1;
        socket.written += 1;
        application.answered += 1;
    }

    fn ask(&mut self, flow: usize, from: usize, to: usize, gives_last: bool) {
        self.asks += 1;
        let target = self.hosts[to].name.clone();
        let (listener, host) = (self.hosts[to].listener, &mut self.hosts[from]);
        let (Some(socket), Some(application)) = (&mut host.slots[flow].socket, &mut host.applications[flow])
        else {
            return;
        };
        application.waits = true;
        socket.by_agent = true;
        socket.by_application = !gives_last;
        let state = if listener || !self.settings.state { Vec::new() } else { vec![application.answered] };
        let ask = Ask {
            connection: numbered(flow as u16),
            target,
            job: None,
            consent: self.settings.consent,
            application: state,
        };
        if !host.source(source::Event::Asked(ask))
            && let (Some(socket), Some(application)) =
                (&mut host.slots[flow].socket, &mut host.applications[flow])
        {
            (socket.by_agent, socket.by_application, application.waits) = (false, true, false);
        }
    }

    fn source_timer(&mut self, host: usize, connection: Connection, timer: Timer) {
        let Some(agent) = &mut self.hosts[host].agent else { return };
        agent.source.fire(connection, timer, super::now());
        let in_doubt = agent.source.speaks_for(&connection);
        self.hosts[host].collect();
        if self.settings.fault == Some(Fault::ThawOnTimeOut) && in_doubt {
            self.hosts[host].source_thaws(connection);
        }
    }

    fn kill_agent(&mut self, host: usize) {
        self.kills += 1;
        // What an application gave its last descriptor of dies with the agent.
        for (flow, slot) in self.hosts[host].slots.iter().enumerate() {
            let last = slot.socket.is_some_and(|socket| socket.by_agent && !socket.by_application);
            let leaves = self.hosts[host].applications[flow].is_some();
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
            let permitted =
                self.node.as_ref().and_then(|node| node.machine.under_way(&numbered(flow as u16)));
            let permitted = permitted.is_some_and(|transfer| {
                *transfer.target == name && matches!(transfer.step, Step::Committed | Step::InDoubt)
            });
            let noted = self.hosts[host].noted.values().any(|(note, standing)| {
                let node = self.node.as_ref();
                let open = node.is_none_or(|node| node.machine.speaks_for(&note.connection));
                flow_of(&note.connection) == flow && (open || *standing != Standing::Barred)
            });
            let has = self.hosts[host].slots[flow].socket.is_some();
            self.may_be_lost[flow] |= permitted || noted || has;
        }
        self.hosts[host].crash();
        // It takes longer to come back than a packet lives, or what was said before.
        self.packets.retain(|packet| packet.host != host);
        self.mail.retain(|mail| mail.from != name);
        self.session_over(host);
    }

    /// Whoever permitted a transfer and the host that was permitted are both gone: nobody can say any more.
    fn both_died(&mut self) {
        let present = self.node.as_ref().map(|node| 500 + node.epoch.0);
        let notes: Vec<_> = self.hosts.iter().flat_map(|host| host.leaving.clone()).collect();
        for (flow, note) in notes {
            let other_ledger = self.hosts[self.index(&note.target)].ledger != note.ledger.0;
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
        let dvipa = dvipa();
        self.hosts[host].source(source::Event::Owner { dvipa, owner: owner.clone() });
        self.hosts[host].target(target::Event::Owner { dvipa, owner });
        self.node(routing::Event::SessionUp(self.hosts[host].name.clone()));
        let (Some(node), Some(agent)) = (&mut self.node, &self.hosts[host].agent) else { return };
        for (flow, entry) in node.crt.iter_mut().enumerate() {
            let connection = numbered(flow as u16);
            let here = self.hosts[host].slots[flow].socket.is_some_and(|socket| !socket.repair);
            let silent = agent.source.speaks_for(&connection) || agent.target.speaks_for(&connection);
            if here && !silent && !node.machine.speaks_for(&connection) {
                *entry = Some(CrtEntry::of(host));
            }
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
            self.mail.retain(|m| m.from != name || !matches!(m.message, TransferMessage::Abilities(_)));
            self.node(routing::Event::SessionDown(self.hosts[host].name.clone()));
        }
    }
}
