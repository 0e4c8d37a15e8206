//! What is downloaded: bytes that follow from their place, so that any target can go on where another one stopped.

use std::io::{self, Write};

/// Bytes that are made at a time.
pub(crate) const BLOCK_BYTES: u64 = 64 * 1024;
const WORD_BYTES: u64 = 8;

/// Writes the bytes from `from` to `to` of a download.
pub(crate) fn write(to_whom: &mut impl Write, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let end = to.min((at / BLOCK_BYTES + 1) * BLOCK_BYTES);
        to_whom.write_all(&block(at, end))?;
        at = end;
    }
    Ok(())
}

fn block(from: u64, to: u64) -> Vec<u8> {
    let words = from / WORD_BYTES..to.div_ceil(WORD_BYTES);
    let bytes: Vec<u8> = words.flat_map(|place| word(place).to_le_bytes()).collect();
    let begin = usize::try_from(from % WORD_BYTES).unwrap_or_default();
    let length = usize::try_from(to - from).unwrap_or_default();
    bytes.into_iter().skip(begin).take(length).collect()
}

/// SplitMix64 of the word's place: no two neighbouring blocks are alike, so that a lost, doubled or swapped one shows.
fn word(place: u64) -> u64 {
    let mut z = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
