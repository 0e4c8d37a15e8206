//! What becomes of a packet to a DVIPA: decided by one stage, served by [`deliver`](super::deliver).

use model::StackIndex;

use crate::Reason;
use crate::crt::Entry;

/// What becomes of a packet to a DVIPA. What is answered here, or is no packet to a DVIPA, has an
/// [`End`](super::emit::End) instead. The reason says what the packet is counted as, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes to this stack.
    Forward {
        /// Where its connection is.
        to: StackIndex,
        /// What it is counted as once it is sent.
        counts: Reason,
    },
    /// It goes to this stack with its connection's handoff option.
    HandOver {
        /// Where its connection will be.
        to: StackIndex,
    },
    /// Its connection has no entry: the stacks that may have it are asked.
    Ask,
    /// It opens a TCP connection to a port that nothing is known to serve.
    Unserved,
    /// It opens a connection that is established at this stack, of which nothing was heard for a moment.
    Doubtful {
        /// Where its connection is.
        to: StackIndex,
    },
    /// This node may have begun its connection itself, because the service has routes: it is answered, or goes on with the first
    /// request. What the CRT knows of it goes along.
    Transact(Option<Entry>),
    /// It waits: its connection is moving, or it is a fragment whose first one has not come yet.
    Hold,
    /// Nothing serves it, for this reason: its sender is told, if the service says so.
    Refuse(Reason),
    /// It ends here.
    Drop(Reason),
}

impl Fate {
    /// It goes to the stack that has its connection.
    pub(crate) fn forward(to: StackIndex) -> Self {
        Fate::Forward { to, counts: Reason::Forwarded }
    }
}
