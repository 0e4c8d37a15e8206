//! First requests that are handed over in more than one packet, and what becomes of those that wait for too long.
//!
//! Of a request whose bytes this node has acknowledged copies are kept, because the client will not repeat them: they are sent again
//! until the client acknowledges what the target has answered, or the time is over.

use super::emit::{End, Out};
use super::ends::At;
use super::handing::Handing;
use super::requests::{Due, Request, Segment};
use super::transact::carry;
use super::{Context, Held, ask, deliver, encapsulate, handoff};
use crate::crt::{CrtState, Entry};
use crate::{PacketBuffer, Port, Reason, Sink, Verdict};

/// Sends all segments of a request to its target; keeps copies if the client will not repeat them.
pub(super) fn hand_over<B: PacketBuffer, S: Sink<B>>(
    mut request: Request<B>,
    handing: &Handing,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let mut kept = Request::new(request.about, cx.now);
    kept.handed = Some(cx.now);
    for (place, copy) in request.segments.iter_mut().zip(&mut kept.segments) {
        let Some(segment) = place.take() else { continue };
        if request.acknowledged > 0
            && let Some(packet) = copied(&segment, out)
        {
            *copy = Some(segment.with(packet));
        }
        carry(segment.packet, &segment.read, handing, &Context { from: segment.from, ..*cx }, out);
    }
    if request.acknowledged > 0 {
        let gone = match held.requests.put(kept, cx.now) {
            Ok(former) => former,
            Err(kept) => Some(kept),
        };
        gone.into_iter().for_each(|gone| discard(gone, out));
    }
}

/// A copy of a segment, if there is a buffer for it.
fn copied<B: PacketBuffer, S: Sink<B>>(segment: &Segment<B>, out: &mut Out<'_, S>) -> Option<B> {
    let mut copy = out.spare()?;
    match ask::copied(&segment.packet, &segment.read.datagram, &mut copy) {
        Some(()) => Some(copy),
        None => {
            out.made(copy, Verdict::Drop(Reason::NoBuffer));
            None
        }
    }
}

/// Copies are not needed any more.
pub(super) fn drop_copies<B: PacketBuffer, S: Sink<B>>(at: At, held: &mut Held<B>, out: &mut Out<'_, S>) {
    if held.requests.get(at).is_some_and(|request| request.handed.is_some()) {
        held.requests.take(at).into_iter().for_each(|request| discard(request, out));
    }
}

/// Gives copies back.
fn discard<B: PacketBuffer, S: Sink<B>>(request: Request<B>, out: &mut Out<'_, S>) {
    let copies = request.segments.into_iter().flatten();
    copies.for_each(|copy| out.made(copy.packet, Verdict::Drop(Reason::RequestRepeated)));
}

/// Gives up requests that were not whole in time, and sends what was acknowledged again. To be called every millisecond or so.
pub(super) fn look<B: PacketBuffer, S: Sink<B>>(held: &mut Held<B>, cx: &Context<'_>, out: &mut Out<'_, S>) {
    if held.requests.is_empty() {
        return;
    }
    let mut left = held.requests.share(cx.now);
    while let Some(due) = held.requests.due(&mut left, cx.now) {
        match due {
            Due::Over(request) if request.handed.is_some() => discard(request, out),
            Due::Over(mut request) => {
                let first = request.segments.first_mut().and_then(Option::take);
                let others = request.segments.into_iter().flatten();
                others.for_each(|segment| out.end(segment.packet, End::dropped(Reason::RequestSlow)));
                if let Some(first) = first {
                    let cx = Context { from: first.from, ..*cx };
                    deliver::refuse(first.packet, &first.read, Reason::RequestUnfinished, &cx, out);
                }
            }
            Due::Repeat(at) => repeat(at, held, cx, out),
        }
    }
}

/// Sends copies of a request that was acknowledged, with the option as long as there is one.
fn repeat<B: PacketBuffer, S: Sink<B>>(at: At, held: &mut Held<B>, cx: &Context<'_>, out: &mut Out<'_, S>) {
    let Some(Entry { owner, state }) = at.key.get(cx) else { return };
    let handing = held.handings.get(at).filter(|handing| handing.to == owner);
    let Some(request) = held.requests.get(at) else { return };
    for segment in request.segments.iter().flatten() {
        let Some(mut copy) = copied(segment, out) else { return };
        let d = &segment.read.datagram;
        let sent = match (state, handing) {
            (CrtState::HalfOpen, Some(handing)) => {
                handoff::put(&mut copy, d, segment.read.hash, (owner, &handing.option), cx.tables).is_ok()
            }
            (CrtState::Established, _) => {
                let inner = d.inner(segment.read.hash);
                encapsulate::encapsulate(&mut copy, cx.tables.carrier(owner, d.family), inner).is_ok()
            }
            _ => false,
        };
        if sent {
            out.note(Reason::RequestRepeated, 1);
        }
        let verdict = if sent { Verdict::Send(Port::Nic) } else { Verdict::Drop(Reason::RequestRepeated) };
        out.made(copy, verdict);
    }
}
