//! What becomes of a packet, and who is told.

use crate::Reason;

/// A port of the routing node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// The NIC: clients and targets are behind it.
    Nic,
    /// The way to and from the node's own kernel.
    Local,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent through this port, as it is now.
    Send(Port),
    /// It is freed. The reason is counted already.
    Drop(Reason),
}

/// Takes packets out of the path.
pub trait Sink<B> {
    /// Takes one packet. Each packet that went into the path comes out exactly once, maybe in a later call.
    fn give(&mut self, packet: B, verdict: Verdict);

    /// Takes a packet for the node's own kernel that goes ahead of others, because it keeps the node in its cluster or on its
    /// segment.
    fn give_first(&mut self, packet: B) {
        self.give(packet, Verdict::Send(Port::Local));
    }

    /// An empty packet to write a second fragment into, if there is one to be had. It comes back through
    /// [`Sink::give`].
    fn spare(&mut self) -> Option<B> {
        None
    }
}
