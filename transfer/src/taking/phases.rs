//! A transfer to this host, from one phase to the next.

use std::time::Instant;

use model::handoff::Token;
use model::transfer::{
    Abort, Active, Agreed, Collector, Commit, Consent, FromTarget, Offer, Part, Prepared, Reason, TransferId,
    Way, Why,
};

use super::event::{Action, Note, Standing};
use super::{Entry, Phase, Target};
use crate::limits;
use crate::timers::Timer;

impl Target {
    pub(super) fn offer(&mut self, offer: Offer, now: Instant) {
        let Offer { about, source, way, consent, ledger, job, application_bytes, incarnation, .. } = offer;
        let (connection, transfer) = (about.connection.0, about.transfer);
        if self.entries.contains_key(&transfer) {
            return self.repeat(transfer, now);
        }
        let refusal = if self.closed.has(transfer) {
            Some(Reason::Unknown)
        } else if ledger != self.ledger() {
            Some(Reason::OtherLedger)
        } else if incarnation != self.abilities.incarnation {
            // What a former run was offered, and may have been permitted, nobody may activate any more: this is Void's promise.
            Some(Reason::TargetLost)
        } else if self.entries.len() >= limits::TRANSFERS {
            Some(Reason::TooMany)
        } else {
            self.make_way(connection)
        };
        if let Some(reason) = refusal {
            return self.say_void(connection, transfer, reason.into());
        }
        let note = Note { connection, transfer, source, way };
        let phase = match consent {
            Consent::Asked => Phase::Hearing(Collector::default()),
            Consent::Presumed => Phase::Collecting(Collector::default()),
        };
        let (permitted, application) = (false, Vec::new());
        self.by_connection.insert(connection, transfer);
        self.entries.insert(transfer, Entry { note, consent, permitted, job, application, phase });
        self.timers.set(transfer, Timer::Patience, now + limits::PART);
        if consent == Consent::Asked && application_bytes == 0 {
            self.ask(transfer, Vec::new(), now);
        }
    }

    /// Voids a former transfer of the same connection: the routing stack has given it up.
    fn make_way(&mut self, connection: model::Connection) -> Option<Reason> {
        let former = *self.by_connection.get(&connection)?;
        self.void(former, Reason::Busy.into());
        self.by_connection.contains_key(&connection).then_some(Reason::Busy)
    }

    pub(super) fn state(&mut self, part: Part, now: Instant) -> Result<(), Reason> {
        let transfer = part.about.transfer;
        let entry = self.entries.get_mut(&transfer).ok_or(Reason::Unknown)?;
        let Phase::Hearing(collector) = &mut entry.phase else { return Ok(()) };
        match collector.take(part) {
            Ok(None) => self.timers.set(transfer, Timer::Patience, now + limits::PART),
            Ok(Some(parcel)) => self.ask(transfer, parcel.application, now),
            Err(error) => self.void(transfer, Why::new(Reason::Malformed, &error.to_string())),
        }
        Ok(())
    }

    pub(super) fn part(&mut self, part: Part, now: Instant) -> Result<(), Reason> {
        let transfer = part.about.transfer;
        let entry = self.entries.get_mut(&transfer).ok_or(Reason::Unknown)?;
        let Phase::Collecting(collector) = &mut entry.phase else { return Ok(()) };
        match collector.take(part) {
            Ok(None) => {
                let (connection, way) = (entry.note.connection, entry.note.way);
                self.timers.set(transfer, Timer::Patience, now + limits::PART);
                if way == Way::Restore {
                    self.tell(connection, transfer, |about| FromTarget::Agreed(Agreed { about }));
                }
            }
            Ok(Some(parcel)) => self.prepare(transfer, parcel),
            Err(error) => self.void(transfer, Why::new(Reason::Malformed, &error.to_string())),
        }
        Ok(())
    }

    /// From here on the connection is taken out of its kernel.
    pub(super) fn accepted(&mut self, transfer: TransferId, now: Instant) -> Result<(), Reason> {
        let entry = self.thinking(transfer)?;
        entry.phase = Phase::Collecting(Collector::default());
        self.repeat(transfer, now);
        self.timers.set(transfer, Timer::Patience, now + limits::PART);
        Ok(())
    }

    pub(super) fn rejected(&mut self, transfer: TransferId, said: &str) -> Result<(), Reason> {
        self.thinking(transfer)?;
        self.void(transfer, Why::new(Reason::Rejected, said));
        Ok(())
    }

    pub(super) fn refused(&mut self, transfer: TransferId, why: Why) -> Result<(), Reason> {
        let entry = self.entries.get(&transfer).ok_or(Reason::Unknown)?;
        match entry.phase {
            Phase::Hearing(_) | Phase::Thinking | Phase::Collecting(_) | Phase::Admitted(_) => {
                self.void(transfer, why);
            }
            Phase::Passing => self.discard(transfer, why),
            Phase::Preparing | Phase::Prepared | Phase::Activating | Phase::Active | Phase::Barring(_) => {
                return Err(Reason::Unknown);
            }
        }
        Ok(())
    }

    /// A transfer whose application thinks about it.
    fn thinking(&mut self, transfer: TransferId) -> Result<&mut Entry, Reason> {
        let entry = self.entries.get_mut(&transfer);
        entry.filter(|entry| matches!(entry.phase, Phase::Thinking)).ok_or(Reason::Unknown)
    }

    pub(super) fn application_gone(&mut self, transfer: TransferId) -> Result<(), Reason> {
        let entry = self.entries.get(&transfer).ok_or(Reason::Unknown)?;
        match entry.phase {
            Phase::Hearing(_)
            | Phase::Thinking
            | Phase::Collecting(_)
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Admitted(_) => self.void(transfer, Reason::ApplicationGone.into()),
            // Passing answers for itself; an active connection ends as that of any server that dies.
            Phase::Passing | Phase::Activating | Phase::Active | Phase::Barring(_) => {}
        }
        Ok(())
    }

    pub(super) fn ready(&mut self, transfer: TransferId, now: Instant) -> Result<(), Reason> {
        let entry = self.entries.get(&transfer).ok_or(Reason::Unknown)?;
        let (Way::Restore, Phase::Preparing) = (entry.note.way, &entry.phase) else {
            return Err(Reason::Unknown);
        };
        if entry.permitted {
            self.pass(transfer);
        } else {
            self.waits(transfer, Phase::Prepared, now);
        }
        Ok(())
    }

    pub(super) fn admitted(
        &mut self,
        transfer: TransferId,
        token: Token,
        now: Instant,
    ) -> Result<(), Reason> {
        let entry = self.entries.get(&transfer).ok_or(Reason::Unknown)?;
        let (Way::Inject, Phase::Preparing) = (entry.note.way, &entry.phase) else {
            return Err(Reason::Unknown);
        };
        self.waits(transfer, Phase::Admitted(token), now);
        Ok(())
    }

    /// All is prepared, and the routing stack is told.
    fn waits(&mut self, transfer: TransferId, phase: Phase, now: Instant) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        entry.phase = phase;
        self.repeat(transfer, now);
        self.timers.set(transfer, Timer::Patience, now + limits::PREPARED);
    }

    pub(super) fn commit(&mut self, Commit { about }: Commit, now: Instant) {
        let (connection, transfer) = (about.connection.0, about.transfer);
        let Some(entry) = self.entries.get_mut(&transfer) else {
            return self.say_void(connection, transfer, Reason::Unknown.into());
        };
        match (entry.note.way, &entry.phase) {
            (_, Phase::Prepared) => self.pass(transfer),
            (Way::Restore, Phase::Collecting(_) | Phase::Preparing) => entry.permitted = true,
            (_, Phase::Active) => self.repeat(transfer, now),
            (Way::Inject, Phase::Collecting(_) | Phase::Preparing)
            | (
                _,
                Phase::Hearing(_)
                | Phase::Thinking
                | Phase::Admitted(_)
                | Phase::Passing
                | Phase::Activating
                | Phase::Barring(_),
            ) => {}
        }
    }

    fn pass(&mut self, transfer: TransferId) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        entry.phase = Phase::Passing;
        let (job, application) = (entry.job.clone(), std::mem::take(&mut entry.application));
        self.timers.clear(transfer);
        self.actions.push_back(Action::Pass { transfer, job, application });
    }

    pub(super) fn not_ready(&mut self, transfer: TransferId, why: Why) -> Result<(), Reason> {
        let entry = self.entries.get(&transfer).ok_or(Reason::Unknown)?;
        let Phase::Preparing = entry.phase else { return Err(Reason::Unknown) };
        self.discard(transfer, why);
        Ok(())
    }

    pub(super) fn passed(&mut self, transfer: TransferId) -> Result<(), Reason> {
        let entry = self.entries.get_mut(&transfer).ok_or(Reason::Unknown)?;
        let Phase::Passing = entry.phase else { return Err(Reason::Unknown) };
        entry.phase = Phase::Activating;
        self.actions.push_back(Action::Activate(entry.note.clone()));
        Ok(())
    }

    pub(super) fn not_passed(&mut self, transfer: TransferId) -> Result<(), Reason> {
        let entry = self.entries.get(&transfer).ok_or(Reason::Unknown)?;
        let Phase::Passing = entry.phase else { return Err(Reason::Unknown) };
        self.discard(transfer, Reason::NotPassed.into());
        Ok(())
    }

    pub(super) fn activated(&mut self, transfer: TransferId, now: Instant) -> Result<(), Reason> {
        let entry = self.entries.get(&transfer).ok_or(Reason::Unknown)?;
        let Phase::Activating = entry.phase else { return Err(Reason::Unknown) };
        self.is_active(transfer, now);
        Ok(())
    }

    pub(super) fn made(&mut self, transfer: TransferId, now: Instant) -> Result<(), Reason> {
        let entry = self.entries.get(&transfer).ok_or(Reason::Unknown)?;
        match (entry.note.way, &entry.phase) {
            (Way::Inject, Phase::Preparing | Phase::Admitted(_) | Phase::Barring(_)) => {
                self.is_active(transfer, now);
                Ok(())
            }
            (Way::Inject, Phase::Active) => Ok(()),
            (Way::Restore | Way::Inject, _) => Err(Reason::Unknown),
        }
    }

    pub(super) fn barred(&mut self, transfer: TransferId, made: bool, now: Instant) -> Result<(), Reason> {
        let entry = self.entries.get(&transfer).ok_or(Reason::Unknown)?;
        match &entry.phase {
            Phase::Barring(_) if made => self.is_active(transfer, now),
            Phase::Barring(why) => {
                let why = why.clone();
                self.discard(transfer, why);
            }
            Phase::Active => {}
            Phase::Hearing(_)
            | Phase::Thinking
            | Phase::Collecting(_)
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Admitted(_)
            | Phase::Passing
            | Phase::Activating => return Err(Reason::Unknown),
        }
        Ok(())
    }

    pub(super) fn abort(&mut self, Abort { about, why }: Abort, now: Instant) {
        let (connection, transfer) = (about.connection.0, about.transfer);
        match self.entries.get(&transfer).map(|entry| &entry.phase) {
            None => self.say_void(connection, transfer, why),
            Some(Phase::Active) => self.repeat(transfer, now),
            Some(_) => self.void(transfer, why),
        }
    }

    pub(super) fn settled(&mut self, transfer: TransferId) {
        if let Some(Entry { phase: Phase::Active, .. }) = self.entries.get(&transfer) {
            self.remove(transfer);
            self.closed.add(transfer);
            self.actions.push_back(Action::Forget(transfer));
        }
    }

    pub(super) fn inherited(&mut self, note: Note, standing: Standing, now: Instant) {
        let transfer = note.transfer;
        let phase = match standing {
            // The predecessor may have died between the note and the deed.
            Standing::Active if note.way == Way::Restore => {
                self.actions.push_back(Action::Activate(note.clone()));
                Phase::Activating
            }
            Standing::Active => Phase::Active,
            Standing::Admitted => {
                self.actions.push_back(Action::Bar(transfer));
                Phase::Barring(Reason::TargetLost.into())
            }
            Standing::Barred => return self.closed.add(transfer),
        };
        let active = matches!(phase, Phase::Active);
        self.by_connection.insert(note.connection, transfer);
        let (consent, permitted, job, application) = (Consent::Presumed, true, None, Vec::new());
        self.entries.insert(transfer, Entry { note, consent, permitted, job, application, phase });
        if active {
            self.is_active(transfer, now);
        }
    }

    /// The connection is here: said until everybody knows.
    fn is_active(&mut self, transfer: TransferId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        entry.phase = Phase::Active;
        self.timers.set(transfer, Timer::Repeat, now + limits::REPEAT);
        self.timers.set(transfer, Timer::Patience, now + limits::MEMORY);
        self.repeat(transfer, now);
    }

    /// Gives a transfer up, if it is not decided.
    fn void(&mut self, transfer: TransferId, why: Why) {
        let Some(entry) = self.entries.get_mut(&transfer) else { return };
        match (entry.note.way, &entry.phase) {
            (Way::Inject, Phase::Preparing) | (_, Phase::Admitted(_)) => {
                entry.phase = Phase::Barring(why);
                self.timers.clear(transfer);
                self.actions.push_back(Action::Bar(transfer));
            }
            (
                _,
                Phase::Hearing(_)
                | Phase::Thinking
                | Phase::Collecting(_)
                | Phase::Preparing
                | Phase::Prepared,
            ) => self.discard(transfer, why),
            (_, Phase::Passing | Phase::Activating | Phase::Active | Phase::Barring(_)) => {}
        }
    }

    /// The end of a transfer that has not taken place.
    fn discard(&mut self, transfer: TransferId, why: Why) {
        if let Some(entry) = self.remove(transfer) {
            self.actions.push_back(Action::Discard(transfer));
            self.say_void(entry.note.connection, transfer, why);
        }
    }

    /// A timer of a transfer fires.
    pub(crate) fn fire(&mut self, transfer: TransferId, timer: Timer, now: Instant) {
        let Some(entry) = self.entries.get(&transfer) else { return };
        match (timer, &entry.phase) {
            (Timer::Repeat, _) => self.repeat(transfer, now),
            (Timer::Patience, Phase::Thinking) => self.void(transfer, Reason::OfferTimedOut.into()),
            (Timer::Patience, Phase::Active) => self.settled(transfer),
            (Timer::Patience, _) => self.void(transfer, Reason::TimedOut.into()),
        }
    }

    /// Says again what was not answered.
    pub(super) fn repeat(&mut self, transfer: TransferId, now: Instant) {
        let Some(Entry { note, consent, phase, .. }) = self.entries.get(&transfer) else { return };
        let connection = note.connection;
        match *phase {
            Phase::Collecting(_) if *consent == Consent::Presumed => return,
            Phase::Collecting(_) | Phase::Prepared => {
                self.tell(connection, transfer, |about| FromTarget::Agreed(Agreed { about }));
            }
            Phase::Admitted(token) => {
                self.tell(connection, transfer, |about| FromTarget::Prepared(Prepared { about, token }));
            }
            Phase::Active => {
                let (source, way) = (note.source.clone(), note.way);
                self.tell(connection, transfer, |about| FromTarget::Active(Active { about, source, way }));
            }
            Phase::Hearing(_)
            | Phase::Thinking
            | Phase::Preparing
            | Phase::Passing
            | Phase::Activating
            | Phase::Barring(_) => return,
        }
        self.timers.set(transfer, Timer::Repeat, now + limits::REPEAT);
    }
}
