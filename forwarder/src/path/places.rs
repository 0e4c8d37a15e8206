//! What a worker knows of connections, in memory that is taken at the start: one place of few belongs to a connection, and the oldest
//! gives way.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::AnyKey;
use crate::Now;

/// Places that a connection may have.
pub(super) const WAYS: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Place<T> {
    key: AnyKey,
    since: Now,
    known: T,
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Places<T> {
    places: Box<[Option<Place<T>>]>,
    hasher: RandomState,
}

impl<T: Copy> Places<T> {
    /// Empty, for so many connections, or a few more.
    pub(super) fn new(connections: usize) -> Self {
        let places = connections.next_multiple_of(WAYS).max(WAYS);
        Self { places: vec![None; places].into(), hasher: RandomState::new() }
    }

    fn of(&mut self, key: AnyKey) -> &mut [Option<Place<T>>] {
        let groups = (self.places.len() / WAYS) as u64;
        let group = self.hasher.hash_one(key).checked_rem(groups).unwrap_or(0) as usize;
        self.places.chunks_mut(WAYS).nth(group).unwrap_or_default()
    }

    /// What is known of a connection.
    pub(super) fn get(&mut self, key: AnyKey) -> Option<&mut T> {
        self.of(key).iter_mut().flatten().find(|place| place.key == key).map(|place| &mut place.known)
    }

    /// From now on this is known of a connection, in the place of what was, of nothing, or of the oldest. Returns whether another one
    /// gave way.
    pub(super) fn put(&mut self, key: AnyKey, known: T, now: Now) -> bool {
        let rank = |place: &Option<Place<T>>| match place {
            Some(place) if place.key == key => (0, 0),
            None => (1, 0),
            Some(place) => (2, place.since.ms),
        };
        let Some(place) = self.of(key).iter_mut().min_by_key(|place| rank(place)) else { return false };
        place.replace(Place { key, since: now, known }).is_some_and(|former| former.key != key)
    }

    /// Nothing is known of it any more; returns whether something was.
    pub(super) fn end(&mut self, key: AnyKey) -> bool {
        self.of(key).iter_mut().any(|place| place.take_if(|place| place.key == key).is_some())
    }
}
