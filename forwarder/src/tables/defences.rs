//! When each DVIPA was defended last against another host that claims it (RFC 5227 2.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::DvipaIndex;

/// `DEFEND_INTERVAL` of RFC 5227 1.1, in milliseconds.
const INTERVAL_MS: u64 = 10_000;

/// Shared by all workers, and by tables and their successors.
#[derive(Clone, Debug)]
pub(super) struct Defences(Arc<[AtomicU64]>);

impl Defences {
    /// None yet.
    pub(super) fn new() -> Self {
        Self((0..=DvipaIndex::MAX).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether the caller is to defend this DVIPA now: once in [`INTERVAL_MS`].
    pub(super) fn begin(&self, dvipa: DvipaIndex, now_ms: u64) -> bool {
        let Some(next) = self.0.get(usize::from(dvipa.0)) else { return false };
        let due = next.load(Ordering::Relaxed);
        // One worker wins; the time is all that is shared, so that nothing has to be ordered with it.
        let after = now_ms.saturating_add(INTERVAL_MS);
        now_ms >= due && next.compare_exchange(due, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dvipa_is_defended_once_in_ten_seconds_and_each_by_itself() {
        let defences = Defences::new();
        let [first, second] = [DvipaIndex(0), DvipaIndex(1)];
        assert!(defences.begin(first, 500));
        assert!(!defences.begin(first, 10_499));
        assert!(defences.begin(second, 10_499));
        assert!(defences.begin(first, 10_500));
    }
}
