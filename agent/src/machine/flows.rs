//! UDP flows that are here, told to the routing stacks that would take their DVIPA over.
//!
//! The owner has its entries from the packets. A backup forwards none, and would select anew for each flow what the owner selected long ago.
//! So it is told of each flow once, and of those that go on again before its entry grows old; for a while also when it has taken the DVIPA
//! over, because flows that began just before that were told to nobody. Some at a time: a flood of datagrams costs a
//! backup no more than that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use model::codec::WireConnection;
use model::message::{FromStack, Newconn};
use model::{Connection, Dvipa};

use super::event::Action;
use super::routing_stack::{RoutingStack, Standing};
use super::{CONNECTIONS_A_MESSAGE, LOAD_INTERVAL, Machine};

/// A flow is told of that had a datagram within this time: more than lies between two looks, and than a takeover takes.
pub const FLOW_RECENT: Duration = Duration::from_secs(5);
/// One that goes on is told of again after this long.
const FLOW_AGAIN: Duration = Duration::from_secs(30);

/// The flows that were told of, and when.
#[derive(Debug, Default)]
pub(super) struct Flows(HashMap<Connection, Instant>);

impl Flows {
    /// Those of these that are to be told now.
    fn take(&mut self, flows: Vec<Connection>, now: Instant) -> Vec<Connection> {
        self.0.retain(|_, told| now.saturating_duration_since(*told) < FLOW_AGAIN);
        let news = flows.into_iter().filter(|flow| !self.0.contains_key(flow)).take(CONNECTIONS_A_MESSAGE);
        let news: Vec<_> = news.collect();
        self.0.extend(news.iter().map(|flow| (*flow, now)));
        news
    }
}

impl Machine {
    /// Whether some routing stack is to be told of flows, every [`LOAD_INTERVAL`].
    pub fn tells_flows(&self, now: Instant) -> bool {
        !self.served.is_empty() && self.stacks.values().any(|stack| is_told(stack, now))
    }

    /// These flows had a datagram within [`FLOW_RECENT`].
    pub(super) fn flows_seen(&mut self, flows: Vec<Connection>, now: Instant) {
        const { assert!(FLOW_RECENT.as_millis() > LOAD_INTERVAL.as_millis()) };
        let served = flows.into_iter().filter(|flow| self.served.contains(&flow.dvipa)).collect();
        let news = self.flows.take(served, now);
        for (name, stack) in self.stacks.iter().filter(|(_, stack)| is_told(stack, now)) {
            let is_of_it = |flow: &&Connection| {
                let entry = stack.entry(Dvipa::new(flow.dvipa.ip()));
                entry.is_some_and(|entry| !entry.owner || has_taken_over(stack, now))
            };
            let connections: Vec<_> = news.iter().filter(is_of_it).map(|c| WireConnection(*c)).collect();
            if !connections.is_empty() {
                let message = FromStack::Newconn(Newconn { first: false, last: false, connections });
                self.actions.push_back(Action::Send(name.clone(), message));
            }
        }
    }
}

/// Whether it would take a DVIPA over, or has done so a moment ago.
fn is_told(stack: &RoutingStack, now: Instant) -> bool {
    let backs_up = || stack.entries().any(|entry| !entry.owner);
    stack.standing == Standing::Reporting && (has_taken_over(stack, now) || backs_up())
}

fn has_taken_over(stack: &RoutingStack, now: Instant) -> bool {
    stack.took_over.is_some_and(|at| now.saturating_duration_since(at) < FLOW_RECENT)
}
