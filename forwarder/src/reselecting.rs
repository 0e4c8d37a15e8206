//! Connections whose next request goes to another stack: a worker asks the control thread for it, and hears if it can't be.
//!
//! That a connection has moved, a worker sees in the CRT.

use crossbeam::queue::ArrayQueue;
use model::StackIndex;

use crate::AnyKey;

/// A connection that is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reselected {
    /// Which.
    pub key: AnyKey,
    /// Who has it.
    pub from: StackIndex,
    /// Whom its next request is for.
    pub to: StackIndex,
    /// The sequence number of the request's first byte.
    pub start: u32,
    /// What its first packet acknowledges.
    pub acknowledged: u32,
}

/// Two bounded queues between one worker and the control thread, without locks.
#[derive(Debug)]
pub struct Reselecting {
    asked: ArrayQueue<Reselected>,
    stay: ArrayQueue<AnyKey>,
}

impl Reselecting {
    /// Empty ones, for so many connections.
    pub fn new(room: usize) -> Self {
        Self { asked: ArrayQueue::new(room.max(1)), stay: ArrayQueue::new(room.max(1)) }
    }

    /// For the worker: asks. `false`: there is no room.
    pub(crate) fn ask(&self, wanted: Reselected) -> bool {
        self.asked.push(wanted).is_ok()
    }

    /// For the worker: the next connection that does not move.
    pub(crate) fn stays(&self) -> Option<AnyKey> {
        self.stay.pop()
    }

    /// For the control thread: what was asked, in order.
    pub fn asked(&self) -> impl Iterator<Item = Reselected> {
        std::iter::from_fn(|| self.asked.pop())
    }

    /// For the control thread: the connection does not move. The worker gives up by itself what it does not hear of.
    pub fn stay(&self, key: AnyKey) {
        let _ = self.stay.push(key);
    }
}
