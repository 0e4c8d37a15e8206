//! A routing application whose first choices can't or don't want to have a connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use app::{Refusal, Registration, RoutingApplication, Target, TargetApplication, Terms};
use lab::spec::{DVIPA, ipv4_only};
use lab::{Lab, Spec};
use model::transfer::Reason;

use crate::fixture::{SOON, lab, web4};

fn registration(lab: &Lab, job: &str, stack: &str) -> Registration {
    let registration = Registration::new(job, DVIPA.0.into(), &[80]).expect("a job's name");
    registration.socket(lab.applications(stack))
}

/// Fills the connection until the kernel takes no more: how many bytes that are.
fn fill(socket: &mut TcpStream) -> usize {
    socket.set_nonblocking(true).expect("set");
    let mut bytes = 0;
    loop {
        match socket.write(&[b'.'; 65_536]) {
            Ok(written) => bytes += written,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => panic!("{e}"),
        }
    }
    socket.set_nonblocking(false).expect("set");
    bytes
}

/// C4, C9: a server without a control socket is no target for application state, an application rejects, and data that is queued for
/// the client is refused by the stack: each time the connection goes on at the router, with the reason, and a second target takes
/// it in the end, with all that was queued delivered.
#[test]
#[ignore = "needs root"]
fn a_second_target_takes_what_the_first_ones_do_not() {
    let ports = "ports = [80]\ndestip = \"all\"\ncontent_routed = true";
    let lab = lab(Spec::content_routed().vipadynamic(ipv4_only(&[ports])));
    lab.start_web("t3").expect("a server that knows nothing of baton");
    let target = |job, stack| TargetApplication::register(&registration(&lab, job, stack)).expect("a target");
    let (unwilling, willing) = (target("unwilling", "t1"), target("willing", "t2"));
    let router = RoutingApplication::register(&registration(&lab, "router", "rt1")).expect("a router");
    let listener = lab.host("rt1").enter(|| TcpListener::bind(web4())).expect("it listens");
    let names = ["listener@t3", "unwilling@t1", "willing@t2"];
    let [plain, first, second]: [Target; 3] = names.map(|name| name.parse().expect("JOB@STACK"));
    lab.wait_for("the router to know its targets", SOON, || {
        let targets = router.targets(80).map_err(|e| e.to_string())?;
        if [&plain, &first, &second].iter().all(|t| targets.contains(t)) {
            Ok(())
        } else {
            Err(format!("{targets:?}"))
        }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    let mut client = lab.client().enter(|| TcpStream::connect(web4())).expect("the client connects");
    client.set_read_timeout(Some(SOON)).expect("set");
    let (server, _) = listener.accept().expect("the router accepts");
    let state = Terms::new().state(b"user 7");
    let refused = |server: TcpStream, to: &Target, terms: &Terms<'_>| {
        let failed = router.transfer(server, to, terms).expect_err("it is refused");
        (failed.error.refusal(), failed.error.to_string(), failed.stream)
    };
    let (why, said, server) = refused(server, &plain, &state);
    assert_eq!(why, Some(Refusal::Transfer(Reason::NeedsControlSocket)));
    assert!(said.contains("control socket"), "{said}");
    let (why, said, mut server) = thread::scope(|scope| {
        scope.spawn(|| unwilling.next_offer(Some(SOON)).expect("no error").expect("one").reject("I am full"));
        refused(server, &first, &state)
    });
    assert_eq!(why, Some(Refusal::Rejected));
    assert!(said.contains("I am full"), "{said}");
    let queued = fill(&mut server);
    let (why, _, server) = refused(server, &second, &state);
    assert_eq!(why, Some(Refusal::Unacknowledged));
    thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut all = vec![0; queued];
            client.read_exact(&mut all).expect("what was queued");
            client.write_all(b"?").expect("said");
            let mut answer = [0];
            client.read_exact(&mut answer).expect("answered");
            (all.iter().all(|byte| *byte == b'.'), answer)
        });
        let takes = scope.spawn(|| {
            let offer = willing.next_offer(Some(SOON)).expect("no error").expect("one");
            assert_eq!(offer.state(), Some(&b"user 7"[..]));
            let mut connection = offer.accept().expect("it comes").stream;
            let mut asked = [0];
            connection.read_exact(&mut asked).expect("asked");
            connection.write_all(b"!").expect("answered");
            connection
        });
        router
            .transfer(server, &second, &state.unacknowledged(app::wait(SOON)))
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(reads.join().expect("no panic"), (true, [b'!']));
        drop(takes.join().expect("no panic"));
    });
}
