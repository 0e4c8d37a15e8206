//! Fragments follow the first one, which has the ports (row F6).

use std::net::IpAddr;

use model::StackIndex;

use super::Context;
use super::datagram::Datagram;
use super::select::table_full;
use crate::crt::{FragmentKeyV4, FragmentKeyV6};
use crate::{Limits, Now, Reason};

/// What a fragmented datagram is called: exactly as RFC 791 3.2 and RFC 8200 4.5 say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DatagramKey {
    V4(FragmentKeyV4),
    V6(FragmentKeyV6),
}

impl DatagramKey {
    /// The key of the datagram that `d`, a fragment, is a part of.
    pub(super) fn of(d: &Datagram) -> Self {
        let identification = d.fragment.map_or(0, |f| f.identification);
        match d.source {
            IpAddr::V4(a) => Self::V4(FragmentKeyV4::new(a, d.dvipa, d.protocol, identification as u16)),
            IpAddr::V6(a) => Self::V6(FragmentKeyV6::new(a, d.dvipa, identification)),
        }
    }

    /// Where its first fragment went, if that is known.
    pub(super) fn owner(self, cx: &Context<'_>) -> Option<StackIndex> {
        match self {
            Self::V4(key) => cx.crt.fragment(key, cx.now),
            Self::V6(key) => cx.crt.fragment(key, cx.now),
        }
    }

    /// Notes where its first fragment goes.
    pub(super) fn follow(self, owner: StackIndex, cx: &Context<'_>) -> Result<(), Reason> {
        match self {
            Self::V4(key) => cx.crt.insert_fragment(key, owner, cx.now),
            Self::V6(key) => cx.crt.insert_fragment(key, owner, cx.now),
        }
        .map_err(table_full)
    }
}

/// The flow hash of every fragment of a datagram, so that they stay in order.
pub(super) fn hash(d: &Datagram) -> u16 {
    let identification = d.fragment.map_or(0, |f| f.identification);
    match d.source {
        IpAddr::V4(a) => super::parse::flow_hash(a.to_bits(), identification),
        IpAddr::V6(a) => super::parse::flow_hash_v6(a.to_bits(), identification),
    }
}

/// An early fragment.
#[derive(Debug)]
pub(super) struct Held<B> {
    pub(super) packet: B,
    pub(super) datagram: Datagram,
    pub(super) key: DatagramKey,
    since: Now,
}

/// Fragments that came before the first one of their datagram, oldest first. Bounded in number and time; its memory is
/// taken at the start.
#[derive(Debug)]
pub(super) struct Early<B> {
    /// The first `len` are in use.
    places: Box<[Option<Held<B>>]>,
    len: usize,
    of_one: usize,
    held_ms: u64,
}

impl<B> Early<B> {
    pub(super) fn new(limits: Limits) -> Self {
        let places = (0..limits.held).map(|_| None).collect();
        Self { places, len: 0, of_one: limits.held_of_one, held_ms: limits.held_ms }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps a fragment, or gives it back if the limit of all or of its source is reached.
    pub(super) fn hold(&mut self, packet: B, datagram: Datagram, now: Now) -> Result<(), B> {
        let (held, free) = self.places.split_at_mut(self.len.min(self.places.len()));
        let Some(place) = free.first_mut() else { return Err(packet) };
        let of_source = held.iter().flatten().filter(|h| h.datagram.source == datagram.source);
        if of_source.count() >= self.of_one {
            return Err(packet);
        }
        let key = DatagramKey::of(&datagram);
        *place = Some(Held { packet, datagram, key, since: now });
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Takes out the fragments for which `chosen` returns something, oldest first, and hands them on with it.
    pub(super) fn release<T>(
        &mut self,
        chosen: impl Fn(&Held<B>) -> Option<T>,
        mut each: impl FnMut(Held<B>, T),
    ) {
        let is_chosen = |place: &Option<Held<B>>| place.as_ref().is_some_and(|held| chosen(held).is_some());
        // Nothing is moved for a datagram of which nothing is held.
        let Some(first) = self.places.iter().take(self.len).position(is_chosen) else { return };
        let mut kept = first;
        for number in first..self.len {
            let Some(held) = self.places.get_mut(number).and_then(Option::take) else { continue };
            match (chosen(&held), self.places.get_mut(kept)) {
                (Some(found), _) => each(held, found),
                (None, Some(place)) => {
                    *place = Some(held);
                    kept = kept.saturating_add(1);
                }
                (None, None) => {}
            }
        }
        self.len = kept;
    }

    /// How long fragments may be held, in milliseconds.
    pub(super) fn held_ms(&self) -> u64 {
        self.held_ms
    }
}

impl<B> Held<B> {
    /// How long it has been held, in milliseconds.
    pub(super) fn age_ms(&self, now: Now) -> u64 {
        now.ms.saturating_sub(self.since.ms)
    }
}
