//! The main table: each key lives in one of two lines, its first or its second, where the keyed hash says.
//!
//! A key goes into its first line if there is room, so that most look-ups read one line; then into its second; and if
//! both are full, an entry of one of them moves to *its* other line (cuckoo hashing, Pagh and Rodler 2004, in buckets). The
//! first line knows how many of its keys live elsewhere (overflow), and which classes of them, so that a miss usually reads
//! one line too.
//!
//! Rules, beside those of [`Line`]:
//! - **C1** A key's first line is its lock: a thread that makes, changes, moves or removes the key's entry holds it. So a key
//!   has one entry, except that
//! - **C2** a move publishes the copy before it clears the original, holding both lines. No one changes the entry meanwhile
//!   (C1), so both say the same.
//! - **C3** The first line's overflow is raised before the key is published in its second line, and lowered after it is
//!   cleared there.
//! - **C4** So a reader that looks in the first line, then (if its class has overflow) in the second, and then finds the first
//!   line's marks unchanged, has not missed a key that was there all the time: it was not in the first line while the
//!   reader was there, a coming or going would have changed the marks, hence it stayed in the second and was seen.
//!   The orders needed: a slot seen empty after a move was read with acquire from the mover's release, so the copy, and
//!   the overflow, are visible to what the reader loads next.

use std::marker::PhantomData;

use super::entry::Entry;
use super::hash::Secret;
use super::key::Exact;
use super::line::{Class, Guard, Line, Slot};
use super::memory::Array;
use super::meta::Meta;
use super::share::{Division, Place};

/// The two-choice table.
#[derive(Debug)]
pub(super) struct Cuckoo<K> {
    lines: Array<Line>,
    division: Division,
    of: PhantomData<K>,
}

/// What became of an attempt to insert.
pub(super) enum Insert<'a, K: Exact> {
    Done,
    /// Both lines are full: `Cuckoo::make_room`, with no lock held. The second one's lock.
    NoRoom(Guard<'a, K>),
    /// Another writer holds the second line.
    Busy,
}

impl<K: Exact> Cuckoo<K> {
    /// Over at least two lines for each protocol that has keys here; the first `tcp_lines` are TCP's. `bounded`: lines of the
    /// bounded table beside it.
    pub(super) fn new(lines: Array<Line>, tcp_lines: usize, bounded: usize) -> Self {
        let division = Division::new::<K>(tcp_lines, lines.len(), bounded);
        Self { lines, division, of: PhantomData }
    }

    /// How the lines are divided.
    #[inline(always)]
    pub(super) fn division(&self) -> &Division {
        &self.division
    }

    /// The lines, for sweeps.
    pub(super) fn lines(&self) -> &Array<Line> {
        &self.lines
    }

    /// Where a key belongs.
    #[inline]
    pub(super) fn place(&self, secret: &Secret, key: K) -> Place {
        secret.place(&self.division, key)
    }

    /// A key's first line.
    #[inline(always)]
    pub(super) fn first(&self, place: Place) -> &Line {
        self.line(place.first)
    }

    /// A key's second line.
    #[inline(always)]
    pub(super) fn second(&self, place: Place) -> &Line {
        self.line(place.second)
    }

    /// The line of a number.
    #[inline(always)]
    pub(super) fn line(&self, i: u32) -> &Line {
        self.lines.at(i as usize)
    }

    /// For the holder of the key's lock: where the key is.
    pub(super) fn locate(&self, place: Place, key: K) -> Option<(Slot<'_, K>, Meta)> {
        let first = self.line(place.first);
        first.find(key).or_else(|| {
            if first.may_overflow::<K>(Class::of(place)) { self.line(place.second).find(key) } else { None }
        })
    }

    /// Makes the entry of a key that has none. `first` is the key's lock (C1).
    pub(super) fn insert(
        &self,
        place: Place,
        first: &Guard<'_, K>,
        key: K,
        entry: Entry,
        stamp: u64,
    ) -> Insert<'_, K> {
        if let Some(slot) = first.line().empty_slot() {
            first.publish(slot, key, entry, stamp);
            return Insert::Done;
        }
        let Some(second) = self.line(place.second).lock::<K>() else { return Insert::Busy };
        let Some(slot) = second.line().empty_slot() else { return Insert::NoRoom(second) };
        first.overflow_up(Class::of(place)); // C3
        second.publish(slot, key, entry, stamp);
        Insert::Done
    }

    /// Removes the entry of a key. `first` is the key's lock (C1).
    pub(super) fn remove(&self, place: Place, first: &Guard<'_, K>, key: K) -> Option<Meta> {
        if let Some((slot, meta)) = first.line().find(key) {
            slot.clear();
            return Some(meta);
        }
        let (slot, meta) = self.line(place.second).find(key)?;
        slot.clear();
        first.overflow_down(); // C3
        Some(meta)
    }

    /// Moves the entry in slot `slot` of line `from` to line `to`, which must be its other one; `false` if it is not there any
    /// more, `to` is full, or another writer holds either line.
    pub(super) fn shift(&self, from: u32, slot: usize, to: u32, secret: &Secret) -> bool {
        // In the order of their numbers; and nobody waits for ever.
        let Some(low) = self.line(from.min(to)).lock::<K>() else { return false };
        let Some(high) = self.line(from.max(to)).lock::<K>() else { return false };
        let (source, target) = if from < to { (&low, &high) } else { (&high, &low) };
        let Some(original) = source.line().slot::<K>(slot) else { return false };
        let Some((words, meta)) = original.read() else { return false };
        let (Some(entry), Some(room)) = (meta.entry(), target.line().empty_slot()) else { return false };
        let key = K::from_parts(words, meta.service());
        let place = self.place(secret, key);
        let (outward, homeward) =
            ((place.first, place.second) == (from, to), (place.first, place.second) == (to, from));
        if !outward && !homeward {
            return false;
        }
        if outward {
            source.overflow_up(Class::of(place)); // C3
        }
        target.publish(room, key, entry, meta.stamp()); // C2
        original.clear();
        if !outward {
            target.overflow_down(); // C3
        }
        true
    }
}
