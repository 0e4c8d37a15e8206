//! What the control thread tells the page: pictures that it has anyway, bounded.

use std::time::{Duration, Instant};

use model::Connection;

use crate::machine::{DptView, EvacuationView, VipaView};
use crate::runtime::answers::transfer_row;
use crate::runtime::api::{EventsAnswer, StatsAnswer, StatusAnswer, TransferRow};
use crate::runtime::driver::Driver;
use crate::runtime::forwarding::Forwarding;

/// Targets of services that the page shows: of as many services as have so many together.
const TARGETS: usize = 4096;
/// Transfers under way that the page shows.
const MOVING: usize = 100;
/// Events that the page shows.
pub(super) const EVENTS: u64 = 200;

/// What is true at one moment.
pub(in crate::runtime) struct Watched {
    pub(super) status: StatusAnswer,
    pub(super) vipa: VipaView,
    pub(super) dpt: DptView,
    /// Services that are not in `dpt`.
    pub(super) left_out: usize,
    pub(super) stats: StatsAnswer,
    pub(super) evacuations: Vec<EvacuationView>,
    pub(super) moving: Vec<(Connection, TransferRow)>,
    /// How many transfers are under way.
    pub(super) moving_in_all: usize,
    pub(super) events: EventsAnswer,
    /// How long the control thread took for this.
    pub(super) took: Duration,
}

impl<F: Forwarding> Driver<F> {
    /// All that the page shows, with the events after this number.
    pub(in crate::runtime) fn watched(&self, after: u64) -> Watched {
        let begun = Instant::now();
        let (dpt, left_out) = self.machine.dpt_view_within(TARGETS, begun);
        let moving = self.machine.all_under_way().take(MOVING);
        Watched {
            status: self.status(),
            vipa: self.machine.vipa_view(),
            dpt,
            left_out,
            stats: self.stats(),
            evacuations: self.machine.evacuation_views(begun),
            moving: moving.map(|transfer| (transfer.connection, transfer_row(transfer))).collect(),
            moving_in_all: self.machine.all_under_way().count(),
            events: self.events.lately(after, EVENTS),
            took: begun.elapsed(),
        }
    }
}
