//! Unread bytes of connections that a packet has made: the kernel is given them, however long it takes. Their
//! [dumps](super::dumps) are kept, so that a restarted agent goes on with it.

use std::time::{Duration, Instant};

use model::ConnectionState;
use model::transfer::TransferId;

use super::Transfers;
use super::coming::Coming;
use super::dumps::Kept;
use crate::repair::Unread;

/// A kernel that does not take all, because the server does not read, is asked again after the first of these, then after
/// twice as long, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// A kernel that has not taken all for so long is worth a look.
const LONG: Duration = Duration::from_secs(10);

/// A connection that is not given everything yet.
#[derive(Debug)]
pub(super) struct Giving {
    transfer: TransferId,
    unread: Unread,
    /// When to try.
    pub(super) next: Instant,
    pause: Duration,
    /// When an operator is told.
    tell: Option<Instant>,
}

impl Giving {
    fn begin(transfer: TransferId, unread: Unread, now: Instant) -> Self {
        Self { transfer, unread, next: now, pause: AGAIN.0, tell: Some(now + LONG) }
    }

    /// Gives what the kernel takes now; whether it has everything.
    fn go_on(&mut self, now: Instant) -> bool {
        let connection = self.unread.connection();
        let given = self.unread.give().unwrap_or_else(|cause| {
            tracing::error!(%connection, %cause, "can't be given what its client has sent");
            false
        });
        if !given && self.tell.take_if(|tell| *tell <= now).is_some() {
            tracing::warn!(%connection, "its server does not read, or a packet filter drops its segments on lo");
        }
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(AGAIN.1);
        given
    }
}

impl Transfers {
    /// The connection of this transfer is made.
    pub(super) fn begin_to_give(&mut self, transfer: TransferId, now: Instant) {
        if let Some(unread) = self.coming.get_mut(&transfer).and_then(|coming| coming.unread.take()) {
            self.giving.insert(unread.connection(), Giving::begin(transfer, unread, now));
        }
    }

    /// Gives what is due.
    pub(super) fn give(&mut self, now: Instant) {
        let Self { giving, dumps, .. } = self;
        giving.retain(|_, giving| {
            let given = giving.next <= now && giving.go_on(now);
            if given {
                dumps.forget(giving.transfer, Kept::Unread);
            }
            !given
        });
    }

    /// How many bytes are kept until a kernel takes them.
    pub(super) fn bytes_to_give(&self) -> usize {
        let admitted = self.coming.values().filter_map(|coming| coming.unread.as_ref());
        admitted.chain(self.giving.values().map(|giving| &giving.unread)).map(Unread::bytes).sum()
    }

    /// A former run has noted these bytes: of a connection that may still be made, or is.
    pub(super) fn inherit_unread(&mut self, transfer: TransferId, socket: &[u8], now: Instant) {
        let unread = ConnectionState::decode(socket).ok().and_then(Unread::of);
        match (unread, self.coming.get_mut(&transfer)) {
            (Some(unread), Some(Coming { unread: place, .. })) => *place = Some(unread),
            // Settled long ago, or never admitted: then it is not here, and nothing is given.
            (Some(unread), None) => {
                self.giving.insert(unread.connection(), Giving::begin(transfer, unread, now));
            }
            (None, _) => self.dumps.forget(transfer, Kept::Unread),
        }
    }
}
