//! Datagrams of QUIC servers go where their connection ID says, if it is known how the servers make them (QUIC-LB): a client that
//! changes its address stays at its target.
//!
//! | connection ID | where the datagram goes |
//! | --- | --- |
//! | names a stack that serves the port, drained or not, and is not dead | there, whatever its flow's entry says |
//! | names another stack, or none; has not the form | as every datagram of its flow |
//! | of an Initial or 0-RTT packet, or of an unknown version | as every datagram of its flow: the client may have chosen it |
//!
//! The entry is made, so that errors and fragments of the flow go there too, displays show it, and the next owner of the DVIPA has it. One
//! that is there is changed only if its stack does not serve any more: whoever can send in a client's name could take its flow away. If
//! there is no room for it, or the worker receives more than it can handle, the datagram goes there without.
//!
//! Touches for a datagram to such a service its service, its first bytes and the map of server IDs; the CRT's line if the flow's entry is
//! another one.

use model::dpt::StackState;
use model::{Protocol, StackIndex};

use super::bucket::{Budgets, Matter};
use super::emit::Out;
use super::fate::Fate;
use super::plain::PlainKey;
use super::whose::Read;
use super::{AnyKey, Context};
use crate::crt::{CrtState, Entry, Found, KeyParts, Located};
use crate::packet::protocol;
use crate::packet::transport::UDP_BYTES;
use crate::tables::Names;
use crate::{PacketBuffer, Reason};

/// The stack that a plain packet's connection ID names, if it has one that counts.
#[inline(always)]
pub(super) fn plain<const TAG: usize, B: PacketBuffer, K: PlainKey, S>(
    packet: &B,
    at: Located<K>,
    found: Found,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) -> Option<StackIndex> {
    if !cx.tables.follows_ids() || !at.key().is_udp() {
        return None;
    }
    of_plain::<TAG, _, _, _>(packet, at.key(), found, cx, out)
}

#[inline(never)]
fn of_plain<const TAG: usize, B: PacketBuffer, K: PlainKey, S>(
    packet: &B,
    key: K,
    found: Found,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) -> Option<StackIndex> {
    noted(follow(key.said::<TAG>(packet.bytes()), key.any(), found.entry(), cx, out.budgets()), out)
}

/// As [`plain`], for any packet whose connection's key was read.
#[inline]
pub(super) fn named<S>(frame: &[u8], read: &Read, cx: &Context<'_>, out: &mut Out<'_, S>) -> Option<Fate> {
    let d = &read.datagram;
    if !cx.tables.follows_ids() || d.protocol != protocol::UDP || d.fragment.is_some() {
        return None;
    }
    let said = d.payload(frame).get(UDP_BYTES..)?;
    noted(follow(said, read.key?, None, cx, out.budgets()), out).map(Fate::forward)
}

/// Counts what was found out about a connection ID.
fn noted<S>((to, counts): (Option<StackIndex>, Option<Reason>), out: &Out<'_, S>) -> Option<StackIndex> {
    if let Some(reason) = counts {
        out.note(reason, 1);
    }
    to
}

/// Where a datagram goes if its connection ID says so, and what is to be counted. Not generic, so that nothing of what other packets
/// pass is compiled in another way for it.
#[inline(never)]
fn follow(
    said: &[u8],
    key: AnyKey,
    found: Option<Entry>,
    cx: &Context<'_>,
    budgets: &mut Budgets,
) -> (Option<StackIndex>, Option<Reason>) {
    let KeyParts { client, dvipa, dvipa_port, .. } = key.into();
    let service = cx.tables.service(dvipa, dvipa_port, Protocol::Udp);
    let Some((service, ids)) = service.and_then(|service| Some((service, service.ids()?))) else {
        return (None, None);
    };
    let to = match ids.names(said) {
        // What a lost stack serves is not known; a dead one takes nothing.
        Names::Stack(to) if service.serves(to) && cx.tables.state(to) != StackState::Dead => to,
        Names::Stack(_) => return (None, Some(Reason::QuicGone)),
        Names::Unknown => return (None, Some(Reason::QuicUnknown)),
        Names::Unroutable => return (None, Some(Reason::QuicUnroutable)),
        Names::Clients => return (None, None),
    };
    // An earlier packet of the same burst may have made the entry.
    let entry = found.or_else(|| key.get(cx));
    if entry == Some(Entry { owner: to, state: CrtState::Established }) {
        return (Some(to), None);
    }
    let is_served =
        entry.is_some_and(|e| service.serves(e.owner) && cx.tables.state(e.owner) != StackState::Dead);
    if !is_served && (entry.is_some() || budgets.take(Matter::Opening, client.ip(), cx.now)) {
        let former = entry.map(|entry| entry.owner);
        // It goes there also if there is no room.
        let _ = match key {
            AnyKey::V4(key) => cx.crt.insert_flow(key, to, former, cx.now),
            AnyKey::V6(key) => cx.crt.insert_flow(key, to, former, cx.now),
        };
    }
    (Some(to), Some(Reason::QuicFollowed))
}
