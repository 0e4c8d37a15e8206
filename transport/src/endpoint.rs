//! The endpoint: one UDP socket, all sessions of this stack.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::StackName;
use model::codec;
use model::message::{Hello, Pulse};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::counters::{Counters, Tally};
use crate::dial::{self, Dial};
use crate::event::{DownReason, Events, Internal};
use crate::identity::Identity;
use crate::outbox::{Lane, Outbox, Sent};
use crate::refusal::Refused;
use crate::socket::Socket;
use crate::{beside, session, tls};

/// Events that may wait for the endpoint's owner.
const EVENTS: usize = 1024;
/// Bytes of message bodies that may wait for the endpoint's owner. Must hold at least one of the longest.
pub(crate) const UNDELIVERED_BYTES: usize = 4 * codec::MAX_BODY_BYTES;
/// Connections that may be in their handshake; others are ignored and try again.
const HANDSHAKES: usize = 64;
/// How long a peer may take from its first packet to its HELLO.
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// The pause after a connection that could not be accepted.
const NOT_AT_ONCE: Duration = Duration::from_millis(100);
/// How long [`Endpoint::close`] waits at most.
const CLOSE_TIME: Duration = Duration::from_millis(500);

/// What an endpoint needs to know besides its identity.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is said first to every peer; `hello.stack` is overwritten with the identity's name, `hello.heartbeat_ms` with
    /// `heartbeat`.
    pub hello: Hello,
    /// A sign of life is sent this often.
    pub heartbeat: Duration,
    /// A peer that was not heard for this long, or for three of its own heartbeats, is reported as quiet. `None`: the
    /// owner does not want to know.
    pub quiet_after: Option<Duration>,
    /// A peer that was not heard for this long is gone. At least three heartbeats, or it is taken as that.
    pub lost_after: Duration,
    /// Stacks of this network namespace are met over a Unix socket rather than QUIC.
    pub beside: bool,
}

/// Where an endpoint's socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Here, and sessions are accepted.
    At(SocketAddr),
    /// At any free port of all addresses, only to dial from.
    DialOnly,
}

/// Why an endpoint can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket can't be bound.
    #[error("cannot use UDP {address} for the cluster's sessions: {cause}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// The identity can't be used.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no session with the peer (its `Up` has not been received, or its `Down` has).
    #[error("no session with {0}")]
    NoSession(StackName),
    /// The queue to it is full. Its session ends; [`crate::Event::Down`] follows.
    #[error("the queue to {0} is full; its session ends")]
    QueueFull(StackName),
    /// The message is longer than a frame may be; the session goes on.
    #[error("a message to {peer} was not sent: {cause}")]
    Oversize {
        /// To whom.
        peer: StackName,
        /// How long it is.
        cause: String,
    },
}

/// How it stands with a peer that is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// There is a session.
    Up,
    /// An attempt is under way.
    Dialling,
    /// The last attempt failed or the session ended; the next attempt comes shortly.
    Waiting {
        /// Why, with the fix where one is known.
        why: String,
    },
}

/// A peer that is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its name.
    pub peer: StackName,
    /// Where it is dialled.
    pub address: SocketAddr,
    /// How it stands.
    pub state: PeerState,
}

/// A mutex whose data stays usable if a holder panicked: every critical section leaves it whole.
pub(crate) struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the endpoint, its sessions and its [`Events`] share. No lock is held across an await.
pub(crate) struct Inner<S: Sent> {
    pub(crate) quinn: quinn::Endpoint,
    pub(crate) settings: Settings,
    /// What is said first to every peer from now on.
    pub(crate) hello: Shared<Hello>,
    pub(crate) client: Shared<quinn::ClientConfig>,
    /// What is shown and demanded on this host, by who dials and who answers.
    pub(crate) tls: Shared<(Arc<rustls::ClientConfig>, Arc<rustls::ServerConfig>)>,
    /// The newest session of each peer, from its HELLO on.
    pub(crate) current: Shared<HashMap<StackName, Arc<Outbox>>>,
    /// A peer's sessions take turns: the one that holds the lock may emit events about it.
    pub(crate) turns: Shared<HashMap<StackName, Arc<tokio::sync::Mutex<()>>>>,
    /// Sessions that the owner knows of: between his receiving `Up` and `Down`.
    pub(crate) open: Shared<HashMap<StackName, Arc<Outbox>>>,
    pub(crate) dials: Shared<HashMap<StackName, Dial>>,
    pub(crate) events: mpsc::Sender<Internal<S::Other>>,
    pub(crate) undelivered: Arc<Semaphore>,
    pub(crate) counters: Counters,
    /// Who is refused, for the log.
    pub(crate) refused: Shared<Refused>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// All sessions of this stack, which says `S` in them. Clones are the same endpoint.
pub struct Endpoint<S: Sent> {
    inner: Arc<Inner<S>>,
}

impl<S: Sent> Clone for Endpoint<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<S: Sent> Endpoint<S> {
    /// Binds the socket and, with [`Listen::At`], accepts sessions. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] if the socket can't be bound or the identity can't be used.
    pub fn bind(
        listen: Listen,
        identity: &Identity,
        settings: Settings,
    ) -> Result<(Self, Events<S>), BindError> {
        let mut settings = settings;
        settings.hello.stack = identity.name.to_string();
        settings.hello.heartbeat_ms = u32::try_from(settings.heartbeat.as_millis()).ok();
        settings.lost_after = settings.lost_after.max(settings.heartbeat * 3);
        let Configs { client, server, tls } = configs::<S>(identity, &settings)?;
        let mut beside = None;
        let quinn = match listen {
            Listen::At(address) => {
                let bound = UdpSocket::bind(address).and_then(|socket| Ok((socket.local_addr()?, socket)));
                let (at, socket) = bound.map_err(|cause| BindError::Socket { address, cause })?;
                // First: a stack of this host that QUIC answers has not missed it by much.
                beside = settings.beside.then(|| listen_beside(at)).flatten();
                endpoint(socket, Some(server)).map_err(|cause| BindError::Socket { address, cause })?
            }
            Listen::DialOnly => dial_only()?,
        };
        let (events, receiver) = mpsc::channel(EVENTS);
        let inner = Arc::new(Inner {
            quinn,
            hello: Shared::new(settings.hello.clone()),
            settings,
            client: Shared::new(client),
            tls: Shared::new(tls),
            current: Shared::new(HashMap::new()),
            turns: Shared::new(HashMap::new()),
            open: Shared::new(HashMap::new()),
            dials: Shared::new(HashMap::new()),
            events,
            undelivered: Arc::new(Semaphore::new(UNDELIVERED_BYTES)),
            counters: Counters::default(),
            refused: Shared::new(Refused::default()),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        if let Listen::At(_) = listen {
            let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
            inner.tasks.spawn(accept(inner.clone(), handshakes));
            if let Some(listener) = beside {
                inner.tasks.spawn(accept_beside(inner.clone(), listener));
            }
        }
        Ok((Self { inner: inner.clone() }, Events { receiver, inner, next: None }))
    }

    /// The socket's address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.quinn.local_addr()
    }

    /// Keeps a session with `peer` at `address`: dials, and dials again with growing, jittered pauses whenever
    /// there is none. Of two stacks only one should dial. Another address for the same peer replaces the former.
    pub fn dial(&self, peer: StackName, address: SocketAddr) {
        dial::start(&self.inner, peer, address);
    }

    /// Stops dialling `peer` and ends its session.
    pub fn hang_up(&self, peer: &StackName) {
        if let Some(dial) = self.inner.dials.lock().remove(peer) {
            dial.stop.cancel();
        }
        if let Some(outbox) = self.inner.current.lock().get(peer) {
            outbox.ending.end(DownReason::HungUp);
        }
    }

    /// Queues a message. It arrives unless the session ends first; messages of a kind group (HEARTBEAT and LOAD;
    /// VIPA list; SRVSTAT, NEWCONN, TERMCONN, Told) arrive in the order in which they were sent.
    ///
    /// # Errors
    /// [`SendError`] if there is no session, the queue is full (the session then ends), or the message is too long.
    pub fn send(&self, peer: &StackName, message: &S) -> Result<(), SendError> {
        let outbox = self.inner.open.lock().get(peer).cloned();
        let outbox = outbox.ok_or_else(|| SendError::NoSession(peer.clone()))?;
        let frame = codec::encode(message).map_err(|e| {
            self.inner.counters.count(Tally::OversizeMessages);
            SendError::Oversize { peer: peer.clone(), cause: e.to_string() }
        })?;
        let pushed = outbox.push(message.lane(), message.connection(), frame);
        pushed.map_err(|_| SendError::QueueFull(peer.clone()))?;
        self.inner.counters.count(Tally::MessagesSent);
        Ok(())
    }

    /// Peers that have a session, or whose former one is ending.
    #[cfg(test)]
    pub(crate) fn known_peers(&self) -> usize {
        self.inner.turns.lock().len()
    }

    /// Says something else of this stack from now on, and tells all peers with a session at once ([`crate::Event::Greets`]). Its name
    /// stays.
    pub fn greet_again(&self, change: impl FnOnce(&mut Hello)) {
        let hello = {
            let mut hello = self.inner.hello.lock();
            change(&mut hello);
            hello.stack.clone_from(&self.inner.settings.hello.stack);
            codec::encode(&Pulse::Hello(hello.clone())).unwrap_or_default()
        };
        for outbox in self.inner.open.lock().values() {
            // One whose session ends hears it when the next one begins.
            let _ = outbox.push(Lane::Pulse, None, hello.clone());
        }
    }

    /// The peers that are dialled and how it stands with them, sorted by name.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let mut all: Vec<_> = self.inner.dials.lock().iter().map(|(peer, dial)| dial.status(peer)).collect();
        all.sort_by(|a, b| a.peer.cmp(&b.peer));
        all
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Uses another certificate, key or CA for sessions that begin from now on. The name must be the same.
    ///
    /// # Errors
    /// [`BindError::Tls`] if the identity can't be used; the former stays.
    pub fn renew(&self, identity: &Identity) -> Result<(), BindError> {
        let own = &self.inner.settings.hello.stack;
        if identity.name.as_str() != own {
            return Err(BindError::Tls(format!("the certificate is for {}, not for {own}", identity.name)));
        }
        let Configs { client, server, tls } = configs::<S>(identity, &self.inner.settings)?;
        *self.inner.client.lock() = client;
        *self.inner.tls.lock() = tls;
        self.inner.quinn.set_server_config(Some(server));
        Ok(())
    }

    /// Says goodbye to all peers, so that they need not wait for silence, and waits until they could hear it.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        for outbox in self.inner.current.lock().values() {
            outbox.ending.end(DownReason::HungUp);
        }
        self.inner.quinn.close(session::GOODBYE, b"");
        self.inner.tasks.close();
        let quiet = async { tokio::join!(self.inner.quinn.wait_idle(), self.inner.tasks.wait()) };
        // Neither a peer that does not acknowledge nor an owner that receives no events is waited for longer.
        let _ = tokio::time::timeout(CLOSE_TIME, quiet).await;
    }
}

/// What the identity is made into.
struct Configs {
    client: quinn::ClientConfig,
    server: quinn::ServerConfig,
    tls: (Arc<rustls::ClientConfig>, Arc<rustls::ServerConfig>),
}

fn configs<S: Sent>(identity: &Identity, settings: &Settings) -> Result<Configs, BindError> {
    let Settings { heartbeat, lost_after, .. } = *settings;
    let make = || -> Result<Configs, tls::SetupError> {
        let (client, server) = (tls::client(identity, S::PROTOCOL)?, tls::server(identity, S::PROTOCOL)?);
        let tls = (Arc::new(client.clone()), Arc::new(server.clone()));
        let client = tls::quic_client(client, heartbeat, lost_after)?;
        let server = tls::quic_server(server, heartbeat, lost_after)?;
        Ok(Configs { client, server, tls })
    };
    make().map_err(|e| BindError::Tls(e.to_string()))
}

/// The socket for stacks of this host. Without it they use QUIC.
fn listen_beside(address: SocketAddr) -> Option<UnixListener> {
    let listener = beside::listen(address);
    listener
        .inspect_err(|e| tracing::warn!(%address, cause = %e, "stacks of this host have to use QUIC"))
        .ok()
}

/// A dual-stack socket, or an IPv4 one on hosts without IPv6.
fn dial_only() -> Result<quinn::Endpoint, BindError> {
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    dual_stack(v6)
        .or_else(|_| UdpSocket::bind(v4))
        .and_then(|socket| endpoint(socket, None))
        .map_err(|cause| BindError::Socket { address: v4, cause })
}

fn dual_stack(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None)?;
    socket.set_only_v6(false)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn endpoint(socket: UdpSocket, server: Option<quinn::ServerConfig>) -> io::Result<quinn::Endpoint> {
    let (socket, runtime) = (Arc::new(Socket::new(socket)?), Arc::new(quinn::TokioRuntime));
    quinn::Endpoint::new_with_abstract_socket(quinn::EndpointConfig::default(), server, socket, runtime)
}

/// Accepts connections, a bounded number of handshakes at a time. Under pressure a peer first has to prove its
/// address.
async fn accept<S: Sent>(inner: Arc<Inner<S>>, handshakes: Arc<Semaphore>) {
    loop {
        let incoming = tokio::select! {
            () = inner.stop.cancelled() => return,
            incoming = inner.quinn.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        if handshakes.available_permits() < HANDSHAKES / 2 && incoming.may_retry() {
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            inner.counters.count(Tally::HandshakesRefused);
            incoming.ignore();
            continue;
        };
        let task = session::accepted(inner.clone(), incoming, permit);
        inner.tasks.spawn(task);
    }
}

/// The same for stacks of this host. Other users' processes are not spoken to.
async fn accept_beside<S: Sent>(inner: Arc<Inner<S>>, listener: UnixListener) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let accepted = tokio::select! {
            () = inner.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // No descriptor is left, for instance; not at once again.
            tokio::time::sleep(NOT_AT_ONCE).await;
            continue;
        };
        if !beside::is_of_this_user(&stream) {
            inner.counters.count(Tally::Unauthenticated);
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            inner.counters.count(Tally::HandshakesRefused);
            continue;
        };
        inner.tasks.spawn(session::accepted_beside(inner.clone(), stream, permit));
    }
}
