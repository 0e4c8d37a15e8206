//! The transition table row by row, then what it has to come to.

mod choosing;
mod connections;
mod content;
mod definitions;
mod direct;
mod incremental;
mod leases;
mod limits;
mod lists;
mod looks;
mod losses;
mod moves;
mod notes;
mod numbers;
mod operations;
mod peers;
mod ports;
mod quic;
mod ranges;
mod reselecting;
mod routes;
mod selection;
mod storms;
mod strangers;
mod table;
mod transfers;
