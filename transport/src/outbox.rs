//! What waits to be sent to one peer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, OnceLock, PoisonError};

use model::Connection;
use model::codec::Side;
use model::message::{FromStack, ToStack};
use model::peer::ToPeer;
use model::transfer::FromHost;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::event::DownReason;

/// Bytes that may wait in one lane: more than the connections that a routing stack holds at once, or a complete account of six
/// million IPv6 connections.
pub const LANE_BYTES: usize = 320 << 20;
/// What a frame counts beside its own bytes.
const FRAME_BYTES: usize = 128;

/// The kinds of one lane keep their order, in [`Lane::Transfer`] those about one connection. Over QUIC each lane has a stream, and
/// lanes do not wait for each other; beside each other on one host they share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// HELLO, HEARTBEAT, LOAD, and what leases need: small and urgent.
    Pulse,
    /// The ranges, the VIPA list, the targets and blocks of ports that follow from it and how they are, and what applications say to each other.
    List,
    /// SRVSTAT, registered applications, NEWCONN, TERMCONN, the addresses that applications are bound to: their order means something.
    Account,
    /// A connection that moves, is ordered to, or is to be given a target: its client waits meanwhile.
    Transfer,
}

/// What an endpoint sends: [`ToStack`] that of a routing stack, [`FromStack`] that of a stack, [`ToPeer`] that of a routing stack to others.
pub trait Sent: Side<Other: Send> + Send + Sync + 'static {
    /// The protocol's name in the TLS handshake (RFC 7301): who dials another kind of endpoint than it means is refused.
    const PROTOCOL: &'static [u8];

    /// In which lane it goes.
    fn lane(&self) -> Lane;

    /// Which connection it is about, in [`Lane::Transfer`]. What is about none goes before all that waits, in its order.
    fn connection(&self) -> Option<Connection>;
}

impl Sent for ToStack {
    const PROTOCOL: &'static [u8] = b"baton/1";

    fn lane(&self) -> Lane {
        match self {
            Self::Ownership(_) | Self::Asked(_) => Lane::Pulse,
            Self::Heard(_)
            | Self::VipaList(_)
            | Self::Targets(_)
            | Self::Views(_)
            | Self::Say(_)
            | Self::PortsGranted(_)
            | Self::Ranges(_)
            | Self::Activate(_)
            | Self::TokensWanted(_) => Lane::List,
            Self::Transfer(_) | Self::Move(_) | Self::Chosen(_) => Lane::Transfer,
        }
    }

    fn connection(&self) -> Option<Connection> {
        match self {
            Self::Heard(_)
            | Self::VipaList(_)
            | Self::Targets(_)
            | Self::Views(_)
            | Self::Say(_)
            | Self::Ownership(_)
            | Self::PortsGranted(_)
            | Self::Ranges(_)
            | Self::Activate(_)
            | Self::TokensWanted(_)
            | Self::Asked(_) => None,
            Self::Transfer(message) => Some(message.subject().0),
            Self::Move(order) => Some(order.connection.0),
            Self::Chosen(chosen) => Some(chosen.connection.0),
        }
    }
}

impl Sent for FromStack {
    const PROTOCOL: &'static [u8] = b"baton/1";

    fn lane(&self) -> Lane {
        match self {
            Self::Load(_) | Self::Ownership(_) => Lane::Pulse,
            Self::Say(_) | Self::View(_) | Self::PortsHeld(_) | Self::TokensGiven(_) => Lane::List,
            Self::Srvstat(_)
            | Self::Stalled(_)
            | Self::Newconn(_)
            | Self::Termconn(_)
            | Self::Told(_)
            | Self::Bound(_)
            | Self::Looked(_)
            | Self::Applications(_)
            | Self::Declined(_) => Lane::Account,
            Self::Transfer(_) | Self::After(_) | Self::Stays(_) | Self::Choose(_) => Lane::Transfer,
        }
    }

    fn connection(&self) -> Option<Connection> {
        match self {
            Self::Transfer(FromHost::Source(message)) => Some(message.subject().0),
            Self::Transfer(FromHost::Target(message)) => Some(message.subject().0),
            Self::Choose(choose) => Some(choose.connection.0),
            Self::Stays(stays) => Some(stays.connection.0),
            // Of these After and Abilities go in that lane; the ends that After is to come before are sent later.
            Self::After(_)
            | Self::Load(_)
            | Self::TokensGiven(_)
            | Self::Declined(_)
            | Self::Say(_)
            | Self::View(_)
            | Self::Srvstat(_)
            | Self::Stalled(_)
            | Self::Newconn(_)
            | Self::Termconn(_)
            | Self::Told(_)
            | Self::Looked(_)
            | Self::Applications(_)
            | Self::Ownership(_)
            | Self::PortsHeld(_)
            | Self::Bound(_)
            | Self::Transfer(FromHost::Abilities(_)) => None,
        }
    }
}

impl Sent for ToPeer {
    const PROTOCOL: &'static [u8] = b"baton-peers/1";

    fn lane(&self) -> Lane {
        match self {
            Self::Definitions(_) | Self::Accounted(_) | Self::Orders(_) => Lane::List,
        }
    }

    fn connection(&self) -> Option<Connection> {
        match self {
            Self::Definitions(_) | Self::Accounted(_) | Self::Orders(_) => None,
        }
    }
}

/// How a session is told to end; the first reason given stays.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    reason: OnceLock<DownReason>,
    pub(crate) token: CancellationToken,
}

impl Ending {
    pub(crate) fn end(&self, why: DownReason) {
        let _ = self.reason.set(why);
        self.token.cancel();
    }

    pub(crate) fn reason(&self) -> DownReason {
        self.reason.get().cloned().unwrap_or(DownReason::Closed)
    }
}

/// The frames that wait in one lane: each connection's in their order, and of those of several connections the one next that has
/// had the least of the lane (start-time fair queueing, Goyal and others, SIGCOMM 1996).
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    bell: Notify,
}

#[derive(Default)]
struct Waiting {
    /// By what its connection has had of the lane when its turn comes, then by its length, so that short ones do not wait.
    frames: BTreeMap<(u64, usize, u64), Vec<u8>>,
    /// What each connection has had of the lane when its last frame is sent.
    had: HashMap<Connection, u64>,
    /// What the connection of the last frame had.
    now: u64,
    count: u64,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, of: Option<Connection>, frame: Vec<u8>) {
        let (start, length) = match of {
            Some(connection) => {
                let had = self.had.entry(connection).or_default();
                let start = self.now.max(*had);
                *had = start.saturating_add(frame.len() as u64);
                (start, frame.len())
            }
            None => (self.now, 0),
        };
        self.count += 1;
        self.bytes += cost(&frame);
        self.frames.insert((start, length, self.count), frame);
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let ((start, ..), frame) = self.frames.pop_first()?;
        self.now = start;
        self.bytes -= cost(&frame);
        if self.frames.is_empty() {
            // No connection is owed anything.
            *self = Self::default();
        } else if self.had.len() > 2 * self.frames.len() + 64 {
            self.had.retain(|_, had| *had > start);
        }
        Some(frame)
    }
}

/// What a frame takes of a lane's bytes.
fn cost(frame: &[u8]) -> usize {
    frame.len().saturating_add(FRAME_BYTES)
}

/// The bounded queues to one peer, one a lane. Filled by the endpoint's owner, emptied by the session's writers.
#[derive(Default)]
pub(crate) struct Outbox {
    queues: [Queue; 4],
    pub(crate) ending: Ending,
    /// Cancelled when the session has said its last word.
    pub(crate) gone: CancellationToken,
}

/// The queue of a lane was full; the session is ending.
pub(crate) struct Full;

impl Outbox {
    /// Queues a frame about a connection or none, or ends the session if it does not fit: a session never silently misses a message.
    pub(crate) fn push(&self, lane: Lane, of: Option<Connection>, frame: Vec<u8>) -> Result<(), Full> {
        let queue = self.queue(lane);
        let mut waiting = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes.saturating_add(cost(&frame)) > LANE_BYTES {
            self.ending.end(DownReason::QueueFull);
            return Err(Full);
        }
        waiting.push(of, frame);
        queue.bell.notify_one();
        Ok(())
    }

    /// Waits for a lane's next frame. Cancel-safe; each lane has one writer.
    pub(crate) async fn next(&self, lane: Lane) -> Vec<u8> {
        let queue = self.queue(lane);
        loop {
            let frame = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match frame {
                Some(frame) => return frame,
                // One that came since has left its permit.
                None => queue.bell.notified().await,
            }
        }
    }

    fn queue(&self, lane: Lane) -> &Queue {
        let [pulse, list, account, transfer] = &self.queues;
        match lane {
            Lane::Pulse => pulse,
            Lane::List => list,
            Lane::Account => account,
            Lane::Transfer => transfer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use model::Protocol;

    use super::*;

    fn connection(port: u16) -> Option<Connection> {
        let (client, dvipa) =
            (SocketAddr::from(([198, 18, 0, 2], port)), SocketAddr::from(([198, 18, 9, 1], 80)));
        Connection::new(Protocol::Tcp, client, dvipa)
    }

    fn order(mut waiting: Waiting) -> Vec<u8> {
        std::iter::from_fn(|| waiting.pop()).filter_map(|frame| frame.first().copied()).collect()
    }

    #[test]
    fn the_connection_that_has_had_least_is_next_and_each_keeps_its_order() {
        let mut waiting = Waiting::default();
        for (frame, port, length) in [(1, 1, 1000), (2, 1, 1000), (3, 2, 10), (4, 2, 10), (5, 3, 500)] {
            waiting.push(connection(port), vec![frame; length]);
        }
        assert_eq!(order(waiting), [3, 5, 1, 4, 2]);
    }

    /// After comes before the ends of transfers that are sent behind it.
    #[test]
    fn what_is_about_no_connection_goes_before_all_that_waits_in_its_order() {
        let mut waiting = Waiting::default();
        waiting.push(connection(1), vec![1; 1000]);
        waiting.push(None, vec![2; 100]);
        waiting.push(None, vec![3; 100]);
        waiting.push(connection(2), vec![4; 10]);
        assert_eq!(order(waiting), [2, 3, 4, 1]);
    }
}
