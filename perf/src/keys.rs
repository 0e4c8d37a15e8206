//! Connections made from numbers, with no memory access, so that the source costs little and the same for everyone.

use std::net::{Ipv4Addr, Ipv6Addr};

use forwarder::crt::{Key, KeyV4, KeyV6};
use model::{DvipaIndex, Protocol};

/// A linear congruential generator: the same numbers here and in `c/`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `n`.
    #[inline(always)]
    pub(crate) fn below(&mut self, n: u64) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * n) >> 32) as u32
    }
}

/// A family's `n`th connection.
pub(crate) trait Numbered: Key {
    /// It.
    fn number(n: u32) -> Self;
}

impl Numbered for KeyV4 {
    #[inline(always)]
    fn number(n: u32) -> Self {
        let client = Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b1));
        KeyV4::new(client, (n >> 7) as u16, DvipaIndex((n & 3) as u16), 443, Protocol::Tcp)
    }
}

impl Numbered for KeyV6 {
    #[inline(always)]
    fn number(n: u32) -> Self {
        let host = u128::from(n.wrapping_mul(0x9e37_79b1));
        let client = Ipv6Addr::from_bits(0x2001_0db8_0000_0000_0000_0000_0000_0000 | host << 32);
        KeyV6::new(client, (n >> 7) as u16, DvipaIndex((n & 3) as u16), 443, Protocol::Tcp)
    }
}
