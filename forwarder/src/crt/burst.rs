//! The look-up of a burst of keys: every line is requested before the first is read, and no branch depends on a single
//! key, so that the burst waits for memory, and for a mispredicted branch, a few times instead of once a key. Its steps
//! can be taken in turns with another burst's, so that it does not even wait those few times.

use super::Entry;
use super::family::Family;
use super::hash::{Hash, Secret};
use super::key::Exact;
use super::line::{Class, Marks};
use super::memory::prefetch;
use super::meta::Meta;
use super::scan::{Portable, Reader};
use super::share::Share;
use super::{BURST, Now};

/// How many keys before it is read a line is requested again: a processor drops requests that it has no buffer for (here 3
/// to 8 of 32), each a full miss later. Bought 1.6 ns a key at 10 M entries with two bursts in turns, 6 ns with one.
const AHEAD: usize = 12;

/// What a burst's look-up found for one key: an entry or nothing, in the form in which the table keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Found(Meta);

impl Found {
    /// Nothing.
    pub const NOTHING: Self = Self(Meta(0));

    /// The entry, if there is one.
    #[inline(always)]
    pub fn entry(self) -> Option<Entry> {
        self.0.entry()
    }

    /// Whether there is an entry.
    #[inline(always)]
    pub fn is_some(self) -> bool {
        !self.0.is_empty()
    }

    /// The owner of a TCP connection that is simply established.
    #[inline(always)]
    pub fn established_tcp(self) -> Option<model::StackIndex> {
        self.0.is_established_tcp().then(|| self.0.owner())
    }
}

/// Keys that are looked up together, at most [`BURST`], on their way through the steps of [`super::Crt::look_up`].
#[derive(Debug)]
pub struct Burst<K> {
    len: usize,
    keys: [K; BURST],
    hashes: [Hash; BURST],
    /// What is found.
    found: [Found; BURST],
    /// The first lines' marks where nothing was found (C4).
    marks: [Marks; BURST],
    /// Keys that may be in their second lines, as bits.
    second: u32,
    /// Keys that have to be looked up on their own, as bits.
    rest: u32,
}

impl<K: Exact> Default for Burst<K> {
    /// No keys.
    fn default() -> Self {
        Self {
            len: 0,
            keys: [K::from_parts(K::Words::default(), 0); BURST],
            hashes: [Hash::default(); BURST],
            found: [Found::NOTHING; BURST],
            marks: [Marks::default(); BURST],
            second: 0,
            rest: 0,
        }
    }
}

impl<K: Exact> Burst<K> {
    /// Forgets the keys.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends a key; `false` if there is no room for it.
    #[inline(always)]
    pub fn push(&mut self, key: K) -> bool {
        let Some(place) = self.keys.get_mut(self.len) else { return false };
        *place = key;
        self.len += 1;
        true
    }

    /// Replaces the keys by these, as far as there is room.
    #[inline(always)]
    pub fn set(&mut self, keys: impl IntoIterator<Item = K>) {
        self.clear();
        keys.into_iter().all(|key| self.push(key));
    }

    /// The keys.
    #[inline(always)]
    pub fn keys(&self) -> &[K] {
        self.keys.get(..self.len.min(BURST)).unwrap_or_default()
    }

    /// What the table knew of each key, in their order, after [`super::Crt::finish`].
    #[inline(always)]
    pub fn found(&self) -> &[Found] {
        self.found.get(..self.len.min(BURST)).unwrap_or_default()
    }

    #[inline(always)]
    pub(super) fn hash(&mut self, secret: &Secret, share: Share) {
        if let Some(keys) = self.keys.get(..self.len) {
            share.hash_all(secret, keys, &mut self.hashes);
        }
    }

    /// The keys with their hashes.
    pub(super) fn hashed(&self) -> impl Iterator<Item = (K, Hash)> {
        self.keys().iter().copied().zip(self.hashes().iter().copied())
    }

    #[inline(always)]
    fn hashes(&self) -> &[Hash] {
        self.hashes.get(..self.len.min(BURST)).unwrap_or_default()
    }
}

impl<K: Exact> Family<K> {
    /// See [`super::Crt::request`].
    #[inline(always)]
    pub(super) fn request(&self, burst: &Burst<K>) {
        for hash in burst.hashes() {
            prefetch(self.main.first(*hash));
        }
    }

    /// See [`super::Crt::prepare`].
    pub(super) fn prepare(&self, burst: &Burst<K>) {
        self.request(burst);
        for hash in burst.hashes() {
            let first = self.main.first(*hash);
            if first.may_overflow::<K>(Class::of::<K>(*hash)) || first.empty_slot::<K>().is_none() {
                prefetch(self.main.second(*hash));
            }
        }
    }

    /// See [`super::Crt::read`].
    #[inline(always)]
    pub(super) fn read(&self, burst: &mut Burst<K>, next: Option<&Burst<K>>) {
        for hash in next.and_then(|next| next.hashes().get(burst.len..)).unwrap_or_default() {
            prefetch(self.main.first(*hash));
        }
        let next = next.map(|next| &next.hashes);
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        if self.vectors {
            // SAFETY: `vectors` says that the processor has AVX2 and BMI1.
            return unsafe {
                match next {
                    Some(next) => self.read_with_vectors(burst, |i| next.get(i)),
                    None => self.read_with_vectors(burst, |_| None),
                }
            };
        }
        self.read_with::<Portable>(burst, |i| next?.get(i));
    }

    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    #[target_feature(enable = "avx2,bmi1")]
    fn read_with_vectors<'n>(&self, burst: &mut Burst<K>, next: impl Fn(usize) -> Option<&'n Hash>) {
        self.read_with::<super::scan::Vectors>(burst, next);
    }

    /// All keys in their first lines; then what is to become of those that are not there.
    #[inline(always)]
    fn read_with<'n, R: Reader>(&self, burst: &mut Burst<K>, next: impl Fn(usize) -> Option<&'n Hash>) {
        let Burst { len, keys, hashes, found, marks, second, rest } = burst;
        let mut missed = 0u32;
        for i in 0..(*len).min(BURST) {
            // What is requested for nothing, for places that are not in use, costs no branch.
            let (Some(key), Some(hash), Some(ahead), Some(found), Some(marks)) = (
                keys.get(i),
                hashes.get(i),
                hashes.get((i + AHEAD) % BURST),
                found.get_mut(i),
                marks.get_mut(i),
            ) else {
                continue;
            };
            if let Some(next) = next(i) {
                prefetch(self.main.first(*next));
            }
            prefetch(self.main.first(*ahead));
            (found.0, *marks) = R::scan(self.main.first(*hash), *key);
            missed = missed << 1 | u32::from(found.0.0 == 0);
        }
        // The first key's bit is the highest so far: shifting costs less than placing each.
        let missed = missed.reverse_bits().checked_shr(u32::BITS.wrapping_sub(*len as u32)).unwrap_or(0);
        // Which way a key goes can't be predicted: first the ways of all, without a branch, then each way's keys. Bought 1 ns a
        // miss.
        (*second, *rest) = (0, 0);
        for i in bits(missed) {
            let (Some(hash), Some(marks)) = (hashes.get(i), marks.get(i)) else { continue };
            *second |= u32::from(marks.may_overflow(Class::of::<K>(*hash))) << i;
        }
        for i in bits(*second) {
            if let Some(hash) = hashes.get(i) {
                prefetch(self.main.second(*hash));
            }
        }
        for i in bits(missed & !*second) {
            let (Some(hash), Some(marks)) = (hashes.get(i), marks.get(i)) else { continue };
            if self.half_open.may_hold(*hash) || !self.main.first(*hash).is_still::<K>(marks) {
                *rest |= 1 << i;
            }
        }
    }

    /// See [`super::Crt::finish`].
    #[inline(always)]
    pub(super) fn finish(&self, burst: &mut Burst<K>, now: Now) {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        if self.vectors {
            // SAFETY: `vectors` says that the processor has AVX2.
            return unsafe { self.finish_with_vectors(burst, now) };
        }
        self.finish_with::<Portable>(burst, now);
    }

    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    #[target_feature(enable = "avx2,bmi1")]
    fn finish_with_vectors(&self, burst: &mut Burst<K>, now: Now) {
        self.finish_with::<super::scan::Vectors>(burst, now);
    }

    /// Keys in their second lines; and the rest, one by one: keys in lines that changed meanwhile, those that may be
    /// half-open, and entries that have to be marked as used (some ten times in an entry's life).
    #[inline(always)]
    fn finish_with<R: Reader>(&self, burst: &mut Burst<K>, now: Now) {
        let Burst { len, keys, hashes, found, marks, second, rest } = burst;
        for i in bits(*second) {
            let (Some(key), Some(hash), Some(first), Some(found)) =
                (keys.get(i), hashes.get(i), marks.get(i), found.get_mut(i))
            else {
                continue;
            };
            let line = self.main.second(*hash);
            let (meta, second) = R::scan(line, *key);
            found.0 = meta;
            // C4 and K2: nothing in the second line, nothing half-open, and both lines' marks unchanged.
            if !found.is_some()
                && (self.half_open.may_hold(*hash)
                    || !self.main.first(*hash).is_still::<K>(first)
                    || !line.is_still::<K>(&second))
            {
                *rest |= 1 << i;
            }
        }
        let (tcp, udp) = (self.ages.stale(now), self.flow_ages.stale(now));
        let is_stale = |found: &Found| {
            let stale = if found.0.is_udp() { udp } else { tcp };
            stale.is(found.0) & found.is_some()
        };
        let found = found.get(..*len).unwrap_or_default();
        // First whether there are any: without a branch a key, four at a time.
        if found.iter().fold(false, |any, found| any | is_stale(found)) {
            for (i, found) in found.iter().enumerate() {
                *rest |= u32::from(is_stale(found)) << i;
            }
        }
        if *rest != 0 {
            self.finish_rest(burst, now);
        }
    }

    #[cold]
    #[inline(never)]
    fn finish_rest(&self, burst: &mut Burst<K>, now: Now) {
        for i in bits(burst.rest) {
            if let Some(hash) = burst.hashes.get(i) {
                self.half_open.prefetch(*hash);
            }
        }
        for i in bits(burst.rest) {
            let (Some(key), Some(hash), Some(found)) =
                (burst.keys.get(i), burst.hashes.get(i), burst.found.get_mut(i))
            else {
                continue;
            };
            found.0 = self.find(*key, *hash, now);
        }
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
