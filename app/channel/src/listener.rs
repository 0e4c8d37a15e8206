//! Where applications connect.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketFlags};

use crate::channel::{Channel, seqpacket};

/// Applications that may wait until the agent accepts them.
const BACKLOG: i32 = 128;

/// A control socket in the file system; its file goes when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The file's mode; a user who may write to it may connect (unix(7)).
    pub mode: u32,
    /// The file's group; `None`: as it comes.
    pub group: Option<u32>,
}

impl Listener {
    /// Opens a control socket, in place of one that nobody serves any longer. The file has its mode and group before
    /// anybody can connect.
    ///
    /// # Errors
    /// `AddrInUse` if a process serves this path; otherwise what the system says.
    pub fn bind(path: &Path, access: Access) -> io::Result<Self> {
        if is_served(path) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let socket = seqpacket(SocketFlags::NONBLOCK)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        let listener = Self { socket, path: path.to_path_buf() };
        if access.group.is_some() {
            chown(path, None, access.group)?;
        }
        fs::set_permissions(path, Permissions::from_mode(access.mode))?;
        rustix::net::listen(&listener.socket, BACKLOG)?;
        Ok(listener)
    }

    /// The next application, already connected.
    ///
    /// # Errors
    /// `WouldBlock` if there is none now; otherwise what the system says.
    pub fn accept(&self) -> io::Result<Channel> {
        loop {
            match rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC) {
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                socket => return Ok(Channel::new(socket?)),
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The next process replaces it anyway.
        let _ = fs::remove_file(&self.path);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A process accepts here, or has too many to accept.
fn is_served(path: &Path) -> bool {
    match Channel::connect(path) {
        Ok(_) => true,
        Err(e) => e.kind() == io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS: Access = Access { mode: 0o600, group: None };

    #[test]
    fn the_file_has_its_mode_and_goes_with_the_listener() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("below/applications.sock");
        let listener = Listener::bind(&path, Access { mode: 0o620, group: None }).expect("bound");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o620);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_is_served_is_not_replaced_and_a_left_one_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("applications.sock");
        let first = Listener::bind(&path, ACCESS).expect("bound");
        assert_eq!(Listener::bind(&path, ACCESS).expect_err("served").kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(std::os::unix::net::UnixListener::bind(&path).expect("left behind"));
        let again = Listener::bind(&path, ACCESS).expect("bound again");
        let _application = Channel::connect(&path).expect("connected");
        let peer = again.accept().expect("accepted").peer().expect("its credentials");
        assert_eq!(peer.pid, i32::try_from(std::process::id()).expect("a pid"));
    }
}
