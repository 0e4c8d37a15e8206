//! What the owner of an endpoint hears.

use std::net::SocketAddr;
use std::sync::Arc;

use model::StackName;
use model::message::{Hello, Message};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::endpoint::Inner;
use crate::outbox::Outbox;

/// News of a peer. Per peer always in this order: `Up`, any number of others, `Down`; then perhaps `Up` again.
/// A new session of a peer whose former one is still there first ends that one ([`DownReason::Replaced`]).
#[derive(Debug)]
pub enum Event {
    /// A session with a peer that proved its name begins.
    Up {
        /// Its name, from its certificate.
        peer: StackName,
        /// Its address.
        address: SocketAddr,
        /// What it said first; `hello.stack` is `peer`.
        hello: Hello,
    },
    /// The peer says something; never HELLO or HEARTBEAT, which end here.
    Message {
        /// Who.
        peer: StackName,
        /// What.
        message: Message,
    },
    /// Nothing was heard of the peer for [`crate::Settings::quiet_after`]; the session goes on.
    Quiet {
        /// Who.
        peer: StackName,
    },
    /// It was quiet, and is heard again.
    Heard {
        /// Who.
        peer: StackName,
    },
    /// The session is over. Nothing of it follows.
    Down {
        /// With whom.
        peer: StackName,
        /// Why.
        why: DownReason,
    },
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// The peer said goodbye.
    #[error("the peer closed the session")]
    Closed,
    /// The peer opened a new session, perhaps because it was restarted.
    #[error("the peer opened a new session")]
    Replaced,
    /// Nothing was heard for `lost_after`.
    #[error("nothing heard from the peer in time")]
    Silent,
    /// The peer takes our messages too slowly: the bounded queue to it is full.
    #[error("the peer is too slow: the queue to it is full")]
    QueueFull,
    /// The peer broke the rules of the session.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The network or the peer's QUIC failed.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// We ended it: hung up, or the endpoint was closed.
    #[error("ended here")]
    HungUp,
}

/// What travels from the sessions to [`Events`].
pub(crate) enum Internal {
    Up {
        peer: StackName,
        address: SocketAddr,
        hello: Hello,
        outbox: Arc<Outbox>,
    },
    /// The permit is this message's share of the memory that undelivered messages may use.
    Message {
        peer: StackName,
        message: Message,
        _share: OwnedSemaphorePermit,
    },
    Quiet {
        peer: StackName,
    },
    Heard {
        peer: StackName,
    },
    Down {
        peer: StackName,
        why: DownReason,
    },
}

/// The receiving end of an endpoint's events. Bounded: while nobody receives, peers are not read and soon can't
/// send.
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Internal>,
    pub(crate) inner: Arc<Inner>,
    /// Is next: [`Events::try_message`] found something else than a message.
    pub(crate) next: Option<Internal>,
}

impl Events {
    /// The next event; `None` once the endpoint is closed and all is said.
    ///
    /// Messages can be sent to a peer from the moment its `Up` is returned here until its `Down` is, so that what
    /// was meant for one session never gets into the next. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Event> {
        let next = match self.next.take() {
            Some(next) => Some(next),
            None => tokio::select! {
                biased;
                next = self.receiver.recv() => next,
                // All sessions have said their last word; it may be in the channel.
                () = self.inner.tasks.wait() => self.receiver.try_recv().ok(),
            },
        };
        let event = match next? {
            Internal::Up { peer, address, hello, outbox } => {
                self.inner.open.lock().insert(peer.clone(), outbox);
                Event::Up { peer, address, hello }
            }
            Internal::Message { peer, message, .. } => Event::Message { peer, message },
            Internal::Quiet { peer } => Event::Quiet { peer },
            Internal::Heard { peer } => Event::Heard { peer },
            Internal::Down { peer, why } => {
                self.inner.open.lock().remove(&peer);
                Event::Down { peer, why }
            }
        };
        Some(event)
    }

    /// The next event, if it is there and a message: before a session begins or ends, what its messages have led to can be
    /// done.
    pub fn try_message(&mut self) -> Option<(StackName, Message)> {
        if self.next.is_some() {
            return None;
        }
        match self.receiver.try_recv().ok()? {
            Internal::Message { peer, message, .. } => Some((peer, message)),
            other => {
                self.next = Some(other);
                None
            }
        }
    }
}
