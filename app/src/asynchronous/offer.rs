//! Connections that are offered.

use std::ops::Deref;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::link::Link;
use crate::error::Error;
use crate::machine::{OfferKey, Offered};
use crate::offer::{Connection, Content, UNANSWERED};

/// As [`crate::Offer`].
#[derive(Debug)]
pub struct Offer {
    link: Arc<Link>,
    content: Content,
    is_answered: bool,
}

impl Deref for Offer {
    type Target = Content;
    fn deref(&self) -> &Content {
        &self.content
    }
}

impl Offer {
    pub(super) fn new(link: Arc<Link>, offered: Offered) -> Result<Self, Error> {
        Ok(Self { link, content: Content::read(offered)?, is_answered: false })
    }

    /// As [`crate::Offer::accept`]. Given up half-way, a connection that comes nevertheless is closed.
    ///
    /// # Errors
    /// As [`crate::Offer::accept`].
    pub async fn accept(mut self) -> Result<Connection<TcpStream>, Error> {
        let key = self.content.key;
        let waiting = Waiting(Arc::clone(&self.link), key);
        // If the agent has ended, that is what the wait finds.
        self.link.tell(|machine| machine.accept(key)).await?;
        self.is_answered = true;
        let arrived = match self.link.wait(true, |machine| machine.accepted(waiting.1)).await {
            Err(Error::Connect { .. }) => return Err(Error::InDoubt),
            arrived => arrived??,
        };
        self.content.arrived(arrived)?.on_tokio()
    }

    /// Does not take the connection; `reason` reaches the application that has it.
    ///
    /// # Errors
    /// [`Error::Closed`] if the agent is gone: then it is not taken either.
    pub async fn reject(mut self, reason: &str) -> Result<(), Error> {
        let key = self.content.key;
        let told = self.link.tell(|machine| machine.reject(key, reason)).await?;
        self.is_answered = true;
        if told { Ok(()) } else { Err(Error::Closed) }
    }
}

/// A task waits for the connection of an offer; or no longer, when this is dropped.
struct Waiting(Arc<Link>, OfferKey);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.with(|machine| machine.forget(self.1));
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if !self.is_answered {
            self.link.tell_now(|machine| machine.reject(self.content.key, UNANSWERED));
        }
    }
}
