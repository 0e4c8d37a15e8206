//! Weights that an outside controller sets, and that expire.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::{Service, StackName};

use super::{MAX_WEIGHED_SERVICES, MAX_WEIGHT_LIFE, Refusal};

/// The weights in force, by service.
#[derive(Debug, Default)]
pub(super) struct ControllerWeights(BTreeMap<Service, Set>);

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
    ) -> Result<(), Refusal> {
        if weights.is_empty() {
            self.0.remove(&service);
            return Ok(());
        }
        if !(Duration::from_secs(1)..=MAX_WEIGHT_LIFE).contains(&ttl) {
            return Err(Refusal::BadWeightLife(ttl.as_secs()));
        }
        if self.0.len() >= MAX_WEIGHED_SERVICES && !self.0.contains_key(&service) {
            return Err(Refusal::TooManyWeights);
        }
        self.0.insert(service, Set { weights: weights.into_iter().collect(), until: now + ttl });
        Ok(())
    }

    /// The weight of a stack, and until when.
    pub(super) fn weight(&self, service: Service, stack: &StackName) -> Option<(u16, Instant)> {
        let set = self.0.get(&service)?;
        set.weights.get(stack).map(|weight| (*weight, set.until))
    }

    /// Forgets the other services.
    pub(super) fn retain(&mut self, keep: impl Fn(&Service) -> bool) {
        self.0.retain(|service, _| keep(service));
    }

    /// Forgets what does not hold any more; `true` if there was something.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.0.len();
        self.0.retain(|_, set| set.until > now);
        self.0.len() < before
    }

    /// When the next weights expire.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.values().map(|set| set.until).min()
    }
}
