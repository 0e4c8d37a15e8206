//! One host's network namespace.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::error::{LabError, Result, WithPath};

/// A named network namespace: one host of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace with this name; it need not exist yet.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside. Only the network is the namespace's: `/sys/fs/bpf` and all files stay in sight,
    /// other than with `ip netns exec`. The process that starts is the program itself, so that its id can be signalled.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a shell script inside and returns what it wrote to standard output.
    ///
    /// # Errors
    /// [`LabError::Failed`] with everything it wrote if it ends with an error.
    pub fn sh(&self, script: &str) -> Result<String> {
        let mut command = self.command("sh");
        command.args(["-e", "-c", script]);
        output_of(&mut command, script)
    }

    /// Runs a program inside and returns what it wrote to standard output.
    ///
    /// # Errors
    /// [`LabError::Failed`] with everything it wrote if it ends with an error.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        output_of(&mut self.words(words), &words.join(" "))
    }

    /// Runs a program inside, whatever its exit status.
    ///
    /// # Errors
    /// [`LabError::Start`] if it can't be started.
    pub fn try_run(&self, words: &[&str]) -> Result<Output> {
        self.words(words).output().map_err(|cause| LabError::Start { command: words.join(" "), cause })
    }

    fn words(&self, words: &[&str]) -> Command {
        let mut command = self.command(words.first().copied().unwrap_or("true"));
        command.args(words.iter().skip(1));
        command
    }

    /// Runs `work` on a thread inside. A socket made there belongs to the namespace wherever it is used afterwards.
    ///
    /// # Panics
    /// If the namespace can't be entered, or if `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let path = self.path();
            let file = File::open(&path).with_path("open", &path).unwrap_or_else(|e| panic!("{e}"));
            setns(file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("enter {}: {e}", self.name));
            work()
        };
        let result = thread::scope(|scope| scope.spawn(inside).join());
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// [`LabError::Failed`] with everything it wrote if it ends with an error.
pub fn output_of(command: &mut Command, shown_as: &str) -> Result<String> {
    let output = command.output().map_err(|cause| LabError::Start { command: shown_as.to_owned(), cause })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(LabError::Failed {
        command: shown_as.to_owned(),
        status: output.status.to_string(),
        output: text(&output.stdout) + &text(&output.stderr),
    })
}
