//! A map that is made once and then only read: open addressing, at most half full, no allocation after it is made.

/// A key with a well-spread hash.
pub(super) trait Spread: Copy + Eq {
    /// The hash; all its bits are used.
    fn spread(self) -> u64;
}

/// 2⁶⁴ divided by the golden ratio: multiplying by it spreads low bits into high ones (Knuth, TAOCP 3, 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Spread for u32 {
    #[inline(always)]
    fn spread(self) -> u64 {
        u64::from(self).wrapping_mul(GOLDEN)
    }
}

impl Spread for u128 {
    #[inline(always)]
    fn spread(self) -> u64 {
        let folded = (self >> 64) as u64 ^ (self as u64).wrapping_mul(GOLDEN).rotate_left(32);
        folded.wrapping_mul(GOLDEN)
    }
}

/// The map.
#[derive(Debug)]
pub(super) struct OpenMap<K, V> {
    slots: Box<[Option<(K, V)>]>,
    /// A hash shifted right by this is a slot's number.
    shift: u32,
}

impl<K: Spread, V: Copy> OpenMap<K, V> {
    /// The map of these pairs; of a key that comes twice, the first counts.
    pub(super) fn new(pairs: impl ExactSizeIterator<Item = (K, V)>) -> Self {
        let len = pairs.len().saturating_mul(2).max(2).next_power_of_two();
        let mut map =
            Self { slots: vec![None; len].into(), shift: 64_u32.saturating_sub(len.trailing_zeros()) };
        for (key, value) in pairs {
            let at =
                map.probe(key).find(|at| map.slots.get(*at).is_some_and(|s| s.is_none_or(|(k, _)| k == key)));
            if let Some(slot) = at.and_then(|at| map.slots.get_mut(at)) {
                slot.get_or_insert((key, value));
            }
        }
        map
    }

    /// The slots where a key may be, in order.
    fn probe(&self, key: K) -> impl Iterator<Item = usize> + use<K, V> {
        let (len, start) = (self.slots.len(), (key.spread() >> self.shift) as usize);
        (0..len).map(move |step| start.wrapping_add(step) & len.wrapping_sub(1))
    }

    /// The value of a key.
    #[inline(always)]
    pub(super) fn get(&self, key: K) -> Option<V> {
        match self.slots.get((key.spread() >> self.shift) as usize)? {
            Some((k, value)) if *k == key => Some(*value),
            Some(_) => self.get_further(key),
            None => None,
        }
    }

    /// The value of a key that is not in its first slot.
    #[cold]
    fn get_further(&self, key: K) -> Option<V> {
        let slots = self.probe(key).map_while(|at| self.slots.get(at).copied().flatten());
        slots.into_iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }
}
