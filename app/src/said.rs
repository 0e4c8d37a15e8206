//! What the thread or task that reads an application's control socket shares with the calls.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use channel::Received;
use model::control_socket::request::Role;
use model::control_socket::{Message, Notification, Request};
use rustix::event::{EventfdFlags, eventfd};

use crate::error::Error;
use crate::machine::{Machine, SessionId};
use crate::registration::Registration;

/// A call that needs an answer waits so long for an agent that has ended to come back.
pub(crate) const AWAY_WITHIN: Duration = Duration::from_secs(30);
/// How often an agent that has ended is looked for.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The machine, the control socket that is open, and the descriptor for event loops.
#[derive(Debug)]
pub(crate) struct Said<C> {
    pub(crate) machine: Machine,
    pub(crate) channel: Option<Arc<C>>,
    /// Why there is no agent.
    pub(crate) cause: Option<io::Error>,
    is_ready: bool,
}

/// [`Said`], for several threads.
#[derive(Debug)]
pub(crate) struct Shared<C> {
    said: Mutex<Said<C>>,
    /// An eventfd(2) that is set exactly while [`Machine::is_ready`].
    ready: OwnedFd,
    registration: Registration,
    /// The process that reads the control socket: what fork(2) makes has no such thread or task.
    process: u32,
}

impl<C> Shared<C> {
    pub(crate) fn new(role: Role, registration: &Registration) -> io::Result<Self> {
        let machine = Machine::new(role, registration.clone(), Instant::now());
        Ok(Self {
            said: Mutex::new(Said { machine, channel: None, cause: None, is_ready: false }),
            ready: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            registration: registration.clone(),
            process: std::process::id(),
        })
    }

    /// Fails in a process that was forked since. To be asked before [`Self::lock`], which may be held there for good.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub(crate) fn of_this_process(&self) -> Result<(), Error> {
        let registered = self.process;
        if registered == std::process::id() { Ok(()) } else { Err(Error::Forked { registered }) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Said<C>> {
        // A thread that panicked in here has changed nothing half: each change is one call of the machine.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes or looks at what was said. Not held while anything waits.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Said<C>) -> T) -> T {
        let mut said = self.lock();
        let result = act(&mut said);
        self.show(&mut said);
        result
    }

    /// Makes the descriptor readable or not, as the machine says.
    pub(crate) fn show(&self, said: &mut Said<C>) {
        let is_ready = said.machine.is_ready();
        if is_ready == said.is_ready {
            return;
        }
        let shown = if is_ready {
            rustix::io::write(&self.ready, &1u64.to_ne_bytes())
        } else {
            rustix::io::read(&self.ready, &mut [0; 8])
        };
        debug_assert!(shown.is_ok(), "it was the other way round: {shown:?}");
        said.is_ready = is_ready;
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// What goes beside the request of [`Self::connected`].
    pub(crate) fn beside(&self) -> Vec<BorrowedFd<'_>> {
        self.registration.beside()
    }

    pub(crate) fn path(&self) -> &Path {
        self.registration.path()
    }

    /// That the control socket can't be connected to.
    pub(crate) fn no_agent(&self, cause: io::Error) -> Error {
        Error::Connect { path: self.path().to_path_buf(), cause }
    }

    /// Takes what was received; `false`: nothing more will come.
    pub(crate) fn take(&self, received: io::Result<Option<Received>>, buffer: &[u8]) -> bool {
        match received {
            // Something that the agent did not read was under way when it ended. What it had sent before comes after this.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => true,
            Err(_) | Ok(None) => false,
            Ok(Some(received)) => {
                let datagram = buffer.get(..received.bytes).unwrap_or_default();
                // What is not understood comes from a newer agent, and is ignored.
                if let Ok(Some(notification)) = Notification::decode(datagram) {
                    self.with(|said| said.machine.handle(notification, received.descriptors));
                }
                !self.lock().machine.is_refused()
            }
        }
    }

    /// A control socket is open: what to send first.
    pub(crate) fn connected(&self, channel: &Arc<C>) -> Request {
        self.with(|said| {
            (said.channel, said.cause) = (Some(Arc::clone(channel)), None);
            said.machine.connected(Instant::now())
        })
    }

    /// There is no control socket.
    pub(crate) fn closed(&self, cause: Option<io::Error>) {
        self.with(|said| {
            (said.channel, said.cause) = (None, cause);
            said.machine.closed(Instant::now());
        });
    }
}

impl<C> Said<C> {
    /// Until when a call that began then waits for an agent; `None`: there is one.
    pub(crate) fn gives_up(&self, began: Instant) -> Option<Instant> {
        self.machine.away_since().map(|since| since.max(began) + AWAY_WITHIN)
    }

    /// Why there is no agent, as the system said it.
    pub(crate) fn cause(&self) -> io::Error {
        let cause = self.cause.as_ref();
        match cause.and_then(io::Error::raw_os_error) {
            Some(number) => io::Error::from_raw_os_error(number),
            None => cause.map_or(io::ErrorKind::ConnectionReset, io::Error::kind).into(),
        }
    }

    /// The control socket for a request, once the agent knows the application.
    pub(crate) fn open(&mut self) -> Option<(SessionId, Arc<C>)> {
        let channel = self.channel.as_ref().filter(|_| self.machine.is_known())?;
        Some((self.machine.session(), Arc::clone(channel)))
    }

    /// A request that is made now, and the control socket that it is for.
    pub(crate) fn made(
        &mut self,
        make: impl FnOnce(&mut Machine) -> Option<Request>,
    ) -> Option<(Request, Arc<C>)> {
        let request = make(&mut self.machine)?;
        Some((request, self.channel.clone()?))
    }

    /// This control socket is not open any more.
    pub(crate) fn is_over(&self, session: SessionId) -> bool {
        self.machine.session() != session || !self.machine.is_known()
    }
}

/// A request as a datagram.
pub(crate) fn datagram(request: &Request) -> io::Result<Vec<u8>> {
    request.encode().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
}

/// The other end is gone.
pub(crate) fn is_end(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}
