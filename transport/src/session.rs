//! One peer, from the handshake to the end of its session.
//!
//! | phase | what happens | how it can fail |
//! | --- | --- | --- |
//! | handshake | TLS; the peer's certificate gives its name | [`Refusal::Unauthenticated`], counted |
//! | HELLO | both send it first on their first stream; it must repeat the name | [`Refusal::WrongName`], counted |
//! | turn | a former session of the peer is told to end, its `Down` awaited | a still newer session takes over |
//! | talk | readers, writers, signs of life, until the first of them ends | [`DownReason`], reported |

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::StackName;
use model::codec::{self, Received};
use model::message::{Hello, Message};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::counters::Tally;
use crate::endpoint::{HANDSHAKE_TIME, Inner};
use crate::event::{DownReason, Internal};
use crate::frames::{self, Frame};
use crate::identity;
use crate::outbox::Outbox;
use crate::refusal::Refusal;
use crate::talk;

/// QUIC application error: all is well, the session is over.
pub(crate) const GOODBYE: VarInt = VarInt::from_u32(0);
/// QUIC application error: the peer broke the protocol or is not who it should be.
const REFUSED: VarInt = VarInt::from_u32(1);
/// Stacks that may ever have had a session with this process.
pub(crate) const MAX_PEERS: usize = 4096;

/// Answers an incoming connection and runs its session. The permit is held until the handshake is over.
pub(crate) async fn accepted(inner: Arc<Inner>, incoming: quinn::Incoming, permit: OwnedSemaphorePermit) {
    let address = incoming.remote_address();
    let connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(e) => return refuse(&inner, address, &Refusal::Unauthenticated(e)),
    };
    let meeting = async {
        let connection = connecting.await.map_err(Refusal::Unauthenticated)?;
        let met = meet(&inner, &connection, None).await;
        met.inspect_err(|_| connection.close(REFUSED, b"no HELLO"))
    };
    let met = tokio::select! {
        () = inner.stop.cancelled() => Err(Refusal::Stopped),
        met = timeout(HANDSHAKE_TIME, meeting) => met.unwrap_or(Err(Refusal::Late)),
    };
    drop(permit);
    match met {
        Ok(met) => {
            if let Err(refusal) = take_turn(&inner, met, || ()).await {
                refuse(&inner, address, &refusal);
            }
        }
        Err(refusal) => refuse(&inner, address, &refusal),
    }
}

fn refuse(inner: &Inner, address: SocketAddr, refusal: &Refusal) {
    count(inner, refusal);
    if inner.refused.lock().is_news(address.ip(), refusal.to_string()) {
        tracing::info!(%address, why = %refusal, "session refused");
    } else {
        tracing::debug!(%address, why = %refusal, "session refused again");
    }
}

fn count(inner: &Inner, refusal: &Refusal) {
    if let Some(tally) = refusal.tally() {
        inner.counters.count(tally);
    }
}

/// Dials a peer and runs the session; returns why it ended. `up` is called when it begins.
pub(crate) async fn dialled(
    inner: &Arc<Inner>,
    peer: &StackName,
    address: SocketAddr,
    stop: &CancellationToken,
    up: impl FnOnce(),
) -> Result<DownReason, Refusal> {
    let config = inner.client.lock().clone();
    let meeting = async {
        let connecting = inner.quinn.connect_with(config, address, peer.as_str())?;
        let connection = connecting.await.map_err(Refusal::Unauthenticated)?;
        let met = meet(inner, &connection, Some(peer)).await;
        met.inspect_err(|_| connection.close(REFUSED, b"not whom I called"))
    };
    let met = tokio::select! {
        () = stop.cancelled() => Err(Refusal::Stopped),
        met = timeout(HANDSHAKE_TIME, meeting) => met.unwrap_or(Err(Refusal::Late)),
    };
    take_turn(inner, met.inspect_err(|refusal| count(inner, refusal))?, up).await
}

/// A peer that proved its name and said HELLO.
pub(crate) struct Met {
    pub(crate) peer: StackName,
    pub(crate) hello: Hello,
    pub(crate) connection: Connection,
    /// The stream that brought its HELLO.
    pub(crate) pulse_in: RecvStream,
    /// The stream that took ours.
    pub(crate) pulse_out: SendStream,
}

/// Exchanges HELLO with whoever is at the other end.
async fn meet(inner: &Inner, connection: &Connection, wanted: Option<&StackName>) -> Result<Met, Refusal> {
    let peer =
        name_of(connection).map_err(|found| Refusal::WrongName { wanted: wanted_text(wanted), found })?;
    if let Some(wanted) = wanted.filter(|w| **w != peer) {
        return Err(Refusal::WrongName { wanted: wanted.to_string(), found: format!("it is `{peer}`") });
    }
    let no_hello = |e: &dyn std::fmt::Display| Refusal::NoHello(e.to_string());
    let hello = codec::encode(&Message::Hello(inner.settings.hello.clone())).map_err(|e| no_hello(&e))?;
    let mut pulse_out = connection.open_uni().await.map_err(|e| no_hello(&e))?;
    pulse_out.write_all(&hello).await.map_err(|e| no_hello(&e))?;
    let mut pulse_in = connection.accept_uni().await.map_err(|e| no_hello(&e))?;
    match frames::read(&mut pulse_in, &mut Vec::new()).await {
        Ok(Frame::Whole(Received::Message(Message::Hello(hello)), _)) if hello.stack == peer.as_str() => {
            Ok(Met { peer, hello, connection: connection.clone(), pulse_in, pulse_out })
        }
        Ok(Frame::Whole(Received::Message(Message::Hello(hello)), _)) => {
            let found = format!("its HELLO says `{}`", hello.stack);
            Err(Refusal::WrongName { wanted: peer.to_string(), found })
        }
        Ok(_) => Err(Refusal::NoHello("it begins with something else".into())),
        Err(e) => Err(no_hello(&e)),
    }
}

fn wanted_text(wanted: Option<&StackName>) -> String {
    wanted.map_or_else(|| "any".to_owned(), StackName::to_string)
}

fn name_of(connection: &Connection) -> Result<StackName, String> {
    let shown =
        connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = shown.as_ref().and_then(|chain| chain.first()).ok_or("it showed no certificate")?;
    identity::stack_name(leaf)
}

/// Ends the peer's former session, waits for its last event, and runs this one.
async fn take_turn(inner: &Arc<Inner>, met: Met, up: impl FnOnce()) -> Result<DownReason, Refusal> {
    let turn = {
        let mut turns = inner.turns.lock();
        if turns.len() >= MAX_PEERS && !turns.contains_key(&met.peer) {
            met.connection.close(REFUSED, b"too many peers");
            return Err(Refusal::TooMany);
        }
        turns.entry(met.peer.clone()).or_default().clone()
    };
    let (outbox, queues) = Outbox::new();
    let outbox = Arc::new(outbox);
    let _gone = outbox.gone.clone().drop_guard();
    inner.refused.lock().forget(connection_address(&met));
    if let Some(former) = inner.current.lock().insert(met.peer.clone(), outbox.clone()) {
        former.ending.end(DownReason::Replaced);
    }
    let (peer, connection) = (met.peer.clone(), met.connection.clone());
    let why = {
        let _turn = turn.lock().await;
        if outbox.ending.token.is_cancelled() || inner.stop.is_cancelled() {
            outbox.ending.reason()
        } else {
            up();
            report(inner, met, &outbox, queues).await
        }
    };
    {
        let mut current = inner.current.lock();
        if current.get(&peer).is_some_and(|newest| Arc::ptr_eq(newest, &outbox)) {
            current.remove(&peer);
        }
    }
    let code = if matches!(why, DownReason::Protocol(_)) { REFUSED } else { GOODBYE };
    connection.close(code, why.to_string().as_bytes());
    Ok(why)
}

fn connection_address(met: &Met) -> IpAddr {
    met.connection.remote_address().ip()
}

/// Tells the owner of the session's beginning and end; what is in between is [`talk::talk`].
async fn report(
    inner: &Arc<Inner>,
    met: Met,
    outbox: &Arc<Outbox>,
    queues: [mpsc::Receiver<Vec<u8>>; 4],
) -> DownReason {
    let (peer, address) = (met.peer.clone(), met.connection.remote_address());
    let up = Internal::Up { peer: peer.clone(), address, hello: met.hello.clone(), outbox: outbox.clone() };
    if inner.events.send(up).await.is_err() {
        return DownReason::HungUp;
    }
    inner.counters.count(Tally::SessionsUp);
    tracing::info!(%peer, %address, "session up");
    let why = talk::talk(inner, met, outbox, queues).await;
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
