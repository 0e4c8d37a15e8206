//! What operators and controllers have ordered at the owner of a DVIPA, for its next owner.

use std::time::{Duration, Instant};

use model::codec::Address;
use model::peer::{ControllerWeights, Drain, Orders, ToPeer, Weight};
use model::{Dvipa, Service, StackName};

use super::super::dirty::Mark;
use super::super::pace::Urgency;
use super::super::{MAX_DRAINS, MAX_WEIGHED_SERVICES, RoutingStack, Scope};

impl RoutingStack {
    /// Drains of this DVIPA are the next owner's from now on.
    pub(super) fn leave_orders(&mut self, dvipa: Dvipa) {
        let of_it = |scope: Scope| match scope {
            Scope::All => false,
            Scope::Dvipa(of) => of == dvipa,
            Scope::Service(service) => service.dvipa == dvipa,
        };
        let drains = self.drains.iter().filter(|(_, scope)| of_it(*scope));
        let drains: Vec<(StackName, Scope)> = drains.map(|(stack, scope)| (stack.clone(), scope)).collect();
        for (stack, scope) in drains {
            self.mark_stack(&stack, |index| Mark::scope(scope, index), Urgency::Now);
            let _ = self.drains.end(stack, scope);
        }
    }

    /// The drains and weights of the DVIPA's former owner hold on.
    pub(super) fn take_orders(&mut self, dvipa: Dvipa, now: Instant) {
        let former = self.peers.last_owners.get(&dvipa).and_then(|(_, former)| self.peers.known.get(former));
        if let Some(Orders { drains, weights }) = former.map(|peer| peer.orders.clone()) {
            for Drain { stack, dvipa: of, port, protocol } in drains.into_iter().take(MAX_DRAINS) {
                let scope = match (of.map(|of| Dvipa::new(of.0)), port.zip(protocol)) {
                    (Some(of), Some((port, protocol))) => {
                        Scope::Service(Service { dvipa: of, port, protocol })
                    }
                    (_, None) => Scope::Dvipa(dvipa),
                    (None, Some(_)) => continue,
                };
                if of.is_none_or(|of| Dvipa::new(of.0) == dvipa) {
                    // Where there is no room, the stack gets new connections.
                    let _ = self.begin_drain(stack, scope);
                }
            }
            for set in weights.into_iter().take(MAX_WEIGHED_SERVICES) {
                let service =
                    Service { dvipa: Dvipa::new(set.dvipa.0), port: set.port, protocol: set.protocol };
                let ttl = Duration::from_millis(set.expires_in_ms);
                let weight = |w: Weight| Some((StackName::new(w.candidate).ok()?, w.weight));
                let weights = set.weights.into_iter().filter_map(weight).collect();
                if service.dvipa == dvipa && self.controller.set(service, weights, ttl, now).is_ok() {
                    self.mark(Mark::Service(service), Urgency::Now);
                }
            }
        }
    }

    /// What peers are to know of what was ordered here.
    pub(super) fn orders_for_peers(&self, now: Instant) -> Orders {
        let drain = |(stack, scope): (&StackName, Scope)| {
            let (dvipa, port, protocol) = match scope {
                Scope::All => (None, None, None),
                Scope::Dvipa(dvipa) => (Some(dvipa), None, None),
                Scope::Service(s) => (Some(s.dvipa), Some(s.port), Some(s.protocol)),
            };
            Drain { stack: stack.clone(), dvipa: dvipa.map(|d| Address(d.address())), port, protocol }
        };
        let weights = self.controller.iter().map(|(service, weights, until)| ControllerWeights {
            dvipa: Address(service.dvipa.address()),
            port: service.port,
            protocol: service.protocol,
            expires_in_ms: u64::try_from(until.saturating_duration_since(now).as_millis()).unwrap_or(0),
            weights: weights
                .iter()
                .map(|(stack, weight)| Weight { candidate: stack.to_string(), weight: *weight })
                .collect(),
        });
        Orders { drains: self.drains.iter().map(drain).collect(), weights: weights.collect() }
    }

    /// An operator or a controller has ordered something.
    pub(in super::super) fn tell_orders(&mut self, now: Instant) {
        if !self.peers.known.is_empty() {
            let orders = self.orders_for_peers(now);
            self.tell_peers(&ToPeer::Orders(orders));
        }
    }
}
