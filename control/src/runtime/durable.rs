//! Files that are whole whenever the host stops: written beside their place and on the disk before they take it (rename(2), fsync(2)).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// The mode of a file that only its owner may read.
pub(super) const PRIVATE: u32 = 0o600;

/// A file that is written, and not in its place yet. Gone if it never gets there.
#[derive(Debug)]
pub(super) struct Written {
    at: Option<PathBuf>,
    to: PathBuf,
}

impl Written {
    /// Writes what is to be at `to`, for the owner alone.
    ///
    /// # Errors
    /// What the system says; nothing has changed then.
    pub(super) fn new(to: &Path, bytes: &[u8]) -> io::Result<Self> {
        Self::with(to, bytes, |_| Ok(()))
    }

    /// Writes what is to take the place of a file, with that one's mode and owner. Of a symbolic link the file that it leads to is meant.
    ///
    /// # Errors
    /// What the system says; nothing has changed then.
    pub(super) fn like(file: &Path, bytes: &[u8]) -> io::Result<Self> {
        let to = fs::canonicalize(file)?;
        let old = fs::metadata(&to)?;
        Self::with(&to, bytes, |new| {
            let made = new.metadata()?;
            if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
                fchown(new, Some(old.uid()), Some(old.gid()))?;
            }
            new.set_permissions(Permissions::from_mode(old.mode() & 0o7777))
        })
    }

    fn with(to: &Path, bytes: &[u8], own: impl FnOnce(&File) -> io::Result<()>) -> io::Result<Self> {
        let at = to.with_extension("unfinished");
        match fs::remove_file(&at) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&at)?;
        let written = Self { at: Some(at), to: to.to_owned() };
        own(&file)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(written)
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// What the system says; what was there still is.
    pub(super) fn put(mut self) -> io::Result<()> {
        let Some(at) = self.at.as_ref() else { return Ok(()) };
        fs::rename(at, &self.to)?;
        self.at = None;
        // From here on it is there; that the directory is on the disk too can only be asked for.
        let directory = self.to.parent().unwrap_or(Path::new("/"));
        if let Err(cause) = File::open(directory).and_then(|directory| directory.sync_all()) {
            tracing::warn!(directory = %directory.display(), %cause, "a change of the directory may not be on the disk");
        }
        Ok(())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(at) = &self.at {
            // What is left of it the next one removes.
            let _ = fs::remove_file(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_mode_and_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.toml"), dir.path().join("link.toml"));
        fs::write(&real, "a = 1").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        Written::like(&link, b"a = 2").unwrap().put().unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "a = 2");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn what_is_not_put_in_its_place_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kept");
        fs::write(&file, "before").unwrap();
        drop(Written::like(&file, b"after").unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "before");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_private_file_is_its_owners_alone_whatever_was_left_there() {
        let dir = tempfile::tempdir().unwrap();
        let (file, left) = (dir.path().join("1.json"), dir.path().join("1.unfinished"));
        fs::write(&left, "of a process that was killed").unwrap();
        fs::set_permissions(&left, Permissions::from_mode(0o644)).unwrap();
        Written::new(&file, b"secret").unwrap().put().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, PRIVATE);
        assert!(!left.exists());
    }
}
