//! The command line against a running control thread with a forwarder that is a `Vec`.

use std::net::SocketAddr;
use std::sync::mpsc;

use clap::{CommandFactory, Parser};
use control::config::Config;
use control::runtime::api::{CrtAnswer, CrtRow, TransferRow};
use control::runtime::fake::{FakeForwarding, NodeDirectory};
use control::runtime::{CrtEntry, Runtime};
use model::{Connection, CrtState, Protocol, StackIndex, StackName};

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::{events, show, trace};

mod config;
mod looking;
mod tokens;

const WEB: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80]
destip = ["t1", "t2"]
method = "weighted-round-robin"
weights = { t1 = 10, t2 = 5 }
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [81]
destip = ["t1", "t2"]
[[vipadynamic.vipadistribute.route]]
name = "pay"
hostnames = ["*.example"]
matches = [{ path = "/pay" }]
backends = [{ stack = "t1", weight = 3 }]
"#;

/// A control thread, until it is dropped.
struct Node {
    _dir: tempfile::TempDir,
    files: NodeDirectory,
    forwarding: FakeForwarding,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Node {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = NodeDirectory::fill(dir.path(), WEB).unwrap();
        let forwarding = FakeForwarding::default();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let (file, plane) = (files.file(), forwarding.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (config, source) = Config::load_source(&file).unwrap_or_else(|e| panic!("{e}"));
                let control = Runtime::bind(source, config, plane, "test").await.unwrap();
                ready.send(()).unwrap();
                control.run(async { stopped.await.unwrap_or(()) }).await;
            });
        });
        is_ready.recv().unwrap();
        Self { _dir: dir, files, forwarding, stop: Some(stop), thread: Some(thread) }
    }

    /// What a command prints.
    fn baton(&self, words: &str) -> Result<String, Failure> {
        let socket = self.files.socket();
        run(&format!("baton --socket {} {words}", socket.display()))
    }

    fn prints(&self, words: &str) -> String {
        self.baton(words).unwrap_or_else(|failure| panic!("{words}: {}", failure.text()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn run(words: &str) -> Result<String, Failure> {
    run_words(words.split(' '))
}

fn run_words<'w>(words: impl Iterator<Item = &'w str>) -> Result<String, Failure> {
    crate::run(Arguments::try_parse_from(words).unwrap())
}

fn lines<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.contains(word)).collect()
}

#[test]
fn top_prints_a_frame() {
    let node = Node::start();
    let text = node.prints("top --once");
    assert!(text.contains("baton rt1") && text.contains("stacks up 0 of 0"), "{text}");
    assert!(text.contains("never-seen") && text.contains("198.18.9.1:80"), "{text}");
    assert!(node.prints("top --once --view events --width 60").contains("dvipa-gained"));
}

#[test]
fn the_arguments_are_well_formed() {
    Arguments::command().debug_assert();
}

#[test]
fn status_names_the_node_its_file_and_the_fill_of_the_crt() {
    let node = Node::start();
    let text = node.prints("status");
    assert!(text.starts_with("stack            rt1\n"), "{text}");
    assert!(text.contains("batond.toml, read ") && text.contains("IPv4 0 of 1 000 000"), "{text}");
    assert!(
        text.contains("nic net_null0 (net_null) up, lost 2 times (to a queue of their own: ARP)"),
        "{text}"
    );
    assert!(text.contains("1 owned, 0 as backup") && text.contains("no stack has had a session"), "{text}");
}

#[test]
fn json_has_the_fields_of_the_api() {
    let node = Node::start();
    let value: serde_json::Value = serde_json::from_str(&node.prints("--json dpt")).unwrap();
    assert_eq!(value["services"][0]["port"], 80);
    assert_eq!(value["services"][0]["targets"][0]["state"], "never-seen");
}

#[test]
fn dpt_and_vipa_are_tables_with_a_word_for_every_state() {
    let node = Node::start();
    let dpt = node.prints("dpt");
    let rows = lines(&dpt, "198.18.9.1:80/tcp");
    assert_eq!(rows.len(), 2, "{dpt}");
    assert!(
        rows.iter().all(|row| row.contains("weighted-round-robin") && row.contains("never-seen")),
        "{dpt}"
    );
    let vipa = node.prints("vipa");
    assert!(vipa.contains("owner") && vipa.contains("primary") && vipa.contains("/24"), "{vipa}");
    assert!(vipa.lines().all(|line| line == line.trim_end()), "{vipa:?}");
}

#[test]
fn crt_shows_a_bounded_number_of_rows_and_says_how_many_more_there_are() {
    let node = Node::start();
    let entry = |port| CrtEntry {
        connection: Connection::new(
            Protocol::Tcp,
            SocketAddr::from(([198, 18, 0, 2], port)),
            SocketAddr::from(([198, 18, 9, 1], 80)),
        )
        .unwrap(),
        stack: StackIndex(9),
        state: if port < 2000 { CrtState::Established } else { CrtState::HalfOpen },
        idle_ms: 61_000,
    };
    node.forwarding.seen().entries = (1000..41_000).map(entry).collect();
    let text = node.prints("crt --limit 3");
    assert_eq!(lines(&text, "198.18.9.1:80").len(), 3, "{text}");
    assert!(text.contains("1 min 1 s") && text.contains("… and 39 997 more"), "{text}");
    assert!(text.contains("IPv4 40 000 of 1 000 000"), "{text}");
    let one = node.prints("crt --client 198.18.0.2:1500 --state established");
    assert!(lines(&one, "198.18.0.2:").len() == 1 && !one.contains("more"), "{one}");
    let v6 = node.prints("crt --client [2001:db8::2]:1500");
    assert!(lines(&v6, "198.18.0.2").is_empty(), "{v6}");
}

#[test]
fn crt_shows_what_moves_from_where_to_where_and_how() {
    let moving = CrtRow {
        protocol: Protocol::Tcp,
        client: ([198, 18, 0, 2], 1000).into(),
        dvipa: ([198, 18, 9, 1], 80).into(),
        stack: "t1".into(),
        state: CrtState::Frozen,
        idle_ms: 5,
        transfer: Some(TransferRow {
            id: "17-4".into(),
            source: StackName::new("t1").unwrap(),
            target: StackName::new("t2").unwrap(),
            way: "restore".into(),
            step: "offered".into(),
        }),
    };
    let still = CrtRow { transfer: None, state: CrtState::Established, ..moving.clone() };
    let answer = |connections| CrtAnswer { connections, more: 0, crt: Default::default() };
    let text = show::crt(&answer(vec![moving, still.clone()]));
    let row = lines(&text, "17-4").concat();
    assert!(["t1", "t2", "restore", "offered"].iter().all(|word| row.contains(word)), "{text}");
    assert!(!show::crt(&answer(vec![still])).contains("MOVING"));
}

#[test]
fn move_says_who_was_told_or_why_not() {
    let node = Node::start();
    let text = node.baton("move 198.18.0.2:1000 198.18.9.1:80 images@t2").unwrap_err().text();
    assert!(text.contains("198.18.0.2:1000") && text.contains("no connection in the CRT"), "{text}");
    for wrong in ["198.18.0.2 198.18.9.1:80 t2", "198.18.0.2:1000 198.18.9.1:80 @t2"] {
        let words = format!("baton move {wrong}");
        assert!(Arguments::try_parse_from(words.split(' ')).is_err(), "{wrong}");
    }
}

#[test]
fn a_stack_without_connections_is_empty_at_once_and_goes_on_draining() {
    let node = Node::start();
    let text = node.prints("drain t1 --move --for 30 --at-once 4 --quiet 100");
    assert!(text.starts_with("t1 is empty: 0 connections moved in 0."), "{text}");
    assert!(text.contains("`baton resume t1` ends that"), "{text}");
    let value: serde_json::Value = serde_json::from_str(&node.prints("--json drain t1 --move")).unwrap();
    assert_eq!((&value["state"], &value["moved"]), (&"empty".into(), &0.into()));
    let text = node.baton("drain t2 --stop-moving").unwrap_err().text();
    assert!(text.contains("`baton drain t2 --move` begins that"), "{text}");
    for wrong in ["--for 3", "--move --at-once 0", "--move --stop-moving", "--move --port 80"] {
        let words = format!("baton drain t1 {wrong}");
        assert!(Arguments::try_parse_from(words.split(' ')).is_err(), "{wrong}");
    }
}

#[test]
fn stats_shows_each_counter_with_its_meaning() {
    let node = Node::start();
    let text = node.prints("stats");
    let row = lines(&text, "no_connection").concat();
    assert!(row.contains('3') && row.contains("client") && row.contains("neither a SYN"), "{text}");
    assert!(!text.contains("wrong_names") && text.contains("more are 0"), "{text}");
    assert!(node.prints("stats --all").contains("wrong_names"));
}

#[test]
fn orders_say_what_they_did_and_refusals_say_why() {
    let node = Node::start();
    let text = node.prints("drain t1");
    assert!(text.starts_with("t1 drains; DPT"), "{text}");
    assert!(node.prints("resume t1").starts_with("t1 takes new connections again"));
    let text = node.prints("weights 198.18.9.1 80 t1=3 t2=0 --for 30");
    assert!(text.starts_with("weights set for 30 s") && !text.contains("change nothing"), "{text}");
    let text = node.prints("weights 198.18.9.1 81 t1=3");
    assert!(text.contains("They change nothing: the service's method is round-robin"), "{text}");
    let text = node.prints("weights 198.18.9.1 81 t1=0");
    assert!(!text.contains("change nothing"), "{text}");
    let dpt = node.prints("dpt");
    assert!(dpt.contains("controller, ") && dpt.contains(" s left"), "{dpt}");
    assert!(node.prints("weights 198.18.9.1 80 --clear").starts_with("weights taken back"));
    let refused = node.baton("drain nobody").unwrap_err();
    assert!(refused.text().starts_with("error: no stack `nobody`"), "{}", refused.text());
    assert_eq!(format!("{:?}", refused.code()), format!("{:?}", std::process::ExitCode::from(1)));
}

#[test]
fn a_refused_reload_lists_every_mistake_with_its_line() {
    let node = Node::start();
    assert!(node.prints("reload").starts_with("configuration reloaded"));
    node.files.define(&WEB.replace("mask = 24", "mask = 99").replace("[80]", "[0]")).unwrap();
    let text = node.baton("reload").unwrap_err().text();
    assert!(text.contains("2 mistakes, nothing changed") && text.lines().count() == 3, "{text}");
}

#[test]
fn route_explain_says_the_same_of_the_running_node_and_of_its_file() {
    let node = Node::start();
    let file = format!("--file {}", node.files.file().display());
    for from in ["", &file] {
        let command = format!("route explain http://a.example/pay/1 {from}");
        let text = node.prints(command.trim_end());
        assert!(text.contains("route      pay\n") && text.contains("goes to    t1 (weight 3)\n"), "{text}");
        let refused = node.baton(format!("route explain http://a.other/pay {from}").trim_end()).unwrap_err();
        assert!(refused.text().contains("421 Misdirected Request"), "{}", refused.text());
        let refused = node.baton(format!("route explain --port 80 http://a.other/pay {from}").trim_end());
        assert!(refused.unwrap_err().text().contains("has routes"));
    }
    let json: serde_json::Value =
        serde_json::from_str(&node.prints("--json route explain http://a.example/pay/1")).unwrap();
    assert_eq!((&json["route"], &json["hostname"]), (&"pay".into(), &"*.example".into()));
}

#[test]
fn an_absent_socket_is_named_with_what_to_do() {
    let failure = run("baton --socket /nonexistent/batond.sock status").unwrap_err();
    let text = failure.text();
    assert!(
        text.contains("/nonexistent/batond.sock") && text.contains("running") && text.contains("--socket"),
        "{text}"
    );
    assert_eq!(format!("{:?}", failure.code()), format!("{:?}", std::process::ExitCode::from(3)));
}

#[test]
fn check_accepts_a_good_file_and_explains_a_bad_one() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeDirectory::fill(dir.path(), WEB).unwrap();
    let words = format!("baton check --file-only {}", files.file().display());
    let good = run(&words).unwrap_or_else(|f| panic!("{}", f.text()));
    assert!(good.contains("good (batond, node rt1: 1 DVIPAs"), "{good}");
    let json = words.replacen("baton", "baton --json", 1);
    let good: serde_json::Value = serde_json::from_str(&run(&json).unwrap()).unwrap();
    assert_eq!(good["good"], true);
    files.define(&WEB.replace("198.18.9.1", "198.18.9")).unwrap();
    let bad = run(&words).unwrap_err().text();
    assert!(bad.contains("batond.toml") && bad.contains("help"), "{bad}");
    let bad: serde_json::Value = serde_json::from_str(&run(&json).unwrap_err().json()).unwrap();
    assert!(bad["mistakes"][0]["line"].is_number(), "{bad}");
}

#[test]
fn check_explains_the_mistakes_of_an_agents_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(&file, "[node]\nname = \"t1\"\n[[routing_stack]]\nnam = \"rt1\"\n").unwrap();
    let words = format!("baton check --file-only {}", file.display());
    let bad = run(&words).unwrap_err().text();
    assert!(
        bad.contains("agent.toml:1:1") && bad.contains("`cluster_address`") && bad.contains("help"),
        "{bad}"
    );
    let bad = run(&words.replacen("baton", "baton --json", 1)).unwrap_err().json();
    let bad: serde_json::Value = serde_json::from_str(&bad).unwrap();
    assert!(bad["mistakes"].as_array().is_some_and(|all| all.iter().any(|m| m["line"] == 1)), "{bad}");
}

#[test]
fn check_looks_at_the_host_as_the_start_does() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeDirectory::fill(dir.path(), WEB).unwrap();
    let text = std::fs::read_to_string(files.file()).unwrap();
    std::fs::write(files.file(), text.replace("name = \"rt1\"", "name = \"rt7\"")).unwrap();
    let bad = run(&format!("baton check {}", files.file().display())).unwrap_err().text();
    assert!(bad.contains("is for the stack `rt1`") && bad.contains("interface"), "{bad}");
}

#[test]
fn pki_makes_what_the_sessions_need_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let made = run(&format!("baton pki init {}", pki.display())).unwrap_or_else(|f| panic!("{}", f.text()));
    assert!(made.contains("valid 2") && made.contains("0600") && made.contains("baton pki issue"), "{made}");
    let issue = format!("baton pki issue {} rt1 t1", pki.display());
    assert!(run(&issue).is_ok_and(|made| made.contains("t1.key")));
    assert!(run(&issue).unwrap_err().text().contains("not overwritten"));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let dir = tempfile::tempdir().unwrap();
    run(&format!("baton man {}", dir.path().display())).unwrap_or_else(|f| panic!("{}", f.text()));
    for command in Arguments::command().get_subcommands() {
        let name = command.get_name();
        for shell in ["bash", "zsh", "fish"] {
            let script =
                run(&format!("baton completions {shell}")).unwrap_or_else(|f| panic!("{}", f.text()));
            assert!(script.contains(name), "{shell}: {name}");
        }
        assert!(dir.path().join(format!("baton-{name}.1")).exists(), "baton-{name}.1");
    }
    for daemon in ["batond", "baton-agent"] {
        let page = std::fs::read_to_string(dir.path().join(format!("{daemon}.8"))).unwrap();
        assert!(page.contains("\\-\\-cleanup"), "{daemon}.8: {page}");
        let script =
            run(&format!("baton completions bash {daemon}")).unwrap_or_else(|f| panic!("{}", f.text()));
        assert!(script.contains("--cleanup") && script.contains(daemon), "{daemon}: {script}");
    }
}

#[test]
fn an_event_is_a_line_with_its_time_in_utc() {
    use control::runtime::api::{EventName, EventRow};
    let row = EventRow {
        number: 7,
        unix_ms: 1_796_061_601_250,
        event: EventName::TargetWent,
        about: "t1".to_owned(),
        text: "takes no new connections of 198.18.9.1:80 any more: lost".to_owned(),
    };
    let wanted = "2026-11-30 18:00:01.250  target-went          t1  takes no new connections of 198.18.9.1:80 any more: lost";
    assert_eq!(events::line(&row), wanted);
    for name in [EventName::TargetCame, EventName::ReloadRefused, EventName::CertificateRenewed] {
        assert_eq!(serde_json::to_value(name).unwrap(), name.word());
    }
}
