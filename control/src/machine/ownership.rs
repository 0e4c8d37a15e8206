//! Which DVIPAs this stack owns, in which epoch and under which number: the one place that knows it.
//!
//! What it wants to own is decided in [`super::succession`], what it may in [`ownership::Ownership`]. A DVIPA that it defines or backs up
//! and does not own is kept *warm*: its targets and connections are known here as if it were owned. Its number stays for as long as CRT
//! entries may name it ([`super::numbers`]).
//!
//! | a DVIPA is | defined here | gained | lost | [`FORMER`] later | defined no more | forgotten |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | unknown | backup | – | – | – | – | – |
//! | backup | – | owner | – | – | gone | – |
//! | owner | – | – | former | – | gone | – |
//! | former | – | owner | – | backup | gone | – |
//! | gone | backup | – | – | – | – | unknown |

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::codec::Address;
use model::dpt::Duty;
use model::message::ToStack;
use model::numbering::{NumberedDvipa, Numbering};
use model::ownership::FromWitness;
use model::{Dvipa, DvipaIndex, Epoch, StackName};
use ownership::etcd::{Leases, News};
use ownership::{Action as Tenure, Decider, Leased, Ownership, Settings, Tenures};

use super::numbers::Numbers;
use super::{Action, Identity, OrderRefusal};
use crate::config::{Cluster, DecidedBy, VipaDynamic};

/// For so long the former owner forwards what still arrives: neighbours may not have heard of the new one.
pub(super) const FORMER: Duration = Duration::from_secs(10);
/// The epoch in which stacks report to one that does not own the DVIPA.
pub(super) const NOT_OWNED: Epoch = Epoch(0);

/// The DVIPAs of this stack, and those that it had until a while ago.
#[derive(Debug)]
pub(super) struct Dvipas {
    tenures: Box<dyn Ownership + Send>,
    held: BTreeMap<Dvipa, Held>,
    /// When the first one is former no longer; asked with each event.
    fades: Option<Instant>,
    pub(super) numbers: Numbers,
    /// The highest epoch there is.
    highest: Epoch,
    /// Until when what is owned is leased, as it was last said, and whether it may be another time now.
    fence: Option<Instant>,
    is_fence_old: bool,
}

/// A DVIPA that this stack defines or backs up, or did until a while ago.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Its number in CRT entries.
    pub(super) index: DvipaIndex,
    /// The epoch in which stacks report on it: that of the ownership, or [`NOT_OWNED`].
    pub(super) epoch: Epoch,
    standing: Standing,
    /// It forwards packets to it, whoever owns it.
    always_forwards: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Owner,
    Former { until: Instant },
    Backup,
    Gone { since: Instant },
}

/// What has become of a DVIPA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is this stack's from now on.
    Gained(Dvipa),
    /// It is no longer.
    Lost(Dvipa),
}

/// Whether something is gained or lost with it.
pub(super) fn is_turn(news: &Tenure) -> bool {
    match news {
        Tenure::Gained { .. } | Tenure::Lost { .. } => true,
        Tenure::Send { .. } | Tenure::Ask { .. } | Tenure::Keep { .. } => false,
    }
}

impl Held {
    /// What this node's forwarder does for it; none: nothing any more.
    pub(super) fn duty(&self) -> Option<Duty> {
        match self.standing {
            Standing::Owner => Some(Duty::Owner),
            Standing::Former { .. } | Standing::Backup if self.always_forwards => Some(Duty::Partner),
            Standing::Former { .. } => Some(Duty::Former),
            Standing::Backup => Some(Duty::Backup),
            Standing::Gone { .. } => None,
        }
    }

    fn fades(&self) -> Option<Instant> {
        match self.standing {
            Standing::Former { until } => Some(until),
            Standing::Owner | Standing::Backup | Standing::Gone { .. } => None,
        }
    }
}

impl Dvipas {
    /// None is owned yet; those that a former process of this node had keep their numbers.
    pub(super) fn new(
        identity: &Identity,
        cluster: &Cluster,
        numbering: Option<&Numbering>,
        now: Instant,
    ) -> Self {
        let (run, names, lease) = (identity.incarnation, cluster.witnesses.clone(), cluster.lease);
        let former = numbering.map_or(Epoch(0), |numbering| numbering.epoch);
        let with = |above, decider| Box::new(Tenures::new(Settings { run, above, decider }));
        let (highest, tenures): (Epoch, Box<dyn Ownership + Send>) = match cluster.decided_by() {
            DecidedBy::Itself => {
                let above = Epoch(identity.first_epoch.0.saturating_sub(1)).max(former);
                (above, with(above, Decider::Alone))
            }
            // The witnesses, or etcd, know the highest.
            DecidedBy::Witnesses => (former, with(former, Decider::Witnesses { names, lease })),
            DecidedBy::Etcd => (former, Box::new(Leases::new(former, lease))),
        };
        let numbers = Numbers::new(DvipaIndex::MAX);
        let mut new = Self {
            tenures,
            held: BTreeMap::new(),
            fades: None,
            numbers,
            highest,
            fence: None,
            is_fence_old: false,
        };
        new.resume(numbering.map_or(&[], |numbering| &numbering.dvipas), now);
        new
    }

    /// A former process of this node has had these, in these epochs. What is owned anew begins above them.
    fn resume(&mut self, dvipas: &[NumberedDvipa], now: Instant) {
        for numbered in dvipas {
            self.numbers.take(numbered.number);
            self.tenures.saw(numbered.dvipa(), numbered.epoch);
            let held = Held {
                index: DvipaIndex(numbered.number),
                epoch: NOT_OWNED,
                standing: Standing::Gone { since: now },
                always_forwards: false,
            };
            self.held.insert(numbered.dvipa(), held);
        }
    }

    /// The highest epoch there is.
    pub(super) fn highest(&self) -> Epoch {
        self.highest
    }

    /// The highest epoch, and those with a number.
    pub(super) fn numbering(&self) -> (Epoch, Vec<NumberedDvipa>) {
        let numbered = |(dvipa, held): (&Dvipa, &Held)| NumberedDvipa {
            number: held.index.0,
            address: Address(dvipa.address()),
            epoch: held.epoch,
        };
        (self.highest, self.held.iter().map(numbered).collect())
    }

    /// These are defined and backed up, and only these. What is not any more is lost with the next [`Self::news`].
    pub(super) fn define(&mut self, definitions: &VipaDynamic, now: Instant) -> Result<(), OrderRefusal> {
        let defines = definitions.defines.iter().map(|d| d.dvipa);
        let defined: BTreeSet<Dvipa> = defines.chain(definitions.backups.iter().map(|b| b.dvipa)).collect();
        let room = self.numbers.left();
        if let Some(one_too_many) = defined.iter().filter(|d| !self.held.contains_key(d)).nth(room) {
            return Err(OrderRefusal::TooManyDvipas(*one_too_many));
        }
        for (dvipa, held) in &mut self.held {
            if held.duty().is_some() && !defined.contains(dvipa) {
                self.tenures.want(*dvipa, false, now);
                held.standing = Standing::Gone { since: now };
            }
        }
        for dvipa in defined {
            let (epoch, standing) = (NOT_OWNED, Standing::Backup);
            let always_forwards = definitions.always_forwards(dvipa);
            match self.held.entry(dvipa) {
                Entry::Occupied(mut known) if known.get().duty().is_none() => {
                    let index = known.get().index;
                    known.insert(Held { index, epoch, standing, always_forwards });
                }
                Entry::Occupied(mut known) => known.get_mut().always_forwards = always_forwards,
                Entry::Vacant(new) => {
                    let index = self.numbers.give().ok_or(OrderRefusal::TooManyDvipas(dvipa))?;
                    let index = DvipaIndex(index);
                    new.insert(Held { index, epoch, standing, always_forwards });
                }
            }
        }
        Ok(())
    }

    /// Which DVIPAs this node always forwards follows from what is distributed, too.
    pub(super) fn set_forwards(&mut self, definitions: &VipaDynamic) {
        for (dvipa, held) in &mut self.held {
            held.always_forwards = definitions.always_forwards(*dvipa);
        }
    }

    /// Whether this stack wants to own a DVIPA that it defines or backs up.
    pub(super) fn want(&mut self, dvipa: Dvipa, wanted: bool, now: Instant) {
        self.tenures.want(dvipa, wanted, now);
    }

    /// Whether an epoch can be meant.
    pub(super) fn is_credible(&self, epoch: Epoch) -> bool {
        self.tenures.is_credible(epoch)
    }

    /// By how many witnesses a DVIPA that is owned is leased, and for how long yet.
    pub(super) fn leased(&self, dvipa: Dvipa) -> Option<Leased> {
        self.tenures.leased(dvipa)
    }

    /// There was an ownership in this epoch.
    pub(super) fn saw(&mut self, dvipa: Dvipa, epoch: Epoch) {
        self.tenures.saw(dvipa, epoch);
        self.highest = self.highest.max(epoch);
    }

    /// Whether it does.
    pub(super) fn wants(&self, dvipa: Dvipa) -> bool {
        self.tenures.wants(dvipa)
    }

    /// The session with a stack, which may be a witness, begins or is over.
    pub(super) fn session(&mut self, stack: &StackName, up: bool, now: Instant) {
        self.tenures.session(stack, up, now);
    }

    /// A witness says something.
    pub(super) fn heard(&mut self, from: &StackName, message: FromWitness, now: Instant) {
        self.tenures.heard(from, message, now);
        self.is_fence_old = true;
    }

    /// Something comes from etcd. `true`: whether this node reaches it has changed.
    pub(super) fn told(&mut self, news: News, now: Instant) -> bool {
        let before = self.is_cut_off();
        self.tenures.told(news, now);
        self.is_fence_old = true;
        before != self.is_cut_off()
    }

    /// Whether etcd decides, and this node hears nothing of it.
    pub(super) fn is_cut_off(&self) -> bool {
        self.tenures.is_cut_off()
    }

    /// What the room says since the last call, for [`Self::turn`].
    pub(super) fn news(&mut self, now: Instant) -> Vec<Tenure> {
        self.tenures.tick(now);
        let news: Vec<Tenure> = std::iter::from_fn(|| self.tenures.poll()).collect();
        self.is_fence_old |= !news.is_empty();
        news
    }

    /// Follows it; says what has been gained and lost, and then what witnesses are to be told and etcd is to be asked.
    pub(super) fn turn(&mut self, news: Vec<Tenure>, now: Instant) -> (Vec<Turn>, Vec<Action>) {
        let (mut turns, mut says) = (Vec::new(), Vec::new());
        for action in news {
            match action {
                Tenure::Gained { dvipa, epoch } => {
                    if let Some(held) = self.held.get_mut(&dvipa) {
                        (held.standing, held.epoch) = (Standing::Owner, epoch);
                        turns.push(Turn::Gained(dvipa));
                    }
                }
                Tenure::Lost { dvipa, .. } => {
                    if let Some(held) = self.held.get_mut(&dvipa) {
                        held.epoch = NOT_OWNED;
                        if held.standing == Standing::Owner {
                            held.standing = Standing::Former { until: now + FORMER };
                            self.fades = self.fades.or(Some(now + FORMER));
                        }
                        turns.push(Turn::Lost(dvipa));
                    }
                }
                Tenure::Send { to, message } => {
                    says.push(Action::Send { to, message: ToStack::Ownership(message) });
                }
                Tenure::Ask { ask, question } => says.push(Action::AskEtcd { ask, question }),
                // Kept by the runtime where this node decides alone; otherwise witnesses or etcd keep it.
                Tenure::Keep { epoch } => self.highest = self.highest.max(epoch),
            }
        }
        (turns, says)
    }

    /// Those of which this stack is the former owner no longer, because it was for long enough.
    pub(super) fn fade(&mut self, now: Instant) -> Vec<Dvipa> {
        let mut faded = Vec::new();
        if self.fades.is_none_or(|at| at > now) {
            return faded;
        }
        for (dvipa, held) in &mut self.held {
            if matches!(held.standing, Standing::Former { until } if until <= now) {
                held.standing = Standing::Backup;
                faded.push(*dvipa);
            }
        }
        self.fades = self.held.values().filter_map(Held::fades).min();
        faded
    }

    /// Until when workers may take this stack for the owner of what it owns, if that has changed. When it owns nothing any more the
    /// last time stays, which is over.
    pub(super) fn moved_fence(&mut self) -> Option<Instant> {
        if !std::mem::take(&mut self.is_fence_old) {
            return None;
        }
        let fence = self.tenures.fence()?;
        (self.fence.replace(fence) != Some(fence)).then_some(fence)
    }

    /// When [`Self::news`] or [`Self::fade`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.fades.into_iter().chain(self.tenures.next_deadline()).min()
    }

    /// Forgets what was not defined for as long as this; returns the numbers, which rest from now on.
    pub(super) fn forget(&mut self, patience: Duration, now: Instant) -> BTreeMap<Dvipa, DvipaIndex> {
        let is_gone = |held: &Held| match held.standing {
            Standing::Owner | Standing::Former { .. } | Standing::Backup => false,
            Standing::Gone { since } => now.saturating_duration_since(since) >= patience,
        };
        let gone = self.held.iter().filter(|(_, held)| is_gone(held));
        let gone: BTreeMap<Dvipa, DvipaIndex> = gone.map(|(dvipa, held)| (*dvipa, held.index)).collect();
        self.held.retain(|dvipa, _| !gone.contains_key(dvipa));
        gone
    }

    /// Whether this stack owned the DVIPA until a moment ago.
    pub(super) fn is_former(&self, dvipa: Dvipa) -> bool {
        self.held.get(&dvipa).is_some_and(|held| held.fades().is_some())
    }

    /// A DVIPA that this stack owns now.
    pub(super) fn owned(&self, dvipa: Dvipa) -> Option<Held> {
        self.held.get(&dvipa).copied().filter(|held| held.standing == Standing::Owner)
    }

    /// A DVIPA that this stack owns, or would take over.
    pub(super) fn warm(&self, dvipa: Dvipa) -> Option<Held> {
        self.held.get(&dvipa).copied().filter(|held| held.duty().is_some())
    }

    /// A DVIPA that this stack defines or backs up, or did until a while ago.
    pub(super) fn held(&self, dvipa: Dvipa) -> Option<Held> {
        self.held.get(&dvipa).copied()
    }

    /// All that this stack owns now, by address.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Dvipa, Held)> {
        self.iter_warm().filter(|(_, held)| held.standing == Standing::Owner)
    }

    /// All that this stack owns or would take over, by address.
    pub(super) fn iter_warm(&self) -> impl Iterator<Item = (Dvipa, Held)> {
        self.held.iter().filter(|(_, held)| held.duty().is_some()).map(|(dvipa, held)| (*dvipa, *held))
    }
}
