//! The fourth act: the routing node dies while clients use it, another one takes its place, and it comes back.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton_lab::client::HttpConnection;
use baton_lab::spec::{DVIPA, RoutingNode};
use baton_lab::{Lab, LabError, Result};

use super::{Demo, TARGETS, in_words};

/// What is downloaded: more than is read before the end is allowed.
const DOWNLOAD_BYTES: u64 = 200_000_000;
/// The download reads so much at a time and pauses, 4 MB/s, until it may end.
const PIECE_BYTES: usize = 40_000;
const PAUSE: Duration = Duration::from_millis(10);
/// The session asks this often.
const ASK: Duration = Duration::from_millis(50);
/// Clients go on for so long before and after something happens.
const REST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// How long a client waited, and until when.
type Wait = (Instant, Duration);

/// Both DVIPAs, for the node that stands by. It distributes them as their owner does.
pub(super) fn backup() -> String {
    let each = |address: &str| format!("[[vipadynamic.vipabackup]]\naddress = \"{address}\"\nrank = 100\n");
    format!("[[vipadynamic]]\n{}{}", each(&DVIPA.0.to_string()), each(&DVIPA.1.to_string()))
}

/// What a client got, or why it did not get all, and how long it waited for each piece of it.
struct Seen<T> {
    got: io::Result<T>,
    waits: Vec<Wait>,
}

/// When the node was killed, and when it was started again.
struct Happened {
    killed: Instant,
    back: Instant,
}

impl Demo {
    /// Kills `batond` of `rt1` while a download and a session run, starts it again, and says what clients saw of both.
    pub(super) fn takeover(&mut self, lab: &Lab) -> Result<()> {
        self.step(&format!(
            "a client downloads {} MB, another one keeps a session; rt2 stands by",
            DOWNLOAD_BYTES / 1_000_000
        ));
        let content = format!("{} content {DOWNLOAD_BYTES}", lab.example("http")?.display());
        for target in TARGETS {
            let file = lab.files().join(format!("nginx-{target}/www/download"));
            lab.host(target).sh(&format!("{content} >{}", file.display()))?;
        }
        let (download, session) = (open(lab)?, open(lab)?);
        let clients = [download.local(), session.local()].map(|client| client.to_string());
        wait_until_known(lab, &clients)?;
        let (resets_before, got, may_end) =
            (resets(lab)?, lab.files().join("download"), AtomicBool::new(false));
        let (downloaded, asked, happened) = thread::scope(|scope| {
            let downloaded = scope.spawn(|| read_slowly(download.into_stream(), &got, &may_end));
            let asked = scope.spawn(|| ask(session, &may_end));
            let happened = self.kill_and_come_back(lab);
            may_end.store(true, Ordering::Relaxed);
            self.step("the download may take what is left of it at once");
            let downloaded = downloaded.join().unwrap_or_else(|panic| resume_unwind(panic));
            let asked = asked.join().unwrap_or_else(|panic| resume_unwind(panic));
            happened.map(|happened| (downloaded, asked, happened))
        })?;
        println!("   the longest wait      when it was killed    when it came back");
        happened.print("of the download", &downloaded.waits);
        happened.print("of the session", &asked.waits);
        let sum = lab.client().sh(&format!("sha256sum <{}", got.display()))?;
        let is_right = sum == lab.client().sh(&format!("{content} | sha256sum"))?;
        let seen = match downloaded.got {
            Ok(bytes) => format!("{bytes} bytes, sha256 {}…", sum.get(..16).unwrap_or_default()),
            Err(cause) => cause.to_string(),
        };
        self.verdict.claim("the checksum of the download is right", is_right, &seen);
        let (held, seen) = match asked.got {
            Ok(answers) => (answers.len() == 1, in_words(&answers)),
            Err(cause) => (false, cause.to_string()),
        };
        self.verdict.claim("every question of the session was answered, by one server", held, &seen);
        let reset = resets(lab)?.saturating_sub(resets_before);
        self.verdict.claim("no connection was reset", reset == 0, &format!("{reset} reset at the client"));
        Ok(())
    }

    /// The owner is killed, the node that stands by takes over; the owner comes back and takes back.
    fn kill_and_come_back(&mut self, lab: &Lab) -> Result<Happened> {
        thread::sleep(REST);
        self.step("killing batond of rt1 with kill -9");
        let killed = Instant::now();
        lab.kill(RoutingNode::First.batond())?;
        wait_for_owner(lab, RoutingNode::Second)?;
        let seen = format!("seen {} ms after the kill", killed.elapsed().as_millis());
        self.verdict.claim("rt2 owns the addresses", true, &seen);
        thread::sleep(REST);
        println!("\n$ baton vipa\n{}\n", lab.baton_at(RoutingNode::Second, &["vipa"])?.trim_end());
        self.step("starting batond of rt1 again");
        let back = Instant::now();
        lab.start_batond_of(RoutingNode::First)?;
        wait_for_owner(lab, RoutingNode::First)?;
        let seen = format!("seen {} ms after its start", back.elapsed().as_millis());
        self.verdict.claim("rt1 owns them again", true, &seen);
        thread::sleep(REST);
        Ok(Happened { killed, back })
    }
}

impl Happened {
    fn print(&self, whose: &str, waits: &[Wait]) {
        let longest = |from: Instant, to: Option<Instant>| {
            let within = waits.iter().filter(|(until, _)| *until > from && to.is_none_or(|to| *until <= to));
            within.map(|(_, wait)| *wait).max().unwrap_or_default().as_millis()
        };
        let (killed, back) = (longest(self.killed, Some(self.back)), longest(self.back, None));
        println!("   {whose:18} {killed:18} ms {back:17} ms");
    }
}

fn open(lab: &Lab) -> Result<HttpConnection> {
    let connection = HttpConnection::open_patiently(lab.client(), (DVIPA.0, 80).into(), LONGEST);
    connection.map_err(|e| LabError::Answer { command: "connect".to_owned(), what: e.to_string() })
}

/// Waits until the node that stands by knows these clients' connections, as it hears of them from the agents.
fn wait_until_known(lab: &Lab, clients: &[String]) -> Result<()> {
    lab.wait_for("rt2 to know the connections", LONGEST, || {
        let known =
            lab.crt_at(RoutingNode::Second, &["--state", "established"]).map_err(|e| e.to_string())?;
        let is_known = |client: &&String| known.iter().any(|row| row.client == **client);
        match clients.iter().find(|client| !is_known(client)) {
            None => Ok(()),
            Some(client) => Err(format!("{client} is unknown")),
        }
    })
}

/// Waits until a node owns all DVIPAs.
fn wait_for_owner(lab: &Lab, node: RoutingNode) -> Result<()> {
    lab.wait_for(&format!("{} to own the addresses", node.name()), LONGEST, || {
        let view = lab.baton_json_at(node, &["vipa"]).map_err(|e| e.to_string())?;
        let dvipas = view["dvipas"].as_array().ok_or("no dvipas")?;
        if dvipas.iter().all(|dvipa| dvipa["role"] == "owner") { Ok(()) } else { Err(view.to_string()) }
    })
}

/// Connections of the client that were reset, as its kernel counts them.
fn resets(lab: &Lab) -> Result<u64> {
    let row = lab.client().sh("nstat -asz TcpEstabResets | grep ^TcpEstabResets")?;
    Ok(row.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or_default())
}

/// Downloads into a file, slowly until it may end.
fn read_slowly(mut stream: TcpStream, into: &Path, may_end: &AtomicBool) -> Seen<u64> {
    let mut waits = Vec::new();
    let got = (|| {
        stream.write_all(b"GET /files/download HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
        let (mut reader, mut line) = (BufReader::with_capacity(PIECE_BYTES, stream), String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let (mut file, mut piece, mut bytes) = (fs::File::create(into)?, vec![0; PIECE_BYTES], 0);
        loop {
            let begun = Instant::now();
            let length = reader.read(&mut piece)?;
            waits.push((Instant::now(), begun.elapsed()));
            if length == 0 {
                return Ok(bytes);
            }
            file.write_all(piece.get(..length).unwrap_or_default())?;
            bytes += length as u64;
            if !may_end.load(Ordering::Relaxed) {
                thread::sleep(PAUSE);
            }
        }
    })();
    Seen { got, waits }
}

/// Asks again and again over one connection, and counts the answers by server.
fn ask(mut session: HttpConnection, may_end: &AtomicBool) -> Seen<BTreeMap<String, usize>> {
    let (mut answers, mut waits) = (BTreeMap::new(), Vec::new());
    while !may_end.load(Ordering::Relaxed) {
        let begun = Instant::now();
        match session.target() {
            Ok(server) => *answers.entry(server).or_default() += 1,
            Err(cause) => return Seen { got: Err(cause), waits },
        }
        waits.push((Instant::now(), begun.elapsed()));
        thread::sleep(ASK);
    }
    Seen { got: Ok(answers), waits }
}
