//! Second stage: who has the connection.

use crate::crt::{Burst, Crt, CrtState, Found, Key, Located, Now};

/// The keys of one family's plain packets in a burst, in order. Scratch space of a worker, used again for each burst.
#[derive(Debug)]
pub(crate) struct Lane<K>(Burst<K>);

impl<K: Key> Default for Lane<K> {
    fn default() -> Self {
        Self(Burst::default())
    }
}

impl<K: Key> Lane<K> {
    /// Forgets the former burst.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends a key. There is room for a whole burst.
    #[inline(always)]
    pub(crate) fn push(&mut self, key: K) {
        self.0.push(key);
    }

    /// Where the keys belong in the CRT.
    #[inline(always)]
    pub(crate) fn hash(&mut self, crt: &Crt) {
        if !self.0.keys().is_empty() {
            crt.locate(&mut self.0);
        }
    }

    /// Requests the entries of the first lane of a series; those of the others are requested as `next`.
    #[inline(always)]
    pub(crate) fn request(&self, crt: &Crt) {
        crt.request(&self.0);
    }

    /// Finds the entry of every packet in the lane, as far as it is where it should be.
    ///
    /// In: keys, located and requested. Touches one line of the CRT a packet, and requests those of the `next` lane and the
    /// few second ones that [`Self::finish`] needs.
    #[inline(always)]
    pub(crate) fn read(&mut self, crt: &Crt, next: Option<&Self>) {
        let next = next.map(|next| &next.0).filter(|next| !next.keys().is_empty());
        if next.is_some() || !self.0.keys().is_empty() {
            crt.read(&mut self.0, next);
        }
    }

    /// Finds the entries of the other packets. Out: what the CRT knows of each ([`Lane::found`]).
    #[inline(always)]
    pub(crate) fn finish(&mut self, crt: &Crt, now: Now) {
        if !self.0.keys().is_empty() {
            crt.finish(&mut self.0, now);
        }
    }

    /// The keys in order, with their places, and what the CRT knew of each.
    #[inline(always)]
    pub(crate) fn found(&self) -> impl Iterator<Item = (Located<K>, Found)> {
        self.0.located().zip(self.0.found().iter().copied())
    }
}

/// What the state of a connection's entry means for a packet of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It goes to the owner.
    Owned,
    /// The connection ended here: this packet opens another one with the same ends.
    Reopens,
    /// It goes to the owner with the handoff option.
    HandedOver,
    /// It waits until the connection is with one stack again.
    Moving,
}

/// Reads an entry's state.
#[inline(always)]
pub(crate) fn standing(state: CrtState, opens: bool) -> Standing {
    match state {
        CrtState::Established | CrtState::HalfOpen => Standing::Owned,
        CrtState::Closing if opens => Standing::Reopens,
        CrtState::Closing => Standing::Owned,
        CrtState::Frozen => Standing::Moving,
        CrtState::HandingOver => Standing::HandedOver,
    }
}
