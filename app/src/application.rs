//! The calls.

use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use channel::Sealed;
use model::control_socket::request::{Consent, Milliseconds, Role, Unacknowledged};
use model::control_socket::{
    JobName, MAX_GIVEN_BACK_BYTES, MAX_STATE_BYTES, Refusal, Request, RequestId, Target, TargetView,
};
use model::{Connection as Key, Protocol, Service, StackName};

use crate::error::{Error, TransferError};
use crate::link::Link;
use crate::machine::{Answer, Heard, Machine, Outcome, Reply};
use crate::offer::{Connection, Offer};
use crate::registration::Registration;

/// The agent answers a question within this time, also if the routing stack does not; one of an older version never does.
pub(crate) const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// An application that its stack's agent knows. Dropping it ends the registration, unless there are offers that were not
/// answered; connections that it has are its own.
///
/// When the agent ends and comes back, the application is registered again without a call. Calls that wait go on waiting: those
/// that need an answer for half a minute without an agent ([`Error::Connect`]), the others for as long as they were to. A
/// transfer that was under way is asked about at the next agent, so that it is known what became of it. If the next agent does
/// not want the application, calls fail with its reason ([`Error::Refused`]), and the call after such a one registers again.
#[derive(Debug)]
pub struct Application {
    link: Arc<Link>,
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

    /// The last bytes that the application has read from the connection go back to it: the next application reads them first.
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

/// What the cluster chooses a target from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice<'a> {
    pub(crate) jobs: &'a [JobName],
    pub(crate) besides: &'a [Target],
}

impl<'a> Choice<'a> {
    /// Among all targets of the port.
    pub fn all() -> Self {
        Self::default()
    }

    /// Among the applications of these names, at most 256.
    pub fn of(jobs: &'a [JobName]) -> Self {
        Self { jobs, ..Self::default() }
    }

    /// But not these, at most 256: those that have refused the connection.
    #[must_use]
    pub fn besides(self, besides: &'a [Target]) -> Self {
        Self { besides, ..self }
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
        Ok(Self { link: Arc::new(Link::open(role, registration)?), registration: registration.clone() })
    }

    /// Fails in a process that was forked after the registration: there every call fails so.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn of_this_process(&self) -> Result<(), Error> {
        self.link.of_this_process()
    }

    /// The stack that it runs on.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn stack(&self) -> Result<StackName, Error> {
        answer(self.link.wait(None, true, |machine| machine.stack()))
    }

    /// The targets of one of its ports now, sorted.
    ///
    /// # Errors
    /// [`Error::Refused`] for a port that it did not register for; [`Error::Connect`].
    pub fn targets(&self, port: u16) -> Result<Vec<Target>, Error> {
        self.subscribe(port)?;
        let service = self.registration.service(port);
        answer(self.link.wait(None, true, |machine| machine.targets_of(service)))?
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
        self.subscribe(port)?;
        let service = self.registration.service(port);
        let changed = self.link.wait(deadline(timeout), false, |machine| beyond(machine, service, known))?;
        changed.unwrap_or_else(|| Ok(known.to_vec()))
    }

    /// The target that the cluster chooses for a client's connection, as it selects targets for new connections: by the service's
    /// method, weights, policies and drains. Nothing is transferred yet.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is none to choose ([`Refusal::NoTarget`]), without a routing stack, and for a port that it did not
    /// register for; [`Error::Connect`].
    pub fn choose(&self, port: u16, client: SocketAddr, choice: &Choice<'_>) -> Result<Target, Error> {
        let connection = connection(self.registration.service(port), client)?;
        let reply = self.asked(|machine| machine.choose(connection, choice))?;
        reply.chosen.ok_or_else(not_answered)
    }

    /// How the targets of one of its ports are, sorted: state, weight, load and connections. What is said is at most a second old.
    ///
    /// # Errors
    /// [`Error::Refused`] without a routing stack, and for a port that it did not register for; [`Error::Connect`].
    pub fn target_views(&self, port: u16) -> Result<Vec<TargetView>, Error> {
        let service = self.registration.service(port);
        self.asked(|machine| machine.view(service)).map(|reply| reply.views)
    }

    /// Asks something that is asked again if the agent ends before it has answered.
    fn asked(&self, mut make: impl FnMut(&mut Machine) -> (RequestId, Request)) -> Result<Reply, Error> {
        let deadline = Instant::now().checked_add(ANSWERED_WITHIN);
        loop {
            let request = self.link.ask(&[], &mut make, Machine::unasked)?;
            match self.link.wait(deadline, true, |machine| machine.reply(request))? {
                Some(Answer::Answered(result)) => return result,
                Some(Answer::Lost) => {}
                None => {
                    self.link.with(|machine| machine.unasked(request));
                    return Err(not_answered());
                }
            }
        }
    }

    /// Once for all agents: the link asks each next one by itself.
    fn subscribe(&self, port: u16) -> Result<(), Error> {
        let service = self.registration.service(port);
        self.link.tell(|machine| machine.subscribe_once(service)).map(drop)
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
        let all: Vec<BorrowedFd<'_>> =
            std::iter::once(socket).chain(state.as_ref().map(AsFd::as_fd)).collect();
        let transfer = |machine: &mut Machine| machine.transfer(to.cloned(), consent, terms);
        loop {
            match self.outcome(self.link.ask(&all, transfer, Machine::unasked)?)? {
                Outcome::Answered(result) => return result,
                Outcome::Lost => {}
            }
            // The agent has ended in the middle: the next one is asked what became of it.
            match self.resumed(socket) {
                // It goes on here, because the agent has ended.
                Err(Error::Refused { why: Refusal::Aborted | Refusal::Transfer(_), .. }) => {}
                other => return other,
            }
        }
    }

    fn resumed(&self, socket: BorrowedFd<'_>) -> Result<(), Error> {
        loop {
            let asked = self.link.ask(&[socket], Machine::resume, Machine::unasked);
            match self.outcome(asked.map_err(|_| Error::InDoubt)?)? {
                Outcome::Answered(result) => return result,
                Outcome::Lost => {}
            }
        }
    }

    fn outcome(&self, request: RequestId) -> Result<Outcome, Error> {
        answer(self.link.wait(None, false, |machine| machine.outcome(request)))
    }

    /// The next connection that is offered; `None` if there is none within `timeout`.
    ///
    /// # Errors
    /// [`Error::Refused`] if the agent does not want this application.
    pub fn next_offer(&self, timeout: Option<Duration>) -> Result<Option<Offer>, Error> {
        self.take_offers();
        let offered = self.link.wait(deadline(timeout), false, |machine| machine.next_offer())?;
        offered.map(|offered| Offer::new(Arc::clone(&self.link), offered)).transpose()
    }

    /// The next connection that was given to this application (takeconnection); `None` if there is none within
    /// `timeout`. One that is not taken within a minute is closed.
    ///
    /// # Errors
    /// [`Error::Refused`] if the agent does not want this application.
    pub fn take_connection(&self, timeout: Option<Duration>) -> Result<Option<Connection>, Error> {
        self.take_offers();
        let taken = self.link.wait(deadline(timeout), false, |machine| machine.take())?;
        let Some((arrived, taken)) = taken else { return Ok(None) };
        self.link.tell(|machine| machine.is_taken(taken))?;
        Connection::new(arrived).map(Some)
    }

    /// Says something to another application that has registered for the port: at most 32 KiB. It comes to it at most once, in
    /// order, and without an answer; it is lost if that application, or a stack on the way, has ended, or if it does not listen.
    /// With the client of a connection it is about that one, and of several processes comes to the one that was transferred it: so
    /// state may follow a transfer.
    ///
    /// # Errors
    /// [`Error::Refused`] for a port that it did not register for, without a routing stack, and beyond 256 messages a second of all
    /// applications of this host.
    pub fn say(&self, port: u16, to: &Target, client: Option<SocketAddr>, bytes: &[u8]) -> Result<(), Error> {
        let service = self.registration.service(port);
        let say = |machine: &mut Machine| machine.say(service, (to, client, bytes));
        match self.outcome(self.link.ask(&[], say, Machine::unasked)?)? {
            Outcome::Answered(result) => result,
            Outcome::Lost => Err(Error::Closed),
        }
    }

    /// What another application says next; `None` if nothing within `timeout`. Messages are kept from the first call on, which may
    /// have a timeout of zero; what came before is lost. 1024 messages wait to be read; later ones are lost.
    ///
    /// # Errors
    /// [`Error::Refused`] if the agent does not want this application.
    pub fn hear(&self, timeout: Option<Duration>) -> Result<Option<Heard>, Error> {
        self.link.wait(deadline(timeout), false, |machine| machine.hear())
    }

    /// For an event loop: readable exactly while [`Application::next_offer`], [`Application::take_connection`] or
    /// [`Application::hear`] would return with a timeout of zero. It stays the same when the agent ends and comes back.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.take_offers();
        self.link.descriptor()
    }

    /// A routing application is offered connections from the first time on that it looks for some.
    fn take_offers(&self) {
        // A child of fork(2) is told by the call itself. An agent that has ended meanwhile is not told: the next one is, with the registration.
        let _ = self.link.tell(Machine::takes_offers);
    }
}

/// The connection of a client to a service.
pub(crate) fn connection(service: Service, client: SocketAddr) -> Result<Key, Error> {
    let own = SocketAddr::new(service.dvipa.address(), service.port);
    let detail = || Some(format!("{client} is of another family than {own}"));
    Key::new(Protocol::Tcp, client, own)
        .ok_or_else(|| Error::Refused { why: Refusal::NoConnection, detail: detail() })
}

/// The agent does not know the question.
pub(crate) fn not_answered() -> Error {
    let detail = Some("the agent does not answer: it is older than this library".to_owned());
    Error::Refused { why: Refusal::NoRoutingStack, detail }
}

/// What was waited for without a deadline.
fn answer<T>(waited: Result<Option<T>, Error>) -> Result<T, Error> {
    waited?.ok_or(Error::InDoubt)
}

/// The targets, if they are others than those that are known.
pub(crate) fn beyond(
    machine: &mut Machine,
    service: Service,
    known: &[Target],
) -> Option<Result<Vec<Target>, Error>> {
    match machine.targets_of(service)? {
        Ok(targets) if targets == known => None,
        targets => Some(targets),
    }
}

/// The transfer waits so long until the client has acknowledged everything, and is refused then.
pub fn wait(at_most: Duration) -> Unacknowledged {
    Unacknowledged::Wait(Milliseconds(u32::try_from(at_most.as_millis()).unwrap_or(u32::MAX)))
}

fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
