//! Targets that have different amounts of work, and which of them a new connection is given.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use lab::client::{HttpConnection, ask, ask_often};
use lab::spec::ipv4_only;
use lab::{Lab, Spec};

use crate::fixture::{SOON, established, lab, web4};

const ALL: [&str; 3] = ["t1", "t2", "t3"];

/// A server that answers one client after the other with its name, each after so many seconds.
const SERVER: &str = r#"
import http.server, sys, time
name, seconds = sys.argv[1], float(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(seconds)
        body = (name + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.HTTPServer):
    request_queue_size = 128
Server(("0.0.0.0", 80), Handler).serve_forever()
"#;

fn spec() -> Spec {
    Spec::default().vipadynamic(ipv4_only(&["ports = [80]\ndestip = \"all\"\nmethod = \"power-of-two\""]))
}

/// B9: of three servers the one that takes four times as long gets a small share of new connections, not a third, and every client is
/// answered.
#[test]
#[ignore = "needs root"]
fn a_slow_server_gets_a_small_share() {
    const CLIENTS: usize = 8;
    const EACH: usize = 60;
    let lab = lab(spec().web([]));
    for (target, seconds) in ALL.into_iter().zip(["0.04", "0.01", "0.01"]) {
        let words = ["/usr/bin/python3", "-c", SERVER, target, seconds];
        lab.start_on(target, &format!("server-{target}"), &words).expect("it starts");
    }
    lab.wait_for_targets(80, &ALL).expect("they listen");
    let lab = &lab;
    let client = move || -> Vec<String> {
        (0..EACH).map(|_| ask(lab.client(), web4()).expect("every client is answered")).collect()
    };
    let mut counts = BTreeMap::<String, usize>::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let answers = clients.into_iter().flat_map(|client| client.join().expect("a client ends well"));
        answers.for_each(|target| *counts.entry(target).or_default() += 1);
    });
    let of = |target: &str| counts.get(target).copied().unwrap_or_default();
    assert_eq!(counts.values().sum::<usize>(), CLIENTS * EACH);
    // A ninth is what it could do of all.
    assert!(of("t1") > 0 && of("t1") * 5 < CLIENTS * EACH, "{counts:?}");
    assert!(of("t2") * 4 > CLIENTS * EACH && of("t3") * 4 > CLIENTS * EACH, "{counts:?}");
}

/// Connections to t1 that are kept open, each of which was answered once.
fn kept_by_t1(lab: &Lab) -> Vec<HttpConnection> {
    for other in ["t2", "t3"] {
        lab.baton(&["drain", other]).expect("it drains");
    }
    lab.wait_for_targets(80, &["t1"]).expect("only t1 is selected");
    let open = |_| {
        let mut connection = HttpConnection::open(lab.client(), web4()).expect("it connects");
        assert_eq!(connection.target().expect("it is answered"), "t1");
        established(lab, &connection);
        connection
    };
    let kept = (0..12).map(open).collect();
    for other in ["t2", "t3"] {
        lab.baton(&["resume", other]).expect("it resumes");
    }
    lab.wait_for_targets(80, &ALL).expect("all are selected");
    kept
}

/// B9: connections that are only kept open are no load: their target gets new ones as the others do. From the moment at which their
/// clients wait, it gets none.
#[test]
#[ignore = "needs root"]
fn connections_that_are_only_kept_open_are_no_load_and_clients_that_wait_are() {
    let lab = lab(spec());
    let kept = kept_by_t1(&lab);
    let of_t1 = |counts: &BTreeMap<String, usize>| counts.get("t1").copied().unwrap_or_default();
    lab.wait_for("t1 to get new connections", SOON, || {
        let counts = ask_often(lab.client(), web4(), 30);
        if of_t1(&counts) > 4 { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));

    lab.freeze_all("t1", "nginx").expect("nginx of t1 does nothing");
    for connection in &kept {
        connection.stream().write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").expect("it is sent");
    }
    // A look each second, and a report each second.
    std::thread::sleep(Duration::from_secs(4));
    let counts = ask_often(lab.client(), web4(), 30);
    assert!(counts.keys().eq(["t2", "t3"]), "who is given t1 is not answered: {counts:?}");
    lab.thaw_all("t1", "nginx").expect("nginx of t1 goes on");
    lab.wait_for("t1 to get new connections", SOON, || {
        let counts = ask_often(lab.client(), web4(), 30);
        if of_t1(&counts) > 4 { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}
