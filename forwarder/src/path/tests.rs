//! Each stage by what it does to packets, through [`Worker::process`](super::Worker::process).

mod agreement;
mod answers;
mod bench;
mod connections;
mod encapsulation;
mod fragments;
mod icmp;
mod outgoing;
mod passing;
