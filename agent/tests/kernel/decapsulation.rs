//! Packets of forwarders reach the DVIPA's listener, others do not. The packets are scapy's, an independent opinion.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::time::Duration;

use model::Epoch;
use model::Protocol::Udp;
use model::codec::Address;
use model::message::{VipaList, VipaListDvipa};

use crate::host::{CLIENT_V4, CLIENT_V6, DVIPA_V4, DVIPA_V6, HOST_V4, HOST_V6, Host, ROUTING_V4, ROUTING_V6};
use crate::routing_stack::to_all;

const PORT: u16 = 5300;
const CLIENT_PORT: u16 = 40_000;

/// A host with an echo server on each DVIPA, and the client's sockets.
struct Bench {
    host: Host,
    clients: [UdpSocket; 2],
    echoes: [Child; 2],
}

impl Bench {
    fn new() -> Self {
        let host = Host::new();
        host.routing_stack.list(&[to_all(Udp, &[PORT])]);
        let echoes = [DVIPA_V4, DVIPA_V6].map(|dvipa| {
            let mut command = host.host.command("/usr/bin/python3");
            command.args(["-c", include_str!("echo.py"), &dvipa.to_string(), &PORT.to_string()]);
            command.stdin(Stdio::null()).spawn().unwrap()
        });
        let served = |dvipa| host.routing_stack.wait("the echo", |h| h.serves(dvipa, Udp, PORT));
        served(DVIPA_V4);
        served(DVIPA_V6);
        let clients = [IpAddr::V4(CLIENT_V4), IpAddr::V6(CLIENT_V6)]
            .map(|client| host.peer.enter(|| UdpSocket::bind((client, CLIENT_PORT)).unwrap()));
        Self { host, clients, echoes }
    }

    /// Sends `outer / encapsulation / inner` and gives the echo, if one comes.
    fn ask(&self, outer: &str, encapsulation: &str, inner: &str) -> Option<String> {
        self.ask_for(Duration::from_secs(10), outer, encapsulation, inner)
    }

    /// [`ask`](Self::ask) for at most `patience`.
    fn ask_for(&self, patience: Duration, outer: &str, encapsulation: &str, inner: &str) -> Option<String> {
        let packet = format!("Ether(dst=host_mac)/{outer}{encapsulation}/{inner}");
        self.host.scapy(&format!("sendp({packet}, iface='eth0')"));
        let client = &self.clients[usize::from(inner.contains("IPv6"))];
        client.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 100];
        match client.recv(&mut buffer) {
            Ok(bytes) => Some(String::from_utf8_lossy(&buffer[..bytes]).into_owned()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// The same for what is not to be answered, without a long wait.
    fn ask_in_vain(&self, outer: &str, encapsulation: &str, inner: &str, counter: &str) {
        let before = self.host.counter(counter);
        let answer = self.ask_for(Duration::from_millis(300), outer, encapsulation, inner);
        assert_eq!(answer, None, "{outer} {encapsulation} {inner}");
        self.host.wait_for_counter(counter, before + 1);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for echo in &mut self.echoes {
            let _ = echo.kill();
            let _ = echo.wait();
        }
    }
}

fn v4(source: impl Into<IpAddr>, more: &str) -> String {
    format!("IP(src='{}', dst='{HOST_V4}'{more})", source.into())
}

fn v6(source: impl Into<IpAddr>, more: &str) -> String {
    format!("IPv6(src='{}', dst='{HOST_V6}'{more})", source.into())
}

fn inner_v4(tos: u8) -> String {
    let udp = format!("UDP(sport={CLIENT_PORT}, dport={PORT})/b'four'");
    format!("IP(src='{CLIENT_V4}', dst='{DVIPA_V4}', tos={tos})/{udp}")
}

fn inner_v6(tos: u8) -> String {
    let udp = format!("UDP(sport={CLIENT_PORT}, dport={PORT})/b'six'");
    format!("IPv6(src='{CLIENT_V6}', dst='{DVIPA_V6}', tc={tos})/{udp}")
}

/// Variant 0, with `words` of options.
fn gue(protocol: u8, words: u8) -> String {
    format!(
        "/UDP(sport=50000, dport=6080, chksum=0)/(bytes([{words}, {protocol}, 0, 0]) + bytes(4 * {words}))"
    )
}

#[test]
#[ignore = "needs root"]
fn every_mix_of_families_and_encapsulations_reaches_its_listener() {
    let bench = Bench::new();
    for outer in [v4(ROUTING_V4, ""), v6(ROUTING_V6, "")] {
        for encapsulation in [None, Some(0), Some(3)] {
            let around = |protocol| encapsulation.map_or(String::new(), |words| gue(protocol, words));
            let four = bench.ask(&outer, &around(4), &inner_v4(0));
            assert_eq!(four.as_deref(), Some("four tos 0"), "in {outer} {encapsulation:?}");
            let six = bench.ask(&outer, &around(41), &inner_v6(0));
            assert_eq!(six.as_deref(), Some("six tos 0"), "in {outer} {encapsulation:?}");
        }
    }
    assert_eq!(bench.host.counter("decapsulated_ipip"), 4);
    assert_eq!(bench.host.counter("decapsulated_gue"), 8);
}

#[test]
#[ignore = "needs root"]
fn only_the_listed_forwarders_are_decapsulated() {
    let bench = Bench::new();
    bench.ask_in_vain(&v4(CLIENT_V4, ""), "", &inner_v4(0), "not_a_forwarder");
    bench.ask_in_vain(&v4(CLIENT_V4, ""), &gue(4, 0), &inner_v4(0), "not_a_forwarder");
    bench.ask_in_vain(&v6(CLIENT_V6, ""), "", &inner_v4(0), "not_a_forwarder");
    bench.ask_in_vain(&v6(CLIENT_V6, ""), &gue(41, 0), &inner_v6(0), "not_a_forwarder");
}

/// S4: what an old owner's forwarder sends is dropped and counted; while that calls the DVIPA its own from an earlier epoch, the
/// packets of connections that are here are taken, and no others.
#[test]
#[ignore = "needs root"]
fn only_the_present_owners_forwarders_are_decapsulated() {
    let bench = Bench::new();
    let outer = v4(ROUTING_V4, "");
    assert!(bench.ask(&outer, &gue(4, 0), &inner_v4(0)).is_some());
    // The routing stack has another DVIPA now, and this one is a backup's.
    let entry = |address, owner| VipaListDvipa {
        address: Address(address),
        epoch: Epoch(2),
        owner,
        rank: 255,
        distributions: vec![to_all(Udp, &[PORT])],
        forwards: None,
    };
    let list = |owner| VipaList {
        dvipas: vec![entry(DVIPA_V4, owner), entry(DVIPA_V6, true)],
        forwarders: vec![Address(ROUTING_V4.into()), Address(ROUTING_V6.into())],
        ..VipaList::default()
    };
    bench.host.routing_stack.send_list(list(false));
    bench.ask_in_vain(&outer, "", &inner_v4(0), "not_the_owners");
    bench.ask_in_vain(&outer, &gue(4, 0), &inner_v4(0), "not_the_owners");
    bench.ask_in_vain(&v6(ROUTING_V6, ""), &gue(4, 0), &inner_v4(0), "not_the_owners");
    assert!(bench.ask(&outer, &gue(41, 0), &inner_v6(0)).is_some(), "the other DVIPA is still its own");
    bench.host.routing_stack.send_list(list(true));
    assert!(bench.ask(&outer, &gue(4, 0), &inner_v4(0)).is_some());
}

#[test]
#[ignore = "needs root"]
fn what_a_forwarder_sends_wrongly_is_dropped_or_left_and_counted() {
    let bench = Bench::new();
    let outer = v4(ROUTING_V4, "");
    let to_host = inner_v4(0).replace(&DVIPA_V4.to_string(), &HOST_V4.to_string());
    bench.ask_in_vain(&outer, "", &to_host, "not_a_dvipa");
    bench.ask_in_vain(&v4(ROUTING_V4, ", proto=4"), "", "b'no header'", "inner_malformed");
    bench.ask_in_vain(
        &v4(ROUTING_V4, ", proto=41"),
        "",
        &format!("bytes({})", inner_v4(0)),
        "inner_malformed",
    );
    bench.ask_in_vain(&outer, &gue(6, 0), &inner_v4(0), "gue_unknown");
    let control = "/UDP(sport=50000, dport=6080, chksum=0)/bytes([0x20, 4, 0, 0])";
    bench.ask_in_vain(&outer, control, &inner_v4(0), "gue_unknown");
    let fragment = v4(ROUTING_V4, ", flags='MF', proto=4");
    bench.ask_in_vain(&fragment, "", &inner_v4(0), "outer_fragment");
}

#[test]
#[ignore = "needs root"]
fn congestion_marks_go_on_as_rfc_6040_wants() {
    let bench = Bench::new();
    let (ect_1, ect_0, ce) = (1, 2, 3);
    // Inner, outer, what arrives.
    let rows = [(0, 0, 0), (0, ect_0, 0), (0, ect_1, 0), (ect_0, ect_0, ect_0), (ect_0, ect_1, ect_1)];
    let more = [(ect_0, ce, ce), (ect_1, 0, ect_1), (ect_1, ce, ce), (ce, 0, ce), (ce, ect_1, ce)];
    for (inner, outer, arrives) in rows.into_iter().chain(more) {
        let outer_v4 = v4(ROUTING_V4, &format!(", tos={outer}"));
        let outer_v6 = v6(ROUTING_V6, &format!(", tc={outer}"));
        // DSCP stays the inner one.
        let dscp = 0x28;
        let four = bench.ask(&outer_v4, "", &inner_v4(dscp | inner));
        assert_eq!(four, Some(format!("four tos {}", dscp | arrives)), "inner {inner} outer {outer}");
        let six = bench.ask(&outer_v6, &gue(41, 0), &inner_v6(dscp | inner));
        assert_eq!(six, Some(format!("six tos {}", dscp | arrives)), "inner {inner} outer {outer}");
    }
    bench.ask_in_vain(&v4(ROUTING_V4, ", tos=3"), "", &inner_v4(0), "ecn_not_capable");
    bench.ask_in_vain(&v6(ROUTING_V6, ", tc=3"), "", &inner_v6(0), "ecn_not_capable");
}

#[test]
#[ignore = "needs root"]
fn nobody_on_the_segment_hears_of_the_dvipa() {
    let bench = Bench::new();
    let arp = format!("srp1(Ether(dst='ff:ff:ff:ff:ff:ff')/ARP(pdst='{DVIPA_V4}'), iface='eth0', timeout=1)");
    assert_eq!(bench.host.scapy(&format!("print({arp})")).trim(), "None");
    let group = "33:33:ff:00:00:01";
    let nd = format!("IPv6(src='{CLIENT_V6}', dst='ff02::1:ff00:1')/ICMPv6ND_NS(tgt='{DVIPA_V6}')");
    let nd = format!("srp1(Ether(dst='{group}')/{nd}, iface='eth0', timeout=1)");
    assert_eq!(bench.host.scapy(&format!("print({nd})")).trim(), "None");
}
