//! A DPDK packet as the forwarder sees it.

use ffi::Mbuf;
use forwarder::PacketBuffer;

/// An [`Mbuf`] that the forwarder can work on. Neither crate knows the other, so that this is where they meet.
#[derive(Debug)]
#[repr(transparent)]
pub struct Packet(pub Mbuf);

impl PacketBuffer for Packet {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    #[inline]
    fn reframe(&mut self, from: usize, to: usize, rest: usize) -> bool {
        self.0.reframe(from, to, rest)
    }

    #[inline]
    fn extend(&mut self, n: usize) -> bool {
        self.0.extend(n)
    }

    #[inline]
    fn ipv4_checksum_is_right(&self) -> bool {
        self.0.ipv4_checksum_is_right()
    }

    #[inline]
    fn prefetch(&self) {
        self.0.prefetch();
    }
}
