//! The target's part: restore silently, and decide.
//!
//! Pure: [`Target::handle`] takes an event and the time, [`Target::poll`] gives what is to be done,
//! [`Target::next_deadline`] says when [`Event::TimePassed`] is due. Until it activates it may void a transfer at any
//! time; afterwards it says Active until everybody knows.
//!
//! | event | none | Hearing | Thinking | Collecting | Preparing | Prepared | Admitted | Passing | Activating | Active | Barring |
//! | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
//! | Offer | *Hearing*; ask, if there is no state; *Thinking*; *Collecting*, if nobody is asked; or Void | – | – | *again* | – | *again* | *again* | – | – | Active | – |
//! | State (the last) | – | ask; *Thinking* | – | – | – | – | – | – | – | – | – |
//! | Accepted | – | – | Agreed; *Collecting* | – | – | – | – | – | – | – | – |
//! | Rejected | – | – | *void* | – | – | – | – | – | – | – | – |
//! | Refused | – | *void* | *void* | *void* | – | – | *void* | *void* | – | – | – |
//! | ApplicationGone | – | *void* | *void* | *void* | *void* | *void* | *void* | – | – | – | – |
//! | Part (but the last) | – | – | – | Agreed, if it is restored; patience begins anew | – | – | – | – | – | – | – |
//! | Part (the last) | – | – | – | *prepare* | – | – | – | – | – | – | – |
//! | Ready | – | – | – | – | *again*; *Prepared*, or pass; *Passing* if permitted | – | – | – | – | – | – |
//! | Admitted | – | – | – | – | *again*; *Admitted* | – | – | – | – | – | – |
//! | NotReady | – | – | – | – | *void* | – | – | – | – | – | – |
//! | Commit | Void | – | – | permitted | permitted | pass; *Passing* | – | – | – | Active | – |
//! | Passed | – | – | – | – | – | – | – | activate; *Activating* | – | – | – |
//! | NotPassed | – | – | – | – | – | – | – | *void* | – | – | – |
//! | Activated | – | – | – | – | – | – | – | – | Active; *Active* | – | – |
//! | Made | – | – | – | – | Active; *Active* | – | Active; *Active* | – | – | – | Active; *Active* |
//! | Abort | Void | *void* | *void* | *void* | *void* | *void* | *void* | – | – | Active | – |
//! | Barred | – | – | – | – | – | – | – | – | – | – | Active; *Active*, or *void* |
//! | Settled | – | – | – | – | – | – | – | – | – | forget; *none* | – |
//! | new owner | – | – | – | *again* | – | *again* | *again* | – | – | Active | – |
//! | Repeat fires | – | – | – | *again* | – | *again* | *again* | – | – | Active | – |
//! | Patience fires | – | *void* | *void* | *void* | – | *void* | *void* | – | – | forget; *none* | – |
//!
//! Hearing and Thinking are of connections whose application is asked: nothing of the connection is here, and it goes on at the
//! source. Commit, Prepared, Passing and Activating are of connections that are restored, Admitted, Made and Barring of injection.
//! *again*: Agreed of the former (while it is Collecting only if its application was asked), of the latter Prepared with the token.
//! *prepare*: restore, or admit;
//! *Preparing*. *void*: discard, Void; *none*; where packets may make the connection: bar first; *Barring*. Preparing, Passing,
//! Activating and Barring have no timer: the hands always answer.

mod event;
mod phases;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use model::codec::WireConnection;
use model::handoff::Token;
use model::transfer::{
    Abilities, About, Collector, Consent, FromHost, FromTarget, Ledger, Parcel, Reason, ToTarget, TransferId,
    Void, Way, Why,
};
use model::{Connection, Dvipa, StackName};

pub use event::{Action, Event, Note, Standing};

use crate::Owner;
use crate::closed::Closed;
use crate::limits;
use crate::owners::Owners;
use crate::shell::shell;
use crate::timers::{Timer, Timers};

/// How far a transfer is.
#[derive(Clone, Debug, Hash)]
enum Phase {
    /// The state that the application is to read comes in.
    Hearing(Collector),
    /// The application thinks about the offer.
    Thinking,
    /// The application agrees, or is not asked; the parts come in.
    Collecting(Collector),
    /// The socket is being restored, or the packets admitted.
    Preparing,
    /// The socket is restored: Commit has it activated.
    Prepared,
    /// A packet with this token makes it.
    Admitted(Token),
    /// The application is given the silent socket.
    Passing,
    /// The decision is being noted.
    Activating,
    /// The connection is here; not everybody knows.
    Active,
    /// Packets are kept from making the connection; perhaps one has.
    Barring(Why),
}

/// A transfer to this host.
#[derive(Clone, Debug, Hash)]
struct Entry {
    note: Note,
    consent: Consent,
    /// Commit has come.
    permitted: bool,
    job: Option<String>,
    /// What the application is told when it is passed a connection that it was not asked about.
    application: Vec<u8>,
    phase: Phase,
}

/// The target's machine: all connections that come to this host.
#[derive(Clone, Debug, Hash)]
pub struct Target {
    abilities: Abilities,
    owners: Owners,
    entries: BTreeMap<TransferId, Entry>,
    by_connection: BTreeMap<Connection, TransferId>,
    /// What was voided, so that a late Offer does not revive it.
    closed: Closed,
    timers: Timers<TransferId>,
    actions: VecDeque<Action>,
    /// Connections of which a transfer has ended since [`Target::take_ended`].
    ended: Vec<Connection>,
}

shell!(Target, TransferId, |machine, transfer| {
    machine.entries.get(transfer).is_some_and(|entry| matches!(entry.phase, Phase::Active))
});

impl Target {
    /// A machine without transfers. The incarnation in its abilities differs each time the agent starts.
    pub fn new(abilities: Abilities) -> Self {
        Self {
            abilities,
            owners: Owners::default(),
            entries: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            closed: Closed::default(),
            timers: Timers::default(),
            actions: VecDeque::new(),
            ended: Vec::new(),
        }
    }

    /// Takes in what has happened.
    ///
    /// # Errors
    /// Why the event was not followed: to be counted.
    pub fn handle(&mut self, event: Event, now: Instant) -> Result<(), Reason> {
        match event {
            Event::Owner { dvipa, owner } => {
                self.owner(dvipa, owner, now);
                Ok(())
            }
            Event::Received { from, message } => self.received(&from, message, now),
            Event::Accepted(transfer) => self.accepted(transfer, now),
            Event::Rejected { transfer, said } => self.rejected(transfer, &said),
            Event::Refused { transfer, why } => self.refused(transfer, why),
            Event::ApplicationGone(transfer) => self.application_gone(transfer),
            Event::Ready(transfer) => self.ready(transfer, now),
            Event::Admitted { transfer, token } => self.admitted(transfer, token, now),
            Event::NotReady { transfer, why } => self.not_ready(transfer, why),
            Event::Passed(transfer) => self.passed(transfer),
            Event::NotPassed(transfer) => self.not_passed(transfer),
            Event::Activated(transfer) => self.activated(transfer, now),
            Event::Made(transfer) => self.made(transfer, now),
            Event::Barred { transfer, made } => self.barred(transfer, made, now),
            Event::Inherited { note, standing } => {
                self.inherited(note, standing, now);
                Ok(())
            }
            Event::TimePassed => {
                self.time_passed(now);
                Ok(())
            }
        }
    }

    /// Something of the connection is here and not active: this machine, not NEWCONN and TERMCONN, tells the routing stack
    /// about it.
    pub fn speaks_for(&self, connection: &Connection) -> bool {
        self.phase_of(connection).is_some_and(|phase| match phase {
            // A late copy of an old offer may name a connection that is here for good.
            Phase::Hearing(_) | Phase::Thinking | Phase::Collecting(_) | Phase::Active => false,
            Phase::Preparing
            | Phase::Prepared
            | Phase::Admitted(_)
            | Phase::Passing
            | Phase::Activating
            | Phase::Barring(_) => true,
        })
    }

    /// The connection has come here, and not everybody knows yet: it can't move on before.
    pub fn unsettled(&self, connection: &Connection) -> bool {
        self.phase_of(connection).is_some_and(|phase| !matches!(phase, Phase::Hearing(_) | Phase::Thinking))
    }

    /// Connections of which a transfer has ended: they may no longer be [unsettled](Target::unsettled).
    pub(crate) fn take_ended(&mut self) -> Vec<Connection> {
        std::mem::take(&mut self.ended)
    }

    /// Something is to be done.
    #[cfg(test)]
    pub(crate) fn is_busy(&self) -> bool {
        !self.actions.is_empty()
    }

    fn phase_of(&self, connection: &Connection) -> Option<&Phase> {
        self.by_connection.get(connection).and_then(|t| self.entries.get(t)).map(|entry| &entry.phase)
    }

    fn owner(&mut self, dvipa: Dvipa, owner: Option<Owner>, now: Instant) {
        if let Some(owner) = &owner {
            let (to, message) = (owner.stack.clone(), FromHost::Abilities(self.abilities));
            self.actions.push_back(Action::Send { to, message });
        }
        self.owners.set(dvipa, owner);
        let of_it = self.entries.iter().filter(|(_, e)| e.note.connection.service().dvipa == dvipa);
        for transfer in of_it.map(|(transfer, _)| *transfer).collect::<Vec<_>>() {
            self.repeat(transfer, now);
        }
    }

    fn received(&mut self, from: &StackName, message: ToTarget, now: Instant) -> Result<(), Reason> {
        if !self.owners.is_present(from, message.subject()) {
            return Err(Reason::NotOurs);
        }
        match message {
            ToTarget::Offer(offer) => self.offer(offer, now),
            ToTarget::State(part) => return self.state(part, now),
            ToTarget::Part(part) => return self.part(part, now),
            ToTarget::Commit(commit) => self.commit(commit, now),
            ToTarget::Abort(abort) => self.abort(abort, now),
            ToTarget::Settled(settled) => self.settled(settled.about.transfer),
        }
        Ok(())
    }

    /// Says that a transfer is not active here and never will be, and sees to it.
    fn say_void(&mut self, connection: Connection, transfer: TransferId, why: Why) {
        self.closed.add(transfer);
        let ledger = self.ledger();
        self.tell(connection, transfer, |about| FromTarget::Void(Void { about, ledger, why }));
    }

    /// Tells the connection's routing stack, if there is one.
    fn tell(&mut self, connection: Connection, transfer: TransferId, say: impl FnOnce(About) -> FromTarget) {
        if let Some(Owner { stack, epoch }) = self.owners.of(connection.service().dvipa) {
            let connection = WireConnection(connection);
            let about = About { connection, transfer, epoch: *epoch };
            self.actions.push_back(Action::Send { to: stack.clone(), message: say(about).into() });
        }
    }

    fn ledger(&self) -> Ledger {
        self.abilities.ledger
    }

    fn remove(&mut self, transfer: TransferId) -> Option<Entry> {
        let entry = self.entries.remove(&transfer)?;
        self.by_connection.remove(&entry.note.connection);
        self.ended.push(entry.note.connection);
        self.timers.clear(transfer);
        Some(entry)
    }

    /// The parts are here, and the application agrees or is not asked.
    fn prepare(&mut self, transfer: TransferId, Parcel { socket, application }: Parcel) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        entry.application = application;
        entry.phase = Phase::Preparing;
        self.timers.clear(transfer);
        self.actions.push_back(match entry.note.way {
            Way::Restore => Action::Restore { note: entry.note.clone(), socket },
            Way::Inject => Action::Admit { note: entry.note.clone(), socket },
        });
    }

    /// All that the application is to read is here.
    fn ask(&mut self, transfer: TransferId, application: Vec<u8>, now: Instant) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        entry.phase = Phase::Thinking;
        let (connection, job) = (entry.note.connection, entry.job.clone());
        self.timers.set(transfer, Timer::Patience, now + limits::CONSENT);
        self.actions.push_back(Action::Ask { transfer, connection, job, application });
    }
}
