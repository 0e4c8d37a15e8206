//! The rows of takeovers: what clients see when the node that owns their address dies, and when the address moves by order; beside
//! keepalived with HAProxy on hosts of the same lab.

mod baton;
mod clients;
mod keepalived;

use std::fs;
use std::time::Duration;

use lab::Lab;

use crate::rows::Rows;
use crate::timing::sized;
use crate::transfer::{Failure, tell};

/// How often a node is killed, and as often an address moves by order.
const KILLS: u64 = 10;
/// Intervals of heartbeats or advertisements, in milliseconds, the fastest first. The first one is the shortest that either software takes.
const INTERVALS: [u64; 3] = [10, 30, 100];
/// For so long nothing may be taken over that lives, before an interval is used.
const CALM: Duration = Duration::from_secs(3);
/// For so long a state of the lab is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How fast a node's death is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// As without configuration.
    Default,
    /// As fast as the machine allows: with the shortest of [`INTERVALS`] at which nothing is taken over that lives.
    Fast,
}

impl Pace {
    /// What names of rows begin with.
    fn rows(self, of: &str) -> String {
        match self {
            Self::Default => of.to_owned(),
            Self::Fast => format!("{of}_fast"),
        }
    }

    /// What is tried, one after the other.
    fn intervals(self) -> Vec<Option<u64>> {
        match self {
            Self::Default => vec![None],
            Self::Fast => INTERVALS.map(Some).to_vec(),
        }
    }
}

/// Adds those of the rows that are asked for. What can't be measured here is named on standard error.
pub(crate) fn measure(rows: &mut Rows) {
    for pace in [Pace::Default, Pace::Fast] {
        let names = baton::rows(pace);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if rows.wants(&names) {
            tell(&names, baton::measure(rows, pace));
        }
        let names = keepalived::rows(pace);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if rows.wants(&names) {
            tell(&names, keepalived::measure(rows, pace));
        }
    }
}

/// Waits whether something is taken over that lives: `takeovers` counts them. By default that is only noted, with the figures.
fn is_calm(interval: Option<u64>, takeovers: impl Fn() -> Result<usize, Failure>) -> Result<bool, Failure> {
    let before = takeovers()?;
    std::thread::sleep(CALM);
    let more = takeovers()? - before;
    if let (Some(ms), 1..) = (interval, more) {
        eprintln!(
            "at an interval of {ms} ms {more} addresses are taken over that are alive: a longer one is tried"
        );
        return Ok(false);
    }
    Ok(true)
}

/// Why none of the intervals could be used.
fn never_calm() -> Failure {
    format!("this machine is too busy for each of the intervals {INTERVALS:?} ms").into()
}

/// How often these programs have written this into their logs.
fn count(lab: &Lab, programs: &[&str], said: &str) -> Result<usize, Failure> {
    let mut count = 0;
    for program in programs {
        let log = fs::read_to_string(lab.files().join(format!("{program}.log")))?;
        count += log.lines().filter(|line| line.contains(said)).count();
    }
    Ok(count)
}

fn kills() -> u64 {
    sized(KILLS, 2)
}

/// The time that so many of a hundred do not exceed, in milliseconds; not a number if there are none.
fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

type Done = Result<(), Failure>;
