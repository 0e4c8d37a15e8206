//! What a former run of the agent has left in the middle of transfers.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::time::Instant;

use transfer::target::Standing as Noted;
use transfer::{source, target};

use super::coming::Coming;
use super::dumps;
use super::leaving::{Asker, FROZEN, Leaving, Terms};
use super::notes::Left;
use super::{Kernel, Transfers};
use crate::repair;
use crate::system::freezes::Standing;

impl Transfers {
    /// Takes over what was noted, before any routing stack is heard; what is frozen and not noted goes on here.
    pub(super) fn inherit(&mut self, left: Left, dumps: dumps::Left, kernel: Kernel<'_>, now: Instant) {
        let leaving = left.leaving.iter().map(|note| note.connection);
        let noted: HashSet<_> = leaving.chain(left.coming.iter().map(|(n, _)| n.connection)).collect();
        for note in left.leaving {
            self.inherit_leaving(note, kernel, now);
        }
        let active =
            |(note, standing): &(target::Note, Noted)| (*standing == Noted::Active).then_some(note.transfer);
        let active: HashSet<_> = left.coming.iter().filter_map(active).collect();
        for (note, standing) in left.coming {
            tracing::info!(connection = %note.connection, ?standing, "was on its way here");
            if standing != Noted::Barred {
                self.touched.insert(note.connection, true);
                self.coming.insert(note.transfer, Coming::new(note.connection, note.way));
            }
            self.tell_target(target::Event::Inherited { note, standing }, now);
        }
        for (transfer, socket) in dumps {
            self.inherit_unread(transfer, &socket, now);
            if active.contains(&transfer) {
                self.begin_to_give(transfer, now);
            }
        }
        let frozen = kernel.freezes.all().unwrap_or_else(|cause| {
            tracing::error!(%cause, "what is frozen can't be read");
            Vec::new()
        });
        for (connection, standing) in frozen {
            if standing == Standing::Frozen && !noted.contains(&connection) {
                let rescued = repair::rescue(&connection);
                tracing::info!(%connection, ?rescued, "was frozen by a former run");
                self.let_flow(&connection, kernel);
            }
        }
    }

    /// The former run may have died between the note and repair mode: that is finished first.
    fn inherit_leaving(&mut self, note: source::Note, kernel: Kernel<'_>, now: Instant) {
        let (connection, transfer) = (note.connection, note.transfer);
        self.touched.insert(connection, true);
        if let Err(cause) = kernel.freezes.keep_away(&connection, Standing::Frozen, FROZEN) {
            tracing::error!(%connection, %cause, "can't be kept frozen");
        }
        let socket = repair::find(&connection, None).ok();
        let alive = socket.is_some();
        tracing::info!(%connection, alive, "was leaving");
        if let Some(socket) = socket {
            if let Err(cause) = repair::silence(socket.as_fd()) {
                tracing::error!(%connection, %cause, "can't be kept silent");
            }
            let mut leaving = Leaving::new(socket, Asker::Nobody, Terms { carry: true, idle: false });
            leaving.transfer = Some(transfer);
            self.leaving.insert(connection, leaving);
        }
        self.tell_source(source::Event::Inherited { note, alive }, now);
    }
}
