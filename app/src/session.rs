//! Who reads and who waits: a control socket that several threads use at once.
//!
//! There is no thread that reads all the time. A thread that waits for something reads for all until its own thing is
//! there; the others sleep until it says that something was read.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{io, path::Path};

use channel::Channel;
use model::control_socket::{MAX_MESSAGE_BYTES, Message, Notification, Request};

use crate::error::Error;
use crate::machine::Machine;

/// A control socket, and what was said on it.
#[derive(Debug)]
pub(crate) struct Session {
    channel: Channel,
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    machine: Machine,
    /// Some thread is reading.
    is_read: bool,
}

impl Session {
    pub(crate) fn connect(path: &Path) -> Result<Self, Error> {
        let channel =
            Channel::connect(path).map_err(|cause| Error::Connect { path: path.to_path_buf(), cause })?;
        Ok(Self { channel, said: Mutex::default(), changed: Condvar::new() })
    }

    /// The agent has not closed, as far as can be known without waiting.
    pub(crate) fn is_open(&self) -> bool {
        self.read_what_is_there().is_ok() && self.with(|machine| machine.closed().is_none())
    }

    /// The descriptor: readable when the agent may have said something.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Numbers or notes a request. Not held while anything waits.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(&mut self.said().machine)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        // A thread that panicked in here has changed nothing half: each change is one call of the machine.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request. While there is no room, what the agent says is read, so that neither waits for the other.
    pub(crate) fn send(&self, request: &Request, beside: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let datagram = request.encode().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        loop {
            match self.channel.send(&datagram, beside) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.channel.wait_to_send_or_receive(None)?;
                    self.read_what_is_there()?;
                }
                Err(e) if is_end(&e) => {
                    self.read_what_is_there()?;
                    return Err(self.with(|m| m.closed()).unwrap_or(Error::Closed { why: None }));
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits until `ready` finds what it looks for; `None`: the deadline came first.
    pub(crate) fn wait<T>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut Machine) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let mut said = self.said();
        loop {
            if let Some(found) = ready(&mut said.machine) {
                return Ok(Some(found));
            }
            if let Some(closed) = said.machine.closed() {
                return Err(closed);
            }
            if said.is_read {
                let Some(woken) = self.sleep(said, deadline) else { return Ok(None) };
                said = woken;
            } else {
                said.is_read = true;
                drop(said);
                let read = self
                    .channel
                    .wait_to_receive(deadline)
                    .and_then(|is_there| if is_there { self.read_one().map(|_| true) } else { Ok(false) });
                said = self.said();
                said.is_read = false;
                self.changed.notify_all();
                if !read? {
                    return Ok(ready(&mut said.machine));
                }
            }
        }
    }

    /// Sleeps until something was read; `None`: until the deadline.
    fn sleep<'a>(
        &'a self,
        said: MutexGuard<'a, Said>,
        deadline: Option<Instant>,
    ) -> Option<MutexGuard<'a, Said>> {
        let Some(deadline) = deadline else {
            return Some(self.changed.wait(said).unwrap_or_else(PoisonError::into_inner));
        };
        let left = deadline.checked_duration_since(Instant::now())?;
        let (said, _) = self.changed.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner);
        Some(said)
    }

    /// Reads what can be had without waiting, unless another thread is at it.
    pub(crate) fn read_what_is_there(&self) -> Result<(), Error> {
        let mut said = self.said();
        if said.is_read {
            return Ok(());
        }
        said.is_read = true;
        drop(said);
        let read = loop {
            match self.read_one() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        self.said().is_read = false;
        self.changed.notify_all();
        Ok(read?)
    }

    /// Reads one message, if there is one. Only for the one thread that reads.
    fn read_one(&self) -> io::Result<bool> {
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let received = match self.channel.receive(&mut buffer) {
            Ok(received) => received,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) if is_end(&e) => None,
            Err(e) => return Err(e),
        };
        let Some(received) = received else {
            self.with(|machine| machine.close(None));
            return Ok(false);
        };
        let datagram = buffer.get(..received.bytes).unwrap_or_default();
        // What is not understood comes from a newer agent, and is ignored.
        if let Ok(Some(notification)) = Notification::decode(datagram) {
            self.with(|machine| machine.handle(notification, received.descriptors));
        }
        Ok(true)
    }
}

/// The other end is gone.
pub(crate) fn is_end(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}
