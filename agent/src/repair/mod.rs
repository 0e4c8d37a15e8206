//! Live TCP connections are taken out of this kernel and put into it (TCP_REPAIR), without a packet that the client could
//! tell from the ordinary.
//!
//! The order of a move, with the freeze map ([`crate::system::freezes`]) around it:
//!
//! | old host | new host |
//! | --- | --- |
//! | freeze, [`dump`] (or [`pull`] from an unmodified server) | |
//! | | freeze, [`restore`] |
//! | | thaw the freeze map, [`Restored::activate`] |
//! | depart, [`discard`] | |
//!
//! or, if it comes to nothing, thaw the freeze map and [`thaw`], and [`Restored::discard`].
//!
//! Calls take some ten microseconds and never wait for a peer. Not carried over, because no kernel tells or takes it: data
//! received out of order (the client sends it again), the congestion window and round-trip times (a new start), ECN (the
//! connection goes on without), and the client's last timestamp (the first segment echoes none).
//!
//! In reading order: `activity`, `inspect`, `dump`, `restore`, `find`, `pull`, `unread`; what they stand on: `again`, `mode`, `options`, `segment`, `layout`,
//! `calls` (all unsafe code).

mod activity;
mod again;
mod calls;
mod dump;
mod find;
mod inspect;
mod layout;
mod mode;
mod options;
mod pull;
mod refused;
mod restore;
mod segment;
mod unread;

pub use activity::activity;
pub use dump::{discard, dump, reset, thaw};
pub use find::{
    Places, find, find_at, is_in_flight, is_silent, prompt, rescue, silence, unacknowledged, wake,
};
pub use inspect::received;
pub use pull::pull;
pub use refused::Refused;
pub use restore::{RestoreError, Restored, activate_again, restore};
pub use unread::Unread;

/// Whether this process may put sockets into repair mode on this kernel.
///
/// # Errors
/// What the system says.
pub fn probe() -> std::io::Result<()> {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)?;
    mode::enter(&socket)
}
