//! The displays, written down from the picture.

use std::collections::BTreeSet;
use std::time::Instant;

use ipnet::IpNet;
use model::dpt::{Reach, StackState};
use model::quic::ServerId;
use model::{Dvipa, Epoch, Service, StackName};

use super::RoutingStack;
use super::peers::Witnesses;
use super::picture::{Picture, ServiceNow, Source, TargetNow, Who};
use super::ramps::STEPS;
use super::session::Unfit;
use super::view::{
    ActiveState, ActiveView, DistributionView, DptView, DvipaView, FormerView, LeaseView, OtherWitnessesView,
    PolicyView, RangeView, RefusedView, Role, Selection, ServerIdView, ServiceView, SessionState, StackView,
    StatusView, TargetState, TargetView, UnfitView, VipaView, WeightSource,
};
use crate::config::{Candidate, Destip, VipaDistribute, VipaRange, Weights};

impl RoutingStack {
    /// `baton status`
    pub fn status_view(&self) -> StatusView {
        let picture = self.picture();
        let refused = self.refused.iter().map(|((reason, stack), count)| RefusedView {
            reason: *reason,
            stack: stack.clone(),
            count: *count,
        });
        StatusView {
            stack: self.config.node.name.clone(),
            cluster_address: self.config.node.cluster_address,
            version: self.identity.version.clone(),
            incarnation: self.identity.incarnation,
            fabric_mtu: self.config.forwarder.fabric_mtu,
            generation: self.published.generation,
            dvipas_owned: self.dvipas.iter().count(),
            dvipas_backed_up: self.config.vipadynamic.backups.len(),
            services: self.published.distributions.len(),
            stacks: self.stack_views(&picture),
            refused: refused.collect(),
        }
    }

    fn stack_views(&self, picture: &Picture<'_>) -> Vec<StackView> {
        let view = |stack: super::stacks::StackNow<'_>| StackView {
            stack: stack.name.clone(),
            index: stack.known.index,
            cluster_address: stack.known.cluster_address,
            encapsulation: match picture.reach(stack) {
                Reach::Local => None,
                Reach::Remote { encapsulation, .. } => Some(encapsulation),
            },
            session: match stack.said {
                Some(_) if self.stacks.losses.is_quiet(stack.name) => SessionState::Quiet,
                Some(_) => SessionState::Up,
                None if picture.stack_state(stack) == StackState::Dead => SessionState::Dead,
                None => SessionState::Lost,
            },
            version: stack.known.version.clone(),
            fabric_mtu: stack.known.fabric_mtu,
            listens: stack.said.map_or(0, |said| said.listen_count()),
            connections: stack.known.connections,
            load: stack.said.and_then(|said| said.load()).map(|load| load.view()),
            draining: self.drains.any(stack.name),
        };
        self.stacks.iter().map(view).collect()
    }

    /// `baton vipa`
    pub fn vipa_view(&self) -> VipaView {
        let definitions = &self.config.vipadynamic;
        let owned = definitions.defines.iter().map(|define| DvipaView {
            rank: None,
            prefix_bits: Some(define.prefix_bits),
            moveable: Some(define.moveable),
            ..self.dvipa_view(define.dvipa)
        });
        let backed_up = definitions.backups.iter().map(|backup| DvipaView {
            rank: Some(backup.rank.get()),
            prefix_bits: backup.prefix_bits,
            moveable: backup.moveable,
            ..self.dvipa_view(backup.dvipa)
        });
        let mut dvipas: Vec<DvipaView> = owned.chain(backed_up).collect();
        dvipas.sort_by_key(|view| view.dvipa);
        let cluster = &self.config.cluster;
        let lease_ms = u64::try_from(cluster.lease.as_millis()).unwrap_or(u64::MAX);
        let ranges = definitions.ranges.iter().map(|range| self.range_view(range));
        let other = |(stack, (witnesses, lease_ms)): (&StackName, &Witnesses)| OtherWitnessesView {
            stack: stack.clone(),
            witnesses: witnesses.clone(),
            lease_ms: *lease_ms,
        };
        VipaView {
            stack: self.config.node.name.clone(),
            dvipas,
            leaving: self.peers.is_leaving(),
            decided_by: cluster.decided_by(),
            lease_ms: cluster.decided_by().is_leased().then_some(lease_ms),
            shared: !self.config.routing_stacks.is_empty(),
            other_witnesses: self.other_witnesses.iter().map(other).collect(),
            ranges: ranges.collect(),
        }
    }

    fn range_view(&self, range: &VipaRange) -> RangeView {
        let of_it = self.ranges.iter().filter(|(dvipa, _)| range.range.contains(&dvipa.address()));
        let active = of_it.map(|(address, active)| {
            let former = active.connections.iter().filter_map(|(index, connections)| {
                let stack = self.stack_name(*index).filter(|stack| **stack != active.stack)?.clone();
                Some(FormerView { stack, connections: *connections })
            });
            let former: Vec<FormerView> = former.collect();
            let state = if self.file.has_statement(address) || self.peers.define(address) {
                ActiveState::Defined
            } else if active.ends {
                ActiveState::Ending
            } else if former.is_empty() {
                ActiveState::Active
            } else {
                ActiveState::Moving
            };
            ActiveView { address, stack: active.stack.clone(), ordered: active.claim.ordered, state, former }
        });
        let rank = range.rank.map(|rank| rank.get());
        RangeView { range: range.range, moveable: range.moveable, rank, active: active.collect() }
    }

    fn dvipa_view(&self, dvipa: Dvipa) -> DvipaView {
        let owned = self.dvipas.owned(dvipa);
        let distributes = self.config.vipadynamic.distributes.iter().filter(|d| d.dvipa == dvipa);
        DvipaView {
            dvipa,
            index: self.dvipas.held(dvipa).map(|held| held.index),
            role: if owned.is_some() { Role::Owner } else { Role::Backup },
            epoch: owned.map_or(Epoch(0), |held| held.epoch),
            rank: None,
            prefix_bits: None,
            moveable: None,
            owner: match owned {
                Some(_) => Some(self.config.node.name.clone()),
                None => self.peers.owner(dvipa),
            },
            contradiction: self.contradictions.get(&dvipa).map(|c| c.stacks.clone()).unwrap_or_default(),
            lease: self.dvipas.leased(dvipa).map(|leased| LeaseView {
                by: leased.by,
                of: leased.of,
                left_ms: u64::try_from(leased.left.as_millis()).unwrap_or(u64::MAX),
            }),
            distributions: distributes.map(distribution_view).collect(),
        }
    }

    /// `baton dpt`
    pub fn dpt_view(&self, now: Instant) -> DptView {
        let picture = self.picture();
        let services = picture.services().into_iter().map(|service| service_view(&picture, &service, now));
        DptView { generation: self.published.generation, services: services.collect() }
    }

    /// As [`Self::dpt_view`], of so many services that they have `most` targets together, or few more; and how many services are left
    /// out. What it costs is bounded, too.
    pub fn dpt_view_within(&self, most: usize, now: Instant) -> (DptView, usize) {
        let picture = self.picture();
        let (mut services, mut targets, mut left_out) = (Vec::new(), 0_usize, 0);
        for name in self.dvipas.iter_warm().flat_map(|(dvipa, _)| picture.service_names(dvipa)) {
            if targets >= most {
                left_out += 1;
            } else if let Some(service) = picture.service(name) {
                let lists = service.policies.iter().map(|(_, targets)| targets).chain([&service.targets]);
                targets = targets.saturating_add(lists.map(Vec::len).sum());
                services.push(service_view(&picture, &service, now));
            }
        }
        (DptView { generation: self.published.generation, services }, left_out)
    }

    /// The services of whose targets some fail or are stalled.
    pub fn unfit(&self) -> Vec<UnfitView> {
        let named = |(index, state)| Some((self.stack_name(index)?.clone(), state));
        let view = |(service, targets, panics): (Service, Vec<_>, bool)| UnfitView {
            service,
            targets: targets.into_iter().filter_map(named).collect(),
            panics,
        };
        self.board.unfit().map(view).collect()
    }

    /// One service of `baton dpt`, if it is distributed.
    pub fn service_view(&self, service: Service, now: Instant) -> Option<ServiceView> {
        let picture = self.picture();
        picture.service(service).map(|service| service_view(&picture, &service, now))
    }
}

fn service_view<'a>(picture: &Picture<'a>, service: &ServiceNow<'a>, now: Instant) -> ServiceView {
    let views = |targets: &[TargetNow<'a>]| -> Vec<TargetView> {
        targets.iter().map(|target| target_view(picture, service, target, now)).collect()
    };
    let rules = service.distribution.rules;
    let policy = |(client, targets): &(IpNet, Vec<TargetNow<'a>>)| PolicyView {
        client: *client,
        targets: views(targets),
    };
    ServiceView {
        dvipa: service.service.dvipa,
        port: service.service.port,
        protocol: service.service.protocol,
        enumerated: picture.defined(service.service).is_some_and(|d| !d.ports.is_empty()),
        direct: picture.direct_route(service.service).is_some(),
        method: service.distribution.method,
        content_routed: service.distribution.content_routed,
        targets: views(&service.targets),
        policies: service.policies.iter().map(policy).collect(),
        panics: Selection::new(service.targets.iter().map(|target| target.state), rules.panic_percent).panics,
        max_connections: rules.max_connections,
        affinity_s: rules.affinity.map(|affinity| affinity.seconds),
        limits: service.distribution.limits,
    }
}

fn distribution_view(distribution: &VipaDistribute) -> DistributionView {
    DistributionView {
        protocol: distribution.protocol,
        ports: distribution.ports.clone(),
        destip: match &distribution.destip {
            Destip::All => vec!["all".to_owned()],
            Destip::List(list) => {
                list.iter().map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect()
            }
        },
        method: distribution.method,
        weights: match distribution.weights {
            Weights::Equal => "equal",
            Weights::Configured(_) => "configured",
            Weights::Load => "load",
        }
        .to_owned(),
        content_routed: distribution.content_routed,
        policies: distribution.policies.len(),
    }
}

fn target_view<'a>(
    picture: &Picture<'a>,
    service: &ServiceNow<'a>,
    target: &TargetNow<'a>,
    now: Instant,
) -> TargetView {
    let stack = target.who.stack();
    let most = service.distribution.rules.max_connections.map(|most| u64::from(most.get()));
    let is_full = stack.zip(most).is_some_and(|(stack, most)| stack.known.connections >= most);
    let unfit = stack.and_then(|stack| stack.said?.unfit(service.service));
    let name = match target.who {
        Who::Stack(stack) => Some(stack.name),
        Who::NeverSeen(Candidate::Name(name)) => Some(name),
        Who::NeverSeen(Candidate::Address(_)) => None,
    };
    let ids = service.distribution.quic.iter().zip(name.into_iter().cycle()).flat_map(|(quic, name)| {
        let view = |id: ServerId| ServerIdView { rotation: quic.rotation, id: id.to_string() };
        quiclb::server_ids(quic, name).map(view)
    });
    TargetView {
        target: match target.who {
            Who::Stack(stack) => stack.name.to_string(),
            Who::NeverSeen(candidate) => candidate.to_string(),
        },
        index: target.who.index(),
        // The workers count by themselves, so that nothing depends on what was counted a second ago.
        state: if is_full && target.state.serves_all() { TargetState::Full } else { target.state },
        weight: target.weight,
        weight_source: match target.source {
            Source::Equal => WeightSource::Equal,
            Source::Configured => WeightSource::Configured,
            Source::Load => WeightSource::Load,
            Source::Controller { until } => {
                let left = until.saturating_duration_since(now).as_millis();
                WeightSource::Controller { expires_in_ms: u64::try_from(left).unwrap_or(u64::MAX) }
            }
        },
        connections: stack.map_or(0, |stack| stack.known.connections),
        load: stack.and_then(|stack| stack.said?.load()).map(|load| load.view()),
        applications: stack.map(|stack| picture.registered_jobs(service.service, stack)).unwrap_or_default(),
        why: match unfit {
            Some(Unfit::Failing { why }) => Some(why.clone()),
            Some(Unfit::Stalled) | None => None,
        },
        share_percent: (target.step < STEPS).then(|| target.step * (100 / STEPS)),
        server_ids: ids.collect(),
    }
}
