//! What was asked and said on one control socket so far.
//!
//! Pure: requests are numbered here and sent by whoever asks; [`Machine::handle`] takes what the agent says; the other
//! calls look whether something that was waited for is there. Once the agent has closed, every wait ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;

use channel::Sealed;
use model::codec::Address;
use model::control_socket::notification::{By, Targets};
use model::control_socket::request::{Accept, Consent, Resume, Role, Subscribe, Take, Transfer};
use model::control_socket::{
    JobName, MAX_STATE_BYTES, Notification, OfferId, Refusal, Request, RequestId, Target,
};
use model::{Connection, Service, StackName};

use crate::application::Terms;
use crate::error::Error;
use crate::registration::Registration;

/// What is offered.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) offer: OfferId,
    pub(crate) connection: Connection,
    pub(crate) job: JobName,
    pub(crate) state: Option<Sealed>,
}

/// A connection that has come.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) connection: Connection,
    pub(crate) socket: OwnedFd,
    pub(crate) state: Option<Sealed>,
}

/// Why not, and in whose words.
type Why = (Refusal, Option<String>);
type Outcome = Result<(), Why>;

/// The targets of a service.
#[derive(Debug, Default)]
struct Subscription {
    /// What was said last and holds together.
    whole: Option<Result<BTreeSet<Target>, Why>>,
    /// What is being said.
    next: BTreeSet<Target>,
}

#[derive(Debug, Default)]
pub(crate) struct Machine {
    last_request: u32,
    stack: Option<StackName>,
    /// Registrations and transfers; `None`: not answered.
    asked: BTreeMap<RequestId, Option<Outcome>>,
    /// Registrations that wait until the stack owns the DVIPA.
    waiting: BTreeSet<RequestId>,
    subscribed: BTreeMap<Service, RequestId>,
    subscriptions: BTreeMap<RequestId, Subscription>,
    offered: VecDeque<Offered>,
    /// `None`: accepted and not here.
    accepted: BTreeMap<OfferId, Option<Result<Arrived, Refusal>>>,
    /// Callers that wait for a given connection.
    takers: usize,
    /// Takes that are not answered. One that its caller gave up serves the next caller.
    takes: BTreeSet<RequestId>,
    taken: VecDeque<Result<Arrived, Why>>,
    closed: Option<Option<Refusal>>,
}

impl Machine {
    /// Takes what the agent says.
    pub(crate) fn handle(&mut self, notification: Notification, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        match notification {
            Notification::Welcome(welcome) => self.stack = Some(welcome.stack),
            Notification::Registered(m) => self.answer(m.request, Ok(())),
            // Whoever registers goes on waiting; who was registered goes on with the connections that it has.
            Notification::Waiting(m) => {
                self.waiting.insert(m.request);
            }
            Notification::Targets(targets) => self.targets(targets),
            Notification::Offer(m) => self.offered.push_back(Offered {
                offer: m.offer,
                connection: m.connection.0,
                job: m.job,
                state: descriptors.next().and_then(state),
            }),
            Notification::Withdrawn(m) => {
                self.offered.retain(|offered| offered.offer != m.offer);
                if let Some(accepted) = self.accepted.get_mut(&m.offer) {
                    *accepted = Some(Err(m.why));
                }
            }
            Notification::Connection(m) => {
                let Some(socket) = descriptors.next() else { return };
                let state = descriptors.next().and_then(state);
                let arrived = Arrived { connection: m.connection.0, socket, state };
                match m.by {
                    By::Offer(offer) => {
                        if let Some(accepted) = self.accepted.get_mut(&offer) {
                            *accepted = Some(Ok(arrived));
                        }
                    }
                    By::Take(request) => {
                        self.takes.remove(&request);
                        self.taken.push_back(Ok(arrived));
                    }
                }
            }
            Notification::Transferred(m) => self.answer(m.request, Ok(())),
            Notification::Failed(m) => {
                let why = (m.why, m.detail);
                if self.takes.remove(&m.request) {
                    self.taken.push_back(Err(why));
                } else if let Some(subscription) = self.subscriptions.get_mut(&m.request) {
                    subscription.whole = Some(Err(why));
                } else {
                    self.answer(m.request, Err(why));
                }
            }
            Notification::Goodbye(m) => self.close(Some(m.why)),
        }
    }

    /// The agent has closed, for this reason if it gave one.
    pub(crate) fn close(&mut self, why: Option<Refusal>) {
        self.closed.get_or_insert(why);
    }

    /// Why nothing more will come.
    pub(crate) fn closed(&self) -> Option<Error> {
        self.closed.map(|why| Error::Closed { why })
    }

    fn answer(&mut self, request: RequestId, outcome: Outcome) {
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

    /// The name of the stack.
    pub(crate) fn stack(&self) -> Option<StackName> {
        self.stack.clone()
    }

    pub(crate) fn register(&mut self, role: Role, registration: &Registration) -> (RequestId, Request) {
        let request = self.number();
        self.asked.insert(request, None);
        (request, registration.message(request, role).into())
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

    /// Asks what became of a transfer.
    pub(crate) fn resume(&mut self) -> (RequestId, Request) {
        let request = self.number();
        self.asked.insert(request, None);
        (request, Resume { request }.into())
    }

    /// The agent knows of a registration, in force or not.
    pub(crate) fn is_known(&mut self, request: RequestId) -> Option<Result<(), Error>> {
        if self.waiting.remove(&request) { Some(Ok(())) } else { self.outcome(request) }
    }

    /// The answer to a registration or a transfer.
    pub(crate) fn outcome(&mut self, request: RequestId) -> Option<Result<(), Error>> {
        self.asked.get(&request)?.as_ref()?;
        Some(self.asked.remove(&request)??.map_err(refused))
    }

    /// A subscription, if there is none yet.
    pub(crate) fn subscribe(&mut self, service: Service) -> Option<Request> {
        if self.subscribed.contains_key(&service) {
            return None;
        }
        let request = self.number();
        self.subscribed.insert(service, request);
        self.subscriptions.insert(request, Subscription::default());
        Some(Subscribe { request, dvipa: Address(service.dvipa.address()), port: service.port }.into())
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

    pub(crate) fn next_offer(&mut self) -> Option<Offered> {
        self.offered.pop_front()
    }

    pub(crate) fn accept(&mut self, offer: OfferId) -> Request {
        self.accepted.insert(offer, None);
        Accept { offer }.into()
    }

    /// The connection of an accepted offer.
    pub(crate) fn accepted(&mut self, offer: OfferId) -> Option<Result<Arrived, Error>> {
        self.accepted.get(&offer)?.as_ref()?;
        Some(self.accepted.remove(&offer)??.map_err(|why| refused((why, None))))
    }

    /// Nobody waits for the connection of an accepted offer any longer: it is closed when it comes.
    #[cfg(any(test, feature = "tokio"))]
    pub(crate) fn forget(&mut self, offer: OfferId) {
        self.accepted.remove(&offer);
    }

    /// Somebody begins to wait for a given connection: the request to send, unless enough are under way.
    pub(crate) fn begin_take(&mut self) -> Option<Request> {
        self.takers += 1;
        if self.takes.len() + self.taken.len() >= self.takers {
            return None;
        }
        let request = self.number();
        self.takes.insert(request);
        Some(Take { request }.into())
    }

    /// Somebody waits no longer.
    pub(crate) fn end_take(&mut self) {
        self.takers -= 1;
    }

    /// A connection that was given.
    pub(crate) fn taken(&mut self) -> Option<Result<Arrived, Error>> {
        self.taken.pop_front().map(|taken| taken.map_err(refused))
    }
}

fn refused((why, detail): Why) -> Error {
    Error::Refused { why, detail }
}

/// The agent sends nothing else; what is no state would be none.
fn state(memory: OwnedFd) -> Option<Sealed> {
    Sealed::check(memory, MAX_STATE_BYTES).ok()
}

#[cfg(test)]
mod tests;
