//! What agents say of transfers that this machine did not begin, or has forgotten.
//!
//! A routing stack that was restarted, or took the DVIPA over, knows nothing of what its predecessor permitted. So it
//! permits nothing more, and lets the target say what it has decided.

use std::time::Instant;

use model::StackName;
use model::transfer::{
    Aborted, About, Active, Consent, Doubt, Ledger, Reason, Settled, ToSource, ToTarget, TransferId, Way,
};

use super::entry::{Entry, Phase};
use super::{Action, Routing};
use crate::limits;
use crate::timers::Timer;

impl Routing {
    /// A source asks what has become of a transfer.
    pub(super) fn doubt(&mut self, from: StackName, doubt: Doubt, now: Instant) -> Result<(), Reason> {
        let Doubt { about, target, ledger, way } = doubt;
        let transfer = about.transfer;
        if let Some(entry) = self.entries.get(&transfer) {
            if entry.source != from {
                return Err(Reason::Unknown);
            }
            match &entry.phase {
                Phase::Awaiting(_) => self.tell_again(transfer),
                Phase::Consulting(_) | Phase::Offering(_) | Phase::Committing(..) | Phase::Asking(_) => {}
                Phase::Releasing | Phase::Returning(_) | Phase::Losing => self.tell_outcome(transfer),
            }
            return Ok(());
        }
        if self.remembers(transfer) || self.closed.has(transfer) {
            // A transfer that took place is forgotten only when the source knows it.
            let (why, request) = (Reason::TimedOut.into(), None);
            self.send(&from, ToSource::Aborted(Aborted { about, why, request }));
            return Ok(());
        }
        let connection = about.connection.0;
        if self.by_connection.contains_key(&connection) {
            return Err(Reason::Busy);
        }
        if self.entries.len() >= limits::TRANSFERS {
            return Err(Reason::TooMany);
        }
        self.actions.push_back(Action::Freeze { connection, owner: from.clone() });
        self.insert(Entry::foreign(about, (from, target), way, ledger));
        self.repeat(transfer, now);
        self.timers.set(transfer, Timer::Patience, now + limits::MEMORY);
        Ok(())
    }

    /// A target says that it is active.
    pub(super) fn active(&mut self, from: StackName, active: Active, now: Instant) -> Result<(), Reason> {
        let Active { about, source, way } = active;
        let transfer = about.transfer;
        if let Some(entry) = self.entries.get(&transfer) {
            if entry.target != from {
                return Err(Reason::Unknown);
            }
            match entry.phase {
                Phase::Committing(..) | Phase::Asking(_) => self.release(transfer, now),
                Phase::Releasing => {}
                Phase::Consulting(_)
                | Phase::Awaiting(_)
                | Phase::Offering(_)
                | Phase::Returning(_)
                | Phase::Losing => return Err(Reason::Unknown),
            }
            return Ok(());
        }
        if self.remembers(transfer) || self.closed.has(transfer) {
            self.send(&from, ToTarget::Settled(Settled { about }));
            return Ok(());
        }
        if self.by_connection.contains_key(&about.connection.0) {
            return Err(Reason::Busy);
        }
        // The ledger has spoken: which one it is matters no longer.
        self.insert(Entry::foreign(about, (source, from), way, Ledger(0)));
        self.release(transfer, now);
        Ok(())
    }

    /// This machine gave the transfer and knows its end, unless it is under way.
    pub(super) fn remembers(&self, transfer: TransferId) -> bool {
        transfer.incarnation == self.incarnation && (self.floor..=self.given).contains(&transfer.number)
    }
}

impl Entry {
    /// A transfer that another routing stack gave: nothing of it is permitted here, and its target is asked what it has decided.
    fn foreign(about: About, (source, target): (StackName, StackName), way: Way, ledger: Ledger) -> Self {
        Self {
            about,
            source,
            request: None,
            target,
            way,
            ledger,
            incarnation: 0,
            consent: Consent::Presumed,
            job: None,
            giver: None,
            application_bytes: 0,
            handed_over: false,
            phase: Phase::Asking(Reason::NoRoutingStack.into()),
        }
    }
}
