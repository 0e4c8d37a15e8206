//! Whole agents move connections between applications.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use app::{Connection, Refusal, RoutingApplication, TargetApplication, Terms, Unacknowledged};
use channel::Channel;
use lab::spec::DVIPA;
use model::codec::Address;
use model::control_socket::request::{Consent, Register, Role, Transfer};
use model::control_socket::{MAX_MESSAGE_BYTES, Message, Notification, Request, RequestId, Target};
use model::transfer::Reason;

use crate::cluster::{Cluster, Host};
use crate::routing_stack::{PORT, Seen};
use crate::stream::{self, End};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

fn target(host: &Host, job: &str) -> Target {
    Target { stack: host.name.clone(), job: job.parse().unwrap() }
}

/// The next connection that comes. An offer may be void by the time that it is accepted.
fn accept(application: &TargetApplication) -> Connection {
    loop {
        match application.next_offer(PATIENCE).unwrap().expect("an offer").accept() {
            Err(void) if void.refusal() == Some(Refusal::Aborted) => {}
            accepted => return accepted.unwrap(),
        }
    }
}

fn is_known(seen: &Seen, hosts: &[Host; 2]) -> bool {
    hosts.iter().all(|host| seen.applications.contains_key(&host.name))
}

fn carry<'a>() -> Terms<'a> {
    Terms::new().unacknowledged(Unacknowledged::Carry)
}

/// Rows C6, C8 and C11: all that belongs to the connection comes along, to a second host and back.
#[test]
#[ignore = "needs root"]
fn a_stream_moves_from_application_to_application_and_back() {
    let cluster = Cluster::new();
    let applications = cluster.hosts.each_ref().map(|host| host.application("counter"));
    cluster.routing_stack.wait("both applications", |seen| is_known(seen, &cluster.hosts));
    let (client, mut server, connection) = cluster.connect(DVIPA.0.into());
    let (total, moves) = (1u64 << 20, 6);
    let client = stream::client(client, total);
    let mut end = End::server(total);
    for i in 0..moves {
        let (from, to) = (i % 2, (i + 1) % 2);
        end.run(&server, |end| end.sent.min(end.received) >= total / (moves as u64 + 1) * (i as u64 + 1));
        let to_host = target(&cluster.hosts[to], "counter");
        let state = format!("move {i}");
        server = thread::scope(|scope| {
            let arrived = scope.spawn(|| accept(&applications[to]));
            applications[from].transfer(server, &to_host, &carry().state(state.as_bytes())).unwrap();
            let arrived = arrived.join().unwrap();
            assert_eq!(arrived.state.as_deref(), Some(state.as_bytes()));
            assert_eq!((arrived.client, arrived.dvipa), (connection.client, connection.dvipa));
            arrived.stream
        });
    }
    stream::finish(end, server.into());
    client.join().unwrap();
    let seen = cluster.routing_stack.wait("every settlement", |seen| seen.outcomes.len() == moves);
    assert_eq!(seen.talked_over, [], "the machines speak for a connection that moves");
    for host in &cluster.hosts {
        let until = Instant::now() + Duration::from_secs(10);
        while host.notes() > 0 {
            assert!(Instant::now() < until, "{} notes are left", host.notes());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A line there and an answer back.
fn talk(client: &mut TcpStream, server: &mut TcpStream) {
    say(client, server);
    say(server, client);
}

fn say(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"a line of text\n").unwrap();
    to.set_read_timeout(PATIENCE).unwrap();
    let mut line = [0; 15];
    to.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"a line of text\n");
}

/// Row C9: the connection goes on where it was, and who asked reads why.
#[test]
#[ignore = "needs root"]
fn a_rejected_connection_goes_on_where_it_was() {
    let cluster = Cluster::new();
    let applications = cluster.hosts.each_ref().map(|host| host.application("counter"));
    cluster.routing_stack.wait("both applications", |seen| is_known(seen, &cluster.hosts));
    let (mut client, server, connection) = cluster.connect(DVIPA.0.into());
    let to = target(&cluster.hosts[1], "counter");
    let mut server = thread::scope(|scope| {
        let target = &applications[1];
        let offer = move || target.next_offer(PATIENCE).unwrap().expect("an offer");
        let rejecting = scope.spawn(move || offer().reject("full").unwrap());
        let failed = applications[0].transfer(server, &to, &carry()).unwrap_err();
        rejecting.join().unwrap();
        assert_eq!(failed.error.refusal(), Some(Refusal::Rejected), "{}", failed.error);
        assert!(failed.error.to_string().contains("full"), "{}", failed.error);
        failed.stream
    });
    talk(&mut client, &mut server);
    let nobody = target(&cluster.hosts[1], "nobody");
    let failed = applications[0].transfer(server, &nobody, &carry()).unwrap_err();
    assert_eq!(failed.error.refusal(), Some(Refusal::UnknownTarget), "{}", failed.error);
    server = failed.stream;
    talk(&mut client, &mut server);
    let seen = cluster.routing_stack.seen();
    assert!(seen.connections[&cluster.hosts[0].name].contains(&connection));
    assert!(!seen.connections[&cluster.hosts[1].name].contains(&connection));
}

/// Rows C3, C6: what an application has read and gives back is read again, before what it had left unread. More than it
/// has read can't be given back, and the connection goes on.
#[test]
#[ignore = "needs root"]
fn what_is_given_back_is_read_again() {
    let cluster = Cluster::new();
    let applications = cluster.hosts.each_ref().map(|host| host.application("counter"));
    cluster.routing_stack.wait("both applications", |seen| is_known(seen, &cluster.hosts));
    let (mut client, mut server, _) = cluster.connect(DVIPA.0.into());
    let to = target(&cluster.hosts[1], "counter");
    for round in 0..2 {
        client.write_all(b"read and unread").unwrap();
        server.read_exact(&mut [0; 9]).unwrap();
        if round == 0 {
            // It has read nine.
            let too_much = carry().give_back(b"read and un");
            let failed = applications[0].transfer(server, &to, &too_much).unwrap_err();
            assert_eq!(failed.error.refusal(), Some(Refusal::GivenBack), "{}", failed.error);
            server = failed.stream;
            server.read_exact(&mut [0; 6]).unwrap();
        }
    }
    server = thread::scope(|scope| {
        let arrived = scope.spawn(|| accept(&applications[1]).stream);
        applications[0].transfer(server, &to, &carry().give_back(b"read and ")).unwrap();
        arrived.join().unwrap()
    });
    let mut all = [0; 15];
    server.read_exact(&mut all).unwrap();
    assert_eq!(&all, b"read and unread");
    talk(&mut client, &mut server);
}

/// Row C4: what the client has not acknowledged is refused, or waited for.
#[test]
#[ignore = "needs root"]
fn unacknowledged_bytes_are_refused_or_waited_for() {
    let cluster = Cluster::new();
    let applications = cluster.hosts.each_ref().map(|host| host.application("counter"));
    cluster.routing_stack.wait("both applications", |seen| is_known(seen, &cluster.hosts));
    let (mut client, mut server, _) = cluster.connect(DVIPA.0.into());
    let deaf = "nft 'add table inet deaf
        add chain inet deaf in { type filter hook input priority 0; }
        add rule inet deaf in tcp sport 80 drop'";
    cluster.client.sh(deaf).unwrap();
    server.write_all(b"unheard").unwrap();
    let to = target(&cluster.hosts[1], "counter");
    for terms in [Terms::new(), Terms::new().unacknowledged(app::wait(Duration::from_millis(50)))] {
        let failed = applications[0].transfer(server, &to, &terms).unwrap_err();
        assert_eq!(failed.error.refusal(), Some(Refusal::Unacknowledged), "{}", failed.error);
        server = failed.stream;
    }
    thread::scope(|scope| {
        let arrived = scope.spawn(|| accept(&applications[1]));
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            cluster.client.sh("nft delete table inet deaf").unwrap();
        });
        let terms = Terms::new().unacknowledged(app::wait(Duration::from_secs(9)));
        applications[0].transfer(server, &to, &terms).unwrap();
        let mut server = arrived.join().unwrap().stream;
        let mut heard = [0; 7];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"unheard");
        talk(&mut client, &mut server);
    });
}

/// What the agent says next on a control socket, but for who it is.
fn next(channel: &Channel) -> Notification {
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    loop {
        let deadline = Instant::now() + Duration::from_secs(10);
        assert!(channel.wait_to_receive(Some(deadline)).unwrap(), "the agent says nothing");
        let received = channel.receive(&mut buffer).unwrap().expect("it is open");
        match Notification::decode(&buffer[..received.bytes]).unwrap() {
            Some(Notification::Welcome(_)) | None => {}
            Some(notification) => return notification,
        }
    }
}

/// Row C4: it is the stack that refuses what is queued for the client, also to a program that speaks to its control socket itself.
#[test]
#[ignore = "needs root"]
fn the_stack_refuses_queued_data_whatever_library_asks() {
    let cluster = Cluster::new();
    let target = cluster.hosts[1].application("counter");
    let known = |seen: &Seen| seen.applications.contains_key(&cluster.hosts[1].name);
    cluster.routing_stack.wait("the target", known);
    let (mut client, mut server, _) = cluster.connect(DVIPA.0.into());
    let channel = Channel::connect(&cluster.hosts[0].run.join("applications.sock")).unwrap();
    let say = |request: Request, beside: &[BorrowedFd<'_>]| {
        channel.send(&request.encode().unwrap(), beside).unwrap();
    };
    let register = Register {
        request: RequestId(1),
        role: Role::Target,
        job: "raw".parse().unwrap(),
        dvipa: Address(DVIPA.0.into()),
        ports: vec![PORT],
        hold_accepts: false,
        takes_offers: Some(false),
    };
    say(register.into(), &[]);
    assert!(matches!(next(&channel), Notification::Registered(_)));
    let deaf = "nft 'add table inet deaf
        add chain inet deaf in { type filter hook input priority 0; }
        add rule inet deaf in tcp sport 80 drop'";
    cluster.client.sh(deaf).unwrap();
    server.write_all(b"unheard").unwrap();
    let transfer = |request| Transfer {
        request: RequestId(request),
        to: Some(self::target(&cluster.hosts[1], "counter")),
        consent: Consent::Asked,
        unacknowledged: Unacknowledged::Refuse,
        given_back: None,
    };
    say(transfer(2).into(), &[server.as_fd()]);
    match next(&channel) {
        Notification::Failed(failed) => {
            assert_eq!((failed.request, failed.why), (RequestId(2), Refusal::Unacknowledged));
        }
        other => panic!("not refused: {other:?}"),
    }
    cluster.client.sh("nft delete table inet deaf").unwrap();
    let mut heard = [0; 7];
    client.set_read_timeout(PATIENCE).unwrap();
    client.read_exact(&mut heard).unwrap();
    // The client has it, and acknowledges it a moment later.
    thread::scope(|scope| {
        let arrived = scope.spawn(|| accept(&target));
        let until = Instant::now() + Duration::from_secs(10);
        for request in 3.. {
            say(transfer(request).into(), &[server.as_fd()]);
            match next(&channel) {
                Notification::Transferred(moved) => {
                    assert_eq!(moved.request, RequestId(request));
                    break;
                }
                Notification::Failed(failed) if failed.why == Refusal::Unacknowledged => {
                    assert!(Instant::now() < until, "never acknowledged");
                    thread::sleep(Duration::from_millis(20));
                }
                other => panic!("not moved: {other:?}"),
            }
        }
        talk(&mut client, &mut arrived.join().unwrap().stream);
    });
}

/// Row C10: the target takes the connection when it likes.
#[test]
#[ignore = "needs root"]
fn a_given_connection_is_taken_without_being_offered() {
    let cluster = Cluster::new();
    let applications = cluster.hosts.each_ref().map(|host| host.application("counter"));
    cluster.routing_stack.wait("both applications", |seen| is_known(seen, &cluster.hosts));
    let (mut client, server, _) = cluster.connect(DVIPA.1.into());
    let to = target(&cluster.hosts[1], "counter");
    let refused = applications[0].give_connection(server, &to, &carry()).unwrap_err();
    assert_eq!(refused.error.refusal(), Some(Refusal::NotRegistered), "registered for IPv4 only");
    drop(refused);
    drop(client);
    let (client_v4, server, _) = cluster.connect(DVIPA.0.into());
    client = client_v4;
    applications[0].give_connection(server, &to, &carry().state(b"gift")).unwrap();
    let taken = applications[1].take_connection(PATIENCE).unwrap().expect("a connection");
    assert_eq!(taken.state.as_deref(), Some(&b"gift"[..]));
    let mut server = taken.stream;
    talk(&mut client, &mut server);
}

/// Rows C12 and C13: a listener that holds accepts back gets no new connections; a routing application waits until this
/// stack owns the DVIPA.
#[test]
#[ignore = "needs root"]
fn applications_wait_for_what_is_theirs() {
    let cluster = Cluster::new();
    let name = &cluster.hosts[0].name;
    let _listener = cluster.hosts[0].namespace.enter(|| std::net::TcpListener::bind("0.0.0.0:80").unwrap());
    cluster.routing_stack.wait("the listener", |seen| seen.serves.contains(name));
    let holding = cluster.hosts[0].registration("holding").hold_accepts(true);
    let holding = TargetApplication::register(&holding).unwrap();
    cluster.routing_stack.wait("no listener", |seen| !seen.serves.contains(name));
    drop(holding);
    cluster.routing_stack.wait("the listener again", |seen| seen.serves.contains(name));

    let registration = cluster.hosts[0].registration("router");
    let waiting = thread::spawn(move || RoutingApplication::register(&registration).map(drop));
    cluster.routing_stack.wait("no listener", |seen| !seen.serves.contains(name));
    thread::sleep(Duration::from_millis(200));
    assert!(!waiting.is_finished(), "rt1 owns the DVIPA");
    assert!(cluster.routing_stack.seen().applications[name].is_empty(), "nobody is told of it");
    drop(cluster);
    assert!(waiting.join().unwrap().is_err());
}

/// Row C13, at the stack that comes to own the DVIPA.
#[test]
#[ignore = "needs root"]
fn a_routing_application_begins_when_its_stack_owns_the_dvipa() {
    // The routing stack beside the first agent has its name.
    let cluster = Cluster::routed_by("t1");
    let before = cluster.routing_stack.seen().answers;
    cluster.routing_stack.own(false);
    cluster.routing_stack.wait("answers to the list", |seen| seen.answers == before + 2);
    let name = &cluster.hosts[0].name;
    let registration = cluster.hosts[0].registration("router");
    let waiting = thread::spawn(move || RoutingApplication::register(&registration).map(drop));
    thread::sleep(Duration::from_millis(500));
    assert!(!waiting.is_finished(), "it is a backup");
    assert!(!cluster.routing_stack.seen().applications.contains_key(name), "nobody is told of it");
    cluster.routing_stack.own(true);
    waiting.join().unwrap().unwrap();
}

/// A target sends the connection back to the routing application, which is on the stack that owns the DVIPA.
#[test]
#[ignore = "needs root"]
fn a_completed_transaction_goes_back_to_the_routing_application() {
    let cluster = Cluster::routed_by("t1");
    let router = RoutingApplication::register(&cluster.hosts[0].registration("router")).unwrap();
    // From now on it takes offers.
    router.descriptor();
    let worker = cluster.hosts[1].application("worker");
    cluster.routing_stack.wait("both applications", |seen| is_known(seen, &cluster.hosts));
    let (mut client, server, _) = cluster.connect(DVIPA.0.into());
    let targets = router.targets_beyond(80, &[], PATIENCE).unwrap();
    let to = target(&cluster.hosts[1], "worker");
    assert!(targets.contains(&to), "{targets:?}");
    let mut server = thread::scope(|scope| {
        let there = scope.spawn(|| accept(&worker));
        router.transfer(server, &to, &carry()).unwrap();
        let stream = there.join().unwrap().stream;
        let back = scope.spawn(|| router.next_offer(PATIENCE).unwrap().expect("an offer").accept().unwrap());
        worker.complete(stream, &carry().state(b"done")).unwrap();
        let back = back.join().unwrap();
        assert_eq!(back.state.as_deref(), Some(&b"done"[..]));
        back.stream
    });
    talk(&mut client, &mut server);
}

/// The protocol's promise for kills: the connection stays, or has moved, and nobody is told otherwise.
#[test]
#[ignore = "needs root"]
fn a_connection_survives_the_agents() {
    let mut cluster = Cluster::new();
    let applications = cluster.hosts.each_ref().map(|host| host.application("counter"));
    cluster.routing_stack.wait("both applications", |seen| is_known(seen, &cluster.hosts));
    let (mut client, server, _) = cluster.connect(DVIPA.0.into());
    let to = target(&cluster.hosts[1], "counter");
    // The target's agent dies while its application thinks: the connection stays.
    let (mut server, refusal) = thread::scope(|scope| {
        let asking = scope.spawn(|| applications[0].transfer(server, &to, &carry()).unwrap_err());
        let offer = applications[1].next_offer(PATIENCE).unwrap().expect("an offer");
        cluster.kill_agent(1);
        drop(offer);
        let failed = asking.join().unwrap();
        (failed.stream, failed.error.refusal())
    });
    assert_eq!(refusal, Some(Refusal::Transfer(Reason::TargetLost)));
    talk(&mut client, &mut server);
    cluster.start_agent(1);
    // It registers again by itself.
    cluster.routing_stack.wait("the application again", |seen| is_known(seen, &cluster.hosts));
    // The source's agent dies while the target's application thinks: the offer is void, and the application asks the next agent,
    // which offers it again.
    let (applications, to) = (&applications, &to);
    let again = &applications[1];
    let mut server = thread::scope(|scope| {
        let terms = carry().state(b"so far");
        let asking = scope.spawn(move || applications[0].transfer(server, to, &terms));
        let offer = again.next_offer(PATIENCE).unwrap().expect("an offer");
        cluster.kill_agent(0);
        cluster.start_agent(0);
        let refusal = offer.accept().unwrap_err().refusal();
        assert_eq!(refusal, Some(Refusal::Aborted));
        let arrived = again.next_offer(PATIENCE).unwrap().expect("another offer").accept().unwrap();
        asking.join().unwrap().unwrap();
        arrived.stream
    });
    talk(&mut client, &mut server);
}

/// The agent has taken the connection away from its socket, and is killed before it can say why.
#[test]
#[ignore = "needs root"]
fn an_application_hears_from_the_next_agent_that_its_connection_has_moved() {
    let mut cluster = Cluster::new();
    let applications = cluster.hosts.each_ref().map(|host| host.application("counter"));
    cluster.routing_stack.wait("both applications", |seen| is_known(seen, &cluster.hosts));
    let (mut client, server, _) = cluster.connect(DVIPA.0.into());
    let to = target(&cluster.hosts[1], "counter");
    cluster.hosts[0].halt_at("source.Done");
    let (applications, to) = (&applications, &to);
    let mut server = thread::scope(|scope| {
        let asking = scope.spawn(move || applications[0].transfer(server, to, &carry()));
        let arrived = accept(&applications[1]);
        cluster.hosts[0].wait_for_halt();
        cluster.kill_agent(0);
        cluster.start_agent(0);
        asking.join().unwrap().unwrap();
        arrived.stream
    });
    talk(&mut client, &mut server);
}
