//! The CRT where it outlives this process: whose file it is, what a former process left in it, and when it is made anew.
//!
//! | in the file | what follows |
//! | --- | --- |
//! | nothing | an empty table |
//! | another running `batond`'s table | this one ends, and says so |
//! | a table of this layout, these sizes and lifetimes, and of this node | it is put right and goes on |
//! | anything else | the reason is in the log, and an empty table takes its place: the agents' reports fill it |

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use forwarder::crt::{Config, Crt, Left, Named, Repairs, Unusable};
use model::numbering::{NotANumbering, Numbering};
use model::{DvipaIndex, StackIndex, StackName};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{HUGETLBFS_MAGIC, TMPFS_MAGIC, fstatfs};
use nix::time::{ClockId, clock_gettime};

use crate::cores::Plan;

/// Why the file can't hold the table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Another process has it.
    #[error("the CRT in {} is in use by another batond: end it, or change `forwarder.crt_file`", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is not in memory.
    #[error(
        "{} is neither in a hugetlbfs nor in a tmpfs: packets would wait for a disk; change `forwarder.crt_file`",
        path.display()
    )]
    Disk {
        /// The file.
        path: PathBuf,
    },
    /// It can't be opened or locked.
    #[error("{} can't be opened; change or remove `forwarder.crt_file`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
    /// There is not enough memory in its file system.
    #[error(
        "no room in the file system of {} for a CRT of {v4} IPv4 and {v6} IPv6 connections; make some, or change `forwarder.crt_file`",
        path.display()
    )]
    Room {
        /// The file.
        path: PathBuf,
        /// IPv4 connections.
        v4: usize,
        /// IPv6 connections.
        v6: usize,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
}

/// A table in a file.
#[derive(Debug)]
pub struct Table {
    /// The table.
    pub crt: Crt,
    /// What its entries' numbers mean, and what its clock shows, in milliseconds; none: it is empty.
    pub kept: Option<(Numbering, u64)>,
    /// The file, locked: for as long as this process may change the table.
    pub lock: Flock<File>,
}

/// Why a table is not this node's to go on with.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Table(#[from] Unusable),
    #[error("nothing says what the numbers in its entries mean")]
    NoNumbering,
    #[error("what says what the numbers in its entries mean can't be read: {0}")]
    Numbering(#[from] NotANumbering),
    #[error("it is the table of {0}")]
    AnotherNodes(StackName),
    #[error("its clock is damaged")]
    Clock,
}

impl Table {
    /// Goes on with the table in the file, or makes an empty one there. `node`: whose numbers count.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn open(path: &Path, config: &Config, node: &StackName, plan: &Plan) -> Result<Self, TableError> {
        let lock = locked(path)?;
        match kept(&lock, config, node) {
            Ok((left, numbering, clock_ms)) => {
                let begun = Instant::now();
                let stacks = numbering.stacks.iter().map(|stack| StackIndex(stack.number));
                let dvipas = numbering.dvipas.iter().map(|dvipa| DvipaIndex(dvipa.number));
                let named = Named::new(stacks, dvipas);
                let (crt, repairs) = plan.on_the_workers_cores(|| left.attach(&named));
                tell(path, &crt, repairs, begun);
                return Ok(Self { crt, kept: Some((numbering, clock_ms)), lock });
            }
            Err(Unfit::Table(Unusable::Empty)) => {}
            Err(reason) => tracing::warn!(
                file = %path.display(), %reason,
                "the CRT in the file can't be used: an empty one takes its place, and agents report their connections"
            ),
        }
        let made = plan.on_a_workers_core(|| Crt::create_in(config, &lock));
        let crt = made.map_err(|cause| TableError::Room {
            path: path.to_owned(),
            v4: config.connections_v4,
            v6: config.connections_v6,
            cause,
        })?;
        tracing::info!(file = %path.display(), bytes = crt.stats().bytes, "an empty CRT is in the file");
        Ok(Self { crt, kept: None, lock })
    }
}

/// Removes the file; whether there was one. One that a running `batond` has stays.
///
/// # Errors
/// [`TableError`].
pub fn remove(path: &Path) -> Result<bool, TableError> {
    if !path.exists() {
        return Ok(false);
    }
    let lock = locked(path)?;
    fs::remove_file(path).map_err(|cause| TableError::File { path: path.to_owned(), cause })?;
    drop(lock);
    if let Some(directory) = path.parent() {
        // Whatever else is in there stays.
        let _ = fs::remove_dir(directory);
    }
    Ok(true)
}

fn locked(path: &Path) -> Result<Flock<File>, TableError> {
    let fail = |cause| TableError::File { path: path.to_owned(), cause };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(fail)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(fail)?;
    let kind = fstatfs(&file).map_err(|error| fail(error.into()))?.filesystem_type();
    if kind != TMPFS_MAGIC && kind != HUGETLBFS_MAGIC {
        return Err(TableError::Disk { path: path.to_owned() });
    }
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => TableError::InUse { path: path.to_owned() },
        error => fail(error.into()),
    })
}

/// The table in the file, what its numbers mean, and what its clock shows.
fn kept(file: &File, config: &Config, node: &StackName) -> Result<(Left, Numbering, u64), Unfit> {
    let left = Crt::find_in(config, file)?;
    let numbering = Numbering::decode(&left.record().ok_or(Unfit::NoNumbering)?)?;
    if numbering.node != *node {
        return Err(Unfit::AnotherNodes(numbering.node));
    }
    let clock_ms = left.clock(system_ms()).ok_or(Unfit::Clock)?;
    Ok((left, numbering, clock_ms))
}

/// What goes on, and what had to be put right.
fn tell(path: &Path, crt: &Crt, repairs: Repairs, begun: Instant) {
    let stats = crt.stats();
    let Repairs { locked, moving, unnamed, damaged } = repairs;
    tracing::info!(
        file = %path.display(),
        connections = stats.v4.entries + stats.v6.entries,
        flows = stats.flows_v4.entries + stats.flows_v6.entries,
        half_open = stats.half_open_v4.entries + stats.half_open_v6.entries,
        locked, moving, unnamed, damaged, took = ?begun.elapsed(),
        "the CRT of the former process goes on"
    );
}

/// What the system's clock shows that counts from its start and that nobody sets, in milliseconds.
pub fn system_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
