//! Control sockets in a tokio runtime.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{Channel, Listener, Received};

/// A [`Channel`] that is waited for. Every method may be given up half-way: a datagram is then sent or not, received or
/// still there.
///
/// It is woken by what arrives only. That there is room again is told for every datagram that the other end takes, and
/// would wake this one each time; so that is listened for only while there is none.
#[derive(Debug)]
pub struct AsyncChannel(AsyncFd<Channel>);

impl AsyncChannel {
    /// Registers a channel with the runtime that this is called in.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(channel: Channel) -> io::Result<Self> {
        // SAFETY: a `Channel` has one descriptor from its making to its end, and owns it; the `AsyncFd` owns the
        // channel. This module's tests would hang if it were another one.
        Ok(Self(unsafe { AsyncFd::register_with_interest(channel, Interest::READABLE) }?))
    }

    /// The channel.
    pub fn get_ref(&self) -> &Channel {
        self.0.get_ref()
    }

    /// Sends one datagram with descriptors, as soon as there is room.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn send(&self, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            match self.get_ref().send(datagram, descriptors) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.room().await?,
                sent => return sent,
            }
        }
    }

    /// Waits until there is room to send.
    async fn room(&self) -> io::Result<()> {
        // epoll(7) takes a file once a descriptor.
        let same: OwnedFd = self.get_ref().as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` has one descriptor from its making to its end; the `AsyncFd` owns it. A test of this module would
        // hang if it were another file's.
        let same = unsafe { AsyncFd::register_with_interest(same, Interest::WRITABLE) }?;
        same.writable().await.map(drop)
    }

    /// Receives one datagram, as soon as there is one; `None` if the other end has closed.
    ///
    /// # Errors
    /// As [`Channel::receive`].
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(received) = ready.try_io(|channel| channel.get_ref().receive(buffer)) {
                return received;
            }
        }
    }
}

/// A [`Listener`] that is waited for.
#[derive(Debug)]
pub struct AsyncListener(AsyncFd<Listener>);

impl AsyncListener {
    /// Registers a listener with the runtime that this is called in.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(listener: Listener) -> io::Result<Self> {
        // SAFETY: a `Listener` has one descriptor from its making to its end, and owns it; the `AsyncFd` owns the
        // listener. This module's tests would hang if it were another one.
        Ok(Self(unsafe { AsyncFd::register(listener) }?))
    }

    /// The next application.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub async fn accept(&self) -> io::Result<Channel> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(accepted) = ready.try_io(|listener| listener.get_ref().accept()) {
                return accepted;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Access;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime")
    }

    #[test]
    fn who_finds_no_room_sends_when_there_is_some_again() {
        runtime().block_on(async {
            let (a, b) = Channel::pair().expect("a pair");
            let (sender, receiver) = (AsyncChannel::new(a).expect("registered"), b);
            let mut sent = 0;
            while sender.get_ref().send(&[7; 1024], &[]).is_ok() {
                sent += 1;
            }
            let taken = async {
                tokio::task::yield_now().await;
                let mut buffer = [0; 1024];
                while receiver.receive(&mut buffer).is_ok() {
                    sent -= 1;
                }
            };
            let (last, ()) = tokio::join!(sender.send(b"the last", &[]), taken);
            last.expect("sent");
            assert_eq!(sent, 0);
            let mut buffer = [0; 64];
            assert_eq!(receiver.receive(&mut buffer).expect("there").expect("not the end").bytes, 8);
        });
    }

    #[test]
    fn what_is_waited_for_comes() {
        let runtime = runtime();
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("applications.sock");
        runtime.block_on(async {
            let listener = Listener::bind(&path, Access { mode: 0o600, group: None }).expect("bound");
            let listener = AsyncListener::new(listener).expect("registered");
            let (accepted, connected) = tokio::join!(listener.accept(), async { Channel::connect(&path) });
            let agent = AsyncChannel::new(accepted.expect("accepted")).expect("registered");
            let application = AsyncChannel::new(connected.expect("connected")).expect("registered");
            let mut buffer = [0; 64];
            let (received, sent) = tokio::join!(agent.receive(&mut buffer), application.send(b"hello", &[]));
            sent.expect("sent");
            assert_eq!(received.expect("received").expect("not the end").bytes, 5);
        });
    }
}
