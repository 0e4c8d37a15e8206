//! A cluster of etcd, as far as questions of routing nodes go: its keys and leases are one linearizable store; leases are counted by the
//! clock of the member that leads. A new leader lets all leases begin anew. The one that it replaced goes on for a while, and renews leases of
//! which the new one hears nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use histories::{Clock, Nanos};
use model::{Dvipa, Epoch};

use super::Fault;
use crate::etcd::{Answer, LeaseId, Owner, Question, Revision, Term};

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Etcd {
    term: u64,
    /// `None`: there is no majority.
    leader: Option<Leader>,
    /// It was replaced, and does not know.
    former: Option<Leader>,
    revision: i64,
    leases: BTreeMap<LeaseId, Duration>,
    next_lease: i64,
    owners: BTreeMap<Dvipa, Owner>,
    epochs: BTreeMap<Dvipa, (Epoch, Revision)>,
    fault: Option<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Leader {
    clock: Clock,
    term: u64,
    ends: BTreeMap<LeaseId, Instant>,
}

impl Etcd {
    /// Without a leader yet.
    pub(super) fn new(fault: Option<Fault>) -> Self {
        Self {
            term: 0,
            leader: None,
            former: None,
            revision: 1,
            leases: BTreeMap::new(),
            next_lease: 1,
            owners: BTreeMap::new(),
            epochs: BTreeMap::new(),
            fault,
        }
    }

    /// A member with this clock leads. What it has to end, it ends later. `quietly`: the former leader does not hear of it.
    pub(super) fn elect(&mut self, clock: Clock, quietly: bool, now: Nanos) {
        self.term += 1;
        let ends = self.leases.iter().map(|(lease, ttl)| (*lease, clock.at(now) + *ttl)).collect();
        let former = self.leader.replace(Leader { clock, term: self.term, ends });
        self.former = former.or(self.former.take()).filter(|_| quietly);
    }

    /// The majority is gone.
    pub(super) fn fall_silent(&mut self) {
        self.former = self.leader.take().or(self.former.take());
    }

    /// The former leader hears that it is one.
    pub(super) fn tell_former(&mut self) {
        self.former = None;
    }

    pub(super) fn has_leader(&self) -> bool {
        self.leader.is_some()
    }

    pub(super) fn has_former(&self) -> bool {
        self.former.is_some()
    }

    /// When the leader ends a lease.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let leader = self.leader.as_ref()?;
        leader.ends.values().min().map(|end| leader.clock.when(*end))
    }

    /// Ends the leases that are over. What is owned by nobody then, and by whom it was in which epoch.
    pub(super) fn expire(&mut self, now: Nanos) -> Vec<(Dvipa, Epoch)> {
        let Some(leader) = &self.leader else { return Vec::new() };
        let local = leader.clock.at(now);
        let over: Vec<LeaseId> =
            leader.ends.iter().filter(|(_, end)| **end <= local).map(|(id, _)| *id).collect();
        over.into_iter().flat_map(|lease| self.end(lease)).collect()
    }

    fn end(&mut self, lease: LeaseId) -> Vec<(Dvipa, Epoch)> {
        self.leases.remove(&lease);
        if let Some(leader) = &mut self.leader {
            leader.ends.remove(&lease);
        }
        let freed = self.owners.iter().filter(|(_, owner)| owner.lease == lease);
        let freed: Vec<(Dvipa, Epoch)> = freed.map(|(dvipa, owner)| (*dvipa, owner.epoch)).collect();
        for (dvipa, _) in &freed {
            self.revision += 1;
            self.owners.remove(dvipa);
            if self.fault == Some(Fault::EpochLapses) {
                self.epochs.remove(dvipa);
            }
        }
        freed
    }

    /// Answers, if it can; and says what is owned by nobody any more. `of_former`: a renewal reaches the leader that was replaced.
    pub(super) fn ask(
        &mut self,
        question: &Question,
        of_former: bool,
        now: Nanos,
    ) -> (Option<Answer>, Vec<(Dvipa, Epoch)>) {
        let mut freed = self.expire(now);
        let answer = match question {
            Question::Renew { leases } => {
                let ttls = &self.leases;
                let leader = if of_former { self.former.as_mut() } else { self.leader.as_mut() };
                leader.map(|leader| {
                    let local = leader.clock.at(now);
                    let has = |lease: &&LeaseId| leader.ends.get(lease).is_some_and(|end| *end > local);
                    let alive: Vec<LeaseId> = leases.iter().filter(has).copied().collect();
                    let gone = leases.iter().filter(|lease| !alive.contains(lease)).copied().collect();
                    for lease in &alive {
                        let ttl = ttls.get(lease).copied().unwrap_or_default();
                        leader.ends.insert(*lease, local + ttl);
                    }
                    Answer::Renewed { term: Term(leader.term), leases: alive, gone }
                })
            }
            Question::Confirm => {
                self.leader.as_ref().map(|leader| Answer::Confirmed { term: Term(leader.term) })
            }
            Question::Grant { ttl_s } => self.leader.as_mut().map(|leader| {
                let (lease, ttl) = (LeaseId(self.next_lease), Duration::from_secs((*ttl_s).into()));
                self.next_lease += 1;
                self.leases.insert(lease, ttl);
                leader.ends.insert(lease, leader.clock.at(now) + ttl);
                Answer::Granted { lease, ttl_s: *ttl_s }
            }),
            Question::Claim { dvipa, epoch, lease, after } => {
                self.leader.is_some().then(|| self.claim(*dvipa, *epoch, *lease, *after))
            }
            Question::Revoke { lease } => {
                if self.leader.is_some() {
                    freed.extend(self.end(*lease));
                }
                self.leader.as_ref().map(|_| Answer::Revoked)
            }
        };
        (answer, freed)
    }

    fn claim(&mut self, dvipa: Dvipa, epoch: Epoch, lease: LeaseId, after: Revision) -> Answer {
        if !self.leases.contains_key(&lease) {
            return Answer::Unleased;
        }
        let (kept, revision) = self.epochs.get(&dvipa).copied().unwrap_or_default();
        let owner = self.owners.get(&dvipa).copied();
        let is_free = owner.is_none() || self.fault == Some(Fault::PutsWithoutCompare);
        if !is_free || revision != after {
            return Answer::Taken { owner, epoch: kept, revision };
        }
        self.revision += 1;
        let revision = Revision(self.revision);
        self.owners.insert(dvipa, Owner { lease, epoch });
        self.epochs.insert(dvipa, (epoch, revision));
        Answer::Claimed { revision }
    }
}
