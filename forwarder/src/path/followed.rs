//! Connections whose next requests this worker reads: where each of them begins.
//!
//! One place of few belongs to a connection, and the oldest gives way: such a connection stays with its target from then on, as one
//! does that another worker or a former process has followed.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::AnyKey;
use crate::transactions::boundary::Boundary;
use crate::{Limits, Now};

/// Places that a connection may have.
const WAYS: usize = 4;

/// A connection that is followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Following {
    key: AnyKey,
    pub(super) boundary: Boundary,
    /// Its last request waits for another target.
    pub(super) waits: bool,
    /// Where its last request ends is not known: it is not followed any more when that has come to its target.
    pub(super) is_last: bool,
    /// When bytes came that begin in the next request, if its beginning has not come since.
    pub(super) ahead: Option<Now>,
    since: Now,
}

/// All of a worker. Its memory is taken at the start.
#[derive(Debug)]
pub(super) struct Followed {
    places: Box<[Option<Following>]>,
    hasher: RandomState,
}

impl Followed {
    pub(super) fn new(limits: Limits) -> Self {
        let places = limits.followed.next_multiple_of(WAYS).max(WAYS);
        Self { places: vec![None; places].into(), hasher: RandomState::new() }
    }

    fn places(&mut self, key: AnyKey) -> &mut [Option<Following>] {
        let groups = (self.places.len() / WAYS) as u64;
        let group = self.hasher.hash_one(key).checked_rem(groups).unwrap_or(0) as usize;
        self.places.chunks_mut(WAYS).nth(group).unwrap_or_default()
    }

    /// What is known of a connection.
    pub(super) fn get(&mut self, key: AnyKey) -> Option<&mut Following> {
        self.places(key).iter_mut().flatten().find(|following| following.key == key)
    }

    /// From now on this is known of a connection. Returns whether another one gave way.
    pub(super) fn put(&mut self, key: AnyKey, boundary: Boundary, now: Now) -> bool {
        let new = Following { key, boundary, waits: false, is_last: false, ahead: None, since: now };
        let rank = |place: &Option<Following>| match place {
            Some(following) if following.key == key => (0, 0),
            None => (1, 0),
            Some(following) => (2, following.since.ms),
        };
        let Some(place) = self.places(key).iter_mut().min_by_key(|place| rank(place)) else { return false };
        place.replace(new).is_some_and(|former| former.key != key)
    }

    /// It is not followed any more; returns whether it was.
    pub(super) fn end(&mut self, key: AnyKey) -> bool {
        self.places(key).iter_mut().any(|place| place.take_if(|following| following.key == key).is_some())
    }
}

#[cfg(test)]
mod tests {
    use model::{DvipaIndex, Protocol};

    use super::*;
    use crate::crt::KeyV4;

    #[test]
    fn the_oldest_gives_way_and_is_not_followed_any_more() {
        let key =
            |port| AnyKey::V4(KeyV4::new([198, 18, 0, 2].into(), port, DvipaIndex(0), 80, Protocol::Tcp));
        let mut followed = Followed::new(Limits { followed: WAYS, ..Limits::default() });
        let gave_way: Vec<bool> = [1, 2, 3, 4, 4, 5]
            .into_iter()
            .map(|port| followed.put(key(port), Boundary::open(7), Now { ms: port.into() }))
            .collect();
        assert_eq!(gave_way, [false, false, false, false, false, true]);
        assert!(followed.get(key(1)).is_none() && followed.get(key(5)).is_some());
        assert!(followed.end(key(5)) && !followed.end(key(5)));
    }
}
