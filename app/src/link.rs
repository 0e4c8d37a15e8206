//! An application's link to its agent: a thread connects, registers, reads what the agent says, and does so again whenever the
//! agent has ended and come back. Calls send their requests themselves and sleep until the thread has read an answer.
//!
//! The thread is asleep while nothing is said; it takes no signal, and ends with the application.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use channel::Channel;
use model::control_socket::request::Role;
use model::control_socket::{MAX_MESSAGE_BYTES, Request};
use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::error::Error;
use crate::machine::{Machine, SessionId};
use crate::registration::Registration;
use crate::said::{LOOK_AGAIN, Said, Shared, datagram, is_end};

/// A link, for the calls. The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Link {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inner {
    shared: Shared<Channel>,
    changed: Condvar,
    /// Wakes the thread: to end, or to try what was refused again.
    wake: OwnedFd,
    is_over: AtomicBool,
}

impl Link {
    /// Connects, and waits until the registration is in force.
    pub(crate) fn open(role: Role, registration: &Registration) -> Result<Self, Error> {
        let shared = Shared::new(role, registration)?;
        let channel = match Channel::connect(shared.path()) {
            Ok(channel) => Some(channel),
            // The agent has too many to accept: it is tried again.
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => None,
            Err(cause) => return Err(shared.no_agent(cause)),
        };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?;
        let is_over = AtomicBool::new(false);
        let inner = Arc::new(Inner { shared, changed: Condvar::new(), wake, is_over });
        let of_thread = Arc::clone(&inner);
        // A new thread has the signal mask of the one that makes it.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(io::Error::from)?;
        let thread = thread::Builder::new().name("baton".to_owned()).spawn(move || of_thread.run(channel));
        mask.thread_set_mask().map_err(io::Error::from)?;
        let link = Self { inner, thread: Some(thread?) };
        link.wait(None, true, |machine| machine.is_in_force().then_some(()))?;
        Ok(link)
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.inner.shared.descriptor()
    }

    /// As [`Shared::of_this_process`].
    pub(crate) fn of_this_process(&self) -> Result<(), Error> {
        self.inner.shared.of_this_process()
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        self.inner.shared.with(|said| act(&mut said.machine))
    }

    /// Waits until `ready` finds what it looks for; `None`: the deadline came first. Agents may end and come back meanwhile;
    /// `answered`: this needs one, and fails if there is none for too long.
    ///
    /// # Errors
    /// [`Error::Refused`] if the agent does not want the application, [`Error::Connect`].
    pub(crate) fn wait<T>(
        &self,
        deadline: Option<Instant>,
        answered: bool,
        mut ready: impl FnMut(&mut Machine) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.wait_for(deadline, answered, |said| ready(&mut said.machine))
    }

    fn wait_for<T>(
        &self,
        deadline: Option<Instant>,
        answered: bool,
        mut ready: impl FnMut(&mut Said<Channel>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Inner { shared, changed, .. } = &*self.inner;
        shared.of_this_process()?;
        let began = Instant::now();
        if shared.with(|said| said.machine.try_again(began)) {
            self.inner.wake();
        }
        let mut said = shared.lock();
        loop {
            let found = ready(&mut said);
            shared.show(&mut said);
            if let Some(found) = found {
                return Ok(Some(found));
            }
            if let Some(refused) = said.machine.refused() {
                return Err(refused);
            }
            let now = Instant::now();
            let gives_up = if answered { said.gives_up(began) } else { None };
            if gives_up.is_some_and(|at| at <= now) {
                return Err(shared.no_agent(said.cause()));
            }
            if deadline.is_some_and(|at| at <= now) {
                return Ok(None);
            }
            said = match [gives_up, deadline].into_iter().flatten().min() {
                None => changed.wait(said).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let woken = changed.wait_timeout(said, at.saturating_duration_since(now));
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Makes a request once the agent knows the application, and sends it. One that an agent did not take because it has ended
    /// is made to the next one; `unmade` takes the former back.
    pub(crate) fn ask<T>(
        &self,
        beside: &[BorrowedFd<'_>],
        mut make: impl FnMut(&mut Machine) -> (T, Request),
        mut unmade: impl FnMut(&mut Machine, T),
    ) -> Result<T, Error> {
        loop {
            let opened = self.wait_for(None, true, |said| {
                let (session, channel) = said.open()?;
                Some((session, channel, make(&mut said.machine)))
            })?;
            let Some((session, channel, (made, request))) = opened else { continue };
            match send(&channel, &request, beside) {
                Ok(true) => return Ok(made),
                Ok(false) => {
                    self.with(|machine| unmade(machine, made));
                    self.wait_until_over(session)?;
                }
                Err(cause) => {
                    self.with(|machine| unmade(machine, made));
                    return Err(cause.into());
                }
            }
        }
    }

    /// The agent has ended: waits until everything that it said before is read.
    fn wait_until_over(&self, session: SessionId) -> Result<(), Error> {
        self.wait_for(None, false, |said| said.is_over(session).then_some(())).map(drop)
    }

    /// Makes a request and sends it on the control socket that is open at that moment, if there is one and something to be
    /// said; whether it was sent.
    pub(crate) fn tell(&self, make: impl FnOnce(&mut Machine) -> Option<Request>) -> Result<bool, Error> {
        self.of_this_process()?;
        match self.inner.shared.with(|said| said.made(make)) {
            Some((request, channel)) => Ok(send(&channel, &request, &[])?),
            None => Ok(false),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.of_this_process().is_err() {
            return;
        }
        self.inner.is_over.store(true, Ordering::Release);
        self.inner.wake();
        if let Some(thread) = self.thread.take() {
            // It does not panic, and if it did it is over too.
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn wake(&self) {
        // It is not full: the thread that is woken empties it.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn is_over(&self) -> bool {
        // Pairs with the store of `Link::drop`.
        self.is_over.load(Ordering::Acquire)
    }

    fn run(&self, first: Option<Channel>) {
        let mut next = first;
        while !self.is_over() {
            let cause = match next.take().map_or_else(|| Channel::connect(self.shared.path()), Ok) {
                Ok(channel) => self.serve(&Arc::new(channel)),
                Err(cause) => Some(cause),
            };
            self.shared.closed(cause);
            self.changed.notify_all();
            let refused = self.shared.lock().machine.is_refused();
            self.pause((!refused).then_some(LOOK_AGAIN));
        }
    }

    /// Reads a control socket to its end.
    fn serve(&self, channel: &Arc<Channel>) -> Option<io::Error> {
        let register = self.shared.connected(channel);
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        if let Err(cause) = send(channel, &register, &self.shared.beside()) {
            return Some(cause);
        }
        while !self.is_over() {
            let mut ends = [
                PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
            ];
            match poll(&mut ends, None) {
                Err(cause) if cause != rustix::io::Errno::INTR => return Some(cause.into()),
                Err(_) | Ok(_) => self.drain(),
            }
            loop {
                let received = channel.receive(&mut buffer);
                if matches!(&received, Err(e) if e.kind() == io::ErrorKind::WouldBlock) {
                    break;
                }
                if !self.shared.take(received, &buffer) {
                    return None;
                }
            }
            // What is not sent because the agent has ended is asked of the next one.
            while let Some((request, socket)) = self.shared.with(|said| said.machine.next_unsent()) {
                let beside: Vec<BorrowedFd<'_>> = socket.iter().map(AsFd::as_fd).collect();
                let _ = send(channel, &request, &beside);
            }
            self.changed.notify_all();
        }
        // A child that was forked may have the descriptor too, and would keep the application registered.
        channel.shut_down();
        None
    }

    fn drain(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }

    /// Sleeps, until it is woken at the latest.
    fn pause(&self, at_most: Option<std::time::Duration>) {
        let at_most = at_most.and_then(|at_most| Timespec::try_from(at_most).ok());
        let mut ends = [PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
        // Woken or not, what is to be done is looked at next.
        let _ = poll(&mut ends, at_most.as_ref());
        self.drain();
    }
}

/// Sends a request as soon as there is room; `false` if the agent has ended.
fn send(channel: &Channel, request: &Request, beside: &[BorrowedFd<'_>]) -> io::Result<bool> {
    let datagram = datagram(request)?;
    loop {
        match channel.send(&datagram, beside) {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => drop(channel.wait_to_send(None)?),
            Err(e) if is_end(&e) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}
