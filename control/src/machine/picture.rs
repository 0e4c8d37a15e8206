//! The whole picture at one moment: for every service its candidate targets, who of them may be selected, and with
//! which weight. The DPT ([`super::board`]) and the displays are two ways to write it down, so they can't disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ipnet::IpNet;
use model::dpt::{Reach, Refuse, StackState};
use model::{ClusterAddress, Connection, Dvipa, DvipaIndex, Service, StackName};

use super::controller::ControllerWeights;
use super::direct::Direct;
use super::drain::Drains;
use super::load;
use super::ownership::Dvipas;
use super::ports::Ports;
use super::ramps::{Ramps, STEPS};
use super::roster::Roster;
use super::session::Unfit;
use super::stacks::{StackNow, Stacks};
use super::view::{Selection, TargetState};
use crate::config::{Candidate, Config, Destip, ServicePolicy, VipaDistribute, Weights};

/// Everything that decides what the DPT is.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    pub(super) config: &'a Config,
    pub(super) dvipas: &'a Dvipas,
    pub(super) stacks: &'a Stacks,
    pub(super) drains: &'a Drains,
    pub(super) roster: &'a Roster,
    controller: &'a ControllerWeights,
    direct: &'a Direct,
    ports: &'a Ports,
    ramps: &'a Ramps,
    /// Who is not here by now was not here before this node started.
    pub(super) settled: bool,
}

/// One service of the DPT.
#[derive(Debug)]
pub(super) struct ServiceNow<'a> {
    pub(super) service: Service,
    pub(super) dvipa: DvipaIndex,
    pub(super) distribution: &'a VipaDistribute,
    pub(super) targets: Vec<TargetNow<'a>>,
    pub(super) policies: Vec<(IpNet, Vec<TargetNow<'a>>)>,
    /// By the lists of its routing.
    pub(super) routed: Vec<Vec<TargetNow<'a>>>,
}

/// One candidate target of a service.
#[derive(Debug)]
pub(super) struct TargetNow<'a> {
    pub(super) who: Who<'a>,
    pub(super) state: TargetState,
    pub(super) weight: u16,
    pub(super) source: Source,
    /// How much of its share it is given, in steps of [`STEPS`].
    pub(super) step: u8,
}

/// A candidate, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who<'a> {
    /// A stack that has greeted at least once.
    Stack(StackNow<'a>),
    /// One that is only named in a definition.
    NeverSeen(&'a Candidate),
}

/// Where a weight comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Equal,
    Configured,
    Load,
    Controller { until: Instant },
}

impl<'a> Picture<'a> {
    /// Puts the parts together.
    pub(super) fn new(
        config: &'a Config,
        dvipas: &'a Dvipas,
        stacks: &'a Stacks,
        drains: &'a Drains,
        (controller, direct, ports, ramps): (&'a ControllerWeights, &'a Direct, &'a Ports, &'a Ramps),
        settled: bool,
    ) -> Self {
        let roster = &stacks.roster;
        Self { config, dvipas, stacks, drains, roster, controller, direct, ports, ramps, settled }
    }

    /// The definition that a service belongs to: the route to the one stack that has the port, otherwise an operator's.
    pub(super) fn distribution_of(&self, service: Service) -> Option<&'a VipaDistribute> {
        self.direct_route(service).or_else(|| self.defined(service))
    }

    /// The operator's definition that a service belongs to: the one that enumerates its port, otherwise the one that
    /// enumerates none.
    pub(super) fn defined(&self, service: Service) -> Option<&'a VipaDistribute> {
        self.dvipas.warm(service.dvipa)?;
        let of_it = self.config.vipadynamic.distributes_of(service.dvipa);
        let covering = || of_it.iter().filter(|d| d.covers(service));
        covering().find(|d| !d.ports.is_empty()).or_else(|| covering().next())
    }

    /// The route to the one stack that has a port. One that an operator enumerates is no stack's own.
    pub(super) fn direct_route(&self, service: Service) -> Option<&'a VipaDistribute> {
        self.dvipas.warm(service.dvipa)?;
        let is_enumerated = self.defined(service).is_some_and(|defined| !defined.ports.is_empty());
        self.direct.definition(service).filter(|_| !is_enumerated)
    }

    /// Would a listener on this stack have the port for itself? If no definition has the port, or one that enumerates none
    /// and the port is in a block of the stack.
    pub(super) fn may_be_direct(&self, stack: &StackName, service: Service) -> bool {
        let known = self.stacks.get(stack).is_some_and(|stack| self.is_named(service.dvipa, stack));
        let own = || self.ports.has(service.dvipa, stack, service.port);
        known && self.defined(service).is_none_or(|defined| defined.ports.is_empty() && own())
    }

    /// Is the stack a candidate target?
    pub(super) fn is_candidate(&self, distribution: &'a VipaDistribute, stack: &StackName) -> bool {
        self.is_one_of(distribution, &distribution.destip, stack)
    }

    /// Is the stack among those that the definition, or a policy of it, names?
    fn is_one_of(&self, distribution: &VipaDistribute, destip: &Destip, stack: &StackName) -> bool {
        match destip {
            Destip::All => true,
            Destip::List(list) => {
                let own = distribution.content_routed && *stack == self.config.node.name;
                own || list.iter().any(|c| self.roster.name_of(c) == Some(stack))
            }
        }
    }

    /// Does the VIPA list ask the stack to report on this service?
    pub(super) fn is_asked(&self, stack: &StackName, service: Service) -> bool {
        let is_candidate = |distribution| self.is_candidate(distribution, stack);
        self.defined(service).is_some_and(is_candidate) || self.may_be_direct(stack, service)
    }

    /// The listens on these DVIPAs of stacks that are no candidates for them.
    pub(super) fn void_listens(&self, dvipas: &BTreeSet<Dvipa>) -> Vec<(StackName, Vec<Service>)> {
        let void = |stack: StackNow<'a>| {
            let said = stack.said?;
            let listens = dvipas.iter().flat_map(|dvipa| said.services_of(*dvipa));
            let void: Vec<Service> = listens.filter(|service| !self.is_asked(stack.name, *service)).collect();
            (!void.is_empty()).then(|| (stack.name.clone(), void))
        };
        self.stacks.iter().filter_map(void).collect()
    }

    /// May a stack be selected for a service, and if not, why; none: it is no candidate.
    pub(super) fn state_of(&self, service: Service, stack: &StackName) -> Option<TargetState> {
        let (distribution, stack) = (self.distribution_of(service)?, self.stacks.get(stack)?);
        let (destip, weights) = lists_of(distribution).next()?;
        self.target_of(service, distribution, (destip, weights), stack).map(|target| target.state)
    }

    /// All services, sorted: every enumerated port, and each other port on which a candidate of a definition without
    /// ports listens (row U1).
    pub(super) fn services(&self) -> Vec<ServiceNow<'a>> {
        let names = self.dvipas.iter_warm().flat_map(|(dvipa, _)| self.service_names(dvipa));
        let mut services: Vec<_> = names.filter_map(|service| self.service(service)).collect();
        services.sort_by_key(|s| (s.dvipa, s.service.port, s.service.protocol));
        services
    }

    /// Those of a DVIPA, each once.
    pub(super) fn service_names(&self, dvipa: Dvipa) -> BTreeSet<Service> {
        if self.dvipas.warm(dvipa).is_none() {
            return BTreeSet::new();
        }
        let of_it = self.config.vipadynamic.distributes_of(dvipa).iter();
        let services = of_it.flat_map(|distribution| {
            let service = move |port| Service { dvipa, port, protocol: distribution.protocol };
            self.ports(distribution).into_iter().map(service)
        });
        services.chain(self.direct.services(dvipa)).collect()
    }

    /// One service with all its candidates, if it is distributed.
    pub(super) fn service(&self, service: Service) -> Option<ServiceNow<'a>> {
        let distribution = self.distribution_of(service)?;
        let dvipa = self.dvipas.warm(service.dvipa)?.index;
        let mut lists = lists_of(distribution).map(|(destip, weights)| {
            let candidates = self.candidates(distribution, destip);
            self.targets(service, distribution, &candidates, weights)
        });
        let targets = lists.next()?;
        let listens = |target: &TargetNow<'_>| {
            target.who.stack().and_then(|stack| stack.said).is_some_and(|said| said.listens(service))
        };
        if distribution.ports.is_empty() && !targets.iter().any(listens) {
            return None;
        }
        let policies = distribution.policies.iter().map(|policy| policy.client).zip(lists.by_ref()).collect();
        Some(ServiceNow { service, dvipa, distribution, targets, policies, routed: lists.collect() })
    }

    /// The stack as a candidate of a service; `list` is the definition's, or a policy's of it.
    pub(super) fn target_of(
        &self,
        service: Service,
        distribution: &VipaDistribute,
        (destip, weights): (&Destip, &Weights),
        stack: StackNow<'a>,
    ) -> Option<TargetNow<'a>> {
        let is_one = self.is_one_of(distribution, destip, stack.name);
        is_one.then(|| self.target(service, distribution, Who::Stack(stack), weights))
    }

    /// May the stack have connections to the DVIPA? A candidate of any definition may, and the owner's own stack, which has what is
    /// not distributed. Any stack may, if the DVIPA moves without its connections.
    pub(super) fn may_have(&self, dvipa: Dvipa, stack: StackNow<'_>) -> bool {
        self.config.vipadynamic.moves_alone(dvipa) || self.is_named(dvipa, stack)
    }

    fn is_named(&self, dvipa: Dvipa, stack: StackNow<'_>) -> bool {
        let mut of_it = self.config.vipadynamic.distributes_of(dvipa).iter();
        *stack.name == self.config.node.name || of_it.any(|d| self.is_candidate(d, stack.name))
    }

    /// Nobody has said what the DVIPA distributes: which connections it has is not known either.
    pub(super) fn is_unheard(&self, dvipa: Dvipa) -> bool {
        self.config.vipadynamic.unheard.contains(&dvipa)
    }

    /// What a client is told at a port of the DVIPA that is not distributed.
    pub(super) fn refuse(&self, dvipa: Dvipa) -> Refuse {
        if self.is_unheard(dvipa) {
            return Refuse::Silent;
        }
        self.config.vipadynamic.define_of(dvipa).map(|define| define.refuse).unwrap_or_default()
    }

    /// What is heard of a stack.
    pub(super) fn stack_state(&self, stack: StackNow<'_>) -> StackState {
        self.stacks.losses.state(stack, *stack.name == self.config.node.name)
    }

    /// How packets reach a stack.
    pub(super) fn reach(&self, stack: StackNow<'_>) -> Reach {
        if *stack.name == self.config.node.name {
            return Reach::Local;
        }
        let encapsulation = self.config.encapsulation_of(stack.name);
        Reach::Remote { cluster_address: stack.known.cluster_address, encapsulation }
    }

    /// Who may be selected by these definitions, by name, those never seen last. Nobody twice. The routing
    /// application's stack is always one of them.
    fn candidates(&self, distribution: &VipaDistribute, destip: &'a Destip) -> Vec<Who<'a>> {
        let Destip::List(list) = destip else { return self.stacks.iter().map(Who::Stack).collect() };
        let stack_of = |candidate| self.roster.name_of(candidate).and_then(|name| self.stacks.get(name));
        let own = Some(&self.config.node.name).filter(|_| distribution.content_routed);
        let seen = list.iter().filter_map(stack_of).chain(own.and_then(|own| self.stacks.get(own)));
        let seen: BTreeMap<&StackName, StackNow<'a>> = seen.map(|stack| (stack.name, stack)).collect();
        let mut never_seen: Vec<&Candidate> = list.iter().filter(|c| stack_of(c).is_none()).collect();
        never_seen.sort();
        seen.into_values().map(Who::Stack).chain(never_seen.into_iter().map(Who::NeverSeen)).collect()
    }

    /// Where a connection that a stack gives up can go, with weights: the other current actual targets that a new one of the
    /// same client could be given. Where content decides, that is the routing application, as for a new one.
    pub(super) fn destinations(&self, connection: &Connection, source: &StackName) -> Vec<(StackName, u16)> {
        let service = connection.service();
        let Some(distribution) = self.distribution_of(service) else { return Vec::new() };
        let client = connection.client.ip();
        let policy = distribution.policies.iter().find(|policy| policy.client.contains(&client));
        let list = match policy {
            Some(policy) => list_of(distribution, policy),
            None => (&distribution.destip, &distribution.weights),
        };
        let targets = self.targets(service, distribution, &self.candidates(distribution, list.0), list.1);
        let routed = distribution.routing.as_ref();
        let is_other = |target: &TargetNow<'_>| {
            let other = |stack: StackNow<'_>| {
                stack.name != source && routed.is_none_or(|routing| routing.can_follow(source, stack.name))
            };
            target.who.stack().is_some_and(other)
        };
        let others: Vec<TargetNow<'_>> = targets.into_iter().filter(is_other).collect();
        let states = others.iter().map(|target| target.state);
        let selection = Selection::new(states, distribution.rules.panic_percent);
        let selectable = others.iter().filter(|target| selection.takes(target.state));
        selectable.filter_map(|target| Some((target.who.stack()?.name.clone(), target.weight))).collect()
    }

    /// The ports of a definition: the enumerated ones, or those on which a candidate listens and that no other
    /// definition enumerates.
    fn ports(&self, distribution: &'a VipaDistribute) -> BTreeSet<u16> {
        if !distribution.ports.is_empty() {
            return distribution.ports.iter().copied().collect();
        }
        let candidates = self.candidates(distribution, &distribution.destip);
        let said = candidates.iter().filter_map(|who| who.stack()?.said);
        let listens = said.flat_map(|said| said.services_of(distribution.dvipa));
        let of_it = |s: &Service| {
            s.protocol == distribution.protocol
                && self.distribution_of(*s).is_some_and(|d| std::ptr::eq(d, distribution))
        };
        listens.filter(of_it).map(|service| service.port).collect()
    }

    fn targets(
        &self,
        service: Service,
        distribution: &VipaDistribute,
        candidates: &[Who<'a>],
        weights: &Weights,
    ) -> Vec<TargetNow<'a>> {
        candidates.iter().map(|who| self.target(service, distribution, *who, weights)).collect()
    }

    fn target(
        &self,
        service: Service,
        distribution: &VipaDistribute,
        who: Who<'a>,
        weights: &Weights,
    ) -> TargetNow<'a> {
        let (weight, source) = self.weight(service, who, weights);
        let state = match who {
            Who::NeverSeen(_) => TargetState::NeverSeen,
            Who::Stack(stack) => self.state(service, distribution, stack, weight),
        };
        let ramp = who.index().filter(|_| distribution.slow_start().is_some());
        let step = ramp.map_or(STEPS, |index| self.ramps.step(service, index));
        TargetNow { who, state, weight, source, step }
    }

    /// May the stack be selected, and if not, why: the first reason counts.
    fn state(
        &self,
        service: Service,
        distribution: &VipaDistribute,
        stack: StackNow<'a>,
        weight: u16,
    ) -> TargetState {
        let own = *stack.name == self.config.node.name;
        if self.direct_route(service).is_some() {
            // There is no other: neither a drain nor silence ends the route.
            return self.unreachable(stack).unwrap_or(TargetState::Listening);
        }
        let Some(said) = stack.said else { return TargetState::Lost };
        if let Some(state) = self.unreachable(stack) {
            return state;
        }
        if distribution.content_routed && !own && self.target_application(service, stack) {
            return TargetState::TransferOnly;
        }
        if !said.listens(service) {
            let epoch = self.dvipas.warm(service.dvipa).map(|held| held.epoch);
            let reported = said.reported_epoch(service.dvipa) == epoch;
            return if reported { TargetState::NotListening } else { TargetState::NotReported };
        }
        if distribution.content_routed && !own {
            return TargetState::TransferOnly;
        }
        if distribution.content_routed && !self.routing_application(service, stack) {
            return TargetState::NoRoutingApplication;
        }
        self.share(service, stack, weight)
    }

    /// Has a stack that can be given connections of a service a share of them, and if not, why.
    pub(super) fn share(&self, service: Service, stack: StackNow<'_>, weight: u16) -> TargetState {
        if self.drains.covers(stack.name, service) {
            return TargetState::Draining;
        }
        match weight {
            0 => TargetState::WeightZero,
            _ => match stack.said.and_then(|said| said.unfit(service)) {
                Some(Unfit::Failing { .. }) => TargetState::Failing,
                Some(Unfit::Stalled) => TargetState::Stalled,
                None if self.stacks.losses.is_quiet(stack.name) => TargetState::Quiet,
                None => TargetState::Listening,
            },
        }
    }

    /// Why packets can't reach the stack, if they can't.
    pub(super) fn unreachable(&self, stack: StackNow<'_>) -> Option<TargetState> {
        if *stack.name == self.config.node.name {
            return None;
        }
        if self.roster.conflicts(stack, self.dvipas) {
            return Some(TargetState::AddressConflict);
        }
        let share = share_a_family(self.config.node.cluster_address, stack.known.cluster_address);
        (!share).then_some(TargetState::Unreachable)
    }

    /// A candidate's weight: a controller's word comes first, then the definition's, then the load.
    fn weight(&self, service: Service, who: Who<'_>, weights: &Weights) -> (u16, Source) {
        let name = match who {
            Who::Stack(stack) => Some(stack.name),
            Who::NeverSeen(Candidate::Name(name)) => Some(name),
            Who::NeverSeen(Candidate::Address(_)) => None,
        };
        let controlled = name.filter(|_| self.direct_route(service).is_none());
        if let Some((weight, until)) = controlled.and_then(|name| self.controller.weight(service, name)) {
            return (weight, Source::Controller { until });
        }
        match weights {
            Weights::Equal => (1, Source::Equal),
            Weights::Configured(weights) => {
                let means = |candidate: &Candidate| match who {
                    Who::Stack(stack) => self.roster.name_of(candidate) == Some(stack.name),
                    Who::NeverSeen(defined) => defined == candidate,
                };
                let configured = weights.iter().find(|(candidate, _)| means(candidate));
                configured.map_or((1, Source::Equal), |(_, weight)| (*weight, Source::Configured))
            }
            Weights::Load => {
                let load = who.stack().and_then(|stack| stack.said?.load());
                (load.map_or(load::UNREPORTED, |load| load.weight()), Source::Load)
            }
        }
    }
}

impl<'a> Who<'a> {
    /// The stack, if it was ever seen.
    pub(super) fn stack(&self) -> Option<StackNow<'a>> {
        match self {
            Who::Stack(stack) => Some(*stack),
            Who::NeverSeen(_) => None,
        }
    }

    /// Its number, if it was ever seen.
    pub(super) fn index(&self) -> Option<model::StackIndex> {
        self.stack().map(|stack| stack.known.index)
    }
}

/// The lists of candidates of a definition, with their weights: its own, then each policy's, then those of its routes.
pub(super) fn lists_of(distribution: &VipaDistribute) -> impl Iterator<Item = (&Destip, &Weights)> {
    let policies = distribution.policies.iter().map(|policy| list_of(distribution, policy));
    let routed = distribution.routing.iter().flat_map(|routing| &routing.lists);
    let routed = routed.map(|(destip, weights)| (destip, weights));
    std::iter::once((&distribution.destip, &distribution.weights)).chain(policies).chain(routed)
}

fn list_of<'a>(distribution: &'a VipaDistribute, policy: &'a ServicePolicy) -> (&'a Destip, &'a Weights) {
    let destip = if policy.destip == Destip::All { &distribution.destip } else { &policy.destip };
    (destip, &policy.weights)
}

/// Is there a family for the outer header?
fn share_a_family(a: ClusterAddress, b: ClusterAddress) -> bool {
    (a.v4.is_some() && b.v4.is_some()) || (a.v6.is_some() && b.v6.is_some())
}
