//! The look-up of a burst of keys: every line is requested before the first is read, and no branch depends on a single
//! key, so that the burst waits for memory, and for a mispredicted branch, a few times instead of once a key. Its steps
//! can be taken in turns with another burst's, so that it does not even wait those few times.

use super::Entry;
use super::family::{Common, Family};
use super::hash::Secret;
use super::key::Exact;
use super::line::{Class, Marks};
use super::memory::prefetch;
use super::meta::Meta;
use super::scan::{Portable, Reader};
use super::share::{Division, Place};
use super::{BURST, CrtState, Located, Now};

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

    /// The owner of a UDP flow; `None` of all else, and of nothing.
    #[inline(always)]
    pub fn flow(self) -> Option<model::StackIndex> {
        self.0.is_established_udp().then(|| self.0.owner())
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
    places: [Place; BURST],
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
            places: [Place::default(); BURST],
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
    pub(super) fn place(&mut self, secret: &Secret, division: &Division) {
        if let Some(keys) = self.keys.get(..self.len) {
            secret.place_all(division, keys, &mut self.places);
        }
    }

    /// The keys with their places, after [`super::Crt::locate`].
    #[inline(always)]
    pub fn located(&self) -> impl Iterator<Item = Located<K>> {
        self.keys().iter().zip(self.places()).map(|(key, place)| Located { key: *key, place: *place })
    }

    #[inline(always)]
    fn places(&self) -> &[Place] {
        self.places.get(..self.len.min(BURST)).unwrap_or_default()
    }
}

impl<K: Exact> Family<K> {
    /// See [`super::Crt::request`].
    #[inline(always)]
    pub(super) fn request(&self, burst: &Burst<K>) {
        for place in burst.places() {
            prefetch(self.main.first(*place));
        }
    }

    /// See [`super::Crt::prepare`].
    pub(super) fn prepare(&self, burst: &Burst<K>) {
        self.request(burst);
        for place in burst.places() {
            let first = self.main.first(*place);
            if first.may_overflow::<K>(Class::of(*place)) || first.empty_slot::<K>().is_none() {
                prefetch(self.main.second(*place));
            }
        }
    }

    /// See [`super::Crt::read`].
    #[inline(always)]
    pub(super) fn read(&self, burst: &mut Burst<K>, next: Option<&Burst<K>>) {
        for place in next.and_then(|next| next.places().get(burst.len..)).unwrap_or_default() {
            prefetch(self.main.first(*place));
        }
        let next = next.map(|next| &next.places);
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
    fn read_with_vectors<'n>(&self, burst: &mut Burst<K>, next: impl Fn(usize) -> Option<&'n Place>) {
        self.read_with::<super::scan::Vectors>(burst, next);
    }

    /// All keys in their first lines; then what is to become of those that are not there.
    #[inline(always)]
    fn read_with<'n, R: Reader>(&self, burst: &mut Burst<K>, next: impl Fn(usize) -> Option<&'n Place>) {
        let Burst { len, keys, places, found, marks, second, rest } = burst;
        let mut missed = 0u32;
        for i in 0..(*len).min(BURST) {
            // What is requested for nothing, for places that are not in use, costs no branch.
            let (Some(key), Some(place), Some(ahead), Some(found), Some(marks)) = (
                keys.get(i),
                places.get(i),
                places.get((i + AHEAD) % BURST),
                found.get_mut(i),
                marks.get_mut(i),
            ) else {
                continue;
            };
            if let Some(next) = next(i) {
                prefetch(self.main.first(*next));
            }
            prefetch(self.main.first(*ahead));
            (found.0, *marks) = R::scan(self.main.first(*place), *key);
            missed = missed << 1 | u32::from(found.0.0 == 0);
        }
        // The first key's bit is the highest so far: shifting costs less than placing each.
        let missed = missed.reverse_bits().checked_shr(u32::BITS.wrapping_sub(*len as u32)).unwrap_or(0);
        // Which way a key goes can't be predicted: first the ways of all, without a branch, then each way's keys. Bought 1 ns a
        // miss.
        (*second, *rest) = (0, 0);
        for i in bits(missed) {
            let (Some(place), Some(marks)) = (places.get(i), marks.get(i)) else { continue };
            *second |= u32::from(marks.may_overflow(Class::of(*place))) << i;
        }
        for i in bits(*second) {
            if let Some(place) = places.get(i) {
                prefetch(self.main.second(*place));
            }
        }
        for i in bits(missed & !*second) {
            let (Some(place), Some(marks)) = (places.get(i), marks.get(i)) else { continue };
            if self.half_open.may_hold(*place) || !self.main.first(*place).is_still::<K>(marks) {
                *rest |= 1 << i;
            }
        }
    }

    /// See [`super::Crt::finish`].
    #[inline(always)]
    pub(super) fn finish(&self, common: &Common, burst: &mut Burst<K>, now: Now) {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        if self.vectors {
            // SAFETY: `vectors` says that the processor has AVX2.
            return unsafe { self.finish_with_vectors(common, burst, now) };
        }
        self.finish_with::<Portable>(common, burst, now);
    }

    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    #[target_feature(enable = "avx2,bmi1")]
    fn finish_with_vectors(&self, common: &Common, burst: &mut Burst<K>, now: Now) {
        self.finish_with::<super::scan::Vectors>(common, burst, now);
    }

    /// Keys in their second lines; the rest, one by one: keys in lines that changed meanwhile, and those that may be half-open;
    /// and entries that have to be marked as used (some ten times in an entry's life).
    #[inline(always)]
    fn finish_with<R: Reader>(&self, common: &Common, burst: &mut Burst<K>, now: Now) {
        let Burst { len, keys, places, found, marks, second, rest } = burst;
        for i in bits(*second) {
            let (Some(key), Some(place), Some(first), Some(found)) =
                (keys.get(i), places.get(i), marks.get(i), found.get_mut(i))
            else {
                continue;
            };
            let line = self.main.second(*place);
            let (meta, second) = R::scan(line, *key);
            found.0 = meta;
            // C4 and K2: nothing in the second line, nothing half-open, and both lines' marks unchanged.
            if !found.is_some()
                && (self.half_open.may_hold(*place)
                    || !self.main.first(*place).is_still::<K>(first)
                    || !line.is_still::<K>(&second))
            {
                *rest |= 1 << i;
            }
        }
        let crowded = self.is_crowded(common);
        let (tcp, udp) = (self.ages.stale(now, false), self.flow_ages.stale(now, crowded));
        let is_stale = |found: &Found| tcp.or(udp, found.0).is(found.0) & found.is_some();
        // First whether there are any: without a branch a key, four at a time.
        let found = found.get(..*len).unwrap_or_default();
        let any_stale = found.iter().fold(false, |any, found| any | is_stale(found));
        let rest = *rest;
        if any_stale {
            self.renew(burst, is_stale, now);
        }
        if rest != 0 {
            self.finish_rest(common, burst, now);
        }
    }

    /// Marks the entries that were found and are stale as used.
    #[inline(never)]
    fn renew(&self, burst: &Burst<K>, is_stale: impl Fn(&Found) -> bool, now: Now) {
        let (tcp, udp) = (self.ages.stamp(now), self.flow_ages.stamp(now));
        for (Located { key, place }, found) in burst.located().zip(burst.found()) {
            if !is_stale(found) || found.0.is(CrtState::Closing) {
                continue;
            }
            let slot = self.main.first(place).find(key).or_else(|| self.main.second(place).find(key));
            if let Some((slot, _)) = slot {
                slot.touch(found.0, if found.0.is_udp() { udp } else { tcp });
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn finish_rest(&self, common: &Common, burst: &mut Burst<K>, now: Now) {
        for i in bits(burst.rest) {
            if let Some(place) = burst.places.get(i) {
                self.half_open.prefetch(*place);
            }
        }
        for i in bits(burst.rest) {
            let (Some(key), Some(place), Some(found)) =
                (burst.keys.get(i), burst.places.get(i), burst.found.get_mut(i))
            else {
                continue;
            };
            found.0 = self.find(common, *key, *place, now);
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
