//! What a routing stack decides.
//!
//! In reading order: [`config`] (the TOML file, typed, every mistake with its place and fix), [`explain`] (which route takes a request),
//! [`machine`] (ownership,
//! targets and the DPT: pure, `(event, now)` in, actions out), [`runtime`] (sessions, timers and the admin API around
//! it), and `sim` (many machines on a network that misbehaves; tests only).

pub mod config;
pub mod explain;
pub mod machine;
pub mod runtime;
#[cfg(test)]
mod sim;
