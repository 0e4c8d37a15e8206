//! Requests that wait until the stack that has their connection has given it up, because their route goes to another one.
//!
//! Bounded: connections ([`Limits::reselected`]), packets of one ([`PACKETS`]), time ([`Limits::reselected_ms`]). What finds no room
//! is dropped, and its client sends it again.

use model::StackIndex;

use super::AnyKey;
use crate::crt::{CrtState, Entry};
use crate::{Limits, Now, Port};

use super::Context;

/// Packets of one connection.
pub(crate) const PACKETS: usize = 16;

/// A packet that waits.
#[derive(Debug)]
struct Waiting<B> {
    packet: B,
    from: Port,
    sequence: u32,
    bytes: usize,
}

/// A request that waits.
#[derive(Debug)]
struct Request<B> {
    key: AnyKey,
    /// Who has its connection, and whom it is for.
    from: StackIndex,
    to: StackIndex,
    since: Now,
    stays: bool,
    packets: [Option<Waiting<B>>; PACKETS],
}

/// What became of a request that has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Its connection is with the stack that it is for.
    Moved,
    /// It is where it was or elsewhere, or has ended.
    Stayed,
}

/// All of a worker. Its memory is taken at the start.
#[derive(Debug)]
pub(super) struct Elsewhere<B> {
    places: Box<[Option<Request<B>>]>,
    len: usize,
    waits_ms: u64,
}

impl<B> Elsewhere<B> {
    pub(super) fn new(limits: Limits) -> Self {
        let places = (0..limits.reselected).map(|_| None).collect();
        Self { places, len: 0, waits_ms: limits.reselected_ms }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.len < self.places.len()
    }

    /// A request waits from now on; its packets follow. `false`: there is no room.
    pub(super) fn begin(&mut self, key: AnyKey, (from, to): (StackIndex, StackIndex), now: Now) -> bool {
        let Some(place) = self.places.iter_mut().find(|place| place.is_none()) else { return false };
        *place =
            Some(Request { key, from, to, since: now, stays: false, packets: std::array::from_fn(|_| None) });
        self.len = self.len.saturating_add(1);
        true
    }

    /// Adds a packet of a connection, with the place of its bytes, or gives it back if it is there or finds no room.
    pub(super) fn add(
        &mut self,
        key: AnyKey,
        packet: B,
        from: Port,
        (sequence, bytes): (u32, usize),
    ) -> Result<(), B> {
        let request = self.places.iter_mut().flatten().find(|request| request.key == key);
        let Some(request) = request else { return Err(packet) };
        let is_there = request.packets.iter().flatten().any(|w| w.sequence == sequence && w.bytes >= bytes);
        match request.packets.iter_mut().find(|place| place.is_none()) {
            Some(place) if !is_there => {
                *place = Some(Waiting { packet, from, sequence, bytes });
                Ok(())
            }
            _ => Err(packet),
        }
    }

    /// The connection does not move.
    pub(super) fn stays(&mut self, key: AnyKey) {
        if let Some(request) = self.places.iter_mut().flatten().find(|request| request.key == key) {
            request.stays = true;
        }
    }

    /// Takes out the next request whose waiting is over: its packets in their order, and what has become of it.
    pub(super) fn next(
        &mut self,
        cx: &Context<'_>,
    ) -> Option<(AnyKey, Waited, impl Iterator<Item = (B, Port)> + use<B>)> {
        let waits_ms = self.waits_ms;
        for place in &mut self.places {
            let over = place.as_ref().and_then(|request| over(request, waits_ms, cx));
            if let (Some(waited), Some(request)) = (over, place.take_if(|_| over.is_some())) {
                self.len = self.len.saturating_sub(1);
                let packets = request.packets.into_iter().flatten();
                return Some((request.key, waited, packets.map(|w| (w.packet, w.from))));
            }
        }
        None
    }
}

fn over<B>(request: &Request<B>, waits_ms: u64, cx: &Context<'_>) -> Option<Waited> {
    let is_late = request.stays || cx.now.ms.saturating_sub(request.since.ms) >= waits_ms;
    match request.key.get(cx) {
        // It is on its way, and its option not known here yet.
        Some(Entry { state: CrtState::HandingOver, .. }) if !cx.handoffs.knows(request.key) => None,
        Some(Entry { state: CrtState::Frozen, .. }) => is_late.then_some(Waited::Stayed),
        Some(Entry { owner, .. }) if owner == request.to => Some(Waited::Moved),
        Some(Entry { owner, .. }) if owner != request.from => Some(Waited::Stayed),
        Some(Entry { state: CrtState::Closing, .. }) | None => Some(Waited::Stayed),
        Some(_) => is_late.then_some(Waited::Stayed),
    }
}
