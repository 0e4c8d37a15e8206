//! The target's side of baton: one host's listens and connections are watched, its packets decapsulated, and the routing
//! stacks told.
//!
//! In reading order: [`config`] (`agent.toml`), [`machine`] (what is decided: pure), [`system`] (what the kernel is asked:
//! BPF programs, sockets, addresses), [`counters`] (what the programs count), [`environment`] (what others changed on the host),
//! [`checks`] (servers that are asked whether they are well), [`rights`] (what a routing stack may say), [`ports`] (which of them applications are given), [`tokens`] (with which routing stacks hand
//! connections over unasked), [`runtime`] (joins them and the sessions),
//! [`admin`] (what operators see), [`control_socket`] (what applications ask and are told), [`repair`] (sockets taken out of
//! this kernel and put into it), [`transfers`] (how connections leave and come). [`join`] is before all that: how a host gets its certificate.

pub mod admin;
pub mod checks;
pub mod config;
pub mod control_socket;
pub mod counters;
pub mod environment;
pub mod join;
pub mod machine;
pub mod ports;
pub mod repair;
pub mod rights;
pub mod runtime;
pub mod system;
pub mod tokens;
pub mod transfers;

pub use config::Config;
