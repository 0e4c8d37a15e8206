//! The plain way and the general way agree, whatever the packet; and every packet ends in one counter.

use model::Protocol;
use proptest::prelude::*;

use super::bench::*;
use crate::packet::Ethernet;
use crate::path::datagram::Datagram;
use crate::path::encapsulate::Inner;
use crate::path::ends::AnyKey;
use crate::path::parse::{Gate, Tag, plain_v4, plain_v6};
use crate::path::plain::PlainKey;
use crate::tables::Family;
use crate::{Kind, Node, Port, Reason, TestPacket};

/// The VLAN of a tagged node.
const VLAN: u16 = 0x123;

/// A well-formed packet of some kind to the DVIPA, then damaged in some places.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let kind = (family, 0..5_u8, any::<u16>(), 7998..8008_u16, 0..1600_usize);
    let damage = proptest::collection::vec((0..70_usize, any::<u8>()), 0..3);
    (kind, damage, proptest::option::weighted(0.2, 0..90_usize), any::<bool>()).prop_map(
        |(kind, damage, cut, mended)| {
            let (family, kind, client_port, port, len) = kind;
            let mut frame = match kind {
                0 => syn(family, client_port, port),
                1 => ack(family, client_port, port),
                2 | 3 => udp(family, client_port, port, &vec![3; len]),
                _ if family == Family::V4 => frame!(to_dvipa(family).icmpv4_echo_request(1, 1), &[1; 40]),
                _ => frame!(to_dvipa(family).icmpv6_echo_request(1, 1), &[1; 40]),
            };
            for (at, value) in damage {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if mended && family == Family::V4 && frame.len() >= 74 {
                mend(&mut frame);
            }
            cut.into_iter().for_each(|n| frame.truncate(n));
            frame
        },
    )
}

/// Tags of the node's VLAN with any priority, of others, and other things in their place.
fn tags() -> impl Strategy<Value = [u8; 4]> {
    let [v0, v1] = VLAN.to_be_bytes();
    prop_oneof![
        4 => (0..16_u8).prop_map(move |priority| [0x81, 0x00, priority << 4 | v0, v1]),
        1 => any::<[u8; 2]>().prop_map(|[t0, t1]| [0x81, 0x00, t0, t1]),
        1 => any::<[u8; 4]>(),
    ]
}

/// The frame with these bytes behind its addresses.
fn tagged(frame: &[u8], tag: [u8; 4]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(12));
    [addresses, &tag, rest].concat()
}

/// What the plain way reads of a frame that has a tag of `TAG` bytes.
fn plain<const TAG: usize>(frame: &[u8], bench: &Bench) -> Option<(AnyKey, Inner, bool)> {
    let (gate, tables) = (Gate::new(Port::Nic, &bench.tables), &bench.tables);
    let behind = Tag::new(tables).behind::<TAG>(frame)?;
    let v4 = plain_v4(behind, gate, false, tables)
        .map(|k| (k.any(), k.inner::<TAG>(frame), k.opens::<TAG>(frame)));
    v4.or_else(|| {
        plain_v6(behind, gate, tables).map(|k| (k.any(), k.inner::<TAG>(frame), k.opens::<TAG>(frame)))
    })
}

#[test]
fn tagged_packets_are_plain_in_the_nodes_own_vlan() {
    let bench = Bench::with(&dpt(), &Node { vlan: Some(VLAN), ..node() });
    let [v0, v1] = VLAN.to_be_bytes();
    for (family, kind) in [Family::V4, Family::V6].into_iter().flat_map(|f| [(f, 0), (f, 1), (f, 2)]) {
        let frame = match kind {
            0 => syn(family, 4000, 8001),
            1 => ack(family, 4000, 8001),
            _ => udp(family, 4000, 8001, &[3; 12]),
        };
        assert!(plain::<4>(&tagged(&frame, [0x81, 0x00, v0, v1]), &bench).is_some());
        assert!(plain::<4>(&tagged(&frame, [0x81, 0x00, 0xf0 | v0, v1]), &bench).is_some(), "any priority");
        for other in [[0x81, 0x00, v0, v1 ^ 1], [0x88, 0xa8, v0, v1]] {
            assert!(plain::<4>(&tagged(&frame, other), &bench).is_none(), "{other:x?}");
        }
        assert!(plain::<4>(&frame, &bench).is_none(), "untagged");
        let mut elsewhere = tagged(&frame, [0x81, 0x00, v0, v1]);
        elsewhere[5] ^= 1;
        assert!(plain::<4>(&elsewhere, &bench).is_none(), "to another station");
    }
}

#[test]
fn a_checksum_that_the_device_has_verified_is_not_computed_again() {
    let mut bench = Bench::new();
    bench.establish(4000, 8001, Protocol::Tcp, GUE);
    let mut frame = ack(Family::V4, 4000, 8001);
    frame[24] ^= 1;
    assert_eq!(bench.dropped(&frame), Reason::BadChecksum);
    let mut burst = [Some(TestPacket::new(&frame).verified())];
    bench.worker.process(&mut burst, Port::Nic, &bench.tables, &bench.crt, bench.now, &mut bench.outlet);
    assert_eq!((bench.count(Reason::Forwarded), bench.count(Reason::BadChecksum)), (1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_the_plain_way_reads_the_general_way_reads_too(frame in frames(), tag in proptest::option::of(tags())) {
        let bench = Bench::with(&dpt(), &Node { vlan: tag.map(|_| VLAN), ..node() });
        let frame = tag.map_or(frame.clone(), |tag| tagged(&frame, tag));
        let read = if tag.is_some() { plain::<4>(&frame, &bench) } else { plain::<0>(&frame, &bench) };
        if let Some((key, plain, plain_opens)) = read {
            let eth = Ethernet::parse(&frame).unwrap();
            prop_assert_eq!((eth.destination, eth.vlan), (NODE_MAC, tag.map(|_| VLAN)));
            let datagram = Datagram::parse(&frame, eth, &bench.tables).unwrap().unwrap();
            let (ends, opens) = datagram.ends(&frame).unwrap();
            prop_assert_eq!(key, ends.key());
            prop_assert_eq!(
                (plain.l2_bytes, plain.len, plain.traffic_class, plain_opens),
                (eth.header_bytes, datagram.len, datagram.traffic_class, opens)
            );
            prop_assert_eq!(plain.hash, ends.hash());
            prop_assert!(datagram.hops > 1 && datagram.fragment.is_none());
            prop_assert_eq!(format!("{:?}", Datagram::plain(&frame, key)), format!("{:?}", Some(datagram)));
        }
    }

    #[test]
    fn every_packet_comes_out_once_or_is_held_and_ends_in_one_counter(
        frames in proptest::collection::vec(prop_oneof![frames(), proptest::collection::vec(any::<u8>(), 0..200)], 0..80),
        local in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        let out = bench.burst(&frames, if local { Port::Local } else { Port::Nic });
        let ended: u64 = Reason::ALL.iter().filter(|r| r.kind() != Kind::Note).map(|r| bench.count(*r)).sum();
        let held = [Reason::FragmentHeld, Reason::FrozenHeld, Reason::AskHeld, Reason::UnservedHeld, Reason::QuietHeld];
        let held: u64 = held.iter().map(|r| bench.count(*r)).sum();
        let made = bench.count(Reason::FragmentMade) + bench.count(Reason::Asked);
        // One that waited may have come out behind the one that it waited for.
        prop_assert!(out.len() as u64 <= frames.len() as u64 + made);
        let waiting = frames.len() as u64 + made - out.len() as u64;
        prop_assert!(waiting <= held);
        prop_assert_eq!(ended + waiting, frames.len() as u64);
    }
}
