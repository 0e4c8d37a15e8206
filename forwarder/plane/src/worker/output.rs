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
    /// Packets for the node's own kernel that go ahead of others, and stay here while the local port takes none.
    first: Burst,
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
        Self { nic: side(nic), local: side(local), first: Burst::new(), pool, gauges }
    }

    /// Sends everything that waits.
    #[inline]
    pub fn flush(&mut self) {
        self.nic.flush(&self.gauges.nic);
        self.flush_local();
    }

    fn flush_local(&mut self) {
        if !self.first.is_empty() {
            self.gauges.local.sent.add(self.local.queue.offer(&mut self.first) as u64);
        }
        self.local.flush(&self.gauges.local);
    }

    #[inline]
    pub(super) fn send(&mut self, packet: Packet, port: Port) {
        match port {
            Port::Nic => self.nic.push(packet, &self.gauges.nic),
            Port::Local => {
                if self.local.waiting.is_full() {
                    self.flush_local();
                }
                self.local.push(packet, &self.gauges.local);
            }
        }
    }
}

impl Side {
    #[inline]
    fn push(&mut self, packet: Packet, gauges: &QueueGauges) {
        let Err(full) = self.waiting.try_push(packet.0) else { return };
        self.flush(gauges);
        // There is room: `flush` leaves the burst empty. Should it ever not be so, the packet is freed and counted.
        if self.waiting.try_push(full.element()).is_err() {
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

    fn give_first(&mut self, packet: Packet) {
        if self.first.is_full() {
            self.flush_local();
        }
        if self.first.try_push(packet.0).is_err() {
            self.gauges.local.unsent.add(1);
        }
    }

    fn spare(&mut self) -> Option<Packet> {
        self.pool.allocate().map(Packet)
    }
}
