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
use crate::system::freezes::Standing;
use crate::system::{conntrack, random_token};

/// A restored connection's packets are kept away for longer than it waits for its activation.
const FROZEN: Duration = limits::PREPARE.saturating_add(Duration::from_secs(50));

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
            unread: None,
        }
    }
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
        let event = match self.admitted(note, socket, kernel) {
            Ok((token, unread)) => {
                self.disconnect_orphan(&connection);
                let coming =
                    self.coming.entry(transfer).or_insert_with(|| Coming::new(connection, Way::Inject));
                (coming.is_admitted, coming.unread) = (true, unread);
                self.let_flow(&connection, kernel);
                Event::Admitted { transfer, token }
            }
            Err(said) => Event::NotReady { transfer, why: Why::new(Reason::NotRestored, &said) },
        };
        self.tell_target(event, now);
    }

    /// Notes all that a restarted agent needs, unread bytes first: whoever finds the connection made finds them.
    fn admitted(
        &mut self,
        note: &Note,
        socket: &[u8],
        kernel: Kernel<'_>,
    ) -> Result<(Token, Option<Unread>), String> {
        let unread = unread_of(note, socket)?;
        if let Some(unread) = &unread {
            if self.bytes_to_give().saturating_add(unread.bytes()) > limits::BYTES {
                return Err("too many bytes wait for servers that do not read".to_owned());
            }
            self.dumps.keep(note.transfer, Kept::Unread, socket).map_err(|e| e.to_string())?;
        }
        self.notes.admits(note).map_err(|e| e.to_string())?;
        conntrack::make_known(&note.connection).map_err(|e| not_tracked(&e))?;
        let token = random_token().map_err(|e| format!("no random number: {e}"))?;
        kernel.admissions.admit(&note.connection, token).map_err(|e| e.to_string())?;
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

    fn bar(&mut self, transfer: TransferId, kernel: Kernel<'_>, now: Instant) {
        let made = match self.coming.get_mut(&transfer) {
            Some(coming) => {
                coming.is_admitted = false;
                let connection = coming.connection;
                self.touched.insert(connection, true);
                // From here on no packet makes it; then what was made is seen.
                self.departs(&connection, kernel);
                let made = kernel.admissions.is_made(&connection).unwrap_or_else(|cause| {
                    tracing::error!(%connection, %cause, "can't be seen, so that it counts as here");
                    true
                });
                if made {
                    self.let_flow(&connection, kernel);
                }
                made
            }
            None => false,
        };
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
