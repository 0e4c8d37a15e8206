//! What a worker tells about itself, besides what became of packets.

use std::sync::atomic::{AtomicU64, Ordering};

use forwarder::Port;

/// A number with one writer, the worker, that any thread may read.
///
/// Relaxed: each number stands for itself, nothing else is read because of it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds to it; for the worker only: a load and a store, not a read-modify-write.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

/// One worker's gauges. Aligned so that no two workers write the same line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Gauges {
    /// Turns of the poll loop: stands still only if the worker does.
    pub turns: Gauge,
    /// Cycles of turns that had packets.
    pub busy_cycles: Gauge,
    /// Cycles of turns that had none.
    pub idle_cycles: Gauge,
    /// The control thread's packets that were lost because no buffer was free.
    pub uninjected: Gauge,
    /// Packets that were steered to a queue of their own.
    pub steered: Gauge,
    /// The NIC's queue pair.
    pub nic: QueueGauges,
    /// The local port's queue pair.
    pub local: QueueGauges,
}

/// What one queue pair of a worker did.
#[derive(Debug, Default)]
pub struct QueueGauges {
    /// Packets that the device took.
    pub sent: Gauge,
    /// Packets that the device did not take: freed.
    pub unsent: Gauge,
    /// Packets received in more than one buffer: freed.
    pub oversized: Gauge,
}

impl Gauges {
    /// The gauges of a port.
    pub fn port(&self, port: Port) -> &QueueGauges {
        match port {
            Port::Nic => &self.nic,
            Port::Local => &self.local,
        }
    }
}
