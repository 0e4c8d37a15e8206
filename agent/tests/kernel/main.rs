//! The agent in a real kernel: programs, sockets and addresses, with a routing stack that this test plays.
//!
//! Needs root. Each test makes its own network namespaces and removes them; run with
//! `cargo test -p baton-agent --test kernel -- --ignored`.

mod answers;
mod ask;
mod connections;
mod decapsulation;
mod egress;
mod host;
mod listens;
mod restart;
mod routing_stack;
mod scapy;
