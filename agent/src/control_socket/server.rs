//! Accepts applications, and joins all control sockets into one stream of events.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use channel::listener::Access;
use channel::{AsyncChannel, AsyncListener, Channel, Listener, Peer};
use model::StackName;
use model::control_socket::notification::Goodbye;
use model::control_socket::{Message, Notification, Refusal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::event::{ApplicationId, Command, Event};
use super::inspect::Namespace;
use super::limits::{COMMANDS, EVENTS, MAX_SOCKETS, MAX_SOCKETS_A_USER};
use super::machine::Machine;
use super::socket::Socket;
use crate::config::Config;
use crate::system::netns_cookie;

/// Where the control socket is and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This stack's name.
    pub stack: StackName,
    /// The socket's path.
    pub path: PathBuf,
    /// Its file's mode and group.
    pub access: Access,
    /// The users that are let in besides; `None`: all that the mode lets in. The agent's own user always is.
    pub users: Option<Vec<u32>>,
}

impl Settings {
    /// As the configuration says.
    pub fn of(config: &Config) -> Self {
        let applications = &config.applications;
        Self {
            stack: config.node.name.clone(),
            path: applications.socket.clone(),
            access: Access { mode: applications.mode, group: applications.group },
            users: applications.users.clone(),
        }
    }
}

/// All applications of this host, as the agent sees them. When this is dropped, they are told that the agent is ending;
/// [`Applications::close`] waits until they were.
#[derive(Debug)]
pub struct Applications {
    notes: mpsc::Receiver<Note>,
    sockets: HashMap<ApplicationId, mpsc::Sender<Command>>,
    stop: watch::Sender<bool>,
}

/// What the server's tasks tell [`Applications`].
#[derive(Debug)]
pub(super) enum Note {
    /// A control socket is open.
    Opened(ApplicationId, mpsc::Sender<Command>),
    /// Its application wants something.
    Event(ApplicationId, Event),
}

/// A command whose application is gone, or does not keep up and is being closed. A connection in it is still open.
#[derive(Debug, thiserror::Error)]
#[error("application {} is gone or stuck", application.0)]
pub struct Undelivered {
    /// Whom it was for.
    pub application: ApplicationId,
    /// What it was.
    pub command: Command,
}

impl Applications {
    /// Opens the control socket. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// `AddrInUse` if another agent serves it; otherwise what the system says.
    pub fn open(settings: Settings) -> io::Result<Self> {
        raise_descriptor_limit();
        let listener = AsyncListener::new(Listener::bind(&settings.path, settings.access)?)?;
        let home = Namespace(netns_cookie()?);
        let (events, notes) = mpsc::channel(EVENTS);
        let (stop, stopped) = watch::channel(false);
        let door =
            Door { settings, home, events, stop: stopped, users: HashMap::new(), sockets: JoinSet::new() };
        tokio::spawn(door.serve(listener));
        Ok(Self { notes, sockets: HashMap::new(), stop })
    }

    /// What an application wants next.
    pub async fn next(&mut self) -> (ApplicationId, Event) {
        loop {
            // The door holds a sender for as long as `stop` is there, which is here.
            let Some(note) = self.notes.recv().await else { std::future::pending().await };
            if let Some(wish) = self.heard(note) {
                return wish;
            }
        }
    }

    /// What an application wants, if one wants anything.
    pub fn try_next(&mut self) -> Option<(ApplicationId, Event)> {
        while let Ok(note) = self.notes.try_recv() {
            let wish = self.heard(note);
            if wish.is_some() {
                return wish;
            }
        }
        None
    }

    fn heard(&mut self, note: Note) -> Option<(ApplicationId, Event)> {
        match note {
            Note::Opened(id, commands) => {
                self.sockets.insert(id, commands);
                None
            }
            Note::Event(id, event) => {
                if matches!(event, Event::Ended) {
                    self.sockets.remove(&id);
                }
                Some((id, event))
            }
        }
    }

    /// Tells all applications that the agent is ending, and closes their sockets.
    pub async fn close(mut self) {
        drop(self.stop);
        while self.notes.recv().await.is_some() {}
    }

    /// Tells an application what another one says, if at least half of its queue is free: others can't have it closed. Whether
    /// there was room.
    pub fn tell_if_room(&self, application: ApplicationId, command: Command) -> bool {
        let room = |commands: &&mpsc::Sender<Command>| commands.capacity() > COMMANDS / 2;
        let commands = self.sockets.get(&application).filter(room);
        commands.is_some_and(|commands| commands.try_send(command).is_ok())
    }

    /// Tells an application. Does not wait: one that does not keep up is closed.
    ///
    /// # Errors
    /// [`Undelivered`] with the command.
    pub fn tell(&mut self, application: ApplicationId, command: Command) -> Result<(), Box<Undelivered>> {
        let undelivered = |command| Box::new(Undelivered { application, command });
        let Some(commands) = self.sockets.get(&application) else { return Err(undelivered(command)) };
        match commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(command)) => Err(undelivered(command)),
            Err(mpsc::error::TrySendError::Full(command)) => {
                self.sockets.remove(&application);
                Err(undelivered(command))
            }
        }
    }
}

/// Who lets applications in.
struct Door {
    settings: Settings,
    home: Namespace,
    events: mpsc::Sender<Note>,
    stop: watch::Receiver<bool>,
    /// Open sockets by user.
    users: HashMap<u32, usize>,
    /// Each ends with its user.
    sockets: JoinSet<u32>,
}

impl Door {
    async fn serve(mut self, listener: AsyncListener) {
        let mut last = 0;
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                // There is nothing else to hear than that the other end is gone.
                _ = stop.changed() => break,
                Some(user) = self.sockets.join_next() => self.left(user.ok()),
                accepted = listener.accept() => {
                    last += 1;
                    if let Err(cause) = self.let_in(ApplicationId(last), accepted).await {
                        tracing::warn!(%cause, "an application can't be let in");
                        // Descriptors may be used up for a while.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
        while self.sockets.join_next().await.is_some() {}
    }

    fn left(&mut self, user: Option<u32>) {
        if let Some(count) = user.and_then(|user| self.users.get_mut(&user)) {
            *count = count.saturating_sub(1);
        }
    }

    async fn let_in(&mut self, id: ApplicationId, accepted: io::Result<Channel>) -> io::Result<()> {
        let channel = accepted?;
        let peer = channel.peer()?;
        if let Some(why) = self.objection(&peer) {
            tracing::warn!(pid = peer.pid, uid = peer.uid, why = why.name(), "an application is not let in");
            let goodbye = Notification::from(Goodbye { why }).encode().unwrap_or_default();
            return channel.send(&goodbye, &[]);
        }
        let (sender, commands) = mpsc::channel(COMMANDS);
        let socket = Socket {
            id,
            channel: AsyncChannel::new(channel)?,
            machine: Machine::new(peer, self.settings.stack.clone(), Instant::now()),
            home: self.home,
            commands,
            events: self.events.clone(),
            stop: self.stop.clone(),
        };
        *self.users.entry(peer.uid).or_default() += 1;
        // Nobody listens if the agent is ending, and then neither does the socket.
        let _ = self.events.send(Note::Opened(id, sender)).await;
        self.sockets.spawn(async move {
            socket.run().await;
            peer.uid
        });
        Ok(())
    }

    fn objection(&self, peer: &Peer) -> Option<Refusal> {
        let own = rustix::process::geteuid().as_raw();
        let is_allowed = self.settings.users.as_ref().is_none_or(|users| users.contains(&peer.uid));
        let of_user = self.users.get(&peer.uid).copied().unwrap_or(0);
        if !is_allowed && peer.uid != own {
            Some(Refusal::NotAllowed)
        } else if self.sockets.len() >= MAX_SOCKETS || of_user >= MAX_SOCKETS_A_USER {
            Some(Refusal::AgentFull)
        } else {
            None
        }
    }
}

/// Connections that move are descriptors: the agent takes as many as it may have.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(cause) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%cause, "the limit of open descriptors can't be raised");
    }
}
