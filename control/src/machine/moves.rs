//! Connections that operators want moved: single ones, and all of a stack that is drained.

use std::time::Instant;

use model::codec::WireConnection;
use model::control_socket::JobName;
use model::message::{Move, OrderId, Stays, ToStack};
use model::transfer::Reason;
use model::{Connection, Dvipa, StackName};
use transfer::routing::{Outcome, Targets};

use super::evacuation::{Evacuation, Phase, Terms};
use super::orders::Order;
use super::view::{EvacuationState, EvacuationView, ReasonCount};
use super::{Action, OrderRefusal, Refusal, RoutingStack, Scope};

impl RoutingStack {
    /// An operator's order, as long as it is kept.
    pub fn order(&self, id: OrderId) -> Option<&Order> {
        self.orders.get(id)
    }

    /// The order for a connection that is not over.
    pub fn open_order(&self, connection: &Connection) -> Option<&Order> {
        self.orders.open(connection)
    }

    /// The evacuations, by stack and scope.
    pub fn evacuation_views(&self, now: Instant) -> Vec<EvacuationView> {
        let view = |((stack, scope), evacuation): (&(StackName, Scope), &Evacuation)| {
            evacuation_view(stack, *scope, evacuation, now)
        };
        self.evacuations.iter().map(view).collect()
    }

    /// An operator wants a connection moved: its stack is asked to begin a transfer.
    pub(super) fn order_move(
        &mut self,
        connection: Connection,
        source: StackName,
        (target, job): (StackName, Option<JobName>),
        (quiet_ms, next): (Option<u32>, Option<u32>),
        now: Instant,
    ) -> Result<(), OrderRefusal> {
        let dvipa = connection.service().dvipa;
        let epoch = self.dvipas.owned(dvipa).ok_or(OrderRefusal::NotDistributed(connection.service()))?.epoch;
        self.known(&target, Scope::All)?;
        let reason = if source == target {
            Some(Reason::SameStack)
        } else if self.under_way(&connection).is_some() || self.orders.open(&connection).is_some() {
            Some(Reason::Busy)
        } else if self.stacks.get(&source).and_then(|stack| stack.said).is_none() {
            Some(Reason::SourceLost)
        } else {
            Targets::reach(&self.picture(), &connection, &target, job.as_ref().map(JobName::as_str)).err()
        };
        if let Some(reason) = reason {
            return Err(OrderRefusal::NotMoved { connection, target, reason });
        }
        let order = self.orders.begin(connection, source.clone(), target.clone(), job.clone(), now);
        let connection = WireConnection(connection);
        let order = Move { connection, epoch, target, job, order: Some(order), quiet_ms, next };
        self.actions.push_back(Action::Send { to: source, message: ToStack::Move(order) });
        Ok(())
    }

    /// A stack does not follow an order.
    pub(super) fn stays(&mut self, from: &StackName, stays: Stays, now: Instant) -> Result<(), Refusal> {
        let Stays { connection, epoch, order, why } = stays;
        self.present(from, model::codec::Address(connection.0.dvipa.ip()), epoch)?;
        let over = self.orders.answered(from, order, &connection.0, why, now);
        self.orders_over(over, now);
        Ok(())
    }

    /// Takes note of orders that are over.
    pub(super) fn orders_over(&mut self, over: impl IntoIterator<Item = Order>, now: Instant) {
        for order in over {
            if let Some(outcome) = order.outcome() {
                self.evacuated(&order.connection, outcome, now);
                self.reselected(&order, outcome, now);
            }
        }
    }

    /// What became of a connection, for the evacuation that it belongs to.
    fn evacuated(&mut self, connection: &Connection, outcome: &Outcome, now: Instant) {
        self.evacuations.values_mut().for_each(|evacuation| evacuation.over(connection, outcome, now));
    }

    /// The stack drains, and its connections are moved. One that is under way goes on with these terms.
    pub(super) fn begin_evacuation(
        &mut self,
        stack: StackName,
        scope: Scope,
        terms: Terms,
        now: Instant,
    ) -> Result<(), OrderRefusal> {
        self.known(&stack, scope)?;
        self.begin_drain(stack.clone(), scope)?;
        self.evacuations.insert((stack, scope), Evacuation::new(terms, now));
        Ok(())
    }

    /// No connection of it begins to move any more; the drain goes on.
    pub(super) fn stop_evacuation(
        &mut self,
        stack: StackName,
        scope: Scope,
        now: Instant,
    ) -> Result<(), OrderRefusal> {
        match self.evacuations.get_mut(&(stack.clone(), scope)) {
            Some(evacuation) => {
                evacuation.end(Phase::Stopped, now);
                Ok(())
            }
            None => Err(OrderRefusal::NotEvacuated(stack)),
        }
    }

    /// Drains of this scope have ended, and with them their evacuations.
    pub(super) fn forget_evacuations(&mut self, stack: &StackName, scope: Scope) {
        self.evacuations.retain(|(s, at), _| s != stack || (scope != Scope::All && *at != scope));
    }

    /// What the CRT has of a stack that is evacuated.
    pub(super) fn listed(
        &mut self,
        stack: StackName,
        scope: Scope,
        (connections, more): (Vec<Connection>, u64),
        now: Instant,
    ) {
        if let Some(evacuation) = self.evacuations.get_mut(&(stack, scope)) {
            evacuation.list(connections, more, now);
        }
    }

    /// Does what the evacuations want done now.
    pub(super) fn evacuate(&mut self, now: Instant) {
        let mut evacuations = std::mem::take(&mut self.evacuations);
        for ((stack, scope), evacuation) in &mut evacuations {
            if evacuation.time_passed(now) {
                let (stack, limit) = (stack.clone(), evacuation.wanted());
                self.actions.push_back(Action::List { stack, scope: *scope, limit });
            }
            let quiet_ms = evacuation.terms.quiet_ms;
            while let Some((connection, target)) =
                evacuation.next(now, |connection| self.picture().destinations(connection, stack))
            {
                let reason =
                    match self.order_move(connection, stack.clone(), (target, None), (quiet_ms, None), now) {
                        Ok(()) => continue,
                        Err(OrderRefusal::NotMoved { reason, .. }) => reason,
                        Err(_) => Reason::NotATarget,
                    };
                evacuation.over(&connection, &Outcome::Stayed(reason.into()), now);
            }
        }
        self.evacuations = evacuations;
    }

    /// This stack does not own the DVIPA any more: nobody can say what becomes of its orders.
    pub(super) fn orders_void(&mut self, dvipa: Dvipa, now: Instant) {
        let void = self.orders.yields(dvipa, now);
        self.orders_over(void, now);
    }
}

fn evacuation_view(stack: &StackName, scope: Scope, of: &Evacuation, now: Instant) -> EvacuationView {
    let (dvipa, port, protocol) = match scope {
        Scope::All => (None, None, None),
        Scope::Dvipa(dvipa) => (Some(dvipa), None, None),
        Scope::Service(service) => (Some(service.dvipa), Some(service.port), Some(service.protocol)),
    };
    let count = |(reason, connections): (Option<Reason>, u64)| ReasonCount {
        reason: reason.map(|reason| reason.name().to_owned()),
        sentence: reason.map(|reason| reason.sentence().to_owned()),
        connections,
    };
    let took = of.ended.unwrap_or(now).saturating_duration_since(of.began);
    EvacuationView {
        stack: stack.clone(),
        dvipa,
        port,
        protocol,
        state: match of.phase {
            _ if of.is_empty() => EvacuationState::Empty,
            Phase::Moving => EvacuationState::Moving,
            Phase::Stopped => EvacuationState::Stopped,
            Phase::TimeOver => EvacuationState::TimeOver,
        },
        connections: of.listed,
        moved: of.moved,
        lost: of.lost,
        under_way: u64::try_from(of.under_way()).unwrap_or(u64::MAX),
        waiting: of.waiting().into_iter().map(count).collect(),
        refused: of.refused().into_iter().map(|(reason, n)| count((Some(reason), n))).collect(),
        elapsed_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}
