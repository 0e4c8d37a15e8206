//! The other routing stacks: which of them live, and what they say of the DVIPAs.
//!
//! | a peer is | start | session up | its definitions | session over | [`UNHEARD`] is over |
//! | --- | --- | --- | --- | --- | --- |
//! | unheard: it may live, and own DVIPAs | unheard | unheard | alive | dead | dead |
//! | alive | – | unheard | alive | dead | – |
//! | dead: what it owned can be taken over | – | unheard | – | – | – |
//!
//! A session is over when the peer says goodbye or was silent for `takeover_after`. That its host still answers means nothing here: a
//! `batond` that has died forwards nothing, whatever its host does, and one that lives is no owner any more once a later epoch is known.

mod orders;
mod turns;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::peer::{Accounted, Definition, Definitions, Orders, ToPeer};
use model::{Dvipa, Epoch, StackName};

use super::rights::Wrong;
use super::succession::{Claim, Owns, PRIMARY};
use super::{Action, Note, Offence, OrderRefusal, Refusal, RoutingStack};
use crate::config::{Cluster, VipaDistribute, VipaDynamic};

/// A peer that was not heard since the start is dead after this time: one that lives is dialled, or dials, more often.
pub(super) const UNHEARD: Duration = Duration::from_secs(4);
/// How often the connections are counted of a DVIPA that is to be taken back when it has none.
const COUNTED: Duration = Duration::from_secs(1);
/// The most DVIPAs of one peer that are kept; further ones are ignored.
const MAX_DEFINITIONS: usize = 8192;

/// What is known of the other routing stacks.
#[derive(Debug, Default)]
pub(super) struct Peers {
    known: BTreeMap<StackName, Peer>,
    /// When those that were never heard are dead.
    unheard_until: Option<Instant>,
    /// An operator has ordered that this stack is to own nothing.
    leaving: bool,
    /// DVIPAs that this stack owns by order, and those that it wants another to own.
    by_order: BTreeSet<Dvipa>,
    next: BTreeMap<Dvipa, StackName>,
    /// Who of the others was heard as the owner in the latest epoch, and in which: its orders hold on where it is owned next.
    last_owners: BTreeMap<Dvipa, (Epoch, StackName)>,
    /// What every peer with a session has been told.
    told: Told,
    /// Something that decides about ownership has changed.
    changed: bool,
    /// DVIPAs without connections that are taken back when idle, and when those that wait for that are counted next.
    idle: BTreeSet<Dvipa>,
    waiting: BTreeSet<Dvipa>,
    counted_at: Option<Instant>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    definitions: Definitions,
    accounted: Accounted,
}

#[derive(Debug, Default)]
struct Peer {
    life: Life,
    session: bool,
    /// As last heard, also from one that is dead: what it distributed is distributed on.
    said: BTreeMap<Dvipa, Definition>,
    leaving: bool,
    /// The parts of its list that have come, until the last one does.
    parts: Vec<Definition>,
    /// Its witnesses, and for how many milliseconds they lease, as last heard.
    witnesses: Option<Witnesses>,
    /// The stacks whose connections it knows; none: it has not said that in this session.
    accounted: Option<BTreeSet<StackName>>,
    orders: Orders,
}

/// Who leases DVIPAs to a routing stack, and for how many milliseconds at a time.
pub(super) type Witnesses = (Vec<StackName>, u32);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
    #[default]
    Unheard,
    Alive,
    Dead,
}

/// Two stacks that define one DVIPA, or back it up with one rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Contradiction {
    pub(super) rank: u8,
    pub(super) stacks: Vec<StackName>,
}

impl Peers {
    /// These are the others; none was heard yet.
    pub(super) fn new(names: impl Iterator<Item = StackName>, now: Instant) -> Self {
        let known: BTreeMap<_, _> = names.map(|name| (name, Peer::default())).collect();
        let unheard_until = (!known.is_empty()).then_some(now + UNHEARD);
        Self { known, unheard_until, changed: true, ..Self::default() }
    }

    /// These are the others from now on. One that is new may live, and is waited for; of one that is gone nothing is known any more.
    pub(super) fn name(&mut self, names: impl Iterator<Item = StackName>, now: Instant) {
        let mut former = std::mem::take(&mut self.known);
        for name in names {
            let peer = former.remove(&name);
            if peer.is_none() {
                self.unheard_until = Some(now + UNHEARD);
            }
            self.known.insert(name, peer.unwrap_or_default());
        }
        let known = &self.known;
        self.next.retain(|_, to| known.contains_key(to));
        self.last_owners.retain(|_, (_, owner)| known.contains_key(owner));
        self.changed = true;
    }

    fn alive(&self) -> impl Iterator<Item = (&StackName, &Peer)> {
        self.known.iter().filter(|(_, peer)| peer.life == Life::Alive)
    }

    /// This one may own no longer what it owned last. Without witnesses two own a DVIPA in one epoch for a moment: then the other one is
    /// its last owner.
    fn yields(&mut self, from: &StackName) {
        let Self { known, last_owners, .. } = self;
        let owned = |peer: &Peer, dvipa: &Dvipa| peer.said.get(dvipa).filter(|s| s.owner).map(|s| s.epoch);
        let yields = |dvipa: &Dvipa| known.get(from).is_some_and(|peer| owned(peer, dvipa).is_none());
        for (dvipa, (epoch, owner)) in last_owners.iter_mut() {
            if *owner == *from && yields(dvipa) {
                let alive = known.iter().filter(|(_, peer)| peer.life == Life::Alive);
                let others = alive.filter_map(|(name, peer)| Some((owned(peer, dvipa)?, name)));
                if let Some((other, name)) = others.max().filter(|(other, _)| *other >= *epoch) {
                    (*epoch, *owner) = (other, name.clone());
                }
            }
        }
    }

    /// The claims to a DVIPA of those that live.
    fn claims(&self, dvipa: Dvipa) -> Vec<Claim> {
        let claim = |(stack, peer): (&StackName, &Peer)| {
            let said = peer.said.get(&dvipa)?;
            let owns = Owns { epoch: said.epoch, by_order: said.by_order == Some(true) };
            Some(Claim {
                stack: stack.clone(),
                rank: said.rank,
                leaving: peer.leaving,
                owns: said.owner.then_some(owns),
                wants: said.wants == Some(true),
                next: said.next.clone(),
            })
        };
        self.alive().filter_map(claim).collect()
    }

    /// Another routing stack may live and own what this one has with this rank, and has not said so. A backup that no other is named to
    /// can't know.
    fn is_one_unheard(&self, rank: u8) -> bool {
        self.known.values().any(|peer| peer.life == Life::Unheard)
            || (self.known.is_empty() && rank != PRIMARY)
    }

    /// The living owner of a DVIPA, by the latest epoch.
    pub(super) fn owner(&self, dvipa: Dvipa) -> Option<StackName> {
        let owner = self.claims(dvipa).into_iter().filter(|claim| claim.owns.is_some());
        owner.max_by_key(|claim| claim.owns.as_ref().map(|owns| owns.epoch)).map(|claim| claim.stack)
    }

    /// What a DVIPA distributes by the word of the peer with the highest rank.
    fn distributes_of(&self, dvipa: Dvipa) -> Vec<VipaDistribute> {
        let said = self.known.values().filter_map(|peer| peer.said.get(&dvipa));
        let said = said.filter(|said| !said.distributes.is_empty()).max_by_key(|said| said.rank);
        said.map(wire::distributes).unwrap_or_default()
    }

    /// Whether one has said what the DVIPA distributes, though it be nothing: its primary, or one that distributes it.
    fn say_what_is_distributed(&self, dvipa: Dvipa) -> bool {
        let mut said = self.known.values().filter_map(|peer| peer.said.get(&dvipa));
        said.any(|said| said.rank == PRIMARY || !said.distributes.is_empty())
    }

    /// The definitions in the file, and for each DVIPA that is backed up without a VIPADISTRIBUTE the primary's.
    pub(super) fn complete(&self, written: &VipaDynamic) -> VipaDynamic {
        let mut all = written.clone();
        for backup in &written.backups {
            if written.distributes_of(backup.dvipa).is_empty() {
                all.distributes.extend(self.distributes_of(backup.dvipa));
                if !self.say_what_is_distributed(backup.dvipa) {
                    all.unheard.insert(backup.dvipa);
                }
            }
        }
        all.distributes.sort_by_key(|d| d.dvipa);
        let said = self.known.values().flat_map(|peer| &peer.said);
        all.elsewhere.extend(said.filter(|(_, said)| wire::is_of_a_range(said)).map(|(dvipa, _)| *dvipa));
        all
    }

    /// Whether a routing stack that lives has a VIPADEFINE for the DVIPA.
    pub(super) fn define(&self, dvipa: Dvipa) -> bool {
        let said = self.alive().filter_map(|(_, peer)| peer.said.get(&dvipa));
        said.into_iter().any(|said| said.rank == PRIMARY && !wire::is_of_a_range(said))
    }

    /// Whether the stacks whose connections the DVIPA's owner knows are known here as well.
    fn is_warm(&self, dvipa: Dvipa, accounted: &BTreeSet<StackName>) -> bool {
        let Some(owner) = self.owner(dvipa).and_then(|owner| self.known.get(&owner)) else { return true };
        owner.accounted.as_ref().is_some_and(|owners| owners.is_subset(accounted))
    }

    /// The statements that can't both be meant, of this stack's and those of the peers that live.
    pub(super) fn contradictions(
        &self,
        own: &StackName,
        definitions: &VipaDynamic,
    ) -> BTreeMap<Dvipa, Contradiction> {
        let mut found = BTreeMap::new();
        for (dvipa, rank) in ranks(definitions) {
            let mut by_rank: BTreeMap<u8, Vec<StackName>> = BTreeMap::from([(rank, vec![own.clone()])]);
            for claim in self.claims(dvipa) {
                by_rank.entry(claim.rank).or_default().push(claim.stack);
            }
            if let Some((rank, mut stacks)) = by_rank.into_iter().rev().find(|(_, stacks)| stacks.len() > 1) {
                stacks.sort();
                found.insert(dvipa, Contradiction { rank, stacks });
            }
        }
        found
    }

    /// The living peers that ask other witnesses than this stack, or for another time: two of them may own one DVIPA.
    pub(super) fn other_witnesses(&self, own: &Cluster) -> BTreeMap<StackName, Witnesses> {
        let is_other = |(names, lease_ms): &Witnesses| {
            let same_lease = names.is_empty() || u128::from(*lease_ms) == own.lease.as_millis();
            !(names.iter().eq(&own.witnesses) && same_lease)
        };
        let said = self.alive().filter_map(|(stack, peer)| Some((stack, peer.witnesses.as_ref()?)));
        said.filter(|(_, said)| is_other(said)).map(|(stack, said)| (stack.clone(), said.clone())).collect()
    }

    /// Whether this stack is to own nothing.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// When something is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let counts = self.counted_at.map(|at| at + COUNTED).filter(|_| !self.waiting.is_empty());
        self.unheard_until.into_iter().chain(counts).min()
    }

    /// The DVIPAs whose connections are to be counted now.
    fn take_uncounted(&mut self, now: Instant) -> Vec<Dvipa> {
        if self.waiting.is_empty() || self.counted_at.is_some_and(|at| at + COUNTED > now) {
            return Vec::new();
        }
        self.counted_at = Some(now);
        self.waiting.iter().copied().collect()
    }

    fn expire(&mut self, now: Instant) {
        if self.unheard_until.take_if(|until| *until <= now).is_some() {
            for peer in self.known.values_mut().filter(|peer| peer.life == Life::Unheard && !peer.session) {
                peer.life = Life::Dead;
            }
            self.changed = true;
        }
    }
}

/// What is defined and backed up, with the ranks.
fn ranks(definitions: &VipaDynamic) -> BTreeMap<Dvipa, u8> {
    let primary = definitions.defines.iter().map(|define| (define.dvipa, PRIMARY));
    primary.chain(definitions.backups.iter().map(|backup| (backup.dvipa, backup.rank.get()))).collect()
}

impl RoutingStack {
    /// A session with another routing stack begins.
    pub(super) fn peer_up(&mut self, stack: &StackName, now: Instant) -> Result<(), Refusal> {
        let Some(peer) = self.peers.known.get_mut(stack) else {
            return Err(Offence::UnknownRoutingStack.by(stack));
        };
        (peer.life, peer.session, peer.accounted) = (Life::Unheard, true, None);
        peer.parts.clear();
        self.peers.changed = true;
        self.ranges.reconsider();
        let Told { definitions, accounted } = &self.peers.told;
        let mut messages: Vec<ToPeer> =
            wire::parts(definitions).into_iter().map(ToPeer::Definitions).collect();
        messages.push(ToPeer::Accounted(accounted.clone()));
        messages.push(ToPeer::Orders(self.orders_for_peers(now)));
        let told = messages.into_iter().map(|message| Action::Tell { to: stack.clone(), message });
        self.actions.extend(told);
        Ok(())
    }

    /// It is over: the peer has said goodbye, or was silent for too long.
    pub(super) fn peer_down(&mut self, stack: &StackName) {
        if let Some(peer) = self.peers.known.get_mut(stack).filter(|peer| peer.session) {
            (peer.life, peer.session) = (Life::Dead, false);
            // It is not to own anything when it comes back one day, and in its place others may.
            self.peers.next.retain(|_, to| to != stack);
            self.peers.changed = true;
            self.ranges.reconsider();
            self.actions.push_back(Action::Note(Note::PeerDead { stack: stack.clone() }));
        }
        self.actions.retain(|action| !matches!(action, Action::Tell { to, .. } if to == stack));
    }

    /// What another routing stack says.
    pub(super) fn peer_says(&mut self, from: &StackName, message: ToPeer) -> Result<(), Refusal> {
        let Some(peer) = self.peers.known.get_mut(from).filter(|peer| peer.session) else {
            return Err(Offence::UnknownRoutingStack.by(from));
        };
        let mut incredible = None;
        match message {
            ToPeer::Definitions(said) => {
                let room = MAX_DEFINITIONS.saturating_sub(peer.parts.len());
                peer.parts.extend(said.dvipas.into_iter().take(room));
                if said.more == Some(true) {
                    return Ok(());
                }
                let said_of = std::mem::take(&mut peer.parts).into_iter();
                peer.said = said_of.map(|said| (Dvipa::new(said.address.0), said)).collect();
                (peer.life, peer.leaving) = (Life::Alive, said.leaving == Some(true));
                peer.witnesses = said.witnesses.map(|names| (names, said.lease_ms.unwrap_or_default()));
                // What is owned in an epoch that can't be meant would be owned for ever.
                peer.said.retain(|dvipa, said| {
                    let credible = self.dvipas.is_credible(said.epoch);
                    if !credible {
                        incredible = Some(Wrong::EpochTooHigh(*dvipa, said.epoch));
                    }
                    credible
                });
                for (dvipa, said) in &peer.said {
                    self.dvipas.saw(*dvipa, said.epoch);
                    if said.owner {
                        let is_later =
                            self.peers.last_owners.get(dvipa).is_none_or(|(last, _)| said.epoch >= *last);
                        if is_later {
                            self.peers.last_owners.insert(*dvipa, (said.epoch, from.clone()));
                        }
                        if self.dvipas.owned(*dvipa).is_none() {
                            self.peers.next.remove(dvipa);
                        }
                    }
                }
                self.peers.yields(from);
                self.ranges.reconsider();
                self.redefine();
            }
            ToPeer::Accounted(said) => peer.accounted = Some(said.stacks.into_iter().collect()),
            ToPeer::Orders(orders) => peer.orders = orders,
        }
        self.peers.changed = true;
        match incredible {
            Some(wrong) => Err(Offence::Wrong { message: "Definitions", wrong }.by(from)),
            None => Ok(()),
        }
    }

    /// Whether each written definition fits a message, if there is a peer that is told it.
    pub(super) fn check_lengths(&self, written: &VipaDynamic) -> Result<(), OrderRefusal> {
        if self.peers.known.is_empty() {
            return Ok(());
        }
        let claim = |rank| Claim {
            stack: self.config.node.name.clone(),
            rank,
            leaving: false,
            owns: None,
            wants: false,
            next: None,
        };
        let sizes = ranks(written)
            .into_iter()
            .map(|(dvipa, rank)| (dvipa, wire::size(&wire::definition(written, claim(rank), dvipa))));
        match sizes.into_iter().find(|(_, bytes)| *bytes > wire::MAX_DEFINITION) {
            Some((dvipa, bytes)) => {
                Err(OrderRefusal::DefinitionTooLong { dvipa, bytes, most: wire::MAX_DEFINITION })
            }
            None => Ok(()),
        }
    }

    /// An operator wants another stack to own a DVIPA of this one.
    pub(super) fn move_dvipa(&mut self, dvipa: Dvipa, to: StackName) -> Result<(), OrderRefusal> {
        if self.dvipas.owned(dvipa).is_none() {
            return Err(OrderRefusal::NotOwned { dvipa, owner: self.peers.owner(dvipa) });
        }
        if to == self.config.node.name {
            self.peers.next.remove(&dvipa);
            self.peers.by_order.insert(dvipa);
        } else if self.peers.claims(dvipa).iter().any(|claim| claim.stack == to && !claim.leaving) {
            self.peers.next.insert(dvipa, to);
        } else {
            return Err(OrderRefusal::NotABackup { dvipa, stack: to });
        }
        self.peers.changed = true;
        Ok(())
    }

    /// An operator wants this stack to own nothing, because it is to end; or takes that back.
    pub(super) fn leave(&mut self, leaving: bool) {
        self.peers.leaving = leaving;
        self.peers.changed = true;
    }

    /// The written definitions, completed by what peers have said, are in force from now on.
    pub(super) fn redefine(&mut self) {
        let complete = self.peers.complete(&self.written);
        if complete != self.config.vipadynamic {
            let before = self.standings();
            let former = std::mem::replace(&mut self.config.vipadynamic, complete);
            self.rights.define(&self.config.vipadynamic);
            self.dvipas.set_forwards(&self.config.vipadynamic);
            self.mark_definitions(&former, &before);
        }
    }

    pub(super) fn tell_peers(&mut self, message: &ToPeer) {
        let to = self.peers.known.iter().filter(|(_, peer)| peer.session).map(|(stack, _)| stack.clone());
        let told = to.map(|to| Action::Tell { to, message: message.clone() });
        self.actions.extend(told);
    }
}
