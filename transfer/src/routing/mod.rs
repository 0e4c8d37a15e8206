//! The routing stack's part: have the target asked, hold the client's packets, relay, permit, and point the CRT entry at
//! the stack that has the connection.
//!
//! Pure: [`Routing::handle`] takes an event and the time, [`Routing::poll`] gives what is to be done,
//! [`Routing::next_deadline`] says when [`Event::TimePassed`] is due. Nothing here is on disk: who owns a connection is
//! known to the agents, and they say it to whichever routing stack there is.
//!
//! | event | none | Consulting | Awaiting | Offering | Committing | Asking | Releasing | Returning | Losing |
//! | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
//! | Prepare (same request) | *consult* or *hold*, or Refuse | Consult, Offer | Freeze | – | – | – | – | as none | – |
//! | Prepare (another) | as above | Refuse | Refuse | Refuse | Refuse | Refuse | Refuse | as none | Refuse |
//! | State (the last) | – | state | – | – | – | – | – | – | – |
//! | Part (the last) | – | – | parts; *Offering*, or Commit, too; *Committing* | – | – | – | – | – | – |
//! | Abandon | – | *drop* | *abort* | *abort* | Abort; *Asking* | – | – | – | – |
//! | Doubt | its own: Aborted; foreign: freeze, Abort; *Asking* | – | Freeze | – | – | – | Released | Aborted | Lost |
//! | Agreed | Abort | freeze, Freeze; *Awaiting* | – | – | Commit | Abort | – | Abort | Abort |
//! | Prepared | Abort | – | – | hand over; *Committing* | the first: hand over; else Abort | Abort | – | Abort | Abort |
//! | Void | – | *drop* | *return* | *return* | *return*, or *lose* | *return*, or *lose* | – | – | – |
//! | Active | its own: Settled; foreign: *release* | – | – | – | *release* | *release* | – | – | – |
//! | Done | – | – | – | – | – | – | Settled; *none* | thaw (end if gone); *none* | end; *none* |
//! | Ended | – | *drop* | – | – | – | – | – | – | – |
//! | session with target down | – | *drop* | *abort* | *abort* | – | – | – | – | – |
//! | session with source down | – | *drop* | *abort* | – | – | – | – | – | – |
//! | session up | – | – | – | again, parts | again, parts | again | again | again | again |
//! | NotHandedOver | – | – | – | – | Abort; *Asking* (injection) | – | – | – | – |
//! | Repeat fires | – | – | – | Offer | Offer, Commit, or hand over | Abort | Released | Aborted | Lost |
//! | Patience fires | – | *drop* | *abort* | *abort* | Abort; *Asking* | end; *none* | *none* | thaw; *none* | end; *none* |
//!
//! Consulting, Agreed and Commit are of connections that are restored, Offering, Prepared and handing over of injection.
//! *consult*, if an application is to be asked: Consult, Offer; *Consulting*: nothing is held, and NEWCONN and TERMCONN tell of
//! the connection. *hold*: freeze, Freeze, Offer; *Awaiting*. *drop*: Abort to the target (unless it said Void), Aborted to the
//! source; *none*. *abort*: the same; *Returning*. *release*: thaw to the target, Released; *Releasing*. *return*: Aborted;
//! *Returning*. *lose*: Lost; *Losing*. While parts come in, here or, as Agreed says, at the target, patience begins anew. Void ends in *lose* when it comes out of another ledger than the one that Freeze named.

mod entry;
mod event;
mod phases;
mod recovery;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use model::codec::WireConnection;
use model::transfer::{
    Abilities, Abort, About, Collector, Consent, Consult, Freeze, FromHost, FromSource, FromTarget, Offer,
    Prepare, Reason, Refuse, ToHost, ToSource, ToTarget, TransferId, Way, Why,
};
use model::{Connection, Dvipa, Epoch, StackName};

pub use event::{Action, Event, Outcome, Reach, Targets};
pub use view::{Step, UnderWay};

use crate::closed::Closed;
use crate::limits;
use crate::shares::Shares;
use crate::shell::shell;
use crate::timers::{Timer, Timers};
use entry::{Entry, Phase};

/// The routing stack's machine: all transfers of connections to DVIPAs that it owns.
#[derive(Clone, Debug, Hash)]
pub struct Routing {
    incarnation: u64,
    given: u64,
    /// Its own transfers below this number are not remembered whole: they are treated as another's.
    floor: u64,
    owned: BTreeMap<Dvipa, Epoch>,
    abilities: BTreeMap<StackName, Abilities>,
    entries: BTreeMap<TransferId, Entry>,
    by_connection: BTreeMap<Connection, TransferId>,
    /// How many there are to each target.
    to_targets: Shares,
    /// Transfers that others gave and whose end was seen here.
    closed: Closed,
    timers: Timers<TransferId>,
    actions: VecDeque<Action>,
}

shell!(Routing, TransferId, |machine, transfer| {
    let phase = machine.entries.get(transfer).map(|entry| &entry.phase);
    matches!(phase, Some(Phase::Asking(_) | Phase::Releasing | Phase::Losing))
});

impl Routing {
    /// A machine without transfers. `incarnation` differs each time a routing stack starts, on whichever node.
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            given: 0,
            floor: 0,
            owned: BTreeMap::new(),
            abilities: BTreeMap::new(),
            entries: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            to_targets: Shares::default(),
            closed: Closed::default(),
            timers: Timers::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes in what has happened.
    ///
    /// # Errors
    /// Why a message was not followed: to be counted.
    pub fn handle(&mut self, event: Event, targets: &dyn Targets, now: Instant) -> Result<(), Reason> {
        match event {
            Event::Owns { dvipa, epoch } => {
                if self.owned.insert(dvipa, epoch).is_some_and(|before| before != epoch) {
                    self.yields(dvipa);
                }
            }
            Event::Yields(dvipa) => {
                self.owned.remove(&dvipa);
                self.yields(dvipa);
            }
            Event::SessionUp(stack) => {
                for transfer in self.those(|e| e.source == stack || e.target == stack) {
                    self.repeat(transfer, now);
                    if self.entries.get(&transfer).is_some_and(|e| e.target == stack) {
                        self.send_parts(transfer);
                    }
                }
            }
            Event::SessionDown(stack) => self.session_down(&stack, now),
            Event::Received { from, message } => return self.received(from, message, targets, now),
            Event::Ended(connection) => self.ended(&connection, now),
            Event::NotHandedOver { connection, why } => self.not_handed_over(&connection, why, now),
            Event::TimePassed => self.time_passed(now),
        }
        Ok(())
    }

    /// A transfer of this connection is under way and its CRT entry frozen, or handed over, or just switched. While the
    /// target's application is asked, nothing of that is so.
    pub fn speaks_for(&self, connection: &Connection) -> bool {
        let transfer = self.by_connection.get(connection);
        transfer.and_then(|t| self.entries.get(t)).is_some_and(Entry::holds)
    }

    fn received(
        &mut self,
        from: StackName,
        message: FromHost,
        targets: &dyn Targets,
        now: Instant,
    ) -> Result<(), Reason> {
        match message {
            FromHost::Abilities(abilities) => {
                self.abilities.insert(from, abilities);
                Ok(())
            }
            FromHost::Source(message) => {
                self.is_ours(message.subject())?;
                self.source_says(from, message, targets, now)
            }
            FromHost::Target(message) => {
                self.is_ours(message.subject())?;
                self.target_says(from, message, now)
            }
        }
    }

    /// What is of another epoch is void.
    fn is_ours(&self, (connection, epoch): (Connection, Epoch)) -> Result<(), Reason> {
        let ours = self.owned.get(&connection.service().dvipa) == Some(&epoch);
        if ours { Ok(()) } else { Err(Reason::NotOurs) }
    }

    fn source_says(
        &mut self,
        from: StackName,
        message: FromSource,
        targets: &dyn Targets,
        now: Instant,
    ) -> Result<(), Reason> {
        match message {
            FromSource::Prepare(m) => {
                self.prepare(from, m, targets, now);
                Ok(())
            }
            FromSource::State(m) => self.state(&from, m, now),
            FromSource::Part(m) => self.part(&from, m, now),
            FromSource::Abandon(m) => self.abandon(&from, m, now),
            FromSource::Doubt(m) => self.doubt(from, m, now),
            FromSource::Done(m) => self.done(&from, m),
        }
    }

    fn target_says(&mut self, from: StackName, message: FromTarget, now: Instant) -> Result<(), Reason> {
        match message {
            FromTarget::Agreed(m) => self.agreed(&from, m, now),
            FromTarget::Prepared(m) => self.prepared(&from, m, now),
            FromTarget::Void(m) => self.void(&from, m, now),
            FromTarget::Active(m) => self.active(from, m, now),
        }
    }

    fn prepare(&mut self, source: StackName, prepare: Prepare, targets: &dyn Targets, now: Instant) {
        let (wire, request, epoch) = (prepare.connection, prepare.request, prepare.epoch);
        if let Some(transfer) = self.by_connection.get(&wire.0).copied()
            && let Some(entry) = self.entries.get(&transfer)
        {
            let (same, phase) = (entry.source == source, &entry.phase);
            match phase {
                // Who asks anew has thawed: a source has one transfer a connection.
                Phase::Returning { .. } if same => self.returned(transfer, false),
                Phase::Consulting(_) if same && entry.request == Some(request) => {
                    return self.consult(transfer);
                }
                _ if same && entry.request == Some(request) => return self.tell_again(transfer),
                _ => return self.refuse(source, &prepare, Reason::Busy),
            }
        }
        let (way, able) = match self.choose(&source, &prepare, targets) {
            Ok(chosen) => chosen,
            Err(reason) => return self.refuse(source, &prepare, reason),
        };
        let Abilities { ledger, incarnation, .. } = able;
        self.given += 1;
        let transfer = TransferId { incarnation: self.incarnation, number: self.given };
        let about = About { connection: wire, transfer, epoch };
        let Prepare { target, consent, job, application_bytes, giver, .. } = prepare;
        // Of others there is nothing to ask, and nothing to wait for.
        let asks = way == Way::Restore && consent == Consent::Asked;
        let phase = if asks {
            Phase::Consulting((application_bytes > 0).then(Collector::default))
        } else {
            Phase::Awaiting(Collector::default())
        };
        let (request, handed_over) = (Some(request), false);
        self.insert(Entry {
            about,
            source,
            request,
            target,
            way,
            ledger,
            incarnation,
            consent,
            job,
            giver,
            application_bytes,
            handed_over,
            phase,
        });
        if asks {
            self.timers.set(transfer, Timer::Patience, now + limits::CONSULT);
            self.consult(transfer);
        } else {
            self.hold(transfer, now);
            self.offer(transfer);
        }
    }

    /// The target's application is asked, and the source sends what that is to read. Said again when the source asks again.
    fn consult(&mut self, transfer: TransferId) {
        self.tell_again(transfer);
        self.offer(transfer);
    }

    /// The client's packets are held, and the source is told to freeze.
    fn hold(&mut self, transfer: TransferId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        entry.phase = Phase::Awaiting(Collector::default());
        let (connection, owner) = (entry.about.connection.0, entry.source.clone());
        self.actions.push_back(Action::Freeze { connection, owner });
        self.tell_again(transfer);
        self.timers.clear(transfer);
        self.timers.set(transfer, Timer::Patience, now + limits::PART);
    }

    /// The way into the target, and what that says of itself.
    fn choose(
        &self,
        source: &StackName,
        prepare: &Prepare,
        targets: &dyn Targets,
    ) -> Result<(Way, Abilities), Reason> {
        if self.entries.len() >= limits::TRANSFERS || self.to_targets.is_used_up(&prepare.target) {
            return Err(Reason::TooMany);
        }
        if prepare.target == *source {
            return Err(Reason::SameStack);
        }
        let reach = targets.reach(&prepare.connection.0, &prepare.target, prepare.job.as_deref())?;
        let able = *self.abilities.get(&prepare.target).ok_or(Reason::TargetLost)?;
        let way = match reach {
            Reach::ControlSocket if able.restores => Way::Restore,
            Reach::ControlSocket => return Err(Reason::NoWay),
            Reach::Listener if prepare.application_bytes > 0 => return Err(Reason::NeedsControlSocket),
            Reach::Listener if able.injects => Way::Inject,
            Reach::Listener => return Err(Reason::NoWay),
        };
        Ok((way, able))
    }

    fn offer(&mut self, transfer: TransferId) {
        if let Some(entry) = self.entries.get(&transfer) {
            let (target, message) = (entry.target.clone(), ToTarget::Offer(entry.offer()));
            self.send(&target, message);
        }
    }

    fn refuse(&mut self, source: StackName, prepare: &Prepare, reason: Reason) {
        let Prepare { connection, epoch, request, .. } = *prepare;
        self.send(&source, ToSource::Refuse(Refuse { connection, epoch, request, why: reason.into() }));
    }

    /// Tells a source that asks how far its transfer is what it has to do.
    fn tell_again(&mut self, transfer: TransferId) {
        let Some(entry) = self.entries.get(&transfer) else { return };
        let Entry { about, request: Some(request), way, ledger, ref source, .. } = *entry else { return };
        let message = match entry.phase {
            Phase::Consulting(_) => ToSource::Consult(Consult { about, request }),
            Phase::Awaiting(_) => ToSource::Freeze(Freeze { about, request, way, ledger }),
            Phase::Offering(_)
            | Phase::Committing(..)
            | Phase::Asking(_)
            | Phase::Releasing
            | Phase::Returning(_)
            | Phase::Losing => return,
        };
        let source = source.clone();
        self.send(&source, message);
    }

    fn session_down(&mut self, stack: &StackName, now: Instant) {
        self.abilities.remove(stack);
        let needs_target =
            |e: &Entry| matches!(e.phase, Phase::Consulting(_) | Phase::Awaiting(_) | Phase::Offering(_));
        let needs_source = |e: &Entry| matches!(e.phase, Phase::Consulting(_) | Phase::Awaiting(_));
        for transfer in self.those(|e| e.target == *stack && needs_target(e)) {
            self.abort(transfer, Reason::TargetLost.into(), now);
        }
        for transfer in self.those(|e| e.source == *stack && needs_source(e)) {
            self.abort(transfer, Reason::SourceLost.into(), now);
        }
    }

    /// The source says that the connection has ended, or another stack that it has it. A transfer that holds it decides itself.
    fn ended(&mut self, connection: &Connection, now: Instant) {
        if let Some(transfer) = self.by_connection.get(connection).copied()
            && self.entries.get(&transfer).is_some_and(|entry| !entry.holds())
        {
            self.abort(transfer, Reason::Ended.into(), now);
        }
    }

    fn yields(&mut self, dvipa: Dvipa) {
        for transfer in self.those(|e| e.about.dvipa() == dvipa) {
            if let Some(entry) = self.remove(transfer).filter(Entry::holds) {
                // Where it goes on the next owner decides, and this node may not hear it: who has it says so when it is asked for it.
                self.actions.push_back(Action::End(entry.about.connection.0));
            }
        }
        self.floor = self.given + 1;
    }

    fn send(&mut self, to: &StackName, message: impl Into<ToHost>) {
        self.actions.push_back(Action::Send { to: to.clone(), message: message.into() });
    }

    /// The target shall void what it has of a transfer that is not under way here.
    fn abort_at(&mut self, target: &StackName, about: About, why: Why) {
        self.send(target, ToTarget::Abort(Abort { about, why }));
    }

    fn those(&self, which: impl Fn(&Entry) -> bool) -> Vec<TransferId> {
        self.entries.iter().filter(|(_, e)| which(e)).map(|(transfer, _)| *transfer).collect()
    }

    fn insert(&mut self, entry: Entry) {
        let WireConnection(connection) = entry.about.connection;
        self.by_connection.insert(connection, entry.about.transfer);
        self.to_targets.add(&entry.target);
        self.entries.insert(entry.about.transfer, entry);
    }

    fn remove(&mut self, transfer: TransferId) -> Option<Entry> {
        let entry = self.entries.remove(&transfer)?;
        self.by_connection.remove(&entry.about.connection.0);
        self.to_targets.remove(&entry.target);
        self.timers.clear(transfer);
        Some(entry)
    }
}

impl Entry {
    /// The client's packets are held, or were and go to the target already.
    fn holds(&self) -> bool {
        !matches!(self.phase, Phase::Consulting(_))
    }

    /// Who is asked before a connection is put there; a server without a control socket can't be.
    fn asks(&self) -> Consent {
        match self.way {
            Way::Restore => self.consent,
            Way::Inject => Consent::Presumed,
        }
    }

    fn offer(&self) -> Offer {
        Offer {
            about: self.about,
            source: self.source.clone(),
            way: self.way,
            consent: self.asks(),
            ledger: self.ledger,
            job: self.job.clone(),
            giver: self.giver.clone(),
            application_bytes: self.application_bytes,
            incarnation: self.incarnation,
        }
    }
}
