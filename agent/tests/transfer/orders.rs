//! An operator moves idle connections of unmodified servers, which whole agents pull and inject.

use std::io::{Read, Write};

use lab::Capture;
use lab::client::HttpConnection;
use lab::process::Process;
use lab::spec::DVIPA;
use model::transfer::Reason;
use model::{Connection, Protocol};
use transfer::routing::Outcome;

use crate::bench::RESET;
use crate::cluster::Cluster;
use crate::injection::nginx;
use crate::routing_stack::PORT;

/// An nginx on each host, and a connection of the client that the first one has answered on.
pub(crate) fn web(cluster: &Cluster) -> ([Process; 2], HttpConnection, Connection) {
    let files = cluster.record.files();
    let servers =
        cluster.hosts.each_ref().map(|h| nginx(&h.namespace, files, h.name.as_str(), "80, [::]:80"));
    cluster.routing_stack.wait("both servers", |seen| seen.serves.len() == 2);
    let to = (DVIPA.0, PORT).into();
    let mut http = HttpConnection::open(&cluster.client, to).unwrap();
    assert_eq!(http.target().unwrap(), "t1");
    let connection = Connection::new(Protocol::Tcp, http.local(), to).unwrap();
    cluster.routing_stack.wait("the connection", |seen| {
        seen.connections.get(&cluster.hosts[0].name).is_some_and(|all| all.contains(&connection))
    });
    (servers, http, connection)
}

/// Whether nothing that the client says leaves it, not even an answer to who asks whether it is there.
fn mute(cluster: &Cluster, is_mute: bool) {
    let script = if is_mute {
        format!(
            "nft add table inet mute
             nft 'add chain inet mute out {{ type filter hook output priority 0; }}'
             nft add rule inet mute out tcp dport {PORT} drop"
        )
    } else {
        "nft delete table inet mute".to_owned()
    };
    cluster.client.sh(&script).unwrap();
}

/// The connection is handed over to the second host, and no packet of its client can make it there.
fn hand_over_in_silence(cluster: &Cluster, connection: Connection) {
    mute(cluster, true);
    cluster.routing_stack.order(connection, "t2");
    cluster.routing_stack.wait("the handing over", |seen| seen.handed_over == 1);
}

#[test]
#[ignore = "needs root"]
fn an_order_moves_a_connection_between_unmodified_servers_and_back() {
    let cluster = Cluster::new();
    let (_servers, mut http, connection) = web(&cluster);
    let capture = Capture::start(&cluster.client, "fwd0", "tcp", cluster.record.files(), "client").unwrap();
    for (moves, to) in ["t2", "t1", "t2"].into_iter().enumerate() {
        cluster.routing_stack.order(connection, to);
        cluster.routing_stack.wait("the handing over", |seen| seen.handed_over == moves + 1);
        assert_eq!(http.target().unwrap(), to);
        let seen = cluster.routing_stack.wait("the outcome", |seen| seen.outcomes.len() == moves + 1);
        assert_eq!(seen.outcomes[moves], Outcome::Moved);
        cluster.routing_stack.wait("the new owner's word", |seen| {
            let has = |name: &str| seen.connections[&name.parse().unwrap()].contains(&connection);
            has(to)
        });
    }
    let seen = cluster.routing_stack.seen();
    assert_eq!(seen.talked_over, [], "the machines speak for a connection that moves");
    assert_eq!(capture.stop().unwrap().packets(RESET).unwrap(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn a_connection_whose_client_stays_silent_goes_on_at_its_server() {
    let cluster = Cluster::new();
    let (_servers, mut http, connection) = web(&cluster);
    hand_over_in_silence(&cluster, connection);
    // No packet makes it at the target within its time.
    let seen = cluster.routing_stack.wait("the outcome", |seen| seen.outcomes.len() == 1);
    assert!(matches!(seen.outcomes[0], Outcome::Stayed(_)), "{:?}", seen.outcomes);
    mute(&cluster, false);
    assert_eq!(http.target().unwrap(), "t1");
}

#[test]
#[ignore = "needs root"]
fn an_agent_that_dies_with_a_connection_handed_over_to_it_gives_it_back() {
    let mut cluster = Cluster::new();
    let (_servers, mut http, connection) = web(&cluster);
    hand_over_in_silence(&cluster, connection);
    cluster.kill_agent(1);
    cluster.start_agent(1);
    let seen = cluster.routing_stack.wait("the outcome", |seen| seen.outcomes.len() == 1);
    assert!(matches!(seen.outcomes[0], Outcome::Stayed(_)), "{:?}", seen.outcomes);
    mute(&cluster, false);
    assert_eq!(http.target().unwrap(), "t1");
}

#[test]
#[ignore = "needs root"]
fn an_agent_that_dies_with_a_pulled_connection_lets_its_server_go_on() {
    let mut cluster = Cluster::new();
    let (_servers, mut http, connection) = web(&cluster);
    hand_over_in_silence(&cluster, connection);
    cluster.kill_agent(0);
    cluster.start_agent(0);
    cluster.routing_stack.wait("the outcome", |seen| seen.outcomes.len() == 1);
    mute(&cluster, false);
    assert_eq!(http.target().unwrap(), "t1");
}

/// The kernel's own note says that it was made, although it is over before anybody looks.
#[test]
#[ignore = "needs root"]
fn a_connection_that_ends_with_its_first_answer_has_moved() {
    let mut cluster = Cluster::new();
    let (_servers, http, connection) = web(&cluster);
    hand_over_in_silence(&cluster, connection);
    // The option is on its way: without an agent nobody looks.
    cluster.kill_agent(1);
    mute(&cluster, false);
    let mut stream = http.into_stream();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("t2\n"), "{answer}");
    cluster.start_agent(1);
    let seen = cluster.routing_stack.wait("the outcome", |seen| !seen.outcomes.is_empty());
    assert_eq!(seen.outcomes, [Outcome::Moved]);
}

/// Row C7: the connection of a server that knows of nothing goes to an application that is asked.
#[test]
#[ignore = "needs root"]
fn an_order_moves_a_connection_from_a_server_to_an_application() {
    let cluster = Cluster::new();
    let (_servers, mut http, connection) = web(&cluster);
    let application = cluster.hosts[1].application("web");
    cluster.routing_stack.wait("the application", |seen| !seen.applications.is_empty());
    cluster.routing_stack.order(connection, "t2");
    let patience = Some(std::time::Duration::from_secs(10));
    let mut stream = application.next_offer(patience).unwrap().expect("an offer").accept().unwrap().stream;
    let answering = std::thread::spawn(move || {
        let read = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nmy word\n").unwrap();
        read
    });
    assert_eq!(http.target().unwrap(), "my word");
    assert!(answering.join().unwrap() > 0);
}

/// Row C9: nothing of a connection is held while a target application thinks about an order. Were its server's FIN held back until
/// the application's time is over, there would be nothing left to reject.
#[test]
#[ignore = "needs root"]
fn a_server_can_close_a_connection_while_an_application_thinks_about_an_order() {
    let cluster = Cluster::new();
    let ([server, _other], http, connection) = web(&cluster);
    let application = cluster.hosts[1].application("web");
    cluster.routing_stack.wait("the application", |seen| !seen.applications.is_empty());
    cluster.routing_stack.order(connection, "t2");
    let patience = Some(std::time::Duration::from_secs(10));
    let offer = application.next_offer(patience).unwrap().expect("an offer");
    drop(server);
    let mut stream = http.into_stream();
    stream.set_read_timeout(patience).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the server has closed it");
    let rejected = offer.reject("too late");
    let seen = cluster.routing_stack.wait("the outcome", |seen| !seen.outcomes.is_empty());
    let rejects =
        |outcome: &Outcome| matches!(outcome, Outcome::Stayed(why) if why.reason == Reason::Rejected);
    assert!(rejects(&seen.outcomes[0]), "{:?}, {rejected:?}", seen.outcomes);
}

/// Row C9: a server that closes its connection and goes on with others has nothing that could be taken out of its kernel.
#[test]
#[ignore = "needs root"]
fn an_order_is_not_followed_for_a_connection_that_its_server_has_closed_meanwhile() {
    let cluster = Cluster::new();
    let ([server, _other], http, connection) = web(&cluster);
    let application = cluster.hosts[1].application("web");
    cluster.routing_stack.wait("the application", |seen| !seen.applications.is_empty());
    cluster.routing_stack.order(connection, "t2");
    let patience = Some(std::time::Duration::from_secs(10));
    let offer = application.next_offer(patience).unwrap().expect("an offer");
    drop(server);
    let mut stream = http.into_stream();
    stream.set_read_timeout(patience).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the server has closed it");
    assert!(offer.accept().is_err(), "it ended before it could move");
    let seen = cluster.routing_stack.wait("the outcome", |seen| !seen.outcomes.is_empty());
    let gone = |outcome: &Outcome| matches!(outcome, Outcome::Stayed(why) if why.reason == Reason::NoSocket);
    assert!(gone(&seen.outcomes[0]), "{:?}", seen.outcomes);
}
