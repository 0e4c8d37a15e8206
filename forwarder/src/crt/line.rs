//! One cache line of entries, and the protocol by which they are read and written.

use std::marker::PhantomData;

use super::atomic::{AtomicU64, Ordering, fence, spin_loop};
use super::entry::Entry;
use super::key::Exact;
use super::meta::{CLASS_BITS, CLASSES_A_SLOT, LOCKED, Meta, class_bit};
use super::share::Place;

/// Words of a line.
const WORDS: usize = 8;
/// Slots of a line of the smallest entries.
const MAX_SLOTS: usize = 4;
/// Slots of a line of `K`'s entries.
pub(super) const fn slots_per_line<K: Exact>() -> usize {
    WORDS / (K::WORDS + 1)
}

/// Classes of keys that a line of `K`'s tells apart.
pub(super) const fn classes<K: Exact>() -> u32 {
    (CLASSES_A_SLOT * (slots_per_line::<K>() - 1)) as u32
}

/// Tries before a writer gives a lock up. A holder needs some hundred nanoseconds; only one that lost its processor
/// keeps it longer.
const TRIES: u32 = if cfg!(loom) { 2 } else { 512 };

/// One line of four IPv4 entries or two IPv6 entries. All zero: empty.
///
/// A slot is its key's words and then its [`Meta`]. The rules, which the other files cite:
///
/// - **L1** A slot's key words are written only while its meta is empty, by the holder of the line's lock.
/// - **L2** Publishing a key gives its meta the slot's next version; clearing keeps the version. So two metas of a slot
///   that are not empty and of one version are of one entry, and its key words did not change in between.
/// - **L3** Meta is empty before (release fence) the words change, and live after (release store) they have. A reader
///   that takes meta, words, meta and sees one life (L2) has words and meta of that one entry: never half of one and half
///   of another. To be fooled it would have to stand still between two adjacent loads while this one slot is filled a
///   multiple of 131 072 times, the last time at the same version in the same state.
/// - **L4** Owner and state change in one compare-and-swap of meta; so does the stamp, which readers write. A reader's
///   stamp is lost if anything else changed; nothing is ever lost to a stamp.
/// - **L5** The overflow (a count) and the lock bit are in slot 0's meta, and in the others' a bit for each class of keys (by their
///   hash) of which one may have overflowed: set with the count, cleared when it is 0. Only the lock's holder changes any
///   of them. Of twelve classes (four in an IPv6 line) a key that is not there finds its own set once in some 40 times, where
///   the count is not 0 once in 4.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Line([AtomicU64; WORDS]);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Line>() == 64 && align_of::<Line>() == 64);

impl Default for Line {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// One of the classes of keys that a line tells apart when they overflow (L5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(u32);

impl Class {
    /// The class of a key with this place.
    #[inline(always)]
    pub(super) fn of(place: Place) -> Self {
        Self(place.class)
    }

    #[inline(always)]
    fn slot(self) -> usize {
        1 + self.0 as usize / CLASSES_A_SLOT
    }

    #[inline(always)]
    fn bit(self) -> u64 {
        class_bit(self.0 as usize)
    }
}

/// The metas of a line's slots: they change whenever a key comes or goes (L2), or the overflow does (L5).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks([u64; MAX_SLOTS]);

impl PartialEq for Marks {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |difference, (a, b)| difference | a ^ b) == 0
    }
}

impl Marks {
    /// From the metas of the slots, first to last; zero for those that a line does not have.
    #[inline(always)]
    pub(super) fn of(metas: [u64; MAX_SLOTS]) -> Self {
        Self(metas)
    }

    /// Whether a key of this class that has the line first may live in its second.
    #[inline(always)]
    pub(super) fn may_overflow(&self, class: Class) -> bool {
        self.0.get(class.slot()).is_none_or(|mark| mark & class.bit() != 0)
    }
}

/// A slot of a line.
pub(super) struct Slot<'a, K> {
    key: &'a [AtomicU64],
    meta: &'a AtomicU64,
    of: PhantomData<K>,
}

impl<K> Clone for Slot<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Slot<'_, K> {}

impl Line {
    /// The slots, first to last.
    #[inline(always)]
    pub(super) fn slots<K: Exact>(&self) -> impl Iterator<Item = Slot<'_, K>> {
        self.0.chunks_exact(K::WORDS + 1).filter_map(|words| {
            let (meta, key) = words.split_last()?;
            Some(Slot { key, meta, of: PhantomData })
        })
    }

    /// The slot of a number below [`WORDS`] / entry size.
    #[inline(always)]
    pub(super) fn slot<K: Exact>(&self, i: usize) -> Option<Slot<'_, K>> {
        let (meta, key) = self.0.get(i * (K::WORDS + 1)..(i + 1) * (K::WORDS + 1))?.split_last()?;
        Some(Slot { key, meta, of: PhantomData })
    }

    /// Where `key` is, and its meta.
    #[inline(always)]
    pub(super) fn find<K: Exact>(&self, key: K) -> Option<(Slot<'_, K>, Meta)> {
        let words = key.words();
        // Nearly always decided here: no slot, all looked at without a branch.
        if !self.slots::<K>().fold(false, |any, slot| any | slot.may_hold(&words)) {
            return None;
        }
        self.slots::<K>().find_map(|slot| Some((slot, slot.holds(key)?)))
    }

    /// An empty slot. Of use to the lock's holder.
    pub(super) fn empty_slot<K: Exact>(&self) -> Option<Slot<'_, K>> {
        self.slots().find(|slot| slot.meta().is_empty())
    }

    /// Whether its marks are those that were taken before what was looked at since.
    #[inline(always)]
    pub(super) fn is_still<K: Exact>(&self, marks: &Marks) -> bool {
        // The marks read now are not older than what was looked at (C4).
        fence(Ordering::Acquire);
        self.slots::<K>().zip(marks.0).all(|(slot, mark)| slot.meta().0 == mark)
    }

    /// Whether it has no entries.
    pub(super) fn is_vacant<K: Exact>(&self) -> bool {
        self.slots::<K>().all(|slot| slot.meta().is_empty())
    }

    /// Compare two of them to know whether keys came or went in between. The second one is taken after an acquire fence.
    #[inline(always)]
    pub(super) fn marks<K: Exact>(&self) -> Marks {
        let mut marks = [0; MAX_SLOTS];
        for (mark, slot) in marks.iter_mut().zip(self.slots::<K>()) {
            *mark = slot.meta().0;
        }
        Marks(marks)
    }

    /// Whether a key of this class that has this line first may live in its second.
    #[inline(always)]
    pub(super) fn may_overflow<K: Exact>(&self, class: Class) -> bool {
        self.slot::<K>(class.slot()).is_none_or(|slot| slot.meta().0 & class.bit() != 0)
    }

    /// The meta word of slot 0.
    #[inline(always)]
    fn head<K: Exact>(&self) -> Option<&AtomicU64> {
        self.0.get(K::WORDS)
    }

    /// Locks the line against other writers; `None` if it stays locked for the time of [`TRIES`].
    pub(super) fn lock<K: Exact>(&self) -> Option<Guard<'_, K>> {
        let head = self.head::<K>()?;
        for _ in 0..TRIES {
            let seen = head.load(Ordering::Relaxed);
            // Acquire: pairs with the release in `Guard::drop`.
            if !Meta(seen).is_locked()
                && head.compare_exchange(seen, seen | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return Some(Guard { line: self, of: PhantomData });
            }
            spin_loop();
        }
        None
    }

    /// Ends the lock of a holder that is dead; `true`: there was one. Only before anyone else uses the table.
    pub(super) fn unlock<K: Exact>(&self) -> bool {
        let head = self.head::<K>().filter(|head| Meta(head.load(Ordering::Relaxed)).is_locked());
        head.map(|head| head.fetch_and(!LOCKED, Ordering::Relaxed)).is_some()
    }
}

/// A line that this thread has locked against other writers; readers go on.
pub(super) struct Guard<'a, K: Exact> {
    line: &'a Line,
    of: PhantomData<K>,
}

impl<'a, K: Exact> Guard<'a, K> {
    /// The locked line.
    pub(super) fn line(&self) -> &'a Line {
        self.line
    }

    /// Puts a key into an empty slot of this line (L1, L2, L3).
    pub(super) fn publish(&self, slot: Slot<'_, K>, key: K, entry: Entry, stamp: u64) {
        let old = slot.meta();
        // L3: pairs with the acquire fence in `Slot::read`. Who sees one of the new words sees the empty meta too.
        fence(Ordering::Release);
        for (word, value) in slot.key.iter().zip(key.words().as_ref()) {
            word.store(*value, Ordering::Relaxed);
        }
        // A plain store: an empty meta is changed by nobody else (L5, L4: a stamp is only swapped into a live one; the line's
        // bits in it are the lock holder's, who is here).
        slot.meta.store(old.published(key.service(), entry, stamp).0, Ordering::Release);
    }

    /// One more key that has this line first, of this class, lives in its second.
    pub(super) fn overflow_up(&self, class: Class) {
        self.change_head(Meta::overflow_up);
        if let Some(slot) = self.line.slot::<K>(class.slot()) {
            slot.meta.fetch_or(class.bit(), Ordering::Release);
        }
    }

    /// One less.
    pub(super) fn overflow_down(&self) {
        self.change_head(Meta::overflow_down);
        if self.line.head::<K>().is_some_and(|head| Meta(head.load(Ordering::Relaxed)).has_no_overflow()) {
            for slot in self.line.slots::<K>().skip(1) {
                slot.meta.fetch_and(!CLASS_BITS, Ordering::Release);
            }
        }
    }

    fn change_head(&self, change: impl Fn(Meta) -> Meta) {
        if let Some(head) = self.line.head::<K>() {
            let _ = head.fetch_update(Ordering::Release, Ordering::Relaxed, |m| Some(change(Meta(m)).0));
        }
    }
}

impl<K: Exact> Drop for Guard<'_, K> {
    fn drop(&mut self) {
        if let Some(head) = self.line.head::<K>() {
            head.fetch_and(!LOCKED, Ordering::Release);
        }
    }
}

impl<'a, K: Exact> Slot<'a, K> {
    /// The meta now. Acquire: who sees an entry sees its key (L3), who sees a slot emptied by a move sees the copy.
    #[inline(always)]
    pub(super) fn meta(self) -> Meta {
        Meta(self.meta.load(Ordering::Acquire))
    }

    /// `false`: the key of these words was not here just now.
    #[inline(always)]
    fn may_hold(self, words: &K::Words) -> bool {
        // Relaxed: a word that differs is of another entry or of none (L1); one that is equal is read again by `read`.
        self.key.first().map(|word| word.load(Ordering::Relaxed)) == words.as_ref().first().copied()
    }

    /// The meta of `key`, if it is here.
    #[inline(always)]
    fn holds(self, key: K) -> Option<Meta> {
        let (words, meta) = self.read()?;
        (words == key.words() && meta.service() == key.service()).then_some(meta)
    }

    /// Key words and meta of one entry (L3); `None` if the slot is empty.
    #[inline(always)]
    pub(super) fn read(self) -> Option<(K::Words, Meta)> {
        loop {
            let (before, words, after) = self.read_once();
            if before.is_empty() {
                return None;
            }
            if after.same_life(before) {
                return Some((words, after));
            }
            spin_loop();
        }
    }

    /// Meta, key words, meta: of one entry if both metas are of one life (L3).
    #[inline(always)]
    fn read_once(self) -> (Meta, K::Words, Meta) {
        let before = self.meta();
        let mut words = K::Words::default();
        for (value, word) in words.as_mut().iter_mut().zip(self.key) {
            *value = word.load(Ordering::Relaxed);
        }
        // L3: pairs with the release fence in `Guard::publish`.
        fence(Ordering::Acquire);
        (before, words, Meta(self.meta.load(Ordering::Relaxed)))
    }

    /// Marks the entry as used, if it is still what was `seen` (L4).
    #[inline(always)]
    pub(super) fn touch(self, seen: Meta, stamp: u64) {
        let _ = self.meta.compare_exchange(
            seen.0,
            seen.with_stamp(stamp).0,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Changes owner, state and stamp (L4). For who holds the key ([`super::family`], K1).
    pub(super) fn update(self, entry: Entry, stamp: u64) {
        let change = |m| Some(Meta(m).with_entry(entry).with_stamp(stamp).0);
        let _ = self.meta.fetch_update(Ordering::Release, Ordering::Relaxed, change);
    }

    /// Empties the slot. For who holds the key ([`super::family`], K1).
    pub(super) fn clear(self) {
        let _ = self.meta.fetch_update(Ordering::Release, Ordering::Relaxed, |m| Some(Meta(m).cleared().0));
    }
}
