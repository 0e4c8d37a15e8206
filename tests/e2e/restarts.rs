//! Agents that end and come back, and applications that go on by themselves; what applications take, and what they do not.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::client::HttpConnection;
use lab::spec::DVIPA;
use lab::{Lab, Spec};

use crate::documentation::{PYTHON, module, program};
use crate::fixture::{SOON, dvipa4, established, lab, web4};
use crate::kills::stage::{Outcome, Stage, Victim};

/// How often agents are started again while clients request.
const RESTARTS: usize = 10;
/// Connections that are given before anybody takes one.
const GIVEN: usize = 5;

/// C5, C8: the agent that a connection comes to is killed at each step from when it passes the connection on: the download is
/// whole, and from the note on its connection is at the target.
#[test]
#[ignore = "needs root"]
fn a_receiving_agent_that_is_killed_while_it_passes_a_connection_costs_none() {
    let stage = Stage::set();
    for step in ["target.pass", "target.activate", "target.Active", "target.forget"] {
        for _ in 0..2 {
            let outcome = stage.play("agent-t2", step, Victim::TargetAgent);
            let is_noted = !matches!(step, "target.pass" | "target.activate");
            let wanted = if is_noted { Outcome::Moved } else { Outcome::Stayed };
            assert_eq!(outcome, wanted, "killed before {step}");
        }
    }
}

/// C5, C8: an agent that is started again waits for an application that has not read its control socket yet, and has the connection
/// in there.
#[test]
#[ignore = "needs root"]
fn a_connection_on_its_way_to_its_application_outlives_the_agent() {
    assert_eq!(Stage::set().play_in_flight(), Outcome::Moved);
}

/// A lab with a content-routed port of the IPv4 DVIPA, and how Python programs are started in it.
fn python() -> (Lab, String) {
    let tables = lab::spec::ipv4_only(&["ports = [80]\ndestip = \"all\"\ncontent_routed = true"]);
    let lab = lab(Spec::content_routed().vipadynamic(tables));
    let modules = module(&lab);
    (lab, modules)
}

fn start(lab: &Lab, modules: &str, stack: &str, name: &str, words: &[&str]) {
    let words = [&["/usr/bin/env", modules, PYTHON], words].concat();
    lab.start_application(stack, name, &words).expect("Python starts");
}

fn curl(lab: &Lab, path: &str) -> Result<String, String> {
    let url = format!("http://{}{path}", DVIPA.0);
    lab.client().run(&["curl", "-sS", "--max-time", "30", &url]).map_err(|e| e.to_string())
}

fn until_answered(lab: &Lab, path: &str, wanted: &str) {
    lab.wait_for(wanted.trim(), SOON, || match curl(lab, path)? {
        answer if answer == wanted => Ok(()),
        answer => Err(answer),
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// C1, C8: the documented router and its targets are registered again by themselves each time that an agent is killed and started
/// again; every request meanwhile is answered by who it is for.
#[test]
#[ignore = "needs root"]
fn the_documented_programs_survive_restarts_of_their_agents() {
    let (lab, modules) = python();
    let (dvipa, router, target) =
        (DVIPA.0.to_string(), program(&lab, "router.py"), program(&lab, "target.py"));
    start(&lab, &modules, "rt1", "router", &[&router, &dvipa, "80"]);
    start(&lab, &modules, "t1", "pages", &[&target, "pages", &dvipa, "80"]);
    start(&lab, &modules, "t2", "images", &[&target, "images", &dvipa, "80"]);
    let paths = [("/a", "pages has /a\n"), ("/images/1", "images has /images/1\n")];
    paths.iter().for_each(|(path, wanted)| until_answered(&lab, path, wanted));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = paths.map(|(path, wanted)| {
            let (lab, is_over) = (&lab, &is_over);
            scope.spawn(move || {
                let mut answers = 0;
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(curl(lab, path).as_deref(), Ok(wanted), "after {answers} answers");
                    answers += 1;
                }
                answers
            })
        });
        for stack in ["t1", "t2", "rt1"].iter().cycle().take(RESTARTS) {
            lab.kill(&format!("agent-{stack}")).expect("it is killed");
            thread::sleep(Duration::from_millis(200));
            lab.start_agent(stack).expect("it starts");
            thread::sleep(Duration::from_millis(500));
        }
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.join().expect("each request is answered") > 0);
        }
    });
    paths.iter().for_each(|(path, wanted)| until_answered(&lab, path, wanted));
}

/// A router that gives every client to `taker` without asking, and tells how many it has given.
const GIVER: &str = "
import socket, sys, baton
router = baton.RoutingApplication('giver', sys.argv[1], [80])
listener = socket.create_server((sys.argv[1], 80))
while True:
    client, _ = listener.accept()
    while 'taker@t1' not in router.targets(80):
        router.targets_beyond(80, router.targets(80), 1)
    router.give_connection(client, 'taker@t1')
    print('given', flush=True)
";

/// A target that waits in select(2) only, and begins when it is told to.
const TAKER: &str = "
import select, sys, time, os, baton
taker = baton.TargetApplication('taker', sys.argv[1], [80])
while not os.path.exists(sys.argv[2]):
    time.sleep(0.02)
while True:
    select.select([taker], [], [])
    taken = taker.take_connection(0)
    assert taken, 'select() says that there is one'
    taken.socket.sendall(b'taken\\n')
";

fn given(lab: &Lab, modules: &str, go: &str) -> Vec<std::net::TcpStream> {
    let dvipa = DVIPA.0.to_string();
    start(lab, modules, "rt1", "giver", &["-c", GIVER, &dvipa]);
    start(lab, modules, "t1", "taker", &["-c", TAKER, &dvipa, go]);
    lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    let open = |_| HttpConnection::open(lab.client(), dvipa4(80)).expect("connected").into_stream();
    (0..GIVEN).map(open).collect()
}

fn wait_until_given(lab: &Lab) {
    lab.wait_for("all to be given", SOON, || {
        let log = std::fs::read_to_string(lab.files().join("giver.log")).map_err(|e| e.to_string())?;
        if log.matches("given").count() == GIVEN { Ok(()) } else { Err(log) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// C10: an event loop is told of each connection that was given before it looked, also when the agent was restarted meanwhile.
#[test]
#[ignore = "needs root"]
fn an_event_loop_takes_every_given_connection() {
    let (lab, modules) = python();
    let go = lab.files().join("go");
    let mut clients = given(&lab, &modules, &go.to_string_lossy());
    wait_until_given(&lab);
    lab.kill("agent-t1").expect("it is killed");
    lab.start_agent("t1").expect("it starts");
    std::fs::write(&go, "").expect("written");
    for client in &mut clients {
        client.set_read_timeout(Some(SOON)).expect("set");
        let mut answer = [0; 6];
        client.read_exact(&mut answer).expect("it was taken");
        assert_eq!(&answer, b"taken\n");
    }
}

/// C10: connections that are given and that nobody takes are closed, so that their clients are told.
#[test]
#[ignore = "needs root"]
fn a_given_connection_that_nobody_takes_expires() {
    let (lab, modules) = python();
    let mut clients = given(&lab, &modules, "/nonexistent");
    wait_until_given(&lab);
    for client in &mut clients {
        client.set_read_timeout(Some(Duration::from_secs(100))).expect("set");
        assert_eq!(client.read(&mut [0]).expect_err("it is told").kind(), ErrorKind::ConnectionReset);
    }
    let agent = lab.agent("t1").expect("it answers");
    assert_eq!(agent["transfers"]["not_taken"], GIVEN, "{agent}");
}

/// A router that gives all clients to `pages` and never looks at offers.
const DEAF: &str = "
import socket, sys, baton
router = baton.RoutingApplication('deaf', sys.argv[1], [80])
listener = socket.create_server((sys.argv[1], 80))
while True:
    client, _ = listener.accept()
    client.recv(1, socket.MSG_PEEK)
    while 'pages@t1' not in router.targets(80):
        router.targets_beyond(80, router.targets(80), 1)
    router.transfer(client, 'pages@t1')
";

/// A client whose connection is at `pages@t1`, idle.
fn client_of_pages(lab: &Lab) -> HttpConnection {
    until_answered(lab, "/a", "pages has /a\n");
    let mut connection = HttpConnection::open(lab.client(), web4()).expect("connected");
    assert_eq!(connection.get("/b").expect("answered"), b"pages has /b\n");
    assert_eq!(established(lab, &connection).stack, "t1");
    connection
}

/// B1, C11: a drain to a router that takes no offers says so and does not try for ever; the client goes on where it is.
#[test]
#[ignore = "needs root"]
fn a_drain_to_a_router_that_takes_no_offers_is_refused_with_that_reason() {
    let (lab, modules) = python();
    let (dvipa, target) = (DVIPA.0.to_string(), program(&lab, "target.py"));
    start(&lab, &modules, "rt1", "deaf", &["-c", DEAF, &dvipa]);
    start(&lab, &modules, "t1", "pages", &[&target, "pages", &dvipa, "80"]);
    let mut client = client_of_pages(&lab);
    let said = lab.baton(&["drain", "t1", "--move", "--for", "5"]).unwrap_or_else(|e| e.to_string());
    assert!(said.contains("takes no offers"), "{said}");
    assert_eq!(client.get("/c").expect("still there"), b"pages has /c\n");
}

/// B1, C11: a drain to the documented router moves: the next request decides anew.
#[test]
#[ignore = "needs root"]
fn a_drain_to_the_documented_router_moves() {
    let (lab, modules) = python();
    let (dvipa, router, target) =
        (DVIPA.0.to_string(), program(&lab, "router.py"), program(&lab, "target.py"));
    start(&lab, &modules, "rt1", "router", &[&router, &dvipa, "80"]);
    start(&lab, &modules, "t1", "pages", &[&target, "pages", &dvipa, "80"]);
    let mut client = client_of_pages(&lab);
    let said = lab.baton(&["drain", "t1", "--move", "--for", "20"]).unwrap_or_else(|e| panic!("{e}"));
    assert!(said.contains("t1 is empty"), "{said}");
    start(&lab, &modules, "t2", "pages-2", &[&target, "pages", &dvipa, "80"]);
    assert_eq!(client.get("/d").expect("answered by the other one"), b"pages has /d\n");
}
