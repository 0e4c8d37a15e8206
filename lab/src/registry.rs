//! Who clears up.
//!
//! Every lab has a directory in [`RECORDS`] with a record of what it made, written before it is made. A janitor, a small
//! shell process in a session of its own, waits for the end of a pipe that only the lab's owner holds, and then removes
//! everything in the record. So there is one way to clear up, and it is the same for a normal end, a failed test,
//! Ctrl-C and `kill -9`. Should the janitor be killed too, [`sweep`] does its work at the next start.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::{LabError, Result, WithPath};

/// Where labs are recorded.
pub const RECORDS: &str = "/run/baton-lab";
/// The clear-up itself.
const JANITOR: &str = include_str!("janitor.sh");

/// The record of one lab; dropping it removes what the record names.
#[derive(Debug)]
pub struct Record {
    id: String,
    directory: PathBuf,
    files: PathBuf,
    janitor: Option<Child>,
}

impl Record {
    /// Opens a record with an id that no other lab on this machine has, and starts its janitor.
    ///
    /// # Errors
    /// [`LabError::File`] if the directory can't be made, [`LabError::Start`] if the janitor can't be started.
    pub fn open() -> Result<Self> {
        fs::create_dir_all(RECORDS).with_path("create", RECORDS)?;
        let pid = std::process::id();
        // Only a directory that is not there yet can be made: so nobody else has the id, nor have the files of a failed
        // test that a developer still wants to read.
        let (id, files) = (0..10_000u32)
            .map(|n| format!("{pid:x}-{n}"))
            .map(|id| (id.clone(), std::env::temp_dir().join(format!("baton-lab-{id}"))))
            .find(|(_, files)| fs::create_dir(files).is_ok())
            .ok_or_else(|| LabError::NoRoom(std::env::temp_dir()))?;
        let directory = Path::new(RECORDS).join(&id);
        fs::create_dir_all(&directory).with_path("create", &directory)?;
        let started = start_time(pid).unwrap_or_default();
        let text = format!("owner {pid} {started}\nfiles {}\n", files.display());
        fs::write(directory.join("record"), text).with_path("write", &directory)?;
        let janitor = janitor_command(&directory, "wait").stdin(Stdio::piped()).spawn();
        let janitor = janitor.map_err(|cause| LabError::Start { command: "sh (janitor)".into(), cause })?;
        Ok(Self { id, directory, files, janitor: Some(janitor) })
    }

    /// The lab's id, part of every name that it gives.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where sockets and pins live: short paths, gone with the lab.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where configuration, logs and captures live: they stay if something failed.
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// Notes that `what` of this `kind` (`netns`, `mount`) is about to be made.
    ///
    /// # Errors
    /// [`LabError::File`] if it can't be written.
    pub fn note(&self, kind: &str, what: &str) -> Result<()> {
        let path = self.directory.join("record");
        let mut file = fs::OpenOptions::new().append(true).open(&path).with_path("open", &path)?;
        writeln!(file, "{kind} {what}").with_path("write", &path)
    }

    /// Lets the lab's files outlive it: a developer has to read them.
    pub fn keep_files(&self) {
        let _ = fs::write(self.directory.join("failed"), "");
    }

    /// Lets the whole lab outlive its owner, until [`remove_kept`].
    pub fn keep(&self) {
        let _ = fs::write(self.directory.join("keep"), "");
    }

    /// Removes the lab and waits until it is gone.
    pub fn clear(&mut self) {
        if let Some(mut janitor) = self.janitor.take() {
            drop(janitor.stdin.take());
            let _ = janitor.wait();
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.clear();
    }
}

fn janitor_command(directory: &Path, when: &str) -> Command {
    let mut command = Command::new("setsid");
    command.args(["--wait", "sh", "-c", JANITOR, "janitor"]).arg(directory).arg(when);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Removes the labs whose owner is dead, and returns their ids.
pub fn sweep() -> Vec<String> {
    remove_where(|directory| !directory.join("keep").exists() && !owner_lives(directory))
}

/// Removes the labs that were kept on purpose, all of them or the one with this id, and returns their ids.
pub fn remove_kept(id: Option<&str>) -> Vec<String> {
    let meant = |directory: &Path| id.is_none_or(|id| directory.ends_with(id));
    remove_where(|directory| directory.join("keep").exists() && meant(directory))
}

/// Removes the labs of this process, for a signal handler that ends it.
pub fn remove_own() {
    remove_where(|directory| owner(directory).0 == Some(std::process::id()));
}

fn remove_where(condition: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(RECORDS).into_iter().flatten().flatten() {
        let directory = entry.path();
        if condition(&directory) && janitor_command(&directory, "now").status().is_ok() {
            removed.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    removed.sort();
    removed
}

fn owner_lives(directory: &Path) -> bool {
    let (pid, started) = owner(directory);
    // A record without an owner is one that is being written at this moment.
    pid.is_none_or(|pid| started.is_some() && start_time(pid) == started)
}

/// Process id and start time of a lab's owner.
fn owner(directory: &Path) -> (Option<u32>, Option<u64>) {
    let record = fs::read_to_string(directory.join("record")).unwrap_or_default();
    let mut words = record.lines().next().unwrap_or_default().split_whitespace().skip(1);
    (words.next().and_then(|w| w.parse().ok()), words.next().and_then(|w| w.parse().ok()))
}

/// When a process started, in clock ticks since boot (proc(5), stat, field 22): tells it from a later one with its id.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_start_time_and_a_dead_one_has_none() {
        let own = start_time(std::process::id());
        assert!(own.is_some());
        assert_eq!(own, start_time(std::process::id()));
        let mut child = Command::new("true").spawn().expect("true runs");
        let pid = child.id();
        child.wait().expect("true ends");
        assert_eq!(start_time(pid), None);
    }
}
