//! Deliver it: every packet to a DVIPA that is not simply forwarded gets what was decided about it.

use model::StackIndex;
use model::dpt::StackState;

use super::datagram::Datagram;
use super::emit::{End, Out};
use super::encapsulate::{count_hop, encapsulate};
use super::fate::Fate;
use super::follow::Way;
use super::fragments::{DatagramKey, Held as Fragment};
use super::frozen::Waited;
use super::icmp_error::{self, Notice};
use super::whose::{self, Read};
use super::{Context, Held, follow, orphans, quic, quiet, refuse, select, split, transact, unserved};
use crate::packet::protocol;
use crate::tables::carrier::{Carrier, Form};
use crate::traffic::What;
use crate::{PacketBuffer, Port, Reason, Sink, Verdict};

/// Reads a packet of any kind and delivers it.
pub(super) fn any<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    match whose::is_it(&mut packet, cx, out.budgets()) {
        Ok((read, fate)) => {
            let fate = quic::named(packet.bytes(), &read, cx, out).unwrap_or(fate);
            deliver(packet, &read, fate, held, cx, out);
        }
        Err(end) => out.end(packet, end),
    }
}

/// Delivers a plain packet that the fast way can't: its header is read again, because that keeps nothing but the key.
#[inline(never)]
pub(super) fn plain<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: (super::AnyKey, u16),
    fate: Fate,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let (key, hash) = read;
    let Some(datagram) = Datagram::plain(packet.bytes(), key) else {
        return out.end(packet, End::dropped(Reason::BadHeader));
    };
    let fate = match fate {
        // The fast way did not look whether it opens a connection.
        Fate::Forward { to, .. } if cx.tables.state(to) != StackState::Up => {
            match datagram.ends(packet.bytes()) {
                Ok((ends, opens)) => {
                    let udp = datagram.protocol == protocol::UDP;
                    ends.key().fate((opens, udp), cx, out.budgets())
                }
                Err(reason) => Fate::Drop(reason),
            }
        }
        fate => fate,
    };
    deliver(packet, &Read { datagram, key: Some(key), hash }, fate, held, cx, out);
}

/// Does with a packet to a DVIPA what was decided.
fn deliver<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    fate: Fate,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let begins = read.datagram.fragment.is_some_and(|f| f.is_first());
    match fate {
        Fate::Forward { to, counts } if begins => first_fragment(packet, read, (to, counts), held, cx, out),
        Fate::Forward { to, counts: Reason::Forwarded } if follow::may_concern(read, cx) => {
            follow::follow(packet, read, Way::Plain(to), held, cx, out);
        }
        Fate::Forward { to, counts } => forward(packet, read, (to, counts), cx, out),
        Fate::HandOver { to } if follow::may_concern(read, cx) => {
            follow::follow(packet, read, Way::WithOption(to), held, cx, out);
        }
        Fate::HandOver { to } => hand_over(packet, read, to, cx, out),
        Fate::Ask => orphans::ask(packet, read, held, cx, out),
        Fate::Transact(entry) => transact::transact(packet, (read, entry), held, cx, out),
        Fate::Unserved => unserved::wait(packet, read, held, cx, out),
        Fate::Doubtful { to } => quiet::wait(packet, read, to, held, cx, out),
        Fate::Hold => hold(packet, read, held, cx, out),
        Fate::Refuse(why) => refuse(packet, read, why, cx, out),
        Fate::Drop(reason) => dropped(packet, read, reason, cx, out),
    }
}

/// Drops a packet. One that is beyond a limit is counted with its service too.
pub(super) fn dropped<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    reason: Reason,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let limited = match reason {
        Reason::ClientLimited => Some(What::ClientLimited),
        Reason::ServiceLimited => Some(What::ServiceLimited),
        _ => None,
    };
    if let Some(limited) = limited {
        out.tally(read.pair(limited), read.datagram.len, cx.tables);
    }
    out.end(packet, End::dropped(reason));
}

/// Does with a SYN what is done where no stack is known to listen.
pub(super) fn undistributed<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let fate = match read.key {
        Some(key) => select::undistributed(key, cx),
        None => Fate::Drop(Reason::NoConnection),
    };
    deliver(packet, read, fate, held, cx, out);
}

/// Sends a packet to a stack. The only way there for one that is not plain, whatever the way is: the hops are counted
/// alike.
pub(super) fn forward<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    read: &Read,
    (to, counts): (StackIndex, Reason),
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let d = &read.datagram;
    let carrier = cx.tables.carrier(to, d.family);
    let end = match carrier.form {
        Form::Missing => End::dropped(carrier.missing),
        _ if d.hops <= 1 => {
            icmp_error::answer(&mut packet, d, Notice::TimeExceeded, Reason::HopLimit, cx, out.answers())
        }
        Form::Local => {
            count_hop(packet.bytes_mut().get_mut(d.ethernet.header_bytes..).unwrap_or_default(), d.family);
            End::sent(Port::Local, counts)
        }
        _ if d.len > carrier.max_inner => return too_big(packet, read, carrier, (to, counts), cx, out),
        _ => match encapsulate(&mut packet, carrier, d.inner(read.hash)) {
            Ok(()) => End::sent(Port::Nic, counts),
            Err(reason) => End::dropped(reason),
        },
    };
    if end.reason == counts {
        sent(read, (to, counts), cx, out);
    }
    out.end(packet, end);
}

/// Counts a packet that was sent to a stack. An echo reply is of no service.
pub(super) fn sent<S>(read: &Read, (to, counts): (StackIndex, Reason), cx: &Context<'_>, out: &Out<'_, S>) {
    if counts != Reason::ForwardedEcho {
        out.tally(read.pair(What::To(to)), read.datagram.len, cx.tables);
    }
}

/// Sends a first fragment, notes where it went, and sends those after it that came before.
fn first_fragment<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    (to, counts): (StackIndex, Reason),
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let key = DatagramKey::of(&read.datagram);
    if let Err(reason) = key.follow(to, cx) {
        return out.end(packet, End::dropped(reason));
    }
    forward(packet, read, (to, counts), cx, out);
    held.early.release(|h| (h.key == key).then_some(()), |held, ()| forward_held(held, to, cx, out));
}

/// A packet that does not fit once it is encapsulated: its sender is told, or it is sent in parts.
#[cold]
fn too_big<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    read: &Read,
    carrier: &Carrier,
    (to, counts): (StackIndex, Reason),
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let d = &read.datagram;
    if !d.may_split {
        let notice = Notice::TooBig { mtu: carrier.max_inner };
        let end = icmp_error::answer(&mut packet, d, notice, Reason::TooBigUnfragmented, cx, out.answers());
        return out.end(packet, end);
    }
    match first_part(packet, d, carrier, read.hash, out) {
        Ok((first, rest, d)) => {
            sent(read, (to, counts), cx, out);
            out.end(first, End::sent(Port::Nic, counts));
            other_parts(rest, d, carrier, read.hash, out);
        }
        Err((packet, reason)) => out.end(packet, End::dropped(reason)),
    }
}

/// Cuts off the first part that fits, ready to be sent; and what is left.
fn first_part<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    d: &Datagram,
    carrier: &Carrier,
    hash: u16,
    out: &mut Out<'_, S>,
) -> Result<(B, B, Datagram), (B, Reason)> {
    let Some(cut) = split::plan(d, carrier.max_inner) else {
        return Err((packet, Reason::TooBigUnfragmented));
    };
    let Some(mut rest) = out.spare() else { return Err((packet, Reason::NoBuffer)) };
    let parts =
        split::split(&mut packet, &mut rest, d, cut).ok_or(Reason::NoBuffer).and_then(|(one, two)| {
            encapsulate(&mut packet, carrier, one.inner(hash))?;
            Ok(two)
        });
    match parts {
        Ok(two) => Ok((packet, rest, two)),
        Err(reason) => {
            out.made(rest, Verdict::Drop(reason));
            Err((packet, reason))
        }
    }
}

/// Sends what is left of a packet whose first part went. A part that can't be sent is lost, like any fragment; the counter of
/// those that were made is then smaller.
fn other_parts<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    mut d: Datagram,
    carrier: &Carrier,
    hash: u16,
    out: &mut Out<'_, S>,
) {
    while d.len > carrier.max_inner {
        match first_part(packet, &d, carrier, hash, out) {
            Ok((part, rest, of_rest)) => {
                out.note(Reason::FragmentMade, 1);
                out.made(part, Verdict::Send(Port::Nic));
                (packet, d) = (rest, of_rest);
            }
            Err((packet, reason)) => return out.made(packet, Verdict::Drop(reason)),
        }
    }
    match encapsulate(&mut packet, carrier, d.inner(hash)) {
        Ok(()) => {
            out.note(Reason::FragmentMade, 1);
            out.made(packet, Verdict::Send(Port::Nic));
        }
        Err(reason) => out.made(packet, Verdict::Drop(reason)),
    }
}

/// Tells a packet's sender that nothing serves it, for the reason that is noted.
pub(super) fn refuse<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    read: &Read,
    why: Reason,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    out.note(why, 1);
    out.tally(read.pair(What::Refused), read.datagram.len, cx.tables);
    let end = refuse::answer(&mut packet, read, cx, out);
    out.end(packet, end);
}

/// Sends a packet of a connection that is being handed over. Its fragments have no option to go with.
pub(super) fn hand_over<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    read: &Read,
    to: StackIndex,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let d = &read.datagram;
    let key = read.key.filter(|_| d.fragment.is_none());
    let carried = key
        .ok_or(Reason::HandoffUnknown)
        .and_then(|key| cx.handoffs.carry(&mut packet, key, to, d.inner(read.hash), cx.tables));
    let end = match carried {
        Ok(()) => {
            sent(read, (to, Reason::ForwardedHandoff), cx, out);
            End::sent(Port::Nic, Reason::ForwardedHandoff)
        }
        Err(reason) => End::dropped(reason),
    };
    out.end(packet, end);
}

/// Keeps a packet for later.
fn hold<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let (kept, waits, no_room) = match read.key {
        Some(key) => (held.frozen.hold(packet, key, cx), Reason::FrozenHeld, Reason::Frozen),
        None => {
            let kept = held.early.hold(packet, read.datagram, cx.now);
            (kept, Reason::FragmentHeld, Reason::FragmentNoRoom)
        }
    };
    match kept {
        Ok(()) => out.note(waits, 1),
        Err(packet) => out.end(packet, End::dropped(no_room)),
    }
}

/// Delivers the packets of connections that are frozen no longer, and gives up those that waited too long.
pub(super) fn thaw<B: PacketBuffer, S: Sink<B>>(held: &mut Held<B>, cx: &Context<'_>, out: &mut Out<'_, S>) {
    let mut turn = held.frozen.begin(cx.crt);
    while let Some((waiting, waited)) = held.frozen.next(&mut turn, cx) {
        match waited {
            Waited::Enough => any(waiting.packet, held, &Context { from: waiting.from, ..*cx }, out),
            Waited::TooLong => out.end(waiting.packet, End::dropped(Reason::Frozen)),
        }
    }
    held.frozen.end(turn);
}

fn forward_held<B: PacketBuffer, S: Sink<B>>(
    held: Fragment<B>,
    to: StackIndex,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    forward(held.packet, &Read::fragment(held.datagram), (to, Reason::ForwardedFragment), cx, out);
}

/// Sends early fragments whose first one went through another worker, and gives up old ones.
pub(super) fn expire<B: PacketBuffer, S: Sink<B>>(
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let early = &mut held.early;
    early.release(|h| h.key.owner(cx), |held, owner| forward_held(held, owner, cx, out));
    let held_ms = early.held_ms();
    early.release(
        |h| (h.age_ms(cx.now) >= held_ms).then_some(()),
        |held, ()| out.end(held.packet, End::dropped(Reason::FragmentUnmatched)),
    );
}
