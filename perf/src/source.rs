//! Where packets come from: whose the next one is, and its bytes.

use forwarder::crt::KeyV4;

use crate::cluster::Traffic;
use crate::frames::{Frames, Kind};
use crate::keys::Random;

/// Writes one worker's packets.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    frames: Frames,
    flows: u32,
    /// The number of the next packet of a connection that nobody knows; `None` if all are of flows.
    fresh: Option<u32>,
}

impl Source {
    /// The source of the worker with this number.
    pub(crate) fn new(traffic: Traffic, number: u32) -> Self {
        Self {
            frames: traffic.frames(),
            flows: traffic.flows,
            // Flows of the table have lower numbers; clients repeat after 28 bits.
            fresh: (traffic.kind == Kind::Syn).then_some((number + 2) << 26),
        }
    }

    /// Bytes of a packet.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The next packet's flow.
    #[inline(always)]
    pub(crate) fn next(&mut self, random: &mut Random) -> u32 {
        match &mut self.fresh {
            None => random.below(u64::from(self.flows)),
            Some(n) => {
                *n = n.wrapping_add(1);
                *n
            }
        }
    }

    /// A flow's key.
    #[inline(always)]
    pub(crate) fn key_v4(&self, flow: u32) -> KeyV4 {
        self.frames.key_v4(flow)
    }

    /// Writes a flow's packet over a buffer of at least [`Source::len`] bytes.
    #[inline(always)]
    pub(crate) fn write(&self, flow: u32, buffer: &mut [u8]) {
        self.frames.write(flow, buffer);
    }
}
