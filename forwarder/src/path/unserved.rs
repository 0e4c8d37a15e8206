//! SYNs to ports that no stack is known to listen on.
//!
//! A server that makes a listener and tells its client the port over another connection (FTP in passive mode) is faster than the
//! report of the listen: its client's SYN can be here first. So such a SYN waits for the DPT to name a stack, for
//! [`Limits::unserved_ms`] at most; then it goes to the owner's own stack, which serves or refuses what is not distributed.
//! Servers choose such ports from 1024 on; what goes to those below is decided at once, and so is everything while the places
//! ([`Limits::unserved`]) are taken: a scan of ports costs a place for each of them and no more.

use std::collections::VecDeque;

use model::Protocol;

use super::emit::Out;
use super::whose::Read;
use super::{AnyKey, Context, Held, deliver};
use crate::crt::KeyParts;
use crate::{Limits, Now, PacketBuffer, Port, Reason, Sink};

/// The first port that a server may choose without being privileged.
const FIRST_CHOSEN: u16 = 1024;

/// A SYN that waits.
#[derive(Debug)]
struct Waiting<B> {
    packet: B,
    read: Read,
    key: AnyKey,
    from: Port,
    since: Now,
}

/// The SYNs that one worker holds, in the order in which they came. Its memory is taken at the start.
#[derive(Debug)]
pub(super) struct Unserved<B> {
    waiting: VecDeque<Waiting<B>>,
    limits: Limits,
}

impl<B: PacketBuffer> Unserved<B> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { waiting: VecDeque::with_capacity(limits.unserved), limits }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Whether some other stack than the owner's own may turn out to listen there.
fn may_be_served(key: AnyKey, cx: &Context<'_>) -> bool {
    let KeyParts { dvipa, dvipa_port, protocol, .. } = key.into();
    let own = cx.tables.own_stack();
    let others = || cx.tables.ask(dvipa).candidates.iter().any(|stack| Some(*stack) != own);
    protocol == Protocol::Tcp && dvipa_port >= FIRST_CHOSEN && cx.from == Port::Nic && others()
}

/// Keeps a SYN until its port is served, or does at once what is to be done without that.
pub(super) fn wait<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let Some(key) = read.key else { return deliver::undistributed(packet, read, held, cx, out) };
    if !may_be_served(key, cx) {
        return deliver::undistributed(packet, read, held, cx, out);
    }
    let places = &mut held.unserved;
    if places.waiting.len() >= places.limits.unserved {
        out.note(Reason::UnservedNoRoom, 1);
        return deliver::undistributed(packet, read, held, cx, out);
    }
    places.waiting.push_back(Waiting { packet, read: *read, key, from: cx.from, since: cx.now });
    out.note(Reason::UnservedHeld, 1);
}

/// Delivers the SYNs whose ports are served by now, and those that have waited for long enough. To be called every millisecond or so.
pub(super) fn look<B: PacketBuffer, S: Sink<B>>(held: &mut Held<B>, cx: &Context<'_>, out: &mut Out<'_, S>) {
    for _ in 0..held.unserved.waiting.len() {
        let Some(waiting) = held.unserved.waiting.pop_front() else { return };
        let KeyParts { dvipa, dvipa_port, protocol, .. } = waiting.key.into();
        let decided =
            cx.tables.service(dvipa, dvipa_port, protocol).is_some() || waiting.key.get(cx).is_some();
        let over = cx.now.ms.saturating_sub(waiting.since.ms) >= held.unserved.limits.unserved_ms;
        let cx = Context { from: waiting.from, ..*cx };
        if decided {
            deliver::any(waiting.packet, held, &cx, out);
        } else if over {
            deliver::undistributed(waiting.packet, &waiting.read, held, &cx, out);
        } else {
            held.unserved.waiting.push_back(waiting);
        }
    }
}
