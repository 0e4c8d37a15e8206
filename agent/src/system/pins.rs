//! What is pinned for the next run of the agent, and pinned again if it is removed.
//!
//! A link that is pinned nowhere and that no process holds ends, and its program with it; and programs that are loaded while a map's
//! pin is missing get another map, an empty one. So the agent holds what it has pinned.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::{Link, MapHandle};

use super::kernel;

/// How the names of links end. Names with a dot are reserved on a BPF file system.
pub(super) const LINK: &str = "_link";

/// The maps and links of a directory.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
    held: Vec<(PathBuf, OwnedFd)>,
}

impl Pins {
    /// Holds all that is in the directory.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn hold(directory: &Path) -> io::Result<Self> {
        let mut held = Vec::new();
        for entry in directory.read_dir()? {
            let path = entry?.path();
            let is_link = path.to_string_lossy().ends_with(LINK);
            let opened = if is_link {
                Link::open(&path).map(|link| link.as_fd().try_clone_to_owned())
            } else {
                MapHandle::from_pinned_path(&path).map(|map| map.as_fd().try_clone_to_owned())
            };
            held.push((path, opened.map_err(io::Error::other)??));
        }
        Ok(Self { directory: directory.to_owned(), held })
    }

    /// Pins again what is missing, and says what was.
    ///
    /// # Errors
    /// What the system says; what was before it is pinned.
    pub(super) fn put_back(&self) -> io::Result<Vec<String>> {
        let missing: Vec<_> = self.held.iter().filter(|(path, _)| !path.exists()).collect();
        if !missing.is_empty() {
            // The whole file system may be gone.
            kernel::bpf_directory(&self.directory)?;
        }
        let mut put_back = Vec::new();
        for (path, object) in missing {
            kernel::pin(object.as_fd(), path)?;
            put_back.push(format!("{} was removed", path.display()));
        }
        Ok(put_back)
    }
}
