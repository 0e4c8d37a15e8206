//! The dumps of connections that may be put into a listener here and whose kernel is then to be given bytes of the client: they
//! have to outlive the agent, because nobody else has these bytes any more.
//!
//! A file each, in a file system in memory, in a directory that is named after the ledger: those of another start of the
//! host are void.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::transfer::{Ledger, TransferId};

/// What is being written.
const UNFINISHED: &str = "unfinished";

/// The dumps of this host.
#[derive(Debug)]
pub struct Dumps(PathBuf);

/// What a former run of the agent has left.
pub type Left = Vec<(TransferId, Vec<u8>)>;

impl Dumps {
    /// Opens the dumps in this directory, and says what a former run has left there.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(directory: &Path, ledger: Ledger) -> io::Result<(Self, Left)> {
        let own = directory.join(format!("{:016x}", ledger.0));
        fs::create_dir_all(&own)?;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path != own {
                fs::remove_dir_all(path)?;
            }
        }
        let mut left = Vec::new();
        for entry in fs::read_dir(&own)? {
            let entry = entry?;
            match entry.file_name().to_str().and_then(transfer) {
                Some(transfer) => left.push((transfer, fs::read(entry.path())?)),
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok((Self(own), left))
    }

    /// Keeps the dump of a transfer's connection.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep(&self, transfer: TransferId, socket: &[u8]) -> io::Result<()> {
        let unfinished = self.0.join(UNFINISHED);
        fs::write(&unfinished, socket)?;
        fs::rename(unfinished, self.path(transfer))
    }

    /// Its bytes are in the kernel, or never will be.
    pub fn forget(&self, transfer: TransferId) {
        let path = self.path(transfer);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                tracing::error!(path = %path.display(), %cause, "a dump can't be removed");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn path(&self, transfer: TransferId) -> PathBuf {
        self.0.join(format!("{:016x}-{:016x}", transfer.incarnation, transfer.number))
    }
}

/// The transfer that a file's name says.
fn transfer(name: &str) -> Option<TransferId> {
    let (incarnation, number) = name.split_once('-')?;
    let read = |digits| u64::from_str_radix(digits, 16).ok();
    Some(TransferId { incarnation: read(incarnation)?, number: read(number)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_finds_what_is_still_to_be_given() {
        let directory = tempfile::tempdir().unwrap();
        let [kept, given] = [1, 2].map(|number| TransferId { incarnation: u64::MAX, number });
        let (dumps, left) = Dumps::open(directory.path(), Ledger(7)).unwrap();
        assert_eq!(left, []);
        dumps.keep(kept, b"a socket").unwrap();
        dumps.keep(given, b"another").unwrap();
        dumps.forget(given);
        dumps.forget(given);
        fs::write(dumps.0.join(UNFINISHED), b"a so").unwrap();
        let (again, left) = Dumps::open(directory.path(), Ledger(7)).unwrap();
        assert_eq!(left, [(kept, b"a socket".to_vec())]);
        assert_eq!(fs::read_dir(&again.0).unwrap().count(), 1);
        let (_, left) = Dumps::open(directory.path(), Ledger(8)).unwrap();
        assert_eq!(left, [], "those of another start of the host are void");
    }
}
