//! Control sockets in a tokio runtime.

use std::io;
use std::os::fd::BorrowedFd;

use tokio::io::unix::AsyncFd;

use crate::{Channel, Listener, Received};

/// A [`Channel`] that is waited for. Every method may be given up half-way: a datagram is then sent or not, received or
/// still there.
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
        Ok(Self(unsafe { AsyncFd::register(channel) }?))
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
            let mut ready = self.0.writable().await?;
            if let Ok(sent) = ready.try_io(|channel| channel.get_ref().send(datagram, descriptors)) {
                return sent;
            }
        }
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

    #[test]
    fn what_is_waited_for_comes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
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
