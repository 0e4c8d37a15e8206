//! The general way: every packet that is not plain, one at a time.

use model::StackIndex;

use super::datagram::Datagram;
use super::emit::{End, Out};
use super::encapsulate::{Inner, encapsulate};
use super::ends::AnyKey;
use super::fragments::{self, DatagramKey, Early, Held};
use super::frozen::{Fate, Frozen};
use super::icmp_error::{self, Notice};
use super::{Context, arp, echo, neighbour, outgoing, quoted, split};
use crate::packet::{Ethernet, Icmp, ethernet, icmp, protocol};
use crate::tables::Family;
use crate::tables::carrier::{Carrier, Form};
use crate::{PacketBuffer, Port, Reason, Sink, Verdict};

/// Says what becomes of any packet.
///
/// In: a frame. Out: it, or what it became, to the sink; or held. Order of questions: is it for this node, ARP or
/// neighbour discovery about a DVIPA, an IP packet to a DVIPA, an outgoing connection's SYN; what is left crosses to
/// the other port unchanged.
pub(super) fn process<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    held: &mut super::Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let end = match Ethernet::parse(packet.bytes()) {
        Ok(eth) if concerns_us(eth, cx) => match ask(&mut packet, eth, cx) {
            Finding::Ends(end) => end,
            Finding::ToDvipa(datagram) => return dvipa(packet, &datagram, held, cx, out),
        },
        // The node's kernel may know what to do with it; so may the network.
        Ok(_) | Err(_) => crosses(cx),
    };
    out.end(packet, end);
}

/// What a frame in our VLAN is.
enum Finding {
    /// It is answered, refused, set free or none of ours.
    Ends(End),
    /// It is an IP packet to a DVIPA.
    ToDvipa(Datagram),
}

fn ask<B: PacketBuffer>(packet: &mut B, eth: Ethernet, cx: &Context<'_>) -> Finding {
    let answered = match eth.ethertype {
        ethernet::ARP => arp::answer(packet, eth, cx),
        ethernet::IPV6 => neighbour::answer(packet, eth, cx),
        _ => None,
    };
    if let Some(end) = answered {
        return Finding::Ends(end);
    }
    // A frame to another station was flooded; one to a group is no unicast packet's (RFC 1122 3.3.6).
    if eth.destination == cx.tables.node().mac || cx.from == Port::Local {
        match Datagram::parse(packet.bytes(), eth, cx.tables) {
            Ok(Some(datagram)) => return Finding::ToDvipa(datagram),
            Ok(None) => {}
            Err(reason) => return Finding::Ends(End::dropped(reason)),
        }
    }
    Finding::Ends(outgoing::admit(packet, eth, cx).unwrap_or_else(|| crosses(cx)))
}

/// The frame is in our VLAN. An untagged one (a priority tag has VLAN 0) is in none: a tag that a device took off is back
/// before the path sees the frame.
fn concerns_us(eth: Ethernet, cx: &Context<'_>) -> bool {
    let ours = cx.tables.node().vlan.map(|v| v & 0x0fff);
    cx.from == Port::Local || ours.is_none_or(|ours| eth.vlan == Some(ours))
}

/// The packet is none of ours: over to the other port.
fn crosses(cx: &Context<'_>) -> End {
    match cx.from {
        Port::Nic => End::sent(Port::Local, Reason::PassedToLocal),
        Port::Local => End::sent(Port::Nic, Reason::PassedToNic),
    }
}

/// A packet to a DVIPA.
fn dvipa<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    d: &Datagram,
    held: &mut super::Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let is_icmp = match d.family {
        Family::V4 => d.protocol == protocol::ICMP,
        Family::V6 => d.protocol == protocol::ICMPV6,
    };
    if is_icmp {
        return match icmp_message(&mut packet, d, cx) {
            Ok((owner, hash)) => forward(packet, d, owner, hash, Reason::ForwardedIcmpError, cx, out),
            Err(end) => out.end(packet, end),
        };
    }
    match d.fragment {
        Some(fragment) if !fragment.is_first() => later_fragment(packet, d, &mut held.early, cx, out),
        _ => with_ports(packet, d, held, cx, out),
    }
}

/// An ICMP message: where it is to be forwarded to, or its end.
fn icmp_message<B: PacketBuffer>(
    packet: &mut B,
    d: &Datagram,
    cx: &Context<'_>,
) -> Result<(StackIndex, u16), End> {
    if d.fragment.is_some() {
        return Err(End::dropped(Reason::IcmpUnsupported));
    }
    let message = Icmp::parse(d.payload(packet.bytes())).map_err(|m| End::dropped(m.into()))?;
    let (is_error, is_echo) = match d.family {
        Family::V4 => (message.is_error_v4(), message.kind == icmp::v4::ECHO_REQUEST),
        Family::V6 => (message.is_error_v6(), message.kind == icmp::v6::ECHO_REQUEST),
    };
    if is_error {
        return quoted::owner(message, d, cx).map_err(End::dropped);
    }
    Err(if is_echo && message.code == 0 {
        echo::answer(packet, d, cx)
    } else {
        End::dropped(Reason::IcmpUnsupported)
    })
}

/// A whole packet, or a first fragment.
fn with_ports<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    d: &Datagram,
    held: &mut super::Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let (ends, opens) = match d.ends(packet.bytes()) {
        Ok(found) => found,
        Err(reason) => return out.end(packet, End::dropped(reason)),
    };
    let udp = d.protocol == protocol::UDP;
    let (owner, reason) = match ends.key().owner(opens, udp, cx) {
        Ok(found) => found,
        Err(reason) if d.fragment.is_none() => {
            return refused(packet, ends.key(), reason, &mut held.frozen, cx, out);
        }
        Err(reason) => return out.end(packet, End::dropped(reason)),
    };
    if reason == Reason::ForwardedHandoff {
        // Fragments of such a connection have no option to go with.
        return match d.fragment {
            None => hand_over(packet, ends.key(), owner, d.inner(ends.hash()), cx, out),
            Some(_) => out.end(packet, End::dropped(Reason::HandoffUnknown)),
        };
    }
    if d.fragment.is_none() {
        return forward(packet, d, owner, ends.hash(), reason, cx, out);
    }
    let key = DatagramKey::of(d);
    if let Err(reason) = key.follow(owner, cx) {
        return out.end(packet, End::dropped(reason));
    }
    forward(packet, d, owner, fragments::hash(d), reason, cx, out);
    held.early.release(|h| (h.key == key).then_some(()), |held, ()| forward_held(held, owner, cx, out));
}

/// A packet that goes nowhere now: it waits if its connection is frozen.
#[inline(never)]
pub(super) fn refused<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    key: AnyKey,
    reason: Reason,
    frozen: &mut Frozen<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let kept = if reason == Reason::Frozen { frozen.hold(packet, key, cx.now) } else { Err(packet) };
    match kept {
        Ok(()) => out.note(Reason::FrozenHeld, 1),
        Err(packet) => out.end(packet, End::dropped(reason)),
    }
}

/// Sends the packets of connections that are frozen no longer to where they are now, and gives up those that waited too
/// long.
pub(super) fn thaw<B: PacketBuffer, S: Sink<B>>(
    frozen: &mut Frozen<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    frozen.release(cx, |packet, fate| match fate {
        Fate::Thawed => thawed(packet, cx, out),
        Fate::GivenUp => out.end(packet, End::dropped(Reason::Frozen)),
    });
}

/// Sends a packet of a connection that is being handed over.
#[inline(never)]
pub(super) fn hand_over<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    key: AnyKey,
    owner: StackIndex,
    inner: Inner,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let end = match cx.handoffs.carry(&mut packet, key, owner, inner, cx.tables) {
        Ok(()) => End::sent(Port::Nic, Reason::ForwardedHandoff),
        Err(reason) => End::dropped(reason),
    };
    out.end(packet, end);
}

/// A packet that waited, read again. Should its connection be frozen once more, it is dropped.
fn thawed<B: PacketBuffer, S: Sink<B>>(packet: B, cx: &Context<'_>, out: &mut Out<'_, S>) {
    let datagram = Ethernet::parse(packet.bytes()).map_err(Reason::from);
    let found = datagram
        .and_then(|eth| Datagram::parse(packet.bytes(), eth, cx.tables))
        .and_then(|datagram| datagram.ok_or(Reason::NotDistributed))
        .and_then(|datagram| Ok((datagram, datagram.ends(packet.bytes())?)))
        .and_then(|(d, (ends, opens))| {
            Ok((d, ends, ends.key().owner(opens, d.protocol == protocol::UDP, cx)?))
        });
    match found {
        Ok((d, ends, (owner, Reason::ForwardedHandoff))) => {
            hand_over(packet, ends.key(), owner, d.inner(ends.hash()), cx, out);
        }
        Ok((d, ends, (owner, reason))) => forward(packet, &d, owner, ends.hash(), reason, cx, out),
        Err(reason) => out.end(packet, End::dropped(reason)),
    }
}

/// A fragment without ports.
fn later_fragment<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    d: &Datagram,
    early: &mut Early<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let key = DatagramKey::of(d);
    match key.owner(cx) {
        Some(owner) => forward(packet, d, owner, fragments::hash(d), Reason::ForwardedFragment, cx, out),
        None => match early.hold(packet, *d, key, cx.now) {
            Ok(()) => out.note(Reason::FragmentHeld, 1),
            Err(packet) => out.end(packet, End::dropped(Reason::FragmentNoRoom)),
        },
    }
}

fn forward_held<B: PacketBuffer, S: Sink<B>>(
    held: Held<B>,
    owner: StackIndex,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let hash = fragments::hash(&held.datagram);
    forward(held.packet, &held.datagram, owner, hash, Reason::ForwardedFragment, cx, out);
}

/// Sends early fragments whose first one went through another worker, and gives up old ones.
pub(super) fn expire<B: PacketBuffer, S: Sink<B>>(
    early: &mut Early<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    early.release(|h| h.key.owner(cx), |held, owner| forward_held(held, owner, cx, out));
    let held_ms = early.held_ms();
    early.release(
        |h| (h.age_ms(cx.now) >= held_ms).then_some(()),
        |held, ()| out.end(held.packet, End::dropped(Reason::FragmentUnmatched)),
    );
}

/// Sends a packet to a stack.
pub(super) fn forward<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    d: &Datagram,
    owner: StackIndex,
    hash: u16,
    reason: Reason,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let carrier = cx.tables.carrier(owner, d.family);
    let end = match carrier.form {
        Form::Local => End::sent(Port::Local, reason),
        Form::Missing => End::dropped(carrier.missing),
        _ if d.hops <= 1 => icmp_error::answer(&mut packet, d, Notice::TimeExceeded, Reason::HopLimit, cx),
        _ if d.len > carrier.max_inner => return too_big(packet, d, carrier, hash, reason, cx, out),
        _ => match encapsulate(&mut packet, carrier, d.inner(hash)) {
            Ok(()) => End::sent(Port::Nic, reason),
            Err(reason) => End::dropped(reason),
        },
    };
    out.end(packet, end);
}

/// A packet that does not fit once it is encapsulated: its sender is told, or it is sent in two.
#[cold]
fn too_big<B: PacketBuffer, S: Sink<B>>(
    mut packet: B,
    d: &Datagram,
    carrier: &Carrier,
    hash: u16,
    reason: Reason,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    if !d.may_split {
        let notice = Notice::TooBig { mtu: carrier.max_inner };
        let end = icmp_error::answer(&mut packet, d, notice, Reason::TooBigUnfragmented, cx);
        return out.end(packet, end);
    }
    let Some(cut) = split::plan(d, carrier.max_inner) else {
        return out.end(packet, End::dropped(Reason::TooBigUnfragmented));
    };
    let Some(mut second) = out.spare() else {
        return out.end(packet, End::dropped(Reason::NoBuffer));
    };
    let parts =
        split::split(&mut packet, &mut second, d, cut).ok_or(Reason::NoBuffer).and_then(|(one, two)| {
            encapsulate(&mut packet, carrier, one.inner(hash))?;
            encapsulate(&mut second, carrier, two.inner(hash))
        });
    match parts {
        Ok(()) => {
            out.end(packet, End::sent(Port::Nic, reason));
            out.note(Reason::FragmentMade, 1);
            out.made(second, Verdict::Send(Port::Nic));
        }
        Err(reason) => {
            out.end(packet, End::dropped(reason));
            out.made(second, Verdict::Drop(reason));
        }
    }
}
