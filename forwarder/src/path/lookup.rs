//! Second stage: who has the connection.

use crate::Reason;
use crate::crt::{BURST, Crt, Entry, Key, Now, Probes, State};

use super::parse::Plain;

/// The plain packets of one family in a burst, side by side. Scratch space of a worker, used again for each burst.
#[derive(Debug)]
pub(crate) struct Lane<K> {
    len: usize,
    keys: [K; BURST],
    plain: [Plain; BURST],
    found: [Option<Entry>; BURST],
    probes: Probes,
}

impl<K: Key> Lane<K> {
    /// An empty lane; `any` fills places that are not in use.
    pub(crate) fn new(any: K) -> Self {
        Self {
            len: 0,
            keys: [any; BURST],
            plain: [Plain::NONE; BURST],
            found: [None; BURST],
            probes: Probes::default(),
        }
    }

    /// Forgets the former burst.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends a packet. There is room for a whole burst.
    #[inline(always)]
    pub(crate) fn push(&mut self, key: K, plain: Plain) {
        if let (Some(k), Some(p)) = (self.keys.get_mut(self.len), self.plain.get_mut(self.len)) {
            *k = key;
            *p = plain;
            self.len = self.len.wrapping_add(1);
        }
    }

    /// Finds the entry of every packet in the lane.
    ///
    /// In: keys. Out: what the CRT knows of each ([`Lane::at`]). Touches one line of the CRT a packet, all of them
    /// requested before the first is read, so that a burst waits for memory once.
    #[inline(always)]
    pub(crate) fn look_up(&mut self, crt: &Crt, now: Now) {
        let (Some(keys), Some(found)) = (self.keys.get(..self.len), self.found.get_mut(..self.len)) else {
            return;
        };
        if !keys.is_empty() {
            crt.prefetch(keys, &mut self.probes);
            crt.lookup(keys, &self.probes, now, found);
        }
    }

    /// The packets in the lane, in order.
    #[inline(always)]
    pub(crate) fn packets(&self) -> impl Iterator<Item = (K, Plain, Option<Entry>)> {
        let keys = self.keys.get(..self.len).unwrap_or_default();
        let plain = self.plain.get(..self.len).unwrap_or_default();
        let found = self.found.get(..self.len).unwrap_or_default();
        keys.iter().zip(plain).zip(found).map(|((key, plain), found)| (*key, *plain, *found))
    }
}

/// What the state of a connection's entry means for a packet of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It goes to the owner.
    Owned,
    /// It goes to the owner; being UDP's second packet it also confirms the connection.
    Confirms,
    /// The connection ended here: this packet opens another one with the same ends.
    Reopens,
    /// It can't be sent to a stack now. This is where stages that answer it here, or hold it, will begin.
    Detained(Reason),
}

/// Reads an entry's state.
#[inline(always)]
pub(crate) fn standing(state: State, opens: bool, udp: bool) -> Standing {
    match state {
        State::Established => Standing::Owned,
        State::HalfOpen if udp => Standing::Confirms,
        State::HalfOpen => Standing::Owned,
        State::Closing if opens => Standing::Reopens,
        State::Closing => Standing::Owned,
        State::Frozen => Standing::Detained(Reason::Frozen),
        State::AnsweredHere => Standing::Detained(Reason::AnsweredHere),
        State::Parked => Standing::Detained(Reason::Parked),
    }
}
