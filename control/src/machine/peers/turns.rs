//! From what this stack and its peers claim to what it owns, and what follows when that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ::ownership::etcd::News;
use model::peer::{Accounted, Definitions, ToPeer};
use model::{Dvipa, StackName};

use super::super::definitions::Standing;
use super::super::dirty::Mark;
use super::super::ownership::{self, NOT_OWNED, Turn};
use super::super::pace::Urgency;
use super::super::succession::{self, Claim, Own, Owns};
use super::super::{Action, Note, RoutingStack, SETTLES};
use super::{Peer, ranks, wire};
use crate::config::Moveable;

impl RoutingStack {
    /// Something that decides about ownership has changed.
    pub(in super::super) fn reconsider(&mut self) {
        self.peers.changed = true;
    }

    /// Decides what this stack wants to own, if anything of that has changed, and does what follows from what it gains and loses.
    pub(in super::super) fn succeed(&mut self, now: Instant) {
        self.peers.expire(now);
        for dvipa in self.dvipas.fade(now) {
            self.peers.next.remove(&dvipa);
            self.mark(Mark::Definitions(dvipa), Urgency::Now);
        }
        // What is lost may be wanted again, as by the primary.
        if self.decide(now) {
            self.decide(now);
        }
    }

    /// `true`: something has been gained or lost.
    fn decide(&mut self, now: Instant) -> bool {
        let changed = std::mem::take(&mut self.peers.changed);
        if changed {
            let accounted = self.stacks.accounted();
            self.peers.waiting.clear();
            for (dvipa, rank) in ranks(&self.written) {
                let own = self.own_claim(dvipa, rank, &accounted);
                let claims = self.peers.claims(dvipa);
                let unheard = self.peers.is_one_unheard(rank);
                let wanted = succession::wants(Some(&own), &claims, unheard);
                self.dvipas.want(dvipa, wanted, now);
                if !wanted && succession::wants(Some(&Own { idle: true, ..own }), &claims, unheard) {
                    self.peers.waiting.insert(dvipa);
                }
            }
            self.peers.told.accounted = self.tell_accounted(accounted);
            self.note_contradictions();
        }
        let uncounted = self.peers.take_uncounted(now);
        self.actions.extend(uncounted.into_iter().map(|dvipa| Action::Count { dvipa }));
        let news = self.dvipas.news(now);
        // Most of it renews what is owned.
        let turned = news.iter().any(ownership::is_turn);
        let before = if turned { self.standings() } else { BTreeMap::new() };
        let (turns, says) = self.dvipas.turn(news, now);
        if turned {
            self.turn(&turns, &before, now);
            self.peers.changed = true;
        }
        // After the table in which this node does not own any more what it releases.
        self.actions.extend(says);
        if changed || turned {
            self.tell_definitions();
        }
        turned
    }

    /// How many connections to a DVIPA are known here, as [`Action::Count`] asked.
    pub(in super::super) fn counted(&mut self, dvipa: Dvipa, connections: u64) {
        let idle = &mut self.peers.idle;
        let news = if connections == 0 { idle.insert(dvipa) } else { idle.remove(&dvipa) };
        self.peers.changed |= news;
    }

    /// Something comes from etcd. The peers are told when this node reaches it no more, or again.
    pub(in super::super) fn etcd_says(&mut self, news: News, now: Instant) {
        self.peers.changed |= self.dvipas.told(news, now);
    }

    /// Others are to own what this stack owns or would own: it is about to end, or has no sessions with a majority of the witnesses, or
    /// hears nothing of etcd, and can't own anything.
    fn gives_way(&self) -> bool {
        let witnesses = &self.config.cluster.witnesses;
        let reached = witnesses.iter().filter(|witness| self.stacks.is_up(witness)).count();
        let is_cut_off = self.settles.is_none() && !witnesses.is_empty() && reached <= witnesses.len() / 2;
        self.peers.leaving || is_cut_off || self.dvipas.is_cut_off()
    }

    /// This stack's claim, as it decides by it and as peers are told it.
    fn claim(&self, dvipa: Dvipa, rank: u8) -> Claim {
        let owns = self
            .dvipas
            .owned(dvipa)
            .map(|held| Owns { epoch: held.epoch, by_order: self.peers.by_order.contains(&dvipa) });
        Claim {
            stack: self.config.node.name.clone(),
            rank,
            leaving: self.gives_way(),
            wants: owns.is_none() && self.dvipas.wants(dvipa),
            owns,
            next: self.peers.next.get(&dvipa).cloned(),
        }
    }

    fn own_claim(&self, dvipa: Dvipa, rank: u8, accounted: &BTreeSet<StackName>) -> Own {
        let written = self.written.define_of(dvipa);
        Own {
            claim: self.claim(dvipa, rank),
            moveable: written.map_or(Moveable::Immediate, |define| define.moveable),
            warm: self.peers.is_warm(dvipa, accounted),
            settled: self.settles.is_none(),
            idle: self.peers.idle.contains(&dvipa),
            former: self.dvipas.is_former(dvipa),
            leased: self.config.cluster.decided_by().is_leased(),
        }
    }

    /// What follows from having gained and lost DVIPAs.
    fn turn(&mut self, turns: &[Turn], before: &BTreeMap<Dvipa, Standing>, now: Instant) {
        let mut gained = Vec::new();
        for turn in turns {
            match *turn {
                Turn::Gained(dvipa) => {
                    let from = self.peers.owner(dvipa);
                    let named = |peer: &Peer| {
                        let said = peer.said.get(&dvipa).and_then(|said| said.next.as_ref());
                        said == Some(&self.config.node.name)
                    };
                    if self.peers.alive().any(|(_, peer)| named(peer)) {
                        self.peers.by_order.insert(dvipa);
                    }
                    self.peers.idle.remove(&dvipa);
                    self.take_orders(dvipa, now);
                    let epoch = self.dvipas.owned(dvipa).map(|held| held.epoch).unwrap_or_default();
                    self.stacks.carry(dvipa, epoch);
                    self.ports.gained(dvipa, now + SETTLES);
                    self.actions.push_back(Action::Note(Note::Gained { dvipa, epoch, from }));
                    if self.config.vipadynamic.unheard.contains(&dvipa) {
                        self.actions.push_back(Action::Note(Note::Unheard { dvipa }));
                    }
                    gained.push(dvipa);
                }
                Turn::Lost(dvipa) => {
                    self.peers.by_order.remove(&dvipa);
                    self.leave_orders(dvipa);
                    self.ports.lost(dvipa);
                    self.stacks.carry(dvipa, NOT_OWNED);
                    let to = self.peers.owner(dvipa);
                    self.actions.push_back(Action::Note(Note::Lost { dvipa, to }));
                }
            }
        }
        let definitions = self.config.vipadynamic.clone();
        self.mark_definitions(&definitions, before);
        let owned = |dvipa| self.dvipas.owned(dvipa).is_some();
        self.announcements.retain(owned);
        self.actions.retain(|action| !matches!(action, Action::Announce { dvipa } if !owned(*dvipa)));
        self.announce(gained, now);
        self.own_transfers(now);
    }

    fn tell_accounted(&mut self, accounted: BTreeSet<StackName>) -> Accounted {
        let accounted = Accounted { stacks: accounted.into_iter().collect() };
        if accounted != self.peers.told.accounted {
            self.tell_peers(&ToPeer::Accounted(accounted.clone()));
        }
        accounted
    }

    fn tell_definitions(&mut self) {
        if self.peers.known.is_empty() {
            return;
        }
        let definition =
            |(dvipa, rank): (Dvipa, u8)| wire::definition(&self.written, self.claim(dvipa, rank), dvipa);
        let dvipas = ranks(&self.written).into_iter().map(definition).collect();
        let cluster = &self.config.cluster;
        let definitions = Definitions {
            dvipas,
            leaving: self.gives_way().then_some(true),
            more: None,
            witnesses: Some(cluster.witnesses.iter().cloned().collect()),
            lease_ms: u32::try_from(cluster.lease.as_millis()).ok(),
        };
        if definitions != self.peers.told.definitions {
            for part in wire::parts(&definitions) {
                self.tell_peers(&ToPeer::Definitions(part));
            }
            self.peers.told.definitions = definitions;
        }
    }

    fn note_contradictions(&mut self) {
        let others = self.peers.other_witnesses(&self.config.cluster);
        for (stack, witnesses) in &others {
            if self.other_witnesses.get(stack) != Some(witnesses) {
                let (stack, theirs) = (stack.clone(), witnesses.clone());
                self.actions.push_back(Action::Note(Note::OtherWitnesses { stack, theirs }));
            }
        }
        self.other_witnesses = others;
        let found = self.peers.contradictions(&self.config.node.name, &self.written);
        for (dvipa, contradiction) in &found {
            if self.contradictions.get(dvipa) != Some(contradiction) {
                let (dvipa, rank, stacks) = (*dvipa, contradiction.rank, contradiction.stacks.clone());
                self.actions.push_back(Action::Note(Note::Contradiction { dvipa, rank, stacks }));
            }
        }
        self.contradictions = found;
    }
}
