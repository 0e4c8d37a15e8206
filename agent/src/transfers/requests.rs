//! What applications and operators ask.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use channel::Sealed;
use model::codec::WireConnection;
use model::control_socket::request::{Consent as Asks, Milliseconds, Unacknowledged};
use model::control_socket::{JobName, Refusal, RequestId, Target};
use model::message::{Message, Move, Stays};
use model::transfer::{Consent, Reason, Why};
use model::{Connection, StackName};
use transfer::source::{self, Ask};
use transfer::target;

use super::leaving::{Asker, Leaving, Order, Ordered, Terms, disconnect};
use super::refusal::refusal;
use super::settling::flows;
use super::{Kernel, Transfers};
use crate::control_socket::event::Event;
use crate::control_socket::{Answer, ApplicationId, Command, Held, Moving};
use crate::repair::{self, Place, Refused};
use crate::system::freezes::Standing;

/// A connection that has just come can move on once everybody knows that it is here: a matter of a round trip.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// Linux answers a packet without new bytes twice a second (`tcp_invalid_ratelimit`).
pub(super) const PROMPTED_AGAIN: Duration = Duration::from_millis(600);
/// How often the kernel is asked what the client has acknowledged.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What became of the search for a connection that shall move.
#[derive(Debug)]
pub struct Found {
    connection: Connection,
    target: StackName,
    job: Option<JobName>,
    order: Order,
    /// And where it is.
    socket: Result<(OwnedFd, Place), Refused>,
}

/// A connection that somebody wants moved and that no transfer has begun of.
#[derive(Debug)]
enum Wish {
    /// An application, which has passed its descriptor.
    Passed(Box<Leaving>),
    /// An operator.
    Ordered(Ordered),
}

impl Wish {
    fn asker(&self) -> Asker {
        match self {
            Self::Passed(leaving) => leaving.asker,
            Self::Ordered(ordered) => Asker::Operator(ordered.order),
        }
    }

    /// Whether the client has not acknowledged all that it was sent. Of an order that is looked at when it is frozen.
    fn is_unacknowledged(&self) -> bool {
        match self {
            Self::Passed(leaving) => repair::unacknowledged(leaving.socket.as_fd()).unwrap_or(0) > 0,
            Self::Ordered(_) => false,
        }
    }
}

/// A request for a transfer that waits until the connection can move.
#[derive(Debug)]
pub(super) struct Waiting {
    ask: Ask,
    wish: Wish,
    /// Until everything sent is acknowledged, at most so long.
    acknowledged_by: Option<Instant>,
    settled_by: Instant,
    not_before: Instant,
}

impl Waiting {
    /// When to look again.
    pub(super) fn next(&self, now: Instant) -> Instant {
        if self.not_before > now {
            return self.not_before;
        }
        self.acknowledged_by.map_or(self.settled_by, |until| until.min(now + LOOK_AGAIN))
    }
}

impl Transfers {
    pub(super) fn application(
        &mut self,
        application: ApplicationId,
        event: Event,
        kernel: Kernel<'_>,
        now: Instant,
    ) {
        match event {
            Event::Register(request, registration) => {
                let answer = self.directory.register(application, request, registration);
                self.tell(application, answer);
            }
            Event::Subscribe(request, service) => {
                if let Some(answer) = self.directory.subscribe(application, request, service, now) {
                    self.tell(application, answer);
                }
            }
            Event::Transfer(request, moving) => {
                self.asked(Asker::Application(application, request), moving, now)
            }
            Event::Resume(request, held) => self.resumed(application, request, held, kernel, now),
            Event::Claim(request, held) => self.claimed(application, request, held, kernel),
            Event::Answer(offer, answer) => self.answered(offer, answer, now),
            Event::Passed(offer) => {
                if let Some(transfer) = self.offers.get(&offer).copied() {
                    self.tell_target(target::Event::Passed(transfer), now);
                }
            }
            Event::NotTaken(held) => self.not_taken(held),
            Event::TakesOffers(request) => self.directory.takes_offers(application, request),
            Event::Ended => self.ended(application, now),
        }
    }

    /// An operator wants a connection of this host moved.
    pub fn ordered(&mut self, order: Move) {
        let Move { connection, target, job, order, quiet_ms, .. } = order;
        let connection = connection.0;
        let quiet = quiet_ms.map(|ms| Duration::from_millis(ms.into()));
        let order = Order { id: order, quiet };
        let likely = self.servers.get(&connection.dvipa.port()).copied();
        self.searches.spawn_blocking(move || Found {
            connection,
            target,
            job,
            order,
            socket: repair::find_near(&connection, likely),
        });
    }

    pub(super) fn found(&mut self, found: Found, kernel: Kernel<'_>, now: Instant) {
        let Found { connection, target, job, order, socket } = found;
        let asker = Asker::Operator(order);
        let (socket, place) = match socket {
            Ok((socket, place)) => {
                self.servers.insert(connection.dvipa.port(), place.process);
                (socket, place)
            }
            Err(Refused::NotThere { .. }) => {
                return self.stays(asker, connection, &Reason::NoSocket.into());
            }
            Err(cause) => {
                let why = Why::new(Reason::NotDumped, &cause.to_string());
                return self.stays(asker, connection, &why);
            }
        };
        let job = job.map(|job| job.as_str().to_owned());
        let ask = Ask { connection, target, job, consent: Consent::Asked, application: Vec::new() };
        if let Some(why) = flows(socket.as_fd(), order.quiet, kernel) {
            return self.stays(asker, connection, &why);
        }
        drop(socket);
        self.wait(ask, Wish::Ordered(Ordered { order, place }), None, now);
    }

    fn asked(&mut self, asker: Asker, moving: Moving, now: Instant) {
        let Moving { held, to, consent, unacknowledged, state, given_back } = moving;
        let connection = held.connection;
        let Some(held) = self.ask_again(asker, held, now) else { return };
        let to = match to {
            Some(Target { stack, job }) => Some((stack, Some(job.as_str().to_owned()))),
            // The routing application is on the stack that owns the DVIPA.
            None => self.owners.get(&connection.service().dvipa).map(|(stack, _)| (stack.clone(), None)),
        };
        let Some((target, job)) = to else {
            return self.refuse(asker, Refusal::NoRoutingStack, None);
        };
        let application = match state.as_ref().map(Sealed::read).transpose() {
            Ok(state) => state.unwrap_or_default(),
            Err(cause) => return self.refuse(asker, Refusal::StateNotSealed, Some(cause.to_string())),
        };
        let consent = match consent {
            Asks::Asked => Consent::Asked,
            Asks::Presumed => Consent::Presumed,
        };
        let ask = Ask { connection, target, job, consent, application };
        let terms = Terms { carry: unacknowledged == Unacknowledged::Carry, idle: false };
        let wait = match unacknowledged {
            Unacknowledged::Carry => None,
            Unacknowledged::Refuse => Some(now),
            Unacknowledged::Wait(Milliseconds(ms)) => Some(now + Duration::from_millis(ms.into())),
        };
        let mut leaving = Leaving::new(held.socket, asker, terms);
        leaving.given_back = given_back;
        if let Some(why) = leaving.gives_too_much_back() {
            return self.stays(asker, connection, &why);
        }
        self.wait(ask, Wish::Passed(Box::new(leaving)), wait, now);
    }

    fn wait(&mut self, ask: Ask, wish: Wish, acknowledged_by: Option<Instant>, now: Instant) {
        let settled_by = now + SETTLED_WITHIN;
        // Its client was prompted when it came, and answers that only so often.
        let came = self.made.get(&ask.connection).filter(|_| matches!(wish, Wish::Ordered(_)));
        let not_before = came.map_or(now, |came| *came + PROMPTED_AGAIN);
        self.waiting.push(Waiting { ask, wish, acknowledged_by, settled_by, not_before });
    }

    /// Follows the requests that can be followed now, and refuses those that have waited in vain.
    pub(super) fn look_again(&mut self, now: Instant) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            if waiting.not_before > now {
                self.waiting.push(waiting);
                continue;
            }
            if let Some(until) = waiting.acknowledged_by {
                match (waiting.wish.is_unacknowledged(), until <= now) {
                    (true, true) => {
                        self.stays(waiting.wish.asker(), waiting.ask.connection, &Reason::NotIdle.into());
                        continue;
                    }
                    (true, false) => {
                        self.waiting.push(waiting);
                        continue;
                    }
                    (false, _) => waiting.acknowledged_by = None,
                }
            }
            let connection = &waiting.ask.connection;
            if !self.target.unsettled(connection) && !self.giving.contains_key(connection) {
                self.begin(waiting.ask, waiting.wish, now);
            } else if waiting.settled_by <= now {
                self.stays(waiting.wish.asker(), waiting.ask.connection, &Reason::Busy.into());
            } else {
                self.waiting.push(waiting);
            }
        }
    }

    fn begin(&mut self, ask: Ask, wish: Wish, now: Instant) {
        let connection = ask.connection;
        tracing::debug!(%connection, target = %ask.target, "a transfer is asked for");
        match self.source.handle(source::Event::Asked(ask), now) {
            Ok(()) => {
                let is_first = match wish {
                    Wish::Passed(leaving) => self.leaving.insert(connection, *leaving).is_none(),
                    Wish::Ordered(ordered) => self.ordered.insert(connection, ordered).is_none(),
                };
                debug_assert!(is_first, "a connection leaves in one transfer at a time");
            }
            Err(reason) => self.stays(wish.asker(), connection, &reason.into()),
        }
    }

    /// An application asks what became of a transfer that a former run did not answer. As long as the machine is in doubt nobody
    /// is told that the connection goes on here: who asks is told the outcome, once it is known.
    fn resumed(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        held: Held,
        kernel: Kernel<'_>,
        now: Instant,
    ) {
        let (asker, connection) = (Asker::Application(application, request), held.connection);
        let Some(held) = self.ask_again(asker, held, now) else { return };
        if kernel.freezes.standing(&connection).is_ok_and(|s| s == Some(Standing::Departed)) {
            self.disconnect_orphan(&connection);
            disconnect(&connection, held.socket);
            self.tell(application, Command::Transferred(request));
        } else {
            // It is connected and nothing moves it.
            self.refuse(asker, Refusal::Aborted, Some(Reason::SourceLost.sentence().to_owned()));
        }
    }

    /// A connection that is moving and whose asker is gone, in whichever words it is asked about: whoever asks becomes its
    /// asker. Gives the socket back if no transfer of it is under way.
    fn ask_again(&mut self, asker: Asker, held: Held, now: Instant) -> Option<Held> {
        let connection = held.connection;
        match self.leaving.get_mut(&connection) {
            Some(leaving) if leaving.asker == Asker::Nobody => leaving.asker = asker,
            Some(_) => self.refuse(asker, Refusal::AlreadyMoving, None),
            None if self.ordered.contains_key(&connection) => {
                self.refuse(asker, Refusal::AlreadyMoving, None);
            }
            // A former run froze it, and this one did not find its socket.
            None if self.source.speaks_for(&connection) => {
                tracing::info!(%connection, "its application has its socket");
                self.keep_silent(connection, held.socket, asker);
                self.tell_source(source::Event::SocketFound(connection), now);
            }
            None => return Some(held),
        }
        None
    }

    fn answered(&mut self, offer: model::control_socket::OfferId, answer: Answer, now: Instant) {
        let Some(transfer) = self.offers.get(&offer).copied() else { return };
        let is_passing = self.coming.get(&transfer).is_some_and(|coming| coming.is_passing);
        let event = match (answer, is_passing) {
            (Answer::Accepted, _) => target::Event::Accepted(transfer),
            (Answer::Rejected { .. }, true) => target::Event::NotPassed(transfer),
            (Answer::Rejected { why, detail }, false) => {
                let said = detail.unwrap_or_else(|| why.sentence().to_owned());
                target::Event::Rejected { transfer, said }
            }
        };
        self.tell_target(event, now);
    }

    fn ended(&mut self, application: ApplicationId, now: Instant) {
        self.directory.ended(application);
        let is_its = |asker: Asker| matches!(asker, Asker::Application(who, _) if who == application);
        self.waiting.retain(|waiting| !is_its(waiting.wish.asker()));
        for leaving in self.leaving.values_mut().filter(|leaving| is_its(leaving.asker)) {
            leaving.asker = Asker::Nobody;
        }
        let of_it = self.coming.iter().filter(|(_, c)| c.to.is_some_and(|(who, _)| who == application));
        let of_it: Vec<_> = of_it.map(|(transfer, coming)| (*transfer, coming.is_passing)).collect();
        for (transfer, is_passing) in of_it {
            let event = if is_passing {
                target::Event::NotPassed(transfer)
            } else {
                target::Event::ApplicationGone(transfer)
            };
            self.tell_target(event, now);
        }
    }

    /// Tells whoever asked that the connection stays, and why.
    pub(super) fn stays(&mut self, asker: Asker, connection: Connection, why: &Why) {
        match asker {
            Asker::Application(..) => {
                let (refusal, detail) = refusal(why);
                self.refuse(asker, refusal, detail);
            }
            Asker::Operator(Order { id, .. }) => {
                tracing::debug!(%connection, %why, "a connection does not move");
                let owner = self.owners.get(&connection.service().dvipa).cloned();
                if let (Some(order), Some((to, epoch))) = (id, owner) {
                    let connection = WireConnection(connection);
                    let stays = Stays { connection, epoch, order, why: why.clone() };
                    self.outbox.push((to, Message::Stays(stays)));
                }
            }
            Asker::Nobody => {}
        }
    }

    /// Tells an application that the connection stays.
    fn refuse(&mut self, asker: Asker, why: Refusal, detail: Option<String>) {
        if let Asker::Application(application, request) = asker {
            self.tell(application, Command::Failed { request, why, detail });
        }
    }

    /// Tells the target's machine what came of its wish. It may have given the transfer up meanwhile.
    pub(super) fn tell_target(&mut self, event: target::Event, now: Instant) {
        if let Err(reason) = self.target.handle(event, now) {
            tracing::debug!(reason = reason.name(), "a transfer to this host is over already");
        }
    }

    /// Tells the source's machine what came of its wish.
    pub(super) fn tell_source(&mut self, event: source::Event, now: Instant) {
        if let Err(reason) = self.source.handle(event, now) {
            tracing::debug!(reason = reason.name(), "a transfer from this host is over already");
        }
    }
}
