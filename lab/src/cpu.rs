//! What processor time the lab's programs have had.

use std::fs;
use std::time::{Duration, Instant};

use crate::error::{LabError, Result, WithPath};
use crate::lab::Lab;

/// How the poll-mode workers' threads are named.
pub const WORKER: &str = "rte-worker";

/// What some programs of the lab had used at a moment.
#[derive(Clone, Debug)]
pub struct Used {
    at: Instant,
    /// By all threads but the workers.
    others: Duration,
    workers: Workers,
}

/// What the poll-mode workers of `batond` had done at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Workers {
    number: u32,
    ran: Duration,
    /// Cycles of turns that had packets, and of all others, sleeps included: together they are the time that has passed, once
    /// for each worker.
    busy: u64,
    idle: u64,
}

/// What programs use when nobody wants anything of them: shares of a core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    others: f64,
    /// The workers' empty polls and sleep.
    workers: f64,
}

impl Used {
    /// What was used since `before`, less what would have been used at `rest`. Of the workers only busy turns count: the time
    /// that they took, but not more than the workers ran, less what they use at rest in the time that was left. Others may have had
    /// their core in the middle of a busy turn.
    pub fn since(&self, before: &Self, rest: Rest) -> Duration {
        let wall = self.at - before.at;
        let (now, then) = (self.workers, before.workers);
        let (busy, idle) = (now.busy - then.busy, now.idle - then.idle);
        let share = if busy == 0 { 0.0 } else { busy as f64 / (busy + idle) as f64 };
        let in_vain = wall.mul_f64(rest.workers * (1.0 - share));
        let took = wall.mul_f64(share * f64::from(now.number));
        let worker = took.min((now.ran - then.ran).saturating_sub(in_vain));
        let others = self.others.saturating_sub(before.others);
        others.saturating_sub(wall.mul_f64(rest.others)) + worker
    }

    /// What was used since `before`, when nobody wanted anything.
    pub fn at_rest_since(&self, before: &Self) -> Rest {
        let wall = (self.at - before.at).as_secs_f64();
        let of = |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() / wall;
        Rest { others: of(self.others, before.others), workers: of(self.workers.ran, before.workers.ran) }
    }
}

impl Lab {
    /// What these programs have used so far, softirqs that ran in their place included.
    ///
    /// # Errors
    /// [`LabError::File`] if one has ended, and as [`Lab::counters`] for `batond`.
    pub fn used(&self, programs: &[&str]) -> Result<Used> {
        let mut used = Used { at: Instant::now(), others: Duration::ZERO, workers: Workers::default() };
        for program in programs {
            let pid = self.id_of(program).ok_or_else(|| LabError::NoProgram((*program).to_owned()))?;
            used.others += of_process(pid)?;
            if *program == "batond" {
                let counters = self.counters()?;
                let of = |name| counters.get(name).copied().unwrap_or(0);
                let (busy, idle) = (of("worker_busy_cycles"), of("worker_idle_cycles"));
                let (number, ran) = of_threads(pid, WORKER)?;
                used.others = used.others.saturating_sub(ran);
                used.workers = Workers { number, ran, busy, idle };
                used.at = Instant::now();
            }
        }
        Ok(used)
    }
}

/// The processor time of all threads that a process has.
///
/// # Errors
/// [`LabError::File`] if it has ended.
pub fn of_process(pid: u32) -> Result<Duration> {
    of_threads(pid, "").map(|(_, ran)| ran)
}

/// Number and processor time of those threads of a process whose names begin so.
fn of_threads(pid: u32, name: &str) -> Result<(u32, Duration)> {
    let path = format!("/proc/{pid}/task");
    let mut all = (0, Duration::ZERO);
    for task in fs::read_dir(&path).with_path("list", &path)?.flatten() {
        let task = task.path();
        if fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name)) {
            // A thread may end meanwhile.
            all.0 += 1;
            all.1 += ran(&fs::read_to_string(task.join("schedstat")).unwrap_or_default());
        }
    }
    Ok(all)
}

/// The first number of `schedstat` (proc(5)): nanoseconds on a core.
fn ran(schedstat: &str) -> Duration {
    Duration::from_nanos(schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}
