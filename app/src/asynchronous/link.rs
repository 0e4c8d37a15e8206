//! As `crate::link`, with a task instead of a thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use channel::{AsyncChannel, Channel};
use model::control_socket::request::Role;
use model::control_socket::{MAX_MESSAGE_BYTES, Request};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};

use crate::error::Error;
use crate::machine::{Machine, SessionId};
use crate::registration::Registration;
use crate::said::{LOOK_AGAIN, Said, Shared, datagram, is_end};

/// A link, for the calls. The task ends when this is dropped.
#[derive(Debug)]
pub(super) struct Link {
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    shared: Shared<AsyncChannel>,
    changed: Notify,
    /// Has what was refused tried again.
    again: Notify,
}

impl Link {
    /// Connects, and waits until the registration is in force.
    pub(super) async fn open(role: Role, registration: &Registration) -> Result<Self, Error> {
        let shared = Shared::new(role, registration)?;
        let channel = match Channel::connect(shared.path()) {
            Ok(channel) => Some(channel),
            // The agent has too many to accept: it is tried again.
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => None,
            Err(cause) => return Err(shared.no_agent(cause)),
        };
        let inner = Arc::new(Inner { shared, changed: Notify::new(), again: Notify::new() });
        let task = tokio::spawn(Arc::clone(&inner).run(channel));
        let link = Self { inner, task };
        link.wait(true, |machine| machine.is_in_force().then_some(())).await?;
        Ok(link)
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.inner.shared.descriptor()
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        self.inner.shared.with(|said| act(&mut said.machine))
    }

    /// As [`crate::link::Link::wait`], without a deadline.
    pub(super) async fn wait<T>(
        &self,
        answered: bool,
        mut ready: impl FnMut(&mut Machine) -> Option<T>,
    ) -> Result<T, Error> {
        self.wait_for(answered, |said| ready(&mut said.machine)).await
    }

    async fn wait_for<T>(
        &self,
        answered: bool,
        mut ready: impl FnMut(&mut Said<AsyncChannel>) -> Option<T>,
    ) -> Result<T, Error> {
        let Inner { shared, changed, again } = &*self.inner;
        shared.of_this_process()?;
        let began = Instant::now();
        if shared.with(|said| said.machine.try_again(began)) {
            again.notify_one();
        }
        loop {
            let change = changed.notified();
            tokio::pin!(change);
            // From here on no change is missed.
            change.as_mut().enable();
            let gives_up = {
                let mut said = shared.lock();
                let found = ready(&mut said);
                shared.show(&mut said);
                if let Some(found) = found {
                    return Ok(found);
                }
                if let Some(refused) = said.machine.refused() {
                    return Err(refused);
                }
                let gives_up = if answered { said.gives_up(began) } else { None };
                if gives_up.is_some_and(|at| at <= Instant::now()) {
                    return Err(shared.no_agent(said.cause()));
                }
                gives_up
            };
            match gives_up {
                None => change.await,
                Some(at) => tokio::select! {
                    () = change => {}
                    () = sleep_until(at.into()) => {}
                },
            }
        }
    }

    /// As [`crate::link::Link::ask`].
    pub(super) async fn ask<T>(
        &self,
        beside: &[BorrowedFd<'_>],
        mut make: impl FnMut(&mut Machine) -> (T, Request),
        mut unmade: impl FnMut(&mut Machine, T),
    ) -> Result<T, Error> {
        loop {
            let (session, channel, (made, request)) = self
                .wait_for(true, |said| {
                    let (session, channel) = said.open()?;
                    Some((session, channel, make(&mut said.machine)))
                })
                .await?;
            match send(&channel, &request, beside).await {
                Ok(true) => return Ok(made),
                Ok(false) => {
                    self.with(|machine| unmade(machine, made));
                    self.wait_until_over(session).await?;
                }
                Err(cause) => {
                    self.with(|machine| unmade(machine, made));
                    return Err(cause.into());
                }
            }
        }
    }

    async fn wait_until_over(&self, session: SessionId) -> Result<(), Error> {
        self.wait_for(false, |said| said.is_over(session).then_some(())).await
    }

    /// As [`crate::link::Link::tell`].
    pub(super) async fn tell(
        &self,
        make: impl FnOnce(&mut Machine) -> Option<Request>,
    ) -> Result<bool, Error> {
        match self.inner.shared.with(|said| said.made(make)) {
            Some((request, channel)) => Ok(send(&channel, &request, &[]).await?),
            None => Ok(false),
        }
    }

    /// The same, if there is room.
    pub(super) fn tell_now(&self, make: impl FnOnce(&mut Machine) -> Option<Request>) {
        if let Some((request, channel)) = self.inner.shared.with(|said| said.made(make))
            && let Ok(datagram) = datagram(&request)
        {
            // For want of room, or of an agent, there is nobody to tell.
            let _ = channel.get_ref().send(&datagram, &[]);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        self.inner.shared.closed(None);
    }
}

impl Inner {
    async fn run(self: Arc<Self>, first: Option<Channel>) {
        let mut next = first;
        loop {
            let connected = next.take().map_or_else(|| Channel::connect(self.shared.path()), Ok);
            let cause = match connected.and_then(AsyncChannel::new) {
                Ok(channel) => self.serve(&Arc::new(channel)).await.err(),
                Err(cause) => Some(cause),
            };
            self.shared.closed(cause);
            self.changed.notify_waiters();
            if self.shared.lock().machine.is_refused() {
                self.again.notified().await;
            } else {
                sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// Reads a control socket to its end.
    async fn serve(&self, channel: &Arc<AsyncChannel>) -> io::Result<()> {
        let register = self.shared.connected(channel);
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        send(channel, &register, &self.shared.beside()).await?;
        loop {
            let received = channel.receive(&mut buffer).await;
            let goes_on = self.shared.take(received, &buffer);
            // What is not sent because the agent has ended is asked of the next one.
            while let Some((request, socket)) = self.shared.with(|said| said.machine.next_unsent()) {
                let beside: Vec<BorrowedFd<'_>> = socket.iter().map(AsFd::as_fd).collect();
                let _ = send(channel, &request, &beside).await;
            }
            if !goes_on {
                return Ok(());
            }
            self.changed.notify_waiters();
        }
    }
}

/// Sends a request as soon as there is room; `false` if the agent has ended.
async fn send(channel: &AsyncChannel, request: &Request, beside: &[BorrowedFd<'_>]) -> io::Result<bool> {
    match channel.send(&datagram(request)?, beside).await {
        Ok(()) => Ok(true),
        Err(e) if is_end(&e) => Ok(false),
        Err(e) => Err(e),
    }
}
