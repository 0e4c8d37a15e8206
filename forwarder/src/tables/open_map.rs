//! A map that is made once and then only read: open addressing, at most half full, no allocation after it is made.

use std::sync::Arc;

/// A key with a well-spread hash.
pub(super) trait Spread: Copy + Default + Eq {
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

/// The map. A clone shares its memory.
#[derive(Clone, Debug)]
pub(super) struct OpenMap<K, V> {
    /// As many as a power of two. One without a value is empty; its key means nothing.
    slots: Arc<[(K, Option<V>)]>,
}

impl<K: Spread, V: Copy> OpenMap<K, V> {
    /// The map of these pairs; of a key that comes twice, the first counts.
    pub(super) fn new(pairs: impl ExactSizeIterator<Item = (K, V)>) -> Self {
        let len = pairs.len().saturating_mul(2).max(2).next_power_of_two();
        let mut slots = vec![(K::default(), None); len];
        for (key, value) in pairs {
            let is_it = |(k, v): &(K, Option<V>)| *k == key || v.is_none();
            let at = probe(key, len).find(|at| slots.get(*at).is_some_and(is_it));
            if let Some((k, v)) = at.and_then(|at| slots.get_mut(at)) {
                *k = key;
                v.get_or_insert(value);
            }
        }
        Self { slots: slots.into() }
    }

    /// The value of a key.
    #[inline(always)]
    pub(super) fn get(&self, key: K) -> Option<V> {
        let (k, value) = self.slots.get(first(key, self.slots.len()))?;
        if *k == key { *value } else { value.and_then(|_| self.get_further(key)) }
    }

    /// The value of a key that is not in its first slot.
    #[cold]
    fn get_further(&self, key: K) -> Option<V> {
        let places = probe(key, self.slots.len());
        let mut slots = places.map_while(|at| self.slots.get(at)).take_while(|(_, value)| value.is_some());
        slots.find(|(k, _)| *k == key).and_then(|(_, value)| *value)
    }
}

/// The slot where a key should be: the hash's high bits, as a share of so many. Without a shift by a number that is read, which
/// takes a register that is needed.
#[inline(always)]
fn first<K: Spread>(key: K, len: usize) -> usize {
    ((key.spread() >> 32).wrapping_mul(len as u64) >> 32) as usize
}

/// The slots where a key may be, in order.
fn probe<K: Spread>(key: K, len: usize) -> impl Iterator<Item = usize> + use<K> {
    let start = first(key, len);
    (0..len).map(move |step| start.wrapping_add(step) & len.wrapping_sub(1))
}
