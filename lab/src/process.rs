//! A program of the lab that keeps running.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{LabError, Result, WithPath};

/// How long a program may take to end after it was asked to.
const END_S: u64 = 10;

/// A running program with its log. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its output appended to `log`, in a process group of its own so that a Ctrl-C at the
    /// terminal is for the lab's owner only.
    ///
    /// # Errors
    /// [`LabError::Start`], or [`LabError::File`] for the log.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(log).with_path("open", log)?;
        let copy: File = file.try_clone().with_path("open", log)?;
        command.stdin(Stdio::null()).stdout(file).stderr(copy).process_group(0);
        let child = command.spawn().map_err(|cause| LabError::Start { command: name.to_owned(), cause })?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its name in the lab, for example `agent t1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Asks it to end with this signal, waits, and kills it if it takes longer than ten seconds.
    ///
    /// # Errors
    /// [`LabError::Timeout`] if it had to be killed.
    pub fn stop(self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal);
        self.wait()
    }

    /// Waits for its end, and kills it if that takes longer than ten seconds.
    ///
    /// # Errors
    /// [`LabError::Timeout`] if it had to be killed.
    pub fn wait(mut self) -> Result<ExitStatus> {
        let waited = Duration::from_secs(END_S);
        let deadline = Instant::now() + waited;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let what = format!("{} to end", self.name);
        Err(LabError::Timeout { what, waited, last: "still running".into() })
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// [`LabError::Ended`] with its status and log.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(LabError::Ended {
                name: self.name.clone(),
                status: status.signal().map_or_else(|| status.to_string(), |s| format!("signal {s}")),
                log: self.log.clone(),
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
