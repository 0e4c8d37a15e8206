//! The words of the cluster.
//!
//! Plain data that every part of baton may know: addresses, names, connections, the destination port table as the
//! workers see it, and the messages between stacks with their encoding. No I/O, no clock, no decisions.
//!
//! In reading order: [`address`] (DVIPA, protocol, service), [`stack`] (who is in the cluster), [`connection`],
//! [`crt`] (where a connection is in its life), [`numbering`] (what the numbers in the CRT mean), [`dpt`] (what the routing stack decided), [`limits`] (how many connections may begin), [`environment`] (what others changed on a
//! host), [`checksums`] (packets that a sender's device left unfinished), [`blame`] (who can mend what went wrong), [`message`] (what
//! stacks tell each other) with [`load`], [`peer`] (what routing stacks tell each other), [`ports`] (which stack uses which ports of a DVIPA), [`ranges`]
//! (addresses that applications make DVIPAs), [`route`] (which first requests of clients go where), [`quic`] (how connection IDs name stacks), [`patience`] (how long requests wait for their connections),
//! [`transfer`] (what they say while a connection moves), [`ownership`] (what routing stacks and witnesses say of who owns a DVIPA),
//! [`handoff`] and [`ask`] (what forwarders tell targets in packets), [`codec`] (how it is written), [`control_socket`] (what an
//! application and its agent tell each other).

pub mod address;
pub mod ask;
pub mod blame;
pub mod checksums;
pub mod codec;
pub mod connection;
pub mod connection_state;
pub mod control_socket;
pub mod crt;
pub mod dpt;
pub mod environment;
pub mod handoff;
pub mod limits;
pub mod load;
pub mod message;
pub mod numbering;
pub mod ownership;
pub mod patience;
pub mod peer;
pub mod ports;
pub mod quic;
pub mod ranges;
pub mod route;
pub mod stack;
pub mod transfer;

pub use address::{Dvipa, DvipaIndex, Protocol, Service};
pub use blame::Blame;
pub use connection::Connection;
pub use connection_state::ConnectionState;
pub use crt::CrtState;
pub use handoff::HandoffOption;
pub use limits::Limits;
pub use stack::{ClusterAddress, Epoch, Rank, StackIndex, StackName};

#[cfg(test)]
mod tests;
