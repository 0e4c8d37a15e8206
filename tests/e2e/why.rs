//! What an operator finds out about a packet and a connection.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use lab::client::stray_ack;
use lab::spec::{self, DVIPA, RoutingNode, Web};
use lab::{Lab, LabError, Server, Spec, client};
use serde_json::Value;

use crate::fixture::{SOON, any, connect, dvipa4, established, lab, web4};

/// Port 80 is served by all; port 82 by nobody; port 8080 by t1, but not for this lab's client; port 5300 is UDP.
const DISTRIBUTES: [&str; 4] = [
    "ports = [80]\ndestip = \"all\"",
    "ports = [82]\ndestip = [\"t1\", \"t9\"]",
    "ports = [8080]\ndestip = \"all\"\n[[vipadynamic.vipadistribute.policy]]\nclient = \"198.18.0.0/24\"\ndestip = [\"t3\"]",
    "ports = [5300]\nprotocol = \"udp\"\ndestip = [\"t1\"]",
];

/// What a command says, whether its exit code is 0 or not.
fn said(lab: &Lab, node: RoutingNode, words: &[&str]) -> String {
    match lab.baton_at(node, words) {
        Ok(text) | Err(LabError::Failed { output: text, .. }) => text,
        Err(error) => panic!("{words:?}: {error}"),
    }
}

/// What `baton why` says of a client's port and a service.
fn why(lab: &Lab, to: SocketAddr, further: &[&str]) -> Value {
    let (from, to) = ("198.18.0.2:40000".to_owned(), to.to_string());
    let words = [&["--json", "why", &from, &to], further].concat();
    let text = said(lab, RoutingNode::First, &words);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{words:?}: {e}: {text}"))
}

/// The counter that says what becomes of the packet, in the end.
fn end(answer: &Value) -> String {
    let last = answer["met"].as_array().and_then(|met| met.last()).map(|met| &met["name"]);
    last.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// One kind of packet that does not arrive: what is asked, what a client does, and the words of the verdict.
struct Drop {
    to: SocketAddr,
    further: &'static [&'static str],
    does: fn(&Lab, SocketAddr),
    says: &'static [&'static str],
}

fn connects(lab: &Lab, to: SocketAddr) {
    let failed = lab.client().enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)));
    assert!(failed.is_err(), "{to} is refused");
}

fn sends(lab: &Lab, to: SocketAddr, ttl: u32, bytes: usize) {
    let socket: UdpSocket = client::udp(lab.client(), to).expect("a socket");
    socket.set_ttl(ttl).expect("a TTL");
    // The second one may fail with what the first was answered.
    let _ = socket.send(&vec![0; bytes]);
}

/// B5: one command says why a packet of each kind does not arrive, and names the counter that it then really adds to.
#[test]
#[ignore = "needs root"]
fn one_command_says_why_a_packet_does_not_arrive() {
    let backup =
        format!("[[vipadynamic]]\n[[vipadynamic.vipabackup]]\naddress = \"{}\"\nrank = 100\n", DVIPA.0);
    let lab = lab(Spec::default().vipadynamic(spec::ipv4_only(&DISTRIBUTES)).second(backup));
    let _web = Server::tcp(lab.host("t1"), any(8080), "t1").expect("t1 listens");
    let _udp = Server::udp(lab.host("t1"), dvipa4(5300), "t1").expect("t1 listens");
    lab.wait_for_targets(8080, &["t1"]).expect("it is a target");
    lab.wait_for("a target of UDP", SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let is_served = rows.iter().any(|row| row.port == 5300 && row.selectable() == ["t1"]);
        if is_served { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let drops = [
        Drop {
            to: dvipa4(82),
            further: &[],
            does: connects,
            says: &["no target", "t1 not-listening", "t9 never-seen", "TCP reset"],
        },
        Drop {
            to: dvipa4(8080),
            further: &[],
            does: connects,
            says: &["no target", "t3 not-listening", "TCP reset"],
        },
        Drop {
            to: dvipa4(22),
            further: &[],
            does: connects,
            says: &["port 22 is not distributed", "TCP reset"],
        },
        Drop {
            to: dvipa4(5300),
            further: &["--udp", "--length", "1500"],
            does: |lab, to| sends(lab, to, 64, 1472),
            says: &["too long", "at most 1468 bytes fit on the way to t1"],
        },
        Drop {
            to: dvipa4(5300),
            further: &["--udp", "--ttl", "1"],
            does: |lab, to| sends(lab, to, 1, 10),
            says: &["TTL or hop limit used up"],
        },
        Drop {
            to: dvipa4(53),
            further: &["--udp"],
            does: |lab, to| sends(lab, to, 64, 10),
            says: &["port 53 is not distributed", "unreachable"],
        },
    ];
    for Drop { to, further, does, says } in drops {
        let answer = why(&lab, to, further);
        let verdict = answer["verdict"].as_str().unwrap_or_default();
        says.iter()
            .for_each(|words| assert!(verdict.contains(words), "{to} {further:?}: {words}: {answer:#}"));
        let counter = end(&answer);
        let before = lab.counter(&counter).expect("baton stats answers");
        does(&lab, to);
        lab.wait_for(&format!("{counter} of {to}"), SOON, || {
            let now = lab.counter(&counter).map_err(|e| e.to_string())?;
            if now > before { Ok(()) } else { Err(format!("{counter} {now}")) }
        })
        .unwrap_or_else(|e| panic!("{e}: {answer:#}"));
    }
    // The policy is named as what decides.
    let text = said(&lab, RoutingNode::First, &["why", "198.18.0.2:40000", "198.18.9.1:8080"]);
    assert!(text.contains("this client is in 198.18.0.0/24"), "{text}");
    // An operator's own doing.
    ["t1", "t2", "t3"].iter().for_each(|target| drop(lab.baton(&["drain", target]).expect("an order")));
    let text = said(&lab, RoutingNode::First, &["why", "198.18.0.2:40000", "198.18.9.1:80"]);
    assert!(
        text.starts_with("refused ")
            && text.contains("t2 draining")
            && text.contains("`baton resume` ends that"),
        "{text}"
    );
    ["t1", "t2", "t3"].iter().for_each(|target| drop(lab.baton(&["resume", target]).expect("an order")));
    // Another node's.
    lab.wait_for("rt2 to say who owns it", SOON, || {
        let text = said(&lab, RoutingNode::Second, &["why", "198.18.0.2:40000", "198.18.9.1:80"]);
        if text.starts_with("not ours ") && text.contains("rt1 owns it") { Ok(()) } else { Err(text) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let text = said(&lab, RoutingNode::First, &["why", "198.18.0.2:40000", "198.18.9.77:80"]);
    assert!(text.starts_with("not ours ") && text.contains("is no DVIPA of this node"), "{text}");
    // And what arrives.
    let answer = why(&lab, web4(), &[]);
    assert_eq!((answer["outcome"].as_str(), end(&answer).as_str()), (Some("forwarded"), "forwarded_new"));
    let promised = answer["stack"].as_str().expect("a stack").to_owned();
    assert_eq!(connect(&lab, web4()).1, promised, "asked before, and asking does not turn the rotation");
}

/// B5: what became of a connection is told while it is there, when it has ended, and when nobody knows it.
#[test]
#[ignore = "needs root"]
fn what_became_of_a_connection_is_told() {
    let lab = lab(Spec::default().vipadynamic(spec::ipv4_only(&["ports = [80]\ndestip = \"all\""])));
    let (connection, target) = connect(&lab, web4());
    established(&lab, &connection);
    let (local, to) = (connection.local(), web4().to_string());
    let told =
        |words: &[&str]| said(&lab, RoutingNode::First, &[&["why", &local.to_string(), &to], words].concat());
    let text = told(&[]);
    assert!(
        text.starts_with("forwarded ") && text.contains(&format!("{target} has it (established)")),
        "{text}"
    );
    assert!(told(&["--length", "1500"]).starts_with("answered "), "it does not fit");
    drop(connection);
    lab.wait_for("its end to be told", SOON, || {
        let text = told(&[]);
        if text.contains(&format!("ended at {target}: ")) { Ok(()) } else { Err(text) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let SocketAddr::V4(local4) = local else { panic!("{local}") };
    lab.wait_for("its entry to be gone", Duration::from_secs(30), || {
        let text = told(&["--segment", "ack"]);
        if text.starts_with("asked for ") && text.contains("t1, t2, t3") { Ok(()) } else { Err(text) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let before = lab.counter("asked").expect("baton stats answers");
    let SocketAddr::V4(to4) = web4() else { panic!("of IPv4") };
    stray_ack(lab.client(), local4, to4).expect("it is sent");
    lab.wait_for("the stacks to be asked", SOON, || {
        let asked = lab.counter("asked").map_err(|e| e.to_string())?;
        if asked > before { Ok(()) } else { Err(format!("asked {asked}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// Waits until a log has all of these words.
fn until(lab: &Lab, log: &str, words: &[&str]) -> String {
    let file = lab.files().join(format!("{log}.log"));
    lab.wait_for(&format!("{words:?}"), SOON, || {
        let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
        if words.iter().all(|word| text.contains(word)) { Ok(text) } else { Err(text) }
    })
    .unwrap_or_else(|e| panic!("{e}"))
}

fn start(lab: &Lab, name: &str, words: &[&str]) {
    let baton = lab.program("baton").expect("it is built").display().to_string();
    let socket = lab.socket().display().to_string();
    let words = [&[baton.as_str(), "--socket", &socket], words].concat();
    lab.start_on("rt1", name, &words).expect("it starts");
    until(lab, name, &["looking at packets"]);
}

/// B5: who looks on sees what each packet of a client met, where it went, and that its target took it; nobody else's; and packets arrive as
/// they would.
#[test]
#[ignore = "needs root"]
fn a_trace_shows_what_packets_meet() {
    let distributes = [DISTRIBUTES[0], DISTRIBUTES[1]];
    let lab =
        lab(Spec::default().vipadynamic(spec::ipv4_only(&distributes)).web(["t1", "t2"].map(Web::wildcard)));
    start(&lab, "trace", &["trace", "--client", "198.18.0.2", "--for", "60"]);
    let (mut connection, target) = connect(&lab, web4());
    let log = until(
        &lab,
        "trace",
        &["forwarded_new: First packet of a connection", "forwarded: Sent to the stack"],
    );
    let port = connection.local().port();
    let first = log.lines().find(|line| line.contains(" SYN ")).unwrap_or_default();
    assert!(first.contains(&format!("TCP 198.18.0.2:{port} > 198.18.9.1:80 SYN")), "{log}");
    assert!(log.contains(&format!("GUE 198.18.0.10 > {}: TCP 198.18.0.2:{port}", address(&target))), "{log}");
    // A packet after the handshake is seen when its target has the connection.
    lab.wait_for("the target to have it", SOON, || {
        connection.target().map_err(|e| e.to_string())?;
        let log = std::fs::read_to_string(lab.files().join("trace.log")).map_err(|e| e.to_string())?;
        if log.contains(&format!("CRT: established at {target}")) { Ok(()) } else { Err(log) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    connects(&lab, dvipa4(82));
    let log = until(&lab, "trace", &["no_target: ", "refused_reset: ", "RST ACK"]);
    assert!(!log.contains("198.18.0.21:7440"), "the cluster's own packets are none of the client's: {log}");
    assert!(!lab.baton(&["why", "198.18.0.2:1", "198.18.9.1:80"]).expect("an answer").is_empty());
}

fn address(target: &str) -> String {
    let number = target.trim_start_matches('t').parse::<u8>().expect("a target");
    format!("198.18.0.{}", 20 + number)
}

/// B5: a capture has packets before and after encapsulation, with the reason as a comment, for the tools that people have.
#[test]
#[ignore = "needs root"]
fn a_capture_has_packets_before_and_after_with_the_reason() {
    let lab = lab(Spec::default().vipadynamic(spec::ipv4_only(&DISTRIBUTES[..2])));
    let file = lab.files().join("packets.pcapng").display().to_string();
    start(&lab, "capture", &["capture", &file, "--client", "198.18.0.2", "--count", "12", "--for", "60"]);
    connects(&lab, dvipa4(82));
    let mut connection = connect(&lab, web4()).0;
    lab.wait_for("the capture to end", SOON, || {
        connection.target().map_err(|e| e.to_string())?;
        let log = std::fs::read_to_string(lab.files().join("capture.log")).map_err(|e| e.to_string())?;
        if log.contains("12 packets are in ") { Ok(()) } else { Err(log) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let read =
        |filter: &str| lab.client().run(&["tcpdump", "-n", "-r", &file, filter]).expect("tcpdump reads it");
    let (before, after) = (read("tcp dst port 80"), read("udp port 6080"));
    assert!(before.contains("> 198.18.9.1.80: Flags [S]"), "{before}");
    assert_eq!(before.lines().count(), after.lines().count(), "each is there twice:\n{before}\n{after}");
    assert!(read("tcp src port 82").contains("Flags [R.]"), "and what this node answered");
    let bytes = std::fs::read(&file).expect("the file");
    let has = |words: &str| bytes.windows(words.len()).any(|window| window == words.as_bytes());
    assert!(
        has("forwarded_new: First packet of a connection") && has("no_target: Packets that open"),
        "comments"
    );
}
