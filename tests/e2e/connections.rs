//! Connections in the CRT: how they enter, how they are followed, how they leave.

use std::net::SocketAddr;
use std::time::Duration;

use lab::client::{self, HttpConnection};
use lab::spec::{self, CLIENT, DVIPA};
use lab::{Lab, Server, Spec, Web};

use crate::fixture::{SOON, connect, dvipa4, established, lab, still_answered_by, web4, web6};

/// W4: a SYN selects a target and makes an entry; every later packet follows it.
#[test]
#[ignore = "needs root"]
fn later_packets_follow_the_entry_that_the_syn_made() {
    let lab = lab(Spec::default());
    let mut connections: Vec<_> =
        [web4(), web6()].repeat(3).into_iter().map(|to| connect(&lab, to)).collect();
    for (connection, target) in &connections {
        assert_eq!(&established(&lab, connection).stack, target);
    }
    for _ in 0..20 {
        for (connection, target) in &mut connections {
            still_answered_by(connection, target);
        }
    }
}

/// W6: TERMCONN removes an entry when its connection ends.
#[test]
#[ignore = "needs root"]
fn an_entry_goes_when_its_connection_ends() {
    let lab = lab(Spec::default());
    let (connection, _) = connect(&lab, web4());
    established(&lab, &connection);
    let local = connection.local();
    drop(connection);
    // Its last packets still pass for `closing_s`, in a state that says so.
    wait_for_rows(&lab, local, "no entry that is established", |rows| {
        rows.iter().all(|state| state == "closing")
    });
    wait_for_rows(&lab, local, "no entry", |rows| rows.is_empty());
}

/// W6: a connection that a target opens with the DVIPA as its source is in the CRT before the answer can be.
#[test]
#[ignore = "needs root"]
fn a_target_opens_connections_with_the_dvipa_as_source() {
    let lab = lab(Spec::default());
    for (own, dvipa) in [(CLIENT.0.into(), DVIPA.0.into()), (CLIENT.1.into(), DVIPA.1.into())] {
        let to = SocketAddr::new(own, 7000);
        let _server = Server::tcp(lab.client(), to, "outside").expect("the outside listens");
        for target in ["t1", "t2", "t3"] {
            let from = SocketAddr::new(dvipa, 0);
            let mut connection = HttpConnection::open_from(lab.host(target), from, to)
                .unwrap_or_else(|e| panic!("{target} connects from {dvipa}: {e}"));
            assert_eq!(connection.target().expect("the outside answers"), "outside");
            let row = lab.wait_for("its entry to be confirmed", SOON, || {
                let rows = lab.crt(&[]).map_err(|e| e.to_string())?;
                let own = connection.local().to_string();
                let found = rows.iter().find(|r| r.dvipa == own && r.client == to.to_string());
                found.filter(|r| r.state == "established").cloned().ok_or(format!("{rows:#?}"))
            });
            assert_eq!(row.unwrap_or_else(|e| panic!("{e}")).stack, target);
        }
    }
    assert_eq!(
        lab.counter("outgoing").expect("baton stats answers"),
        6,
        "each SYN passed the routing node once"
    );
    assert_eq!(
        lab.counter("no_connection").expect("baton stats answers"),
        0,
        "no answer came before its entry"
    );
}

/// W6: connections that exist when the VIPA list arrives enter the CRT through NEWCONN, and their packets find them.
#[test]
#[ignore = "needs root"]
fn connections_older_than_the_vipa_list_are_taken_in() {
    let spec = Spec::default().web([Web::wildcard("t2")]);
    let lab = Lab::build(spec).unwrap_or_else(|e| panic!("{e}"));
    // Before the cluster: t2 has the address, and the client is told so by hand.
    lab.host("t2").sh(&format!("ip addr add {}/32 dev lo", DVIPA.0)).expect("the address is added");
    let t2 = spec::host(spec::target(2)).0;
    lab.client().sh(&format!("ip route add {}/32 via {t2}", DVIPA.0)).expect("the route is added");
    lab.start_web("t2").expect("nginx starts");
    let mut connection = lab
        .wait_for("nginx to listen", SOON, || {
            HttpConnection::open(lab.client(), web4()).map_err(|e| e.to_string())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(connection.target().expect("t2 answers"), "t2");

    lab.start_batond().expect("batond starts");
    for target in ["t1", "t2", "t3"] {
        lab.start_agent(target).expect("an agent starts");
    }
    lab.wait_until_ready().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(established(&lab, &connection).stack, "t2");
    lab.client().sh(&format!("ip route del {}/32 via {t2}", DVIPA.0)).expect("the route is removed");
    let forwarded = lab.counter("forwarded").expect("baton stats answers");
    still_answered_by(&mut connection, "t2");
    assert!(
        lab.counter("forwarded").expect("baton stats answers") > forwarded,
        "it came through the routing node"
    );
}

/// W4, F6: UDP: a client's datagrams stay with the target that the first one selected.
#[test]
#[ignore = "needs root"]
fn datagrams_of_one_client_stay_with_one_target() {
    let tables = spec::both_families("ports = [5300]\nprotocol = \"udp\"\ndestip = \"all\"");
    let lab = lab(Spec::default().vipadynamic(tables).web([]));
    let listens = |target: &str, address: SocketAddr| Server::udp(lab.host(target), address, target);
    let _servers: Vec<Server> = ["t1", "t2", "t3"]
        .into_iter()
        .flat_map(|t| [listens(t, dvipa4(5300)), listens(t, SocketAddr::new(DVIPA.1.into(), 5300))])
        .map(|s| s.expect("it listens"))
        .collect();
    lab.wait_for("all three to be targets", Duration::from_secs(30), || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let good = rows.len() == 2 && rows.iter().all(|r| r.selectable() == ["t1", "t2", "t3"]);
        if good { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for to in [dvipa4(5300), SocketAddr::new(DVIPA.1.into(), 5300)] {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let socket = client::udp(lab.client(), to).expect("a socket");
            let answers: Vec<String> = (0..5)
                .map(|_| {
                    let mut answer = [0; 64];
                    socket.send(b"who").expect("it is sent");
                    let bytes = socket.recv(&mut answer).expect("an answer comes");
                    String::from_utf8_lossy(&answer[..bytes]).into_owned()
                })
                .collect();
            assert!(answers.iter().all(|a| *a == answers[0]), "one target: {answers:?}");
            seen.push(answers[0].clone());
        }
        seen.sort();
        assert_eq!(seen, ["t1 3", "t2 3", "t3 3"], "three clients, three targets");
    }
}

fn wait_for_rows(lab: &Lab, client: SocketAddr, what: &str, good: impl Fn(&[String]) -> bool) {
    let client = client.to_string();
    lab.wait_for(&format!("{what} of {client}"), Duration::from_secs(15), || {
        let rows = lab.crt(&[]).map_err(|e| e.to_string())?;
        let states: Vec<String> = rows.into_iter().filter(|r| r.client == client).map(|r| r.state).collect();
        if good(&states) { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}
