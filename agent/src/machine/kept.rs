//! Which connections are only kept open (row B9): nobody waits for an answer, and nothing was said for a moment. A routing stack that
//! selects by what its targets have to do is told how many there are, because it knows of connections only that they are open.
//!
//! Each look costs the kernel and this process some microseconds a connection. So a look is followed by one only after
//! a second for each [`A_SECOND`] connections, and there is none on hosts with more than [`MAX_LOOKED_AT`] connections.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::silences::{MAX_LOOKED_AT, Speech};

/// Neither side has said anything for so long: the connection is not in the middle of a request or an answer.
pub const MOMENT: Duration = Duration::from_millis(100);
/// So many connections may be looked at in a second, on average: by number and not by the time that it takes, because a busy host is the one
/// of which it has to be known.
const A_SECOND: usize = 4096;

/// The connections of a DVIPA that processes of this host have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Split {
    idle: u32,
    busy: u32,
}

/// What was seen of open connections.
#[derive(Debug)]
pub(super) struct Kept {
    /// By DVIPA; `None`: it is not known.
    seen: Option<BTreeMap<IpAddr, Split>>,
    /// When the look began that is under way.
    begun: Option<Instant>,
    next: Instant,
}

impl Kept {
    pub(super) fn new(now: Instant) -> Self {
        Self { seen: None, begun: None, next: now }
    }

    /// Whether the open connections are to be looked at now, of which there are so many; `wanted`: a routing stack wants to know.
    pub(super) fn is_due(&mut self, wanted: bool, connections: usize, now: Instant) -> bool {
        if !wanted || connections > MAX_LOOKED_AT {
            self.seen = None;
            return false;
        }
        now >= self.next && self.begun.is_none()
    }

    /// A look begins, whoever wants it.
    pub(super) fn begins(&mut self, now: Instant) {
        self.begun = Some(now);
    }

    /// Takes in all open connections, of which those count whose clients are such: others no forwarder has.
    pub(super) fn seen(&mut self, speeches: &[Speech], is_client: impl Fn(IpAddr) -> bool, now: Instant) {
        let mut seen = BTreeMap::<IpAddr, Split>::new();
        for speech in speeches.iter().filter(|speech| is_client(speech.client)) {
            let split = seen.entry(speech.dvipa).or_default();
            let count = if speech.is_idle() { &mut split.idle } else { &mut split.busy };
            *count = count.saturating_add(1);
        }
        self.seen = Some(seen);
        let begun = self.begun.take().unwrap_or(now);
        let seconds = speeches.len().div_ceil(A_SECOND).clamp(1, MAX_LOOKED_AT / A_SECOND);
        self.next = begun + Duration::from_secs(seconds as u64);
    }

    /// How many connections are only kept open to those DVIPAs, and how many are not to the others.
    pub(super) fn counts(&self, is_listed: impl Fn(IpAddr) -> bool) -> Option<(u32, u32)> {
        let mut counts = (0_u32, 0_u32);
        for (dvipa, split) in self.seen.as_ref()? {
            if is_listed(*dvipa) {
                counts.0 = counts.0.saturating_add(split.idle);
            } else {
                counts.1 = counts.1.saturating_add(split.busy);
            }
        }
        Some(counts)
    }
}

impl Speech {
    /// Nobody waits, and nothing was said for a [`MOMENT`]. A client that was never told anything may wait for its server to speak first.
    fn is_idle(&self) -> bool {
        self.silent.is_some() && self.waits.is_none() && self.quiet >= MOMENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::LOAD_INTERVAL;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([198, 18, 9, last])
    }

    fn speech(last: u8, quiet_ms: u64, waits: bool) -> Speech {
        let quiet = Duration::from_millis(quiet_ms);
        let (client, waits) = (IpAddr::from([198, 18, 0, 2]), waits.then_some(quiet));
        Speech { dvipa: ip(last), port: 80, client, silent: Some(quiet), waits, quiet }
    }

    #[test]
    fn a_connection_is_idle_when_nobody_waits_and_nothing_was_said_for_a_moment() {
        let now = Instant::now();
        let mut kept = Kept::new(now);
        assert_eq!(kept.counts(|_| true), None);
        let all = [
            speech(1, 100, false),
            speech(1, 99, false),
            speech(1, 5000, true),
            speech(2, 5000, false),
            speech(2, 10, true),
        ];
        kept.begins(now);
        kept.seen(&all, |_| true, now);
        assert_eq!(kept.counts(|_| true), Some((2, 0)));
        assert_eq!(kept.counts(|dvipa| dvipa == ip(1)), Some((1, 1)), "what others want of it");
        assert_eq!(kept.counts(|_| false), Some((0, 3)));
        kept.seen(&[Speech { silent: None, ..speech(1, 5000, false) }], |_| true, now);
        assert_eq!(kept.counts(|_| true), Some((0, 0)), "its client may wait for the server to speak first");
        kept.seen(&all, |_| false, now);
        assert_eq!(kept.counts(|_| true), Some((0, 0)), "they are between applications of this host");
    }

    #[test]
    fn there_is_a_look_each_second_or_less_often_where_there_is_more_to_see_and_none_of_too_much() {
        let now = Instant::now();
        let mut kept = Kept::new(now);
        assert!(kept.is_due(true, 9, now));
        assert!(!kept.is_due(false, 9, now), "nobody wants to know");
        kept.begins(now);
        assert!(!kept.is_due(true, 9, now + LOAD_INTERVAL * 9), "one is under way");
        kept.seen(&[], |_| true, now + Duration::from_millis(900));
        assert!(!kept.is_due(true, 9, now + Duration::from_millis(999)));
        assert!(kept.is_due(true, 9, now + Duration::from_secs(1)));
        assert_eq!(kept.counts(|_| true), Some((0, 0)));
        kept.begins(now);
        kept.seen(&vec![speech(1, 0, false); 4 * A_SECOND + 1], |_| true, now);
        assert!(!kept.is_due(true, 9, now + Duration::from_millis(4999)));
        assert!(kept.is_due(true, 9, now + Duration::from_secs(5)));
        assert!(!kept.is_due(true, MAX_LOOKED_AT + 1, now + Duration::from_secs(5)));
        assert_eq!(kept.counts(|_| true), None, "what was seen is over");
    }
}
