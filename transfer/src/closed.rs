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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_when_as_many_are_known_as_may_be() {
        let transfer = |number| TransferId { incarnation: 1, number };
        let mut closed = Closed::default();
        let most = CLOSED as u64;
        (0..most).for_each(|number| closed.add(transfer(number)));
        closed.add(transfer(0));
        assert!(closed.has(transfer(0)) && !closed.has(transfer(most)), "it was known");
        closed.add(transfer(most));
        assert!(!closed.has(transfer(0)) && closed.has(transfer(1)) && closed.has(transfer(most)));
    }
}
