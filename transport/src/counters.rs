//! What an endpoint counts.

use std::sync::atomic::{AtomicU64, Ordering};

use model::Blame;

macro_rules! tallies {
    ($($(#[doc = $sentence:literal])+ $variant:ident = $name:literal, $blame:expr;)+) => {
        /// Something that an endpoint counts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Tally { $($(#[doc = $sentence])+ $variant),+ }

        impl Tally {
            /// All, in the order of displays.
            pub const ALL: &'static [Tally] = &[$(Tally::$variant),+];

            /// The metric's name.
            pub fn name(self) -> &'static str {
                match self { $(Tally::$variant => $name),+ }
            }

            /// Who can mend it; `None`: it is as it should be.
            pub fn blame(self) -> Option<Blame> {
                match self { $(Tally::$variant => $blame),+ }
            }

            /// What it means.
            pub fn sentence(self) -> &'static str {
                match self { $(Tally::$variant => concat!($($sentence),+).trim_ascii()),+ }
            }
        }
    };
}

tallies! {
    /// Sessions with another stack that began.
    SessionsUp = "sessions_up", None;
    /// Those of them with a stack of this host, over a Unix socket.
    SessionsBeside = "sessions_beside", None;
    /// Messages received from authenticated stacks.
    MessagesReceived = "messages_received", None;
    /// Messages handed to a session.
    MessagesSent = "messages_sent", None;
    /// Sessions that ended because the peer opened a new one.
    SessionsReplaced = "sessions_replaced", None;
    /// Attempts to reach a stack that failed.
    DialsFailed = "dials_failed", Some(Blame::Peer);
    /// Sessions that ended because nothing was heard from the peer in time.
    SessionsSilent = "sessions_silent", Some(Blame::Peer);
    /// Messages whose body could not be decoded; ignored.
    MalformedMessages = "malformed_messages", Some(Blame::Peer);
    /// Messages of a version or kind that this software does not know; ignored.
    UnknownMessages = "unknown_messages", Some(Blame::Peer);
    /// Sessions that ended because the peer broke the protocol, for instance with an impossible frame length.
    ProtocolErrors = "protocol_errors", Some(Blame::Peer);
    /// Sessions that ended because the queue to a slow peer was full.
    QueuesFull = "queues_full", Some(Blame::Peer);
    /// Connections without a valid certificate of the cluster; refused.
    Unauthenticated = "unauthenticated", Some(Blame::Operator);
    /// Peers whose HELLO or certificate names another stack than expected; refused.
    WrongNames = "wrong_names", Some(Blame::Operator);
    /// Connections ignored because too many others were in their handshake.
    HandshakesRefused = "handshakes_refused", Some(Blame::Peer);
    /// Messages that were not sent because they are longer than a frame may be.
    OversizeMessages = "oversize_messages", Some(Blame::Us);
}

/// The counters of one endpoint, since its start.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Tally::ALL.len()]);

impl Counters {
    /// The value now.
    pub fn get(&self, tally: Tally) -> u64 {
        // Relaxed: a counter orders nothing.
        self.0.get(tally as usize).map_or(0, |n| n.load(Ordering::Relaxed))
    }

    pub(crate) fn count(&self, tally: Tally) {
        if let Some(n) = self.0.get(tally as usize) {
            n.fetch_add(1, Ordering::Relaxed);
        }
    }
}
