//! What a new configuration leaves to be computed anew, and what follows when a cluster address changes hands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use model::dpt::Duty;
use model::{Dvipa, Epoch, Service, StackName};

use super::dirty::Mark;
use super::pace::Urgency;
use super::{OrderRefusal, RoutingStack};
use crate::config::{Candidate, Config, Destip, VipaDistribute, VipaDynamic};

/// The epoch in which stacks report on a DVIPA, and what this node's forwarder does for it.
pub(super) type Standing = (Epoch, Duty);

impl RoutingStack {
    pub(super) fn configure(&mut self, mut config: Box<Config>, now: Instant) -> Result<(), OrderRefusal> {
        if config.node != self.config.node {
            return Err(OrderRefusal::OtherNode);
        }
        self.check_lengths(&config.vipadynamic)?;
        let before = self.standings();
        let written = self.with_ranges(&config.vipadynamic);
        self.dvipas.define(&written, now)?;
        self.file = std::mem::take(&mut config.vipadynamic);
        self.written = written;
        self.peers.name(config.routing_stacks.iter().map(|peer| peer.name.clone()), now);
        config.vipadynamic = self.peers.complete(&self.written);
        let former = std::mem::replace(&mut self.config, config);
        self.rights.define(&self.config.vipadynamic);
        self.mark_definitions(&former.vipadynamic, &before);
        self.reconsider();
        self.succeed(now);
        let definitions = &self.config.vipadynamic;
        let covers =
            |service: &Service| definitions.distributes_of(service.dvipa).iter().any(|d| d.covers(*service));
        self.controller.retain(covers);
        Ok(())
    }

    /// The DVIPAs that this stack owns or would take over.
    pub(super) fn standings(&self) -> BTreeMap<Dvipa, Standing> {
        let standing = |held: super::ownership::Held| Some((held.epoch, held.duty()?));
        self.dvipas.iter_warm().filter_map(|(dvipa, held)| Some((dvipa, standing(held)?))).collect()
    }

    /// The DVIPAs that this stack owns.
    pub(super) fn epochs(&self) -> BTreeMap<Dvipa, Epoch> {
        self.dvipas.iter().map(|(dvipa, held)| (dvipa, held.epoch)).collect()
    }

    /// The definitions were these, and these DVIPAs stood like this.
    pub(super) fn mark_definitions(&mut self, former: &VipaDynamic, before: &BTreeMap<Dvipa, Standing>) {
        let (marks, addresses) = marks(former, &self.config.vipadynamic, before, &self.standings());
        marks.into_iter().for_each(|mark| self.mark(mark, Urgency::Now));
        let with_it = addresses.iter().flat_map(|dvipa| self.stacks.roster.with_address(dvipa.address()));
        let with_it: Vec<StackName> = with_it.cloned().collect();
        with_it.iter().for_each(|stack| self.mark_stack(stack, Mark::Stack, Urgency::Now));
        // How stacks are reached may have changed.
        self.mark(Mark::States, Urgency::Now);
    }

    /// Marks what depends on cluster addresses that have changed hands.
    pub(super) fn mark_moved(&mut self) {
        let moved = self.stacks.roster.take_moved();
        if moved.addresses.is_empty() {
            return;
        }
        for stack in moved.stacks.iter().filter_map(|stack| self.stacks.known(stack)) {
            self.dirty.mark(Mark::Stack(stack.index));
        }
        let is_moved = |candidate: &Candidate| matches!(candidate, Candidate::Address(address) if moved.addresses.contains(address));
        let names_one =
            |d: &&VipaDistribute| matches!(&d.destip, Destip::List(list) if list.iter().any(is_moved));
        let naming = self.config.vipadynamic.distributes.iter().filter(names_one);
        let naming: BTreeSet<Dvipa> = naming.map(|d| d.dvipa).collect();
        for dvipa in naming {
            self.dirty.mark(Mark::Dvipa(dvipa));
            self.dirty.mark(Mark::Definitions(dvipa));
        }
    }
}

/// What differs, and the DVIPAs that came or went.
fn marks(
    before: &VipaDynamic,
    after: &VipaDynamic,
    stood: &BTreeMap<Dvipa, Standing>,
    stand: &BTreeMap<Dvipa, Standing>,
) -> (Vec<Mark>, BTreeSet<Dvipa>) {
    let (mut marks, mut came_or_went) = (Vec::new(), BTreeSet::new());
    let refused =
        |of: &VipaDynamic| of.defines.iter().map(|d| (d.dvipa, d.refuse)).collect::<BTreeMap<_, _>>();
    let ranks = |of: &VipaDynamic| of.backups.iter().map(|b| (b.dvipa, b.rank)).collect::<BTreeMap<_, _>>();
    let (refused, ranks) = ([before, after].map(refused), [before, after].map(ranks));
    let same_order = before.backups == after.backups;
    let named = |of: &VipaDynamic| of.distributes.iter().map(|d| d.dvipa).collect::<Vec<_>>();
    let mut all: BTreeSet<Dvipa> = stood.keys().chain(stand.keys()).copied().collect();
    all.extend(ranks.iter().flat_map(BTreeMap::keys).copied());
    all.extend([before, after].into_iter().flat_map(named));
    for dvipa in all {
        let lists = [before, after].map(|of| of.distributes_of(dvipa));
        let standings = [stood, stand].map(|all| all.get(&dvipa));
        if standings[0].is_some() != standings[1].is_some() {
            came_or_went.insert(dvipa);
        }
        let whole = standings[0] != standings[1];
        let differs = |of: &[BTreeMap<Dvipa, _>; 2]| of[0].get(&dvipa) != of[1].get(&dvipa);
        let unheard = [before, after].map(|of| of.unheard.contains(&dvipa));
        let ranked = !same_order && ranks.iter().any(|ranks| ranks.contains_key(&dvipa));
        if whole || ranked || unheard[0] != unheard[1] || differs(&refused) || lists[0] != lists[1] {
            marks.push(Mark::Definitions(dvipa));
        }
        if whole {
            marks.push(Mark::Dvipa(dvipa));
        } else {
            marks.extend(changed(dvipa, lists[0], lists[1]));
        }
    }
    (marks, came_or_went)
}

/// The services of definitions of one DVIPA that are in one list only.
fn changed(dvipa: Dvipa, before: &[VipaDistribute], after: &[VipaDistribute]) -> Vec<Mark> {
    if before == after {
        return Vec::new();
    }
    let gone = before.iter().filter(|d| !after.contains(d));
    let new = after.iter().filter(|d| !before.contains(d));
    let differing: Vec<&VipaDistribute> = gone.chain(new).collect();
    if differing.iter().any(|d| d.ports.is_empty()) {
        return vec![Mark::Dvipa(dvipa)];
    }
    let service = |d: &VipaDistribute, port| Mark::Service(Service { dvipa, port, protocol: d.protocol });
    differing
        .into_iter()
        .flat_map(|d| d.ports.iter().map(|port| service(d, *port)).collect::<Vec<_>>())
        .collect()
}
