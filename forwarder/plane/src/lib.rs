//! The routing node's data plane: packets between ports, and what the control thread asks of them.
//!
//! In reading order: [`packet`] (a DPDK packet as the forwarder sees it), [`worker`] (the poll loop), [`cores`] (who
//! runs where), [`ports`] (NIC and local port), `frames` (how large theirs are), [`steering`] (which packets have a queue to themselves), [`node`] (the workers of one routing node), [`next_hop`] (link-layer
//! addresses from the node's kernel), [`kernel`] (what that kernel must allow), [`lock`] (one `batond` a socket and device), [`announce`] (a DVIPA is told to the
//! segment), [`groups`] (its MLD reports), [`routes`] (and to the routing daemon), [`forwarding`] (what the control thread asks of all this).

pub mod packet;
pub mod worker;

pub mod cores;
pub mod node;
pub mod ports;

mod frames;
pub mod steering;
pub mod table;

pub mod kernel;
pub mod lock;
pub mod next_hop;

pub mod announce;
pub mod forwarding;
pub mod groups;
pub mod opening;
pub mod routes;
