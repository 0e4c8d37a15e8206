//! The control thread's way round the CRT: one walk, some lines at each tick, for all who look for entries in the whole table.
//!
//! A look begins from where the walk is, and has seen every line once when it comes by there again. So what
//! ten dead stacks and a thousand accounts leave behind is found in one round. No round is begun while nobody looks.

use forwarder::Now;
use forwarder::crt::{Crt, Cursor, Row};

/// Lines of the CRT that one step looks at: 10 million connections are gone through in one or two seconds.
const STEP: usize = 32_768;

/// Where the walk is, or will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    round: u64,
    line: Cursor,
}

/// The walk.
#[derive(Debug, Default)]
pub(super) struct Walk {
    here: Place,
}

impl Walk {
    /// Where it is now.
    pub(super) fn here(&self) -> Place {
        self.here
    }

    /// Where it is when every line has been looked at from now on.
    pub(super) fn after_a_round(&self) -> Place {
        Place { round: self.here.round.saturating_add(1), ..self.here }
    }

    /// Shows the next entries.
    pub(super) fn step(&mut self, crt: &Crt, now: Now, each: impl FnMut(Row)) {
        match crt.scan(self.here.line, STEP, now, each) {
            Some(line) => self.here.line = line,
            None => self.here = Place { line: Cursor::default(), ..self.after_a_round() },
        }
    }
}

#[cfg(test)]
mod tests {
    use forwarder::crt::{Config, KeyV4};
    use model::{DvipaIndex, Protocol, StackIndex};

    use super::*;

    #[test]
    fn every_entry_is_seen_in_a_round_from_wherever_it_begins() {
        let (crt, now) = (Crt::new(&Config::default()).unwrap(), Now { ms: 1000 });
        for port in 1..=1000 {
            let key = KeyV4::new([198, 18, 0, 2].into(), port, DvipaIndex(0), 80, Protocol::Tcp);
            crt.newconn(key, StackIndex(1), now).unwrap();
        }
        let mut walk = Walk::default();
        for steps_before in [0, 3] {
            (0..steps_before).for_each(|_| walk.step(&crt, now, |_| ()));
            let (end, mut seen, mut steps) = (walk.after_a_round(), 0, 0);
            while walk.here() < end {
                walk.step(&crt, now, |_| seen += 1);
                steps += 1;
            }
            assert!(seen >= 1000 && steps > 1, "{seen} in {steps} steps");
        }
    }
}
