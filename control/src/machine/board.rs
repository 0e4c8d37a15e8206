//! The DPT as it is kept, service by service: what an event has made [`dirty`](super::dirty) is computed anew, and everything else
//! stays as it is and is shared with the DPTs of before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::dpt::{
    Ask, Distribution, Dpt, DvipaEntry, Method, Policy, Routing, Shared, StackEntry, StackState,
    WeightedTarget,
};
use model::{Dvipa, DvipaIndex, Protocol, Service, StackIndex};

use super::dirty::Dirty;
use super::picture::{Picture, ServiceNow, TargetNow, lists_of};
use super::ramps::{self, STEPS};
use super::stacks::StackNow;
use super::view::{Selection, TargetState};
use crate::config::{TargetRules, VipaDistribute, Weights};

/// The services, in the order of the DPT.
type Key = (DvipaIndex, u16, Protocol);

/// The DPT, kept.
#[derive(Debug, Default)]
pub(super) struct Board {
    rows: BTreeMap<Key, Row>,
    dvipas: BTreeMap<DvipaIndex, Asked>,
    stacks: Shared<Vec<StackEntry>>,
}

/// A service.
#[derive(Debug)]
struct Row {
    service: Service,
    /// Its candidates, those of its policies, in order, and those of its routes; each sorted by number.
    lists: Vec<Vec<Cell>>,
    /// Of each route, its place among the lists of routes; none: the service's own candidates.
    list_of: Vec<Option<usize>>,
    by_load: bool,
    /// Before some targets have a part of their shares.
    method: Method,
    rules: TargetRules,
    /// For how long shares grow.
    slow_start: Option<Duration>,
    /// So many targets are unfit that none is taken for it.
    panics: bool,
    made: Shared<Distribution>,
}

/// A stack among the candidates of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    stack: StackIndex,
    weight: u16,
    state: TargetState,
    listens: bool,
    step: u8,
}

/// A DVIPA, and who may have connections to it, whatever is heard of them.
#[derive(Debug)]
struct Asked {
    members: Vec<StackIndex>,
    made: Shared<DvipaEntry>,
}

/// What an update came to.
#[derive(Debug, Default)]
pub(super) struct Update {
    /// The DPT is another one.
    pub(super) changed: bool,
    /// The services that are others than before.
    pub(super) rows: Vec<Changed>,
    /// The services in which panic begins, or ends.
    pub(super) panics: Vec<(Service, bool)>,
    /// Of targets that were looked at, whose shares grow for so long: how they are.
    pub(super) growing: Vec<(Service, StackIndex, TargetState, Duration)>,
    /// How many services were computed, and how many candidates of them.
    pub(super) services: u64,
    pub(super) targets: u64,
}

/// A service before and after; none: it is not distributed.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) service: Service,
    pub(super) before: Option<Shared<Distribution>>,
    pub(super) after: Option<Shared<Distribution>>,
}

impl Board {
    /// Computes anew what is dirty.
    pub(super) fn update(&mut self, picture: &Picture<'_>, dirty: &Dirty) -> Update {
        let mut update = Update::default();
        if dirty.states || !dirty.stacks.is_empty() || !dirty.definitions.is_empty() {
            update.changed |= self.look_at_stacks(picture);
            update.changed |= self.look_at_dvipas(picture, &dirty.definitions, &dirty.stacks);
        }
        let mut whole = dirty.services.clone();
        for dvipa in &dirty.dvipas {
            whole.extend(self.rows_of(picture, *dvipa).map(|(_, row)| row.service));
            whole.extend(picture.service_names(*dvipa));
        }
        let mut touched = BTreeSet::new();
        self.look_at_targets(picture, dirty, &mut whole, &mut touched, &mut update);
        for service in whole {
            self.make(picture, service, &mut update);
        }
        for key in touched {
            self.write(picture, key, &mut update);
        }
        update.changed |= !update.rows.is_empty();
        update
    }

    /// The DPT as it is now.
    pub(super) fn dpt(&self, generation: u64) -> Dpt {
        Dpt {
            generation,
            dvipas: self.dvipas.values().map(|asked| asked.made.clone()).collect(),
            stacks: self.stacks.clone(),
            distributions: self.rows.values().map(|row| row.made.clone()).collect(),
        }
    }

    fn look_at_stacks(&mut self, picture: &Picture<'_>) -> bool {
        let entry = |stack: StackNow<'_>| StackEntry {
            index: stack.known.index,
            name: stack.name.clone(),
            reach: picture.reach(stack),
            state: picture.stack_state(stack),
        };
        let stacks: Vec<StackEntry> = picture.stacks.by_index().map(entry).collect();
        let changed = *self.stacks != stacks;
        if changed {
            self.stacks = stacks.into();
        }
        changed
    }

    /// Who is asked, of these DVIPAs as their definitions are now, of the others as the stacks are now.
    fn look_at_dvipas(
        &mut self,
        picture: &Picture<'_>,
        definitions: &BTreeSet<Dvipa>,
        stacks: &BTreeSet<StackIndex>,
    ) -> bool {
        let mut changed = false;
        for dvipa in definitions {
            if let Some((held, duty)) = picture.dvipas.warm(*dvipa).and_then(|h| Some((h, h.duty()?))) {
                let asked = self.dvipas.entry(held.index).or_insert_with(|| {
                    changed = true;
                    Asked { members: Vec::new(), made: DvipaEntry::new(held.index, *dvipa).into() }
                });
                let members = picture.stacks.by_index().filter(|stack| picture.may_have(*dvipa, *stack));
                asked.members = members.map(|stack| stack.known.index).collect();
                let refuse = picture.refuse(*dvipa);
                if (asked.made.refuse, asked.made.duty) != (refuse, duty) {
                    (asked.made.refuse, asked.made.duty) = (refuse, duty);
                    changed = true;
                }
            } else if let Some(held) = picture.dvipas.held(*dvipa) {
                changed |= self.dvipas.remove(&held.index).is_some();
            }
        }
        let mut all: Vec<Option<(bool, bool)>> = Vec::new();
        for stack in picture.stacks.by_index() {
            let lives = picture.stack_state(stack) != StackState::Dead;
            let answers = stack.said.is_some_and(|said| said.accounted);
            all.resize(usize::from(stack.known.index.0), None);
            all.push(Some((lives, answers)));
        }
        for asked in self.dvipas.values_mut() {
            let dvipa = asked.made.dvipa;
            for index in stacks {
                let stack = picture.stacks.at(*index);
                match (asked.members.binary_search(index), stack) {
                    (Ok(at), None) => drop(asked.members.remove(at)),
                    (Err(at), Some(stack)) if picture.may_have(dvipa, stack) => {
                        asked.members.insert(at, *index)
                    }
                    _ => {}
                }
            }
            let now = |index: &StackIndex| all.get(usize::from(index.0)).copied().flatten();
            let of_it = || asked.members.iter().filter_map(|index| Some((*index, now(index)?)));
            let living = || of_it().filter(|(_, (lives, _))| *lives);
            let certain =
                picture.settled && !picture.is_unheard(dvipa) && living().all(|(_, (_, answers))| answers);
            let same = asked.made.ask.certain == certain
                && living().map(|(index, _)| index).eq(asked.made.ask.candidates.iter().copied());
            if !same {
                let candidates = living().map(|(index, _)| index).collect();
                asked.made.ask = Ask { candidates, certain };
                changed = true;
            }
        }
        changed
    }

    fn rows_of(&self, picture: &Picture<'_>, dvipa: Dvipa) -> impl Iterator<Item = (&Key, &Row)> {
        let index = picture.dvipas.held(dvipa).map(|held| held.index);
        index.into_iter().flat_map(move |index| {
            self.rows.range((index, 0, Protocol::Tcp)..=(index, u16::MAX, Protocol::Udp))
        })
    }

    /// Looks at single stacks; services that have to be computed as a whole for one go to `whole`, those that it has changed to
    /// `touched`.
    fn look_at_targets(
        &mut self,
        picture: &Picture<'_>,
        dirty: &Dirty,
        whole: &mut BTreeSet<Service>,
        touched: &mut BTreeSet<Key>,
        update: &mut Update,
    ) {
        let now = |index: &StackIndex| picture.stacks.at(*index);
        for index in dirty.stacks.iter().filter(|index| now(index).is_none()) {
            let without = self.rows.iter_mut().filter_map(|(key, row)| row.forget(*index).then_some(*key));
            touched.extend(without);
        }
        let mut look = |key: &Key, row: &mut Row, stacks: &[StackNow<'_>], whole: &BTreeSet<Service>| {
            if whole.contains(&row.service) {
                return;
            }
            let Some(distribution) = picture.distribution_of(row.service) else { return };
            for stack in stacks {
                update.targets += row.lists.len() as u64;
                if row.look_at(picture, distribution, *stack) {
                    touched.insert(*key);
                    update.growing.extend(row.growing(Some(stack.known.index)));
                }
            }
        };
        let stacks: Vec<StackNow<'_>> = dirty.stacks.iter().filter_map(now).collect();
        let loads: Vec<StackNow<'_>> = dirty.loads.iter().filter_map(now).collect();
        if !stacks.is_empty() || !loads.is_empty() {
            for (key, row) in &mut self.rows {
                look(key, row, &stacks, &*whole);
                if row.by_load {
                    look(key, row, &loads, &*whole);
                }
            }
        }
        for (dvipa, stack) in &dirty.parts {
            let (Some(held), Some(stack)) = (picture.dvipas.held(*dvipa), now(stack)) else { continue };
            let listens = stack.said.into_iter().flat_map(|said| said.services_of(*dvipa));
            let is_new = |s: &Service| !self.rows.contains_key(&(held.index, s.port, s.protocol));
            whole.extend(listens.filter(is_new));
            let range = (held.index, 0, Protocol::Tcp)..=(held.index, u16::MAX, Protocol::Udp);
            self.rows.range_mut(range).for_each(|(key, row)| look(key, row, &[stack], &*whole));
        }
        for (service, stack) in &dirty.cells {
            let (Some(held), Some(stack)) = (picture.dvipas.held(service.dvipa), now(stack)) else {
                continue;
            };
            let key = (held.index, service.port, service.protocol);
            match self.rows.get_mut(&key) {
                Some(row) => look(&key, row, &[stack], &*whole),
                None => {
                    whole.insert(*service);
                }
            }
        }
    }

    /// Computes a service from the beginning.
    fn make(&mut self, picture: &Picture<'_>, service: Service, update: &mut Update) {
        let Some(held) = picture.dvipas.held(service.dvipa) else { return };
        let key = (held.index, service.port, service.protocol);
        let former = self.rows.remove(&key);
        let (panicked, before) = former.map_or((false, None), |row| (row.panics, Some(row.made)));
        let row = picture.service(service).map(|now| Row::new(&now, before.as_ref()));
        update.note_panic(service, panicked, row.as_ref().is_some_and(|row| row.panics));
        update.growing.extend(row.iter().flat_map(|row| row.growing(None)));
        update.services += 1;
        update.targets += row.iter().flat_map(|row| &row.lists).map(|list| list.len() as u64).sum::<u64>();
        let after = row.as_ref().map(|row| row.made.clone());
        if let Some(row) = row {
            self.rows.insert(key, row);
        }
        update.note(service, before, after);
    }

    /// Writes a service down again whose targets have changed.
    fn write(&mut self, picture: &Picture<'_>, key: Key, update: &mut Update) {
        let Some(row) = self.rows.get_mut(&key) else { return };
        let (service, before) = (row.service, row.made.clone());
        update.services += 1;
        let enumerated = picture.distribution_of(service).is_some_and(|d| !d.ports.is_empty());
        if enumerated || row.lists.first().is_some_and(|list| list.iter().any(|cell| cell.listens)) {
            let (written, panics) = row.written(&before);
            update.note_panic(service, std::mem::replace(&mut row.panics, panics), panics);
            if written != *before {
                row.made = written.into();
                let after = row.made.clone();
                update.note(service, Some(before), Some(after));
            }
        } else {
            update.note_panic(service, row.panics, false);
            self.rows.remove(&key);
            update.note(service, Some(before), None);
        }
    }

    /// Whether the stack is a candidate of the service, whose DVIPA has this number.
    pub(super) fn has(&self, dvipa: DvipaIndex, service: Service, stack: StackIndex) -> bool {
        let row = self.rows.get(&(dvipa, service.port, service.protocol));
        row.is_some_and(|row| row.lists.iter().flatten().any(|cell| cell.stack == stack))
    }

    /// The services in which targets fail or are stalled: those targets with their states, and whether all are selected nevertheless.
    pub(super) fn unfit(&self) -> impl Iterator<Item = (Service, Vec<(StackIndex, TargetState)>, bool)> {
        self.rows.values().filter_map(|row| {
            let unfit = row.lists.first()?.iter().filter(|cell| cell.state.is_unfit());
            let unfit: Vec<_> = unfit.map(|cell| (cell.stack, cell.state)).collect();
            (!unfit.is_empty()).then_some((row.service, unfit, row.panics))
        })
    }
}

impl Update {
    /// What was computed after it belongs to the same change.
    pub(super) fn append(&mut self, then: Self) {
        self.changed |= then.changed;
        self.rows.extend(then.rows);
        self.panics.extend(then.panics);
        self.services += then.services;
        self.targets += then.targets;
    }

    fn note_panic(&mut self, service: Service, before: bool, after: bool) {
        if before != after {
            self.panics.push((service, after));
        }
    }

    fn note(
        &mut self,
        service: Service,
        before: Option<Shared<Distribution>>,
        after: Option<Shared<Distribution>>,
    ) {
        if before != after {
            self.rows.push(Changed { service, before, after });
        }
    }
}

impl Row {
    /// The service as it is; where nothing is new, what was written down before stays.
    fn new(now: &ServiceNow<'_>, before: Option<&Shared<Distribution>>) -> Self {
        let policies = now.policies.iter().map(|(client, _)| Policy { client: *client, targets: Vec::new() });
        let blank = Distribution {
            dvipa: now.dvipa,
            port: now.service.port,
            protocol: now.service.protocol,
            method: now.distribution.method,
            targets: Vec::new(),
            serving: Vec::new(),
            policies: policies.collect(),
            refuse: now.distribution.refuse,
            max_connections: now.distribution.rules.max_connections,
            affinity: now.distribution.rules.affinity,
            limits: now.distribution.limits,
            routing: now
                .distribution
                .routing
                .as_ref()
                .map(|r| Routing { set: r.set.clone(), targets: Vec::new() }),
            quic: now.distribution.quic.clone(),
        };
        let cells = |targets: &[TargetNow<'_>]| {
            let mut cells: Vec<Cell> = targets.iter().filter_map(|t| Cell::new(t, now.service)).collect();
            cells.sort_unstable_by_key(|cell| cell.stack);
            cells
        };
        let policies = now.policies.iter().map(|(_, targets)| targets);
        let others = policies.chain(&now.routed).map(|targets| cells(targets));
        let lists: Vec<Vec<Cell>> = [cells(&now.targets)].into_iter().chain(others).collect();
        let list_of = now.distribution.routing.as_ref().map(|routing| routing.list_of.clone());
        let by_load = lists_of(now.distribution).any(|(_, weights)| *weights == Weights::Load);
        let mut row = Self {
            service: now.service,
            lists,
            list_of: list_of.unwrap_or_default(),
            by_load,
            method: now.distribution.method,
            rules: now.distribution.rules,
            slow_start: now.distribution.slow_start(),
            panics: false,
            made: blank.into(),
        };
        let (written, panics) = row.written(&row.made);
        row.panics = panics;
        row.made = match before {
            Some(before) if **before == written => before.clone(),
            _ => written.into(),
        };
        row
    }

    /// Looks at one stack again; `true`: it is another candidate than before.
    fn look_at(&mut self, picture: &Picture<'_>, distribution: &VipaDistribute, stack: StackNow<'_>) -> bool {
        let mut changed = false;
        for (list, (destip, weights)) in self.lists.iter_mut().zip(lists_of(distribution)) {
            let target = picture.target_of(self.service, distribution, (destip, weights), stack);
            let cell = target.and_then(|target| Cell::new(&target, self.service));
            match (list.binary_search_by_key(&stack.known.index, |cell| cell.stack), cell) {
                (Ok(at), Some(cell)) => {
                    if let Some(before) = list.get_mut(at) {
                        changed |= *before != cell;
                        *before = cell;
                    }
                }
                (Ok(at), None) => {
                    list.remove(at);
                    changed = true;
                }
                (Err(at), Some(cell)) => {
                    list.insert(at, cell);
                    changed = true;
                }
                (Err(_), None) => {}
            }
        }
        changed
    }

    /// A stack is forgotten; `true`: it was a candidate.
    fn forget(&mut self, stack: StackIndex) -> bool {
        let mut was = false;
        for list in &mut self.lists {
            if let Ok(at) = list.binary_search_by_key(&stack, |cell| cell.stack) {
                list.remove(at);
                was = true;
            }
        }
        was
    }

    /// As it is for the workers, and whether panic is the reason; what does not follow from the candidates is as it was `before`.
    fn written(&self, before: &Distribution) -> (Distribution, bool) {
        let selections = self
            .lists
            .iter()
            .map(|list| Selection::new(list.iter().map(|cell| cell.state), self.rules.panic_percent));
        let selections: Vec<Selection> = selections.collect();
        let panics = selections.first().is_some_and(|selection| selection.panics);
        let selected = self.lists.iter().zip(&selections).map(|(list, selection)| {
            list.iter().filter(|cell| selection.takes(cell.state)).copied().collect::<Vec<Cell>>()
        });
        let selected: Vec<Vec<Cell>> = selected.collect();
        let lists = selected.iter().zip(&selections);
        let growing =
            lists.map(|(cells, selection)| !selection.panics && cells.iter().any(|cell| cell.step < STEPS));
        let growing: Vec<bool> = growing.collect();
        let grows = growing.contains(&true);
        // Round robin knows no weights; those of routes count with it all the same.
        let (method, equal) = match self.method {
            Method::RoundRobin if grows => (Method::WeightedRoundRobin, true),
            method => (method, false),
        };
        let of_routes = 1 + before.policies.len();
        let mut lists = selected.iter().zip(&growing).enumerate().map(|(at, (cells, list_grows))| {
            let weight = |cell: &Cell| if equal && at < of_routes { cell.weight.min(1) } else { cell.weight };
            let largest = cells.iter().map(weight).max().unwrap_or_default();
            let weighed = |cell: &Cell| WeightedTarget {
                stack: cell.stack,
                weight: match (grows, list_grows) {
                    (true, true) => ramps::part(weight(cell), cell.step, largest),
                    (true, false) => weight(cell),
                    (false, _) => cell.weight,
                },
            };
            cells.iter().map(weighed).collect::<Vec<_>>()
        });
        let targets = lists.next().unwrap_or_default();
        let policies = before.policies.iter().zip(lists.by_ref());
        let policies = policies.map(|(policy, targets)| Policy { client: policy.client, targets }).collect();
        let routing = before.routing.as_ref().map(|routing| {
            let lists: Vec<Vec<WeightedTarget>> = lists.collect();
            let of = |at: &Option<usize>| at.map_or(Some(&targets), |at| lists.get(at)).cloned();
            let targets = self.list_of.iter().map(|at| of(at).unwrap_or_default()).collect();
            Routing { set: routing.set.clone(), targets }
        });
        let serving = self.lists.iter().flatten().filter(|cell| serves(cell.state)).map(|cell| cell.stack);
        let mut serving: Vec<StackIndex> = serving.collect();
        if self.lists.len() > 1 {
            serving.sort_unstable();
            serving.dedup();
        }
        (
            Distribution {
                targets,
                serving,
                policies,
                routing,
                method,
                quic: before.quic.clone(),
                ..*before
            },
            panics,
        )
    }

    /// How its candidates are whose shares grow; `of`: this one only.
    fn growing(
        &self,
        of: Option<StackIndex>,
    ) -> impl Iterator<Item = (Service, StackIndex, TargetState, Duration)> {
        let cells = self.slow_start.and_then(|long| Some((long, self.lists.first()?)));
        cells.into_iter().flat_map(move |(long, cells)| {
            let those = cells.iter().filter(move |cell| of.is_none_or(|of| of == cell.stack));
            those.map(move |cell| (self.service, cell.stack, cell.state, long))
        })
    }
}

impl Cell {
    /// None: it was never here and has no number.
    fn new(target: &TargetNow<'_>, service: Service) -> Option<Self> {
        let stack = target.who.stack()?;
        let listens = stack.said.is_some_and(|said| said.listens(service));
        let (weight, step) = (target.weight, target.step);
        Some(Self { stack: stack.known.index, weight, state: target.state, listens, step })
    }
}

/// Whether it keeps the UDP flows that it has: an application listens there as far as is known. A lost session says nothing of
/// the host's servers.
fn serves(state: TargetState) -> bool {
    match state {
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
        | TargetState::Full
        | TargetState::Failing
        | TargetState::Stalled
        | TargetState::Quiet
        | TargetState::Listening => true,
    }
}
