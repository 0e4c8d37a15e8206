//! When the DPT is computed anew: at once, and in a storm of small changes at most every [`PAUSE`].
//!
//! A thousand SRVSTATs that arrive together are a thousand changes of the DPT. A client that waits for its NEWCONN must not wait
//! for a thousand new tables.

use std::time::{Duration, Instant};

/// How often the DPT is computed for small changes that do not end.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// How many small changes in a row are followed at once.
pub(super) const AT_ONCE: u32 = 8;

/// How urgent a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// A change of one target: within [`PAUSE`] in a storm of them.
    Soon,
    /// A change of a stack, or by a person: at once. The VIPA list may change too.
    Now,
}

/// What is to be computed, and how many times it may be at once.
#[derive(Debug)]
pub(super) struct Pace {
    wanted: Option<Urgency>,
    credit: u32,
    credited: Instant,
}

impl Pace {
    /// Everything is to be computed.
    pub(super) fn new(now: Instant) -> Self {
        Self { wanted: Some(Urgency::Now), credit: AT_ONCE, credited: now }
    }

    /// Something changed.
    pub(super) fn want(&mut self, urgency: Urgency) {
        self.wanted = self.wanted.max(Some(urgency));
    }

    /// What waits, waits no longer.
    pub(super) fn hurry(&mut self) {
        self.wanted = self.wanted.map(|_| Urgency::Now);
    }

    /// Gives credit for the time that has passed. A clock that goes backwards only delays.
    pub(super) fn tick(&mut self, now: Instant) {
        let pauses = now.saturating_duration_since(self.credited).as_millis() / PAUSE.as_millis();
        if pauses > 0 || now < self.credited {
            self.credit = self.credit.saturating_add(u32::try_from(pauses).unwrap_or(AT_ONCE)).min(AT_ONCE);
            self.credited = now;
        }
    }

    /// What is to be computed now, if anything; the caller does it.
    pub(super) fn take(&mut self) -> Option<Urgency> {
        if self.credit == 0 && self.wanted != Some(Urgency::Now) {
            return None;
        }
        let urgency = self.wanted.take()?;
        self.credit = self.credit.saturating_sub(1);
        Some(urgency)
    }

    /// When there is credit again for what waits.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (self.wanted.is_some() && self.credit == 0).then(|| self.credited + PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_change_is_followed_at_once_and_a_storm_of_them_is_not() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        assert_eq!(pace.take(), Some(Urgency::Now));
        let mut followed = 0;
        for ms in 0..1000 {
            pace.tick(begun + Duration::from_millis(ms));
            pace.want(Urgency::Soon);
            followed += u32::from(pace.take().is_some());
        }
        assert_eq!(followed, AT_ONCE - 1 + 49, "and then one each 20 ms");
    }

    #[test]
    fn what_waits_has_a_deadline_and_what_is_urgent_does_not_wait() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        while pace.take().is_some() {
            pace.want(Urgency::Soon);
        }
        assert_eq!(pace.next_deadline(), Some(begun + PAUSE));
        pace.want(Urgency::Now);
        assert_eq!(pace.take(), Some(Urgency::Now));
        assert_eq!(pace.next_deadline(), None, "nothing waits");
        pace.hurry();
        assert_eq!(pace.take(), None, "nor is there anything to hurry");
        pace.want(Urgency::Soon);
        pace.hurry();
        assert_eq!(pace.take(), Some(Urgency::Now));
    }
}
