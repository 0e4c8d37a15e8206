//! Clients of all kinds at once, who go on while something happens to the routing nodes: wrk, downloads and uploads of which each byte is
//! compared, sessions that are silent for long, one that is moved from host to host by order, and UDP flows.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::client::{self, HttpConnection};
use lab::spec::{self, DVIPA};
use lab::{Lab, Server, Spec};

use crate::fixture::{SOON, any, dvipa4, web4, web6};

const TARGETS: [&str; 3] = ["t1", "t2", "t3"];
const UDP_PORT: u16 = 5300;
/// For so long a client waits: more than any takeover takes on a loaded machine, and what TCP adds to it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sessions that are silent.
const IDLE: usize = 8;
const FLOWS: usize = 6;
const UPLOAD_BYTES: u32 = 3_000_000;

/// A lab with what they ask for.
pub(crate) fn spec() -> Spec {
    let tcp = "ports = [80]\ndestip = \"all\"\nmethod = \"round-robin\"";
    let udp = format!("ports = [{UDP_PORT}]\nprotocol = \"udp\"\ndestip = \"all\"\nmethod = \"round-robin\"");
    let (v4, v6) = (DVIPA.0.into(), DVIPA.1.into());
    Spec::default().vipadynamic(format!(
        "[[vipadynamic]]\n{}{}",
        spec::dvipa(v4, 24, &[tcp, &udp]),
        spec::dvipa(v6, 64, &[tcp])
    ))
}

/// The clients that stay, with their servers.
pub(crate) struct Crowd {
    idle: Vec<(HttpConnection, String)>,
    moved: HttpConnection,
    flows: Vec<(UdpSocket, String)>,
    _servers: Vec<Server>,
}

/// Ends what clients do again and again, also when a test fails meanwhile.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Crowd {
    /// Connects those that stay.
    pub(crate) fn gather(lab: &Lab) -> Self {
        let servers: Vec<_> =
            TARGETS.iter().map(|t| Server::udp(lab.host(t), any(UDP_PORT), t).expect("it listens")).collect();
        lab.wait_for_targets(80, &TARGETS).unwrap_or_else(|e| panic!("{e}"));
        let open = |to| HttpConnection::open_patiently(lab.client(), to, PATIENCE).expect("it connects");
        let idle = [web4(), web6()].into_iter().cycle().take(IDLE).map(|to| {
            let mut connection = open(to);
            let target = connection.target().expect("a target answers");
            (connection, target)
        });
        let flow = |_| {
            let socket = client::udp(lab.client(), dvipa4(UDP_PORT)).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
            let server = asked(&socket);
            (socket, server)
        };
        let flows = (0..FLOWS).map(flow).collect();
        for node in lab.spec().routing_nodes().iter().skip(1) {
            let port = UDP_PORT.to_string();
            lab.wait_for(&format!("{} to know the flows", node.name()), SOON, || {
                let crt = lab.crt_at(*node, &["--port", &port]).map_err(|e| e.to_string())?;
                if crt.len() == FLOWS { Ok(()) } else { Err(format!("{crt:#?}")) }
            })
            .unwrap_or_else(|e| panic!("{e}"));
        }
        Self { idle: idle.collect(), moved: open(web4()), flows, _servers: servers }
    }

    /// Everybody goes on while this happens, and gets what is owed: the silent ones say something at its end. One is moved from host to
    /// host meanwhile.
    pub(crate) fn go_on(&mut self, lab: &Lab, happens: impl FnOnce()) {
        let Self { idle, moved, flows, .. } = self;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let over = Over(&is_over);
            let flows = scope.spawn(|| ask_on(flows, &is_over));
            let moves = scope.spawn(|| move_on(lab, moved, &is_over));
            under_load(lab, || {
                happens();
                drop(over);
            });
            flows.join().expect("flows stay with their servers");
            moves.join().expect("what is moved is answered");
        });
        moved.target().expect("it is answered where it is");
        for (connection, target) in idle {
            assert_eq!(&connection.target().expect("a silent session goes on"), target);
        }
    }
}

/// While this happens, wrk, downloads and uploads go on; none of them is reset, and every byte is right.
pub(crate) fn under_load(lab: &Lab, happens: impl FnOnce()) {
    let files = TARGETS.map(|t| fs::read(lab.files().join(format!("nginx-{t}/www/big"))));
    let files: Vec<Vec<u8>> = files.into_iter().map(|file| file.expect("what nginx has")).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = Over(&is_over);
        let (files, is_over) = (&files, &is_over);
        let services = [web4(), web6()];
        let downloads = services.map(|to| scope.spawn(move || download_on(lab, to, files, is_over)));
        let uploads = services.map(|to| scope.spawn(move || upload(lab, to)));
        let requests = scope.spawn(|| {
            let script = format!("wrk -t1 -c4 -d8s --timeout 60s http://{}/", web4());
            let said = lab.client().sh(&script).expect("wrk runs");
            assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
        });
        // In the middle of all.
        thread::sleep(Duration::from_millis(700));
        happens();
        drop(over);
        downloads.into_iter().for_each(|download| download.join().expect("a download is whole"));
        uploads.into_iter().for_each(|upload| upload.join().expect("an upload is whole"));
        requests.join().expect("wrk has lost no request");
    });
}

/// Downloads over one connection, once at least.
fn download_on(lab: &Lab, to: SocketAddr, files: &[Vec<u8>], is_over: &AtomicBool) {
    let mut connection = HttpConnection::open_patiently(lab.client(), to, PATIENCE).expect("it connects");
    loop {
        let got = connection.get("/slow-enough").expect("the download goes on");
        assert!(files.contains(&got), "{} bytes, and no server has them", got.len());
        if is_over.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn upload(lab: &Lab, to: SocketAddr) {
    let sent: Vec<u8> = (0..UPLOAD_BYTES).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let family = if to.is_ipv4() { 4 } else { 6 };
    let file = lab.files().join(format!("upload-{family}"));
    fs::write(&file, &sent).expect("a file to send");
    let kept = TARGETS.map(|t| lab.files().join(format!("nginx-{t}/put/{family}")));
    kept.iter().for_each(|file| drop(fs::remove_file(file)));
    let (file, url) = (file.display().to_string(), format!("http://{to}/put/{family}"));
    let curl =
        ["curl", "-sS", "-g", "--fail", "--limit-rate", "700k", "--max-time", "120", "-T", &file, &url];
    lab.client().run(&curl).expect("curl sends all");
    assert!(
        kept.iter().any(|file| fs::read(file).is_ok_and(|kept| kept == sent)),
        "no server has what was sent"
    );
}

/// Who answers a datagram. Datagrams get lost while there is no owner, and nobody sends them again but this.
fn asked(socket: &UdpSocket) -> String {
    let mut answer = [0; 64];
    let answered = (0..PATIENCE.as_secs() * 3).find_map(|_| {
        socket.send(b"who").expect("nobody says that nothing is there");
        socket.recv(&mut answer).ok()
    });
    let bytes = answered.expect("an answer");
    String::from_utf8_lossy(&answer[..bytes]).into_owned()
}

fn ask_on(flows: &[(UdpSocket, String)], is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        for (socket, server) in flows {
            assert_eq!(&asked(socket), server);
        }
        thread::sleep(Duration::from_millis(20));
    }
    flows.iter().for_each(|(socket, server)| assert_eq!(&asked(socket), server));
}

/// Has a session moved from host to host by whoever owns its DVIPA. Not every order is followed while there is no owner.
fn move_on(lab: &Lab, connection: &mut HttpConnection, is_over: &AtomicBool) {
    let (client, dvipa) = (connection.local().to_string(), web4().to_string());
    let mut seen = BTreeSet::new();
    for target in TARGETS.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        for node in lab.spec().routing_nodes() {
            // The one that does not own it refuses, and one that is dead says nothing.
            let _ = lab.baton_at(*node, &["move", &client, &dvipa, target]);
        }
        seen.insert(connection.target().expect("it is answered where it is"));
        thread::sleep(Duration::from_millis(100));
    }
    eprintln!("the session that is moved was with {seen:?}");
}
