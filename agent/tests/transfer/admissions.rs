//! One packet makes a connection of an admission, or the admission is void: on real kernels, which drop a packet between its claim
//! and its connection when a test has them do so.

use std::thread;
use std::time::Duration;

use baton_agent::system::admissions::{Admissions, wait_for_claims};
use baton_agent::system::random_token;
use lab::Namespace;
use lab::client::HttpConnection;
use lab::spec::DVIPA;
use model::Connection;
use model::transfer::Reason;
use transfer::host::Voided;
use transfer::routing::Outcome;

use crate::cluster::Cluster;
use crate::forwarder::option_of;
use crate::injection::{Web, dvipas, open};
use crate::orders::web;

/// The host's kernel drops these packets to its servers when the agent's programs have seen them.
fn drop_segments(host: &Namespace, which: &str) {
    let script = format!(
        "nft add table inet lossy
         nft 'add chain inet lossy in {{ type filter hook input priority 0; }}'
         nft add rule inet lossy in tcp dport 80 {which} drop"
    );
    host.sh(&script).unwrap();
}

fn drop_nothing(host: &Namespace) {
    host.sh("nft delete table inet lossy").unwrap();
}

fn admissions(web: &Web) -> &Admissions {
    &web.bench.hosts[1].programs.maps.admissions
}

fn wait_for(condition: impl Fn() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Another packet with this counter's fate arrives at the second host.
fn wait_for_another(web: &Web, counter: &str) {
    let before = web.bench.hosts[1].counter(counter);
    wait_for(|| web.bench.hosts[1].counter(counter) > before);
}

/// A connection whose client's request has claimed its admission at the second host, and was dropped there.
fn claimed_and_dropped(web: &mut Web) -> (thread::JoinHandle<String>, Connection) {
    let (mut http, connection) = open(web, dvipas()[0]);
    drop_segments(&web.bench.hosts[1].namespace, "");
    web.move_on(&connection, 0, 1);
    let waiting = thread::spawn(move || http.target().unwrap());
    wait_for(|| admissions(web).is_claimed(&connection).unwrap());
    (waiting, connection)
}

fn sockets(web: &Web, connection: &Connection) -> String {
    web.bench.hosts[1].namespace.sh(&format!("ss -Htna dst {}", connection.client)).unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_second_packet_makes_the_connection_only_when_the_first_is_through() {
    let mut web = Web::new();
    let (waiting, connection) = claimed_and_dropped(&mut web);
    drop_nothing(&web.bench.hosts[1].namespace);
    wait_for_another(&web, "handoff_elsewhere");
    assert_eq!(web.bench.hosts[1].counter("handed_over"), 1, "the one that was dropped");
    wait_for_claims();
    assert!(!admissions(&web).is_made(&connection).unwrap());
    admissions(&web).reopen(&connection).unwrap();
    assert_eq!(waiting.join().unwrap(), "t2");
    assert!(admissions(&web).is_made(&connection).unwrap());
    assert_eq!(web.bench.hosts[1].counter("handed_over"), 2);
}

#[test]
#[ignore = "needs root"]
fn a_void_that_comes_after_a_claim_waits_for_it_and_no_other_packet_makes_the_connection() {
    let mut web = Web::new();
    let (waiting, connection) = claimed_and_dropped(&mut web);
    // A restarted agent asks again.
    for _ in 0..2 {
        assert_eq!(admissions(&web).void(&connection).unwrap(), Voided::Claimed);
    }
    wait_for_claims();
    assert!(!admissions(&web).is_made(&connection).unwrap());
    drop_nothing(&web.bench.hosts[1].namespace);
    admissions(&web).reopen(&connection).unwrap();
    wait_for_another(&web, "handoff_not_admitted");
    assert_eq!(sockets(&web, &connection), "", "it is not opened again");
    goes_on_with_another_token(&mut web, connection, waiting);
}

#[test]
#[ignore = "needs root"]
fn a_claim_that_comes_after_a_void_makes_nothing() {
    let mut web = Web::new();
    let (mut http, connection) = open(&mut web, dvipas()[0]);
    web.move_on(&connection, 0, 1);
    assert_eq!(admissions(&web).void(&connection).unwrap(), Voided::Void);
    assert_eq!(admissions(&web).void(&connection).unwrap(), Voided::Void);
    let waiting = thread::spawn(move || http.target().unwrap());
    wait_for_another(&web, "handoff_not_admitted");
    assert_eq!(sockets(&web, &connection), "");
    assert_eq!(web.bench.hosts[1].counter("handed_over"), 0);
    goes_on_with_another_token(&mut web, connection, waiting);
}

/// Nobody else has the connection: another admission takes it, and then it is too late to void that.
fn goes_on_with_another_token(web: &mut Web, connection: Connection, waiting: thread::JoinHandle<String>) {
    let token = random_token().unwrap();
    let option = option_of(web.pulled.as_ref().unwrap(), token);
    admissions(web).admit(&connection, token).unwrap();
    web.forwarder.send_to(1, Some(option));
    assert_eq!(waiting.join().unwrap(), "t2");
    assert_eq!(admissions(web).void(&connection).unwrap(), Voided::Made);
    admissions(web).forget(&connection).unwrap();
    assert_eq!(admissions(web).void(&connection).unwrap(), Voided::Void, "nobody has to know of it");
}

/// The whole agent looks what became of the claim.
#[test]
#[ignore = "needs root"]
fn an_agent_admits_another_packet_when_its_kernel_has_dropped_the_first() {
    let cluster = Cluster::new();
    let (_servers, mut http, connection) = web(&cluster);
    drop_segments(&cluster.hosts[1].namespace, "numgen inc mod 1000000 0");
    cluster.routing_stack.order(connection, "t2");
    cluster.routing_stack.wait("the handing over", |seen| seen.handed_over == 1);
    assert_eq!(http.target().unwrap(), "t2");
    let seen = cluster.routing_stack.wait("the outcome", |seen| seen.outcomes.len() == 1);
    assert_eq!(seen.outcomes, [Outcome::Moved]);
}

#[test]
#[ignore = "needs root"]
fn a_connection_goes_on_at_its_source_when_the_targets_kernel_drops_every_packet_of_it() {
    let mut cluster = Cluster::new();
    let (_servers, mut http, connection) = web(&cluster);
    for kill in [false, true] {
        drop_segments(&cluster.hosts[1].namespace, "");
        cluster.routing_stack.order(connection, "t2");
        let before = cluster.routing_stack.seen().outcomes.len();
        let handed_over = 1 + usize::from(kill);
        cluster.routing_stack.wait("the handing over", |seen| seen.handed_over == handed_over);
        let waiting = thread::spawn(move || (http.target().unwrap(), http));
        if kill {
            cluster.kill_agent(1);
            cluster.start_agent(1);
        }
        let seen = cluster.routing_stack.wait("the outcome", |seen| seen.outcomes.len() > before);
        assert!(matches!(seen.outcomes.last(), Some(Outcome::Stayed(_))), "{:?}", seen.outcomes);
        let (target, again): (String, HttpConnection) = waiting.join().unwrap();
        assert_eq!(target, "t1");
        http = again;
        drop_nothing(&cluster.hosts[1].namespace);
    }
}

/// Its packets would go to that socket.
#[test]
#[ignore = "needs root"]
fn a_host_that_has_a_socket_of_the_same_addresses_takes_no_connection() {
    let cluster = Cluster::new();
    let (_servers, mut http, connection) = web(&cluster);
    let host = &cluster.hosts[1].namespace;
    // A SYN that came another way: the kernel waits for the last packet of its handshake, and the agent has not been told.
    let script = format!(
        "import socket; from scapy.layers.inet import IP, TCP; \
         syn = IP(src='{}', dst='{}') / TCP(sport={}, dport=80, flags='S', seq=1); \
         socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).sendto(bytes(syn), ('{}', 0))",
        connection.client.ip(),
        DVIPA.0,
        connection.client.port(),
        DVIPA.0
    );
    host.sh("for i in all lo; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done").unwrap();
    assert!(host.command("/usr/bin/python3").args(["-c", &script]).status().unwrap().success());
    wait_for(|| !host.sh(&format!("ss -Htna dst {}", connection.client)).unwrap().is_empty());
    cluster.routing_stack.order(connection, "t2");
    let seen = cluster.routing_stack.wait("the outcome", |seen| seen.outcomes.len() == 1);
    let is_refused = matches!(&seen.outcomes[0], Outcome::Stayed(why) if why.reason == Reason::AlreadyHere);
    assert!(is_refused, "{:?}", seen.outcomes);
    assert_eq!(http.target().unwrap(), "t1");
}
