//! Connections that are offered.

use std::ops::Deref;
use std::sync::Arc;

use model::control_socket::OfferId;
use tokio::net::TcpStream;

use super::session::Session;
use crate::error::Error;
use crate::machine::Offered;
use crate::offer::{Connection, Content, UNANSWERED};

/// As [`crate::Offer`].
#[derive(Debug)]
pub struct Offer {
    session: Arc<Session>,
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
    pub(super) fn new(session: Arc<Session>, offered: Offered) -> Result<Self, Error> {
        Ok(Self { session, content: Content::read(offered)?, is_answered: false })
    }

    /// Takes the connection. Waits until it is here. Given up half-way, a connection that comes nevertheless is closed.
    ///
    /// # Errors
    /// [`Error::Refused`] if the transfer has failed meanwhile: the connection goes on where it was.
    pub async fn accept(mut self) -> Result<Connection<TcpStream>, Error> {
        let accept = self.session.with(|machine| machine.accept(self.content.offer));
        let waiting = Waiting(Arc::clone(&self.session), self.content.offer);
        self.session.send(&accept, &[]).await?;
        self.is_answered = true;
        let arrived = self.session.wait(|machine| machine.accepted(waiting.1)).await??;
        self.content.arrived(arrived)?.on_tokio()
    }

    /// Does not take the connection; `reason` reaches the application that has it.
    ///
    /// # Errors
    /// [`Error::Closed`] if the agent is gone: then it is not taken either.
    pub async fn reject(mut self, reason: &str) -> Result<(), Error> {
        self.session.send(&self.content.rejection(reason), &[]).await?;
        self.is_answered = true;
        Ok(())
    }
}

/// Somebody waits for the connection of an offer; or no longer, when this is dropped.
struct Waiting(Arc<Session>, OfferId);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.with(|machine| machine.forget(self.1));
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if !self.is_answered {
            self.session.send_now(&self.content.rejection(UNANSWERED));
        }
    }
}
