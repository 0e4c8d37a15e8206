//! What the owner of an endpoint hears.

use std::sync::Arc;

use model::StackName;
use model::message::Hello;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::endpoint::Inner;
use crate::outbox::{Outbox, Sent};

/// News of a peer. Per peer always in this order: `Up`, any number of others, `Down`; then perhaps `Up` again.
/// A new session of a peer whose former one is still there first ends that one ([`DownReason::Replaced`]).
#[derive(Debug)]
pub enum Event<M> {
    /// A session with a peer that proved its name begins.
    Up {
        /// Its name, from its certificate.
        peer: StackName,
        /// What it said first; `hello.stack` is `peer`.
        hello: Hello,
    },
    /// The peer says something else of itself than at first.
    Greets {
        /// Who.
        peer: StackName,
        /// What it is from now on.
        hello: Hello,
    },
    /// The peer says something.
    Message {
        /// Who.
        peer: StackName,
        /// What.
        message: M,
    },
    /// The peer says what only its reader may say; it was not read.
    Misdirected {
        /// Who.
        peer: StackName,
        /// What such messages are called.
        message: &'static str,
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
pub(crate) enum Internal<M> {
    Up {
        peer: StackName,
        hello: Hello,
        outbox: Arc<Outbox>,
    },
    Greets {
        peer: StackName,
        hello: Hello,
        _share: OwnedSemaphorePermit,
    },
    /// The permit is this message's share of the memory that undelivered messages may use.
    Message {
        peer: StackName,
        message: M,
        _share: OwnedSemaphorePermit,
    },
    Misdirected {
        peer: StackName,
        message: &'static str,
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

/// The receiving end of the events of an endpoint that sends `S`. Bounded: while nobody receives, peers are not read and soon can't
/// send.
pub struct Events<S: Sent> {
    pub(crate) receiver: mpsc::Receiver<Internal<S::Other>>,
    pub(crate) inner: Arc<Inner<S>>,
    /// Is next: [`Events::try_message`] found something else than a message.
    pub(crate) next: Option<Internal<S::Other>>,
}

impl<S: Sent> Events<S> {
    /// The next event; `None` once the endpoint is closed and all is said.
    ///
    /// Messages can be sent to a peer from the moment its `Up` is returned here until its `Down` is, so that what
    /// was meant for one session never gets into the next. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Event<S::Other>> {
        let next = match self.next.take() {
            Some(next) => Some(next),
            None => tokio::select! {
                biased;
                next = self.receiver.recv() => next,
                // All sessions have said their last word; it may be in the channel.
                () = self.inner.tasks.wait() => self.receiver.try_recv().ok(),
            },
        };
        Some(self.told(next?))
    }

    /// The next event, if it is there.
    pub fn try_next(&mut self) -> Option<Event<S::Other>> {
        let next = self.next.take().or_else(|| self.receiver.try_recv().ok())?;
        Some(self.told(next))
    }

    fn told(&self, next: Internal<S::Other>) -> Event<S::Other> {
        match next {
            Internal::Up { peer, hello, outbox } => {
                self.inner.open.lock().insert(peer.clone(), outbox);
                Event::Up { peer, hello }
            }
            Internal::Greets { peer, hello, .. } => Event::Greets { peer, hello },
            Internal::Message { peer, message, .. } => Event::Message { peer, message },
            Internal::Misdirected { peer, message } => Event::Misdirected { peer, message },
            Internal::Quiet { peer } => Event::Quiet { peer },
            Internal::Heard { peer } => Event::Heard { peer },
            Internal::Down { peer, why } => {
                self.inner.open.lock().remove(&peer);
                Event::Down { peer, why }
            }
        }
    }

    /// The next event, if it is there and a message: before a session begins or ends, what its messages have led to can be
    /// done.
    pub fn try_message(&mut self) -> Option<(StackName, S::Other)> {
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
