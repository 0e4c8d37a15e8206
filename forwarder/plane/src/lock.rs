//! Who runs already: a second `batond` on the same socket or the same PCI device ends before it touches a port.
//!
//! A lock file says who holds it and is free again when that process is gone, however it ended. It stays in the file
//! system: who removes one may remove another's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Where the locks of PCI devices are: they belong to the machine, not to a network namespace.
const DEVICES: &str = "/run/baton";

/// Why a lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{what} is in use by another batond, process {owner} (lock {})", path.display())]
    Taken {
        /// What it locks.
        what: String,
        /// The other's process number, as it wrote it.
        owner: String,
        /// The file.
        path: PathBuf,
    },
    /// The file could not be written.
    #[error("the lock {} can't be taken", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
}

/// A lock that is held until this is dropped, or the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl Lock {
    /// The lock of a routing node: its admin socket, of which there can be one.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn of_node(socket: &Path) -> Result<Self, LockError> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        Self::take(PathBuf::from(path), format!("the admin socket {}", socket.display()))
    }

    /// The lock of a PCI device.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn of_device(name: &str) -> Result<Self, LockError> {
        Self::take(Path::new(DEVICES).join(format!("pci-{name}.lock")), format!("the device {name}"))
    }

    fn take(path: PathBuf, what: String) -> Result<Self, LockError> {
        let fail = |cause| LockError::File { path: path.clone(), cause };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(fail)?;
        }
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let file = options.open(&path).map_err(fail)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut locked) => {
                locked.set_len(0).and_then(|()| write!(locked, "{}", std::process::id())).map_err(fail)?;
                Ok(Self(locked))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut owner = String::new();
                file.rewind().and_then(|()| file.read_to_string(&mut owner)).map_err(fail)?;
                Err(LockError::Taken { what, owner, path })
            }
            Err((_, error)) => Err(fail(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is_and_gets_the_lock_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("new/batond.sock");
        let first = Lock::of_node(&socket).unwrap();
        let error = Lock::of_node(&socket).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        Lock::of_node(&socket).unwrap();
    }
}
