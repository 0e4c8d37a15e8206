//! A session while it lasts: readers, writers, signs of life.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use model::StackName;
use model::codec::{self, Received};
use model::message::{Heartbeat, Hello, Message};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::counters::Tally;
use crate::endpoint::Inner;
use crate::event::{DownReason, Internal};
use crate::frames::{self, Frame, FrameError};
use crate::outbox::{Lane, Outbox};
use crate::session::Met;

/// Heartbeats of a peer that may fail to come before it is quiet.
const THREE: u32 = 3;
/// How often it is looked at, in the time after which a peer is quiet.
const TICKS_A_QUIET: u32 = 6;

/// What the readers of one session share.
struct Ears {
    inner: Arc<Inner>,
    peer: StackName,
    /// A frame came since the last look.
    heard: AtomicBool,
    /// Readers that wait for our own owner: while there are any, silence is not the peer's fault.
    waiting: AtomicU32,
}

/// Reads, writes and watches until one of them ends. When it returns, nothing of the session is under way any more.
pub(crate) async fn talk(
    inner: &Arc<Inner>,
    met: Met,
    outbox: &Arc<Outbox>,
    queues: [mpsc::Receiver<Vec<u8>>; 4],
) -> DownReason {
    let Met { peer, connection, pulse_in, pulse_out, hello } = met;
    let quiet_after = inner.settings.quiet_after.map(|quiet| quiet.max(THREE * heartbeat_of(&hello, inner)));
    let (heard, waiting) = (AtomicBool::new(true), AtomicU32::new(0));
    let ears = Arc::new(Ears { inner: inner.clone(), peer, heard, waiting });
    let mut readers = JoinSet::new();
    readers.spawn(listen(ears.clone(), pulse_in));
    let [pulse, list, account, transfer] = queues;
    let why = tokio::select! {
        biased;
        () = outbox.ending.token.cancelled() => outbox.ending.reason(),
        why = read_all(&connection, &ears, &mut readers) => why,
        why = beat(inner, pulse_out, pulse, outbox) => why,
        why = write_lane(&connection, Lane::List, list, outbox) => why,
        why = write_lane(&connection, Lane::Account, account, outbox) => why,
        why = write_lane(&connection, Lane::Transfer, transfer, outbox) => why,
        why = watch(&ears, quiet_after) => why,
    };
    readers.shutdown().await;
    why
}

/// Reads every stream that the peer opens, also of lanes that this version does not know.
async fn read_all(
    connection: &Connection,
    ears: &Arc<Ears>,
    readers: &mut JoinSet<Result<(), DownReason>>,
) -> DownReason {
    loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(stream) => { readers.spawn(listen(ears.clone(), stream)); }
                Err(e) => return down(&e),
            },
            Some(done) = readers.join_next() => match done {
                Ok(Ok(())) => {}
                Ok(Err(why)) => return why,
                Err(e) => return DownReason::Connection(e.to_string()),
            },
        }
    }
}

/// Reads one stream to its end and hands its messages on.
async fn listen(ears: Arc<Ears>, mut stream: RecvStream) -> Result<(), DownReason> {
    let counters = &ears.inner.counters;
    let mut scratch = Vec::new();
    loop {
        let frame = frames::read(&mut stream, &mut scratch).await.map_err(|e| match e {
            FrameError::Read(quinn::ReadError::ConnectionLost(e)) => down(&e),
            other => DownReason::Protocol(other.to_string()),
        })?;
        // Relaxed: a flag for the watcher alone.
        ears.heard.store(true, Ordering::Relaxed);
        match frame {
            Frame::End => return Ok(()),
            Frame::Whole(Received::Message(Message::Hello(_) | Message::Heartbeat(_)), _) => {
                counters.count(Tally::MessagesReceived);
            }
            Frame::Whole(Received::Message(message), bytes) => {
                counters.count(Tally::MessagesReceived);
                hand_on(&ears, message, bytes).await?;
            }
            Frame::Whole(Received::Unknown { version, kind }, _) => {
                counters.count(Tally::UnknownMessages);
                tracing::debug!(peer = %ears.peer, version, kind, "unknown message ignored");
            }
            Frame::Malformed(error) => {
                counters.count(Tally::MalformedMessages);
                tracing::debug!(peer = %ears.peer, %error, "malformed message ignored");
            }
        }
    }
}

/// Waits for room and gives a message to the endpoint's owner. Meanwhile the stream is not read, and QUIC's flow
/// control makes the peer wait.
async fn hand_on(ears: &Ears, message: Message, bytes: u32) -> Result<(), DownReason> {
    let inner = &ears.inner;
    ears.waiting.fetch_add(1, Ordering::Relaxed);
    let delivered = async {
        let share = inner.undelivered.clone().acquire_many_owned(bytes).await.ok()?;
        let peer = ears.peer.clone();
        inner.events.send(Internal::Message { peer, message, _share: share }).await.ok()
    };
    let delivered = delivered.await;
    ears.waiting.fetch_sub(1, Ordering::Relaxed);
    delivered.ok_or(DownReason::HungUp)
}

/// How often the peer says something at least.
fn heartbeat_of(hello: &Hello, inner: &Inner) -> Duration {
    hello.heartbeat_ms.map_or(inner.settings.heartbeat, |ms| Duration::from_millis(ms.into()))
}

/// Returns when the peer was silent for `lost_after`; says before that it is quiet, and when it is heard again. Counts ticks
/// rather than time, so that a pause of this process counts as one.
async fn watch(ears: &Ears, quiet_after: Option<Duration>) -> DownReason {
    let settings = &ears.inner.settings;
    let tick = quiet_after.map_or(settings.heartbeat, |quiet| settings.heartbeat.min(quiet / TICKS_A_QUIET));
    let patience = |time: Duration| time.as_millis() / tick.as_millis().max(1);
    let (quiet_after, lost_after) = (quiet_after.map(patience), patience(settings.lost_after));
    let mut ticks = interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut silent, mut quiet) = (0, false);
    while silent <= lost_after {
        ticks.tick().await;
        let heard = ears.heard.swap(false, Ordering::Relaxed) || ears.waiting.load(Ordering::Relaxed) > 0;
        silent = if heard { 0 } else { silent + 1 };
        let is_quiet = quiet_after.is_some_and(|patience| silent >= patience);
        if is_quiet == quiet {
            continue;
        }
        quiet = is_quiet;
        let peer = ears.peer.clone();
        let news = if quiet { Internal::Quiet { peer } } else { Internal::Heard { peer } };
        if ears.inner.events.send(news).await.is_err() {
            return DownReason::HungUp;
        }
    }
    DownReason::Silent
}

/// Writes the first lane, with a sign of life whenever it has nothing to say for one heartbeat.
async fn beat(
    inner: &Inner,
    mut stream: SendStream,
    mut frames: mpsc::Receiver<Vec<u8>>,
    outbox: &Outbox,
) -> DownReason {
    let _ = stream.set_priority(priority(Lane::Pulse));
    let mut sequence = 0;
    loop {
        let (frame, queued) = match timeout(inner.settings.heartbeat, frames.recv()).await {
            Ok(Some(frame)) => (frame, true),
            Ok(None) => return DownReason::HungUp,
            Err(_) => {
                let heartbeat = Message::Heartbeat(Heartbeat { sequence });
                sequence += 1;
                (codec::encode(&heartbeat).unwrap_or_default(), false)
            }
        };
        if let Err(why) = write(&mut stream, &frame).await {
            return why;
        }
        if queued {
            outbox.sent(Lane::Pulse, frame.len());
        }
    }
}

/// Writes one lane to a stream of its own, opened with its first frame.
async fn write_lane(
    connection: &Connection,
    lane: Lane,
    mut frames: mpsc::Receiver<Vec<u8>>,
    outbox: &Outbox,
) -> DownReason {
    let mut stream = None;
    while let Some(frame) = frames.recv().await {
        let open = match &mut stream {
            Some(open) => open,
            None => match connection.open_uni().await {
                Ok(new) => {
                    let _ = new.set_priority(priority(lane));
                    stream.insert(new)
                }
                Err(e) => return down(&e),
            },
        };
        if let Err(why) = write(open, &frame).await {
            return why;
        }
        outbox.sent(lane, frame.len());
    }
    DownReason::HungUp
}

/// QUIC's stream priority: small and urgent first.
fn priority(lane: Lane) -> i32 {
    match lane {
        Lane::Pulse => 3,
        Lane::Transfer => 2,
        Lane::List => 1,
        Lane::Account => 0,
    }
}

async fn write(stream: &mut SendStream, frame: &[u8]) -> Result<(), DownReason> {
    stream.write_all(frame).await.map_err(|e| match e {
        quinn::WriteError::ConnectionLost(e) => down(&e),
        other => DownReason::Connection(other.to_string()),
    })
}

fn down(error: &ConnectionError) -> DownReason {
    match error {
        ConnectionError::ApplicationClosed(_) => DownReason::Closed,
        ConnectionError::LocallyClosed => DownReason::HungUp,
        ConnectionError::TimedOut => DownReason::Silent,
        other => DownReason::Connection(other.to_string()),
    }
}
