//! The path without DPDK: one worker and a burst of packets in memory, which are written anew for each round.

use std::sync::Arc;

use forwarder::crt::Crt;
use forwarder::path::BURST;
use forwarder::{Counters, Limits, Now, PacketBuffer, Port, Sink, Tables, TestPacket, Verdict, Worker};

use crate::cluster::{self, Traffic};
use crate::frames::{Frames, Kind};
use crate::keys::Random;

/// One worker, its tables and its packets.
pub(crate) struct Rig {
    worker: Worker<TestPacket>,
    tables: Tables,
    crt: Crt,
    frames: Frames,
    flows: u32,
    /// Each packet is of a new flow.
    fresh: Option<u32>,
    packets: [Option<TestPacket>; BURST],
    template: [u8; 74],
}

/// Where packets end: back in the places that they came from.
#[derive(Default)]
struct Returned {
    packets: [Option<TestPacket>; BURST],
    count: usize,
    sent: usize,
}

impl Sink<TestPacket> for Returned {
    #[inline]
    fn give(&mut self, packet: TestPacket, verdict: Verdict) {
        self.sent += usize::from(verdict == Verdict::Send(Port::Nic));
        if let Some(place) = self.packets.get_mut(self.count) {
            *place = Some(packet);
            self.count += 1;
        }
    }
}

const NOW: Now = Now { ms: 1000 };

impl Rig {
    /// With the traffic's flows in a CRT.
    ///
    /// # Errors
    /// The system's, if the memory can't be had.
    pub(crate) fn new(traffic: Traffic) -> std::io::Result<Self> {
        let frames = traffic.frames();
        let template = [0; 74];
        let packet = TestPacket::new(template.get(..frames.len()).unwrap_or_default());
        Ok(Self {
            worker: Worker::new(Limits::default(), Arc::new(Counters::new())),
            tables: cluster::tables(),
            crt: traffic.crt()?,
            frames,
            flows: traffic.flows,
            fresh: (traffic.kind == Kind::Syn).then_some(0),
            packets: std::array::from_fn(|_| Some(packet.clone())),
            template,
        })
    }

    /// The table, to change what the path will find.
    pub(crate) fn crt(&self) -> &Crt {
        &self.crt
    }

    /// Writes the next burst of packets, of random flows.
    #[inline(always)]
    pub(crate) fn write(&mut self, random: &mut Random) {
        let blank = self.template.get(..self.frames.len()).unwrap_or_default();
        for packet in self.packets.iter_mut().flatten() {
            packet.refill(blank);
            let n = match &mut self.fresh {
                None => random.below(u64::from(self.flows)),
                Some(n) => {
                    *n = n.wrapping_add(1);
                    *n
                }
            };
            self.frames.write(n, packet.bytes_mut());
        }
    }

    /// Takes the burst through the path; returns how many of its packets were sent.
    #[inline(always)]
    pub(crate) fn process(&mut self) -> usize {
        let mut returned = Returned::default();
        self.worker.process(&mut self.packets, Port::Nic, &self.tables, &self.crt, NOW, &mut returned);
        self.packets = returned.packets;
        returned.sent
    }
}
