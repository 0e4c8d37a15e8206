//! Renewals: the routing stacks are told again of every connection that is here, slowly.
//!
//! So an entry of the CRT that grows old is one that nobody has, and one that was lost there comes back. A round is spread over
//! [`RENEWAL_ROUND`]: of ten million connections in the cluster, 17 000 a second are named, some 700 kB.

use std::time::{Duration, Instant};

use model::Connection;

use super::LOAD_INTERVAL;
use super::sockets::{Place, Sockets};

/// In this time each connection is named once.
pub const RENEWAL_ROUND: Duration = Duration::from_secs(600);

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Renewals {
    round_began: Instant,
    /// Where the round under way is.
    at: Option<Place>,
}

impl Renewals {
    pub(super) fn new(now: Instant) -> Self {
        Self { round_began: now, at: None }
    }

    /// Those of all that are here that are to be named now; to be asked every [`LOAD_INTERVAL`].
    pub(super) fn take(&mut self, now: Instant, all: &Sockets) -> Vec<Connection> {
        if self.at.is_none() && now.saturating_duration_since(self.round_began) >= RENEWAL_ROUND {
            (self.round_began, self.at) = (now, Some(None));
        }
        let Some(at) = &mut self.at else { return Vec::new() };
        let times = RENEWAL_ROUND.as_secs().div_ceil(LOAD_INTERVAL.as_secs());
        let share = all.connection_count().div_ceil(usize::try_from(times).unwrap_or(usize::MAX));
        let (named, is_over) = all.part(at, share.max(1));
        if is_over {
            self.at = None;
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use model::Protocol;

    use super::super::Cookie;
    use super::*;

    #[test]
    fn every_connection_is_named_once_a_round_and_not_many_at_a_time() {
        let connection = |port| {
            let client = ([198, 18, 0, 2], port).into();
            Connection::new(Protocol::Tcp, client, ([198, 18, 9, 1], 80).into()).unwrap()
        };
        let all: Vec<_> = (1..=1500).map(connection).collect();
        let start = Instant::now();
        let mut sockets = Sockets::default();
        for (cookie, connection) in (1..).map(Cookie).zip(&all) {
            sockets.established(cookie, *connection, start);
        }
        let mut renewals = Renewals::new(start);
        let mut named: HashMap<Connection, u32> = HashMap::new();
        for s in 0..1800 {
            let now = renewals.take(start + Duration::from_secs(s), &sockets);
            assert!(now.len() <= 3, "after {s} s: {}", now.len());
            now.into_iter().for_each(|c| *named.entry(c).or_default() += 1);
        }
        assert!(all.iter().all(|c| named[c] == 2), "{named:?}");
    }
}
