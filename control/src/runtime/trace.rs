//! What becomes of packets that pass, for who looks on: `POST /v1/trace` and what follows.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::admin::Answer;
use super::answers::{json, refused};
use super::driver::Driver;
use super::forwarding::Forwarding;
use super::looking::{EntryRow, Seen, SeenPage, TraceAnswer, TraceOrder, TraceRow};

/// Answer of `POST /v1/trace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceBegun {
    /// The trace's number.
    pub trace: u64,
}

impl<F: Forwarding> Driver<F> {
    pub(super) fn begin_trace(&mut self, order: &TraceOrder) -> Answer {
        match self.forwarding.begin_trace(order) {
            Some(trace) => json(&TraceBegun { trace }),
            None => refused(
                StatusCode::CONFLICT,
                "another trace is under way: it ends when its time is over, or when nobody reads it for 10 s",
            ),
        }
    }

    pub(super) fn traced(&mut self, trace: u64) -> Answer {
        let Some(SeenPage { packets, missed, over }) = self.forwarding.traced(trace) else {
            return no_trace();
        };
        let row = |Seen { row, entry }: Seen| TraceRow {
            entry: entry.map(|(stack, state)| EntryRow { stack: self.name(stack), state }),
            ..row
        };
        json(&TraceAnswer { packets: packets.into_iter().map(row).collect(), missed, over })
    }

    pub(super) fn end_trace(&mut self, trace: u64) -> Answer {
        if self.forwarding.end_trace(trace) { self.traced(trace) } else { no_trace() }
    }
}

fn no_trace() -> Answer {
    refused(StatusCode::NOT_FOUND, "there is no such trace, or it was over and read")
}
