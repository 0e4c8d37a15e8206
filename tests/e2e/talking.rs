//! What applications say to each other over their control sockets, and what they learn of who gives a connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use app::{Registration, RoutingApplication, Target, TargetApplication, Terms};
use lab::spec::{DVIPA, ipv4_only};
use lab::{Lab, Spec};

use crate::fixture::{SOON, lab, web4};

fn registration(lab: &Lab, job: &str, stack: &str) -> Registration {
    let registration = Registration::new(job, DVIPA.0.into(), &[80]).expect("a job's name");
    registration.socket(lab.applications(stack))
}

fn target(name: &str) -> Target {
    name.parse().expect("JOB@STACK")
}

/// C15: applications exchange messages without a transfer, in both directions; an application that is offered or given a connection
/// learns who gives it; and state that follows the transfer reaches the one of several processes that has the connection.
#[test]
#[ignore = "needs root"]
fn applications_talk_and_state_follows_a_connection() {
    let ports = "ports = [80]\ndestip = \"all\"\ncontent_routed = true";
    let lab = lab(Spec::content_routed().vipadynamic(ipv4_only(&[ports])));
    let files = || TargetApplication::register(&registration(&lab, "files", "t1")).expect("a target");
    let processes = [files(), files()];
    let images = TargetApplication::register(&registration(&lab, "images", "t2")).expect("a target");
    let router = RoutingApplication::register(&registration(&lab, "router", "rt1")).expect("a router");
    let listener = lab.host("rt1").enter(|| TcpListener::bind(web4())).expect("it listens");
    lab.wait_for("the router to know its targets", SOON, || {
        let targets = router.targets(80).map_err(|e| e.to_string())?;
        let known = ["files@t1", "images@t2"].iter().all(|name| targets.contains(&target(name)));
        if known { Ok(()) } else { Err(format!("{targets:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    // From now on messages are kept.
    let nothing = router.hear(Some(Duration::ZERO)).expect("no error");
    assert_eq!(nothing, None);
    for process in &processes {
        assert_eq!(process.hear(Some(Duration::ZERO)).expect("no error"), None);
    }
    // Between targets, and between target and router.
    images.say(80, &target("files@t1"), None, b"one").expect("it is on its way");
    images.say(80, &target("files@t1"), None, b"two").expect("it is on its way");
    let heard = processes.each_ref().map(|process| process.hear(Some(SOON)).expect("no error"));
    let mut heard = heard.map(|heard| heard.expect("each of them has a turn"));
    heard.sort_by(|one, other| one.bytes.cmp(&other.bytes));
    for (heard, said) in heard.iter().zip([b"one", b"two"]) {
        assert_eq!((&heard.from, heard.port, heard.client), (&target("images@t2"), 80, None));
        assert_eq!(heard.bytes, said);
    }
    processes[0].say(80, &target("router@rt1"), None, &[7; 32 << 10]).expect("it is on its way");
    let heard = router.hear(Some(SOON)).expect("no error").expect("something");
    assert_eq!((heard.from, heard.bytes), (target("files@t1"), vec![7; 32 << 10]));
    // Nobody is there: it is lost, and nothing else happens.
    router.say(80, &target("nobody@t2"), None, b"lost").expect("it is on its way");
    // A transfer, and state that follows it.
    let waits = Terms::new().state(b"first").unacknowledged(app::wait(SOON));
    for number in 0..4u8 {
        let client = lab.client().enter(|| TcpStream::connect(web4())).expect("the client connects");
        let (server, _) = listener.accept().expect("the router accepts");
        let peer = server.peer_addr().expect("it is connected");
        thread::scope(|scope| {
            let takers = processes.each_ref().map(|process| {
                scope.spawn(|| {
                    let offer = process.next_offer(Some(Duration::from_secs(2))).expect("no error")?;
                    assert_eq!(offer.giver(), Some(&target("router@rt1")));
                    let connection = offer.accept().expect("it comes");
                    assert_eq!(connection.giver, Some(target("router@rt1")));
                    let heard = process.hear(Some(SOON)).expect("no error").expect("what follows");
                    assert_eq!((heard.client, heard.bytes), (Some(connection.client), vec![number]));
                    let state = connection.state.as_deref().expect("what came with it");
                    (&connection.stream).write_all(&[state, &[number]].concat()).expect("answered");
                    Some(connection)
                })
            });
            router.transfer(server, &target("files@t1"), &waits).unwrap_or_else(|e| panic!("{e}"));
            router.say(80, &target("files@t1"), Some(peer), &[number]).expect("it is on its way");
            let taken = takers.map(|taker| taker.join().expect("no panic"));
            assert_eq!(taken.iter().flatten().count(), 1);
            let mut answer = [0; 6];
            (&client).read_exact(&mut answer).expect("the answer");
            assert_eq!(answer, [b'f', b'i', b'r', b's', b't', number]);
        });
    }
    let client = lab.client().enter(|| TcpStream::connect(web4())).expect("the client connects");
    let (server, _) = listener.accept().expect("the router accepts");
    router.give_connection(server, &target("images@t2"), &waits).unwrap_or_else(|e| panic!("{e}"));
    let given = images.take_connection(Some(SOON)).expect("no error").expect("it was given");
    assert_eq!(
        (given.giver, given.client),
        (Some(target("router@rt1")), client.local_addr().expect("an address"))
    );
    lab.check().expect("everything runs");
}
