//! What a worker knows of connections, in memory that is taken at the start: one place of few belongs to a connection, and the oldest
//! gives way.
//!
//! Touches one line for a connection of which nothing is known, and those of its place for another.

use super::AnyKey;
use super::ends::At;
use crate::Now;
use crate::crt::prefetch;

/// Places that a connection may have.
pub(super) const WAYS: usize = 4;

/// What is looked at first of a place.
#[derive(Clone, Copy, Debug, Default)]
struct Tag {
    /// [`At::tag`] of the connection that has it; 0: it is free.
    of: u32,
    /// Since when, in milliseconds; ages of more than 49 days are taken for less.
    since_ms: u32,
}

/// A place: free, or whose it is and what is known.
type Place<T> = Option<(AnyKey, T)>;

/// All that is known.
#[derive(Debug)]
pub(super) struct Places<T> {
    tags: Box<[[Tag; WAYS]]>,
    known: Box<[[Place<T>; WAYS]]>,
}

impl<T: Copy> Places<T> {
    /// Empty, for so many connections, or a few more.
    pub(super) fn new(connections: usize) -> Self {
        let groups = connections.div_ceil(WAYS).max(1);
        Self { tags: vec![Default::default(); groups].into(), known: vec![[None; WAYS]; groups].into() }
    }

    /// The places that a connection may have.
    #[inline]
    fn of(&mut self, at: At) -> impl Iterator<Item = (&mut Tag, &mut Place<T>)> {
        let group = at.group(self.tags.len());
        let places = self.tags.get_mut(group).zip(self.known.get_mut(group));
        places.into_iter().flat_map(|(tags, known)| tags.iter_mut().zip(known))
    }

    /// Starts to fetch what is looked at first.
    #[inline]
    pub(super) fn prefetch(&self, at: At) {
        self.tags.get(at.group(self.tags.len())).into_iter().for_each(prefetch);
    }

    /// What is known of a connection.
    #[inline]
    pub(super) fn get(&mut self, at: At) -> Option<&mut T> {
        self.of(at).filter(|(tag, _)| tag.of == at.tag()).find_map(|(_, place)| match place {
            Some((key, known)) if *key == at.key => Some(known),
            _ => None,
        })
    }

    /// From now on this is known of a connection, in the place of what was, of nothing, or of the oldest. Returns whether another one
    /// gave way.
    pub(super) fn put(&mut self, at: At, known: T, now: Now) -> bool {
        let new = Tag { of: at.tag(), since_ms: now.ms as u32 };
        let rank = |tag: &Tag, place: &Place<T>| match tag.of {
            0 => (1, 0),
            of if of == new.of && place.is_some_and(|(key, _)| key == at.key) => (2, 0),
            _ => (0, new.since_ms.wrapping_sub(tag.since_ms)),
        };
        let Some((tag, place)) = self.of(at).max_by_key(|(tag, place)| rank(tag, place)) else {
            return false;
        };
        *tag = new;
        place.replace((at.key, known)).is_some_and(|(former, _)| former != at.key)
    }

    /// Nothing is known of it any more; returns whether something was.
    pub(super) fn end(&mut self, at: At) -> bool {
        let is_its = |place: &Place<T>| place.is_some_and(|(key, _)| key == at.key);
        let Some((tag, place)) = self.of(at).find(|(tag, place)| tag.of == at.tag() && is_its(place)) else {
            return false;
        };
        (*tag, *place) = (Tag::default(), None);
        true
    }
}
