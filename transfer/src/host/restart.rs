//! What a former run of the agent has left in the middle of transfers.
//!
//! Descriptors of connections that it had passed to their applications are in a process, or on the way there in a Unix socket,
//! where nobody sees them. The application asks about each of them:
//!
//! | its note | the socket | what is done |
//! | --- | --- | --- |
//! | active | silent | woken: it is the application's |
//! | active, or gone | not silent: the former run had activated it | it is the application's |
//! | void, or gone | silent | disconnected: it is elsewhere |
//!
//! A silent socket of an active connection that nobody asks about in time is closed, so that its client is told. One that the former
//! run had told its application of is asked about by nobody: it is looked for again, until a process has it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use model::Connection;
use model::control_socket::RequestId;
use model::transfer::TransferId;

use super::Host;
use super::coming::Phase;
use super::kernel::{ApplicationId, Away, Found, Handle, Kept, Kernel, Subject};
use super::leaving::depart;
use crate::giving;
use crate::taking::{self, Event, Standing};

/// An application asks within this time about a silent connection of a former run of the agent (`baton-app`).
pub const CLAIM_WITHIN: Duration = Duration::from_secs(30);
/// A descriptor that no process has is looked for again after so long, and then after twice as long each time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Packets of an awaited connection are kept away for longer than it is awaited.
const FROZEN: Duration = CLAIM_WITHIN.saturating_add(Duration::from_secs(10));

/// What a former run of the agent has left.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// Connections that are frozen here, and until when.
    pub leaving: Vec<(giving::Note, Instant)>,
    /// Transfers to this host.
    pub coming: Vec<(taking::Note, Standing)>,
    /// Transfers to this host that are void: silent sockets of them may be left.
    pub void: Vec<taking::Note>,
    /// Bytes that connections are to be given: how many.
    pub kept: Vec<(TransferId, Connection, Kept, usize)>,
    /// Whose packets are kept away.
    pub away: Vec<(Connection, Away)>,
    /// Which connections have sockets.
    pub here: BTreeSet<Connection>,
}

/// An active connection whose descriptor is on its way to its application.
#[derive(Clone, Debug, Hash)]
pub(super) struct Awaited {
    transfer: TransferId,
    until: Instant,
    /// How long after the last look it is looked for again.
    pause: Duration,
    /// The routing stack knows that it is here: the note is erased with this.
    is_settled: bool,
}

impl Host {
    /// Takes over what was noted, before any routing stack is heard; what is frozen and not noted is here for good, or
    /// elsewhere; what has departed and has a socket has moved, and its application does not know that.
    pub fn inherit(&mut self, left: Left, kernel: &mut impl Kernel, now: Instant) {
        let leaving = left.leaving.iter().map(|(note, _)| note.connection);
        let noted: BTreeSet<_> = leaving.chain(left.coming.iter().map(|(n, _)| n.connection)).collect();
        let void: BTreeSet<_> = left.void.iter().map(|note| note.connection).collect();
        for (note, until) in left.leaving {
            self.inherit_leaving(note, until, kernel, now);
        }
        for note in &left.void {
            if !noted.contains(&note.connection) {
                discard_void(&note.connection, kernel);
            }
            kernel.erase(Subject::Coming(note.transfer));
        }
        let mut active = BTreeSet::new();
        for (note, standing) in left.coming {
            if standing == Standing::Active {
                active.insert(note.transfer);
            }
            if standing != Standing::Barred {
                self.touched.insert(note.connection, true);
                self.comes(note.transfer, note.connection, note.way, Phase::Inherited);
            }
            self.tell_target(Event::Inherited { note, standing }, now);
        }
        for (transfer, connection, kept, bytes) in left.kept {
            match (kept, self.coming.get_mut(&transfer)) {
                (Kept::Unsent, _) if active.contains(&transfer) => {}
                (Kept::Unsent, _) => kernel.unkeep(transfer, kept),
                // It may still be made, which the machine finds out.
                (Kept::Unread, Some(coming)) if !active.contains(&transfer) => {
                    coming.unread = Some(bytes);
                    self.kept_bytes = self.kept_bytes.saturating_add(bytes);
                }
                // Made, and perhaps settled long ago; or never admitted: then it is not here, and nothing is given.
                (Kept::Unread, _) => self.gives(transfer, connection, bytes, now),
            }
        }
        for (connection, away) in left.away {
            match away {
                Away::Frozen | Away::Deaf if noted.contains(&connection) || void.contains(&connection) => {}
                // Its note was erased, or not written yet, when the former run was killed.
                Away::Frozen | Away::Deaf => discard_void(&connection, kernel),
                Away::Departed if left.here.contains(&connection) => {
                    self.inherit_departed(connection, kernel, now);
                }
                Away::Departed => {}
            }
        }
    }

    /// Finishes what the former run had noted. A descriptor that no process has is waited for; the client's packets too.
    pub(super) fn activate_inherited(&mut self, note: &taking::Note, kernel: &mut impl Kernel, now: Instant) {
        let taking::Note { connection, transfer, .. } = *note;
        let found = kernel.find(&connection);
        if found == Found::InFlight {
            let _ = kernel.keep_away(&connection, Away::Frozen, FROZEN);
            let (until, pause) = (now + CLAIM_WITHIN, LOOK_AGAIN);
            self.awaited.insert(connection, Awaited { transfer, until, pause, is_settled: false });
            self.claims_by.set(connection, now + pause);
            return;
        }
        kernel.let_flow(&connection);
        if found == Found::Here {
            kernel.finish(Handle::Kept(connection), transfer);
            kernel.release(Handle::Kept(connection));
        }
        kernel.unkeep(transfer, Kept::Unsent);
    }

    /// Whether the note of a transfer is still needed, though the routing stack knows that the connection is here.
    pub(super) fn is_awaited(&mut self, transfer: TransferId) -> bool {
        let awaited = self.awaited.values_mut().find(|awaited| awaited.transfer == transfer);
        awaited.map(|awaited| awaited.is_settled = true).is_some()
    }

    /// An application has a connection that a former run, or another control socket, has passed to it; its descriptor comes with
    /// this request.
    pub fn claimed(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        connection: Connection,
        kernel: &mut impl Kernel,
    ) {
        let passed = Handle::Passed(application, request);
        let is_its = if let Some(awaited) = self.awaited.remove(&connection) {
            self.claims_by.stop(connection);
            let woken = kernel.finish(passed, awaited.transfer);
            kernel.let_flow(&connection);
            awaited.is_over(kernel);
            woken
        } else {
            // One that an operator moves was the application's before.
            self.leaving.contains_key(&connection) || kernel.is_silent(passed).is_ok_and(|silent| !silent)
        };
        kernel.claimed(application, request, is_its);
    }

    /// Looks again for descriptors that were on their way, and closes what nobody has read or asked about in time.
    pub(super) fn look_for_awaited(&mut self, kernel: &mut impl Kernel, now: Instant) {
        while let Some(connection) = self.claims_by.pop(now) {
            let is_here = kernel.find(&connection) == Found::Here;
            let Some(mut awaited) = self.awaited.remove(&connection) else { continue };
            if !is_here && now < awaited.until {
                awaited.pause *= 2;
                self.claims_by.set(connection, (now + awaited.pause).min(awaited.until));
                self.awaited.insert(connection, awaited);
                continue;
            }
            if is_here {
                kernel.finish(Handle::Kept(connection), awaited.transfer);
                kernel.release(Handle::Kept(connection));
            }
            kernel.let_flow(&connection);
            if !is_here {
                kernel.destroy(&connection);
            }
            awaited.is_over(kernel);
        }
    }
}

impl Awaited {
    fn is_over(&self, kernel: &mut impl Kernel) {
        kernel.unkeep(self.transfer, Kept::Unsent);
        if self.is_settled {
            kernel.erase(Subject::Coming(self.transfer));
        }
    }
}

/// A transfer to this host was void when the former run ended, or was to be. Its silent socket may be in an application's hands,
/// where it would be in the way of the connection when it comes here again: it must not be woken, because another host has the
/// connection. A socket that is not silent was here before, and is.
fn discard_void(connection: &Connection, kernel: &mut impl Kernel) {
    let handle = Handle::Kept(*connection);
    let silent = (kernel.find(connection) == Found::Here).then(|| kernel.is_silent(handle));
    match silent {
        Some(Ok(true)) => {
            depart(connection, kernel);
            kernel.disconnect(handle);
        }
        Some(Ok(false)) => {
            kernel.let_flow(connection);
            kernel.release(handle);
        }
        // On its way to its application, or nowhere.
        Some(Err(_)) | None => {
            depart(connection, kernel);
            kernel.release(handle);
        }
    }
}
