//! A whole cluster on one machine: network namespaces, real kernels, the real programs.
//!
//! One Ethernet segment (a bridge in a namespace of its own) joins a client, a routing node with `batond`, and targets
//! with an agent and an unmodified nginx each. Nothing of it is connected to the machine's own interfaces. The demo and
//! every end-to-end test build their lab here and nowhere else.
//!
//! In reading order: [`spec`] (what a lab consists of), [`lab`] (the lab while it runs), then what it is made from:
//! [`fabric`] (namespaces and links), [`guest`] (a routing node in a virtual machine), [`files`] (configuration of the programs), [`process`], [`namespace`],
//! [`capture`], [`client`], [`server`], [`maildir`], [`cpu`], [`impair`] (links that misbehave), [`flood`], [`view`] (what the operator's command
//! line shows), [`registry`] (who clears up, also after a `kill -9`).

pub mod capture;
pub mod client;
pub mod cpu;
pub mod error;
pub mod fabric;
pub mod files;
pub mod flood;
pub mod guest;
pub mod impair;
pub mod lab;
pub mod maildir;
pub mod namespace;
pub mod process;
pub mod registry;
pub mod server;
pub mod spec;
pub mod view;

pub use capture::Capture;
pub use error::{LabError, Result};
pub use flood::Flood;
pub use impair::Impairment;
pub use lab::Lab;
pub use namespace::Namespace;
pub use server::Server;
pub use spec::{Spec, Web};
