//! `batond` ends and another one goes on with its CRT, which is in a file.
//!
//! All agents stand still meanwhile, so that nothing but the file can say where connections are.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use lab::client::{self, HttpConnection};
use lab::spec::{self, DVIPA};
use lab::view::CrtRow;
use lab::{Lab, Server, Spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::fixture::{SOON, any, connect, dvipa4, established, lab, still_answered_by, web4, web6};
use crate::kills::stage::{Outcome, Stage, Victim};

const TARGETS: [&str; 3] = ["t1", "t2", "t3"];
const UDP_PORT: u16 = 5300;
const LATE_PORT: u16 = 7;
/// Idle keep-alive connections.
const IDLE: usize = 240;
/// Clients of a server with TCP_DEFER_ACCEPT that have not said anything, a half of them for each restart.
const HALF_OPEN: usize = 12;
const FLOWS: usize = 12;
const DOWNLOADS: usize = 4;
/// How long a client waits: its peer's retransmissions come ever later while `batond` is away, and the machine is shared.
const PATIENT: Duration = Duration::from_secs(60);

/// A CRT file in memory, gone with the test.
struct CrtFile(TempDir);

impl CrtFile {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").expect("a directory in memory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("crt")
    }

    /// The line of `[forwarder]` for it.
    fn line(&self) -> String {
        format!("crt_file = \"{}\"", self.path().display())
    }
}

/// An echo server that the kernel tells of a connection when its first byte has come.
fn late_talkers_server() -> String {
    format!(
        "import socket, threading\n\
         s = socket.socket(socket.AF_INET6)\n\
         s.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 120)\n\
         s.bind(('::', {LATE_PORT})); s.listen()\n\
         while True:\n\
         \x20   c, _ = s.accept(); threading.Thread(target=lambda c: [c.sendall(d) for d in iter(lambda: c.recv(100), b'')], args=(c,)).start()\n"
    )
}

/// Clients of all kinds, and what each has to be answered.
struct Clients {
    idle: Vec<(HttpConnection, String)>,
    half_open: Vec<TcpStream>,
    flows: Vec<(UdpSocket, String)>,
    downloads: Vec<thread::JoinHandle<Result<Vec<u8>, String>>>,
}

impl Clients {
    fn connect(lab: &Lab) -> Self {
        let idle = [web4(), web6()].into_iter().cycle().take(IDLE).map(|to| idle(lab, to)).collect();
        let late = |to: SocketAddr| {
            let to = SocketAddr::new(to.ip(), LATE_PORT);
            let stream = lab.client().enter(|| TcpStream::connect(to)).expect("the client connects");
            stream.set_read_timeout(Some(PATIENT)).expect("a time-out");
            stream
        };
        let half_open = [web4(), web6()].into_iter().cycle().take(HALF_OPEN).map(late).collect();
        let flow = |_| {
            let socket = client::udp(lab.client(), dvipa4(UDP_PORT)).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
            let target = ask(&socket);
            (socket, target)
        };
        let flows = (0..FLOWS).map(flow).collect();
        let download = |to| {
            let opened = HttpConnection::open_patiently(lab.client(), to, PATIENT);
            let mut connection = opened.expect("the client connects");
            thread::spawn(move || connection.get("/slow").map_err(|e| e.to_string()))
        };
        let downloads = [web4(), web6()].into_iter().cycle().take(DOWNLOADS).map(download).collect();
        Self { idle, half_open, flows, downloads }
    }

    /// Where each connection has to be, as the CRT shows it: its client, its stack (if it is known), its state.
    fn wanted(&self) -> Vec<(String, Option<&str>, &'static str)> {
        let idle =
            self.idle.iter().map(|(c, target)| (c.local().to_string(), Some(&**target), "established"));
        let half_open = self
            .half_open
            .iter()
            .map(|c| (c.local_addr().expect("an address").to_string(), None, "half-open"));
        idle.chain(half_open).collect()
    }

    /// What the CRT lacks.
    fn missing(&self, rows: &[CrtRow]) -> Result<(), String> {
        for (client, stack, state) in self.wanted() {
            let row = rows.iter().find(|row| row.client == client).ok_or(format!("no {client}"))?;
            if row.state != state || stack.is_some_and(|stack| row.stack != stack) {
                return Err(format!("{row:?}, not {stack:?} {state}"));
            }
        }
        let established = rows.iter().filter(|row| row.state == "established").count();
        let wanted = self.idle.len() + FLOWS + DOWNLOADS;
        if established < wanted { Err(format!("{established} of {wanted} established ones")) } else { Ok(()) }
    }

    /// Until the CRT has all of them.
    fn wait_until_known(&self, lab: &Lab) {
        let are_known = || self.missing(&rows(lab)?);
        lab.wait_for("all connections to be in the CRT", 3 * SOON, are_known)
            .unwrap_or_else(|e| panic!("{e}"));
    }

    /// All go on, and `half_open` of those that were silent say something.
    fn go_on(&mut self, half_open: usize) {
        for (connection, target) in &mut self.idle {
            still_answered_by(connection, target);
        }
        for (socket, target) in &self.flows {
            assert_eq!(&ask(socket), target);
        }
        for mut client in self.half_open.drain(..half_open) {
            client.write_all(b"first").expect("it is sent");
            let mut answer = [0; 5];
            client.read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, b"first");
        }
    }
}

/// A connection that has asked once, and who answered.
fn idle(lab: &Lab, to: SocketAddr) -> (HttpConnection, String) {
    let opened = HttpConnection::open_patiently(lab.client(), to, PATIENT);
    let mut connection = opened.expect("the client connects");
    let target = connection.target().expect("a target answers");
    (connection, target)
}

/// Who answers a datagram of this socket. The first ones may be lost while the next hop is looked for.
fn ask(socket: &UdpSocket) -> String {
    let mut answer = [0; 64];
    let answered = (0..PATIENT.as_secs()).find_map(|_| {
        socket.send(b"who").expect("it is sent");
        socket.recv(&mut answer).ok()
    });
    let bytes = answered.expect("an answer");
    String::from_utf8_lossy(&answer[..bytes]).trim_end_matches(" 3").to_owned()
}

/// The whole CRT.
fn rows(lab: &Lab) -> Result<Vec<CrtRow>, String> {
    lab.crt(&["--limit", "10000"]).map_err(|e| e.to_string())
}

fn signal_agents(lab: &Lab, signal: Signal) {
    for target in TARGETS {
        let agent = lab.id_of(&format!("agent-{target}")).expect("it runs");
        kill(Pid::from_raw(agent.cast_signed()), signal).expect("it is sent");
    }
}

fn wait_for_targets(lab: &Lab) {
    lab.wait_for("all targets", 3 * SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let good = rows.len() == 5 && rows.iter().all(|row| row.selectable() == TARGETS);
        if good { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

fn said(lab: &Lab) -> String {
    std::fs::read_to_string(lab.files().join("batond.log")).expect("its log")
}

/// B2: `batond` is killed, and later stopped, and started again while all agents stand still: established connections, half-open
/// ones, UDP flows and downloads go on by the CRT's file alone, and after the agents have given their accounts too.
#[test]
#[ignore = "needs root"]
fn every_connection_goes_on_by_the_file_alone() {
    let file = CrtFile::new();
    let tcp = "ports = [80, 7]\ndestip = \"all\"\nmethod = \"round-robin\"";
    let udp = format!("ports = [{UDP_PORT}]\nprotocol = \"udp\"\ndestip = \"all\"");
    let (v4, v6) = (DVIPA.0.into(), DVIPA.1.into());
    let tables =
        format!("[[vipadynamic]]\n{}{}", spec::dvipa(v4, 24, &[tcp, &udp]), spec::dvipa(v6, 64, &[tcp]));
    let spec = Spec::default().vipadynamic(tables).forwarder(&format!("{}\nhalf_open_s = 600", file.line()));
    let lab = lab(spec);
    let servers = TARGETS.map(|target| {
        let words = ["/usr/bin/python3", "-c", &late_talkers_server()];
        lab.start_on(target, &format!("late-{target}"), &words).expect("python runs");
        Server::udp(lab.host(target), any(UDP_PORT), target).expect("it listens")
    });
    wait_for_targets(&lab);
    let mut clients = Clients::connect(&lab);
    clients.wait_until_known(&lab);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        signal_agents(&lab, Signal::SIGSTOP);
        let begun = Instant::now();
        lab.stop("batond", signal).expect("it ends");
        lab.start_batond().expect("it starts");
        let found = lab.wait_for("batond to answer", SOON, || rows(&lab)).unwrap_or_else(|e| panic!("{e}"));
        eprintln!("{signal}: batond answers after {:?}", begun.elapsed());
        clients.missing(&found).unwrap_or_else(|what| panic!("{what}: {found:#?}"));
        clients.go_on(HALF_OPEN / 2 - 1);
        assert!(said(&lab).contains("the CRT of the former process goes on"), "{}", said(&lab));
        for counter in ["asked", "no_connection"] {
            assert_eq!(
                lab.counter(counter).expect("baton stats answers"),
                0,
                "{counter}: nothing had to be asked"
            );
        }
        signal_agents(&lab, Signal::SIGCONT);
        wait_for_targets(&lab);
        clients.go_on(1);
        clients.wait_until_known(&lab);
    }
    let wanted = std::fs::read(lab.files().join("nginx-t1/www/big")).expect("what nginx has");
    for download in clients.downloads {
        assert!(download.join().expect("it does not panic").expect("it is whole") == wanted, "every byte");
    }
    drop(servers);
}

/// B2: a `batond` that finds the CRT of another version, or damaged, says so by name and begins with an empty one; no connection is lost,
/// because agents report.
#[test]
#[ignore = "needs root"]
fn a_table_that_can_not_be_read_is_refused_by_name_and_costs_no_connection() {
    let file = CrtFile::new();
    let lab = lab(Spec::default().forwarder(&file.line()));
    let mut clients: Vec<_> = [web4(), web6()].repeat(3).into_iter().map(|to| connect(&lab, to)).collect();
    for (connection, _) in &clients {
        established(&lab, connection);
    }
    let another_layout = u64::MAX.to_ne_bytes();
    for (bytes, at, named) in [(another_layout, 8, "has layout"), ([0xa5; 8], 16, "is damaged")] {
        lab.kill("batond").expect("batond is killed");
        let table = OpenOptions::new().write(true).open(file.path()).expect("the file is there");
        table.write_all_at(&bytes, at).expect("it is written");
        lab.start_batond().expect("batond starts");
        lab.wait_for_targets(80, &TARGETS).expect("the DPT is back");
        assert!(said(&lab).contains(named), "{named}: {}", said(&lab));
        for (connection, target) in &mut clients {
            assert_eq!(&established(&lab, connection).stack, target, "the agents have reported");
            still_answered_by(connection, target);
        }
    }
}

/// B2: `batond` is killed in the middle of a transfer and goes on with its CRT: what it held for the connection is gone, and the
/// download is whole all the same, at the source or at the target.
#[test]
#[ignore = "needs root"]
fn a_connection_that_was_moving_goes_on_too() {
    let file = CrtFile::new();
    let stage = Stage::on(Spec::content_routed().forwarder(&file.line()));
    for step in ["routing.Freeze", "routing.Part", "routing.Commit", "routing.thaw", "routing.Released"] {
        let outcome = stage.play("batond", step, Victim::RoutingStack);
        assert!(matches!(outcome, Outcome::Moved | Outcome::Stayed), "killed before {step}: {outcome:?}");
    }
}
