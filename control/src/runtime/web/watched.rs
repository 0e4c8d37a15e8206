//! What the control thread tells those who watch: pictures that it has anyway, bounded.

use std::net::SocketAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::machine::{DptView, EvacuationView, VipaView};
use crate::runtime::answers::transfer_row;
use crate::runtime::api::{EventsAnswer, StatsAnswer, StatusAnswer, TransferRow};
use crate::runtime::driver::Driver;
use crate::runtime::forwarding::Forwarding;

/// Targets of services that are shown: of as many services as have so many together.
const TARGETS: usize = 4096;
/// Transfers under way that are shown.
const MOVING: usize = 100;
/// Events that are shown.
pub(super) const EVENTS: u64 = 200;

/// Answer of `GET /v1/watch`: what is true at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchAnswer {
    /// As `GET /v1/status`.
    pub status: StatusAnswer,
    /// As `GET /v1/vipa`.
    pub vipa: VipaView,
    /// As `GET /v1/dpt`, of a bounded number of services.
    pub dpt: DptView,
    /// How many services are not in `dpt`.
    pub left_out: u64,
    /// As `GET /v1/stats`.
    pub stats: StatsAnswer,
    /// As `GET /v1/drain`.
    pub evacuations: Vec<EvacuationView>,
    /// Transfers under way, a bounded number.
    pub moving: Vec<MovingRow>,
    /// How many are under way in all.
    pub moving_in_all: u64,
    /// As `GET /v1/events`, the last of them.
    pub events: EventsAnswer,
    /// How long the control thread took for this, in microseconds: ask again after 200 times as long at the earliest.
    pub took_us: u64,
}

/// A connection that moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovingRow {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The DVIPA and its port.
    pub dvipa: SocketAddr,
    /// How.
    pub transfer: TransferRow,
}

impl<F: Forwarding> Driver<F> {
    /// All that is shown, with the events after this number.
    pub(in crate::runtime) fn watched(&self, after: u64) -> WatchAnswer {
        let begun = Instant::now();
        let (dpt, left_out) = self.machine.dpt_view_within(TARGETS, begun);
        let moving = self.machine.all_under_way().take(MOVING).map(|under_way| {
            let (client, dvipa) = (under_way.connection.client, under_way.connection.dvipa);
            MovingRow { client, dvipa, transfer: transfer_row(under_way) }
        });
        let mut answer = WatchAnswer {
            status: self.status(),
            vipa: self.machine.vipa_view(),
            dpt,
            left_out: u64::try_from(left_out).unwrap_or(u64::MAX),
            stats: self.stats(),
            evacuations: self.machine.evacuation_views(begun),
            moving: moving.collect(),
            moving_in_all: u64::try_from(self.machine.all_under_way().count()).unwrap_or(u64::MAX),
            events: self.events.lately(after, EVENTS),
            took_us: 0,
        };
        answer.took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        answer
    }
}
