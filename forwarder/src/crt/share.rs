//! TCP and UDP have lines of their own in the main table, so that neither can fill the other's.
//!
//! The range of a key's hash is divided like the lines: hashes below a bound choose TCP's lines, the others UDP's. So all that
//! finds lines by hashes, a burst's look-up above all, need not know of it.

use std::ops::Range;

use super::hash::{Hash, Secret};
use super::key::{Exact, is_udp};

/// The division of the main table's lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// TCP's lines: the first ones.
    tcp_lines: usize,
    lines: usize,
    /// Hashes below this one choose TCP's lines; at most 2³².
    bound: u64,
}

const HASHES: u64 = 1 << 32;

impl Share {
    /// The first `tcp_lines` of `lines` are TCP's.
    pub(super) fn new(tcp_lines: usize, lines: usize) -> Self {
        // The least hash that chooses a line of UDP's (`super::hash::index`).
        let bound = (tcp_lines as u64).saturating_mul(HASHES).div_ceil(lines.max(1) as u64).min(HASHES);
        Self { tcp_lines, lines, bound }
    }

    /// The hash of a key, with both its lines in the protocol's share.
    #[inline]
    pub(super) fn hash<K: Exact>(self, secret: &Secret, key: K) -> Hash {
        self.placed(secret.hash(key), key)
    }

    /// [`Self::hash`] of as many keys as both slices hold.
    #[inline(always)]
    pub(super) fn hash_all<K: Exact>(self, secret: &Secret, keys: &[K], out: &mut [Hash]) {
        secret.hash_all(keys, out);
        for (key, hash) in keys.iter().zip(out) {
            *hash = self.placed(*hash, *key);
        }
    }

    /// Neither a branch nor a division.
    #[inline(always)]
    fn placed<K: Exact>(self, hash: Hash, key: K) -> Hash {
        let udp = is_udp(key.service());
        let (from, len) = if udp { (self.bound, HASHES - self.bound) } else { (0, self.bound) };
        let place = |hash: u32| (from + ((u64::from(hash) * len) >> 32)) as u32;
        Hash { first: place(hash.first), second: place(hash.second), ..hash }
    }

    /// The share that a line is in.
    #[inline(always)]
    pub(super) fn around(self, line: usize) -> Range<usize> {
        if line < self.tcp_lines { 0..self.tcp_lines } else { self.tcp_lines..self.lines }
    }
}
