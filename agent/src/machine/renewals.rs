//! Renewals: the routing stacks are told again of every connection that is here, slowly.
//!
//! So an entry of the CRT that grows old is one that nobody has, and one that was lost there comes back. A round is spread over
//! [`RENEWAL_ROUND`]: of ten million connections in the cluster, 17 000 a second are named, some 700 kB.

use std::time::{Duration, Instant};

use model::Connection;

use super::LOAD_INTERVAL;
use super::sockets::{Cookie, Place, Sockets};

/// In this time each connection is named once.
pub const RENEWAL_ROUND: Duration = Duration::from_secs(600);

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Renewals {
    round_began: Instant,
    /// The round under way.
    round: Option<Round>,
}

/// A round names what was here when it began: sockets that are made meanwhile, whose cookies are higher, would make it go on for ever.
#[derive(Debug)]
struct Round {
    at: Place,
    until: Option<Cookie>,
    /// So many are named at a time.
    share: usize,
}

impl Renewals {
    pub(super) fn new(now: Instant) -> Self {
        Self { round_began: now, round: None }
    }

    /// Those of all that are here that are to be named now; to be asked every [`LOAD_INTERVAL`].
    pub(super) fn take(&mut self, now: Instant, all: &Sockets) -> Vec<Connection> {
        if self.round.is_none() && now.saturating_duration_since(self.round_began) >= RENEWAL_ROUND {
            let times = RENEWAL_ROUND.as_secs().div_ceil(LOAD_INTERVAL.as_secs());
            let share = all.connection_count().div_ceil(usize::try_from(times).unwrap_or(usize::MAX));
            self.round_began = now;
            self.round = Some(Round { at: None, until: all.newest(), share: share.max(1) });
        }
        let Some(Round { at, until, share }) = &mut self.round else { return Vec::new() };
        let (named, is_last) = all.part(at, *share);
        if is_last || *at >= *until {
            self.round = None;
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

    #[test]
    fn connections_that_come_and_go_keep_no_other_from_being_named_again() {
        let connection = |port| {
            let client = ([198, 18, 0, 2], port).into();
            Connection::new(Protocol::Tcp, client, ([198, 18, 9, 1], 80).into()).unwrap()
        };
        let start = Instant::now();
        let mut sockets = Sockets::default();
        for (cookie, port) in (1..).map(Cookie).zip(1..=1200) {
            sockets.established(cookie, connection(port), start);
        }
        let (mut renewals, mut named, mut next) = (Renewals::new(start), 0, 10_000_u64);
        for s in 0..4800 {
            let now = start + Duration::from_secs(s);
            // Twenty a second that live for a minute: more than a part of a round.
            for of_it in 0..20_u16 {
                let port = 20_000 + (s as u16 % 60) * 20 + of_it;
                sockets.ended(Cookie(next.wrapping_sub(1200)), now);
                sockets.established(Cookie(next), connection(port), now);
                next += 1;
            }
            named += renewals.take(now, &sockets).iter().filter(|c| **c == connection(7)).count();
        }
        assert!(named >= 3, "in eight rounds it was named {named} times");
    }
}
