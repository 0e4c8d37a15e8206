//! Joins the blocks of ports with the rest of the agent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::ports::PortsGranted;
use model::{Dvipa, StackName};
use transport::SendError;

use super::Agent;
use super::status::PortsStatus;
use crate::machine::rest_after_look;
use crate::ports::{Listing, Pools as _};

/// How often it is looked which ports are in use no more.
const SWEEP: Duration = Duration::from_secs(5);

impl Agent {
    /// Routing stacks may list others than before.
    pub(super) fn ports_listed(&mut self) {
        let owners = self.machine.owners();
        let listings = self.machine.listing().map(|(stack, dvipa, epoch)| {
            let owner = owners.get(&dvipa).is_some_and(|(owner, of)| owner == stack && *of == epoch);
            Listing { stack, dvipa, epoch, owner }
        });
        let dvipas = &self.dvipas;
        self.ports.listed(listings.filter(|listing| dvipas.contains(&listing.dvipa.address())));
        self.talk_of_ports();
    }

    /// A routing stack grants ports.
    pub(super) fn ports_granted(&mut self, from: &StackName, granted: &PortsGranted) {
        if let Ok(pools) = &self.programs.pools {
            self.ports.granted(from, granted, &**pools);
        }
        self.talk_of_ports();
    }

    /// Says to routing stacks what they do not know of this host's ports.
    pub(super) fn talk_of_ports(&mut self) {
        let Ok(pools) = &self.programs.pools else { return };
        for (to, message) in self.ports.say(&**pools) {
            match self.endpoint.send(&to, &message) {
                Ok(()) | Err(SendError::NoSession(_)) => {}
                Err(cause) => tracing::warn!(routing_stack = %to, %cause, "a message was not sent"),
            }
        }
    }

    /// Has another thread look which ports are in use, now and then, and gives back blocks that are not.
    pub(super) fn sweep_ports(&mut self) {
        let now = Instant::now();
        let Ok(pools) = &self.programs.pools else { return };
        if self.sweep.as_ref().is_some_and(|sweep| !sweep.is_finished()) {
            self.next_sweep = now + rest_after_look(now.saturating_duration_since(self.sweep_began));
            return;
        }
        if now < self.next_sweep {
            return;
        }
        (self.sweep_began, self.next_sweep) = (now, now + SWEEP);
        self.ports.give_back(&**pools);
        let pools = Arc::clone(pools);
        self.sweep = Some(tokio::task::spawn_blocking(move || {
            if let Err(cause) = pools.sweep() {
                tracing::warn!(%cause, "the kernel does not tell which ports are in use, trying again");
            }
        }));
        self.talk_of_ports();
    }

    pub(super) fn ports_of(&self, dvipa: Dvipa) -> Option<PortsStatus> {
        let pool = self.programs.pools.as_ref().ok()?.pool(dvipa)?;
        Some(PortsStatus { granted: pool.ports(), free: pool.left })
    }
}
