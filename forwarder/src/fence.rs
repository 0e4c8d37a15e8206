//! Until when this node owns what its tables say, where witnesses lease it.
//!
//! The control thread moves it with each renewal. A process that was stopped, or whose control thread was starved, finds it in the past
//! and answers for nothing until the control thread has said what is still owned (design: "Self-fencing"). Read for packets that ask where
//! an address is, so that forwarding pays nothing for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Now;

/// A time that the control thread and the workers share. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Fence(Arc<AtomicU64>);

impl Default for Fence {
    /// Never: this node decides alone.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

/// Always: what is made for a node does not depend on it.
impl PartialEq for Fence {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Fence {}

impl Fence {
    /// From then on this node owns nothing.
    pub fn set(&self, at: Now) {
        // Relaxed: nothing is read because of it.
        self.0.store(at.ms, Ordering::Relaxed);
    }

    /// Whether this node may own something now.
    #[inline]
    pub(crate) fn holds(&self, now: Now) -> bool {
        now.ms < self.0.load(Ordering::Relaxed)
    }
}
