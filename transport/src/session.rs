//! One peer, from the handshake to the end of its session.
//!
//! | phase | what happens | how it can fail |
//! | --- | --- | --- |
//! | handshake | TLS, over QUIC or on this host over a Unix socket ([`beside`]); the peer's certificate gives its name | [`Refusal::Unauthenticated`], counted |
//! | HELLO | both send it first on their first stream; it must repeat the name | [`Refusal::WrongName`], counted |
//! | turn | a former session of the peer is told to end, its `Down` awaited | a still newer session takes over |
//! | talk | readers, writers, signs of life, until the first of them ends | [`DownReason`], reported |

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::StackName;
use model::codec::{self, Received};
use model::message::{Hello, Pulse};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::beside;
use crate::counters::Tally;
use crate::endpoint::{HANDSHAKE_TIME, Inner};
use crate::event::{DownReason, Internal};
use crate::frames::{self, Frame};
use crate::identity;
use crate::outbox::{Outbox, Sent};
use crate::refusal::Refusal;
use crate::talk;

/// QUIC application error: all is well, the session is over.
pub(crate) const GOODBYE: VarInt = VarInt::from_u32(0);
/// QUIC application error: the peer broke the protocol or is not who it should be.
const REFUSED: VarInt = VarInt::from_u32(1);
/// Stacks that may have a session with this process at once, those included whose former one is ending.
pub(crate) const MAX_PEERS: usize = 4096;
/// How long a goodbye may take.
const GOODBYE_TIME: Duration = Duration::from_millis(100);
/// How long a dialled stack of this host may take to its HELLO.
const HANDSHAKE_TIME_HERE: Duration = Duration::from_secs(1);

/// Where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Behind QUIC.
    At(SocketAddr),
    /// On this host ([`beside`]).
    Beside,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Beside => f.write_str("this host"),
        }
    }
}

/// Answers an incoming connection and runs its session. The permit is held until the handshake is over.
pub(crate) async fn accepted<S: Sent>(
    inner: Arc<Inner<S>>,
    incoming: quinn::Incoming,
    permit: OwnedSemaphorePermit,
) {
    let place = Place::At(incoming.remote_address());
    let meeting = async {
        let connection = incoming.accept().map_err(Refusal::Unauthenticated)?;
        let connection = connection.await.map_err(Refusal::Unauthenticated)?;
        meet(&inner, &connection, None).await
    };
    welcome(&inner, place, meeting, permit).await;
}

/// The same for a stack on this host.
pub(crate) async fn accepted_beside<S: Sent>(
    inner: Arc<Inner<S>>,
    stream: UnixStream,
    permit: OwnedSemaphorePermit,
) {
    let meeting = async {
        let tls = inner.tls.lock().1.clone();
        let stream = beside::accept(stream, tls).await.map_err(Refusal::Beside)?;
        meet_beside(&inner, stream, None).await
    };
    welcome(&inner, Place::Beside, meeting, permit).await;
}

async fn welcome<S: Sent>(
    inner: &Arc<Inner<S>>,
    place: Place,
    meeting: impl Future<Output = Result<Met, Refusal>>,
    permit: OwnedSemaphorePermit,
) {
    let met = tokio::select! {
        () = inner.stop.cancelled() => Err(Refusal::Stopped),
        met = timeout(HANDSHAKE_TIME, meeting) => met.unwrap_or(Err(Refusal::Late)),
    };
    drop(permit);
    let refusal = match met {
        Ok(met) => take_turn(inner, met, || ()).await.err(),
        Err(refusal) => Some(refusal),
    };
    if let Some(refusal) = refusal {
        count(inner, &refusal);
        if inner.refused.lock().is_news(place, refusal.to_string()) {
            tracing::info!(address = %place, why = %refusal, "session refused");
        } else {
            tracing::debug!(address = %place, why = %refusal, "session refused again");
        }
    }
}

fn count<S: Sent>(inner: &Inner<S>, refusal: &Refusal) {
    if let Some(tally) = refusal.tally() {
        inner.counters.count(tally);
    }
}

/// Dials a peer and runs the session; returns why it ended. `up` is called when it begins.
pub(crate) async fn dialled<S: Sent>(
    inner: &Arc<Inner<S>>,
    peer: &StackName,
    address: SocketAddr,
    stop: &CancellationToken,
    up: impl FnOnce(),
) -> Result<DownReason, Refusal> {
    let is_here = inner.settings.beside && beside::is_here(address);
    let on_this_host = async |stream| {
        let tls = inner.tls.lock().0.clone();
        let stream = beside::dial(stream, peer, tls).await.map_err(Refusal::Beside)?;
        meet_beside(inner, stream, Some(peer)).await
    };
    let meeting = async {
        if let Some(stream) = is_here.then(|| beside::reach(address)).flatten() {
            match timeout(HANDSHAKE_TIME_HERE, on_this_host(stream)).await.unwrap_or(Err(Refusal::Late)) {
                Ok(met) => return Ok(met),
                Err(refusal) => tracing::debug!(%peer, why = %refusal, "not met on this host, QUIC is tried"),
            }
        }
        let config = inner.client.lock().clone();
        let connecting = inner.quinn.connect_with(config, address, peer.as_str())?;
        let connection = connecting.await.map_err(Refusal::Unauthenticated)?;
        meet(inner, &connection, Some(peer)).await
    };
    // A `batond` that starts beside us while QUIC tries is to be found where it is.
    let time = if is_here { 2 * HANDSHAKE_TIME_HERE } else { HANDSHAKE_TIME };
    let met = tokio::select! {
        () = stop.cancelled() => Err(Refusal::Stopped),
        met = timeout(time, meeting) => met.unwrap_or(Err(Refusal::Late)),
    };
    take_turn(inner, met.inspect_err(|refusal| count(inner, refusal))?, up).await
}

/// A peer that proved its name and said HELLO.
pub(crate) struct Met {
    pub(crate) peer: StackName,
    pub(crate) hello: Hello,
    pub(crate) place: Place,
    pub(crate) link: Link,
}

/// What a session's frames travel on.
pub(crate) enum Link {
    /// A QUIC connection, whose lanes have streams of their own.
    Quic {
        connection: Connection,
        /// The stream that brought its HELLO.
        pulse_in: Option<RecvStream>,
        /// The stream that took ours.
        pulse_out: SendStream,
    },
    /// One stream both ways, to a stack on this host.
    Beside {
        reader: ReadHalf<beside::Stream>,
        writer: WriteHalf<beside::Stream>,
        /// This stack has dialled.
        dialled: bool,
    },
}

impl Link {
    /// Says on a stream that it ends; a QUIC connection says so when it is closed.
    pub(crate) async fn say_goodbye(&mut self) {
        if let Self::Beside { writer, .. } = self {
            // A peer that does not read is not waited for.
            let _ = timeout(GOODBYE_TIME, writer.shutdown()).await;
        }
    }

    /// What ends a connection that others may still hold.
    fn connection(&self) -> Option<Connection> {
        match self {
            Self::Quic { connection, .. } => Some(connection.clone()),
            Self::Beside { .. } => None,
        }
    }
}

/// Exchanges HELLO with the other end of a QUIC connection.
async fn meet<S: Sent>(
    inner: &Inner<S>,
    connection: &Connection,
    wanted: Option<&StackName>,
) -> Result<Met, Refusal> {
    let met = async {
        let shown = connection.peer_identity();
        let shown = shown.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let peer = name_in(shown.as_deref().map(Vec::as_slice), wanted)?;
        let mut pulse_out = connection.open_uni().await.map_err(no_hello)?;
        say_hello(inner, &mut pulse_out).await?;
        let mut pulse_in = connection.accept_uni().await.map_err(no_hello)?;
        let hello = hear_hello::<S>(&peer, &mut pulse_in).await?;
        let link = Link::Quic { connection: connection.clone(), pulse_in: Some(pulse_in), pulse_out };
        Ok(Met { peer, hello, place: Place::At(connection.remote_address()), link })
    };
    met.await.inspect_err(|_| connection.close(REFUSED, b"no HELLO of the stack that was expected"))
}

/// The same on this host.
async fn meet_beside<S: Sent>(
    inner: &Inner<S>,
    stream: beside::Stream,
    wanted: Option<&StackName>,
) -> Result<Met, Refusal> {
    let peer = name_in(stream.get_ref().1.peer_certificates(), wanted)?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    say_hello(inner, &mut writer).await?;
    let hello = hear_hello::<S>(&peer, &mut reader).await?;
    Ok(Met {
        peer,
        hello,
        place: Place::Beside,
        link: Link::Beside { reader, writer, dialled: wanted.is_some() },
    })
}

fn no_hello(error: impl fmt::Display) -> Refusal {
    Refusal::NoHello(error.to_string())
}

async fn say_hello<S: Sent>(inner: &Inner<S>, stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), Refusal> {
    let hello = codec::encode(&Pulse::Hello(inner.hello.lock().clone())).map_err(no_hello)?;
    stream.write_all(&hello).await.map_err(no_hello)?;
    stream.flush().await.map_err(no_hello)
}

async fn hear_hello<S: Sent>(
    peer: &StackName,
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Hello, Refusal> {
    match frames::read::<S::Other>(stream, &mut Vec::new()).await {
        Ok(Frame::Whole(Received::Pulse(Pulse::Hello(hello)), _)) if hello.stack == peer.as_str() => {
            Ok(hello)
        }
        Ok(Frame::Whole(Received::Pulse(Pulse::Hello(hello)), _)) => {
            let found = format!("its HELLO says `{}`", hello.stack);
            Err(Refusal::WrongName { wanted: peer.to_string(), found })
        }
        Ok(_) => Err(no_hello("it begins with something else")),
        Err(e) => Err(no_hello(e)),
    }
}

/// The name in the certificates that a peer showed.
fn name_in(
    shown: Option<&[CertificateDer<'static>]>,
    wanted: Option<&StackName>,
) -> Result<StackName, Refusal> {
    let leaf = shown.and_then(<[_]>::first).ok_or_else(|| "it showed no certificate".to_owned());
    let found = match leaf.and_then(|leaf| identity::stack_name(leaf)) {
        Ok(peer) if wanted.is_none_or(|wanted| *wanted == peer) => return Ok(peer),
        Ok(peer) => format!("it is `{peer}`"),
        Err(found) => found,
    };
    let wanted = wanted.map_or_else(|| "any".to_owned(), StackName::to_string);
    Err(Refusal::WrongName { wanted, found })
}

/// Ends the peer's former session, waits for its last event, and runs this one.
async fn take_turn<S: Sent>(
    inner: &Arc<Inner<S>>,
    met: Met,
    up: impl FnOnce(),
) -> Result<DownReason, Refusal> {
    let turn = {
        let mut turns = inner.turns.lock();
        if turns.len() >= MAX_PEERS && !turns.contains_key(&met.peer) {
            if let Some(connection) = met.link.connection() {
                connection.close(REFUSED, b"too many peers");
            }
            return Err(Refusal::TooMany);
        }
        turns.entry(met.peer.clone()).or_default().clone()
    };
    let outbox = Arc::new(Outbox::default());
    let _gone = outbox.gone.clone().drop_guard();
    inner.refused.lock().forget(met.place);
    if let Some(former) = inner.current.lock().insert(met.peer.clone(), outbox.clone()) {
        former.ending.end(DownReason::Replaced);
    }
    let (peer, connection) = (met.peer.clone(), met.link.connection());
    let why = {
        let _turn = turn.lock().await;
        if outbox.ending.token.is_cancelled() || inner.stop.is_cancelled() {
            outbox.ending.reason()
        } else {
            up();
            report(inner, met, &outbox).await
        }
    };
    {
        let mut current = inner.current.lock();
        if current.get(&peer).is_some_and(|newest| Arc::ptr_eq(newest, &outbox)) {
            current.remove(&peer);
        }
    }
    {
        let mut turns = inner.turns.lock();
        // Ours and the table's: nobody waits for a turn, and the peer's place is another's.
        if Arc::strong_count(&turn) == 2 {
            turns.remove(&peer);
        }
    }
    let code = if matches!(why, DownReason::Protocol(_)) { REFUSED } else { GOODBYE };
    if let Some(connection) = connection {
        connection.close(code, why.to_string().as_bytes());
    }
    Ok(why)
}

/// Tells the owner of the session's beginning and end; what is in between is [`talk::talk`].
async fn report<S: Sent>(inner: &Arc<Inner<S>>, met: Met, outbox: &Arc<Outbox>) -> DownReason {
    let (peer, address) = (met.peer.clone(), met.place);
    let up = Internal::Up { peer: peer.clone(), hello: met.hello.clone(), outbox: outbox.clone() };
    if inner.events.send(up).await.is_err() {
        return DownReason::HungUp;
    }
    inner.counters.count(Tally::SessionsUp);
    if address == Place::Beside {
        inner.counters.count(Tally::SessionsBeside);
    }
    tracing::info!(%peer, %address, "session up");
    let why = talk::talk(inner, met, outbox).await;
    match &why {
        DownReason::Replaced => inner.counters.count(Tally::SessionsReplaced),
        DownReason::Silent => inner.counters.count(Tally::SessionsSilent),
        DownReason::QueueFull => inner.counters.count(Tally::QueuesFull),
        DownReason::Protocol(_) => inner.counters.count(Tally::ProtocolErrors),
        DownReason::Closed | DownReason::Connection(_) | DownReason::HungUp => {}
    }
    tracing::info!(%peer, %address, %why, "session down");
    // Fails only if the owner is gone.
    let _ = inner.events.send(Internal::Down { peer, why: why.clone() }).await;
    why
}
