//! The path without DPDK: one worker and a burst of packets in memory, which are written anew for each round.

use std::sync::Arc;

use forwarder::crt::Crt;
use forwarder::path::BURST;
use forwarder::{Counters, Limits, PacketBuffer, Port, Sink, Tables, TestPacket, Verdict, Worker};

use crate::cluster::Traffic;
use crate::frames::LONGEST;
use crate::keys::Random;
use crate::renewal;
use crate::source::Source;
use crate::timing::Clock;

/// One worker, its tables and its packets.
pub(crate) struct Rig {
    worker: Worker<TestPacket>,
    tables: Tables,
    crt: Crt,
    source: Source,
    clock: Clock,
    packets: [Option<TestPacket>; BURST],
    template: [u8; LONGEST],
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

impl Rig {
    /// With the traffic's flows in a CRT.
    ///
    /// # Errors
    /// The system's, if the memory can't be had.
    pub(crate) fn new(traffic: Traffic) -> std::io::Result<Self> {
        let source = Source::new(traffic, 0);
        let template = [0; LONGEST];
        let packet = TestPacket::new(template.get(..source.len()).unwrap_or_default());
        Ok(Self {
            worker: Worker::new(Limits::default(), Arc::new(Counters::new())),
            tables: traffic.tables(),
            // Nothing is due to be renewed: counts of instructions are of packets that renew nothing.
            crt: traffic.crt(|_, _| renewal::start())?,
            source,
            clock: Clock::new(renewal::start(), traffic.a_ms),
            packets: std::array::from_fn(|_| Some(packet.clone())),
            template,
        })
    }

    /// Writes the next burst of packets, of random flows, and lets as much time pass as they take to come.
    #[inline(always)]
    pub(crate) fn write(&mut self, random: &mut Random) {
        let blank = self.template.get(..self.source.len()).unwrap_or_default();
        for (place, packet) in self.packets.iter_mut().flatten().enumerate() {
            packet.refill(blank);
            self.source.write(place, random, packet.bytes_mut());
        }
        self.clock.advance(BURST);
    }

    /// Takes the burst through the path; returns how many of its packets were sent.
    #[inline(always)]
    pub(crate) fn process(&mut self) -> usize {
        let mut returned = Returned::default();
        let now = self.clock.now();
        self.worker.process(&mut self.packets, Port::Nic, &self.tables, &self.crt, now, &mut returned);
        self.packets = returned.packets;
        returned.sent
    }
}
