//! What applications link to give live TCP connections away and to be given others.
//!
//! A *routing application* runs on the stack that owns a DVIPA. It accepts clients, talks to them or only peeks, decides
//! which target each one needs, and transfers the connection: [`RoutingApplication`]. A *target application* is offered
//! connections, with the application state that the router sends along, and accepts or rejects: [`TargetApplication`]. Both
//! are an [`Application`]: a target can transfer a connection on, and a router can get one back.
//!
//! ```no_run
//! use std::net::TcpListener;
//! use baton_app::{Choice, Registration, RoutingApplication, Terms};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let router = RoutingApplication::register(&Registration::new("router", "198.18.9.1".parse()?, &[80])?)?;
//!     for client in TcpListener::bind("198.18.9.1:80")?.incoming() {
//!         let client = client?;
//!         let target = router.choose(80, client.peer_addr()?, &Choice::all())?;
//!         router.transfer(client, &target, &Terms::new())?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! All calls may be made from several threads at once. A thread behind them reads what the agent says, and registers again when
//! the agent has ended and come back; so a program that forks does so before it registers. Programs on tokio have the same
//! calls in `asynchronous` (feature `tokio`), with a task instead. C has `app/c`, Python `app/python`.
//!
//! In reading order: [`registration`], [`application`] (the calls), [`offer`] (what is offered, and what has come),
//! [`error`], `machine` (what was said so far: pure), `said` (what who reads and who waits share), `link` (the thread, and how
//! calls wait).

pub mod application;
#[cfg(feature = "tokio")]
pub mod asynchronous;
pub mod error;
mod link;
mod machine;
pub mod offer;
pub mod registration;
mod said;

pub use application::{Application, Choice, RoutingApplication, TargetApplication, Terms, wait};
pub use error::{Error, TransferError};
pub use machine::Heard;
pub use model::control_socket::name::BadTarget;
pub use model::control_socket::request::{Consent, Unacknowledged};
pub use model::control_socket::{BadJobName, JobName, Refusal, Target, TargetState, TargetView, WeightFrom};
pub use model::message::Load;
pub use model::transfer::Reason;
pub use model::{Service, StackName};
pub use offer::{Connection, Content, Offer};
pub use registration::{BadRegistration, Registration};
