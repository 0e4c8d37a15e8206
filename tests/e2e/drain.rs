//! A target is emptied while its clients go on: `baton drain --move` moves their connections to the others.

use std::process::Stdio;
use std::time::{Duration, Instant};

use lab::client::HttpConnection;
use lab::{Lab, Spec};
use nix::sys::signal::Signal;

use crate::fixture::{SOON, connect, established, lab, web4, web6};
use crate::transfer::{start_router, start_target};

/// Connections of a client that says nothing while they move, half over each family.
const IDLE: usize = 40;
/// Connections of wrk, on each of which a request is always under way.
const BUSY: u16 = 24;

/// What `baton drain STACK --move` says and how it exits.
fn drain(lab: &Lab, words: &[&str]) -> (bool, String) {
    let words = [&["drain"], words, &["--move"]].concat();
    match lab.baton(&words) {
        Ok(said) => (true, said),
        Err(e) => (false, e.to_string()),
    }
}

fn connections_of(lab: &Lab, stack: &str) -> usize {
    let filters = ["--stack", stack, "--state", "established", "--limit", "10000"];
    lab.crt(&filters).expect("baton crt answers").len()
}

/// Idle connections, and on which stack each of them is.
fn idle(lab: &Lab, number: usize) -> Vec<(HttpConnection, String)> {
    let open = |n| connect(lab, if n % 2 == 0 { web4() } else { web6() });
    let all: Vec<_> = (0..number).map(open).collect();
    all.iter().for_each(|(connection, _)| drop(established(lab, connection)));
    all
}

/// B1, C11: an nginx is emptied of the connections of silent clients and of wrk, which has always a request under way, by moving
/// them to the others, without one failed request; then it can be stopped.
#[test]
#[ignore = "needs root"]
fn a_drained_server_loses_its_connections_to_the_others_and_no_request() {
    let lab = lab(Spec::default());
    let mut idle = idle(&lab, IDLE);
    // Only resets: wrk makes many packets.
    let resets = "src port 80 and (tcp[tcpflags] & tcp-rst != 0 or ip6[53] & 4 != 0)";
    let at_client = lab.capture("client", "eth0", resets).expect("a capture");
    let url = format!("http://{}/", web4());
    let connections = BUSY.to_string();
    let words = ["-t1", "-c", &connections, "-d8s", "--timeout", "5s", &url];
    let mut wrk = lab.client().command("wrk");
    let wrk = wrk.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("wrk starts");
    std::thread::sleep(Duration::from_secs(1));
    let before = connections_of(&lab, "t1");
    let begun = Instant::now();
    let (empty, said) = drain(&lab, &["t1", "--for", "30"]);
    assert!(empty && said.contains("t1 is empty: "), "after {:?}: {said}", begun.elapsed());
    let moved = lab.transfers().expect("baton stats answers")["injected"];
    assert!(before > IDLE / 3 && moved >= before as u64, "{moved} of {before} have moved: {said}");
    assert_eq!(connections_of(&lab, "t1"), 0);
    lab.stop("nginx-t1", Signal::SIGTERM).expect("it is stopped");
    let output = wrk.wait_with_output().expect("wrk ends");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains("Requests/sec"), "{report}");
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "no failed request:\n{report}");
    for (connection, before) in &mut idle {
        let answers = connection.target().unwrap_or_else(|e| panic!("was at {before}: {e}"));
        assert!(answers != "t1" && (before == "t1" || answers == *before), "{before} → {answers}");
    }
    let seen = at_client.stop().and_then(|c| c.packets("tcp")).expect("it is read");
    assert_eq!(seen, Vec::<String>::new(), "no server resets a connection");
}

/// B1, C11: where content decides, a drained target's idle connections go back to the routing application, which finds another
/// target for the next request.
#[test]
#[ignore = "needs root"]
fn connections_that_content_has_routed_are_routed_anew() {
    let lab = lab(Spec::content_routed());
    start_router(&lab);
    start_target(&lab, "files@t1");
    start_target(&lab, "files@t2");
    let get = |connection: &mut HttpConnection| {
        String::from_utf8_lossy(&connection.get("/page").expect("it is answered")).trim().to_owned()
    };
    let open =
        |n| HttpConnection::open(lab.client(), if n % 2 == 0 { web4() } else { web6() }).expect("it opens");
    let mut connections: Vec<_> = (0..8).map(open).collect();
    let answers: Vec<_> = connections.iter_mut().map(get).collect();
    assert!(answers.contains(&"files@t1 has /page".to_owned()), "{answers:?}");
    connections.iter().for_each(|connection| drop(established(&lab, connection)));
    let (empty, said) = drain(&lab, &["t1", "--for", "20"]);
    assert!(empty && said.contains("t1 is empty"), "{said}");
    for connection in &mut connections {
        assert_eq!(get(connection), "files@t2 has /page");
    }
}

/// B1, C11: connections that can't move are told with the reason and stay; the drain goes on without moving, and ends.
#[test]
#[ignore = "needs root"]
fn what_remains_is_told_and_the_drain_can_be_stopped_and_ended() {
    let lab = lab(Spec::default());
    let mut idle = idle(&lab, 6);
    // They spoke less than a minute ago.
    let (empty, said) = drain(&lab, &["t1", "--for", "2", "--quiet", "60000"]);
    assert!(!empty && said.contains("2 connections remain at t1") && said.contains("2 of them: "), "{said}");
    assert!(
        said.contains("A request or an answer was under way") && said.contains("`baton resume t1`"),
        "{said}"
    );
    lab.baton(&["drain", "t2", "--stop-moving"]).expect_err("t2 is not emptied");
    lab.wait_for_targets(80, &["t2", "t3"]).unwrap_or_else(|e| panic!("{e}"));
    lab.baton(&["resume", "t1"]).expect("it takes connections again");
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).unwrap_or_else(|e| panic!("{e}"));
    for (connection, stack) in &mut idle {
        assert_eq!(connection.target().expect("it is answered"), *stack);
    }
    lab.wait_for("t1 to be as before", SOON, || match connections_of(&lab, "t1") {
        2 => Ok(()),
        other => Err(format!("{other} connections")),
    })
    .unwrap_or_else(|e| panic!("{e}"));
}
