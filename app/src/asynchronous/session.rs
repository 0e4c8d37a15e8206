//! A control socket that several tasks use at once: whoever waits reads for all, as in `crate::session`.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use channel::{AsyncChannel, Channel, Received};
use model::control_socket::request::Role;
use model::control_socket::{MAX_MESSAGE_BYTES, Message, Notification, Request, RequestId};
use tokio::sync::Notify;

use crate::error::Error;
use crate::machine::Machine;
use crate::registration::Registration;
use crate::session::is_end;

/// A control socket, and what was said on it.
#[derive(Debug)]
pub(super) struct Session {
    channel: AsyncChannel,
    machine: Mutex<Machine>,
    /// Held by the one task that reads.
    buffer: tokio::sync::Mutex<Vec<u8>>,
    changed: Notify,
}

impl Session {
    /// Connects and registers; `answered` says when that is done.
    pub(super) async fn open(
        role: Role,
        registration: &Registration,
        answered: fn(&mut Machine, RequestId) -> Option<Result<(), Error>>,
    ) -> Result<Self, Error> {
        let path = registration.path();
        // A Unix socket connects at once, or the agent has too many to accept.
        let channel =
            Channel::connect(path).map_err(|cause| Error::Connect { path: path.to_path_buf(), cause })?;
        let session = Self {
            channel: AsyncChannel::new(channel)?,
            machine: Mutex::default(),
            buffer: tokio::sync::Mutex::new(vec![0; MAX_MESSAGE_BYTES]),
            changed: Notify::new(),
        };
        let (request, message) = session.with(|machine| machine.register(role, registration));
        // An agent that lets nobody in says why, and closes: that is found when reading.
        match session.send(&message, &[]).await {
            Ok(()) | Err(Error::Closed { .. }) => {}
            Err(e) => return Err(e),
        }
        session.wait(|machine| answered(machine, request)).await??;
        Ok(session)
    }

    /// Numbers or notes a request. Not held while anything waits.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(&mut self.machine.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The agent has not closed, as far as can be known without waiting.
    pub(super) fn is_open(&self) -> bool {
        self.read_what_is_there().is_ok() && self.with(|machine| machine.closed().is_none())
    }

    /// Sends a request. While there is no room, what the agent says is read, so that neither waits for the other.
    pub(super) async fn send(&self, request: &Request, beside: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let datagram = request.encode().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let sent = self.channel.send(&datagram, beside);
        tokio::pin!(sent);
        let sent = loop {
            tokio::select! {
                biased;
                sent = &mut sent => break sent,
                read = self.read_one() => read?,
            }
        };
        match sent {
            Err(e) if is_end(&e) => {
                self.read_what_is_there()?;
                Err(self.with(|machine| machine.closed()).unwrap_or(Error::Closed { why: None }))
            }
            sent => Ok(sent?),
        }
    }

    /// Sends a request if there is room.
    pub(super) fn send_now(&self, request: &Request) {
        if let Ok(datagram) = request.encode() {
            // For want of room, or of an agent, there is nobody to tell.
            let _ = self.channel.get_ref().send(&datagram, &[]);
        }
    }

    /// Waits until `ready` finds what it looks for.
    pub(super) async fn wait<T>(&self, mut ready: impl FnMut(&mut Machine) -> Option<T>) -> Result<T, Error> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(found) = self.with(&mut ready) {
                return Ok(found);
            }
            if let Some(closed) = self.with(|machine| machine.closed()) {
                return Err(closed);
            }
            tokio::select! {
                () = changed => {}
                read = self.read_one() => read?,
            }
        }
    }

    /// Reads one message, once no other task is at it.
    async fn read_one(&self) -> Result<(), Error> {
        let mut buffer = self.buffer.lock().await;
        let received = self.channel.receive(&mut buffer).await;
        Ok(self.take(received, &buffer)?)
    }

    /// Reads what can be had without waiting, unless another task is at it.
    pub(super) fn read_what_is_there(&self) -> Result<(), Error> {
        let Ok(mut buffer) = self.buffer.try_lock() else { return Ok(()) };
        while self.with(|machine| machine.closed().is_none()) {
            match self.channel.get_ref().receive(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                received => self.take(received, &buffer)?,
            }
        }
        Ok(())
    }

    fn take(&self, received: io::Result<Option<Received>>, buffer: &[u8]) -> io::Result<()> {
        match received {
            Err(e) if !is_end(&e) => return Err(e),
            Err(_) | Ok(None) => self.with(|machine| machine.close(None)),
            Ok(Some(received)) => {
                let datagram = buffer.get(..received.bytes).unwrap_or_default();
                // What is not understood comes from a newer agent, and is ignored.
                if let Ok(Some(notification)) = Notification::decode(datagram) {
                    self.with(|machine| machine.handle(notification, received.descriptors));
                }
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }
}
