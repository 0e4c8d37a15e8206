//! Another configuration for a running agent.

use std::collections::BTreeSet;

use transport::Identity;

use super::Agent;
use super::start::{identity, renewal};
use crate::config::{Config, RoutingStack};
use crate::machine::Event;

impl Agent {
    /// Takes over what can change while the agent runs: certificates, routing stacks, checks, how often is looked for lost events.
    /// If anything else differs, or the certificates can't be used, all stays as it is.
    pub(super) fn reload(&mut self, next: Config) {
        if let Some(key) = self.config.needs_restart(&next) {
            return tracing::error!(
                key,
                "the configuration is not taken over: this key needs a restart of the agent"
            );
        }
        let renewal = renewal(&next);
        let renewed =
            identity(&next).map_err(|e| e.to_string()).and_then(|identity| self.identify(&identity));
        if let Err(cause) = renewed {
            return tracing::error!(cause, "the configuration is not taken over: the identity can't be used");
        }
        self.renewal = renewal;
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
        self.tell(Event::Unanswered(next.unanswered));
        self.tell(Event::RoutingStacks(names));
        self.standings_changed = true;
        self.transfers.rule(next.applications.rules.clone());
        let containers = self.config.containers != next.containers;
        let checks = (self.config.checks != next.checks).then(|| next.checks.clone());
        self.config = next;
        if let Some(checks) = checks {
            self.check_anew(checks);
        }
        if containers {
            self.tell(Event::ListensElsewhere);
        }
        tracing::info!("the configuration was read again: certificates and routing stacks are in force");
    }

    /// Uses the certificate, key and CA in the files from now on, if they were replaced; sessions go on.
    pub(super) fn renew(&mut self) {
        let renewed = match self.renewal.look() {
            None => return,
            Some(Ok(identity)) => self.identify(&identity),
            Some(Err(error)) => Err(error.to_string()),
        };
        match renewed {
            Ok(()) => {
                let expires = &self.expires.date;
                tracing::info!(expires, "the certificate was replaced: new sessions use it");
            }
            Err(cause) => {
                tracing::warn!(
                    cause,
                    "the files of the certificate have changed and can't be used: the former one stays"
                );
            }
        }
    }

    fn identify(&mut self, identity: &Identity) -> Result<(), String> {
        self.endpoint.renew(identity).map_err(|e| e.to_string())?;
        self.expires = identity.expires();
        Ok(())
    }
}
