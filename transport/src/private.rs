//! Files that others must not read, and sockets that only some may use: made with their mode, never narrowed afterwards.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// The mode of a directory that only its owner may look into.
const DIRECTORY: u32 = 0o700;
/// The mode of a file that only its owner may read.
const FILE: u32 = 0o600;

/// Makes a directory that only this user may look into, or makes one that is there so. Directories above it are made as usual.
///
/// # Errors
/// What the system says.
pub fn directory(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(DIRECTORY).create(path) {
        // A former version may have made it, and let others in.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, Permissions::from_mode(DIRECTORY))
        }
        made => made,
    }
}

/// Writes a file that only this user may read, in place of one that is there.
///
/// # Errors
/// What the system says.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(FILE).open(path)?.write_all(bytes)
}

/// Who may use a socket of the file system: its file's mode, and its group if it is not to be that of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// A user who may write to it may connect (unix(7)).
    pub mode: u32,
    /// By number.
    pub group: Option<u32>,
}

/// Listens on a socket in the file system, in place of one that nobody serves any longer. The socket is made in a directory that
/// only this user may look into, and comes to its place with its mode and group: nobody else can have connected before.
///
/// # Errors
/// `AddrInUse` if a process serves this path; otherwise what the system says.
pub fn listen(path: &Path, access: Access) -> io::Result<UnixListener> {
    let above = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(above)?;
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
    }
    let behind = above.join(format!(".{}", std::process::id()));
    directory(&behind)?;
    let made = behind.join("s");
    let listener = UnixListener::bind(&made).and_then(|listener| {
        if access.group.is_some() {
            chown(&made, None, access.group)?;
        }
        fs::set_permissions(&made, Permissions::from_mode(access.mode))?;
        fs::rename(&made, path)?;
        Ok(listener)
    });
    // Empty, unless the socket could not be moved.
    let _ = fs::remove_dir_all(&behind);
    listener
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_private_directory_lets_nobody_else_in_also_if_it_was_there() {
        let at = tempfile::tempdir().unwrap();
        let [new, old] = ["above/new", "old"].map(|name| at.path().join(name));
        directory(&new).unwrap();
        fs::create_dir(&old).unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o755)).unwrap();
        directory(&old).unwrap();
        assert_eq!([mode(&new), mode(&old)], [0o700; 2]);
        assert_ne!(mode(&at.path().join("above")), 0o700, "what is above it is another's");
    }

    #[test]
    fn a_private_file_is_read_by_nobody_else_also_in_place_of_another() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("file");
        fs::write(&path, b"before").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        write(&path, b"after").unwrap();
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (0o600, b"after".to_vec()));
    }

    #[test]
    fn a_socket_has_its_mode_replaces_a_left_one_and_no_other() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("run/socket");
        let access = Access { mode: 0o620, group: None };
        let first = listen(&path, access).unwrap();
        assert_eq!(mode(&path), 0o620);
        assert_eq!(listen(&path, access).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let _again = listen(&path, access).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(fs::read_dir(at.path().join("run")).unwrap().count(), 1, "nothing else is left");
    }
}
