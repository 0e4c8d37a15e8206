//! Waiting until the cluster is as a test wants it.

use std::fmt::Display;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::Lab;
use crate::error::{LabError, Result};
use crate::spec::RoutingNode;
use crate::view::DptTarget;

/// How long the cluster may take to be complete. A loaded machine with two cores needs a few seconds.
const READY: Duration = Duration::from_secs(30);
/// The same if a host is emulated.
const READY_IN_GUEST: Duration = Duration::from_secs(120);

impl Lab {
    fn patience(&self) -> Duration {
        if self.spec.guests().next().is_some() { READY_IN_GUEST } else { READY }
    }

    /// Waits until every target's sessions are up, every candidate has its DVIPAs and, if the specification has nginx
    /// servers, every one of them is in the DPT with port 80 of each DVIPA.
    ///
    /// # Errors
    /// [`LabError::Timeout`] with the DPT as it is.
    pub fn wait_until_ready(&self) -> Result<()> {
        for node in self.spec.routing_nodes() {
            for stack in self.spec.agents() {
                self.wait_for_session_at(*node, &stack, "up")?;
            }
        }
        self.wait_for("the candidates to have their DVIPAs", self.patience(), || {
            let rows = self.dpt().map_err(|e| e.to_string())?;
            rows.iter().try_for_each(|row| {
                let dvipa: IpAddr = row.dvipa.parse().map_err(|e| format!("{}: {e}", row.dvipa))?;
                // What a definition names beside them was never seen, and has nothing.
                let here = |target: &&DptTarget| target.state != "never-seen";
                row.targets.iter().filter(here).try_for_each(|target| {
                    let of = |e: &dyn Display| format!("{}: {dvipa}: {e}", target.target);
                    if self.spec.is_guest(&target.target) {
                        let shows = format!("ip -o addr show to {dvipa} | grep .");
                        return self.in_guest_of(&target.target, &shows).map(drop).map_err(|e| of(&e));
                    }
                    let bound = self.host(&target.target).enter(|| UdpSocket::bind((dvipa, 0)));
                    bound.map(drop).map_err(|e| of(&e))
                })
            })
        })?;
        let web: Vec<&str> = self.spec.web.iter().map(|w| w.stack.as_str()).collect();
        if web.is_empty() { Ok(()) } else { self.wait_for_targets(80, &web) }
    }

    /// Asks `state` again and again until it is `Ok`, and fails with its last error after `patience`, or at once when a
    /// program of the lab has died.
    ///
    /// # Errors
    /// [`LabError::Timeout`], [`LabError::Ended`].
    pub fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        mut state: impl FnMut() -> Result<T, String>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            match state() {
                Ok(value) => return Ok(value),
                Err(last) if begun.elapsed() > patience => {
                    return Err(LabError::Timeout { what: what.to_owned(), waited: begun.elapsed(), last });
                }
                Err(_) => self.check()?,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until exactly these targets are selected from for this TCP port of every DVIPA.
    ///
    /// # Errors
    /// [`LabError::Timeout`] with the DPT as it is.
    pub fn wait_for_targets(&self, port: u16, targets: &[&str]) -> Result<()> {
        let mut wanted: Vec<String> = targets.iter().map(|t| (*t).to_owned()).collect();
        wanted.sort();
        let what = format!("port {port} to be served by [{}]", wanted.join(" "));
        self.wait_for(&what, self.patience(), || {
            let dpt = self.dpt().map_err(|e| e.to_string())?;
            let rows: Vec<_> = dpt.iter().filter(|row| row.port == port && row.protocol == "tcp").collect();
            let good = !rows.is_empty() && rows.iter().all(|row| row.selectable() == wanted);
            if good { Ok(()) } else { Err(format!("{dpt:#?}")) }
        })
    }

    /// Waits until the routing stack says that its session with a stack is in this state (`up`, `lost`).
    ///
    /// # Errors
    /// [`LabError::Timeout`] with the status as it is.
    pub fn wait_for_session(&self, stack: &str, state: &str) -> Result<()> {
        self.wait_for_session_at(RoutingNode::First, stack, state)
    }

    /// As [`Lab::wait_for_session`] at this routing node.
    ///
    /// # Errors
    /// [`LabError::Timeout`] with the status as it is.
    pub fn wait_for_session_at(&self, node: RoutingNode, stack: &str, state: &str) -> Result<()> {
        self.wait_for(&format!("{stack} to be {state} at {}", node.name()), self.patience(), || {
            let stacks = self.stacks_at(node).map_err(|e| e.to_string())?;
            let found = stacks.iter().any(|s| s.stack == stack && s.session == state);
            if found { Ok(()) } else { Err(format!("{stacks:#?}")) }
        })
    }
}
