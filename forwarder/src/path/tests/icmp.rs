//! ICMP errors: those that this node sends, and those that are about a connection.

use etherparse::{Icmpv4Slice, Icmpv6Slice};
use model::Protocol;

use super::bench::*;
use crate::packet::{Ethernet, Sum};
use crate::path::datagram::Datagram;
use crate::path::split;
use crate::tables::Family;
use crate::{Port, Reason, Verdict};

/// Checks an error for the client about `frame`, and returns type, code and the 4 bytes behind the checksum.
pub(super) fn error_about(out: &[u8], frame: &[u8]) -> (u8, u8, [u8; 4]) {
    assert_eq!((&out[..6], &out[6..12]), (&CLIENT_MAC.0[..], &NODE_MAC.0[..]));
    let (source, destination, ..) = outer(out);
    let message = if out[14] >> 4 == 4 {
        assert_eq!((source, destination), (DVIPA.into(), CLIENT.into()));
        assert!(out.len() <= 14 + 576);
        let icmp = Icmpv4Slice::from_slice(&out[34..]).unwrap();
        assert_eq!(Sum::ZERO.bytes(&out[34..]).finish(), 0, "checksum of {icmp:?}");
        &out[34..]
    } else {
        assert_eq!((source, destination), (DVIPA6.into(), CLIENT6.into()));
        assert!(out.len() <= 14 + 1280);
        let icmp = Icmpv6Slice::from_slice(&out[54..]).unwrap();
        assert!(icmp.is_checksum_valid(DVIPA6.octets(), CLIENT6.octets()), "checksum of {icmp:?}");
        &out[54..]
    };
    assert!(frame[14..].starts_with(&message[8..]), "quotes the packet as it came");
    assert!(message.len() >= 8 + 28, "quotes enough of it");
    (message[0], message[1], [message[4], message[5], message[6], message[7]])
}

#[test]
fn a_packet_whose_hops_are_used_up_is_answered_from_the_dvipa() {
    for (family, at, kind) in [(Family::V4, 22, 11), (Family::V6, 21, 3)] {
        let mut bench = Bench::new();
        let mut frame = syn(family, 1024, port_of(GUE));
        frame[at] = 1;
        if family == Family::V4 {
            mend(&mut frame);
        }
        let out = bench.sent(&frame);
        assert_eq!(error_about(&out, &frame), (kind, 0, [0; 4]));
        assert_eq!(bench.count(Reason::AnsweredTimeExceeded), 1);
    }
}

#[test]
fn a_packet_that_would_be_too_big_is_answered_with_the_mtu() {
    for (stack, mtu) in [(IPIP, 1480_u16), (GUE, 1468), (IPIP6, 1460), (GUE6, 1448)] {
        let [m0, m1] = mtu.to_be_bytes();
        let frame = udp(Family::V4, 1024, port_of(stack), &[1; 1472]);
        assert_eq!(error_about(&Bench::new().sent(&frame), &frame), (3, 4, [0, 0, m0, m1]));
        let frame = udp(Family::V6, 1024, port_of(stack), &[1; 1452]);
        assert_eq!(error_about(&Bench::new().sent(&frame), &frame), (2, 0, [0, 0, m0, m1]));
    }
}

/// An ICMP error from a router about a packet from the DVIPA to the client.
pub(super) fn error_quoting(
    family: Family,
    protocol: u8,
    ports: (u16, u16),
    quoted_payload: usize,
) -> Vec<u8> {
    let mut payload = vec![0; quoted_payload.max(4)];
    payload[..2].copy_from_slice(&ports.0.to_be_bytes());
    payload[2..4].copy_from_slice(&ports.1.to_be_bytes());
    match family {
        Family::V4 => {
            let mut ip =
                etherparse::Ipv4Header::new(1460, 3, protocol.into(), DVIPA.octets(), CLIENT.octets())
                    .unwrap();
            ip.header_checksum = 0xdead;
            let quoted = [&ip.to_bytes()[..], &payload].concat();
            let kind = etherparse::Icmpv4Type::TimeExceeded(
                etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit,
            );
            frame!(to_dvipa(family).icmpv4(kind), &quoted)
        }
        Family::V6 => {
            let ip = etherparse::Ipv6Header {
                payload_length: 1400,
                next_header: protocol.into(),
                source: DVIPA6.octets(),
                destination: CLIENT6.octets(),
                ..Default::default()
            };
            let quoted = [&ip.to_bytes()[..], &payload].concat();
            frame!(to_dvipa(family).icmpv6(etherparse::Icmpv6Type::PacketTooBig { mtu: 1300 }), &quoted)
        }
    }
}

#[test]
fn an_error_that_quotes_a_connection_goes_to_its_owner() {
    for (family, protocol) in [Family::V4, Family::V6].into_iter().flat_map(|f| [(f, 6), (f, 17)]) {
        let mut bench = Bench::new();
        let kind = if protocol == 6 { Protocol::Tcp } else { Protocol::Udp };
        bench.establish(1024, port_of(GUE), kind, IPIP);
        let frame = error_quoting(family, protocol, (port_of(GUE), 1024), 8);
        let out = bench.sent(&frame);
        assert_eq!(outer(&out).1, stack_v4(IPIP));
        assert_eq!(out[34..], counted_down(&frame));
        assert_eq!(bench.count(Reason::ForwardedIcmpError), 1);
    }
}

#[test]
fn an_error_takes_the_same_way_as_its_connection() {
    for family in [Family::V4, Family::V6] {
        let mut bench = Bench::new();
        bench.establish(1024, port_of(GUE), Protocol::Tcp, GUE);
        let data = bench.sent(&ack(family, 1024, port_of(GUE)));
        let error = bench.sent(&error_quoting(family, 6, (port_of(GUE), 1024), 8));
        assert_eq!(data[34..36], error[34..36], "GUE's source port");
    }
}

#[test]
fn an_error_that_quotes_no_known_connection_is_dropped() {
    for family in [Family::V4, Family::V6] {
        let mut bench = Bench::new();
        bench.establish(1024, port_of(GUE), Protocol::Tcp, GUE);
        assert_eq!(bench.dropped(&error_quoting(family, 6, (port_of(GUE), 1025), 8)), Reason::IcmpUnmatched);
        assert_eq!(bench.dropped(&error_quoting(family, 17, (port_of(GUE), 1024), 8)), Reason::IcmpUnmatched);
        assert_eq!(bench.dropped(&error_quoting(family, 1, (port_of(GUE), 1024), 8)), Reason::IcmpUnmatched);
    }
}

#[test]
fn an_error_is_about_a_connection_only_if_the_dvipa_sent_what_it_quotes_and_its_ports_are_there() {
    let mut bench = Bench::new();
    bench.establish(1024, port_of(GUE), Protocol::Tcp, GUE);
    // The quoted IPv4 header.
    const QUOTED: usize = 14 + 20 + 8;
    let mut changed = |at: usize, value| {
        let mut frame = error_quoting(Family::V4, 6, (port_of(GUE), 1024), 8);
        frame[QUOTED + at] = value;
        bench.one(&frame).1
    };
    let unmatched = Verdict::Drop(Reason::IcmpUnmatched);
    assert_eq!(changed(6, 0x20), Verdict::Send(Port::Nic), "a first fragment has the ports");
    assert_eq!(changed(7, 1), unmatched, "a later one has none");
    assert_eq!(changed(15, 9), unmatched, "another source");
}

#[test]
fn other_icmp_to_a_dvipa_is_dropped() {
    let frame = frame!(to_dvipa(Family::V4).icmpv4_raw(13, 0, [0; 4]), b"");
    assert_eq!(Bench::new().dropped(&frame), Reason::IcmpUnsupported);
    let frame = frame!(to_dvipa(Family::V4).icmpv4_echo_reply(1, 1), b"");
    assert_eq!(Bench::new().dropped(&frame), Reason::IcmpUnmatched, "no target has asked");
}

#[test]
fn no_error_is_sent_about_an_error_or_a_later_fragment() {
    let mut bench = Bench::new();
    bench.establish(1024, port_of(GUE), Protocol::Tcp, GUE);
    let mut frame = error_quoting(Family::V4, 6, (port_of(GUE), 1024), 8);
    frame[22] = 1;
    mend(&mut frame);
    assert_eq!(bench.dropped(&frame), Reason::HopLimit);
    let mut frame = error_quoting(Family::V6, 6, (port_of(GUE), 1024), 8);
    frame[21] = 1;
    assert_eq!(bench.dropped(&frame), Reason::HopLimit);
}

/// A UDP packet for the IPIP stack with "don't fragment" clear.
fn may_be_split(payload: &[u8]) -> Vec<u8> {
    let mut frame = udp(Family::V4, 1024, port_of(IPIP), payload);
    frame[20] &= !0x40;
    mend(&mut frame);
    frame
}

#[test]
fn a_packet_that_may_be_split_becomes_two_that_fit() {
    let mut bench = Bench::new();
    let frame = may_be_split(&(0..1472).map(|i| i as u8).collect::<Vec<_>>());
    let out = bench.burst(&[&frame], Port::Nic);
    let [(one, Verdict::Send(Port::Nic)), (two, Verdict::Send(Port::Nic))] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!(one.len(), 14 + 1500 - 4, "1480 bytes less the header are 182 units of 8 and 4 more");
    let fields = |out: &[u8]| {
        let h = etherparse::Ipv4Header::from_slice(&out[34..]).unwrap().0;
        assert_eq!(h.header_checksum, h.calc_header_checksum());
        (h.fragment_offset.value(), h.more_fragments, usize::from(h.total_len), h.time_to_live)
    };
    assert_eq!(fields(one), (0, true, 1476, 63));
    assert_eq!(fields(two), (182, false, 44, 63));
    assert_eq!([&one[54..], &two[54..]].concat(), frame[34..], "nothing is lost");
    assert_eq!((bench.count(Reason::ForwardedNew), bench.count(Reason::FragmentMade)), (1, 1));
    bench.outlet.no_spare = true;
    assert_eq!(bench.dropped(&frame), Reason::NoBuffer);
}

#[test]
fn a_packet_that_two_parts_can_t_carry_becomes_as_many_as_it_takes() {
    let node = crate::Node { fabric_mtu: 600, ..node() };
    // With UDP's header, in parts of 560 bytes behind their own: the last one is full, has one byte, or something between.
    for (len, parts) in [(1112, 2), (1113, 3), (1400, 3), (1672, 3)] {
        let mut bench = Bench::with(&dpt(), &node);
        let payload: Vec<u8> = (0..len).map(|i: u32| (i % 251) as u8).collect();
        let frame = may_be_split(&payload);
        let out = bench.burst(&[&frame], Port::Nic);
        assert_eq!(out.len(), parts, "{len}");
        let (mut whole, mut next) = (Vec::<u8>::new(), 0);
        for (i, (part, verdict)) in out.iter().enumerate() {
            let (ip, rest) = etherparse::Ipv4Header::from_slice(&part[34..]).unwrap();
            assert_eq!(*verdict, Verdict::Send(Port::Nic));
            assert_eq!((ip.fragment_offset.value(), ip.more_fragments), (next, i + 1 < parts));
            assert_eq!((ip.time_to_live, ip.header_checksum), (63, ip.calc_header_checksum()));
            assert!(part.len() <= 14 + 600, "{}", part.len());
            next += (rest.len() / 8) as u16;
            whole.extend(rest);
        }
        assert_eq!(whole, frame[34..], "nothing is lost");
        let made = parts as u64 - 1;
        assert_eq!((bench.count(Reason::ForwardedNew), bench.count(Reason::FragmentMade)), (1, made));
    }
}

#[test]
fn a_packet_is_not_cut_where_no_payload_fits() {
    let frame = may_be_split(&[1; 1000]);
    let ethernet = Ethernet::parse(&frame).unwrap();
    let d = Datagram::parse(&frame, ethernet, &Bench::new().tables).unwrap().unwrap();
    assert_eq!([27, 28].map(|max| split::plan(&d, max).is_some()), [false, true]);
}
