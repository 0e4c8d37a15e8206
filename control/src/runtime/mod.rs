//! Turns I/O into events of the machine and its actions into I/O, on one thread.
//!
//! In reading order: [`check`] (a host, before the start), [`forwarding`] (what the runtime asks of the forwarder beside it), [`environment`] (what others change in the
//! kernel), `driver` (the loop: the
//! machine, the sessions and the forwarder meet here), `etcd` (what it is asked), `epochs` (the highest, on disk), `durable` (how such files are written), `reload` (a new configuration, whole or not at all), `history` (the
//! former ones), `configuring` (orders about single keys),
//! [`api`] (the words of the admin API, `docs/admin-api.md`), `admin` (HTTP over a Unix socket), `answers` (what it answers), [`looking`] (what is asked about packets), [`why`] (what would become of one), [`trace`] (what becomes
//! of those that pass), `listings` (looks into the whole CRT), `census` (what each stack has of each service), `metrics` (Prometheus), `timings` (how
//! long things take), `web` (the page), `notes` (the log), `transfers` (what
//! became of transfers), `start` (from files to a running control
//! thread).

mod admin;
mod answers;
pub mod api;
mod census;
pub mod check;
mod configuring;
mod driver;
mod durable;
pub mod environment;
mod epochs;
mod etcd;
mod events;
pub mod forwarding;
mod history;
mod listings;
pub mod looking;
mod metrics;
mod notes;
mod reload;
mod start;
mod timings;
pub mod trace;
mod transfers;
mod web;
pub mod why;

#[cfg(any(test, feature = "fake"))]
pub mod fake;
#[cfg(test)]
mod tests;

pub use configuring::load;
pub use driver::{CONNECTIONS_A_TURN, EVENTS_A_TURN};
pub use etcd::{EtcdMemberView, EtcdView, Unusable};
pub use forwarding::{
    Account, Counter, CrtCursor, CrtEntry, CrtFilter, CrtPage, CrtStats, Forwarding, Given, MOST_SHARES,
    NotHandedOver, PortView, RouteCount, Share, TICK_MS, Ticked, TurnedAway,
};
pub use start::{Runtime, RuntimeError};
