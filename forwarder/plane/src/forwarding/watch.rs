//! Notices a worker that stands still.

use std::sync::Arc;

use crate::worker::gauges::Gauges;

/// A turn of the poll loop takes microseconds; one that takes this many milliseconds is worth a line in the log.
const STALL_MS: u64 = 1000;

/// What one worker's heartbeat was when it was last looked at.
#[derive(Debug)]
pub(super) struct Watch {
    gauges: Arc<Gauges>,
    turns: u64,
    since_ms: u64,
    stalled: bool,
}

/// What changed since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has not moved for [`STALL_MS`].
    Stalled,
    /// It moves again.
    Resumed,
}

impl Watch {
    pub(super) fn new(gauges: Arc<Gauges>, now_ms: u64) -> Self {
        Self { gauges, turns: 0, since_ms: now_ms, stalled: false }
    }

    pub(super) fn look(&mut self, now_ms: u64) -> Option<Change> {
        let turns = self.gauges.turns.get();
        if turns != self.turns {
            (self.turns, self.since_ms) = (turns, now_ms);
            return std::mem::take(&mut self.stalled).then_some(Change::Resumed);
        }
        let stalls = !self.stalled && now_ms.saturating_sub(self.since_ms) >= STALL_MS;
        self.stalled |= stalls;
        stalls.then_some(Change::Stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stands_still_is_reported_once_and_again_when_it_goes_on() {
        let gauges = Arc::new(Gauges::default());
        let mut watch = Watch::new(Arc::clone(&gauges), 0);
        assert_eq!(
            [watch.look(999), watch.look(1000), watch.look(2000)],
            [None, Some(Change::Stalled), None]
        );
        gauges.turns.add(1);
        assert_eq!([watch.look(2001), watch.look(2002)], [Some(Change::Resumed), None]);
    }
}
