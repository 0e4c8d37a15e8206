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

#[cfg(test)]
mod tests {
    use forwarder::crt::Cursor;
    use model::Protocol;

    use super::*;
    use crate::cluster::{Carried, To};
    use crate::frames::Kind;

    /// Packets of so many bursts that go to the NIC.
    fn sent(traffic: Traffic, bursts: usize) -> usize {
        let (mut rig, mut random) = (Rig::new(traffic).expect("memory"), Random(1));
        (0..bursts)
            .map(|_| {
                rig.write(&mut random);
                rig.process()
            })
            .sum()
    }

    #[test]
    fn every_packet_of_what_is_served_goes_where_it_should() {
        let ack = Traffic::ack(1000);
        let served = [
            ack,
            Traffic { kind: Kind::Ack6, ..ack },
            Traffic { kind: Kind::Udp, ..ack },
            Traffic { carried: Carried::Gue, ..ack },
            Traffic { carried: Carried::Mixed, ..ack },
            Traffic { tagged: true, ..ack },
            Traffic { tagged: true, kind: Kind::Ack6, ..ack },
            Traffic { mixed: true, ..ack },
            Traffic::new(Kind::Syn),
            Traffic::new(Kind::Udp),
        ];
        for traffic in served {
            assert_eq!(sent(traffic, 4), 4 * BURST, "{traffic:?}");
        }
        // Its packets go to the other port.
        assert_eq!(sent(Traffic { to: To::Local, ..ack }, 4), 0);
    }

    #[test]
    fn stamps_are_renewed_as_packets_come() {
        let (interval_ms, flows) = (renewal::interval_ms(Protocol::Tcp), 32);
        // A packet a millisecond, so that each of the connections is used all the time.
        let mut rig = Rig::new(Traffic { a_ms: 1, ..Traffic::ack(flows) }).expect("memory");
        let mut random = Random(1);
        while rig.clock.now().ms < renewal::start().ms + 3 * interval_ms {
            rig.write(&mut random);
            rig.process();
        }
        let mut idle_s = Vec::new();
        rig.crt.scan(Cursor::default(), usize::MAX, rig.clock.now(), |row| idle_s.push(row.idle_s));
        assert_eq!(idle_s.len(), flows as usize);
        let longest = idle_s.into_iter().max().map(u64::from);
        assert!(longest.is_some_and(|s| s * 1000 < interval_ms * 3 / 2), "{longest:?} s, {interval_ms} ms");
    }
}
