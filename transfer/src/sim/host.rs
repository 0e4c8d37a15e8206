//! A host: its kernel and its notes, which outlive the agent's process, an application, and the agent.
//!
//! The application reads the client's bytes in order and answers each with one byte. Its only state is how many it has
//! answered; it moves along, so that an application that is woken with stale state shows at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::StackName;
use model::handoff::{HandoffOption, Token};
use model::transfer::{Abilities, About, Ledger, TransferId, TransferMessage, Way};

use super::Fault;
use super::kernel::{Admission, Claim, Packet, Slot, Socket};
use super::node::Forwarded;
use crate::fixture::{numbered, stack};
use crate::source::{self, Source};
use crate::target::{self, Standing, Target};

/// What an application does with a connection that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Application {
    /// How many of the client's bytes it has answered.
    pub(super) answered: u8,
    /// It has asked for a transfer and waits.
    pub(super) waits: bool,
}

/// One step of what a machine wants: a process can die between any two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Deed {
    Source(source::Action),
    Target(target::Action),
    /// The second half of Freeze: the note is written and packets are kept away; now repair mode.
    Repair(usize),
    /// The second half of Activate: the note is written; now the socket wakes.
    Wake(target::Note),
    /// The agent looks which connections were made: that is noted.
    Look(TransferId),
    /// The second half of Bar: the packets that had claimed the admission are through.
    Close(TransferId),
    /// The connection of this transfer was made: its socket is given what the client sent before.
    Give(TransferId),
}

/// The agent's process.
#[derive(Clone, Debug, Hash)]
pub(super) struct Agent {
    pub(super) source: Source,
    pub(super) target: Target,
    pub(super) pending: VecDeque<Deed>,
    /// Offers that the application has not answered, with the state that came along.
    pub(super) offers: BTreeMap<TransferId, Vec<u8>>,
    /// Which connection a transfer to this host is of, and what its application is told.
    coming: BTreeMap<TransferId, (usize, Vec<u8>)>,
}

/// The host.
#[derive(Clone, Debug, Hash)]
pub(super) struct Host {
    pub(super) name: StackName,
    pub(super) agent: Option<Agent>,
    pub(super) incarnation: u64,
    pub(super) ledger: u64,
    /// It has no control socket: connections get in by injection only.
    pub(super) listener: bool,
    pub(super) slots: Vec<Slot>,
    pub(super) applications: Vec<Option<Application>>,
    /// The source's notes, in a pinned map.
    pub(super) leaving: BTreeMap<usize, source::Note>,
    /// The map of admissions, by connection.
    admissions: BTreeMap<usize, Admission>,
    /// Packets that have claimed an admission, and that the kernel is about to make a connection of or to drop.
    pub(super) claims: BTreeSet<(usize, Packet)>,
    /// The last token that was drawn.
    token: u64,
    /// How many of the client's bytes an admitted connection has had before, noted with its admission until its socket is
    /// given them.
    unread: BTreeMap<TransferId, (usize, u8)>,
    /// The target's ledger, in another.
    pub(super) noted: BTreeMap<TransferId, (target::Note, Standing)>,
}

/// What a host does to the world.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) sent: Vec<(StackName, TransferMessage)>,
}

pub(super) fn flow_of(connection: &model::Connection) -> usize {
    usize::from(connection.client.port() - numbered(0).client.port())
}

impl Host {
    pub(super) fn new(index: usize, flows: usize, listener: bool, fault: Option<Fault>) -> Self {
        let mut host = Self {
            name: stack(&format!("t{}", index + 1)),
            agent: None,
            incarnation: 1000 * (index as u64 + 1),
            ledger: 10 * (index as u64 + 1),
            listener,
            slots: vec![Slot::default(); flows],
            applications: vec![None; flows],
            leaving: BTreeMap::new(),
            admissions: BTreeMap::new(),
            claims: BTreeSet::new(),
            // Random in truth: no two admissions have the same.
            token: 1000 * (index as u64 + 1),
            unread: BTreeMap::new(),
            noted: BTreeMap::new(),
        };
        host.start(fault);
        host
    }

    /// The agent's process begins, and reads what its predecessor noted.
    pub(super) fn start(&mut self, fault: Option<Fault>) {
        if fault != Some(Fault::RunsAlike) {
            self.incarnation += 1;
        }
        let abilities = Abilities {
            ledger: Ledger(self.ledger),
            restores: !self.listener,
            injects: self.listener,
            incarnation: self.incarnation,
        };
        let mut agent = Agent {
            source: Source::new(self.incarnation),
            target: Target::new(abilities),
            pending: VecDeque::new(),
            offers: BTreeMap::new(),
            coming: BTreeMap::new(),
        };
        let now = super::now();
        for (flow, note) in &self.leaving {
            let socket = &mut self.slots[*flow].socket;
            // Finishes what the predecessor may have left half done, before anything else.
            if let Some(socket) = socket {
                socket.repair = true;
                socket.by_agent = true;
            }
            let (note, alive) = (note.clone(), socket.is_some());
            let _ = agent.source.handle(source::Event::Inherited { note, alive }, now);
        }
        for (transfer, (note, standing)) in &self.noted {
            agent.coming.insert(*transfer, (flow_of(&note.connection), Vec::new()));
            let (note, standing) = (note.clone(), *standing);
            let _ = agent.target.handle(target::Event::Inherited { note, standing }, now);
        }
        // What is admitted may still be made, which Bar finds out.
        let admitted = |t: &TransferId| matches!(self.noted.get(t), Some((_, Standing::Admitted)));
        let given = self.unread.keys().filter(|transfer| !admitted(transfer));
        agent.pending.extend(given.map(|transfer| Deed::Give(*transfer)));
        self.agent = Some(agent);
        self.collect();
    }

    /// The agent's process dies. The flows whose socket died with it and told the client.
    pub(super) fn kill(&mut self) -> Vec<usize> {
        self.agent = None;
        let told = |(flow, slot): (usize, &mut Slot)| slot.agent_died().then_some(flow);
        let told = self.slots.iter_mut().enumerate().filter_map(told).collect();
        // Whoever asked on a control socket learns that it is closed. He has his descriptor still, or has given it away.
        for (flow, application) in self.applications.iter_mut().enumerate() {
            if self.slots[flow].socket.is_none_or(|socket| !socket.by_application) {
                *application = None;
            } else if let Some(application) =
                application.as_mut().filter(|_| !self.leaving.contains_key(&flow))
            {
                application.waits = false;
            }
        }
        told
    }

    /// The host dies with everything and comes back empty.
    pub(super) fn crash(&mut self) {
        self.agent = None;
        self.ledger += 1;
        self.slots.fill(Slot::default());
        self.applications.fill(None);
        self.leaving.clear();
        self.admissions.clear();
        self.claims.clear();
        self.unread.clear();
        self.noted.clear();
    }

    pub(super) fn source(&mut self, event: source::Event) -> bool {
        let Some(agent) = &mut self.agent else { return false };
        let followed = agent.source.handle(event, super::now()).is_ok();
        self.collect();
        followed
    }

    pub(super) fn target(&mut self, event: target::Event) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.target.handle(event, super::now());
            self.collect();
        }
    }

    /// What the machines want becomes pending.
    pub(super) fn collect(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        while let Some(action) = agent.source.poll() {
            agent.pending.push_back(Deed::Source(action));
        }
        while let Some(action) = agent.target.poll() {
            agent.pending.push_back(Deed::Target(action));
        }
    }

    /// Does the next pending deed.
    pub(super) fn act(&mut self, fault: Option<Fault>) -> Effects {
        let mut effects = Effects::default();
        let Some(deed) = self.agent.as_mut().and_then(|agent| agent.pending.pop_front()) else {
            return effects;
        };
        match deed {
            Deed::Source(source::Action::Send { to, message })
            | Deed::Target(target::Action::Send { to, message }) => effects.sent.push((to, message)),
            Deed::Source(action) => self.source_deed(action, fault),
            Deed::Target(action) => self.target_deed(action, fault),
            Deed::Repair(flow) => {
                if let Some(socket) = &mut self.slots[flow].socket {
                    socket.repair = true;
                    socket.by_agent = true;
                }
            }
            Deed::Wake(note) => self.wake(&note),
            Deed::Look(transfer) => self.look(transfer),
            Deed::Close(transfer) => self.close(transfer),
            Deed::Give(transfer) => self.give(transfer),
        }
        effects
    }

    fn source_deed(&mut self, action: source::Action, fault: Option<Fault>) {
        match action {
            source::Action::Send { .. } => {}
            source::Action::Freeze(note) => {
                let flow = flow_of(&note.connection);
                self.leaving.insert(flow, note);
                self.slots[flow].shut = fault != Some(Fault::NothingShut);
                if let Some(agent) = &mut self.agent {
                    agent.pending.push_front(Deed::Repair(flow));
                }
            }
            source::Action::Dump { connection, way } => {
                let socket = self.slots[flow_of(&connection)].socket;
                // Injection can't carry bytes that the client has not acknowledged.
                let can = |s: &Socket| way == model::transfer::Way::Restore || s.acknowledged == s.written;
                let event = match socket.filter(can) {
                    Some(socket) => source::Event::Dumped { connection, socket: socket.dump() },
                    None => source::Event::NotDumped {
                        connection,
                        why: model::transfer::Reason::NotDumped.into(),
                    },
                };
                self.source(event);
            }
            source::Action::Thaw(connection) => {
                let flow = flow_of(&connection);
                self.leaving.remove(&flow);
                self.slots[flow].shut = false;
                if let Some(socket) = &mut self.slots[flow].socket {
                    // Who gave his last descriptor away gets it back.
                    (socket.repair, socket.by_agent, socket.by_application) = (false, false, true);
                }
                if let Some(application) = &mut self.applications[flow] {
                    application.waits = false;
                }
            }
            source::Action::Discard(connection) => {
                let flow = flow_of(&connection);
                self.leaving.remove(&flow);
                self.slots[flow] = Slot { socket: None, shut: fault != Some(Fault::NothingShut) };
                self.applications[flow] = None;
            }
            source::Action::Moved(_) => {}
            source::Action::Failed { connection, .. } => {
                let flow = flow_of(&connection);
                let (slot, application) = (&mut self.slots[flow], &mut self.applications[flow]);
                if let (Some(socket), Some(application)) = (&mut slot.socket, application) {
                    (socket.by_agent, socket.by_application) = (false, true);
                    application.waits = false;
                }
            }
        }
    }

    fn target_deed(&mut self, action: target::Action, fault: Option<Fault>) {
        let Some(agent) = &mut self.agent else { return };
        match action {
            target::Action::Send { .. } => {}
            target::Action::Ask { transfer, connection, application, .. } => {
                agent.offers.insert(transfer, application.clone());
                agent.coming.insert(transfer, (flow_of(&connection), application));
            }
            target::Action::Restore { note, socket } => {
                let (transfer, flow) = (note.transfer, flow_of(&note.connection));
                if self.slots[flow].socket.is_some() {
                    // A kernel has one socket with these four numbers.
                    let why = model::transfer::Reason::NotRestored.into();
                    return self.target(target::Event::NotReady { transfer, why });
                }
                agent.coming.entry(transfer).or_insert((flow, Vec::new()));
                self.slots[flow] = Slot { socket: Socket::restored(&socket), shut: true };
                self.applications[flow] = None;
                self.target(target::Event::Ready(transfer));
            }
            target::Action::Admit { note, socket } => {
                let (transfer, flow) = (note.transfer, flow_of(&note.connection));
                agent.coming.insert(transfer, (flow, Vec::new()));
                if self.noted.contains_key(&transfer) {
                    let why = model::transfer::Reason::NotRestored.into();
                    return self.target(target::Event::NotReady { transfer, why });
                }
                let received = Socket::restored(&socket).filter(|s| s.received > s.read).map(|s| s.received);
                if let Some(received) = received.filter(|_| fault != Some(Fault::NothingGiven)) {
                    self.unread.insert(transfer, (flow, received));
                }
                self.token += 1;
                let token = Token::new(self.token).expect("it is not 0");
                self.admissions.insert(flow, Admission { transfer, token, state: Claim::Admitted });
                self.noted.insert(transfer, (note, Standing::Admitted));
                self.target(target::Event::Admitted { transfer, token });
            }
            target::Action::Pass { transfer, application, .. } => {
                let Some((flow, told)) = agent.coming.get(&transfer).cloned() else { return };
                let told = if application.is_empty() { told } else { application };
                let Some(socket) = &mut self.slots[flow].socket else {
                    return self.target(target::Event::NotPassed(transfer));
                };
                socket.by_application = true;
                // Whose counterpart gave no state reads it off the connection.
                let answered = told.first().copied().unwrap_or(socket.read);
                self.applications[flow] = Some(Application { answered, waits: false });
                self.target(target::Event::Passed(transfer));
            }
            target::Action::Activate(note) => {
                if fault != Some(Fault::NothingNoted) {
                    self.noted.insert(note.transfer, (note.clone(), Standing::Active));
                }
                agent.pending.push_front(Deed::Wake(note));
            }
            target::Action::Bar(transfer) => {
                let mut of_it =
                    self.admissions.values_mut().filter(|admission| admission.transfer == transfer);
                let claimed = of_it.next().is_some_and(|admission| admission.void() == Claim::Closing);
                if claimed {
                    agent.pending.push_front(Deed::Close(transfer));
                } else {
                    self.close(transfer);
                }
            }
            target::Action::Discard(transfer) => {
                self.unread.remove(&transfer);
                self.admissions.retain(|_, admission| admission.transfer != transfer);
                agent.offers.remove(&transfer);
                if let Some((flow, _)) = agent.coming.remove(&transfer)
                    && self.slots[flow].socket.is_some_and(|socket| socket.repair && socket.by_agent)
                    && !self.leaving.contains_key(&flow)
                {
                    self.slots[flow].socket = None;
                    self.applications[flow] = None;
                }
            }
            target::Action::Forget(transfer) => {
                agent.coming.remove(&transfer);
                self.admissions.retain(|_, admission| admission.transfer != transfer);
                self.noted.remove(&transfer);
            }
        }
    }

    fn wake(&mut self, note: &target::Note) {
        let slot = &mut self.slots[flow_of(&note.connection)];
        if let Some(socket) = &mut slot.socket {
            (socket.repair, socket.by_agent) = (false, false);
        }
        slot.shut = false;
        self.target(target::Event::Activated(note.transfer));
    }

    fn give(&mut self, transfer: TransferId) {
        if let Some((flow, received)) = self.unread.remove(&transfer)
            && let Some(socket) = &mut self.slots[flow].socket
        {
            socket.received = socket.received.max(received);
        }
    }

    /// The socket of this connection has all that the client sent before it came here.
    pub(super) fn is_given(&self, flow: usize) -> bool {
        !self.unread.values().any(|(of, _)| *of == flow)
    }

    /// The program at the host's door: an option with the token of an admission lets a packet claim it that begins where the
    /// option says and acknowledges what it says. Whether this one has.
    pub(super) fn claim(
        &mut self,
        Forwarded { flow, packet, handoff, .. }: Forwarded,
        fault: Option<Fault>,
    ) -> bool {
        let Some(option) = handoff.and_then(|bytes| HandoffOption::decode(&bytes)) else { return false };
        let fits = u32::from(packet.begins) == option.start && u32::from(packet.ack) == option.sent;
        let Some(admission) = self.admissions.get_mut(&flow) else { return false };
        let claims = self.slots[flow].socket.is_none() && fits && admission.claim(option.token, fault);
        if claims {
            self.claims.insert((flow, packet));
        }
        claims
    }

    /// The kernel makes the connection of a packet that has claimed it.
    pub(super) fn make(&mut self, flow: usize, packet: Packet) {
        let slot = &mut self.slots[flow];
        if slot.socket.is_some() {
            return;
        }
        let (received, written) = (packet.begins, packet.ack);
        slot.shut = false;
        slot.socket = Some(Socket {
            repair: false,
            by_agent: false,
            by_application: true,
            received,
            read: received,
            written,
            acknowledged: written,
        });
        self.applications[flow] = Some(Application { answered: received, waits: false });
        if let Some(admission) = self.admissions.get_mut(&flow)
            && matches!(admission.state, Claim::Admitted | Claim::Claimed | Claim::Closing)
        {
            admission.state = Claim::Made;
            if let Some(agent) = &mut self.agent {
                agent.pending.push_back(Deed::Look(admission.transfer));
            }
        }
    }

    fn is_made(&self, transfer: TransferId) -> bool {
        let made = |admission: &Admission| admission.transfer == transfer && admission.state == Claim::Made;
        self.admissions.values().any(made)
    }

    /// The agent sees what the kernel has made.
    fn look(&mut self, transfer: TransferId) {
        if self.is_made(transfer) {
            self.note(transfer, Standing::Active);
            self.target(target::Event::Made(transfer));
        }
    }

    /// No packet makes the connection any more; perhaps one has.
    fn close(&mut self, transfer: TransferId) {
        let made = self.is_made(transfer);
        self.note(transfer, if made { Standing::Active } else { Standing::Barred });
        self.target(target::Event::Barred { transfer, made });
    }

    /// What is admitted is so no longer; one that was made is given what its client sent before.
    fn note(&mut self, transfer: TransferId, now: Standing) {
        if let Some((_, standing @ Standing::Admitted)) = self.noted.get_mut(&transfer) {
            *standing = now;
        }
        if let Some(agent) = self.agent.as_mut().filter(|_| now == Standing::Active) {
            agent.pending.push_front(Deed::Give(transfer));
        }
    }

    /// The agent sees that packets which had claimed admissions are through, and have made nothing.
    pub(super) fn can_reopen(&self) -> bool {
        let claimed = |admission: &Admission| admission.state == Claim::Claimed;
        self.agent.is_some() && self.claims.is_empty() && self.admissions.values().any(claimed)
    }

    /// Other packets may claim what these had.
    pub(super) fn reopen(&mut self) {
        self.admissions.values_mut().for_each(Admission::reopen);
    }

    /// The agent's next deed has to wait for the kernel.
    pub(super) fn waits(&self) -> bool {
        let next = self.agent.as_ref().and_then(|agent| agent.pending.front());
        matches!(next, Some(Deed::Close(_))) && !self.claims.is_empty()
    }

    /// The offers that wait for an answer.
    pub(super) fn offers(&self) -> BTreeSet<TransferId> {
        self.agent.iter().flat_map(|agent| agent.offers.keys().copied()).collect()
    }

    /// The application answers an offer.
    pub(super) fn answer(&mut self, transfer: TransferId, accept: bool) {
        if let Some(agent) = &mut self.agent {
            agent.offers.remove(&transfer);
        }
        self.target(if accept {
            target::Event::Accepted(transfer)
        } else {
            target::Event::Rejected { transfer, said: String::new() }
        });
    }

    /// The application ends while it thinks about an offer.
    pub(super) fn quit(&mut self, transfer: TransferId) {
        if let Some(agent) = &mut self.agent {
            agent.offers.remove(&transfer);
        }
        self.target(target::Event::ApplicationGone(transfer));
    }

    /// Nothing of a transfer is left here. What was barred or shut stays for as long as a packet may live.
    pub(super) fn is_quiet(&self) -> bool {
        let noted = |(_, standing): &(target::Note, Standing)| *standing != Standing::Barred;
        let repair = |slot: &Slot| slot.socket.is_some_and(|s| s.repair && s.by_agent);
        let busy = self.agent.as_ref().is_none_or(|agent| {
            !agent.pending.is_empty()
                || !agent.offers.is_empty()
                || agent.source.next_deadline().is_some()
                || agent.target.next_deadline().is_some()
        });
        !busy
            && self.unread.is_empty()
            && self.leaving.is_empty()
            && !self.noted.values().any(noted)
            && !self.slots.iter().any(repair)
    }
}

/// Faults for the tests of the tests.
impl Host {
    /// The source freezes what its application asks for.
    pub(super) fn source_freezes(&mut self, About { connection, transfer, .. }: About) {
        let (connection, target, ledger) = (connection.0, self.name.clone(), Ledger(self.ledger));
        let note = source::Note { connection, transfer, target, ledger, way: Way::Restore };
        self.leaving.insert(flow_of(&connection), note);
    }

    /// The source thaws because time has passed.
    pub(super) fn source_thaws(&mut self, connection: model::Connection) {
        if let Some(agent) = &mut self.agent {
            agent.pending.push_back(Deed::Source(source::Action::Thaw(connection)));
        }
    }
}
