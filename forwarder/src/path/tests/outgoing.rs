//! W6: connections that targets open with a DVIPA as source.

use etherparse::PacketBuilder;
use model::{Protocol, StackIndex};

use super::bench::*;
use crate::crt::{CrtState, Entry, KeyV4, KeyV6};
use crate::tables::Family;
use crate::{Port, Reason, Verdict};

/// The inner packet: the target's DVIPA talks to the client.
fn inner(family: Family, ack: bool) -> Vec<u8> {
    let builder = match family {
        Family::V4 => PacketBuilder::ipv4(DVIPA.octets(), CLIENT.octets(), 64),
        Family::V6 => PacketBuilder::ipv6(DVIPA6.octets(), CLIENT6.octets(), 64),
    }
    .tcp(40000, 443, 1, 1)
    .syn();
    if ack { frame!(builder.ack(1), &[]) } else { frame!(builder, &[]) }
}

/// A frame from a target to the routing node's cluster address, IPIP or GUE.
fn encapsulated(stack: StackIndex, outer: Family, inner: Family, gue: bool, packet: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(stack_mac(stack).0, NODE_MAC.0);
    let builder = match outer {
        Family::V4 => ethernet.ipv4(stack_v4(stack).octets(), NODE.octets(), 64),
        Family::V6 => ethernet.ipv6(stack_v6(stack).octets(), NODE6.octets(), 64),
    };
    let next = if inner == Family::V4 { 4 } else { 41 };
    if gue {
        return frame!(builder.udp(50000, 6080), &[&[0, next, 0, 0], packet].concat());
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, next.into(), packet).unwrap();
    bytes
}

#[test]
fn the_first_syn_makes_the_entry_and_goes_on_decapsulated() {
    for (outer, family, gue) in [Family::V4, Family::V6].into_iter().flat_map(|o| {
        [(o, Family::V4, true), (o, Family::V4, false), (o, Family::V6, true), (o, Family::V6, false)]
    }) {
        let mut bench = Bench::new();
        let packet = inner(family, false);
        let (out, verdict) = bench.one(&encapsulated(GUE, outer, family, gue, &packet));
        assert_eq!(verdict, Verdict::Send(Port::Local));
        assert_eq!(out[14..], packet);
        assert_eq!(out[..6], NODE_MAC.0, "for the node's kernel");
        let entry = match family {
            Family::V4 => bench.crt.get(KeyV4::new(CLIENT, 443, V4, 40000, Protocol::Tcp), bench.now),
            Family::V6 => bench.crt.get(KeyV6::new(CLIENT6, 443, V6, 40000, Protocol::Tcp), bench.now),
        };
        assert_eq!(entry, Some(Entry { owner: GUE, state: CrtState::HalfOpen }));
        assert_eq!(bench.count(Reason::Outgoing), 1);
    }
}

#[test]
fn the_answer_finds_the_target_that_opened_the_connection() {
    let mut bench = Bench::new();
    bench.one(&encapsulated(IPIP, Family::V4, Family::V4, true, &inner(Family::V4, false)));
    let answer = frame!(to_dvipa(Family::V4).tcp(443, 40000, 1, 1).syn().ack(2), &[]);
    assert_eq!(outer(&bench.sent(&answer)).1, stack_v4(IPIP));
}

#[test]
fn what_is_no_first_syn_is_refused() {
    let frame = encapsulated(GUE, Family::V4, Family::V4, true, &inner(Family::V4, true));
    assert_eq!(Bench::new().dropped(&frame), Reason::OutgoingRefused);
}

#[test]
fn a_port_that_another_stack_uses_already_is_refused() {
    let mut bench = Bench::new();
    bench.one(&encapsulated(GUE, Family::V4, Family::V4, true, &inner(Family::V4, false)));
    let again = encapsulated(IPIP, Family::V4, Family::V4, true, &inner(Family::V4, false));
    assert_eq!(bench.dropped(&again), Reason::OutgoingRefused);
}

#[test]
fn packets_from_unknown_stacks_or_about_other_addresses_cross_to_the_kernel() {
    let unknown = encapsulated(StackIndex(77), Family::V4, Family::V4, true, &inner(Family::V4, false));
    let other = frame!(PacketBuilder::ipv4(CLIENT.octets(), DVIPA.octets(), 64).tcp(1, 2, 3, 4).syn(), &[]);
    let other = encapsulated(GUE, Family::V4, Family::V4, true, &other);
    for frame in [unknown, other] {
        assert_eq!(Bench::new().one(&frame), (frame, Verdict::Send(Port::Local)));
    }
}

#[test]
fn a_congestion_mark_of_the_outer_header_is_passed_on() {
    let mark = |ecn: u8| {
        let mut packet = inner(Family::V4, false);
        packet[1] = ecn;
        let mut header = etherparse::Ipv4Header::from_slice(&packet).unwrap().0;
        header.header_checksum = header.calc_header_checksum();
        packet[..20].copy_from_slice(&header.to_bytes());
        let mut frame = encapsulated(GUE, Family::V6, Family::V4, false, &packet);
        frame[15] |= 0x30;
        Bench::new().one(&frame)
    };
    let (out, verdict) = mark(2);
    assert_eq!((out[15], verdict), (3, Verdict::Send(Port::Local)));
    assert_eq!(crate::packet::Sum::ZERO.bytes(&out[14..34]).finish(), 0);
    assert_eq!(mark(0).1, Verdict::Drop(Reason::Congested));
}

/// Makes the IPv4 header at `at` one of a first fragment.
fn first_fragment(frame: &mut [u8], at: usize) {
    let mut header = etherparse::Ipv4Header::from_slice(&frame[at..]).unwrap().0;
    (header.dont_fragment, header.more_fragments) = (false, true);
    header.header_checksum = header.calc_header_checksum();
    frame[at..at + 20].copy_from_slice(&header.to_bytes());
}

#[test]
fn what_came_in_fragments_or_goes_to_another_node_crosses() {
    for outer in [Family::V4, Family::V6] {
        let frame = encapsulated(GUE, outer, Family::V4, false, &inner(Family::V4, false));
        let (mut fragment, mut other) = (frame.clone(), frame);
        match outer {
            Family::V4 => {
                first_fragment(&mut fragment, 14);
                other[33] += 1;
                mend(&mut other);
            }
            Family::V6 => {
                // A fragment header before the inner packet, which more follow.
                fragment.splice(54..54, [fragment[20], 0, 0, 1, 0, 0, 0, 1]);
                (fragment[20], fragment[19]) = (44, fragment[19] + 8);
                other[53] += 1;
            }
        }
        for frame in [fragment, other] {
            assert_eq!(Bench::new().one(&frame), (frame, Verdict::Send(Port::Local)));
        }
    }
}

#[test]
fn a_fragment_opens_no_connection() {
    let mut packet = inner(Family::V4, false);
    first_fragment(&mut packet, 0);
    let frame = encapsulated(GUE, Family::V4, Family::V4, true, &packet);
    assert_eq!(Bench::new().dropped(&frame), Reason::OutgoingRefused);
}
