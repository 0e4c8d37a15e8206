//! The pause that a client sees when its connection moves.
//!
//! Clients with keep-alive connections ask, one byte each, to be answered, now from where the connection is, now from the
//! other target. *Pause*: the time from such a question to its answer where the connection moves in between, less the median
//! of the time where it does not. *Fresh*: connecting to a port of the same DVIPA whose connections do not move, one
//! question and its answer. Both go on at the same time, so that they share the machine's good and bad moments.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::inhabitant;
use super::movers::{ANSWER, MOVE, Movers, moved, unmoved};
use super::samples::Samples;
use super::{Failure, Size};
use crate::rows::Rows;

pub(super) const ROWS: [&str; 2] = ["transfer_pause_p50_ratio", "transfer_pause_p99_ratio"];

/// Transfers a second: the first of these that the machine keeps up with.
const RATES: [u32; 6] = [1000, 750, 500, 250, 100, 50];
/// So much of a rate must be reached.
const KEPT: f64 = 0.95;
const CLIENTS: u32 = 64;
/// Moves for each question without, and for each fresh connection.
const OTHERS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(5);

/// What clients saw.
#[derive(Default)]
struct Seen {
    moved: Samples,
    unmoved: Samples,
    fresh: Samples,
    stayed: u32,
}

pub(super) fn measure(rows: &mut Rows, movers: &Movers, size: Size) -> Result<(), Failure> {
    let mut seen = Err("no transfer was made".into());
    for rate in RATES {
        seen = movers.lab.client().enter(|| inhabitant::run(drive(rate, size.seconds(8))));
        let made = match &seen {
            Ok(seen) => f64::from(seen.moved.len() as u32) / size.seconds(8).as_secs_f64(),
            Err(_) => 0.0,
        };
        if seen.as_ref().is_ok_and(|seen| seen.stayed == 0) && made >= KEPT * f64::from(rate)
            || size == Size::Tiny
        {
            return seen.map(|seen| report(rows, rate, &seen));
        }
        let why = seen.as_ref().err().map_or_else(String::new, |e| format!(": {e}"));
        eprintln!("{rate} transfers a second are not kept up, {made:.0} are{why}");
    }
    seen.map(drop)
}

fn report(rows: &mut Rows, rate: u32, seen: &Seen) {
    let usual = seen.unmoved.percentile_us(50);
    for (name, percent) in ROWS.into_iter().zip([50, 99]) {
        let (moved, fresh) = (seen.moved.percentile_us(percent), seen.fresh.percentile_us(percent));
        let note = format!(
            "{rate} transfers/s: question and answer {moved:.0} µs with a move, usually {usual:.0}; fresh {fresh:.0}; {} moves, {} stayed",
            seen.moved.len(),
            seen.stayed
        );
        rows.add(name, "x", (moved - usual) / fresh, note);
    }
}

/// All clients, for so long.
async fn drive(rate: u32, time: Duration) -> Result<Seen, Failure> {
    let mut clients = JoinSet::new();
    let every = Duration::from_secs(1) * CLIENTS / rate;
    let begin = Instant::now() + Duration::from_millis(300);
    for n in 0..CLIENTS {
        let first = begin + every * n / CLIENTS;
        clients.spawn_local(client(n, first, every, begin + time));
    }
    let mut all = Seen::default();
    while let Some(one) = clients.join_next().await {
        let Seen { moved, unmoved, fresh, stayed } = one??;
        all.moved.extend(moved);
        all.unmoved.extend(unmoved);
        all.fresh.extend(fresh);
        all.stayed += stayed;
    }
    Ok(all)
}

/// One client: a question that moves its connection every so often, and between some of them one of the other kinds.
async fn client(number: u32, first: Instant, every: Duration, end: Instant) -> Result<Seen, Failure> {
    let mut stream = TcpStream::connect(moved()).await?;
    stream.set_nodelay(true)?;
    ask(&mut stream, MOVE).await?;
    let mut seen = Seen::default();
    let (mut at, mut turn) = (first, number);
    while at < end {
        sleep_until(at.into()).await;
        let (answer, took) = ask(&mut stream, MOVE).await?;
        if answer == MOVE {
            seen.moved.add(took)
        } else {
            seen.stayed += 1
        }
        turn += 1;
        if turn % OTHERS == 0 {
            sleep_until((at + every / 2).into()).await;
            seen.unmoved.add(ask(&mut stream, ANSWER).await?.1);
        } else if turn % OTHERS == 1 {
            sleep_until((at + every / 2).into()).await;
            seen.fresh.add(fresh(unmoved()).await?);
        }
        at += every;
    }
    Ok(seen)
}

/// Moves connections as fast as it can be done, for so long; how many moves there were.
pub(super) fn flat_out(time: Duration) -> Result<u32, Failure> {
    inhabitant::run(async {
        let end = Instant::now() + time;
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn_local(async move {
                let (mut stream, mut moves) = (TcpStream::connect(moved()).await?, 0);
                stream.set_nodelay(true)?;
                ask(&mut stream, MOVE).await?;
                while Instant::now() < end {
                    moves += u32::from(ask(&mut stream, MOVE).await?.0 == MOVE);
                }
                Ok::<_, Failure>(moves)
            });
        }
        let mut all = 0;
        while let Some(one) = clients.join_next().await {
            all += one??;
        }
        Ok(all)
    })
}

async fn ask(stream: &mut TcpStream, question: u8) -> io::Result<(u8, Duration)> {
    let begun = Instant::now();
    stream.write_u8(question).await?;
    let answer = timeout(PATIENCE, stream.read_u8()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok((answer, begun.elapsed()))
}

async fn fresh(to: SocketAddr) -> io::Result<Duration> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    ask(&mut stream, ANSWER).await?;
    Ok(begun.elapsed())
}
