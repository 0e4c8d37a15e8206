//! The source's part: freeze, dump, keep silent until the outcome is known.
//!
//! Pure: [`Source::handle`] takes an event and the time, [`Source::poll`] gives what is to be done,
//! [`Source::next_deadline`] says when [`Event::TimePassed`] is due. One transfer a connection:
//!
//! | event | none | Asking | Consulted | Dumping | InDoubt |
//! | --- | --- | --- | --- | --- | --- |
//! | Asked | Prepare; *Asking* | refused: busy | refused: busy | refused: busy | refused: busy |
//! | Cancelled | – | failed; *none* | Abandon, failed; *none* | thaw, Abandon, failed; *none* | Abandon |
//! | Refuse | – | failed; *none* | failed; *none* | – | – |
//! | Consult (its own) | Abandon | state; *Consulted* | state, if it is of another transfer than before | – | – |
//! | Consult (another's) | Abandon | Abandon | Abandon | Abandon | Abandon |
//! | Freeze (its own) | Abandon | freeze, dump; *Dumping* | freeze, dump; *Dumping* | – | parts again, or Abandon if they are gone |
//! | Freeze (another's) | Abandon | Abandon | Abandon | Abandon | Abandon |
//! | Dumped | – | – | – | parts; *InDoubt* | – |
//! | NotDumped | – | – | – | thaw, Abandon, failed; *none* | – |
//! | Released | Done | Done | Done | Done | discard, moved, Done; *none* |
//! | Aborted | Done | failed (if it is of this request), Done; *none* | as Asking | thaw, failed, Done; *none* | thaw (discard if the socket is gone), failed, Done; *none* |
//! | Lost | Done | Done | Done | Done | discard, failed, Done; *none* |
//! | SocketFound | – | – | – | – | the socket is not gone |
//! | new owner | – | Prepare | Prepare | – | Doubt |
//! | Repeat fires | – | Prepare | Prepare | – | Doubt |
//! | Patience fires | – | failed; *none* | Abandon, failed; *none* | – | discard, failed, Done; *none* |
//!
//! Until Freeze nothing is done to the connection. Dumping has no timer: the hands always answer. Its parts are sent only
//! to the owner that said Freeze; if there is another meanwhile it thaws, since nothing has left the host.

mod event;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use model::codec::WireConnection;
use model::transfer::{
    Abandon, Aborted, About, Consent, Consult, Done, Doubt, Freeze, FromSource, Held, Parcel, Prepare,
    Reason, Refuse, Request, ToSource, TransferId, Why,
};
use model::{Connection, Dvipa, Epoch, StackName};

pub use event::{Action, Ask, Event, Note};

use crate::Owner;
use crate::limits;
use crate::owners::Owners;
use crate::shares::Shares;
use crate::shell::shell;
use crate::timers::{Timer, Timers};

/// How far a transfer is.
#[derive(Clone, Debug, Hash)]
enum Phase {
    /// Prepare is sent; nothing is frozen.
    Asking { request: Request, ask: Ask },
    /// The target's application is being asked, in this transfer; nothing is frozen.
    Consulted { request: Request, ask: Ask, transfer: TransferId },
    /// The socket is frozen and being dumped; nothing has left this host.
    Dumping { note: Note, epoch: Epoch, application: Vec<u8> },
    /// The connection was sent. `parcel` is gone if a former run of this agent sent it.
    InDoubt { note: Note, parcel: Option<Parcel>, alive: bool },
}

/// The source's machine: all connections that leave this host.
#[derive(Clone, Debug, Hash)]
pub struct Source {
    incarnation: u64,
    asked: u64,
    owners: Owners,
    transfers: BTreeMap<Connection, Phase>,
    /// How many there are to each target.
    to_targets: Shares,
    timers: Timers<Connection>,
    actions: VecDeque<Action>,
}

shell!(Source, Connection, |machine, connection| {
    matches!(machine.transfers.get(connection), Some(Phase::InDoubt { .. }))
});

impl Source {
    /// A machine without transfers. `incarnation` differs each time the agent starts.
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            asked: 0,
            owners: Owners::default(),
            transfers: BTreeMap::new(),
            to_targets: Shares::default(),
            timers: Timers::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes in what has happened.
    ///
    /// # Errors
    /// Why the event was not followed: to be answered if it is [`Event::Asked`], to be counted otherwise.
    pub fn handle(&mut self, event: Event, now: Instant) -> Result<(), Reason> {
        match event {
            Event::Owner { dvipa, owner } => self.owner(dvipa, owner, now),
            Event::Asked(ask) => return self.asked(ask, now),
            Event::Cancelled(connection) => self.cancelled(connection),
            Event::Received { from, message } => {
                // What came too late, of a host that had stood still, is heard by nobody.
                self.time_passed(now);
                return self.received(&from, message, now);
            }
            Event::Dumped { connection, socket } => self.dumped(connection, socket, now)?,
            Event::NotDumped { connection, why } => self.thaw_alone(connection, why)?,
            Event::Inherited { note, alive, until } => {
                let connection = note.connection;
                self.to_targets.add(&note.target);
                self.transfers.insert(connection, Phase::InDoubt { note, parcel: None, alive });
                self.wait(connection, now, until.saturating_duration_since(now));
                self.time_passed(now);
            }
            Event::SocketFound(connection) => {
                if let Some(Phase::InDoubt { alive, .. }) = self.transfers.get_mut(&connection) {
                    *alive = true;
                }
            }
            Event::TimePassed => self.time_passed(now),
        }
        Ok(())
    }

    /// The connection is frozen here: this machine, not NEWCONN and TERMCONN, tells the routing stack about it.
    pub fn speaks_for(&self, connection: &Connection) -> bool {
        matches!(self.transfers.get(connection), Some(Phase::Dumping { .. } | Phase::InDoubt { .. }))
    }

    /// Something is to be done.
    #[cfg(test)]
    pub(crate) fn is_busy(&self) -> bool {
        !self.actions.is_empty()
    }

    fn owner(&mut self, dvipa: Dvipa, owner: Option<Owner>, now: Instant) {
        self.owners.set(dvipa, owner);
        let of_it = self.transfers.keys().filter(|c| c.service().dvipa == dvipa);
        for connection in of_it.copied().collect::<Vec<_>>() {
            self.repeat(connection, now);
        }
    }

    fn asked(&mut self, ask: Ask, now: Instant) -> Result<(), Reason> {
        let connection = ask.connection;
        if self.transfers.contains_key(&connection) {
            return Err(Reason::Busy);
        }
        if self.transfers.len() >= limits::TRANSFERS || self.to_targets.is_used_up(&ask.target) {
            return Err(Reason::TooMany);
        }
        if self.owners.of(connection.service().dvipa).is_none() {
            return Err(Reason::NoRoutingStack);
        }
        let parcel = Parcel { socket: Vec::new(), application: ask.application };
        parcel.check().map_err(|_| Reason::TooLarge)?;
        self.asked += 1;
        let request = Request { incarnation: self.incarnation, number: self.asked };
        let ask = Ask { application: parcel.application, ..ask };
        self.to_targets.add(&ask.target);
        self.transfers.insert(connection, Phase::Asking { request, ask });
        self.wait(connection, now, limits::ANSWER);
        self.repeat(connection, now);
        Ok(())
    }

    fn cancelled(&mut self, connection: Connection) {
        match self.transfers.get(&connection) {
            Some(Phase::Asking { .. }) => {
                self.forget(connection);
                self.fail(connection, Reason::Cancelled.into());
            }
            Some(Phase::Consulted { transfer, .. }) => {
                let transfer = *transfer;
                self.give_up(connection, transfer, Reason::Cancelled.into());
            }
            Some(Phase::Dumping { .. }) => drop(self.thaw_alone(connection, Reason::Cancelled.into())),
            Some(Phase::InDoubt { note, .. }) => {
                let transfer = note.transfer;
                self.abandon(connection, transfer, Reason::Cancelled.into());
            }
            None => {}
        }
    }

    fn received(&mut self, from: &StackName, message: ToSource, now: Instant) -> Result<(), Reason> {
        if !self.owners.is_present(from, message.subject()) {
            return Err(Reason::NotOurs);
        }
        match message {
            ToSource::Refuse(m) => self.refused(m),
            ToSource::Consult(m) => self.consulted(m, now),
            ToSource::Freeze(m) => self.freeze(m),
            ToSource::Released(m) => self.ended(m.about, None),
            ToSource::Aborted(m) => self.aborted(m),
            ToSource::Lost(m) => self.ended(m.about, Some(Reason::OutcomeLost)),
        }
        Ok(())
    }

    fn refused(&mut self, Refuse { connection, request, why, .. }: Refuse) {
        let connection = connection.0;
        if self.wants(&connection, request) {
            self.forget(connection);
            self.fail(connection, why);
        }
    }

    /// This is what is asked for, and it is not frozen.
    fn wants(&self, connection: &Connection, request: Request) -> bool {
        match self.transfers.get(connection) {
            Some(Phase::Asking { request: ours, .. } | Phase::Consulted { request: ours, .. }) => {
                *ours == request
            }
            Some(Phase::Dumping { .. } | Phase::InDoubt { .. }) | None => false,
        }
    }

    /// The target's application is being asked: what it is to read is sent ahead, and the connection goes on.
    fn consulted(&mut self, Consult { about, request }: Consult, now: Instant) {
        let (connection, transfer) = (about.connection.0, about.transfer);
        // In one session nothing of it gets lost, and in another one it is another transfer.
        let is_sent = matches!(self.transfers.get(&connection),
            Some(Phase::Consulted { transfer: before, .. }) if *before == transfer);
        if self.wants(&connection, request)
            && let Some(Phase::Asking { ask, .. } | Phase::Consulted { ask, .. }) =
                self.transfers.remove(&connection)
        {
            // Of another transfer than before, if the routing stack was restarted.
            self.transfers.insert(connection, Phase::Consulted { request, ask, transfer });
            self.wait(connection, now, limits::CONSULTED);
            if !is_sent {
                self.send_state(about);
            }
            return;
        }
        let is_late = matches!(self.transfers.get(&connection),
            Some(Phase::Dumping { note, .. } | Phase::InDoubt { note, .. }) if note.transfer == transfer);
        if !is_late {
            self.abandon(connection, transfer, Reason::Unknown.into());
        }
    }

    fn freeze(&mut self, Freeze { about, request, way, ledger }: Freeze) {
        let (connection, transfer) = (about.connection.0, about.transfer);
        match self.transfers.get_mut(&connection) {
            Some(Phase::Asking { request: ours, ask } | Phase::Consulted { request: ours, ask, .. })
                if *ours == request =>
            {
                let note = Note { connection, transfer, target: ask.target.clone(), ledger, way };
                // Who was asked has read it.
                let application = match ask.consent {
                    Consent::Asked => Vec::new(),
                    Consent::Presumed => std::mem::take(&mut ask.application),
                };
                self.timers.clear(connection);
                self.actions.push_back(Action::Freeze(note.clone()));
                self.actions.push_back(Action::Dump { connection, way });
                let phase = Phase::Dumping { note, epoch: about.epoch, application };
                self.transfers.insert(connection, phase);
            }
            Some(Phase::Dumping { note, .. }) if note.transfer == transfer => {}
            Some(Phase::InDoubt { note, parcel: Some(_), .. }) if note.transfer == transfer => {
                self.send_parts(connection);
            }
            // A parcel that is gone with a former run can't be sent again.
            Some(Phase::InDoubt { note, .. }) if note.transfer == transfer => {
                self.abandon(connection, transfer, Reason::SourceLost.into());
            }
            Some(
                Phase::Asking { .. }
                | Phase::Consulted { .. }
                | Phase::Dumping { .. }
                | Phase::InDoubt { .. },
            )
            | None => self.abandon(connection, transfer, Reason::Unknown.into()),
        }
    }

    fn dumped(&mut self, connection: Connection, socket: Vec<u8>, now: Instant) -> Result<(), Reason> {
        let Some(Phase::Dumping { note, epoch, application }) = self.transfers.get_mut(&connection) else {
            return Err(Reason::Unknown);
        };
        let parcel = Parcel { socket, application: std::mem::take(application) };
        let (note, epoch) = (note.clone(), *epoch);
        if parcel.check().is_err() {
            return self.thaw_alone(connection, Reason::TooLarge.into());
        }
        if self.owners.of(connection.service().dvipa).is_none_or(|owner| owner.epoch != epoch) {
            return self.thaw_alone(connection, Reason::NoRoutingStack.into());
        }
        let phase = Phase::InDoubt { note, parcel: Some(parcel), alive: true };
        self.transfers.insert(connection, phase);
        self.wait(connection, now, limits::IN_DOUBT);
        self.send_parts(connection);
        Ok(())
    }

    /// Nothing has left this host: nobody else can have the connection.
    fn thaw_alone(&mut self, connection: Connection, why: Why) -> Result<(), Reason> {
        let Some(Phase::Dumping { note, .. }) = self.transfers.get(&connection) else {
            return Err(Reason::Unknown);
        };
        let transfer = note.transfer;
        self.actions.push_back(Action::Thaw(connection));
        self.give_up(connection, transfer, why);
        Ok(())
    }

    /// Nothing has left this host, and nothing is frozen.
    fn give_up(&mut self, connection: Connection, transfer: TransferId, why: Why) {
        self.forget(connection);
        self.abandon(connection, transfer, why.clone());
        self.fail(connection, why);
    }

    /// The routing stack says that nobody else has it.
    fn aborted(&mut self, Aborted { about, why, request }: Aborted) {
        let connection = about.connection.0;
        if request.is_some_and(|request| self.wants(&connection, request)) {
            self.forget(connection);
            self.fail(connection, why);
            return self.tell(connection, |_| FromSource::Done(Done { about, held: Held::Here }));
        }
        let held = match self.transfers.get(&connection) {
            Some(Phase::Dumping { note, .. }) if note.transfer == about.transfer => Held::Here,
            Some(Phase::InDoubt { note, alive, .. }) if note.transfer == about.transfer => {
                if *alive {
                    Held::Here
                } else {
                    Held::Gone
                }
            }
            Some(
                Phase::Asking { .. }
                | Phase::Consulted { .. }
                | Phase::Dumping { .. }
                | Phase::InDoubt { .. },
            )
            | None => Held::Unknown,
        };
        if held != Held::Unknown {
            self.forget(connection);
            let here = held == Held::Here;
            self.actions.push_back(if here { Action::Thaw(connection) } else { Action::Discard(connection) });
            self.fail(connection, why);
        }
        self.tell(connection, |_| FromSource::Done(Done { about, held }));
    }

    /// Another has it, or nobody.
    fn ended(&mut self, about: About, failure: Option<Reason>) {
        let connection = about.connection.0;
        let ours = matches!(self.transfers.get(&connection),
            Some(Phase::InDoubt { note, .. }) if note.transfer == about.transfer);
        if ours {
            self.forget(connection);
            self.actions.push_back(Action::Discard(connection));
            match failure {
                Some(reason) => self.fail(connection, reason.into()),
                None => self.actions.push_back(Action::Moved(connection)),
            }
        }
        let held = if ours { Held::Gone } else { Held::Unknown };
        self.tell(connection, |_| FromSource::Done(Done { about, held }));
    }

    /// A timer of a connection fires.
    pub(crate) fn fire(&mut self, connection: Connection, timer: Timer, now: Instant) {
        match (timer, self.transfers.get(&connection)) {
            (Timer::Repeat, Some(_)) => self.repeat(connection, now),
            (Timer::Patience, Some(Phase::Asking { .. })) => {
                self.forget(connection);
                self.fail(connection, Reason::TimedOut.into());
            }
            (Timer::Patience, Some(Phase::Consulted { transfer, .. })) => {
                let transfer = *transfer;
                self.give_up(connection, transfer, Reason::TimedOut.into());
            }
            (Timer::Patience, Some(Phase::InDoubt { note, .. })) => {
                let transfer = note.transfer;
                self.forget(connection);
                self.actions.push_back(Action::Discard(connection));
                self.fail(connection, Reason::OutcomeLost.into());
                self.tell(connection, |epoch| {
                    let about = About { connection: WireConnection(connection), transfer, epoch };
                    FromSource::Done(Done { about, held: Held::Gone })
                });
            }
            (Timer::Patience, Some(Phase::Dumping { .. }) | None) | (Timer::Repeat, None) => {}
        }
    }

    /// Says again what was not answered.
    fn repeat(&mut self, connection: Connection, now: Instant) {
        let phase = self.transfers.get(&connection);
        let Some(owner) = self.owners.of(connection.service().dvipa) else { return };
        let (wire, epoch) = (WireConnection(connection), owner.epoch);
        let message = match phase {
            Some(Phase::Asking { request, ask } | Phase::Consulted { request, ask, .. }) => {
                FromSource::Prepare(Prepare {
                    connection: wire,
                    epoch,
                    request: *request,
                    target: ask.target.clone(),
                    consent: ask.consent,
                    application_bytes: u32::try_from(ask.application.len()).unwrap_or(u32::MAX),
                    job: ask.job.clone(),
                    giver: ask.giver.clone(),
                })
            }
            Some(Phase::InDoubt { note, .. }) => FromSource::Doubt(Doubt {
                about: About { connection: wire, transfer: note.transfer, epoch },
                target: note.target.clone(),
                ledger: note.ledger,
                way: note.way,
            }),
            Some(Phase::Dumping { .. }) | None => return,
        };
        self.timers.set(connection, Timer::Repeat, now + limits::REPEAT);
        self.actions.push_back(Action::Send { to: owner.stack.clone(), message });
    }

    /// What the target's application is to read goes to the sender of Consult.
    fn send_state(&mut self, about: About) {
        let connection = about.connection.0;
        let Some(Phase::Consulted { ask, .. }) = self.transfers.get(&connection) else { return };
        if ask.application.is_empty() {
            return;
        }
        let Some(owner) = self.owners.of(connection.service().dvipa) else { return };
        let parcel = Parcel { socket: Vec::new(), application: ask.application.clone() };
        // Its size was checked when it was asked for.
        for part in parcel.parts(about).unwrap_or_default() {
            let (to, message) = (owner.stack.clone(), FromSource::State(part));
            self.actions.push_back(Action::Send { to, message });
        }
    }

    fn send_parts(&mut self, connection: Connection) {
        let Some(Phase::InDoubt { note, parcel: Some(parcel), .. }) = self.transfers.get(&connection) else {
            return;
        };
        let Some(owner) = self.owners.of(connection.service().dvipa) else { return };
        let about =
            About { connection: WireConnection(connection), transfer: note.transfer, epoch: owner.epoch };
        // Its size was checked when it was dumped.
        for part in parcel.parts(about).unwrap_or_default() {
            let (to, message) = (owner.stack.clone(), FromSource::Part(part));
            self.actions.push_back(Action::Send { to, message });
        }
    }

    fn abandon(&mut self, connection: Connection, transfer: TransferId, why: Why) {
        self.tell(connection, |epoch| {
            let about = About { connection: WireConnection(connection), transfer, epoch };
            FromSource::Abandon(Abandon { about, why })
        });
    }

    /// Tells the connection's routing stack, if there is one.
    fn tell(&mut self, connection: Connection, message: impl FnOnce(Epoch) -> FromSource) {
        if let Some(owner) = self.owners.of(connection.service().dvipa) {
            let (to, message) = (owner.stack.clone(), message(owner.epoch));
            self.actions.push_back(Action::Send { to, message });
        }
    }

    fn fail(&mut self, connection: Connection, why: Why) {
        self.actions.push_back(Action::Failed { connection, why });
    }

    fn wait(&mut self, connection: Connection, now: Instant, patience: std::time::Duration) {
        self.timers.set(connection, Timer::Repeat, now + limits::REPEAT);
        self.timers.set(connection, Timer::Patience, now + patience);
    }

    fn forget(&mut self, connection: Connection) {
        if let Some(phase) = self.transfers.remove(&connection) {
            let (Phase::Asking { ask: Ask { target, .. }, .. }
            | Phase::Consulted { ask: Ask { target, .. }, .. }
            | Phase::Dumping { note: Note { target, .. }, .. }
            | Phase::InDoubt { note: Note { target, .. }, .. }) = &phase;
            self.to_targets.remove(target);
        }
        self.timers.clear(connection);
    }
}
