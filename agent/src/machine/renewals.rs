//! Renewals: the routing stacks are told again of every connection that is here, slowly.
//!
//! So an entry of the CRT that grows old is one that nobody has, and one that was lost there comes back. A round is spread over
//! [`RENEWAL_ROUND`]: of ten million connections in the cluster, 17 000 a second are named, some 700 kB.

use std::time::{Duration, Instant};

use model::Connection;

use super::LOAD_INTERVAL;

/// In this time each connection is named once.
pub const RENEWAL_ROUND: Duration = Duration::from_secs(600);

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Renewals {
    round_began: Instant,
    /// Connections of this round that are still to be named.
    due: Vec<Connection>,
    /// How many at a time.
    share: usize,
}

impl Renewals {
    pub(super) fn new(now: Instant) -> Self {
        Self { round_began: now, due: Vec::new(), share: 0 }
    }

    /// Those to name now; to be asked every [`LOAD_INTERVAL`]. A round begins with `all` that are here.
    pub(super) fn take<'a>(
        &mut self,
        now: Instant,
        all: impl Iterator<Item = &'a Connection>,
    ) -> Vec<Connection> {
        if self.due.is_empty() && now.saturating_duration_since(self.round_began) >= RENEWAL_ROUND {
            self.round_began = now;
            self.due = all.copied().collect();
            let times = RENEWAL_ROUND.as_secs().div_ceil(LOAD_INTERVAL.as_secs());
            self.share = self.due.len().div_ceil(usize::try_from(times).unwrap_or(usize::MAX));
        }
        self.due.split_off(self.due.len().saturating_sub(self.share))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use model::Protocol;

    use super::*;

    #[test]
    fn every_connection_is_named_once_a_round_and_not_many_at_a_time() {
        let connection = |port| {
            let client = ([198, 18, 0, 2], port).into();
            Connection::new(Protocol::Tcp, client, ([198, 18, 9, 1], 80).into()).unwrap()
        };
        let all: Vec<_> = (1..=1500).map(connection).collect();
        let start = Instant::now();
        let mut renewals = Renewals::new(start);
        let mut named: HashMap<Connection, u32> = HashMap::new();
        for s in 0..1800 {
            let now = renewals.take(start + Duration::from_secs(s), all.iter());
            assert!(now.len() <= 3, "after {s} s: {}", now.len());
            now.into_iter().for_each(|c| *named.entry(c).or_default() += 1);
        }
        assert!(all.iter().all(|c| named[c] == 2), "{named:?}");
    }
}
