//! How long and how much.

use std::time::Duration;

/// What was not answered is said again this often. Sessions lose nothing while they last; so this matters when one broke.
pub const REPEAT: Duration = Duration::from_secs(2);
/// A hand-over is said again this often, because the packet that makes the connection may get lost: as soon as TCP itself
/// would send again (the least of Linux, `TCP_RTO_MIN`).
pub const HAND_OVER: Duration = Duration::from_millis(200);
/// Each part of a connection may take this long, or of the state that goes ahead: all that is under way in a session shares it,
/// [`BYTES`] at most, and nothing of it gets lost. If the session ends, so does the wait.
pub const PART: Duration = Duration::from_secs(30);
/// The source waits this long for Consult, Freeze or Refuse.
pub const ANSWER: Duration = Duration::from_secs(5);
/// A target application may think this long about an offer.
pub const CONSENT: Duration = Duration::from_secs(5);
/// The routing stack waits this long for Agreed: longer than the state's way and the application's time together.
pub const CONSULT: Duration = Duration::from_secs(12);
/// The source waits this long for Freeze since it heard last that the application is being asked: longer than a part of the state
/// may take, behind which its own requests wait, and the routing stack after it.
pub const CONSULTED: Duration = Duration::from_secs(45);
/// The routing stack waits this long for Prepared.
pub const PREPARE: Duration = Duration::from_secs(10);
/// A target waits this long for Commit, or for the packet that makes a connection, then voids it.
pub const PREPARED: Duration = Duration::from_secs(30);
/// The routing stack waits this long for Active, then asks the target to void the transfer or say that it is active.
pub const COMMIT: Duration = Duration::from_secs(10);
/// The routing stack waits this long until a packet has made a connection, and asks likewise. A source that is frozen can't send
/// again what its client has lost, and such a client sends no packet that makes the connection.
pub const MADE: Duration = Duration::from_secs(2);
/// After an abort the client's packets are held until the source has thawed, but no longer than this.
pub const THAW: Duration = Duration::from_secs(1);
/// A source that learns no outcome gives the silent connection up: Linux retransmits for 924.6 s at most
/// (`tcp_retries2` = 15), so that the client has given up by then.
pub const IN_DOUBT: Duration = Duration::from_secs(925);
/// The routing stack and the target's ledger remember a transfer longer than any source can be in doubt about it.
pub const MEMORY: Duration = Duration::from_secs(2 * 925);
/// The most transfers that one machine has under way, those included of which nobody knows the outcome any more: each is kept for as
/// long as that can be told, [`MEMORY`] at most.
pub const TRANSFERS: usize = 65_536;
/// The most to one target: a dead one uses up no others' places.
pub const TRANSFERS_TO_A_TARGET: usize = 4096;
/// The most bytes of connections that a routing stack holds in its memory at once.
pub const BYTES: usize = 256 << 20;
/// The most ended transfers that are remembered, so that late messages of them do nothing.
pub const CLOSED: usize = 65_536;
