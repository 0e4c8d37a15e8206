//! The dumps of connections that come here and whose kernel is to be given bytes once the connection is here: bytes of the client,
//! of one that is put into a listener, and bytes for the client that were never sent, of one that is restored. They have to
//! outlive the agent, because nobody else has these bytes any more.
//!
//! A file each, in a file system in memory, in a directory that is named after the ledger: those of another start of the
//! host are void. They hold what clients said, so that nobody but the agent's user may read them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::transfer::{Ledger, TransferId};
use transfer::host::Kept;
use transport::private;

/// What is being written.
const UNFINISHED: &str = "unfinished";
/// How the names of dumps with unsent bytes end.
const UNSENT: &str = "-unsent";

/// The dumps of this host.
#[derive(Debug)]
pub struct Dumps(PathBuf);

/// What a former run of the agent has left.
pub type Left = Vec<(TransferId, Kept, Vec<u8>)>;

impl Dumps {
    /// Opens the dumps in this directory, and says what a former run has left there.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(directory: &Path, ledger: Ledger) -> io::Result<(Self, Left)> {
        let own = directory.join(format!("{:016x}", ledger.0));
        private::directory(directory)?;
        private::directory(&own)?;
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
                Some((transfer, kept)) => left.push((transfer, kept, fs::read(entry.path())?)),
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok((Self(own), left))
    }

    /// Keeps the dump of a transfer's connection.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep(&self, transfer: TransferId, kept: Kept, socket: &[u8]) -> io::Result<()> {
        let unfinished = self.0.join(UNFINISHED);
        private::write(&unfinished, socket)?;
        fs::rename(unfinished, self.path(transfer, kept))
    }

    /// Its bytes are in the kernel, or never will be.
    pub fn forget(&self, transfer: TransferId, kept: Kept) {
        let path = self.path(transfer, kept);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                tracing::error!(path = %path.display(), %cause, "a dump can't be removed");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn path(&self, transfer: TransferId, kept: Kept) -> PathBuf {
        let end = if kept == Kept::Unsent { UNSENT } else { "" };
        self.0.join(format!("{:016x}-{:016x}{end}", transfer.incarnation, transfer.number))
    }
}

/// The transfer that a file's name says, and which bytes.
fn transfer(name: &str) -> Option<(TransferId, Kept)> {
    let (name, kept) = match name.strip_suffix(UNSENT) {
        Some(name) => (name, Kept::Unsent),
        None => (name, Kept::Unread),
    };
    let (incarnation, number) = name.split_once('-')?;
    let read = |digits| u64::from_str_radix(digits, 16).ok();
    Some((TransferId { incarnation: read(incarnation)?, number: read(number)? }, kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_reads_what_clients_have_said() {
        use std::os::unix::fs::PermissionsExt;
        let above = tempfile::tempdir().unwrap();
        let directory = above.path().join("t1.dumps");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let (dumps, _) = Dumps::open(&directory, Ledger(7)).unwrap();
        let transfer = TransferId { incarnation: 1, number: 1 };
        dumps.keep(transfer, Kept::Unread, b"GET /secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let file = dumps.path(transfer, Kept::Unread);
        assert_eq!([mode(&directory), mode(&dumps.0), mode(&file)], [0o700, 0o700, 0o600]);
    }

    #[test]
    fn the_next_run_finds_what_is_still_to_be_given() {
        let directory = tempfile::tempdir().unwrap();
        let [kept, given] = [1, 2].map(|number| TransferId { incarnation: u64::MAX, number });
        let (dumps, left) = Dumps::open(directory.path(), Ledger(7)).unwrap();
        assert_eq!(left, []);
        dumps.keep(kept, Kept::Unsent, b"a socket").unwrap();
        dumps.keep(given, Kept::Unread, b"another").unwrap();
        dumps.forget(given, Kept::Unread);
        dumps.forget(given, Kept::Unread);
        dumps.forget(kept, Kept::Unread);
        fs::write(dumps.0.join(UNFINISHED), b"a so").unwrap();
        let (again, left) = Dumps::open(directory.path(), Ledger(7)).unwrap();
        assert_eq!(left, [(kept, Kept::Unsent, b"a socket".to_vec())]);
        assert_eq!(fs::read_dir(&again.0).unwrap().count(), 1);
        let (_, left) = Dumps::open(directory.path(), Ledger(8)).unwrap();
        assert_eq!(left, [], "those of another start of the host are void");
    }
}
