//! Where the path's verdicts take effect.

use std::sync::Arc;

use ffi::{Burst, Mempool, TxQueue};
use forwarder::{Port, Sink, Verdict};

use super::gauges::{Gauges, QueueGauges};
use crate::packet::Packet;

/// One worker's send queues and what waits for them. A packet that it is given is sent, or freed and counted.
#[derive(Debug)]
pub struct Output {
    nic: Side,
    local: Side,
    pool: Mempool,
    gauges: Arc<Gauges>,
}

#[derive(Debug)]
struct Side {
    queue: TxQueue,
    waiting: Burst,
}

impl Output {
    /// An output with nothing in it. `pool` is where spare packets come from.
    pub fn new(nic: TxQueue, local: TxQueue, pool: Mempool, gauges: Arc<Gauges>) -> Self {
        let side = |queue| Side { queue, waiting: Burst::new() };
        Self { nic: side(nic), local: side(local), pool, gauges }
    }

    /// Sends everything that waits.
    #[inline]
    pub fn flush(&mut self) {
        self.nic.flush(&self.gauges.nic);
        self.local.flush(&self.gauges.local);
    }

    #[inline]
    pub(super) fn send(&mut self, packet: Packet, port: Port) {
        match port {
            Port::Nic => self.nic.push(packet, &self.gauges.nic),
            Port::Local => self.local.push(packet, &self.gauges.local),
        }
    }
}

impl Side {
    #[inline]
    fn push(&mut self, packet: Packet, gauges: &QueueGauges) {
        if self.waiting.is_full() {
            self.flush(gauges);
        }
        // There is room: `flush` leaves the burst empty. Should it ever not be so, the packet is freed and counted.
        if self.waiting.try_push(packet.0).is_err() {
            gauges.unsent.add(1);
        }
    }

    #[inline]
    fn flush(&mut self, gauges: &QueueGauges) {
        let count = self.waiting.len();
        if count > 0 {
            let unsent = self.queue.send(&mut self.waiting);
            gauges.unsent.add(unsent as u64);
            gauges.sent.add(count.saturating_sub(unsent) as u64);
        }
    }
}

impl Sink<Packet> for Output {
    #[inline]
    fn give(&mut self, packet: Packet, verdict: Verdict) {
        match verdict {
            Verdict::Send(port) => self.send(packet, port),
            Verdict::Drop(_) => drop(packet),
        }
    }

    fn spare(&mut self) -> Option<Packet> {
        self.pool.allocate().map(Packet)
    }
}
