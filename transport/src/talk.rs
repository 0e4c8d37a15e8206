//! A session while it lasts: readers, writers, signs of life.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use model::StackName;
use model::codec::{self, Received};
use model::message::{Heartbeat, Hello, Pulse};
use quinn::{Connection, ConnectionError, SendStream};
use tokio::io::{AsyncRead, AsyncWriteExt, BufWriter, WriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::beside;
use crate::counters::Tally;
use crate::endpoint::Inner;
use crate::event::{DownReason, Internal};
use crate::frames::{self, Frame, FrameError};
use crate::outbox::{Lane, Outbox, Sent};
use crate::session::{Link, Met};

/// Heartbeats of a peer that may fail to come before it is quiet.
const THREE: u32 = 3;
/// How often it is looked at, in the time after which a peer is quiet; and in the time after which it is lost, where none is quiet before.
const TICKS_A_QUIET: u32 = 6;
const TICKS_A_LOSS: u32 = 12;

/// What the readers of one session share.
struct Ears<S: Sent> {
    inner: Arc<Inner<S>>,
    peer: StackName,
    /// A frame came since the last look.
    heard: AtomicBool,
    /// Readers that wait for our own owner: while there are any, silence is not the peer's fault.
    waiting: AtomicU32,
}

/// Reads, writes and watches until one of them ends. When it returns, nothing of the session is under way any more.
pub(crate) async fn talk<S: Sent>(inner: &Arc<Inner<S>>, met: Met, outbox: &Arc<Outbox>) -> DownReason {
    let Met { peer, hello, mut link, .. } = met;
    let quiet_after = inner.settings.quiet_after.map(|quiet| quiet.max(THREE * heartbeat_of(&hello, inner)));
    let (heard, waiting) = (AtomicBool::new(true), AtomicU32::new(0));
    let ears = Arc::new(Ears { inner: inner.clone(), peer, heard, waiting });
    let mut readers = JoinSet::new();
    let why = tokio::select! {
        biased;
        () = outbox.ending.token.cancelled() => outbox.ending.reason(),
        why = over(&mut link, &ears, &mut readers, outbox) => why,
        why = watch(&ears, quiet_after) => why,
    };
    readers.shutdown().await;
    link.say_goodbye().await;
    why
}

/// Reads and writes until one of them ends.
async fn over<S: Sent>(
    link: &mut Link,
    ears: &Arc<Ears<S>>,
    readers: &mut JoinSet<Result<(), DownReason>>,
    outbox: &Outbox,
) -> DownReason {
    let heartbeat = ears.inner.settings.heartbeat;
    match link {
        Link::Quic { connection, pulse_in, pulse_out } => {
            readers.extend(pulse_in.take().map(|stream| listen(ears.clone(), stream, over_quic)));
            tokio::select! {
                biased;
                why = read_all(connection, ears, readers) => why,
                why = beat(heartbeat, pulse_out, outbox) => why,
                why = write_lane(connection, Lane::List, outbox) => why,
                why = write_lane(connection, Lane::Account, outbox) => why,
                why = write_lane(connection, Lane::Transfer, outbox) => why,
            }
        }
        Link::Beside { reader, writer, dialled } => {
            // A stack that dials looks for a peer whose process has ended at once. What that stood for may live on until it is back:
            // to the side that was dialled it is silent, as one behind QUIC, and what it has said is read to the end.
            let dialled = *dialled;
            let or_silent = async |why| match why {
                DownReason::Connection(_) if !dialled => std::future::pending().await,
                why => why,
            };
            tokio::select! {
                biased;
                why = async {
                    let heard = listen(ears.clone(), reader, on_this_host).await;
                    or_silent(heard.err().unwrap_or(DownReason::Closed)).await
                } => why,
                why = async { or_silent(write_all_lanes(heartbeat, writer, outbox).await).await } => why,
            }
        }
    }
}

/// Reads every stream that the peer opens, also of lanes that this version does not know.
async fn read_all<S: Sent>(
    connection: &Connection,
    ears: &Arc<Ears<S>>,
    readers: &mut JoinSet<Result<(), DownReason>>,
) -> DownReason {
    loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(stream) => { readers.spawn(listen(ears.clone(), stream, over_quic)); }
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
async fn listen<S: Sent>(
    ears: Arc<Ears<S>>,
    mut stream: impl AsyncRead + Unpin,
    broken: fn(FrameError) -> DownReason,
) -> Result<(), DownReason> {
    let counters = &ears.inner.counters;
    let mut scratch = Vec::new();
    loop {
        let frame = frames::read(&mut stream, &mut scratch).await.map_err(broken)?;
        // Relaxed: a flag for the watcher alone.
        ears.heard.store(true, Ordering::Relaxed);
        match frame {
            Frame::End => return Ok(()),
            Frame::Whole(Received::Pulse(Pulse::Heartbeat(_)), _) => counters.count(Tally::MessagesReceived),
            Frame::Whole(Received::Pulse(Pulse::Hello(hello)), bytes) => {
                counters.count(Tally::MessagesReceived);
                hand_on(&ears, bytes, |peer, _share| Internal::Greets { peer, hello, _share }).await?;
            }
            Frame::Whole(Received::Message(message), bytes) => {
                counters.count(Tally::MessagesReceived);
                let share = |peer, _share| Internal::Message { peer, message, _share };
                hand_on(&ears, bytes, share).await?;
            }
            Frame::Whole(Received::Misdirected(message), _) => {
                counters.count(Tally::MessagesReceived);
                hand_on(&ears, 0, |peer, _| Internal::Misdirected { peer, message }).await?;
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

/// Waits for room and gives news of a message to the endpoint's owner. Meanwhile the stream is not read, and QUIC's flow
/// control, or the socket's buffer, makes the peer wait.
async fn hand_on<S: Sent>(
    ears: &Ears<S>,
    bytes: u32,
    news: impl FnOnce(StackName, OwnedSemaphorePermit) -> Internal<S::Other>,
) -> Result<(), DownReason> {
    /// Also where the wait is given up.
    struct Waits<'a>(&'a AtomicU32);
    impl Drop for Waits<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let inner = &ears.inner;
    ears.waiting.fetch_add(1, Ordering::Relaxed);
    let _waits = Waits(&ears.waiting);
    let share = inner.undelivered.clone().acquire_many_owned(bytes).await;
    let share = share.map_err(|_| DownReason::HungUp)?;
    inner.events.send(news(ears.peer.clone(), share)).await.map_err(|_| DownReason::HungUp)
}

/// How often the peer says something at least.
fn heartbeat_of<S: Sent>(hello: &Hello, inner: &Inner<S>) -> Duration {
    hello.heartbeat_ms.map_or(inner.settings.heartbeat, |ms| Duration::from_millis(ms.into()))
}

/// How often a peer is looked at. More often than its heartbeats come: otherwise it would be lost up to two of them late.
fn tick(heartbeat: Duration, quiet_after: Option<Duration>, lost_after: Duration) -> Duration {
    heartbeat.min(quiet_after.map_or(lost_after / TICKS_A_LOSS, |quiet| quiet / TICKS_A_QUIET))
}

/// How many ticks without a word such a silence has at most.
fn patience(silence: Duration, tick: Duration) -> u128 {
    silence.as_micros() / tick.as_micros().max(1)
}

/// Returns when the peer was silent for `lost_after`; says before that it is quiet, and when it is heard again. Counts ticks
/// rather than time, so that a pause of this process counts as one.
async fn watch<S: Sent>(ears: &Ears<S>, quiet_after: Option<Duration>) -> DownReason {
    let settings = &ears.inner.settings;
    let tick = tick(settings.heartbeat, quiet_after, settings.lost_after);
    let patience = |time: Duration| patience(time, tick);
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
async fn beat(heartbeat: Duration, stream: &mut SendStream, outbox: &Outbox) -> DownReason {
    let _ = stream.set_priority(priority(Lane::Pulse));
    let mut sequence = 0;
    loop {
        let frame = timeout(heartbeat, outbox.next(Lane::Pulse)).await;
        if let Err(e) = stream.write_all(&frame.unwrap_or_else(|_| sign_of_life(&mut sequence))).await {
            return broken(&e.into());
        }
    }
}

fn sign_of_life(sequence: &mut u64) -> Vec<u8> {
    let heartbeat = Pulse::Heartbeat(Heartbeat { sequence: *sequence });
    *sequence += 1;
    codec::encode(&heartbeat).unwrap_or_default()
}

/// Writes all lanes to one stream, the first lane's frames first and the others' in turn, with a sign of life whenever there is nothing to say for one heartbeat.
/// What is there at once goes out together.
async fn write_all_lanes(
    heartbeat: Duration,
    writer: &mut WriteHalf<beside::Stream>,
    outbox: &Outbox,
) -> DownReason {
    let mut writer = BufWriter::new(writer);
    let mut sequence = 0;
    loop {
        let next = async {
            let others = async {
                tokio::select! {
                    frame = outbox.next(Lane::Transfer) => frame,
                    frame = outbox.next(Lane::List) => frame,
                    frame = outbox.next(Lane::Account) => frame,
                }
            };
            tokio::select! {
                biased;
                frame = outbox.next(Lane::Pulse) => frame,
                frame = others => frame,
            }
        };
        let mut next = pin!(next);
        // What has been written waits for what is there already, and for nothing else.
        let frame = match std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await {
            Poll::Ready(frame) => frame,
            Poll::Pending => match writer.flush().await {
                Ok(()) => timeout(heartbeat, next).await.unwrap_or_else(|_| sign_of_life(&mut sequence)),
                Err(e) => return broken(&e),
            },
        };
        if let Err(e) = writer.write_all(&frame).await {
            return broken(&e);
        }
    }
}

/// Writes one lane to a stream of its own, opened with its first frame.
async fn write_lane(connection: &Connection, lane: Lane, outbox: &Outbox) -> DownReason {
    let mut stream = None;
    loop {
        let frame = outbox.next(lane).await;
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
        if let Err(e) = open.write_all(&frame).await {
            return broken(&e.into());
        }
    }
}

/// QUIC's stream priority: what is urgent first, all else in turn, so that nothing starves.
fn priority(lane: Lane) -> i32 {
    match lane {
        Lane::Pulse => 1,
        Lane::Transfer | Lane::List | Lane::Account => 0,
    }
}

/// Why nothing can be read any more.
fn over_quic(error: FrameError) -> DownReason {
    match error {
        FrameError::Read(e) => broken(&e),
        other => DownReason::Protocol(other.to_string()),
    }
}

/// The same on a stream that a goodbye may end anywhere.
fn on_this_host(error: FrameError) -> DownReason {
    match error {
        FrameError::Truncated => DownReason::Closed,
        other => over_quic(other),
    }
}

/// Why a stream of a session can't be used any more.
fn broken(error: &io::Error) -> DownReason {
    let cause = error.get_ref();
    let read = cause.and_then(|cause| cause.downcast_ref::<quinn::ReadError>());
    let write = cause.and_then(|cause| cause.downcast_ref::<quinn::WriteError>());
    match (read, write) {
        (Some(quinn::ReadError::ConnectionLost(e)), _) | (_, Some(quinn::WriteError::ConnectionLost(e))) => {
            down(e)
        }
        (Some(other), _) => DownReason::Protocol(other.to_string()),
        _ => DownReason::Connection(error.to_string()),
    }
}

fn down(error: &ConnectionError) -> DownReason {
    match error {
        ConnectionError::ApplicationClosed(_) => DownReason::Closed,
        ConnectionError::LocallyClosed => DownReason::HungUp,
        ConnectionError::TimedOut => DownReason::Silent,
        other => DownReason::Connection(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_lost_a_tenth_of_the_time_late_at_most() {
        for (heartbeat_ms, lost_after_ms) in [(200, 600), (100, 300), (10, 30), (50, 400), (200, 1500)] {
            let [heartbeat, lost_after] = [heartbeat_ms, lost_after_ms].map(Duration::from_millis);
            let tick = tick(heartbeat, None, lost_after);
            // As `watch` counts: it is lost with the first tick beyond its patience.
            let lost = tick.as_micros() * (patience(lost_after, tick) + 1);
            let wanted = lost_after.as_micros();
            assert!(
                (wanted..=wanted + wanted / 10).contains(&lost),
                "{heartbeat_ms}, {lost_after_ms}: {lost} µs"
            );
        }
    }
}
