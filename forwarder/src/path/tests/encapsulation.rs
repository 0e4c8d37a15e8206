//! Encapsulation: what a packet looks like on its way to a target.

use model::{Protocol, StackIndex};

use super::bench::*;
use crate::tables::Family;
use crate::{Reason, Verdict};

const TCP_HEADER: usize = 20;

#[test]
fn every_encapsulation_carries_both_families_whole() {
    // Stack, outer header with Ethernet, next header of the outer IP for an inner IPv4 and an inner IPv6 packet.
    let forms = [(IPIP, 34, [4, 41]), (GUE, 46, [17, 17]), (IPIP6, 54, [4, 41]), (GUE6, 66, [17, 17])];
    for (stack, outer_bytes, next) in forms {
        for (family, next) in [Family::V4, Family::V6].into_iter().zip(next) {
            let frame = syn(family, 1024, port_of(stack));
            let out = Bench::new().sent(&frame);
            assert_eq!(out[..6], stack_mac(stack).0, "next hop");
            assert_eq!(out[6..12], NODE_MAC.0, "from the node");
            let (source, destination, protocol, hops) = outer(&out);
            let v4 = outer_bytes < 50;
            assert_eq!(source, if v4 { NODE.into() } else { std::net::IpAddr::from(NODE6) });
            assert_eq!(
                destination,
                if v4 { stack_v4(stack).into() } else { std::net::IpAddr::from(stack_v6(stack)) }
            );
            assert_eq!((protocol, hops), (next, 64), "{stack:?} {family:?}");
            assert_eq!(out[outer_bytes..], counted_down(&frame), "{stack:?} {family:?}: the inner packet");
        }
    }
}

#[test]
fn gue_has_variant_0_and_a_source_port_that_depends_on_the_flow() {
    let mut bench = Bench::new();
    let port = |out: &[u8]| u16::from_be_bytes([out[34], out[35]]);
    let one = bench.sent(&syn(Family::V4, 1024, port_of(GUE)));
    assert_eq!(
        one[36..46],
        [0x17, 0xc0, 0, 52, 0, 0, 0, 4, 0, 0],
        "port 6080, length, no checksum, IPv4 inside"
    );
    let mut ports: Vec<_> =
        (0..64).map(|i| port(&bench.sent(&syn(Family::V4, 1024 + i, port_of(GUE))))).collect();
    assert!(ports.iter().all(|p| *p >= 0xc000));
    assert_eq!(ports[0], port(&one), "one flow, one port");
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() > 60, "64 flows spread over {} ports", ports.len());
}

#[test]
fn l2_changes_addresses_and_hops_only() {
    for family in [Family::V4, Family::V6] {
        let frame = syn(family, 1024, port_of(L2));
        let out = Bench::new().sent(&frame);
        assert_eq!(out[..6], stack_mac(L2).0);
        assert_eq!(out[6..12], NODE_MAC.0);
        assert_eq!(out[12..14], frame[12..14]);
        assert_eq!(out[14..], counted_down(&frame));
    }
}

#[test]
fn dscp_and_ecn_are_copied_to_the_outer_header() {
    for class in [0, 0x01, 0x02, 0x03, 0xb8, 0xbb, 0xff] {
        let mut frame = syn(Family::V4, 1024, port_of(IPIP));
        frame[15] = class;
        mend(&mut frame);
        assert_eq!(Bench::new().sent(&frame)[15], class);
        let mut frame = syn(Family::V6, 1024, port_of(IPIP6));
        (frame[14], frame[15]) = (0x60 | class >> 4, class << 4);
        let out = Bench::new().sent(&frame);
        assert_eq!((out[14], out[15]), (0x60 | class >> 4, class << 4));
    }
}

#[test]
fn the_checksum_stays_right_when_any_ttl_is_counted_down() {
    let mut bench = Bench::new();
    bench.establish(1024, port_of(IPIP), Protocol::Tcp, IPIP);
    for ttl in 2..=255 {
        for identification in [0, 1, 0x1234, 0xfffe, 0xffff_u16] {
            let mut frame = ack(Family::V4, 1024, port_of(IPIP));
            frame[18..20].copy_from_slice(&identification.to_be_bytes());
            frame[22] = ttl;
            mend(&mut frame);
            assert_eq!(bench.sent(&frame)[34..], counted_down(&frame));
        }
    }
}

#[test]
fn ethernet_padding_is_not_carried_along() {
    let mut frame = syn(Family::V4, 1024, port_of(IPIP));
    let len = frame.len();
    frame.resize(len + 6, 0xee);
    assert_eq!(Bench::new().sent(&frame).len(), len + TCP_HEADER);
}

#[test]
fn frames_are_tagged_if_the_node_is_in_a_vlan() {
    for stack in [IPIP, GUE, L2, IPIP6, GUE6].map(|s: StackIndex| s) {
        for family in [Family::V4, Family::V6] {
            let mut node = node();
            let frame = syn(family, 1024, port_of(stack));
            let untagged = Bench::with(&dpt(), &node).sent(&frame);
            node.vlan = Some(100);
            let tagged = Bench::with(&dpt(), &node).sent(&in_vlan(100, &frame));
            assert_eq!(tagged, in_vlan(100, &untagged));
        }
    }
}

#[test]
fn tags_of_a_received_frame_are_not_carried_along() {
    let frame = syn(Family::V4, 1024, port_of(GUE));
    let untagged = Bench::new().sent(&frame);
    for tags in [&[0x81, 0, 0, 7][..], &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7]] {
        let tagged = [&frame[..12], tags, &frame[12..]].concat();
        assert_eq!(Bench::new().sent(&tagged), untagged);
    }
}

#[test]
fn options_and_extension_headers_are_carried_along() {
    let frame = with_options();
    assert_eq!(Bench::new().sent(&frame)[34..], counted_down(&frame));
    let mut frame = syn(Family::V6, 1024, port_of(IPIP));
    // A destination options header with padding.
    frame.splice(54..54, [6, 0, 1, 4, 0, 0, 0, 0]);
    frame[20] = 60;
    frame[19] += 8;
    assert_eq!(Bench::new().sent(&frame)[34..], counted_down(&frame));
}

fn with_options() -> Vec<u8> {
    let mut header =
        etherparse::Ipv4Header::new(24, 64, etherparse::IpNumber::TCP, CLIENT.octets(), DVIPA.octets())
            .unwrap();
    header.options = [1_u8, 1, 1, 0].into();
    header.header_checksum = header.calc_header_checksum();
    let syn = syn(Family::V4, 1024, port_of(IPIP));
    [&syn[..14], &header.to_bytes(), &syn[34..]].concat()
}

#[test]
fn the_longest_packet_that_fits_is_sent_and_one_byte_more_is_not() {
    for (stack, overhead) in [(IPIP, 20), (GUE, 32), (IPIP6, 40), (GUE6, 52)] {
        for (family, headers) in [(Family::V4, 28), (Family::V6, 48)] {
            let mut bench = Bench::new();
            let mut frame = |len: usize| {
                let frame = udp(family, 1024, port_of(stack), &vec![7; len]);
                bench.one(&frame)
            };
            let fits = 1500 - overhead - headers;
            assert_eq!(frame(fits).0.len(), 1514, "{stack:?} {family:?}");
            let (_, verdict) = frame(fits + 1);
            assert_eq!(verdict, Verdict::Send(crate::Port::Nic));
            assert_eq!(bench.count(Reason::AnsweredTooBig), 1, "{stack:?} {family:?}");
        }
    }
}
