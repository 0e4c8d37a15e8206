//! What a former run of the agent has left in the middle of transfers.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use model::{Connection, ConnectionState};
use transfer::target::Standing as Noted;
use transfer::{source, target};

use super::coming::Coming;
use super::dumps::{self, Kept};
use super::leaving::{Asker, FROZEN, Leaving, Terms};
use super::notes::Left;
use super::{Kernel, Transfers};
use crate::machine::{Picture, Scope};
use crate::repair::{self, Refused};
use crate::system::diag;
use crate::system::freezes::Standing;

impl Transfers {
    /// Takes over what was noted, before any routing stack is heard; what is frozen and not noted is here for good, or
    /// elsewhere; what has departed and has a socket is an [orphan](super::leaving::Orphan).
    pub(super) fn inherit(&mut self, left: Left, dumps: dumps::Left, kernel: Kernel<'_>, now: Instant) {
        let leaving = left.leaving.iter().map(|note| note.connection);
        let noted: HashSet<_> = leaving.chain(left.coming.iter().map(|(n, _)| n.connection)).collect();
        let void: HashSet<_> = left.void.iter().map(|note| note.connection).collect();
        for note in left.leaving {
            self.inherit_leaving(note, kernel, now);
        }
        let active =
            |(note, standing): &(target::Note, Noted)| (*standing == Noted::Active).then_some(note.transfer);
        let active: HashSet<_> = left.coming.iter().filter_map(active).collect();
        for note in &left.void {
            if !noted.contains(&note.connection) {
                self.discard_void(&note.connection, kernel);
            }
            self.notes.forgets(note.transfer);
        }
        let (unsent, unread): (Vec<_>, Vec<_>) =
            dumps.into_iter().partition(|(_, kept, _)| *kept == Kept::Unsent);
        for (note, standing) in left.coming {
            tracing::info!(connection = %note.connection, ?standing, "was on its way here");
            if standing != Noted::Barred {
                self.touched.insert(note.connection, true);
                let mut coming = Coming::new(note.connection, note.way);
                let state = unsent.iter().find(|(transfer, ..)| *transfer == note.transfer);
                coming.unsent = state.and_then(|(.., socket)| ConnectionState::decode(socket).ok());
                self.coming.insert(note.transfer, coming);
            }
            self.tell_target(target::Event::Inherited { note, standing }, now);
        }
        for (transfer, kept, _) in unsent.iter().filter(|(transfer, ..)| !active.contains(transfer)) {
            self.dumps.forget(*transfer, *kept);
        }
        for (transfer, _, socket) in unread {
            self.inherit_unread(transfer, &socket, now);
            if active.contains(&transfer) {
                self.begin_to_give(transfer, now);
            }
        }
        let kept_away = kernel.freezes.all().unwrap_or_else(|cause| {
            tracing::error!(%cause, "what is kept away can't be read");
            Vec::new()
        });
        let here = diag::look(Scope::All, kernel.dvipas).unwrap_or_else(|cause| {
            tracing::error!(%cause, "the kernel does not show its sockets");
            Picture::default()
        });
        let here: HashSet<_> = here.connections.into_iter().map(|(_, connection)| connection).collect();
        for (connection, standing) in kept_away {
            match standing {
                Standing::Frozen if noted.contains(&connection) || void.contains(&connection) => {}
                // Its note was erased, or not written yet, when the former run was killed.
                Standing::Frozen => self.discard_void(&connection, kernel),
                Standing::Departed if here.contains(&connection) => self.inherit_departed(connection, now),
                Standing::Departed => {}
            }
        }
    }

    /// It has moved for a former run, and its application has not asked that one what became of it.
    fn inherit_departed(&mut self, connection: Connection, now: Instant) {
        if let Ok(socket) = repair::find(&connection, None) {
            tracing::info!(%connection, "has left");
            self.orphan(connection, socket, now);
        }
    }

    /// The former run may have died between the note and repair mode: that is finished first.
    fn inherit_leaving(&mut self, note: source::Note, kernel: Kernel<'_>, now: Instant) {
        let connection = note.connection;
        self.touched.insert(connection, true);
        if let Err(cause) = kernel.freezes.keep_away(&connection, Standing::Frozen, FROZEN) {
            tracing::error!(%connection, %cause, "can't be kept frozen");
        }
        let found = repair::find(&connection, None);
        let alive = found.is_ok();
        tracing::info!(%connection, alive, "was leaving");
        match found {
            Ok(socket) => self.keep_silent(connection, socket, Asker::Nobody),
            Err(Refused::NotThere { .. }) => {}
            Err(cause) => tracing::error!(%connection, %cause, "its socket can't be found"),
        }
        self.tell_source(source::Event::Inherited { note, alive }, now);
    }

    /// A former run has frozen it, and its fate is in doubt.
    pub(super) fn keep_silent(&mut self, connection: Connection, socket: OwnedFd, asker: Asker) {
        if let Err(cause) = repair::silence(socket.as_fd()) {
            tracing::error!(%connection, %cause, "can't be kept silent");
        }
        let mut leaving = Leaving::new(socket, asker, Terms { carry: true, idle: false });
        leaving.is_frozen = true;
        self.leaving.insert(connection, leaving);
    }
}
