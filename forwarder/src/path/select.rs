//! Third stage: a target for each new connection, and the owner of every other.

use model::dpt::StackState;
use model::{Protocol, StackIndex};

use super::bucket::{Budgets, Matter};
use super::fate::Fate;
use super::lookup::{Standing, standing};
use super::{AnyKey, Context};
use crate::crt::{CrtState, Entry, Key, KeyParts, Located, Refused};
use crate::{Port, Reason};

/// Says what becomes of a packet that carries ports, if its connection is not simply established.
///
/// In: its key and where that belongs, what the CRT knew of it a moment ago, whether it may open a connection and is UDP. Touches the service's
/// targets for UDP and for a packet that opens a connection, and the CRT entry that the latter makes: of TCP it is half-open
/// from then on, of UDP it is established.
#[inline(never)]
pub(crate) fn decide<K: Key + Into<KeyParts>>(
    at: Located<K>,
    found: Option<Entry>,
    (opens, udp): (bool, bool),
    cx: &Context<'_>,
    budgets: &mut Budgets,
) -> Fate {
    let key = at.key();
    // An earlier packet of the same burst may have made the entry.
    let Some(entry) = found.or_else(|| cx.crt.get(at, cx.now)) else {
        return match opens {
            _ if !udp && cx.tables.reads(key.into()) => Fate::Transact(None),
            false => Fate::Ask,
            true if budgets.take(Matter::Opening, key.into().client.ip(), cx.now) => {
                select(at, udp, None, cx)
            }
            true => Fate::Drop(Reason::Overloaded),
        };
    };
    let begun_here = matches!(entry.state, CrtState::HalfOpen | CrtState::Closing);
    if begun_here && !udp && cx.tables.reads(key.into()) {
        // An earlier packet of the same burst may have changed it.
        return Fate::Transact(cx.crt.get(at, cx.now));
    }
    // A service with routes answers SYNs here.
    if opens && !udp && !cx.tables.reads(key.into()) {
        match (entry.state, cx.tables.state(entry.owner)) {
            (CrtState::HalfOpen, StackState::Quiet)
            | (CrtState::HalfOpen | CrtState::Established, StackState::Lost | StackState::Dead) => {
                return reselect(key, entry, cx);
            }
            (CrtState::Established, StackState::Quiet) => return Fate::Doubtful { to: entry.owner },
            _ => {}
        }
    }
    match standing(entry.state, opens) {
        Standing::Owned if udp && !serves(entry.owner, key, cx) => select(at, udp, Some(entry.owner), cx),
        Standing::Owned => Fate::forward(entry.owner),
        Standing::HandedOver => Fate::HandOver { to: entry.owner },
        Standing::Reopens => select(at, udp, None, cx),
        Standing::Moving => Fate::Hold,
    }
}

/// Whether the stack still has a server for a UDP flow: else the flow has ended with it. At a port that is not distributed the
/// flow is one that a target began itself, or the owner's own stack has it.
#[inline(always)]
pub(crate) fn serves<K: Key + Into<KeyParts>>(stack: StackIndex, key: K, cx: &Context<'_>) -> bool {
    let KeyParts { dvipa, dvipa_port, .. } = key.into();
    let service = cx.tables.service(dvipa, dvipa_port, Protocol::Udp);
    service.is_none_or(|service| service.serves(stack))
}

/// Selects a target and enters the connection in the CRT. If another worker was faster, its choice stands. `former`: the stack
/// that had the UDP flow until now.
#[inline(never)]
fn select<K: Key + Into<KeyParts>>(
    at: Located<K>,
    udp: bool,
    former: Option<StackIndex>,
    cx: &Context<'_>,
) -> Fate {
    try_select(at, udp, former, cx).unwrap_or_else(|fate| fate)
}

#[inline(always)]
fn try_select<K: Key + Into<KeyParts>>(
    at: Located<K>,
    udp: bool,
    former: Option<StackIndex>,
    cx: &Context<'_>,
) -> Result<Fate, Fate> {
    let KeyParts { client, dvipa, dvipa_port, .. } = at.key().into();
    let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
    let target = match cx.tables.service(dvipa, dvipa_port, protocol) {
        Some(service) => {
            let target = service.pick(client, cx.crt, cx.now);
            // A flow whose server has ended has begun before; a client that is refused is told at once.
            if target.is_some() && former.is_none() {
                service.admit(client.ip(), cx.now).map_err(Fate::Drop)?;
            }
            target.ok_or_else(|| service.refusal(client.ip()))
        }
        None if !udp => return Err(Fate::Unserved),
        None => own_stack(cx),
    };
    let target = target.map_err(Fate::Refuse)?;
    let entry = enter(at, target, former, cx).map_err(Fate::Drop)?;
    Ok(began(entry))
}

/// What is not distributed is served by the owner's own stack (seed 004, figure 7, block 140), but not back to it what it asks itself.
fn own_stack(cx: &Context<'_>) -> Result<StackIndex, Reason> {
    cx.tables.own_stack().filter(|_| cx.from == Port::Nic).ok_or(Reason::NotDistributed)
}

/// The first packet of a TCP connection to a port that is not distributed.
pub(super) fn undistributed(key: AnyKey, cx: &Context<'_>) -> Fate {
    let entry = own_stack(cx).map_err(Fate::Refuse).and_then(|own| key.insert(own, cx).map_err(Fate::Drop));
    entry.map_or_else(|fate| fate, began)
}

/// Enters the first packet's connection in the CRT at this stack; returns what is in force.
#[inline(always)]
pub(crate) fn enter<K: Key + Into<KeyParts>>(
    at: Located<K>,
    target: StackIndex,
    former: Option<StackIndex>,
    cx: &Context<'_>,
) -> Result<Entry, Reason> {
    let protocol = at.key().into().protocol;
    let entry = match protocol {
        Protocol::Tcp => cx.crt.insert_half_open(at, target, cx.now),
        Protocol::Udp => cx.crt.insert_flow(at, target, former, cx.now),
    };
    entry.map_err(table_full)
}

/// A SYN of a connection whose owner is not heard of: goes to another target, if there is one that is. A half-open connection the
/// client does not have yet; that it has one which is established, and the SYN is a late copy, is less likely than that its host is gone.
#[inline(never)]
fn reselect<K: Key + Into<KeyParts>>(key: K, found: Entry, cx: &Context<'_>) -> Fate {
    let KeyParts { client, dvipa, dvipa_port, .. } = key.into();
    let service = cx.tables.service(dvipa, dvipa_port, Protocol::Tcp);
    let target = service.and_then(|service| service.pick(client, cx.crt, cx.now));
    match target.filter(|target| cx.tables.state(*target) == StackState::Up) {
        None => Fate::forward(found.owner),
        Some(target) => match cx.crt.reselect(key, found, target, cx.now) {
            Ok(entry) => began(entry),
            Err(refused) => Fate::Drop(table_full(refused)),
        },
    }
}

/// The first packet of a connection with this entry.
fn began(entry: Entry) -> Fate {
    match standing(entry.state, true) {
        Standing::Moving => Fate::Hold,
        Standing::HandedOver => Fate::HandOver { to: entry.owner },
        Standing::Owned | Standing::Reopens => {
            Fate::Forward { to: entry.owner, counts: Reason::ForwardedNew }
        }
    }
}

/// Why the CRT took no entry, as a reason.
pub(crate) fn table_full(refused: Refused) -> Reason {
    match refused {
        Refused::Full | Refused::Busy => Reason::TableFull,
        Refused::Index => Reason::StackUnreachable,
    }
}
