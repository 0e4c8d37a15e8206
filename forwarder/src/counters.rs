//! One worker's counters.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Reason;
use crate::traffic::Traffic;

/// How often each [`Reason`] came up in one worker, and the volume of each service.
///
/// The worker is the only writer; any thread may read. Relaxed: each counter stands for itself.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    reasons: [AtomicU64; Reason::COUNT],
    traffic: Traffic,
}

impl Counters {
    /// All zero.
    pub fn new() -> Self {
        Self { reasons: [const { AtomicU64::new(0) }; Reason::COUNT], traffic: Traffic::new() }
    }

    /// How often it came up since the start.
    pub fn get(&self, reason: Reason) -> u64 {
        self.reasons.get(reason as usize).map_or(0, |c| c.load(Ordering::Relaxed))
    }

    /// What it has sent to whom.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Counts `n` more. Only for the one thread that owns the worker: a load and a store, not a read-modify-write.
    pub(crate) fn add(&self, reason: Reason, n: u64) {
        if let Some(counter) = self.reasons.get(reason as usize) {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}
