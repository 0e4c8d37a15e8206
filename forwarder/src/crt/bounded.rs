//! A bounded table: each key has one line, and a new key replaces the oldest entry there when it is full. It holds
//! half-open connections and datagrams in fragments, so that a flood of either costs a fixed amount of memory and
//! touches nothing else.
//!
//! - **B1** All changes but stamps are made under the line's lock, and entries never move. So a reader that does not find
//!   a key in its line has not missed it.
//! - **B2** Of the entries of a full line the one that was used longest ago is replaced, a closing one before any other. A
//!   flood uses each of its entries once; a client that goes on renews its own with each packet.

use std::marker::PhantomData;

use super::Now;
use super::ages::Ages;
use super::entry::{Entry, State};
use super::hash::Hash;
use super::key::Exact;
use super::line::{Guard, Line, Slot};
use super::memory::{Array, prefetch};
use super::meta::Meta;

/// The bounded table.
#[derive(Debug)]
pub struct Bounded<K> {
    lines: Array<Line>,
    ages: Ages,
    of: PhantomData<K>,
}

impl<K: Exact> Bounded<K> {
    /// Over at least one line.
    pub(super) fn new(lines: Array<Line>, ages: Ages) -> Self {
        Self { lines, ages, of: PhantomData }
    }

    /// The lines, for sweeps.
    pub(super) fn lines(&self) -> &Array<Line> {
        &self.lines
    }

    /// How long its entries live.
    pub(super) fn ages(&self) -> &Ages {
        &self.ages
    }

    #[inline(always)]
    fn line(&self, hash: Hash) -> &Line {
        self.lines.chosen(hash.bounded)
    }

    /// Starts to fetch a key's line.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: Hash) {
        prefetch(self.line(hash));
    }

    /// Finds a key and marks it as used.
    #[inline(always)]
    pub(super) fn get(&self, hash: Hash, key: K, stamp: u64) -> Option<Entry> {
        let (slot, meta) = self.line(hash).find(key)?;
        let entry = meta.entry()?;
        if self.ages.is_stale(meta, stamp) && entry.state != State::Closing {
            slot.touch(meta, stamp);
        }
        Some(entry)
    }

    /// Finds a key whose life is not over, whether a sweep has come by or not, and does not prolong it.
    pub(super) fn get_living(&self, hash: Hash, key: K, now: Now) -> Option<Entry> {
        let (_, meta) = self.line(hash).find(key)?;
        meta.entry().filter(|_| !self.ages.is_over(meta, self.ages.stamp(now)))
    }

    /// Locks a key's line (B1); `None` if another writer keeps it.
    pub(super) fn lock(&self, hash: Hash) -> Option<Guard<'_, K>> {
        self.line(hash).lock()
    }

    /// Makes the entry of a key that has none. Returns another key's entry that it took the place of.
    pub(super) fn insert(&self, line: &Guard<'_, K>, key: K, entry: Entry, stamp: u64) -> Option<Entry> {
        let age = |slot: &Slot<'_, K>| {
            let meta = slot.meta();
            match meta.entry() {
                None => u64::MAX,
                Some(entry) if entry.state != State::Closing => self.ages.age(meta, stamp),
                Some(_) => u64::MAX >> 1,
            }
        };
        let slot = line.line().slots::<K>().max_by_key(age)?;
        let old = slot.meta().entry();
        slot.clear();
        line.publish(slot, key, entry, stamp);
        old
    }

    /// Ends the entries of a line that are too old; calls `ended` with each.
    pub(super) fn age_line(&self, i: usize, stamp: u64, mut ended: impl FnMut(Entry)) {
        let line = self.lines.at(i);
        let over = |meta: Meta| self.ages.is_over(meta, stamp);
        if !line.slots::<K>().any(|slot| over(slot.meta())) {
            return;
        }
        let Some(line) = line.lock::<K>() else { return };
        for slot in line.line().slots::<K>() {
            let meta = slot.meta();
            if let Some(entry) = meta.entry().filter(|_| over(meta)) {
                slot.clear();
                ended(entry);
            }
        }
    }
}
