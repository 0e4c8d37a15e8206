//! Requests that wait until the stack that has their connection has given it up, because their route goes to another one.
//!
//! Bounded: connections ([`Limits::reselected`], and of one client [`Limits::reselected_of_one`]), packets of one ([`PACKETS`]) and of
//! all ([`Limits::reselected_packets`]), time ([`Limits::reselected_ms`]). A packet that finds no room is dropped, and its client sends
//! it again.

use std::net::{IpAddr, Ipv6Addr};

use model::StackIndex;

use super::Context;
use super::ends::At;
use crate::crt::{CrtState, Entry, KeyParts};
use crate::{Limits, Now, Port};

/// Packets of one connection.
pub(crate) const PACKETS: usize = 16;
/// Places that a connection may have.
const WAYS: usize = 8;

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
    at: At,
    /// Who has its connection, and whom it is for.
    from: StackIndex,
    to: StackIndex,
    since: Now,
    stays: bool,
    /// What the stack that has it was told that the client acknowledges.
    acknowledged: Option<u32>,
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
    /// What is looked at first of each group of places: [`At::tag`], or 0.
    tags: Box<[[u32; WAYS]]>,
    places: Box<[[Option<Request<B>>; WAYS]]>,
    len: usize,
    packets: usize,
    limits: Limits,
}

/// The address of a client, of IPv6 its network: what a share belongs to.
fn client_of(at: At) -> IpAddr {
    match KeyParts::from(at.key).client.ip() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

impl<B> Elsewhere<B> {
    pub(super) fn new(limits: Limits) -> Self {
        let groups = limits.reselected.div_ceil(WAYS);
        let places = (0..groups).map(|_| std::array::from_fn(|_| None)).collect();
        Self { tags: vec![[0; WAYS]; groups].into(), places, len: 0, packets: 0, limits }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All places that are taken, each with its tag.
    fn taken(&mut self) -> impl Iterator<Item = (&mut u32, &mut Option<Request<B>>)> {
        let groups = self.tags.iter_mut().zip(&mut self.places);
        groups.flat_map(|(tags, places)| tags.iter_mut().zip(places)).filter(|(tag, _)| **tag != 0)
    }

    /// The places that a connection may have.
    fn of(&mut self, at: At) -> impl Iterator<Item = (&mut u32, &mut Option<Request<B>>)> {
        let group = at.group(self.tags.len());
        let places = self.tags.get_mut(group).zip(self.places.get_mut(group));
        places.into_iter().flat_map(|(tags, places)| tags.iter_mut().zip(places))
    }

    fn get(&mut self, at: At) -> Option<&mut Request<B>> {
        let mut its = self.of(at).filter(|(tag, _)| **tag == at.tag());
        its.find_map(|(_, place)| place.as_mut().filter(|request| request.at.key == at.key))
    }

    /// Whether one more may wait.
    pub(super) fn has_room(&mut self, at: At) -> bool {
        if self.of(at).all(|(tag, _)| *tag != 0) {
            return false;
        }
        let client = client_of(at);
        let of_one = self.limits.reselected_of_one;
        let its = self.taken().filter_map(|(_, place)| place.as_ref()).map(|request| client_of(request.at));
        its.filter(|other| *other == client).count() < of_one
    }

    /// A request waits from now on; its packets follow. `false`: there is no room.
    pub(super) fn begin(&mut self, at: At, (from, to): (StackIndex, StackIndex), now: Now) -> bool {
        let Some((tag, place)) = self.of(at).find(|(tag, _)| **tag == 0) else { return false };
        *tag = at.tag();
        let packets = std::array::from_fn(|_| None);
        *place = Some(Request { at, from, to, since: now, stays: false, acknowledged: None, packets });
        self.len = self.len.saturating_add(1);
        true
    }

    /// Whether more is acknowledged than the stack that has the connection was told.
    pub(super) fn is_news(&mut self, at: At, acknowledged: u32) -> bool {
        let told = self.get(at).map(|request| request.acknowledged);
        told.is_some_and(|told| told.is_none_or(|told| acknowledged.wrapping_sub(told) as i32 > 0))
    }

    /// The stack that has the connection was told so.
    pub(super) fn acknowledges(&mut self, at: At, acknowledged: u32) {
        if let Some(request) = self.get(at) {
            request.acknowledged = Some(acknowledged);
        }
    }

    /// Adds a packet of a connection, with the place of its bytes. Gives it back if it finds no room, or another one that it is a
    /// repetition of: a later one acknowledges more.
    pub(super) fn add(
        &mut self,
        at: At,
        packet: B,
        from: Port,
        (sequence, bytes): (u32, usize),
    ) -> Result<(), B> {
        let full = self.packets >= self.limits.reselected_packets();
        let Some(request) = self.get(at) else { return Err(packet) };
        // The first one fits always, so that nobody can keep the requests of others from waiting.
        let full = full && request.packets.iter().any(Option::is_some);
        let mut others = request.packets.iter_mut().flatten();
        if let Some(former) = others.find(|w| w.sequence == sequence && w.bytes == bytes) {
            return Err(std::mem::replace(&mut former.packet, packet));
        }
        let is_there = request.packets.iter().flatten().any(|w| w.sequence == sequence && w.bytes > bytes);
        match request.packets.iter_mut().find(|place| place.is_none()) {
            Some(place) if !is_there && !full => {
                *place = Some(Waiting { packet, from, sequence, bytes });
                self.packets = self.packets.saturating_add(1);
                Ok(())
            }
            _ => Err(packet),
        }
    }

    /// The connection does not move.
    pub(super) fn stays(&mut self, at: At) {
        if let Some(request) = self.get(at) {
            request.stays = true;
        }
    }

    /// Takes out the next request whose waiting is over: its packets in their order, and what has become of it.
    pub(super) fn next(
        &mut self,
        cx: &Context<'_>,
    ) -> Option<(At, Waited, impl Iterator<Item = (B, Port)> + use<B>)> {
        let waits_ms = self.limits.reselected_ms;
        let (waited, request) = self.taken().find_map(|(tag, place)| {
            let waited = over(place.as_ref()?, waits_ms, cx)?;
            *tag = 0;
            Some((waited, place.take()?))
        })?;
        self.len = self.len.saturating_sub(1);
        self.packets = self.packets.saturating_sub(request.packets.iter().flatten().count());
        let packets = request.packets.into_iter().flatten();
        Some((request.at, waited, packets.map(|w| (w.packet, w.from))))
    }
}

fn over<B>(request: &Request<B>, waits_ms: u64, cx: &Context<'_>) -> Option<Waited> {
    let is_late = request.stays || cx.now.ms.saturating_sub(request.since.ms) >= waits_ms;
    match request.at.key.get(cx) {
        // It is on its way, and its option not known here yet.
        Some(Entry { state: CrtState::HandingOver, .. }) if !cx.handoffs.knows(request.at.key) => None,
        Some(Entry { state: CrtState::Frozen, .. }) => is_late.then_some(Waited::Stayed),
        Some(Entry { owner, .. }) if owner == request.to => Some(Waited::Moved),
        Some(Entry { owner, .. }) if owner != request.from => Some(Waited::Stayed),
        Some(Entry { state: CrtState::Closing, .. }) | None => Some(Waited::Stayed),
        Some(_) => is_late.then_some(Waited::Stayed),
    }
}
