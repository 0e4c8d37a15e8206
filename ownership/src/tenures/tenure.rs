//! One DVIPA that a node owns or wants to own.

use std::time::Instant;

use model::Epoch;
use model::ownership::Ask;

use super::WitnessSet;
use crate::lease::Lease;

/// How far a node is with a DVIPA that it wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tenure {
    pub(super) epoch: Epoch,
    /// Lists with this number and higher ones claim it in this epoch.
    since: Ask,
    /// The witnesses that have granted such a claim.
    granted: WitnessSet,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standing {
    /// Too few witnesses have granted it, the first of them at this time.
    Claiming { first: Option<Instant> },
    /// A majority has.
    Owned,
    /// Not claimed until then: what it had of the witnesses is left to others.
    Resting { until: Instant },
}

/// What becomes of a tenure when grants come or leases lapse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Gained,
    Lapsed,
    /// It kept grants for too long that are too few.
    GaveWay,
    /// It has rested.
    Again,
}

impl Tenure {
    /// Claimed in all lists from this number on.
    pub(super) fn new(epoch: Epoch, since: Ask) -> Self {
        Self { epoch, since, granted: WitnessSet::default(), standing: Standing::Claiming { first: None } }
    }

    /// Rests until then.
    pub(super) fn rest(&mut self, until: Instant) {
        self.granted = WitnessSet::default();
        self.standing = Standing::Resting { until };
    }

    pub(super) fn is_owned(&self) -> bool {
        self.standing == Standing::Owned
    }

    /// Whether lists name it.
    pub(super) fn is_claimed(&self) -> bool {
        !matches!(self.standing, Standing::Resting { .. })
    }

    /// Whether lists with this number claim it in the present epoch.
    pub(super) fn is_in(&self, list: Ask) -> bool {
        self.is_claimed() && self.since <= list
    }

    pub(super) fn granted(&self) -> WitnessSet {
        self.granted
    }

    /// This witness has granted it, or has not.
    pub(super) fn grant(&mut self, witness: usize, granted: bool, now: Instant) {
        self.granted.put(witness, granted);
        if let Standing::Claiming { first } = &mut self.standing {
            *first = first.or(Some(now)).filter(|_| !self.granted.is_empty());
        }
    }

    /// What happens now, where these witnesses lease to the node.
    pub(super) fn turn(
        &self,
        leasing: WitnessSet,
        majority: u32,
        lease: Lease,
        now: Instant,
    ) -> Option<Turn> {
        let grants = self.granted.and(leasing).len();
        match self.standing {
            Standing::Claiming { .. } if grants >= majority => Some(Turn::Gained),
            Standing::Claiming { .. } if self.gives_way(majority, lease).is_some_and(|at| now >= at) => {
                Some(Turn::GaveWay)
            }
            Standing::Owned if grants < majority => Some(Turn::Lapsed),
            Standing::Resting { until } if now >= until => Some(Turn::Again),
            Standing::Claiming { .. } | Standing::Owned | Standing::Resting { .. } => None,
        }
    }

    /// It is owned from now on.
    pub(super) fn own(&mut self) {
        self.standing = Standing::Owned;
    }

    /// When it leaves to others the too few grants that it has.
    fn gives_way(&self, majority: u32, lease: Lease) -> Option<Instant> {
        match self.standing {
            Standing::Claiming { first } => {
                first.map(|first| first + lease.patience(self.granted.len(), majority))
            }
            Standing::Owned | Standing::Resting { .. } => None,
        }
    }

    /// When [`Tenure::turn`] is to be asked though nothing was heard, lapsing leases apart.
    pub(super) fn deadline(&self, majority: u32, lease: Lease) -> Option<Instant> {
        match self.standing {
            Standing::Claiming { .. } | Standing::Owned => self.gives_way(majority, lease),
            Standing::Resting { until } => Some(until),
        }
    }
}
