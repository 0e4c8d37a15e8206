//! QUIC connection IDs that name the stack that has the connection (QUIC-LB, draft-ietf-quic-load-balancers-21), so that a client
//! that changes its address stays there.
//!
//! An [`Algorithm`] is made once from a [`Configuration`]. A server makes connection IDs with it; [`Reader`] has those of a service and
//! says of a client's datagram which server it names. Reading makes no allocation, lock, system call or panic.
//!
//! In reading order: [`packet`] (where the connection ID is), [`algorithm`] (what is in it), [`reader`], [`ids`] (which stack has which
//! server ID), [`mistake`] (what a configuration can't be).

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

mod algorithm;
mod ids;
mod mistake;
mod packet;
mod reader;

pub use algorithm::Algorithm;
pub use ids::{derived, server_ids};
pub use mistake::Mistake;
pub use model::quic::{Assigned, Configuration, Key, ServerId};
pub use packet::{Destination, destination};
pub use reader::{Named, Reader};
