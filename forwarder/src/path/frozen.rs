//! Packets of frozen connections wait until the connection is with one stack again, in the order in which they came
//! (row C5). Bounded for each connection, in all and in time; a packet that finds no room is dropped, and its client
//! sends it again.

use super::Context;
use super::ends::AnyKey;
use crate::crt::{Crt, CrtState, Entry};
use crate::{Limits, Now, Port};

/// A packet that waits.
#[derive(Debug)]
pub(super) struct Waiting<B> {
    pub(super) packet: B,
    /// The port that it came from.
    pub(super) from: Port,
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

/// How long a packet has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Its connection is not frozen any more.
    Enough,
    /// It is given up.
    TooLong,
}

/// One look at all that wait.
#[derive(Debug)]
pub(super) struct Turn {
    /// The place to look at next.
    number: usize,
    /// How many there were at the beginning.
    len: usize,
    /// How many of those looked at go on waiting.
    kept: usize,
    lacks_option: bool,
}

impl<B> Frozen<B> {
    pub(super) fn new(limits: Limits) -> Self {
        let places = (0..limits.frozen).map(|_| None).collect();
        Self { places, len: 0, of_one: limits.frozen_of_one, held_ms: limits.frozen_ms, seen: 0 }
    }

    /// Keeps a packet, or gives it back if there are as many as may be.
    pub(super) fn hold(&mut self, packet: B, key: AnyKey, cx: &Context<'_>) -> Result<(), B> {
        let waiting = self.places.iter().take(self.len).flatten();
        if waiting.filter(|waiting| waiting.key == key).count() >= self.of_one {
            return Err(packet);
        }
        match self.places.get_mut(self.len) {
            None => Err(packet),
            Some(place) => {
                *place = Some(Waiting { packet, key, since: cx.now, from: cx.from });
                self.len = self.len.saturating_add(1);
                Ok(())
            }
        }
    }

    /// Whether a connection may have thawed since the last [`Self::begin`]. Costs two comparisons where nothing waits.
    #[inline(always)]
    pub(super) fn is_due(&self, crt: &Crt) -> bool {
        self.len != 0 && self.seen != crt.thaws()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Begins a look at all that wait. Packets may be held meanwhile; [`Self::end`] must follow.
    pub(super) fn begin(&mut self, crt: &Crt) -> Turn {
        // Before the look at the entries: who thaws one meanwhile is seen the next time.
        self.seen = crt.thaws();
        Turn { number: 0, len: self.len, kept: 0, lacks_option: false }
    }

    /// Takes out the next packet whose waiting is over, oldest first.
    pub(super) fn next(&mut self, turn: &mut Turn, cx: &Context<'_>) -> Option<(Waiting<B>, Waited)> {
        while turn.number < turn.len {
            let waiting = self.places.get_mut(turn.number).and_then(Option::take);
            turn.number = turn.number.saturating_add(1);
            let Some(waiting) = waiting else { continue };
            let waits = match waiting.key.get(cx).map(|Entry { state, .. }| state) {
                Some(CrtState::Frozen) => true,
                // The entry changed after this turn's options were taken. What waited may be all that its client ever says.
                Some(CrtState::HandingOver) if !cx.handoffs.knows(waiting.key) => {
                    turn.lacks_option = true;
                    true
                }
                _ => false,
            };
            if !waits {
                return Some((waiting, Waited::Enough));
            }
            if cx.now.ms.saturating_sub(waiting.since.ms) >= self.held_ms {
                return Some((waiting, Waited::TooLong));
            }
            self.keep(waiting, &mut turn.kept);
        }
        None
    }

    /// Ends a look: what was held meanwhile follows what goes on waiting.
    pub(super) fn end(&mut self, mut turn: Turn) {
        for number in turn.len..self.len {
            if let Some(waiting) = self.places.get_mut(number).and_then(Option::take) {
                self.keep(waiting, &mut turn.kept);
            }
        }
        self.len = turn.kept;
        if turn.lacks_option {
            self.seen = self.seen.wrapping_sub(1);
        }
    }

    fn keep(&mut self, waiting: Waiting<B>, kept: &mut usize) {
        if let Some(place) = self.places.get_mut(*kept) {
            *place = Some(waiting);
            *kept = kept.saturating_add(1);
        }
    }
}
