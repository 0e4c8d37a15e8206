//! `baton drain --move` while clients of every kind download, upload and wait: none of them may notice.
//!
//! `BATON_SOAK` goes on until ten thousand connections have been tried to be moved, `BATON_SEED` repeats which clients there were.

mod clients;

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use lab::spec::{DVIPA, Web, both_families};
use lab::{Lab, Spec};

use crate::fixture::{SOON, connect, established, lab, web4, web6};
use crate::soak::{be_impatient, seed};
use clients::{Crowd, Kind};

/// curls of the first test, and the length of what each gets: many times what all buffers on its way hold together.
const DOWNLOADS: usize = 6;
const DOWNLOAD_BYTES: u64 = 200 << 20;
/// The drained stacks of one round without `BATON_SOAK`, one after the other.
const ROUNDS: [&str; 3] = ["t1", "t2", "t3"];
/// A drain lasts so many seconds.
const DRAINS_FOR: &str = "3";

fn tls() -> Spec {
    let web = ["t1", "t2", "t3"].map(|stack| Web::wildcard(stack).and_tls());
    let tables = both_families("ports = [80, 443]\ndestip = \"all\"\nmethod = \"round-robin\"");
    Spec::default().web(web).vipadynamic(tables)
}

/// `baton drain STACK --move`, what it says and whether the stack is empty.
fn drain(lab: &Lab, stack: &str) -> (bool, String) {
    match lab.baton(&["drain", stack, "--move", "--for", DRAINS_FOR]) {
        Ok(said) => (true, said),
        Err(e) => (false, e.to_string()),
    }
}

/// B1: downloads of clients that are slower than their server, whose send buffers are full, are whole after their servers were
/// drained one after the other.
#[test]
#[ignore = "needs root"]
fn a_drain_cuts_no_download_of_a_client_that_is_slower_than_its_server() {
    let lab = lab(Spec::default());
    for stack in ROUNDS {
        let huge = std::fs::File::create(lab.files().join(format!("nginx-{stack}/www/huge")));
        huge.and_then(|huge| huge.set_len(DOWNLOAD_BYTES)).expect("the file is made");
    }
    let url = format!("http://{}/files/huge", web4());
    let download = |_| -> Child {
        let mut curl = lab.client().command("curl");
        curl.args(["-sS", "--limit-rate", "40M", "-o", "/dev/null", "-w", "%{size_download}", &url]);
        curl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("curl starts")
    };
    let curls: Vec<_> = (0..DOWNLOADS).map(download).collect();
    thread::sleep(Duration::from_secs(1));
    for stack in ROUNDS {
        drain(&lab, stack);
        lab.baton(&["resume", stack]).expect("it takes connections again");
    }
    for curl in curls {
        let output = curl.wait_with_output().expect("curl ends");
        let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said == DOWNLOAD_BYTES.to_string(), "{said} bytes: {why}");
    }
}

/// B1: what the summary says of connections that stay: those of a server that is in the middle of an answer, and encrypted ones.
/// Connections whose server waits for the next request move.
#[test]
#[ignore = "needs root"]
fn connections_that_must_stay_are_told_with_the_reason_and_the_others_move() {
    let lab = lab(tls());
    let mut idle: Vec<_> = (0..12).map(|n| connect(&lab, if n % 2 == 0 { web4() } else { web6() })).collect();
    idle.iter().for_each(|(connection, _)| drop(established(&lab, connection)));
    let mut crowd = Crowd::begin(&lab, seed());
    for kind in [Kind::RateLimited, Kind::Encrypted] {
        // On each target one.
        (0..3).for_each(|_| crowd.add_to(kind, web4()));
    }
    crowd.wait_until_all_are_connected(idle.len());
    let (empty, said) = drain(&lab, "t1");
    assert!(
        !empty
            && said.contains("middle of an answer") | said.contains("A request or an answer was under way"),
        "{said}"
    );
    assert!(said.contains("encrypted (TLS)"), "{said}");
    assert!(said.contains("2 connections remain at t1"), "{said}");
    for (connection, before) in &mut idle {
        let answers = connection.target().unwrap_or_else(|e| panic!("was at {before}: {e}"));
        assert!(answers != "t1" && (before == "t1" || answers == *before), "{before} → {answers}");
    }
    assert_eq!(crowd.end(), Vec::<String>::new(), "no client notices");
}

/// An HTTP server that writes heads in pieces and pauses in the middle of bodies: `/length` says how long they are, `/chunks` does not.
const PAUSING: &str = r#"import socketserver, sys, time
class H(socketserver.StreamRequestHandler):
    def say(self, *pieces):
        for piece in pieces:
            self.wfile.write(piece.replace("NAME", sys.argv[1]).encode())
            self.wfile.flush()
            time.sleep(0.01)
    def handle(self):
        while request := self.rfile.readline().decode():
            while self.rfile.readline().strip(): pass
            self.say("HTTP/1.1 200 OK\r\n", "Server: pausing\r\n")
            if "/chunks" in request:
                self.say("Transfer-Encoding: chunked\r\n\r\n", "3\r\nNAM\r\n".replace("NAM", sys.argv[1] + " "))
                time.sleep(4)
                self.say("5\r\nwhole\r\n", "0\r\n\r\n")
            else:
                self.say("Content-Length: 8\r\n", "\r\n", "NAME ")
                time.sleep(4)
                self.say("whole")
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
S(("0.0.0.0", 80), H).serve_forever()"#;

/// B1: a connection stays while its server pauses in the middle of an answer, however long nothing is said, and moves after it.
#[test]
#[ignore = "needs root"]
fn a_server_that_pauses_in_the_middle_of_an_answer_keeps_the_connection_until_it_is_whole() {
    let lab = lab_of_two("pausing", PAUSING);
    for path in ["/length", "/chunks"] {
        let mut clients: Vec<_> = (0..4).map(|_| clients::Lines::open(&lab, web4())).collect();
        clients
            .iter_mut()
            .for_each(|client| client.say(&format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")));
        thread::sleep(Duration::from_secs(1));
        // Ends in the middle of the pause.
        let (empty, said) = drain(&lab, "t1");
        assert!(!empty && said.contains("2 connections remain at t1"), "{path}: {said}");
        let answers: Vec<_> = clients.iter_mut().map(|client| client.hear_until("whole")).collect();
        let by = |stack: &str| answers.iter().filter(|answer| answer.contains(&format!("{stack} "))).count();
        assert_eq!((by("t1"), by("t2")), (2, 2), "{answers:#?}");
        let said =
            lab.baton(&["drain", "t1", "--move", "--for", "10"]).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(said.contains("t1 is empty: 2 connections moved"), "{path}: {said}");
        lab.baton(&["resume", "t1"]).expect("it takes connections again");
        wait_for_both(&lab);
    }
}

fn wait_for_both(lab: &Lab) {
    lab.wait_for("both servers", SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let served = rows.iter().any(|row| row.selectable() == ["t1", "t2"]);
        if served { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// An HTTP server that answers what has a body before it has read that, takes its time for `/slow`, and leaves HTTP for `/switch`.
const EARLY: &str = r#"import re, socketserver, sys, time
class H(socketserver.StreamRequestHandler):
    def handle(self):
        while request := self.rfile.readline().decode():
            length = 0
            while (line := self.rfile.readline().decode()).strip():
                if found := re.match("content-length: ([0-9]+)", line.lower()): length = int(found[1])
            if "/slow" in request: time.sleep(5)
            name = sys.argv[1].encode()
            if "/switch" in request:
                self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: lines\r\n\r\n")
                for line in self.rfile: self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + name + b"\n")
            else:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + name + b"\n")
            self.rfile.read(length)
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
S(("0.0.0.0", 80), H).serve_forever()"#;

/// B1: clients that do not wait for an answer before they go on, or have left HTTP, keep their server.
#[test]
#[ignore = "needs root"]
fn clients_that_go_on_before_their_answer_is_there_stay() {
    let lab = lab_of_two("early", EARLY);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n");
    let post = "POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 30\r\n\r\n";
    // What is said, how often that is answered before the drain, and what is said after it.
    let cases = [
        ("pipelining", vec![get("/") + &get("/slow")], String::new()),
        ("pipelining in turns", vec![get("/"), get("/") + &get("/slow")], String::new()),
        (
            "a request that its answer has overtaken",
            vec![post.to_owned()],
            format!("{:30}{}", "GET / HTTP/1.1", get("/")),
        ),
        ("another protocol", vec![get("/switch"), "a line\n".to_owned()], "a line\n".to_owned()),
    ];
    for (what, before, after) in cases {
        let mut clients: Vec<_> = (0..4).map(|_| clients::Lines::open(&lab, web4())).collect();
        for client in &mut clients {
            for said in &before {
                client.say(said);
                client.hear_until("\r\n\r\n");
            }
        }
        let (empty, said) = drain(&lab, "t1");
        assert!(!empty && said.contains("2 connections remain at t1"), "{what}: {said}");
        for client in &mut clients {
            client.say(&after);
            client.hear_until("Content-Length: 3");
        }
        drop(clients);
        lab.baton(&["resume", "t1"]).expect("it takes connections again");
        wait_for_both(&lab);
    }
}

/// B1: a request whose first packet has also completed the handshake, because the client's acknowledgment of that was lost, is
/// under way like any other.
#[test]
#[ignore = "needs root"]
fn an_upload_that_began_with_the_end_of_the_handshake_stays_until_it_is_whole() {
    let lab = lab(Spec { targets: 2, ..Spec::default().web(["t1", "t2"].map(Web::wildcard)) });
    // A packet of 52 bytes has no data behind IP, TCP and a timestamp.
    let lossy = "nft add table inet lossy
        nft 'add chain inet lossy out { type filter hook output priority 0; }'
        nft add rule inet lossy out ip length 52 tcp dport 80 drop";
    lab.client().sh(lossy).unwrap_or_else(|e| panic!("{e}"));
    let mut clients: Vec<_> = (0..4).map(|_| clients::Lines::open(&lab, web4())).collect();
    let head = "PUT /put/late HTTP/1.1\r\nHost: lab\r\nContent-Length: 8\r\n\r\n";
    clients.iter_mut().for_each(|client| client.say(head));
    lab.client().sh("nft delete table inet lossy").unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for("the connections", SOON, || {
        let rows = lab.crt(&["--state", "established"]).map_err(|e| e.to_string())?;
        if rows.len() == 4 { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let (empty, said) = drain(&lab, "t1");
    assert!(!empty && said.contains("2 connections remain at t1"), "{said}");
    for client in &mut clients {
        client.say("8 bytes.");
        assert!(client.hear_until("\r\n").starts_with("HTTP/1.1 20"), "the upload is whole");
    }
}

/// A lab with this Python program, which serves IPv4, on two targets.
fn lab_of_two(name: &str, program: &str) -> Lab {
    let lab = lab(Spec { targets: 2, ..Spec::default().web([]) });
    for stack in ["t1", "t2"] {
        lab.start_on(stack, &format!("{name}-{stack}"), &["python3", "-c", program, stack])
            .expect("it starts");
    }
    wait_for_both(&lab);
    lab
}

/// B1: a server that does not speak HTTP keeps its connections, because nobody can see whether it owes an answer; if the operator
/// knows that a silence proves it, they move.
#[test]
#[ignore = "needs root"]
fn a_server_that_does_not_speak_http_keeps_its_connections_unless_the_operator_knows_better() {
    let echo = r#"import socketserver, sys, socket
class H(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile: self.wfile.write(sys.argv[1].encode() + b" " + line)
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
S(("0.0.0.0", 80), H).serve_forever()"#;
    let lab = lab_of_two("lines", echo);
    let mut lines: Vec<_> = (0..4).map(|_| clients::Lines::open(&lab, (DVIPA.0, 80).into())).collect();
    let at = lines.iter_mut().map(|lines| lines.ask("first")).collect::<Vec<_>>();
    thread::sleep(Duration::from_secs(1));
    let (empty, said) = drain(&lab, "t1");
    assert!(
        !empty && said.contains("2 connections remain at t1") && said.contains("does not speak HTTP/1.x"),
        "{said}"
    );
    let still: Vec<_> = lines.iter_mut().map(|lines| lines.ask("first")).collect();
    assert_eq!(at, still);
    let said = lab
        .baton(&["drain", "t1", "--move", "--for", "10", "--quiet", "200"])
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(said.contains("t1 is empty"), "{said}");
    for lines in &mut lines {
        assert_eq!(lines.ask("second"), "t2 second");
    }
}

/// B1, C11: clients of every kind, fast, slow and stalling, go on without noticing while stack after stack is drained with
/// `--move` and takes connections again.
#[test]
#[ignore = "needs root"]
fn a_crowd_of_clients_notices_no_drain() {
    let (lab, seed) = (lab(tls()), seed());
    be_impatient(&lab);
    let wanted = if std::env::var("BATON_SOAK").is_ok() { 10_000 } else { 0 };
    let mut crowd = Crowd::begin(&lab, seed);
    Kind::ALL.into_iter().for_each(|kind| (0..kind.clients()).for_each(|_| crowd.add(kind)));
    crowd.wait_until_all_are_connected(0);
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let (mut tried, mut rounds) = (0, 0);
    while rounds < ROUNDS.len() || tried < wanted {
        let stack = ROUNDS[rounds % ROUNDS.len()];
        let before =
            lab.crt(&["--stack", stack, "--state", "established", "--limit", "10000"]).expect("baton crt");
        let (_, said) = drain(&lab, stack);
        for line in said.lines().filter(|line| line.contains(" of them: ")) {
            *reasons.entry(line.trim().to_owned()).or_default() += 1;
        }
        lab.baton(&["resume", stack]).expect("it takes connections again");
        (tried, rounds) = (tried + before.len(), rounds + 1);
        println!(
            "round {rounds}: {} of {stack} tried, {tried} in all; {} transactions",
            before.len(),
            crowd.transactions()
        );
        assert_eq!(crowd.broken(), Vec::<String>::new(), "BATON_SEED={seed}: {said}");
    }
    let moved = lab.transfers().expect("baton stats answers")["injected"];
    println!("{moved} connections moved; {reasons:#?}");
    assert!(moved > 20, "{moved} connections moved: {reasons:#?}");
    assert_eq!(crowd.end(), Vec::<String>::new(), "BATON_SEED={seed}");
}
