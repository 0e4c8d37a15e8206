//! Which epochs there were.

use std::collections::BTreeMap;

use model::{Dvipa, Epoch};

/// So many DVIPAs are remembered one by one; of more, only the highest epoch of all.
const MAX_REMEMBERED: usize = 8192;

/// The highest epoch of each DVIPA. The next is its successor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Epochs {
    /// The highest of those that are not remembered one by one.
    above: Epoch,
    highest: BTreeMap<Dvipa, Epoch>,
    /// The highest of all.
    top: Epoch,
    /// The highest that is on disk.
    kept: Epoch,
}

impl Epochs {
    pub(crate) fn new(above: Epoch) -> Self {
        Self { above, highest: BTreeMap::new(), top: above, kept: above }
    }

    /// Whether there can be this one.
    pub(crate) fn can_be(&self, epoch: Epoch) -> bool {
        crate::is_near(epoch, self.top)
    }

    /// There is this one, if it can be.
    pub(crate) fn saw(&mut self, dvipa: Dvipa, epoch: Epoch) {
        if !self.can_be(epoch) {
            return;
        }
        self.top = epoch.max(self.top);
        if self.highest.len() >= MAX_REMEMBERED && !self.highest.contains_key(&dvipa) {
            self.above = self.highest.values().fold(self.above, |above, epoch| above.max(*epoch));
            self.highest.clear();
        }
        let highest = self.highest.entry(dvipa).or_default();
        *highest = epoch.max(*highest);
    }

    /// The highest that there was.
    pub(crate) fn highest(&self, dvipa: Dvipa) -> Epoch {
        self.highest.get(&dvipa).map_or(self.above, |highest| self.above.max(*highest))
    }

    /// The next one.
    pub(crate) fn successor(&self, dvipa: Dvipa) -> Epoch {
        Epoch(self.highest(dvipa).0.saturating_add(1))
    }

    /// Takes the next one.
    pub(crate) fn next(&mut self, dvipa: Dvipa) -> Epoch {
        let epoch = self.successor(dvipa);
        self.saw(dvipa, epoch);
        epoch
    }

    /// Whether this one has to be written to disk, which is taken for done.
    pub(crate) fn is_to_be_kept(&mut self, epoch: Epoch) -> bool {
        let is_higher = epoch > self.kept;
        self.kept = epoch.max(self.kept);
        is_higher
    }
}
