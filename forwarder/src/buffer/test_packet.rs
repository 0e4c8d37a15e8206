//! A packet on the heap, for tests, replays and benchmarks without DPDK.

use crate::PacketBuffer;

/// Bytes before the frame, as DPDK's mbufs have by default (`RTE_PKTMBUF_HEADROOM`).
const HEADROOM: usize = 128;
/// Bytes that a frame may take, as in DPDK's default mbufs of 2 kB.
const CAPACITY: usize = 2048;

/// A packet in a `Vec` with 128 bytes of headroom and at least 2048 bytes behind it, so that changing it never
/// allocates.
#[derive(Clone)]
pub struct TestPacket {
    storage: Vec<u8>,
    start: usize,
    end: usize,
    verified: bool,
}

impl TestPacket {
    /// A packet with these bytes.
    pub fn new(frame: &[u8]) -> Self {
        let mut storage = vec![0; HEADROOM.saturating_add(CAPACITY.max(frame.len()))];
        if let Some(room) = storage.get_mut(HEADROOM..).and_then(|s| s.get_mut(..frame.len())) {
            room.copy_from_slice(frame);
        }
        Self { storage, start: HEADROOM, end: HEADROOM.saturating_add(frame.len()), verified: false }
    }

    /// As if a device had found its IPv4 header's checksum right.
    #[cfg(test)]
    pub(crate) fn verified(self) -> Self {
        Self { verified: true, ..self }
    }

    /// Makes it a fresh packet with these bytes, in the same memory. Bytes beyond the capacity are cut off.
    pub fn refill(&mut self, frame: &[u8]) {
        let room = self.storage.len().saturating_sub(HEADROOM);
        let frame = frame.get(..room).unwrap_or(frame);
        self.start = HEADROOM;
        self.end = HEADROOM.saturating_add(frame.len());
        self.bytes_mut().copy_from_slice(frame);
    }
}

impl PacketBuffer for TestPacket {
    fn bytes(&self) -> &[u8] {
        self.storage.get(self.start..self.end).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.storage.get_mut(self.start..self.end).unwrap_or_default()
    }

    fn reframe(&mut self, from: usize, to: usize, rest: usize) -> bool {
        let behind = self.start.checked_add(from).filter(|behind| *behind <= self.end);
        let start = behind.and_then(|behind| behind.checked_sub(to));
        let (Some(behind), Some(start)) = (behind, start) else { return false };
        (self.start, self.end) = (start, self.end.min(behind.saturating_add(rest)));
        true
    }

    fn ipv4_checksum_is_right(&self) -> bool {
        self.verified
    }

    fn extend(&mut self, n: usize) -> bool {
        let end = self.end.checked_add(n).filter(|e| *e <= self.storage.len());
        self.end = end.unwrap_or(self.end);
        end.is_some()
    }
}

impl std::fmt::Debug for TestPacket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestPacket({} bytes:", self.bytes().len())?;
        self.bytes().iter().try_for_each(|b| write!(f, " {b:02x}"))?;
        f.write_str(")")
    }
}

impl PartialEq for TestPacket {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for TestPacket {}

#[cfg(test)]
mod tests;
