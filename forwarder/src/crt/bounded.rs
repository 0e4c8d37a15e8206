//! A bounded table: each key has one line, and a new key replaces the oldest entry there when it is full. It holds
//! half-open connections and datagrams in fragments, so that a flood of either costs a fixed amount of memory and
//! touches nothing else.
//!
//! - **B1** All changes but stamps are made under the line's lock, and entries never move. So a reader that does not find
//!   a key in its line has not missed it.
//! - **B2** Of the entries of a full line the one that was used longest ago is replaced, a closing one before any other. A
//!   flood uses each of its entries once; a client that goes on renews its own with each packet.
//! - **B3** A bit for each line says whether it has entries: set before one is published, cleared after the last was, both by the
//!   lock's holder. So a reader that finds the bit clear has looked into the line and found nothing. The bits of a table of
//!   262 144 entries are 8 kB, where the lines are 4 MB: bought 11 ns for a key that is nowhere in the table.

use std::marker::PhantomData;
use std::ops::Range;

use super::Now;
use super::ages::Ages;
use super::atomic::{AtomicU64, Ordering};
use super::hash::Secret;
use super::key::Exact;
use super::line::{Guard, Line, Slot};
use super::memory::{Array, prefetch};
use super::meta::Meta;
use super::share::{Division, Place};
use super::{CrtState, Entry};

/// The bounded table.
#[derive(Debug)]
pub struct Bounded<K> {
    lines: Array<Line>,
    /// One bit a line (B3). Not part of the mapping: [`Self::count`] makes it anew.
    occupied: Box<[AtomicU64]>,
    ages: Ages,
    of: PhantomData<K>,
}

/// A line of a bounded table that this thread has locked (B1).
pub(super) struct Held<'a, K: Exact> {
    guard: Guard<'a, K>,
    table: &'a Bounded<K>,
    number: usize,
}

impl<K: Exact> Bounded<K> {
    /// Over at least one line, all of them empty.
    pub(super) fn new(lines: Array<Line>, ages: Ages) -> Self {
        let occupied = (0..lines.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { lines, occupied, ages, of: PhantomData }
    }

    /// Sets the lines' bits as it finds the lines. Only before anyone else uses the table.
    pub(super) fn count(&self) {
        for number in 0..self.lines.len() {
            self.mark(number, !self.lines.at(number).is_vacant::<K>());
        }
    }

    fn bit(&self, number: usize) -> Option<(&AtomicU64, u64)> {
        Some((self.occupied.get(number / 64)?, 1 << (number % 64)))
    }

    /// Sets a line's bit (B3).
    fn mark(&self, number: usize, occupied: bool) {
        let Some((word, bit)) = self.bit(number) else { return };
        if occupied {
            // Before the entry is published: pairs with the acquire load in `may_hold`.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Release);
            }
        } else {
            // After the entry was cleared; so is the one that a promotion published first (K2).
            word.fetch_and(!bit, Ordering::Release);
        }
    }

    /// Whether the key may be in the table. `false`: it is not (B3).
    #[inline(always)]
    pub(super) fn may_hold(&self, place: Place) -> bool {
        self.is_occupied(place.bounded as usize)
    }

    /// Whether the line may have entries. `false`: it has none (B3).
    #[inline(always)]
    fn is_occupied(&self, number: usize) -> bool {
        let bit = self.bit(number);
        bit.is_none_or(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// The lines, for sweeps.
    pub(super) fn lines(&self) -> &Array<Line> {
        &self.lines
    }

    /// How long its entries live.
    pub(super) fn ages(&self) -> &Ages {
        &self.ages
    }

    /// Where a key belongs, if this is the only table for its like.
    pub(super) fn place(&self, secret: &Secret, key: K) -> Place {
        secret.place(&Division::bounded::<K>(self.lines.len()), key)
    }

    #[inline(always)]
    fn line(&self, place: Place) -> &Line {
        self.lines.at(place.bounded as usize)
    }

    /// Starts to fetch a key's line.
    #[inline(always)]
    pub(super) fn prefetch(&self, place: Place) {
        prefetch(self.line(place));
    }

    /// Finds a key and marks it as used.
    #[inline(always)]
    pub(super) fn get(&self, place: Place, key: K, now: Now) -> Option<Meta> {
        if !self.may_hold(place) {
            return None;
        }
        let (slot, meta) = self.line(place).find(key)?;
        if self.ages.stale(now, true).is(meta) && !meta.is(CrtState::Closing) {
            slot.touch(meta, self.ages.stamp(now));
        }
        Some(meta)
    }

    /// Finds a key whose life is not over, whether a sweep has come by or not, and does not prolong it.
    pub(super) fn get_living(&self, place: Place, key: K, now: Now) -> Option<Entry> {
        let (_, meta) = self.line(place).find(key)?;
        meta.entry().filter(|_| !self.ages.is_over(meta, self.ages.stamp(now)))
    }

    /// Locks a key's line (B1); `None` if another writer keeps it.
    pub(super) fn lock(&self, place: Place) -> Option<Held<'_, K>> {
        self.lock_line(place.bounded as usize)
    }

    fn lock_line(&self, number: usize) -> Option<Held<'_, K>> {
        Some(Held { guard: self.lines.at(number).lock()?, table: self, number })
    }

    /// Ends the entries of these lines that are too old; calls `ended` with each.
    pub(super) fn age_lines(&self, lines: Range<u32>, now: Now, mut ended: impl FnMut(Entry)) {
        let stamp = self.ages.stamp(now);
        let over = |meta: Meta| self.ages.is_over(meta, stamp);
        for number in lines.map(|number| number as usize) {
            if !self.is_occupied(number) || !self.lines.at(number).slots::<K>().any(|slot| over(slot.meta()))
            {
                continue;
            }
            let Some(line) = self.lock_line(number) else { continue };
            for slot in line.guard.line().slots::<K>() {
                let meta = slot.meta();
                if let Some(entry) = meta.entry().filter(|_| over(meta)) {
                    line.clear(slot);
                    ended(entry);
                }
            }
        }
    }
}

impl<'a, K: Exact> Held<'a, K> {
    /// Where a key is, and its meta.
    pub(super) fn find(&self, key: K) -> Option<(Slot<'a, K>, Meta)> {
        self.guard.line().find(key)
    }

    /// Makes the entry of a key that has none. Returns another key's entry that it took the place of (B2).
    pub(super) fn insert(&self, key: K, entry: Entry, stamp: u64) -> Option<Entry> {
        let ages = &self.table.ages;
        let age = |slot: &Slot<'_, K>| {
            let meta = slot.meta();
            match meta.entry() {
                None => u64::MAX,
                Some(entry) if entry.state != CrtState::Closing => ages.age(meta, stamp),
                Some(_) => u64::MAX >> 1,
            }
        };
        let slot = self.guard.line().slots::<K>().max_by_key(age)?;
        let old = slot.meta().entry();
        if old.is_some() {
            slot.clear();
        }
        self.table.mark(self.number, true);
        self.guard.publish(slot, key, entry, stamp);
        old
    }

    /// Ends an entry of this line.
    pub(super) fn clear(&self, slot: Slot<'_, K>) {
        slot.clear();
        if self.guard.line().is_vacant::<K>() {
            self.table.mark(self.number, false);
        }
    }
}
