//! The target's side of baton: one host's listens and connections are watched, its packets decapsulated, and the routing
//! stacks told.
//!
//! In reading order: [`config`] (`agent.toml`), [`machine`] (what is decided: pure), [`system`] (what the kernel is asked:
//! BPF programs, sockets, addresses), [`counters`] (what the programs count), [`runtime`] (joins them and the sessions),
//! [`admin`] (what operators see).

pub mod admin;
pub mod config;
pub mod counters;
pub mod machine;
pub mod runtime;
pub mod system;

pub use config::Config;
