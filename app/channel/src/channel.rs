//! One end of a control socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// The most descriptors beside one datagram.
pub const MAX_DESCRIPTORS: usize = 2;

/// The descriptors beside a datagram, in the order in which they were sent.
pub type Descriptors = Vec<OwnedFd>;

/// One end of a control socket: a Unix socket of type SEQPACKET. Nothing here waits but [`Channel::wait_to_receive`] and
/// [`Channel::wait_to_send`].
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// Who is at the other end, as the kernel knew him when he connected (SO_PEERCRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The process.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// What was received.
#[derive(Debug)]
pub struct Received {
    /// Bytes of the datagram that are in the buffer.
    pub bytes: usize,
    /// The datagram was longer than the buffer.
    pub cut: bool,
    /// What came beside it.
    pub descriptors: Descriptors,
    /// More than [`MAX_DESCRIPTORS`] were sent, or this process may not have so many; the rest is closed.
    pub descriptors_lost: bool,
}

impl Channel {
    /// Connects to a control socket.
    ///
    /// # Errors
    /// `WouldBlock` if too many wait to be accepted; otherwise what the system says.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = seqpacket(SocketFlags::NONBLOCK)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// Two ends that are connected with each other.
    ///
    /// # Errors
    /// What the system says.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends one datagram with descriptors. The other end has its own ones then; these may be closed.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room now; otherwise what the system says.
    pub fn send(&self, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent =
            uninterrupted(|| rustix::net::sendmsg(&self.0, &[IoSlice::new(datagram)], &mut control, flags))?;
        // A datagram goes whole or not at all (unix(7)).
        debug_assert_eq!(sent, datagram.len());
        Ok(())
    }

    /// Receives one datagram; `None` if the other end has closed.
    ///
    /// # Errors
    /// `WouldBlock` if there is none now; otherwise what the system says.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let message = uninterrupted(|| {
            rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(buffer)], &mut control, flags)
        })?;
        let mut descriptors: Descriptors = control
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect();
        // A datagram of no bytes is no message in any version, so it may count as the end.
        if message.bytes == 0 && descriptors.is_empty() {
            return Ok(None);
        }
        // The space is rounded up for alignment, so the kernel may put in a few more.
        let too_many = descriptors.len() > MAX_DESCRIPTORS;
        descriptors.truncate(MAX_DESCRIPTORS);
        Ok(Some(Received {
            bytes: message.bytes,
            cut: message.flags.contains(ReturnFlags::TRUNC),
            descriptors,
            descriptors_lost: too_many || message.flags.contains(ReturnFlags::CTRUNC),
        }))
    }

    /// Waits until there is something to receive, or the other end has closed; `false` if the deadline came first.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait_to_receive(&self, deadline: Option<Instant>) -> io::Result<bool> {
        self.wait(PollFlags::IN, deadline)
    }

    /// Waits until there is room to send, or the other end has closed; `false` if the deadline came first. A thread must
    /// receive meanwhile: the other end may wait for that.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait_to_send(&self, deadline: Option<Instant>) -> io::Result<bool> {
        self.wait(PollFlags::OUT, deadline)
    }

    fn wait(&self, what: PollFlags, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            match poll(&mut [PollFd::new(&self.0, what)], left.map(timespec).as_ref()) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(cause) => return Err(cause.into()),
            }
        }
    }

    /// Ends it for all that have a descriptor of this end.
    pub fn shut_down(&self) {
        // It may have ended already.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// What the system says.
    pub fn peer(&self) -> io::Result<Peer> {
        let who = rustix::net::sockopt::socket_peercred(&self.0)?;
        Ok(Peer { pid: who.pid.as_raw_pid(), uid: who.uid.as_raw(), gid: who.gid.as_raw() })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

pub(crate) fn seqpacket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec::try_from(duration).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

fn uninterrupted<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests;
