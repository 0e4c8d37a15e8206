//! Each stage by what it does to packets, through [`Worker::process`](super::Worker::process).

mod agreement;
mod answers;
mod bench;
mod budgets;
mod connections;
mod encapsulation;
mod flood;
mod follow;
mod foretold;
mod fragments;
mod frozen;
mod handoff;
mod icmp;
mod limits;
mod lost;
mod orphans;
mod outgoing;
mod passing;
mod plain;
mod quic;
mod refuse;
mod traced;
mod transact;
mod unserved;
mod volumes;

impl<B: crate::PacketBuffer> super::Worker<B> {
    /// Whether no part of a request waits.
    fn is_idle(&self) -> bool {
        self.held.requests.is_empty()
    }
}
