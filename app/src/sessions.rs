//! The control sockets that an application has one after the other, as agents end and come back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use model::control_socket::RequestId;
use model::control_socket::request::Role;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::error::Error;
use crate::machine::Machine;
use crate::registration::Registration;
use crate::session::Session;

/// The present control socket, and how to have another one.
#[derive(Debug)]
pub(crate) struct Sessions {
    present: Mutex<Arc<Session>>,
    role: Role,
    registration: Registration,
    /// Watches the present one, so that event loops need not know which it is.
    watch: OwnedFd,
}

impl Sessions {
    /// Connects, and waits until the registration is in force.
    pub(crate) fn open(role: Role, registration: &Registration) -> Result<Self, Error> {
        let session = open(role, registration, Machine::outcome)?;
        let watch = epoll::create(CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        watch_over(&watch, &session)?;
        let present = Mutex::new(Arc::new(session));
        Ok(Self { present, role, registration: registration.clone(), watch })
    }

    /// The present control socket. If it is closed, another one with the same registration, in force or not: clients may
    /// be there that need it.
    pub(crate) fn current(&self) -> Result<Arc<Session>, Error> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if !present.is_open() {
            let session = open(self.role, &self.registration, Machine::is_known)?;
            watch_over(&self.watch, &session)?;
            *present = Arc::new(session);
        }
        Ok(Arc::clone(&present))
    }

    /// Readable when the present one is.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// A closed socket is no longer watched by itself (epoll(7)).
fn watch_over(watch: &OwnedFd, session: &Session) -> Result<(), Error> {
    let added = epoll::add(watch, session.descriptor(), EventData::new_u64(0), EventFlags::IN);
    Ok(added.map_err(io::Error::from)?)
}

/// Connects and registers; `answered` says when that is done.
fn open(
    role: Role,
    registration: &Registration,
    answered: fn(&mut Machine, RequestId) -> Option<Result<(), Error>>,
) -> Result<Session, Error> {
    let session = Session::connect(registration.path())?;
    let (request, message) = session.with(|machine| machine.register(role, registration));
    // An agent that lets nobody in says why, and closes: that is found when reading.
    match session.send(&message, &[]) {
        Ok(()) | Err(Error::Closed { .. }) => {}
        Err(e) => return Err(e),
    }
    let outcome = session.wait(None, |machine| answered(machine, request))?;
    outcome.unwrap_or(Err(Error::Closed { why: None }))?;
    Ok(session)
}
