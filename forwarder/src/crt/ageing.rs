//! How entries of the main table end by themselves: by time, and where others need their place.
//!
//! A TCP connection ends by time only in its handshake and after its end. In a full table those that were idle for longest
//! give way ([`super::pressure`]), and a new one may take the place of the oldest in its own lines. A UDP flow ends when it
//! was idle for too long, and the oldest in its lines gives way to a new one at any time.

use super::ages::{Ages, key_of};
use super::cuckoo::Place;
use super::family::{Change, Common, Family};
use super::key::{Exact, is_udp};
use super::ledger::Counter;
use super::line::Slot;
use super::meta::Meta;
use super::{CrtState, Now, Refused};

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
        let may_end = |meta: Meta| match meta.entry()?.state {
            CrtState::Frozen | CrtState::HandingOver => None,
            CrtState::HalfOpen | CrtState::Closing => ages.is_over(meta, stamp).then_some(u64::MAX),
            CrtState::Established => Some(ages.age(meta, stamp)).filter(|age| *age >= ages.gives_way()),
        };
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

    /// Ends the entries of a main line that are too old, or have to give way; keeps the stamps of the others from coming round;
    /// and takes entries home to their first line if it has room, so that look-ups read one line again. Returns how many ended
    /// because of their age.
    pub(super) fn age_line(&self, common: &Common, i: usize, now: Now) -> usize {
        let mut ended = 0usize;
        for (n, slot) in self.main.line(i).slots::<K>().enumerate() {
            let Some((words, meta)) = slot.read() else { continue };
            let (key, ages) = (key_of::<K>(words, meta), self.ages_of(meta.service()));
            let stamp = ages.stamp(now);
            if ages.is_over(meta, stamp) {
                let change =
                    |meta, _, _: &Ages| if ages.is_over(meta, stamp) { Change::Remove } else { Change::Keep };
                ended += usize::from(matches!(self.modify(common, key, now, change), Ok(Some(_))));
                continue;
            }
            if meta.is_established_tcp() {
                if self.pressure.ends(ages.age(meta, stamp), common.ledger.get(self.connections)) {
                    self.give_way(common, key, meta, now);
                    continue;
                }
                if let Some(oldest) = ages.oldest(meta, stamp) {
                    slot.touch(meta, oldest);
                }
            }
            let Place { first, second, .. } = self.main.place(self.main.share().hash(&common.secret, key));
            if second == i && self.main.line(first).empty_slot::<K>().is_some() {
                self.main.shift(i, n, first, &common.secret);
            }
        }
        ended
    }

    /// Ends a connection that nothing has used since it was `seen`.
    fn give_way(&self, common: &Common, key: K, seen: Meta, now: Now) {
        let change = |meta: Meta, _, _: &Ages| {
            if meta.same_life(seen) && meta.stamp() == seen.stamp() { Change::Remove } else { Change::Keep }
        };
        if matches!(self.modify(common, key, now, change), Ok(Some(_))) {
            common.ledger.add(Counter::GaveWay, 1);
        }
    }

    /// A round of the sweep is over.
    pub(super) fn aged(&self, common: &Common) {
        self.pressure.round(common.ledger.get(self.connections), self.ages.gives_way());
    }
}
