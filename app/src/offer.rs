//! Connections that are offered, and connections that have come.

use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::sync::Arc;

use model::control_socket::{JobName, Target};

use crate::error::Error;
use crate::link::Link;
use crate::machine::{Arrived, OfferKey, Offered};

/// A connection that is about to come here. It goes on where it is until it is accepted; one that is dropped is rejected.
#[derive(Debug)]
pub struct Offer {
    link: Arc<Link>,
    content: Content,
    is_answered: bool,
}

/// What is offered.
#[derive(Debug)]
pub struct Content {
    pub(crate) key: OfferKey,
    client: SocketAddr,
    dvipa: SocketAddr,
    job: JobName,
    giver: Option<Target>,
    state: Option<Vec<u8>>,
}

impl Content {
    /// The client's address and port.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// The DVIPA and port that the client has connected to.
    pub fn dvipa(&self) -> SocketAddr {
        self.dvipa
    }

    /// The job that it is for.
    pub fn job(&self) -> &JobName {
        &self.job
    }

    /// The application that has it now; `None`: a server without a control socket, whose connection an operator moves, or an agent
    /// of a version that does not say.
    pub fn giver(&self) -> Option<&Target> {
        self.giver.as_ref()
    }

    /// What the application that has it now sends along.
    pub fn state(&self) -> Option<&[u8]> {
        self.state.as_deref()
    }

    pub(crate) fn read(offered: Offered) -> Result<Self, Error> {
        let Offered { key, connection, job, giver, state } = offered;
        let state = state.map(|state| state.read()).transpose()?;
        Ok(Self { key, client: connection.client, dvipa: connection.dvipa, job, giver, state })
    }

    /// It has come: what was offered with it belongs to it.
    pub(crate) fn arrived(&mut self, arrived: Arrived) -> Result<Connection, Error> {
        let connection = Connection::new(arrived)?;
        Ok(Connection { giver: self.giver.take(), state: self.state.take(), ..connection })
    }
}

/// What is said for an application that drops an offer.
pub(crate) const UNANSWERED: &str = "the application did not answer the offer";

/// A connection that has come.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    /// Its socket.
    pub stream: S,
    /// The client's address and port.
    pub client: SocketAddr,
    /// The DVIPA and port that the client has connected to.
    pub dvipa: SocketAddr,
    /// The application that had it before, as far as it is known.
    pub giver: Option<Target>,
    /// What that has sent along.
    pub state: Option<Vec<u8>>,
}

impl Deref for Offer {
    type Target = Content;
    fn deref(&self) -> &Content {
        &self.content
    }
}

impl Offer {
    pub(crate) fn new(link: Arc<Link>, offered: Offered) -> Result<Self, Error> {
        Ok(Self { link, content: Content::read(offered)?, is_answered: false })
    }

    /// Takes the connection. Waits until it is here, also while the agent ends and comes back.
    ///
    /// # Errors
    /// [`Error::Refused`] if the transfer has failed meanwhile, and [`Error::Closed`] if the agent has ended before anything was
    /// decided: the connection goes on where it was. [`Error::InDoubt`] if no agent comes back.
    pub fn accept(mut self) -> Result<Connection, Error> {
        self.is_answered = true;
        let key = self.content.key;
        // If the agent has ended, that is what the wait finds.
        self.link.tell(|machine| machine.accept(key))?;
        match self.link.wait(None, true, |machine| machine.accepted(key)) {
            Ok(arrived) => self.content.arrived(arrived.ok_or(Error::InDoubt)??),
            Err(error) => {
                self.link.with(|machine| machine.forget(key));
                Err(if let Error::Connect { .. } = error { Error::InDoubt } else { error })
            }
        }
    }

    /// Does not take the connection; `reason` reaches the application that has it.
    ///
    /// # Errors
    /// [`Error::Closed`] if the agent is gone: then it is not taken either.
    pub fn reject(mut self, reason: &str) -> Result<(), Error> {
        self.is_answered = true;
        let key = self.content.key;
        if self.link.tell(|machine| machine.reject(key, reason))? { Ok(()) } else { Err(Error::Closed) }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if !self.is_answered {
            // If the agent is gone, the offer is too.
            let _ = self.link.tell(|machine| machine.reject(self.content.key, UNANSWERED));
        }
    }
}

impl Connection {
    pub(crate) fn new(arrived: Arrived) -> Result<Self, Error> {
        let Arrived { connection, giver, socket, state } = arrived;
        let state = state.map(|state| state.read()).transpose()?;
        let stream = TcpStream::from(socket);
        Ok(Self { stream, client: connection.client, dvipa: connection.dvipa, giver, state })
    }

    /// The same with tokio's socket. Must be called inside a runtime.
    #[cfg(feature = "tokio")]
    pub(crate) fn on_tokio(self) -> Result<Connection<tokio::net::TcpStream>, Error> {
        let Connection { stream, client, dvipa, giver, state } = self;
        stream.set_nonblocking(true)?;
        Ok(Connection { stream: tokio::net::TcpStream::from_std(stream)?, client, dvipa, giver, state })
    }
}
