//! How entries of the main table end by themselves: by time, and where others need their place.
//!
//! A TCP connection ends by time only in its handshake and after its end. In a full table those that were idle for longest
//! give way ([`super::pressure`]), and a new one may take the place of the oldest in its own lines. A UDP flow ends when it
//! was idle for too long, and the oldest in its lines gives way to a new one at any time.

use std::ops::Range;

use super::ages::{Ages, key_of};
use super::family::{Change, Common, Family};
use super::key::{Exact, is_udp};
use super::ledger::Counter;
use super::line::{Class, Guard, Slot};
use super::meta::Meta;
use super::share::Place;
use super::{CrtState, Entry, Now, Refused};

/// A sweep looks in one of so many lines for entries that it can take home, in the next one in others.
const HOMING: u64 = 8;

/// The age of an entry that may end to make room; of one whose life is over the highest.
fn may_end(ages: &Ages, meta: Meta, stamp: u64) -> Option<u64> {
    match meta.entry()?.state {
        CrtState::Frozen | CrtState::HandingOver => None,
        CrtState::HalfOpen | CrtState::Closing => ages.is_over(meta, stamp).then_some(u64::MAX),
        CrtState::Established => Some(ages.age(meta, stamp)).filter(|age| *age >= ages.gives_way()),
    }
}

impl<K: Exact> Family<K> {
    /// Makes an empty slot in one of a key's lines, whose entries are all of its protocol: by moving others, after a search of
    /// `SEARCH` lines, or by ending the oldest one there that may end. No lock may be held.
    pub(super) fn give_room<const SEARCH: usize>(
        &self,
        common: &Common,
        place: Place,
        key: K,
        now: Now,
    ) -> Result<(), Refused> {
        if self.main.make_room::<SEARCH>(place, &common.secret) {
            return Ok(());
        }
        let ages = self.ages_of(key.service());
        let stamp = ages.stamp(now);
        let may_end = |meta: Meta| may_end(ages, meta, stamp);
        let lines = [place.first, place.second].into_iter();
        let entries = lines.flat_map(|line| self.main.line(line).slots::<K>()).filter_map(Slot::read);
        let aged = entries.filter_map(|(words, meta)| Some((may_end(meta)?, key_of::<K>(words, meta))));
        let (age, oldest) = aged.max_by_key(|(age, _)| *age).ok_or(Refused::Full)?;
        let still = |meta, _, _: &Ages| match may_end(meta) {
            Some(now) if now >= age => Change::Remove,
            _ => Change::Keep,
        };
        self.modify(common, oldest, now, still)?;
        let gave_way = if is_udp(key.service()) { Counter::FlowsEvicted } else { Counter::GaveWay };
        common.ledger.add(gave_way, 1);
        Ok(())
    }

    /// Makes the entry of a UDP flow in the place of the oldest one in its two lines, which are full and whose locks are given. In a
    /// table that is that full ([`Self::is_flooded`]), a search for room would cost more than it finds. `false`: the oldest one
    /// changed meanwhile.
    pub(super) fn replace_oldest(
        &self,
        common: &Common,
        place: Place,
        key: K,
        new: Entry,
        [first, second]: [&Guard<'_, K>; 2],
        stamp: u64,
    ) -> Result<bool, Refused> {
        let age = |meta| may_end(&self.flow_ages, meta, stamp);
        // A loop: a chain of iterators cost twice as many instructions.
        let mut oldest: Option<(u64, &Guard<'_, K>, u32, Slot<'_, K>)> = None;
        for (line, n) in [(second, place.second), (first, place.first)] {
            for slot in line.line().slots::<K>() {
                let Some(age) = age(slot.meta()) else { continue };
                // Of entries of one age, one in the first line.
                if oldest.is_none_or(|(most, ..)| age >= most) {
                    oldest = Some((age, line, n, slot));
                }
            }
        }
        let (_, line, n, slot) = oldest.ok_or(Refused::Full)?;
        let Some((words, seen)) = slot.read() else { return Ok(false) };
        let home = self.main.place(&common.secret, key_of::<K>(words, seen)).first;
        // C1: its key's lock, which is one of the two for most keys.
        let other = (home != place.first && home != place.second).then(|| self.main.line(home).lock::<K>());
        let at_home = match &other {
            Some(lock) => lock.as_ref().ok_or(Refused::Busy)?,
            None if home == place.first => first,
            None => second,
        };
        let old = slot.meta();
        if !old.same_life(seen) || age(old).is_none() {
            return Ok(false);
        }
        slot.clear();
        if home != n {
            at_home.overflow_down(); // C3
        }
        if n == place.second {
            first.overflow_up(Class::of(place)); // C3
        }
        line.publish(slot, key, new, stamp);
        common.ledger.add(Counter::FlowsEvicted, 1);
        common.ledger.changed(old.entry(), Some(new));
        Ok(true)
    }

    /// Ends the entries of main lines that are too old, or have to give way; keeps the stamps of the others from coming round;
    /// and takes entries home. Returns how many ended because of their age.
    pub(super) fn age_lines(&self, common: &Common, lines: Range<u32>, now: Now) -> usize {
        let (tcp, udp) = (self.ages.stamp(now), self.flow_ages.stamp(now));
        let (entries, round) = (|| common.ledger.get(self.connections), self.pressure.rounds());
        let mut ended = 0usize;
        for i in lines {
            for slot in self.main.line(i).slots::<K>() {
                let meta = slot.meta();
                let (ages, stamp) = if meta.is_udp() { (&self.flow_ages, udp) } else { (&self.ages, tcp) };
                if ages.is_over(meta, stamp) {
                    let over = |meta, _, _: &Ages| match ages.is_over(meta, stamp) {
                        true => Change::Remove,
                        false => Change::Keep,
                    };
                    ended += usize::from(self.ends(common, slot, over, now));
                } else if meta.is_established_tcp() {
                    if self.pressure.ends(ages.age(meta, stamp), entries) {
                        self.give_way(common, slot, meta, now);
                    } else if let Some(oldest) = ages.oldest(meta, stamp) {
                        slot.touch(meta, oldest);
                    }
                }
            }
            // Whether an entry is at home its hash says, which costs more than all else here.
            if (u64::from(i) ^ round).is_multiple_of(HOMING) {
                self.take_home(common, i);
            }
        }
        ended
    }

    /// Takes the entries of a line that live in their second line home to their first one if that has room, so that look-ups read
    /// one line again. An entry that belongs into neither is of a file that was damaged: no look-up would ever find it.
    fn take_home(&self, common: &Common, i: u32) {
        for (n, slot) in self.main.line(i).slots::<K>().enumerate() {
            let Some((words, meta)) = slot.read() else { continue };
            let Place { first, second, .. } = self.main.place(&common.secret, key_of::<K>(words, meta));
            if first != i && second != i {
                self.end_lost(common, i, slot, meta);
            } else if second == i && self.main.line(first).empty_slot::<K>().is_some() {
                self.main.shift(i, n, first, &common.secret);
            }
        }
    }

    /// Ends the entry in this slot of a line that is none of its key's two. Others end it by the line's lock, if at all
    /// ([`Self::replace_oldest`]).
    fn end_lost(&self, common: &Common, i: u32, slot: Slot<'_, K>, seen: Meta) {
        let Some(_line) = self.main.line(i).lock::<K>() else { return };
        let Some((words, meta)) = slot.read().filter(|(_, meta)| meta.same_life(seen)) else { return };
        slot.clear();
        common.ledger.one_less(self.counter(key_of::<K>(words, meta)));
        common.ledger.changed(meta.entry(), None);
    }

    /// Ends the entry in this slot, if `change` still says so.
    fn ends(
        &self,
        common: &Common,
        slot: Slot<'_, K>,
        change: impl FnOnce(Meta, Entry, &Ages) -> Change,
        now: Now,
    ) -> bool {
        let Some((words, meta)) = slot.read() else { return false };
        matches!(self.modify(common, key_of::<K>(words, meta), now, change), Ok(Some(_)))
    }

    /// Ends a connection that nothing has used since it was `seen`.
    fn give_way(&self, common: &Common, slot: Slot<'_, K>, seen: Meta, now: Now) {
        let change = |meta: Meta, _, _: &Ages| {
            if meta.same_life(seen) && meta.stamp() == seen.stamp() { Change::Remove } else { Change::Keep }
        };
        if self.ends(common, slot, change, now) {
            common.ledger.add(Counter::GaveWay, 1);
        }
    }

    /// A round of the sweep is over.
    pub(super) fn aged(&self, common: &Common) {
        self.pressure.round(common.ledger.get(self.connections), self.ages.gives_way());
    }
}
