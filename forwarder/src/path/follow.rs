//! Follows clients of a service with routes from one HTTP request to the next, and selects for each anew.
//!
//! In: a packet of an established connection. Where its next request begins is known by sequence numbers
//! ([`boundary`](crate::transactions::boundary)); what becomes of the packet:
//!
//! | packet | |
//! | --- | --- |
//! | no bytes, or bytes of the request that is under way | to the target |
//! | the next request, whose route goes to the target that has the connection | there |
//! | the next request, for another target | waits ([`elsewhere`](super::elsewhere)), and the control thread is asked to move the connection |
//! | bytes behind a request that waits | wait too |
//! | bytes that begin in the next request, whose beginning has not come | dropped; if they come again, as the next line says |
//! | a next request whose TCP checksum is wrong | dropped |
//! | urgent data; bytes of two requests; a head that is not whole or not beyond doubt | to the target, and the connection is followed no more |
//!
//! Requests that the client sends before the last one is answered go on in their order: the agent of a target that still owes an answer
//! does not give the connection up before.
//!
//! Touches for a packet with bytes: what is known of its connection; for a request also the bytes and the route's targets.

use model::{Protocol, StackIndex};
use routes::{Decision, Framing, Pin};

use super::elsewhere::Waited;
use super::emit::{End, Out};
use super::encapsulate::encapsulate;
use super::ends::At;
use super::followed::Following;
use super::seen::Seen;
use super::whose::Read;
use super::{AnyKey, Context, Held, ask, deliver};
use crate::crt::KeyParts;
use crate::packet::frame::Ip;
use crate::packet::protocol;
use crate::packet::transport::flags;
use crate::reselecting::Reselected;
use crate::tables::Routed;
use crate::tables::carrier::{Carrier, Form};
use crate::transactions::boundary::{Boundary, Part, Unknown};
use crate::{PacketBuffer, Port, Reason, Sink, Verdict};

/// Bytes whose beginning has not come are the client's repetition after so many milliseconds.
const AGAIN_MS: u64 = 100;

/// Who has a connection, and how its packets go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As they are.
    Plain(StackIndex),
    /// With the handoff option: it has come there a moment ago.
    WithOption(StackIndex),
}

impl Way {
    fn to(self) -> StackIndex {
        match self {
            Way::Plain(to) | Way::WithOption(to) => to,
        }
    }

    fn send<B: PacketBuffer, S: Sink<B>>(
        self,
        packet: B,
        read: &Read,
        cx: &Context<'_>,
        out: &mut Out<'_, S>,
    ) {
        match self {
            Way::Plain(to) => deliver::forward(packet, read, (to, Reason::Forwarded), cx, out),
            Way::WithOption(to) => deliver::hand_over(packet, read, to, cx, out),
        }
    }

    /// As [`send`](Way::send), of a packet that was made here.
    fn put<B: PacketBuffer>(self, packet: &mut B, read: &Read, cx: &Context<'_>) -> Verdict {
        let (d, inner) = (&read.datagram, read.datagram.inner(read.hash));
        let put = match (self, read.key) {
            (Way::Plain(to), _) => match cx.tables.carrier(to, d.family) {
                Carrier { form: Form::Local, .. } => return Verdict::Send(Port::Local),
                carrier => encapsulate(packet, carrier, inner),
            },
            (Way::WithOption(to), Some(key)) => cx.handoffs.carry(packet, key, to, inner, cx.tables),
            (Way::WithOption(_), None) => Err(Reason::HandoffUnknown),
        };
        put.map_or_else(Verdict::Drop, |()| Verdict::Send(Port::Nic))
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    GoesOn,
    Waits,
    Begins,
    Ahead,
    InDoubt,
}

fn step(following: &Following, (sequence, bytes, flags): (u32, usize, u8)) -> Step {
    if flags & (flags::SYN | flags::RST) != 0 {
        return Step::GoesOn;
    }
    if following.waits {
        let numbers = bytes.saturating_add((flags & flags::FIN != 0).into());
        let waits = numbers > 0 && following.boundary.is_in_last(sequence, numbers);
        return if waits { Step::Waits } else { Step::GoesOn };
    }
    // Kernels take no bytes without ACK (RFC 9293 3.10.7.4).
    if bytes == 0 || flags & flags::ACK == 0 {
        return Step::GoesOn;
    }
    if flags & flags::URG != 0 {
        // Servers may leave an urgent byte out.
        return Step::InDoubt;
    }
    match following.boundary.part(sequence, bytes) {
        Part::Known | Part::Foreign => Step::GoesOn,
        Part::Next => Step::Begins,
        Part::Ahead => Step::Ahead,
        Part::Across => Step::InDoubt,
    }
}

/// Whether more is to be done with a segment of an established connection than to send it on.
#[inline]
pub(super) fn concerns<B>(
    key: AnyKey,
    segment: (u32, usize, u8),
    held: &mut Held<B>,
    cx: &Context<'_>,
) -> bool {
    let (_, bytes, flags) = segment;
    if bytes == 0 && flags & flags::FIN == 0 {
        return false;
    }
    held.followed.get(key.at(cx.crt)).is_some_and(|following| step(following, segment) != Step::GoesOn)
}

/// Whether a packet may be of a connection that is followed.
pub(super) fn may_concern(read: &Read, cx: &Context<'_>) -> bool {
    let d = &read.datagram;
    cx.tables.reads_requests() && d.protocol == protocol::TCP && d.fragment.is_none() && read.key.is_some()
}

/// Whether a segment has bytes behind the request that is under way.
pub(super) fn is_beyond<B>(seen: Seen, held: &mut Held<B>) -> bool {
    held.followed.get(seen.at).is_some_and(|following| step(following, numbers(seen)) != Step::GoesOn)
}

fn numbers(seen: Seen) -> (u32, usize, u8) {
    (seen.tcp.sequence, seen.len(), seen.tcp.flags)
}

/// A connection's request begins at `start`, and its target gets it: the next one is looked for, if it is known where it begins.
/// `read_bytes`: how much of the client was read.
pub(super) fn begin<B, S>(
    (at, start): (At, u32),
    (framing, read_bytes): (Framing, usize),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &Out<'_, S>,
) {
    match Boundary::behind(start, framing, read_bytes) {
        Ok(boundary) => {
            if held.followed.put(at, boundary, cx.now) {
                out.note(Reason::RequestPinned, 1);
            }
        }
        // Its protocol has no requests.
        Err(Unknown::Pinned(Pin::Connection | Pin::Unreadable)) => drop(held.followed.end(at)),
        Err(Unknown::Pinned(_) | Unknown::More) => {
            held.followed.end(at);
            out.note(Reason::RequestPinned, 1);
        }
    }
}

/// A connection stays with its target from now on.
pub(super) fn pin<B, S>(at: At, held: &mut Held<B>, out: &Out<'_, S>) {
    if held.followed.end(at) {
        out.note(Reason::RequestPinned, 1);
    }
}

/// See the module. `way`: who has the connection.
#[inline(never)]
pub(super) fn follow<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    way: Way,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let seen = Seen::read(packet.bytes(), read, cx).ok();
    let following = seen.and_then(|seen| Some((seen, held.followed.get(seen.at)?)));
    let Some((seen, following)) = following else {
        return way.send(packet, read, cx, out);
    };
    match step(following, numbers(seen)) {
        Step::GoesOn => {}
        Step::Waits => return wait(packet, read, (seen, way), held, cx, out),
        Step::Begins => {
            following.ahead = None;
            return begins(packet, read, (seen, way), held, cx, out);
        }
        Step::Ahead => {
            let since = *following.ahead.get_or_insert(cx.now);
            if cx.now.ms.saturating_sub(since.ms) < AGAIN_MS {
                return out.end(packet, End::dropped(Reason::RequestEarly));
            }
            pin(seen.at, held, out);
        }
        Step::InDoubt => pin(seen.at, held, out),
    }
    way.send(packet, read, cx, out);
}

/// The next request begins with this packet.
fn begins<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    (seen, way): (Seen, Way),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    if !is_right(packet.bytes(), read) {
        // Its target would not take it, and the client will send it again.
        return out.end(packet, End::dropped(Reason::BadChecksum));
    }
    let parts = KeyParts::from(seen.at.key);
    let service = cx.tables.service(parts.dvipa, parts.dvipa_port, Protocol::Tcp);
    let bytes = packet.bytes().get(seen.data.0..seen.data.1).unwrap_or_default();
    let routed = service.and_then(|service| service.routed());
    let decided = routed.and_then(|routed| match routed.routes.read(bytes) {
        routes::Read::Whole(decision) => Some((routed, decision)),
        // Its target tells the client, in its own words and in its turn.
        routes::Read::NeedsMore | routes::Read::Refused(_) => None,
    });
    let Some((routed, decision)) = decided else {
        pin(seen.at, held, out);
        return way.send(packet, read, cx, out);
    };
    out.note(Reason::RequestNext, 1);
    match another(routed, decision, (parts, way.to()), cx) {
        Some(target) if asks(seen, (way.to(), target), held, cx, out) => {
            leaves((seen, decision), held, cx);
            routed.count(decision.route);
            out.note(Reason::RequestElsewhere, 1);
            wait(packet, read, (seen, way), held, cx, out);
        }
        Some(_) => {
            held.followed.end(seen.at);
            out.note(Reason::RequestStayed, 1);
            way.send(packet, read, cx, out);
        }
        None => {
            routed.count(decision.route);
            begin((seen.at, seen.tcp.sequence), (decision.framing, seen.len()), held, cx, out);
            way.send(packet, read, cx, out);
        }
    }
}

/// Whether a segment's checksum is right: what is read of one must be what its target will read.
fn is_right(frame: &[u8], read: &Read) -> bool {
    let segment = read.datagram.payload(frame);
    let ip = Ip::new(read.datagram.source, read.datagram.address, protocol::TCP);
    ip.pseudo_header(segment.len() as u16).bytes(segment).finish() == 0
}

/// The target of a request, if it is another than the one that has the connection: that is not left without need.
fn another(
    routed: &Routed,
    decision: Decision,
    (parts, to): (KeyParts, StackIndex),
    cx: &Context<'_>,
) -> Option<StackIndex> {
    if routed.takes(decision.route, to) {
        return None;
    }
    // If no target takes it, who has the connection does.
    routed.pick_next(decision.route, parts.client, cx.crt, cx.now).filter(|target| *target != to)
}

/// Asks the control thread to move a connection. `false`: there is no room for what waits until then.
fn asks<B, S>(
    seen: Seen,
    (from, to): (StackIndex, StackIndex),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &Out<'_, S>,
) -> bool {
    let (at, start, acknowledged) = (seen.at, seen.tcp.sequence, seen.tcp.acknowledgment);
    if held.elsewhere.is_empty() {
        // What was said of others that had waited long enough.
        while held.reselecting.stays().is_some() {}
    }
    let asked = held.elsewhere.has_room(at)
        && held.reselecting.ask(Reselected { key: at.key, from, to, start, acknowledged })
        && held.elsewhere.begin(at, (from, to), cx.now);
    if !asked {
        out.note(Reason::RequestNoPlace, 1);
    }
    asked
}

/// Its connection's request waits from now on.
fn leaves<B>((seen, decision): (Seen, Decision), held: &mut Held<B>, cx: &Context<'_>) {
    let start = seen.tcp.sequence;
    let behind = Boundary::behind(start, decision.framing, seen.len());
    held.followed.put(seen.at, behind.unwrap_or(Boundary::open(start)), cx.now);
    if let Some(following) = held.followed.get(seen.at) {
        (following.waits, following.is_last) = (true, behind.is_err());
    }
}

/// A packet of a request waits. What it acknowledges, if that is news, goes to who has the connection at once: the client says with its
/// next request that it has the last answer, and without that the connection does not move.
fn wait<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    (seen, way): (Seen, Way),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    if held.elsewhere.is_news(seen.at, seen.tcp.acknowledgment) && is_right(packet.bytes(), read) {
        acknowledge(&packet, read, way, cx, out);
        held.elsewhere.acknowledges(seen.at, seen.tcp.acknowledgment);
    }
    let place = (seen.tcp.sequence, seen.len());
    if let Err(packet) = held.elsewhere.add(seen.at, packet, cx.from, place) {
        out.end(packet, End::dropped(Reason::RequestWaits));
    }
}

/// Sends a segment without its bytes.
fn acknowledge<B: PacketBuffer, S: Sink<B>>(
    packet: &B,
    read: &Read,
    way: Way,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let Some(mut copy) = out.spare() else { return };
    let d = &read.datagram;
    let bare = ask::copied(packet, d, &mut copy).and_then(|()| ask::bare(&mut copy, d));
    let end = match bare {
        Some(datagram) => way.put(&mut copy, &Read { datagram, ..*read }, cx),
        None => Verdict::Drop(Reason::NoBuffer),
    };
    out.made(copy, end);
}

/// Lets requests go on whose connections are with their targets, or stay. To be called every millisecond or so.
pub(super) fn look<B: PacketBuffer, S: Sink<B>>(held: &mut Held<B>, cx: &Context<'_>, out: &mut Out<'_, S>) {
    while let Some(key) = held.reselecting.stays() {
        held.elsewhere.stays(key.at(cx.crt));
    }
    while let Some((at, waited, packets)) = held.elsewhere.next(cx) {
        match (waited, held.followed.get(at)) {
            (Waited::Moved, Some(following)) if !following.is_last => following.waits = false,
            (Waited::Moved, _) => pin(at, held, out),
            (Waited::Stayed, _) => {
                held.followed.end(at);
                out.note(Reason::RequestStayed, 1);
            }
        }
        for (packet, from) in packets {
            deliver::any(packet, held, &Context { from, ..*cx }, out);
        }
    }
}
