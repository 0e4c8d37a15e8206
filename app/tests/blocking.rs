//! Applications on a stack of one host: real sockets, messages and connections.

mod fixture;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use baton_app::{
    Application, Choice, Error, JobName, Offer, Refusal, Registration, RoutingApplication, TargetApplication,
    TargetState, Terms, WeightFrom,
};
use fixture::{DVIPA, Host, LONG, target};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net;

fn offer(application: &Application) -> Offer {
    application.next_offer(LONG).expect("no error").expect("an offer")
}

/// C3, C7, C8: the router talks to the client, and the target goes on with the same connection.
#[test]
fn a_connection_moves_with_its_state_and_the_client_notices_nothing() {
    let host = Host::start();
    let (router, counter) = (host.router(), host.target("counter"));
    let (mut client, mut stream) = host.connect();
    client.say("user 7");
    let mut line = [0; 7];
    stream.read_exact(&mut line).expect("the question");
    stream.write_all(b"hello 7\n").expect("the answer");

    let (client_address, served) = thread::scope(|scope| {
        let served = scope.spawn(|| {
            let offer = offer(&counter);
            assert_eq!(offer.state(), Some(&b"7"[..]));
            assert_eq!((offer.dvipa().port(), offer.job().as_str()), (host.port(), "counter"));
            let client_address = offer.client();
            let mut connection = offer.accept().expect("accepted");
            connection.stream.write_all(b"counter here\n").expect("said");
            (client_address, connection)
        });
        router.transfer(stream, &target("counter"), &Terms::new().state(b"7")).expect("moved");
        served.join().expect("no panic")
    });
    assert_eq!(client_address, client.address());
    assert_eq!(served.state.as_deref(), Some(&b"7"[..]));
    assert_eq!((client.hear(), client.hear()), ("hello 7".to_owned(), "counter here".to_owned()));
    drop(served);
    assert_eq!(client.hear(), "");
}

/// C3: what is given back reaches the agent, if it is not too much.
#[test]
fn bytes_are_given_back_with_the_connection() {
    let host = Host::start();
    let (router, _target) = (host.router(), host.target("counter"));
    let (_client, stream) = host.connect();
    let too_long = vec![0; (32 << 10) + 1];
    let failed = router.transfer(stream, &target("counter"), &Terms::new().give_back(&too_long));
    let failed = failed.expect_err("too long");
    assert_eq!(failed.error.refusal(), Some(Refusal::GivenBack));
    // The stack of these tests moves descriptors, and can't change what is in them.
    let told = router.transfer(failed.stream, &target("counter"), &Terms::new().give_back(&too_long[1..]));
    assert!(told.expect_err("refused").to_string().contains("32768 bytes given back"));
}

/// C9: what is rejected goes on where it was, with the target's own words, and the next target may be tried.
#[test]
fn a_rejected_connection_comes_back_and_may_go_elsewhere() {
    let host = Host::start();
    let (router, full, other) = (host.router(), host.target("full"), host.target("other"));
    let (mut client, stream) = host.connect();
    thread::scope(|scope| {
        scope.spawn(|| offer(&full).reject("no seat left").expect("told"));
        let failed = router.transfer(stream, &target("full"), &Terms::new()).expect_err("rejected");
        assert_eq!(failed.error.refusal(), Some(Refusal::Rejected));
        assert!(failed.to_string().contains("no seat left"), "{failed}");

        let accepted = scope.spawn(|| offer(&other).accept().expect("accepted"));
        router.transfer(failed.stream, &target("other"), &Terms::new()).expect("moved");
        let mut connection = accepted.join().expect("no panic");
        connection.stream.write_all(b"welcome\n").expect("said");
    });
    assert_eq!(client.hear(), "welcome");
}

/// C4: an unknown target is refused, and the connection goes on.
#[test]
fn an_unknown_target_is_refused() {
    let host = Host::start();
    let router = host.router();
    let (mut client, stream) = host.connect();
    let failed = router.transfer(stream, &target("nobody"), &Terms::new()).expect_err("refused");
    assert_eq!(failed.error.refusal(), Some(Refusal::UnknownTarget));
    (&failed.stream).write_all(b"sorry\n").expect("still here");
    assert_eq!(client.hear(), "sorry");
}

/// An application gives away only what it has registered for.
#[test]
fn a_connection_of_another_port_is_refused() {
    let host = Host::start();
    let (router, _counter, other) = (host.router(), host.target("counter"), Host::start());
    let (_client, stream) = other.connect();
    let failed = router.transfer(stream, &target("counter"), &Terms::new()).expect_err("refused");
    assert_eq!(failed.error.refusal(), Some(Refusal::NotRegistered));
}

/// C2: the targets now, and each change.
#[test]
fn targets_come_and_go() {
    let host = Host::start();
    let router = host.router();
    assert_eq!(router.targets(host.port()).expect("known"), []);
    let counter = host.target("counter");
    let one = router.targets_beyond(host.port(), &[], LONG).expect("told");
    assert_eq!(one, [target("counter")]);
    let again = host.target("another");
    let two = router.targets_beyond(host.port(), &one, LONG).expect("told");
    assert_eq!(two, [target("another"), target("counter")]);
    drop((counter, again));
    let mut left = two;
    while !left.is_empty() {
        left = router.targets_beyond(host.port(), &left, LONG).expect("told");
    }
    let same = router.targets_beyond(host.port(), &[], Some(Duration::from_millis(5))).expect("no change");
    assert_eq!(same, []);
    let error = router.targets(1).expect_err("not registered for it");
    assert_eq!(error.refusal(), Some(Refusal::NotRegistered));
}

/// C10: giveconnection and takeconnection: nobody is asked, and the target takes it when it likes.
#[test]
fn a_given_connection_waits_until_it_is_taken() {
    let host = Host::start();
    let (router, counter) = (host.router(), host.target("counter"));
    assert!(counter.take_connection(Some(Duration::ZERO)).expect("no error").is_none());
    let mut clients = Vec::new();
    for state in ["first", "second"] {
        let (client, stream) = host.connect();
        router
            .give_connection(stream, &target("counter"), &Terms::new().state(state.as_bytes()))
            .expect("given");
        clients.push(client);
    }
    for (client, state) in clients.iter_mut().zip(["first", "second"]) {
        let mut taken = counter.take_connection(LONG).expect("no error").expect("one");
        assert_eq!(taken.state.as_deref(), Some(state.as_bytes()));
        taken.stream.write_all(b"taken\n").expect("said");
        assert_eq!(client.hear(), "taken");
    }
    assert!(counter.next_offer(Some(Duration::ZERO)).expect("no error").is_none());
}

/// C11: a target is a source too: on to a second target, and back to the router when the transaction is complete.
#[test]
fn a_connection_moves_on_and_comes_back() {
    let host = Host::start();
    let (router, first, second) = (host.router(), host.target("first"), host.target("second"));
    let (mut client, stream) = host.connect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let connection = offer(&first).accept().expect("accepted");
            (&connection.stream).write_all(b"first\n").expect("said");
            first.transfer(connection.stream, &target("second"), &Terms::new()).expect("moved on");
        });
        scope.spawn(|| {
            let connection = offer(&second).accept().expect("accepted");
            (&connection.stream).write_all(b"second\n").expect("said");
            second.complete(connection.stream, &Terms::new().state(b"done")).expect("complete");
        });
        assert!(router.next_offer(Some(Duration::ZERO)).expect("no error").is_none());
        router.transfer(stream, &target("first"), &Terms::new()).expect("moved");
        let back = offer(&router);
        assert_eq!(back.state(), Some(&b"done"[..]));
        (&back.accept().expect("accepted").stream).write_all(b"router\n").expect("said");
    });
    assert_eq!([client.hear(), client.hear(), client.hear()], ["first", "second", "router"]);
}

/// C13: on a backup stack the routing application waits until the stack owns the DVIPA.
#[test]
fn a_routing_application_on_a_backup_waits_until_it_is_primary() {
    let host = Host::start();
    host.stack.own(false);
    let _target = host.target("counter");
    let (done, is_done) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let registered = RoutingApplication::register(&host.registration("router"));
            done.send(registered.map(drop)).expect("wanted");
        });
        assert!(is_done.recv_timeout(Duration::from_millis(100)).is_err());
        host.stack.own(true);
        is_done.recv_timeout(LONG.expect("a time")).expect("in time").expect("registered");
    });
}

#[test]
fn applications_talk_to_each_other_without_a_connection_and_about_one() {
    let host = Host::start();
    let (router, counter) = (host.router(), host.target("counter"));
    let (client, stream) = host.connect();
    for application in [&*router, &*counter] {
        assert_eq!(application.hear(Some(Duration::ZERO)).expect("no error"), None);
    }
    router.say(host.port(), &target("counter"), None, b"hello").expect("it is on its way");
    let heard = counter.hear(LONG).expect("no error").expect("something");
    assert_eq!((heard.from, heard.port, heard.client), (target("router"), host.port(), None));
    assert_eq!(heard.bytes, b"hello");
    counter.say(host.port(), &target("router"), Some(client.address()), b"about it").expect("on its way");
    let heard = router.hear(LONG).expect("no error").expect("something");
    assert_eq!((heard.client, heard.bytes), (Some(client.address()), b"about it".to_vec()));
    let long = vec![0; (32 << 10) + 1];
    let refused = router.say(host.port(), &target("counter"), None, &long).expect_err("refused");
    assert_eq!(refused.refusal(), Some(Refusal::StateTooLong));
    let refused = router.say(1, &target("counter"), None, b"").expect_err("refused");
    assert_eq!(refused.refusal(), Some(Refusal::NotRegistered));
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let offered = offer(&counter);
            assert_eq!(offered.giver(), Some(&target("router")));
            offered.accept().expect("accepted").giver
        });
        router.transfer(stream, &target("counter"), &Terms::new()).expect("moved");
        assert_eq!(asked.join().expect("no panic"), Some(target("router")));
    });
}

#[test]
fn a_listener_is_named_and_what_is_no_listener_of_the_port_is_refused() {
    let host = Host::start();
    let named = host.registration("router").listener(&host.listener).expect("it is named");
    let _router = RoutingApplication::register(&named).expect("registered");
    let (_client, stream) = host.connect();
    let other = TcpListener::bind((DVIPA, 0)).expect("another port");
    let elsewhere = TcpListener::bind(("127.0.0.2", host.port())).expect("another address");
    let is_refused = |registration: Registration| {
        let refused = TargetApplication::register(&registration).expect_err("refused");
        assert_eq!(refused.refusal(), Some(Refusal::NoListener));
    };
    is_refused(host.registration("target").listener(&other).expect("it is named"));
    is_refused(host.registration("target").listener(&elsewhere).expect("it is named"));
    is_refused(host.registration("target").listener(&stream).expect("it is named"));
    is_refused(host.registration("target").listener(&std::io::stdin()).expect("it is named"));
}

#[test]
fn sixteen_mebibytes_of_state_move_and_no_more() {
    let host = Host::start();
    let (router, counter) = (host.router(), host.target("counter"));
    let mut state: Vec<u8> = (0..16u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (_client, stream) = host.connect();
    thread::scope(|scope| {
        let accepted = scope.spawn(|| offer(&counter).accept().expect("accepted"));
        router.transfer(stream, &target("counter"), &Terms::new().state(&state)).expect("moved");
        assert!(accepted.join().expect("no panic").state.as_deref() == Some(&state[..]));
    });
    state.push(0);
    let (_client, stream) = host.connect();
    let failed =
        router.transfer(stream, &target("counter"), &Terms::new().state(&state)).expect_err("too long");
    assert_eq!(failed.error.refusal(), Some(Refusal::StateTooLong));
}

#[test]
fn an_offer_that_is_dropped_is_rejected() {
    let host = Host::start();
    let (router, counter) = (host.router(), host.target("counter"));
    let (_client, stream) = host.connect();
    thread::scope(|scope| {
        scope.spawn(|| drop(offer(&counter)));
        let failed = router.transfer(stream, &target("counter"), &Terms::new()).expect_err("rejected");
        assert_eq!(failed.error.refusal(), Some(Refusal::Rejected));
    });
}

#[test]
fn many_threads_share_one_control_socket() {
    const CLIENTS: usize = 200;
    let host = Host::start();
    let (router, counter) = (host.router(), host.target("counter"));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..CLIENTS / 2 {
                    let offer = offer(&counter);
                    let state = offer.state().map(<[u8]>::to_vec).expect("state");
                    let connection = offer.accept().expect("accepted");
                    (&connection.stream).write_all(&[&state[..], b"\n"].concat()).expect("said");
                }
            });
        }
        for part in 0..4 {
            let (host, router) = (&host, &router);
            scope.spawn(move || {
                for i in 0..CLIENTS / 4 {
                    let state = format!("{part}.{i}");
                    let mut client = {
                        // One listener: each accept gets some client's connection, so client and state are paired here.
                        let _one_at_a_time = PAIR.lock().expect("no panic");
                        let (client, stream) = host.connect();
                        let terms = Terms::new().state(state.as_bytes());
                        router.transfer(stream, &target("counter"), &terms).expect("moved");
                        client
                    };
                    assert_eq!(client.hear(), state);
                }
            });
        }
    });
}

static PAIR: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn without_an_agent_the_error_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let registration = baton_app::Registration::new("router", fixture::DVIPA, &[80])
        .expect("a name")
        .socket(directory.path().join("none.sock"));
    let error = TargetApplication::register(&registration).expect_err("nobody there");
    assert!(matches!(error, Error::Connect { .. }));
    assert!(error.to_string().contains("is baton-agent running"), "{error}");
}

/// Whether a descriptor is readable.
fn is_readable(descriptor: BorrowedFd<'_>, within: Option<Duration>) -> bool {
    let within = within.map_or(Timespec { tv_sec: 0, tv_nsec: 0 }, |t| t.try_into().expect("short"));
    poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&within)).expect("polled") > 0
}

/// Several were given before the event loop looks: each is found, and the descriptor is readable until the last was.
#[test]
fn an_event_loop_hears_of_every_given_connection_and_of_nothing_else() {
    let host = Host::start();
    let (router, counter) = (host.router(), host.target("counter"));
    let descriptor = counter.descriptor();
    assert_eq!(counter.targets(host.port()).expect("known"), [target("counter")]);
    assert!(!is_readable(descriptor, None), "an answer is nothing for an event loop");
    let mut clients = Vec::new();
    for _ in 0..5 {
        let (client, stream) = host.connect();
        router.give_connection(stream, &target("counter"), &Terms::new()).expect("given");
        clients.push(client);
    }
    // Other calls and threads may have read the messages meanwhile.
    counter.targets(host.port()).expect("known");
    let mut taken = Vec::new();
    while taken.len() < 5 {
        assert!(is_readable(descriptor, LONG), "{} were taken", taken.len());
        taken.push(counter.take_connection(Some(Duration::ZERO)).expect("no error").expect("one"));
    }
    assert!(!is_readable(descriptor, None));
    assert!(counter.take_connection(Some(Duration::ZERO)).expect("no error").is_none());
}

#[test]
fn an_event_loop_hears_of_offers_of_the_next_agent_too() {
    let mut host = Host::start();
    let (router, counter) = (host.router(), host.target("counter"));
    let descriptor = counter.descriptor();
    let mut clients = Vec::new();
    for _ in 0..3 {
        host.restart(|| {});
        // No call was made meanwhile.
        let (client, stream) = host.connect();
        thread::scope(|scope| {
            let transfer = scope.spawn(|| {
                let known = router.targets_beyond(host.port(), &[], LONG).expect("told");
                assert_eq!(known, [target("counter")]);
                router.transfer(stream, &target("counter"), &Terms::new()).expect("moved");
            });
            assert!(is_readable(descriptor, LONG));
            let offered = counter.next_offer(Some(Duration::ZERO)).expect("no error").expect("an offer");
            assert!(!is_readable(descriptor, None));
            clients.push((client, offered.accept().expect("accepted")));
            transfer.join().expect("no panic");
        });
    }
}

/// What waits goes on waiting, and what is asked is asked of the next agent.
#[test]
fn calls_go_on_through_the_end_of_their_agent() {
    let mut host = Host::start();
    let (router, counter, port) = (host.router(), host.target("counter"), host.port());
    let (_client, stream) = host.connect();
    thread::scope(|scope| {
        let served = scope.spawn(|| offer(&counter).accept().expect("accepted"));
        let asked = host.restart(|| {
            assert!(router.next_offer(Some(Duration::from_millis(1))).expect("no error").is_none());
            let (router, stack) = (&router, "here");
            scope.spawn(move || {
                assert_eq!(router.stack().expect("known").as_str(), stack);
                router.targets_beyond(port, &[], LONG).expect("told")
            })
        });
        assert_eq!(asked.join().expect("no panic"), [target("counter")]);
        router.transfer(stream, &target("counter"), &Terms::new()).expect("moved");
        served.join().expect("no panic");
    });
}

/// An application whose listener does not listen any more when the next agent looks is told so, and registers again when it calls
/// again.
#[test]
fn an_application_that_the_next_agent_refuses_is_told_why() {
    let mut host = Host::start();
    let named = host.registration("router").listener(&host.listener).expect("it is named");
    let router = RoutingApplication::register(&named).expect("registered");
    let (descriptor, port) = (router.descriptor(), host.port());
    net::shutdown(&host.listener, net::Shutdown::Read).expect("it does not listen");
    host.restart(|| {});
    assert!(is_readable(descriptor, LONG), "an event loop is to call, and to be told");
    let refused = router.next_offer(Some(Duration::ZERO)).expect_err("refused");
    assert_eq!(refused.refusal(), Some(Refusal::NoListener));
    net::bind(&host.listener, &SocketAddr::new(DVIPA, port)).expect("it is free");
    net::listen(&host.listener, 8).expect("it listens again");
    let deadline = Instant::now() + LONG.expect("a time");
    while let Err(refused) = router.targets(port) {
        assert!(refused.refusal() == Some(Refusal::NoListener) && Instant::now() < deadline, "{refused}");
    }
}

#[test]
fn a_routing_application_that_never_looks_for_offers_gets_none() {
    let host = Host::start();
    let (router, counter) = (host.router(), host.target("counter"));
    let (_client, stream) = host.connect();
    let failed = counter.complete(stream, &Terms::new()).expect_err("refused");
    assert_eq!(failed.error.refusal(), Some(Refusal::TakesNoOffers));
    assert!(router.next_offer(Some(Duration::ZERO)).expect("no error").is_none());
    // The agent hears it in its own time.
    thread::scope(|scope| {
        let back = scope.spawn(|| offer(&router).accept().expect("accepted"));
        let mut stream = failed.stream;
        let deadline = Instant::now() + LONG.expect("a time");
        while let Err(failed) = counter.complete(stream, &Terms::new()) {
            assert!(Instant::now() < deadline, "{failed}");
            stream = failed.stream;
        }
        back.join().expect("no panic");
    });
}

/// A transfer whose agent ends is asked about at the next one; here it has not moved, so that it is begun anew.
#[test]
fn a_transfer_survives_the_end_of_its_agent() {
    let mut host = Host::start();
    let (router, counter) = (host.router(), host.target("counter"));
    let (mut client, stream) = host.connect();
    thread::scope(|scope| {
        let transfer = scope.spawn(|| router.transfer(stream, &target("counter"), &Terms::new()));
        let void = offer(&counter);
        host.restart(|| {});
        assert!(matches!(void.accept(), Err(Error::Closed)), "the connection goes on where it was");
        // The target may not have registered again when the transfer is begun anew.
        let again = scope.spawn(|| {
            let offered = counter.next_offer(LONG).expect("no error")?;
            Some(offered.accept().expect("accepted"))
        });
        let moved = match transfer.join().expect("no panic") {
            Ok(()) => Ok(()),
            Err(failed) => {
                assert_eq!(failed.error.refusal(), Some(Refusal::UnknownTarget), "{failed}");
                router.targets_beyond(host.port(), &[], LONG).expect("told");
                router.transfer(failed.stream, &target("counter"), &Terms::new())
            }
        };
        moved.expect("moved");
        let connection = again.join().expect("no panic").expect("offered");
        (&connection.stream).write_all(b"still here\n").expect("said");
    });
    assert_eq!(client.hear(), "still here");
}

/// C16: the stack chooses, and shows what it chooses from; both are asked again of an agent that has come back.
#[test]
fn a_target_is_chosen_and_its_weight_and_load_are_shown() {
    let mut host = Host::start();
    let (router, _counter, _other) = (host.router(), host.target("counter"), host.target("other"));
    let (client, _stream) = host.connect();
    let choose = |choice: &Choice<'_>| router.choose(host.port(), client.address(), choice);
    let targets = [target("counter"), target("other")];
    let turns = [(); 4].map(|()| choose(&Choice::all()).expect("chosen"));
    let count = |target| turns.iter().filter(|chosen| *chosen == target).count();
    assert_eq!((count(&targets[0]), count(&targets[1])), (2, 2), "{turns:?}");
    let jobs = [JobName::new("counter").expect("a name")];
    assert_eq!(choose(&Choice::of(&jobs)).expect("chosen"), targets[0]);
    assert_eq!(choose(&Choice::all().besides(&targets[..1])).expect("chosen"), targets[1]);
    let none = choose(&Choice::of(&jobs).besides(&targets)).expect_err("nothing is left");
    assert_eq!(none.refusal(), Some(Refusal::NoTarget));
    let other_family = router.choose(host.port(), "[2001:db8::2]:1".parse().expect("one"), &Choice::all());
    assert_eq!(other_family.expect_err("the DVIPA is IPv4").refusal(), Some(Refusal::NoConnection));
    let other_port = router.choose(1, client.address(), &Choice::all()).expect_err("not registered");
    assert_eq!(other_port.refusal(), Some(Refusal::NotRegistered));
    let too_many = vec![target("other"); 257];
    let too_many = choose(&Choice::all().besides(&too_many)).expect_err("256 are allowed");
    assert_eq!(too_many.refusal(), Some(Refusal::Invalid));

    let views = router.target_views(host.port()).expect("shown");
    assert_eq!(views.iter().map(|view| &view.target).collect::<Vec<_>>(), targets.iter().collect::<Vec<_>>());
    let view = &views[0];
    assert_eq!((view.state, view.weight, view.weight_from), (TargetState::Ready, 1, WeightFrom::Equal));
    assert_eq!((view.connections, view.load.as_ref().map(|load| load.cpu_permille)), (7, Some(250)));
    assert_eq!(router.target_views(1).expect_err("not registered").refusal(), Some(Refusal::NotRegistered));

    host.restart(|| ());
    assert!(router.target_views(host.port()).is_ok(), "the next agent is asked");
}
