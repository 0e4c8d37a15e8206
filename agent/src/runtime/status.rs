//! What operators see of an agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use model::control_socket::JobName;
use model::control_socket::request::Role;
use model::{Blame, Dvipa, Protocol, StackName};
use serde::Serialize;
use tokio::sync::oneshot;
use transfer::host::Away;
use transport::{Expiry, PeerState};

use super::Agent;
pub use super::witness::WitnessStatus;
use crate::checks::CheckView;
use crate::control_socket::Registration;
use crate::counters::COUNTERS;
use crate::environment::Environment;
use crate::machine::Standing;
use crate::rights::Wrong;

/// An agent's state.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The stack's name.
    pub name: StackName,
    /// The software's version.
    pub version: &'static str,
    /// How it stands with each routing stack, by name.
    pub routing_stacks: BTreeMap<StackName, RoutingStackStatus>,
    /// The DVIPAs of this host.
    pub dvipas: Vec<DvipaStatus>,
    /// The applications with a control socket, by DVIPA and name.
    pub applications: Vec<ApplicationStatus>,
    /// Outer sources that encapsulated packets are accepted from.
    pub forwarders: BTreeSet<std::net::IpAddr>,
    /// Listening sockets of this host, counted for a DVIPA or not.
    pub listeners: usize,
    /// Connections with a DVIPA.
    pub connections: usize,
    /// Connections that move, or have moved a moment ago.
    pub transfers: TransfersStatus,
    /// Servers that are asked whether they are well.
    pub checks: Vec<CheckStatus>,
    /// The kernel's release.
    pub kernel: String,
    /// This host as a witness of who owns a DVIPA.
    pub witness: WitnessStatus,
    /// What this host can't do, and what it takes.
    pub lacks: Vec<String>,
    /// Use of all processors over the last second, in thousandths.
    pub cpu_permille: u16,
    /// Share of the last second in which some task waited for memory, in thousandths.
    pub memory_pressure_permille: u16,
    /// The longest time for which the agent's task did nothing else, since it was last asked, in milliseconds.
    pub longest_turn_ms: f64,
    /// What routing stacks said that was not theirs to say, by name and reason.
    pub refused: Vec<RefusedStatus>,
    /// When the certificate ends that new sessions use.
    pub certificate: Expiry,
    /// What others changed on this host.
    pub environment: Environment,
    /// What the programs counted.
    pub counters: Vec<CounterStatus>,
}

/// Connections that move, or have moved a moment ago.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TransfersStatus {
    /// That are to leave this host.
    pub leaving: usize,
    /// That are to come here, or have come and the routing stack has not settled it yet.
    pub coming: usize,
    /// Whose application does not know yet that they have left; their silent sockets are kept for it, for half a minute.
    pub orphans: usize,
    /// That a former run of this agent had activated, and that their applications have still to ask for.
    pub awaited: usize,
    /// That were given to applications here, were not taken in time and were closed, since the agent has started.
    pub not_taken: u64,
    /// Whose packets are kept away from this host's kernel while they move.
    pub frozen: usize,
    /// Whose late packets are kept away, for as long as a packet may live.
    pub departed: usize,
    /// That a packet may make here.
    pub admitted: usize,
}

/// A server that is asked whether it is well.
#[derive(Clone, Debug, Serialize)]
pub struct CheckStatus {
    /// What is asked.
    pub check: String,
    /// Whom.
    pub at: std::net::SocketAddr,
    /// `well`, `failing`, or `waiting`: nothing was answered yet.
    pub state: &'static str,
    /// Why it fails.
    pub why: Option<String>,
}

/// A routing stack, as this agent sees it.
#[derive(Clone, Debug, Serialize)]
pub struct RoutingStackStatus {
    /// Where its sessions are.
    pub control: std::net::SocketAddr,
    /// `apart`, `greeted` (no VIPA list yet), `listed` (being answered) or `reporting`.
    pub session: &'static str,
    /// Why there is no session, with the fix where one is known.
    pub why: Option<String>,
}

/// How often a routing stack said what it may not say.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedStatus {
    /// Which stack.
    pub routing_stack: StackName,
    /// What was wrong.
    pub reason: Wrong,
    /// How often.
    pub count: u64,
    /// What it means.
    pub sentence: &'static str,
}

/// A DVIPA of this host.
#[derive(Clone, Debug, Serialize)]
pub struct DvipaStatus {
    /// Its address.
    pub dvipa: Dvipa,
    /// What each routing stack was told that applications here serve.
    pub served: BTreeMap<StackName, Vec<ServedStatus>>,
    /// The ports that applications may be given which do not name one; none: the kernel chooses.
    pub ports: Option<PortsStatus>,
}

/// Ports of a DVIPA that no other host uses.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PortsStatus {
    /// How many this host has.
    pub granted: u32,
    /// How many of them are free.
    pub free: u32,
}

/// A protocol and port.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ServedStatus {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// What an application is registered as.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ApplicationStatus {
    /// The address that it is for.
    pub dvipa: Dvipa,
    /// Its name.
    pub job: JobName,
    /// `routing` or `target`.
    pub role: &'static str,
    /// Its TCP ports.
    pub ports: Vec<u16>,
    /// `registered`, or `waiting` until this stack owns the DVIPA.
    pub state: &'static str,
    /// Its listener gets only transferred connections.
    pub hold_accepts: bool,
    /// Its process.
    pub pid: i32,
}

/// A counter and what it means.
#[derive(Clone, Debug, Serialize)]
pub struct CounterStatus {
    /// Its name.
    pub name: &'static str,
    /// How often.
    pub value: u64,
    /// Who can mend it, if anybody has to.
    pub fault: Option<Blame>,
    /// What it means.
    pub sentence: &'static str,
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Apart => "apart",
        Standing::Greeted => "greeted",
        Standing::Listed | Standing::Looking | Standing::Answering => "listed",
        Standing::Reporting => "reporting",
    }
}

fn refused((stack, reason, count): (&StackName, Wrong, u64)) -> RefusedStatus {
    RefusedStatus { routing_stack: stack.clone(), reason, count, sentence: reason.sentence() }
}

fn check(CheckView { check, at, outcome }: CheckView) -> CheckStatus {
    let (state, why) = match outcome {
        None => ("waiting", None),
        Some(Ok(())) => ("well", None),
        Some(Err(why)) => ("failing", Some(why)),
    };
    CheckStatus { check, at, state, why }
}

impl Agent {
    /// Answers with the state now. What is to be read of large maps is read by another thread.
    pub(super) fn answer(&self, to: oneshot::Sender<Status>) {
        let mut status = self.status();
        let (freezes, admissions) =
            (Arc::clone(&self.programs.maps.freezes), Arc::clone(&self.programs.maps.admissions));
        tokio::task::spawn_blocking(move || {
            let kept_away = freezes.all().unwrap_or_default();
            let departed = kept_away.iter().filter(|(_, away)| *away == Away::Departed).count();
            status.transfers.frozen = kept_away.len() - departed;
            status.transfers.departed = departed;
            status.transfers.admitted = admissions.count();
            // It fails only if nobody wants to know any more.
            drop(to.send(status));
        });
    }

    fn status(&self) -> Status {
        let view = self.machine.view();
        let served = |by_stack: BTreeMap<StackName, BTreeSet<_>>| {
            let ports = |set: BTreeSet<(Protocol, u16)>| {
                set.into_iter().map(|(protocol, port)| ServedStatus { protocol, port }).collect()
            };
            by_stack.into_iter().map(|(stack, set)| (stack, ports(set))).collect()
        };
        let values = self.programs.maps.counters().unwrap_or_default();
        let counters = COUNTERS.iter().zip(values).map(|(c, value)| CounterStatus {
            name: c.name,
            value,
            fault: c.blame,
            sentence: c.sentence,
        });
        Status {
            name: self.config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            routing_stacks: self.routing_stacks(&view.standings),
            dvipas: view
                .dvipas
                .into_iter()
                .map(|(dvipa, s)| DvipaStatus { dvipa, served: served(s), ports: self.ports_of(dvipa) })
                .collect(),
            applications: self.applications(),
            forwarders: view.forwarders,
            listeners: view.listeners,
            connections: view.connections,
            transfers: self.transfers.status(),
            checks: self.checks.views().into_iter().map(check).collect(),
            kernel: crate::system::kernel_release(),
            witness: self.witness.status(Instant::now()),
            lacks: self.programs.lacks(),
            cpu_permille: self.used.cpu_permille,
            memory_pressure_permille: self.used.memory_pressure_permille,
            longest_turn_ms: self.turns.take_longest().as_secs_f64() * 1e3,
            refused: self.refused.iter().map(refused).collect(),
            certificate: self.expires.clone(),
            environment: self.environment.clone(),
            counters: counters.collect(),
        }
    }

    fn applications(&self) -> Vec<ApplicationStatus> {
        let status = |(registration, is_in_force): (&Registration, bool)| ApplicationStatus {
            dvipa: registration.dvipa,
            job: registration.job.clone(),
            role: match registration.role {
                Role::Routing => "routing",
                Role::Target => "target",
            },
            ports: registration.ports.clone(),
            state: if is_in_force { "registered" } else { "waiting" },
            hold_accepts: registration.hold_accepts,
            pid: registration.peer.pid,
        };
        let mut applications: Vec<_> = self.transfers.registrations().map(status).collect();
        applications.sort();
        applications
    }

    fn routing_stacks(
        &self,
        standings: &BTreeMap<StackName, Standing>,
    ) -> BTreeMap<StackName, RoutingStackStatus> {
        let peers = self.endpoint.peers();
        let why = |name: &StackName| match peers.iter().find(|p| p.peer == *name).map(|p| &p.state) {
            Some(PeerState::Waiting { why }) => Some(why.clone()),
            Some(PeerState::Up | PeerState::Dialling) | None => None,
        };
        let status = |stack: &crate::config::RoutingStack| RoutingStackStatus {
            control: stack.control,
            session: word(standings.get(&stack.name).copied().unwrap_or_default()),
            why: why(&stack.name),
        };
        self.config.routing_stacks.iter().map(|stack| (stack.name.clone(), status(stack))).collect()
    }
}
