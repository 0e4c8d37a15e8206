//! The whole picture at one moment: for every service its candidate targets, who of them may be selected, and with
//! which weight. The DPT and the displays are two ways to write it down, so they can't disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ipnet::IpNet;
use model::dpt::{self, Ask, Distribution, Dpt, DvipaEntry, Reach, StackEntry, StackState, WeightedTarget};
use model::{ClusterAddress, Connection, Dvipa, DvipaIndex, Service, StackIndex, StackName};

use super::TargetState;
use super::controller::ControllerWeights;
use super::drain::Drains;
use super::load;
use super::ownership::{Dvipas, Held};
use super::roster::Roster;
use super::stacks::{StackNow, Stacks};
use crate::config::{Candidate, Config, Destip, VipaDistribute, Weights};

/// Everything that decides what the DPT is.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    pub(super) config: &'a Config,
    pub(super) dvipas: &'a Dvipas,
    pub(super) stacks: &'a Stacks,
    pub(super) drains: &'a Drains,
    pub(super) roster: Roster<'a>,
    controller: &'a ControllerWeights,
    /// Who is not here by now was not here before this node started.
    settled: bool,
}

/// One service of the DPT.
#[derive(Debug)]
pub(super) struct ServiceNow<'a> {
    pub(super) service: Service,
    pub(super) dvipa: DvipaIndex,
    pub(super) distribution: &'a VipaDistribute,
    pub(super) targets: Vec<TargetNow<'a>>,
    pub(super) policies: Vec<(IpNet, Vec<TargetNow<'a>>)>,
}

/// One candidate target of a service.
#[derive(Debug)]
pub(super) struct TargetNow<'a> {
    pub(super) who: Who<'a>,
    pub(super) state: TargetState,
    pub(super) weight: u16,
    pub(super) source: Source,
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
        controller: &'a ControllerWeights,
        settled: bool,
    ) -> Self {
        let roster = Roster::new(&config.node.name, config.node.cluster_address, stacks);
        Self { config, dvipas, stacks, drains, roster, controller, settled }
    }

    /// The definition that a service belongs to: the one that enumerates its port, otherwise the one that enumerates
    /// none.
    pub(super) fn distribution_of(&self, service: Service) -> Option<&'a VipaDistribute> {
        self.dvipas.owned(service.dvipa)?;
        let all = &self.config.vipadynamic.distributes;
        let covering = || all.iter().filter(|d| d.covers(service));
        covering().find(|d| !d.ports.is_empty()).or_else(|| covering().next())
    }

    /// Is the stack a candidate target?
    pub(super) fn is_candidate(&self, distribution: &'a VipaDistribute, stack: &StackName) -> bool {
        match &distribution.destip {
            Destip::All => true,
            Destip::List(list) => {
                let own = distribution.content_routed && *stack == self.config.node.name;
                own || list.iter().any(|c| self.roster.name_of(c) == Some(stack))
            }
        }
    }

    /// Does the VIPA list ask the stack to report on this service?
    pub(super) fn is_asked(&self, stack: &StackName, service: Service) -> bool {
        self.distribution_of(service).is_some_and(|distribution| self.is_candidate(distribution, stack))
    }

    /// The listens of stacks that are no candidates for them.
    pub(super) fn void_listens(&self) -> Vec<(StackName, Vec<Service>)> {
        let void = |stack: StackNow<'a>| {
            let void: Vec<Service> =
                stack.said?.services().filter(|service| !self.is_asked(stack.name, *service)).collect();
            (!void.is_empty()).then(|| (stack.name.clone(), void))
        };
        self.stacks.iter().filter_map(void).collect()
    }

    /// May a stack be selected for a service, and if not, why; none: it is no candidate.
    pub(super) fn state_of(&self, service: Service, stack: &StackName) -> Option<TargetState> {
        let distribution = self.distribution_of(service)?;
        let candidates = self.candidates(distribution, &distribution.destip);
        let targets = self.targets(service, distribution, &candidates, &distribution.weights);
        let found = targets.iter().find(|target| target.who.stack().is_some_and(|s| s.name == stack));
        found.map(|target| target.state)
    }

    /// All services, sorted: every enumerated port, and each other port on which a candidate of a definition without
    /// ports listens (row U1).
    pub(super) fn services(&self) -> Vec<ServiceNow<'a>> {
        let mut services = Vec::new();
        for distribution in &self.config.vipadynamic.distributes {
            let Some(held) = self.dvipas.owned(distribution.dvipa) else { continue };
            let candidates = self.candidates(distribution, &distribution.destip);
            for port in self.ports(distribution, &candidates) {
                let (dvipa, protocol) = (distribution.dvipa, distribution.protocol);
                let service = Service { dvipa, port, protocol };
                let targets = self.targets(service, distribution, &candidates, &distribution.weights);
                let policies = distribution.policies.iter().map(|policy| {
                    let candidates = match policy.destip {
                        Destip::All => self.candidates(distribution, &distribution.destip),
                        Destip::List(_) => self.candidates(distribution, &policy.destip),
                    };
                    (policy.client, self.targets(service, distribution, &candidates, &policy.weights))
                });
                let policies = policies.collect();
                services.push(ServiceNow { service, dvipa: held.index, distribution, targets, policies });
            }
        }
        services.sort_by_key(|s| (s.dvipa, s.service.port, s.service.protocol));
        services
    }

    /// The DPT, without its generation.
    pub(super) fn dpt(&self) -> Dpt {
        let vipadynamic = &self.config.vipadynamic;
        let refuse: BTreeMap<Dvipa, _> = vipadynamic.defines.iter().map(|d| (d.dvipa, d.refuse)).collect();
        let mut candidates: BTreeMap<Dvipa, BTreeMap<StackIndex, StackNow<'a>>> = BTreeMap::new();
        for distribution in &vipadynamic.distributes {
            let stacks = self.candidates(distribution, &distribution.destip).into_iter();
            let stacks = stacks.filter_map(|who| who.stack()).map(|stack| (stack.known.index, stack));
            candidates.entry(distribution.dvipa).or_default().extend(stacks);
        }
        // The owner's own stack has connections to what is not distributed.
        if let Some(own) = self.stacks.get(&self.config.node.name) {
            for (dvipa, _) in self.dvipas.iter() {
                candidates.entry(dvipa).or_default().insert(own.known.index, own);
            }
        }
        let entry = |(dvipa, held): (Dvipa, Held)| {
            let ask = self.ask(candidates.get(&dvipa).into_iter().flat_map(BTreeMap::values));
            let refuse = refuse.get(&dvipa).copied().unwrap_or_default();
            DvipaEntry { index: held.index, dvipa, ask, refuse }
        };
        let mut dvipas: Vec<DvipaEntry> = self.dvipas.iter().map(entry).collect();
        dvipas.sort_by_key(|entry| entry.index);
        let stacks = self.stacks.by_index().map(|stack| {
            let (index, name) = (stack.known.index, stack.name.clone());
            StackEntry { index, name, reach: self.reach(stack), state: self.stack_state(stack) }
        });
        let distributions = self.services().into_iter().map(|now| Distribution {
            dvipa: now.dvipa,
            port: now.service.port,
            protocol: now.service.protocol,
            method: now.distribution.method,
            targets: selectable(&now.targets),
            serving: now.serving(),
            policies: now
                .policies
                .iter()
                .map(|(client, targets)| dpt::Policy { client: *client, targets: selectable(targets) })
                .collect(),
            refuse: now.distribution.refuse,
        });
        Dpt { generation: 0, dvipas, stacks: stacks.collect(), distributions: distributions.collect() }
    }

    /// What is heard of a stack.
    pub(super) fn stack_state(&self, stack: StackNow<'_>) -> StackState {
        self.stacks.losses.state(stack, *stack.name == self.config.node.name)
    }

    /// Who may have connections to a DVIPA: every one of its candidates, whatever it serves now. A stack that was never here has
    /// none that this node could ask for, and a dead one has none any more; one whose agent is silent may.
    fn ask<'s>(&self, candidates: impl Iterator<Item = &'s StackNow<'a>>) -> Ask
    where
        'a: 's,
    {
        let living: Vec<_> = candidates.filter(|s| self.stack_state(**s) != StackState::Dead).collect();
        let certain = self.settled && living.iter().all(|s| s.said.is_some_and(|said| said.accounted));
        Ask { candidates: living.iter().map(|s| s.known.index).collect(), certain }
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
        let (destip, weights) = match policy {
            Some(policy) => (&policy.destip, &policy.weights),
            None => (&distribution.destip, &distribution.weights),
        };
        let destip = if *destip == Destip::All { &distribution.destip } else { destip };
        let targets = self.targets(service, distribution, &self.candidates(distribution, destip), weights);
        let is_other = |target: &TargetNow<'_>| target.who.stack().is_some_and(|stack| stack.name != source);
        let others: Vec<TargetNow<'_>> = targets.into_iter().filter(is_other).collect();
        let named =
            eligible(&others).filter_map(|target| Some((target.who.stack()?.name.clone(), target.weight)));
        named.collect()
    }

    /// The ports of a definition: the enumerated ones, or those on which a candidate listens and that no other
    /// definition enumerates.
    fn ports(&self, distribution: &'a VipaDistribute, candidates: &[Who<'a>]) -> BTreeSet<u16> {
        if !distribution.ports.is_empty() {
            return distribution.ports.iter().copied().collect();
        }
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
        let target = |who: &Who<'a>| {
            let (weight, source) = self.weight(service, *who, weights);
            let state = match who {
                Who::NeverSeen(_) => TargetState::NeverSeen,
                Who::Stack(stack) => self.state(service, distribution, *stack, weight),
            };
            TargetNow { who: *who, state, weight, source }
        };
        candidates.iter().map(target).collect()
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
        let Some(said) = stack.said else { return TargetState::Lost };
        if let Some(state) = self.unreachable(stack) {
            return state;
        }
        if distribution.content_routed && !own && self.target_application(service, stack) {
            return TargetState::TransferOnly;
        }
        if !said.listens(service) {
            let epoch = self.dvipas.owned(service.dvipa).map(|held| held.epoch);
            let reported = said.reported_epoch(service.dvipa) == epoch;
            return if reported { TargetState::NotListening } else { TargetState::NotReported };
        }
        if distribution.content_routed && !own {
            return TargetState::TransferOnly;
        }
        if distribution.content_routed && !self.routing_application(service, stack) {
            return TargetState::NoRoutingApplication;
        }
        if self.drains.covers(stack.name, service) {
            return TargetState::Draining;
        }
        match weight {
            0 => TargetState::WeightZero,
            _ if self.stacks.losses.is_quiet(stack.name) => TargetState::Quiet,
            _ => TargetState::Listening,
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
        if let Some((weight, until)) = name.and_then(|name| self.controller.weight(service, name)) {
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
    pub(super) fn index(&self) -> Option<StackIndex> {
        self.stack().map(|stack| stack.known.index)
    }
}

impl ServiceNow<'_> {
    /// Those that keep the UDP flows that they have: an application listens there as far as is known, sorted by number. A lost
    /// session says nothing of the host's servers.
    fn serving(&self) -> Vec<StackIndex> {
        let all = self.targets.iter().chain(self.policies.iter().flat_map(|(_, targets)| targets));
        let serving: BTreeSet<_> = all
            .filter(|target| match target.state {
                TargetState::NeverSeen
                | TargetState::AddressConflict
                | TargetState::Unreachable
                | TargetState::NotListening => false,
                TargetState::Lost
                | TargetState::NotReported
                | TargetState::TransferOnly
                | TargetState::NoRoutingApplication
                | TargetState::Draining
                | TargetState::WeightZero
                | TargetState::Quiet
                | TargetState::Listening => true,
            })
            .filter_map(|target| target.who.index())
            .collect();
        serving.into_iter().collect()
    }
}

/// Those that may be selected: quiet ones if nobody else is left, for it may be this node that hears nobody.
fn eligible<'t, 'a>(targets: &'t [TargetNow<'a>]) -> impl Iterator<Item = &'t TargetNow<'a>> {
    let heard = targets.iter().any(|target| target.state == TargetState::Listening);
    let state = if heard { TargetState::Listening } else { TargetState::Quiet };
    targets.iter().filter(move |target| target.state == state)
}

/// They, sorted by number.
fn selectable(targets: &[TargetNow<'_>]) -> Vec<WeightedTarget> {
    let mut selectable: Vec<WeightedTarget> = eligible(targets)
        .filter_map(|target| Some(WeightedTarget { stack: target.who.index()?, weight: target.weight }))
        .collect();
    selectable.sort_by_key(|target| target.stack);
    selectable
}

/// Is there a family for the outer header?
fn share_a_family(a: ClusterAddress, b: ClusterAddress) -> bool {
    (a.v4.is_some() && b.v4.is_some()) || (a.v6.is_some() && b.v6.is_some())
}
