//! Servers that listen and do not serve, and how much those take that do.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use lab::client::{HttpConnection, ask_often};
use lab::spec::{DVIPA, RoutingNode, ipv4_only};
use lab::{Lab, LabError, Spec};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{SOON, established, lab, web4};

const ALL: [&str; 3] = ["t1", "t2", "t3"];

/// A server that answers with its name, and `/healthz` with the status that is in a file.
pub(crate) const SERVER: &str = r#"
import http.server, pathlib, sys
name, address, file = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        status = int(pathlib.Path(file).read_text()) if self.path == "/healthz" else 200
        body = (name + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer((address, 80), Handler).serve_forever()
"#;

/// A server that accepts nobody, and in whose queue one client has room.
const DEAF: &str = r#"
import socket, time
listener = socket.create_server(("0.0.0.0", 81), backlog=0)
time.sleep(3600)
"#;

/// Connects by `lo` to a port of the DVIPA that nothing listens on here, and then without saying which way.
const NOT_BY_LO: &str = r#"
import socket, sys
def attempt(bound):
    with socket.socket() as s:
        s.settimeout(5)
        if bound:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        try:
            s.connect((sys.argv[1], 80))
            return "connected"
        except OSError as e:
            return type(e).__name__
print(attempt(True), attempt(False))
"#;

/// Port 80 with these keys, of servers that are those of the test or the lab's nginx.
fn spec(keys: &str) -> Spec {
    Spec::default()
        .vipadynamic(ipv4_only(&[&format!("ports = [80]\ndestip = [\"t1\", \"t2\", \"t3\"]\n{keys}")]))
}

/// Waits until something that is said has all of these words.
fn until(lab: &Lab, what: &str, words: &[&str], said: impl Fn() -> String) {
    lab.wait_for(&format!("{what} to say {words:?}"), 3 * SOON, || {
        let text = said();
        if words.iter().all(|word| text.contains(word)) { Ok(()) } else { Err(text) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// Waits until the targets of port 80 are in these states.
fn states(lab: &Lab, port: u16, wanted: [&str; 3]) {
    lab.wait_for(&format!("{wanted:?}"), 3 * SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let row = rows.iter().find(|row| row.port == port).ok_or("no such service")?;
        let states: Vec<&str> = row.targets.iter().map(|target| target.state.as_str()).collect();
        if states == wanted { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// Has the agent of a target know these tables too.
fn configure(lab: &Lab, target: &str, tables: &str) {
    let file = lab.files().join(format!("{target}.toml"));
    let text = std::fs::read_to_string(&file).expect("it is read");
    std::fs::write(&file, format!("{text}\n{tables}")).expect("it is written");
    lab.signal(&format!("agent-{target}"), Signal::SIGHUP);
    let log = lab.files().join(format!("agent-{target}.log"));
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    until(lab, "the agent", &["the configuration was read again"], said);
}

/// The file with the status that a target's server answers.
pub(crate) fn health(lab: &Lab, target: &str) -> PathBuf {
    lab.files().join(format!("health-{target}"))
}

pub(crate) fn set_health(lab: &Lab, target: &str, status: u16) {
    // In one step: the server may be reading it.
    let (next, file) = (health(lab, &format!("{target}.next")), health(lab, target));
    std::fs::write(&next, status.to_string()).expect("it is written");
    std::fs::rename(next, file).expect("it is in its place");
}

fn answers(lab: &Lab, times: usize) -> Vec<String> {
    ask_often(lab.client(), web4(), times).into_keys().collect()
}

/// What `baton why` says of a new client of port 80.
fn why(lab: &Lab) -> String {
    match lab.baton_at(RoutingNode::First, &["why", "198.18.0.2:40000", &web4().to_string()]) {
        Ok(text) | Err(LabError::Failed { output: text, .. }) => text,
        Err(error) => panic!("{error}"),
    }
}

/// B9: servers are asked for a page by their own agents, at the DVIPA if they are bound to that alone. One that answers 503 gets no new
/// clients and keeps those that it has, until it answers 200 again; which is told with the reason. When all answer 503, all get clients.
#[test]
#[ignore = "needs root"]
fn a_server_that_fails_its_check_gets_no_new_clients_while_others_pass_theirs() {
    let lab = lab(spec("").web([]));
    for target in ALL {
        set_health(&lab, target, 200);
        let (address, file) = (DVIPA.0.to_string(), health(&lab, target).display().to_string());
        let address = if target == "t1" { &address } else { "0.0.0.0" };
        let words = ["/usr/bin/python3", "-c", SERVER, target, address, &file];
        lab.start_on(target, &format!("server-{target}"), &words).expect("it starts");
    }
    lab.wait_for_targets(80, &ALL).expect("they listen");
    let check = "[[check]]\nports = [80]\nkind = \"http\"\npath = \"/healthz\"\nstatus = [200]\ninterval_s = 1\nfall = 2\n";
    ALL.iter().for_each(|target| configure(&lab, target, check));
    let asked = |target| lab.agent(target).expect("it answers")["checks"].to_string();
    until(&lab, "t1", &["\"GET /healthz\"", "198.18.9.1:80", "\"well\""], || asked("t1"));
    until(&lab, "t2", &["127.0.0.1:80", "\"well\""], || asked("t2"));
    let mut held = loop {
        let mut connection = HttpConnection::open(lab.client(), web4()).expect("the client connects");
        if connection.target().expect("a target answers") == "t1" {
            break connection;
        }
    };

    set_health(&lab, "t1", 503);
    states(&lab, 80, ["failing", "listening", "listening"]);
    assert_eq!(answers(&lab, 12), ["t2", "t3"]);
    assert_eq!(held.target().expect("it goes on"), "t1");
    let events = || lab.baton(&["events"]).expect("events");
    until(&lab, "events", &["target-failing", "fails: GET /healthz: 503"], events);
    until(&lab, "dpt", &["t1 fails: GET /healthz: 503"], || lab.baton(&["dpt"]).expect("the table"));
    until(&lab, "why", &["t1 is not selected: failing (GET /healthz: 503)"], || why(&lab));
    set_health(&lab, "t1", 200);
    states(&lab, 80, ["listening"; 3]);
    assert_eq!(answers(&lab, 6), ALL);

    ALL.iter().for_each(|target| set_health(&lab, target, 503));
    states(&lab, 80, ["failing"; 3]);
    assert_eq!(answers(&lab, 6), ALL, "none is better than another");
    until(&lab, "events", &["service-panics"], events);
    until(&lab, "dpt", &["all are selected as if none were"], || lab.baton(&["dpt"]).expect("the table"));
    set_health(&lab, "t2", 200);
    states(&lab, 80, ["failing", "listening", "failing"]);
    assert_eq!(answers(&lab, 6), ["t2"]);
}

/// B9: a server can be asked by a program of the operator's, or for a connection alone. Where nothing asks but the check, a server that
/// is stopped is noticed too. No question leaves the host, whoever else serves the port.
#[test]
#[ignore = "needs root"]
fn a_script_or_a_connection_can_be_the_check_and_no_question_leaves_the_host() {
    let services = ["ports = [80]\ndestip = \"all\"", "ports = [81]\ndestip = \"all\""];
    let lab = lab(Spec::default().vipadynamic(ipv4_only(&services)));
    let flag = health(&lab, "flag");
    std::fs::write(&flag, "").expect("it is written");
    let script = format!(
        "[[check]]\nports = [80]\nkind = \"script\"\ncommand = [\"/usr/bin/test\", \"-e\", \"{}\"]\ninterval_s = 1\nfall = 2\n",
        flag.display()
    );
    configure(&lab, "t1", &script);
    let tcp = "[[check]]\nports = [80, 81]\nkind = \"tcp\"\ninterval_s = 1\ntimeout_ms = 500\nfall = 2\n";
    configure(&lab, "t2", tcp);
    std::fs::remove_file(&flag).expect("it is removed");
    states(&lab, 80, ["failing", "listening", "listening"]);
    assert_eq!(answers(&lab, 12), ["t2", "t3"]);
    until(&lab, "dpt", &["t1 fails: /usr/bin/test: exit status: 1"], || {
        lab.baton(&["dpt"]).expect("the table")
    });
    std::fs::write(&flag, "").expect("it is written");
    states(&lab, 80, ["listening"; 3]);

    lab.start_on("t2", "deaf", &["/usr/bin/python3", "-c", DEAF]).expect("it starts");
    states(&lab, 81, ["not-listening", "failing", "not-listening"]);
    lab.freeze_all("t2", "nginx").expect("nginx of t2 does nothing");
    states(&lab, 80, ["listening", "stalled", "listening"]);
    lab.thaw_all("t2", "nginx").expect("nginx of t2 goes on");
    states(&lab, 80, ["listening"; 3]);

    lab.kill_all("t3", "nginx").expect("it is killed");
    states(&lab, 80, ["listening", "listening", "not-listening"]);
    let attempts = lab.host("t3").run(&["/usr/bin/python3", "-c", NOT_BY_LO, &DVIPA.0.to_string()]);
    assert_eq!(attempts.expect("it runs").trim(), "ConnectionRefusedError connected");
}

/// B9: a server that accepts its clients and answers none of them is noticed without being asked, when enough of them wait for longer
/// than is configured; one that answers somebody is not, whoever else waits.
#[test]
#[ignore = "needs root"]
fn a_server_that_answers_nobody_gets_no_new_clients() {
    let lab = lab(spec(""));
    ALL.iter().for_each(|target| configure(&lab, target, "[watch]\nunanswered_s = 3\n"));
    let mut of = BTreeMap::<String, Vec<HttpConnection>>::new();
    while of.get("t1").is_none_or(|held| held.len() < 4) || of.len() < 3 {
        let mut connection = HttpConnection::open(lab.client(), web4()).expect("the client connects");
        let target = connection.target().expect("a target answers");
        established(&lab, &connection);
        of.entry(target).or_default().push(connection);
    }
    let mut held = of.remove("t1").expect("four");
    lab.freeze_all("t1", "nginx").expect("nginx of t1 does nothing");
    let patience = Some(Duration::from_secs(60));
    held.iter().for_each(|c| c.stream().set_read_timeout(patience).expect("it is set"));
    let waiting: Vec<_> =
        held.drain(..).map(|mut client| std::thread::spawn(move || client.target())).collect();
    states(&lab, 80, ["failing", "listening", "listening"]);
    let words = ["t1 fails: ", "clients wait for an answer, and none was given one for 3 s"];
    until(&lab, "dpt", &words, || lab.baton(&["dpt"]).expect("the table"));
    assert_eq!(answers(&lab, 12), ["t2", "t3"]);
    lab.thaw_all("t1", "nginx").expect("nginx of t1 goes on");
    for client in waiting {
        assert_eq!(client.join().expect("a thread").expect("an answer"), "t1");
    }
    states(&lab, 80, ["listening"; 3]);
    assert_eq!(answers(&lab, 6), ALL);
}

/// How much of its share t1 has, in percent, if not the whole; and how often the tables have changed.
fn share(lab: &Lab) -> (Option<u64>, Option<u64>) {
    let table = lab.baton_json(&["dpt"]).expect("the table");
    (table["services"][0]["targets"][0]["share_percent"].as_u64(), table["generation"].as_u64())
}

/// B9, B6: a server that comes back gets a tenth of its share at first and a tenth more each tenth of the time, by round robin too:
/// counted over whole rounds of the selection in which no step was made.
#[test]
#[ignore = "needs root"]
fn a_server_that_comes_back_begins_slowly() {
    let lab = lab(spec("slow_start_s = 40"));
    let up = |lab: &Lab| lab.baton_json(&["status"]).expect("a status")["uptime_s"].as_u64();
    // Targets that come before are taken for those of before its start.
    lab.wait_for("the routing node to have settled", 3 * SOON, || match up(&lab) {
        Some(seconds) if seconds > 11 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ask_often(lab.client(), web4(), 9), BTreeMap::from(ALL.map(|t| (t.to_owned(), 3))));
    lab.kill_all("t1", "nginx").expect("it is killed");
    lab.wait_for_targets(80, &["t2", "t3"]).expect("it is gone");
    lab.start_web("t1").expect("it starts");
    lab.wait_for_targets(80, &ALL).expect("it is back");
    let mut seen = BTreeMap::new();
    while let before @ (Some(percent), _) = share(&lab) {
        let step = usize::try_from(percent / 10).expect("a step");
        // The others have ten turns in a round, or as many as their weights have in common with its own.
        let common = [10, 5, 2, 1].into_iter().find(|n| step % n == 0 && 10 % n == 0).unwrap_or(1);
        let counts = ask_often(lab.client(), web4(), (20 + step) / common);
        // Another step, or a target of which nothing is heard for a moment, makes it another round.
        if share(&lab) == before {
            let of_t1 = counts.get("t1").copied().unwrap_or_default();
            assert_eq!(of_t1, step / common, "{percent} %: {counts:?}");
            seen.insert(percent, counts);
        }
    }
    assert!(seen.len() >= 3 && seen.keys().any(|percent| *percent <= 50), "{seen:?}");
    assert_eq!(ask_often(lab.client(), web4(), 9), BTreeMap::from(ALL.map(|t| (t.to_owned(), 3))));
}

fn connects(lab: &Lab) -> Result<HttpConnection, ErrorKind> {
    HttpConnection::open(lab.client(), web4()).map_err(|e| e.kind())
}

/// B9, B6: a target with as many connections as it may have is passed over; when all have, a client is refused, and that is counted and
/// told with the reason, until one of the downloads ends.
#[test]
#[ignore = "needs root"]
fn targets_with_as_many_connections_as_they_may_have_get_no_more() {
    let lab = lab(spec("max_connections = 2"));
    let counted = || {
        let stats: Value = lab.baton_json(&["stats"]).expect("counters");
        let rows = stats["packets"].as_array().cloned().unwrap_or_default();
        rows.iter().find(|row| row["name"] == "targets_full").and_then(|row| row["value"].as_u64())
    };
    let mut downloads = Vec::new();
    for _ in 0..6 {
        let connection = connects(&lab).expect("there is room");
        established(&lab, &connection);
        connection.stream().write_all(b"GET /slow HTTP/1.1\r\nHost: lab\r\n\r\n").expect("it is sent");
        downloads.push(connection);
    }
    states(&lab, 80, ["full"; 3]);
    for stack in ALL {
        let rows = lab.crt(&["--stack", stack, "--state", "established"]).expect("rows");
        assert_eq!(rows.len(), 2, "{stack}: {rows:#?}");
    }
    assert_eq!(counted(), Some(0));
    assert_eq!(connects(&lab).expect_err("all are full"), ErrorKind::ConnectionRefused);
    assert_eq!(counted(), Some(1));
    until(&lab, "why", &["has its 2 connections", "targets_full"], || why(&lab));
    downloads.swap_remove(0).abort().expect("it is reset");
    lab.wait_for("room", SOON, || match connects(&lab) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .unwrap_or_else(|e| panic!("{e}"));
}
