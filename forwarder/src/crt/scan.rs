//! A whole line read for one key, for look-ups in bursts: what is known of the key there, and the line's marks as they were
//! then.
//!
//! Twice: portably, and with AVX2, which bought 3.6 ns a key that is found in a table that fits the cache. Both keep the
//! same promise ([`Reader::scan`]), which is all that [`super::burst`] builds on; the models and the other processors run
//! the portable one, the tests compare the two.

use super::key::Exact;
use super::line::{Line, Marks};
use super::meta::Meta;

/// Whether this processor can do `Vectors`.
pub(super) fn has_vectors() -> bool {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    return std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("bmi1");
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    return false;
}

/// A way to read lines.
pub(super) trait Reader {
    /// The meta of `key`, and the marks.
    ///
    /// If the meta is not zero, it is of an entry of `key` that was in the line at some moment of the call. If it is zero and the line's marks are later found unchanged, the key was not in the line from this call until then.
    fn scan<K: Exact>(line: &Line, key: K) -> (Meta, Marks);
}

/// With the atomics of the language.
pub(super) struct Portable;

impl Reader for Portable {
    #[inline(always)]
    fn scan<K: Exact>(line: &Line, key: K) -> (Meta, Marks) {
        // Marks first (their loads acquire): what changes after them shows in them.
        let marks = line.marks::<K>();
        (line.find(key).map_or(Meta(0), |(_, meta)| meta), marks)
    }
}

#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
pub(super) use vectors::Vectors;

#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
mod vectors {
    //! The loads are written in assembly, because the language has no vector load of memory that others write. They are
    //! what the processor makes of acquire loads. VMOVDQA of 16 bytes is one access on every processor with AVX (Intel SDM
    //! 3A 9.1.1, AMD APM 2 7.3.2), so an IPv4 slot, key word and meta, is read in one piece: L2 and L3 hold without a second look.

    use std::arch::asm;
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_and_si128, _mm_andnot_si128, _mm_cmpeq_epi64, _mm_cvtsi128_si64, _mm_or_si128,
        _mm_set1_epi64x, _mm_setzero_si128, _mm_unpackhi_epi64, _mm_xor_si128, _mm256_and_si256,
        _mm256_andnot_si256, _mm256_castsi128_si256, _mm256_castsi256_pd, _mm256_castsi256_si128,
        _mm256_cmpeq_epi64, _mm256_extracti128_si256, _mm256_inserti128_si256, _mm256_movemask_pd,
        _mm256_set_epi64x, _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_unpackhi_epi64,
        _mm256_unpacklo_epi64,
    };
    use std::ptr;

    use super::{Exact, Line, Marks, Meta, Reader};
    use crate::crt::meta::{SERVICE_MASK, STATE_MASK, VERSION_MASK};

    /// With AVX2.
    pub(in crate::crt) struct Vectors;

    impl Reader for Vectors {
        #[inline(always)]
        fn scan<K: Exact>(line: &Line, key: K) -> (Meta, Marks) {
            match *key.words().as_ref() {
                // SAFETY: the caller that uses `Vectors` is a function with AVX2, into which these are inlined: `Family` calls it only if
                // `has_vectors` said so.
                [word] => unsafe { four_slots(line, word, key.service()) },
                // SAFETY: as above.
                [w0, w1, w2] => unsafe { two_slots(line, [w0, w1, w2, key.service()]) },
                _ => (Meta(0), Marks::default()),
            }
        }
    }

    /// An IPv4 line. Each slot is read in one piece, so a slot that matches is the key's entry.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn four_slots(line: &Line, word: u64, service: u64) -> (Meta, Marks) {
        let (s0, s1, s2, s3): (__m128i, __m128i, __m128i, __m128i);
        // SAFETY: reads the 64 bytes of `line`, which are aligned to 64.
        unsafe {
            asm!(
                "vmovdqa {s0}, [{line}]",
                "vmovdqa {s1}, [{line} + 16]",
                "vmovdqa {s2}, [{line} + 32]",
                "vmovdqa {s3}, [{line} + 48]",
                line = in(reg) ptr::from_ref(line),
                s0 = out(xmm_reg) s0, s1 = out(xmm_reg) s1, s2 = out(xmm_reg) s2, s3 = out(xmm_reg) s3,
                options(nostack, preserves_flags, readonly),
            );
        }
        let even = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(s0), s2);
        let odd = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(s1), s3);
        let (words, metas) = (_mm256_unpacklo_epi64(even, odd), _mm256_unpackhi_epi64(even, odd));
        let same_word = _mm256_cmpeq_epi64(words, _mm256_set1_epi64x(word as i64));
        let services = _mm256_and_si256(metas, _mm256_set1_epi64x(SERVICE_MASK as i64));
        let same_service = _mm256_cmpeq_epi64(services, _mm256_set1_epi64x(service as i64));
        let states = _mm256_and_si256(metas, _mm256_set1_epi64x(STATE_MASK as i64));
        let empty = _mm256_cmpeq_epi64(states, _mm256_setzero_si256());
        let same = _mm256_andnot_si256(empty, _mm256_and_si256(same_word, same_service));
        // One slot at most matches, unless the key was removed and came again between the loads: then none is taken, and the
        // marks have changed.
        let matches = _mm256_movemask_pd(_mm256_castsi256_pd(same)) as u32;
        let meta = any_lane(_mm256_and_si256(metas, same));
        let one = matches & matches.wrapping_sub(1) == 0;
        (Meta(std::hint::select_unpredictable(one, meta, 0)), Marks::of(lanes(metas)))
    }

    /// An IPv6 line. A slot takes two loads, so the metas are read before and after the words (L3).
    #[inline]
    #[target_feature(enable = "avx2")]
    fn two_slots(line: &Line, [w0, w1, w2, service]: [u64; 4]) -> (Meta, Marks) {
        let (s0, s1): (__m256i, __m256i);
        let (before, after): (__m128i, __m128i);
        // SAFETY: as in `four_slots`.
        unsafe {
            asm!(
                "vmovq {before}, [{line} + 24]",
                "vpinsrq {before}, {before}, [{line} + 56], 1",
                "vmovdqa {s0}, [{line}]",
                "vmovdqa {s1}, [{line} + 32]",
                "vmovq {after}, [{line} + 24]",
                "vpinsrq {after}, {after}, [{line} + 56], 1",
                line = in(reg) ptr::from_ref(line),
                before = out(xmm_reg) before, after = out(xmm_reg) after,
                s0 = out(ymm_reg) s0, s1 = out(ymm_reg) s1,
                options(nostack, preserves_flags, readonly),
            );
        }
        let mask = _mm256_set_epi64x(SERVICE_MASK as i64, -1, -1, -1);
        let key = _mm256_set_epi64x(service as i64, w2 as i64, w1 as i64, w0 as i64);
        let (is0, is1) = (
            _mm256_cmpeq_epi64(_mm256_and_si256(s0, mask), key),
            _mm256_cmpeq_epi64(_mm256_and_si256(s1, mask), key),
        );
        // The four words' answers of each slot, together in the slot's lane.
        let pairs = _mm256_and_si256(_mm256_unpacklo_epi64(is0, is1), _mm256_unpackhi_epi64(is0, is1));
        let is = _mm_and_si128(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
        // Of one life (L2), whatever else of the metas changed in between: a line that was locked for a moment has the marks of before
        // when they are compared.
        let lives = _mm_and_si128(_mm_xor_si128(before, after), _mm_set1_epi64x(VERSION_MASK as i64));
        let states = _mm_and_si128(after, _mm_set1_epi64x(STATE_MASK as i64));
        let none = _mm_setzero_si128();
        let whole = _mm_andnot_si128(_mm_cmpeq_epi64(states, none), _mm_cmpeq_epi64(lives, none));
        let meta = _mm_and_si128(after, _mm_and_si128(is, whole));
        // Never both: see `four_slots`; then neither was of the same life before and after.
        let meta = _mm_cvtsi128_si64(_mm_or_si128(meta, _mm_unpackhi_epi64(meta, meta))) as u64;
        let [low, high] = halves(before);
        (Meta(meta), Marks::of([low, high, 0, 0]))
    }

    /// The bits of all lanes together.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn any_lane(lanes: __m256i) -> u64 {
        let half = _mm_or_si128(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
        _mm_cvtsi128_si64(_mm_or_si128(half, _mm_unpackhi_epi64(half, half))) as u64
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn halves(lanes: __m128i) -> [u64; 2] {
        // SAFETY: both are 16 bytes of any value.
        unsafe { std::mem::transmute(lanes) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn lanes(lanes: __m256i) -> [u64; 4] {
        // SAFETY: both are 32 bytes of any value.
        unsafe { std::mem::transmute(lanes) }
    }
}

#[cfg(all(test, target_arch = "x86_64", not(loom), not(miri)))]
mod tests {
    use model::{DvipaIndex, Protocol, StackIndex};
    use proptest::prelude::*;

    use super::*;
    use crate::crt::line::{Class, classes};
    use crate::crt::share::Place;
    use crate::crt::{CrtState, Entry};
    use crate::crt::{KeyV4, KeyV6};

    /// What is done to a line: a key is published, or the `n`th slot is cleared or used or moved on.
    #[derive(Clone, Copy, Debug)]
    enum Deed {
        Publish(u8, CrtState),
        Clear(usize),
        Touch(usize, u64),
        Overflow(u32),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let state = (0..CrtState::ALL.len()).prop_map(|i| CrtState::ALL[i]);
        let deed = prop_oneof![
            4 => (0..6u8, state).prop_map(|(key, state)| Deed::Publish(key, state)),
            2 => (0..4usize).prop_map(Deed::Clear),
            1 => (0..4usize, 0..4096u64).prop_map(|(slot, stamp)| Deed::Touch(slot, stamp)),
            1 => any::<u32>().prop_map(Deed::Overflow),
        ];
        proptest::collection::vec(deed, 0..24)
    }

    /// Both readers see the same keys in every line that such deeds make, and the marks that the line has.
    fn agree<K: Exact + std::fmt::Debug>(deeds: &[Deed], key: impl Fn(u8) -> K) -> Result<(), TestCaseError> {
        if !has_vectors() {
            return Ok(());
        }
        let line = Line::default();
        for deed in deeds {
            let guard = line.lock::<K>().expect("nobody else has it");
            match *deed {
                Deed::Publish(n, state) => {
                    if let Some(slot) = line.empty_slot::<K>().filter(|_| line.find(key(n)).is_none()) {
                        guard.publish(slot, key(n), Entry { owner: StackIndex(7 + u16::from(n)), state }, 5);
                    }
                }
                Deed::Clear(slot) => drop(line.slot::<K>(slot).map(|slot| slot.clear())),
                Deed::Touch(slot, stamp) => {
                    if let Some(slot) = line.slot::<K>(slot).filter(|slot| slot.read().is_some()) {
                        slot.touch(slot.meta(), stamp);
                    }
                }
                Deed::Overflow(class) => {
                    guard.overflow_up(Class::of(Place { class: class % classes::<K>(), ..Place::default() }))
                }
            }
        }
        for n in 0..8 {
            let ((seen, marks), (expected, _)) =
                (Vectors::scan(&line, key(n)), Portable::scan(&line, key(n)));
            prop_assert_eq!(seen.entry(), expected.entry(), "key {:?}", key(n));
            prop_assert_eq!(seen.entry(), line.find(key(n)).and_then(|(_, meta)| meta.entry()));
            prop_assert!(line.is_still::<K>(&marks));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn both_readers_see_the_same_in_an_ipv4_line(deeds in deeds()) {
            agree(&deeds, |n| KeyV4::new([198, 18, 0, n / 2].into(), 9, DvipaIndex(0), 80 + u16::from(n % 2), Protocol::Tcp))?;
        }

        #[test]
        fn both_readers_see_the_same_in_an_ipv6_line(deeds in deeds()) {
            agree(&deeds, |n| {
                let client = (0x2001_0db8_u128 << 96 | u128::from(n / 4) << (64 * u32::from(n % 2))).into();
                KeyV6::new(client, u16::from(n / 2), DvipaIndex(0), 80, Protocol::Tcp)
            })?;
        }
    }
}
