//! Orphans: packets to a DVIPA that belong to no entry of the CRT. The stacks that may have the connection are asked for it
//! ([`ask`](super::ask)).
//!
//! The first packet of a connection is held, and a copy goes to one candidate: the one that consistent hashing names. If no
//! entry comes of it for [`Limits::ask_next_ms`], copies go to the others, some at each look. The stack that has the
//! connection takes the copy in and reports it; with the entry the held packets go the normal way. The first one is then
//! sent a second time, because its copy may have been lost; a receiver of TCP drops what it has. When the client sends again, or
//! nobody has reported for [`Limits::ask_wait_ms`], all are asked once more, because the copies may have been lost. If then nobody has
//! reported and all have [looked](crate::looks) for longer than the copies take, the connection is *unclaimed*: that is remembered for a
//! while, and its packets are refused. If not all could be asked, or have not looked within [`Limits::ask_ms`], or found no room in the
//! CRT, nothing is known, and its packets are dropped: the client repeats them.
//!
//! Everything is bounded, because a stranger can send as many orphans as the line takes: asks by a token bucket (each copy
//! is one), connections that are asked about and packets that are held by places taken at the start.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use model::dpt::Ask;

use super::bucket::Bucket;
use super::emit::{End, Out};
use super::ends::AnyKey;
use super::icmp_error::{self, Notice};
use super::whose::Read;
use super::{Context, Held, ask, deliver};
use crate::crt::KeyParts;
use crate::{Limits, Now, PacketBuffer, Port, Reason, Sink};

/// Packets of one connection that are held.
const HELD_OF_ONE: usize = 4;
/// Places that a connection may have.
const WAYS: usize = 8;
/// All places are looked at once in so many milliseconds.
const ROUND_MS: u64 = 8;
/// A client that sends again after this long, in milliseconds, has not been answered: Linux does so after 200 at the earliest.
const AGAIN_MS: u64 = 100;
/// A worker that has not looked for so long, in milliseconds, has stood still: what it sent may have left it only now.
const STOOD_STILL_MS: u64 = 150;
/// The most copies that one look sends for one connection.
const COPIES_A_LOOK: usize = 32;

/// A connection that is asked about.
#[derive(Debug)]
struct Question<B> {
    key: AnyKey,
    held: [Option<B>; HELD_OF_ONE],
    /// What of the first packet the copies need.
    read: Read,
    /// The port that its packets come from.
    from: Port,
    since: Now,
    /// When the last copy was sent.
    asked: Now,
    /// The number of the candidate that was asked first; the others follow in the order of their list, as in a ring.
    first: usize,
    /// How many were asked.
    count: usize,
    /// All were asked a second time.
    again: bool,
    /// One of them could not be.
    unasked: bool,
    /// How many reports had found no room in the CRT before.
    refused_full: u64,
}

/// A connection that nobody claimed.
#[derive(Clone, Copy, Debug, Default)]
struct Unclaimed {
    hash: u64,
    until: Now,
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// There is an entry: its packets are read again.
    Found,
    /// It is certain that nobody has the connection: that is remembered, and its packets are read again and refused.
    Nobody,
    /// Nobody can say.
    Unknown,
}

/// What asking may cost, and how long it takes.
#[derive(Debug)]
struct Pace {
    budget: Bucket,
    limits: Limits,
}

/// The connections that one worker asks about, and those that nobody claimed. Its memory is taken at the start.
#[derive(Debug)]
pub(super) struct Orphans<B> {
    questions: Box<[Option<Question<B>>]>,
    len: usize,
    /// Packets of all of them.
    packets: usize,
    /// The place to look at next.
    next: usize,
    looked: Now,
    /// When it looked after it had stood still.
    stood_still: Now,
    unclaimed: Box<[Unclaimed]>,
    hasher: RandomState,
    pace: Pace,
}

impl<B: PacketBuffer> Orphans<B> {
    pub(super) fn new(limits: Limits) -> Self {
        let places = limits.asks.next_multiple_of(WAYS).max(WAYS);
        Self {
            questions: (0..places).map(|_| None).collect(),
            len: 0,
            packets: 0,
            next: 0,
            looked: Now::default(),
            stood_still: Now::default(),
            unclaimed: vec![Unclaimed::default(); limits.unclaimed.max(1)].into(),
            hasher: RandomState::new(),
            pace: Pace { budget: Bucket::new(limits.asks_a_second), limits },
        }
    }

    /// Whether nothing is asked.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn unclaimed(&mut self, hash: u64) -> Option<&mut Unclaimed> {
        let at = hash.checked_rem(self.unclaimed.len() as u64)?;
        self.unclaimed.get_mut(at as usize)
    }

    fn is_unclaimed(&mut self, hash: u64, now: Now) -> bool {
        self.unclaimed(hash).is_some_and(|place| place.hash == hash && now < place.until)
    }

    fn remember(&mut self, key: AnyKey, now: Now) {
        let until = Now { ms: now.ms.saturating_add(self.pace.limits.unclaimed_ms) };
        let hash = self.hasher.hash_one(key);
        if let Some(place) = self.unclaimed(hash) {
            *place = Unclaimed { hash, until };
        }
    }

    /// How many places are to be looked at now.
    fn share(&mut self, now: Now) -> usize {
        let since_ms = now.ms.saturating_sub(self.looked.ms);
        if since_ms >= STOOD_STILL_MS {
            self.stood_still = now;
        }
        let passed_ms = since_ms.min(ROUND_MS) as usize;
        self.looked = now;
        self.questions.len().saturating_mul(passed_ms).div_ceil(ROUND_MS as usize)
    }

    /// Looks at a share of the questions; takes out the next one that is answered.
    fn look<S: Sink<B>>(
        &mut self,
        left: &mut usize,
        cx: &Context<'_>,
        out: &mut Out<'_, S>,
    ) -> Option<(Question<B>, Answer)> {
        while let Some(fewer) = left.checked_sub(1) {
            *left = fewer;
            self.next = self.next.saturating_add(1).checked_rem(self.questions.len()).unwrap_or(0);
            let Some(place) = self.questions.get_mut(self.next) else { continue };
            let Some(question) = place else { continue };
            let candidates = cx.tables.ask(KeyParts::from(question.key).dvipa);
            question.asked = question.asked.max(self.stood_still.min(cx.now));
            let Some(answer) = self.pace.answer(question, candidates, cx, out) else { continue };
            self.len = self.len.saturating_sub(1);
            self.packets = self.packets.saturating_sub(question.held.iter().flatten().count());
            return place.take().map(|question| (question, answer));
        }
        None
    }
}

/// The places of a connection.
fn places<B>(questions: &mut [Option<Question<B>>], hash: u64) -> &mut [Option<Question<B>>] {
    let groups = (questions.len() / WAYS) as u64;
    let group = (hash >> 32).checked_rem(groups).unwrap_or(0) as usize;
    questions.chunks_mut(WAYS).nth(group).unwrap_or_default()
}

impl Pace {
    /// Sends copies of a question's first packet to so many further candidates.
    fn ask<B: PacketBuffer, S: Sink<B>>(
        &mut self,
        question: &mut Question<B>,
        candidates: &Ask,
        most: usize,
        cx: &Context<'_>,
        out: &mut Out<'_, S>,
    ) {
        let Question { read, first, .. } = *question;
        let ring = candidates.candidates.iter().cycle().skip(first).take(candidates.candidates.len());
        let [Some(packet), ..] = &question.held else { return };
        for to in ring.skip(question.count).take(most) {
            if !self.budget.take(cx.now) {
                return;
            }
            question.unasked |= !ask::send(packet, &read.datagram, read.hash, *to, cx, out);
            question.count = question.count.saturating_add(1);
            question.asked = cx.now;
        }
    }

    /// The answer to a question, if there is one by now; asks further candidates otherwise.
    fn answer<B: PacketBuffer, S: Sink<B>>(
        &mut self,
        question: &mut Question<B>,
        candidates: &Ask,
        cx: &Context<'_>,
        out: &mut Out<'_, S>,
    ) -> Option<Answer> {
        let passed_ms = |since: Now| cx.now.ms.saturating_sub(since.ms);
        if question.key.get(cx).is_some() {
            return Some(Answer::Found);
        }
        if question.count < candidates.candidates.len() {
            if passed_ms(question.since) >= self.limits.ask_ms {
                return Some(Answer::Unknown);
            }
            if passed_ms(question.since) >= self.limits.ask_next_ms {
                self.ask(question, candidates, COPIES_A_LOOK, cx, out);
            }
            return None;
        }
        if passed_ms(question.asked) < self.limits.ask_wait_ms {
            return None;
        }
        if !candidates.certain || question.unasked || question.refused_full != cx.crt.refused_full() {
            return Some(Answer::Unknown);
        }
        if !question.again {
            (question.again, question.count) = (true, 0);
            self.ask(question, candidates, COPIES_A_LOOK, cx, out);
            return None;
        }
        let looks = &cx.tables.node().looks;
        let arrived = Now { ms: question.asked.ms.saturating_add(self.limits.ask_wait_ms) };
        if candidates.candidates.iter().all(|stack| looks.cover(*stack, question.asked, arrived)) {
            // In this order: an entry that was made before they had looked is found.
            let is_known = question.key.get(cx).is_some();
            return Some(if is_known { Answer::Found } else { Answer::Nobody });
        }
        looks.want();
        (passed_ms(question.asked) >= self.limits.ask_ms).then_some(Answer::Unknown)
    }
}

/// Asks who has the connection of a packet, or does what is known of it by now.
pub(super) fn ask<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    read: &Read,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let d = &read.datagram;
    let Some(key) = read.key.filter(|_| d.fragment.is_none()) else {
        return out.end(packet, End::dropped(Reason::NoConnection));
    };
    if d.hops <= 1 {
        let (notice, otherwise) = (Notice::TimeExceeded, Reason::HopLimit);
        let end = icmp_error::answer(&mut packet, d, notice, otherwise, cx, out.answers());
        return out.end(packet, end);
    }
    let orphans = &mut held.orphans;
    let hash = orphans.hasher.hash_one(key);
    if orphans.is_unclaimed(hash, cx.now) {
        return deliver::refuse(packet, read, Reason::Unclaimed, cx, out);
    }
    if orphans.is_empty() {
        // Nobody has looked meanwhile.
        orphans.looked = cx.now;
    }
    let parts = KeyParts::from(key);
    let full = orphans.packets >= orphans.pace.limits.ask_held;
    let known =
        places(&mut orphans.questions, hash).iter_mut().flatten().find(|question| question.key == key);
    if let Some(question) = known {
        let place = question.held.iter_mut().find(|place| place.is_none()).filter(|_| !full);
        let Some(place) = place else { return out.end(packet, End::dropped(Reason::AskNoRoom)) };
        *place = Some(packet);
        let is_late = cx.now.ms.saturating_sub(question.asked.ms) >= AGAIN_MS;
        if is_late && !question.again && question.count >= cx.tables.ask(parts.dvipa).candidates.len() {
            (question.again, question.count) = (true, 0);
        }
        orphans.packets = orphans.packets.saturating_add(1);
        return out.note(Reason::AskHeld, 1);
    }
    let candidates = cx.tables.ask(parts.dvipa);
    if candidates.candidates.is_empty() {
        return match candidates.certain {
            true => deliver::refuse(packet, read, Reason::Unclaimed, cx, out),
            false => out.end(packet, End::dropped(Reason::AskUnanswered)),
        };
    }
    let first = cx.tables.first_asked(parts, cx.now).unwrap_or((hash >> 16) as usize);
    let mut question = Question {
        key,
        held: [Some(packet), None, None, None],
        read: *read,
        from: cx.from,
        since: cx.now,
        asked: cx.now,
        first: first.checked_rem(candidates.candidates.len()).unwrap_or(0),
        count: 0,
        again: false,
        unasked: false,
        refused_full: cx.crt.refused_full(),
    };
    let places = places(&mut orphans.questions, hash);
    let place = places.iter_mut().find(|place| place.is_none()).filter(|_| !full);
    if place.is_some() {
        orphans.pace.ask(&mut question, candidates, 1, cx, out);
    }
    match place {
        Some(place) if question.count > 0 => {
            *place = Some(question);
            orphans.len = orphans.len.saturating_add(1);
            orphans.packets = orphans.packets.saturating_add(1);
            out.note(Reason::AskHeld, 1);
        }
        _ => {
            let [packet, ..] = question.held;
            if let Some(packet) = packet {
                out.end(packet, End::dropped(Reason::AskLimited));
            }
        }
    }
}

/// Looks at a share of the questions: asks on, and delivers the packets of those that are answered. To be called every
/// millisecond or so.
pub(super) fn look<B: PacketBuffer, S: Sink<B>>(held: &mut Held<B>, cx: &Context<'_>, out: &mut Out<'_, S>) {
    if held.orphans.is_empty() {
        return;
    }
    let mut left = held.orphans.share(cx.now);
    while let Some((question, answer)) = held.orphans.look(&mut left, cx, out) {
        if answer == Answer::Nobody {
            held.orphans.remember(question.key, cx.now);
        }
        let cx = Context { from: question.from, ..*cx };
        for packet in question.held.into_iter().flatten() {
            match answer {
                Answer::Found | Answer::Nobody => deliver::any(packet, held, &cx, out),
                Answer::Unknown => out.end(packet, End::dropped(Reason::AskUnanswered)),
            }
        }
    }
}
