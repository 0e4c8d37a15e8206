//! Connections that a former run of the agent had passed to their applications.
//!
//! Their descriptors are in a process, or on the way there in a Unix socket, where nobody sees them. The application asks about
//! each of them:
//!
//! | its note | the socket | what is done |
//! | --- | --- | --- |
//! | active | silent | woken: it is the application's |
//! | active, or gone | not silent: the former run had activated it | it is the application's |
//! | void, or gone | silent | disconnected: it is elsewhere |
//!
//! A silent socket of an active connection that nobody asks about in time is closed, so that its client is told.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use model::control_socket::{Refusal, RequestId};
use model::transfer::TransferId;
use model::{Connection, ConnectionState};
use transfer::target::Note;

use super::dumps::Kept;
use super::leaving::disconnect;
use super::{Kernel, Transfers};
use crate::control_socket::limits::CLAIM_WITHIN;
use crate::control_socket::{ApplicationId, Command, Held};
use crate::repair;
use crate::system::diag;
use crate::system::freezes::Standing;

/// Packets of an awaited connection are kept away for longer than it is awaited.
const FROZEN: Duration = CLAIM_WITHIN.saturating_add(Duration::from_secs(10));

/// An active connection whose descriptor is on its way to its application.
#[derive(Debug)]
pub(super) struct Awaited {
    transfer: TransferId,
    /// Its state, if bytes were never sent.
    unsent: Option<ConnectionState>,
    pub(super) until: Instant,
    /// The routing stack knows that it is here: the note is erased with this.
    is_settled: bool,
}

impl Transfers {
    /// Finishes what the former run had noted. A descriptor that no process has is waited for; the client's packets too.
    pub(super) fn activate_inherited(
        &mut self,
        note: &Note,
        unsent: Option<ConnectionState>,
        kernel: Kernel<'_>,
        now: Instant,
    ) {
        let Note { connection, transfer, .. } = *note;
        let found = repair::find(&connection, None);
        if found.is_err() && repair::is_in_flight(&connection) {
            tracing::info!(%connection, "is on its way to its application");
            if let Err(cause) = kernel.freezes.keep_away(&connection, Standing::Frozen, FROZEN) {
                tracing::error!(%connection, %cause, "can't be kept frozen");
            }
            let until = now + CLAIM_WITHIN;
            self.awaited.insert(connection, Awaited { transfer, unsent, until, is_settled: false });
            return;
        }
        self.let_flow(&connection, kernel);
        let woken = found.ok().map(|socket| finish(socket.as_fd(), unsent.as_ref()));
        match woken.transpose() {
            Ok(woken) => tracing::info!(%connection, ?woken, "came here before the agent was restarted"),
            Err(cause) => tracing::error!(%connection, %cause, "can't leave repair mode"),
        }
        self.dumps.forget(transfer, Kept::Unsent);
    }

    /// Whether the note of a transfer is still needed, though the routing stack knows that the connection is here.
    pub(super) fn is_awaited(&mut self, transfer: TransferId) -> bool {
        let awaited = self.awaited.values_mut().find(|awaited| awaited.transfer == transfer);
        awaited.map(|awaited| awaited.is_settled = true).is_some()
    }

    /// An application has a connection that a former run, or another control socket, has passed to it.
    pub(super) fn claimed(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        held: Held,
        kernel: Kernel<'_>,
    ) {
        let Held { socket, connection } = held;
        let is_its = if let Some(awaited) = self.awaited.remove(&connection) {
            let woken = finish(socket.as_fd(), awaited.unsent.as_ref());
            self.let_flow(&connection, kernel);
            self.no_longer_awaited(&awaited);
            woken.map(|_| true)
        } else if self.leaving.contains_key(&connection) {
            // An operator moves it, and it was the application's before.
            Ok(true)
        } else {
            repair::is_silent(socket.as_fd()).map(|silent| !silent)
        };
        let is_its = is_its.unwrap_or_else(|cause| {
            tracing::error!(%connection, %cause, "can't be taken over from a former run");
            false
        });
        tracing::info!(%connection, is_its, "an application has it from a former run");
        if is_its {
            return self.tell(application, Command::Claimed(request, socket));
        }
        disconnect(&connection, socket);
        let (why, detail) = (Refusal::Aborted, None);
        self.tell(application, Command::Failed { request, why, detail });
    }

    /// Closes what nobody has asked about in time.
    pub(super) fn give_up_awaited(&mut self, kernel: Kernel<'_>, now: Instant) {
        let late: Vec<_> = self.awaited.iter().filter(|(_, a)| a.until <= now).map(|(c, _)| *c).collect();
        for connection in late {
            let Some(awaited) = self.awaited.remove(&connection) else { continue };
            tracing::warn!(%connection, "its application has not asked for it, so that it is closed");
            self.let_flow(&connection, kernel);
            if let Err(cause) = diag::destroy(&connection) {
                tracing::error!(%connection, %cause, "can't be closed");
            }
            self.no_longer_awaited(&awaited);
        }
    }

    fn no_longer_awaited(&mut self, awaited: &Awaited) {
        self.dumps.forget(awaited.transfer, Kept::Unsent);
        if awaited.is_settled {
            self.notes.forgets(awaited.transfer);
        }
    }

    /// A transfer to this host was void when the former run ended, or was to be. Its silent socket may be in an application's hands,
    /// where it would be in the way of the connection when it comes here again: it must not be woken, because another host has the
    /// connection. A socket that is not silent was here before, and is.
    pub(super) fn discard_void(&mut self, connection: &Connection, kernel: Kernel<'_>) {
        let found = repair::find(connection, None).map_err(|cause| cause.to_string());
        let silent = found.and_then(|socket| match repair::is_silent(socket.as_fd()) {
            Ok(silent) => Ok((socket, silent)),
            Err(cause) => Err(cause.to_string()),
        });
        match silent {
            Ok((socket, true)) => {
                tracing::info!(%connection, "was on its way here; the transfer is void");
                self.departs(connection, kernel);
                disconnect(connection, socket);
            }
            Ok((_, false)) => self.let_flow(connection, kernel),
            // On its way to its application, or nowhere.
            Err(cause) => {
                tracing::debug!(%connection, cause, "has no socket here");
                self.departs(connection, kernel);
            }
        }
    }

    /// An application has not taken a connection that it was given.
    pub(super) fn not_taken(&mut self, held: Held) {
        let Held { socket, connection } = held;
        if self.leaving.contains_key(&connection) {
            return;
        }
        self.not_taken = self.not_taken.saturating_add(1);
        tracing::warn!(%connection, "its application has not taken it in time, so that it is closed");
        if let Err(cause) = repair::reset(socket) {
            tracing::error!(%connection, %cause, "can't be closed");
        }
    }
}

/// Activates a socket as far as the former run had not; whether there was something to do.
fn finish(socket: BorrowedFd<'_>, unsent: Option<&ConnectionState>) -> std::io::Result<bool> {
    match unsent {
        Some(state) => repair::activate_again(socket, state).map(|()| true),
        None => repair::wake(socket),
    }
}
