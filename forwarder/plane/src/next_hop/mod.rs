//! Link-layer addresses of the ways to the stacks, from the node's kernel.
//!
//! The forwarder has no ARP cache and no routing daemon of its own: for each stack's cluster address the kernel behind
//! the local port is asked for the route, and its neighbour table for the next hop's address. [`Resolver`] decides (pure);
//! [`netlink`] asks, follows the kernel's news and has addresses resolved that nobody else talks to; [`too_big`] hears from
//! the node's kernel which packets were too big for a router on the way.

pub mod netlink;
mod resolver;
mod too_big;

pub use netlink::NextHops;
pub use resolver::{Action, Event, Known, Resolver, Seen, Trust, Wanted};
