//! Control sockets: what applications ask of this host's agent, and what they are told.
//!
//! An application connects to a Unix socket, registers for DVIPAs and ports, and can then give away connections that it
//! holds and be offered others (`model::control_socket` has the messages). What moves a connection is not here: the agent
//! takes [`Event`]s from [`Applications::next`] and answers with [`Command`]s.
//!
//! What an application does wrong hurts only itself: everything it can make the agent hold is bounded ([`limits`]), each
//! socket has a task and bounded queues of its own, and who does not read is closed.
//!
//! In reading order: [`event`] (the contract with the agent), [`limits`], [`machine`] (what one socket's requests come to:
//! pure), [`rules`] (who may register for what: pure), `inspect` (what a passed descriptor is), `socket` (one socket's task), [`server`] (accepts, and joins all sockets),
//! `fake` (feature `fake`: a stack of one host, for tests of applications).

pub mod event;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod inspect;
pub mod limits;
pub mod machine;
pub mod rules;
pub mod server;
mod socket;

pub use event::{Answer, ApplicationId, Choice, Command, Event, Held, Moving, Named, Registration, Saying};
pub use rules::{Rule, Rules};
pub use server::{Applications, Settings, Undelivered};

#[cfg(test)]
mod tests;
