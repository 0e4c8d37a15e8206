//! What became of connections, numbered, for one routing stack: so that after a lost session it need be told only what it missed.

use std::collections::VecDeque;

use super::sockets::Change;

/// Changes that are kept for a routing stack that is away, or has not said yet how much it heard. Beyond it the oldest go, and a complete
/// account takes their place.
pub const LOGGED_CHANGES: usize = 1 << 18;

/// The last changes. The first number ever is 1.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The highest number that is not known any more: of a change that was forgotten, or of the last complete account.
    forgotten: u64,
    changes: VecDeque<Change>,
}

impl Log {
    /// The last number that was given; 0: there was none.
    pub(super) fn last(&self) -> u64 {
        self.forgotten.saturating_add(u64::try_from(self.changes.len()).unwrap_or(u64::MAX))
    }

    /// Writes a change down. Those behind number `said` are not forgotten.
    pub(super) fn note(&mut self, change: Change, said: Option<u64>) {
        self.changes.push_back(change);
        while self.changes.len() > LOGGED_CHANGES && said.is_none_or(|said| self.forgotten < said) {
            self.changes.pop_front();
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    /// All behind this number, if they are still known.
    pub(super) fn since(&self, number: u64) -> Option<impl Iterator<Item = &Change>> {
        let skip = usize::try_from(number.checked_sub(self.forgotten)?).ok()?;
        (skip <= self.changes.len()).then(|| self.changes.range(skip..))
    }

    /// A complete account takes a number of its own: what was heard before does not reach it.
    pub(super) fn begin_anew(&mut self) {
        self.forgotten = self.last().saturating_add(1);
        self.changes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_numbered_on_whatever_was_forgotten() {
        let mut log = Log::default();
        let behind = |log: &Log, number| log.since(number).map(Iterator::count);
        assert_eq!((log.last(), behind(&log, 0), behind(&log, 1)), (0, Some(0), None));
        (0..10).for_each(|_| log.note(Change::Listeners, None));
        assert_eq!(
            (log.last(), behind(&log, 3), behind(&log, 10), behind(&log, 11)),
            (10, Some(7), Some(0), None)
        );
        log.begin_anew();
        assert_eq!((log.last(), behind(&log, 10), behind(&log, 11)), (11, None, Some(0)));
        let all = u64::try_from(LOGGED_CHANGES).unwrap();
        (0..all).for_each(|_| log.note(Change::Listeners, None));
        assert_eq!((log.last(), behind(&log, 10), behind(&log, 11)), (all + 11, None, Some(LOGGED_CHANGES)));
        log.note(Change::Listeners, Some(11));
        assert_eq!(behind(&log, 11), Some(LOGGED_CHANGES + 1), "what was not said yet stays");
        log.note(Change::Listeners, Some(13));
        assert_eq!((behind(&log, 12), behind(&log, 13)), (None, Some(LOGGED_CHANGES)), "the oldest go");
    }
}
