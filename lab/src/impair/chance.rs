//! Chance with a seed.

/// SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True so often of a thousand times.
    pub(super) fn permille(&mut self, often: u16) -> bool {
        often > 0 && self.next() % 1000 < u64::from(often)
    }

    /// A number from 1 to `most`.
    pub(super) fn up_to(&mut self, most: u16) -> u64 {
        1 + self.next() % u64::from(most.max(1))
    }
}
