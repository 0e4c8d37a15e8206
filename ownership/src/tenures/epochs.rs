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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::MAX_LEAP;

    fn dvipa(number: usize) -> Dvipa {
        Dvipa::new(Ipv4Addr::from(u32::try_from(number + 1).unwrap()).into())
    }

    #[test]
    fn an_epoch_can_be_that_is_near_the_highest_and_leaves_one_for_the_next() {
        let epochs = Epochs::new(Epoch(5));
        assert!(epochs.can_be(Epoch(0)) && epochs.can_be(Epoch(5 + MAX_LEAP)));
        assert!(!epochs.can_be(Epoch(6 + MAX_LEAP)));
        let high = Epochs::new(Epoch(u64::MAX - 2));
        assert!(high.can_be(Epoch(u64::MAX - 1)) && !high.can_be(Epoch(u64::MAX)));
    }

    #[test]
    fn what_can_not_be_is_not_seen_and_each_dvipa_has_its_own() {
        let mut epochs = Epochs::new(Epoch(5));
        epochs.saw(dvipa(0), Epoch(9));
        epochs.saw(dvipa(0), Epoch(8));
        epochs.saw(dvipa(1), Epoch(10 + MAX_LEAP));
        assert_eq!((epochs.highest(dvipa(0)), epochs.highest(dvipa(1))), (Epoch(9), Epoch(5)));
        assert_eq!((epochs.next(dvipa(0)), epochs.successor(dvipa(0))), (Epoch(10), Epoch(11)));
        assert_eq!(epochs.successor(dvipa(1)), Epoch(6));
    }

    #[test]
    fn of_too_many_dvipas_the_highest_epoch_of_all_is_remembered() {
        let mut epochs = Epochs::new(Epoch(5));
        (0..MAX_REMEMBERED).for_each(|number| epochs.saw(dvipa(number), Epoch(6)));
        epochs.saw(dvipa(0), Epoch(40));
        assert_eq!(epochs.highest(dvipa(MAX_REMEMBERED)), Epoch(5), "all are remembered");
        epochs.saw(dvipa(MAX_REMEMBERED), Epoch(7));
        assert_eq!(epochs.highest(dvipa(MAX_REMEMBERED)), Epoch(40), "and now none");
        assert_eq!(epochs.highest(dvipa(1)), Epoch(40));
    }

    #[test]
    fn an_epoch_is_kept_if_it_is_higher_than_what_is_kept() {
        let mut epochs = Epochs::new(Epoch(5));
        let kept = [5, 6, 6, 4, 7].map(|epoch| epochs.is_to_be_kept(Epoch(epoch)));
        assert_eq!(kept, [false, true, false, false, true]);
    }
}
