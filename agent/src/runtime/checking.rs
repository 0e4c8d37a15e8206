//! Asks the servers of this host what the configuration has them asked.

use std::time::Instant;

use model::Dvipa;
use tokio::task::{JoinError, JoinSet};

use super::Agent;
use crate::checks::{Check, Checks, Probed};
use crate::config::Container;
use crate::machine::{Event, Served};

impl Agent {
    /// Begins what is due.
    pub(super) fn check(&mut self) {
        if self.checks.is_empty() {
            return;
        }
        let listeners = self.machine.listeners(|dvipa, served| self.checks.covers(dvipa, served));
        let containers = &self.config.containers;
        let elsewhere = |dvipa: Dvipa, (protocol, port): Served| {
            let leads = |container: &&Container| {
                let is_of = container.dvipa.is_none_or(|of| of == dvipa.address());
                let same_family = container.address.is_ipv4() == dvipa.address().is_ipv4();
                (container.protocol, container.port) == (protocol, port) && is_of && same_family
            };
            containers.iter().find(leads).map(|container| container.address)
        };
        for probe in self.checks.due(&listeners, elsewhere, Instant::now()) {
            self.probes.spawn(probe.ask());
        }
        self.tell(Event::Failing(self.checks.failing()));
    }

    /// A server was asked.
    pub(super) fn probed(&mut self, probed: Result<Probed, JoinError>) {
        // It is only cancelled with everything else, and does not panic.
        let Ok(probed) = probed else { return };
        if let Some(port) = probed.reached(&self.checks) {
            self.tell(Event::Reached(port));
        }
        let before = self.checks.failing();
        self.checks.answered(probed);
        let failing = self.checks.failing();
        for ((dvipa, (protocol, port)), why) in &failing {
            if !before.contains_key(&(*dvipa, (*protocol, *port))) {
                tracing::warn!(%dvipa, %protocol, port, why, "the server fails: it gets no new connections while others are left");
            }
        }
        for (dvipa, (protocol, port)) in before.keys().filter(|service| !failing.contains_key(service)) {
            tracing::info!(%dvipa, %protocol, port, "the server is well again");
        }
        self.tell(Event::Failing(failing));
    }

    /// Other checks are in force from now on: what is known of servers ends with the former ones.
    pub(super) fn check_anew(&mut self, checks: Vec<Check>) {
        self.checks = Checks::new(checks);
        // What the former ones are answered is nothing to these.
        self.probes = JoinSet::new();
        self.tell(Event::Failing(self.checks.failing()));
        self.check();
    }
}
