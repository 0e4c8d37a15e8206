//! Connections that are offered, and connections that have come.

use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::sync::Arc;

use model::control_socket::request::Reject;
use model::control_socket::{JobName, OfferId, Request};

use crate::error::Error;
use crate::machine::{Arrived, Offered};
use crate::session::Session;

/// A connection that is about to come here. It goes on where it is until it is accepted; one that is dropped is rejected.
#[derive(Debug)]
pub struct Offer {
    session: Arc<Session>,
    content: Content,
    is_answered: bool,
}

/// What is offered.
#[derive(Debug)]
pub struct Content {
    pub(crate) offer: OfferId,
    client: SocketAddr,
    dvipa: SocketAddr,
    job: JobName,
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

    /// What whoever has it now sends along.
    pub fn state(&self) -> Option<&[u8]> {
        self.state.as_deref()
    }

    pub(crate) fn read(offered: Offered) -> Result<Self, Error> {
        let Offered { offer, connection, job, state } = offered;
        let state = state.map(|state| state.read()).transpose()?;
        Ok(Self { offer, client: connection.client, dvipa: connection.dvipa, job, state })
    }

    /// The offer is not taken.
    pub(crate) fn rejection(&self, reason: &str) -> Request {
        Reject { offer: self.offer, reason: reason.to_owned() }.into()
    }

    /// It has come: what was offered with it belongs to it.
    pub(crate) fn arrived(&mut self, arrived: Arrived) -> Result<Connection, Error> {
        let connection = Connection::new(arrived)?;
        Ok(Connection { state: self.state.take(), ..connection })
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
    /// What whoever had it before has sent along.
    pub state: Option<Vec<u8>>,
}

impl Deref for Offer {
    type Target = Content;
    fn deref(&self) -> &Content {
        &self.content
    }
}

impl Offer {
    pub(crate) fn new(session: Arc<Session>, offered: Offered) -> Result<Self, Error> {
        Ok(Self { session, content: Content::read(offered)?, is_answered: false })
    }

    /// Takes the connection. Waits until it is here.
    ///
    /// # Errors
    /// [`Error::Refused`] if the transfer has failed meanwhile: the connection goes on where it was.
    pub fn accept(mut self) -> Result<Connection, Error> {
        self.is_answered = true;
        let offer = self.content.offer;
        let accept = self.session.with(|machine| machine.accept(offer));
        self.session.send(&accept, &[])?;
        let arrived = self.session.wait(None, |machine| machine.accepted(offer))?;
        self.content.arrived(arrived.ok_or(Error::Closed { why: None })??)
    }

    /// Does not take the connection; `reason` reaches the application that has it.
    ///
    /// # Errors
    /// [`Error::Closed`] if the agent is gone: then it is not taken either.
    pub fn reject(mut self, reason: &str) -> Result<(), Error> {
        self.is_answered = true;
        self.session.send(&self.content.rejection(reason), &[])
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if !self.is_answered {
            // If the agent is gone, the offer is too.
            let _ = self.session.send(&self.content.rejection(UNANSWERED), &[]);
        }
    }
}

impl Connection {
    pub(crate) fn new(arrived: Arrived) -> Result<Self, Error> {
        let Arrived { connection, socket, state } = arrived;
        let state = state.map(|state| state.read()).transpose()?;
        let stream = TcpStream::from(socket);
        Ok(Self { stream, client: connection.client, dvipa: connection.dvipa, state })
    }

    /// The same with tokio's socket. Must be called inside a runtime.
    #[cfg(feature = "tokio")]
    pub(crate) fn on_tokio(self) -> Result<Connection<tokio::net::TcpStream>, Error> {
        let Connection { stream, client, dvipa, state } = self;
        stream.set_nonblocking(true)?;
        Ok(Connection { stream: tokio::net::TcpStream::from_std(stream)?, client, dvipa, state })
    }
}
