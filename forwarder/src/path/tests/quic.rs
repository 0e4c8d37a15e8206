//! Datagrams that follow QUIC connection IDs.

use model::dpt::{Dpt, StackState, WeightedTarget};
use model::quic::{Assigned, Configuration, Key, ServerId};
use model::{Protocol, StackIndex};
use quiclb::Algorithm;

use super::bench::*;
use crate::crt::{CrtState, Entry, KeyV4, KeyV6};
use crate::tables::Family;
use crate::{Port, Reason};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// New flows of the service go to [`GUE`]; [`IPIP`] and [`L2`] serve it too.
const SERVICE: StackIndex = GUE;
/// It has a server ID, and does not serve.
const GONE: StackIndex = UNRESOLVED;

fn configuration(rotation: u8, key: Option<Key>) -> Configuration {
    let given = |stack: StackIndex| Assigned {
        stack: dpt().stacks[usize::from(stack.0)].name.clone(),
        id: server(stack.0 as u8),
    };
    Configuration {
        rotation,
        server_id_bytes: 2,
        nonce_bytes: 5,
        key,
        length_in_first_octet: false,
        server_ids: [GUE, IPIP, L2, GONE].map(given).into(),
    }
}

fn server(number: u8) -> ServerId {
    ServerId::new(&[0xba, number]).unwrap()
}

fn configurations() -> [Configuration; 2] {
    [configuration(0, None), configuration(1, Some(Key([9; 16])))]
}

fn quic_dpt() -> Dpt {
    let mut dpt = dpt();
    for row in dpt.distributions.iter_mut().filter(|row| row.protocol == Protocol::Udp) {
        if row.port == port_of(SERVICE) {
            row.targets = vec![WeightedTarget { stack: GUE, weight: 1 }];
            row.serving = vec![GUE, IPIP, L2];
            row.quic = configurations().to_vec().into();
        }
    }
    dpt
}

fn bench() -> Bench {
    Bench::with(&quic_dpt(), &node())
}

/// What a client sends to a connection ID with this server ID, in a packet with a short header.
fn short(configuration: &Configuration, number: u8) -> Vec<u8> {
    let algorithm = Algorithm::new(configuration).unwrap();
    let id = algorithm.connection_id(server(number), &[1, 2, 3, 4, number], 0x0b).unwrap();
    [&[0x41][..], &id, b"and its payload"].concat()
}

/// The same in a packet with a long header of version 1.
fn long(first: u8, configuration: &Configuration, number: u8) -> Vec<u8> {
    let short = short(configuration, number);
    [&[first, 0, 0, 0, 1, 8][..], &short[1..9], b"and its payload"].concat()
}

fn to(family: Family, client_port: u16, said: &[u8]) -> Vec<u8> {
    udp(family, client_port, port_of(SERVICE), said)
}

/// What the CRT has of a client's flow.
fn entry(bench: &Bench, family: Family, client_port: u16) -> Option<Entry> {
    let port = port_of(SERVICE);
    match family {
        Family::V4 => bench.crt.get(KeyV4::new(CLIENT, client_port, V4, port, Protocol::Udp), bench.now),
        Family::V6 => bench.crt.get(KeyV6::new(CLIENT6, client_port, V6, port, Protocol::Udp), bench.now),
    }
}

fn at(owner: StackIndex) -> Option<Entry> {
    Some(Entry { owner, state: CrtState::Established })
}

#[test]
fn a_client_that_comes_from_another_address_stays_where_its_connection_id_says() {
    for (family, configuration) in FAMILIES.into_iter().flat_map(|f| configurations().map(|c| (f, c))) {
        let mut bench = bench();
        for (client_port, stack) in (2000..).zip([IPIP, L2, GUE, IPIP]) {
            let said = [short(&configuration, stack.0 as u8), long(0xe0, &configuration, stack.0 as u8)];
            for said in said {
                assert_eq!(outer_of(&bench.sent(&to(family, client_port, &said)), stack), stack);
            }
            assert_eq!(entry(&bench, family, client_port), at(stack));
        }
        assert_eq!((bench.count(Reason::QuicFollowed), bench.count(Reason::Forwarded)), (4, 8));
        assert_eq!(bench.count(Reason::ForwardedNew), 0);
    }
}

/// The stack that a packet goes to, which is as expected: L2 frames have no outer header.
fn outer_of(frame: &[u8], expected: StackIndex) -> StackIndex {
    if expected == L2 {
        assert_eq!(frame[..6], stack_mac(L2).0);
        return L2;
    }
    assert_eq!(outer(frame).1, stack_v4(expected));
    expected
}

#[test]
fn the_entry_of_a_flow_is_changed_if_its_stack_does_not_serve_any_more() {
    for family in FAMILIES {
        let mut bench = bench();
        bench.establish(1024, port_of(SERVICE), Protocol::Udp, GONE);
        let followed = to(family, 1024, &short(&configurations()[1], IPIP.0 as u8));
        assert_eq!(outer(&bench.sent(&followed)).1, stack_v4(IPIP));
        assert_eq!(entry(&bench, family, 1024), at(IPIP));
        let initial = to(family, 1024, &long(0xc0, &configurations()[1], GUE.0 as u8));
        assert_eq!(outer(&bench.sent(&initial)).1, stack_v4(IPIP), "a connection that begins, by its flow");
        assert_eq!(bench.crt.stack_count(IPIP).connections, 1, "the former one is counted no more");
    }
}

#[test]
fn nobody_takes_a_flow_away_from_a_stack_that_serves_it() {
    for family in FAMILIES {
        let mut bench = bench();
        bench.establish(1024, port_of(SERVICE), Protocol::Udp, GUE);
        let followed = to(family, 1024, &short(&configurations()[1], IPIP.0 as u8));
        assert_eq!(outer(&bench.sent(&followed)).1, stack_v4(IPIP), "as it says");
        let initial = to(family, 1024, &long(0xc0, &configurations()[1], IPIP.0 as u8));
        assert_eq!(outer(&bench.sent(&initial)).1, stack_v4(GUE), "the rest of the flow");
        assert_eq!(entry(&bench, family, 1024), at(GUE));
    }
}

#[test]
fn what_names_no_stack_that_serves_follows_its_flow() {
    let [plain, encrypted] = configurations();
    let unroutable = {
        let mut said = short(&plain, IPIP.0 as u8);
        said[1] |= 7 << 5;
        said
    };
    let cases = [
        (long(0xc0, &plain, IPIP.0 as u8), None),
        (long(0xd0, &plain, IPIP.0 as u8), None),
        (unroutable, Some(Reason::QuicUnroutable)),
        (short(&encrypted, IPIP.0 as u8)[..8].to_vec(), Some(Reason::QuicUnroutable)),
        (Vec::new(), Some(Reason::QuicUnroutable)),
        (short(&plain, 77), Some(Reason::QuicUnknown)),
        (short(&encrypted, GONE.0 as u8), Some(Reason::QuicGone)),
    ];
    for (family, (said, counts)) in FAMILIES.into_iter().flat_map(|f| cases.clone().map(|c| (f, c))) {
        let mut bench = bench();
        bench.establish(1024, port_of(SERVICE), Protocol::Udp, L2);
        assert_eq!(bench.sent(&to(family, 1024, &said))[..6], stack_mac(L2).0, "{said:x?}");
        assert_eq!(outer(&bench.sent(&to(family, 1025, &said))).1, stack_v4(GUE), "selected");
        let all = [Reason::QuicUnroutable, Reason::QuicUnknown, Reason::QuicGone, Reason::QuicFollowed];
        for reason in all {
            let expected = if Some(reason) == counts { 2 } else { 0 };
            assert_eq!(bench.count(reason), expected, "{} of {said:x?}", reason.name());
        }
        assert_eq!((bench.count(Reason::Forwarded), bench.count(Reason::ForwardedNew)), (1, 1));
    }
}

#[test]
fn a_lost_stack_keeps_its_connections_and_a_dead_one_does_not() {
    for (state, follows) in [(StackState::Quiet, true), (StackState::Lost, true), (StackState::Dead, false)] {
        let mut dpt = quic_dpt();
        dpt.stacks[usize::from(IPIP.0)].state = state;
        let mut bench = Bench::with(&dpt, &node());
        let out = bench.sent(&to(Family::V4, 1024, &short(&configurations()[1], IPIP.0 as u8)));
        assert_eq!(outer(&out).1, stack_v4(if follows { IPIP } else { GUE }), "{state:?}");
        assert_eq!(bench.count(Reason::QuicGone), u64::from(!follows));
        assert_eq!(entry(&bench, Family::V4, 1024), at(if follows { IPIP } else { GUE }));
    }
}

#[test]
fn packets_that_are_not_plain_follow_too_and_fragments_do_not() {
    let said = short(&configurations()[0], IPIP.0 as u8);
    let plain = to(Family::V4, 1024, &said);
    let mut bench = bench();
    // With an IP option: no operation.
    let mut odd = plain.clone();
    odd[14] = 0x46;
    odd.splice(34..34, [1, 1, 1, 1]);
    let length = (odd.len() - 14) as u16;
    odd[16..18].copy_from_slice(&length.to_be_bytes());
    mend(&mut odd);
    assert_eq!(outer(&bench.sent(&odd)).1, stack_v4(IPIP));
    assert_eq!(bench.count(Reason::QuicFollowed), 1);
    // The first part of a longer datagram.
    let mut first = to(Family::V4, 1025, &said);
    first[20] = 0x20;
    mend(&mut first);
    assert_eq!(outer(&bench.sent(&first)).1, stack_v4(GUE), "by its flow");
    assert_eq!(entry(&bench, Family::V4, 1025), at(GUE));
    // From the node's own kernel.
    let own = bench.burst(&[to(Family::V4, 1026, &said)], Port::Local);
    assert_eq!(outer(&own[0].0).1, stack_v4(IPIP));
}

#[test]
fn a_tagged_packet_is_read_behind_its_tag() {
    let mut bench = Bench::with(&quic_dpt(), &crate::Node { vlan: Some(7), ..node() });
    for family in FAMILIES {
        let frame = in_vlan(7, &to(family, 1024, &short(&configurations()[1], L2.0 as u8)));
        assert_eq!(bench.sent(&frame)[..6], stack_mac(L2).0);
        assert_eq!(entry(&bench, family, 1024), at(L2));
    }
}

#[test]
fn in_one_burst_the_entry_is_made_once() {
    let mut bench = bench();
    let frames: Vec<_> =
        (0..40).map(|_| to(Family::V4, 1024, &short(&configurations()[0], IPIP.0 as u8))).collect();
    let out = bench.burst(&frames, Port::Nic);
    assert!(out.iter().all(|(frame, _)| outer(frame).1 == stack_v4(IPIP)));
    assert_eq!(bench.crt.stack_count(IPIP).connections, 1);
    assert_eq!(bench.count(Reason::Forwarded), 40);
}

#[test]
fn a_pressed_worker_lets_them_go_on_without_an_entry() {
    let mut bench = bench();
    bench.worker.set_pressed(true);
    let said = short(&configurations()[0], IPIP.0 as u8);
    for client_port in 2000..2400 {
        assert_eq!(outer(&bench.sent(&to(Family::V4, client_port, &said))).1, stack_v4(IPIP));
    }
    assert_eq!(bench.count(Reason::Overloaded), 0);
    let entries = bench.crt.stack_count(IPIP).connections;
    assert!((1..400).contains(&entries), "{entries} entries");
}

#[test]
fn a_datagram_to_another_service_is_not_read() {
    let mut bench = bench();
    let said = short(&configurations()[0], L2.0 as u8);
    assert_eq!(outer(&bench.sent(&udp(Family::V4, 1024, port_of(IPIP), &said))).1, stack_v4(IPIP));
    let notes = [Reason::QuicUnroutable, Reason::QuicUnknown, Reason::QuicGone, Reason::QuicFollowed];
    assert_eq!(notes.map(|reason| bench.count(reason)), [0; 4]);
}
