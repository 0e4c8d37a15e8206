//! Which stacks get no new connections because an operator says so. A drain outlives sessions and reloads.

use std::collections::BTreeSet;

use model::{Service, StackName};

use super::dirty::Mark;
use super::pace::Urgency;
use super::{MAX_DRAINS, OrderRefusal, RoutingStack, Scope};

/// The drains in force.
#[derive(Debug, Default)]
pub(super) struct Drains(BTreeSet<(StackName, Scope)>);

impl Drains {
    /// Begins a drain; one that is in force already stays.
    pub(super) fn begin(&mut self, stack: StackName, scope: Scope) -> Result<(), OrderRefusal> {
        let new = (stack, scope);
        if self.0.len() >= MAX_DRAINS && !self.0.contains(&new) {
            return Err(OrderRefusal::TooManyDrains);
        }
        self.0.insert(new);
        Ok(())
    }

    /// Ends the drain of this scope; [`Scope::All`] ends all of the stack's.
    pub(super) fn end(&mut self, stack: StackName, scope: Scope) -> Result<(), OrderRefusal> {
        let before = self.0.len();
        self.0.retain(|(s, at)| *s != stack || (scope != Scope::All && *at != scope));
        if self.0.len() < before { Ok(()) } else { Err(OrderRefusal::NotDraining(stack)) }
    }

    /// Does the stack drain for this service?
    pub(super) fn covers(&self, stack: &StackName, service: Service) -> bool {
        let scopes = [Scope::All, Scope::Dvipa(service.dvipa), Scope::Service(service)];
        !self.0.is_empty() && scopes.into_iter().any(|scope| self.0.contains(&(stack.clone(), scope)))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&StackName, Scope)> {
        self.0.iter().map(|(stack, scope)| (stack, *scope))
    }

    /// Does the stack drain at all?
    pub(super) fn any(&self, stack: &StackName) -> bool {
        self.0.iter().any(|(s, _)| s == stack)
    }
}

impl RoutingStack {
    pub(super) fn begin_drain(&mut self, stack: StackName, scope: Scope) -> Result<(), OrderRefusal> {
        self.mark_stack(&stack, |index| Mark::scope(scope, index), Urgency::Now);
        self.drains.begin(stack, scope)
    }

    /// Is there such a stack, or does a definition name it? And is there what the order is about?
    pub(super) fn known(&self, stack: &StackName, scope: Scope) -> Result<(), OrderRefusal> {
        let distributes = &self.config.vipadynamic.distributes;
        let named = || distributes.iter().any(|d| d.destip.names(stack));
        if self.stacks.known(stack).is_none() && !named() {
            return Err(OrderRefusal::NoSuchStack(stack.clone()));
        }
        match scope {
            Scope::All => Ok(()),
            Scope::Dvipa(dvipa) if distributes.iter().any(|d| d.dvipa == dvipa) => Ok(()),
            Scope::Dvipa(dvipa) => Err(OrderRefusal::NoSuchDvipa(dvipa)),
            Scope::Service(service) if distributes.iter().any(|d| d.covers(service)) => Ok(()),
            Scope::Service(service) => Err(OrderRefusal::NotDistributed(service)),
        }
    }
}
