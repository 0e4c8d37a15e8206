//! Which sockets take the clients of a port: an application names its listener, holds accepts back, waits, or shares the port.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use app::{Registration, RoutingApplication, Target, TargetApplication, Terms};
use lab::client::ask_often;
use lab::spec::{self, DVIPA, ipv4_only};
use lab::{Lab, Spec};
use socket2::{Domain, Socket, Type};

use crate::fixture::{SOON, connect, established, lab, web4, web6};
use crate::transfer::{start_router_on, start_target};

/// The answer to a SYN that reaches this target past the routing node, as a late one or a stranger's may.
fn straight_to(lab: &Lab, target: u8, dvipa: SocketAddr) -> Result<(), ErrorKind> {
    let (v4, v6) = spec::host(spec::target(target));
    let (to, via) = match dvipa.ip() {
        IpAddr::V4(to) => (format!("{to}/32"), v4.to_string()),
        IpAddr::V6(to) => (format!("{to}/128"), v6.to_string()),
    };
    let route = |verb| lab.client().run(&["ip", "route", verb, &to, "via", &via]).expect("a route");
    route("add");
    let connected = lab.client().enter(|| TcpStream::connect_timeout(&dvipa, Duration::from_secs(5)));
    route("del");
    connected.map(drop).map_err(|e| e.kind())
}

/// What a SYN past the routing node is answered by target 2, for both families.
fn by_t2(lab: &Lab) -> [Result<(), ErrorKind>; 2] {
    [web4(), web6()].map(|dvipa| straight_to(lab, 2, dvipa))
}

const REFUSED: [Result<(), ErrorKind>; 2] = [Err(ErrorKind::ConnectionRefused); 2];

/// C12: a server whose accepts are held back takes no client, not even one whose SYN reaches its host all the same, and is opened
/// for a connection that is transferred to it, and for no other; also while the agent is away.
#[test]
#[ignore = "needs root"]
fn a_held_listener_takes_only_what_is_transferred_to_it() {
    let lab = lab(Spec::default());
    assert_eq!(by_t2(&lab), [Ok(()); 2], "it takes clients so far");
    let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
    let words = ["http", "target", "--hold-accepts", "files", "80", &v4, &v6];
    lab.start_application("t2", "files", &words).expect("the target starts");
    lab.wait_for_targets(80, &["t1", "t3"]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(by_t2(&lab), REFUSED);
    for to in [web4(), web6()] {
        let (mut connection, first) = connect(&lab, to);
        established(&lab, &connection);
        let (client, dvipa) = (connection.local().to_string(), to.to_string());
        let said = lab.baton(&["move", &client, &dvipa, "listener@t2"]);
        let said = said.unwrap_or_else(|e| panic!("from {first}: {e}"));
        assert!(said.contains("put into the server by its kernel (inject)"), "{said}");
        assert_eq!(connection.target().expect("the server answers"), "t2");
        assert_eq!(by_t2(&lab), REFUSED, "it was opened for that connection alone");
    }
    lab.kill("agent-t2").expect("it is killed");
    assert_eq!(by_t2(&lab), REFUSED, "the kernel keeps it closed");
    lab.start_agent("t2").expect("it starts");
    lab.wait_for_session("t2", "up").unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for_targets(80, &["t1", "t3"]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(by_t2(&lab), REFUSED);
    lab.wait_for("the application to be back", SOON, || {
        let status = lab.agent_status("t2").map_err(|e| e.to_string())?;
        let applications = status["applications"].as_array().map_or(0, Vec::len);
        if applications == 2 { Ok(()) } else { Err(status.to_string()) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    lab.kill("files").expect("it is killed");
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(by_t2(&lab), [Ok(()); 2]);
}

/// C12, C13: a routing application that waits, because its stack does not own the DVIPA, listens already, but its socket takes no
/// client, and no connection is transferred to it.
#[test]
#[ignore = "needs root"]
fn a_waiting_listener_takes_no_client_and_is_no_target() {
    let lab = lab(Spec::content_routed());
    start_target(&lab, "files@t1");
    start_router_on(&lab, "rt1");
    start_router_on(&lab, "t2");
    lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for("the router of t2 to wait", SOON, || {
        let status = lab.agent_status("t2").map_err(|e| e.to_string())?;
        let applications = status["applications"].as_array().ok_or("no applications")?;
        let waiting = applications.iter().filter(|a| a["state"] == "waiting").count();
        if waiting == 2 { Ok(()) } else { Err(status.to_string()) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let listeners = lab.host("t2").run(&["ss", "-Hltn", "sport = :80"]).expect("ss answers");
    assert_eq!(listeners.lines().count(), 2, "{listeners}");
    assert_eq!(by_t2(&lab), REFUSED);
    for row in lab.dpt().expect("baton dpt answers").iter().filter(|row| row.port == 80) {
        let of_t2: Vec<_> =
            row.targets.iter().filter(|t| t.target == "t2").map(|t| t.state.as_str()).collect();
        assert_eq!(of_t2, ["not-listening"]);
    }
    let router = app_on(&lab, "rt1");
    let router = RoutingApplication::register(&router("third")).expect("a third router");
    let targets = router.targets(80).expect("the targets");
    assert_eq!(targets, ["files@t1".parse::<Target>().expect("JOB@STACK")], "no router is one");
    assert_eq!(ask_often(lab.client(), web4(), 5).into_keys().collect::<Vec<_>>(), ["files@t1 has /"]);
}

/// Registrations with the agent of a stack, by job.
fn app_on<'a>(lab: &'a Lab, stack: &'a str) -> impl Fn(&str) -> Registration + use<'a> {
    move |job| {
        let registration = Registration::new(job, DVIPA.0.into(), &[80]).expect("a job's name");
        registration.socket(lab.applications(stack))
    }
}

/// A listener of the port that others may share.
fn shared(lab: &Lab, stack: &str) -> TcpListener {
    lab.host(stack).enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("set");
        socket.set_reuse_port(true).expect("set");
        socket.bind(&web4().into()).expect("bound");
        socket.listen(64).expect("it listens");
        socket.set_nonblocking(true).expect("set");
        socket.into()
    })
}

/// The clients that the kernel has given to this listener, once there are so many. The end of a handshake may be on its way.
fn accepted(lab: &Lab, listener: &TcpListener, count: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    let come = lab.wait_for("the clients", SOON, || {
        all.extend(std::iter::from_fn(|| listener.accept().ok()).map(|(stream, _)| stream));
        if all.len() >= count { Ok(()) } else { Err(format!("{} of {count}", all.len())) }
    });
    come.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(all.len(), count);
    all.iter().for_each(|stream| stream.set_nonblocking(false).expect("set"));
    all
}

fn clients(lab: &Lab, count: usize) -> Vec<TcpStream> {
    let one = || TcpStream::connect_timeout(&web4(), Duration::from_secs(5));
    let open = || {
        let client = lab.client().enter(one).expect("it connects");
        client.set_read_timeout(Some(SOON)).expect("set");
        client
    };
    std::iter::repeat_with(open).take(count).collect()
}

/// Each of these clients says a byte, and hears it again from the application that has its connection.
fn talk(clients: &mut [TcpStream], servers: &mut [TcpStream]) {
    for server in servers {
        let peer = server.peer_addr().expect("connected");
        let of_it = |client: &&mut TcpStream| client.local_addr().expect("connected") == peer;
        let client = clients.iter_mut().find(of_it).expect("its client");
        let mut heard = [0; 2];
        client.write_all(b"?").expect("said");
        server.read_exact(&mut heard[..1]).expect("heard");
        server.write_all(b"!").expect("said");
        client.read_exact(&mut heard[1..]).expect("heard");
        assert_eq!(&heard, b"?!");
    }
}

/// C14: several routing applications share a port, each with the socket that it has named. Clients come to them in turn, all of
/// them transfer connections and are given them back in turn, and one that ends or is killed costs the others none of theirs.
#[test]
#[ignore = "needs root"]
fn routing_applications_share_a_port_and_its_clients() {
    let ports = "ports = [80]\ndestip = \"all\"\ncontent_routed = true";
    let lab = lab(Spec::content_routed().vipadynamic(ipv4_only(&[ports])));
    let files = TargetApplication::register(&app_on(&lab, "t1")("files")).expect("a target");
    let registration = app_on(&lab, "rt1");
    let listeners = [shared(&lab, "rt1"), shared(&lab, "rt1")];
    let router = |job: &str, listener: &TcpListener| {
        let registration = registration(job).listener(listener).expect("it is named");
        RoutingApplication::register(&registration).unwrap_or_else(|e| panic!("{job}: {e}"))
    };
    let [first, second] =
        ["first", "second"].map(|job| router(job, &listeners[usize::from(job == "second")]));
    lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    let mut all = clients(&lab, 6);
    let [mut of_first, mut of_second] = [0, 1].map(|number| accepted(&lab, &listeners[number], 3));
    talk(&mut all, &mut of_first);
    talk(&mut all, &mut of_second);
    // Each moves one to the target, whose transactions are complete at once: they come back to both in turn.
    let to_files: Target = "files@t1".parse().expect("JOB@STACK");
    lab.wait_for("the routers to know the target", SOON, || {
        let targets = first.targets(80).map_err(|e| e.to_string())?;
        if targets.contains(&to_files) { Ok(()) } else { Err(format!("{targets:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for (router, connection) in [(&first, of_first.pop()), (&second, of_second.pop())] {
        // They look for offers from now on.
        assert!(router.next_offer(Some(Duration::ZERO)).expect("no error").is_none());
        let waits = Terms::new().unacknowledged(app::wait(SOON));
        std::thread::scope(|scope| {
            let taken =
                scope.spawn(|| files.next_offer(Some(SOON)).expect("no error").expect("one").accept());
            router.transfer(connection.expect("one"), &to_files, &waits).unwrap_or_else(|e| panic!("{e}"));
            let taken = taken.join().expect("no panic").expect("it has come");
            talk(&mut all, std::slice::from_mut(&mut { taken.stream.try_clone().expect("the same") }));
            let back = [&first, &second].map(|router| {
                scope.spawn(|| {
                    router.next_offer(Some(Duration::from_secs(2))).expect("no error").map(|o| o.accept())
                })
            });
            files.complete(taken.stream, &waits).unwrap_or_else(|e| panic!("{e}"));
            let back = back.map(|offered| offered.join().expect("no panic"));
            for (came, of) in back.into_iter().zip([&mut of_first, &mut of_second]) {
                of.extend(came.map(|connection| connection.expect("it has come").stream));
            }
        });
    }
    assert_eq!((of_first.len(), of_second.len()), (3, 3), "in turn too");
    talk(&mut all, &mut of_first);
    // One ends; the others' clients and connections are not concerned.
    let [listener, ended] = listeners;
    drop((second, ended));
    let mut more = clients(&lab, 4);
    let mut of_more = accepted(&lab, &listener, 4);
    talk(&mut more, &mut of_more);
    talk(&mut all, &mut of_first);
    talk(&mut all, &mut of_second);
    // Another process shares the port, and is killed.
    let words = ["http", "router", "80", &DVIPA.0.to_string(), "--", "files"];
    lab.start_application("rt1", "router", &words).expect("the router starts");
    lab.wait_for("the process to be registered", SOON, || {
        let status = lab.agent_status("rt1").map_err(|e| e.to_string())?;
        let applications = status["applications"].as_array().map_or(0, Vec::len);
        if applications == 2 { Ok(()) } else { Err(status.to_string()) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let mut shared = clients(&lab, 4);
    let mut ours = accepted(&lab, &listener, 2);
    lab.kill("router").expect("it is killed");
    talk(&mut shared, &mut ours);
    let mut last = clients(&lab, 4);
    let mut of_last = accepted(&lab, &listener, 4);
    talk(&mut last, &mut of_last);
}
