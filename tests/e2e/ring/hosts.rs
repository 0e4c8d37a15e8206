//! The applications of the ring: each answers what its client asks, and gives the connection to the next host.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use app::asynchronous::{Application, RoutingApplication, TargetApplication};
use app::{Error, Registration, Target, Terms, TransferError, Unacknowledged};
use lab::Lab;
use lab::spec::DVIPA;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout_at};

use super::HOSTS;
use super::clients::REQUEST_BYTES;
use super::trails::{Step, Trails};

const JOB: &str = "ring";
/// A connection is served for so long at a host.
const STAYS: Duration = Duration::from_millis(5);
/// How long until the next attempt when the agent has ended.
const AGAIN: Duration = Duration::from_millis(20);

/// The applications of all hosts.
pub(crate) struct Ring {
    round: Arc<Round>,
    runtime: Runtime,
}

/// What all of them know.
struct Round {
    trails: Arc<Trails>,
    rests: AtomicBool,
    moved: AtomicUsize,
    failures: Mutex<BTreeMap<String, usize>>,
}

impl Ring {
    pub(crate) fn begin(lab: &Lab, trails: &Arc<Trails>) -> Self {
        let round = Arc::new(Round {
            trails: Arc::clone(trails),
            rests: AtomicBool::new(false),
            moved: AtomicUsize::new(0),
            failures: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("tokio");
        let listener = lab.host("rt1").enter(|| TcpListener::bind((DVIPA.0, 80))).expect("it listens");
        listener.set_nonblocking(true).expect("it does not block");
        let sockets = HOSTS.map(|host| lab.applications(host));
        let [router, first, second] = sockets.map(registration);
        runtime.block_on(async {
            let router = RoutingApplication::register(&router).await.expect("the router registers");
            let router = Arc::new(router);
            tokio::spawn(accept(Arc::clone(&round), listener, Arc::clone(&router)));
            tokio::spawn(take(Arc::clone(&round), router, 0));
            for (registration, host) in [(first, 1), (second, 2)] {
                let target = TargetApplication::register(&registration).await.expect("a target registers");
                tokio::spawn(take(Arc::clone(&round), Arc::new(target), host));
            }
        });
        Self { round, runtime }
    }

    /// Nothing begins to move while this is done.
    pub(crate) fn rest<T>(&self, work: impl FnOnce() -> T) -> T {
        self.round.rests.store(true, Ordering::SeqCst);
        let result = work();
        self.round.rests.store(false, Ordering::SeqCst);
        result
    }

    pub(crate) fn moved(&self) -> usize {
        self.round.moved.load(Ordering::SeqCst)
    }

    /// What applications were told of transfers that failed, and how often.
    pub(crate) fn failures(&self) -> BTreeMap<String, usize> {
        // Its tasks end with the runtime.
        let _ = &self.runtime;
        self.round.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn registration(socket: PathBuf) -> Registration {
    Registration::new(JOB, DVIPA.0.into(), &[80]).expect("a job's name").socket(socket)
}

async fn accept(round: Arc<Round>, listener: TcpListener, router: Arc<RoutingApplication>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, client)) = listener.accept().await else { continue };
        tokio::spawn(serve(Arc::clone(&round), Arc::clone(&router), 0, stream, client, Vec::new()));
    }
}

async fn take<A>(round: Arc<Round>, application: Arc<A>, host: usize)
where
    A: Deref<Target = Application> + Send + Sync + 'static,
{
    loop {
        let Ok(offer) = application.next_offer().await else {
            sleep(AGAIN).await;
            continue;
        };
        let (round, application) = (Arc::clone(&round), Arc::clone(&application));
        tokio::spawn(async move {
            let client = offer.client();
            match offer.accept().await {
                Ok(connection) => {
                    let state = connection.state.unwrap_or_default();
                    serve(round, application, host, connection.stream, client, state).await;
                }
                Err(Error::Closed) => round.trails.note(client, Step::Closed(HOSTS[host])),
                Err(e) => round.trails.note(client, Step::Withdrawn(HOSTS[host], e.to_string())),
            }
        });
    }
}

/// Answers until the connection is elsewhere, or over.
async fn serve<A>(
    round: Arc<Round>,
    application: Arc<A>,
    host: usize,
    mut stream: TcpStream,
    client: SocketAddr,
    mut unanswered: Vec<u8>,
) where
    A: Deref<Target = Application> + Send + Sync + 'static,
{
    let name = HOSTS[host];
    round.trails.note(client, Step::Came(name));
    loop {
        match timeout_at(Instant::now() + STAYS, answer(&stream, &mut unanswered)).await {
            Ok(ended) => return round.trails.note(client, Step::Ended(name, format!("{ended:?}"))),
            Err(_) if round.rests.load(Ordering::SeqCst) => continue,
            Err(_) => {}
        }
        let terms = Terms::new().state(&unanswered).unacknowledged(Unacknowledged::Carry);
        let moved = match HOSTS.get(host + 1) {
            Some(next) => application.transfer(stream, &target(next), &terms).await,
            None => application.complete(stream, &terms).await,
        };
        match moved {
            Ok(()) => {
                round.moved.fetch_add(1, Ordering::SeqCst);
                return round.trails.note(client, Step::Left(name));
            }
            Err(TransferError { error, stream: back }) => {
                stream = back;
                let why = error.to_string();
                *round
                    .failures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(why.clone())
                    .or_default() += 1;
                round.trails.note(client, Step::Stayed(name, why));
                sleep(AGAIN).await;
            }
        }
    }
}

fn target(stack: &str) -> Target {
    format!("{JOB}@{stack}").parse().expect("JOB@STACK")
}

/// Sends each whole request back. May be given up at any `await`: what was read is in `unanswered` or answered.
async fn answer(stream: &TcpStream, unanswered: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 4096];
    loop {
        let whole = unanswered.len() / REQUEST_BYTES * REQUEST_BYTES;
        if whole > 0 {
            stream.writable().await?;
            match stream.try_write(&unanswered[..whole]) {
                Ok(bytes) => drop(unanswered.drain(..bytes)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            continue;
        }
        stream.readable().await?;
        match stream.try_read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(bytes) => unanswered.extend(&piece[..bytes]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}
