//! The words of the cluster.
//!
//! Plain data that every part of baton may know: addresses, names, connections, the destination port table as the
//! workers see it, and the messages between stacks with their encoding. No I/O, no clock, no decisions.
//!
//! In reading order: [`address`] (DVIPA, protocol, service), [`stack`] (who is in the cluster), [`connection`],
//! [`dpt`] (what the routing stack decided), [`message`] (what stacks tell each other), [`codec`] (how it is written).

pub mod address;
pub mod codec;
pub mod connection;
pub mod dpt;
pub mod message;
pub mod stack;

pub use address::{Dvipa, DvipaIndex, Protocol, Service};
pub use connection::Connection;
pub use stack::{ClusterAddress, Epoch, Rank, StackIndex, StackName};
