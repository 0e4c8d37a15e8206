//! Transfers that have ended, so that late messages of them do nothing.

use std::collections::{BTreeSet, VecDeque};

use model::transfer::TransferId;

use crate::limits::CLOSED;

/// The last ended transfers; the oldest give way. Messages of one live no longer than the session they came on.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Closed {
    set: BTreeSet<TransferId>,
    order: VecDeque<TransferId>,
}

impl Closed {
    pub(crate) fn add(&mut self, transfer: TransferId) {
        if self.set.insert(transfer) {
            self.order.push_back(transfer);
        }
        if self.order.len() > CLOSED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }

    pub(crate) fn has(&self, transfer: TransferId) -> bool {
        self.set.contains(&transfer)
    }
}
