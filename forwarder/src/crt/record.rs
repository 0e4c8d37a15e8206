//! What the numbers in entries mean, beside the table that they are in: some bytes, replaced as a whole.
//!
//! There are two places. What is new goes to the one that does not hold what is in force, and its checksum comes last. So
//! a process that dies at any moment leaves what was in force before, or what is new: a place whose checksum is wrong does not count,
//! and of two that are right the one with the higher sequence number does. One thread writes.

use super::atomic::{AtomicU64, Ordering};
use super::hash::checksum;
use super::memory::Array;

/// Bytes of a place: 16 384 stacks with the longest names, and 4096 DVIPAs, have room.
const PLACE: usize = 2 << 20;
const WORD: usize = size_of::<u64>();
/// Before the bytes: sequence number (0: nothing is here), length in bytes, checksum.
const HEAD_WORDS: usize = 3;
const PLACE_WORDS: usize = PLACE / WORD;
/// Bytes that fit.
const MAX: usize = PLACE - HEAD_WORDS * WORD;
/// Words of both places.
pub(super) const WORDS: usize = 2 * PLACE_WORDS;
/// Bytes of both places.
pub(super) const BYTES: usize = 2 * PLACE;

/// The two places.
#[derive(Debug)]
pub(super) struct Record(Array<AtomicU64>);

impl Record {
    pub(super) fn new(words: Array<AtomicU64>) -> Self {
        Self(words)
    }

    /// What is in force; none: nothing was ever written, or both places are damaged.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let (place, _) = self.in_force()?;
        let length = self.length(place);
        let bytes = (0..length.div_ceil(WORD)).flat_map(|n| self.get(place, HEAD_WORDS + n).to_le_bytes());
        Some(bytes.take(length).collect())
    }

    /// From now on these bytes are in force. `false`: they are too many, and those of before stay.
    pub(super) fn write(&self, bytes: &[u8]) -> bool {
        if bytes.len() > MAX {
            return false;
        }
        let (place, sequence) =
            self.in_force().map_or((0, 1), |(place, last)| (1 - place, last.wrapping_add(1)));
        for (n, part) in bytes.chunks(WORD).enumerate() {
            let mut word = [0; WORD];
            word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            self.set(place, HEAD_WORDS + n, u64::from_le_bytes(word));
        }
        self.set(place, 0, sequence);
        self.set(place, 1, bytes.len() as u64);
        self.set(place, 2, self.sum(place));
        true
    }

    /// The place that counts, and its sequence number.
    fn in_force(&self) -> Option<(usize, u64)> {
        let whole = |place: &usize| self.get(*place, 0) != 0 && self.get(*place, 2) == self.sum(*place);
        let places = (0..2).filter(whole).map(|place| (place, self.get(place, 0)));
        places.max_by_key(|(_, sequence)| *sequence)
    }

    /// Of all but the checksum itself.
    fn sum(&self, place: usize) -> u64 {
        let words = HEAD_WORDS + self.length(place).div_ceil(WORD);
        checksum((0..words).filter(|n| *n != 2).map(|n| self.get(place, n)))
    }

    /// Bytes in a place, at most as many as fit.
    fn length(&self, place: usize) -> usize {
        usize::try_from(self.get(place, 1)).unwrap_or(MAX).min(MAX)
    }

    fn get(&self, place: usize, word: usize) -> u64 {
        self.0.at(place * PLACE_WORDS + word).load(Ordering::Relaxed)
    }

    fn set(&self, place: usize, word: usize, value: u64) {
        // Release: a process that dies has stored what comes before in the program.
        self.0.at(place * PLACE_WORDS + word).store(value, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::super::memory::Mapping;
    use super::*;

    fn record() -> Record {
        let mapping = Arc::new(Mapping::anonymous(BYTES).unwrap());
        Record::new(Array::new(&mapping, 0, WORDS))
    }

    #[test]
    fn what_was_written_last_is_in_force() {
        let record = record();
        assert_eq!(record.read(), None);
        for n in 0..5_u8 {
            let bytes = vec![n; usize::from(n) * 13];
            assert!(record.write(&bytes));
            assert_eq!(record.read(), Some(bytes));
        }
        assert!(!record.write(&vec![1; MAX + 1]), "it has no room");
        assert_eq!(record.read(), Some(vec![4; 52]));
    }

    #[test]
    fn a_writer_that_dies_after_any_store_leaves_what_was_before_or_what_is_new() {
        let (before, new) = (b"what the numbers meant before".to_vec(), b"and now".to_vec());
        let words = new.len().div_ceil(WORD) + HEAD_WORDS;
        for stores in 0..=words {
            let (record, later) = (record(), record());
            [&before, &before].iter().for_each(|bytes| assert!(record.write(bytes) && later.write(bytes)));
            assert!(later.write(&new));
            // In the order of `write`: the bytes, then the head.
            let order = (HEAD_WORDS..words).chain(0..HEAD_WORDS);
            order.take(stores).for_each(|word| record.set(0, word, later.get(0, word)));
            let left = record.read();
            assert!(
                left == Some(if stores == words { new.clone() } else { before.clone() }),
                "{stores}: {left:?}"
            );
        }
    }

    #[test]
    fn damage_to_what_is_in_force_leaves_what_was_before() {
        let record = record();
        assert!(record.write(b"before") && record.write(b"in force"));
        record.set(1, HEAD_WORDS, record.get(1, HEAD_WORDS) ^ 1 << 40);
        assert_eq!(record.read(), Some(b"before".to_vec()));
        record.set(0, 1, u64::MAX);
        assert_eq!(record.read(), None);
    }
}
