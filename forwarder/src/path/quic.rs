//! Datagrams of QUIC servers go where their connection ID says, if it is known how the servers make them (QUIC-LB): a client that
//! changes its address stays at its target.
//!
//! | connection ID | where the datagram goes |
//! | --- | --- |
//! | names a stack that serves the port, drained or not, and is not dead | there, whatever its flow's entry says, and the entry says so from then on |
//! | names another stack, or none; has not the form | as every datagram of its flow |
//! | of an Initial or 0-RTT packet, or of an unknown version | as every datagram of its flow: the client may have chosen it |
//!
//! The entry is changed so that errors and fragments of the flow go there too, displays show it, and the next owner of the DVIPA has
//! it. If there is no room for it, or the worker receives more than it can handle, the datagram goes there without.
//!
//! Touches for a datagram to such a service its service, its first bytes and the map of server IDs; the CRT's line if the flow's entry is
//! another one.

use model::dpt::StackState;
use model::{Protocol, StackIndex};

use super::bucket::Matter;
use super::emit::Out;
use super::fate::Fate;
use super::plain::PlainKey;
use super::whose::Read;
use super::{AnyKey, Context};
use crate::crt::{CrtState, Entry, Found, Key, KeyParts, Located};
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
    follow(at.key().said::<TAG>(packet.bytes()), at, found.entry(), cx, out)
}

/// As [`plain`], for any packet whose connection's key was read.
#[inline]
pub(super) fn named<S>(frame: &[u8], read: &Read, cx: &Context<'_>, out: &mut Out<'_, S>) -> Option<Fate> {
    let d = &read.datagram;
    if !cx.tables.follows_ids() || d.protocol != protocol::UDP || d.fragment.is_some() {
        return None;
    }
    let said = d.payload(frame).get(UDP_BYTES..)?;
    let to = match read.key? {
        AnyKey::V4(key) => follow(said, cx.crt.place(key), None, cx, out),
        AnyKey::V6(key) => follow(said, cx.crt.place(key), None, cx, out),
    };
    to.map(Fate::forward)
}

#[inline(never)]
fn follow<K: Key + Into<KeyParts>, S>(
    said: &[u8],
    at: Located<K>,
    found: Option<Entry>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) -> Option<StackIndex> {
    let KeyParts { client, dvipa, dvipa_port, .. } = at.key().into();
    let service = cx.tables.service(dvipa, dvipa_port, Protocol::Udp)?;
    let to = match service.ids()?.names(said) {
        // What a lost stack serves is not known; a dead one takes nothing.
        Names::Stack(to) if service.serves(to) && cx.tables.state(to) != StackState::Dead => Ok(to),
        Names::Stack(_) => Err(Reason::QuicGone),
        Names::Unknown => Err(Reason::QuicUnknown),
        Names::Unroutable => Err(Reason::QuicUnroutable),
        Names::Clients => return None,
    };
    let to = to.inspect_err(|why| out.note(*why, 1)).ok()?;
    // An earlier packet of the same burst may have made the entry.
    let entry = found.or_else(|| cx.crt.get(at, cx.now));
    if entry != Some(Entry { owner: to, state: CrtState::Established }) {
        out.note(Reason::QuicFollowed, 1);
        if entry.is_some() || out.budgets().take(Matter::Opening, client.ip(), cx.now) {
            // It goes there also if there is no room.
            let _ = cx.crt.insert_flow(at, to, entry.map(|entry| entry.owner), cx.now);
        }
    }
    Some(to)
}
