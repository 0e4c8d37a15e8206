//! The main table: each key lives in one of two lines, its first or its second, where the keyed hash says.
//!
//! A key goes into its first line if there is room, so that most look-ups read one line; then into its second; and if
//! both are full, an entry of one of them moves to *its* other line (cuckoo hashing, Pagh and Rodler 2004, in buckets). The
//! first line knows how many of its keys live elsewhere (overflow), and which classes of them, so that a miss usually reads
//! one line too.
//!
//! Rules, beside those of [`Line`]:
//! - **C1** A key's first line is its lock: whoever makes, changes, moves or removes the key's entry holds it. So a key
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
use super::hash::{Hash, Secret, index};
use super::key::Exact;
use super::line::{Class, Guard, Line, Slot};
use super::memory::Array;
use super::meta::Meta;
use super::share::Share;

/// The two-choice table.
#[derive(Debug)]
pub(super) struct Cuckoo<K> {
    lines: Array<Line>,
    share: Share,
    of: PhantomData<K>,
}

/// The numbers of a key's two lines, which differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) first: usize,
    pub(super) second: usize,
    /// What the first line calls the key when it lives in the second.
    pub(super) class: Class,
}

/// What became of an attempt to insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insert {
    Done,
    /// Both lines are full: `Cuckoo::make_room`, with no lock held.
    NoRoom,
    /// Another writer holds the second line.
    Busy,
}

impl<K: Exact> Cuckoo<K> {
    /// Over at least two lines for each protocol that has keys here; the first `tcp_lines` are TCP's.
    pub(super) fn new(lines: Array<Line>, tcp_lines: usize) -> Self {
        let share = Share::new(tcp_lines, lines.len());
        Self { lines, share, of: PhantomData }
    }

    /// How the lines are divided.
    #[inline(always)]
    pub(super) fn share(&self) -> Share {
        self.share
    }

    /// The lines, for sweeps.
    pub(super) fn lines(&self) -> &Array<Line> {
        &self.lines
    }

    /// A key's first line.
    #[inline(always)]
    pub(super) fn first(&self, hash: Hash) -> &Line {
        self.lines.chosen(hash.first)
    }

    /// A key's second line.
    #[inline(always)]
    pub(super) fn second(&self, hash: Hash) -> &Line {
        self.line(self.place(hash).second)
    }

    /// The numbers of a key's lines.
    #[inline(always)]
    pub(super) fn place(&self, hash: Hash) -> Place {
        let first = index(hash.first, self.lines.len());
        let second = index(hash.second, self.lines.len());
        let second = if second == first { self.next_to(first) } else { second };
        Place { first, second, class: Class::of::<K>(hash) }
    }

    /// The line after this one in its share.
    fn next_to(&self, line: usize) -> usize {
        let share = self.share.around(line);
        if line + 1 == share.end { share.start } else { line + 1 }
    }

    /// The line of a number.
    #[inline(always)]
    pub(super) fn line(&self, i: usize) -> &Line {
        self.lines.at(i)
    }

    /// For the holder of the key's lock: where the key is.
    pub(super) fn locate(&self, place: Place, key: K) -> Option<(Slot<'_, K>, Meta)> {
        let first = self.line(place.first);
        first.find(key).or_else(|| {
            if first.may_overflow::<K>(place.class) { self.line(place.second).find(key) } else { None }
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
    ) -> Insert {
        if let Some(slot) = first.line().empty_slot() {
            first.publish(slot, key, entry, stamp);
            return Insert::Done;
        }
        let Some(second) = self.line(place.second).lock::<K>() else { return Insert::Busy };
        let Some(slot) = second.line().empty_slot() else { return Insert::NoRoom };
        first.overflow_up(place.class); // C3
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
    pub(super) fn shift(&self, from: usize, slot: usize, to: usize, secret: &Secret) -> bool {
        // In the order of their numbers; and nobody waits for ever.
        let Some(low) = self.line(from.min(to)).lock::<K>() else { return false };
        let Some(high) = self.line(from.max(to)).lock::<K>() else { return false };
        let (source, target) = if from < to { (&low, &high) } else { (&high, &low) };
        let Some(original) = source.line().slot::<K>(slot) else { return false };
        let Some((words, meta)) = original.read() else { return false };
        let (Some(entry), Some(room)) = (meta.entry(), target.line().empty_slot()) else { return false };
        let key = K::from_parts(words, meta.service());
        let place = self.place(self.share.hash(secret, key));
        let (outward, homeward) =
            ((place.first, place.second) == (from, to), (place.first, place.second) == (to, from));
        if !outward && !homeward {
            return false;
        }
        if outward {
            source.overflow_up(place.class); // C3
        }
        target.publish(room, key, entry, meta.stamp()); // C2
        original.clear();
        if !outward {
            target.overflow_down(); // C3
        }
        true
    }
}
