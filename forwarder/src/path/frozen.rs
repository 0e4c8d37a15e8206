//! Packets of frozen connections wait until the connection is with one stack again, in the order in which they came
//! (row C5). Bounded for each connection, in all and in time; a packet that finds no room is dropped, and its client
//! sends it again.

use super::Context;
use super::ends::AnyKey;
use crate::crt::{Crt, CrtState, Entry};
use crate::{Limits, Now};

/// A packet that waits.
#[derive(Debug)]
struct Waiting<B> {
    packet: B,
    key: AnyKey,
    since: Now,
}

/// The packets of frozen connections that one worker has, oldest first. Its memory is taken at the start.
#[derive(Debug)]
pub(super) struct Frozen<B> {
    /// The first `len` are in use.
    places: Box<[Option<Waiting<B>>]>,
    len: usize,
    of_one: usize,
    held_ms: u64,
    /// [`Crt::thaws`] when it last looked whether a connection had thawed.
    seen: u64,
}

/// What becomes of a packet that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its connection is not frozen any more.
    Thawed,
    /// It waited for too long.
    GivenUp,
}

impl<B> Frozen<B> {
    pub(super) fn new(limits: Limits) -> Self {
        let places = (0..limits.frozen).map(|_| None).collect();
        Self { places, len: 0, of_one: limits.frozen_of_one, held_ms: limits.frozen_ms, seen: 0 }
    }

    /// Keeps a packet, or gives it back if there are as many as may be.
    pub(super) fn hold(&mut self, packet: B, key: AnyKey, now: Now) -> Result<(), B> {
        let waiting = self.places.iter().take(self.len).flatten();
        if waiting.filter(|waiting| waiting.key == key).count() >= self.of_one {
            return Err(packet);
        }
        match self.places.get_mut(self.len) {
            None => Err(packet),
            Some(place) => {
                *place = Some(Waiting { packet, key, since: now });
                self.len = self.len.saturating_add(1);
                Ok(())
            }
        }
    }

    /// Whether a connection may have thawed since the last [`Self::release`]. Costs two comparisons where nothing waits.
    #[inline(always)]
    pub(super) fn is_due(&self, crt: &Crt) -> bool {
        self.len != 0 && self.seen != crt.thaws()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes out the packets whose waiting is over, oldest first.
    pub(super) fn release(&mut self, cx: &Context<'_>, mut each: impl FnMut(B, Fate)) {
        // Before the look at the entries: who thaws one meanwhile is seen the next time.
        self.seen = cx.crt.thaws();
        let mut kept = 0_usize;
        let mut lacks_option = false;
        for number in 0..self.len {
            let Some(waiting) = self.places.get_mut(number).and_then(Option::take) else { continue };
            let waits = match waiting.key.get(cx).map(|Entry { state, .. }| state) {
                Some(CrtState::Frozen) => true,
                // The entry changed after this turn's options were taken. What waited may be all that its client ever says.
                Some(CrtState::HandingOver) if !cx.handoffs.knows(waiting.key) => {
                    lacks_option = true;
                    true
                }
                _ => false,
            };
            if !waits {
                each(waiting.packet, Fate::Thawed);
            } else if cx.now.ms.saturating_sub(waiting.since.ms) >= self.held_ms {
                each(waiting.packet, Fate::GivenUp);
            } else if let Some(place) = self.places.get_mut(kept) {
                *place = Some(waiting);
                kept = kept.saturating_add(1);
            }
        }
        self.len = kept;
        if lacks_option {
            self.seen = self.seen.wrapping_sub(1);
        }
    }
}
