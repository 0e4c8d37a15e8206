//! The keyed hash that places keys, so that nobody without the table's secret can choose keys that meet in one line.
//!
//! With AES instructions: four rounds of AES with five independent random round keys, for an IPv6 key one such block for
//! each half, both combined and mixed by two more rounds. Four rounds with independent keys map two *different* blocks
//! to a given difference with a probability of at most 2⁻¹¹³ (Keliher and Sui 2007; used as a universal hash by Minematsu
//! and Tsunoo, FSE 2006), so two keys chosen without the secret collide in the bits used here practically as often as
//! by chance. What this does not claim is a pseudo-random function against someone who sees the hash values: they never
//! leave the node.
//!
//! Without: SipHash-1-3 with 128 bits of output: slower, and believed to be a PRF.

use super::key::Exact;

/// 32 independent bits for each use of a key's hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hash {
    /// Chooses the first line in the main table.
    pub(super) first: u32,
    /// Chooses the second line.
    pub(super) second: u32,
    /// Chooses the line in a bounded table.
    pub(super) bounded: u32,
    /// Chooses the class of keys that overflow.
    pub(super) class: u32,
}

/// Round keys, and which of the two hashes they are for.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Secret {
    rounds: [[u64; 2]; ROUNDS],
    aes: u64,
}

const ROUNDS: usize = 12;

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.aes == 0 { "Secret(SipHash)" } else { "Secret(AES)" })
    }
}

/// `hash × n / 2³²`: an index below `n`, without a division.
#[inline(always)]
pub(super) fn index(hash: u32, n: usize) -> usize {
    ((u64::from(hash) * n as u64) >> 32) as usize
}

impl Secret {
    /// From the system's random numbers.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn random() -> std::io::Result<Self> {
        use std::io::Read as _;
        let mut source = std::fs::File::open("/dev/urandom")?;
        let mut secret = Self { rounds: [[0; 2]; ROUNDS], aes: u64::from(has_aes()) };
        for word in secret.rounds.as_flattened_mut() {
            let mut bytes = [0; 8];
            source.read_exact(&mut bytes)?;
            *word = u64::from_ne_bytes(bytes);
        }
        Ok(secret)
    }

    /// A secret that everyone knows: for models and for showing what an attacker could do if he knew it.
    #[cfg(test)]
    pub(super) fn known(aes: bool) -> Self {
        let mut rounds = [[0; 2]; ROUNDS];
        for (i, word) in rounds.as_flattened_mut().iter_mut().enumerate() {
            *word = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        Self { rounds, aes: u64::from(aes) }
    }

    /// Whether this processor can compute what the secret was made for.
    pub(super) fn fits_this_processor(&self) -> bool {
        self.aes == 0 || has_aes()
    }

    /// The hash of one key.
    #[inline]
    pub(super) fn hash<K: Exact>(&self, key: K) -> Hash {
        #[cfg(target_arch = "x86_64")]
        if self.aes != 0 {
            // SAFETY: `aes` is set only if the processor has AES instructions: `random` and `attach` look.
            return unsafe { aes::hash(&self.rounds, key) };
        }
        let [seed, ..] = self.rounds;
        let words = key.words();
        split(siphash::<1, 3>(seed, words.as_ref().iter().copied().chain([key.service()])))
    }

    /// The hashes of as many keys as both slices hold. The choice between the two hashes is made once a burst.
    #[inline]
    pub(super) fn hash_all<K: Exact>(&self, keys: &[K], out: &mut [Hash]) {
        #[cfg(target_arch = "x86_64")]
        if self.aes != 0 {
            // SAFETY: as in `hash`.
            return unsafe { aes::hash_all(&self.rounds, keys, out) };
        }
        for (key, out) in keys.iter().zip(out) {
            *out = self.hash(*key);
        }
    }
}

fn split([a, b]: [u64; 2]) -> Hash {
    Hash { first: a as u32, second: (a >> 32) as u32, bounded: b as u32, class: (b >> 32) as u32 }
}

fn has_aes() -> bool {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    return false;
}

#[cfg(target_arch = "x86_64")]
mod aes {
    use std::arch::x86_64::{
        __m128i, _mm_aesenc_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_unpackhi_epi64, _mm_xor_si128,
    };

    use super::{Hash, ROUNDS, split};
    use crate::crt::key::Exact;

    #[target_feature(enable = "aes")]
    pub(super) fn hash_all<K: Exact>(rounds: &[[u64; 2]; ROUNDS], keys: &[K], out: &mut [Hash]) {
        let rounds = rounds.map(|[low, high]| block(low, high));
        for (key, out) in keys.iter().zip(out) {
            *out = hash_with(&rounds, *key);
        }
    }

    #[target_feature(enable = "aes")]
    pub(super) fn hash<K: Exact>(rounds: &[[u64; 2]; ROUNDS], key: K) -> Hash {
        hash_with(&rounds.map(|[low, high]| block(low, high)), key)
    }

    #[inline]
    #[target_feature(enable = "aes")]
    fn hash_with<K: Exact>(rounds: &[__m128i; ROUNDS], key: K) -> Hash {
        let [a0, a1, a2, a3, a4, b0, b1, b2, b3, b4, c0, c1] = *rounds;
        let words = key.words();
        let hash = match *words.as_ref() {
            [word] => four(block(word, key.service()), a0, [a1, a2, a3, a4]),
            [w0, w1, w2] => {
                let a = four(block(w0, w1), a0, [a1, a2, a3, a4]);
                let b = four(block(w2, key.service()), b0, [b1, b2, b3, b4]);
                _mm_aesenc_si128(_mm_aesenc_si128(_mm_xor_si128(a, b), c0), c1)
            }
            _ => block(0, 0),
        };
        split([_mm_cvtsi128_si64(hash) as u64, _mm_cvtsi128_si64(_mm_unpackhi_epi64(hash, hash)) as u64])
    }

    #[inline]
    #[target_feature(enable = "aes")]
    fn block(low: u64, high: u64) -> __m128i {
        _mm_set_epi64x(high as i64, low as i64)
    }

    #[inline]
    #[target_feature(enable = "aes")]
    fn four(input: __m128i, whitening: __m128i, keys: [__m128i; 4]) -> __m128i {
        keys.into_iter().fold(_mm_xor_si128(input, whitening), |state, key| _mm_aesenc_si128(state, key))
    }
}

/// SipHash with `C` rounds a word and `D` at the end, and 128 bits of output, of whole words. (Aumasson and Bernstein,
/// 2012; the output's second half as in the authors' reference code.)
fn siphash<const C: usize, const D: usize>([k0, k1]: [u64; 2], words: impl Iterator<Item = u64>) -> [u64; 2] {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut bytes = 0u64;
    let absorb = |v: &mut [u64; 4], word: u64| {
        v[3] ^= word;
        rounds::<C>(v);
        v[0] ^= word;
    };
    for word in words {
        absorb(&mut v, word);
        bytes = bytes.wrapping_add(8);
    }
    absorb(&mut v, bytes << 56);
    v[2] ^= 0xee;
    rounds::<D>(&mut v);
    let low = v.iter().fold(0, |a, b| a ^ b);
    v[1] ^= 0xdd;
    rounds::<D>(&mut v);
    [low, v.iter().fold(0, |a, b| a ^ b)]
}

fn rounds<const N: usize>([a, b, c, d]: &mut [u64; 4]) {
    for _ in 0..N {
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
