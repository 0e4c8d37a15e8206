//! Who runs where: each worker has a core, and the control thread stays off them.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Which cores are used for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where the control thread and its helpers run.
    pub control: usize,
    /// One core a worker, none twice.
    pub workers: Vec<usize>,
}

/// Why the workers' cores can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// Not a core of this machine, or not one that this process may use.
    #[error(
        "worker core {core} can't be used: this process may run on {available:?}; change `forwarder.workers`"
    )]
    Unavailable {
        /// The core.
        core: usize,
        /// Those that can be used.
        available: Vec<usize>,
    },
    /// Two workers on one core.
    #[error("worker core {0} is named twice in `forwarder.workers`")]
    Twice(usize),
}

impl Plan {
    /// Puts the workers on these cores and the control thread on the first one that is left. If none is left, it
    /// shares the first worker's.
    ///
    /// # Errors
    /// [`CoreError`] if a core can't be used or is named twice.
    pub fn new(workers: &[usize], available: &[usize]) -> Result<Self, CoreError> {
        for (i, core) in workers.iter().enumerate() {
            if !available.contains(core) {
                return Err(CoreError::Unavailable { core: *core, available: available.to_vec() });
            }
            if workers.iter().take(i).any(|other| other == core) {
                return Err(CoreError::Twice(*core));
            }
        }
        let free = available.iter().find(|core| !workers.contains(core));
        let control = free.or(workers.first()).copied().unwrap_or(0);
        Ok(Self { control, workers: workers.to_vec() })
    }

    /// The control thread has to share its core with a worker.
    pub fn shares(&self) -> bool {
        self.workers.contains(&self.control)
    }

    /// Does something on the first worker's core, by a thread that ends with it.
    ///
    /// # Panics
    /// If `work` does.
    pub fn on_a_workers_core<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let core = self.workers.first().copied().unwrap_or(self.control);
        let there = || {
            // Without the right core it is done all the same.
            core_affinity::set_for_current(core_affinity::CoreId { id: core });
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(there).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Does something on the workers' cores, by a thread that ends with it and may start others there: while no worker runs.
    ///
    /// # Panics
    /// If `work` does.
    pub fn on_the_workers_cores<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let there = || {
            let mut cores = CpuSet::new();
            let are_set = self.workers.iter().all(|core| cores.set(*core).is_ok());
            // Without the right cores it is done all the same.
            if !are_set || sched_setaffinity(Pid::from_raw(0), &cores).is_err() {
                tracing::debug!(workers = ?self.workers, "not on the workers' cores");
            }
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(there).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Binds the calling thread, and every thread that it will start, to the control core.
    pub fn bind_control(&self) {
        if !core_affinity::set_for_current(core_affinity::CoreId { id: self.control }) {
            tracing::warn!(core = self.control, "the control thread could not be bound to its core");
        }
    }
}

/// The cores that this process may use.
pub fn available() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_thread_stays_off_the_workers_cores() {
        let plan = Plan::new(&[0, 2], &[0, 1, 2, 3]).unwrap();
        assert_eq!((plan.control, plan.shares()), (1, false));
    }

    #[test]
    fn it_shares_a_core_only_where_none_is_left() {
        let plan = Plan::new(&[1, 0], &[0, 1]).unwrap();
        assert_eq!((plan.control, plan.shares()), (1, true));
    }

    #[test]
    fn a_core_that_is_not_there_or_named_twice_is_refused() {
        let error = Plan::new(&[7], &[0, 1]).unwrap_err();
        assert_eq!(error, CoreError::Unavailable { core: 7, available: vec![0, 1] });
        assert_eq!(Plan::new(&[1, 1], &[0, 1]).unwrap_err(), CoreError::Twice(1));
    }
}
