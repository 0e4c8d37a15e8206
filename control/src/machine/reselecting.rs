//! Connections that workers want moved, because their next request is for another target than the one that has them.
//!
//! | event | none | under way | waiting |
//! | --- | --- | --- | --- |
//! | a worker asks | an order ([`super::orders`]); *under way* | – | – |
//! | the order ends: moved | – | gone | – |
//! | it ends: the target owes an answer yet | – | *waiting*, each time for longer | – |
//! | it ends otherwise, or [`patience::MOVE`] is over | – | the worker is told; gone | – |
//! | its time has come | – | – | an order; *under way* |
//!
//! Why a connection may be left only when its target owes nothing: it is the target's agent that sees that, so it decides.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::message::OrderId;
use model::transfer::Reason;
use model::{Connection, StackIndex, StackName, patience};
use transfer::routing::Outcome;

use super::{Action, Order, OrderRefusal, RoutingStack};

/// The most that are known at once.
const MAX: usize = 4_096;
/// When it is tried again for the first time; each later time after twice as long, up to the second number.
const AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(160));

/// A connection that is to move, because of its next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub connection: Connection,
    /// Who has it.
    pub from: StackIndex,
    /// Whom the request is for.
    pub to: StackIndex,
    /// The sequence number of its first byte.
    pub start: u32,
    /// What its first packet acknowledges.
    pub acknowledged: u32,
}

/// What is known of one.
#[derive(Clone, Debug)]
struct Reselected {
    source: StackName,
    target: StackName,
    start: u32,
    acknowledged: u32,
    since: Instant,
    pause: Duration,
    now: Now,
    /// Its request was sent to the target with the handoff option.
    is_sent: bool,
}

/// What is done about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    /// This order is under way.
    Ordered(OrderId),
    /// It is tried again.
    Waits(Instant),
}

impl Reselected {
    fn due(&self) -> Option<Instant> {
        match self.now {
            Now::Ordered(_) => None,
            Now::Waits(at) => Some(at),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Reselections(BTreeMap<Connection, Reselected>);

impl Reselections {
    fn due(&self, now: Instant) -> Vec<Connection> {
        let is_due = |reselected: &Reselected| reselected.due().is_some_and(|at| at <= now);
        self.0.iter().filter(|(_, reselected)| is_due(reselected)).map(|(c, _)| *c).collect()
    }

    /// When there is something to do, if ever.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.values().filter_map(Reselected::due).min()
    }
}

impl RoutingStack {
    /// Workers want these connections moved.
    pub(super) fn reselect(&mut self, all: Vec<Wanted>, now: Instant) {
        for Wanted { connection, from, to, start, acknowledged } in all {
            let names = self.stacks.name(from).cloned().zip(self.stacks.name(to).cloned());
            match names {
                Some((source, target)) if self.reselections.0.len() < MAX => {
                    let new = Reselected {
                        source,
                        target,
                        start,
                        acknowledged,
                        since: now,
                        pause: AGAIN.0,
                        now: Now::Waits(now),
                        is_sent: false,
                    };
                    self.reselections.0.insert(connection, new);
                }
                Some(_) => self.actions.push_back(Action::Stay { connection, why: Reason::TooMany }),
                None => self.actions.push_back(Action::Stay { connection, why: Reason::NotATarget }),
            }
        }
        self.reselect_due(now);
    }

    /// Whether a connection that is handed over, of which the client has everything below `sent`, is made by its client's next request,
    /// which waits at a worker: that has to acknowledge all. The second time nobody knows what has become of it.
    pub(super) fn request_waits(&mut self, connection: &Connection, sent: u32) -> bool {
        let reselected = self.reselections.0.get_mut(connection);
        reselected.is_some_and(|reselected| {
            !std::mem::replace(&mut reselected.is_sent, true) && reselected.acknowledged == sent
        })
    }

    /// Orders what is due.
    pub(super) fn reselect_due(&mut self, now: Instant) {
        for connection in self.reselections.due(now) {
            let Some(reselected) = self.reselections.0.get_mut(&connection) else { continue };
            let (source, target) = (reselected.source.clone(), reselected.target.clone());
            let terms = (None, Some(reselected.start));
            match self.order_move(connection, source, (target, None), terms, now) {
                Ok(()) => {
                    let order = self.orders.open(&connection).map(|order| order.id);
                    let reselected = self.reselections.0.get_mut(&connection);
                    if let (Some(order), Some(reselected)) = (order, reselected) {
                        reselected.now = Now::Ordered(order);
                    }
                }
                Err(OrderRefusal::NotMoved { reason, .. }) => self.reselected_again(&connection, reason, now),
                Err(_) => self.reselected_again(&connection, Reason::NotATarget, now),
            }
        }
    }

    /// An order is over. One of a request before may be so after the next one was asked for: a client is answered before its source has
    /// said that it has given the connection away.
    pub(super) fn reselected(&mut self, order: &Order, outcome: &Outcome, now: Instant) {
        let reselected = self.reselections.0.get(&order.connection);
        if !reselected.is_some_and(|reselected| reselected.now == Now::Ordered(order.id)) {
            return;
        }
        match outcome {
            Outcome::Moved | Outcome::Lost => drop(self.reselections.0.remove(&order.connection)),
            Outcome::Stayed(why) => self.reselected_again(&order.connection, why.reason, now),
        }
    }

    fn reselected_again(&mut self, connection: &Connection, why: Reason, now: Instant) {
        let Some(reselected) = self.reselections.0.get_mut(connection) else { return };
        // Unseen: the agent may not have looked yet.
        let may_pass = matches!(why, Reason::NotIdle | Reason::Unseen | Reason::Busy | Reason::TooMany);
        if may_pass && reselected.since + patience::MOVE > now {
            reselected.now = Now::Waits(now + reselected.pause);
            reselected.pause = reselected.pause.saturating_mul(2).min(AGAIN.1);
        } else {
            self.reselections.0.remove(connection);
            self.actions.push_back(Action::Stay { connection: *connection, why });
        }
    }
}
