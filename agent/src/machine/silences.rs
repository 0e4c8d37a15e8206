//! On which ports servers accept and answer nobody (row B9), as the kernel sees it: no server is asked.
//!
//! When a connection ends, the kernel says whether its client was answered at all; of those that are open it knows for how long neither
//! side has spoken, and that is looked at now and then. A port is silent if it has answered before, if
//! some clients have waited for an answer for the whole time, and if no client of the port was answered in that time. So a server of
//! which one client waits for news, while others are answered, is not silent. One whose clients all wait for news, for longer than
//! that time, looks so; it is not given new clients until it answers one of those, and only while others are left.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So many clients of a port have to wait.
pub const WAITING_CLIENTS: usize = 3;
/// Hosts with more connections than this are not looked at: the kernel would show each of them.
pub const MAX_LOOKED_AT: usize = 65_536;

/// How it is with a connection that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speech {
    /// The address of its server.
    pub dvipa: IpAddr,
    /// The port of its server.
    pub port: u16,
    /// Its client.
    pub client: IpAddr,
    /// For how long its server has said nothing; `None`: it never said anything.
    pub silent: Option<Duration>,
    /// For how long its client has waited for an answer; `None`: the server spoke last, or the client has said nothing.
    pub waits: Option<Duration>,
    /// For how long neither side has said anything.
    pub quiet: Duration,
}

/// What is known of all ports.
#[derive(Debug)]
pub(super) struct Silences {
    /// For so long nobody is answered; `None`: that is nothing.
    after: Option<Duration>,
    ports: BTreeMap<u16, Port>,
    next: Instant,
}

/// What is known of one port.
#[derive(Debug, Default)]
struct Port {
    /// When a client was answered last, as far as is known.
    answered: Option<Instant>,
    /// While it is silent: how many clients wait.
    waiting: Option<usize>,
}

impl Silences {
    pub(super) fn new(after: Option<Duration>, now: Instant) -> Self {
        Self { after, ports: BTreeMap::new(), next: now }
    }

    /// A client of this port was answered, as the end of its connection shows. `true`: the port is silent no more.
    pub(super) fn answered(&mut self, port: u16, now: Instant) -> bool {
        if self.after.is_none() {
            return false;
        }
        let port = self.ports.entry(port).or_default();
        port.answered = Some(now);
        port.waiting.take().is_some()
    }

    /// Whether the open connections are to be looked at now, of which there are so many.
    pub(super) fn is_due(&mut self, connections: usize, now: Instant) -> bool {
        let Some(after) = self.after else { return false };
        if now < self.next || connections > MAX_LOOKED_AT {
            return false;
        }
        // Whatever there is has ended, and is silent no more; or some may wait.
        let any = connections > 0 || self.ports.values().any(|port| port.waiting.is_some());
        self.next = now + (after / 3).max(Duration::from_secs(1));
        any
    }

    /// Takes in all open connections. `true`: other ports are silent than before, or more or fewer clients wait there.
    pub(super) fn heard(&mut self, speeches: &[Speech], now: Instant) -> bool {
        let Some(after) = self.after else { return false };
        let mut waiting = BTreeMap::<u16, usize>::new();
        for Speech { port, silent, waits, .. } in speeches {
            if let Some(at) = silent.and_then(|silent| now.checked_sub(silent)) {
                let port = self.ports.entry(*port).or_default();
                port.answered = port.answered.max(Some(at));
            }
            *waiting.entry(*port).or_default() += usize::from(waits.is_some_and(|waits| waits >= after));
        }
        let mut changed = false;
        for (number, port) in &mut self.ports {
            let waiting = waiting.get(number).copied().unwrap_or_default();
            let answered = port.answered.map(|at| now.saturating_duration_since(at));
            let is_silent = waiting >= WAITING_CLIENTS && answered.is_some_and(|long| long >= after);
            changed |= is_silent != port.waiting.is_some();
            port.waiting = is_silent.then_some(waiting);
        }
        changed
    }

    /// Whether any port is silent.
    pub(super) fn any(&self) -> bool {
        self.ports.values().any(|port| port.waiting.is_some())
    }

    /// Why this port fails, if it is silent.
    pub(super) fn why(&self, port: u16) -> Option<String> {
        let waiting = self.ports.get(&port)?.waiting?;
        let seconds = self.after.unwrap_or_default().as_secs();
        Some(format!("{waiting} clients wait for an answer, and none was given one for {seconds} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(30);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Its server has said nothing for so long, and its client waits for so long.
    fn open(silent: Option<u64>, waits: Option<u64>) -> Speech {
        let quiet = silent.into_iter().chain(waits).min().map_or(Duration::ZERO, seconds);
        let dvipa = IpAddr::from([198, 18, 9, 1]);
        let client = IpAddr::from([198, 18, 0, 2]);
        Speech { dvipa, port: 80, client, silent: silent.map(seconds), waits: waits.map(seconds), quiet }
    }

    fn bench() -> (Silences, Instant) {
        let now = Instant::now() + seconds(1000);
        (Silences::new(Some(AFTER), now), now)
    }

    #[test]
    fn a_port_is_silent_when_enough_clients_wait_and_none_was_answered_in_that_time() {
        let (mut silences, now) = bench();
        let waits = open(Some(40), Some(35));
        assert!(!silences.heard(&[waits; 2], now), "too few");
        assert!(silences.heard(&[waits; 3], now) && silences.any());
        let why = silences.why(80).unwrap();
        assert_eq!(why, "3 clients wait for an answer, and none was given one for 30 s");
        assert!(!silences.heard(&[waits; 3], now) && silences.why(81).is_none(), "it is no news");
        assert!(silences.heard(&[waits; 2], now) && !silences.any(), "one has left");
    }

    #[test]
    fn one_answer_is_enough_on_a_connection_that_is_open_or_has_ended() {
        let (mut silences, now) = bench();
        let waits = [open(Some(40), Some(35)); 3];
        let answered: Vec<Speech> = waits.into_iter().chain([open(Some(29), None)]).collect();
        assert!(!silences.heard(&answered, now));
        let (mut silences, now) = bench();
        silences.answered(80, now);
        assert!(!silences.heard(&waits, now + seconds(29)));
        assert!(silences.heard(&waits, now + seconds(30)));
        assert!(silences.answered(80, now + seconds(31)) && !silences.any());
        assert!(!silences.answered(80, now + seconds(31)), "it is no news");
    }

    #[test]
    fn a_port_that_never_answered_is_not_silent_and_clients_that_send_on_do_not_wait() {
        let (mut silences, now) = bench();
        assert!(!silences.heard(&[open(None, Some(100)); 9], now));
        assert!(
            !silences.heard(&[open(Some(100), Some(29)); 9], now),
            "uploads, or questions of a moment ago"
        );
        assert!(!silences.heard(&[open(Some(100), None); 9], now), "nobody has asked");
    }

    #[test]
    fn it_is_looked_at_three_times_in_that_time_and_never_on_hosts_that_have_too_much() {
        let (mut silences, now) = bench();
        assert!(!silences.is_due(MAX_LOOKED_AT + 1, now));
        assert!(silences.is_due(1, now) && !silences.is_due(1, now + seconds(9)));
        assert!(silences.is_due(1, now + seconds(10)) && !silences.is_due(0, now + seconds(20)));
        let mut off = Silences::new(None, now);
        assert!(
            !off.is_due(1, now) && !off.answered(80, now) && !off.heard(&[open(Some(99), Some(99)); 9], now)
        );
    }
}
