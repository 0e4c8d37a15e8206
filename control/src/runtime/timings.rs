//! How long things take, as histograms of Prometheus.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::Connection;
use prometheus_client::metrics::histogram::Histogram;

/// Connections whose client is held at the same time, of which the pause is measured.
const MOST_HELD: usize = 16_384;

/// What was measured. Clones are the same ones.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// For how long a transfer holds the client's packets.
    pub(super) pauses: Histogram,
    /// How late the control thread is for what is due every 10 ms: for so long nobody else has a turn either.
    pub(super) lateness: Histogram,
}

/// What is being measured.
#[derive(Debug, Default)]
pub(super) struct Timings {
    pub(super) measured: Measured,
    held: BTreeMap<Connection, Instant>,
}

impl Default for Measured {
    fn default() -> Self {
        let pauses = [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];
        let lateness = [0.0001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
        Self { pauses: Histogram::new(pauses), lateness: Histogram::new(lateness) }
    }
}

impl Timings {
    /// The client's packets are held from now on.
    pub(super) fn holds(&mut self, connection: Connection, now: Instant) {
        if self.held.len() < MOST_HELD {
            self.held.entry(connection).or_insert(now);
        }
    }

    /// They flow again, or there is nobody to whom.
    pub(super) fn flows(&mut self, connection: &Connection, now: Instant) {
        if let Some(since) = self.held.remove(connection) {
            self.measured.pauses.observe(now.saturating_duration_since(since).as_secs_f64());
        }
    }

    /// What is due at each tick comes so late.
    pub(super) fn late(&self, by: Duration) {
        self.measured.lateness.observe(by.as_secs_f64());
    }
}
