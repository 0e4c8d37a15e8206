//! What is none of ours crosses; what is wrong is told apart.

use super::bench::*;
use crate::tables::Family;
use crate::{Mac, Node, Port, Reason, Verdict};

fn crosses(frame: &[u8]) {
    for (from, to) in [(Port::Nic, Port::Local), (Port::Local, Port::Nic)] {
        let mut bench = Bench::new();
        assert_eq!(bench.burst(&[frame], from), [(frame.to_vec(), Verdict::Send(to))]);
        assert_eq!(bench.count(Reason::PassedToLocal) + bench.count(Reason::PassedToNic), 1);
    }
}

#[test]
fn other_addresses_ethertypes_and_scraps_cross_unchanged() {
    let builder = || etherparse::PacketBuilder::ethernet2(CLIENT_MAC.0, NODE_MAC.0);
    crosses(&frame!(builder().ipv4(CLIENT.octets(), NODE.octets(), 1).tcp(1, 22, 1, 1).syn(), &[]));
    crosses(&frame!(builder().ipv6(CLIENT6.octets(), NODE6.octets(), 1).udp(1, 7440), b"quic"));
    crosses(&[&NODE_MAC.0[..], &CLIENT_MAC.0, &[0x88, 0xcc], &[1; 50]].concat());
    crosses(b"scrap");
    crosses(b"");
}

#[test]
fn a_frame_for_another_station_or_group_is_none_of_ours() {
    for to in [Mac([2, 9, 9, 9, 9, 9]), Mac::BROADCAST] {
        let mut frame = syn(Family::V4, 1024, port_of(GUE));
        frame[..6].copy_from_slice(&to.0);
        assert_eq!(Bench::new().one(&frame), (frame, Verdict::Send(Port::Local)));
    }
}

#[test]
fn a_frame_of_another_vlan_is_none_of_ours() {
    let frame = syn(Family::V4, 1024, port_of(GUE));
    let tagged = |vlan| in_vlan(vlan, &frame);
    let mut bench = Bench::with(&dpt(), &Node { vlan: Some(100), ..node() });
    // A priority tag names no VLAN (IEEE 802.1Q 9.6: VID 0).
    for other in [tagged(99), tagged(0), frame.clone()] {
        assert_eq!(bench.one(&other), (other, Verdict::Send(Port::Local)));
    }
    bench.sent(&tagged(100));
}

/// Breaks a SYN and says how it is dropped.
fn broken(family: Family, change: impl Fn(&mut Vec<u8>)) -> Reason {
    let mut frame = syn(family, 1024, port_of(GUE));
    change(&mut frame);
    if family == Family::V4 && frame.len() >= 34 && frame[14] == 0x45 {
        mend(&mut frame);
    }
    Bench::new().dropped(&frame)
}

#[test]
fn each_kind_of_damage_has_its_reason() {
    let v4 = |change: fn(&mut Vec<u8>)| broken(Family::V4, change);
    let v6 = |change: fn(&mut Vec<u8>)| broken(Family::V6, change);
    assert_eq!(v4(|f| f[17] += 1), Reason::BadLength, "total length beyond the frame");
    assert_eq!(v4(|f| f[17] = 19), Reason::BadLength, "total length within the header");
    assert_eq!(v4(|f| f[17] = 39), Reason::Truncated, "half a TCP header");
    assert_eq!(v4(|f| f[14] = 0x44), Reason::BadHeader, "header length 16");
    assert_eq!(v4(|f| f[14] = 0x65), Reason::BadHeader, "version 6 in IPv4's EtherType");
    assert_eq!(v4(|f| f[14] = 0x4f), Reason::Truncated, "options beyond the frame");
    assert_eq!(v4(|f| f[46] = 0x40), Reason::BadLength, "TCP data offset 16");
    assert_eq!(v4(|f| f[23] = 132), Reason::ProtocolUnsupported);
    assert_eq!(v4(|f| f[26..30].copy_from_slice(&[224, 0, 0, 1])), Reason::BadSource);
    assert_eq!(v4(|f| f[26..30].copy_from_slice(&[127, 0, 0, 1])), Reason::BadSource);
    assert_eq!(v4(|f| f[26..30].copy_from_slice(&DVIPA.octets())), Reason::BadSource);
    assert_eq!(v6(|f| f[19] += 1), Reason::BadLength, "payload length beyond the frame");
    assert_eq!(v6(|f| f[14] = 0x45), Reason::BadHeader, "version 4 in IPv6's EtherType");
    assert_eq!(v6(|f| f[20] = 132), Reason::ProtocolUnsupported);
    assert_eq!(v6(|f| f[22] = 0xff), Reason::BadSource);
    assert_eq!(v6(|f| f[22..38].fill(0)), Reason::BadSource);
}

#[test]
fn a_wrong_ipv4_header_checksum_is_found() {
    let mut frame = syn(Family::V4, 1024, port_of(GUE));
    frame[24] ^= 1;
    assert_eq!(Bench::new().dropped(&frame), Reason::BadChecksum);
}

#[test]
fn a_udp_length_beyond_the_packet_is_found() {
    for (family, at) in [(Family::V4, 39), (Family::V6, 59)] {
        let mut frame = udp(family, 1024, port_of(GUE), b"payload");
        frame[at] += 1;
        assert_eq!(Bench::new().dropped(&frame), Reason::BadLength);
        frame[at] = 7;
        assert_eq!(Bench::new().dropped(&frame), Reason::BadLength);
    }
}

#[test]
fn received_packets_are_counted_by_port() {
    let mut bench = Bench::new();
    bench.burst(&[b"one", b"two"], Port::Nic);
    bench.burst(&[b"one"], Port::Local);
    let counted = |reason| bench.worker.counters().get(reason);
    assert_eq!((counted(Reason::ReceivedNic), counted(Reason::ReceivedLocal)), (2, 1));
}
