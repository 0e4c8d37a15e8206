//! On which ports nobody accepts although clients wait (row B9): the process is stopped, hangs, or has as many connections as it takes.
//!
//! The kernel does not count what is accepted. What has arrived since some moment, less what waits, has been: this grows while somebody
//! accepts. Events come a little before or after the look at the queues, so that it trembles, and only a new highest counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Clients wait for so long, and none was accepted: the port is stalled.
pub const STALL: Duration = Duration::from_secs(5);

/// How many connections wait in the accept queues of the listeners on a port, of ports where any does.
pub type Waiting = BTreeMap<u16, u64>;

/// What was seen of the queues.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    ports: BTreeMap<u16, Port>,
    last: Option<Instant>,
}

/// What is known of one port.
#[derive(Debug, Default)]
struct Port {
    arrived: u64,
    /// While clients wait: what was accepted, counted from any beginning, and when that was last more than before.
    accepted: Option<(i128, Instant)>,
}

impl Stalls {
    /// A connection was established on this port: a client's, or a check's that was answered.
    pub(super) fn arrived(&mut self, port: u16) {
        let port = self.ports.entry(port).or_default();
        port.arrived = port.arrived.wrapping_add(1);
    }

    /// Takes in what waits now. `true`: other ports are stalled than before.
    pub(super) fn sample(&mut self, waiting: &Waiting, now: Instant) -> bool {
        let before: Vec<u16> = self.stalled().collect();
        self.ports.retain(|port, _| waiting.contains_key(port));
        for (port, waits) in waiting {
            let port = self.ports.entry(*port).or_default();
            let accepted = i128::from(port.arrived) - i128::from(*waits);
            if port.accepted.is_none_or(|(highest, _)| accepted > highest) {
                port.accepted = Some((accepted, now));
            }
        }
        self.last = Some(now);
        !self.stalled().eq(before)
    }

    /// Whether this port was stalled when the queues were seen last.
    pub(super) fn has(&self, port: u16) -> bool {
        self.ports.get(&port).is_some_and(|port| self.is_stalled(port))
    }

    /// Whether any is.
    pub(super) fn any(&self) -> bool {
        self.stalled().next().is_some()
    }

    fn stalled(&self) -> impl Iterator<Item = u16> {
        self.ports.iter().filter(|(_, port)| self.is_stalled(port)).map(|(number, _)| *number)
    }

    fn is_stalled(&self, port: &Port) -> bool {
        let since = port.accepted.map(|(_, since)| since);
        let last = self.last.zip(since).map(|(last, since)| last.saturating_duration_since(since));
        last.is_some_and(|long| long >= STALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    fn waiting(count: u64) -> Waiting {
        Waiting::from([(80, count)])
    }

    #[test]
    fn a_queue_from_which_nothing_is_taken_stalls_its_port() {
        let (mut stalls, begin) = (Stalls::default(), Instant::now());
        for second in 0..5 {
            assert!(!stalls.sample(&waiting(second + 1), at(begin, second)), "{second}");
            stalls.arrived(80);
            assert!(!stalls.has(80));
        }
        assert!(stalls.sample(&waiting(6), at(begin, 5)));
        assert!(stalls.has(80) && stalls.any() && !stalls.has(81));
        assert!(!stalls.sample(&waiting(6), at(begin, 6)), "it is no news");
    }

    #[test]
    fn one_accepted_client_ends_it_and_so_does_an_empty_queue() {
        for next in [waiting(6), Waiting::new()] {
            let (mut stalls, begin) = (Stalls::default(), Instant::now());
            stalls.sample(&waiting(7), begin);
            assert!(stalls.sample(&waiting(7), at(begin, 5)));
            assert!(stalls.sample(&next, at(begin, 6)));
            assert!(!stalls.has(80) && !stalls.any());
        }
    }

    #[test]
    fn a_queue_that_is_never_empty_is_no_stall_while_clients_are_accepted() {
        let (mut stalls, begin) = (Stalls::default(), Instant::now());
        for second in 0..60 {
            assert!(!stalls.sample(&waiting(9), at(begin, second)), "{second}");
            stalls.arrived(80);
        }
    }

    #[test]
    fn events_that_come_late_are_no_progress() {
        let (mut stalls, begin) = (Stalls::default(), Instant::now());
        for second in 0..8 {
            // One is counted every second, and waits there since the second before.
            stalls.sample(&waiting(second + 2), at(begin, second));
            stalls.arrived(80);
        }
        assert!(stalls.has(80));
    }
}
