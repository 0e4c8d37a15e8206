//! Packets that no entry of the CRT has: who has the connection takes them in, and what nobody has is refused.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::client::{self, HttpConnection};
use lab::spec::{self, CLIENT, DVIPA};
use lab::{Lab, Spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{SOON, dvipa4, lab, web4, web6};

/// Until then a routing stack waits for stacks of before and tells nobody that a connection is nobody's.
const SETTLED: Duration = Duration::from_secs(11);

/// How long half-open entries last at most, with the time until it is noticed.
const LATE: Duration = Duration::from_secs(40);

/// Refused, in less than a second.
fn refused(lab: &Lab, to: SocketAddr) {
    let began = Instant::now();
    let error = HttpConnection::open(lab.client(), to).map(|c| c.local()).expect_err("nothing serves it");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
    assert!(began.elapsed() < Duration::from_secs(1), "after {:?}", began.elapsed());
}

/// R6: a port that is not distributed, and one whose servers have all ended, refuse at once, TCP and UDP, in both families.
#[test]
#[ignore = "needs root"]
fn where_nothing_serves_the_client_is_refused_at_once() {
    let lab = lab(Spec::default());
    for dvipa in [web4(), web6()] {
        let nothing = SocketAddr::new(dvipa.ip(), 81);
        refused(&lab, nothing);
        let socket = client::udp(lab.client(), nothing).expect("a socket");
        socket.set_read_timeout(Some(SOON)).expect("a time-out");
        socket.send(b"anybody?").expect("it is sent");
        let error = socket.recv(&mut [0; 16]).expect_err("nobody");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    for target in ["t1", "t2", "t3"] {
        lab.kill_all(target, "nginx").expect("its servers end");
    }
    lab.wait_for_targets(80, &[]).expect("nobody listens");
    for dvipa in [web4(), web6()] {
        refused(&lab, dvipa);
    }
    assert!(lab.counter("refused_unreachable").expect("baton stats answers") >= 2);
}

/// R6: by policy nobody is told.
#[test]
#[ignore = "needs root"]
fn by_policy_nobody_is_told() {
    let silent = "ports = [80]\ndestip = \"all\"\nrefuse = \"silent\"";
    let lab = lab(Spec::default().vipadynamic(spec::both_families(silent)));
    for target in ["t1", "t2", "t3"] {
        lab.kill_all(target, "nginx").expect("its servers end");
    }
    lab.wait_for_targets(80, &[]).expect("nobody listens");
    let connects =
        lab.client().try_run(&["timeout", "2", "curl", "-s", "http://198.18.9.1/"]).expect("curl runs");
    assert_eq!(connects.status.code(), Some(124), "neither answer nor refusal");
    assert!(lab.counter("refused_silent").expect("baton stats answers") > 0);
    refused(&lab, dvipa4(81));
}

/// W4, R4: nothing is guessed of a packet that belongs to no entry. All candidates are asked, none says a word, and the
/// client is told.
#[test]
#[ignore = "needs root"]
fn without_an_entry_everybody_is_asked_and_nothing_guessed() {
    let lab = lab(Spec::default());
    sleep(SETTLED);
    let count = |name: &str| lab.counter(name).expect("baton stats answers");
    let before = ["asked", "refused_reset"].map(count);
    for port in 20_000..20_010 {
        let (from, to) = (SocketAddrV4::new(CLIENT.0, port), SocketAddrV4::new(DVIPA.0, 80));
        client::stray_ack(lab.client(), from, to).expect("it is sent");
    }
    lab.wait_for("the stray packets to be refused", SOON, || {
        let counted = count("refused_reset") - before[1];
        if counted == 10 { Ok(()) } else { Err(format!("{counted} counted")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(count("asked") - before[0], 60, "each of three candidates, and again: a copy may be lost");
}

/// Servers on port 7 of all targets that run this Python program.
fn with_servers(script: &str) -> Lab {
    let tables = spec::both_families("ports = [7]\ndestip = \"all\"\nmethod = \"round-robin\"");
    let lab = lab::Lab::start(Spec::default().vipadynamic(tables).web([])).unwrap_or_else(|e| panic!("{e}"));
    for target in ["t1", "t2", "t3"] {
        lab.start_on(target, &format!("server-{target}"), &["/usr/bin/python3", "-c", script])
            .expect("it starts");
    }
    lab.wait_for_targets(7, &["t1", "t2", "t3"]).expect("they listen");
    lab
}

fn connect(lab: &Lab, to: SocketAddr) -> TcpStream {
    let stream = lab.client().enter(|| TcpStream::connect(to)).expect("the client connects");
    stream.set_read_timeout(Some(SOON)).expect("a time-out");
    stream
}

/// R4: a server with TCP_DEFER_ACCEPT has a request until the first byte comes, which it does after the half-open entry
/// has ended. It is answered.
#[test]
#[ignore = "needs root"]
fn the_first_byte_of_a_late_talker_is_answered() {
    let lab = with_servers(&late_talkers_server(7));
    let mut clients = [web4(), web6()].map(|dvipa| connect(&lab, SocketAddr::new(dvipa.ip(), 7)));
    greet_late(&lab, &mut clients);
}

/// R4: agents that stand still for half a second, as on a busy host, can't say which connections are there. A client whose packet was
/// taken in and answered meanwhile is not told that its connection is nobody's.
#[test]
#[ignore = "needs root"]
fn an_agent_that_stands_still_for_a_moment_costs_no_connection() {
    let lab = with_servers(&late_talkers_server(7).replace("c.sendall(c.recv(100)); c.close()", ECHOES));
    let mut client = connect(&lab, dvipa4(7));
    let local = client.local_addr().expect("an address").to_string();
    wait_for_no_entry(&lab, &[local]);
    let agents = ["agent-t1", "agent-t2", "agent-t3"].map(|agent| lab.id_of(agent).expect("it runs"));
    let signal = |signal| {
        for agent in agents {
            kill(Pid::from_raw(agent.cast_signed()), signal).expect("it is sent");
        }
    };
    signal(Signal::SIGSTOP);
    let mut answer = [0; 5];
    client.write_all(b"first").expect("it is sent");
    client.read_exact(&mut answer).expect("an answer");
    sleep(Duration::from_millis(500));
    signal(Signal::SIGCONT);
    sleep(Duration::from_secs(1));
    client.write_all(b"again").expect("it is sent");
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"again");
}

/// What a server does with its connections instead: it goes on with each.
const ECHOES: &str = "threading.Thread(target=lambda c: [c.sendall(d) for d in iter(lambda: c.recv(100), b'')], args=(c,)).start()";

/// A server that the kernel tells of a connection when its first byte has come.
fn late_talkers_server(port: u16) -> String {
    format!(
        "import socket, threading\n\
         s = socket.socket(socket.AF_INET6)\n\
         s.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)\n\
         s.bind(('::', {port})); s.listen()\n\
         while True:\n\
         \x20   c, _ = s.accept(); c.sendall(c.recv(100)); c.close()\n"
    )
}

fn wait_for_no_entry(lab: &Lab, locals: &[String]) {
    lab.wait_for("the half-open entries to end", LATE, || {
        let rows = lab.crt(&[]).map_err(|e| e.to_string())?;
        let left: Vec<_> = rows.iter().filter(|row| locals.contains(&row.client)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// The clients say something once their half-open entries have ended, and are answered.
fn greet_late(lab: &Lab, clients: &mut [TcpStream]) {
    let locals: Vec<_> = clients.iter().map(|c| c.local_addr().expect("an address").to_string()).collect();
    wait_for_no_entry(lab, &locals);
    let claimed = |lab: &Lab| lab.counter("ask_held").expect("baton stats answers");
    let before = claimed(lab);
    for client in clients.iter_mut() {
        client.set_read_timeout(Some(SOON)).expect("a time-out");
        client.write_all(b"here I am").expect("it is sent");
        let mut reply = String::new();
        client.read_to_string(&mut reply).expect("the reply");
        assert_eq!(reply, "here I am");
    }
    assert!(claimed(lab) >= before + clients.len() as u64, "they were asked about");
}

/// R4, R7: at a port that is not distributed the owner's own stack is asked: a server there whose request has outlived the
/// half-open entry is reached.
#[test]
#[ignore = "needs root"]
fn the_owners_own_stack_is_asked_about_what_is_not_distributed() {
    let tables = spec::both_families("ports = [80]\ndestip = [\"t1\", \"t2\", \"t3\"]");
    let lab = lab(Spec { routing_agent: true, ..Spec::default().vipadynamic(tables) });
    lab.start_on("rt1", "server-rt1", &["/usr/bin/python3", "-c", &late_talkers_server(2222)])
        .expect("it starts");
    let mut clients = [web4(), web6()].map(|dvipa| {
        let to = SocketAddr::new(dvipa.ip(), 2222);
        let connected = lab.wait_for("the server", SOON, || {
            lab.client().enter(|| TcpStream::connect(to)).map_err(|e| e.to_string())
        });
        connected.unwrap_or_else(|e| panic!("{e}"))
    });
    greet_late(&lab, &mut clients);
}

/// R4, R6: a client that goes on writing after the server has closed is told.
#[test]
#[ignore = "needs root"]
fn a_client_that_writes_long_after_the_end_is_reset() {
    let lab = with_servers(
        "import socket, time\n\
         s = socket.socket(socket.AF_INET6)\n\
         s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
         s.bind(('::', 7)); s.listen()\n\
         while True:\n\
         \x20   c, _ = s.accept(); time.sleep(1); c.close()\n",
    );
    let mut client = connect(&lab, dvipa4(7));
    sleep(Duration::from_secs(70));
    client.write_all(b"still there?").expect("nobody has said so yet");
    let told = lab.wait_for("the client to be told", SOON, || match client.write_all(b"and now?") {
        Ok(()) => Err("nobody has said so yet".to_owned()),
        Err(error) => Ok(error.kind()),
    });
    let told = told.unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(told, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{told}");
}
