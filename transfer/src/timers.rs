//! Which timer of which transfer is due when.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Instant;

/// What fires. What it means depends on how far the transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// What was not answered is said again.
    Repeat,
    /// The patience for the present phase has ended.
    Patience,
}

/// Timers by the key of what they belong to; one of each kind a key.
#[derive(Clone, Debug)]
pub(crate) struct Timers<K> {
    due: BTreeMap<(K, Timer), Instant>,
    order: BTreeSet<(Instant, K, Timer)>,
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Starts a timer anew.
    pub(crate) fn set(&mut self, key: K, timer: Timer, at: Instant) {
        self.stop(key, timer);
        self.due.insert((key, timer), at);
        self.order.insert((at, key, timer));
    }

    /// Stops both timers of a key.
    pub(crate) fn clear(&mut self, key: K) {
        self.stop(key, Timer::Repeat);
        self.stop(key, Timer::Patience);
    }

    /// When the first one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _, _)| *at)
    }

    /// Takes out one that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(K, Timer)> {
        let (_, key, timer) = *self.order.first().filter(|(at, _, _)| *at <= now)?;
        self.stop(key, timer);
        Some((key, timer))
    }

    fn stop(&mut self, key: K, timer: Timer) {
        if let Some(at) = self.due.remove(&(key, timer)) {
            self.order.remove(&(at, key, timer));
        }
    }
}

#[cfg(test)]
impl<K: Ord + Copy> Timers<K> {
    /// Those that run, for a checker that lets any of them fire at any time.
    pub(crate) fn running(&self) -> impl Iterator<Item = (K, Timer)> {
        self.due.keys().copied()
    }
}

/// Which timers run, not when they fire: for a checker in whose world each may fire at any time, two machines that differ
/// in the hour only are the same.
impl<K: Hash> Hash for Timers<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.due.len().hash(state);
        for key in self.due.keys() {
            key.hash(state);
        }
    }
}
