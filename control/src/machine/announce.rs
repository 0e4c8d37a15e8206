//! Telling the segment where a DVIPA is: at once when it becomes active, and twice more, because one frame can be lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::Dvipa;

/// How often a DVIPA that became active is announced.
const TIMES: u8 = 3;
/// Time between two announcements (RFC 5227 2.3: ANNOUNCE_INTERVAL is 2 s; RFC 4861 7.2.6: RetransTimer is 1 s).
const INTERVAL: Duration = Duration::from_secs(1);

/// What is still to be announced, and when.
#[derive(Debug, Default)]
pub(super) struct Announcements(BTreeMap<Dvipa, (u8, Instant)>);

impl Announcements {
    /// These became active.
    pub(super) fn begin(&mut self, dvipas: Vec<Dvipa>, now: Instant) {
        self.0.extend(dvipas.into_iter().map(|dvipa| (dvipa, (TIMES, now))));
    }

    /// Forgets the others.
    pub(super) fn retain(&mut self, keep: impl Fn(Dvipa) -> bool) {
        self.0.retain(|dvipa, _| keep(*dvipa));
    }

    /// What is to be announced now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Dvipa> {
        let mut due = Vec::new();
        self.0.retain(|dvipa, (left, at)| {
            if *at <= now {
                due.push(*dvipa);
                *left = left.saturating_sub(1);
                *at = now + INTERVAL;
            }
            *left > 0
        });
        due
    }

    /// When something is due next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.values().map(|(_, at)| *at).min()
    }
}
