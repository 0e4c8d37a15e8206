//! DPDK's environment: started once, with one lcore a worker.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use crate::error::{Error, errno, last};
use crate::name::DeviceName;
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
    /// The devices that will be opened: of the PCI bus DPDK touches these and no others.
    pub devices: Vec<DeviceName>,
    /// More EAL arguments, as in the documentation of DPDK.
    pub extra: Vec<String>,
}

impl Arguments {
    /// The command line. Lcore 0 is the control thread, lcore 1 and up are the workers. DPDK keeps no files, so that
    /// several processes never meet; without hugepages that has another name, because `--no-huge` implies
    /// `--legacy-mem`, which excludes `--in-memory`.
    fn command_line(&self) -> Result<Vec<String>, Error> {
        let mut lcores = format!("0@{}", self.control_core);
        for (worker, core) in self.worker_cores.iter().enumerate() {
            lcores.push_str(&format!(",{}@{core}", worker + 1));
        }
        let no_files =
            if self.extra.iter().any(|e| e == "--no-huge") { "--no-shconf" } else { "--in-memory" };
        let own = ["batond", no_files, "--no-telemetry", "--main-lcore", "0", "--lcores", &lcores];
        let own = own.into_iter().map(str::to_owned);
        Ok(own.chain(self.probed()?).chain(self.extra.iter().cloned()).collect())
    }

    /// Which PCI devices DPDK probes: those of the ports. An operator's own `--allow` adds to them; with an operator's
    /// `--block`, which DPDK does not take beside `--allow`, it probes all but those.
    fn probed(&self) -> Result<Vec<String>, Error> {
        let allowed = self.named_by(&["-a", "--allow"]);
        let blocked = self.named_by(&["-b", "--block"]);
        let no_pci = self.extra.iter().any(|argument| argument == "--no-pci");
        let mut probed = Vec::new();
        for device in self.devices.iter().filter(|device| device.is_pci()) {
            let is_named = |names: &[DeviceName]| names.iter().any(|name| name.name() == device.name());
            if no_pci || is_named(&blocked) {
                let argument = if no_pci { "--no-pci" } else { "--block" };
                return Err(Error::Excluded { device: device.to_string(), argument });
            }
            if blocked.is_empty() && !is_named(&allowed) {
                probed.push(format!("--allow={device}"));
            }
        }
        let nothing_named = probed.is_empty() && allowed.is_empty() && blocked.is_empty();
        Ok(if nothing_named && !no_pci { vec!["--no-pci".to_owned()] } else { probed })
    }

    /// The devices that the operator's own arguments give to one of these options: `-a X`, `-aX`, `--allow X`, `--allow=X`.
    fn named_by(&self, options: &[&str; 2]) -> Vec<DeviceName> {
        let [short, long] = *options;
        let mut arguments = self.extra.iter().map(String::as_str);
        let mut named = Vec::new();
        while let Some(argument) = arguments.next() {
            let value = if argument == short || argument == long {
                arguments.next()
            } else if argument.starts_with("--") {
                argument.strip_prefix(long).and_then(|rest| rest.strip_prefix('='))
            } else {
                argument.strip_prefix(short)
            };
            named.extend(value.map(DeviceName::new));
        }
        named
    }
}

impl Eal {
    /// Starts DPDK and returns one [`Lcore`] a worker. The calling thread becomes DPDK's main lcore.
    ///
    /// # Errors
    /// [`Error::StartedBefore`] the second time, [`Error::Excluded`] if a device could never be opened, [`Error::Start`] if
    /// DPDK refuses.
    pub fn start(arguments: &Arguments) -> Result<(Self, Vec<Lcore>), Error> {
        static STARTED: AtomicBool = AtomicBool::new(false);
        let line = arguments.command_line()?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(Error::StartedBefore);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What of the command line is about the PCI bus.
    fn probed(devices: &[&str], extra: &[&str]) -> Result<Vec<String>, Error> {
        let devices = devices.iter().map(|device| DeviceName::new(device)).collect();
        let extra = extra.iter().map(|e| (*e).to_owned()).collect();
        Arguments { devices, extra, ..Arguments::default() }.probed()
    }

    #[test]
    fn dpdk_probes_the_ports_devices_and_no_others() {
        assert_eq!(probed(&["net_tap0", "net_ring0"], &[]).unwrap(), ["--no-pci"]);
        let line = probed(&["pci:01:00.0,x=1", "net_tap0"], &["--no-huge"]).unwrap();
        assert_eq!(line, ["--allow=0000:01:00.0,x=1"]);
    }

    #[test]
    fn the_operators_own_allow_and_block_count() {
        assert_eq!(probed(&["01:00.0"], &["-a", "02:00.0"]).unwrap(), ["--allow=0000:01:00.0"]);
        for allow in
            [&["-a", "0000:01:00.0"][..], &["--allow=01:00.0,x=1"], &["-a01:00.0"], &["--allow", "01:00.0"]]
        {
            assert!(probed(&["01:00.0"], allow).unwrap().is_empty(), "{allow:?}");
        }
        assert!(probed(&["01:00.0"], &["--block=02:00.0"]).unwrap().is_empty());
        assert!(probed(&["net_tap0"], &["--no-pci"]).unwrap().is_empty());
        assert!(probed(&["net_tap0"], &["--allow=02:00.0"]).unwrap().is_empty());
    }

    #[test]
    fn a_device_that_the_operator_excludes_is_refused_with_the_argument() {
        for (extra, argument) in [(&["--no-pci"][..], "--no-pci"), (&["-b", "01:00.0"], "--block")] {
            let error = probed(&["01:00.0"], extra).unwrap_err().to_string();
            assert!(error.contains("0000:01:00.0") && error.contains(argument), "{error}");
        }
    }
}
