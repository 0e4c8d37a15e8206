//! Ports that are unique in the cluster (row U3): which hosts choose which ports of a DVIPA.
//!
//! The 65 536 ports of a DVIPA are 1024 blocks of 64. The owner grants blocks to stacks; the kernel of a stack gives ports of its
//! blocks to applications that do not name one. So no two hosts use one port, however fast they are, and no bind waits for the network.
//!
//! A stack says what it has and how many blocks more it wants ([`PortsHeld`]); the owner answers with all that the stack may use from
//! now on ([`PortsGranted`]). Both name whole sets, so that what was said before does not matter; only a stack that has not read the
//! last grant yet is not followed, because what it has is more than it says.

use minicbor::decode::Error as CborError;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::Epoch;
use crate::codec::Address;

/// The ports of a block.
pub const PORTS_A_BLOCK: u16 = 64;
/// The blocks of a DVIPA.
pub const BLOCKS: u16 = 1024;
/// The first block that is granted: the ports before it are those of well-known services.
pub const FIRST_BLOCK: u16 = 1024 / PORTS_A_BLOCK;

const WORDS: usize = BLOCKS as usize / 64;
const BYTES: usize = WORDS * 8;

/// The block that a port is in.
pub fn block_of(port: u16) -> u16 {
    port / PORTS_A_BLOCK
}

/// Blocks of a DVIPA. On the wire a byte string of 128 bytes, or empty for none: 64-bit words, big-endian, the lowest bit first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortBlocks([u64; WORDS]);

impl PortBlocks {
    /// None.
    pub const NONE: Self = Self([0; WORDS]);

    /// As words, the lowest bit of the first one for the first block.
    pub fn words(&self) -> &[u64; WORDS] {
        &self.0
    }

    /// From such words.
    pub fn from_words(words: [u64; WORDS]) -> Self {
        Self(words)
    }

    /// Adds one.
    pub fn insert(&mut self, block: u16) {
        if let Some(word) = self.0.get_mut(usize::from(block / 64)) {
            *word |= 1 << (block % 64);
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, block: u16) {
        if let Some(word) = self.0.get_mut(usize::from(block / 64)) {
            *word &= !(1 << (block % 64));
        }
    }

    /// Is this one among them?
    pub fn contains(&self, block: u16) -> bool {
        self.0.get(usize::from(block / 64)).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    /// How many there are.
    pub fn len(&self) -> u16 {
        let bits: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        u16::try_from(bits).unwrap_or(BLOCKS)
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + use<'_> {
        (0..BLOCKS).filter(|block| self.contains(*block))
    }

    /// Those of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.word(at) | other.word(at)))
    }

    /// Those that are not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.word(at) & !other.word(at)))
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.word(at) & other.word(at)))
    }

    fn word(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or(0)
    }
}

impl Default for PortBlocks {
    fn default() -> Self {
        Self::NONE
    }
}

impl std::fmt::Debug for PortBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<u16> for PortBlocks {
    fn from_iter<I: IntoIterator<Item = u16>>(blocks: I) -> Self {
        let mut all = Self::NONE;
        blocks.into_iter().for_each(|block| all.insert(block));
        all
    }
}

impl<C> Encode<C> for PortBlocks {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_be_bytes()).collect();
        e.bytes(if self.is_empty() { &[] } else { &bytes })?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for PortBlocks {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        let bytes = d.bytes()?;
        if !bytes.is_empty() && bytes.len() != BYTES {
            return Err(CborError::message("blocks of ports have 0 or 128 bytes"));
        }
        let (words, _) = bytes.as_chunks::<8>();
        Ok(Self(std::array::from_fn(|at| words.get(at).map_or(0, |word| u64::from_be_bytes(*word)))))
    }
}

/// Stack → routing stack: the blocks of a DVIPA that it has, and how many more it wants.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PortsHeld {
    /// The DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// The epoch of the VIPA list that named it.
    #[n(1)]
    pub epoch: Epoch,
    /// The number of the last grant of this session that was read; 0: there was none.
    #[n(2)]
    pub read: u64,
    /// All that it has, and no others: what it gives back is not among them.
    #[n(3)]
    pub held: PortBlocks,
    /// How many more it wants.
    #[n(4)]
    pub wanted: u16,
}

/// Routing stack → stack: the blocks of a DVIPA that it may use.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PortsGranted {
    /// The DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// The epoch of its ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// Counts up from 1 in each session with each change of the granted ones.
    #[n(2)]
    pub number: u64,
    /// All that it may use from now on; one that is not among them it must not use any more, but for sockets that have a port of it.
    #[n(3)]
    pub granted: PortBlocks,
    /// Those of other stacks.
    #[n(4)]
    pub elsewhere: PortBlocks,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_what_was_written() {
        for blocks in [vec![], vec![0], vec![16, 63, 64, 1023]] {
            let blocks: PortBlocks = blocks.into_iter().collect();
            let bytes = minicbor::to_vec(blocks).unwrap();
            assert_eq!(minicbor::decode::<PortBlocks>(&bytes).unwrap(), blocks);
            assert_eq!(bytes.len(), if blocks.is_empty() { 1 } else { 2 + BYTES });
        }
    }

    #[test]
    fn a_set_of_another_length_is_malformed() {
        let mut bytes = Vec::new();
        Encoder::new(&mut bytes).bytes(&[0; 8]).unwrap();
        assert!(minicbor::decode::<PortBlocks>(&bytes).is_err());
    }

    #[test]
    fn sets_are_counted_joined_and_taken_apart() {
        let [a, b] = [[16, 17, 1023], [17, 900, 901]].map(|all| all.into_iter().collect::<PortBlocks>());
        assert_eq!((a.len(), a.union(&b).len()), (3, 5));
        assert_eq!(a.without(&b).iter().collect::<Vec<_>>(), [16, 1023]);
        assert_eq!(a.intersection(&b).iter().collect::<Vec<_>>(), [17]);
        assert_eq!((block_of(1023), block_of(1024), block_of(65_535)), (15, FIRST_BLOCK, BLOCKS - 1));
        let mut a = a;
        a.remove(16);
        assert!(!a.contains(16) && a.contains(17) && !a.contains(BLOCKS));
    }
}
