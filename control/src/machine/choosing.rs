//! Which target a connection goes to when its application leaves that to the cluster (row C16).
//!
//! A choice is a selection: by the method of the connection's service, by its policies, weights and drains. So what is chosen from
//! is a row as the DPT has them, with the candidates that have an application of the wanted jobs in place of those that listen;
//! the forwarder picks from it as a worker does for a SYN.
//!
//! | event | what happens |
//! | --- | --- |
//! | Choose | the row is looked up or made, and the forwarder asked ([`Action::Choose`]) |
//! | Choose or View of another epoch, or of one that may not ask | the stack that asked is told why it is not followed |
//! | [`super::Event::Chosen`] | the stack that asked is told the target, or that there is none |
//! | what marks a service or stack ([`super::dirty`]), a weight by load | the rows of these services are made again when they are needed |

use std::collections::BTreeMap;

use model::codec::WireConnection;
use model::control_socket::{JobName, MAX_CHOICE, Target, TargetState as Shown, TargetView, WeightFrom};
use model::dpt::{Distribution, Policy, Refuse, Shared, WeightedTarget};
use model::message::{Choose, Chosen, FromStack, Question, ToStack, View, Views};
use model::transfer::{Reason, Why};
use model::{Connection, Epoch, Protocol, Service, StackIndex, StackName};
use transfer::Routing;

use super::dirty::Dirty;
use super::picture::{Picture, Source, TargetNow, lists_of};
use super::stacks::StackNow;
use super::view::{Selection, TargetState};
use super::{Action, Refusal, RoutingStack};
use crate::config::Weights;

/// The most rows that are kept; beyond it they are made again when they are needed.
const MAX_ROWS: usize = 256;

/// What a choice is made from: the targets of a service for the connections of one stack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Among {
    service: Service,
    /// Nothing is transferred from a stack to itself.
    source: StackName,
    /// None: all.
    jobs: Vec<JobName>,
    besides: Vec<Target>,
}

impl Among {
    /// The same with nothing left out: they share a rotation.
    pub fn with_all(&self) -> Self {
        Self { besides: Vec::new(), ..self.clone() }
    }

    fn admits(&self, stack: &StackName, job: &JobName) -> bool {
        let is_left_out = || self.besides.iter().any(|target| target.stack == *stack && target.job == *job);
        (self.jobs.is_empty() || self.jobs.contains(job)) && !is_left_out()
    }
}

/// What the forwarder is asked, and what belongs to its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToChoose {
    /// From which row: the forwarder keeps what it makes of it.
    pub among: Among,
    /// For which connection.
    pub connection: Connection,
    epoch: Epoch,
    question: Question,
}

/// What a refusal of a question names.
#[derive(Debug)]
pub(super) enum Asked {
    /// A choice.
    Choose { connection: WireConnection, epoch: Epoch, question: Question },
    /// How targets are.
    View(View),
}

impl Asked {
    /// The question in a message, if it is one.
    pub(super) fn of(message: &FromStack) -> Option<Self> {
        match message {
            FromStack::Choose(m) => {
                Some(Asked::Choose { connection: m.connection, epoch: m.epoch, question: m.question })
            }
            FromStack::View(view) => Some(Asked::View(view.clone())),
            _ => None,
        }
    }
}

/// The rows that choices were made from.
#[derive(Debug, Default)]
pub(super) struct Choosing(BTreeMap<Among, Shared<Distribution>>);

impl Choosing {
    /// Forgets rows that are others now.
    pub(super) fn forget(&mut self, dirty: &Dirty, goes_by_load: impl Fn(Service) -> bool) {
        let changes = changes(dirty, goes_by_load);
        self.0.retain(|among, _| !changes(among.service));
    }
}

/// Which services have other rows, or may have.
fn changes(dirty: &Dirty, goes_by_load: impl Fn(Service) -> bool) -> impl Fn(Service) -> bool {
    let (concern, loads) = (dirty.concerns(), !dirty.loads.is_empty());
    move |service| concern.covers(service) || (loads && goes_by_load(service))
}

impl Picture<'_> {
    /// Some of the service's weights are loads.
    pub(super) fn goes_by_load(&self, service: Service) -> bool {
        let distribution = self.distribution_of(service);
        distribution.is_some_and(|d| lists_of(d).any(|(_, weights)| *weights == Weights::Load))
    }

    /// The row of a choice; `None`: the service is not distributed.
    fn row(&self, among: &Among, transfers: &Routing) -> Option<Distribution> {
        let now = self.service(among.service)?;
        let panic_percent = now.distribution.rules.panic_percent;
        let list = |targets: &[TargetNow<'_>]| self.chosen_from(targets, (among, panic_percent), transfers);
        Some(Distribution {
            dvipa: now.dvipa,
            port: among.service.port,
            protocol: among.service.protocol,
            method: now.distribution.method,
            targets: list(&now.targets),
            serving: Vec::new(),
            policies: now
                .policies
                .iter()
                .map(|(client, targets)| Policy { client: *client, targets: list(targets) })
                .collect(),
            refuse: Refuse::default(),
            max_connections: None,
            affinity: None,
            limits: model::Limits::NONE,
            routing: None,
            quic: Shared::default(),
        })
    }

    fn chosen_from(
        &self,
        targets: &[TargetNow<'_>],
        (among, panic_percent): (&Among, u8),
        transfers: &Routing,
    ) -> Vec<WeightedTarget> {
        let candidate = |target: &TargetNow<'_>| {
            let stack = target.who.stack().filter(|stack| *stack.name != among.source)?;
            self.job_of(among, stack, transfers)?;
            let state = self.share(among.service, stack, target.weight);
            Some((state, WeightedTarget { stack: stack.known.index, weight: target.weight }))
        };
        let candidates: Vec<_> = targets.iter().filter_map(candidate).collect();
        let selection = Selection::new(candidates.iter().map(|(state, _)| *state), panic_percent);
        let those = candidates.into_iter().filter(|(state, _)| selection.takes(*state));
        let mut those: Vec<WeightedTarget> = those.map(|(_, target)| target).collect();
        those.sort_unstable_by_key(|target| target.stack);
        those
    }

    /// The application of a stack that a choice may name: of several the first by name.
    fn job_of(&self, among: &Among, stack: StackNow<'_>, transfers: &Routing) -> Option<JobName> {
        let jobs = self.reachable_jobs(among.service, stack, transfers);
        jobs.into_iter().find(|job| among.admits(stack.name, job))
    }

    /// How the targets of a service are, sorted by name.
    fn views(&self, service: Service, transfers: &Routing) -> Vec<TargetView> {
        let targets = self.service(service).map(|now| now.targets).unwrap_or_default();
        let views = targets.iter().filter_map(|target| Some((target, target.who.stack()?)));
        let views = views.flat_map(|(target, stack)| {
            let view = move |job| TargetView {
                target: Target { stack: stack.name.clone(), job },
                state: shown(self.share(service, stack, target.weight)),
                weight: target.weight,
                weight_from: match target.source {
                    Source::Equal => WeightFrom::Equal,
                    Source::Configured => WeightFrom::Configured,
                    Source::Load => WeightFrom::Load,
                    Source::Controller { .. } => WeightFrom::Controller,
                },
                connections: stack.known.connections,
                load: stack.said.and_then(|said| said.load()).map(|load| load.last().clone()),
                holds_accepts: self.holds_accepts(service, stack),
            };
            self.reachable_jobs(service, stack, transfers).into_iter().map(view)
        });
        let mut views: Vec<TargetView> = views.collect();
        views.sort_by(|one, other| one.target.cmp(&other.target));
        views
    }
}

/// The state of a target that could be chosen as an application sees it.
fn shown(state: TargetState) -> Shown {
    match state {
        TargetState::Draining => Shown::Draining,
        TargetState::WeightZero => Shown::WeightZero,
        TargetState::Failing => Shown::Failing,
        TargetState::Stalled => Shown::Stalled,
        TargetState::Quiet => Shown::Quiet,
        TargetState::NeverSeen
        | TargetState::Lost
        | TargetState::AddressConflict
        | TargetState::Unreachable
        | TargetState::NotReported
        | TargetState::NotListening
        | TargetState::TransferOnly
        | TargetState::NoRoutingApplication
        | TargetState::Full
        | TargetState::Listening => Shown::Ready,
    }
}

impl RoutingStack {
    /// An application of a stack wants a target for a connection.
    pub(super) fn choose(&mut self, from: &StackName, choose: Choose) -> Result<(), Refusal> {
        let Choose { connection: WireConnection(connection), epoch, question, mut jobs, mut besides } =
            choose;
        let service = connection.service();
        self.present(from, model::codec::Address(service.dvipa.address()), epoch)?;
        jobs.truncate(MAX_CHOICE);
        jobs.sort();
        jobs.dedup();
        besides.truncate(MAX_CHOICE);
        besides.sort();
        let among = Among { service, source: from.clone(), jobs, besides };
        let wanted = ToChoose { among, connection, epoch, question };
        match self.row_of(&wanted.among) {
            Some(row) => self.actions.push_back(Action::Choose { wanted, row }),
            None => self.chosen(wanted, None),
        }
        Ok(())
    }

    fn row_of(&mut self, among: &Among) -> Option<Shared<Distribution>> {
        let changes = changes(&self.dirty, |service| self.picture().goes_by_load(service))(among.service);
        if let Some(row) = self.choosing.0.get(among).filter(|_| !changes) {
            return Some(row.clone());
        }
        let row: Shared<Distribution> = self.picture().row(among, &self.transfers.routing)?.into();
        // What is left out is another set nearly each time, and what changes is forgotten soon.
        if among.besides.is_empty() && !changes {
            if self.choosing.0.len() >= MAX_ROWS {
                self.choosing.0.clear();
            }
            self.choosing.0.insert(among.clone(), row.clone());
        }
        Some(row)
    }

    /// A row that is kept and is not what it would be if it were made now, and that.
    #[cfg(test)]
    pub(super) fn stale_choice(&self) -> Option<(Shared<Distribution>, Option<Distribution>)> {
        let fresh = |among: &Among| self.picture().row(among, &self.transfers.routing);
        let mut rows = self.choosing.0.iter().map(|(among, row)| (row.clone(), fresh(among)));
        rows.find(|(row, fresh)| fresh.as_ref() != Some(&**row))
    }

    /// The forwarder has chosen.
    pub(super) fn chosen(&mut self, wanted: ToChoose, stack: Option<StackIndex>) {
        let ToChoose { among, connection, epoch, question } = wanted;
        let picture = self.picture();
        let stack = stack.and_then(|stack| picture.stacks.at(stack));
        let target = stack.and_then(|stack| {
            let job = picture.job_of(&among, stack, &self.transfers.routing)?;
            Some(Target { stack: stack.name.clone(), job })
        });
        let connection = WireConnection(connection);
        let chosen = Chosen { connection, epoch, question, target, why: None };
        self.actions.push_back(Action::Send { to: among.source, message: ToStack::Chosen(chosen) });
    }

    /// A question is not followed: who asked is told why, and need not wait for an answer.
    pub(super) fn refuse_question(&mut self, to: &StackName, asked: Asked, refusal: &Refusal) {
        let why = Some(Why::new(Reason::NotOurs, &refusal.to_string()));
        let message = match asked {
            Asked::Choose { connection, epoch, question } => {
                ToStack::Chosen(Chosen { connection, epoch, question, target: None, why })
            }
            Asked::View(View { dvipa, epoch, port }) => {
                ToStack::Views(Views { dvipa, epoch, port, views: Vec::new(), why })
            }
        };
        self.actions.push_back(Action::Send { to: to.clone(), message });
    }

    /// An application of a stack wants to know how the targets of a service are.
    pub(super) fn view(&mut self, from: &StackName, view: View) -> Result<(), Refusal> {
        let View { dvipa, epoch, port } = view;
        let (of, _) = self.present(from, dvipa, epoch)?;
        let service = Service { dvipa: of, port, protocol: Protocol::Tcp };
        let views = self.picture().views(service, &self.transfers.routing);
        let views = Views { dvipa, epoch, port, views, why: None };
        self.actions.push_back(Action::Send { to: from.clone(), message: ToStack::Views(views) });
        Ok(())
    }
}
