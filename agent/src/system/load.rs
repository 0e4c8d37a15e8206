//! How busy this host is.

use std::fs;
use std::time::Instant;

/// Processor time since the start, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Processors {
    idle: u64,
    all: u64,
}

/// Measures between calls.
#[derive(Debug)]
pub struct Meter {
    processors: Processors,
    memory_stall_us: u64,
    at: Instant,
}

/// Use since the former measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Of all processors, in thousandths.
    pub cpu_permille: u16,
    /// Share of the time in which some task waited for memory, in thousandths; 0 where the kernel does not measure it.
    pub memory_pressure_permille: u16,
}

impl Meter {
    /// Begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self { processors: processors(), memory_stall_us: memory_stall_us(), at: now }
    }

    /// The use since the former call.
    pub fn measure(&mut self, now: Instant) -> Use {
        let before = std::mem::replace(self, Self::new(now));
        let all = self.processors.all.saturating_sub(before.processors.all);
        let idle = self.processors.idle.saturating_sub(before.processors.idle);
        let stalled = self.memory_stall_us.saturating_sub(before.memory_stall_us);
        let elapsed_us = now.saturating_duration_since(before.at).as_micros();
        Use {
            cpu_permille: permille(all.saturating_sub(idle).into(), all.into()),
            memory_pressure_permille: permille(stalled.into(), elapsed_us),
        }
    }
}

fn permille(part: u128, whole: u128) -> u16 {
    let share = part.saturating_mul(1000).checked_div(whole).unwrap_or(0);
    u16::try_from(share.min(1000)).unwrap_or(1000)
}

/// The first line of /proc/stat: `cpu user nice system idle iowait irq softirq steal …`. Guests are part of user.
fn processors() -> Processors {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    parse_processors(stat.lines().next().unwrap_or_default())
}

fn parse_processors(line: &str) -> Processors {
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|t| t.parse().ok()).collect();
    Processors { idle: ticks.iter().skip(3).take(2).sum(), all: ticks.iter().sum() }
}

/// /proc/pressure/memory: `some avg10=0.00 avg60=0.00 avg300=0.00 total=1234`, in µs.
fn memory_stall_us() -> u64 {
    let pressure = fs::read_to_string("/proc/pressure/memory").unwrap_or_default();
    let some = pressure.lines().find(|l| l.starts_with("some")).unwrap_or_default();
    some.rsplit_once("total=").and_then(|(_, total)| total.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Processors, parse_processors, permille};

    #[test]
    fn waiting_for_a_disk_is_idle() {
        let line = "cpu  10 20 30 400 50 6 7 8 9 10";
        assert_eq!(parse_processors(line), Processors { idle: 450, all: 531 });
    }

    #[test]
    fn a_share_of_nothing_is_nothing_and_no_share_is_above_all() {
        assert_eq!(permille(5, 0), 0);
        assert_eq!(permille(7, 5), 1000);
        assert_eq!(permille(1, 3), 333);
    }
}
