//! Clients that go on while routing nodes die: most ask again and again over a connection that they keep, some download over one.
//! A client whose connection is reset opens another one at once. Beside them, a new client comes every few milliseconds.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lab::Lab;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{interval, sleep, timeout};

use super::PATIENCE;
use crate::timing::sized;
use crate::transfer::{Failure, Inhabitant, read_head};

/// Clients that ask, and how long each waits between an answer and the next question.
const ASKING: u64 = 64;
const PAUSE: Duration = Duration::from_millis(20);
/// Clients that download, one time after the other.
const DOWNLOADING: u64 = 4;
/// A new client comes this often, and gives up after a while that is too short for a second SYN.
const NEW: Duration = Duration::from_millis(10);
const GIVES_UP: Duration = Duration::from_millis(500);
/// A client that hears nothing for so long gives its connection up. One that downloads has no other way to find out that its server is
/// gone: it sends nothing that could be answered with a RST.
const SILENCE: Duration = Duration::from_secs(5);
/// A client that finds no server tries again after this long.
const AGAIN: Duration = Duration::from_millis(10);
/// What downloads consist of, and how much that is.
const CONTENT: u8 = b'b';
const DOWNLOAD_BYTES: usize = 8 << 20;
/// Bytes of a download count as heard at most this often.
const LOOK: Duration = Duration::from_millis(1);

/// Some time in which something happens to the nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

/// What one client has seen.
#[derive(Debug, Default)]
struct Record {
    /// When an answer, or some of it, came.
    heard: Vec<Instant>,
    /// When an open connection ended before its answer was whole.
    ended: Vec<Instant>,
    /// Downloads that were not as the server has them.
    damaged: usize,
}

impl Record {
    /// Some bytes of a download came.
    fn hears_some(&mut self) {
        let now = Instant::now();
        if self.heard.last().is_none_or(|last| now - *last >= LOOK) {
            self.heard.push(now);
        }
    }
}

/// When a new client came and when it was answered.
type Visit = (Instant, Instant);

/// All of them, until this is dropped.
pub(super) struct Clients {
    _threads: [Inhabitant; 2],
    records: Vec<Arc<Mutex<Record>>>,
    visits: Arc<Mutex<Vec<Visit>>>,
}

impl Clients {
    /// Starts them, and waits until every one was answered.
    pub(super) fn start(lab: &Lab, to: SocketAddr) -> Result<Self, Failure> {
        let records: Vec<Arc<Mutex<Record>>> =
            (0..asking() + downloading()).map(|_| Arc::default()).collect();
        let (those, visits) = (records.clone(), Arc::<Mutex<Vec<Visit>>>::default());
        let clients = Inhabitant::start(lab.client(), move || async move {
            for (n, record) in (0_u32..).zip(those) {
                // They do not all ask at the same time.
                let first = PAUSE * n / 64;
                spawn_local(async move {
                    sleep(first).await;
                    goes_on(to, u64::from(n) >= asking(), record).await
                });
            }
            std::future::pending().await
        });
        let of_visitors = Arc::clone(&visits);
        let visitors = Inhabitant::start(lab.client(), move || visitors(to, of_visitors));
        let all = Self { _threads: [clients, visitors], records, visits };
        all.wait_until_answered(lab, Instant::now())?;
        Ok(all)
    }

    /// How many there are that keep connections.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Waits until every client has heard something, and a new one was answered that came, after this moment.
    pub(super) fn wait_until_answered(&self, lab: &Lab, since: Instant) -> Result<(), Failure> {
        lab.wait_for("every client to be answered", PATIENCE, || {
            let silent =
                |record: &&Arc<Mutex<Record>>| lock(record).heard.last().is_none_or(|at| *at <= since);
            let silent = self.records.iter().filter(silent).count();
            let visited = lock(&self.visits).last().is_some_and(|(came, _)| *came > since);
            if silent == 0 && visited {
                Ok(())
            } else {
                Err(format!("{silent} clients are not, visited {visited}"))
            }
        })?;
        Ok(())
    }

    /// For how long each client heard nothing at most, of this time.
    pub(super) fn outages(&self, window: Window) -> Vec<Duration> {
        self.first_outages(self.records.len(), window)
    }

    /// The same of those that ask.
    pub(super) fn outages_of_asking(&self, window: Window) -> Vec<Duration> {
        self.first_outages(asking() as usize, window)
    }

    fn first_outages(&self, clients: usize, window: Window) -> Vec<Duration> {
        self.records.iter().take(clients).map(|record| longest_gap(&lock(record).heard, window)).collect()
    }

    /// From the begin of this time until a new client was answered again: those that came before were not.
    pub(super) fn first_answer(&self, window: Window) -> Duration {
        let visits = lock(&self.visits);
        let answered: Vec<Instant> = visits.iter().map(|(_, answered)| *answered).collect();
        let gap = gaps(&answered, window).max_by_key(|(from, to)| *to - *from);
        gap.map_or(Duration::ZERO, |(_, to)| to.saturating_duration_since(window.from))
    }

    /// Connections that ended before an answer was whole, so far.
    pub(super) fn ended(&self) -> usize {
        self.records.iter().map(|record| lock(record).ended.len()).sum()
    }

    /// Downloads that were not as the server has them, so far.
    pub(super) fn damaged(&self) -> usize {
        self.records.iter().map(|record| lock(record).damaged).sum()
    }
}

/// Segments that the clients' kernel has sent again so far.
pub(super) fn sent_again(lab: &Lab) -> Result<u64, Failure> {
    let text = lab.client().run(&["nstat", "-asz", "TcpRetransSegs"])?;
    let row = text.lines().find(|line| line.starts_with("TcpRetransSegs")).unwrap_or_default();
    Ok(row.split_whitespace().nth(1).ok_or("nstat has no TcpRetransSegs")?.parse()?)
}

fn asking() -> u64 {
    sized(ASKING, 8)
}

fn downloading() -> u64 {
    sized(DOWNLOADING, 1)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The times between two moments that follow each other, of those that are within this time in part.
fn gaps(heard: &[Instant], window: Window) -> impl Iterator<Item = (Instant, Instant)> {
    let ends = heard.iter().copied().skip(1).chain([window.to]);
    let pairs = heard.iter().copied().zip(ends);
    pairs.filter(move |(from, to)| *to > window.from && *from < window.to && from < to)
}

fn longest_gap(heard: &[Instant], window: Window) -> Duration {
    gaps(heard, window).map(|(from, to)| to - from).max().unwrap_or_default()
}

/// One client: opens a connection, uses it until it ends, and opens another one.
async fn goes_on(to: SocketAddr, downloads: bool, record: Arc<Mutex<Record>>) {
    loop {
        if let Ok(stream) = TcpStream::connect(to).await {
            let outcome =
                if downloads { download(stream, &record).await } else { ask(stream, &record).await };
            if outcome.is_err() {
                lock(&record).ended.push(Instant::now());
            }
        }
        sleep(AGAIN).await;
    }
}

/// Asks until the connection ends.
async fn ask(mut stream: TcpStream, record: &Mutex<Record>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut ahead = Vec::new();
    loop {
        let body = request(&mut stream, "/", &mut ahead).await?;
        while ahead.len() < body {
            read_more(&mut stream, &mut ahead).await?;
        }
        ahead.drain(..body);
        lock(record).heard.push(Instant::now());
        sleep(PAUSE).await;
    }
}

/// Downloads until the connection ends, and looks at every byte.
async fn download(mut stream: TcpStream, record: &Mutex<Record>) -> std::io::Result<()> {
    let mut ahead = Vec::with_capacity(256 << 10);
    loop {
        let body = request(&mut stream, "/slow-enough", &mut ahead).await?;
        let (mut left, mut right) = (body, body == DOWNLOAD_BYTES);
        loop {
            lock(record).hears_some();
            right &= ahead.len() <= left && ahead.iter().all(|byte| *byte == CONTENT);
            left = left.saturating_sub(ahead.len());
            ahead.clear();
            if left == 0 {
                break;
            }
            read_more(&mut stream, &mut ahead).await?;
        }
        lock(record).damaged += usize::from(!right);
    }
}

/// Requests a path, and returns the length of the body that follows.
async fn request(stream: &mut TcpStream, path: &str, ahead: &mut Vec<u8>) -> std::io::Result<usize> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n").as_bytes()).await?;
    let head =
        timeout(SILENCE, read_head(stream, ahead)).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
    let head = head.ok_or(std::io::ErrorKind::UnexpectedEof)?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let ok = head.lines().next().is_some_and(|line| line.contains(" 200 "));
    length.filter(|_| ok).ok_or(std::io::ErrorKind::InvalidData.into())
}

async fn read_more(stream: &mut TcpStream, into: &mut Vec<u8>) -> std::io::Result<()> {
    match timeout(SILENCE, stream.read_buf(into)).await {
        Ok(Ok(0)) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Ok(read) => read.map(drop),
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// New clients that ask one thing each.
async fn visitors(to: SocketAddr, visits: Arc<Mutex<Vec<Visit>>>) -> Result<(), Failure> {
    let mut due = interval(NEW);
    loop {
        due.tick().await;
        let visits = Arc::clone(&visits);
        spawn_local(async move {
            let came = Instant::now();
            let visit = async {
                let mut stream = TcpStream::connect(to).await?;
                request(&mut stream, "/", &mut Vec::new()).await
            };
            if let Ok(Ok(_)) = timeout(GIVES_UP, visit).await {
                lock(&visits).push((came, Instant::now()));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_the_one_that_reaches_into_the_window() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let heard = [0, 400, 410, 1000, 1010].map(at);
        let gap = |from, to| longest_gap(&heard, Window { from: at(from), to: at(to) }).as_millis();
        assert_eq!((gap(405, 1005), gap(402, 409), gap(1005, 1500), gap(0, 2000)), (590, 10, 490, 990));
    }
}
