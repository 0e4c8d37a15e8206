//! Connections that come to this host: what the target's machine wants done.

use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use model::Connection;
use model::handoff::Token;
use model::transfer::{Reason, TransferId, Way, Why};

use super::Host;
use super::kernel::{Away, Kept, Kernel, Note, Subject, Voided};
use super::leaving::{depart, stand_again};
use super::requests::PROMPTED_AGAIN;
use crate::taking::{self, Action, Event};
use crate::{halt, limits};

/// A restored connection's packets are kept away for longer than it waits for its activation.
const FROZEN: Duration = limits::PREPARE.saturating_add(Duration::from_secs(50));

/// How often it is looked whether the kernel has dropped a packet that was to make a connection: more often than the packet is
/// sent again ([`limits::HAND_OVER`]).
const CLAIMS: Duration = Duration::from_millis(100);
/// At so many it is looked at a time: a matter of a millisecond.
const LOOKED_AT_ONCE: usize = 512;

/// A kernel that does not take all unread bytes, because the server does not read, is asked again after the first of these, then
/// after twice as long, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// A kernel that has not taken all for so long is worth a look.
const LONG: Duration = Duration::from_secs(10);

/// A connection that is to come here.
#[derive(Clone, Debug, Hash)]
pub(super) struct Coming {
    pub(super) connection: Connection,
    pub(super) way: Way,
    pub(super) phase: Phase,
    /// How many bytes it is to be given once a packet has made it.
    pub(super) unread: Option<usize>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Nothing of it is here.
    Offered,
    /// Its silent socket is.
    Restored,
    /// The application is given that, and its answer is awaited.
    Passing,
    /// A packet may make it.
    Admitted,
    /// One has claimed it, and is waited for: meanwhile no other can.
    Claimed,
    /// The same, and when it is over, it is decided.
    Closing,
    /// A former run has decided about it, or is to.
    Inherited,
    /// It is decided.
    Over,
}

/// A connection that was put into a listener and is not given everything yet that its client had sent before.
#[derive(Clone, Debug, Hash)]
pub(super) struct Giving {
    transfer: TransferId,
    bytes: usize,
    pause: Duration,
    /// When an operator is told.
    tell: Option<Instant>,
}

/// Why a connection can't come here, in the words of who says so.
fn not_restored(said: impl AsRef<str>) -> Why {
    Why::new(Reason::NotRestored, said.as_ref())
}

impl Host {
    pub(super) fn target_deed(&mut self, action: Action, kernel: &mut impl Kernel, now: Instant) {
        halt::before("target", action.step());
        match action {
            Action::Send { to, message } => kernel.send(to, message),
            Action::Ask { transfer, connection, job, application } => {
                self.comes(transfer, connection, Way::Restore, Phase::Offered);
                if let Err(why) = kernel.offer(transfer, &connection, job.as_deref(), &application) {
                    self.tell_target(Event::Refused { transfer, why: why.into() }, now);
                }
            }
            Action::Restore { note, socket } => {
                let transfer = note.transfer;
                let event = match self.restore(&note, &socket, kernel) {
                    Ok(()) => Event::Ready(transfer),
                    Err(said) => Event::NotReady { transfer, why: not_restored(said) },
                };
                self.tell_target(event, now);
            }
            Action::Admit { note, socket } => {
                let transfer = note.transfer;
                let event = match self.admit(&note, &socket, kernel) {
                    Ok(token) => Event::Admitted { transfer, token },
                    Err(why) => Event::NotReady { transfer, why },
                };
                self.tell_target(event, now);
            }
            Action::Pass { transfer, job, application } => {
                if let Err(why) = self.pass(transfer, job.as_deref(), &application, kernel) {
                    self.tell_target(Event::Refused { transfer, why: why.into() }, now);
                }
            }
            Action::Activate(note) => self.activate(&note, kernel, now),
            Action::Bar(transfer) => self.bar(transfer, kernel, now),
            Action::Discard(transfer) => self.discard_coming(transfer, kernel),
            Action::Forget(transfer) => {
                if !self.is_awaited(transfer) {
                    kernel.erase(Subject::Coming(transfer));
                }
                if let Some(coming) = self.goes(transfer) {
                    self.touched.insert(coming.connection, true);
                    coming.no_longer_admitted(kernel);
                }
            }
        }
    }

    /// One that has come so far, unless it is known.
    pub(super) fn comes(
        &mut self,
        transfer: TransferId,
        connection: Connection,
        way: Way,
        phase: Phase,
    ) -> &mut Coming {
        self.coming.entry(transfer).or_insert(Coming { connection, way, phase, unread: None })
    }

    fn restore(
        &mut self,
        note: &taking::Note,
        socket: &[u8],
        kernel: &mut impl Kernel,
    ) -> Result<(), String> {
        let taking::Note { connection, transfer, .. } = *note;
        let arrival = kernel.read(note, socket)?;
        self.touched.insert(connection, true);
        self.disconnect_orphan(&connection, kernel);
        self.comes(transfer, connection, Way::Restore, Phase::Offered);
        kernel.note(Note::Prepared(note))?;
        if arrival.has_unsent {
            kernel.keep(transfer, Kept::Unsent, socket)?;
        }
        kernel.track(&connection)?;
        let before = kernel.away(&connection)?;
        kernel.keep_away(&connection, Away::Frozen, FROZEN)?;
        if let Err(cause) = kernel.restore(transfer) {
            if cause.is_here {
                // The application that has it here goes on, unless it is frozen here.
                stand_again(&connection, before, kernel);
            }
            return Err(cause.said);
        }
        self.turn(transfer, Phase::Restored);
        Ok(())
    }

    /// Notes all that a restarted agent needs, unread bytes first: a run that finds the connection made finds them.
    fn admit(&mut self, note: &taking::Note, socket: &[u8], kernel: &mut impl Kernel) -> Result<Token, Why> {
        let taking::Note { connection, transfer, .. } = *note;
        self.touched.insert(connection, true);
        self.disconnect_orphan(&connection, kernel);
        let arrival = kernel.read(note, socket).map_err(not_restored)?;
        // Its packets would go there, and the option would mean nothing.
        if kernel.is_here(&connection).map_err(not_restored)? {
            return Err(Reason::AlreadyHere.into());
        }
        if let Some(bytes) = arrival.unread {
            if self.kept_bytes.saturating_add(bytes) > limits::BYTES {
                return Err(not_restored("too many bytes wait for servers that do not read"));
            }
            kernel.keep(transfer, Kept::Unread, socket).map_err(not_restored)?;
        }
        kernel.note(Note::Admitted(note)).map_err(not_restored)?;
        kernel.track(&connection).map_err(not_restored)?;
        let token = kernel.admit(transfer, &connection).map_err(not_restored)?;
        let coming = self.comes(transfer, connection, Way::Inject, Phase::Admitted);
        (coming.phase, coming.unread) = (Phase::Admitted, arrival.unread);
        self.admitted.insert(connection, transfer);
        self.kept_bytes = self.kept_bytes.saturating_add(arrival.unread.unwrap_or(0));
        Ok(token)
    }

    fn turn(&mut self, transfer: TransferId, phase: Phase) {
        if let Some(coming) = self.coming.get_mut(&transfer) {
            coming.phase = phase;
            if !coming.is_admitted() && self.admitted.get(&coming.connection) == Some(&transfer) {
                self.admitted.remove(&coming.connection);
            }
        }
    }

    /// Takes out what has come of a transfer.
    fn goes(&mut self, transfer: TransferId) -> Option<Coming> {
        self.turn(transfer, Phase::Over);
        let coming = self.coming.remove(&transfer)?;
        self.kept_bytes = self.kept_bytes.saturating_sub(coming.unread.unwrap_or(0));
        Some(coming)
    }

    fn phase(&self, transfer: TransferId) -> Option<Phase> {
        self.coming.get(&transfer).map(|coming| coming.phase)
    }

    /// Puts the silent descriptor into the application's control socket. [`Event::Passed`] follows when the kernel has it there.
    fn pass(
        &mut self,
        transfer: TransferId,
        job: Option<&str>,
        state: &[u8],
        kernel: &mut impl Kernel,
    ) -> Result<(), Reason> {
        let coming = self.coming.get_mut(&transfer).filter(|coming| coming.phase == Phase::Restored);
        let coming = coming.ok_or(Reason::NotPassed)?;
        kernel.pass(transfer, &coming.connection, job, state)?;
        coming.phase = Phase::Passing;
        Ok(())
    }

    /// The application has the silent descriptor, or its kernel for it.
    pub fn passed(&mut self, transfer: TransferId, now: Instant) {
        self.tell_target(Event::Passed(transfer), now);
    }

    /// The application answers an offer.
    pub fn accepted(&mut self, transfer: TransferId, now: Instant) {
        self.tell_target(Event::Accepted(transfer), now);
    }

    /// It rejects it, in its own words, or what it was given.
    pub fn rejected(&mut self, transfer: TransferId, said: String, now: Instant) {
        self.tell_target(self.without(transfer, Event::Rejected { transfer, said }), now);
    }

    /// The application that it was offered, or given, is gone.
    pub fn application_gone(&mut self, transfer: TransferId, now: Instant) {
        self.tell_target(self.without(transfer, Event::ApplicationGone(transfer)), now);
    }

    /// What the machine hears of an application that does not want a connection, or can't have it any more.
    fn without(&self, transfer: TransferId, offered: Event) -> Event {
        if self.phase(transfer) == Some(Phase::Passing) { Event::NotPassed(transfer) } else { offered }
    }

    fn activate(&mut self, note: &taking::Note, kernel: &mut impl Kernel, now: Instant) {
        let taking::Note { connection, transfer, .. } = *note;
        self.touched.insert(connection, true);
        let _ = kernel.note(Note::Active(note));
        match self.phase(transfer) {
            Some(Phase::Restored | Phase::Passing) => {
                kernel.let_flow(&connection);
                kernel.activate(transfer, &connection);
            }
            Some(
                Phase::Offered
                | Phase::Admitted
                | Phase::Claimed
                | Phase::Closing
                | Phase::Inherited
                | Phase::Over,
            )
            | None => self.activate_inherited(note, kernel, now),
        }
        self.turn(transfer, Phase::Over);
        self.tell_target(Event::Activated(transfer), now);
    }

    /// A connection has begun here: perhaps a packet has made one that was admitted.
    pub fn begun(&mut self, connection: Connection, kernel: &mut impl Kernel, now: Instant) {
        let Some(transfer) = self.admitted.get(&connection).copied() else { return };
        if kernel.is_made(&connection).unwrap_or(false) {
            let _ = kernel.note(Note::Made(transfer));
            self.turn(transfer, Phase::Over);
            // Two at most for each that comes: there are never more than came within that time.
            for _ in 0..2 {
                self.made.pop(now);
            }
            self.made.set(connection, now + PROMPTED_AGAIN);
            self.begin_to_give(transfer, now);
            self.tell_target(Event::Made(transfer), now);
        }
    }

    /// The kernel does not take the packet that was to make this connection, and would not take another: the connection is
    /// better off where it is.
    pub fn not_taken(&mut self, connection: &Connection, why: Why, now: Instant) {
        if let Some(transfer) = self.admitted.get(connection).copied() {
            self.tell_target(Event::Refused { transfer, why }, now);
        }
    }

    /// Looks whether packets have made connections that were admitted, if what tells of it was lost.
    pub fn look_for_made(&mut self, kernel: &mut impl Kernel, now: Instant) {
        for connection in self.admitted.keys().copied().collect::<Vec<_>>() {
            self.begun(connection, kernel, now);
        }
    }

    /// No packet makes the connection any more. If one has claimed it and the kernel is about to, that is waited for.
    fn bar(&mut self, transfer: TransferId, kernel: &mut impl Kernel, now: Instant) {
        let Some(coming) = self.coming.get_mut(&transfer) else {
            return self.is_barred(transfer, false, kernel, now);
        };
        self.touched.insert(coming.connection, true);
        match kernel.void(&coming.connection) {
            Ok(Voided::Void | Voided::Made) => self.barred(transfer, kernel, now),
            Ok(Voided::Claimed) => {
                // The wait for a claim that was seen before is for this one: it was not opened again.
                if coming.phase != Phase::Claimed {
                    self.claimed.push(transfer);
                }
                self.turn(transfer, Phase::Closing);
            }
            // It counts as here.
            Err(_) => self.is_barred(transfer, true, kernel, now),
        }
    }

    /// Looks whether packets have claimed admissions without making the connection: the kernel may have dropped them.
    ///
    /// Looks at some of them; the others are due at once.
    pub(crate) fn look_for_claimed(&mut self, kernel: &mut impl Kernel, now: Instant) {
        let behind = (self.looked_to.map_or(Unbounded, Excluded), Unbounded);
        let next = self.admitted.range(behind).take(LOOKED_AT_ONCE);
        let next: Vec<(Connection, TransferId)> = next.map(|(c, transfer)| (*c, *transfer)).collect();
        for (connection, transfer) in &next {
            let coming = self.coming.get_mut(transfer).filter(|coming| coming.phase == Phase::Admitted);
            if let Some(coming) = coming
                && kernel.is_claimed(connection)
            {
                coming.phase = Phase::Claimed;
                self.claimed.push(*transfer);
            }
        }
        next.iter().for_each(|(connection, _)| self.begun(*connection, kernel, now));
        self.looked_to = next.get(LOOKED_AT_ONCE - 1).map(|(connection, _)| *connection);
        if self.looked_to.is_none() {
            self.last_claims = now;
        }
    }

    /// When that is due.
    pub(super) fn next_claims(&self) -> Option<Instant> {
        match self.looked_to {
            Some(_) => Some(self.last_claims),
            None => (!self.admitted.is_empty()).then(|| self.last_claims + CLAIMS),
        }
    }

    /// The packets that had claimed these admissions are through. What is not made by now may be by another packet, or never.
    pub fn claims_are_through(&mut self, transfers: &[TransferId], kernel: &mut impl Kernel, now: Instant) {
        self.awaits_claims = false;
        for transfer in transfers.iter().copied() {
            let Some(coming) = self.coming.get_mut(&transfer) else { continue };
            match coming.phase {
                Phase::Closing => self.barred(transfer, kernel, now),
                Phase::Claimed => {
                    coming.phase = Phase::Admitted;
                    kernel.reopen(&coming.connection);
                }
                Phase::Offered
                | Phase::Restored
                | Phase::Passing
                | Phase::Admitted
                | Phase::Inherited
                | Phase::Over => {}
            }
        }
    }

    /// The connection is made or never will be. One of which that can't be seen counts as here.
    fn barred(&mut self, transfer: TransferId, kernel: &mut impl Kernel, now: Instant) {
        let made = self.coming.get(&transfer).is_some_and(|c| kernel.is_made(&c.connection).unwrap_or(true));
        self.is_barred(transfer, made, kernel, now);
    }

    fn is_barred(&mut self, transfer: TransferId, made: bool, kernel: &mut impl Kernel, now: Instant) {
        self.turn(transfer, Phase::Over);
        if let Some(coming) = self.coming.get(&transfer) {
            if made {
                kernel.let_flow(&coming.connection);
            } else {
                depart(&coming.connection, kernel);
            }
        }
        let _ = kernel.note(if made { Note::Made(transfer) } else { Note::Barred(transfer) });
        if made {
            self.begin_to_give(transfer, now);
        }
        self.tell_target(Event::Barred { transfer, made }, now);
    }

    fn discard_coming(&mut self, transfer: TransferId, kernel: &mut impl Kernel) {
        kernel.erase(Subject::Coming(transfer));
        let is_restored = matches!(self.phase(transfer), Some(Phase::Restored | Phase::Passing));
        let coming = self.goes(transfer);
        if let Some(coming) = &coming {
            self.touched.insert(coming.connection, false);
            coming.no_longer_admitted(kernel);
            if is_restored {
                // It may have been here before.
                depart(&coming.connection, kernel);
            }
        }
        // One that could not be admitted was read, and perhaps kept.
        if coming.is_none_or(|coming| coming.unread.is_some()) {
            kernel.unkeep(transfer, Kept::Unread);
        }
        kernel.discard(transfer);
    }

    /// The connection of this transfer is made.
    pub(super) fn begin_to_give(&mut self, transfer: TransferId, now: Instant) {
        let Some(coming) = self.coming.get_mut(&transfer) else { return };
        if let Some(bytes) = coming.unread.take() {
            let connection = coming.connection;
            self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
            self.gives(transfer, connection, bytes, now);
        }
    }

    pub(super) fn gives(&mut self, transfer: TransferId, connection: Connection, bytes: usize, now: Instant) {
        let giving = Giving { transfer, bytes, pause: AGAIN.0, tell: Some(now + LONG) };
        let former = self.giving.insert(connection, giving).map_or(0, |former| former.bytes);
        self.kept_bytes = self.kept_bytes.saturating_sub(former).saturating_add(bytes);
        self.gifts.set(connection, now);
    }

    /// Gives the kernel what it takes of a connection's bytes.
    pub(super) fn give(&mut self, connection: Connection, kernel: &mut impl Kernel, now: Instant) {
        let Some(giving) = self.giving.get_mut(&connection) else { return };
        if kernel.give(giving.transfer) {
            kernel.unkeep(giving.transfer, Kept::Unread);
            self.kept_bytes = self.kept_bytes.saturating_sub(giving.bytes);
            self.giving.remove(&connection);
            return self.may_begin(&connection, now);
        }
        if giving.tell.take_if(|tell| *tell <= now).is_some() {
            kernel.takes_nothing(&connection);
        }
        self.gifts.set(connection, now + giving.pause);
        giving.pause = (giving.pause * 2).min(AGAIN.1);
    }
}

impl Coming {
    /// A packet may make it, or is about to.
    fn is_admitted(&self) -> bool {
        matches!(self.phase, Phase::Admitted | Phase::Claimed)
    }

    fn no_longer_admitted(&self, kernel: &mut impl Kernel) {
        if self.way == Way::Inject {
            kernel.forget_admission(&self.connection);
        }
    }
}
