//! The plain way and the general way agree, whatever the packet; and every packet ends in one counter.

use proptest::prelude::*;

use super::bench::*;
use crate::packet::Ethernet;
use crate::path::datagram::Datagram;
use crate::path::ends::AnyKey;
use crate::path::parse::{Gate, plain_v4, plain_v6};
use crate::path::plain::PlainKey;
use crate::tables::Family;
use crate::{Kind, Port, Reason};

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_the_plain_way_reads_the_general_way_reads_too(frame in frames()) {
        let bench = Bench::new();
        let gate = Gate::new(Port::Nic, &bench.tables);
        let v4 = plain_v4(&frame, gate, &bench.tables).map(|key| {
            (format!("{:?}", AnyKey::V4(key)), key.inner(&frame), key.opens(&frame))
        });
        let v6 = plain_v6(&frame, gate, &bench.tables).map(|key| {
            (format!("{:?}", AnyKey::V6(key)), key.inner(&frame), key.opens(&frame))
        });
        if let Some((key, plain, plain_opens)) = v4.or(v6) {
            let eth = Ethernet::parse(&frame).unwrap();
            let datagram = Datagram::parse(&frame, eth, &bench.tables).unwrap().unwrap();
            let (ends, opens) = datagram.ends(&frame).unwrap();
            prop_assert_eq!(key, format!("{:?}", ends.key()));
            prop_assert_eq!(
                (plain.len, plain.traffic_class, plain_opens),
                (datagram.len, datagram.traffic_class, opens)
            );
            prop_assert_eq!(plain.hash, ends.hash());
            prop_assert!(datagram.hops > 1 && datagram.fragment.is_none());
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
        let held = [Reason::FragmentHeld, Reason::FrozenHeld, Reason::AskHeld].map(|r| bench.count(r)).iter().sum::<u64>();
        let made = bench.count(Reason::FragmentMade) + bench.count(Reason::Asked);
        prop_assert_eq!(ended + held, frames.len() as u64);
        prop_assert_eq!(out.len() as u64 + held, frames.len() as u64 + made);
    }
}
