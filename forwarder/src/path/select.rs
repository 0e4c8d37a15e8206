//! Third stage: a target for each new connection, and the owner of every other.

use model::Protocol;

use super::Context;
use super::fate::Fate;
use super::lookup::{Standing, standing};
use crate::crt::{Entry, Key, KeyParts, Refused};
use crate::{Port, Reason};

/// Says what becomes of a packet that carries ports, if its connection is not simply established.
///
/// In: its key, what the CRT knew of it a moment ago, whether it may open a connection, whether it is UDP. Touches, for a
/// packet that opens a connection only, the service's targets and its CRT entry, which is half-open from then on.
#[inline(never)]
pub(crate) fn decide<K: Key + Into<KeyParts>>(
    key: K,
    found: Option<Entry>,
    opens: bool,
    udp: bool,
    cx: &Context<'_>,
) -> Fate {
    // An earlier packet of the same burst may have made the entry.
    let Some(entry) = found.or_else(|| cx.crt.get(key, cx.now)) else {
        return if opens { select(key, udp, cx) } else { Fate::Drop(Reason::NoConnection) };
    };
    match standing(entry.state, opens, udp) {
        Standing::Owned => Fate::forward(entry.owner),
        Standing::HandedOver => Fate::HandOver { to: entry.owner },
        Standing::Reopens => select(key, udp, cx),
        Standing::Moving => Fate::Hold,
        Standing::Confirms => match cx.crt.confirm(key, entry.owner, cx.now) {
            // Without room for it in the main table it stays half-open, and the next packet tries again.
            Ok(_) | Err(_) => Fate::forward(entry.owner),
        },
    }
}

/// Selects a target and enters the connection in the CRT. If another worker was faster, its choice stands.
#[inline(never)]
fn select<K: Key + Into<KeyParts>>(key: K, udp: bool, cx: &Context<'_>) -> Fate {
    try_select(key, udp, cx).unwrap_or_else(Fate::Drop)
}

#[inline(always)]
fn try_select<K: Key + Into<KeyParts>>(key: K, udp: bool, cx: &Context<'_>) -> Result<Fate, Reason> {
    let KeyParts { client, dvipa, dvipa_port, .. } = key.into();
    let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
    let target = match cx.tables.service(dvipa, dvipa_port, protocol) {
        Some(service) => service.pick(client.ip(), client.port(), cx.crt).ok_or(Reason::NoTarget)?,
        // Served by the owner's own stack (seed 004, figure 7, block 140), but not back to it what it asks itself.
        None => cx.tables.own_stack().filter(|_| cx.from == Port::Nic).ok_or(Reason::NotDistributed)?,
    };
    let entry = cx.crt.insert_half_open(key, target, cx.now).map_err(table_full)?;
    Ok(match standing(entry.state, true, udp) {
        Standing::Moving => Fate::Hold,
        Standing::HandedOver => Fate::HandOver { to: entry.owner },
        Standing::Owned | Standing::Confirms | Standing::Reopens => {
            Fate::Forward { to: entry.owner, counts: Reason::ForwardedNew }
        }
    })
}

/// Why the CRT took no entry, as a reason.
pub(crate) fn table_full(refused: Refused) -> Reason {
    match refused {
        Refused::Full | Refused::Busy => Reason::TableFull,
        Refused::Index => Reason::StackUnreachable,
    }
}
