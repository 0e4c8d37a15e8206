//! The runtime as its users see it: over real sockets, with a forwarder that is a `Vec`.

mod configuring;
mod transfers;
mod web;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use model::codec::{Address, WireConnection};
use model::message::{FromStack, Hello, Listen as Listening, Newconn, Srvstat, Termconn, ToStack};
use model::{Connection, CrtState, Epoch, Protocol, StackName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use transport::{Endpoint, Event, Events, Identity, Listen, Settings};

use super::fake::{FakeForwarding, NodeDirectory};
use super::{CrtEntry, Runtime};

const WEB: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80]
destip = "all"
"#;

fn name(text: &str) -> StackName {
    StackName::new(text).unwrap()
}

/// A running routing stack.
struct Node {
    dir: tempfile::TempDir,
    files: NodeDirectory,
    forwarding: FakeForwarding,
    stop: tokio::sync::oneshot::Sender<()>,
    running: tokio::task::JoinHandle<()>,
}

impl Node {
    async fn start(definitions: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = NodeDirectory::fill(dir.path(), definitions).unwrap();
        let forwarding = FakeForwarding::default();
        let (config, source) = super::load(&files.file()).unwrap_or_else(|e| panic!("{e}"));
        let runtime = Runtime::bind(source, config, forwarding.clone(), "test").await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let running = tokio::spawn(runtime.run(async { stopped.await.unwrap_or(()) }));
        Self { dir, files, forwarding, stop, running }
    }

    async fn stop(self) -> tempfile::TempDir {
        let _ = self.stop.send(());
        self.running.await.unwrap();
        self.dir
    }

    /// HTTP as it is written: status and body.
    async fn http(&self, request: &str, body: &str) -> (u16, String) {
        self.http_at(&self.files.socket(), request, body).await
    }

    async fn http_at(&self, socket: &Path, request: &str, body: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.http(&format!("GET {path}"), "").await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn refused(&self, request: &str, body: &str) -> (u16, Value) {
        let (status, body) = self.http(request, body).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{request}: {e}: {body}")))
    }

    /// Asks for `path` until `holds`.
    async fn eventually(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..500 {
            last = self.get(path).await;
            if holds(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} stays {last:#}");
    }
}

/// A target's agent, as far as messages go.
struct Target {
    endpoint: Endpoint<FromStack>,
    events: Events<FromStack>,
}

impl Target {
    async fn greet(node: &Node, stack: &str, address: [u8; 4]) -> Self {
        let identity = Identity::load(&node.files.identity(stack), &name(stack)).unwrap();
        let hello = Hello {
            stack: stack.into(),
            cluster_addresses: vec![Address(address.into())],
            incarnation: 7,
            version: "9".into(),
            ..Hello::default()
        };
        let (heartbeat, lost_after) = (Duration::from_millis(100), Duration::from_secs(1));
        let settings = Settings { hello, heartbeat, quiet_after: None, lost_after, beside: true };
        let (endpoint, mut events) = Endpoint::bind(Listen::DialOnly, &identity, settings).unwrap();
        endpoint.dial(name("rt1"), node.files.listen);
        assert!(matches!(events.recv().await, Some(Event::Up { .. })));
        Self { endpoint, events }
    }

    /// The next VIPA list's epoch of its first DVIPA.
    async fn epoch(&mut self) -> Epoch {
        loop {
            match self.events.recv().await {
                Some(Event::Message { message: ToStack::VipaList(list), .. }) => return list.dvipas[0].epoch,
                Some(_) => {}
                None => panic!("the endpoint is closed"),
            }
        }
    }

    fn say(&self, message: impl Into<FromStack>) {
        self.endpoint.send(&name("rt1"), &message.into()).unwrap();
    }

    /// Listens on port 80 of the DVIPA.
    async fn listen(&mut self) {
        let epoch = self.epoch().await;
        let listens = vec![Listening { protocol: Protocol::Tcp, port: 80, listening: true }];
        self.say(FromStack::Srvstat(Srvstat {
            dvipa: Address([198, 18, 9, 1].into()),
            epoch,
            complete: true,
            listens,
        }));
    }
}

fn connections(ports: std::ops::Range<u16>) -> Vec<WireConnection> {
    let dvipa = SocketAddr::from(([198, 18, 9, 1], 80));
    let of = |port| Connection::new(Protocol::Tcp, SocketAddr::from(([198, 18, 0, 2], port)), dvipa).unwrap();
    ports.map(|port| WireConnection(of(port))).collect()
}

#[tokio::test]
async fn a_node_announces_its_dvipas_publishes_a_dpt_and_ages_the_crt() {
    let node = Node::start(WEB).await;
    let status = node.get("/v1/status").await;
    assert_eq!(
        (&status["program"], &status["stack"], &status["dvipas_owned"]),
        (&json!("batond"), &json!("rt1"), &json!(1))
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    let seen = node.forwarding.seen();
    assert_eq!(seen.dpt.dvipas.len(), 1);
    assert!(!seen.announced.is_empty() && seen.ticks > 2, "{seen:?}");
}

#[tokio::test]
async fn a_link_that_returns_has_the_dvipas_announced_and_is_shown() {
    let node = Node::start(WEB).await;
    // After the start's own announcements, the last two seconds after the first.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    {
        let mut seen = node.forwarding.seen();
        seen.announced.clear();
        seen.link_returns = true;
    }
    let status = node.get("/v1/status").await;
    assert_eq!(status["ports"][0]["lost"], 2);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!node.forwarding.seen().announced.is_empty());
}

#[tokio::test]
async fn a_listen_makes_a_target_and_the_end_of_its_session_a_lost_one() {
    let node = Node::start(WEB).await;
    let mut t1 = Target::greet(&node, "t1", [198, 18, 0, 21]).await;
    t1.listen().await;
    let target = |dpt: &Value| dpt["services"][0]["targets"][0].clone();
    let dpt = node.eventually("/v1/dpt", |dpt| target(dpt)["state"] == "listening").await;
    assert_eq!(target(&dpt)["target"], "t1");
    assert_eq!(node.forwarding.seen().dpt.distributions[0].targets.len(), 1);
    t1.endpoint.close().await;
    node.eventually("/v1/dpt", |dpt| target(dpt)["state"] == "lost").await;
    assert!(node.forwarding.seen().dpt.distributions[0].targets.is_empty());
}

#[tokio::test]
async fn while_the_whole_crt_is_looked_through_everybody_else_has_a_turn() {
    const SLICES: u64 = 200;
    let node = Node::start(WEB).await;
    let mut t1 = Target::greet(&node, "t1", [198, 18, 0, 21]).await;
    t1.listen().await;
    node.eventually("/v1/dpt", |dpt| dpt["services"][0]["targets"][0]["state"] == "listening").await;
    {
        let mut seen = node.forwarding.seen();
        let (stack, state) = (seen.dpt.stacks[0].index, CrtState::Established);
        let entry = |WireConnection(connection)| CrtEntry { connection, stack, state, idle_ms: 0 };
        seen.entries = connections(1..16 * SLICES as u16).into_iter().map(entry).collect();
        (seen.scan_takes, seen.scans) = (Duration::from_millis(5), 0);
    }
    let node = std::rc::Rc::new(node);
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let looks = |query: &'static str| {
                let node = node.clone();
                tokio::task::spawn_local(async move { node.get(query).await })
            };
            let (all, none) = (looks("/v1/crt?limit=1"), looks("/v1/crt?stack=t1&port=81"));
            while node.forwarding.seen().scans < 3 {
                tokio::task::yield_now().await;
            }
            t1.say(FromStack::Newconn(Newconn {
                connections: connections(9000..9001),
                ..Newconn::default()
            }));
            let is_there = |e: &CrtEntry| e.connection.client.port() == 9000;
            while !node.forwarding.seen().entries.iter().any(is_there) {
                tokio::task::yield_now().await;
            }
            assert_eq!(node.get("/v1/status").await["stacks"][0]["session"], "up");
            assert!(!all.is_finished() && node.forwarding.seen().scans < SLICES, "they came in between");
            let (all, none) = (all.await.unwrap(), none.await.unwrap());
            assert_eq!(all["connections"].as_array().unwrap().len(), 1);
            assert!(all["more"].as_u64().unwrap() >= 16 * SLICES - 2, "{all}");
            assert_eq!((&none["connections"], &none["more"]), (&json!([]), &json!(0)));
            assert!(node.forwarding.seen().scans <= 2 * SLICES + 2, "they share a pass, or have one each");
        })
        .await;
}

#[tokio::test]
async fn accounts_reach_the_crt_and_can_be_listed_with_filters_and_a_limit() {
    let node = Node::start(WEB).await;
    let mut t1 = Target::greet(&node, "t1", [198, 18, 0, 21]).await;
    t1.listen().await;
    t1.say(FromStack::Newconn(Newconn { first: true, last: false, connections: connections(1000..1400) }));
    t1.say(FromStack::Newconn(Newconn { first: false, last: true, connections: connections(1400..1500) }));
    t1.say(FromStack::Termconn(Termconn { connections: connections(1000..1001) }));
    let crt = node.eventually("/v1/crt?stack=t1", |crt| crt["more"] == 399).await;
    let rows = crt["connections"].as_array().unwrap();
    assert_eq!(rows.len(), 100);
    assert_eq!(
        rows[0],
        json!({
            "protocol": "tcp", "client": "198.18.0.2:1001", "dvipa": "198.18.9.1:80", "stack": "t1",
            "state": "established", "idle_ms": 1
        })
    );
    assert_eq!(crt["crt"]["entries_v4"], 499);
    let one = node.get("/v1/crt?client=198.18.0.2:1200&dvipa=198.18.9.1&port=80&state=established").await;
    assert_eq!((one["connections"].as_array().unwrap().len(), &one["more"]), (1, &json!(0)));
    let none = node.get("/v1/crt?state=half-open").await;
    assert_eq!(none["connections"], json!([]));
    let stats = node.get("/v1/stats").await;
    assert_eq!(stats["connections"], json!([{"stack": "t1", "connections": 499}]));
    node.eventually("/v1/status", |status| status["stacks"][0]["connections"] == 499).await;
}

#[tokio::test]
async fn orders_are_answered_with_their_effect_or_with_the_reason() {
    let node = Node::start(WEB).await;
    let mut t1 = Target::greet(&node, "t1", [198, 18, 0, 21]).await;
    t1.listen().await;
    let state = |dpt: &Value, state: &str| dpt["services"][0]["targets"][0]["state"] == state;
    node.eventually("/v1/dpt", |dpt| state(dpt, "listening")).await;

    let (status, done) = node.refused("POST /v1/drain/t1?dvipa=198.18.9.1&port=80", "").await;
    assert_eq!((status, &done["dpt_changed"]), (200, &json!(true)));
    node.eventually("/v1/dpt", |dpt| state(dpt, "draining")).await;
    let (status, _) = node.refused("POST /v1/resume/t1", "").await;
    assert_eq!(status, 200);
    node.eventually("/v1/dpt", |dpt| state(dpt, "listening")).await;

    let order = r#"{"dvipa": "198.18.9.1", "port": 80, "weights": {"t1": 7}, "ttl_s": 1}"#;
    let (status, _) = node.refused("POST /v1/weights", order).await;
    assert_eq!(status, 200);
    let weight = |dpt: &Value| dpt["services"][0]["targets"][0]["weight"].clone();
    assert_eq!(weight(&node.get("/v1/dpt").await), 7);
    // The machine's own deadline takes them back.
    node.eventually("/v1/dpt", |dpt| weight(dpt) != 7).await;

    for (request, body, status, word) in [
        ("POST /v1/drain/nobody", "", 404, "nobody"),
        ("POST /v1/resume/t1", "", 404, "not draining"),
        ("POST /v1/drain/t1?port=80", "", 400, "dvipa"),
        ("POST /v1/drain/T1", "", 400, "stack name"),
        ("POST /v1/drain/t1?everything=1", "", 400, "everything"),
        (
            "POST /v1/weights",
            r#"{"dvipa": "198.18.9.9", "port": 80, "weights": {"t1": 1}, "ttl_s": 9}"#,
            404,
            "not distributed",
        ),
        ("POST /v1/weights", r#"{"dvipa": "198.18.9.1"}"#, 422, "port"),
        ("GET /v1/crt?stack=nobody", "", 404, "nobody"),
        ("GET /v1/crt?state=odd", "", 400, "odd"),
        ("GET /v1/crt?client=what", "", 400, "ADDRESS"),
        ("GET /v1/nothing", "", 404, "admin-api"),
        ("GET /v1/reload", "", 405, "POST"),
    ] {
        let (found, problem) = node.refused(request, body).await;
        let error = problem["error"].as_str().unwrap_or_default();
        assert!(found == status && error.contains(word), "{request}: {found} {problem}");
    }
}

#[tokio::test]
async fn a_reload_applies_a_good_file_and_refuses_a_bad_one_whole() {
    let node = Node::start(WEB).await;
    let two = WEB.replace("[80]", "[80, 443]");
    node.files.define(&two).unwrap();
    let (status, done) = node.refused("POST /v1/reload", "").await;
    assert_eq!(status, 200, "{done}");
    assert_eq!(node.get("/v1/vipa").await["dvipas"][0]["distributions"][0]["ports"], json!([80, 443]));

    node.files.define(&two.replace("mask = 24", "mask = 99")).unwrap();
    let (status, problem) = node.refused("POST /v1/reload", "").await;
    assert_eq!(status, 422);
    let mistake = &problem["mistakes"][0];
    assert!(mistake["line"].as_u64() > Some(20) && mistake["fix"].is_string(), "{problem}");
    assert_eq!(node.get("/v1/vipa").await["dvipas"][0]["prefix_bits"], 24);

    let text = std::fs::read_to_string(node.files.file()).unwrap();
    std::fs::write(node.files.file(), text.replace("99", "24").replace("rt1\"", "rt9\"")).unwrap();
    let (status, problem) = node.refused("POST /v1/reload", "").await;
    assert!(status == 422 && problem["error"].as_str().unwrap().contains("node.name"), "{problem}");
}

#[tokio::test]
async fn every_counter_is_a_metric_with_its_sentence() {
    let node = Node::start(WEB).await;
    let _t1 = Target::greet(&node, "t1", [198, 18, 0, 21]).await;
    let (status, text) = node.http("GET /metrics", "").await;
    assert_eq!(status, 200);
    for line in [
        "# HELP baton_packets_no_connection A TCP packet that is neither a SYN nor of a known connection.",
        "baton_packets_no_connection_total{fault=\"client\"} 3",
        "baton_packets_forwarded_total 17",
        "baton_cluster_sessions_up_total 1",
        "baton_crt_capacity{table=\"v4\"} 1000000",
        "baton_stack_up{stack=\"t1\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "no line `{line}` in\n{text}");
    }
}

#[tokio::test]
async fn the_socket_of_the_metrics_has_its_own_mode_and_nothing_else_behind_it() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::start(WEB).await;
    let socket = node.dir.path().join("metrics.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    let (status, text) = node.http_at(&socket, "GET /metrics", "").await;
    assert!(status == 200 && text.contains("baton_cluster_sessions_up_total"), "{text}");
    assert_eq!(node.http_at(&socket, "GET /v1/status", "").await.0, 404);
    assert_eq!(node.http_at(&socket, "POST /v1/drain/t1", "").await.0, 404);
}

#[tokio::test]
async fn the_admin_socket_is_the_groups_goes_at_the_end_and_is_not_taken_from_a_living_process() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::start(WEB).await;
    let socket = node.files.socket();
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    assert!(super::admin::bind(&socket).is_err());
    let dir = node.stop().await;
    assert!(!socket.exists());
    // One that a killed process left is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists() && super::admin::bind(&socket).is_ok());
    drop(dir);
}
