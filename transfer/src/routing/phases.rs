//! A transfer that this machine began, from one phase to the next.

use std::time::Instant;

use model::transfer::{
    Abandon, Abort, Aborted, About, Agreed, Collector, Commit, Done, Held, Lost, PART_BYTES, Parcel, Part,
    Prepared, Reason, Released, Settled, ToSource, ToTarget, TransferId, Void, Way, Why,
};
use model::{Connection, StackName};

use super::entry::{Entry, Permission, Phase};
use super::{Action, Outcome, Routing};
use crate::limits;
use crate::timers::Timer;

impl Routing {
    /// What the target's application is to read goes there as soon as it is whole, and is not kept.
    pub(super) fn state(&mut self, from: &StackName, part: Part, now: Instant) -> Result<(), Reason> {
        let (about, transfer) = (part.about, part.about.transfer);
        let held = self.bytes();
        let entry = self.entries.get_mut(&transfer).filter(|e| e.source == *from).ok_or(Reason::Unknown)?;
        let Phase::Consulting(Some(collector)) = &mut entry.phase else { return Ok(()) };
        if held.saturating_add(part.bytes.len()) > limits::BYTES {
            self.abort(transfer, Reason::TooMany.into(), now);
            return Ok(());
        }
        match collector.take(part) {
            Ok(None) => self.timers.set(transfer, Timer::Patience, now + limits::PART),
            Ok(Some(parcel)) => {
                entry.phase = Phase::Consulting(None);
                let target = entry.target.clone();
                for part in parcel.parts(about).unwrap_or_default() {
                    self.send(&target, ToTarget::State(part));
                }
            }
            Err(error) => self.abort(transfer, Why::new(Reason::Malformed, &error.to_string()), now),
        }
        Ok(())
    }

    pub(super) fn part(&mut self, from: &StackName, part: Part, now: Instant) -> Result<(), Reason> {
        let transfer = part.about.transfer;
        let held = self.bytes();
        let entry = self.entries.get_mut(&transfer).filter(|e| e.source == *from).ok_or(Reason::Unknown)?;
        let Phase::Awaiting(collector) = &mut entry.phase else { return Ok(()) };
        if held.saturating_add(part.bytes.len()) > limits::BYTES {
            self.abort(transfer, Reason::TooMany.into(), now);
            return Ok(());
        }
        match collector.take(part) {
            Ok(None) => self.timers.set(transfer, Timer::Patience, now + limits::PART),
            Ok(Some(parcel)) => self.collected(transfer, parcel, now),
            Err(error) => self.abort(transfer, Why::new(Reason::Malformed, &error.to_string()), now),
        }
        Ok(())
    }

    /// The bytes of connections and states that are held now.
    pub(super) fn bytes(&self) -> usize {
        self.entries.values().map(bytes).sum()
    }

    /// What the source has sent goes to the target; to one that restores it, with the permission.
    fn collected(&mut self, transfer: TransferId, parcel: Parcel, now: Instant) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        let way = entry.way;
        entry.phase = Phase::Offering(parcel);
        self.send_parts(transfer);
        self.timers.set(transfer, Timer::Repeat, now + limits::REPEAT);
        self.timers.set(transfer, Timer::Patience, now + limits::PREPARE);
        // Its application has agreed, or is not asked.
        if way == Way::Restore {
            self.commit(transfer, now);
        }
    }

    pub(super) fn agreed(&mut self, from: &StackName, agreed: Agreed, now: Instant) -> Result<(), Reason> {
        let about = agreed.about;
        let Some(entry) = self.entries.get_mut(&about.transfer) else {
            self.too_late(from, about);
            return Ok(());
        };
        if entry.target != *from || entry.way != Way::Restore {
            return Err(Reason::Unknown);
        }
        match &entry.phase {
            Phase::Consulting(_) => self.hold(about.transfer, now),
            Phase::Awaiting(_) | Phase::Offering(_) => {}
            Phase::Committing(..) => {
                // It is taking the parts in.
                self.timers.set(about.transfer, Timer::Patience, now + limits::PART);
                self.commit(about.transfer, now);
            }
            Phase::Asking(_) | Phase::Returning(_) | Phase::Losing => self.too_late(from, about),
            Phase::Releasing => return Err(Reason::Unknown),
        }
        Ok(())
    }

    /// A target is ready for what is no longer permitted.
    fn too_late(&mut self, target: &StackName, about: About) {
        let why = match self.entries.get(&about.transfer).map(|entry| &entry.phase) {
            Some(Phase::Asking(why) | Phase::Returning(why)) => why.clone(),
            Some(Phase::Losing) => Reason::OtherLedger.into(),
            Some(
                Phase::Consulting(_)
                | Phase::Awaiting(_)
                | Phase::Offering(_)
                | Phase::Committing(..)
                | Phase::Releasing,
            )
            | None => Reason::Unknown.into(),
        };
        self.abort_at(target, about, why);
    }

    /// What moves goes to the target.
    pub(crate) fn send_parts(&mut self, transfer: TransferId) {
        let Some(Entry { about, target, phase, .. }) = self.entries.get(&transfer) else { return };
        let (Phase::Offering(parcel) | Phase::Committing(Permission::Commit, parcel)) = phase else { return };
        // Its size was checked when it came in.
        let (target, parts) = (target.clone(), parcel.parts(*about).unwrap_or_default());
        parts.into_iter().for_each(|part| self.send(&target, ToTarget::Part(part)));
    }

    /// The target may activate. From here on only the target knows the outcome.
    fn commit(&mut self, transfer: TransferId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        if let Phase::Offering(parcel) = &mut entry.phase {
            // A target says of each part but the last that it is there.
            let is_long = parcel.socket.len().saturating_add(parcel.application.len()) > PART_BYTES;
            let patience = if is_long { limits::PART } else { limits::COMMIT };
            entry.phase = Phase::Committing(Permission::Commit, std::mem::take(parcel));
            self.timers.set(transfer, Timer::Patience, now + patience);
        }
        let (target, about) = (entry.target.clone(), entry.about);
        self.send(&target, ToTarget::Commit(Commit { about }));
    }

    pub(super) fn abandon(&mut self, from: &StackName, abandon: Abandon, now: Instant) -> Result<(), Reason> {
        let transfer = abandon.about.transfer;
        let entry = self.entries.get_mut(&transfer).filter(|e| e.source == *from).ok_or(Reason::Unknown)?;
        match entry.phase {
            Phase::Consulting(_) | Phase::Awaiting(_) | Phase::Offering(_) => {
                self.abort(transfer, abandon.why, now)
            }
            Phase::Committing(..) => self.ask(transfer, abandon.why, now),
            Phase::Asking(_) | Phase::Releasing | Phase::Returning(_) | Phase::Losing => {}
        }
        Ok(())
    }

    pub(super) fn prepared(
        &mut self,
        from: &StackName,
        prepared: Prepared,
        now: Instant,
    ) -> Result<(), Reason> {
        let Prepared { about, token } = prepared;
        let Some(entry) = self.entries.get_mut(&about.transfer) else {
            self.too_late(from, about);
            return Ok(());
        };
        if entry.target != *from {
            return Err(Reason::Unknown);
        }
        match &entry.phase {
            Phase::Offering(_) => self.permit(prepared, now),
            Phase::Committing(Permission::Packets(first), _) if *first == token => {
                self.repeat(about.transfer, now);
            }
            // Only one admission of a transfer is ever permitted, so that Void means what it says.
            Phase::Committing(..) => self.abort_at(from, about, Reason::TargetLost.into()),
            Phase::Asking(_) | Phase::Returning(_) | Phase::Losing => self.too_late(from, about),
            Phase::Consulting(_) | Phase::Awaiting(_) | Phase::Releasing => return Err(Reason::Unknown),
        }
        Ok(())
    }

    /// Packets may make the connection. From here on only the target knows the outcome.
    fn permit(&mut self, Prepared { about, token }: Prepared, now: Instant) {
        let Some(entry) = self.entries.get_mut(&about.transfer) else { return };
        let Phase::Offering(parcel) = &mut entry.phase else { return };
        let parcel = std::mem::take(parcel);
        entry.handed_over = true;
        entry.phase = Phase::Committing(Permission::Packets(token), parcel);
        self.repeat(about.transfer, now);
        self.timers.set(about.transfer, Timer::Patience, now + limits::MADE);
    }

    /// Packets can't carry the permission. The target has prepared, so it is asked to void that first.
    pub(super) fn not_handed_over(&mut self, connection: &Connection, why: Why, now: Instant) {
        let Some(transfer) = self.by_connection.get(connection).copied() else { return };
        let phase = self.entries.get(&transfer).map(|entry| &entry.phase);
        if let Some(Phase::Committing(Permission::Packets(_), _)) = phase {
            self.ask(transfer, why, now);
        }
    }

    pub(super) fn void(&mut self, from: &StackName, void: Void, now: Instant) -> Result<(), Reason> {
        let transfer = void.about.transfer;
        let entry = self.entries.get_mut(&transfer).filter(|e| e.target == *from).ok_or(Reason::Unknown)?;
        let same_ledger = entry.ledger == void.ledger;
        match &entry.phase {
            // Nothing was permitted: whatever the ledger, nothing was activated.
            Phase::Consulting(_) | Phase::Awaiting(_) | Phase::Offering(_) => {
                self.give_back(transfer, void.why, now)
            }
            Phase::Committing(..) if same_ledger => self.give_back(transfer, void.why, now),
            Phase::Asking(why) if same_ledger => {
                let why = why.clone();
                self.give_back(transfer, why, now);
            }
            Phase::Committing(..) | Phase::Asking(_) => {
                entry.phase = Phase::Losing;
                self.repeat(transfer, now);
                self.timers.set(transfer, Timer::Patience, now + limits::MEMORY);
            }
            Phase::Releasing | Phase::Returning(_) | Phase::Losing => return Err(Reason::Unknown),
        }
        Ok(())
    }

    /// The target is active: the packets that are held go there from now on.
    pub(super) fn release(&mut self, transfer: TransferId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        entry.phase = Phase::Releasing;
        let (connection, owner) = (entry.about.connection.0, Some(entry.target.clone()));
        self.actions.push_back(Action::Thaw { connection, owner });
        self.repeat(transfer, now);
        self.timers.set(transfer, Timer::Patience, now + limits::MEMORY);
    }

    pub(super) fn done(&mut self, from: &StackName, done: Done) -> Result<(), Reason> {
        let transfer = done.about.transfer;
        if !self.entries.contains_key(&transfer) && self.remembers(transfer) {
            // Of one that was dropped when nothing was held.
            return Ok(());
        }
        let entry = self.entries.get(&transfer).filter(|e| e.source == *from).ok_or(Reason::Unknown)?;
        match entry.phase {
            Phase::Releasing => {
                let target = entry.target.clone();
                self.close(transfer, Outcome::Moved);
                self.send(&target, ToTarget::Settled(Settled { about: done.about }));
            }
            Phase::Returning(_) if done.held == Held::Gone => self.lose(transfer),
            Phase::Returning(_) => self.returned(transfer, done.held == Held::Here),
            Phase::Losing => self.lose(transfer),
            // A source that gave up says so; what the target says later still counts.
            Phase::Consulting(_)
            | Phase::Awaiting(_)
            | Phase::Offering(_)
            | Phase::Committing(..)
            | Phase::Asking(_) => {}
        }
        Ok(())
    }

    /// Ends a transfer that may not activate: nothing was permitted.
    pub(super) fn abort(&mut self, transfer: TransferId, why: Why, now: Instant) {
        let Some(entry) = self.entries.get(&transfer) else { return };
        let (target, about) = (entry.target.clone(), entry.about);
        self.abort_at(&target, about, why.clone());
        self.give_back(transfer, why, now);
    }

    /// The target has nothing any more of a transfer in which nothing was held: the source is told, and that is all.
    fn drop(&mut self, transfer: TransferId, why: Why) {
        let Some(Entry { about, source, request, .. }) = self.entries.get(&transfer) else { return };
        let (source, about, request) = (source.clone(), *about, *request);
        self.send(&source, ToSource::Aborted(Aborted { about, why: why.clone(), request }));
        self.close(transfer, Outcome::Stayed(why));
    }

    /// Nobody but the source has the connection, nor will.
    fn give_back(&mut self, transfer: TransferId, why: Why, now: Instant) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        if !entry.holds() {
            return self.drop(transfer, why);
        }
        entry.phase = Phase::Returning(why);
        self.repeat(transfer, now);
        self.timers.set(transfer, Timer::Patience, now + limits::THAW);
    }

    /// Lets the target say what it has decided; what it has not it never will.
    fn ask(&mut self, transfer: TransferId, why: Why, now: Instant) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        entry.phase = Phase::Asking(why);
        if entry.way == Way::Inject {
            let (connection, owner) = (entry.about.connection.0, entry.source.clone());
            self.actions.push_back(Action::Freeze { connection, owner });
        }
        self.repeat(transfer, now);
        self.timers.set(transfer, Timer::Patience, now + limits::MEMORY);
    }

    /// The transfer is over: the client's packets flow again. Whether to the source, if it does not say that it has the
    /// connection, the CRT entry knows better: a late copy of Prepare may have begun this, long after another stack took
    /// the connection over. But an entry that was handed over points at the target.
    pub(super) fn returned(&mut self, transfer: TransferId, here: bool) {
        let Some(entry) = self.entries.get(&transfer) else { return };
        let Phase::Returning(why) = &entry.phase else { return };
        let (connection, source, why) = (entry.about.connection.0, entry.source.clone(), why.clone());
        let owner = (here || entry.handed_over).then_some(source);
        self.actions.push_back(Action::Thaw { connection, owner });
        self.close(transfer, Outcome::Stayed(why));
    }

    fn lose(&mut self, transfer: TransferId) {
        if let Some(entry) = self.entries.get(&transfer) {
            self.actions.push_back(Action::End(entry.about.connection.0));
        }
        self.close(transfer, Outcome::Lost);
    }

    fn close(&mut self, transfer: TransferId, outcome: Outcome) {
        let Some(Entry { about, source, target, way, .. }) = self.remove(transfer) else { return };
        if !self.remembers(transfer) {
            self.closed.add(transfer);
        }
        self.actions.push_back(Action::Report {
            connection: about.connection.0,
            source,
            target,
            way,
            outcome,
        });
    }

    /// A timer of a transfer fires.
    pub(crate) fn fire(&mut self, transfer: TransferId, timer: Timer, now: Instant) {
        let Some(entry) = self.entries.get(&transfer) else { return };
        if timer == Timer::Repeat {
            return self.repeat(transfer, now);
        }
        match &entry.phase {
            Phase::Consulting(_) | Phase::Awaiting(_) | Phase::Offering(_) => {
                self.abort(transfer, Reason::TimedOut.into(), now)
            }
            Phase::Committing(..) => self.ask(transfer, Reason::TimedOut.into(), now),
            Phase::Returning(_) => self.returned(transfer, false),
            Phase::Losing => self.lose(transfer),
            Phase::Releasing => self.close(transfer, Outcome::Moved),
            Phase::Asking(_) => {
                // Neither agent was heard of for so long that the source has given up: forgotten, and so are all others
                // that this machine can't tell from it.
                self.lose(transfer);
                self.floor = self.given + 1;
            }
        }
    }

    /// Tells the source what has become of a transfer, once that is certain. The parts are sent again in another session only: one loses nothing while it lasts.
    pub(super) fn tell_outcome(&mut self, transfer: TransferId) {
        let Some(Entry { about, source, request, phase, .. }) = self.entries.get(&transfer) else { return };
        let (about, source, request) = (*about, source.clone(), *request);
        let outcome = match phase {
            Phase::Releasing => ToSource::Released(Released { about }),
            Phase::Returning(why) => ToSource::Aborted(Aborted { about, why: why.clone(), request }),
            Phase::Losing => ToSource::Lost(Lost { about }),
            Phase::Consulting(_)
            | Phase::Awaiting(_)
            | Phase::Offering(_)
            | Phase::Committing(..)
            | Phase::Asking(_) => return,
        };
        self.send(&source, outcome);
    }

    /// Says again what was not answered.
    pub(super) fn repeat(&mut self, transfer: TransferId, now: Instant) {
        let Some(entry) = self.entries.get(&transfer) else { return };
        let (about, target) = (entry.about, entry.target.clone());
        match &entry.phase {
            // Its source asks again.
            Phase::Consulting(_) | Phase::Awaiting(_) => return,
            Phase::Offering(_) => self.offer(transfer),
            Phase::Committing(Permission::Commit, _) => {
                self.offer(transfer);
                self.commit(transfer, now);
            }
            Phase::Committing(Permission::Packets(token), parcel) => {
                let (connection, token, parcel) = (about.connection.0, *token, parcel.clone());
                self.actions.push_back(Action::HandOver { connection, target, token, parcel });
                return self.timers.set(transfer, Timer::Repeat, now + limits::HAND_OVER);
            }
            Phase::Asking(why) => {
                let why = why.clone();
                self.send(&target, ToTarget::Abort(Abort { about, why }));
            }
            Phase::Releasing | Phase::Returning(_) | Phase::Losing => self.tell_outcome(transfer),
        }
        self.timers.set(transfer, Timer::Repeat, now + limits::REPEAT);
    }
}

/// The bytes of connections that an entry holds.
fn bytes(entry: &Entry) -> usize {
    match &entry.phase {
        Phase::Consulting(collector) => collector.as_ref().map_or(0, Collector::bytes),
        Phase::Awaiting(collector) => collector.bytes(),
        Phase::Offering(parcel) | Phase::Committing(_, parcel) => {
            parcel.socket.len().saturating_add(parcel.application.len())
        }
        Phase::Asking(_) | Phase::Releasing | Phase::Returning(_) | Phase::Losing => 0,
    }
}
