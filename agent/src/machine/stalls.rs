//! Which listeners take no connections although clients wait (row B9): their process is stopped, hangs, or has as many as it takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::sockets::Cookie;

/// Clients wait for so long, and none was accepted: the listener is stalled.
pub const STALL: Duration = Duration::from_secs(5);

/// The accept queue of a listener in which clients wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The listener.
    pub listener: Cookie,
    /// How many connections were accepted from it, counted from any beginning.
    pub accepted: u64,
}

/// What was seen of the queues.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// Listeners where clients wait: what was accepted, and since when no more was.
    waiting: BTreeMap<Cookie, (u64, Instant)>,
    last: Option<Instant>,
}

impl Stalls {
    /// These are all queues in which clients wait. `true`: other listeners are stalled than before.
    pub(super) fn sample(&mut self, queues: &[Waiting], now: Instant) -> bool {
        let before: Vec<Cookie> = self.iter().collect();
        let former = std::mem::take(&mut self.waiting);
        let since = |queue: &Waiting| match former.get(&queue.listener) {
            Some((accepted, since)) if *accepted == queue.accepted => *since,
            _ => now,
        };
        self.waiting = queues.iter().map(|queue| (queue.listener, (queue.accepted, since(queue)))).collect();
        self.last = Some(now);
        !self.iter().eq(before)
    }

    /// Whether this listener was stalled when the queues were seen last.
    pub(super) fn has(&self, listener: Cookie) -> bool {
        self.waiting.get(&listener).is_some_and(|(_, since)| self.is_long(*since))
    }

    /// Whether any is.
    pub(super) fn any(&self) -> bool {
        self.iter().next().is_some()
    }

    fn iter(&self) -> impl Iterator<Item = Cookie> {
        self.waiting.iter().filter(|(_, (_, since))| self.is_long(*since)).map(|(listener, _)| *listener)
    }

    fn is_long(&self, since: Instant) -> bool {
        self.last.is_some_and(|last| last.saturating_duration_since(since) >= STALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Cookie = Cookie(1);

    fn at(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    fn waiting(accepted: u64) -> [Waiting; 1] {
        [Waiting { listener: ONE, accepted }]
    }

    #[test]
    fn a_queue_from_which_nothing_is_taken_stalls_its_listener() {
        let (mut stalls, begin) = (Stalls::default(), Instant::now());
        for second in 0..5 {
            assert!(!stalls.sample(&waiting(7), at(begin, second)), "{second}");
            assert!(!stalls.has(ONE));
        }
        assert!(stalls.sample(&waiting(7), at(begin, 5)));
        assert!(stalls.has(ONE) && stalls.any());
        assert!(!stalls.sample(&waiting(7), at(begin, 6)), "it is no news");
    }

    #[test]
    fn one_accepted_client_ends_it_and_so_does_an_empty_queue() {
        for next in [&waiting(8)[..], &[]] {
            let (mut stalls, begin) = (Stalls::default(), Instant::now());
            stalls.sample(&waiting(7), begin);
            assert!(stalls.sample(&waiting(7), at(begin, 5)));
            assert!(stalls.sample(next, at(begin, 6)));
            assert!(!stalls.has(ONE) && !stalls.any());
        }
    }

    #[test]
    fn a_queue_that_is_never_empty_is_no_stall_while_clients_are_accepted() {
        let (mut stalls, begin) = (Stalls::default(), Instant::now());
        for second in 0..60 {
            assert!(!stalls.sample(&waiting(second / 4), at(begin, second)), "{second}");
        }
    }
}
