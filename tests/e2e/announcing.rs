//! How the segment learns where a DVIPA is.

use lab::fabric::mac;
use lab::spec::DVIPA;
use lab::{Lab, Spec};

use crate::fixture::lab;

/// W10: a DVIPA that becomes active is announced by gratuitous ARP and unsolicited neighbour advertisement.
#[test]
#[ignore = "needs root"]
fn a_dvipa_is_announced_when_it_becomes_active() {
    let lab = Lab::build(Spec::default()).unwrap_or_else(|e| panic!("{e}"));
    let capture = lab.capture("client", "eth0", "arp or icmp6").expect("a capture");
    lab.start_programs().unwrap_or_else(|e| panic!("{e}"));
    lab.wait_until_ready().unwrap_or_else(|e| panic!("{e}"));
    let captured = capture.stop().expect("the capture ends");
    // Sender and target protocol address are the DVIPA (RFC 5227 section 3).
    let gratuitous =
        captured.packets("arp[14:4] == 0xc6120901 and arp[24:4] == 0xc6120901").expect("tcpdump reads");
    assert!(!gratuitous.is_empty(), "a gratuitous ARP");
    assert!(gratuitous.iter().all(|p| p.starts_with(&mac(10))), "from rt1: {gratuitous:#?}");
    // A neighbour advertisement to all nodes (RFC 4861 section 7.2.6) whose target is the DVIPA.
    let filter =
        "icmp6[0] == 136 and dst host ff02::1 and icmp6[8:4] == 0x20010db8 and icmp6[12:4] == 0x00090000";
    let unsolicited = captured.packets(filter).expect("tcpdump reads");
    assert!(!unsolicited.is_empty(), "an unsolicited neighbour advertisement");
    assert!(unsolicited.iter().all(|p| p.starts_with(&mac(10))), "from rt1: {unsolicited:#?}");
}

/// W10, F6: the routing node answers for the DVIPA: ARP, neighbour solicitation, and echo of both families.
#[test]
#[ignore = "needs root"]
fn the_routing_node_answers_arp_neighbour_solicitation_and_echo() {
    let lab = lab(Spec::default().web([]));
    for address in [DVIPA.0.to_string(), DVIPA.1.to_string()] {
        lab.client().run(&["ping", "-c", "3", "-i", "0.1", "-W", "2", &address]).expect("it answers echo");
        let neighbour = lab.client().run(&["ip", "neigh", "show", "to", &address]).expect("ip runs");
        assert!(neighbour.contains(&mac(10)), "{address} is at rt1: {neighbour}");
    }
    for name in ["answered_arp", "answered_neighbour", "answered_echo"] {
        assert!(lab.counter(name).expect("baton stats answers") > 0, "{name} counts");
    }
}
