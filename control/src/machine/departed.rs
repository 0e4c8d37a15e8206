//! Connections that have left a stack. What it said of them before may come later than what its agent said of the
//! transfer, on another stream of the session, and would bring the CRT entry back to it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use model::{Connection, StackName};

/// How long the streams of a session may differ: a backlog that takes longer ends the session.
const LATE: Duration = Duration::from_secs(30);
/// The most departures that are kept; beyond it a late message counts.
const MAX_DEPARTED: usize = 65_536;

/// Who has given which connection away of late.
#[derive(Debug, Default)]
pub(super) struct Departed {
    from: BTreeMap<Connection, BTreeMap<StackName, Instant>>,
    order: VecDeque<(Instant, Connection)>,
}

impl Departed {
    /// A connection has moved.
    pub(super) fn moved(
        &mut self,
        connection: Connection,
        source: &StackName,
        target: &StackName,
        now: Instant,
    ) {
        self.expire(now);
        if let Some(stacks) = self.from.get_mut(&connection) {
            stacks.remove(target);
        }
        if self.order.len() < MAX_DEPARTED {
            let until = now + LATE;
            self.from.entry(connection).or_default().insert(source.clone(), until);
            self.order.push_back((until, connection));
        }
    }

    /// A connection has ended: another one may have its addresses.
    pub(super) fn ended(&mut self, connection: &Connection) {
        self.from.remove(connection);
    }

    /// The stack has given this connection away, and has not got it back.
    pub(super) fn left(&self, connection: &Connection, stack: &StackName) -> bool {
        self.from.get(connection).is_some_and(|stacks| stacks.contains_key(stack))
    }

    /// Forgets what is too old to be late.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((_, connection)) = self.order.front().copied().filter(|(until, _)| *until <= now) {
            self.order.pop_front();
            if let Some(stacks) = self.from.get_mut(&connection) {
                stacks.retain(|_, until| *until > now);
                if stacks.is_empty() {
                    self.from.remove(&connection);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{connection, name};
    use super::*;

    #[test]
    fn a_departure_counts_until_the_connection_is_back_ends_or_is_long_gone() {
        let (one, now) = (connection(1, "198.18.9.1:80"), Instant::now());
        let [rt1, t1, t2] = ["rt1", "t1", "t2"].map(name);
        let mut departed = Departed::default();
        departed.moved(one, &rt1, &t1, now);
        departed.moved(one, &t1, &t2, now);
        assert_eq!([&rt1, &t1, &t2].map(|s| departed.left(&one, s)), [true, true, false]);
        departed.moved(one, &t2, &rt1, now + LATE / 2);
        assert_eq!([&rt1, &t1, &t2].map(|s| departed.left(&one, s)), [false, true, true]);
        departed.expire(now + LATE);
        assert_eq!([&rt1, &t1, &t2].map(|s| departed.left(&one, s)), [false, false, true]);
        departed.ended(&one);
        assert!(!departed.left(&one, &t2));
        departed.expire(now + LATE * 2);
        assert!(departed.from.is_empty() && departed.order.is_empty());
    }

    #[test]
    fn their_number_is_bounded() {
        let (now, [rt1, t1]) = (Instant::now(), ["rt1", "t1"].map(name));
        let mut departed = Departed::default();
        for _ in 0..=MAX_DEPARTED {
            departed.moved(connection(1, "198.18.9.1:80"), &rt1, &t1, now);
        }
        assert_eq!((departed.order.len(), departed.from.len()), (MAX_DEPARTED, 1));
    }
}
