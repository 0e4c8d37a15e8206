//! Where packets come from: whose the next one is, and its bytes.

use forwarder::crt::KeyV4;

use crate::cluster::Traffic;
use crate::frames::{Frames, Kind};
use crate::keys::Random;

/// Writes one worker's packets.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    frames: Frames,
    /// Connections that they are spread over; 0: each is of one that nobody knows.
    flows: u32,
    /// New connections so far, by the number of their next packet.
    fresh: u32,
    first_fresh: u32,
    /// Each new connection sends two packets, [`APART`] packets apart.
    twice: bool,
    /// SYNs and UDP that are among them.
    among: Option<[Frames; 2]>,
}

const APART: u32 = 64;

impl Source {
    /// The source of the worker with this number.
    pub(crate) fn new(traffic: Traffic, number: u32) -> Self {
        // Connections of the table have lower numbers; clients repeat after 28 bits.
        let fresh = (number + 2) << 26;
        Self {
            frames: traffic.frames(traffic.kind),
            flows: traffic.flows,
            fresh,
            first_fresh: fresh,
            twice: traffic.full && traffic.kind == Kind::Udp,
            among: traffic.mixed.then(|| [Kind::Syn, Kind::Udp].map(|kind| traffic.frames(kind))),
        }
    }

    /// Bytes of a packet.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Writes a packet over a buffer of at least [`Source::len`] bytes, the burst's `place`th; returns its connection's number.
    #[inline(always)]
    pub(crate) fn write(&mut self, place: usize, random: &mut Random, buffer: &mut [u8]) -> u32 {
        let (frames, is_new) = match (&self.among, place % 32) {
            (Some([syn, _]), 7) => (syn, true),
            (Some([_, udp]), 15 | 31) => (udp, false),
            _ => (&self.frames, self.flows == 0),
        };
        let number = if is_new {
            let packet = self.fresh - self.first_fresh;
            let number = if self.twice { packet / (2 * APART) * APART + packet % APART } else { packet }
                + self.first_fresh;
            self.fresh = self.fresh.wrapping_add(1);
            number
        } else {
            random.below(u64::from(self.flows))
        };
        frames.write(number, buffer);
        number
    }

    /// A connection's key.
    #[inline(always)]
    pub(crate) fn key_v4(&self, number: u32) -> KeyV4 {
        self.frames.key_v4(number)
    }

    /// The number of the next new connection, where each sends one packet.
    pub(crate) fn next_new(&self) -> u32 {
        self.fresh
    }
}
