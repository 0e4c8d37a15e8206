//! Replay cases: `pcaps/NAME/{in.pcap,out.pcap,case.toml}`.
//!
//! One way to read a case, to compare what came out with what should have, and to show a difference to a person. Two
//! harnesses use it: one without DPDK (`forwarder/tests/pcap_replay.rs`), one through DPDK's net_pcap
//! (`forwarder/plane/tests/pcap_replay.rs`). `generate.py` writes the cases; this crate never computes what a packet should become.
//!
//! In reading order: [`case`] (the file), [`tables`] (what of it the forwarder is given), [`frames`] (pcap files),
//! [`bench`] (the forwarder's tables and clock, for both harnesses), [`replay`] (steps, results, `BLESS=1`), [`decode`]
//! (a frame as named fields), [`difference`] (two frames side by side).

pub mod bench;
pub mod case;
pub mod decode;
pub mod difference;
pub mod frames;
pub mod replay;
pub mod tables;

pub use bench::{Bench, COOKIE_KEY};
pub use case::{Case, Port, Step, What};
pub use frames::Frame;
pub use replay::{Arrival, Harness, Outcome, Replay, Sent};
