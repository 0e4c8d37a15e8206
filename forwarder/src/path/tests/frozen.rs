use model::{Protocol, StackIndex};

use super::bench::*;
use super::icmp::error_quoting;
use crate::crt::{CrtState, Entry, Key, KeyV4, KeyV6};
use crate::tables::Family;
use crate::{Port, Reason, Verdict};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const CLIENT_PORT: u16 = 1024;

fn entry(owner: StackIndex, state: CrtState) -> Entry {
    Entry { owner, state }
}

/// A connection at [`GUE`] that is frozen, and packets of it that can be told apart.
fn frozen(family: Family) -> (Bench, impl Fn(u32) -> Vec<u8>) {
    let bench = Bench::new();
    bench.establish(CLIENT_PORT, port_of(GUE), Protocol::Tcp, GUE);
    change(&bench, family, entry(GUE, CrtState::Established), entry(GUE, CrtState::Frozen));
    let packet =
        move |n: u32| frame!(to_dvipa(family).tcp(CLIENT_PORT, port_of(GUE), n, 65535).ack(9), b"some data");
    (bench, packet)
}

fn change(bench: &Bench, family: Family, old: Entry, new: Entry) {
    fn of<K: Key>(bench: &Bench, key: K, old: Entry, new: Entry) {
        bench.crt.change(key, old, new, bench.now).unwrap();
    }
    match family {
        Family::V4 => of(bench, KeyV4::new(CLIENT, CLIENT_PORT, V4, port_of(GUE), Protocol::Tcp), old, new),
        Family::V6 => of(bench, KeyV6::new(CLIENT6, CLIENT_PORT, V6, port_of(GUE), Protocol::Tcp), old, new),
    }
}

/// Which packets of [`frozen`]'s came out, and to whom.
fn numbers(out: &[(Vec<u8>, Verdict)], owner: StackIndex) -> Vec<u8> {
    let number = |(frame, verdict): &(Vec<u8>, Verdict)| {
        assert_eq!(*verdict, Verdict::Send(Port::Nic));
        assert_eq!(outer(frame).1, stack_v4(owner), "carried to its owner");
        // The low byte of the sequence number, counted from the end: TCP header and payload.
        frame[frame.len() - 9 - 20 + 7]
    };
    out.iter().map(number).collect()
}

#[test]
fn a_frozen_connection_holds_its_packets_in_order_and_releases_them_to_its_new_owner() {
    for family in FAMILIES {
        let (mut bench, packet) = frozen(family);
        assert!(bench.burst(&[packet(1), packet(2)], Port::Nic).is_empty());
        assert!(bench.burst(&[packet(3)], Port::Nic).is_empty());
        assert!(bench.turn(false).is_empty() && bench.turn(true).is_empty(), "still frozen");
        change(&bench, family, entry(GUE, CrtState::Frozen), entry(IPIP, CrtState::Established));
        assert_eq!(numbers(&bench.turn(false), IPIP), [1, 2, 3]);
        assert!(bench.turn(false).is_empty(), "once");
        assert_eq!((bench.count(Reason::FrozenHeld), bench.count(Reason::Forwarded)), (3, 3));
    }
}

#[test]
fn packets_that_waited_leave_before_later_ones() {
    for family in FAMILIES {
        let (mut bench, packet) = frozen(family);
        assert!(bench.burst(&[packet(1), packet(2)], Port::Nic).is_empty());
        change(&bench, family, entry(GUE, CrtState::Frozen), entry(GUE, CrtState::Established));
        assert_eq!(numbers(&bench.burst(&[packet(3), packet(4)], Port::Nic), GUE), [1, 2, 3, 4]);
    }
}

#[test]
fn as_many_wait_as_may_and_the_others_are_dropped() {
    let (mut bench, packet) = frozen(Family::V4);
    let out = bench.burst(&(1..=5).map(&packet).collect::<Vec<_>>(), Port::Nic);
    assert_eq!(out.len(), 1, "four of one connection wait");
    assert_eq!(out[0].1, Verdict::Drop(Reason::Frozen));
    // Others have what is left of the room.
    let other =
        |n: u32| frame!(to_dvipa(Family::V6).tcp(CLIENT_PORT, port_of(GUE), n, 1).ack(9), b"some data");
    change(&bench, Family::V6, entry(GUE, CrtState::Established), entry(GUE, CrtState::Frozen));
    let out = bench.burst(&[other(1), other(2), other(3)], Port::Nic);
    assert_eq!(out.len(), 1, "six wait in all");
    change(&bench, Family::V4, entry(GUE, CrtState::Frozen), entry(IPIP, CrtState::Established));
    assert_eq!(numbers(&bench.turn(false), IPIP), [1, 2, 3, 4]);
}

#[test]
fn a_packet_does_not_wait_for_ever() {
    let (mut bench, packet) = frozen(Family::V4);
    assert!(bench.burst(&[packet(1)], Port::Nic).is_empty());
    bench.now.ms += 1999;
    assert!(bench.turn(true).is_empty());
    bench.now.ms += 1;
    assert!(bench.turn(false).is_empty(), "nothing thawed");
    assert_eq!(bench.turn(true).iter().map(|(_, v)| *v).collect::<Vec<_>>(), [Verdict::Drop(Reason::Frozen)]);
}

#[test]
fn what_waited_for_a_connection_that_ended_is_asked_about() {
    let (mut bench, packet) = frozen(Family::V4);
    assert!(bench.burst(&[packet(1)], Port::Nic).is_empty());
    bench.crt.remove(KeyV4::new(CLIENT, CLIENT_PORT, V4, port_of(GUE), Protocol::Tcp));
    let out = bench.turn(false);
    assert_eq!((out.len(), bench.count(Reason::AskHeld)), (1, 1), "the copy for the first candidate");
}

#[test]
fn an_icmp_error_about_a_frozen_connection_waits_with_its_packets() {
    for family in FAMILIES {
        let (mut bench, _) = frozen(family);
        let error = error_quoting(family, 6, (port_of(GUE), CLIENT_PORT), 8);
        assert!(bench.burst(&[error], Port::Nic).is_empty());
        change(&bench, family, entry(GUE, CrtState::Frozen), entry(IPIP, CrtState::Established));
        assert_eq!(outer(&bench.turn(false)[0].0).1, stack_v4(IPIP));
        assert_eq!((bench.count(Reason::FrozenHeld), bench.count(Reason::ForwardedIcmpError)), (1, 1));
    }
}

#[test]
fn what_is_said_about_a_packet_that_waited_leaves_through_the_port_that_it_came_from() {
    for port in [Port::Nic, Port::Local] {
        let (mut bench, packet) = frozen(Family::V6);
        let mut last_hop = packet(1);
        last_hop[21] = 1;
        assert!(bench.burst(&[last_hop], port).is_empty());
        change(&bench, Family::V6, entry(GUE, CrtState::Frozen), entry(GUE, CrtState::Established));
        assert_eq!(bench.turn(false)[0].1, Verdict::Send(port));
        assert_eq!(bench.count(Reason::AnsweredTimeExceeded), 1);
    }
}
