//! The Internet checksum (RFC 1071).

/// A ones' complement sum of 16-bit words in the making, two at a time (RFC 1071 2 C). Good for any packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The empty sum.
    pub const ZERO: Sum = Sum(0);

    /// Adds bytes that begin at an even place; an odd last byte is padded with zero.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (pairs, rest) = bytes.as_chunks::<4>();
        let sum = pairs.iter().fold(self.0, |sum, w| sum.wrapping_add(u32::from_be_bytes(*w).into()));
        let (words, odd) = rest.as_chunks::<2>();
        let sum = words.iter().fold(sum, |sum, w| sum.wrapping_add(u16::from_be_bytes(*w).into()));
        Self(odd.iter().fold(sum, |sum, b| sum.wrapping_add(u64::from(*b) << 8)))
    }

    /// Adds one word.
    #[must_use]
    #[inline(always)]
    pub fn word(self, word: u16) -> Self {
        Self(self.0.wrapping_add(word.into()))
    }

    /// Adds the pseudo-header of UDP, TCP and ICMPv6 over IPv6 (RFC 8200 8.1).
    #[must_use]
    pub fn pseudo_v6(self, source: [u8; 16], destination: [u8; 16], len: u16, protocol: u8) -> Self {
        self.bytes(&source).bytes(&destination).word(len).word(u16::from(protocol))
    }

    /// The sum as one word, to which [`add`] adds others.
    pub(crate) fn folded(self) -> u16 {
        !self.finish()
    }

    /// The sum's complement: what goes into the checksum field. Over bytes that contain a right checksum it is 0.
    #[inline(always)]
    pub fn finish(self) -> u16 {
        let half = (self.0 & 0xffff_ffff).wrapping_add(self.0 >> 32);
        let fold = |sum: u64| (sum & 0xffff).wrapping_add(sum >> 16);
        !(fold(fold(fold(half))) as u16)
    }
}

/// The ones' complement sum of two words.
#[inline(always)]
pub(crate) fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(carry.into())
}
