//! A routing node's side: which DVIPAs it owns.
//!
//! What a node wants and does not have yet it *claims*; while a majority of the witnesses has granted that and leases to the node, it is
//! *owned*. A node alone has no witnesses, and owns what it claims at once.
//!
//! | a DVIPA is | wanted | not wanted | a majority grants | leases lapse, fewer than a majority | granted by too few for too long | has rested |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | not wanted | claimed | – | – | – | – | – |
//! | claimed | – | not wanted | owned (Gained) | – | rests, claims nothing | – |
//! | owned | – | not wanted (Lost) | – | claimed in the next epoch (Lost) | – | – |
//! | resting | – | not wanted | – | – | – | claimed in the next epoch |
//!
//! It rests for a time drawn at random, so that of two nodes that each have some of the witnesses one goes first.
//!
//! The witnesses are told the whole list of claims at each change, and otherwise renew by its number, whatever its length. An answer
//! about an older list than the present one counts for nothing that has changed since.
//!
//! Contract: actions are done in the order in which they are given. [`Action::Lost`] is in effect, on every worker, before the
//! [`Action::Send`] that follows it leaves the node. Who forwards without asking ([`Ownership::held`]) each time, as a worker does, reads
//! [`Ownership::fence`] once a burst, from a word that the control thread stores after each call: past that time it forwards
//! as owner of nothing. A process that was stopped finds it in the past.

mod epochs;
mod link;
mod tenure;
mod witness_set;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use model::codec::Address;
use model::ownership::{Ask, Claim, Claims, FromWitness, Granted, Renew, ToWitness, Unleased, Withheld};
use model::{Dvipa, DvipaIndex, Epoch, StackName};

use crate::Ownership;
use crate::etcd::Question;
use crate::lease::Lease;
pub(crate) use epochs::Epochs;
use link::{About, Link};
use tenure::{Tenure, Turn};
pub use witness_set::MAX_WITNESSES;
use witness_set::WitnessSet;

/// So many DVIPAs are wanted at most; one more is not.
pub const MAX_WANTED: usize = DvipaIndex::MAX as usize + 1;

/// Who decides whether this node may own what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The node itself: it owns what it wants at once. Where two nodes that cannot hear each other want one DVIPA, both own it.
    Alone,
    /// A majority of these.
    Witnesses {
        /// The stacks whose agents are asked, 3 or 5 as a rule, the same at all nodes; at most [`MAX_WITNESSES`].
        names: BTreeSet<StackName>,
        /// How long the node is leased to after each ask, [`crate::lease::MIN`] to [`crate::lease::MAX`]; the same at all nodes.
        lease: Duration,
    },
}

/// What [`Tenures`] begins with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of this run of the node: no other run has had it (the incarnation of its sessions).
    pub run: u64,
    /// Every epoch that is given is above this one: the highest that a former run of this node kept ([`Action::Keep`]).
    pub above: Epoch,
    /// Who decides.
    pub decider: Decider,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Tell a witness.
    Send {
        /// Which.
        to: StackName,
        /// What.
        message: ToWitness,
    },
    /// Ask etcd.
    Ask {
        /// The number by which the answer is known.
        ask: Ask,
        /// What.
        question: Question,
    },
    /// This node owns the DVIPA from now on.
    Gained {
        /// Which.
        dvipa: Dvipa,
        /// In this epoch, which is higher than all before it.
        epoch: Epoch,
    },
    /// This node does not own the DVIPA any more.
    Lost {
        /// Which.
        dvipa: Dvipa,
        /// Why not.
        why: WhyLost,
    },
    /// The highest epoch there is: to be on disk before what follows is done, for [`Settings::above`] of the next run.
    Keep {
        /// Which.
        epoch: Epoch,
    },
}

/// How a DVIPA that is owned is leased, at the latest time that was told: for displays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// By so many witnesses.
    pub by: u32,
    /// Of so many.
    pub of: u32,
    /// By a majority for so long yet, unless they renew it.
    pub left: Duration,
}

/// Why a DVIPA is owned no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WhyLost {
    /// This node does not want it any more.
    Released,
    /// Fewer than a majority of the witnesses lease to this node, or etcd does not.
    Lapsed,
}

/// The DVIPAs that a routing node owns or wants to own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenures {
    run: u64,
    lease: Lease,
    /// For how long after asking the node believes in a lease.
    counted: Duration,
    majority: u32,
    /// The latest time that this was told. `None`: none yet.
    now: Option<Instant>,
    next_ask: Ask,
    epochs: Epochs,
    witnesses: Vec<Link>,
    wanted: BTreeMap<Dvipa, Tenure>,
    random: u64,
    actions: VecDeque<Action>,
}

impl Tenures {
    /// Wants and owns nothing.
    pub fn new(settings: Settings) -> Self {
        let Settings { run, above, decider } = settings;
        let (names, lease) = match decider {
            Decider::Alone => (BTreeSet::new(), crate::lease::DEFAULT),
            Decider::Witnesses { names, lease } => (names, lease),
        };
        let witnesses: Vec<Link> = names.into_iter().take(MAX_WITNESSES).map(Link::new).collect();
        let majority = if witnesses.is_empty() { 0 } else { witnesses.len() / 2 + 1 };
        let lease = Lease(lease.clamp(crate::lease::MIN, crate::lease::MAX));
        Self {
            run,
            lease,
            counted: lease.counted(),
            majority: u32::try_from(majority).unwrap_or(u32::MAX),
            now: None,
            next_ask: Ask(1),
            epochs: Epochs::new(above),
            witnesses,
            wanted: BTreeMap::new(),
            random: run,
            actions: VecDeque::new(),
        }
    }

    /// When fewer than a majority of these lease to this node.
    fn lapse(&self, granted: WitnessSet) -> Option<Instant> {
        let within = self.witnesses.iter().enumerate().filter(|(place, _)| granted.has(*place));
        let mut ends: Vec<Instant> = within.filter_map(|(_, link)| link.until()).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let last = usize::try_from(self.majority).ok()?.checked_sub(1)?;
        ends.get(last).copied()
    }

    /// The witnesses that lease to this node.
    fn leasing(&self, now: Instant) -> WitnessSet {
        let leasing = self.witnesses.iter().enumerate().filter(|(_, link)| link.leases(now));
        leasing.map(|(place, _)| place).collect()
    }

    fn granted(&mut self, place: usize, answer: &Granted, now: Instant) {
        let Some(about) = self.witnesses[place].granted(answer.ask, answer.list, self.counted) else {
            return;
        };
        let withheld: BTreeMap<Dvipa, &Withheld> =
            answer.without.iter().map(|claim| (Dvipa::new(claim.dvipa.0), claim)).collect();
        let mut raised = false;
        for (dvipa, tenure) in &mut self.wanted {
            let (is_in, withheld) = (tenure.is_in(answer.list), withheld.get(dvipa));
            let granted = is_in && withheld.is_none();
            if granted || about == About::Anew {
                tenure.grant(place, granted, now);
            }
            let Some(withheld) = withheld else { continue };
            self.epochs.saw(*dvipa, withheld.highest);
            // While another has it, a higher epoch would only make that one claim a still higher one.
            if is_in && !tenure.is_owned() && withheld.holder.is_none() {
                *tenure = Tenure::new(self.epochs.next(*dvipa), self.next_ask);
                raised = true;
            }
        }
        if raised {
            self.list_changed();
        }
    }

    fn unleased(&mut self, place: usize, answer: Unleased, now: Instant) {
        let wait = Duration::from_millis(answer.wait_ms.into()).min(crate::lease::MAX);
        if self.witnesses[place].unleased(answer.ask, wait, now) {
            self.wanted.values_mut().for_each(|tenure| tenure.grant(place, false, now));
        }
    }

    /// Sees what has become of each DVIPA, which also time does.
    fn settle(&mut self, now: Instant) {
        self.now = self.now.max(Some(now));
        let leasing = self.leasing(now);
        let mut changed = false;
        for (dvipa, tenure) in &mut self.wanted {
            let Some(turn) = tenure.turn(leasing, self.majority, self.lease, now) else { continue };
            match turn {
                Turn::Gained => {
                    tenure.own();
                    let (dvipa, epoch) = (*dvipa, tenure.epoch);
                    if self.epochs.is_to_be_kept(epoch) {
                        self.actions.push_back(Action::Keep { epoch });
                    }
                    self.actions.push_back(Action::Gained { dvipa, epoch });
                    continue;
                }
                Turn::Lapsed => {
                    self.actions.push_back(Action::Lost { dvipa: *dvipa, why: WhyLost::Lapsed });
                    *tenure = Tenure::new(self.epochs.next(*dvipa), self.next_ask);
                }
                Turn::GaveWay => {
                    let (share, whole) = (draw(&mut self.random), f64::from(u32::MAX));
                    tenure.rest(now + self.lease.0.mul_f64(0.5 + f64::from(share) / whole));
                }
                Turn::Again => *tenure = Tenure::new(self.epochs.next(*dvipa), self.next_ask),
            }
            changed = true;
        }
        if changed {
            self.list_changed();
        }
    }

    fn list_changed(&mut self) {
        self.witnesses.iter_mut().for_each(Link::list_changed);
    }

    /// Asks a witness, with the list or by its number.
    fn ask(&mut self, place: usize, with_list: bool, now: Instant) {
        let (run, ask) = (self.run, self.next_ask);
        self.next_ask = Ask(ask.0.saturating_add(1));
        let message = if with_list {
            let claims = self.wanted.iter().filter(|(_, tenure)| tenure.is_claimed());
            let claims = claims.map(|(dvipa, tenure)| Claim {
                dvipa: Address(dvipa.address()),
                epoch: tenure.epoch,
                owned: tenure.is_owned(),
            });
            let lease_ms = u32::try_from(self.lease.0.as_millis()).unwrap_or(u32::MAX);
            ToWitness::Claims(Claims { run, ask, lease_ms, claims: claims.collect() })
        } else {
            ToWitness::Renew(Renew { run, ask, list: self.witnesses[place].list() })
        };
        let link = &mut self.witnesses[place];
        link.ask(ask, with_list, now, self.lease.interval());
        self.actions.push_back(Action::Send { to: link.name.clone(), message });
    }
}

impl Ownership for Tenures {
    fn want(&mut self, dvipa: Dvipa, wanted: bool, now: Instant) {
        self.settle(now);
        if wanted == self.wanted.contains_key(&dvipa) || (wanted && self.wanted.len() == MAX_WANTED) {
            return;
        }
        if wanted {
            let epoch = self.epochs.next(dvipa);
            self.wanted.insert(dvipa, Tenure::new(epoch, self.next_ask));
        } else if self.wanted.remove(&dvipa).is_some_and(|tenure| tenure.is_owned()) {
            self.actions.push_back(Action::Lost { dvipa, why: WhyLost::Released });
        }
        self.list_changed();
        self.settle(now);
    }

    fn wants(&self, dvipa: Dvipa) -> bool {
        self.wanted.contains_key(&dvipa)
    }

    fn is_credible(&self, epoch: Epoch) -> bool {
        self.epochs.can_be(epoch)
    }

    fn saw(&mut self, dvipa: Dvipa, epoch: Epoch) {
        self.epochs.saw(dvipa, epoch);
    }

    fn session(&mut self, witness: &StackName, up: bool, now: Instant) {
        self.settle(now);
        if let Some(link) = self.witnesses.iter_mut().find(|link| link.name == *witness) {
            link.session(up, now);
        }
    }

    fn heard(&mut self, witness: &StackName, message: FromWitness, now: Instant) {
        self.settle(now);
        let Some(place) = self.witnesses.iter().position(|link| link.name == *witness) else { return };
        match message {
            FromWitness::Granted(granted) if granted.run == self.run => self.granted(place, &granted, now),
            FromWitness::Unleased(unleased) if unleased.run == self.run => {
                self.unleased(place, unleased, now);
            }
            // An answer to a former run.
            FromWitness::Granted(_) | FromWitness::Unleased(_) => {}
        }
        self.settle(now);
    }

    fn tick(&mut self, now: Instant) {
        self.settle(now);
        let wants = !self.wanted.is_empty();
        for place in 0..self.witnesses.len() {
            let link = &self.witnesses[place];
            if link.deadline(wants).is_some_and(|at| at <= now) {
                self.ask(place, link.lacks_list(), now);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let wants = !self.wanted.is_empty();
        let asks = self.witnesses.iter().filter_map(|link| link.deadline(wants));
        let turns = self.wanted.values().filter_map(|tenure| tenure.deadline(self.majority, self.lease));
        asks.chain(turns).chain(self.fence()).min()
    }

    fn poll(&mut self) -> Option<Action> {
        if self.actions.is_empty()
            && let Some(now) = self.now
            && let Some(place) = self.witnesses.iter().position(|link| link.owes_list(now))
        {
            self.ask(place, true, now);
        }
        self.actions.pop_front()
    }

    fn held(&self, dvipa: Dvipa, now: Instant) -> Option<Epoch> {
        let tenure = self.wanted.get(&dvipa).filter(|tenure| tenure.is_owned())?;
        (tenure.granted().and(self.leasing(now)).len() >= self.majority).then_some(tenure.epoch)
    }

    fn leased(&self, dvipa: Dvipa) -> Option<Leased> {
        let tenure = self.wanted.get(&dvipa).filter(|tenure| tenure.is_owned())?;
        let (now, until) = (self.now?, self.lapse(tenure.granted())?);
        Some(Leased {
            by: tenure.granted().and(self.leasing(now)).len(),
            of: u32::try_from(self.witnesses.len()).unwrap_or(u32::MAX),
            left: until.saturating_duration_since(now),
        })
    }

    fn fence(&self) -> Option<Instant> {
        let owned = self.wanted.values().filter(|tenure| tenure.is_owned());
        let grants: BTreeSet<WitnessSet> = owned.map(Tenure::granted).collect();
        grants.into_iter().filter_map(|granted| self.lapse(granted)).min()
    }

    #[cfg(test)]
    fn asked_now(&mut self, now: Instant) {
        self.witnesses.iter_mut().for_each(|link| link.asked_now(now));
    }

    #[cfg(test)]
    fn without_margin(&mut self) {
        self.counted = self.lease.0;
    }
}

#[cfg(test)]
impl Tenures {
    /// For a fault: one witness less is enough.
    pub(crate) fn one_witness_less(&mut self) {
        self.majority -= 1;
    }
}

/// The next of a row of numbers that looks drawn at random (splitmix64).
fn draw(row: &mut u64) -> u32 {
    *row = row.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*row ^ (*row >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    u32::try_from(mixed >> 32).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
