//! Where the connections of a service can be transferred to: what a PREPARE is checked against, what routing applications are told,
//! and what is chosen from (rows C2, C4 and C16). All ask [`Picture::applications`], so they can't disagree.
//!
//! A drain holds for every transfer. A weight of 0 and a policy hold for choices ([`super::choosing`]): who names a target means it.

use std::collections::{BTreeMap, BTreeSet};

use model::control_socket::request::Role;
use model::control_socket::{JobName, Target};
use model::transfer::Reason;
use model::{Connection, Epoch, Protocol, Service, StackName};
use transfer::Routing;
use transfer::routing::{Reach, Targets};

use super::dirty::Concern;
use super::picture::Picture;
use super::stacks::StackNow;
use crate::config::VipaDistribute;

/// The most targets of one service that an application is told.
const MAX_TARGETS: usize = 16_384;

/// What the applications of a stack are to know: the targets of each service that one of them is registered for, in
/// the present epoch of its DVIPA.
pub(super) type Told = BTreeMap<(StackName, Service), (Epoch, Vec<Target>)>;

/// The applications of one stack that can be given connections of a service.
#[derive(Debug, Default)]
struct Applications<'a> {
    /// Registered as targets.
    targets: Vec<&'a JobName>,
    /// Registered as routing applications: a connection can come back to them.
    routing: Vec<&'a JobName>,
    /// A server without a control socket listens, or one that holds accepts back.
    listener: bool,
}

impl<'a> Picture<'a> {
    /// What everybody is to know of these services.
    pub(super) fn told(&self, transfers: &Routing, concern: &Concern) -> Told {
        let mut lists: BTreeMap<Service, Vec<Target>> = BTreeMap::new();
        let mut told = Told::new();
        for stack in self.stacks.iter() {
            let registered = self.registered_services(stack);
            for (service, epoch) in registered.into_iter().filter(|(service, _)| concern.covers(*service)) {
                let list = lists.entry(service).or_insert_with(|| self.possible_targets(service, transfers));
                told.insert((stack.name.clone(), service), (epoch, list.clone()));
            }
        }
        told
    }

    /// A routing application for the service is registered on the stack (row C1).
    pub(super) fn routing_application(&self, service: Service, stack: StackNow<'a>) -> bool {
        self.jobs(service, Role::Routing, stack).next().is_some()
    }

    /// A target application for the service is registered on the stack.
    pub(super) fn target_application(&self, service: Service, stack: StackNow<'a>) -> bool {
        self.jobs(service, Role::Target, stack).next().is_some()
    }

    /// The applications registered on the stack for the service, in the role in which connections reach it.
    pub(super) fn registered_jobs(&self, service: Service, stack: StackNow<'a>) -> Vec<JobName> {
        let own = *stack.name == self.config.node.name;
        let role = if own { Role::Routing } else { Role::Target };
        self.jobs(service, role, stack).cloned().collect()
    }

    /// An application of this name is registered for the service on that stack.
    pub(super) fn is_registered(&self, service: Service, application: &Target) -> bool {
        let Some(stack) = self.stacks.get(&application.stack) else { return false };
        let mut jobs =
            self.jobs(service, Role::Routing, stack).chain(self.jobs(service, Role::Target, stack));
        jobs.any(|job| *job == application.job)
    }

    fn jobs(&self, service: Service, role: Role, stack: StackNow<'a>) -> impl Iterator<Item = &'a JobName> {
        let epoch = self.dvipas.warm(service.dvipa).map(|held| held.epoch);
        let tcp = service.protocol == Protocol::Tcp;
        let said = stack.said.filter(|_| tcp).zip(epoch);
        said.into_iter().flat_map(move |(said, epoch)| said.jobs(service, role, epoch))
    }

    /// The services that applications of the stack are registered for, of DVIPAs that this stack owns.
    fn registered_services(&self, stack: StackNow<'a>) -> Vec<(Service, Epoch)> {
        let Some(said) = stack.said else { return Vec::new() };
        let owned = said.registered_dvipas().filter_map(|dvipa| Some((dvipa, self.dvipas.owned(dvipa)?)));
        owned
            .flat_map(|(dvipa, held)| said.registered(dvipa, held.epoch).map(move |s| (s, held.epoch)))
            .collect()
    }

    /// The targets of a service that can take a connection in one way or the other, sorted.
    fn possible_targets(&self, service: Service, transfers: &Routing) -> Vec<Target> {
        let open = self.stacks.iter().filter(|stack| !self.drains.covers(stack.name, service));
        let targets = open.flat_map(|stack| {
            let target = |job| Target { stack: stack.name.clone(), job };
            self.reachable_jobs(service, stack, transfers).into_iter().map(target)
        });
        let mut targets: Vec<Target> = targets.collect();
        targets.sort();
        targets.truncate(MAX_TARGETS);
        targets
    }

    /// What connections of the service on a stack can be transferred to, drained or not, sorted.
    pub(super) fn reachable_jobs(
        &self,
        service: Service,
        stack: StackNow<'a>,
        transfers: &Routing,
    ) -> BTreeSet<JobName> {
        let mut jobs = BTreeSet::new();
        let Some(able) = transfers.abilities(stack.name) else { return jobs };
        let Ok(here) = self.applications(service, stack) else { return jobs };
        if able.restores {
            jobs.extend(here.targets.into_iter().cloned());
        }
        if able.injects && here.listener {
            jobs.insert(JobName::listener());
        }
        jobs
    }

    /// The listener of the service on this stack takes no clients.
    pub(super) fn holds_accepts(&self, service: Service, stack: StackNow<'a>) -> bool {
        let listener = JobName::listener();
        self.jobs(service, Role::Target, stack).any(|job| *job == listener)
    }

    /// The applications of a stack that take connections of the service now.
    fn applications(&self, service: Service, stack: StackNow<'a>) -> Result<Applications<'a>, Reason> {
        let said = stack.said.ok_or(Reason::TargetLost)?;
        let distribution = self.distribution_of(service).ok_or(Reason::NotATarget)?;
        if !self.is_candidate(distribution, stack.name) || self.unreachable(stack).is_some() {
            return Err(Reason::NotATarget);
        }
        let listener = JobName::listener();
        let (held, targets): (Vec<_>, Vec<_>) =
            self.jobs(service, Role::Target, stack).partition(|job| **job == listener);
        let is_open = || targets.is_empty() && said.listens(service) && !self.routes(distribution, stack);
        let listener = !held.is_empty() || is_open();
        Ok(Applications { listener, targets, routing: self.jobs(service, Role::Routing, stack).collect() })
    }

    /// The listener of the distribution on this stack is the routing application.
    fn routes(&self, distribution: &VipaDistribute, stack: StackNow<'_>) -> bool {
        distribution.content_routed && *stack.name == self.config.node.name
    }
}

impl Targets for Picture<'_> {
    fn reach(&self, connection: &Connection, target: &StackName, job: Option<&str>) -> Result<Reach, Reason> {
        let service = connection.service();
        if service.protocol != Protocol::Tcp {
            return Err(Reason::NotATarget);
        }
        let stack = self.stacks.get(target).ok_or(Reason::NotATarget)?;
        let here = self.applications(service, stack)?;
        if self.drains.covers(target, service) {
            return Err(Reason::TargetDrains);
        }
        let mut registered = here.targets.iter().chain(&here.routing);
        let listener = here.listener && job.is_none_or(|job| job == JobName::listener().as_str());
        if registered.any(|name| job.is_none_or(|job| job == name.as_str())) {
            Ok(Reach::ControlSocket)
        } else if listener {
            Ok(Reach::Listener)
        } else {
            Err(Reason::NotATarget)
        }
    }
}
