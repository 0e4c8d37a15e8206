use std::net::IpAddr;
use std::sync::Arc;

use model::Protocol;

use super::bench::*;
use crate::crt::{CrtState, Entry, Key, KeyV4, KeyV6};
use crate::packet::Gue;
use crate::path::{AnyKey, Handoffs};
use crate::tables::Family;
use crate::{Node, PacketBuffer, Port, Reason, Tables, TestPacket, Verdict};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const CLIENT_PORT: u16 = 1024;
const OPTION: [u8; 24] =
    [0xb1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];

/// A frozen connection to GUE's port.
fn frozen(family: Family) -> (Bench, AnyKey) {
    fn freeze<K: Key + Into<AnyKey>>(bench: &Bench, key: K) -> AnyKey {
        let [old, new] = [CrtState::Established, CrtState::Frozen].map(|state| Entry { owner: LOCAL, state });
        bench.crt.change(key, old, new, bench.now).unwrap();
        key.into()
    }
    let bench = Bench::new();
    bench.establish(CLIENT_PORT, port_of(GUE), Protocol::Tcp, LOCAL);
    let key = match family {
        Family::V4 => freeze(&bench, KeyV4::new(CLIENT, CLIENT_PORT, V4, port_of(GUE), Protocol::Tcp)),
        Family::V6 => freeze(&bench, KeyV6::new(CLIENT6, CLIENT_PORT, V6, port_of(GUE), Protocol::Tcp)),
    };
    (bench, key)
}

fn change(bench: &Bench, key: AnyKey, old: Entry, new: Entry) {
    match key {
        AnyKey::V4(key) => bench.crt.change(key, old, new, bench.now).unwrap(),
        AnyKey::V6(key) => bench.crt.change(key, old, new, bench.now).unwrap(),
    }
}

/// The GUE header's private data, and what is inside.
fn opened(frame: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let ip = if frame[14] >> 4 == 4 { 20 } else { 40 };
    let payload = &frame[14 + ip + 8..];
    let gue = Gue::parse(payload).unwrap();
    assert_eq!(gue.protocol, if gue.payload[0] >> 4 == 4 { 4 } else { 41 }, "the family of what is inside");
    (payload[4..gue.header_bytes].to_vec(), gue.payload.to_vec())
}

#[test]
fn packets_of_a_connection_that_is_handed_over_carry_its_option_to_every_kind_of_stack() {
    for family in FAMILIES {
        for stack in [GUE, IPIP, L2, GUE6, IPIP6] {
            let (mut bench, key) = frozen(family);
            let packet = ack(family, CLIENT_PORT, port_of(GUE));
            assert!(bench.burst(&[&packet], Port::Nic).is_empty(), "it waits");
            bench.worker.set_handoffs(&Arc::new(Handoffs::default().with(key, OPTION)));
            let [old, new] = [(LOCAL, CrtState::Frozen), (stack, CrtState::HandingOver)]
                .map(|(owner, state)| Entry { owner, state });
            change(&bench, key, old, new);
            let mut out = bench.turn(false);
            out.extend(bench.burst(&[&packet], Port::Nic));
            assert_eq!(out.len(), 2, "the one that waited and a later one");
            for (frame, verdict) in out {
                assert_eq!(verdict, Verdict::Send(Port::Nic));
                let over_v6 = [GUE6, IPIP6].contains(&stack);
                let expected: IpAddr = if over_v6 { stack_v6(stack).into() } else { stack_v4(stack).into() };
                assert_eq!(outer(&frame).1, expected);
                assert_eq!(opened(&frame), (OPTION.to_vec(), counted_down(&packet)));
            }
            assert_eq!(bench.count(Reason::ForwardedHandoff), 2);
        }
    }
}

#[test]
fn a_packet_made_for_the_hand_over_goes_as_the_clients_own_do() {
    for family in FAMILIES {
        let (bench, key) = frozen(family);
        let handoffs = Handoffs::default().with(key, OPTION);
        let made = ack(family, CLIENT_PORT, port_of(GUE));
        let mut packet = TestPacket::new(&made);
        // Whatever the entry says: it goes before those that wait for a change of it.
        handoffs.put_on(&mut packet, GUE, &bench.tables).unwrap();
        assert_eq!(opened(packet.bytes()), (OPTION.to_vec(), counted_down(&made)));
        let mut refused = |handoffs: &Handoffs, owner| {
            packet.refill(&made);
            handoffs.put_on(&mut packet, owner, &bench.tables).unwrap_err()
        };
        assert_eq!(refused(&handoffs, LOCAL), Reason::HandoffUnknown);
        assert_eq!(refused(&Handoffs::default(), GUE), Reason::HandoffUnknown);
        assert_eq!(bench.count(Reason::ForwardedHandoff), 0, "it was not received");
    }
}

#[test]
fn once_it_is_established_its_packets_go_without_the_option() {
    for family in FAMILIES {
        let (mut bench, key) = frozen(family);
        bench.worker.set_handoffs(&Arc::new(Handoffs::default().with(key, OPTION)));
        let [a, b, c] =
            [(LOCAL, CrtState::Frozen), (GUE, CrtState::HandingOver), (GUE, CrtState::Established)]
                .map(|(owner, state)| Entry { owner, state });
        change(&bench, key, a, b);
        change(&bench, key, b, c);
        let packet = ack(family, CLIENT_PORT, port_of(GUE));
        assert_eq!(opened(&bench.sent(&packet)), (vec![], counted_down(&packet)));
    }
}

#[test]
fn a_packet_that_waited_waits_for_the_option_too() {
    let (mut bench, key) = frozen(Family::V4);
    let packet = ack(Family::V4, CLIENT_PORT, port_of(GUE));
    assert!(bench.burst(&[&packet], Port::Nic).is_empty(), "it waits");
    let [old, new] = [(LOCAL, CrtState::Frozen), (GUE, CrtState::HandingOver)]
        .map(|(owner, state)| Entry { owner, state });
    change(&bench, key, old, new);
    assert!(bench.turn(false).is_empty(), "this worker has not seen the option");
    bench.worker.set_handoffs(&Arc::new(Handoffs::default().with(key, OPTION)));
    let out = bench.turn(false);
    assert_eq!((out.len(), opened(&out[0].0)), (1, (OPTION.to_vec(), counted_down(&packet))));
}

#[test]
fn without_its_option_or_another_host_a_packet_is_dropped() {
    let (mut bench, key) = frozen(Family::V4);
    let [old, new] = [(LOCAL, CrtState::Frozen), (GUE, CrtState::HandingOver)]
        .map(|(owner, state)| Entry { owner, state });
    change(&bench, key, old, new);
    let packet = ack(Family::V4, CLIENT_PORT, port_of(GUE));
    assert_eq!(bench.dropped(&packet), Reason::HandoffUnknown);
    bench.worker.set_handoffs(&Arc::new(Handoffs::default().with(key, OPTION)));
    bench.sent(&packet);
    change(&bench, key, new, Entry { owner: LOCAL, ..new });
    assert_eq!(bench.dropped(&packet), Reason::HandoffUnknown, "the node's own kernel takes no option");
    assert!(Handoffs::default().without(key).is_none());
}

#[test]
fn a_hand_over_is_tagged_if_the_node_is_in_a_vlan() {
    for (family, stack) in FAMILIES.into_iter().flat_map(|family| [(family, GUE), (family, GUE6)]) {
        let (mut bench, key) = frozen(family);
        let [old, new] = [(LOCAL, CrtState::Frozen), (stack, CrtState::HandingOver)]
            .map(|(owner, state)| Entry { owner, state });
        change(&bench, key, old, new);
        bench.worker.set_handoffs(&Arc::new(Handoffs::default().with(key, OPTION)));
        let packet = ack(family, CLIENT_PORT, port_of(GUE));
        let untagged = bench.sent(&packet);
        bench.tables = Tables::build(&dpt(), &neighbours(), &Node { vlan: Some(100), ..node() });
        assert_eq!(bench.sent(&in_vlan(100, &packet)), in_vlan(100, &untagged));
    }
}

#[test]
fn options_are_given_and_taken_away_one_by_one() {
    let key = |port| KeyV4::new(CLIENT, port, V4, 80, Protocol::Tcp);
    let both = Handoffs::default().with(key(1), OPTION).with(key(2), OPTION);
    let one = both.without(key(1)).unwrap();
    let has = |options: &Handoffs| [1, 2].map(|port| options.has(key(port).into(), OPTION));
    assert_eq!((has(&both), has(&one)), ([true, true], [false, true]));
    assert!(!one.has(key(2).into(), [0; OPTION.len()]) && one.without(key(1)).is_none());
}

#[test]
fn a_packet_that_is_too_long_for_its_option_is_dropped() {
    for (family, headers) in [(Family::V4, 40), (Family::V6, 60)] {
        let (mut bench, key) = frozen(family);
        bench.worker.set_handoffs(&Arc::new(Handoffs::default().with(key, OPTION)));
        let [old, new] = [(LOCAL, CrtState::Frozen), (GUE, CrtState::HandingOver)]
            .map(|(owner, state)| Entry { owner, state });
        change(&bench, key, old, new);
        // IPv4, UDP, GUE and the option before it.
        let fits = 1500 - (20 + 8 + 4 + OPTION.len()) - headers;
        let packet =
            |len: usize| frame!(to_dvipa(family).tcp(CLIENT_PORT, port_of(GUE), 1, 1).ack(9), &vec![7; len]);
        assert_eq!(bench.sent(&packet(fits)).len(), 1514);
        assert_eq!(bench.dropped(&packet(fits + 1)), Reason::HandoffUnknown);
    }
}
