//! The stages a burst passes.
//!
//! In order: [`parse`] tells plain packets from others; [`lookup`] finds the plain ones' CRT entries together; then each
//! packet in turn, in the order of the burst, passes [`select`], [`encapsulate`] and [`emit`]. What is not plain goes
//! the [`general`] way in its turn: [`datagram`] reads it, [`ends`] names its connection, and [`arp`], [`neighbour`], [`echo`], [`quoted`],
//! [`fragments`], [`outgoing`], [`icmp_error`] and [`split`] are asked what it is. [`announce`] makes frames for the
//! control thread.

mod announce;
mod arp;
mod datagram;
mod echo;
mod emit;
mod encapsulate;
mod ends;
mod fragments;
mod general;
mod icmp_error;
mod icmp_reply;
mod lookup;
mod neighbour;
mod outgoing;
mod parse;
mod quoted;
mod select;
mod split;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use model::{DvipaIndex, Protocol};

pub use announce::announce;

use crate::crt::{Crt, Entry, Key, KeyParts, KeyV4, KeyV6, Now};
use crate::packet::Ethernet;
use crate::tables::Family;
use crate::{Counters, PacketBuffer, Port, Reason, Sink, Tables};
use datagram::Datagram;
use emit::{End, Out};
use encapsulate::{Inner, encapsulate};
use fragments::Early;
use lookup::Lane;
use parse::{Gate, Plain};

/// The most packets that pass the stages together.
pub const BURST: usize = crate::crt::BURST;
/// How many packets ahead a frame's first line is requested.
const AHEAD: usize = 4;

/// Bounds of what one worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Early fragments that it holds at once.
    pub held: usize,
    /// How long an early fragment is held, in milliseconds.
    pub held_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { held: 512, held_ms: 2000 }
    }
}

/// What every stage may look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) crt: &'a Crt,
    pub(crate) now: Now,
    pub(crate) from: Port,
}

/// Which way a packet of a burst goes.
#[derive(Clone, Copy, Debug)]
enum Lot {
    PlainV4,
    PlainV6,
    General,
}

/// One worker's side of the path: scratch space, counters and held fragments. Owned by one thread.
#[derive(Debug)]
pub struct Worker<B> {
    counters: Arc<Counters>,
    lanes: Lanes,
    early: Early<B>,
}

/// The plain packets of a burst.
#[derive(Debug)]
struct Lanes {
    v4: Lane<KeyV4>,
    v6: Lane<KeyV6>,
}

impl<B: PacketBuffer> Worker<B> {
    /// A worker that holds nothing yet. All its memory is taken here.
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        let (dvipa, tcp) = (DvipaIndex(0), Protocol::Tcp);
        Self {
            counters,
            lanes: Lanes {
                v4: Lane::new(KeyV4::new(Ipv4Addr::UNSPECIFIED, 0, dvipa, 0, tcp)),
                v6: Lane::new(KeyV6::new(Ipv6Addr::UNSPECIFIED, 0, dvipa, 0, tcp)),
            },
            early: Early::new(limits),
        }
    }

    /// What it counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Takes every packet of `burst` (leaving `None`) and gives each to the sink exactly once, now or, if it is held,
    /// in a later call. Any number of packets is taken; [`BURST`] at a time pass the stages together.
    pub fn process<S: Sink<B>>(
        &mut self,
        burst: &mut [Option<B>],
        from: Port,
        tables: &Tables,
        crt: &Crt,
        now: Now,
        sink: &mut S,
    ) {
        let cx = Context { tables, crt, now, from };
        let mut out = Out::new(&self.counters, sink);
        for part in burst.chunks_mut(BURST) {
            self.lanes.pass(part, &mut self.early, &cx, &mut out);
        }
        out.finish();
    }

    /// Sends held fragments whose first one went through another worker, and gives up those whose time is over. To be
    /// called every few milliseconds, also when no packets come.
    pub fn expire<S: Sink<B>>(&mut self, tables: &Tables, crt: &Crt, now: Now, sink: &mut S) {
        if !self.early.is_empty() {
            let mut out = Out::new(&self.counters, sink);
            general::expire(&mut self.early, &Context { tables, crt, now, from: Port::Nic }, &mut out);
            out.finish();
        }
    }
}

impl Lanes {
    /// Takes at most [`BURST`] packets through all stages.
    fn pass<B: PacketBuffer, S: Sink<B>>(
        &mut self,
        burst: &mut [Option<B>],
        early: &mut Early<B>,
        cx: &Context<'_>,
        out: &mut Out<'_, S>,
    ) {
        let mut lots = [Lot::General; BURST];
        let received = self.sort(burst, &mut lots, cx);
        out.note(if cx.from == Port::Nic { Reason::ReceivedNic } else { Reason::ReceivedLocal }, received);
        self.v4.look_up(cx.crt, cx.now);
        self.v6.look_up(cx.crt, cx.now);
        let (mut v4, mut v6) = (self.v4.packets(), self.v6.packets());
        for (place, lot) in burst.iter_mut().zip(&lots) {
            let Some(packet) = place.take() else { continue };
            match lot {
                Lot::PlainV4 => {
                    if let Some(found) = v4.next() {
                        plain(packet, Family::V4, found, cx, out);
                    }
                }
                Lot::PlainV6 => {
                    if let Some(found) = v6.next() {
                        plain(packet, Family::V6, found, cx, out);
                    }
                }
                Lot::General => general::process(packet, early, cx, out),
            }
        }
    }

    /// Puts plain packets into their lanes. Returns how many packets there are of any kind.
    #[inline(always)]
    fn sort<B: PacketBuffer>(
        &mut self,
        burst: &[Option<B>],
        lots: &mut [Lot; BURST],
        cx: &Context<'_>,
    ) -> u64 {
        self.v4.clear();
        self.v6.clear();
        let (mut received, gate) = (0_u64, Gate::new(cx.from, cx.tables));
        burst.iter().take(AHEAD).flatten().for_each(B::prefetch);
        for (number, (place, lot)) in burst.iter().zip(lots).enumerate() {
            if let Some(Some(later)) = burst.get(number.wrapping_add(AHEAD)) {
                later.prefetch();
            }
            let Some(packet) = place else { continue };
            received = received.wrapping_add(1);
            if parse::plain_v4(packet.bytes(), gate, cx.tables, &mut self.v4).is_some() {
                *lot = Lot::PlainV4;
            } else if parse::plain_v6(packet.bytes(), gate, cx.tables, &mut self.v6).is_some() {
                *lot = Lot::PlainV6;
            }
        }
        received
    }
}

/// A plain packet with what the CRT knew of it when the burst began.
#[inline(always)]
fn plain<B: PacketBuffer, K: Key + Into<KeyParts>, S: Sink<B>>(
    mut packet: B,
    family: Family,
    (key, plain, found): (K, Plain, Option<Entry>),
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let (owner, reason) = match select::owner(key, found, plain.opens, plain.udp, cx) {
        Ok(owner) => owner,
        Err(reason) => return out.end(packet, End::dropped(reason)),
    };
    let carrier = cx.tables.carrier(owner, family);
    if plain.len > carrier.max_inner {
        return unusual(packet, owner, plain, reason, cx, out);
    }
    let Plain { len, traffic_class, hash, .. } = plain;
    let inner = Inner { family, l2_bytes: crate::packet::ethernet::HEADER_BYTES, len, traffic_class, hash };
    match encapsulate(&mut packet, carrier, inner) {
        Ok(()) if reason == Reason::Forwarded => out.forwarded(packet),
        Ok(()) => out.end(packet, End::sent(Port::Nic, reason)),
        Err(reason) => out.end(packet, End::dropped(reason)),
    }
}

/// A plain packet that is too long for its carrier: also one that is carried by nothing.
#[inline(never)]
fn unusual<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    owner: model::StackIndex,
    plain: Plain,
    reason: Reason,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let datagram = Ethernet::parse(packet.bytes()).map_err(Reason::from);
    match datagram.and_then(|eth| Datagram::parse(packet.bytes(), eth, cx.tables)) {
        Ok(Some(datagram)) => general::forward(packet, &datagram, owner, plain.hash, reason, cx, out),
        Ok(None) => out.end(packet, End::dropped(Reason::BadHeader)),
        Err(reason) => out.end(packet, End::dropped(reason)),
    }
}

#[cfg(test)]
mod tests;
