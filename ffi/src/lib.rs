//! DPDK behind a small safe surface.
//!
//! In reading order: [`eal`] (starts DPDK once, hands out the workers' cores), [`mempool`], [`mbuf`] (the one owner of a
//! packet, and bursts of them), [`name`] (how a device is named), [`port`] (a device, found by its name and configured),
//! [`queue`] (receive and send), [`steer`] (a receive queue for some packets only), [`clock`]; [`interface`] (what only ioctl sets of the kernel's interfaces). [`error`] says what was attempted on what.
//!
//! This is the only crate that names `rte_*`. It knows nothing of what packets mean. Every `unsafe` block rests on one
//! of these facts, which the types keep:
//!
//! 1. An [`Eal`](eal::Eal) exists only after `rte_eal_init` succeeded, and DPDK is never cleaned up before the process
//!    ends.
//! 2. A [`Mempool`](mempool::Mempool) is never freed, so that an mbuf's memory is valid as long as the process.
//! 3. An [`Mbuf`](mbuf::Mbuf) is the only reference to a live, single-segment mbuf with reference count 1.
//! 4. A started port has every queue that a queue object was made for, each object has one owner, and it is
//!    stopped only when the last of them is gone.
//! 5. There is one pool in a process, so that any two mbufs are of the same.

pub mod clock;
pub mod eal;
pub mod error;
pub mod interface;
pub mod mbuf;
pub mod mempool;
pub mod name;
pub mod port;
pub mod queue;
pub mod steer;

pub use eal::{Eal, Lcore};
pub use error::Error;
pub use mbuf::{BURST, Burst, Mbuf};
pub use mempool::Mempool;
pub use name::DeviceName;
pub use port::{Device, Port, Settings, Started};
pub use queue::{RxQueue, TxQueue};

/// Generated from the installed headers; sizes and offsets are asserted at compile time.
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod raw {
    include!(concat!(env!("OUT_DIR"), "/dpdk.rs"));
}
