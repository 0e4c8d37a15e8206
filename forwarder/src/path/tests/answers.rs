//! What the node answers itself: ARP, neighbour discovery, echo.

use std::net::Ipv6Addr;

use super::bench::*;
use crate::packet::arp::Operation;
use crate::packet::{Arp, Sum};
use crate::tables::Family;
use crate::{Mac, Port, Reason, Verdict};

fn arp(operation: Operation, sender: std::net::Ipv4Addr, target: std::net::Ipv4Addr) -> Vec<u8> {
    let arp = Arp { operation, sender_mac: CLIENT_MAC, sender, target_mac: Mac::default(), target };
    [&Mac::BROADCAST.0[..], &CLIENT_MAC.0, &[8, 6], &arp.to_bytes(), &[0; 18]].concat()
}

#[test]
fn an_arp_request_for_a_dvipa_is_answered_through_the_port_it_came_from() {
    for port in [Port::Nic, Port::Local] {
        let mut bench = Bench::new();
        let out = bench.burst(&[arp(Operation::Request, CLIENT, DVIPA)], port);
        let (reply, verdict) = &out[0];
        assert_eq!(*verdict, Verdict::Send(port));
        assert_eq!((&reply[..6], &reply[6..12], reply.len()), (&CLIENT_MAC.0[..], &NODE_MAC.0[..], 60));
        let expected = Arp {
            operation: Operation::Reply,
            sender_mac: NODE_MAC,
            sender: DVIPA,
            target_mac: CLIENT_MAC,
            target: CLIENT,
        };
        assert_eq!(Arp::parse(&reply[14..]), Ok(expected));
        assert_eq!(bench.count(Reason::AnsweredArp), 1);
    }
}

#[test]
fn arp_about_other_addresses_crosses() {
    let mut bench = Bench::new();
    let frame = arp(Operation::Request, CLIENT, NODE);
    assert_eq!(bench.one(&frame), (frame, Verdict::Send(Port::Local)));
}

#[test]
fn another_host_that_claims_a_dvipa_is_told_once_and_not_believed() {
    let mut bench = Bench::new();
    let (defence, verdict) = bench.one(&arp(Operation::Reply, DVIPA, DVIPA));
    assert_eq!(verdict, Verdict::Send(Port::Nic));
    let announced = Arp::parse(&defence[14..]).unwrap();
    assert_eq!((announced.sender, announced.sender_mac, announced.target), (DVIPA, NODE_MAC, DVIPA));
    assert_eq!(bench.count(Reason::DvipaDefended), 1);
    for operation in [Operation::Request, Operation::Reply] {
        assert_eq!(bench.dropped(&arp(operation, DVIPA, DVIPA)), Reason::DvipaConflict);
    }
}

/// A solicitation for the DVIPA as RFC 4861 4.3 draws it.
fn solicitation(source: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let destination = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
    let mut message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &DVIPA6.octets(), options].concat();
    let sum =
        Sum::ZERO.pseudo_v6(source.octets(), destination.octets(), message.len() as u16, 58).bytes(&message);
    message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    let len = message.len() as u8;
    let ethernet = [&[0x33, 0x33, 0xff, 0, 0, 1][..], &CLIENT_MAC.0, &[0x86, 0xdd]].concat();
    let ip = [&[0x60, 0, 0, 0, 0, len, 58, 255][..], &source.octets(), &destination.octets()].concat();
    [ethernet, ip, message].concat()
}

/// Checks an advertisement of the DVIPA, and returns whether it answers a solicitation.
fn advertisement(frame: &[u8], destination: Ipv6Addr) -> bool {
    assert_eq!(frame[20..22], [58, 255], "ICMPv6 from the link");
    assert_eq!(frame[22..38], DVIPA6.octets());
    assert_eq!(frame[38..54], destination.octets());
    let message = &frame[54..86];
    let sum = Sum::ZERO.pseudo_v6(DVIPA6.octets(), destination.octets(), 32, 58).bytes(message);
    assert_eq!(sum.finish(), 0, "checksum");
    assert_eq!((message[0], message[1], &message[8..24]), (136, 0, &DVIPA6.octets()[..]));
    assert_eq!(message[24..], [&[2, 1][..], &NODE_MAC.0].concat(), "where it is");
    assert_eq!(message[4] & 0xa0, 0x20, "overrides, is no router");
    message[4] & 0x40 != 0
}

#[test]
fn a_neighbour_solicitation_for_a_dvipa_is_answered() {
    let mut bench = Bench::new();
    let out = bench.sent(&solicitation(CLIENT6, &[&[1, 1][..], &CLIENT_MAC.0].concat()));
    assert_eq!((&out[..6], &out[6..12]), (&CLIENT_MAC.0[..], &NODE_MAC.0[..]));
    assert!(advertisement(&out, CLIENT6));
    assert_eq!(bench.count(Reason::AnsweredNeighbour), 1);
}

#[test]
fn a_test_for_duplicates_is_answered_to_all_nodes() {
    let out = Bench::new().sent(&solicitation(Ipv6Addr::UNSPECIFIED, &[]));
    assert_eq!(out[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert!(!advertisement(&out, "ff02::1".parse().unwrap()));
}

#[test]
fn a_solicitation_that_may_come_from_off_the_link_is_dropped() {
    let mut frame = solicitation(CLIENT6, &[]);
    frame[21] = 254;
    assert_eq!(Bench::new().dropped(&frame), Reason::BadNeighbour);
}

#[test]
fn solicitations_with_lying_options_or_checksums_are_dropped() {
    for options in [&[1, 0, 0, 0, 0, 0, 0, 0][..], &[1, 9, 0, 0, 0, 0, 0, 0], &[1]] {
        assert_eq!(Bench::new().dropped(&solicitation(CLIENT6, options)), Reason::BadNeighbour);
    }
    let with_source = [&[1, 1][..], &CLIENT_MAC.0].concat();
    assert_eq!(
        Bench::new().dropped(&solicitation(Ipv6Addr::UNSPECIFIED, &with_source)),
        Reason::BadNeighbour
    );
    let mut frame = solicitation(CLIENT6, &[]);
    frame[56] ^= 1;
    assert_eq!(Bench::new().dropped(&frame), Reason::BadChecksum);
}

#[test]
fn an_echo_request_is_answered_with_its_own_data() {
    for (family, payload) in
        [Family::V4, Family::V6].into_iter().flat_map(|f| [(f, 0), (f, 1), (f, 56), (f, 1400)])
    {
        let data = vec![0xa5; payload];
        let request = match family {
            Family::V4 => frame!(to_dvipa(family).icmpv4_echo_request(7, 9), &data),
            Family::V6 => frame!(to_dvipa(family).icmpv6_echo_request(7, 9), &data),
        };
        let back = etherparse::PacketBuilder::ethernet2(NODE_MAC.0, CLIENT_MAC.0);
        let expected = match family {
            Family::V4 => {
                let back = back.ipv4(DVIPA.octets(), CLIENT.octets(), 64);
                let mut expected = frame!(back.icmpv4_echo_reply(7, 9), &data);
                expected[18..22].copy_from_slice(&request[18..22]);
                expected
            }
            Family::V6 => {
                frame!(back.ipv6(DVIPA6.octets(), CLIENT6.octets(), 64).icmpv6_echo_reply(7, 9), &data)
            }
        };
        assert_eq!(Bench::new().sent(&request), expected, "{family:?} {payload}");
    }
}

#[test]
fn an_echo_reply_may_be_fragmented_if_its_request_might_have_been() {
    for flags in [[0, 0], [0x40, 0]] {
        let mut request = frame!(to_dvipa(Family::V4).icmpv4_echo_request(7, 9), b"x");
        request[18..22].copy_from_slice(&[0xab, 0xcd, flags[0], flags[1]]);
        mend(&mut request);
        assert_eq!(Bench::new().sent(&request)[18..22], request[18..22]);
    }
}

#[test]
fn an_echo_request_with_a_wrong_checksum_is_dropped() {
    for (family, at) in [(Family::V4, 36), (Family::V6, 56)] {
        let mut request = match family {
            Family::V4 => frame!(to_dvipa(family).icmpv4_echo_request(7, 9), b"x"),
            Family::V6 => frame!(to_dvipa(family).icmpv6_echo_request(7, 9), b"x"),
        };
        request[at] ^= 0x55;
        assert_eq!(Bench::new().dropped(&request), Reason::BadChecksum);
    }
}

#[test]
fn neighbour_discovery_in_fragments_is_not_answered() {
    // RFC 6980 5, also if the one fragment is the whole message.
    let mut frame = solicitation(CLIENT6, &[&[1, 1][..], &CLIENT_MAC.0].concat());
    frame.splice(54..54, [58, 0, 0, 0, 0, 0, 0, 1]);
    (frame[20], frame[19]) = (44, frame[19] + 8);
    assert_eq!(Bench::new().one(&frame), (frame, Verdict::Send(Port::Local)));
}
