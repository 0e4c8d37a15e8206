//! Connections that come to this host: what the target's machine wants done.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use channel::Sealed;
use model::control_socket::{JobName, OfferId, Refusal};
use model::handoff::Token;
use model::transfer::{Reason, TransferId, Way, Why};
use model::{Connection, ConnectionState};
use transfer::target::{Action, Event, Note};
use transfer::{halt, limits};

use super::dumps::Kept;
use super::{Kernel, Transfers};
use crate::control_socket::{ApplicationId, Command, Held};
use crate::repair::{self, MAX_UNREAD_BYTES, RestoreError, Restored, Unread};
use crate::system::admissions::{self, Voided};
use crate::system::freezes::Standing;
use crate::system::{conntrack, diag, random_token};

/// A restored connection's packets are kept away for longer than it waits for its activation.
const FROZEN: Duration = limits::PREPARE.saturating_add(Duration::from_secs(50));

/// How often it is looked whether the kernel has dropped a packet that was to make a connection: more often than the packet is
/// sent again ([`limits::HAND_OVER`]).
const CLAIMS: Duration = Duration::from_millis(100);

/// A connection that is to come here.
#[derive(Debug)]
pub(super) struct Coming {
    connection: Connection,
    way: Way,
    /// The application that it was offered to, and how.
    pub(super) to: Option<(ApplicationId, OfferId)>,
    restored: Option<Restored>,
    /// Its state, of a former run's, if bytes were never sent.
    pub(super) unsent: Option<ConnectionState>,
    /// The application is given it, and its answer is awaited.
    pub(super) is_passing: bool,
    /// A packet may make it.
    is_admitted: bool,
    /// One has claimed it, and is waited for: meanwhile no other can.
    is_claimed: bool,
    /// When that is over, it is decided.
    is_closing: bool,
    /// What it is to be given once one has.
    pub(super) unread: Option<Unread>,
}

impl Coming {
    pub(super) fn new(connection: Connection, way: Way) -> Self {
        Self {
            connection,
            way,
            to: None,
            restored: None,
            unsent: None,
            is_passing: false,
            is_admitted: false,
            is_claimed: false,
            is_closing: false,
            unread: None,
        }
    }
}

/// Why a connection can't come here, in the words of who says so.
fn not_restored(said: impl ToString) -> Why {
    Why::new(Reason::NotRestored, &said.to_string())
}

/// Why a connection does not come here: a stateful filter would drop its packets.
fn not_tracked(cause: &std::io::Error) -> String {
    format!("this host's connection tracking does not take it: {cause}")
}

impl Transfers {
    pub(super) fn target_deed(&mut self, action: Action, kernel: Kernel<'_>, now: Instant) {
        halt::before("target", action.step());
        match action {
            Action::Send { to, message } => self.send(to, message),
            Action::Ask { transfer, connection, job, application } => {
                self.coming.insert(transfer, Coming::new(connection, Way::Restore));
                if let Err(why) = self.offer(transfer, job.as_deref(), &application) {
                    self.tell_target(Event::Refused { transfer, why: why.into() }, now);
                }
            }
            Action::Restore { note, socket } => {
                let transfer = note.transfer;
                let event = match self.restore(&note, &socket, kernel) {
                    Ok(()) => Event::Ready(transfer),
                    Err(said) => Event::NotReady { transfer, why: Why::new(Reason::NotRestored, &said) },
                };
                self.tell_target(event, now);
            }
            Action::Admit { note, socket } => self.admit(&note, &socket, kernel, now),
            Action::Pass { transfer, job, application } => {
                self.pass(transfer, job.as_deref(), &application, now)
            }
            Action::Activate(note) => self.activate(&note, kernel, now),
            Action::Bar(transfer) => self.bar(transfer, kernel, now),
            Action::Discard(transfer) => self.discard_coming(transfer, kernel),
            Action::Forget(transfer) => {
                if !self.is_awaited(transfer) {
                    self.notes.forgets(transfer);
                }
                if let Some(coming) = self.forget(transfer) {
                    self.touched.insert(coming.connection, true);
                    self.no_longer_admitted(&coming, kernel);
                }
            }
        }
    }

    /// Offers a connection to the application that it is for.
    fn offer(&mut self, transfer: TransferId, job: Option<&str>, state: &[u8]) -> Result<(), Reason> {
        let (application, offer, connection, job) = self.addressee(transfer, job)?;
        let state = sealed(state).ok_or(Reason::ApplicationGone)?;
        let command = Command::Offer { offer, connection, job, state };
        self.applications.tell(application, command).map_err(|_| Reason::ApplicationGone)
    }

    /// The application that a connection is for, and the number that its offer has from now on.
    fn addressee(
        &mut self,
        transfer: TransferId,
        job: Option<&str>,
    ) -> Result<(ApplicationId, OfferId, Connection, JobName), Reason> {
        let coming = self.coming.get_mut(&transfer).ok_or(Reason::ApplicationGone)?;
        let connection = coming.connection;
        let found = self.directory.find(&connection, job);
        let (application, registration) = found.ok_or(Reason::ApplicationGone)?;
        if !registration.takes_offers {
            return Err(Reason::TakesNoOffers);
        }
        self.last_offer += 1;
        let offer = OfferId(self.last_offer);
        coming.to = Some((application, offer));
        self.offers.insert(offer, transfer);
        Ok((application, offer, connection, registration.job.clone()))
    }

    fn restore(&mut self, note: &Note, socket: &[u8], kernel: Kernel<'_>) -> Result<(), String> {
        let Note { connection, transfer, .. } = *note;
        let state = ConnectionState::decode(socket).map_err(|e| e.to_string())?;
        if state.connection != connection {
            return Err(format!("the state is of another connection, {}", state.connection));
        }
        if !kernel.dvipas.contains(&connection.dvipa.ip()) {
            return Err(format!("{} is no address of this host", connection.dvipa.ip()));
        }
        self.touched.insert(connection, true);
        self.disconnect_orphan(&connection);
        let coming = self.coming.entry(transfer).or_insert_with(|| Coming::new(connection, Way::Restore));
        self.notes.prepares(note).map_err(|e| e.to_string())?;
        if has_unsent(&state) {
            self.dumps.keep(transfer, Kept::Unsent, socket).map_err(|e| e.to_string())?;
        }
        conntrack::make_known(&connection).map_err(|e| not_tracked(&e))?;
        let before = kernel.freezes.standing(&connection).map_err(|e| e.to_string())?;
        kernel.freezes.keep_away(&connection, Standing::Frozen, FROZEN).map_err(|e| e.to_string())?;
        match repair::restore(state) {
            Ok(restored) => {
                if let Err(cause) = kernel.conversations.begin(restored.as_fd()) {
                    tracing::debug!(%connection, %cause, "what is said on it is not noted");
                }
                coming.restored = Some(restored);
                Ok(())
            }
            Err(cause) => {
                if matches!(cause, RestoreError::AlreadyHere(_)) {
                    // Whoever has it here goes on, unless it is frozen here.
                    self.stands_again(&connection, before, kernel);
                }
                Err(cause.to_string())
            }
        }
    }

    /// Puts the silent descriptor into the application's control socket. [`Event::Passed`] follows when the kernel has it there.
    fn pass(&mut self, transfer: TransferId, job: Option<&str>, state: &[u8], now: Instant) {
        match self.passed(transfer, job, state) {
            Ok(()) => {
                if let Some(coming) = self.coming.get_mut(&transfer) {
                    coming.is_passing = true;
                }
            }
            Err(why) => self.tell_target(Event::Refused { transfer, why: why.into() }, now),
        }
    }

    fn passed(&mut self, transfer: TransferId, job: Option<&str>, state: &[u8]) -> Result<(), Reason> {
        let coming = self.coming.get(&transfer).ok_or(Reason::NotPassed)?;
        let restored = coming.restored.as_ref().ok_or(Reason::NotPassed)?;
        let socket = restored.share().map_err(|cause| {
            tracing::error!(connection = %coming.connection, %cause, "can't be passed to its application");
            Reason::NotPassed
        })?;
        let (application, command) = match coming.to {
            Some((application, offer)) => (application, Command::Pass(offer, socket)),
            None => {
                let (application, offer, connection, _) = self.addressee(transfer, job)?;
                let state = sealed(state).ok_or(Reason::NotPassed)?;
                (application, Command::Give { offer, held: Held { socket, connection }, state })
            }
        };
        self.applications.tell(application, command).map_err(|_| Reason::NotPassed)
    }

    fn activate(&mut self, note: &Note, kernel: Kernel<'_>, now: Instant) {
        let Note { connection, transfer, .. } = *note;
        self.touched.insert(connection, true);
        if let Err(cause) = self.notes.activates(transfer) {
            tracing::error!(%connection, %cause, "a restarted agent will not know that it is here");
        }
        let coming = self.coming.get_mut(&transfer);
        match coming.map(|coming| (coming.restored.take(), coming.to.take(), coming.unsent.take())) {
            Some((Some(restored), to, _)) => {
                self.let_flow(&connection, kernel);
                self.wake(&connection, transfer, restored, to);
            }
            Some((None, _, unsent)) => self.activate_inherited(note, unsent, kernel, now),
            None => self.activate_inherited(note, None, kernel, now),
        }
        self.tell_target(Event::Activated(transfer), now);
    }

    fn wake(
        &mut self,
        connection: &Connection,
        transfer: TransferId,
        restored: Restored,
        to: Option<(ApplicationId, OfferId)>,
    ) {
        let has_unsent = has_unsent(restored.state());
        let active = restored.activate();
        if has_unsent {
            self.dumps.forget(transfer, Kept::Unsent);
        }
        match (active, to) {
            (Ok(socket), Some((application, offer))) => {
                self.offers.remove(&offer);
                self.tell(application, Command::Connection(offer, socket));
            }
            (Ok(_), None) => tracing::error!(%connection, "is lost: it is for no application"),
            (Err(cause), _) => tracing::error!(%connection, %cause, "is lost: it can't leave repair mode"),
        }
    }

    fn admit(&mut self, note: &Note, socket: &[u8], kernel: Kernel<'_>, now: Instant) {
        let Note { connection, transfer, .. } = *note;
        self.touched.insert(connection, true);
        self.disconnect_orphan(&connection);
        let event = match self.admitted(note, socket, kernel) {
            Ok((token, unread)) => {
                let coming =
                    self.coming.entry(transfer).or_insert_with(|| Coming::new(connection, Way::Inject));
                (coming.is_admitted, coming.unread) = (true, unread);
                Event::Admitted { transfer, token }
            }
            Err(why) => Event::NotReady { transfer, why },
        };
        self.tell_target(event, now);
    }

    /// Notes all that a restarted agent needs, unread bytes first: whoever finds the connection made finds them.
    fn admitted(
        &mut self,
        note: &Note,
        socket: &[u8],
        kernel: Kernel<'_>,
    ) -> Result<(Token, Option<Unread>), Why> {
        let unread = unread_of(note, socket).map_err(not_restored)?;
        // Its packets would go there, and the option would mean nothing.
        if diag::ask(&note.connection).map_err(not_restored)?.is_some() {
            return Err(Reason::AlreadyHere.into());
        }
        if let Some(unread) = &unread {
            if self.bytes_to_give().saturating_add(unread.bytes()) > limits::BYTES {
                return Err(not_restored("too many bytes wait for servers that do not read"));
            }
            self.dumps.keep(note.transfer, Kept::Unread, socket).map_err(not_restored)?;
        }
        self.notes.admits(note).map_err(not_restored)?;
        conntrack::make_known(&note.connection).map_err(|e| not_restored(not_tracked(&e)))?;
        let token = random_token().map_err(not_restored)?;
        kernel.admissions.admit(&note.connection, token).map_err(not_restored)?;
        Ok((token, unread))
    }

    /// Looks whether packets have made connections that were admitted.
    pub fn look_for_made(&mut self, kernel: Kernel<'_>, now: Instant) {
        let made = |c: &Coming| c.is_admitted && kernel.admissions.is_made(&c.connection).unwrap_or(false);
        let made: Vec<_> = self.coming.iter().filter(|(_, c)| made(c)).map(|(t, _)| *t).collect();
        for transfer in made {
            if let Err(cause) = self.notes.made(transfer) {
                tracing::error!(%cause, "a restarted agent will not know that a connection is here");
            }
            if let Some(coming) = self.coming.get_mut(&transfer) {
                coming.is_admitted = false;
                self.made.insert(coming.connection, now);
            }
            self.begin_to_give(transfer, now);
            self.tell_target(Event::Made(transfer), now);
        }
    }

    /// No packet makes the connection any more. If one has claimed it and the kernel is about to, that is waited for.
    fn bar(&mut self, transfer: TransferId, kernel: Kernel<'_>, now: Instant) {
        let Some(coming) = self.coming.get_mut(&transfer) else { return self.barred(transfer, kernel, now) };
        coming.is_admitted = false;
        let connection = coming.connection;
        self.touched.insert(connection, true);
        match kernel.admissions.void(&connection) {
            Ok(Voided::Void | Voided::Made) => self.barred(transfer, kernel, now),
            Ok(Voided::Claimed) => {
                coming.is_closing = true;
                // The wait for a claim that was seen before is for this one: it was not opened again.
                if !std::mem::replace(&mut coming.is_claimed, true) {
                    self.claimed.push(transfer);
                }
            }
            Err(cause) => {
                tracing::error!(%connection, %cause, "its admission can't be voided, so that it counts as here");
                self.is_barred(transfer, true, kernel, now);
            }
        }
    }

    /// Looks whether packets have claimed admissions without making the connection: the kernel may have dropped them.
    pub(super) fn look_for_claimed(&mut self, kernel: Kernel<'_>, now: Instant) {
        if self.next_claims().is_none_or(|due| due > now) {
            return;
        }
        self.last_claims = now;
        for (transfer, coming) in self.coming.iter_mut().filter(|(_, c)| c.is_admitted && !c.is_claimed) {
            coming.is_claimed = kernel.admissions.is_claimed(&coming.connection).unwrap_or(false);
            self.claimed.extend(coming.is_claimed.then_some(*transfer));
        }
    }

    /// When that is due.
    pub(super) fn next_claims(&self) -> Option<Instant> {
        self.coming.values().any(|coming| coming.is_admitted).then(|| self.last_claims + CLAIMS)
    }

    /// The packets that had claimed these admissions are through. What is not made by now may be by another packet, or never.
    pub(super) fn claims_are_through(
        &mut self,
        transfers: Vec<TransferId>,
        kernel: Kernel<'_>,
        now: Instant,
    ) {
        for transfer in transfers {
            let Some(coming) = self.coming.get_mut(&transfer) else { continue };
            coming.is_claimed = false;
            if std::mem::take(&mut coming.is_closing) {
                self.barred(transfer, kernel, now);
            } else if coming.is_admitted
                && let Err(cause) = kernel.admissions.reopen(&coming.connection)
            {
                tracing::error!(connection = %coming.connection, %cause, "no other packet can make it");
            }
        }
    }

    /// Packets that have claimed admissions get through, while everything else goes on; those that come meanwhile are next.
    pub(super) fn wait_for_claims(&mut self) {
        if self.claims.is_empty() && !self.claimed.is_empty() {
            let claimed = std::mem::take(&mut self.claimed);
            self.claims.spawn_blocking(|| {
                admissions::wait_for_claims();
                claimed
            });
        }
    }

    /// The connection is made or never will be.
    fn barred(&mut self, transfer: TransferId, kernel: Kernel<'_>, now: Instant) {
        let made = self.coming.get(&transfer).is_some_and(|coming| {
            kernel.admissions.is_made(&coming.connection).unwrap_or_else(|cause| {
                tracing::error!(connection = %coming.connection, %cause, "can't be seen, so that it counts as here");
                true
            })
        });
        self.is_barred(transfer, made, kernel, now);
    }

    fn is_barred(&mut self, transfer: TransferId, made: bool, kernel: Kernel<'_>, now: Instant) {
        if let Some(connection) = self.coming.get(&transfer).map(|coming| coming.connection) {
            if made {
                self.let_flow(&connection, kernel);
            } else {
                self.departs(&connection, kernel);
            }
        }
        let noted = if made { self.notes.made(transfer) } else { self.notes.bars(transfer) };
        if let Err(cause) = noted {
            tracing::error!(%cause, made, "a restarted agent will not know what became of a transfer");
        }
        if made {
            self.begin_to_give(transfer, now);
        }
        self.tell_target(Event::Barred { transfer, made }, now);
    }

    fn discard_coming(&mut self, transfer: TransferId, kernel: Kernel<'_>) {
        self.notes.forgets(transfer);
        let Some(coming) = self.forget(transfer) else { return };
        self.touched.insert(coming.connection, false);
        self.no_longer_admitted(&coming, kernel);
        if coming.unread.is_some() {
            self.dumps.forget(transfer, Kept::Unread);
        }
        if let Some(restored) = coming.restored {
            if has_unsent(restored.state()) {
                self.dumps.forget(transfer, Kept::Unsent);
            }
            // It may have been here before.
            self.departs(&coming.connection, kernel);
            if let Err(cause) = restored.discard() {
                tracing::error!(connection = %coming.connection, %cause, "can't be closed silently");
            }
        }
        if let Some((application, offer)) = coming.to {
            self.tell(application, Command::Withdraw(offer, Refusal::Aborted));
        }
    }

    fn no_longer_admitted(&self, Coming { connection, way, .. }: &Coming, kernel: Kernel<'_>) {
        if *way == Way::Restore {
            return;
        }
        if let Err(cause) = kernel.admissions.forget(connection) {
            tracing::error!(%connection, %cause, "its admission can't be taken out of the map");
        }
    }

    fn forget(&mut self, transfer: TransferId) -> Option<Coming> {
        let coming = self.coming.remove(&transfer)?;
        if let Some((_, offer)) = coming.to {
            self.offers.remove(&offer);
        }
        Some(coming)
    }
}

/// Application state for an offer; `None` if there is no memory for it.
fn sealed(state: &[u8]) -> Option<Option<Sealed>> {
    match state {
        [] => Some(None),
        state => {
            Some(Some(Sealed::new(state).inspect_err(|cause| tracing::error!(%cause, "no memory")).ok()?))
        }
    }
}

/// Whether bytes are to be given to the kernel that it can't be given before the connection is active.
fn has_unsent(state: &ConnectionState) -> bool {
    !state.send.split().1.is_empty()
}

/// What the client has sent of a connection that is to be admitted.
fn unread_of(note: &Note, socket: &[u8]) -> Result<Option<Unread>, String> {
    let state = ConnectionState::decode(socket).map_err(|e| e.to_string())?;
    if state.connection != note.connection {
        return Err(format!("the state is of another connection, {}", state.connection));
    }
    if state.receive.bytes.len() > MAX_UNREAD_BYTES {
        return Err(format!("{} unread bytes are too many", state.receive.bytes.len()));
    }
    Ok(Unread::of(state))
}
