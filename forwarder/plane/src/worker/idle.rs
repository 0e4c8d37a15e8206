//! What a worker does when no packet comes.

use std::time::Duration;

use ffi::clock;

/// A setting of `batond.toml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It polls on, with a pause instruction between two polls: for a core of its own.
    #[default]
    Pure,
    /// It polls on for a moment, then sleeps ever longer up to [`LONGEST_SLEEP`]: for a core that is shared.
    Backoff,
}

/// How many empty polls a worker makes before it sleeps: about 10 µs.
const PATIENCE: u32 = 64;
/// The first sleep; each following one is twice as long.
const SHORTEST_SLEEP: Duration = Duration::from_micros(5);
/// The longest sleep, and so about the most that backing off adds to a packet's latency.
pub const LONGEST_SLEEP: Duration = Duration::from_micros(80);

/// Counts empty polls. The sleep is the only system call of a worker, and only [`Policy::Backoff`] has it.
#[derive(Debug)]
pub(super) struct Idler {
    policy: Policy,
    in_vain: u32,
}

impl Idler {
    /// For the calling thread, whose sleeps are no longer made to last longer than they have to (prctl(2),
    /// `PR_SET_TIMERSLACK`; otherwise 50 µs).
    pub(super) fn new(policy: Policy) -> Self {
        if policy == Policy::Backoff
            && let Err(cause) = nix::sys::prctl::set_timerslack(1)
        {
            tracing::warn!(%cause, "the worker's sleeps can't be made exact");
        }
        Self { policy, in_vain: 0 }
    }

    /// To be called after each turn with the packets that it had.
    #[inline]
    pub(super) fn rest(&mut self, packets: usize) {
        if packets > 0 {
            self.in_vain = 0;
            return;
        }
        self.in_vain = self.in_vain.saturating_add(1);
        match self.sleep() {
            Some(sleep) => std::thread::sleep(sleep),
            None => clock::pause(),
        }
    }

    fn sleep(&self) -> Option<Duration> {
        let sleeps = match self.policy {
            Policy::Pure => None,
            Policy::Backoff => self.in_vain.checked_sub(PATIENCE),
        };
        sleeps.map(|n| SHORTEST_SLEEP.saturating_mul(1 << n.min(10)).min(LONGEST_SLEEP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pure_worker_never_sleeps() {
        let idler = Idler { policy: Policy::Pure, in_vain: u32::MAX };
        assert_eq!(idler.sleep(), None);
    }

    #[test]
    fn sleeps_grow_to_a_limit_and_a_packet_ends_them() {
        let mut idler = Idler { policy: Policy::Backoff, in_vain: PATIENCE - 1 };
        assert_eq!(idler.sleep(), None);
        let mut sleeps = Vec::new();
        for _ in 0..7 {
            idler.in_vain += 1;
            sleeps.extend(idler.sleep().map(|s| s.as_micros()));
        }
        assert_eq!(sleeps, [5, 10, 20, 40, 80, 80, 80]);
        idler.in_vain = u32::MAX;
        assert_eq!(idler.sleep(), Some(LONGEST_SLEEP));
        idler.rest(1);
        assert_eq!(idler.sleep(), None);
    }
}
