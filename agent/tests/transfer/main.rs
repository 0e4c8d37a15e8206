//! Live connections move between real kernels: two hosts with the same DVIPAs, and a client whose packets are sent
//! elsewhere where the cluster would switch the CRT entry. First with the calls alone (`bench`), then with whole agents,
//! applications and a routing stack that the test plays (`cluster`).
//!
//! Needs root. Each test makes its own network namespaces and removes them; run with
//! `cargo test -p baton-agent --test transfer -- --ignored`.

mod admissions;
mod applications;
mod bench;
mod cluster;
mod forwarder;
mod freezes;
mod injection;
mod moves;
mod orders;
mod refusals;
mod restarts;
mod routing_stack;
mod state;
mod stream;
mod unread;
