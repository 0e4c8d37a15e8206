//! How long a request waits until its connection has come to the target that it is for. Who waits for another waits for longer than it, so
//! that nobody gives up what another is still about to do: one length, from which all follow.

use std::time::Duration;

/// For so long the routing stack tries to have a connection moved.
pub const MOVE: Duration = Duration::from_secs(8);
/// For so long a worker holds the request, if it does not hear before that the connection stays: it hears that in less than two seconds.
pub const REQUEST: Duration = MOVE.saturating_add(Duration::from_secs(2));
/// An agent asks for the transfer that it was ordered within this time, or says why not; else the order is over. Longer than a worker
/// waits, and by more than an agent waits for anybody by itself.
pub const ORDER: Duration = REQUEST.saturating_add(Duration::from_secs(5));
