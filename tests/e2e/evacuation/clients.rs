//! Clients that use a connection for several transactions, check every byte, and tell what they did not get.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lab::{Lab, Namespace};

use crate::fixture::{SOON, web4, web6};

/// Bytes of `/big` and its like.
const BIG_BYTES: usize = 8 << 20;
/// Longer than any stall that TCP itself could cause on these links.
const STUCK: Duration = Duration::from_secs(30);
const PIECE_BYTES: usize = 64 << 10;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Small answers, with pauses of up to a second.
    KeepAlive,
    /// Small answers, one right after the other.
    Busy,
    /// 8 MiB as fast as they come.
    Download,
    /// The same from a server that uses sendfile(2).
    Sendfile,
    /// The client reads some MB/s.
    SlowReader,
    /// The client stops reading for up to two seconds.
    StallingReader,
    /// The server sends 256 kB/s.
    RateLimited,
    /// The answer comes in chunks.
    Chunked,
    /// The answer comes in chunks, to a slow client.
    SlowChunked,
    /// The client sends 2 MiB as fast as it can.
    Upload,
    /// It stops sending for up to two seconds.
    StallingUpload,
    /// HTTP over TLS.
    Encrypted,
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::KeepAlive,
        Self::Busy,
        Self::Download,
        Self::Sendfile,
        Self::SlowReader,
        Self::StallingReader,
        Self::RateLimited,
        Self::Chunked,
        Self::SlowChunked,
        Self::Upload,
        Self::StallingUpload,
        Self::Encrypted,
    ];

    /// How many there are in a crowd.
    pub(crate) fn clients(self) -> usize {
        match self {
            Self::KeepAlive => 60,
            Self::Busy | Self::Download | Self::Sendfile | Self::Chunked | Self::Upload => 2,
            Self::Encrypted => 4,
            Self::SlowReader
            | Self::StallingReader
            | Self::RateLimited
            | Self::SlowChunked
            | Self::StallingUpload => 8,
        }
    }

    /// One transaction.
    fn transact(self, http: &mut Http, rng: &mut fastrand::Rng) -> io::Result<()> {
        let stall = |rng: &mut fastrand::Rng| Duration::from_millis(rng.u64(0..2000));
        match self {
            Self::KeepAlive => {
                http.get("/", "", |_| ())?;
                thread::sleep(Duration::from_millis(rng.u64(0..1000)));
            }
            Self::Busy => drop(http.get("/", "", |_| ())?),
            Self::Download => http.big("/big", "", |_| ())?,
            Self::Sendfile => http.big("/sent", "", |_| ())?,
            Self::SlowReader => http.big("/big", "", |_| thread::sleep(Duration::from_millis(20)))?,
            Self::StallingReader => {
                let at = rng.usize(0..BIG_BYTES);
                let (pause, mut read) = (stall(rng), 0);
                http.big("/big", "", |bytes| {
                    if (read..read + bytes).contains(&at) {
                        thread::sleep(pause);
                    }
                    read += bytes;
                })?;
            }
            Self::RateLimited => {
                // Some seconds' worth.
                let bytes = http.get("/slow", "Range: bytes=0-1048575\r\n", |_| ())?;
                check(bytes == 1 << 20, || format!("{bytes} bytes"))?;
            }
            Self::Chunked => http.big("/text", "Accept-Encoding: gzip\r\n", |_| ())?,
            Self::SlowChunked => {
                http.big("/text", "Accept-Encoding: gzip\r\n", |_| {
                    thread::sleep(Duration::from_millis(rng.u64(0..300)))
                })?;
            }
            Self::Upload => http.put(Duration::ZERO, rng)?,
            Self::StallingUpload => http.put(stall(rng), rng)?,
            Self::Encrypted => unreachable!("a program of its own"),
        }
        Ok(())
    }
}

fn check(good: bool, what: impl FnOnce() -> String) -> io::Result<()> {
    if good { Ok(()) } else { Err(io::Error::other(what())) }
}

/// A client's connection.
struct Http {
    stream: BufReader<TcpStream>,
}

impl Http {
    fn open(ns: &Namespace, to: SocketAddr) -> io::Result<Self> {
        let stream = ns.enter(|| TcpStream::connect_timeout(&to, STUCK))?;
        stream.set_read_timeout(Some(STUCK))?;
        stream.set_write_timeout(Some(STUCK))?;
        Ok(Self { stream: BufReader::with_capacity(PIECE_BYTES, stream) })
    }

    /// Requests a path, calls `each` for each piece of the body, and returns how long that is.
    fn get(&mut self, path: &str, header: &str, each: impl FnMut(usize)) -> io::Result<usize> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n{header}\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.answer(each)
    }

    /// Requests what has 8 MiB, or chunks.
    fn big(&mut self, path: &str, header: &str, each: impl FnMut(usize)) -> io::Result<()> {
        let bytes = self.get(path, header, each)?;
        check(bytes == BIG_BYTES || path == "/text", || format!("{bytes} bytes of {path}"))
    }

    /// Sends 2 MiB and stops in the middle for so long.
    fn put(&mut self, pause: Duration, rng: &mut fastrand::Rng) -> io::Result<()> {
        let (bytes, name) = (2 << 20, rng.u8(..));
        let request = format!("PUT /put/{name} HTTP/1.1\r\nHost: lab\r\nContent-Length: {bytes}\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let piece = [b'u'; PIECE_BYTES];
        let pieces = bytes / PIECE_BYTES;
        let stops_at = rng.usize(0..pieces);
        for number in 0..pieces {
            if number == stops_at {
                thread::sleep(pause);
            }
            self.stream.get_mut().write_all(&piece)?;
        }
        self.answer(|_| ()).map(drop)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        check(self.stream.read_line(&mut line)? > 0, || "the connection ended".to_owned())?;
        Ok(line.trim_end().to_owned())
    }

    fn answer(&mut self, mut each: impl FnMut(usize)) -> io::Result<usize> {
        let status = self.line()?;
        check(status.starts_with("HTTP/1.1 20"), || format!("the answer is `{status}`"))?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().map_err(io::Error::other)?;
            }
            is_chunked |= line == "transfer-encoding: chunked";
            if line.is_empty() {
                break;
            }
        }
        if !is_chunked {
            return self.body(length, &mut each);
        }
        let mut all = 0;
        loop {
            let line = self.line()?;
            let bytes = usize::from_str_radix(&line, 16)
                .map_err(|_| io::Error::other(format!("`{line}` is no chunk")))?;
            all += self.body(bytes, &mut each)?;
            check(self.line()?.is_empty(), || "a chunk has no end".to_owned())?;
            if bytes == 0 {
                return Ok(all);
            }
        }
    }

    fn body(&mut self, bytes: usize, each: &mut impl FnMut(usize)) -> io::Result<usize> {
        let (mut piece, mut left) = (vec![0; PIECE_BYTES], bytes);
        while left > 0 {
            let wanted = left.min(PIECE_BYTES);
            let read = self.stream.read(&mut piece[..wanted])?;
            check(read > 0, || format!("the connection ended {left} of {bytes} bytes before the end"))?;
            left -= read;
            each(read);
        }
        Ok(bytes)
    }
}

/// What all clients of a crowd share.
#[derive(Debug, Default)]
struct Shared {
    ends: AtomicBool,
    transactions: AtomicU64,
    broken: Mutex<Vec<String>>,
}

/// Many clients at once.
pub(crate) struct Crowd<'a> {
    lab: &'a Lab,
    rng: fastrand::Rng,
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
    encrypted: Vec<Child>,
}

impl<'a> Crowd<'a> {
    pub(crate) fn begin(lab: &'a Lab, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { lab, rng, shared: Arc::default(), clients: Vec::new(), encrypted: Vec::new() }
    }

    /// One more client, which goes on until the crowd ends or something is wrong.
    pub(crate) fn add(&mut self, kind: Kind) {
        let to = if self.clients.len().is_multiple_of(2) { web4() } else { web6() };
        self.add_to(kind, to);
    }

    /// As [`Crowd::add`], for a client of this address.
    pub(crate) fn add_to(&mut self, kind: Kind, to: SocketAddr) {
        let mut rng = self.rng.fork();
        if kind == Kind::Encrypted {
            return self.add_encrypted(to);
        }
        let (ns, shared) = (self.lab.client().clone(), Arc::clone(&self.shared));
        self.clients.push(thread::spawn(move || {
            while !shared.ends.load(Ordering::Relaxed) {
                let (mut done, mut own) = (0, None);
                let outcome = Http::open(&ns, to).and_then(|mut http| {
                    own = Some(http.stream.get_ref().local_addr()?);
                    for _ in 0..rng.usize(2..40) {
                        kind.transact(&mut http, &mut rng)?;
                        done += 1;
                        shared.transactions.fetch_add(1, Ordering::Relaxed);
                        if shared.ends.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    Ok(())
                });
                if let Err(e) = outcome {
                    let what = format!("{kind:?} from {own:?} to {to} in transaction {}: {e}", done + 1);
                    return shared.broken.lock().unwrap_or_else(PoisonError::into_inner).push(what);
                }
            }
        }));
    }

    fn add_encrypted(&mut self, to: SocketAddr) {
        let script = include_str!("tls.py");
        let mut python = self.lab.client().command("python3");
        python.args(["-c", script, &to.ip().to_string(), &self.rng.u32(..).to_string()]);
        let python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = python.spawn().expect("python3 starts");
        let answers = BufReader::new(child.stdout.take().expect("its output is piped"));
        let shared = Arc::clone(&self.shared);
        self.clients.push(thread::spawn(move || {
            for _ in answers.lines() {
                shared.transactions.fetch_add(1, Ordering::Relaxed);
            }
        }));
        self.encrypted.push(child);
    }

    /// Waits until all are connected, and so many others.
    pub(crate) fn wait_until_all_are_connected(&self, others: usize) {
        let wanted = self.clients.len() + others;
        let established = || {
            let rows =
                self.lab.crt(&["--state", "established", "--limit", "10000"]).map_err(|e| e.to_string())?;
            if rows.len() >= wanted { Ok(()) } else { Err(format!("{} of {wanted}", rows.len())) }
        };
        let waited = self.lab.wait_for("the clients to be connected", 3 * SOON, established);
        waited.unwrap_or_else(|e| panic!("{e}; {:?}", self.broken()));
    }

    pub(crate) fn transactions(&self) -> u64 {
        self.shared.transactions.load(Ordering::Relaxed)
    }

    /// What clients did not get so far.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has all clients end after their present transaction; what they did not get.
    pub(crate) fn end(self) -> Vec<String> {
        self.shared.ends.store(true, Ordering::Relaxed);
        let mut broken = Vec::new();
        for child in self.encrypted {
            let output = child.wait_with_output().expect("python3 ends");
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                broken.push(format!("Encrypted: {}", said.trim().lines().last().unwrap_or_default()));
            }
        }
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        broken.extend(self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
        broken
    }
}

/// A client of a server that answers lines.
pub(crate) struct Lines(BufReader<TcpStream>);

impl Lines {
    pub(crate) fn open(lab: &Lab, to: SocketAddr) -> Self {
        let http = Http::open(lab.client(), to).expect("it connects");
        Self(http.stream)
    }

    /// The answer to a line.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.say(&format!("{line}\n"));
        let mut answer = String::new();
        self.0.read_line(&mut answer).expect("it is answered");
        answer.trim_end().to_owned()
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("it is sent");
    }

    /// What is said up to the first of these words, and what of it came in one piece.
    pub(crate) fn hear_until(&mut self, word: &str) -> String {
        let mut heard = String::new();
        while !heard.contains(word) {
            let piece = self.0.fill_buf().expect("it is answered");
            assert!(!piece.is_empty(), "the connection ended after `{heard}`");
            let bytes = piece.len();
            heard += &String::from_utf8_lossy(piece);
            self.0.consume(bytes);
        }
        // The end of a body in chunks.
        heard.truncate(heard.find(word).map_or(0, |at| at + word.len()));
        heard
    }
}
