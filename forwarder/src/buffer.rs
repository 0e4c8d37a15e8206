//! What a packet is to this crate: one contiguous run of bytes with some room before and after it.

mod test_packet;

pub use test_packet::TestPacket;

/// A frame from the Ethernet header on, in one contiguous piece. Its holder owns it.
pub trait PacketBuffer: Sized {
    /// The frame.
    fn bytes(&self) -> &[u8];

    /// The frame, to be changed in place.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Replaces the first `from` bytes by `to` others, which have any value, and cuts off what is more than `rest` bytes behind
    /// them. `false`, and nothing is changed, if the frame is shorter than `from` or there is no room.
    #[must_use]
    fn reframe(&mut self, from: usize, to: usize, rest: usize) -> bool;

    /// Makes the frame `n` bytes longer at its front; the new bytes have any value. `false`, and nothing is changed, if
    /// there is no room.
    #[must_use]
    fn prepend(&mut self, n: usize) -> bool {
        self.reframe(0, n, usize::MAX)
    }

    /// Takes `n` bytes off the front. `false`, and nothing is changed, if the frame is shorter.
    #[must_use]
    fn trim_front(&mut self, n: usize) -> bool {
        self.reframe(n, 0, usize::MAX)
    }

    /// Makes the frame `len` bytes long; one that is not longer stays as it is.
    fn truncate(&mut self, len: usize) {
        // Nothing goes before it: there is room.
        let _ = self.reframe(0, 0, len);
    }

    /// Makes the frame `n` bytes longer at its end; the new bytes have any value. `false`, and nothing is changed, if
    /// there is no room.
    #[must_use]
    fn extend(&mut self, n: usize) -> bool;

    /// The device that received the frame has verified its IPv4 header's checksum, and it is right.
    fn ipv4_checksum_is_right(&self) -> bool {
        false
    }

    /// A hint that the first bytes will be read soon.
    fn prefetch(&self) {}
}
