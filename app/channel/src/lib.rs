//! Control sockets: how datagrams, descriptors and memory pass between an application and its stack's agent.
//!
//! A room of its own because both ends need it, as `transport` is for stacks. It knows bytes and descriptors, not what
//! messages mean (that is `model::control_socket`).
//!
//! In reading order: [`channel`] (one end of a control socket), [`listener`] (where applications connect), [`sealed`]
//! (memory that its receiver can trust), `asynchronous` (feature `tokio`: the same in a tokio runtime).

#[cfg(feature = "tokio")]
pub mod asynchronous;
pub mod channel;
pub mod listener;
pub mod sealed;

#[cfg(feature = "tokio")]
pub use asynchronous::{AsyncChannel, AsyncListener};
pub use channel::{Channel, Descriptors, MAX_DESCRIPTORS, Peer, Received};
pub use listener::Listener;
pub use sealed::{Sealed, Unfit};
