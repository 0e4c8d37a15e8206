//! The stages a burst passes.
//!
//! In order: [`parse`] tells plain packets from others; [`lookup`] finds the plain ones' CRT entries together; then each
//! packet in turn, in the order of the burst, passes [`select`], [`encapsulate`] and [`emit`] ([`plain`] reads for them; what
//! belongs to a [`frozen`] connection waits). What is not plain goes three steps in its turn:
//!
//! - [`whose`] is it: [`datagram`] reads it, [`ends`] names its connection; [`quoted`], [`fragments`] and [`outgoing`] are
//!   asked. Its [`fate`] is a type.
//! - [`answer`] it, if it is a question to this node: [`arp`], [`neighbour`], [`echo`]; let what is none of ours
//!   [`crossing`] over to the other port.
//! - [`deliver`] it: everything else, with [`handoff`], [`icmp_error`] and [`split`]. Whose connection has no entry is one of
//!   the [`orphans`], about which stacks are [`ask`]ed; what is [`unserved`], or late perhaps ([`quiet`]), waits a moment, and what nothing serves is [`refuse`]d. Where a
//!   service has routes, this node does with the client what is to be done before a stack has the connection: [`transact`], with the
//!   [`requests`] that are not whole or come in [`parts`], and the connections that it is [`handing`] over; afterwards it [`follow`]s them
//!   to their next requests ([`followed`]), of which those for another stack wait ([`elsewhere`]).
//!
//! Datagrams of [`quic`] servers follow their connection ID on either way.

mod answer;
mod arp;
mod ask;
mod bucket;
mod crossing;
mod datagram;
mod deliver;
mod echo;
mod elsewhere;
mod emit;
mod encapsulate;
mod ends;
mod fate;
mod follow;
mod followed;
mod fragments;
mod frozen;
mod handing;
mod handoff;
mod icmp_error;
mod icmp_reply;
mod lookup;
mod neighbour;
mod orphans;
mod outgoing;
mod parse;
mod parts;
mod places;
mod plain;
mod quic;
mod quiet;
mod quoted;
mod refuse;
mod requests;
mod seen;
mod select;
mod split;
mod transact;
mod unserved;
mod whose;

use std::sync::Arc;

pub use ends::AnyKey;
pub use handoff::Handoffs;
pub(crate) use handoff::OPTION_BYTES;

use crate::crt::{Crt, Found, KeyV4, KeyV6, Located, Now};
use crate::packet::ethernet::TAG_BYTES;
use crate::pools::Pools;
use crate::reselecting::Reselecting;
use crate::traffic::Pair;
use crate::transactions::cookie::Secret;
use crate::{Counters, PacketBuffer, Port, Reason, Sink, Tables};
use bucket::Budgets;
use elsewhere::Elsewhere;
use emit::{End, Out};
use encapsulate::encapsulate;
use fate::Fate;
use followed::Followed;
use fragments::Early;
use frozen::Frozen;
use handing::Handings;
use lookup::Lane;
use orphans::Orphans;
use parse::{Gate, Tag};
use plain::PlainKey;
use quiet::Quiet;
use requests::Requests;
use unserved::Unserved;

/// The most packets that pass the stages together.
pub const BURST: usize = crate::crt::BURST;
const PAIR: usize = BURST.saturating_mul(2);
/// How many packets ahead a frame's first line is requested.
const AHEAD: usize = 4;

/// Bounds of what one worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Early fragments that it holds at once.
    pub held: usize,
    /// Early fragments of one source that it holds at once: a datagram of 64 kB in reverse order.
    pub held_of_one: usize,
    /// How long an early fragment is held, in milliseconds.
    pub held_ms: u64,
    /// Packets of frozen connections that it holds at once.
    pub frozen: usize,
    /// Packets of one frozen connection that it holds at once: a client's whole window of small ones.
    pub frozen_of_one: usize,
    /// How long a packet of a frozen connection is held, in milliseconds; longer than a transfer may take.
    pub frozen_ms: u64,
    /// Connections without an entry that it asks about at once.
    pub asks: usize,
    /// Packets of all of them that it holds.
    pub ask_held: usize,
    /// Copies of their packets that it sends to candidates a second.
    pub asks_a_second: u32,
    /// The first candidate is asked alone for this long, in milliseconds.
    pub ask_next_ms: u64,
    /// How long a copy may take to reach its candidate, in milliseconds.
    pub ask_wait_ms: u64,
    /// A connection is asked about for this long at most while not all were asked, and waited for as long when all were, in
    /// milliseconds.
    pub ask_ms: u64,
    /// Connections that nobody claimed that it remembers.
    pub unclaimed: usize,
    /// How long it remembers one, in milliseconds.
    pub unclaimed_ms: u64,
    /// SYNs to ports that no stack is known to listen on that it holds at once.
    pub unserved: usize,
    /// How long it holds one, in milliseconds: longer than the report of a listen takes, shorter than a client waits to send its SYN again.
    pub unserved_ms: u64,
    /// SYNs on established connections of stacks that were not heard for a moment that it holds at once.
    pub quiet: usize,
    /// How long it holds one, in milliseconds: longer than a session lasts of which nothing is heard, as it is configured by default.
    pub quiet_ms: u64,
    /// First requests that are not whole that it holds at once.
    pub requests: usize,
    /// Segments of all of them.
    pub request_packets: usize,
    /// How long it waits for more of one, in milliseconds.
    pub request_ms: u64,
    /// How long it waits for one to be whole, in milliseconds.
    pub request_total_ms: u64,
    /// Connections that it hands over with their first request at once.
    pub handed: usize,
    /// Connections whose next requests it reads.
    pub followed: usize,
    /// Requests of connections that another stack has than they are for, which it holds at once.
    pub reselected: usize,
    /// Those of one client (of IPv6: of a /64).
    pub reselected_of_one: usize,
    /// How long it holds one, in milliseconds.
    pub reselected_ms: u64,
    /// ICMP errors and resets that it sends a second (RFC 4443 2.4 f).
    pub answers_a_second: u32,
    /// Echo requests that it answers a second, besides shares.
    pub echoes_a_second: u32,
    /// ARP requests and solicitations for DVIPAs that it answers a second, besides shares.
    pub neighbours_a_second: u32,
    /// Packets of sessions, and as many of ARP and neighbour discovery, that it hands to the node's own kernel a second, besides
    /// shares.
    pub own_a_second: u32,
    /// Other packets that it hands to the node's own kernel a second, besides shares.
    pub passed_a_second: u32,
    /// What each network (/24 of IPv4, /64 of IPv6), station or stack may have a second of what is used up.
    pub share_a_second: u32,
    /// Connections that each network may begin a second while the worker is pressed.
    pub opening_share_a_second: u32,
    /// Places that these shares are in.
    pub shares: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            held: 512,
            held_of_one: 64,
            held_ms: 2000,
            frozen: 1024,
            frozen_of_one: 64,
            frozen_ms: 5000,
            asks: 2048,
            ask_held: 3072,
            asks_a_second: 20_000,
            ask_next_ms: 30,
            ask_wait_ms: 220,
            ask_ms: 1000,
            unclaimed: 65_536,
            unclaimed_ms: 3000,
            unserved: 256,
            unserved_ms: 500,
            quiet: 256,
            quiet_ms: 2000,
            requests: 512,
            request_packets: 2048,
            request_ms: 5000,
            request_total_ms: 30_000,
            handed: 8192,
            followed: 65_536,
            reselected: 512,
            reselected_of_one: 64,
            reselected_ms: model::patience::REQUEST.as_millis() as u64,
            answers_a_second: 10_000,
            echoes_a_second: 10_000,
            neighbours_a_second: 20_000,
            own_a_second: 20_000,
            passed_a_second: 50_000,
            share_a_second: 10,
            opening_share_a_second: 50,
            shares: 4096,
        }
    }
}

impl Limits {
    /// Packets of the requests that it holds for other stacks.
    pub fn reselected_packets(&self) -> usize {
        self.reselected.saturating_mul(elsewhere::PACKETS / 4)
    }
}

/// What every stage may look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) handoffs: &'a Handoffs,
    pub(crate) pools: &'a Pools,
    pub(crate) crt: &'a Crt,
    pub(crate) now: Now,
    pub(crate) from: Port,
}

/// Which way a packet of a burst goes.
#[derive(Clone, Copy, Debug, Default)]
enum Lot {
    PlainV4,
    PlainV6,
    #[default]
    General,
}

/// One worker's side of the path: scratch space, counters and held fragments. Owned by one thread.
#[derive(Debug)]
pub struct Worker<B> {
    counters: Arc<Counters>,
    /// Of two bursts that pass in turns.
    lanes: [Lanes; 2],
    held: Held<B>,
    budgets: Budgets,
    handoffs: Arc<Handoffs>,
    pools: Arc<Pools>,
}

/// Packets that wait for something.
#[derive(Debug)]
struct Held<B> {
    early: Early<B>,
    frozen: Frozen<B>,
    orphans: Orphans<B>,
    unserved: Unserved<B>,
    quiet: Quiet<B>,
    requests: Requests<B>,
    handings: Handings,
    followed: Followed,
    elsewhere: Elsewhere<B>,
    reselecting: Arc<Reselecting>,
    secret: Secret,
}

/// A burst, sorted.
#[derive(Debug, Default)]
struct Lanes {
    lots: [Lot; BURST],
    v4: Lane<KeyV4>,
    v6: Lane<KeyV6>,
}

impl<B: PacketBuffer> Worker<B> {
    /// A worker that holds nothing yet. All its memory is taken here.
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        let (early, frozen, orphans) = (Early::new(limits), Frozen::new(limits), Orphans::new(limits));
        let (requests, handings) = (Requests::new(limits), Handings::new(limits));
        let (unserved, quiet, secret) = (Unserved::new(limits), Quiet::new(limits), Secret::of_process());
        let (followed, elsewhere) = (Followed::new(limits), Elsewhere::new(limits));
        let reselecting = Arc::new(Reselecting::new(limits.reselected));
        let held = Held {
            early,
            frozen,
            orphans,
            unserved,
            quiet,
            requests,
            handings,
            followed,
            elsewhere,
            reselecting,
            secret,
        };
        let (budgets, handoffs, pools) = (Budgets::new(limits), Arc::default(), Arc::default());
        Self { counters, lanes: Default::default(), held, budgets, handoffs, pools }
    }

    /// Replaces the options of connections that are being handed over. The former ones are freed if nobody else has them: who
    /// gives them must keep them until no worker does.
    #[inline]
    pub fn set_handoffs(&mut self, handoffs: &Arc<Handoffs>) {
        if !Arc::ptr_eq(&self.handoffs, handoffs) {
            self.handoffs = Arc::clone(handoffs);
        }
    }

    /// Replaces the pools of tokens, as [`Worker::set_handoffs`] the options.
    #[inline]
    pub fn set_pools(&mut self, pools: &Arc<Pools>) {
        if !Arc::ptr_eq(&self.pools, pools) {
            self.pools = Arc::clone(pools);
        }
    }

    /// Makes SYN cookies with this key instead of the process's secret one: for the replay of captures, which have the numbers. Whoever
    /// knows the key can make connections without a handshake.
    pub fn set_cookie_key(&mut self, key: [u64; 2]) {
        self.held.secret = Secret::known(key);
    }

    /// Says whether it receives more than it can handle: then each network may begin so many connections and no more
    /// ([`Limits::opening_share_a_second`]), because such packets cost most, and what there is goes on.
    #[inline]
    pub fn set_pressed(&mut self, pressed: bool) {
        self.budgets.set_pressed(pressed);
    }

    /// What it asks of the control thread.
    pub fn reselecting(&self) -> &Arc<Reselecting> {
        &self.held.reselecting
    }

    /// What it counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Takes every packet of `burst` (leaving `None`) and gives each to the sink exactly once, now or, if it is held,
    /// in a later call. Any number of packets is taken. Twice [`BURST`] at a time are looked up in turns, so that the CRT's
    /// lines of one half are fetched while the other half is worked on.
    pub fn process<S: Sink<B>>(
        &mut self,
        burst: &mut [Option<B>],
        from: Port,
        tables: &Tables,
        crt: &Crt,
        now: Now,
        sink: &mut S,
    ) {
        match (from, tables.node().vlan) {
            (Port::Nic, Some(_)) => self.stages::<TAG_BYTES, S>(burst, from, tables, crt, now, sink),
            _ => self.stages::<0, S>(burst, from, tables, crt, now, sink),
        }
    }

    /// [`Worker::process`] of frames whose plain packets have a VLAN tag of `TAG` bytes: a number that the compiler knows,
    /// because with one that it does not know each untagged packet would cost more.
    #[inline(always)]
    fn stages<const TAG: usize, S: Sink<B>>(
        &mut self,
        burst: &mut [Option<B>],
        from: Port,
        tables: &Tables,
        crt: &Crt,
        now: Now,
        sink: &mut S,
    ) {
        let cx = Context { tables, handoffs: &self.handoffs, pools: &self.pools, crt, now, from };
        let mut out = Out::new(&self.counters, sink, &mut self.budgets);
        if self.held.frozen.is_due(crt) {
            // Before the packets that came later.
            deliver::thaw(&mut self.held, &cx, &mut out);
        }
        let [lanes, more_lanes] = &mut self.lanes;
        for pair in burst.chunks_mut(PAIR) {
            let (part, more) = pair.split_at_mut(pair.len().min(BURST));
            out.received(from, lanes.sort::<TAG, B>(part, &cx));
            lanes.request(crt);
            if more.is_empty() {
                lanes.read(None, crt);
            } else {
                out.received(from, more_lanes.sort::<TAG, B>(more, &cx));
                lanes.read(Some(more_lanes), crt);
                more_lanes.read(None, crt);
            }
            for (lanes, part) in [(&mut *lanes, part), (&mut *more_lanes, more)] {
                if !part.is_empty() {
                    lanes.finish(&cx);
                    lanes.deliver::<TAG, B, S>(part, &mut self.held, &cx, &mut out);
                }
            }
        }
        out.finish();
    }

    /// Sends what was held and need not wait any more, and gives up what waited too long. To be called every few
    /// milliseconds, also when no packets come.
    pub fn expire<S: Sink<B>>(&mut self, tables: &Tables, crt: &Crt, now: Now, sink: &mut S) {
        let Held { early, frozen, orphans, unserved, quiet, requests, elsewhere, .. } = &self.held;
        let idle = early.is_empty() && frozen.is_empty() && orphans.is_empty() && unserved.is_empty();
        if idle && quiet.is_empty() && requests.is_empty() && elsewhere.is_empty() {
            return;
        }
        let cx = Context { tables, handoffs: &self.handoffs, pools: &self.pools, crt, now, from: Port::Nic };
        let mut out = Out::new(&self.counters, sink, &mut self.budgets);
        deliver::expire(&mut self.held, &cx, &mut out);
        deliver::thaw(&mut self.held, &cx, &mut out);
        orphans::look(&mut self.held, &cx, &mut out);
        unserved::look(&mut self.held, &cx, &mut out);
        quiet::look(&mut self.held, &cx, &mut out);
        parts::look(&mut self.held, &cx, &mut out);
        follow::look(&mut self.held, &cx, &mut out);
        out.finish();
    }

    /// Sends the packets of connections that have thawed. To be called in every turn; costs next to nothing if there are
    /// none.
    #[inline]
    pub fn thaw<S: Sink<B>>(&mut self, tables: &Tables, crt: &Crt, now: Now, sink: &mut S) {
        if self.held.frozen.is_due(crt) {
            let mut out = Out::new(&self.counters, sink, &mut self.budgets);
            let cx =
                Context { tables, handoffs: &self.handoffs, pools: &self.pools, crt, now, from: Port::Nic };
            deliver::thaw(&mut self.held, &cx, &mut out);
            out.finish();
        }
    }
}

impl Lanes {
    /// First stage: puts plain packets into their lanes. Returns how many packets there are of any kind.
    #[inline(never)]
    fn sort<const TAG: usize, B: PacketBuffer>(&mut self, burst: &[Option<B>], cx: &Context<'_>) -> u64 {
        self.v4.clear();
        self.v6.clear();
        let (mut received, gate, tag) = (0_u64, Gate::new(cx.from, cx.tables), Tag::new(cx.tables));
        burst.iter().take(AHEAD).flatten().for_each(B::prefetch);
        for (number, (place, lot)) in burst.iter().zip(&mut self.lots).enumerate() {
            if let Some(Some(later)) = burst.get(number.wrapping_add(AHEAD)) {
                later.prefetch();
            }
            *lot = Lot::General;
            let Some(packet) = place else { continue };
            received = received.wrapping_add(1);
            let Some(frame) = tag.behind::<TAG>(packet.bytes()) else { continue };
            let verified = packet.ipv4_checksum_is_right();
            if let Some(key) = parse::plain_v4(frame, gate, verified, cx.tables) {
                self.v4.push(key);
                *lot = Lot::PlainV4;
            } else if let Some(key) = parse::plain_v6(frame, gate, cx.tables) {
                self.v6.push(key);
                *lot = Lot::PlainV6;
            }
        }
        self.v4.hash(cx.crt);
        self.v6.hash(cx.crt);
        received
    }

    fn request(&self, crt: &Crt) {
        self.v4.request(crt);
        self.v6.request(crt);
    }

    /// Second stage, in two steps.
    fn read(&mut self, next: Option<&Self>, crt: &Crt) {
        self.v4.read(crt, next.map(|next| &next.v4));
        self.v6.read(crt, next.map(|next| &next.v6));
    }

    fn finish(&mut self, cx: &Context<'_>) {
        self.v4.finish(cx.crt, cx.now);
        self.v6.finish(cx.crt, cx.now);
    }

    /// The other stages, for each packet in the order of the burst.
    #[inline(always)]
    fn deliver<const TAG: usize, B: PacketBuffer, S: Sink<B>>(
        &self,
        burst: &mut [Option<B>],
        held: &mut Held<B>,
        cx: &Context<'_>,
        out: &mut Out<'_, S>,
    ) {
        let (mut v4, mut v6) = (self.v4.found(), self.v6.found());
        for (place, lot) in burst.iter_mut().zip(&self.lots) {
            let Some(packet) = place.take() else { continue };
            match lot {
                Lot::PlainV4 => {
                    if let Some(found) = v4.next() {
                        carry::<TAG, _, _, _>(packet, found, held, cx, out);
                    }
                }
                Lot::PlainV6 => {
                    if let Some(found) = v6.next() {
                        carry::<TAG, _, _, _>(packet, found, held, cx, out);
                    }
                }
                Lot::General => deliver::any(packet, held, cx, out),
            }
        }
    }
}

/// A plain packet with what the CRT knew of it when the burst began.
#[inline(always)]
fn carry<const TAG: usize, B: PacketBuffer, K: PlainKey, S: Sink<B>>(
    packet: B,
    (at, found): (Located<K>, Found),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    match found.established_tcp() {
        Some(owner) if cx.tables.reads_requests() => {
            established::<TAG, _, _, _>(packet, at.key(), owner, held, cx, out)
        }
        Some(owner) => send::<TAG, _, _, _>(packet, at.key(), (owner, Reason::Forwarded), held, cx, out),
        None => decide::<TAG, _, _, _>(packet, at, found, held, cx, out),
    }
}

/// [`carry`] of a packet of an established connection, where there are services with routes. One in which a request may begin is
/// delivered the general way.
#[inline(never)]
fn established<const TAG: usize, B: PacketBuffer, K: PlainKey, S: Sink<B>>(
    packet: B,
    key: K,
    owner: model::StackIndex,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let segment = key.segment::<TAG>(packet.bytes());
    if segment.is_some_and(|segment| follow::concerns(key.any(), segment, held, cx)) {
        return deliver::plain(packet, (key.any(), key.flow()), Fate::forward(owner), held, cx, out);
    }
    send::<TAG, _, _, _>(packet, key, (owner, Reason::Forwarded), held, cx, out);
}

/// [`carry`] of a packet that is UDP, or whose connection is not simply established.
#[inline(never)]
fn decide<const TAG: usize, B: PacketBuffer, K: PlainKey, S: Sink<B>>(
    packet: B,
    at: Located<K>,
    found: Found,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let key = at.key();
    let named = quic::plain::<TAG, _, _, _>(&packet, at, found, cx, out);
    let fate = match named.or_else(|| found.flow().filter(|owner| select::serves(*owner, key, cx))) {
        Some(owner) => Fate::forward(owner),
        None => {
            let (opens, udp) = (key.opens::<TAG>(packet.bytes()), key.is_udp());
            select::decide(at, found.entry(), (opens, udp), cx, out.budgets())
        }
    };
    match fate {
        Fate::Forward { to, counts: Reason::Forwarded } if cx.tables.reads_requests() && !key.is_udp() => {
            established::<TAG, _, _, _>(packet, key, to, held, cx, out);
        }
        Fate::Forward { to, counts } => send::<TAG, _, _, _>(packet, key, (to, counts), held, cx, out),
        fate => deliver::plain(packet, (key.any(), key.flow()), fate, held, cx, out),
    }
}

/// A plain packet whose owner is known. One that is too long for its carrier, also one that is carried by nothing, or to a
/// stack that is not heard of, is delivered the general way.
#[inline(always)]
fn send<const TAG: usize, B: PacketBuffer, K: PlainKey, S: Sink<B>>(
    mut packet: B,
    key: K,
    (to, counts): (model::StackIndex, Reason),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let (carrier, inner) = (cx.tables.carrier(to, K::FAMILY), key.inner::<TAG>(packet.bytes()));
    if inner.len > carrier.fast_inner {
        let fate = Fate::Forward { to, counts };
        return deliver::plain(packet, (key.any(), inner.hash), fate, held, cx, out);
    }
    match encapsulate(&mut packet, carrier, inner) {
        Ok(()) => out.forward(packet, (Pair::to(key.counted(), to), inner.len), counts, cx.tables),
        Err(reason) => out.end(packet, End::dropped(reason)),
    }
}

#[cfg(test)]
mod tests;
