//! A burst of packets in, a verdict for each out.
//!
//! This crate knows byte slices and tables. It knows nothing of DPDK, sockets, clocks or the cluster: the code that feeds it
//! (a poll loop, a pcap file, a fuzzer, a benchmark) brings a [`PacketBuffer`], a [`Sink`] and the time.
//!
//! In reading order: [`buffer`] (what a packet is), [`verdict`] (what becomes of it), [`reason`], [`counters`] and [`traffic`] (why,
//! how often, and of which service), [`packet`] (typed views of headers), [`tables`] (the control thread's decisions, ready to use),
//! [`fence`] (until when they say what this node owns), [`loads`] (what stacks have to do), [`crt`] (connection → stack), [`pools`] (tokens that stacks gave out ahead), [`reselecting`] (connections that are to move),
//! [`transactions`] (what is said to clients before a stack has their connection), [`path`] (the stages a burst passes), [`foretell`]
//! (the same without a packet), [`trace`] (the same with somebody who looks on).
//!
//! The hot path makes no allocation, lock, system call or panic. The lints below, `tests/allocations.rs` and the
//! property tests of the parsers hold it to that.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::arithmetic_side_effects
    )
)]

pub mod buffer;
pub mod verdict;

pub mod counters;
pub mod reason;

pub mod crt;
pub mod fence;
pub mod foretell;
pub mod loads;
pub mod looks;
pub mod packet;
pub mod path;
pub mod pools;
pub mod reselecting;
pub mod tables;
pub mod trace;
pub mod traffic;
mod transactions;

pub use ::routes;
pub use buffer::{PacketBuffer, TestPacket};
pub use counters::Counters;
pub use crt::Now;
pub use fence::Fence;
pub use loads::{Lastings, Loads};
pub use looks::Looks;
pub use packet::Mac;
pub use path::{AnyKey, Handoffs, Limits, Worker};
pub use pools::{Pool, Pools};
pub use reason::{Kind, Reason};
pub use reselecting::{Reselected, Reselecting};
pub use tables::{Affinities, Built, Choosers, Neighbours, Node, Tables, WayTo};
pub use verdict::{Port, Sink, Verdict};
