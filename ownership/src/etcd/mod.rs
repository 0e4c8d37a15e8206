//! A routing node's side where etcd decides: which DVIPAs it owns.
//!
//! Each ownership has a lease of its own. To release a DVIPA is to revoke its lease, which voids whatever is still under way for it: a
//! claim that comes late finds no lease.
//!
//! | a DVIPA is | wanted | not wanted | lease granted | claim granted | claim refused | lease lapses or is gone |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | not wanted | asks for a lease | – | revoked | – | – | – |
//! | without lease | – | not wanted | claimed | – | – | – |
//! | claimed | – | not wanted, revoked | – | owned (Gained) | claimed above the epoch that etcd has; while another owns it, later | without lease |
//! | owned | – | not wanted (Lost), revoked | – | – | – | without lease (Lost) |
//!
//! # Why no two own
//! `owner` is one key, and it is there while its lease is. The node believes in the lease for [less time](crate::lease) than etcd's
//! leader counts, from before it asked. A new leader lets every lease begin anew. But one that was replaced and has not heard of it may
//! answer a renewal that the new one knows nothing of: so a renewal counts only once a read that a majority has confirmed *afterwards* names
//! the *same term*: then there was no later leader when the lease was renewed. A lease in which the node has ceased to believe is revoked, and
//! never believed in again, whatever answer comes.
//!
//! # Why epochs grow
//! A claim writes an epoch above the one that it read, if nobody has written it since.
//!
//! # What a driver has to keep to
//! The contract of [`crate::tenures`], with [`Action::Ask`] for `Send`. Each question is answered, by [`Answer::Failed`] if by nothing else.

mod question;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use model::ownership::Ask;
use model::{Dvipa, Epoch};

pub use question::{Answer, LeaseId, News, Owner, Question, Revision, Term};

use crate::Ownership;
use crate::lease::Lease;
use crate::tenures::{Action, Epochs, MAX_WANTED, WhyLost};

/// More renewals are not waited for at a time.
const MAX_RENEWALS: usize = 8;

/// The DVIPAs that a routing node owns, or wants to own, by leases of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leases {
    lease: Lease,
    /// For how long after asking the node believes in a lease.
    counted: Duration,
    next_ask: Ask,
    epochs: Epochs,
    wanted: BTreeMap<Dvipa, Tenure>,
    pending: BTreeMap<Ask, Pending>,
    /// When the leases are renewed next.
    renews: Option<Instant>,
    /// etcd was asked in vain for a while.
    is_cut_off: bool,
    actions: VecDeque<Action>,
    #[cfg(test)]
    pub(crate) faults: Faults,
}

/// For faults in the simulation.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// A renewal counts in whatever term it is confirmed.
    pub(crate) takes_every_term: bool,
}

/// A DVIPA that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tenure {
    /// It is owned in this epoch, or claimed.
    epoch: Epoch,
    owned: bool,
    /// When etcd's `epoch` of it was changed last, as far as is known.
    after: Revision,
    lease: Option<Held>,
    /// What was asked for it and is not answered.
    asked: Option<Ask>,
    /// When to ask again.
    next: Option<Instant>,
}

/// A lease, and until when this node believes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    id: LeaseId,
    until: Instant,
}

/// What is not answered yet, and when it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pending {
    Grant {
        dvipa: Dvipa,
        at: Instant,
    },
    Claim {
        dvipa: Dvipa,
    },
    Renew {
        at: Instant,
    },
    /// That there was no later leader than this term's when these leases were renewed, which was asked for at this time, and these others
    /// were not there.
    Confirm {
        at: Instant,
        term: Term,
        leases: Vec<LeaseId>,
        gone: Vec<LeaseId>,
    },
    Revoke,
}

impl Leases {
    /// Wants and owns nothing. Every epoch that is given is above this one; `lease` is in whole seconds, the same at all nodes.
    pub fn new(above: Epoch, lease: Duration) -> Self {
        let lease = Lease(lease.clamp(crate::lease::ETCD_MIN, crate::lease::MAX));
        Self {
            lease,
            counted: lease.counted(),
            next_ask: Ask(1),
            epochs: Epochs::new(above),
            wanted: BTreeMap::new(),
            pending: BTreeMap::new(),
            renews: None,
            is_cut_off: false,
            actions: VecDeque::new(),
            #[cfg(test)]
            faults: Faults::default(),
        }
    }

    fn ttl_s(&self) -> u32 {
        u32::try_from(self.lease.0.as_secs()).unwrap_or(u32::MAX)
    }

    fn ask(&mut self, question: Question, pending: Pending) -> Ask {
        let ask = self.next_ask;
        self.next_ask = Ask(ask.0.saturating_add(1));
        self.pending.insert(ask, pending);
        self.actions.push_back(Action::Ask { ask, question });
        ask
    }

    fn revoke(&mut self, lease: LeaseId) {
        self.ask(Question::Revoke { lease }, Pending::Revoke);
    }

    /// Leases in which this node does not believe any more.
    fn settle(&mut self, now: Instant) {
        let is_over = |tenure: &Tenure| tenure.lease.is_some_and(|lease| lease.until <= now);
        let over = self.wanted.iter().filter(|(_, tenure)| is_over(tenure));
        for dvipa in over.map(|(dvipa, _)| *dvipa).collect::<Vec<_>>() {
            self.lapse(dvipa, now);
        }
    }

    /// The lease of this DVIPA is over, or taken for it: it is claimed anew, by another one.
    fn lapse(&mut self, dvipa: Dvipa, now: Instant) {
        let Some(tenure) = self.wanted.get_mut(&dvipa) else { return };
        let (lease, owned) = (tenure.lease.take(), std::mem::take(&mut tenure.owned));
        (tenure.asked, tenure.next) = (None, Some(now));
        tenure.epoch = self.epochs.successor(dvipa);
        if owned {
            self.actions.push_back(Action::Lost { dvipa, why: WhyLost::Lapsed });
        }
        if let Some(lease) = lease {
            self.revoke(lease.id);
        }
    }

    fn lapse_of(&mut self, lease: LeaseId, now: Instant) {
        let held = |tenure: &Tenure| tenure.lease.is_some_and(|held| held.id == lease);
        let dvipa = self.wanted.iter().find(|(_, tenure)| held(tenure)).map(|(dvipa, _)| *dvipa);
        dvipa.into_iter().for_each(|dvipa| self.lapse(dvipa, now));
    }

    /// Asks all that is due.
    fn ask_due(&mut self, now: Instant) {
        let due = self.wanted.iter().filter(|(_, tenure)| tenure.asks().is_some_and(|at| at <= now));
        for dvipa in due.map(|(dvipa, _)| *dvipa).collect::<Vec<_>>() {
            self.ask_for(dvipa, now);
        }
        let leases: Vec<LeaseId> = self.wanted.values().filter_map(|tenure| Some(tenure.lease?.id)).collect();
        if leases.is_empty() {
            self.renews = None;
            return;
        }
        let renews = *self.renews.get_or_insert(now + self.lease.interval());
        if renews <= now {
            self.renews = Some(now + self.lease.interval());
            let unanswered = self
                .pending
                .values()
                .filter(|p| matches!(p, Pending::Renew { .. } | Pending::Confirm { .. }));
            if unanswered.count() < MAX_RENEWALS {
                self.ask(Question::Renew { leases }, Pending::Renew { at: now });
            }
        }
    }

    /// Asks for what this DVIPA lacks: a lease, or to be its owner.
    fn ask_for(&mut self, dvipa: Dvipa, now: Instant) {
        let Some(tenure) = self.wanted.get(&dvipa) else { return };
        let ask = match tenure.lease {
            None => {
                let ttl_s = self.ttl_s();
                self.ask(Question::Grant { ttl_s }, Pending::Grant { dvipa, at: now })
            }
            Some(lease) => {
                let (epoch, after) = (tenure.epoch, tenure.after);
                let question = Question::Claim { dvipa, epoch, lease: lease.id, after };
                self.ask(question, Pending::Claim { dvipa })
            }
        };
        if let Some(tenure) = self.wanted.get_mut(&dvipa) {
            (tenure.asked, tenure.next) = (Some(ask), None);
        }
    }

    fn answered(&mut self, ask: Ask, answer: Answer, now: Instant) {
        let again = now + self.lease.interval();
        match (self.pending.remove(&ask), answer) {
            (Some(Pending::Grant { dvipa, at }), Answer::Granted { lease, ttl_s }) => {
                let (until, enough) = (at + self.counted, ttl_s >= self.ttl_s());
                match self.wanted.get_mut(&dvipa).filter(|tenure| tenure.asked == Some(ask)) {
                    Some(tenure) if enough && until > now => {
                        (tenure.asked, tenure.next) = (None, Some(now));
                        tenure.lease = Some(Held { id: lease, until });
                    }
                    Some(tenure) => {
                        (tenure.asked, tenure.next) = (None, Some(again));
                        self.revoke(lease);
                    }
                    None => self.revoke(lease),
                }
            }
            (Some(Pending::Claim { dvipa }), answer) => {
                if let Some(tenure) = self.wanted.get_mut(&dvipa).filter(|t| t.asked == Some(ask)) {
                    (tenure.asked, tenure.next) = (None, Some(again));
                    self.claim_answered(dvipa, answer, now);
                }
            }
            (Some(Pending::Renew { at }), Answer::Renewed { term, leases, gone }) => {
                self.ask(Question::Confirm, Pending::Confirm { at, term, leases, gone });
            }
            (Some(Pending::Confirm { at, term, leases, gone }), Answer::Confirmed { term: confirmed }) => {
                let same = term == confirmed;
                #[cfg(test)]
                let same = same || self.faults.takes_every_term;
                if same {
                    self.renewed(&leases, at + self.counted);
                    gone.into_iter().for_each(|lease| self.lapse_of(lease, now));
                }
            }
            // Of a grant that failed the lease, if there is one, lapses by itself.
            (Some(Pending::Grant { dvipa, .. }), _) => {
                if let Some(tenure) = self.wanted.get_mut(&dvipa).filter(|t| t.asked == Some(ask)) {
                    (tenure.asked, tenure.next) = (None, Some(again));
                }
            }
            (Some(Pending::Renew { .. } | Pending::Confirm { .. } | Pending::Revoke) | None, _) => {}
        }
    }

    fn claim_answered(&mut self, dvipa: Dvipa, answer: Answer, now: Instant) {
        let Some(tenure) = self.wanted.get_mut(&dvipa) else { return };
        match answer {
            Answer::Claimed { revision } => {
                tenure.after = revision;
                self.gain(dvipa);
            }
            Answer::Taken { owner: Some(owner), revision, .. }
                if tenure.lease.is_some_and(|lease| lease.id == owner.lease) =>
            {
                tenure.after = revision;
                if owner.epoch == tenure.epoch {
                    // It was granted when the same was asked before, and no answer came.
                    self.gain(dvipa);
                } else {
                    self.epochs.saw(dvipa, owner.epoch);
                    self.lapse(dvipa, now);
                }
            }
            Answer::Taken { owner, epoch, revision } => {
                self.epochs.saw(dvipa, epoch);
                tenure.epoch = self.epochs.successor(dvipa);
                tenure.after = revision;
                // While another owns it, the news that it is free any more comes sooner as a rule.
                tenure.next = Some(if owner.is_some() { now + self.lease.0 / 2 } else { now });
            }
            Answer::Unleased => self.lapse(dvipa, now),
            // Asked again, in the same words.
            _ => {}
        }
    }

    fn gain(&mut self, dvipa: Dvipa) {
        let Some(tenure) = self.wanted.get_mut(&dvipa) else { return };
        (tenure.owned, tenure.next) = (true, None);
        let epoch = tenure.epoch;
        self.epochs.saw(dvipa, epoch);
        if self.epochs.is_to_be_kept(epoch) {
            self.actions.push_back(Action::Keep { epoch });
        }
        self.actions.push_back(Action::Gained { dvipa, epoch });
    }

    /// These leases are believed in until then, if they are still.
    fn renewed(&mut self, leases: &[LeaseId], until: Instant) {
        let held = self.wanted.values_mut().filter_map(|tenure| tenure.lease.as_mut());
        for lease in held.filter(|lease| leases.contains(&lease.id)) {
            lease.until = lease.until.max(until);
        }
    }

    fn freed(&mut self, dvipa: Dvipa, epoch: Epoch, now: Instant) {
        let Some(tenure) = self.wanted.get_mut(&dvipa) else { return };
        if tenure.owned && tenure.epoch == epoch {
            // Somebody has deleted the key, or ended the lease.
            self.lapse(dvipa, now);
        } else if !tenure.owned {
            self.epochs.saw(dvipa, epoch);
            tenure.next = tenure.next.map(|next| next.min(now));
        }
    }
}

impl Ownership for Leases {
    fn want(&mut self, dvipa: Dvipa, wanted: bool, now: Instant) {
        self.settle(now);
        let known = self.wanted.contains_key(&dvipa);
        if wanted && !known && self.wanted.len() < MAX_WANTED {
            let epoch = self.epochs.successor(dvipa);
            let (owned, after) = (false, Revision::default());
            let tenure = Tenure { epoch, owned, after, lease: None, asked: None, next: Some(now) };
            self.wanted.insert(dvipa, tenure);
        } else if !wanted && let Some(tenure) = self.wanted.remove(&dvipa) {
            if tenure.owned {
                self.actions.push_back(Action::Lost { dvipa, why: WhyLost::Released });
            }
            if let Some(lease) = tenure.lease {
                self.revoke(lease.id);
            }
        }
        self.ask_due(now);
    }

    fn wants(&self, dvipa: Dvipa) -> bool {
        self.wanted.contains_key(&dvipa)
    }

    fn is_credible(&self, epoch: Epoch) -> bool {
        self.epochs.can_be(epoch)
    }

    fn saw(&mut self, dvipa: Dvipa, epoch: Epoch) {
        self.epochs.saw(dvipa, epoch);
        let highest = self.epochs.successor(dvipa);
        // What was claimed already stays as it is: it may be granted.
        if let Some(tenure) = self.wanted.get_mut(&dvipa).filter(|tenure| tenure.lease.is_none()) {
            tenure.epoch = tenure.epoch.max(highest);
        }
    }

    fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    fn told(&mut self, news: News, now: Instant) {
        self.settle(now);
        match news {
            News::Answer { ask, answer } => self.answered(ask, answer, now),
            News::Freed { dvipa, epoch } => self.freed(dvipa, epoch, now),
            News::Answers(answers) => self.is_cut_off = !answers,
        }
        self.ask_due(now);
    }

    fn tick(&mut self, now: Instant) {
        self.settle(now);
        self.ask_due(now);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let asks = self.wanted.values().filter_map(Tenure::asks);
        let lapses = self.wanted.values().filter_map(|tenure| Some(tenure.lease?.until));
        asks.chain(lapses).chain(self.renews).min()
    }

    fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn held(&self, dvipa: Dvipa, now: Instant) -> Option<Epoch> {
        let tenure = self.wanted.get(&dvipa).filter(|tenure| tenure.owned)?;
        tenure.lease.filter(|lease| lease.until > now).map(|_| tenure.epoch)
    }

    fn fence(&self) -> Option<Instant> {
        let owned = self.wanted.values().filter(|tenure| tenure.owned);
        owned.filter_map(|tenure| Some(tenure.lease?.until)).min()
    }

    #[cfg(test)]
    fn asked_now(&mut self, now: Instant) {
        for pending in self.pending.values_mut() {
            match pending {
                Pending::Grant { at, .. } | Pending::Renew { at } | Pending::Confirm { at, .. } => *at = now,
                Pending::Claim { .. } | Pending::Revoke => {}
            }
        }
    }

    #[cfg(test)]
    fn without_margin(&mut self) {
        self.counted = self.lease.0;
    }
}

impl Tenure {
    /// When something is to be asked for it.
    fn asks(&self) -> Option<Instant> {
        self.next.filter(|_| self.asked.is_none() && !self.owned)
    }
}

#[cfg(test)]
mod tests;
