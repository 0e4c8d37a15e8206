//! Echo over connections that never stay anywhere for long.
//!
//! ```text
//! echo router PORT DVIPA…          moves each client to a target, before it has said anything or after
//! echo target EVERY_MS PORT DVIPA…  sends back what clients send, and moves each on every so many milliseconds
//! ```
//!
//! All targets take turns. What was read and not sent back yet moves as application state, and so does what the client has
//! not acknowledged. A client may end its half first; it still gets everything that it is owed.

mod stream;

use std::error::Error as Failure;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, process};

use app::asynchronous::{Application, RoutingApplication, TargetApplication};
use app::{Error, Registration, Target, Terms, TransferError, Unacknowledged};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use stream::Stream;

const JOB: &str = "echo";
/// How long until the next attempt when there is no target.
const AGAIN: Duration = Duration::from_millis(50);

/// The kernel takes no more than this from a target that the client is not sent at once, bytes.
const UNSENT_BYTES: u32 = 64 * 1024;

type Result<T, E = Box<dyn Failure + Send + Sync>> = std::result::Result<T, E>;

/// The targets in turn.
struct Turns {
    port: u16,
    turn: AtomicUsize,
}

impl Turns {
    /// All targets that there are, but for this stack's, beginning with whose turn it is. If there is no agent for long there are
    /// none, and clients stay where they are.
    async fn next(&self, application: &Application) -> Result<Vec<Target>, Error> {
        let mut targets = match self.others(application).await {
            Err(Error::Connect { .. }) => Vec::new(),
            targets => targets?,
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % targets.len().max(1);
        targets.rotate_left(turn);
        Ok(targets)
    }

    async fn others(&self, application: &Application) -> Result<Vec<Target>, Error> {
        let own = application.stack().await?;
        let mut targets = application.targets(self.port).await?;
        targets.retain(|target| target.job.as_str() == JOB && target.stack != own);
        Ok(targets)
    }
}

async fn route(router: Arc<RoutingApplication>, turns: Arc<Turns>, mut client: TcpStream) -> Result<()> {
    loop {
        for target in turns.next(&router).await? {
            match router.transfer(client, &target, &Terms::new()).await {
                Ok(()) => return Ok(()),
                Err(TransferError { error, stream }) => {
                    eprintln!("{target}: {error}");
                    client = stream;
                }
            }
        }
        sleep(AGAIN).await;
    }
}

async fn router(dvipa: IpAddr, port: u16) -> Result<()> {
    let router = RoutingApplication::register(&Registration::new("router", dvipa, &[port])?).await?;
    let (router, turns) = (Arc::new(router), Arc::new(Turns { port, turn: AtomicUsize::new(0) }));
    let listener = TcpListener::bind((dvipa, port)).await?;
    loop {
        let (client, _) = listener.accept().await?;
        spawn(route(Arc::clone(&router), Arc::clone(&turns), client));
    }
}

/// Echoes and moves on in turns, until the connection is elsewhere or at its end.
async fn serve(
    target: Arc<TargetApplication>,
    turns: Arc<Turns>,
    connection: app::Connection<TcpStream>,
    every: Duration,
) -> Result<()> {
    let mut client = connection.stream;
    // What waits here unsent has to move too.
    SockRef::from(&client).set_tcp_notsent_lowat(UNSENT_BYTES)?;
    let mut stream = connection.state.as_deref().map(Stream::from_state).unwrap_or_default();
    while !stream.go_on(&client, Instant::now() + every).await? {
        let Some(next) = turns.next(&target).await?.into_iter().next() else { continue };
        let state = stream.to_state();
        let terms = Terms::new().state(&state).unacknowledged(Unacknowledged::Carry);
        match target.transfer(client, &next, &terms).await {
            Ok(()) => return Ok(()),
            Err(TransferError { error, stream }) => {
                eprintln!("{next}: {error}");
                client = stream;
            }
        }
    }
    Ok(())
}

async fn target(dvipa: IpAddr, port: u16, every: Duration) -> Result<()> {
    let target = Arc::new(TargetApplication::register(&Registration::new(JOB, dvipa, &[port])?).await?);
    let turns = Arc::new(Turns { port, turn: AtomicUsize::new(0) });
    loop {
        let offer = target.next_offer().await?;
        let (target, turns) = (Arc::clone(&target), Arc::clone(&turns));
        spawn(async move { serve(target, turns, offer.accept().await?, every).await });
    }
}

/// One client's trouble is no other's.
fn spawn(work: impl Future<Output = Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(e) = work.await {
            eprintln!("{e}");
        }
    });
}

async fn run(words: &[&str]) -> Result<()> {
    let mut all = JoinSet::new();
    match words {
        ["router", port, dvipas @ ..] => {
            for dvipa in dvipas {
                all.spawn(router(dvipa.parse()?, port.parse()?));
            }
        }
        ["target", every_ms, port, dvipas @ ..] => {
            let every = Duration::from_millis(every_ms.parse()?);
            for dvipa in dvipas {
                all.spawn(target(dvipa.parse()?, port.parse()?, every));
            }
        }
        _ => return Err("usage: echo router|target …".into()),
    }
    while let Some(ended) = all.join_next().await {
        ended??;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    if let Err(e) = run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await {
        eprintln!("echo: {e}");
        process::exit(1);
    }
}
