//! What was asked and said on an application's control sockets so far, one after the other.
//!
//! Pure: calls number requests here and send them; [`Machine::handle`] takes what the agent says; the other calls look whether
//! something that was waited for is there. The reader of the control socket says when one is open and when it is closed, and
//! sends what [`Machine::next_unsent`] gives.
//!
//! | standing | connected | Registered, Waiting | refused (Failed, Goodbye) | closed |
//! | --- | --- | --- | --- | --- |
//! | Away | register; *Registering* | – | – | *Away* |
//! | Registering | – | subscribe, claim; *Known* | *Refused* | *Away* |
//! | Known | – | *Known* | – | *Away* |
//! | Refused | – | – | – | *Refused*, until a call wants it tried again |
//!
//! When a control socket closes, an offer that was not answered is void. A connection that has arrived outlives it
//! ([`arrivals`]), and a transfer that was not answered is asked about at the next one.

pub(crate) mod arrivals;
mod questions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use channel::Sealed;
use model::codec::{Address, WireConnection};
use model::control_socket::notification::{By, Targets};
use model::control_socket::request::{
    Accept, Choose, Consent, Reject, Resume, Role, Say, Subscribe, Taken, TakesOffers, Transfer, View,
};
use model::control_socket::{
    JobName, MAX_STATE_BYTES, Notification, OfferId, Refusal, Request, RequestId, Target,
};
use model::{Connection, Protocol, Service, StackName};

use crate::application::{Choice, Terms};
use crate::error::Error;
use crate::registration::Registration;
use arrivals::Arrivals;
pub(crate) use arrivals::{Arrived, IsTaken};
use questions::Questions;
pub(crate) use questions::{Answer, Reply};

/// The number of a control socket: they have different ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

/// An offer, and the control socket that it was made on: agents may give different offers the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OfferKey {
    pub(crate) session: SessionId,
    pub(crate) offer: OfferId,
}

/// What is offered.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) key: OfferKey,
    pub(crate) connection: Connection,
    pub(crate) job: JobName,
    pub(crate) giver: Option<Target>,
    pub(crate) state: Option<Sealed>,
}

/// What another application says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who, as `job@stack`.
    pub from: Target,
    /// The port that both have registered for.
    pub port: u16,
    /// The client of the connection that it is about, if it is about one.
    pub client: Option<SocketAddr>,
    /// What.
    pub bytes: Vec<u8>,
}

/// The most messages that wait to be read; later ones are lost.
const MAX_HEARD: usize = 1024;

/// What became of a transfer.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The agent has answered.
    Answered(Result<(), Error>),
    /// The agent has ended before that.
    Lost,
}

/// Why not, and in whose words.
pub(crate) type Why = (Refusal, Option<String>);

#[derive(Debug)]
enum Standing {
    /// There is no agent.
    Away { since: Instant },
    /// The agent has not answered the registration.
    Registering { request: RequestId, away_since: Instant },
    /// The agent knows it.
    Known { request: RequestId, in_force: bool },
    /// The agent does not want it; some call was told so.
    Refused { why: Why, is_told: bool },
}

/// The targets of a service.
#[derive(Debug, Default)]
struct Subscription {
    /// What was said last and holds together.
    whole: Option<Result<BTreeSet<Target>, Why>>,
    /// What is being said.
    next: BTreeSet<Target>,
}

/// The subscription of a service that the present agent was not asked about.
const NOT_ASKED: RequestId = RequestId(0);

/// What to send besides what calls send themselves.
pub(crate) type Unsent = (Request, Option<OwnedFd>);

#[derive(Debug)]
pub(crate) struct Machine {
    role: Role,
    registration: Registration,
    takes_offers: bool,
    /// The application has asked for messages: others come to one that never reads them, and would keep it awake.
    hears: bool,
    standing: Standing,
    session: SessionId,
    last_request: u32,
    stack: Option<StackName>,
    /// Transfers.
    asked: BTreeMap<RequestId, Option<Result<(), Option<Why>>>>,
    questions: Questions,
    subscribed: BTreeMap<Service, RequestId>,
    subscriptions: BTreeMap<RequestId, Subscription>,
    offered: VecDeque<Offered>,
    heard: VecDeque<Heard>,
    arrivals: Arrivals,
    unsent: VecDeque<Unsent>,
}

impl Machine {
    /// An application that no agent knows yet. A routing application gets offers once the application has looked for them.
    pub(crate) fn new(role: Role, registration: Registration, now: Instant) -> Self {
        Self {
            takes_offers: role == Role::Target,
            hears: false,
            role,
            registration,
            standing: Standing::Away { since: now },
            session: SessionId::default(),
            last_request: 0,
            stack: None,
            asked: BTreeMap::new(),
            questions: Questions::default(),
            subscribed: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            offered: VecDeque::new(),
            heard: VecDeque::new(),
            arrivals: Arrivals::default(),
            unsent: VecDeque::new(),
        }
    }

    /// A control socket is open: what to send first.
    pub(crate) fn connected(&mut self, now: Instant) -> Request {
        let request = self.number();
        self.session = SessionId(self.session.0 + 1);
        let away_since = self.away_since().unwrap_or(now);
        self.standing = Standing::Registering { request, away_since };
        self.registration.message(request, self.role, self.takes_offers).into()
    }

    /// The control socket is closed, and everything that came on it was handled.
    pub(crate) fn closed(&mut self, now: Instant) {
        self.standing = match std::mem::replace(&mut self.standing, Standing::Away { since: now }) {
            Standing::Away { since } | Standing::Registering { away_since: since, .. } => {
                Standing::Away { since }
            }
            Standing::Known { .. } => Standing::Away { since: now },
            refused @ Standing::Refused { .. } => refused,
        };
        self.unsent.clear();
        self.offered.clear();
        self.subscribed.values_mut().for_each(|request| *request = NOT_ASKED);
        self.subscriptions.clear();
        for answer in self.asked.values_mut().filter(|answer| answer.is_none()) {
            *answer = Some(Err(None));
        }
        self.questions.closed();
        self.arrivals.closed();
    }

    /// Takes what the agent says.
    pub(crate) fn handle(&mut self, notification: Notification, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        match notification {
            Notification::Welcome(welcome) => self.stack = Some(welcome.stack),
            Notification::Registered(m) => self.known(m.request, true),
            // An application that registers goes on waiting; one that was registered goes on with the connections that it has.
            Notification::Waiting(m) => self.known(m.request, false),
            Notification::Targets(targets) => self.targets(targets),
            Notification::Offer(m) => self.offered.push_back(Offered {
                key: OfferKey { session: self.session, offer: m.offer },
                connection: m.connection.0,
                job: m.job,
                giver: m.giver,
                state: descriptors.next().and_then(state),
            }),
            Notification::Withdrawn(m) => {
                self.offered.retain(|offered| offered.key.offer != m.offer);
                self.arrivals.withdrawn(OfferKey { session: self.session, offer: m.offer }, m.why);
            }
            Notification::Arriving(m) => {
                if let Some(arrived) = arrived(m.connection.0, m.giver, descriptors) {
                    self.arrivals.arriving(self.session, m.by, arrived);
                }
            }
            Notification::Connection(m) => {
                if let Some(arrived) = arrived(m.connection.0, None, descriptors) {
                    self.arrivals.here(self.session, m.by, arrived);
                }
            }
            Notification::Transferred(m) => self.answer(m.request, Ok(())),
            Notification::Said(m) => self.answer(m.request, Ok(())),
            Notification::Chosen(m) => self.questions.chosen(m.request, m.target),
            Notification::Views(part) => self.questions.views(part),
            Notification::Heard(m) if self.hears && self.heard.len() < MAX_HEARD => {
                self.heard.push_back(Heard {
                    from: m.from,
                    port: m.port,
                    client: m.about.map(|about| about.0.client),
                    bytes: m.bytes,
                });
            }
            Notification::Heard(_) => {}
            Notification::Claimed(m) => self.arrivals.claimed(self.session, m.request),
            Notification::Failed(m) => self.failed(m.request, (m.why, m.detail)),
            Notification::Goodbye(m) => self.goodbye(m.why),
        }
    }

    fn known(&mut self, of: RequestId, in_force: bool) {
        match &mut self.standing {
            Standing::Registering { request, .. } if *request == of => {
                self.standing = Standing::Known { request: of, in_force };
                self.begin();
            }
            Standing::Known { request, in_force: now } if *request == of => *now = in_force,
            Standing::Away { .. }
            | Standing::Registering { .. }
            | Standing::Known { .. }
            | Standing::Refused { .. } => {}
        }
    }

    /// The agent knows the application: it is asked again what its predecessor was asked.
    fn begin(&mut self) {
        let services: Vec<Service> = self.subscribed.keys().copied().collect();
        for service in services {
            let request = self.subscribe(service);
            self.unsent.push_back((request, None));
        }
        let (arrivals, last_request) = (&mut self.arrivals, &mut self.last_request);
        let claims = arrivals.claims(|| {
            *last_request += 1;
            RequestId(*last_request)
        });
        self.unsent.extend(claims.into_iter().map(|(claim, socket)| (claim.into(), Some(socket))));
    }

    fn failed(&mut self, request: RequestId, why: Why) {
        if let Standing::Registering { request: registration, .. }
        | Standing::Known { request: registration, .. } = self.standing
            && registration == request
        {
            self.standing = Standing::Refused { why, is_told: false };
        } else if let Some(subscription) = self.subscriptions.get_mut(&request) {
            subscription.whole = Some(Err(why));
        } else if !self.questions.failed(request, &why)
            && !self.arrivals.not_ours(self.session, request, &why)
        {
            self.answer(request, Err(Some(why)));
        }
    }

    fn goodbye(&mut self, why: Refusal) {
        match self.standing {
            // It lets nobody in, or not this application.
            Standing::Registering { .. } if why != Refusal::Ending => {
                self.standing = Standing::Refused { why: (why, None), is_told: false };
            }
            Standing::Away { .. }
            | Standing::Registering { .. }
            | Standing::Known { .. }
            | Standing::Refused { .. } => {}
        }
    }

    fn answer(&mut self, request: RequestId, outcome: Result<(), Option<Why>>) {
        if let Some(answer) = self.asked.get_mut(&request) {
            *answer = Some(outcome);
        }
    }

    fn targets(&mut self, targets: Targets) {
        let Some(subscription) = targets.request.and_then(|r| self.subscriptions.get_mut(&r)) else { return };
        if targets.first {
            subscription.next.clear();
        }
        for target in &targets.removed {
            subscription.next.remove(target);
        }
        subscription.next.extend(targets.added);
        if targets.last {
            subscription.whole = Some(Ok(subscription.next.clone()));
        }
    }

    fn number(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    /// What else is to be sent on the present control socket.
    pub(crate) fn next_unsent(&mut self) -> Option<Unsent> {
        self.unsent.pop_front()
    }

    /// The control socket that is open, or was open last.
    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// The agent knows the application, so that requests can be made.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self.standing, Standing::Known { .. })
    }

    /// The registration is in force.
    pub(crate) fn is_in_force(&self) -> bool {
        matches!(self.standing, Standing::Known { in_force: true, .. })
    }

    /// Since when no agent has known the application; `None`: one knows it, or does not want it.
    pub(crate) fn away_since(&self) -> Option<Instant> {
        match self.standing {
            Standing::Away { since } | Standing::Registering { away_since: since, .. } => Some(since),
            Standing::Known { .. } | Standing::Refused { .. } => None,
        }
    }

    /// The agent does not want the application.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.standing, Standing::Refused { .. })
    }

    /// Why the agent does not want the application, for a call that this ends.
    pub(crate) fn refused(&mut self) -> Option<Error> {
        match &mut self.standing {
            Standing::Refused { why, is_told } => {
                *is_told = true;
                Some(refused(why.clone()))
            }
            Standing::Away { .. } | Standing::Registering { .. } | Standing::Known { .. } => None,
        }
    }

    /// A call begins: if an earlier one was told that the agent does not want the application, it is tried again.
    pub(crate) fn try_again(&mut self, now: Instant) -> bool {
        let tries = matches!(self.standing, Standing::Refused { is_told: true, .. });
        if tries {
            self.standing = Standing::Away { since: now };
        }
        tries
    }

    /// The name of the stack.
    pub(crate) fn stack(&self) -> Option<StackName> {
        self.stack.clone()
    }

    pub(crate) fn transfer(
        &mut self,
        to: Option<Target>,
        consent: Consent,
        terms: &Terms<'_>,
    ) -> (RequestId, Request) {
        let request = self.number();
        self.asked.insert(request, None);
        let (unacknowledged, given_back) = (terms.what_to_do_about_unacknowledged(), terms.given_back());
        (request, Transfer { request, to, consent, unacknowledged, given_back }.into())
    }

    /// Says something to another application.
    pub(crate) fn say(
        &mut self,
        service: Service,
        (to, client, bytes): (&Target, Option<SocketAddr>, &[u8]),
    ) -> (RequestId, Request) {
        let request = self.number();
        self.asked.insert(request, None);
        let (dvipa, port) = (Address(service.dvipa.address()), service.port);
        let own = SocketAddr::new(service.dvipa.address(), port);
        let about = client.and_then(|client| Connection::new(Protocol::Tcp, client, own)).map(WireConnection);
        (request, Say { request, dvipa, port, to: to.clone(), about, bytes: bytes.to_vec() }.into())
    }

    /// Asks for a target for a connection.
    pub(crate) fn choose(&mut self, connection: Connection, choice: &Choice<'_>) -> (RequestId, Request) {
        let request = self.number();
        self.questions.ask(request);
        let (jobs, besides) = (choice.jobs.to_vec(), choice.besides.to_vec());
        (request, Choose { request, connection: WireConnection(connection), jobs, besides }.into())
    }

    /// Asks how the targets of a service are.
    pub(crate) fn view(&mut self, service: Service) -> (RequestId, Request) {
        let request = self.number();
        self.questions.ask(request);
        (request, View { request, dvipa: Address(service.dvipa.address()), port: service.port }.into())
    }

    /// What became of a question, once that is known.
    pub(crate) fn reply(&mut self, request: RequestId) -> Option<Answer> {
        self.questions.answer(request)
    }

    /// What another application has said. Messages are kept from the first call on.
    pub(crate) fn hear(&mut self) -> Option<Heard> {
        self.hears = true;
        self.heard.pop_front()
    }

    /// Asks what became of a transfer.
    pub(crate) fn resume(&mut self) -> (RequestId, Request) {
        let request = self.number();
        self.asked.insert(request, None);
        (request, Resume { request }.into())
    }

    /// What became of a transfer, once that is known.
    pub(crate) fn outcome(&mut self, request: RequestId) -> Option<Outcome> {
        self.asked.get(&request)?.as_ref()?;
        Some(match self.asked.remove(&request)?? {
            Ok(()) => Outcome::Answered(Ok(())),
            Err(Some(why)) => Outcome::Answered(Err(refused(why))),
            Err(None) => Outcome::Lost,
        })
    }

    /// Something was not asked for after all.
    pub(crate) fn unasked(&mut self, request: RequestId) {
        self.asked.remove(&request);
        self.questions.forget(request);
    }

    /// A subscription, if there is none yet. An agent that does not know the application yet is asked when it does.
    pub(crate) fn subscribe_once(&mut self, service: Service) -> Option<Request> {
        if self.subscribed.contains_key(&service) {
            return None;
        }
        if self.is_known() {
            return Some(self.subscribe(service));
        }
        self.subscribed.insert(service, NOT_ASKED);
        None
    }

    fn subscribe(&mut self, service: Service) -> Request {
        let request = self.number();
        self.subscribed.insert(service, request);
        self.subscriptions.insert(request, Subscription::default());
        Subscribe { request, dvipa: Address(service.dvipa.address()), port: service.port }.into()
    }

    /// The targets of a service, sorted, once they are known.
    pub(crate) fn targets_of(&mut self, service: Service) -> Option<Result<Vec<Target>, Error>> {
        let request = *self.subscribed.get(&service)?;
        match self.subscriptions.get(&request)?.whole.as_ref()? {
            Ok(targets) => Some(Ok(targets.iter().cloned().collect())),
            Err(why) => {
                let why = why.clone();
                self.subscribed.remove(&service);
                self.subscriptions.remove(&request);
                Some(Err(refused(why)))
            }
        }
    }

    /// The application looks at offers from now on: what tells the agent, if it does not know.
    pub(crate) fn takes_offers(&mut self) -> Option<Request> {
        if std::mem::replace(&mut self.takes_offers, true) {
            return None;
        }
        match self.standing {
            Standing::Known { request, .. } => Some(TakesOffers { request }.into()),
            // Behind the registration.
            Standing::Registering { request, .. } => {
                self.unsent.push_back((TakesOffers { request }.into(), None));
                None
            }
            Standing::Away { .. } | Standing::Refused { .. } => None,
        }
    }

    /// Something is there that a call would find without waiting.
    pub(crate) fn is_ready(&self) -> bool {
        !self.offered.is_empty()
            || (self.hears && !self.heard.is_empty())
            || self.arrivals.has_given()
            || self.is_refused()
    }

    pub(crate) fn next_offer(&mut self) -> Option<Offered> {
        self.offered.pop_front()
    }

    /// Takes an offer: the request to send. `None`: its agent has ended, and the offer is void, as [`Self::accepted`] says.
    pub(crate) fn accept(&mut self, key: OfferKey) -> Option<Request> {
        self.arrivals.accept(key);
        if !self.is_open(key) {
            self.arrivals.void(key);
            return None;
        }
        Some(Accept { offer: key.offer }.into())
    }

    /// Does not take an offer: the request to send, as above.
    pub(crate) fn reject(&self, key: OfferKey, reason: &str) -> Option<Request> {
        self.is_open(key).then(|| Reject { offer: key.offer, reason: reason.to_owned() }.into())
    }

    /// Its agent has not ended.
    fn is_open(&self, key: OfferKey) -> bool {
        key.session == self.session && self.is_known()
    }

    /// The connection of an accepted offer, once it is the application's or never will be.
    pub(crate) fn accepted(&mut self, key: OfferKey) -> Option<Result<Arrived, Error>> {
        self.arrivals.accepted(key)
    }

    /// Nobody waits for the connection of an accepted offer any longer: it is closed when it comes.
    pub(crate) fn forget(&mut self, key: OfferKey) {
        self.arrivals.forget(key);
    }

    /// A connection that was given, and what its agent is to be told.
    pub(crate) fn take(&mut self) -> Option<(Arrived, IsTaken)> {
        self.arrivals.take()
    }

    /// Tells the agent that a connection was taken. Another agent knows nothing of it.
    pub(crate) fn is_taken(&self, IsTaken { session, by }: IsTaken) -> Option<Request> {
        (self.session == session && self.is_known()).then(|| Taken { by }.into())
    }
}

pub(crate) fn refused((why, detail): Why) -> Error {
    Error::Refused { why, detail }
}

fn arrived(
    connection: Connection,
    giver: Option<Target>,
    mut descriptors: std::vec::IntoIter<OwnedFd>,
) -> Option<Arrived> {
    let socket = descriptors.next()?;
    Some(Arrived { connection, giver, socket, state: descriptors.next().and_then(state) })
}

/// The agent sends nothing else; what is no state would be none.
fn state(memory: OwnedFd) -> Option<Sealed> {
    Sealed::check(memory, MAX_STATE_BYTES).ok()
}

/// What brought a connection is for nobody but [`Arrivals`].
fn key(session: SessionId, by: By) -> Option<OfferKey> {
    match by {
        By::Offer(offer) | By::Given(offer) => Some(OfferKey { session, offer }),
        By::Claim(_) => None,
    }
}

#[cfg(test)]
mod tests;
