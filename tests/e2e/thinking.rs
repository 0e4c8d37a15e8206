//! A target application takes its time to answer an offer: its connection goes on where it is, and so do all others.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use app::{Registration, RoutingApplication, Target, TargetApplication, Terms, Unacknowledged};
use lab::spec::{DVIPA, ipv4_only};
use lab::{Lab, Spec};

use crate::fixture::{SOON, lab, web4};

/// What a client asks and is answered while an application thinks.
const ROUNDS: usize = 200;

fn registration(lab: &Lab, job: &str, stack: &str) -> Registration {
    let registration = Registration::new(job, DVIPA.0.into(), &[80]).expect("a job's name");
    registration.socket(lab.applications(stack))
}

/// The client asks and the server answers, so many times; which round fails, if one does.
fn talk(client: &mut TcpStream, server: &mut TcpStream, rounds: usize) -> Result<(), String> {
    for round in 0..rounds {
        let mut heard = [0; 2];
        let mut one_round = || {
            client.write_all(b"?")?;
            server.read_exact(&mut heard[..1])?;
            server.write_all(b"!")?;
            client.read_exact(&mut heard[1..])
        };
        one_round().map_err(|e| format!("round {round}: {e}"))?;
        assert_eq!(&heard, b"?!");
    }
    Ok(())
}

/// The state of its CRT entry.
fn standing(lab: &Lab, client: &TcpStream) -> String {
    let client = client.local_addr().expect("it has one").to_string();
    let rows = lab.crt(&[]).unwrap_or_else(|e| panic!("{e}"));
    rows.into_iter().find(|row| row.client == client).expect("its CRT entry").state
}

/// C8, C9: while a target application thinks about an offer, its client goes on at full pace with the application that has the connection, and
/// another connection moves to another target. Rejected, it goes on; accepted late, it moves.
#[test]
#[ignore = "needs root"]
fn a_client_does_not_notice_that_an_application_thinks() {
    let ports = "ports = [80]\ndestip = \"all\"\ncontent_routed = true";
    let lab = lab(Spec::content_routed().vipadynamic(ipv4_only(&[ports])));
    let target =
        |job, stack| TargetApplication::register(&registration(&lab, job, stack)).expect("it is registered");
    let (slow, quick) = (target("slow", "t1"), target("quick", "t2"));
    let router = RoutingApplication::register(&registration(&lab, "router", "rt1")).expect("a router");
    let listener = lab.host("rt1").enter(|| TcpListener::bind(web4())).expect("it listens");
    let [to_slow, to_quick]: [Target; 2] =
        ["slow@t1", "quick@t2"].map(|target| target.parse().expect("JOB@STACK"));
    lab.wait_for("the router to know its targets", SOON, || {
        let targets = router.targets(80).map_err(|e| e.to_string())?;
        let known = [&to_slow, &to_quick].iter().all(|target| targets.contains(target));
        if known { Ok(()) } else { Err(format!("{targets:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    let open = || {
        let client = lab.client().enter(|| TcpStream::connect(web4())).expect("the client connects");
        let (server, _) = listener.accept().expect("the router accepts");
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(Duration::from_secs(4))).expect("a time-out");
        }
        (client, server)
    };
    let ((mut client, mut server), (mut other, other_server)) = (open(), open());
    talk(&mut client, &mut server, 1).expect("it is there");
    let terms = Terms::new().unacknowledged(Unacknowledged::Carry);
    let moves = |socket: TcpStream, to: &Target, state: &[u8]| {
        router.transfer(socket, to, &terms.state(state)).map_err(|e| e.error.to_string())
    };
    let (asked, asked_again) =
        (server.try_clone().expect("a second one"), server.try_clone().expect("a third"));
    thread::scope(|scope| {
        let transfer = scope.spawn(|| moves(asked, &to_slow, b"where it is"));
        let offer = slow.next_offer(Some(SOON)).expect("the agent lives").expect("an offer");
        assert_eq!(offer.state(), Some(&b"where it is"[..]), "it can read what it is to decide on");
        talk(&mut client, &mut server, ROUNDS).expect("it goes on while the application thinks");
        assert_eq!(standing(&lab, &client), "established", "nothing is held");
        let second = scope.spawn(|| moves(other_server, &to_quick, b""));
        let quick_offer = quick.next_offer(Some(SOON)).expect("the agent lives").expect("an offer");
        let mut moved = quick_offer.accept().expect("it takes it").stream;
        second.join().expect("no panic").expect("another connection moves meanwhile");
        talk(&mut other, &mut moved, 1).expect("it goes on at its target");
        offer.reject("not now").expect("the offer stands still");
        let refused = transfer.join().expect("no panic").expect_err("it is rejected");
        assert!(refused.contains("not now"), "{refused}");
    });
    talk(&mut client, &mut server, 1).expect("it goes on where it is");
    thread::scope(|scope| {
        let transfer = scope.spawn(|| moves(asked_again, &to_slow, b""));
        let offer = slow.next_offer(Some(SOON)).expect("the agent lives").expect("an offer");
        talk(&mut client, &mut server, ROUNDS).expect("it goes on while the application thinks");
        let mut moved = offer.accept().expect("it agrees late").stream;
        transfer.join().expect("no panic").expect("it moves");
        talk(&mut client, &mut moved, 1).expect("it goes on at the target");
    });
}
