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

/// When something is due for each of these keys.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Due<K> {
    at: BTreeMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K: Ord> Default for Due<K> {
    fn default() -> Self {
        Self { at: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Due<K> {
    /// It is due at this time, and at no other.
    pub(crate) fn set(&mut self, key: K, at: Instant) {
        self.stop(key);
        self.at.insert(key, at);
        self.order.insert((at, key));
    }

    /// It is not due any more.
    pub(crate) fn stop(&mut self, key: K) {
        if let Some(at) = self.at.remove(&key) {
            self.order.remove(&(at, key));
        }
    }

    /// When the first one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// When this one is due, if it is at any time.
    pub(crate) fn of(&self, key: &K) -> Option<Instant> {
        self.at.get(key).copied()
    }

    /// Whether one is due.
    #[cfg(test)]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|at| at <= now)
    }

    /// Takes out one that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        let (_, key) = *self.order.first().filter(|(at, _)| *at <= now)?;
        self.stop(key);
        Some(key)
    }
}

/// Timers by the key of what they belong to; one of each kind a key.
#[derive(Clone, Debug)]
pub(crate) struct Timers<K>(Due<(K, Timer)>);

impl<K: Ord> Default for Timers<K> {
    fn default() -> Self {
        Self(Due::default())
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Starts a timer anew.
    pub(crate) fn set(&mut self, key: K, timer: Timer, at: Instant) {
        self.0.set((key, timer), at);
    }

    /// Stops both timers of a key.
    pub(crate) fn clear(&mut self, key: K) {
        self.0.stop((key, Timer::Repeat));
        self.0.stop((key, Timer::Patience));
    }

    /// When the first one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.next()
    }

    /// Takes out one that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(K, Timer)> {
        self.0.pop(now)
    }
}

#[cfg(test)]
impl<K: Ord + Copy> Timers<K> {
    /// Those that run, for a checker that lets any of them fire at any time.
    pub(crate) fn running(&self) -> impl Iterator<Item = (K, Timer)> {
        self.0.at.keys().copied()
    }
}

/// Which timers run, not when they fire: for a checker in whose world each may fire at any time, two machines that differ
/// in the hour only are the same.
impl<K: Hash> Hash for Timers<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.at.len().hash(state);
        for key in self.0.at.keys() {
            key.hash(state);
        }
    }
}
