//! What the host's machine wants done to sockets, notes and applications, done: its [`Kernel`](transfer::host::Kernel).
//!
//! A system call of TCP_REPAIR takes some microseconds and waits for nobody. A kill comes between two calls of the machine, or
//! where nothing is lost by it: a dump is of a socket whose note is written, a file is there whole or not at all.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use channel::Sealed;
use model::control_socket::{Refusal, RequestId};
use model::handoff::Token;
use model::message::FromStack;
use model::transfer::{FromHost, Reason, TransferId, Way, Why};
use model::{Connection, ConnectionState, StackName};
use tokio::sync::mpsc;
use transfer::host::{
    Activity, ApplicationId, Arrival, Asker, Away, Dump, Found, Handle, Kept, MAX_UNREAD_BYTES, NotRestored,
    Note, Order, Place, Queues, Stand, Subject, Voided,
};
use transfer::{host, taking};

use super::hands::{Arriving, At, Finished, Socket, look};
use super::refusal::refusal;
use crate::control_socket::{Command, Held};
use crate::repair::{self, Refused, RestoreError, Unread};
use crate::system::{admissions, conntrack, diag, random_token};

/// Entries of the freeze map that are removed in one go: a matter of a millisecond.
const ENDED_AT_ONCE: usize = 1024;

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

/// Reports what can't be done about it.
fn reported<T, E: std::fmt::Display>(
    done: Result<T, E>,
    connection: &Connection,
    what: &str,
) -> Result<T, String> {
    done.map_err(|cause| {
        tracing::error!(%connection, %cause, "{what}");
        cause.to_string()
    })
}

impl host::Kernel for At<'_> {
    fn send(&mut self, to: StackName, message: FromHost) {
        self.hands.givers.said(&message);
        self.hands.outbox.push((to, FromStack::Transfer(message)));
    }

    fn moved(&mut self, asker: Asker, connection: &Connection) {
        tracing::debug!(%connection, "has moved");
        if let Asker::Application(application, request) = asker {
            self.hands.tell(application, Command::Transferred(request));
        }
    }

    fn stays(&mut self, asker: Asker, connection: &Connection, why: &Why) {
        match asker {
            Asker::Application(application, request) => {
                let (refusal, detail) = refusal(why);
                self.hands.refuse(application, request, refusal, detail);
            }
            Asker::Operator(Order { id, .. }) => self.hands.stays_here(id, connection, why),
            Asker::Nobody => {}
        }
    }

    fn claimed(&mut self, application: ApplicationId, request: RequestId, is_its: bool) {
        let Some(passed) = self.hands.passed.remove(&(application, request)) else { return };
        tracing::info!(connection = %passed.connection, is_its, "an application has it from a former run");
        if is_its {
            self.hands.tell(application, Command::Claimed(request, passed.socket));
        } else {
            passed.disconnect();
            self.hands.refuse(application, request, Refusal::Aborted, None);
        }
    }

    fn note(&mut self, note: Note<'_>) -> Result<(), String> {
        let noted = match note {
            Note::Leaving(note, until) => self.hands.notes.leaves(note, until),
            Note::Prepared(note) => self.hands.notes.prepares(note),
            Note::Active(note) => self.hands.notes.activates(note.transfer),
            Note::Admitted(note) => self.hands.notes.admits(note),
            Note::Made(transfer) => self.hands.notes.made(transfer),
            Note::Barred(transfer) => self.hands.notes.bars(transfer),
        };
        noted.map_err(|cause| {
            tracing::error!(?note, %cause, "a restarted agent will not know how far a transfer is");
            cause.to_string()
        })
    }

    fn erase(&mut self, of: Subject) {
        match of {
            Subject::Leaving(connection) => self.hands.notes.stays_or_left(&connection),
            Subject::Coming(transfer) => self.hands.notes.forgets(transfer),
        }
    }

    fn keep(&mut self, transfer: TransferId, kept: Kept, socket: &[u8]) -> Result<(), String> {
        self.hands.dumps.keep(transfer, kept, socket).map_err(|e| e.to_string())?;
        if kept == Kept::Unread {
            let read = self.hands.arriving.remove(&transfer).and_then(|arriving| arriving.state);
            self.hands.unread.extend(read.and_then(Unread::of).map(|unread| (transfer, unread)));
        }
        Ok(())
    }

    fn unkeep(&mut self, transfer: TransferId, kept: Kept) {
        self.hands.dumps.forget(transfer, kept);
        match kept {
            Kept::Unread => drop(self.hands.unread.remove(&transfer)),
            Kept::Unsent => drop(self.hands.unsent.remove(&transfer)),
        }
    }

    fn sweep(&mut self) {
        self.hands.notes.sweep();
        if self.hands.ended.is_some() {
            return;
        }
        let (tell, ended) = mpsc::channel(1);
        self.hands.ended = Some(ended);
        let freezes = Arc::clone(self.kernel.freezes);
        tokio::task::spawn_blocking(move || match freezes.ended() {
            Ok(all) => drop(all.chunks(ENDED_AT_ONCE).try_for_each(|some| tell.blocking_send(some.to_vec()))),
            Err(cause) => tracing::warn!(%cause, "what is frozen no longer can't be removed from its map"),
        });
    }

    fn keep_away(&mut self, connection: &Connection, how: Away, at_most: Duration) -> Result<(), String> {
        reported(
            self.kernel.freezes.keep_away(connection, how, at_most),
            connection,
            "its packets can't be kept away",
        )
    }

    fn let_flow(&mut self, connection: &Connection) {
        let _ = reported(
            self.kernel.freezes.let_flow(connection),
            connection,
            "its packets can't be let in again",
        );
    }

    fn away(&mut self, connection: &Connection) -> Result<Option<Away>, String> {
        self.kernel.freezes.away(connection).map_err(|e| e.to_string())
    }

    fn hold(&mut self, application: ApplicationId, request: RequestId, connection: &Connection) {
        if let Some(passed) = self.hands.passed.remove(&(application, request)) {
            self.hands.kept.insert(*connection, passed);
        }
    }

    fn hold_found(&mut self, connection: &Connection, place: Place) -> Result<(), String> {
        match repair::find_at(connection, place) {
            Ok(socket) => {
                self.hands.keep_socket(connection, socket);
                Ok(())
            }
            Err(cause) => {
                tracing::debug!(%connection, %cause, "its server has it no longer");
                Err(cause.to_string())
            }
        }
    }

    fn find(&mut self, connection: &Connection) -> Found {
        match repair::find(connection, None) {
            Ok(socket) => {
                self.hands.keep_socket(connection, socket);
                Found::Here
            }
            Err(_) if repair::is_in_flight(connection) => Found::InFlight,
            Err(Refused::NotThere { .. }) => Found::Nowhere,
            Err(cause) => {
                tracing::error!(%connection, %cause, "its socket can't be found");
                Found::Nowhere
            }
        }
    }

    fn release(&mut self, handle: Handle) {
        drop(self.hands.take(handle));
    }

    fn disconnect(&mut self, handle: Handle) {
        if let Some(socket) = self.hands.take(handle) {
            socket.disconnect();
        }
    }

    fn silence(&mut self, connection: &Connection) {
        if let Some(Socket { socket, .. }) = self.hands.kept.get(connection) {
            let _ = reported(repair::silence(socket.as_fd()), connection, "can't be kept silent");
        }
    }

    fn is_silent(&mut self, handle: Handle) -> Result<bool, String> {
        let Socket { socket, connection, .. } = self.hands.socket(handle).ok_or("it has no socket here")?;
        reported(repair::is_silent(socket.as_fd()), connection, "it can't be seen whether it is silent")
    }

    fn unacknowledged(&mut self, handle: Handle) -> u32 {
        let socket = self.hands.socket(handle);
        socket.and_then(|socket| repair::unacknowledged(socket.socket.as_fd()).ok()).unwrap_or(0)
    }

    fn look(&mut self, handle: Handle) -> Result<(Activity, Stand), Why> {
        let kernel = self.kernel;
        let socket = self.hands.socket(handle).ok_or(Reason::NoSocket)?;
        look(socket.socket.as_fd(), kernel)
    }

    fn prompt(&mut self, connection: &Connection) -> Result<(), String> {
        let Socket { socket, .. } = self.hands.kept.get(connection).ok_or("its socket is gone")?;
        repair::prompt(socket.as_fd()).map_err(|e| e.to_string())
    }

    fn dump(&mut self, connection: &Connection) -> Result<Dump, Why> {
        let refused = |said: &str| Why::new(Reason::NotDumped, said);
        let kept = self.hands.kept.get_mut(connection).ok_or_else(|| refused("its socket is gone"))?;
        let mut state = repair::dump(kept.socket.as_fd()).map_err(|e| Why::from(&e))?;
        let given_back = kept.give_back(&mut state);
        let socket = state.encode();
        let queues = Queues {
            next: state.receive_next(),
            unread: state.receive.bytes.len(),
            unacknowledged: state.send.bytes.len(),
            unsent: state.send.unsent_bytes as usize,
            is_whole: state.phase == model::connection_state::Phase::Established,
            is_closed: state.phase.fin_queued(),
        };
        (state.send.bytes, state.receive.bytes) = (Vec::new(), Vec::new());
        kept.state = Some(state);
        given_back.map(|()| Dump { socket, queues })
    }

    fn thaw(&mut self, connection: &Connection) {
        let Some(Socket { socket, state, .. }) = self.hands.kept.get(connection) else { return };
        let woken = match state {
            Some(state) => repair::thaw(socket.as_fd(), state),
            None => repair::wake(socket.as_fd()).map(drop),
        };
        let _ = reported(woken, connection, "a connection that stays can't leave repair mode");
    }

    fn finish(&mut self, handle: Handle, transfer: TransferId) -> bool {
        let unsent = self.hands.unsent.remove(&transfer);
        let Some(Socket { socket, connection, .. }) = self.hands.socket(handle) else { return false };
        let woken = match &unsent {
            Some(state) => repair::activate_again(socket.as_fd(), state).map(|()| true),
            None => repair::wake(socket.as_fd()),
        };
        tracing::info!(%connection, ?woken, "came here before the agent was restarted");
        reported(woken, connection, "can't be taken over from a former run").is_ok()
    }

    fn destroy(&mut self, connection: &Connection) {
        tracing::warn!(%connection, "its application has not asked for it, so that it is closed");
        let _ = reported(diag::destroy(connection), connection, "can't be closed");
    }

    fn offer(
        &mut self,
        transfer: TransferId,
        connection: &Connection,
        job: Option<&str>,
        state: &[u8],
    ) -> Result<(), Reason> {
        let (application, offer, job) = self.hands.addressee(transfer, connection, job)?;
        let state = sealed(state).ok_or(Reason::ApplicationGone)?;
        let giver = self.hands.givers.of(transfer);
        let command = Command::Offer { offer, connection: *connection, job, giver, state };
        self.hands.applications.tell(application, command).map_err(|_| Reason::ApplicationGone)
    }

    fn read(&mut self, note: &taking::Note, socket: &[u8]) -> Result<Arrival, String> {
        let taking::Note { connection, transfer, way, .. } = *note;
        let state = ConnectionState::decode(socket).map_err(|e| e.to_string())?;
        if state.connection != connection {
            return Err(format!("the state is of another connection, {}", state.connection));
        }
        let unread = state.receive.bytes.len();
        let arrival = match way {
            Way::Restore if !self.kernel.dvipas.contains(&connection.dvipa.ip()) => {
                return Err(format!("{} is no address of this host", connection.dvipa.ip()));
            }
            Way::Restore => Arrival { has_unsent: has_unsent(&state), unread: None },
            Way::Inject if unread > MAX_UNREAD_BYTES => {
                return Err(format!("{unread} unread bytes are too many"));
            }
            Way::Inject => {
                let is_some = unread > 0 || state.phase.fin_received();
                Arrival { has_unsent: false, unread: is_some.then_some(unread) }
            }
        };
        if way == Way::Restore || arrival.unread.is_some() {
            self.hands.arriving.entry(transfer).or_default().state = Some(state);
        }
        Ok(arrival)
    }

    fn track(&mut self, connection: &Connection) -> Result<(), String> {
        let known = conntrack::make_known(connection);
        known.map_err(|cause| format!("this host's connection tracking does not take it: {cause}"))
    }

    fn restore(&mut self, transfer: TransferId) -> Result<(), NotRestored> {
        let arriving = self.hands.arriving.entry(transfer).or_default();
        let not_read = || NotRestored { is_here: false, said: "it was not read".to_owned() };
        let state = arriving.state.take().ok_or_else(not_read)?;
        let restored = repair::restore(state).map_err(|cause| NotRestored {
            is_here: matches!(cause, RestoreError::AlreadyHere(_)),
            said: cause.to_string(),
        })?;
        if let Err(cause) = self.kernel.conversations.begin(restored.as_fd()) {
            tracing::debug!(?transfer, %cause, "what is said on it is not noted");
        }
        arriving.restored = Some(restored);
        Ok(())
    }

    fn pass(
        &mut self,
        transfer: TransferId,
        connection: &Connection,
        job: Option<&str>,
        state: &[u8],
    ) -> Result<(), Reason> {
        let arriving = self.hands.arriving.get(&transfer).ok_or(Reason::NotPassed)?;
        let restored = arriving.restored.as_ref().ok_or(Reason::NotPassed)?;
        let shared = reported(restored.share(), connection, "can't be passed to its application");
        let socket = shared.map_err(|_| Reason::NotPassed)?;
        let (application, command) = match arriving.to {
            Some((application, offer)) => (application, Command::Pass(offer, socket)),
            None => {
                let (application, offer, _) = self.hands.addressee(transfer, connection, job)?;
                let state = sealed(state).ok_or(Reason::NotPassed)?;
                let held = Held { socket, connection: *connection };
                let giver = self.hands.givers.of(transfer);
                (application, Command::Give { offer, held, giver, state })
            }
        };
        self.hands.applications.tell(application, command).map_err(|_| Reason::NotPassed)
    }

    fn activate(&mut self, transfer: TransferId, connection: &Connection) {
        self.hands.givers.over(transfer);
        let Some(Arriving { to, restored: Some(restored), .. }) = self.hands.arriving.remove(&transfer)
        else {
            return;
        };
        let (has_unsent, connection) = (has_unsent(restored.state()), *connection);
        let activate = move || {
            let lost = "is lost: it can't leave repair mode";
            let socket = reported(restored.activate(), &connection, lost);
            Finished { connection, transfer, to, has_unsent, socket }
        };
        if has_unsent {
            // The kernel may have no room for them yet.
            self.hands.finishing.spawn_blocking(activate);
        } else {
            self.hands.finished(activate());
        }
    }

    fn discard(&mut self, transfer: TransferId) {
        self.hands.givers.over(transfer);
        let Some(Arriving { to, restored, .. }) = self.hands.arriving.remove(&transfer) else { return };
        if let Some(restored) = restored {
            if has_unsent(restored.state()) {
                self.hands.dumps.forget(transfer, Kept::Unsent);
            }
            let connection = restored.state().connection;
            let _ = reported(restored.discard(), &connection, "can't be closed silently");
        }
        if let Some((application, offer)) = to {
            self.hands.offers.remove(&offer);
            self.hands.tell(application, Command::Withdraw(offer, Refusal::Aborted));
        }
    }

    fn is_here(&mut self, connection: &Connection) -> Result<bool, String> {
        diag::ask(connection).map(|told| told.is_some()).map_err(|e| e.to_string())
    }

    fn admit(&mut self, _: TransferId, connection: &Connection) -> Result<Token, String> {
        let token = random_token().map_err(|e| e.to_string())?;
        self.kernel.admissions.admit(connection, token).map_err(|e| e.to_string())?;
        Ok(token)
    }

    fn void(&mut self, connection: &Connection) -> Result<Voided, String> {
        reported(
            self.kernel.admissions.void(connection),
            connection,
            "its admission can't be voided, so that it counts as here",
        )
    }

    fn is_made(&mut self, connection: &Connection) -> Result<bool, String> {
        reported(
            self.kernel.admissions.is_made(connection),
            connection,
            "it can't be seen whether a packet has made it",
        )
    }

    fn is_claimed(&mut self, connection: &Connection) -> bool {
        self.kernel.admissions.is_claimed(connection).unwrap_or(false)
    }

    fn await_claims(&mut self, transfers: Vec<TransferId>) {
        self.hands.claims.spawn_blocking(|| {
            admissions::wait_for_claims();
            transfers
        });
    }

    fn reopen(&mut self, connection: &Connection) {
        let _ =
            reported(self.kernel.admissions.reopen(connection), connection, "no other packet can make it");
    }

    fn forget_admission(&mut self, connection: &Connection) {
        let forgotten = self.kernel.admissions.forget(connection);
        let _ = reported(forgotten, connection, "its admission can't be taken out of the map");
    }

    fn give(&mut self, transfer: TransferId) -> bool {
        let Some(unread) = self.hands.unread.get_mut(&transfer) else { return true };
        let connection = unread.connection();
        reported(unread.give(), &connection, "can't be given what its client has sent").unwrap_or(false)
    }

    fn takes_nothing(&mut self, connection: &Connection) {
        tracing::warn!(%connection, "its server does not read, or a packet filter drops its segments on lo");
    }
}
