//! Answers clients of a service with routes, reads their first request, and hands the connection over with it.
//!
//! In: a TCP packet of a connection that no stack has for certain. What becomes of it:
//!
//! | packet | |
//! | --- | --- |
//! | SYN | answered with a cookie, and forgotten |
//! | ACK of the cookie, without data | forgotten |
//! | a probe of the client's, FIN before the request | answered |
//! | a whole request | its route names a target, to which it goes with the handoff option and a token |
//! | a part of a request | waits for the rest ([`requests`]) |
//! | a request that no route takes, or that can't be read | answered with a refusal |
//! | a packet of a connection that is handed over ([`handing`]) | goes to the target with the option, until the client acknowledges what the target sent; then its next requests are looked for ([`follow`]) |
//! | anything else | what is done elsewhere: to the stack that had it, or stacks are asked |
//!
//! Touches for a request: the bytes, the route's targets, one token, the CRT entry that it makes, which is half-open until the
//! target's report.

use model::StackIndex;
use model::handoff::{HandoffOption, TimestampUnit};
use routes::{Framing, Pin};

use super::datagram::Datagram;
use super::emit::{End, Out};
use super::ends::At;
use super::follow::Way;
use super::handing::Handing;
use super::parts::{drop_copies, hand_over};
use super::requests::{About, Added, REQUEST_BYTES, Request, Segment};
use super::seen::Seen;
use super::whose::Read;
use super::{Context, Held, deliver, follow, handoff, icmp_error, orphans};
use crate::crt::{CrtState, Entry, KeyParts};
use crate::packet::frame::{self, Bytes, Ip, Link};
use crate::packet::transport::flags;
use crate::packet::{Ports, Tcp, protocol};
use crate::tables::{Family, Routed};
use crate::traffic::What;
use crate::transactions::Agreed;
use crate::transactions::cookie::{self, Secret};
use crate::transactions::segments::{Back, Standing};
use crate::{PacketBuffer, Port, Reason, Sink, Verdict};

/// Bytes of IP and TCP header without options.
const HEADER_BYTES: (u16, u16) = (40, 60);
/// A client's segment is of the connection that is handed over if it begins within so many bytes of the request's start.
const NEAR: u32 = 1 << 24;

/// Where a segment stands, by the cookie that it repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the request's start.
    Start,
    /// One before it: the client asks whether this node is there (RFC 9293 3.8.4).
    Probe,
    /// Behind the ends of both sides.
    Closed,
}

fn place(seen: Seen, secret: Secret, cx: &Context<'_>) -> Option<(Place, Agreed)> {
    let (sequence, acknowledged) = (seen.tcp.sequence, seen.tcp.acknowledgment);
    let of = KeyParts::from(seen.at.key);
    let check = |client_first, first| cookie::check(secret, of, (client_first, first), seen.echo(), cx.now);
    let at = |back: u32, sent: u32| check(sequence.wrapping_sub(back), acknowledged.wrapping_sub(sent));
    let start = at(1, 1).map(|agreed| (Place::Start, agreed));
    let start = start.or_else(|| at(0, 1).filter(|_| seen.len() <= 1).map(|agreed| (Place::Probe, agreed)));
    start.or_else(|| at(2, 2).filter(|_| seen.len() == 0).map(|agreed| (Place::Closed, agreed)))
}

/// See the module.
#[inline(never)]
pub(super) fn transact<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    (read, entry): (&Read, Option<Entry>),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let seen = match Seen::read(packet.bytes(), read, cx) {
        Ok(seen) => seen,
        Err(reason) => return out.end(packet, End::dropped(reason)),
    };
    let parts = KeyParts::from(seen.at.key);
    let service = cx.tables.service(parts.dvipa, parts.dvipa_port, parts.protocol);
    let Some(routed) = service.and_then(|service| service.routed()) else {
        return out.end(packet, End::dropped(Reason::NotDistributed));
    };
    if let Some(Entry { owner, state: CrtState::Established }) = entry {
        // An earlier packet of the same burst has made it so.
        return follow::follow(packet, read, Way::Plain(owner), held, cx, out);
    }
    if seen.tcp.opens() {
        return accept(packet, read, seen, held.secret, cx, out);
    }
    if let Some(handing) = handed(seen, entry, held) {
        return goes_on(packet, read, (seen, handing), held, cx, out);
    }
    if seen.has(flags::RST) {
        return reset(packet, seen, held, out);
    }
    if !seen.has(flags::ACK) || seen.has(flags::SYN) {
        return out.end(packet, End::dropped(Reason::NoConnection));
    }
    let waits = held.requests.get(seen.at).map(|request| (request.about, request.handed.is_some()));
    if let Some((about, false)) = waits.filter(|(about, _)| about.sent == seen.tcp.acknowledgment) {
        return more(packet, read, (seen, about), routed, held, cx, out);
    }
    match place(seen, held.secret, cx) {
        Some((Place::Start, agreed)) => {
            let about =
                About { at: seen.at, agreed, start: seen.tcp.sequence, sent: seen.tcp.acknowledgment };
            first(packet, read, (seen, about), (routed, entry), held, cx, out);
        }
        Some((Place::Probe, agreed)) => {
            let standing = (seen.tcp.acknowledgment, seen.tcp.sequence.wrapping_add(1));
            let said = Standing::new(standing, seen.options, agreed);
            say(packet, read, (said, 0, &[]), Reason::AnsweredSegment, cx, out);
        }
        Some((Place::Closed, _)) => out.end(packet, End::dropped(Reason::Handshake)),
        None => stranger(packet, read, (seen, entry), held, cx, out),
    }
}

/// What is known of a connection that is being handed over, if the segment is of it.
fn handed<B: PacketBuffer>(seen: Seen, entry: Option<Entry>, held: &mut Held<B>) -> Option<Handing> {
    let owner = entry.filter(|entry| entry.state == CrtState::HalfOpen)?.owner;
    let handing = held.handings.get(seen.at).filter(|handing| handing.to == owner)?;
    // Also the probe one before the start.
    let at = seen.tcp.sequence.wrapping_sub(handing.start).wrapping_add(1);
    (at < NEAR).then_some(handing)
}

/// A packet of a connection that is handed over.
fn goes_on<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    (seen, handing): (Seen, Handing),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let beyond = seen.tcp.acknowledgment.wrapping_sub(handing.sent);
    if seen.has(flags::ACK) && beyond > 0 && beyond < NEAR {
        // Only the target can have sent that.
        if seen.at.key.promote(handing.to, cx) {
            held.handings.end(seen.at);
            drop_copies(seen.at, held, out);
        }
        return follow::follow(packet, read, Way::Plain(handing.to), held, cx, out);
    }
    if follow::is_beyond(seen, held) {
        // Nothing was answered yet.
        follow::pin(seen.at, held, out);
    }
    carry(packet, read, &handing, cx, out);
}

/// Answers a SYN.
fn accept<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    seen: Seen,
    secret: Secret,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let (first, of) = (seen.tcp.sequence, KeyParts::from(seen.at.key));
    let offer = cookie::offer(secret, of, (first, seen.tcp.flags), seen.options, cx.now);
    let mss = mss(read.datagram.family, cx);
    let answer = back(&packet, &read.datagram, seen.tcp, cx).accept(first, seen.options, offer, mss);
    send_back(packet, &answer, &[], Reason::AnsweredSyn, cx, out);
}

/// The largest segment of a client that can be carried to any stack with the handoff option.
fn mss(family: Family, cx: &Context<'_>) -> u16 {
    let (v4, v6) = HEADER_BYTES;
    let headers = if family == Family::V4 { v4 } else { v6 };
    let fits = cx.tables.node().fabric_mtu.saturating_sub(crate::tables::carrier::LONGEST_HANDOFF);
    fits.saturating_sub(headers)
}

/// The first segment behind the handshake.
fn first<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    (seen, about): (Seen, About),
    (routed, entry): (&Routed, Option<Entry>),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    if seen.len() == 0 {
        if !seen.has(flags::FIN) {
            // The handshake is complete; the request will say everything again.
            return out.end(packet, End::dropped(Reason::Handshake));
        }
        let standing = (about.sent, about.start.wrapping_add(1));
        let said = Standing::new(standing, seen.options, about.agreed);
        return say(packet, read, (said, flags::FIN, &[]), Reason::AnsweredSegment, cx, out);
    }
    // They come while the request is read.
    held.handings.prefetch(about.at);
    held.followed.prefetch(about.at);
    let bytes = packet.bytes().get(seen.data.0..seen.data.1).unwrap_or_default();
    match routed.routes.read(bytes) {
        routes::Read::Whole(decision) => {
            let Some(handing) = select(about, decision.route, (routed, entry), held, cx) else {
                return refuse(
                    packet,
                    read,
                    (seen, about, seen.len()),
                    routes::Refusal::Unavailable,
                    routed,
                    cx,
                    out,
                );
            };
            match handing {
                Ok(handing) => {
                    routed.count(decision.route);
                    let framing = certain(decision.framing, seen.has(flags::URG));
                    follow::begin((about.at, about.start), (framing, seen.len()), held, cx, out);
                    carry(packet, read, &handing, cx, out);
                }
                Err(reason) => deliver::dropped(packet, read, reason, cx, out),
            }
        }
        routes::Read::Refused(refusal) => {
            refuse(packet, read, (seen, about, seen.len()), refusal, routed, cx, out);
        }
        routes::Read::NeedsMore if seen.has(flags::FIN) => {
            deliver::refuse(packet, read, Reason::RequestUnfinished, cx, out);
        }
        routes::Read::NeedsMore => {
            let mut request = Request::new(about, cx.now);
            request.urgent = seen.has(flags::URG);
            if let Some(place) = request.segments.first_mut() {
                *place = Some(Segment { packet, read: *read, from: cx.from, offset: 0, data: seen.data });
            }
            let (gone, why) = match held.requests.put(request, cx.now) {
                Ok(former) => {
                    out.note(Reason::RequestHeld, 1);
                    (former, Reason::RequestSlow)
                }
                Err(request) => (Some(request), Reason::RequestNoRoom),
            };
            for segment in gone.into_iter().flat_map(|request| request.segments).flatten() {
                out.end(segment.packet, End::dropped(why));
            }
        }
    }
}

/// Where a request ends; with urgent data in it that is in doubt.
fn certain(framing: Framing, urgent: bool) -> Framing {
    if urgent { Framing::Pinned(Pin::Doubtful) } else { framing }
}

/// Another segment of a request that waits.
fn more<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    (seen, about): (Seen, About),
    routed: &Routed,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let offset = seen.tcp.sequence.wrapping_sub(about.start);
    if seen.len() == 0 || offset > REQUEST_BYTES as u32 {
        return beside(packet, read, (seen, about), held, cx, out);
    }
    let segment = Segment { packet, read: *read, from: cx.from, offset: offset as usize, data: seen.data };
    let at = about.at;
    let back = back(&segment.packet, &read.datagram, seen.tcp, cx);
    let mut repeated = None;
    match held.requests.add(at, segment, cx.now) {
        Added::Waits => {
            out.note(Reason::RequestHeld, 1);
            if let Some(request) = held.requests.get(at).filter(|_| seen.has(flags::URG)) {
                request.urgent = true;
            }
        }
        Added::Repeated(segment) => repeated = Some(segment.packet),
        Added::NoRoom(segment) if segment.is_too_far() => {
            let whole = held.requests.bytes(at).len();
            give_up(at, Reason::RequestNoRoom, held, out);
            let refusal = routes::Refusal::TooLarge;
            return refuse(segment.packet, read, (seen, about, whole), refusal, routed, cx, out);
        }
        Added::NoRoom(segment) => return out.end(segment.packet, End::dropped(Reason::RequestNoRoom)),
    }
    let bytes = held.requests.bytes(at);
    let (said, whole) = (routed.routes.read(bytes), bytes.len());
    let refusal = match said {
        routes::Read::NeedsMore => {
            let Some(packet) = repeated else {
                return go_on((seen, about, whole), &back, held, cx, out);
            };
            if let Some(request) = held.requests.get(at) {
                request.acknowledged = whole;
            }
            let expected = about.start.wrapping_add(whole as u32);
            let said = Standing::new((about.sent, expected), seen.options, about.agreed);
            return say(packet, read, (said, 0, &[]), Reason::AnsweredSegment, cx, out);
        }
        routes::Read::Whole(decision) => {
            match select(about, decision.route, (routed, at.key.get(cx)), held, cx) {
                Some(Ok(handing)) => {
                    routed.count(decision.route);
                    let request = held.requests.take(at);
                    let framing = certain(decision.framing, request.as_ref().is_some_and(|r| r.urgent));
                    follow::begin((at, about.start), (framing, whole), held, cx, out);
                    request.into_iter().for_each(|request| hand_over(request, &handing, held, cx, out));
                    return repeated.into_iter().for_each(|packet| carry(packet, read, &handing, cx, out));
                }
                Some(Err(reason)) => {
                    // As if it had not come: the client repeats it, because it is not acknowledged.
                    let packet = repeated.or_else(|| held.requests.take_back(at, offset as usize));
                    return packet
                        .into_iter()
                        .for_each(|packet| deliver::dropped(packet, read, reason, cx, out));
                }
                None => routes::Refusal::Unavailable,
            }
        }
        routes::Read::Refused(refusal) => refusal,
    };
    repeated.into_iter().for_each(|packet| out.end(packet, End::dropped(Reason::RequestRefused)));
    refuse_waiting((seen, about, whole), refusal, routed, held, cx, out);
}

/// Acknowledges more of a request of which some was acknowledged: the client has to hear of each segment from then on.
fn go_on<B: PacketBuffer, S: Sink<B>>(
    (seen, about, whole): (Seen, About, usize),
    back: &Back,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let Some(request) = held.requests.get(about.at).filter(|request| request.acknowledged > 0) else {
        return;
    };
    request.acknowledged = whole;
    let Some(mut packet) = out.spare() else { return };
    let expected = about.start.wrapping_add(whole as u32);
    let said = back.say(Standing::new((about.sent, expected), seen.options, about.agreed), 0, &[]);
    let made = frame::replace(&mut packet, &said);
    out.made(packet, made.map_or(Verdict::Drop(Reason::NoBuffer), |()| Verdict::Send(cx.from)));
}

/// A packet of a client whose request waits that is no part of it.
fn beside<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    (seen, about): (Seen, About),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let probes = seen.tcp.sequence.wrapping_add(1) == about.start;
    if seen.has(flags::FIN) {
        // The request will never be whole.
        give_up(about.at, Reason::RequestCut, held, out);
        return deliver::refuse(packet, read, Reason::RequestUnfinished, cx, out);
    }
    if !probes {
        return out.end(packet, End::dropped(Reason::Handshake));
    }
    let whole = held.requests.get(about.at).map_or(0, |request| request.acknowledged);
    let standing = (about.sent, about.start.wrapping_add(whole as u32));
    let said = Standing::new(standing, seen.options, about.agreed);
    say(packet, read, (said, 0, &[]), Reason::AnsweredSegment, cx, out);
}

/// The target of a request, and all that its packets need to go there. `None`: none of the route's targets takes it.
fn select<B: PacketBuffer>(
    about: About,
    route: routes::RouteId,
    (routed, entry): (&Routed, Option<Entry>),
    held: &mut Held<B>,
    cx: &Context<'_>,
) -> Option<Result<Handing, Reason>> {
    let client = KeyParts::from(about.at.key).client;
    let to = match entry {
        // It may have the connection already.
        Some(Entry { owner, state: CrtState::HalfOpen }) => owner,
        // One that was tried is none that has it: its entry is gone.
        Some(_) | None => {
            let tried = held.handings.get(about.at).map(|handing| handing.to);
            let pick = routed.pick(route, client, tried, (cx.crt, cx.now))?;
            // One that has given out no tokens can't take any.
            let is_bare = cx.pools.get(pick).is_none_or(|pool| pool.is_empty());
            let pick = if is_bare { routed.pick(route, client, Some(pick), (cx.crt, cx.now))? } else { pick };
            // Here the cookie has shown that the client's address is its own. One that was tried has begun.
            if let (None, Err(reason)) = (tried, admit(about.at, cx)) {
                return Some(Err(reason));
            }
            pick
        }
    };
    Some(hand(about, to, held, cx))
}

/// Whether a connection may begin now.
fn admit(at: At, cx: &Context<'_>) -> Result<(), Reason> {
    let KeyParts { client, dvipa, dvipa_port, protocol } = at.key.into();
    cx.tables
        .service(dvipa, dvipa_port, protocol)
        .map_or(Ok(()), |service| service.admit(client.ip(), cx.now))
}

fn hand<B: PacketBuffer>(
    about: About,
    to: StackIndex,
    held: &mut Held<B>,
    cx: &Context<'_>,
) -> Result<Handing, Reason> {
    let token = cx.pools.take(to).ok_or(Reason::HandoffNoToken)?;
    let entry = about.at.key.insert(to, cx)?;
    if entry != (Entry { owner: to, state: CrtState::HalfOpen }) {
        return Err(Reason::HandoffUnknown);
    }
    let Agreed { mss, scales, sack, timestamps, ecn } = about.agreed;
    let (start, sent) = (about.start, about.sent);
    let timestamps = timestamps.then_some(TimestampUnit::Millisecond);
    let option = HandoffOption { token, start, sent, mss, scales, sack, timestamps, ecn }.encode();
    Ok(held.handings.begin(about.at, (to, option), (start, sent), cx.now))
}

/// Sends a packet with the option.
pub(super) fn carry<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    read: &Read,
    handing: &Handing,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let end = match handoff::put(
        &mut packet,
        &read.datagram,
        read.hash,
        (handing.to, &handing.option),
        cx.tables,
    ) {
        Ok(()) => {
            deliver::sent(read, (handing.to, Reason::ForwardedHandoff), cx, out);
            End::sent(Port::Nic, Reason::ForwardedHandoff)
        }
        Err(handoff::Unsent::TooLong { mtu }) => {
            let notice = icmp_error::Notice::TooBig { mtu };
            let otherwise = Reason::TooBigUnfragmented;
            icmp_error::answer(&mut packet, &read.datagram, notice, otherwise, cx, out.answers())
        }
        Err(handoff::Unsent::Reason(reason)) => End::dropped(reason),
    };
    out.end(packet, end);
}

/// Tells a client why its request is not served, in its protocol, and that nothing follows. Nothing is kept: if the client does not
/// hear it, it sends its request again.
fn refuse<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    (seen, about, whole): (Seen, About, usize),
    refusal: routes::Refusal,
    routed: &Routed,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    out.tally(read.pair(What::Refused), read.datagram.len, cx.tables);
    let request = packet.bytes().get(seen.data.0..seen.data.1).unwrap_or_default();
    let data = routed.routes.answer(refusal, request);
    let fin = u32::from(seen.has(flags::FIN));
    let expected = about.start.wrapping_add(whole as u32).wrapping_add(fin);
    let said = Standing::new((about.sent, expected), seen.options, about.agreed);
    say(packet, read, (said, flags::PSH | flags::FIN, data), Reason::RefusedRequest, cx, out);
}

/// [`refuse`], of a request that waits.
fn refuse_waiting<B: PacketBuffer, S: Sink<B>>(
    (seen, about, whole): (Seen, About, usize),
    refusal: routes::Refusal,
    routed: &Routed,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let Some(mut request) = held.requests.take(about.at) else { return };
    // In the place of its first segment, of whose request it is about.
    let first = request.segments.first_mut().and_then(Option::take);
    request
        .segments
        .into_iter()
        .flatten()
        .for_each(|s| out.end(s.packet, End::dropped(Reason::RequestRefused)));
    if let Some(first) = first {
        let (seen, cx) = (Seen { data: first.data, ..seen }, Context { from: first.from, ..*cx });
        refuse(first.packet, &first.read, (seen, about, whole), refusal, routed, &cx, out);
    }
}

/// A RST of the client's: its request is not wanted any more, if the number is right (RFC 5961 3.2).
fn reset<B: PacketBuffer, S: Sink<B>>(packet: B, seen: Seen, held: &mut Held<B>, out: &mut Out<'_, S>) {
    let about = held.requests.get(seen.at).map(|request| (request.about, request.acknowledged));
    if let Some((about, acknowledged)) = about
        && seen.tcp.sequence == about.start.wrapping_add(acknowledged as u32)
    {
        give_up(seen.at, Reason::RequestCut, held, out);
    }
    out.end(packet, End::dropped(Reason::NoConnection));
}

/// A packet of a connection that this node has not begun, as far as its numbers say.
fn stranger<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    (seen, entry): (Seen, Option<Entry>),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    match entry {
        Some(Entry { owner, state: CrtState::Closing }) => {
            deliver::forward(packet, read, (owner, Reason::Forwarded), cx, out);
        }
        // Another worker, or this one before others needed the place, knows the option.
        Some(_) => out.end(packet, End::dropped(Reason::HandoffUnknown)),
        // It may be ahead of the one that tells where the request begins.
        None if seen.len() > 0 && !held.requests.is_stray_again(seen.at, cx.now) => {
            out.end(packet, End::dropped(Reason::RequestEarly));
        }
        None => orphans::ask(packet, read, held, cx, out),
    }
}

/// Nothing waits any more of this request.
fn give_up<B: PacketBuffer, S: Sink<B>>(at: At, why: Reason, held: &mut Held<B>, out: &mut Out<'_, S>) {
    let request = held.requests.take(at);
    let segments = request.into_iter().flat_map(|request| request.segments).flatten();
    segments.for_each(|segment| out.end(segment.packet, End::dropped(why)));
}

fn back<B: PacketBuffer>(packet: &B, d: &Datagram, tcp: Tcp, cx: &Context<'_>) -> Back {
    Back {
        link: Link::back(packet.bytes(), d.ethernet, cx.tables.node().mac),
        ip: Ip::new(d.address, d.source, protocol::TCP),
        ports: Ports { source: tcp.ports.destination, destination: tcp.ports.source },
    }
}

/// Answers a segment.
fn say<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    (standing, besides, data): (Standing, u8, &[u8]),
    counts: Reason,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let Ok(tcp) = Tcp::parse(read.datagram.payload(packet.bytes())) else {
        return out.end(packet, End::dropped(Reason::BadHeader));
    };
    let answer = back(&packet, &read.datagram, tcp, cx).say(standing, besides, data);
    send_back(packet, &answer, data, counts, cx, out);
}

fn send_back<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    headers: &Bytes,
    data: &[u8],
    counts: Reason,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let made = frame::replace(&mut packet, headers).and_then(|()| {
        let behind = packet.bytes().len();
        if !data.is_empty() && !packet.extend(data.len()) {
            return None;
        }
        crate::packet::copy(packet.bytes_mut().get_mut(behind..)?, data)
    });
    let end = if made.is_some() { End::sent(cx.from, counts) } else { End::dropped(Reason::NoHeadroom) };
    out.end(packet, end);
}
