//! What applications and operators ask, in the words of the host's machine.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use channel::Sealed;
use model::control_socket::request::{Consent as Asks, Milliseconds, Unacknowledged};
use model::control_socket::{JobName, OfferId, Refusal, RequestId, Target};
use model::message::{Move, OrderId};
use model::transfer::{Consent, Reason, Why};
use model::{Connection, StackName};
use transfer::giving::Ask;
use transfer::host::{ApplicationId, Order, Place, Terms};

use super::hands::{At, Socket, look};
use super::refusal::refusal;
use super::{Kernel, Transfers};
use crate::control_socket::event::Event;
use crate::control_socket::{Answer, Command, Held, Moving, Registration};
use crate::repair::{self, Places, Refused};

/// Connections that are looked for at once, and looked at in one go: a matter of some milliseconds.
const ORDERS_AT_ONCE: usize = 256;

/// What became of the search for a connection that shall move.
#[derive(Debug)]
pub struct Found {
    connection: Connection,
    target: StackName,
    job: Option<JobName>,
    order: Option<OrderId>,
    quiet: Option<Duration>,
    next: Option<u32>,
    /// And where it is.
    socket: Result<(OwnedFd, Place), Refused>,
}

impl Transfers {
    pub(super) fn application(
        &mut self,
        application: ApplicationId,
        event: Event,
        kernel: Kernel<'_>,
        now: Instant,
    ) {
        let Self { host, hands, .. } = self;
        match event {
            Event::Register(request, registration, listener) => {
                self.register(application, request, registration, listener, kernel);
            }
            Event::Subscribe(request, service) => {
                if let Some(answer) = hands.directory.subscribe(application, request, service, now) {
                    hands.tell(application, answer);
                }
            }
            Event::Transfer(request, moving) => self.asked(application, request, moving, kernel, now),
            Event::Resume(request, held) => {
                let connection = self.takes(application, request, held, Vec::new());
                let mut at = At { hands: &mut self.hands, kernel };
                self.host.resumed(application, request, connection, &mut at, now);
            }
            Event::Claim(request, held) => {
                let connection = self.takes(application, request, held, Vec::new());
                let mut at = At { hands: &mut self.hands, kernel };
                self.host.claimed(application, request, connection, &mut at);
            }
            Event::Say(request, said) => hands.say(application, request, said, now),
            Event::Choose(request, choice) => {
                let owner = hands.owners.get(&choice.connection.service().dvipa);
                let asked = hands.questions.choose((application, request), choice, owner, now);
                hands.asked(application, asked);
            }
            Event::View(request, service) => {
                let owner = hands.owners.get(&service.dvipa);
                let asked = hands.questions.view((application, request), service, owner, now);
                hands.asked(application, asked);
            }
            Event::Answer(offer, answer) => self.answered(offer, answer, now),
            Event::Passed(offer) => {
                if let Some(transfer) = hands.offers.get(&offer).copied() {
                    host.passed(transfer, now);
                }
            }
            Event::NotTaken(held) => self.not_taken(held),
            Event::TakesOffers(request) => hands.directory.takes_offers(application, request),
            Event::Ended => self.ended(application, now),
        }
    }

    /// The kernel knows which sockets take clients before the application is answered.
    fn register(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        registration: Registration,
        listener: Option<OwnedFd>,
        kernel: Kernel<'_>,
    ) {
        let listener = registration.listener.zip(listener);
        let answer = self.hands.directory.register(application, request, registration);
        // The socket of a refused registration is not named: nothing would take it out of the kernel's map.
        if !matches!(answer, Command::Failed { .. })
            && let Some((named, socket)) = listener
            && let Err(cause) = kernel.listeners.name(named.cookie, socket.as_fd())
        {
            tracing::warn!(%cause, "a listener can't be named to the kernel");
            self.hands.directory.unregister(application, request);
            let detail = Some(cause.to_string());
            return self.hands.refuse(application, request, Refusal::NoListener, detail);
        }
        self.takers(kernel);
        self.hands.tell(application, answer);
    }

    /// The descriptor of a request.
    fn takes(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        Held { socket, connection }: Held,
        given_back: Vec<u8>,
    ) -> Connection {
        let socket = Socket::new(socket, connection, given_back);
        self.hands.passed.insert((application, request), socket);
        connection
    }

    /// An operator wants a connection of this host moved.
    pub fn ordered(&mut self, order: Move) {
        self.orders.push_back(order);
        self.search();
    }

    /// Looks for the connections that were ordered since the last search: one walk over the processes for all of them.
    pub(super) fn search(&mut self) {
        if !self.search.is_empty() || self.orders.is_empty() {
            return;
        }
        let orders: Vec<_> = self.orders.drain(..self.orders.len().min(ORDERS_AT_ONCE)).collect();
        let ports: BTreeSet<_> = orders.iter().map(|order| order.connection.0.dvipa.port()).collect();
        let likely: Vec<_> = ports.iter().filter_map(|port| self.servers.get(port).copied()).collect();
        // Kept from search to search, as long as there is something to search.
        let mut places = std::mem::take(&mut self.places);
        self.search.spawn_blocking(move || {
            let connections: Vec<_> = orders.iter().map(|order| order.connection.0).collect();
            let found = places.find_all(&connections, &likely).into_iter().zip(orders);
            let found = found.map(|(socket, Move { connection, target, job, order, quiet_ms, next, .. })| {
                let quiet = quiet_ms.map(|ms| Duration::from_millis(ms.into()));
                Found { connection: connection.0, target, job, order, quiet, next, socket }
            });
            (found.collect(), places)
        });
    }

    /// A search is over: the next one begins.
    pub(super) fn searched(&mut self, found: Vec<Found>, places: Places, kernel: Kernel<'_>, now: Instant) {
        found.into_iter().for_each(|found| self.found(found, kernel, now));
        if !self.orders.is_empty() {
            self.places = places;
        }
        self.search();
    }

    fn found(&mut self, found: Found, kernel: Kernel<'_>, now: Instant) {
        let Found { connection, target, job, order, quiet, next, socket } = found;
        let why = match socket {
            Ok((socket, place)) => {
                self.servers.insert(connection.dvipa.port(), place.process);
                let job = job.map(|job| job.as_str().to_owned());
                let (consent, application) = (Consent::Asked, Vec::new());
                let ask = Ask { connection, target, job, consent, application, giver: None };
                let order = Order { id: order, place, quiet, next };
                let seen = look(socket.as_fd(), kernel);
                drop(socket);
                return self.host.ordered(order, ask, seen, &mut At { hands: &mut self.hands, kernel }, now);
            }
            Err(Refused::NotThere { .. }) => Reason::NoSocket.into(),
            Err(cause) => Why::from(&cause),
        };
        self.hands.stays_here(order, &connection, &why);
    }

    fn asked(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        moving: Moving,
        kernel: Kernel<'_>,
        now: Instant,
    ) {
        let Moving { held, to, consent, unacknowledged, state, given_back } = moving;
        let connection = self.takes(application, request, held, given_back);
        let mut at = At { hands: &mut self.hands, kernel };
        if self.host.is_asked_again(application, request, connection, &mut at, now) {
            return;
        }
        let hands = &mut self.hands;
        let to = match to {
            Some(Target { stack, job }) => Some((stack, Some(job.as_str().to_owned()))),
            // The routing application is on the stack that owns the DVIPA.
            None => hands.owners.get(&connection.service().dvipa).map(|(stack, _)| (stack.clone(), None)),
        };
        let Some((target, job)) = to else {
            return hands.refuse(application, request, Refusal::NoRoutingStack, None);
        };
        let state = match state.as_ref().map(Sealed::read).transpose() {
            Ok(state) => state.unwrap_or_default(),
            Err(cause) => {
                return hands.refuse(application, request, Refusal::StateNotSealed, Some(cause.to_string()));
            }
        };
        let passed = hands.passed.get(&(application, request));
        if let Some(why) = passed.and_then(Socket::gives_too_much_back) {
            let (refusal, detail) = refusal(&why);
            return hands.refuse(application, request, refusal, detail);
        }
        let consent = match consent {
            Asks::Asked => Consent::Asked,
            Asks::Presumed => Consent::Presumed,
        };
        let (terms, acknowledged_by) = match unacknowledged {
            Unacknowledged::Carry => (Terms::Carry, None),
            Unacknowledged::Refuse => (Terms::Acknowledged, Some(now)),
            Unacknowledged::Wait(Milliseconds(ms)) => {
                (Terms::Acknowledged, Some(now + Duration::from_millis(ms.into())))
            }
        };
        let giver = self.hands.directory.job_of(application, connection.service()).map(|target| target.job);
        let ask = Ask { connection, target, job, consent, application: state, giver };
        self.host.asked(application, request, ask, terms, acknowledged_by, now);
    }

    fn answered(&mut self, offer: OfferId, answer: Answer, now: Instant) {
        let Some(transfer) = self.hands.offers.get(&offer).copied() else { return };
        match answer {
            Answer::Accepted => self.host.accepted(transfer, now),
            Answer::Rejected { why, detail } => {
                let said = detail.unwrap_or_else(|| why.sentence().to_owned());
                self.host.rejected(transfer, said, now);
            }
        }
    }

    fn ended(&mut self, application: ApplicationId, now: Instant) {
        self.hands.directory.ended(application);
        self.hands.questions.ended(application);
        self.hands.came.ended(application);
        self.hands.passed.retain(|(who, _), _| *who != application);
        self.host.application_ended(application);
        let is_its = |to: Option<(ApplicationId, OfferId)>| to.is_some_and(|(who, _)| who == application);
        let of_it = self.hands.arriving.iter().filter(|(_, arriving)| is_its(arriving.to));
        for transfer in of_it.map(|(transfer, _)| *transfer).collect::<Vec<_>>() {
            self.host.application_gone(transfer, now);
        }
    }

    /// An application has not taken a connection that it was given.
    fn not_taken(&mut self, Held { socket, connection }: Held) {
        if self.host.is_leaving(&connection) {
            return;
        }
        self.hands.not_taken = self.hands.not_taken.saturating_add(1);
        tracing::warn!(%connection, "its application has not taken it in time, so that it is closed");
        if let Err(cause) = repair::reset(socket) {
            tracing::error!(%connection, %cause, "can't be closed");
        }
    }
}
