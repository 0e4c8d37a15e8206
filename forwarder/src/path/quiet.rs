//! SYNs on established connections of stacks of which nothing was heard for a moment ([`StackState::Quiet`]).
//!
//! Such a SYN may be a client that begins anew from the same port, and its stack's host be dead; or it is a late copy, and the connection
//! is alive. So it waits until it is known how the stack is: if it is heard again, the SYN goes there, and the host's kernel, which has the
//! connection or has not, says what is right (RFC 9293 3.10.7.4); if it is lost, another target is selected. It waits for
//! [`Limits::quiet_ms`] at most, then it goes to the stack, and so it does at once while the places ([`Limits::quiet`]) are taken.

use std::collections::VecDeque;

use model::StackIndex;
use model::dpt::StackState;

use super::emit::Out;
use super::whose::Read;
use super::{Context, Held, deliver};
use crate::{Limits, Now, PacketBuffer, Port, Reason, Sink};

/// A SYN that waits.
#[derive(Debug)]
struct Waiting<B> {
    packet: B,
    read: Read,
    owner: StackIndex,
    from: Port,
    since: Now,
}

/// The SYNs that one worker holds, in the order in which they came. Its memory is taken at the start.
#[derive(Debug)]
pub(super) struct Quiet<B> {
    waiting: VecDeque<Waiting<B>>,
    limits: Limits,
}

impl<B: PacketBuffer> Quiet<B> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { waiting: VecDeque::with_capacity(limits.quiet), limits }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Keeps a SYN until it is known how its connection's stack is.
pub(super) fn wait<B: PacketBuffer, S: Sink<B>>(
    packet: B,
    read: &Read,
    owner: StackIndex,
    held: &mut Held<B>,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) {
    let places = &mut held.quiet;
    if places.waiting.len() >= places.limits.quiet {
        out.note(Reason::QuietNoRoom, 1);
        return deliver::forward(packet, read, (owner, Reason::Forwarded), cx, out);
    }
    places.waiting.push_back(Waiting { packet, read: *read, owner, from: cx.from, since: cx.now });
    out.note(Reason::QuietHeld, 1);
}

/// Delivers the SYNs whose stacks are heard again or lost, and those that have waited for long enough. To be called every millisecond
/// or so.
pub(super) fn look<B: PacketBuffer, S: Sink<B>>(held: &mut Held<B>, cx: &Context<'_>, out: &mut Out<'_, S>) {
    for _ in 0..held.quiet.waiting.len() {
        let Some(waiting) = held.quiet.waiting.pop_front() else { return };
        let over = cx.now.ms.saturating_sub(waiting.since.ms) >= held.quiet.limits.quiet_ms;
        let cx = Context { from: waiting.from, ..*cx };
        if cx.tables.state(waiting.owner) != StackState::Quiet {
            deliver::any(waiting.packet, held, &cx, out);
        } else if over {
            let Waiting { packet, read, owner, .. } = waiting;
            deliver::forward(packet, &read, (owner, Reason::Forwarded), &cx, out);
        } else {
            held.quiet.waiting.push_back(waiting);
        }
    }
}
