//! The same calls for programs on a tokio runtime (feature `tokio`).
//!
//! Every call may be given up by dropping its future. A transfer goes on then, and its outcome is not known: await it to
//! the end.

mod offer;
mod session;

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use model::StackName;
use model::control_socket::Target;
use model::control_socket::request::{Consent, Role};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use crate::application::{RESUME_AGAIN, RESUME_WITHIN, Terms};
use crate::error::{Error, TransferError};
use crate::machine::Machine;
use crate::offer::Connection;
use crate::registration::Registration;
pub use offer::Offer;
use session::Session;

/// As [`crate::Application`].
#[derive(Debug)]
pub struct Application {
    present: Mutex<Arc<Session>>,
    role: Role,
    registration: Registration,
}

/// As [`crate::RoutingApplication`].
#[derive(Debug)]
pub struct RoutingApplication(Application);

/// As [`crate::TargetApplication`].
#[derive(Debug)]
pub struct TargetApplication(Application);

impl RoutingApplication {
    /// As [`crate::RoutingApplication::register`].
    ///
    /// # Errors
    /// [`Error::Connect`] without an agent, [`Error::Refused`] if there is another one.
    pub async fn register(registration: &Registration) -> Result<Self, Error> {
        Application::register(Role::Routing, registration).await.map(Self)
    }
}

impl TargetApplication {
    /// As [`crate::TargetApplication::register`].
    ///
    /// # Errors
    /// [`Error::Connect`] without an agent, otherwise [`Error::Refused`].
    pub async fn register(registration: &Registration) -> Result<Self, Error> {
        Application::register(Role::Target, registration).await.map(Self)
    }
}

impl Deref for RoutingApplication {
    type Target = Application;
    fn deref(&self) -> &Application {
        &self.0
    }
}

impl Deref for TargetApplication {
    type Target = Application;
    fn deref(&self) -> &Application {
        &self.0
    }
}

impl Application {
    async fn register(role: Role, registration: &Registration) -> Result<Self, Error> {
        let session = Session::open(role, registration, Machine::outcome).await?;
        Ok(Self { present: Mutex::new(Arc::new(session)), role, registration: registration.clone() })
    }

    /// The present control socket, or another one if it is closed.
    async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut present = self.present.lock().await;
        if !present.is_open() {
            let session = Session::open(self.role, &self.registration, Machine::is_known).await?;
            *present = Arc::new(session);
        }
        Ok(Arc::clone(&present))
    }

    /// As [`crate::Application::stack`].
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn stack(&self) -> Result<StackName, Error> {
        self.session().await?.wait(|machine| machine.stack()).await
    }

    /// As [`crate::Application::targets`].
    ///
    /// # Errors
    /// [`Error::Refused`] for a port that it did not register for.
    pub async fn targets(&self, port: u16) -> Result<Vec<Target>, Error> {
        let session = self.subscribed(port).await?;
        let service = self.registration.service(port);
        session.wait(|machine| machine.targets_of(service)).await?
    }

    /// As [`crate::Application::targets_beyond`], without a time-out.
    ///
    /// # Errors
    /// [`Error::Refused`] for a port that it did not register for.
    pub async fn targets_beyond(&self, port: u16, known: &[Target]) -> Result<Vec<Target>, Error> {
        let session = self.subscribed(port).await?;
        let service = self.registration.service(port);
        let changed = session.wait(|machine| match machine.targets_of(service)? {
            Ok(targets) if targets == known => None,
            targets => Some(targets),
        });
        changed.await?
    }

    async fn subscribed(&self, port: u16) -> Result<Arc<Session>, Error> {
        let (session, service) = (self.session().await?, self.registration.service(port));
        if let Some(request) = session.with(|machine| machine.subscribe(service)) {
            session.send(&request, &[]).await?;
        }
        session.read_what_is_there()?;
        Ok(session)
    }

    /// As [`crate::Application::transfer`].
    ///
    /// # Errors
    /// [`TransferError`] with the connection, which goes on here.
    pub async fn transfer(
        &self,
        stream: TcpStream,
        to: &Target,
        terms: &Terms<'_>,
    ) -> Result<(), TransferError<TcpStream>> {
        self.owned(stream, Some(to), Consent::Asked, terms).await
    }

    /// As [`crate::Application::give_connection`].
    ///
    /// # Errors
    /// [`TransferError`] with the connection, which goes on here.
    pub async fn give_connection(
        &self,
        stream: TcpStream,
        to: &Target,
        terms: &Terms<'_>,
    ) -> Result<(), TransferError<TcpStream>> {
        self.owned(stream, Some(to), Consent::Presumed, terms).await
    }

    /// As [`crate::Application::complete`].
    ///
    /// # Errors
    /// [`TransferError`] with the connection, which goes on here.
    pub async fn complete(
        &self,
        stream: TcpStream,
        terms: &Terms<'_>,
    ) -> Result<(), TransferError<TcpStream>> {
        self.owned(stream, None, Consent::Asked, terms).await
    }

    async fn owned(
        &self,
        stream: TcpStream,
        to: Option<&Target>,
        consent: Consent,
        terms: &Terms<'_>,
    ) -> Result<(), TransferError<TcpStream>> {
        match self.move_connection(stream.as_fd(), to, consent, terms).await {
            Ok(()) => Ok(()),
            Err(error) => Err(TransferError { error, stream }),
        }
    }

    async fn move_connection(
        &self,
        socket: BorrowedFd<'_>,
        to: Option<&Target>,
        consent: Consent,
        terms: &Terms<'_>,
    ) -> Result<(), Error> {
        let state = terms.seal()?;
        let session = self.session().await?;
        let (request, message) = session.with(|machine| machine.transfer(to.cloned(), consent, terms));
        let beside: Vec<BorrowedFd<'_>> =
            std::iter::once(socket).chain(state.as_ref().map(AsFd::as_fd)).collect();
        session.send(&message, &beside).await?;
        match session.wait(|machine| machine.outcome(request)).await {
            Err(Error::Closed { .. }) => self.resume(socket).await,
            outcome => outcome?,
        }
    }

    /// The agent has ended in the middle of a transfer: asks the next one what became of it.
    async fn resume(&self, socket: BorrowedFd<'_>) -> Result<(), Error> {
        let asked = async {
            loop {
                let Ok(session) = self.session().await else {
                    sleep(RESUME_AGAIN).await;
                    continue;
                };
                let (request, message) = session.with(Machine::resume);
                let outcome = match session.send(&message, &[socket]).await {
                    Ok(()) => session.wait(|machine| machine.outcome(request)).await,
                    Err(error) => Err(error),
                };
                // The next one may have ended too.
                if !matches!(outcome, Err(Error::Closed { .. })) {
                    return outcome?;
                }
            }
        };
        timeout_at(Instant::now() + RESUME_WITHIN, asked).await.unwrap_or(Err(Error::InDoubt))
    }

    /// As [`crate::Application::next_offer`], without a time-out.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn next_offer(&self) -> Result<Offer, Error> {
        let session = self.session().await?;
        let offered = session.wait(|machine| machine.next_offer()).await?;
        Offer::new(session, offered)
    }

    /// As [`crate::Application::take_connection`], without a time-out.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn take_connection(&self) -> Result<Connection<TcpStream>, Error> {
        let session = self.session().await?;
        let taking = Taking(&session);
        if let Some(take) = session.with(|machine| machine.begin_take()) {
            session.send(&take, &[]).await?;
        }
        let taken = session.wait(|machine| machine.taken()).await?;
        drop(taking);
        Connection::new(taken?)?.on_tokio()
    }
}

/// Somebody waits for a given connection; or no longer, when this is dropped.
struct Taking<'a>(&'a Session);

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.0.with(|machine| machine.end_take());
    }
}
