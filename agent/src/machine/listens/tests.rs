use std::net::IpAddr;

use model::message::VipaListDistribution;
use model::{Dvipa, Protocol};

use super::{counts, served};
use crate::machine::{Bound, Ifindex, Listener};

const ETH0: Ifindex = Ifindex(2);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn listener(bound: Bound, port: u16) -> Listener {
    Listener { protocol: Protocol::Tcp, bound, port, interface: None }
}

fn distribution(ports: &[u16]) -> VipaListDistribution {
    let (ports, candidates) = (ports.to_vec(), Vec::new());
    VipaListDistribution { protocol: Protocol::Tcp, ports, candidates, content_routed: None }
}

/// Row U1, each combination: what the listener is bound to, its port, and whether it counts for 198.18.9.1 and for
/// 2001:db8:9::1 if ports 80 and 443 are enumerated, and if none are.
#[test]
fn the_rules_for_enumerated_and_other_ports() {
    let v4 = Dvipa::new(address("198.18.9.1"));
    let v6 = Dvipa::new(address("2001:db8:9::1"));
    let other = Bound::Address(address("198.18.0.21"));
    let rows = [
        (Bound::Address(v4.address()), 80, [true, false], [true, false]),
        (Bound::Address(v4.address()), 81, [false, false], [true, false]),
        (Bound::Address(v6.address()), 443, [false, true], [false, true]),
        (Bound::Address(v6.address()), 444, [false, false], [false, true]),
        (Bound::AnyV4, 80, [true, false], [false, false]),
        (Bound::AnyV4, 81, [false, false], [false, false]),
        (Bound::AnyV6, 80, [false, true], [false, false]),
        (Bound::AnyDual, 443, [true, true], [false, false]),
        (Bound::AnyDual, 444, [false, false], [false, false]),
        (other, 80, [false, false], [false, false]),
    ];
    for (bound, port, enumerated, not_enumerated) in rows {
        for (ports, expected) in [(&[80, 443][..], enumerated), (&[][..], not_enumerated)] {
            let does = [v4, v6].map(|d| counts(&listener(bound, port), d, &distribution(ports), &[ETH0]));
            assert_eq!(does, expected, "{bound:?} port {port}, enumerated {ports:?}");
        }
    }
}

/// Row U2: what no distribution enumerates may be the host's own, if it is bound to the DVIPA itself.
#[test]
fn a_port_that_no_distribution_enumerates_may_be_the_hosts_own() {
    let dvipa = Dvipa::new(address("198.18.9.1"));
    let web = distribution(&[80]);
    let of_others = VipaListDistribution { candidates: vec!["t2".to_owned()], ..distribution(&[443]) };
    let of_udp = VipaListDistribution { protocol: Protocol::Udp, ..distribution(&[]) };
    let own = "t1".parse().unwrap();
    let serves = |bound, port, distributions: &[VipaListDistribution]| {
        let listeners = [listener(bound, port)];
        served(listeners.iter(), (dvipa, false), distributions, &own, &[ETH0])
            .contains(&(Protocol::Tcp, port))
    };
    let bound = Bound::Address(dvipa.address());
    assert!(serves(bound, 40_000, &[web.clone(), of_udp.clone()]));
    let one = std::slice::from_ref(&web);
    assert!(!serves(Bound::AnyDual, 40_000, one), "it asks for no DVIPA");
    assert!(!serves(Bound::Address(address("198.18.0.21")), 40_000, one));
    assert!(!serves(bound, 443, &[web.clone(), of_others.clone()]), "it is distributed to others");
    let all_of_others = VipaListDistribution { ports: Vec::new(), ..of_others };
    assert!(serves(bound, 40_000, &[web, all_of_others]), "the routing stack knows whose block it is in");
}

#[test]
fn another_protocol_does_not_count() {
    let dvipa = Dvipa::new(address("198.18.9.1"));
    let udp = Listener { protocol: Protocol::Udp, ..listener(Bound::AnyV4, 80) };
    assert!(!counts(&udp, dvipa, &distribution(&[80]), &[ETH0]));
}

#[test]
fn a_listener_on_another_interface_does_not_count() {
    let dvipa = Dvipa::new(address("198.18.9.1"));
    let on = |i| Listener { interface: Some(i), ..listener(Bound::AnyV4, 80) };
    assert!(counts(&on(ETH0), dvipa, &distribution(&[80]), &[ETH0]));
    assert!(!counts(&on(Ifindex(7)), dvipa, &distribution(&[80]), &[ETH0]));
}

#[test]
fn addresses_of_sockets_are_read_in_their_meaning() {
    assert_eq!(Bound::new(address("::"), false), Bound::AnyDual);
    assert_eq!(Bound::new(address("::"), true), Bound::AnyV6);
    assert_eq!(Bound::new(address("0.0.0.0"), false), Bound::AnyV4);
    assert_eq!(Bound::new(address("::ffff:0.0.0.0"), false), Bound::AnyV4);
    assert_eq!(Bound::new(address("::ffff:198.18.9.1"), false), Bound::Address(address("198.18.9.1")));
}
