//! What is said of packets.

use std::process::Command as Program;

use control::runtime::looking::{
    CameRow, Fate, FateKind, Foretold, GivenRow, Met, MetKind, Passed, Seen, TraceRow, WayView,
};
use model::{Connection, CrtState, Protocol, StackIndex};

use super::{Failure, Node};

fn met(name: &str, kind: MetKind) -> Met {
    Met { name: name.to_owned(), kind, fault: None, sentence: format!("What {name} means.") }
}

fn foretold(reasons: &[(&str, MetKind)]) -> Foretold {
    let at_once =
        Passed { met: reasons.iter().map(|(name, kind)| met(name, *kind)).collect(), given: vec![] };
    Foretold {
        packet: "TCP …".to_owned(),
        is_ours: true,
        is_distributed: true,
        at_once,
        ..Foretold::default()
    }
}

#[test]
fn why_says_who_is_in_the_way_of_a_refused_packet() {
    let node = Node::start();
    node.forwarding.seen().foretold =
        foretold(&[("no_target", MetKind::Note), ("refused_reset", MetKind::Done)]);
    let failure = node.baton("why 198.18.0.2:40000 198.18.9.1:80").unwrap_err();
    let Failure::Shown(text) = failure else { panic!("{}", failure.text()) };
    let first = text.lines().next().unwrap_or_default();
    assert_eq!(
        first,
        "refused     No target of 198.18.9.1:80 takes new connections (t1 never-seen, t2 never-seen): the client is told with a TCP reset."
    );
    assert!(text.contains("target      t1 is not selected: never-seen: no stack of this name"), "{text}");
    assert!(text.contains("dvipa       198.18.9.1 is owned by this node"), "{text}");
}

#[test]
fn why_tells_the_last_fates_and_takes_json() {
    let node = Node::start();
    let way =
        WayView::Carried { encapsulation: "gue".to_owned(), longest: 1468, next_hop: "02:…".to_owned() };
    let connection =
        Connection::new(Protocol::Tcp, "198.18.0.2:40000".parse().unwrap(), "198.18.9.1:80".parse().unwrap());
    {
        let mut seen = node.forwarding.seen();
        seen.foretold = Foretold {
            entry: Some((StackIndex(7), CrtState::Established)),
            to: Some(StackIndex(7)),
            way: Some(way),
            ..foretold(&[("forwarded", MetKind::Done)])
        };
        let stack = StackIndex(7);
        let connection = connection.unwrap();
        seen.fates =
            vec![Fate { connection, unix_ms: 1000, what: FateKind::Moved, stack, to: Some(StackIndex(8)) }];
    }
    let text = node.prints("why 198.18.0.2:40000 198.18.9.1:80");
    assert!(text.starts_with("forwarded   It goes to #7, which has its connection.\n"), "{text}");
    assert!(text.contains("connection  #7 has it (established)"), "{text}");
    assert!(text.contains("at most 1468 bytes fit") && text.contains("moved from #7 to #8"), "{text}");
    assert!(!text.contains("\ntarget "), "nothing is selected for it: {text}");
    let json = node.prints("--json why 198.18.0.2:40000 198.18.9.1:80");
    let answer: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&answer["outcome"], &answer["fates"][0]["what"]), (&"forwarded".into(), &"moved".into()));
}

#[test]
fn why_shows_the_route_of_a_request() {
    let node = Node::start();
    node.forwarding.seen().foretold = foretold(&[("answered_syn", MetKind::Done)]);
    let text = node.prints("why 198.18.0.2:40000 198.18.9.1:81");
    assert!(text.starts_with("answered ") && text.contains("ask with `--request`"), "{text}");
    let socket = node.files.socket();
    let words = [
        "baton",
        "--socket",
        socket.to_str().unwrap(),
        "why",
        "198.18.0.2:40000",
        "198.18.9.1:81",
        "--request",
        "GET http://a.example/pay",
    ];
    let text = super::run_words(words.iter().copied()).unwrap();
    assert!(text.contains("route       pay takes the request, because"), "{text}");
    assert!(text.contains("it goes to t1 (weight 3, never-seen)"), "{text}");
    let failure = node.baton("why 198.18.0.2:40000 [2001:db8::1]:81").unwrap_err();
    assert!(failure.text().contains("two families"));
}

fn passing() -> Seen {
    let frame = "020000000010020000000001080045000028000040004006aaaac6120002c6120901";
    let row = TraceRow {
        unix_ms: 1_796_000_000_123,
        worker: 1,
        came: Some(CameRow {
            from: "nic".to_owned(),
            packet: "TCP 198.18.0.2:40000 > 198.18.9.1:80 SYN".to_owned(),
            bytes: frame.to_owned(),
            len: 60,
        }),
        met: vec![met("forwarded_new", MetKind::Done)],
        given: vec![GivenRow {
            to: "nic".to_owned(),
            packet: "GUE …".to_owned(),
            bytes: frame.to_owned(),
            len: 92,
        }],
        entry: None,
    };
    Seen { row, entry: Some((StackIndex(7), CrtState::HalfOpen)) }
}

#[test]
fn packets_that_pass_are_written_until_there_are_enough() {
    let node = Node::start();
    node.forwarding.seen().packets = vec![passing(), passing(), passing()];
    assert_eq!(node.prints("trace --count 2 --client 198.18.0.2 --service 198.18.9.1:80"), "");
    assert!(node.forwarding.seen().trace.is_none(), "it is ended");
    let text = super::trace::lines(&TraceRow { entry: None, ..passing().row });
    assert_eq!(
        text,
        "2026-11-30 00:53:20.123  worker 1  nic    TCP 198.18.0.2:40000 > 198.18.9.1:80 SYN\n    \
         forwarded_new: What forwarded_new means.\n    to nic: GUE …\n"
    );
}

#[test]
fn a_capture_is_a_file_that_others_can_read() {
    let node = Node::start();
    node.forwarding.seen().packets = vec![passing()];
    let file = node.files.socket().with_file_name("packets.pcapng");
    let text = node.prints(&format!("capture {} --count 1", file.display()));
    assert_eq!(text, format!("1 packets are in {}\n", file.display()));
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a], "a section header block");
    let comment = b"forwarded_new: What forwarded_new means.\nCRT: half-open at #7";
    assert_eq!(bytes.windows(comment.len()).filter(|w| w == comment).count(), 2, "before and after");
    let Ok(tcpdump) = Program::new("tcpdump").args(["-n", "-r"]).arg(&file).output() else { return };
    let lines = String::from_utf8_lossy(&tcpdump.stdout).lines().count();
    assert_eq!(lines, 2, "{}", String::from_utf8_lossy(&tcpdump.stderr));
}
