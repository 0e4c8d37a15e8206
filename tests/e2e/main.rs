//! End-to-end tests: the real programs, real kernels and real sockets, each test in a lab of its own.
//!
//! One file a group of requirements; the doc comment of each test begins with the rows that it meets. They need root,
//! so they are `ignored` for plain `cargo test`; `scripts/test cluster` runs them.

mod announcing;
mod application_state;
mod backup;
mod bgp;
mod choosing;
mod connections;
mod containers;
mod counter;
mod databases;
mod dead;
mod definition;
mod documentation;
mod drain;
mod environment;
mod etcd;
mod evacuation;
mod failures;
mod far;
mod fixture;
mod floods;
mod forwarding;
mod injection;
mod joining;
mod kernels;
mod kills;
mod lifetimes;
mod listeners;
mod listening;
mod local_life;
mod mail;
mod many;
mod messages;
mod moving_state;
mod nic;
mod orphans;
mod outlive;
mod oversize;
mod pktgen;
mod ports;
mod restarts;
mod ring;
mod scale;
mod second_choice;
mod selection;
mod soak;
mod strangers;
mod takeover;
mod talking;
mod thinking;
mod transfer;
mod udp;
mod witnesses;
mod workers;
