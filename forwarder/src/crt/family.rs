//! The connections of one address family: the main table, and the bounded table of half-open ones before it.
//!
//! - **K1** Who makes, changes or removes a key's entry, in either table, holds the key's first line in the main table (C1);
//!   in the bounded table the line there too (B1). Only ageing and replacement end a half-open entry without the former.
//! - **K2** A promotion publishes the entry in the main table before it clears the half-open one, holding both. So a reader
//!   that looks into the main table, then into the bounded one, and then finds the marks of the main table's lines
//!   unchanged (C4) has not missed a key that was there all the time.
//! - **K3** Nobody waits for a lock for ever: whoever does not get one gives all of his back. So there is no deadlock,
//!   and a worker's packet is late by microseconds at most.

use model::DvipaIndex;
use model::StackIndex;

use super::ages::{Ages, key_of};
use super::atomic::{Ordering, fence};
use super::bounded::Bounded;
use super::cuckoo::{Cuckoo, Insert, Place};
use super::entry::{Entry, State};
use super::hash::{Hash, Secret};
use super::key::{Exact, SERVICE_BITS};
use super::ledger::{Counter, Ledger};
use super::line::Slot;
use super::memory::prefetch;
use super::meta::Meta;
use super::{BURST, Confirmed, Now, Refused};

/// Times that an insertion makes room and then finds that somebody else took it.
const ATTEMPTS: u32 = 8;

/// Keys of a burst after which the lines that the next pass needs are fetched.
const CHUNK: usize = 16;

/// The connections of one address family.
#[derive(Debug)]
pub struct Family<K> {
    pub(super) main: Cuckoo<K>,
    pub(super) half_open: Bounded<K>,
    pub(super) ages: Ages,
    /// Entries in the main table.
    pub(super) connections: Counter,
    /// Entries in the bounded table.
    pub(super) half_opens: Counter,
}

/// What both families share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) secret: Secret,
    pub(super) ledger: Ledger,
}

/// What to do with an entry that was found.
pub(super) enum Change {
    Keep,
    Set(Entry),
    Remove,
}

impl<K: Exact> Family<K> {
    /// Starts to fetch the first lines.
    #[inline(always)]
    pub(super) fn prefetch<'h>(&self, hashes: impl Iterator<Item = &'h Hash>) {
        for hash in hashes {
            prefetch(self.main.first(*hash));
        }
    }

    /// Second half of a burst's look-up, after the first lines were prefetched.
    ///
    /// Four passes: all keys in their first lines; those that were not there in their second lines; all results; and the
    /// rest, for half-open entries and the proof of a miss.
    #[inline]
    pub(super) fn lookup(&self, keys: &[K], hashes: &[Hash; BURST], now: Now, out: &mut [Option<Entry>]) {
        // Again: a processor drops prefetches that it has no buffer for (here 3 to 6 of 32), each a full miss later. Bought
        // 7 ns a key at 10 M entries.
        self.prefetch(hashes.iter().take(keys.len()));
        let mut metas = [Meta(0); BURST];
        let (mut second, mut rest) = (0u32, 0u32);
        let chunks = keys.chunks(CHUNK).zip(hashes.chunks(CHUNK)).zip(metas.chunks_mut(CHUNK));
        for (n, ((keys, hashes), metas)) in chunks.enumerate() {
            let missed = self.peek_first(keys, hashes, metas);
            for i in bits(missed) {
                let Some(hash) = hashes.get(i) else { continue };
                if self.main.first(*hash).has_overflow::<K>() {
                    second |= 1 << (n * CHUNK + i);
                    prefetch(self.main.second(*hash));
                } else {
                    rest |= 1 << (n * CHUNK + i);
                    self.half_open.prefetch(*hash);
                }
            }
        }
        for i in bits(second) {
            let (Some(key), Some(hash), Some(meta)) = (keys.get(i), hashes.get(i), metas.get_mut(i)) else {
                continue;
            };
            *meta = self.main.second(*hash).peek(*key);
            if meta.is_empty() {
                rest |= 1 << i;
                self.half_open.prefetch(*hash);
            }
        }
        let stamp = self.ages.stamp(now);
        for (i, (meta, out)) in metas.iter().zip(out.iter_mut()).enumerate() {
            *out = meta.entry();
            // Those that have to be marked as used are looked up again: some ten times in an entry's life.
            if self.ages.is_stale(*meta, stamp) {
                rest |= 1 << i;
            }
        }
        let half_open_stamp = self.half_open.ages().stamp(now);
        for i in bits(rest) {
            let (Some(key), Some(hash), Some(out)) = (keys.get(i), hashes.get(i), out.get_mut(i)) else {
                continue;
            };
            *out = self.find(*key, *hash, stamp, half_open_stamp);
        }
    }

    /// First pass: the metas of those that are in their first line, and the numbers of those that are not, as bits.
    ///
    /// No branch depends on what is found (see [`Line::peek`](super::line::Line::peek)). Not inlined, so that the loop has the
    /// registers for itself.
    #[inline(never)]
    fn peek_first(&self, keys: &[K], hashes: &[Hash], metas: &mut [Meta]) -> u32 {
        let mut missed = 0u32;
        for (i, ((key, hash), meta)) in keys.iter().zip(hashes).zip(metas).enumerate() {
            *meta = self.main.first(*hash).peek(*key);
            missed |= u32::from(meta.is_empty()) << i;
        }
        missed
    }

    /// What was found in the main table, marked as used.
    #[inline(always)]
    fn used(&self, found: Option<(Slot<'_, K>, Meta)>, stamp: u64) -> Option<Entry> {
        let (slot, meta) = found?;
        let entry = meta.entry()?;
        if self.ages.is_stale(meta, stamp) && entry.state != State::Closing {
            slot.touch(meta, stamp);
        }
        Some(entry)
    }

    /// The whole look-up of one key, with the proof of a miss (C4, K2). Lock-free: it repeats only when a writer got on.
    #[inline]
    fn find(&self, key: K, hash: Hash, stamp: u64, half_open_stamp: u64) -> Option<Entry> {
        let (first, second) = (self.main.first(hash), self.main.second(hash));
        loop {
            let marks = first.marks::<K>();
            if let Some(entry) = self.used(first.find(key), stamp) {
                return Some(entry);
            }
            let second_marks = marks.has_overflow().then(|| second.marks::<K>());
            if second_marks.is_some()
                && let Some(entry) = self.used(second.find(key), stamp)
            {
                return Some(entry);
            }
            if let Some(entry) = self.half_open.get(hash, key, half_open_stamp) {
                return Some(entry);
            }
            // Acquire: the marks below are not older than what was looked at above (C4).
            fence(Ordering::Acquire);
            if first.marks::<K>() == marks && second_marks.is_none_or(|marks| second.marks::<K>() == marks) {
                return None;
            }
        }
    }

    /// See [`super::Crt::insert_half_open`].
    pub(super) fn insert_half_open(
        &self,
        common: &Common,
        key: K,
        owner: StackIndex,
        now: Now,
    ) -> Result<Entry, Refused> {
        let new = Entry { owner, state: State::HalfOpen };
        check(key, new)?;
        let hash = common.secret.hash(key);
        let place = self.main.place(hash);
        self.half_open.prefetch(hash);
        let _key = self.main.line(place.first).lock::<K>().ok_or(Refused::Busy)?; // K1
        if let Some((slot, meta)) = self.main.locate(place, key) {
            return match meta.entry() {
                Some(old) if old.state != State::Closing => Ok(old),
                old => {
                    slot.update(new, self.ages.stamp(now));
                    common.ledger.changed(old, Some(new));
                    Ok(new)
                }
            };
        }
        let line = self.half_open.lock(hash).ok_or(Refused::Busy)?;
        let stamp = self.half_open.ages().stamp(now);
        if let Some((slot, meta)) = line.line().find(key) {
            return match meta.entry() {
                Some(old) if old.state != State::Closing => Ok(old),
                old => {
                    slot.update(new, stamp);
                    common.ledger.changed(old, Some(new));
                    Ok(new)
                }
            };
        }
        let replaced = self.half_open.insert(&line, key, new, stamp);
        match replaced {
            Some(_) => common.ledger.add(Counter::HalfOpenEvicted, 1),
            None => common.ledger.add(self.half_opens, 1),
        }
        common.ledger.changed(replaced, Some(new));
        Ok(new)
    }

    /// See [`super::Crt::confirm`].
    pub(super) fn confirm(
        &self,
        common: &Common,
        key: K,
        owner: StackIndex,
        now: Now,
    ) -> Result<Confirmed, Refused> {
        let new = Entry { owner, state: State::Established };
        check(key, new)?;
        let hash = common.secret.hash(key);
        let place = self.main.place(hash);
        let stamp = self.ages.stamp(now);
        self.half_open.prefetch(hash);
        for _ in 0..ATTEMPTS {
            let first = self.main.line(place.first).lock::<K>().ok_or(Refused::Busy)?; // K1
            if let Some((slot, meta)) = self.main.locate(place, key) {
                let Some(old) = meta.entry() else { return Err(Refused::Busy) };
                if old.owner == owner && old.state.counts() {
                    return Ok(Confirmed::Unchanged);
                }
                slot.update(new, stamp);
                common.ledger.changed(Some(old), Some(new));
                return Ok(confirmed(Some(old), owner));
            }
            let line = self.half_open.lock(hash).ok_or(Refused::Busy)?;
            match self.main.insert(place, &first, key, new, stamp) {
                Insert::Done => {
                    let half_open = line.line().find(key);
                    if let Some((slot, _)) = half_open {
                        slot.clear(); // K2
                        common.ledger.one_less(self.half_opens);
                    }
                    let old = half_open.and_then(|(_, meta)| meta.entry());
                    common.ledger.add(self.connections, 1);
                    common.ledger.changed(old, Some(new));
                    return Ok(confirmed(old, owner));
                }
                Insert::Busy => return Err(Refused::Busy),
                Insert::NoRoom => {
                    drop((line, first));
                    if !self.main.make_room(place, &common.secret) {
                        return Err(Refused::Full);
                    }
                }
            }
        }
        Err(Refused::Busy)
    }

    /// Changes or removes a key's entry as `change` says, given its meta and the ages of the part that it is in. Returns what
    /// it was.
    pub(super) fn modify(
        &self,
        common: &Common,
        key: K,
        now: Now,
        change: impl FnOnce(Meta, Entry, &Ages) -> Change,
    ) -> Result<Option<Entry>, Refused> {
        let hash = common.secret.hash(key);
        let place = self.main.place(hash);
        let first = self.main.line(place.first).lock::<K>().ok_or(Refused::Busy)?; // K1
        let in_main = self.main.locate(place, key);
        // Held until the end: B1.
        let line =
            if in_main.is_none() { Some(self.half_open.lock(hash).ok_or(Refused::Busy)?) } else { None };
        let found = in_main.or_else(|| line.as_ref()?.line().find(key));
        let ages = if line.is_none() { &self.ages } else { self.half_open.ages() };
        let Some((slot, meta)) = found else { return Ok(None) };
        let Some(old) = meta.entry() else { return Ok(None) };
        match change(meta, old, ages) {
            Change::Keep => {}
            Change::Set(new) => {
                slot.update(new, ages.stamp(now));
                common.ledger.changed(Some(old), Some(new));
            }
            Change::Remove => {
                if line.is_none() {
                    self.main.remove(place, &first, key);
                    common.ledger.one_less(self.connections);
                } else {
                    slot.clear();
                    common.ledger.one_less(self.half_opens);
                }
                common.ledger.changed(Some(old), None);
            }
        }
        Ok(Some(old))
    }

    /// Ends the entries of a main line that are too old, and takes entries home to their first line if it has room, so that
    /// look-ups read one line again. Returns how many it ended.
    pub(super) fn age_line(&self, common: &Common, i: usize, now: Now) -> usize {
        let stamp = self.ages.stamp(now);
        let mut ended = 0usize;
        for (n, slot) in self.main.line(i).slots::<K>().enumerate() {
            let Some((words, meta)) = slot.read() else { continue };
            let key = key_of::<K>(words, meta);
            if self.ages.is_over(meta, stamp) {
                let change = |meta, _, ages: &Ages| {
                    if ages.is_over(meta, ages.stamp(now)) { Change::Remove } else { Change::Keep }
                };
                ended += usize::from(matches!(self.modify(common, key, now, change), Ok(Some(_))));
                continue;
            }
            let Place { first, second } = self.main.place(common.secret.hash(key));
            if second == i && self.main.line(first).empty_slot::<K>().is_some() {
                self.main.shift(i, n, first, &common.secret);
            }
        }
        ended
    }
}

/// The numbers of the bits that are set, lowest first.
#[inline(always)]
fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set.wrapping_sub(1);
        Some(lowest)
    })
}

fn confirmed(old: Option<Entry>, owner: StackIndex) -> Confirmed {
    match old {
        None => Confirmed::New,
        Some(old) if old.owner == owner && old.state == State::HalfOpen => Confirmed::Promoted,
        Some(old) => Confirmed::Replaced(old),
    }
}

/// Whether an entry can hold these.
pub(super) fn check<K: Exact>(key: K, entry: Entry) -> Result<(), Refused> {
    const { assert!(DvipaIndex::MAX < 1 << (SERVICE_BITS - 1)) };
    let fits = key.service() >> SERVICE_BITS == 0 && entry.owner.0 <= StackIndex::MAX;
    if fits { Ok(()) } else { Err(Refused::Index) }
}
