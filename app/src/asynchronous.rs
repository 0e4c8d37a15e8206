//! The same calls for programs on a tokio runtime (feature `tokio`).
//!
//! Every call may be given up by dropping its future. A transfer goes on then, and its outcome is not known: await it to
//! the end.

mod link;
mod offer;

use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use model::StackName;
use model::control_socket::request::{Consent, Role};
use model::control_socket::{Refusal, Request, RequestId, Target, TargetView};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::application::{ANSWERED_WITHIN, Choice, Terms, beyond, connection, not_answered};
use crate::error::{Error, TransferError};
use crate::machine::{Answer, Heard, Machine, Outcome, Reply};
use crate::offer::Connection;
use crate::registration::Registration;
use link::Link;
pub use offer::Offer;

/// As [`crate::Application`].
#[derive(Debug)]
pub struct Application {
    link: Arc<Link>,
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
        let link = Arc::new(Link::open(role, registration).await?);
        Ok(Self { link, registration: registration.clone() })
    }

    /// As [`crate::Application::stack`].
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub async fn stack(&self) -> Result<StackName, Error> {
        self.link.wait(true, |machine| machine.stack()).await
    }

    /// As [`crate::Application::targets`].
    ///
    /// # Errors
    /// [`Error::Refused`] for a port that it did not register for; [`Error::Connect`].
    pub async fn targets(&self, port: u16) -> Result<Vec<Target>, Error> {
        self.subscribe(port).await?;
        let service = self.registration.service(port);
        self.link.wait(true, |machine| machine.targets_of(service)).await?
    }

    /// As [`crate::Application::targets_beyond`], without a time-out.
    ///
    /// # Errors
    /// [`Error::Refused`] for a port that it did not register for.
    pub async fn targets_beyond(&self, port: u16, known: &[Target]) -> Result<Vec<Target>, Error> {
        self.subscribe(port).await?;
        let service = self.registration.service(port);
        self.link.wait(false, |machine| beyond(machine, service, known)).await?
    }

    /// As [`crate::Application::choose`].
    ///
    /// # Errors
    /// As [`crate::Application::choose`].
    pub async fn choose(&self, port: u16, client: SocketAddr, choice: &Choice<'_>) -> Result<Target, Error> {
        let connection = connection(self.registration.service(port), client)?;
        let reply = self.asked(|machine| machine.choose(connection, choice)).await?;
        reply.chosen.ok_or_else(not_answered)
    }

    /// As [`crate::Application::target_views`].
    ///
    /// # Errors
    /// As [`crate::Application::target_views`].
    pub async fn target_views(&self, port: u16) -> Result<Vec<TargetView>, Error> {
        let service = self.registration.service(port);
        self.asked(|machine| machine.view(service)).await.map(|reply| reply.views)
    }

    async fn asked(
        &self,
        mut make: impl FnMut(&mut Machine) -> (RequestId, Request),
    ) -> Result<Reply, Error> {
        let asked = async {
            loop {
                let request = self.link.ask(&[], &mut make, Machine::unasked).await?;
                match self.link.wait(true, |machine| machine.reply(request)).await? {
                    Answer::Answered(result) => return result,
                    Answer::Lost => {}
                }
            }
        };
        timeout(ANSWERED_WITHIN, asked).await.unwrap_or_else(|_| Err(not_answered()))
    }

    async fn subscribe(&self, port: u16) -> Result<(), Error> {
        let service = self.registration.service(port);
        self.link.tell(|machine| machine.subscribe_once(service)).await.map(drop)
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
        let all: Vec<BorrowedFd<'_>> =
            std::iter::once(socket).chain(state.as_ref().map(AsFd::as_fd)).collect();
        let transfer = |machine: &mut Machine| machine.transfer(to.cloned(), consent, terms);
        loop {
            match self.outcome(self.link.ask(&all, transfer, Machine::unasked).await?).await? {
                Outcome::Answered(result) => return result,
                Outcome::Lost => {}
            }
            // The agent has ended in the middle: the next one is asked what became of it.
            match self.resumed(socket).await {
                // It goes on here, because the agent has ended.
                Err(Error::Refused { why: Refusal::Aborted | Refusal::Transfer(_), .. }) => {}
                other => return other,
            }
        }
    }

    async fn resumed(&self, socket: BorrowedFd<'_>) -> Result<(), Error> {
        loop {
            let asked = self.link.ask(&[socket], Machine::resume, Machine::unasked).await;
            match self.outcome(asked.map_err(|_| Error::InDoubt)?).await? {
                Outcome::Answered(result) => return result,
                Outcome::Lost => {}
            }
        }
    }

    async fn outcome(&self, request: RequestId) -> Result<Outcome, Error> {
        self.link.wait(false, |machine| machine.outcome(request)).await
    }

    /// As [`crate::Application::say`].
    ///
    /// # Errors
    /// As [`crate::Application::say`].
    pub async fn say(
        &self,
        port: u16,
        to: &Target,
        client: Option<SocketAddr>,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let service = self.registration.service(port);
        let say = |machine: &mut Machine| machine.say(service, (to, client, bytes));
        match self.outcome(self.link.ask(&[], say, Machine::unasked).await?).await? {
            Outcome::Answered(result) => result,
            Outcome::Lost => Err(Error::Closed),
        }
    }

    /// As [`crate::Application::hear`], without a time-out. Messages are kept once the future was polled for the first time.
    ///
    /// # Errors
    /// [`Error::Refused`] if the agent does not want this application.
    pub async fn hear(&self) -> Result<Heard, Error> {
        self.link.wait(false, |machine| machine.hear()).await
    }

    /// As [`crate::Application::next_offer`], without a time-out.
    ///
    /// # Errors
    /// [`Error::Refused`] if the agent does not want this application.
    pub async fn next_offer(&self) -> Result<Offer, Error> {
        self.take_offers().await;
        let offered = self.link.wait(false, |machine| machine.next_offer()).await?;
        Offer::new(Arc::clone(&self.link), offered)
    }

    /// As [`crate::Application::take_connection`], without a time-out.
    ///
    /// # Errors
    /// [`Error::Refused`] if the agent does not want this application.
    pub async fn take_connection(&self) -> Result<Connection<TcpStream>, Error> {
        self.take_offers().await;
        let (arrived, taken) = self.link.wait(false, |machine| machine.take()).await?;
        let connection = Connection::new(arrived)?.on_tokio()?;
        self.link.tell_now(|machine| machine.is_taken(taken));
        Ok(connection)
    }

    /// As [`crate::Application::descriptor`].
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.link.tell_now(Machine::takes_offers);
        self.link.descriptor()
    }

    async fn take_offers(&self) {
        // An agent that has ended meanwhile is not told: the next one is, with the registration.
        let _ = self.link.tell(Machine::takes_offers).await;
    }
}
