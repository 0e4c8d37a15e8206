//! What can go wrong while a lab is built or used.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The result of a lab's operations.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// What was attempted and why it failed.
#[derive(thiserror::Error)]
pub enum LabError {
    /// A command could not be started.
    #[error(
        "could not start `{command}`: {cause} (scripts/packages lists the Debian packages that a lab needs)"
    )]
    Start {
        /// The command line.
        command: String,
        /// What the system said.
        cause: io::Error,
    },
    /// A command ended with an error.
    #[error("`{command}` failed with {status}:\n{output}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it wrote.
        output: String,
    },
    /// There is nothing to boot a guest from.
    #[error("{0} has nothing to boot a guest from: run scripts/guest, with 6.1 for a kernel of Debian 12")]
    NoGuest(PathBuf),
    /// A guest that should do something was not booted, or has not said that it has started.
    #[error("the guest {0} has not started")]
    NotStarted(String),
    /// A file or directory could not be read or written.
    #[error("{attempt} {path}: {cause}")]
    File {
        /// `write`, `read`, …
        attempt: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Something that should have come did not.
    #[error("waited {waited:?} for {what}; last seen: {last}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The last state, for a person.
        last: String,
    },
    /// A program of the cluster ended although it should run.
    #[error("{name} ended by itself with {status}; its log is {log}")]
    Ended {
        /// Which program.
        name: String,
        /// Its exit status.
        status: String,
        /// Where its output is.
        log: PathBuf,
    },
    /// A program is not where it should be.
    #[error(
        "no program `{0}` beside this one: build it first (`cargo build --bins --examples`), or set BATON_BIN to its directory"
    )]
    NoProgram(String),
    /// The command line answered with something unexpected.
    #[error("`{command}` answered with what is not expected: {what}")]
    Answer {
        /// The command line.
        command: String,
        /// What is wrong with it.
        what: String,
    },
    /// All ids of this process are in use.
    #[error("can't make a directory for a lab in {0}: is it full, or of kept labs' files?")]
    NoRoom(PathBuf),
    /// Namespaces need root.
    #[error("a lab needs root: it makes network namespaces and loads BPF programs")]
    NotRoot,
}

/// As for people: it is mostly `expect` and `unwrap` of a test that show it.
impl fmt::Debug for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Adds the path to an I/O error.
pub(crate) trait WithPath<T> {
    /// `attempt` is a verb: `write`, `read`.
    fn with_path(self, attempt: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> WithPath<T> for io::Result<T> {
    fn with_path(self, attempt: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|cause| LabError::File { attempt, path: path.into(), cause })
    }
}
