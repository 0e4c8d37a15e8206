//! What nothing serves: its sender is told.

use etherparse::{PacketHeaders, TransportHeader};
use model::dpt::{Dpt, Refuse};

use super::bench::*;
use crate::tables::Family;
use crate::{Limits, Port, Reason, Verdict, Worker};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// A port that is not distributed.
const NOTHING: u16 = 9;

/// Sequence and acknowledgment number and flags (RST, ACK) of a reset for the client, checksums included.
fn reset(out: &[u8]) -> (u32, u32, (bool, bool)) {
    assert_eq!((&out[..6], &out[6..12]), (&CLIENT_MAC.0[..], &NODE_MAC.0[..]));
    let (source, destination, ..) = outer(out);
    let read = PacketHeaders::from_ethernet_slice(out).unwrap();
    let Some(TransportHeader::Tcp(tcp)) = read.transport else { panic!("{read:?}") };
    let checksum = match read.net.unwrap() {
        etherparse::NetHeaders::Ipv4(ip, _) => {
            assert_eq!((source, destination), (DVIPA.into(), CLIENT.into()));
            tcp.calc_checksum_ipv4(&ip, &[]).unwrap()
        }
        etherparse::NetHeaders::Ipv6(ip, _) => {
            assert_eq!((source, destination), (DVIPA6.into(), CLIENT6.into()));
            tcp.calc_checksum_ipv6(&ip, &[]).unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!((tcp.checksum, tcp.source_port, tcp.destination_port), (checksum, NOTHING, 1024));
    assert!(!tcp.syn && !tcp.fin && read.payload.slice().is_empty());
    (tcp.sequence_number, tcp.acknowledgment_number, (tcp.rst, tcp.ack))
}

#[test]
fn a_segment_to_a_closed_port_is_reset_by_its_own_numbers() {
    for family in FAMILIES {
        let mut bench = Bench::with(&without_own_stack(), &node());
        let tcp = |sequence| to_dvipa(family).tcp(1024, NOTHING, sequence, 1);
        let without_ack = [(frame!(tcp(7).syn(), &[]), 8), (frame!(tcp(7).syn(), b"four"), 12)];
        let more = [(frame!(tcp(7).fin(), b"four"), 12), (frame!(tcp(u32::MAX).syn(), &[]), 0)];
        for (frame, acknowledgment) in without_ack.into_iter().chain(more) {
            // What opens no connection is asked about first: nobody is asked here.
            bench.tables = crate::Tables::build(&nobody(true), &neighbours(), &node());
            assert_eq!(reset(&bench.sent(&frame)), (0, acknowledgment, (true, true)));
        }
        let with_ack = frame!(tcp(7).ack(4711), b"four");
        assert_eq!(reset(&bench.sent(&with_ack)), (4711, 0, (true, false)));
        assert_eq!(bench.count(Reason::RefusedReset), 5);
    }
}

#[test]
fn a_reset_is_never_answered() {
    for family in FAMILIES {
        let mut bench = Bench::with(&nobody(true), &node());
        let frame = frame!(to_dvipa(family).tcp(1024, NOTHING, 1, 1).rst(), &[]);
        assert_eq!(bench.dropped(&frame), Reason::NoConnection);
    }
}

#[test]
fn a_datagram_to_a_closed_port_is_unreachable() {
    for (family, kind) in [(Family::V4, (3, 3)), (Family::V6, (1, 4))] {
        let mut bench = Bench::with(&without_own_stack(), &node());
        let frame = udp(family, 1024, NOTHING, b"hello");
        let out = bench.sent(&frame);
        assert_eq!(super::icmp::error_about(&out, &frame), (kind.0, kind.1, [0; 4]));
        assert_eq!((bench.count(Reason::RefusedUnreachable), bench.count(Reason::NotDistributed)), (1, 1));
    }
}

#[test]
fn a_service_and_a_dvipa_may_be_silent() {
    let mut dpt = without_own_stack();
    dpt.dvipas[0].refuse = Refuse::Silent;
    let service = dpt.distributions.iter_mut().find(|d| d.dvipa == V6 && d.port == port_of(GUE)).unwrap();
    let service = &mut **service;
    (service.refuse, service.targets) = (Refuse::Silent, vec![]);
    let mut bench = Bench::with(&dpt, &node());
    assert_eq!(bench.dropped(&syn(Family::V4, 1024, NOTHING)), Reason::RefusedSilent);
    assert_eq!(bench.dropped(&udp(Family::V4, 1024, NOTHING, b"x")), Reason::RefusedSilent);
    assert_eq!(bench.dropped(&syn(Family::V6, 1024, port_of(GUE))), Reason::RefusedSilent);
    bench.sent(&syn(Family::V6, 1024, NOTHING));
}

#[test]
fn errors_and_refusals_share_one_limit() {
    let mut bench = Bench::with(&without_own_stack(), &node());
    let limits = Limits { answers_a_second: 30, ..Limits::default() };
    bench.worker = Worker::new(limits, bench.counters.clone());
    let big = frame!(to_dvipa(Family::V4).udp(1024, port_of(IPIP)), &[1; 1472]);
    let frames = [syn(Family::V4, 1024, NOTHING), udp(Family::V6, 1024, NOTHING, b"x"), big.clone(), big];
    let out = bench.burst(&frames, Port::Nic);
    assert_eq!(out.iter().filter(|(_, v)| *v == Verdict::Send(Port::Nic)).count(), 3);
    assert_eq!(out[3].1, Verdict::Drop(Reason::AnswerLimited));
}

/// Nobody may have a connection without an entry.
fn nobody(certain: bool) -> Dpt {
    let mut dpt = without_own_stack();
    dpt.dvipas.iter_mut().for_each(|dvipa| dvipa.ask = model::dpt::Ask { candidates: vec![], certain });
    dpt
}

#[test]
fn while_nobody_can_be_asked_nothing_is_certain() {
    let mut bench = Bench::with(&nobody(false), &node());
    assert_eq!(bench.dropped(&ack(Family::V4, 1024, port_of(GUE))), Reason::AskUnanswered);
}
