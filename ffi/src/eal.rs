//! DPDK's environment: started once, with one lcore a worker.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use crate::error::{Error, errno, last};
use crate::raw;

/// Proof that DPDK runs. It runs until the process ends, and since it keeps no files, there is nothing to clean up.
#[derive(Clone, Copy, Debug)]
pub struct Eal(());

/// Where DPDK's threads run, and what else it is told.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// The core of the thread that calls [`Eal::start`], which DPDK binds to it.
    pub control_core: usize,
    /// The core of each worker; none may occur twice.
    pub worker_cores: Vec<usize>,
    /// More EAL arguments, as in the documentation of DPDK.
    pub extra: Vec<String>,
}

impl Arguments {
    /// The command line. Lcore 0 is the control thread, lcore 1 and up are the workers. DPDK keeps no files, so that
    /// several processes never meet; without hugepages that has another name, because `--no-huge` implies
    /// `--legacy-mem`, which excludes `--in-memory`.
    fn command_line(&self) -> Vec<String> {
        let mut lcores = format!("0@{}", self.control_core);
        for (worker, core) in self.worker_cores.iter().enumerate() {
            lcores.push_str(&format!(",{}@{core}", worker + 1));
        }
        let no_files =
            if self.extra.iter().any(|e| e == "--no-huge") { "--no-shconf" } else { "--in-memory" };
        let own = ["batond", no_files, "--no-telemetry", "--main-lcore", "0", "--lcores", &lcores];
        own.into_iter().map(str::to_owned).chain(self.extra.iter().cloned()).collect()
    }
}

impl Eal {
    /// Starts DPDK and returns one [`Lcore`] a worker. The calling thread becomes DPDK's main lcore.
    ///
    /// # Errors
    /// [`Error::StartedBefore`] the second time, [`Error::Start`] if DPDK refuses.
    pub fn start(arguments: &Arguments) -> Result<(Self, Vec<Lcore>), Error> {
        static STARTED: AtomicBool = AtomicBool::new(false);
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(Error::StartedBefore);
        }
        let line = arguments.command_line();
        let mut argv = Vec::with_capacity(line.len());
        for argument in &line {
            let c = CString::new(argument.as_str()).map_err(|_| Error::ZeroByte(argument.clone()))?;
            // Leaked: the EAL keeps pointers into its arguments.
            argv.push(c.into_raw());
        }
        let argc = i32::try_from(argv.len()).unwrap_or(i32::MAX);
        // SAFETY: `argv` holds `argc` strings that live for ever, and this is the only call in this process. The EAL
        // reorders the array, so a copy of it is leaked too.
        let status = unsafe { raw::rte_eal_init(argc, Vec::leak(argv).as_mut_ptr().cast::<*mut c_char>()) };
        if status < 0 {
            return Err(Error::Start { arguments: line.join(" "), cause: last() });
        }
        let workers = u32::try_from(arguments.worker_cores.len()).unwrap_or(u32::MAX);
        Ok((Self(()), (1..=workers).map(|id| Lcore { id }).collect()))
    }

    /// The version of the DPDK that runs, as it calls itself.
    pub fn version(self) -> &'static str {
        // SAFETY: returns a constant string of the library.
        unsafe { CStr::from_ptr(raw::rte_version()) }.to_str().unwrap_or("DPDK")
    }
}

/// A core that DPDK keeps for one worker. There is one of each, so that no two workers share a core.
#[derive(Debug)]
pub struct Lcore {
    id: u32,
}

/// A worker that runs on its core.
#[derive(Debug)]
pub struct Running<T> {
    lcore: Lcore,
    outcome: mpsc::Receiver<T>,
}

struct Job {
    run: Box<dyn FnOnce() + Send>,
}

impl Lcore {
    /// Runs `work` on this core. A panic of it ends the process: a worker that is gone would leave its queues unserved.
    ///
    /// # Errors
    /// [`Error::Launch`] if DPDK refuses.
    pub fn launch<T, F>(self, work: F) -> Result<Running<T>, Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (send, outcome) = mpsc::sync_channel(1);
        let run = Box::new(move || {
            // Nobody waits for the outcome if the receiver is gone.
            let _ = send.send(work());
        });
        let job = Box::into_raw(Box::new(Job { run })).cast::<c_void>();
        // SAFETY: `entry` takes the job back exactly once, on the lcore's thread; a job is `Send`.
        let status = unsafe { raw::rte_eal_remote_launch(Some(entry), job, self.id) };
        if status < 0 {
            // SAFETY: the launch failed, so that `entry` will not run and the job is still ours.
            drop(unsafe { Box::from_raw(job.cast::<Job>()) });
            return Err(Error::Launch { lcore: self.id, cause: errno(status) });
        }
        Ok(Running { lcore: self, outcome })
    }
}

/// What an lcore's thread calls. A panic can't leave an `extern "C"` function: it aborts.
unsafe extern "C" fn entry(job: *mut c_void) -> i32 {
    // SAFETY: made by `launch` with `Box::into_raw` and handed to this one call.
    let job = unsafe { Box::from_raw(job.cast::<Job>()) };
    (job.run)();
    0
}

impl<T> Running<T> {
    /// Waits until the work is done; returns its result and the free core.
    pub fn join(self) -> (T, Lcore) {
        let Ok(result) = self.outcome.recv() else {
            unreachable!("the work sends its outcome or ends the process")
        };
        // SAFETY: the number of an lcore that was launched; waits until its thread is idle.
        unsafe { raw::rte_eal_wait_lcore(self.lcore.id) };
        (result, self.lcore)
    }
}
