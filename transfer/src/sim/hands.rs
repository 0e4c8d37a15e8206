//! A host's kernel, notes and applications, as far as the machine that agents run can tell them from the real: its [`Kernel`].
//!
//! The agent's process dies between any two calls that change something ([`Process::fuse`]): those that come later do nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::Connection;
use model::StackName;
use model::control_socket::RequestId;
use model::handoff::{HandoffOption, Token};
use model::transfer::{FromHost, Reason, TransferId, Way, Why};

use super::Fault;
use super::kernel::{Admission, Claim, Packet, Slot, Socket};
use super::node::Forwarded;
use super::process::{Application, Noted, Process};
use crate::fixture::numbered;
use crate::host::{
    Activity, ApplicationId, Arrival, Asker, Away, Dump, Found, Handle, Kept, Kernel, Left, NotRestored,
    Note, Place, Queues, Stand, Subject, Voided,
};
use crate::taking::{self, Standing};
use crate::{giving, limits};

/// All of the host but its agent.
#[derive(Clone, Debug, Hash)]
pub(super) struct SimKernel {
    pub(super) fault: Option<Fault>,
    pub(super) incarnation: u64,
    pub(super) ledger: u64,
    /// It has no control socket: connections get in by injection only, and are moved by operators only.
    pub(super) listener: bool,
    /// So many bytes that the client has not acknowledged fill a send buffer.
    pub(super) room: Option<u8>,
    /// So many entries fill the freeze map.
    pub(super) shut_room: Option<usize>,
    /// Applications read their control sockets when they like.
    pub(super) slow: bool,
    /// The time, for what ends in the kernel by itself.
    pub(super) clock: Instant,
    pub(super) slots: Vec<Slot>,
    pub(super) applications: Vec<Option<Application>>,
    /// And until when.
    pub(super) leaving: Vec<(giving::Note, Instant)>,
    pub(super) noted: BTreeMap<TransferId, (taking::Note, Noted)>,
    /// The map of admissions, by connection.
    pub(super) admissions: BTreeMap<usize, Admission>,
    /// Packets that have claimed an admission, and that the kernel is about to make a connection of or to drop.
    pub(super) claims: BTreeSet<(usize, Packet)>,
    /// The last token that was drawn.
    pub(super) token: u64,
    /// How many of the client's bytes an admitted connection has had before, until its socket is given them.
    pub(super) unread: BTreeMap<TransferId, (usize, u8)>,
    pub(super) process: Process,
}

pub(super) fn flow_of(connection: &Connection) -> usize {
    usize::from(connection.client.port() - numbered(0).client.port())
}

fn flow(handle: Handle) -> usize {
    match handle {
        Handle::Kept(connection) => flow_of(&connection),
        Handle::Passed(ApplicationId(flow), _) => flow as usize,
    }
}

impl SimKernel {
    pub(super) fn left(&self, now: Instant) -> Left {
        let anew = (self.fault == Some(Fault::DoubtAnew)).then(|| now + limits::IN_DOUBT);
        let leaving = self.leaving.iter().map(|(note, until)| (note.clone(), anew.unwrap_or(*until)));
        let of = |(note, noted): &(taking::Note, Noted)| match noted {
            Noted::Stands(standing) => Some((note.clone(), *standing)),
            Noted::Prepared => None,
        };
        let void = self.noted.values().filter(|(_, noted)| *noted == Noted::Prepared);
        let shut = self.slots.iter().enumerate().filter_map(|(flow, slot)| Some((flow, slot.shut?.0)));
        let here = self.slots.iter().enumerate().filter(|(_, slot)| slot.socket.is_some());
        let kept = |(transfer, (flow, received)): (&TransferId, &(usize, u8))| {
            (*transfer, numbered(*flow), Kept::Unread, usize::from(*received))
        };
        Left {
            leaving: leaving.collect(),
            coming: self.noted.values().filter_map(of).collect(),
            void: void.map(|(note, _)| note.clone()).collect(),
            kept: self.unread.iter().map(kept).collect(),
            away: shut.map(|(flow, away)| (numbered(flow), away)).collect(),
            here: here.map(|(flow, _)| numbered(flow)).collect(),
        }
    }

    /// Counts a call that changes something; whether the process lives to make it.
    fn lives(&mut self) -> bool {
        let process = &mut self.process;
        process.calls += 1;
        process.fuse.is_none_or(|fuse| process.calls <= fuse)
    }

    fn slot(&mut self, connection: &Connection) -> &mut Slot {
        &mut self.slots[flow_of(connection)]
    }

    fn admission(&mut self, connection: &Connection) -> Option<&mut Admission> {
        self.admissions.get_mut(&flow_of(connection))
    }

    /// The socket of this connection has all that the client sent before it came here.
    pub(super) fn is_given(&self, flow: usize) -> bool {
        !self.unread.values().any(|(of, _)| *of == flow)
    }

    /// What an application can do now with its connection: read a byte and answer it, or answer what it has read.
    pub(super) fn can_serve(&self, flow: usize) -> bool {
        let (Some(socket), Some(application)) = (self.slots[flow].socket, self.applications[flow]) else {
            return false;
        };
        let owes = socket.read > socket.written;
        !application.waits
            && self.is_the_applications(flow)
            && if owes { self.has_room(socket) } else { socket.read < socket.received }
    }

    /// An application has the connection, and knows it.
    pub(super) fn is_the_applications(&self, flow: usize) -> bool {
        let told = self.applications[flow].is_some_and(|application| !application.untold);
        told && self.slots[flow].socket.is_some_and(|socket| !socket.in_flight)
    }

    /// An application reads its control socket.
    pub(super) fn receive(&mut self, flow: usize) {
        if let Some(socket) = &mut self.slots[flow].socket {
            socket.by_application |= std::mem::take(&mut socket.in_flight);
        }
    }

    /// Time has passed: entries of the freeze map end.
    pub(super) fn time_passed(&mut self, now: Instant) {
        self.clock = now;
        for slot in &mut self.slots {
            slot.shut.take_if(|(_, until)| *until <= now);
        }
    }

    pub(super) fn has_room(&self, socket: Socket) -> bool {
        self.room.is_none_or(|room| socket.written - socket.acknowledged < room)
    }

    /// The program at the host's door: an option with the token of an admission lets a packet claim it that begins where the
    /// option says and acknowledges what it says. Whether this one has.
    pub(super) fn claim(&mut self, Forwarded { flow, packet, handoff, .. }: Forwarded) -> bool {
        let Some(option) = handoff.and_then(|bytes| HandoffOption::decode(&bytes)) else { return false };
        let fits = u32::from(packet.begins) == option.start && u32::from(packet.ack) == option.sent;
        let fault = self.fault;
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
        *slot = Slot { socket: Some(Socket::made(packet)), shut: None };
        self.applications[flow] = Some(Application { answered: packet.begins, ..Application::default() });
        if let Some(admission) = self.admissions.get_mut(&flow)
            && matches!(admission.state, Claim::Admitted | Claim::Claimed | Claim::Closing)
        {
            admission.state = Claim::Made;
            self.process.made = true;
        }
    }

    /// A packet has claimed an admission that another may have, should it be dropped.
    pub(super) fn is_claimed_somewhere(&self) -> bool {
        self.admissions.values().any(|admission| admission.state == Claim::Claimed)
    }
}

impl Kernel for SimKernel {
    fn send(&mut self, to: StackName, message: FromHost) {
        if self.lives() {
            self.process.sent.push((to, message));
        }
    }

    fn moved(&mut self, asker: Asker, connection: &Connection) {
        if self.lives() && asker != Asker::Nobody {
            self.applications[flow_of(connection)] = None;
        }
    }

    fn stays(&mut self, asker: Asker, connection: &Connection, _: &Why) {
        let flow = flow_of(connection);
        if !self.lives() || asker == Asker::Nobody {
            return;
        }
        if let (Some(socket), Some(application)) =
            (&mut self.slots[flow].socket, &mut self.applications[flow])
        {
            // An application that has handed over its last descriptor receives it again.
            (socket.by_agent, socket.by_application) = (false, true);
            application.waits = false;
        }
    }

    fn claimed(&mut self, application: ApplicationId, request: RequestId, is_its: bool) {
        let flow = flow(Handle::Passed(application, request));
        if !self.lives() {
            return;
        }
        if let Some(application) = self.applications[flow].as_mut().filter(|_| is_its) {
            (application.untold, application.claims) = (false, false);
        } else {
            (self.slots[flow].socket, self.applications[flow]) = (None, None);
        }
    }

    fn note(&mut self, note: Note<'_>) -> Result<(), String> {
        if !self.lives() {
            return Err(String::new());
        }
        let (note, noted) = match note {
            Note::Leaving(note, until) => {
                if self.fault != Some(Fault::NotesStay) {
                    self.leaving.retain(|(other, _)| other.connection != note.connection);
                }
                // An older one comes later, as it may where places of a file are used again.
                self.leaving.insert(0, (note.clone(), until));
                return Ok(());
            }
            Note::Prepared(note) => (note.clone(), Noted::Prepared),
            Note::Active(_) if self.fault == Some(Fault::NothingNoted) => return Ok(()),
            Note::Active(note) => (note.clone(), Noted::Stands(Standing::Active)),
            Note::Admitted(note) if self.noted.contains_key(&note.transfer) => return Err(String::new()),
            Note::Admitted(note) => (note.clone(), Noted::Stands(Standing::Admitted)),
            Note::Made(transfer) | Note::Barred(transfer) => {
                let now = if matches!(note, Note::Made(_)) { Standing::Active } else { Standing::Barred };
                if let Some((_, noted @ Noted::Stands(Standing::Admitted))) = self.noted.get_mut(&transfer) {
                    *noted = Noted::Stands(now);
                }
                return Ok(());
            }
        };
        self.noted.insert(note.transfer, (note, noted));
        Ok(())
    }

    fn erase(&mut self, of: Subject) {
        if !self.lives() {
            return;
        }
        match of {
            Subject::Leaving(connection) => {
                // A run that has found no socket leaves the note where it is.
                let stays = self.fault == Some(Fault::NotesStay)
                    && !self.process.held.contains(&flow_of(&connection));
                if !stays {
                    self.leaving.retain(|(note, _)| note.connection != connection);
                }
            }
            Subject::Coming(transfer) => {
                let barred = Noted::Stands(Standing::Barred);
                self.noted.retain(|of, (_, noted)| *of != transfer || *noted == barred);
            }
        }
    }

    fn keep(&mut self, transfer: TransferId, _: Kept, socket: &[u8]) -> Result<(), String> {
        let flow = self.process.dump.take().map(|(flow, _)| flow);
        if let Some(of) = flow.filter(|_| self.lives() && self.fault != Some(Fault::NothingGiven)) {
            let received = Socket::restored(socket).map_or(0, |socket| socket.received);
            self.unread.insert(transfer, (of, received));
        }
        Ok(())
    }

    fn unkeep(&mut self, transfer: TransferId, _: Kept) {
        if self.lives() {
            self.unread.remove(&transfer);
        }
    }

    fn sweep(&mut self) {}

    fn keep_away(&mut self, connection: &Connection, how: Away, at_most: Duration) -> Result<(), String> {
        if !self.lives() || self.fault == Some(Fault::NothingShut) {
            return Ok(());
        }
        let entries = self.slots.iter().filter(|slot| slot.shut.is_some()).count();
        if self.slot(connection).shut.is_none() && self.shut_room.is_some_and(|room| entries >= room) {
            let unseen = self.fault == Some(Fault::FullMapUnseen);
            return if unseen { Ok(()) } else { Err("the map is full".to_owned()) };
        }
        let at_most = if self.fault == Some(Fault::ShutBriefly) { Duration::from_secs(1) } else { at_most };
        self.slot(connection).shut = Some((how, self.clock + at_most));
        Ok(())
    }

    fn let_flow(&mut self, connection: &Connection) {
        if self.lives() {
            self.slot(connection).shut = None;
        }
    }

    fn away(&mut self, connection: &Connection) -> Result<Option<Away>, String> {
        Ok(self.slot(connection).shut.map(|(away, _)| away))
    }

    fn hold(&mut self, _: ApplicationId, _: RequestId, connection: &Connection) {
        self.process.held.insert(flow_of(connection));
    }

    fn hold_found(&mut self, connection: &Connection, _: Place) -> Result<(), String> {
        if self.lives() && self.find(connection) == Found::Here { Ok(()) } else { Err(String::new()) }
    }

    fn find(&mut self, connection: &Connection) -> Found {
        let unseen = self.fault == Some(Fault::InFlightUnseen);
        match &mut self.slot(connection).socket {
            Some(socket) if socket.in_flight && !unseen => return Found::InFlight,
            Some(socket) if socket.by_application => socket.by_agent = true,
            Some(_) | None => return Found::Nowhere,
        }
        self.process.held.insert(flow_of(connection));
        Found::Here
    }

    fn release(&mut self, handle: Handle) {
        if self.lives()
            && let Some(socket) = &mut self.slots[flow(handle)].socket
        {
            // What an application has handed over is not closed: it is told first.
            socket.by_agent &= !socket.is_an_applications();
        }
    }

    fn disconnect(&mut self, handle: Handle) {
        if self.lives() {
            self.slots[flow(handle)].socket = None;
            self.applications[flow(handle)] = None;
        }
    }

    fn silence(&mut self, connection: &Connection) {
        if self.lives()
            && let Some(socket) = &mut self.slot(connection).socket
        {
            (socket.repair, socket.by_agent) = (true, true);
        }
    }

    fn is_silent(&mut self, handle: Handle) -> Result<bool, String> {
        Ok(self.slots[flow(handle)].socket.is_some_and(|socket| socket.repair))
    }

    fn unacknowledged(&mut self, handle: Handle) -> u32 {
        self.slots[flow(handle)].socket.map_or(0, |socket| u32::from(socket.written - socket.acknowledged))
    }

    /// The server is silent for as long as it has nothing that it can do; what it speaks can't be told.
    fn look(&mut self, handle: Handle) -> Result<(Activity, Stand), Why> {
        const LONG: Duration = Duration::from_secs(3600);
        let flow = flow(handle);
        let socket = self.slots[flow].socket.ok_or(Reason::NoSocket)?;
        let silent = if self.can_serve(flow) { Duration::ZERO } else { LONG };
        let activity = Activity {
            unread: u32::from(socket.received - socket.read),
            unsent: 0,
            since_sent: silent,
            since_received: silent,
            since_acknowledged: silent,
            received: socket.received.into(),
            is_writable: self.has_room(socket) || self.fault == Some(Fault::BlockedIsIdle),
        };
        Ok((activity, Stand::Another))
    }

    /// The client answers, as it does anyway whenever it may.
    fn prompt(&mut self, _: &Connection) -> Result<(), String> {
        Ok(())
    }

    fn dump(&mut self, connection: &Connection) -> Result<Dump, Why> {
        if !self.lives() {
            return Err(Reason::NotDumped.into());
        }
        let socket = self.slot(connection).socket.as_mut().ok_or(Reason::NotDumped)?;
        (socket.repair, socket.by_agent) = (true, true);
        let queues = Queues {
            next: socket.received.into(),
            unread: (socket.received - socket.read).into(),
            unacknowledged: (socket.written - socket.acknowledged).into(),
            unsent: 0,
            is_whole: true,
            is_closed: false,
        };
        Ok(Dump { socket: socket.dump(), queues })
    }

    fn thaw(&mut self, connection: &Connection) {
        if !self.lives() {
            return;
        }
        let flow = flow_of(connection);
        if let Some(socket) = &mut self.slots[flow].socket {
            socket.repair = false;
        }
    }

    fn finish(&mut self, handle: Handle, _: TransferId) -> bool {
        if self.lives()
            && let Some(socket) = &mut self.slots[flow(handle)].socket
        {
            socket.repair = false;
        }
        true
    }

    fn destroy(&mut self, connection: &Connection) {
        if self.lives() {
            let flow = flow_of(connection);
            (self.slots[flow].socket, self.applications[flow]) = (None, None);
        }
    }

    fn offer(
        &mut self,
        transfer: TransferId,
        _: &Connection,
        _: Option<&str>,
        state: &[u8],
    ) -> Result<(), Reason> {
        if self.lives() {
            self.process.offers.insert(transfer, state.to_vec());
            self.process.told.insert(transfer, state.to_vec());
        }
        Ok(())
    }

    fn read(&mut self, note: &taking::Note, socket: &[u8]) -> Result<Arrival, String> {
        let read = Socket::restored(socket).ok_or("it is no dump")?;
        let unread = usize::from(read.received - read.read);
        let unread = (note.way == Way::Inject && unread > 0).then_some(unread);
        self.process.dump = Some((flow_of(&note.connection), socket.to_vec()));
        Ok(Arrival { unread, has_unsent: false })
    }

    fn track(&mut self, _: &Connection) -> Result<(), String> {
        Ok(())
    }

    fn restore(&mut self, transfer: TransferId) -> Result<(), NotRestored> {
        let not_restored = |is_here| NotRestored { is_here, said: String::new() };
        let dump = self.process.dump.take();
        let Some((flow, dump)) = dump.filter(|_| self.lives()) else { return Err(not_restored(false)) };
        if self.slots[flow].socket.is_some() {
            // A kernel has one socket with these four numbers.
            return Err(not_restored(true));
        }
        self.slots[flow].socket = Socket::restored(&dump);
        self.applications[flow] = None;
        self.process.restored.insert(transfer, flow);
        Ok(())
    }

    fn pass(
        &mut self,
        transfer: TransferId,
        connection: &Connection,
        _: Option<&str>,
        state: &[u8],
    ) -> Result<(), Reason> {
        let flow = flow_of(connection);
        let told = self.process.told.remove(&transfer).unwrap_or_default();
        let told = if state.is_empty() { told } else { state.to_vec() };
        if !self.lives() {
            return Ok(());
        }
        let Some(socket) = &mut self.slots[flow].socket else { return Err(Reason::NotPassed) };
        (socket.in_flight, socket.by_application) = (self.slow, !self.slow);
        // Whose counterpart gave no state reads it off the connection.
        let answered = told.first().copied().unwrap_or(socket.read);
        self.applications[flow] = Some(Application { answered, untold: true, ..Application::default() });
        self.process.passed.push_back(transfer);
        Ok(())
    }

    fn activate(&mut self, transfer: TransferId, connection: &Connection) {
        let flow = flow_of(connection);
        if self.lives()
            && let (Some(socket), Some(application)) =
                (&mut self.slots[flow].socket, &mut self.applications[flow])
        {
            (socket.repair, socket.by_agent, application.untold) = (false, false, false);
            self.process.restored.remove(&transfer);
        }
    }

    fn discard(&mut self, transfer: TransferId) {
        if !self.lives() {
            return;
        }
        self.process.offers.remove(&transfer);
        self.process.told.remove(&transfer);
        let restored = self.process.restored.remove(&transfer);
        if let Some(flow) =
            restored.filter(|flow| self.slots[*flow].socket.is_some_and(|s| s.repair && s.by_agent))
        {
            self.slots[flow].socket = None;
            self.applications[flow] = None;
        }
    }

    fn is_here(&mut self, connection: &Connection) -> Result<bool, String> {
        Ok(self.slot(connection).socket.is_some())
    }

    fn admit(&mut self, _: TransferId, connection: &Connection) -> Result<Token, String> {
        if !self.lives() {
            return Err(String::new());
        }
        self.token += 1;
        let token = Token::new(self.token).ok_or("it is 0")?;
        self.admissions.insert(flow_of(connection), Admission { token, state: Claim::Admitted });
        Ok(token)
    }

    fn void(&mut self, connection: &Connection) -> Result<Voided, String> {
        if !self.lives() {
            return Err(String::new());
        }
        Ok(match self.admission(connection).map(Admission::void) {
            Some(Claim::Made) => Voided::Made,
            Some(Claim::Claimed | Claim::Closing) => Voided::Claimed,
            Some(Claim::Admitted | Claim::Void) | None => Voided::Void,
        })
    }

    fn is_made(&mut self, connection: &Connection) -> Result<bool, String> {
        Ok(self.admission(connection).is_some_and(|admission| admission.state == Claim::Made))
    }

    fn is_claimed(&mut self, connection: &Connection) -> bool {
        self.admission(connection).is_some_and(|admission| admission.state == Claim::Claimed)
    }

    fn await_claims(&mut self, transfers: Vec<TransferId>) {
        if self.lives() {
            self.process.awaits = Some(transfers);
            self.process.awaited = self.claims.clone();
        }
    }

    fn reopen(&mut self, connection: &Connection) {
        if self.lives()
            && let Some(admission) = self.admission(connection)
        {
            admission.reopen();
        }
    }

    fn forget_admission(&mut self, connection: &Connection) {
        if self.lives() {
            self.admissions.remove(&flow_of(connection));
        }
    }

    fn give(&mut self, transfer: TransferId) -> bool {
        if self.lives()
            && let Some((flow, received)) = self.unread.get(&transfer)
            && let Some(socket) = &mut self.slots[*flow].socket
        {
            socket.received = socket.received.max(*received);
        }
        true
    }

    fn takes_nothing(&mut self, _: &Connection) {}
}
