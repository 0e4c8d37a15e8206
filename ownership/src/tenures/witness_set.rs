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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in_and_not_taken_out_and_no_more_than_there_is_room_for() {
        let mut set: WitnessSet = [0, 3, MAX_WITNESSES - 1, MAX_WITNESSES, 99].into_iter().collect();
        let within = |set: WitnessSet| (0..100).filter(|place| set.has(*place)).collect::<Vec<_>>();
        assert_eq!((within(set), set.len()), (vec![0, 3, MAX_WITNESSES - 1], 3));
        set.put(3, false);
        set.put(1, false);
        set.put(MAX_WITNESSES, false);
        assert_eq!(within(set), [0, MAX_WITNESSES - 1]);
        let other: WitnessSet = [0, 1].into_iter().collect();
        assert_eq!(within(set.and(other)), [0]);
        assert!(!set.is_empty() && WitnessSet::default().is_empty());
    }
}
