//! The calls.

use std::net::TcpStream;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use channel::Sealed;
use model::StackName;
use model::control_socket::request::{Consent, Milliseconds, Role, Unacknowledged};
use model::control_socket::{MAX_GIVEN_BACK_BYTES, MAX_STATE_BYTES, Refusal, Target};

use crate::error::{Error, TransferError};
use crate::machine::Machine;
use crate::offer::{Connection, Offer};
use crate::registration::Registration;
use crate::session::Session;
use crate::sessions::Sessions;

/// An agent that ended in the middle of a transfer is waited for so long.
pub(crate) const RESUME_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked for.
pub(crate) const RESUME_AGAIN: Duration = Duration::from_millis(50);

/// An application that its stack's agent knows. Dropping it ends the registration; connections that it has are its own.
///
/// When the agent ends, calls that wait fail with [`Error::Closed`], and the next call connects and registers again. A
/// transfer that was under way is asked about at the next agent, so that it is known what became of it.
#[derive(Debug)]
pub struct Application {
    sessions: Sessions,
    registration: Registration,
}

/// An application that talks to clients first and decides where each connection goes.
#[derive(Debug)]
pub struct RoutingApplication(Application);

/// An application that connections are transferred to.
#[derive(Debug)]
pub struct TargetApplication(Application);

/// How a connection moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms<'a> {
    state: Option<&'a [u8]>,
    unacknowledged: Unacknowledged,
    given_back: &'a [u8],
}

impl<'a> Terms<'a> {
    /// Without application state, and refused while the client has not acknowledged everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The target application gets these bytes with the connection: at most 16 MiB.
    #[must_use]
    pub fn state(self, state: &'a [u8]) -> Self {
        Self { state: Some(state), ..self }
    }

    /// What to do about bytes that were sent and that the client has not acknowledged.
    #[must_use]
    pub fn unacknowledged(self, unacknowledged: Unacknowledged) -> Self {
        Self { unacknowledged, ..self }
    }

    /// The last bytes that the application has read from the connection go back to it: whoever gets it reads them first.
    /// At most 32 KiB, and no more than were read from this socket. So a server that knows nothing of baton sees the whole
    /// request that the router has read. If the connection does not move, they stay read.
    #[must_use]
    pub fn give_back(self, bytes: &'a [u8]) -> Self {
        Self { given_back: bytes, ..self }
    }

    pub(crate) fn what_to_do_about_unacknowledged(&self) -> Unacknowledged {
        self.unacknowledged
    }

    pub(crate) fn given_back(&self) -> Option<Vec<u8>> {
        (!self.given_back.is_empty()).then(|| self.given_back.to_vec())
    }

    /// The state in memory that can be passed, if all that goes with the connection may.
    pub(crate) fn seal(&self) -> Result<Option<Sealed>, Error> {
        match self.state {
            _ if self.given_back.len() > MAX_GIVEN_BACK_BYTES => Err(Error::Refused {
                why: Refusal::GivenBack,
                detail: Some(format!("{} bytes", self.given_back.len())),
            }),
            Some(state) if state.len() > MAX_STATE_BYTES => Err(Error::Refused {
                why: Refusal::StateTooLong,
                detail: Some(format!("{} bytes", state.len())),
            }),
            state => Ok(state.map(Sealed::new).transpose()?),
        }
    }
}

impl RoutingApplication {
    /// Becomes the routing application of a DVIPA's ports. On a stack that does not own the DVIPA this waits until it
    /// does.
    ///
    /// # Errors
    /// [`Error::Connect`] without an agent, [`Error::Refused`] if there is another one.
    pub fn register(registration: &Registration) -> Result<Self, Error> {
        Application::register(Role::Routing, registration).map(Self)
    }
}

impl TargetApplication {
    /// Becomes a target of a DVIPA's ports.
    ///
    /// # Errors
    /// [`Error::Connect`] without an agent, otherwise [`Error::Refused`].
    pub fn register(registration: &Registration) -> Result<Self, Error> {
        Application::register(Role::Target, registration).map(Self)
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
    fn register(role: Role, registration: &Registration) -> Result<Self, Error> {
        Ok(Self { sessions: Sessions::open(role, registration)?, registration: registration.clone() })
    }

    /// The stack that it runs on.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn stack(&self) -> Result<StackName, Error> {
        self.sessions.current()?.wait(None, |machine| machine.stack())?.ok_or(Error::Closed { why: None })
    }

    /// The targets of one of its ports now, sorted.
    ///
    /// # Errors
    /// [`Error::Refused`] for a port that it did not register for.
    pub fn targets(&self, port: u16) -> Result<Vec<Target>, Error> {
        let session = self.subscribed(port)?;
        session.read_what_is_there()?;
        let service = self.registration.service(port);
        let targets = session.wait(None, |machine| machine.targets_of(service))?;
        targets.ok_or(Error::Closed { why: None })?
    }

    /// The targets of one of its ports, once they are not `known` any longer; `known` itself if that takes longer than
    /// `timeout`.
    ///
    /// # Errors
    /// [`Error::Refused`] for a port that it did not register for.
    pub fn targets_beyond(
        &self,
        port: u16,
        known: &[Target],
        timeout: Option<Duration>,
    ) -> Result<Vec<Target>, Error> {
        let session = self.subscribed(port)?;
        let service = self.registration.service(port);
        let changed = session.wait(deadline(timeout), |machine| match machine.targets_of(service)? {
            Ok(targets) if targets == known => None,
            targets => Some(targets),
        })?;
        changed.unwrap_or_else(|| Ok(known.to_vec()))
    }

    fn subscribed(&self, port: u16) -> Result<Arc<Session>, Error> {
        let (session, service) = (self.sessions.current()?, self.registration.service(port));
        if let Some(request) = session.with(|machine| machine.subscribe(service)) {
            session.send(&request, &[])?;
        }
        Ok(session)
    }

    /// Moves a connection to a target that accepts it. Waits until it has moved; then its socket is closed here and
    /// nothing is sent to the client.
    ///
    /// # Errors
    /// [`TransferError`] with the connection, which goes on here.
    pub fn transfer(&self, stream: TcpStream, to: &Target, terms: &Terms<'_>) -> Result<(), TransferError> {
        self.owned(stream, Some(to), Consent::Asked, terms)
    }

    /// Gives a connection to a target without asking it (giveconnection). The target takes it with
    /// [`Application::take_connection`].
    ///
    /// # Errors
    /// [`TransferError`] with the connection, which goes on here.
    pub fn give_connection(
        &self,
        stream: TcpStream,
        to: &Target,
        terms: &Terms<'_>,
    ) -> Result<(), TransferError> {
        self.owned(stream, Some(to), Consent::Presumed, terms)
    }

    /// The client's transaction is complete: the connection goes back to the routing application of its DVIPA and port,
    /// which decides what comes next.
    ///
    /// # Errors
    /// [`TransferError`] with the connection, which goes on here.
    pub fn complete(&self, stream: TcpStream, terms: &Terms<'_>) -> Result<(), TransferError> {
        self.owned(stream, None, Consent::Asked, terms)
    }

    fn owned(
        &self,
        stream: TcpStream,
        to: Option<&Target>,
        consent: Consent,
        terms: &Terms<'_>,
    ) -> Result<(), TransferError> {
        match self.move_connection(stream.as_fd(), to, consent, terms) {
            Ok(()) => Ok(()),
            Err(error) => Err(TransferError { error, stream }),
        }
    }

    /// Moves a connection that the caller keeps the descriptor of. If it has moved, the caller closes every descriptor
    /// that it has of it, and uses none before. `to` is `None` for [`Application::complete`].
    ///
    /// # Errors
    /// [`Error`]; the connection goes on here.
    pub fn move_connection(
        &self,
        socket: BorrowedFd<'_>,
        to: Option<&Target>,
        consent: Consent,
        terms: &Terms<'_>,
    ) -> Result<(), Error> {
        let state = terms.seal()?;
        let session = self.sessions.current()?;
        let (request, message) = session.with(|machine| machine.transfer(to.cloned(), consent, terms));
        let beside: Vec<BorrowedFd<'_>> =
            std::iter::once(socket).chain(state.as_ref().map(AsFd::as_fd)).collect();
        session.send(&message, &beside)?;
        match session.wait(None, |machine| machine.outcome(request)) {
            Err(Error::Closed { .. }) => self.resume(socket),
            outcome => outcome?.unwrap_or(Err(Error::Closed { why: None })),
        }
    }

    /// The agent has ended in the middle of a transfer: asks the next one what became of it.
    fn resume(&self, socket: BorrowedFd<'_>) -> Result<(), Error> {
        let deadline = Instant::now() + RESUME_WITHIN;
        while Instant::now() < deadline {
            let Ok(session) = self.sessions.current() else {
                thread::sleep(RESUME_AGAIN);
                continue;
            };
            let (request, message) = session.with(Machine::resume);
            let sent = session.send(&message, &[socket]);
            match sent.and_then(|()| session.wait(Some(deadline), |machine| machine.outcome(request))) {
                // The next one has ended too.
                Err(Error::Closed { .. }) => {}
                outcome => return outcome?.unwrap_or(Err(Error::InDoubt)),
            }
        }
        Err(Error::InDoubt)
    }

    /// The next connection that is offered; `None` if there is none within `timeout`.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn next_offer(&self, timeout: Option<Duration>) -> Result<Option<Offer>, Error> {
        let session = self.sessions.current()?;
        let offered = session.wait(deadline(timeout), |machine| machine.next_offer())?;
        offered.map(|offered| Offer::new(session, offered)).transpose()
    }

    /// The next connection that was given to this application (takeconnection); `None` if there is none within
    /// `timeout`.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn take_connection(&self, timeout: Option<Duration>) -> Result<Option<Connection>, Error> {
        let session = self.sessions.current()?;
        let take = session.with(|machine| machine.begin_take());
        let sent = take.map_or(Ok(()), |take| session.send(&take, &[]));
        let taken = sent.and_then(|()| session.wait(deadline(timeout), |machine| machine.taken()));
        session.with(|machine| machine.end_take());
        taken?.transpose()?.map(Connection::new).transpose()
    }

    /// For an event loop: readable when [`Application::next_offer`] and the other calls may find something with a timeout
    /// of zero. It stays the same when the agent ends and comes back.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.sessions.descriptor()
    }
}

/// The transfer waits so long until the client has acknowledged everything, and is refused then.
pub fn wait(at_most: Duration) -> Unacknowledged {
    Unacknowledged::Wait(Milliseconds(u32::try_from(at_most.as_millis()).unwrap_or(u32::MAX)))
}

fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
