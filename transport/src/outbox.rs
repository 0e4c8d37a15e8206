//! What waits to be sent to one peer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::message::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::event::DownReason;

/// Frames that may wait in one lane.
pub(crate) const LANE_FRAMES: usize = 4096;
/// Bytes that may wait in one lane: a complete account of three million IPv6 connections.
pub(crate) const LANE_BYTES: usize = 128 << 20;

/// The kinds of one lane keep their order and share a QUIC stream; lanes do not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// HELLO, HEARTBEAT, LOAD: small and urgent.
    Pulse,
    /// The VIPA list, and the targets that follow from it.
    List,
    /// SRVSTAT, registered applications, NEWCONN, TERMCONN: their order means something.
    Account,
    /// A connection that moves, or is ordered to: its client waits meanwhile.
    Transfer,
}

impl Lane {
    pub(crate) const ALL: [Lane; 4] = [Lane::Pulse, Lane::List, Lane::Account, Lane::Transfer];

    pub(crate) fn of(message: &Message) -> Lane {
        match message {
            Message::Hello(_) | Message::Heartbeat(_) | Message::Load(_) => Lane::Pulse,
            Message::VipaList(_) | Message::Targets(_) => Lane::List,
            Message::Srvstat(_) | Message::Newconn(_) | Message::Termconn(_) | Message::Applications(_) => {
                Lane::Account
            }
            Message::Transfer(_) | Message::Move(_) | Message::Stays(_) => Lane::Transfer,
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

struct Queue {
    frames: mpsc::Sender<Vec<u8>>,
    bytes: AtomicUsize,
}

/// The bounded queues to one peer, one a lane. Filled by the endpoint's owner, emptied by the session's writers.
pub(crate) struct Outbox {
    queues: [Queue; 4],
    pub(crate) ending: Ending,
    /// Cancelled when the session has said its last word.
    pub(crate) gone: CancellationToken,
}

/// The queue of a lane was full; the session is ending.
pub(crate) struct Full;

impl Outbox {
    /// The queues and the ends that the writers empty, in the order of [`Lane::ALL`].
    pub(crate) fn new() -> (Self, [mpsc::Receiver<Vec<u8>>; 4]) {
        let [(s0, r0), (s1, r1), (s2, r2), (s3, r3)] = Lane::ALL.map(|_| mpsc::channel(LANE_FRAMES));
        let queues = [s0, s1, s2, s3].map(|frames| Queue { frames, bytes: AtomicUsize::new(0) });
        (Self { queues, ending: Ending::default(), gone: CancellationToken::new() }, [r0, r1, r2, r3])
    }

    /// Queues a frame, or ends the session if it does not fit: a session never silently misses a message.
    pub(crate) fn push(&self, lane: Lane, frame: Vec<u8>) -> Result<(), Full> {
        let queue = self.queue(lane);
        let length = frame.len();
        // Relaxed: the count guards only itself; the frame travels through the channel.
        let waiting = queue.bytes.fetch_add(length, Ordering::Relaxed).saturating_add(length);
        if waiting <= LANE_BYTES && queue.frames.try_send(frame).is_ok() {
            return Ok(());
        }
        queue.bytes.fetch_sub(length, Ordering::Relaxed);
        self.ending.end(DownReason::QueueFull);
        Err(Full)
    }

    /// A frame of this length has left the lane.
    pub(crate) fn sent(&self, lane: Lane, length: usize) {
        self.queue(lane).bytes.fetch_sub(length, Ordering::Relaxed);
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
