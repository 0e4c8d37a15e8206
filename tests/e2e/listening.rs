//! What counts as a listener, and how soon the routing stack knows.

use std::time::{Duration, Instant};

use lab::fabric::mac;
use lab::spec::{self, DVIPA, ipv4_only};
use lab::{Lab, Server, Spec};

use crate::fixture::{SOON, any, connect, dvipa4, lab, web4};

/// W3: the DVIPA is an address of every candidate, and only the routing node answers ARP for it.
#[test]
#[ignore = "needs root"]
fn a_candidate_has_the_dvipa_and_does_not_advertise_it() {
    let lab = lab(Spec::default());
    for target in ["t1", "t2", "t3"] {
        let addresses = lab.host(target).run(&["ip", "addr", "show", "lo"]).expect("ip runs");
        for address in [format!("inet {}/32", DVIPA.0), format!("inet6 {}/128", DVIPA.1)] {
            assert!(addresses.contains(&address), "{target} has {address}:\n{addresses}");
        }
    }
    lab.client().sh("ip neigh flush all").expect("ip runs");
    let capture = lab.capture("client", "eth0", "arp or icmp6").expect("a capture");
    for to in [web4(), crate::fixture::web6()] {
        connect(&lab, to);
    }
    let captured = capture.stop().expect("the capture ends");
    let replies = captured.packets("arp[6:2] == 2 and arp[14:4] == 0xc6120901").expect("tcpdump reads");
    assert!(!replies.is_empty(), "the DVIPA is resolved with ARP");
    assert!(replies.iter().all(|r| r.starts_with(&mac(10))), "only rt1 answers ARP: {replies:#?}");
    let advertisements =
        captured.packets("icmp6[0] == 136 and icmp6[8:4] == 0x20010db8 and icmp6[12:2] == 9");
    let advertisements = advertisements.expect("tcpdump reads");
    assert!(!advertisements.is_empty(), "the DVIPA is resolved with neighbour discovery");
    assert!(advertisements.iter().all(|r| r.starts_with(&mac(10))), "only rt1 answers: {advertisements:#?}");
}

/// W3, W4, F2: any application's listen is in the DPT at once, and so is its end.
#[test]
#[ignore = "needs root"]
fn a_listen_and_its_end_are_in_the_dpt_at_once() {
    let lab = lab(Spec::default().web([]));
    for target in ["t1", "t3", "t2"] {
        let begun = Instant::now();
        let server = Server::tcp(lab.host(target), any(80), target).expect("it listens");
        lab.wait_for_targets(80, &[target]).expect("it is in the DPT");
        assert_eq!(connect(&lab, web4()).1, target);
        drop(server);
        lab.wait_for_targets(80, &[]).expect("it is out of the DPT");
        let elapsed = begun.elapsed();
        assert!(elapsed < Duration::from_secs(5), "known within moments, not {elapsed:?}");
    }
}

/// W3: a listener that ends by `kill -9` is out of the DPT too.
#[test]
#[ignore = "needs root"]
fn a_killed_server_is_out_of_the_dpt() {
    let lab = lab(Spec::default());
    lab.kill_all("t1", "nginx").expect("nginx is killed");
    lab.wait_for_targets(80, &["t2", "t3"]).expect("t1 is out of the DPT");
    lab.start_web("t1").expect("nginx starts again");
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).expect("t1 is back");
}

/// U1: on an enumerated port a listener counts if it is bound to the DVIPA or to the wildcard address of either family,
/// and does not if it is bound to another address.
#[test]
#[ignore = "needs root"]
fn on_an_enumerated_port_dvipa_and_wildcard_listeners_count() {
    let lab = lab(Spec::default().vipadynamic(ipv4_only(&["ports = [80]\ndestip = \"all\""])).web([]));
    let on = |target: &str, address: &str| {
        Server::tcp(lab.host(target), address.parse().expect("an address"), target).expect("it listens")
    };
    let _dvipa = on("t1", "198.18.9.1:80");
    let _wildcard = on("t2", "0.0.0.0:80");
    let other = on("t3", &format!("{}:80", spec::host(spec::target(3)).0));
    lab.wait_for_targets(80, &["t1", "t2"]).expect("DVIPA and wildcard count");
    never_in_the_dpt(&lab, 80, "t3");
    drop(other);
    let _both_families = on("t3", "[::]:80");
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).expect("the wildcard of both families counts");
}

/// U1: with no ports enumerated a listener counts only if it is bound to the DVIPA itself, on any port.
#[test]
#[ignore = "needs root"]
fn without_enumerated_ports_only_listeners_on_the_dvipa_count() {
    let lab = lab(Spec::default().vipadynamic(ipv4_only(&["destip = \"all\""])).web([]));
    lab.start_web("t1").expect("nginx starts");
    let _wildcard = Server::tcp(lab.host("t2"), any(9000), "wildcard").expect("it listens");
    // With no service yet the lab did not wait for the address.
    let bound = lab
        .wait_for("t3 to have the DVIPA", SOON, || {
            Server::tcp(lab.host("t3"), dvipa4(9000), "bound").map_err(|e| e.to_string())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for_targets(9000, &["t3"]).expect("the bound one counts");
    assert_eq!(connect(&lab, dvipa4(9000)).1, "bound");
    never_in_the_dpt(&lab, 9000, "t2");
    never_in_the_dpt(&lab, 80, "t1");
    let _second = Server::tcp(lab.host("t1"), dvipa4(47_001), "any port").expect("it listens");
    lab.wait_for_targets(47_001, &["t1"]).expect("any port counts");
    drop(bound);
    lab.wait_for("port 9000 to be gone", SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let gone = rows.iter().all(|r| r.port != 9000 || r.selectable().is_empty());
        if gone { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// Looks for longer than news takes.
fn never_in_the_dpt(lab: &Lab, port: u16, target: &str) {
    for _ in 0..10 {
        let rows = lab.dpt().expect("baton dpt answers");
        let there = rows.iter().any(|r| r.port == port && r.selectable().iter().any(|t| t == target));
        assert!(!there, "{target} counts for port {port}: {rows:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
