//! Operators' orders to move a connection: from when one is given until its outcome could be asked for long enough.
//!
//! | event | none | told | moving | over |
//! | --- | --- | --- | --- | --- |
//! | an order | Move; *told* | refused: busy | refused: busy | Move; *told* |
//! | its target is asked, or its connection frozen for it | – | *moving* | – | – |
//! | its connection is frozen | – | – | the pause begins | – |
//! | its connection is thawed or handed over | – | – | the pause ends | – |
//! | Stays, or its PREPARE is refused | – | *over* | – | – |
//! | its transfer ends | – | – | *over* | – |
//! | session with its stack down | – | *over* | – | – |
//! | time | – | *over*: unanswered | – | forgotten |

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use model::control_socket::JobName;
use model::message::OrderId;
use model::transfer::{Reason, Way, Why};
use model::{Connection, Dvipa, StackName, patience};
use transfer::routing::Outcome;

/// An outcome can be asked for so long.
const KEPT: Duration = Duration::from_secs(60);
/// The most outcomes that are kept.
const MAX_OVER: usize = 16_384;

/// An order to move a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its number.
    pub id: OrderId,
    /// Which connection.
    pub connection: Connection,
    /// The stack that had it when the order was given.
    pub source: StackName,
    /// The stack that it shall move to.
    pub target: StackName,
    /// The application there; `None`: any.
    pub job: Option<JobName>,
    /// How far it is.
    pub progress: Progress,
    begun: Instant,
}

/// How far an order is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The stack that has the connection was told.
    Told,
    /// A transfer is under way.
    Moving {
        /// Which way in.
        way: Way,
        /// When its client's packets were first held, if they were.
        since: Option<Instant>,
        /// For how long they were.
        pause: Option<Duration>,
    },
    /// It has ended.
    Over {
        /// How.
        outcome: Outcome,
        /// Which way in; none if it did not begin.
        way: Option<Way>,
        /// For how long the client's packets were held.
        pause: Option<Duration>,
        /// From the order to its end.
        took: Duration,
    },
}

impl Order {
    /// How it ended, if it is over.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.progress {
            Progress::Over { outcome, .. } => Some(outcome),
            Progress::Told | Progress::Moving { .. } => None,
        }
    }
}

/// All orders.
#[derive(Debug, Default)]
pub(super) struct Orders {
    last: u64,
    all: BTreeMap<OrderId, Order>,
    /// Those that are not over.
    open: BTreeMap<Connection, OrderId>,
    /// The others, oldest first, with the time until which they are kept.
    over: VecDeque<(Instant, OrderId)>,
}

impl Orders {
    /// An order is given; the stack that has the connection is about to be told.
    pub(super) fn begin(
        &mut self,
        connection: Connection,
        source: StackName,
        target: StackName,
        job: Option<JobName>,
        now: Instant,
    ) -> OrderId {
        self.last += 1;
        let id = OrderId(self.last);
        let order = Order { id, connection, source, target, job, progress: Progress::Told, begun: now };
        self.all.insert(id, order);
        self.open.insert(connection, id);
        id
    }

    /// An order with this number.
    pub(super) fn get(&self, id: OrderId) -> Option<&Order> {
        self.all.get(&id)
    }

    /// The order for a connection that is not over.
    pub(super) fn open(&self, connection: &Connection) -> Option<&Order> {
        self.all.get(self.open.get(connection)?)
    }

    /// A transfer of the connection to this stack begins.
    pub(super) fn begins(&mut self, connection: &Connection, target: &StackName, way: Way) {
        if let Some(order) = self.of(connection)
            && order.progress == Progress::Told
            && order.target == *target
        {
            order.progress = Progress::Moving { way, since: None, pause: None };
        }
    }

    /// The client's packets are held.
    pub(super) fn holds(&mut self, connection: &Connection, now: Instant) {
        if let Some(Order { progress: Progress::Moving { since, .. }, .. }) = self.of(connection) {
            since.get_or_insert(now);
        }
    }

    /// The client's packets flow again, if only to the target that may take the connection with them.
    pub(super) fn flows(&mut self, connection: &Connection, now: Instant) {
        if let Some(Order { progress: Progress::Moving { since: Some(since), pause, .. }, .. }) =
            self.of(connection)
        {
            pause.get_or_insert(now.saturating_duration_since(*since));
        }
    }

    /// Its stack does not begin a transfer, or must not.
    pub(super) fn stays(&mut self, connection: &Connection, why: Why, now: Instant) -> Option<Order> {
        let told = self.of(connection).is_some_and(|order| order.progress == Progress::Told);
        told.then(|| self.end(connection, Outcome::Stayed(why), now))?
    }

    /// As [`Self::stays`], if the stack's answer names the order.
    pub(super) fn answered(
        &mut self,
        from: &StackName,
        id: OrderId,
        connection: &Connection,
        why: Why,
        now: Instant,
    ) -> Option<Order> {
        let order = self.of(connection).filter(|order| order.id == id && order.source == *from);
        order.is_some().then(|| self.stays(connection, why, now))?
    }

    /// A transfer of the connection has ended.
    pub(super) fn ended(
        &mut self,
        connection: &Connection,
        outcome: &Outcome,
        now: Instant,
    ) -> Option<Order> {
        let moves = |order: &mut Order| matches!(order.progress, Progress::Moving { .. });
        self.of(connection).is_some_and(moves).then(|| self.end(connection, outcome.clone(), now))?
    }

    /// The session with a stack is over: those that it has not answered end.
    pub(super) fn session_down(&mut self, stack: &StackName, now: Instant) -> Vec<Order> {
        self.end_told(|order| order.source == *stack, Reason::SourceLost, now)
    }

    /// The DVIPA is not this stack's any more.
    pub(super) fn yields(&mut self, dvipa: Dvipa, now: Instant) -> Vec<Order> {
        let of_it = self.open.keys().filter(|connection| connection.service().dvipa == dvipa);
        let stayed = || Outcome::Stayed(Reason::NotOurs.into());
        of_it.copied().collect::<Vec<_>>().iter().filter_map(|c| self.end(c, stayed(), now)).collect()
    }

    /// Ends what was not answered in time, and forgets what was over for long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Order> {
        while self.over.front().is_some_and(|(until, _)| *until <= now || self.over.len() > MAX_OVER) {
            if let Some((_, id)) = self.over.pop_front() {
                self.all.remove(&id);
            }
        }
        self.end_told(|order| order.begun + patience::ORDER <= now, Reason::Unanswered, now)
    }

    /// When [`Self::expire`] has something to end.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let open = self.open.values().filter_map(|id| self.all.get(id));
        let told = open.filter(|order| order.progress == Progress::Told);
        told.map(|order| order.begun + patience::ORDER).min()
    }

    fn of(&mut self, connection: &Connection) -> Option<&mut Order> {
        self.all.get_mut(self.open.get(connection)?)
    }

    fn end_told(&mut self, which: impl Fn(&Order) -> bool, why: Reason, now: Instant) -> Vec<Order> {
        let open = self.open.values().filter_map(|id| self.all.get(id));
        let told = open.filter(|order| order.progress == Progress::Told && which(order));
        let told: Vec<Connection> = told.map(|order| order.connection).collect();
        told.iter().filter_map(|connection| self.stays(connection, why.into(), now)).collect()
    }

    fn end(&mut self, connection: &Connection, outcome: Outcome, now: Instant) -> Option<Order> {
        let order = self.all.get_mut(&self.open.remove(connection)?)?;
        let (way, pause) = match order.progress {
            Progress::Moving { way, pause, .. } => (Some(way), pause),
            Progress::Told | Progress::Over { .. } => (None, None),
        };
        let took = now.saturating_duration_since(order.begun);
        order.progress = Progress::Over { outcome, way, pause, took };
        self.over.push_back((now + KEPT, order.id));
        Some(order.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{connection, name};
    use super::*;

    fn told() -> (Orders, Connection, OrderId, Instant) {
        let (mut orders, one, now) = (Orders::default(), connection(1, "198.18.9.1:80"), Instant::now());
        let id = orders.begin(one, name("t1"), name("t2"), None, now);
        (orders, one, id, now)
    }

    fn outcome(orders: &Orders, id: OrderId) -> &Outcome {
        match &orders.get(id).expect("it is kept").progress {
            Progress::Over { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_order_that_is_followed_knows_the_way_and_the_pause() {
        let (mut orders, one, id, now) = told();
        let ms = |ms| now + Duration::from_millis(ms);
        orders.begins(&one, &name("t3"), Way::Inject);
        orders.holds(&one, ms(1));
        assert_eq!(orders.get(id).map(|o| &o.progress), Some(&Progress::Told), "that is another's transfer");
        orders.begins(&one, &name("t2"), Way::Inject);
        orders.flows(&one, ms(3));
        orders.holds(&one, ms(5));
        orders.flows(&one, ms(7));
        orders.flows(&one, ms(9));
        assert!(orders.stays(&one, Reason::NotIdle.into(), ms(9)).is_none(), "its transfer decides");
        assert!(orders.open(&one).is_some());
        orders.ended(&one, &Outcome::Moved, ms(10)).expect("it is over");
        let (pause, took) = (Some(Duration::from_millis(2)), Duration::from_millis(10));
        let over = Progress::Over { outcome: Outcome::Moved, way: Some(Way::Inject), pause, took };
        assert_eq!(orders.get(id).map(|o| &o.progress), Some(&over));
        assert!(orders.open(&one).is_none());
    }

    #[test]
    fn only_the_answer_to_this_order_ends_it() {
        let (mut orders, one, id, now) = told();
        let why = || Why::from(Reason::NoSocket);
        assert!(orders.answered(&name("t3"), id, &one, why(), now).is_none());
        assert!(orders.answered(&name("t1"), OrderId(9), &one, why(), now).is_none());
        assert!(orders.answered(&name("t1"), id, &one, why(), now).is_some());
        assert_eq!(*outcome(&orders, id), Outcome::Stayed(why()));
    }

    #[test]
    fn an_agent_that_does_not_answer_or_is_gone_ends_the_order() {
        let (mut orders, _, id, now) = told();
        assert_eq!(orders.next_deadline(), Some(now + patience::ORDER));
        assert_eq!(orders.expire(now + patience::ORDER).len(), 1);
        assert_eq!(*outcome(&orders, id), Outcome::Stayed(Reason::Unanswered.into()));
        let (mut orders, _, id, now) = told();
        assert_eq!(orders.session_down(&name("t2"), now).len(), 0);
        assert_eq!(orders.session_down(&name("t1"), now).len(), 1);
        assert_eq!(*outcome(&orders, id), Outcome::Stayed(Reason::SourceLost.into()));
        orders.expire(now + KEPT);
        assert!(orders.get(id).is_none() && orders.over.is_empty());
    }
}
