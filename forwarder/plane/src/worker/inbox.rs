//! Packets that the control thread has a worker send.

use crossbeam::queue::ArrayQueue;
use ffi::{BURST, Mempool};
use forwarder::packet::frame::Bytes;
use forwarder::{Handoffs, Port, Tables};
use model::StackIndex;

use super::gauges::Gauges;
use super::output::Output;
use crate::packet::Packet;

/// Frames that wait at most.
const FRAMES: usize = 1024;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Through this port, as it is.
    Port(Port),
    /// To the stack that its connection is being handed over to, with the handoff option.
    Handoff(StackIndex),
}

/// A frame to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where to.
    pub to: To,
    /// From the Ethernet header on.
    pub bytes: Bytes,
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

    /// For the worker: how many frames wait, a burst at most. What the control thread has published before it put them is
    /// seen by every later reader.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        if self.frames.is_empty() { 0 } else { self.frames.len().min(BURST) }
    }

    /// For the worker: sends so many frames that wait.
    pub(super) fn inject(
        &self,
        count: usize,
        (tables, handoffs): (&Tables, &Handoffs),
        output: &mut Output,
        gauges: &Gauges,
    ) {
        for frame in (0..count).map_while(|_| self.frames.pop()) {
            let packet = self.pool.packet(&frame.bytes).map(Packet);
            let ready = packet.and_then(|mut packet| match frame.to {
                To::Port(port) => Some((packet, port)),
                To::Handoff(owner) => {
                    handoffs.put_on(&mut packet, owner, tables).is_ok().then_some((packet, Port::Nic))
                }
            });
            match ready {
                Some((packet, port)) => output.send(packet, port),
                None => gauges.uninjected.add(1),
            }
        }
    }
}
