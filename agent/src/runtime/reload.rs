//! Another configuration for a running agent.

use std::collections::BTreeSet;

use super::Agent;
use super::start::identity;
use crate::config::{Config, RoutingStack};
use crate::machine::Event;

impl Agent {
    /// Takes over what can change while the agent runs: certificates, routing stacks, how often is looked for lost events.
    /// If anything else differs, or the certificates can't be used, all stays as it is.
    pub(super) fn reload(&mut self, next: Config) {
        if let Some(key) = self.config.needs_restart(&next) {
            return tracing::error!(
                key,
                "the configuration is not taken over: this key needs a restart of the agent"
            );
        }
        let renewed = identity(&next)
            .map_err(|e| e.to_string())
            .and_then(|identity| self.endpoint.renew(&identity).map_err(|e| e.to_string()));
        if let Err(cause) = renewed {
            return tracing::error!(cause, "the configuration is not taken over: the identity can't be used");
        }
        for former in &self.config.routing_stacks {
            if !next.routing_stacks.iter().any(|stack| stack.name == former.name) {
                tracing::info!(routing_stack = %former.name, "no longer in the configuration");
                self.endpoint.hang_up(&former.name);
            }
        }
        for stack in &next.routing_stacks {
            let is_same =
                |former: &RoutingStack| (&former.name, former.control) == (&stack.name, stack.control);
            if !self.config.routing_stacks.iter().any(is_same) {
                tracing::info!(routing_stack = %stack.name, control = %stack.control, "new in the configuration, dialling");
                self.endpoint.dial(stack.name.clone(), stack.control);
            }
        }
        let names: BTreeSet<_> = next.routing_stacks.iter().map(|stack| stack.name.clone()).collect();
        self.tell(Event::Repair(next.repair));
        self.tell(Event::RoutingStacks(names));
        self.standings_changed = true;
        self.transfers.rule(next.applications.rules.clone());
        let containers = self.config.containers != next.containers;
        self.config = next;
        if containers {
            self.tell(Event::ListensElsewhere);
        }
        tracing::info!("the configuration was read again: certificates and routing stacks are in force");
    }
}
