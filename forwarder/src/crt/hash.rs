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
use super::share::{Division, Place};

/// 32 independent bits for each number of a [`Place`].
pub(super) type Hash = [u32; 4];

/// Round keys, and which of the two hashes they are for. Aligned so that the round keys are read where they are.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
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

    /// All of it, for a checksum.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> {
        self.rounds.as_flattened().iter().copied().chain([self.aes])
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

    /// The place of one key.
    #[inline]
    pub(super) fn place<K: Exact>(&self, division: &Division, key: K) -> Place {
        #[cfg(target_arch = "x86_64")]
        if self.aes != 0 {
            // SAFETY: `aes` is set only if the processor has what `has_aes` looks for: `random` and `attach` ask it.
            return unsafe { aes::place(self, division, key) };
        }
        let [a, b] = self.siphash(key);
        division.choice(key.service()).place([a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32])
    }

    /// The hash of one key as a number: for other tables than the CRT.
    #[inline]
    pub(super) fn number<K: Exact>(&self, key: K) -> u64 {
        #[cfg(target_arch = "x86_64")]
        if self.aes != 0 {
            // SAFETY: as in `place`.
            return unsafe { aes::number(self, key) };
        }
        let [number, _] = self.siphash(key);
        number
    }

    fn siphash<K: Exact>(&self, key: K) -> [u64; 2] {
        let [seed, ..] = self.rounds;
        siphash::<1, 3>(seed, key.words().as_ref().iter().copied().chain([key.service()]))
    }

    /// The places of as many keys as both slices hold. The choice between the two hashes is made once a burst.
    #[inline]
    pub(super) fn place_all<K: Exact>(&self, division: &Division, keys: &[K], out: &mut [Place]) {
        #[cfg(target_arch = "x86_64")]
        if self.aes != 0 {
            // SAFETY: as in `place`.
            return unsafe { aes::place_all(self, division, keys, out) };
        }
        for (key, out) in keys.iter().zip(out) {
            *out = self.place(division, *key);
        }
    }
}

fn has_aes() -> bool {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("sse4.1");
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    return false;
}

#[cfg(target_arch = "x86_64")]
mod aes {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_aesenc_si128, _mm_blend_epi16, _mm_cmpgt_epi32, _mm_cvtsi128_si64,
        _mm_mul_epu32, _mm_set_epi64x, _mm_shuffle_epi32, _mm_srli_epi64, _mm_xor_si128,
    };

    use super::{ROUNDS, Secret};
    use crate::crt::key::Exact;
    use crate::crt::share::{Choice, Division, Place};

    #[target_feature(enable = "aes,sse4.1")]
    pub(super) fn place_all<K: Exact>(secret: &Secret, division: &Division, keys: &[K], out: &mut [Place]) {
        for (key, out) in keys.iter().zip(out) {
            *out = place(secret, division, *key);
        }
    }

    #[inline]
    #[target_feature(enable = "aes,sse4.1")]
    pub(super) fn place<K: Exact>(secret: &Secret, division: &Division, key: K) -> Place {
        placed(hash(blocks(secret), key), division.choice(key.service()))
    }

    #[inline]
    #[target_feature(enable = "aes,sse4.1")]
    pub(super) fn number<K: Exact>(secret: &Secret, key: K) -> u64 {
        _mm_cvtsi128_si64(hash(blocks(secret), key)) as u64
    }

    #[inline]
    #[target_feature(enable = "aes,sse4.1")]
    fn hash<K: Exact>(rounds: &[__m128i; ROUNDS], key: K) -> __m128i {
        let [a0, a1, a2, a3, a4, b0, b1, b2, b3, b4, c0, c1] = *rounds;
        let words = key.words();
        match *words.as_ref() {
            [word] => four(block(word, key.service()), a0, [a1, a2, a3, a4]),
            [w0, w1, w2] => {
                let a = four(block(w0, w1), a0, [a1, a2, a3, a4]);
                let b = four(block(w2, key.service()), b0, [b1, b2, b3, b4]);
                _mm_aesenc_si128(_mm_aesenc_si128(_mm_xor_si128(a, b), c0), c1)
            }
            _ => block(0, 0),
        }
    }

    /// [`Choice::place`] of all four at once.
    #[inline]
    #[target_feature(enable = "aes,sse4.1")]
    fn placed(hash: __m128i, choice: &Choice) -> Place {
        // SAFETY: both are 16 bytes of any value.
        let [of, from]: [__m128i; 2] = unsafe { std::mem::transmute([choice.of, choice.from]) };
        // Products of 64 bits of the first and third, and of the second and fourth; of each the upper half.
        let even = _mm_mul_epu32(hash, of);
        let odd = _mm_mul_epu32(_mm_shuffle_epi32::<0xf5>(hash), _mm_shuffle_epi32::<0xf5>(of));
        let numbers = _mm_blend_epi16::<0b1100_1100>(_mm_srli_epi64::<32>(even), odd);
        // -1 in the second place, if the first is greater than it; each of the others is compared with itself.
        let less = _mm_cmpgt_epi32(_mm_shuffle_epi32::<0xe0>(numbers), numbers);
        let place = _mm_add_epi32(_mm_add_epi32(numbers, from), less);
        // SAFETY: as above.
        unsafe { std::mem::transmute(place) }
    }

    /// The round keys where they are: a copy of all twelve cost more than the hash of a key.
    #[inline]
    #[target_feature(enable = "aes,sse4.1")]
    fn blocks(secret: &Secret) -> &[__m128i; ROUNDS] {
        const {
            assert!(
                std::mem::offset_of!(Secret, rounds) == 0 && align_of::<Secret>() == align_of::<__m128i>()
            )
        };
        // SAFETY: both are 16 bytes of any value for each round, and the round keys are aligned as the secret is (asserted).
        unsafe { &*std::ptr::from_ref(&secret.rounds).cast() }
    }

    /// [`placed`], for tests.
    #[cfg(test)]
    pub(super) fn placed_of(hash: super::Hash, choice: &Choice) -> Place {
        assert!(super::has_aes(), "the processor has the instructions");
        // SAFETY: asserted; and both are 16 bytes of any value.
        unsafe { placed(std::mem::transmute::<super::Hash, __m128i>(hash), choice) }
    }

    #[inline]
    #[target_feature(enable = "aes,sse4.1")]
    fn block(low: u64, high: u64) -> __m128i {
        _mm_set_epi64x(high as i64, low as i64)
    }

    #[inline]
    #[target_feature(enable = "aes,sse4.1")]
    fn four(input: __m128i, whitening: __m128i, keys: [__m128i; 4]) -> __m128i {
        keys.into_iter().fold(_mm_xor_si128(input, whitening), |state, key| _mm_aesenc_si128(state, key))
    }
}

/// Tells damage from what was written, not forgery: the key is known.
pub(super) fn checksum(words: impl Iterator<Item = u64>) -> u64 {
    let [sum, _] = siphash::<1, 3>([0; 2], words);
    sum
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
