//! Fragments follow the first one, in and out of order.

use super::bench::*;
use crate::crt::Now;
use crate::tables::Family;
use crate::{Limits, Port, Reason, Verdict, Worker};

/// A UDP datagram in three fragments.
fn fragments(family: Family, identification: u16) -> [Vec<u8>; 3] {
    let whole = udp(family, 1024, port_of(IPIP), &[0x5a; 16 * 3 - 8]);
    let headers = if family == Family::V4 { 34 } else { 54 };
    [0, 1, 2_u16].map(|i| {
        let payload = &whole[headers + 16 * usize::from(i)..][..16];
        let more = i < 2;
        match family {
            Family::V4 => {
                let mut ip = etherparse::Ipv4Header::from_slice(&whole[14..]).unwrap().0;
                ip.identification = identification;
                ip.dont_fragment = false;
                ip.more_fragments = more;
                ip.fragment_offset = (2 * i).try_into().unwrap();
                ip.total_len = 36;
                ip.header_checksum = ip.calc_header_checksum();
                [&whole[..14], &ip.to_bytes(), payload].concat()
            }
            Family::V6 => {
                let mut ip = whole[14..54].to_vec();
                ip[5] = 24;
                ip[6] = 44;
                let [o0, o1] = (((2 * i) << 3) | u16::from(more)).to_be_bytes();
                let [i0, i1] = identification.to_be_bytes();
                [&whole[..14], &ip, &[17, 0, o0, o1, 0, 0, i0, i1], payload].concat()
            }
        }
    })
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[test]
fn fragments_in_order_follow_the_first() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        for frame in fragments(family, 1) {
            assert_eq!(bench.sent(&frame)[34..], counted_down(&frame));
        }
        assert_eq!((bench.count(Reason::ForwardedNew), bench.count(Reason::ForwardedFragment)), (1, 2));
    }
}

#[test]
fn early_fragments_wait_for_the_first_and_leave_behind_it_in_order() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        let [first, second, third] = fragments(family, 1);
        assert!(bench.burst(&[&second, &third], Port::Nic).is_empty());
        let out: Vec<_> =
            bench.burst(&[&first], Port::Nic).into_iter().map(|(f, _)| f[34..].to_vec()).collect();
        assert_eq!(out, [&first, &second, &third].map(|f| counted_down(f)));
        assert_eq!(bench.count(Reason::FragmentHeld), 2);
    }
}

#[test]
fn an_early_fragment_is_not_released_by_another_datagrams_first_one() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        let [_, second, _] = fragments(family, 1);
        let [other, ..] = fragments(family, 2);
        assert!(bench.burst(&[second], Port::Nic).is_empty());
        assert_eq!(bench.burst(&[other], Port::Nic).len(), 1);
    }
}

#[test]
fn an_early_fragment_is_given_up_when_its_time_is_over() {
    let mut bench = Bench::new();
    let [_, second, _] = fragments(Family::V4, 1);
    assert!(bench.burst(&[second], Port::Nic).is_empty());
    let expire = |bench: &mut Bench, ms| {
        bench.worker.expire(&bench.tables, &bench.crt, Now { ms }, &mut bench.outlet);
        bench.outlet.given.drain(..).map(|(_, v)| v).collect::<Vec<_>>()
    };
    assert_eq!(expire(&mut bench, 1999), []);
    assert_eq!(expire(&mut bench, 2000), [Verdict::Drop(Reason::FragmentUnmatched)]);
    assert_eq!(bench.count(Reason::FragmentUnmatched), 1);
}

#[test]
fn a_fragment_whose_first_one_went_through_another_worker_is_sent_at_the_next_sweep() {
    let (mut bench, mut other) = (Bench::new(), Bench::new());
    let [first, second, _] = fragments(Family::V6, 1);
    assert!(bench.burst(&[second], Port::Nic).is_empty());
    std::mem::swap(&mut bench.worker, &mut other.worker);
    bench.sent(&first);
    std::mem::swap(&mut bench.worker, &mut other.worker);
    bench.worker.expire(&bench.tables, &bench.crt, bench.now, &mut bench.outlet);
    assert_eq!(bench.outlet.given[0].1, Verdict::Send(Port::Nic));
}

#[test]
fn no_more_early_fragments_are_held_than_may_be() {
    let mut bench = Bench::new();
    let frames: Vec<_> = (0..6).map(|i| fragments(Family::V4, i)[1].clone()).collect();
    let out = bench.burst(&frames, Port::Nic);
    assert_eq!(out.iter().map(|(_, v)| *v).collect::<Vec<_>>(), [Verdict::Drop(Reason::FragmentNoRoom); 2]);
}

#[test]
fn one_source_can_not_fill_the_buffer_for_early_fragments() {
    let mut bench = Bench::new();
    let limits = Limits { held: 4, held_of_one: 2, ..Limits::default() };
    bench.worker = Worker::new(limits, bench.worker.counters().clone());
    let frames: Vec<_> = (0..3).map(|i| fragments(Family::V4, i)[1].clone()).collect();
    let out = bench.burst(&frames, Port::Nic);
    assert_eq!(out.iter().map(|(_, v)| *v).collect::<Vec<_>>(), [Verdict::Drop(Reason::FragmentNoRoom)]);
    assert!(bench.burst(&fragments(Family::V6, 1)[1..2], Port::Nic).is_empty(), "another one's is held");
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let mut frame = syn(Family::V6, 1024, port_of(IPIP));
    frame.splice(54..54, [6, 0, 0, 0, 0, 0, 0, 1]);
    (frame[20], frame[19]) = (44, frame[19] + 8);
    assert_eq!(Bench::new().sent(&frame)[34..], counted_down(&frame));
}

#[test]
fn a_first_fragment_too_short_for_its_transport_header_is_dropped() {
    let [first, ..] = fragments(Family::V4, 1);
    let mut ip = etherparse::Ipv4Header::from_slice(&first[14..]).unwrap().0;
    ip.protocol = 6.into();
    ip.header_checksum = ip.calc_header_checksum();
    let tiny = [&first[..14], &ip.to_bytes(), &first[34..]].concat();
    assert_eq!(Bench::new().dropped(&tiny), Reason::Truncated);
}

#[test]
fn a_whole_packet_is_no_first_fragment() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        bench.sent(&udp(family, 1024, port_of(IPIP), b"whole"));
        let [_, second, _] = fragments(family, 0);
        assert!(bench.burst(&[second], Port::Nic).is_empty(), "its first one is still to come");
    }
}
