//! What applications and operators ask: a transfer begins when the former one of its connection is over for everybody.

use std::time::{Duration, Instant};

use model::Connection;
use model::control_socket::RequestId;
use model::transfer::{Reason, Why};

use super::Host;
use super::kernel::{ApplicationId, Asker, Away, Handle, Kernel, Order};
use super::leaving::{Leaving, Phase, Terms};
use super::settling::{Activity, Stand, flows};
use crate::giving::{Ask, Event};

/// A connection that has just come can move on once everybody knows that it is here: a matter of a round trip.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// Linux answers a packet without new bytes twice a second (`tcp_invalid_ratelimit`).
pub(super) const PROMPTED_AGAIN: Duration = Duration::from_millis(600);
/// The kernel is asked again what the client has acknowledged after the first of these, then after twice as long, up to the second.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

/// A request that waits: its connection, and which of the connection's.
pub(super) type WaitingId = (Connection, u32);

/// A request for a transfer that waits until the connection can move.
#[derive(Clone, Debug, Hash)]
pub(super) struct Waiting {
    ask: Ask,
    asker: Asker,
    terms: Terms,
    /// Until everything sent is acknowledged, at most so long.
    acknowledged_by: Option<Instant>,
    settled_by: Instant,
    not_before: Instant,
    pause: Duration,
}

/// What becomes of one that waits.
enum Turn {
    /// Until then at most.
    Waits(Instant),
    Begins,
    Stays(Reason),
}

impl Host {
    /// An application wants a connection moved, whose descriptor comes with this request. `acknowledged_by`: until when to wait
    /// that the client acknowledges all.
    pub fn asked(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        ask: Ask,
        terms: Terms,
        acknowledged_by: Option<Instant>,
        now: Instant,
    ) {
        let (asker, settled_by) = (Asker::Application(application, request), now + SETTLED_WITHIN);
        let pause = LOOK_AGAIN.0;
        self.waits(Waiting { ask, asker, terms, acknowledged_by, settled_by, not_before: now, pause });
    }

    fn waits(&mut self, waiting: Waiting) {
        let connection = waiting.ask.connection;
        let of_it = self.waiting.range((connection, 0)..=(connection, u32::MAX));
        let id = (connection, of_it.last().map_or(0, |((_, last), _)| last + 1));
        self.turns.set(id, waiting.not_before);
        self.waiting.insert(id, waiting);
    }

    /// What stood in the way of a connection's next transfer may be gone.
    pub(super) fn may_begin(&mut self, connection: &Connection, now: Instant) {
        for (id, waiting) in self.waiting.range((*connection, 0)..=(*connection, u32::MAX)) {
            self.turns.set(*id, waiting.not_before.max(now));
        }
    }

    /// An operator wants a connection moved, whose socket was found and looked at.
    pub fn ordered(
        &mut self,
        order: Order,
        ask: Ask,
        seen: Result<(Activity, Stand), Why>,
        kernel: &mut impl Kernel,
        now: Instant,
    ) {
        let asker = Asker::Operator(order);
        if let Some(why) = flows(seen, order.silence()) {
            return kernel.stays(asker, &ask.connection, &why);
        }
        // Its client was prompted when it came, and answers that only so often; one that has sent its next request is not prompted.
        let prompted = self.made.of(&ask.connection).filter(|_| order.next.is_none());
        let not_before = prompted.unwrap_or(now);
        let (terms, settled_by) = (Terms::Idle, now + SETTLED_WITHIN);
        let pause = LOOK_AGAIN.0;
        self.waits(Waiting { ask, asker, terms, acknowledged_by: None, settled_by, not_before, pause });
    }

    /// A connection that is moving and whose asker is gone, in whichever words it is asked about: the next asker becomes its
    /// asker. `false`: no transfer of it is under way, and the descriptor is still the request's.
    pub fn is_asked_again(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        connection: Connection,
        kernel: &mut impl Kernel,
        now: Instant,
    ) -> bool {
        let asker = Asker::Application(application, request);
        match self.leaving.get_mut(&connection) {
            Some(leaving) if leaving.asker == Asker::Nobody => {
                leaving.asker = asker;
                kernel.release(Handle::Passed(application, request));
            }
            Some(_) => kernel.stays(asker, &connection, &Reason::Busy.into()),
            // A former run froze it, and this one did not find its socket.
            None if self.source.speaks_for(&connection) => {
                kernel.hold(application, request, &connection);
                self.keep_silent(connection, asker, kernel);
                self.tell_source(Event::SocketFound(connection), now);
            }
            None => return false,
        }
        true
    }

    /// An application asks what became of a transfer that a former run did not answer. As long as the machine is in doubt nobody
    /// is told that the connection goes on here: who asks is told the outcome, once it is known.
    pub fn resumed(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        connection: Connection,
        kernel: &mut impl Kernel,
        now: Instant,
    ) {
        let asker = Asker::Application(application, request);
        if self.is_asked_again(application, request, connection, kernel, now) {
            return;
        }
        if kernel.away(&connection).is_ok_and(|away| away == Some(Away::Departed)) {
            self.disconnect_orphan(&connection, kernel);
            kernel.disconnect(Handle::Passed(application, request));
            kernel.moved(asker, &connection);
        } else {
            // It is connected and nothing moves it.
            kernel.stays(asker, &connection, &Reason::SourceLost.into());
        }
    }

    /// An application is gone, or takes back what it has asked. What it has asked goes on, if it has begun.
    pub fn application_ended(&mut self, application: ApplicationId) {
        let is_its = |asker: Asker| matches!(asker, Asker::Application(who, _) if who == application);
        self.waiting.retain(|id, waiting| {
            let goes = is_its(waiting.asker);
            if goes {
                self.turns.stop(*id);
            }
            !goes
        });
        for leaving in self.leaving.values_mut().filter(|leaving| is_its(leaving.asker)) {
            leaving.asker = Asker::Nobody;
        }
    }

    /// Looks at a request whose turn it is; whether there is one.
    pub(super) fn follow(&mut self, kernel: &mut impl Kernel, now: Instant) -> bool {
        let Some(id) = self.turns.pop(now) else { return false };
        let turn = self.turn_of(&id, kernel, now);
        if let Turn::Waits(until) = turn {
            self.turns.set(id, until);
            return true;
        }
        let Some(Waiting { ask, asker, terms, .. }) = self.waiting.remove(&id) else { return true };
        match turn {
            Turn::Begins => self.begin(ask, asker, terms, kernel, now),
            Turn::Stays(reason) => kernel.stays(asker, &ask.connection, &reason.into()),
            Turn::Waits(_) => {}
        }
        true
    }

    fn turn_of(&mut self, id: &WaitingId, kernel: &mut impl Kernel, now: Instant) -> Turn {
        let Some(waiting) = self.waiting.get_mut(id) else { return Turn::Waits(now) };
        if let (Some(until), Asker::Application(who, request)) = (waiting.acknowledged_by, waiting.asker) {
            match (kernel.unacknowledged(Handle::Passed(who, request)) > 0, until <= now) {
                (true, true) => return Turn::Stays(Reason::NotIdle),
                (true, false) => {
                    let pause = waiting.pause;
                    waiting.pause = (pause * 2).min(LOOK_AGAIN.1);
                    return Turn::Waits(until.min(now + pause));
                }
                (false, _) => waiting.acknowledged_by = None,
            }
        }
        let settled_by = waiting.settled_by;
        match (self.is_unsettled(&id.0), settled_by <= now) {
            (false, _) => Turn::Begins,
            (true, true) => Turn::Stays(Reason::Busy),
            (true, false) => Turn::Waits(settled_by),
        }
    }

    /// It has come here, and can't move on before that is over for everybody.
    fn is_unsettled(&self, connection: &Connection) -> bool {
        self.target.unsettled(connection) || self.giving.contains_key(connection)
    }

    fn begin(&mut self, ask: Ask, asker: Asker, terms: Terms, kernel: &mut impl Kernel, now: Instant) {
        let connection = ask.connection;
        if let Err(reason) = self.source.handle(Event::Asked(ask), now) {
            return kernel.stays(asker, &connection, &reason.into());
        }
        let phase = match asker {
            Asker::Application(application, request) => {
                kernel.hold(application, request, &connection);
                Phase::Held
            }
            Asker::Operator(_) | Asker::Nobody => Phase::Ordered,
        };
        self.leaving.insert(connection, Leaving { asker, terms, phase });
    }
}
