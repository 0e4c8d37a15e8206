//! The endpoint: one UDP socket, all sessions of this stack.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::StackName;
use model::codec;
use model::message::{Hello, Message};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::counters::{Counters, Tally};
use crate::dial::{self, Dial};
use crate::event::{DownReason, Events, Internal};
use crate::identity::Identity;
use crate::outbox::{Lane, Outbox};
use crate::refusal::Refused;
use crate::socket::Socket;
use crate::{session, tls};

/// Events that may wait for the endpoint's owner.
const EVENTS: usize = 1024;
/// Bytes of message bodies that may wait for the endpoint's owner. Must hold at least one of the longest.
pub(crate) const UNDELIVERED_BYTES: usize = 4 * codec::MAX_BODY_BYTES;
/// Connections that may be in their handshake; others are ignored and try again.
const HANDSHAKES: usize = 64;
/// How long a peer may take from its first packet to its HELLO.
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

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
pub(crate) struct Inner {
    pub(crate) quinn: quinn::Endpoint,
    pub(crate) settings: Settings,
    pub(crate) client: Shared<quinn::ClientConfig>,
    /// The newest session of each peer, from its HELLO on.
    pub(crate) current: Shared<HashMap<StackName, Arc<Outbox>>>,
    /// A peer's sessions take turns: whoever holds the lock may emit events about it.
    pub(crate) turns: Shared<HashMap<StackName, Arc<tokio::sync::Mutex<()>>>>,
    /// Sessions that the owner knows of: between his receiving `Up` and `Down`.
    pub(crate) open: Shared<HashMap<StackName, Arc<Outbox>>>,
    pub(crate) dials: Shared<HashMap<StackName, Dial>>,
    pub(crate) events: mpsc::Sender<Internal>,
    pub(crate) undelivered: Arc<Semaphore>,
    pub(crate) counters: Counters,
    /// Who is refused, for the log.
    pub(crate) refused: Shared<Refused>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// All sessions of this stack. Clones are the same endpoint.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

impl Endpoint {
    /// Binds the socket and, with [`Listen::At`], accepts sessions. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] if the socket can't be bound or the identity can't be used.
    pub fn bind(
        listen: Listen,
        identity: &Identity,
        settings: Settings,
    ) -> Result<(Self, Events), BindError> {
        let mut settings = settings;
        settings.hello.stack = identity.name.to_string();
        settings.hello.heartbeat_ms = u32::try_from(settings.heartbeat.as_millis()).ok();
        settings.lost_after = settings.lost_after.max(settings.heartbeat * 3);
        let (client, server) = tls_configs(identity, &settings)?;
        let quinn = match listen {
            Listen::At(address) => UdpSocket::bind(address)
                .and_then(|socket| endpoint(socket, Some(server)))
                .map_err(|cause| BindError::Socket { address, cause })?,
            Listen::DialOnly => dial_only()?,
        };
        let (events, receiver) = mpsc::channel(EVENTS);
        let inner = Arc::new(Inner {
            quinn,
            settings,
            client: Shared::new(client),
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
            inner.tasks.spawn(accept(inner.clone()));
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
    /// VIPA list; SRVSTAT, NEWCONN, TERMCONN) arrive in the order in which they were sent.
    ///
    /// # Errors
    /// [`SendError`] if there is no session, the queue is full (the session then ends), or the message is too long.
    pub fn send(&self, peer: &StackName, message: &Message) -> Result<(), SendError> {
        let outbox = self.inner.open.lock().get(peer).cloned();
        let outbox = outbox.ok_or_else(|| SendError::NoSession(peer.clone()))?;
        let frame = codec::encode(message).map_err(|e| {
            self.inner.counters.count(Tally::OversizeMessages);
            SendError::Oversize { peer: peer.clone(), cause: e.to_string() }
        })?;
        outbox.push(Lane::of(message), frame).map_err(|_| SendError::QueueFull(peer.clone()))?;
        self.inner.counters.count(Tally::MessagesSent);
        Ok(())
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
        let (client, server) = tls_configs(identity, &self.inner.settings)?;
        *self.inner.client.lock() = client;
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

fn tls_configs(
    identity: &Identity,
    settings: &Settings,
) -> Result<(quinn::ClientConfig, quinn::ServerConfig), BindError> {
    let Settings { heartbeat, lost_after, .. } = *settings;
    let client = tls::client(identity, heartbeat, lost_after);
    let server = tls::server(identity, heartbeat, lost_after);
    client.and_then(|c| Ok((c, server?))).map_err(|e| BindError::Tls(e.to_string()))
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
async fn accept(inner: Arc<Inner>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
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
