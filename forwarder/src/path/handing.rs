//! Connections that this worker hands over with their first request: the handoff option of each, until the target has it.
//!
//! One place of few belongs to a connection, and the oldest gives way: then the packets of that connection are dropped until its
//! target's report has come, and its client sends them again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use model::StackIndex;

use super::AnyKey;
use super::handoff::OPTION_BYTES;
use crate::{Limits, Now};

/// Places that a connection may have.
const WAYS: usize = 4;

/// A connection that is being handed over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handing {
    key: AnyKey,
    /// What its packets carry.
    pub(super) option: [u8; OPTION_BYTES],
    /// To whom.
    pub(super) to: StackIndex,
    /// Its first byte here.
    pub(super) start: u32,
    /// This node's next sequence number: what the client acknowledges beyond it, the target has sent.
    pub(super) sent: u32,
    since: Now,
}

/// All of a worker. Its memory is taken at the start.
#[derive(Debug)]
pub(super) struct Handings {
    places: Box<[Option<Handing>]>,
    hasher: RandomState,
}

impl Handings {
    pub(super) fn new(limits: Limits) -> Self {
        let places = limits.handed.next_multiple_of(WAYS).max(WAYS);
        Self { places: vec![None; places].into(), hasher: RandomState::new() }
    }

    fn places(&mut self, key: AnyKey) -> &mut [Option<Handing>] {
        let groups = (self.places.len() / WAYS) as u64;
        let group = self.hasher.hash_one(key).checked_rem(groups).unwrap_or(0) as usize;
        self.places.chunks_mut(WAYS).nth(group).unwrap_or_default()
    }

    /// What is known of a connection.
    pub(super) fn get(&mut self, key: AnyKey) -> Option<Handing> {
        self.places(key).iter().flatten().find(|handing| handing.key == key).copied()
    }

    /// From now on this is handed over, in the place of what was handed over with the same ends, of nothing, or of the oldest.
    pub(super) fn begin(
        &mut self,
        key: AnyKey,
        (to, option): (StackIndex, [u8; OPTION_BYTES]),
        (start, sent): (u32, u32),
        now: Now,
    ) -> Handing {
        let new = Handing { key, option, to, start, sent, since: now };
        let rank = |place: &Option<Handing>| match place {
            Some(handing) if handing.key == key => (0, 0),
            None => (1, 0),
            Some(handing) => (2, handing.since.ms),
        };
        if let Some(place) = self.places(key).iter_mut().min_by_key(|place| rank(place)) {
            *place = Some(new);
        }
        new
    }

    /// It is with its target.
    pub(super) fn end(&mut self, key: AnyKey) {
        for place in self.places(key) {
            place.take_if(|handing| handing.key == key);
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{DvipaIndex, Protocol};

    use super::*;
    use crate::crt::KeyV4;

    fn key(port: u16) -> AnyKey {
        AnyKey::V4(KeyV4::new([198, 18, 0, 2].into(), port, DvipaIndex(0), 80, Protocol::Tcp))
    }

    #[test]
    fn the_oldest_gives_way_where_all_places_are_taken() {
        let mut handings = Handings::new(Limits { handed: WAYS, ..Limits::default() });
        let begin = |handings: &mut Handings, port, ms| {
            handings.begin(key(port), (StackIndex(1), [0; OPTION_BYTES]), (1, 2), Now { ms })
        };
        for port in 1..=5 {
            begin(&mut handings, port, u64::from(port));
        }
        assert!(handings.get(key(1)).is_none());
        assert!((2..=5).all(|port| handings.get(key(port)).is_some()));
        begin(&mut handings, 2, 9);
        assert!(handings.get(key(3)).is_some(), "the same connection takes its own place");
        handings.end(key(2));
        assert!(handings.get(key(2)).is_none());
    }
}
