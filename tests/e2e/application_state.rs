//! Application state that moves with a connection: what the application at the other end needs besides the connection itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use app::{Registration, RoutingApplication, Target, TargetApplication, Terms};
use lab::Spec;
use lab::spec::{DVIPA, ipv4_only};

use crate::fixture::{lab, web4};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));
/// The most application state that a transfer takes.
const MOST: usize = 16 << 20;

fn registration(job: &str, socket: PathBuf) -> Registration {
    Registration::new(job, DVIPA.0.into(), &[80]).expect("a job name").socket(socket)
}

/// A pattern in which a lost or doubled piece shows.
fn state(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

fn say(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"a line\n").expect("it is sent");
    let mut line = [0; 7];
    to.read_exact(&mut line).expect("it comes");
    assert_eq!(&line, b"a line\n");
}

/// C4: application state of up to 16 MiB arrives with the connection as it was given; one byte more is refused with the reason, and the
/// connection goes on where it is.
#[test]
#[ignore = "needs root"]
fn sixteen_mebibytes_of_application_state_move_along() {
    let ports = "ports = [80]\ndestip = \"all\"\ncontent_routed = true";
    let lab = lab(Spec::content_routed().vipadynamic(ipv4_only(&[ports])));
    let target = TargetApplication::register(&registration("big", lab.applications("t1"))).expect("a target");
    let router =
        RoutingApplication::register(&registration("router", lab.applications("rt1"))).expect("a router");
    let listener = lab.host("rt1").enter(|| TcpListener::bind(web4())).expect("it listens");
    lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    let to = Target { stack: "t1".parse().expect("a name"), job: "big".parse().expect("a name") };
    router.targets_beyond(80, &[], PATIENCE).expect("the target is known");
    let accepting = thread::spawn(move || {
        // The first transfer is refused before anybody is asked.
        [0, 1, MOST].map(|bytes| {
            let offer = target.next_offer(PATIENCE).expect("the agent answers").expect("an offer");
            assert!(
                offer.state().unwrap_or_default() == state(bytes),
                "the state of {bytes} bytes is offered whole"
            );
            offer.accept().expect("it is there").stream
        })
    });
    let open = || {
        let client = lab.client().enter(|| TcpStream::connect(web4())).expect("the client connects");
        (client, listener.accept().expect("the router accepts").0)
    };
    let (mut client, server) = open();
    let too_much = router.transfer(server, &to, &Terms::new().state(&state(MOST + 1))).expect_err("too much");
    assert!(too_much.error.to_string().contains("16"), "{}", too_much.error);
    let mut server = too_much.stream;
    say(&mut client, &mut server);
    say(&mut server, &mut client);
    let clients = [0, 1, MOST].map(|bytes| {
        let (client, server) = open();
        router.transfer(server, &to, &Terms::new().state(&state(bytes))).expect("it moves");
        client
    });
    for (mut client, mut server) in clients.into_iter().zip(accepting.join().expect("all were accepted")) {
        say(&mut client, &mut server);
        say(&mut server, &mut client);
    }
}
