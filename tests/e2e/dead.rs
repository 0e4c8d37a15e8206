//! Hosts that die: their links are cut, or they fall silent, and no kernel tells anybody.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::client::HttpConnection;
use lab::namespace::Namespace;
use lab::spec::{CLIENT, DVIPA, ipv4_only};
use lab::{Lab, Server, Spec, client};

use crate::fixture::{SOON, connect, dvipa4, established, lab, still_answered_by, web4, web6};

/// How long a new client may take: a SYN that was sent at the moment of the death is repeated after a second.
const AT_MOST: Duration = Duration::from_millis(2500);

/// How a host dies.
#[derive(Clone, Copy)]
enum Death {
    /// Its link is cut in the switch: its carrier stays.
    Cut,
    /// It is frozen: it neither receives nor sends.
    Frozen,
}

impl Death {
    fn strike(self, lab: &Lab, host: &str) {
        match self {
            Death::Cut => lab.switch().sh(&format!("ip link set {host} nomaster")),
            Death::Frozen => lab.host(host).sh(
                "nft 'add table netdev frozen
                      add chain netdev frozen in { type filter hook ingress device eth0 priority -500; policy drop; }
                      add chain netdev frozen out { type filter hook egress device eth0 priority -500; policy drop; }'",
            ),
        }
        .expect("it dies");
    }

    fn revive(self, lab: &Lab, host: &str) {
        match self {
            Death::Cut => lab.switch().sh(&format!("ip link set {host} master br0")),
            Death::Frozen => lab.host(host).sh("nft delete table netdev frozen"),
        }
        .expect("it lives");
    }
}

/// Connects and asks who answers, on a thread; returns how long that took.
fn asking(ns: &Namespace, to: SocketAddr) -> JoinHandle<Result<(String, Duration), String>> {
    let ns = ns.clone();
    thread::spawn(move || {
        let begun = Instant::now();
        let answer = client::ask(&ns, to).map_err(|e| format!("after {:?}: {e}", begun.elapsed()))?;
        Ok((answer, begun.elapsed()))
    })
}

/// A download of 8 MiB that takes some seconds, from a target that is not `t1`.
fn download(lab: &Lab) -> JoinHandle<usize> {
    let (mut connection, _) = loop {
        let (connection, target) = connect(lab, web4());
        if target != "t1" {
            break (connection, target);
        }
    };
    thread::spawn(move || connection.get("/slow-enough").map_or(0, |body| body.len()))
}

/// While a host dies, in both families: nine clients whose SYNs meet it, and downloads from the others.
fn new_clients_are_served_within_two_seconds(death: Death) {
    let lab = lab(Spec::default());
    let downloads: Vec<_> = (0..2).map(|_| download(&lab)).collect();
    death.strike(&lab, "t1");
    let clients: Vec<_> =
        (0..18).map(|i| asking(lab.client(), if i % 2 == 0 { web4() } else { web6() })).collect();
    for client in clients {
        let (target, took) = client.join().expect("a thread").unwrap_or_else(|e| panic!("{e}"));
        assert_ne!(target, "t1");
        assert!(took < AT_MOST, "{target} answered after {took:?}");
    }
    for download in downloads {
        assert_eq!(download.join().expect("a thread"), 8 << 20, "others are not disturbed");
    }
}

/// R3: the link of a target is cut while clients connect: all are served within two seconds or so, and what others do goes on.
#[test]
#[ignore = "needs root"]
fn a_cut_link_costs_new_clients_two_seconds_at_most() {
    new_clients_are_served_within_two_seconds(Death::Cut);
}

/// R3: the same of a host that is frozen.
#[test]
#[ignore = "needs root"]
fn a_frozen_host_costs_new_clients_two_seconds_at_most() {
    new_clients_are_served_within_two_seconds(Death::Frozen);
}

/// B9: a server that is stopped, while its kernel goes on to take clients, is given no new ones some seconds after the first one waits
/// there in vain; when it goes on it has its share again, and who waited is answered.
#[test]
#[ignore = "needs root"]
fn a_server_that_accepts_nobody_is_given_nobody() {
    let lab = lab(Spec::default());
    let state = |wanted: &str| {
        lab.wait_for(&format!("t1 to be {wanted}"), SOON, || {
            let rows = lab.dpt().map_err(|e| e.to_string())?;
            let seen: Vec<_> = rows.iter().map(|row| row.targets[0].state.clone()).collect();
            if seen.iter().all(|state| state == wanted) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    };
    lab.freeze_all("t1", "nginx").expect("nginx of t1 does nothing");
    let patient = |to: SocketAddr| {
        let ns = lab.client().clone();
        thread::spawn(move || {
            HttpConnection::open_patiently(&ns, to, Duration::from_secs(30)).and_then(|mut c| c.target())
        })
    };
    let waiting: Vec<_> = (0..6).map(|i| patient(if i % 2 == 0 { web4() } else { web6() })).collect();
    state("stalled");
    for to in [web4(), web6()] {
        let answers = client::ask_often(lab.client(), to, 12);
        assert_eq!(answers.keys().collect::<Vec<_>>(), ["t2", "t3"], "{answers:?}");
    }
    lab.thaw_all("t1", "nginx").expect("nginx of t1 goes on");
    for client in waiting {
        client.join().expect("a thread").unwrap_or_else(|e| panic!("{e}"));
    }
    state("listening");
    assert_eq!(client::ask_often(lab.client(), web4(), 3).len(), 3);
}

/// R3: a client whose port has an entry at the dead host connects again from that port, and is served by another target.
#[test]
#[ignore = "needs root"]
fn the_same_client_port_is_served_elsewhere() {
    let lab = lab(Spec::default());
    let from = |port| SocketAddr::from(SocketAddrV4::new(CLIENT.0, port));
    let mut held = Vec::new();
    for port in 45_000..45_003 {
        let mut connection =
            HttpConnection::open_from(lab.client(), from(port), web4()).expect("it connects");
        let target = connection.target().expect("an answer");
        established(&lab, &connection);
        held.push((port, connection, target));
    }
    Death::Cut.strike(&lab, "t1");
    let begun = Instant::now();
    for (port, connection, target) in held {
        if target == "t1" {
            connection.abort().expect("it is aborted");
            let again = HttpConnection::open_from(lab.client(), from(port), web4());
            let answer = again.and_then(|mut again| again.target());
            assert_ne!(answer.unwrap_or_else(|e| panic!("{e} after {:?}", begun.elapsed())), "t1");
            assert!(begun.elapsed() < AT_MOST, "{:?}", begun.elapsed());
            return;
        }
    }
    panic!("none of three clients was given t1");
}

/// A lab with a UDP service on port 5300 of the IPv4 DVIPA, and a server on each target.
fn udp_lab() -> (Lab, Vec<Server>) {
    let lab = lab(Spec::default()
        .vipadynamic(ipv4_only(&["ports = [5300]\nprotocol = \"udp\"\ndestip = \"all\""]))
        .web([]));
    let names = ["t1", "t2", "t3"];
    let servers =
        names.map(|name| Server::udp(lab.host(name), dvipa4(5300), name).expect("it listens")).into();
    lab.wait_for("all to be targets", SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        if rows.iter().all(|r| r.selectable() == names) { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    (lab, servers)
}

/// R3, R5: a UDP flow of a host that lost its link goes to another target within seconds, and a second one of another host stays.
#[test]
#[ignore = "needs root"]
fn the_udp_flows_of_a_dead_host_go_elsewhere() {
    let (lab, _servers) = udp_lab();
    let ask = |socket: &std::net::UdpSocket| -> Result<String, String> {
        let mut answer = [0; 64];
        socket.send(b"x").map_err(|e| e.to_string())?;
        let bytes = socket.recv(&mut answer).map_err(|e| e.to_string())?;
        Ok(String::from_utf8_lossy(&answer[..bytes]).trim_end_matches(" 1").to_owned())
    };
    let flow = || {
        let socket = client::udp(lab.client(), dvipa4(5300)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
        socket
    };
    let flows: Vec<_> = (0..3).map(|_| flow()).collect();
    let owners: Vec<String> = flows.iter().map(|flow| ask(flow).expect("an answer")).collect();
    let of = |name: &str| owners.iter().position(|owner| owner == name).expect("each has one");
    Death::Cut.strike(&lab, "t1");
    lab.wait_for("another target to answer", SOON, || {
        for (owner, flow) in owners.iter().zip(&flows).filter(|(owner, _)| *owner != "t1") {
            let answer = ask(flow).or_else(|_| ask(flow)).expect("others are not disturbed");
            assert_eq!(&answer, owner);
        }
        let answer = ask(&flows[of("t1")])?;
        if answer == "t1" { Err(answer) } else { Ok(()) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for_session("t1", "dead").unwrap_or_else(|e| panic!("{e}"));
}

/// R3: the entries of a dead host go; a lost stack whose host answers keeps them.
#[test]
#[ignore = "needs root"]
fn only_a_host_that_does_not_answer_is_dead() {
    let lab = lab(Spec::default());
    let held: Vec<_> = (0..6).map(|_| connect(&lab, web4())).collect();
    held.iter().for_each(|(connection, _)| drop(established(&lab, connection)));
    lab.kill("agent-t2").expect("the agent is killed");
    Death::Frozen.strike(&lab, "t1");
    lab.wait_for_session("t1", "dead").unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for_session("t2", "lost").unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for("the entries of t1 to go", SOON, || {
        let rows = lab.crt(&["--stack", "t1"]).map_err(|e| e.to_string())?;
        if rows.is_empty() { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for (mut connection, target) in held.into_iter().filter(|(_, target)| target != "t1") {
        still_answered_by(&mut connection, &target);
    }
}

/// R3: clients of a dead host are told when they send again: nobody else has their connections. Those of others go on.
#[test]
#[ignore = "needs root"]
fn the_clients_of_a_dead_host_are_told() {
    let lab = lab(Spec::default());
    let held: Vec<_> = [web4(), web6()].repeat(3).into_iter().map(|to| connect(&lab, to)).collect();
    held.iter().for_each(|(connection, _)| drop(established(&lab, connection)));
    Death::Frozen.strike(&lab, "t1");
    lab.wait_for_session("t1", "dead").unwrap_or_else(|e| panic!("{e}"));
    let mut told = 0;
    for (mut connection, target) in held {
        if target != "t1" {
            still_answered_by(&mut connection, &target);
            continue;
        }
        // Its kernel repeats the request until it is told.
        let mut stream = connection.into_stream();
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").expect("it is sent");
        let error = stream.read(&mut [0; 64]).expect_err("no answer can come");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        told += 1;
    }
    assert_eq!(told, 2, "one of each family");
}

/// A host is away for so long: who waited goes on, who went elsewhere stays there.
fn a_host_comes_back(away: Duration) {
    let lab = lab(Spec::default());
    let from = |port| SocketAddr::from(SocketAddrV4::new(CLIENT.0, port));
    let mut waits = Vec::new();
    let mut goes = Vec::new();
    for port in 46_000..46_006 {
        let mut connection =
            HttpConnection::open_from(lab.client(), from(port), web4()).expect("it connects");
        let target = connection.target().expect("an answer");
        established(&lab, &connection);
        let list = if target == "t1" && goes.is_empty() { &mut goes } else { &mut waits };
        list.push((port, connection, target));
    }
    assert!(waits.iter().any(|(_, _, target)| target == "t1"), "round robin");
    Death::Cut.strike(&lab, "t1");
    let begun = Instant::now();
    let (port, connection, _) = goes.remove(0);
    connection.abort().expect("it is aborted");
    let mut elsewhere =
        HttpConnection::open_from(lab.client(), from(port), web4()).expect("it connects again");
    let other = elsewhere.target().expect("an answer");
    assert_ne!(other, "t1");
    thread::sleep(away.saturating_sub(begun.elapsed()));
    Death::Cut.revive(&lab, "t1");
    lab.wait_for_session("t1", "up").unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).unwrap_or_else(|e| panic!("{e}"));
    for (_, mut connection, target) in waits {
        assert_eq!(established(&lab, &connection).stack, target, "its account has brought it back");
        still_answered_by(&mut connection, &target);
    }
    assert_eq!(established(&lab, &elsewhere).stack, other, "the host that is back takes nothing of others");
    still_answered_by(&mut elsewhere, &other);
}

/// R3: a host that was away for a second has lost nothing.
#[test]
#[ignore = "needs root"]
fn a_host_that_comes_back_after_a_second_goes_on() {
    a_host_comes_back(Duration::from_secs(1));
}

/// R3: a host that was dead for ten seconds has back what it still has, and nothing of others. With `BATON_SOAK` for a hundred.
#[test]
#[ignore = "needs root"]
fn a_host_that_was_dead_has_back_what_it_still_has() {
    let away = if std::env::var_os("BATON_SOAK").is_some() { 100 } else { 10 };
    a_host_comes_back(Duration::from_secs(away));
}

/// R9: a router between routing node and target takes no longer packets than 1400 bytes: an upload comes through, because
/// the routing node learns that and tells the client.
#[test]
#[ignore = "needs root"]
fn a_router_with_a_smaller_mtu_is_heard_and_the_sender_told() {
    let mut lab = lab(Spec {
        targets: 1,
        ..Spec::default()
            .vipadynamic(ipv4_only(&["ports = [80]\ndestip = \"all\""]))
            .web([lab::spec::Web::wildcard("t1")])
    });
    lab.put_behind_router("t1", 1300).expect("a router");
    let body = lab.files().join("body");
    std::fs::write(&body, vec![b'x'; 1 << 20]).expect("a file is written");
    let (data, url) = (format!("@{}", body.display()), format!("http://{}/", web4()));
    let begun = Instant::now();
    let upload = || lab.client().run(&["curl", "-sf", "--max-time", "10", "--data-binary", &data, &url]);
    lab.wait_for("t1 to be reached over the router", Duration::from_secs(30), || {
        client::ask(lab.client(), web4()).map(drop).map_err(|e| e.to_string())
    })
    .unwrap_or_else(|e| panic!("{e}"));
    upload().unwrap_or_else(|e| panic!("{e} after {:?}", begun.elapsed()));
    assert!(lab.counter("answered_too_big").expect("baton stats answers") > 0, "the client was told");
    let route = lab.client().run(&["ip", "route", "get", &DVIPA.0.to_string()]).expect("ip runs");
    assert!(route.contains("mtu 1268"), "1300 less GUE's 32: {route}");
}
