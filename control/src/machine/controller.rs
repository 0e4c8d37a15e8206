//! Weights that an outside controller sets, and that expire.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::{Service, StackName};

use super::dirty::Mark;
use super::pace::Urgency;
use super::{MAX_WEIGHED_SERVICES, MAX_WEIGHT_LIFE, OrderRefusal, RoutingStack, Scope};

/// The weights in force, by service.
#[derive(Debug, Default)]
pub(super) struct ControllerWeights {
    sets: BTreeMap<Service, Set>,
    /// When the next one expires; asked with each event.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Set {
    weights: BTreeMap<StackName, u16>,
    until: Instant,
}

impl ControllerWeights {
    /// Replaces the weights of a service; with none, takes them back.
    pub(super) fn set(
        &mut self,
        service: Service,
        weights: Vec<(StackName, u16)>,
        ttl: Duration,
        now: Instant,
    ) -> Result<(), OrderRefusal> {
        if weights.is_empty() {
            self.sets.remove(&service);
            self.look_ahead();
            return Ok(());
        }
        if !(Duration::from_secs(1)..=MAX_WEIGHT_LIFE).contains(&ttl) {
            return Err(OrderRefusal::BadWeightLife(ttl.as_secs()));
        }
        if self.sets.len() >= MAX_WEIGHED_SERVICES && !self.sets.contains_key(&service) {
            return Err(OrderRefusal::TooManyWeights);
        }
        self.sets.insert(service, Set { weights: weights.into_iter().collect(), until: now + ttl });
        self.look_ahead();
        Ok(())
    }

    /// The weight of a stack, and until when.
    pub(super) fn weight(&self, service: Service, stack: &StackName) -> Option<(u16, Instant)> {
        let set = self.sets.get(&service)?;
        set.weights.get(stack).map(|weight| (*weight, set.until))
    }

    /// All of them, and until when they hold.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Service, &BTreeMap<StackName, u16>, Instant)> {
        self.sets.iter().map(|(service, set)| (*service, &set.weights, set.until))
    }

    /// Forgets the other services.
    pub(super) fn retain(&mut self, keep: impl Fn(&Service) -> bool) {
        self.sets.retain(|service, _| keep(service));
        self.look_ahead();
    }

    /// Forgets what does not hold any more; returns of which services that was.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Service> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let over = self.sets.iter().filter(|(_, set)| set.until <= now);
        let over: Vec<Service> = over.map(|(service, _)| *service).collect();
        over.iter().for_each(|service| drop(self.sets.remove(service)));
        self.look_ahead();
        over
    }

    fn look_ahead(&mut self) {
        self.next = self.sets.values().map(|set| set.until).min();
    }

    /// When the next weights expire.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }
}

impl RoutingStack {
    /// A controller sets the weights of a service.
    pub(super) fn set_weights(
        &mut self,
        service: Service,
        weights: Vec<(StackName, u16)>,
        ttl: Duration,
        now: Instant,
    ) -> Result<(), OrderRefusal> {
        let picture = self.picture();
        let distribution = picture.defined(service).ok_or(OrderRefusal::NotDistributed(service))?;
        weights.iter().try_for_each(|(stack, _)| self.known(stack, Scope::Service(service)))?;
        if let Some((stack, _)) = weights.iter().find(|(stack, _)| !picture.is_candidate(distribution, stack))
        {
            return Err(OrderRefusal::NotACandidate { stack: stack.clone(), service });
        }
        self.controller.set(service, weights, ttl, now)?;
        self.mark(Mark::Service(service), Urgency::Now);
        Ok(())
    }
}
