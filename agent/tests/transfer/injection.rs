//! Connections are put into unmodified nginx servers by packets with a handoff option, and pulled out of them again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use baton_agent::machine::Takes;
use baton_agent::repair::{self, Refused};
use baton_agent::system::abilities::Abilities;
use baton_agent::system::random_token;
use lab::client::HttpConnection;
use lab::process::Process;
use lab::spec::{CLIENT, DVIPA};
use lab::{Capture, Namespace};
use model::handoff::HandoffOption;
use model::{Connection, ConnectionState, Dvipa, Protocol};
use nix::sys::signal::Signal;
use transfer::host::Away;

use crate::bench::{Bench, RESET};
use crate::forwarder::{Forwarder, option_of};

/// Two hosts with an nginx each, and the forwarder.
pub(crate) struct Web {
    pub(crate) forwarder: Forwarder,
    servers: [Process; 2],
    /// The last connection that was taken out of a server.
    pub(crate) pulled: Option<ConnectionState>,
    pub(crate) bench: Bench,
}

impl Web {
    pub(crate) fn new() -> Self {
        let bench = Bench::new();
        for host in &bench.hosts {
            let source = IpAddr::from(CLIENT.0);
            let dvipas = [DVIPA.0.into(), DVIPA.1.into()].map(Dvipa::new);
            let all = dvipas.map(|dvipa| ((source, dvipa), Takes::All));
            host.programs.maps.set_forwarders(&all.into()).unwrap();
            host.programs.injection.as_ref().expect("this kernel can");
        }
        let servers = [0, 1].map(|host| nginx_of(&bench, host, "80, [::]:80"));
        Self { forwarder: Forwarder::start(&bench.client), servers, pulled: None, bench }
    }

    /// Takes the connection out of the nginx of one host, and has its next packet put it into the other's, with this option. The
    /// client may still have to acknowledge the last answer.
    pub(crate) fn move_on(
        &mut self,
        connection: &Connection,
        from: usize,
        to: usize,
    ) -> (ConnectionState, HandoffOption) {
        let until = Instant::now() + Duration::from_secs(10);
        let state = loop {
            match self.pull(connection, from) {
                Ok(state) => break state,
                Err(Refused::QueuesNotEmpty { .. }) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(refused) => panic!("{refused}"),
            }
        };
        self.pulled = Some(state.clone());
        let token = random_token().unwrap();
        self.bench.hosts[to].programs.maps.admissions.admit(connection, token).unwrap();
        let option = option_of(&state, token);
        self.forwarder.send_to(to, Some(option));
        (state, option)
    }

    fn pull(&self, connection: &Connection, from: usize) -> Result<ConnectionState, Refused> {
        let host = &self.bench.hosts[from];
        host.keep_away(connection, Away::Frozen);
        let pid = self.servers[from].id();
        let state = host.namespace.enter(|| repair::pull(repair::find(connection, Some(pid))?));
        match state {
            Ok(_) => host.keep_away(connection, Away::Departed),
            Err(_) => host.programs.maps.freezes.let_flow(connection).unwrap(),
        }
        state
    }
}

fn nginx_of(bench: &Bench, host: usize, listen: &str) -> Process {
    nginx(&bench.hosts[host].namespace, bench.record.files(), &format!("t{}", host + 1), listen)
}

/// An nginx as it comes from Debian, in one process.
pub(crate) fn nginx(namespace: &Namespace, files: &Path, name: &str, listen: &str) -> Process {
    let sockets = listen.split(", ").count();
    let listen: String = listen.split(", ").map(|at| format!("listen {at};")).collect();
    let files = files.join(format!("nginx-{name}"));
    fs::create_dir_all(files.join("www")).unwrap();
    fs::write(files.join("www/index.html"), format!("{name}\n")).unwrap();
    fs::write(files.join("www/big"), big()).unwrap();
    let at = files.display();
    let configuration = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log; user root;
         events {{ worker_connections 512; }}
         http {{ access_log {at}/access.log; keepalive_timeout 75; client_body_temp_path {at}/body;
                server {{ {listen} root {at}/www; }} }}"
    );
    fs::write(files.join("conf"), configuration).unwrap();
    let mut command = namespace.command("nginx");
    command.arg("-c").arg(files.join("conf"));
    let process = Process::start(name, &mut command, &files.join("log")).unwrap();
    let listens = || namespace.sh("ss -Hltn sport = :80").unwrap().lines().count() == sockets;
    for _ in 0..500 {
        if listens() {
            return process;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nginx does not listen, see {at}/log");
}

fn big() -> Vec<u8> {
    crate::stream::bytes(crate::stream::Way::Down, 0, 1 << 20)
}

pub(crate) fn dvipas() -> [SocketAddr; 2] {
    [(DVIPA.0, 80).into(), (DVIPA.1, 80).into()]
}

/// A connection that the first host's server has answered.
pub(crate) fn open(web: &mut Web, dvipa: SocketAddr) -> (HttpConnection, Connection) {
    web.forwarder.send_to(0, None);
    let mut http = HttpConnection::open(&web.bench.client, dvipa).unwrap();
    assert_eq!(http.target().unwrap(), "t1");
    let connection = Connection::new(Protocol::Tcp, http.local(), dvipa).unwrap();
    (http, connection)
}

#[test]
#[ignore = "needs root"]
fn two_unmodified_servers_answer_one_connection_in_turn() {
    let mut web = Web::new();
    let files = web.bench.record.files().to_owned();
    let capture = Capture::start(&web.bench.client, "eth0", "tcp", &files, "answers").unwrap();
    for dvipa in dvipas() {
        let (mut http, connection) = open(&mut web, dvipa);
        for _ in 0..3 {
            web.move_on(&connection, 0, 1);
            assert_eq!(http.target().unwrap(), "t2");
            assert!(http.get("/big").unwrap() == big());
            web.move_on(&connection, 1, 0);
            assert_eq!(http.target().unwrap(), "t1");
        }
    }
    let seen = capture.stop().unwrap();
    assert_eq!(seen.packets(RESET).unwrap(), Vec::<String>::new());
    assert_eq!(web.bench.hosts[1].counter("handed_over"), 6);
}

#[test]
#[ignore = "needs root"]
fn curl_sees_one_connection() {
    let mut web = Web::new();
    web.forwarder.send_to(0, None);
    let url = format!("http://{}/", DVIPA.0);
    let mut command = web.bench.client.command("curl");
    // Answers go to standard output as they come, the number of connections made for each to standard error.
    command.args(["-sSN", "--rate", "60/m", "--local-port", "45678", "-w", "%{stderr}%{num_connects}"]);
    let command = command.args([&url, &url, &url]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut curl = command.spawn().unwrap();
    let mut answers = BufReader::new(curl.stdout.take().unwrap()).lines().map(Result::unwrap);
    let connection = Connection::new(Protocol::Tcp, (CLIENT.0, 45678).into(), dvipas()[0]).unwrap();
    let mut servers = Vec::new();
    for (from, to) in [(0, 1), (1, 0)] {
        servers.extend(answers.next());
        web.move_on(&connection, from, to);
    }
    servers.extend(answers);
    assert_eq!(servers, ["t1", "t2", "t1"]);
    let output = curl.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "100");
}

#[test]
#[ignore = "needs root"]
fn a_handoff_keeps_what_the_ends_have_agreed_on() {
    let mut web = Web::new();
    for off in ["tcp_timestamps", "tcp_sack", "tcp_window_scaling", "tcp_ecn"] {
        let set = |value| web.bench.client.sh(&format!("echo {value} >/proc/sys/net/ipv4/{off}")).unwrap();
        // The client does not offer it; ECN it asks for, and the hosts agree.
        set(u8::from(off == "tcp_ecn"));
        for dvipa in dvipas() {
            let (mut http, connection) = open(&mut web, dvipa);
            let (before, _) = web.move_on(&connection, 0, 1);
            assert!(http.get("/big").unwrap() == big(), "without {off}");
            let (after, _) = web.move_on(&connection, 1, 0);
            assert_eq!(http.target().unwrap(), "t1");
            let agreed = |s: &ConnectionState| (s.scales, s.sack, s.timestamp.is_some(), s.ecn);
            assert_eq!(agreed(&before), agreed(&after), "without {off}");
            let all = (before.scales.is_some(), before.sack, before.timestamp.is_some(), before.ecn);
            let expected =
                (off != "tcp_window_scaling", off != "tcp_sack", off != "tcp_timestamps", off == "tcp_ecn");
            assert_eq!(all, expected, "without {off}");
        }
        let set = |value| web.bench.client.sh(&format!("echo {value} >/proc/sys/net/ipv4/{off}")).unwrap();
        set(if off == "tcp_ecn" { 2 } else { 1 });
    }
}

#[test]
#[ignore = "needs root"]
fn a_listener_of_both_families_takes_a_connection_over_ipv4() {
    let mut web = Web::new();
    let (mut http, connection) = open(&mut web, dvipas()[0]);
    web.servers[1].signal(Signal::SIGKILL);
    web.servers[1] = nginx_of(&web.bench, 1, "[::]:80 ipv6only=off");
    web.move_on(&connection, 0, 1);
    assert_eq!(http.target().unwrap(), "t2");
    assert!(http.get("/big").unwrap() == big());
    web.move_on(&connection, 1, 0);
    assert_eq!(http.target().unwrap(), "t1");
}

#[test]
#[ignore = "needs root"]
fn a_late_copy_does_not_bring_a_departed_connection_back() {
    let mut web = Web::new();
    let (mut http, connection) = open(&mut web, dvipas()[0]);
    web.forwarder.order(&serde_json::json!({ "keep": 1 }));
    web.move_on(&connection, 0, 1);
    assert_eq!(http.target().unwrap(), "t2");
    web.move_on(&connection, 1, 0);
    assert_eq!(http.target().unwrap(), "t1");
    // The very packet that had put the connection into the second host's listener.
    web.forwarder.order(&serde_json::json!({ "again": 1 }));
    while web.bench.hosts[1].counter("departed_dropped") == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(web.bench.hosts[1].counter("handed_over"), 1);
    assert_eq!(http.target().unwrap(), "t1");
}

/// The client has closed, and then a copy of the very packet that had put its connection into the listener comes late.
#[test]
#[ignore = "needs root"]
fn a_late_copy_does_not_bring_an_ended_connection_back() {
    let mut web = Web::new();
    let (mut http, connection) = open(&mut web, dvipas()[0]);
    web.forwarder.order(&serde_json::json!({ "keep": 1 }));
    web.move_on(&connection, 0, 1);
    assert_eq!(http.target().unwrap(), "t2");
    drop(http);
    let sockets = || web.bench.hosts[1].namespace.sh(&format!("ss -Htn dst {}", connection.client)).unwrap();
    while !sockets().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    web.forwarder.order(&serde_json::json!({ "again": 1 }));
    while web.bench.hosts[1].counter("handoff_not_admitted") == 0 {
        assert_eq!(
            web.bench.hosts[1].counter("handed_over"),
            1,
            "nginx has a connection that nobody else has"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "needs root"]
fn only_an_admitted_connection_is_put_into_a_listener() {
    let mut web = Web::new();
    let (mut http, connection) = open(&mut web, dvipas()[0]);
    let (_, option) = web.move_on(&connection, 0, 1);
    let admissions = &web.bench.hosts[1].programs.maps.admissions;
    admissions.forget(&connection).unwrap();
    let waiting = std::thread::spawn(move || http.target().unwrap());
    while web.bench.hosts[1].counter("handoff_not_admitted") == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    admissions.admit(&connection, option.token).unwrap();
    assert_eq!(waiting.join().unwrap(), "t2", "the client has sent its request again");
}

#[test]
#[ignore = "needs root"]
fn a_host_says_which_ways_its_kernel_has() {
    let able = Bench::new().hosts.map(|host| host.programs.abilities());
    let all = Abilities { repair: Ok(()), injection: Ok(()) };
    assert_eq!(able, [all.clone(), all]);

    let bench = Bench::prepared_by("echo 0 >/proc/sys/net/ipv4/tcp_syncookies");
    let Abilities { repair, injection } = bench.hosts[0].programs.abilities();
    assert_eq!(repair, Ok(()));
    let sentence = injection.unwrap_err();
    assert!(sentence.contains("tcp_syncookies is 0: set it to 1"), "{sentence}");
}

#[test]
#[ignore = "needs root"]
fn a_handoff_survives_loss_and_duplication() {
    let mut web = Web::new();
    web.forwarder.order(&serde_json::json!({ "copies": 2, "lose": 30 }));
    for dvipa in dvipas() {
        let (mut http, connection) = open(&mut web, dvipa);
        let mut at = 0;
        for _ in 0..6 {
            web.move_on(&connection, at, 1 - at);
            at = 1 - at;
            assert_eq!(http.target().unwrap(), format!("t{}", at + 1));
        }
    }
}

#[test]
#[ignore = "needs root"]
fn segments_in_the_wrong_order_begin_the_connection_at_its_start() {
    let mut web = Web::new();
    for dvipa in dvipas() {
        let (mut http, connection) = open(&mut web, dvipa);
        web.move_on(&connection, 0, 1);
        web.forwarder.order(&serde_json::json!({ "hold": 1 }));
        // A request of two segments, of which the second comes first.
        let cookie = "c".repeat(2000);
        assert_eq!(http.get(&format!("/?{cookie}")).unwrap(), b"t2\n");
    }
    assert!(web.bench.hosts[1].counter("handoff_elsewhere") >= 2);
    assert_eq!(web.bench.hosts[1].counter("handed_over"), 2);
}

/// The same connection, the same numbers: an option of the first admission, or of an older version, is worth nothing to the second.
#[test]
#[ignore = "needs root"]
fn without_the_token_of_its_admission_a_packet_makes_nothing_and_draws_no_reset() {
    let mut web = Web::new();
    for dvipa in dvipas() {
        let (mut http, connection) = open(&mut web, dvipa);
        let (state, first) = web.move_on(&connection, 0, 1);
        let second = random_token().unwrap();
        web.bench.hosts[1].programs.maps.admissions.admit(&connection, second).unwrap();
        let waiting = std::thread::spawn(move || (http.target().unwrap(), http));
        let wait_for_another = |web: &Web| {
            let before = web.bench.hosts[1].counter("handoff_not_admitted");
            while web.bench.hosts[1].counter("handoff_not_admitted") == before {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        wait_for_another(&web);
        for version in [1, 3] {
            let mut option = HandoffOption { token: second, ..first }.encode();
            option[1] = version;
            web.forwarder.send_bytes_to(1, &option);
            wait_for_another(&web);
        }
        web.forwarder.send_bytes_to(1, &[0xb1, 6, 5, 0xb4, 0x77, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1]);
        wait_for_another(&web);
        web.forwarder.send_to(1, Some(option_of(&state, second)));
        assert_eq!(waiting.join().unwrap().0, "t2");
    }
    assert_eq!(web.bench.hosts[1].counter("handed_over"), 2);
}

/// The target has nothing of what the client was sent and has not got.
#[test]
#[ignore = "needs root"]
fn a_packet_that_does_not_acknowledge_everything_makes_no_connection() {
    let mut web = Web::new();
    for dvipa in dvipas() {
        let (mut http, connection) = open(&mut web, dvipa);
        let (_, option) = web.move_on(&connection, 0, 1);
        web.forwarder.send_to(1, Some(HandoffOption { sent: option.sent.wrapping_add(1), ..option }));
        let before = web.bench.hosts[1].counter("handoff_elsewhere");
        let waiting = std::thread::spawn(move || (http.target().unwrap(), http));
        while web.bench.hosts[1].counter("handoff_elsewhere") == before {
            std::thread::sleep(Duration::from_millis(10));
        }
        web.forwarder.send_to(1, Some(option));
        assert_eq!(waiting.join().unwrap().0, "t2");
    }
}

#[test]
#[ignore = "needs root"]
fn what_a_server_still_owes_is_not_pulled() {
    let mut web = Web::new();
    let (mut http, connection) = open(&mut web, dvipas()[0]);
    let stranger = Connection { client: (CLIENT.0, 1).into(), ..connection };
    assert!(matches!(web.pull(&stranger, 0), Err(Refused::NotThere { .. })));
    // The client's kernel hears and acknowledges nothing more.
    let deaf = "nft 'add table inet deaf
        add chain inet deaf in { type filter hook input priority 0; }
        add rule inet deaf in meta l4proto tcp drop'";
    web.bench.client.sh(deaf).unwrap();
    let waiting = std::thread::spawn(move || http.target().unwrap());
    std::thread::sleep(Duration::from_millis(200));
    let refused = web.pull(&connection, 0).unwrap_err();
    assert!(matches!(refused, Refused::QueuesNotEmpty { .. }), "{refused}");
    web.bench.client.sh("nft delete table inet deaf").unwrap();
    assert_eq!(waiting.join().unwrap(), "t1", "the connection went on where it was");
}
