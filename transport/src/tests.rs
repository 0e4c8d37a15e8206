//! Sessions on loopback. The endpoints are real, the peers that misbehave are written with quinn itself.

mod fixture;
mod misbehaviour;
mod peers;
mod sessions;
