//! The connections and flows of one address family: the main table, and the bounded table of half-open connections before it.
//!
//! - **K1** Who makes, changes or removes a key's entry, in either table, holds the key's first line in the main table (C1);
//!   in the bounded table the line there too (B1). Only ageing and replacement end a half-open entry without the former.
//! - **K2** A promotion publishes the entry in the main table before it clears the half-open one, holding both. So a reader
//!   that looks into the main table, then into the bounded one, and then finds the marks of the main table's lines
//!   unchanged (C4) has not missed a key that was there all the time.
//! - **K3** No thread waits for a lock for ever: one that does not get a lock gives back all that it holds. So there is no deadlock,
//!   and a worker's packet is late by microseconds at most.

use model::DvipaIndex;
use model::StackIndex;

use super::ages::Ages;
use super::bounded::Bounded;
use super::cuckoo::{Cuckoo, Insert};
use super::hash::Secret;
use super::key::{Exact, SERVICE_BITS, is_udp};
use super::ledger::{Counter, Ledger};
use super::line::{Class, Slot};
use super::meta::Meta;
use super::pressure::Pressure;
use super::room::{FAR, NEAR};
use super::share::Place;
use super::{Confirmed, Located, Now, Refused};
use super::{CrtState, Entry};

/// Times that an insertion makes room and then finds that another thread took it.
const ATTEMPTS: u32 = 8;

/// The connections of one address family.
#[derive(Debug)]
pub struct Family<K> {
    pub(super) main: Cuckoo<K>,
    pub(super) half_open: Bounded<K>,
    /// Of TCP connections in the main table.
    pub(super) ages: Ages,
    /// Of UDP flows.
    pub(super) flow_ages: Ages,
    /// Which TCP connections give way in a full table.
    pub(super) pressure: Pressure,
    /// TCP connections in the main table.
    pub(super) connections: Counter,
    /// UDP flows, all of them in the main table.
    pub(super) flows: Counter,
    /// As many of them as it was made for.
    pub(super) flow_room: u64,
    /// Entries in the bounded table.
    pub(super) half_opens: Counter,
    /// Lines are read with [`super::scan::Vectors`].
    pub(super) vectors: bool,
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
    /// The ages of entries like this one in the main table.
    #[inline(always)]
    pub(super) fn ages_of(&self, service: u64) -> &Ages {
        if is_udp(service) { &self.flow_ages } else { &self.ages }
    }

    /// What counts entries like this one in the main table.
    pub(super) fn counter(&self, key: K) -> Counter {
        if is_udp(key.service()) { self.flows } else { self.connections }
    }

    /// Whether there are more flows than the table was made for: soon the oldest ones will have to give way.
    #[inline(always)]
    pub(super) fn is_crowded(&self, common: &Common) -> bool {
        common.ledger.get(self.flows) > self.flow_room
    }

    /// Whether there are so many flows that the oldest in two full lines gives way without a search for room: more than three
    /// slots in four. Later than [`Self::is_crowded`], so that flows that go on are young by then.
    pub(super) fn is_flooded(&self, common: &Common) -> bool {
        common.ledger.get(self.flows) > self.flow_room + self.flow_room / 2
    }

    /// What was found in the main table, marked as used.
    #[inline(always)]
    fn used(&self, common: &Common, found: Option<(Slot<'_, K>, Meta)>, now: Now) -> Option<Meta> {
        let (slot, meta) = found?;
        let ages = self.ages_of(meta.service());
        if ages.stale(now, self.is_crowded(common)).is(meta) && !meta.is(CrtState::Closing) {
            slot.touch(meta, ages.stamp(now));
        }
        Some(meta)
    }

    /// The whole look-up of one key, with the proof of a miss (C4, K2): an empty meta. Lock-free: it repeats only when a writer
    /// got on.
    #[inline]
    pub(super) fn find(&self, common: &Common, key: K, place: Place, now: Now) -> Meta {
        let (first, second) = (self.main.first(place), self.main.second(place));
        loop {
            let marks = first.marks::<K>();
            if let Some(meta) = self.used(common, first.find(key), now) {
                return meta;
            }
            let second_marks = marks.may_overflow(Class::of(place)).then(|| second.marks::<K>());
            if second_marks.is_some()
                && let Some(meta) = self.used(common, second.find(key), now)
            {
                return meta;
            }
            if let Some(meta) = self.half_open.get(place, key, now) {
                return meta;
            }
            if first.is_still::<K>(&marks) && second_marks.is_none_or(|marks| second.is_still::<K>(&marks)) {
                return Meta(0);
            }
        }
    }

    /// See [`super::Crt::insert_half_open`].
    pub(super) fn insert_half_open(
        &self,
        common: &Common,
        Located { key, place }: Located<K>,
        owner: StackIndex,
        now: Now,
    ) -> Result<Entry, Refused> {
        let new = Entry { owner, state: CrtState::HalfOpen };
        check(key, new)?;
        self.half_open.prefetch(place);
        let _key = self.main.line(place.first).lock::<K>().ok_or(Refused::Busy)?; // K1
        if let Some((slot, meta)) = self.main.locate(place, key) {
            return match meta.entry() {
                Some(old) if old.state != CrtState::Closing => Ok(old),
                old => {
                    slot.update(new, self.ages_of(key.service()).stamp(now));
                    common.ledger.changed(old, Some(new));
                    Ok(new)
                }
            };
        }
        let line = self.half_open.lock(place).ok_or(Refused::Busy)?;
        let stamp = self.half_open.ages().stamp(now);
        if let Some((slot, meta)) = line.find(key) {
            return match meta.entry() {
                Some(old) if old.state != CrtState::Closing => Ok(old),
                old => {
                    slot.update(new, stamp);
                    common.ledger.changed(old, Some(new));
                    Ok(new)
                }
            };
        }
        let replaced = line.insert(key, new, stamp);
        match replaced {
            Some(_) => common.ledger.add(Counter::HalfOpenEvicted, 1),
            None => common.ledger.add(self.half_opens, 1),
        }
        common.ledger.changed(replaced, Some(new));
        Ok(new)
    }

    /// See [`super::Crt::insert_flow`].
    pub(super) fn insert_flow(
        &self,
        common: &Common,
        Located { key, place }: Located<K>,
        owner: StackIndex,
        former: Option<StackIndex>,
        now: Now,
    ) -> Result<Entry, Refused> {
        let new = Entry { owner, state: CrtState::Established };
        check(key, new)?;
        let stamp = self.ages_of(key.service()).stamp(now);
        for _ in 0..ATTEMPTS {
            let first = self.main.line(place.first).lock::<K>().ok_or(Refused::Busy)?; // K1
            if let Some((slot, meta)) = self.main.locate(place, key) {
                let Some(old) = meta.entry() else { return Err(Refused::Busy) };
                if old.state != CrtState::Closing && Some(old.owner) != former {
                    return Ok(old);
                }
                slot.update(new, stamp);
                common.ledger.changed(Some(old), Some(new));
                return Ok(new);
            }
            match self.main.insert(place, &first, key, new, stamp) {
                Insert::Done => {
                    common.ledger.came(self.counter(key), owner, 1);
                    return Ok(new);
                }
                Insert::Busy => return Err(Refused::Busy),
                Insert::NoRoom(second) if self.is_flooded(common) => {
                    if self.replace_oldest(common, place, key, new, [&first, &second], stamp)? {
                        return Ok(new);
                    }
                }
                Insert::NoRoom(second) => {
                    drop((second, first));
                    self.give_room::<NEAR>(common, place, key, now)?;
                }
            }
        }
        Err(Refused::Busy)
    }

    /// See [`super::Crt::newconn`].
    pub(super) fn confirm(
        &self,
        common: &Common,
        key: K,
        owner: StackIndex,
        now: Now,
    ) -> Result<Confirmed, Refused> {
        let done = self.confirm_at(common, key, self.main.place(&common.secret, key), owner, now);
        if done == Ok(Confirmed::New) {
            common.ledger.came(self.counter(key), owner, 1);
        }
        done
    }

    /// [`Self::confirm`] of a key whose place is known, and without the account of one that is new.
    pub(super) fn confirm_at(
        &self,
        common: &Common,
        key: K,
        place: Place,
        owner: StackIndex,
        now: Now,
    ) -> Result<Confirmed, Refused> {
        let new = Entry { owner, state: CrtState::Established };
        check(key, new)?;
        let stamp = self.ages_of(key.service()).stamp(now);
        self.half_open.prefetch(place);
        for _ in 0..ATTEMPTS {
            let first = self.main.line(place.first).lock::<K>().ok_or(Refused::Busy)?; // K1
            if let Some((slot, meta)) = self.main.locate(place, key) {
                let Some(old) = meta.entry() else { return Err(Refused::Busy) };
                if old.owner == owner && old.state.counts() {
                    slot.touch(meta, stamp);
                    return Ok(Confirmed::Unchanged);
                }
                slot.update(new, stamp);
                common.ledger.changed(Some(old), Some(new));
                return Ok(confirmed(Some(old), owner));
            }
            // Nobody but the holder of the key's lock makes it half-open (K1), so a clear bit (B3) stays clear for this key.
            let line = match self.half_open.may_hold(place) {
                true => Some(self.half_open.lock(place).ok_or(Refused::Busy)?),
                false => None,
            };
            match self.main.insert(place, &first, key, new, stamp) {
                Insert::Done => {
                    let half_open = line.as_ref().and_then(|line| Some((line, line.find(key)?)));
                    if let Some((line, (slot, _))) = half_open {
                        line.clear(slot); // K2
                        common.ledger.one_less(self.half_opens);
                    }
                    let old = half_open.and_then(|(_, (_, meta))| meta.entry());
                    if old.is_some() {
                        common.ledger.add(self.counter(key), 1);
                        common.ledger.changed(old, Some(new));
                    }
                    return Ok(confirmed(old, owner));
                }
                Insert::Busy => return Err(Refused::Busy),
                Insert::NoRoom(second) => {
                    drop((second, line, first));
                    self.give_room::<FAR>(common, place, key, now)?;
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
        let place = self.main.place(&common.secret, key);
        let first = self.main.line(place.first).lock::<K>().ok_or(Refused::Busy)?; // K1
        let in_main = self.main.locate(place, key);
        // Held until the end: B1.
        let line =
            if in_main.is_none() { Some(self.half_open.lock(place).ok_or(Refused::Busy)?) } else { None };
        let found = in_main.or_else(|| line.as_ref()?.find(key));
        let ages = if line.is_none() { self.ages_of(key.service()) } else { self.half_open.ages() };
        let Some((slot, meta)) = found else { return Ok(None) };
        let Some(old) = meta.entry() else { return Ok(None) };
        match change(meta, old, ages) {
            Change::Keep => {}
            Change::Set(new) => {
                slot.update(new, ages.stamp(now));
                common.ledger.changed(Some(old), Some(new));
            }
            Change::Remove => {
                if let Some(line) = &line {
                    line.clear(slot);
                    common.ledger.one_less(self.half_opens);
                } else {
                    self.main.remove(place, &first, key);
                    common.ledger.one_less(self.counter(key));
                }
                common.ledger.changed(Some(old), None);
            }
        }
        Ok(Some(old))
    }
}

fn confirmed(old: Option<Entry>, owner: StackIndex) -> Confirmed {
    match old {
        None => Confirmed::New,
        Some(old) if old.owner == owner && old.state == CrtState::HalfOpen => Confirmed::Promoted,
        Some(old) => Confirmed::Replaced(old),
    }
}

/// Whether an entry can hold these.
pub(super) fn check<K: Exact>(key: K, entry: Entry) -> Result<(), Refused> {
    const { assert!(DvipaIndex::MAX < 1 << (SERVICE_BITS - 1)) };
    let fits = key.service() >> SERVICE_BITS == 0 && entry.owner.0 <= StackIndex::MAX;
    if fits { Ok(()) } else { Err(Refused::Index) }
}
