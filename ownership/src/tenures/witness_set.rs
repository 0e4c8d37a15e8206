//! Some of the configured witnesses.

/// So many witnesses may be configured.
pub const MAX_WITNESSES: usize = 16;

/// Witnesses by their place among those that are configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WitnessSet(u16);

impl WitnessSet {
    pub(super) fn put(&mut self, witness: usize, within: bool) {
        let bit = 1_u16.checked_shl(u32::try_from(witness).unwrap_or(u32::MAX)).unwrap_or(0);
        if within {
            self.0 |= bit;
        } else {
            self.0 &= !bit;
        }
    }

    pub(super) fn has(self, witness: usize) -> bool {
        u32::try_from(witness).is_ok_and(|place| self.0.checked_shr(place).unwrap_or(0) & 1 == 1)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<usize> for WitnessSet {
    fn from_iter<I: IntoIterator<Item = usize>>(witnesses: I) -> Self {
        let mut set = Self::default();
        witnesses.into_iter().for_each(|witness| set.put(witness, true));
        set
    }
}
