//! What an application can make the agent hold.
//!
//! A request of a transfer holds two descriptors, an offer one: all sockets together stay below a hard limit of 524 288,
//! which is what a service has by default.

use std::time::Duration;

/// Control sockets at once.
pub const MAX_SOCKETS: usize = 256;
/// Control sockets of one user at once, so that one user does not take them all from the others.
pub const MAX_SOCKETS_A_USER: usize = 128;
/// Registrations of one socket.
pub const MAX_REGISTRATIONS: usize = 64;
/// Subscriptions of one socket.
pub const MAX_SUBSCRIPTIONS: usize = 64;
/// Transfers of one socket that are not answered.
pub const MAX_TRANSFERS: usize = 512;
/// Offers to one socket that it has not answered, or whose connection it does not have yet, and connections that it was given and
/// has not taken.
pub const MAX_OFFERS: usize = 512;
/// Messages to an application that it has not read, beyond the socket's own buffer. No request is read meanwhile.
pub const UNSENT_PAUSE: usize = 64;
/// With so many messages that it has not read, what other applications say to it is lost: they can neither have it closed nor keep its
/// requests from being read.
pub const MAX_UNSENT_BEFORE_HEARD: usize = UNSENT_PAUSE / 2;
/// With so many it is closed.
pub const MAX_UNSENT: usize = 2048;
/// Commands that wait for one socket's task.
pub const COMMANDS: usize = 1024;
/// Events that wait for the agent.
pub const EVENTS: usize = 256;
/// A connection is in the application's socket within this time: it has room, or its application does not read.
pub const PASS_WITHIN: Duration = Duration::from_secs(5);
/// A connection that was given is taken within this time, or closed, so that its client is told.
pub const TAKE_WITHIN: Duration = Duration::from_secs(60);
/// An application that has connected registers within this time.
pub const REGISTER_WITHIN: Duration = Duration::from_secs(10);
