//! Packets that the control thread has a worker send.

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use ffi::{BURST, Mempool};
use forwarder::Port;

use super::gauges::Gauges;
use super::output::Output;
use crate::packet::Packet;

/// Longest frame that can be handed over: announcements are shorter.
pub const FRAME_BYTES: usize = 128;
/// Frames that wait at most.
const FRAMES: usize = 1024;

/// A frame for a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it is to be sent.
    pub port: Port,
    /// From the Ethernet header on.
    pub bytes: ArrayVec<u8, FRAME_BYTES>,
}

/// A bounded queue from the control thread to one worker, without locks.
#[derive(Debug)]
pub struct Inbox {
    frames: ArrayQueue<Frame>,
    pool: Mempool,
}

impl Inbox {
    /// An empty inbox; the frames' buffers come from `pool`.
    pub fn new(pool: Mempool) -> Self {
        Self { frames: ArrayQueue::new(FRAMES), pool }
    }

    /// Hands a frame to the worker; `false` if too many wait.
    #[must_use]
    pub fn put(&self, frame: Frame) -> bool {
        self.frames.push(frame).is_ok()
    }

    /// For the worker: sends what waits, a burst at most, and returns how many that were.
    #[inline]
    pub(super) fn inject(&self, output: &mut Output, gauges: &Gauges) -> usize {
        if self.frames.is_empty() { 0 } else { self.inject_some(output, gauges) }
    }

    fn inject_some(&self, output: &mut Output, gauges: &Gauges) -> usize {
        let mut count = 0;
        while let Some(frame) = (count < BURST).then(|| self.frames.pop()).flatten() {
            count += 1;
            match self.pool.packet(&frame.bytes) {
                Some(packet) => output.send(Packet(packet), frame.port),
                None => gauges.uninjected.add(1),
            }
        }
        count
    }
}
