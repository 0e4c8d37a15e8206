//! What is counted by service and stack: every packet that goes to a stack, with its bytes from the IP header on.

use std::collections::BTreeMap;

use model::Protocol;

use super::bench::*;
use super::transact;
use crate::tables::Family;
use crate::traffic::{Volume, What};
use crate::{Port, Reason};

/// Port, what happened, packets, bytes; sorted by port.
type Row = (Option<u16>, What, u64, u64);

fn volumes(bench: &Bench) -> Vec<Row> {
    let row = |(pair, Volume { packets, bytes }): (crate::traffic::Pair, Volume)| {
        (pair.port(), pair.what(), packets, bytes)
    };
    let mut rows: Vec<Row> = bench.counters.traffic().volumes().map(row).collect();
    rows.sort_by_key(|(port, .., bytes)| (*port, *bytes));
    rows
}

/// Bytes of a frame from its IP header on, as the header says.
fn ip_bytes(frame: &[u8]) -> u64 {
    counted_down(frame).len() as u64
}

#[test]
fn packets_of_every_way_are_counted_with_their_bytes() {
    for family in [Family::V4, Family::V6] {
        for stack in [LOCAL, GUE, IPIP, L2, GUE6] {
            let mut bench = Bench::new();
            let port = port_of(stack);
            let mut sent = 0;
            bench.establish(1025, port, Protocol::Tcp, stack);
            for frame in [syn(family, 1024, port), ack(family, 1025, port), ack(family, 1025, port)] {
                sent += ip_bytes(&frame);
                bench.one(&frame);
            }
            assert_eq!(volumes(&bench), [(Some(port), What::To(stack), 3, sent)], "{family:?}");
        }
    }
}

#[test]
fn padding_and_tags_do_not_count_and_what_is_cut_counts_once() {
    let node = crate::Node { vlan: Some(7), ..node() };
    let mut bench = Bench::with(&dpt(), &node);
    bench.establish(1024, port_of(GUE), Protocol::Tcp, GUE);
    let frame = ack(Family::V4, 1024, port_of(GUE));
    bench.sent(&[&in_vlan(7, &frame)[..], &[0; 9]].concat());
    assert_eq!(volumes(&bench), [(Some(port_of(GUE)), What::To(GUE), 1, ip_bytes(&frame))]);

    let mut bench = Bench::new();
    let mut long = udp(Family::V4, 1024, port_of(GUE), &[0; 1472]);
    long[20] = 0;
    mend(&mut long);
    assert_eq!(bench.burst(&[&long], Port::Nic).len(), 2, "it is cut");
    assert_eq!(volumes(&bench), [(Some(port_of(GUE)), What::To(GUE), 1, 1500)]);
}

#[test]
fn what_is_refused_dropped_or_of_no_service_is_not_counted_as_the_services() {
    let mut dpt = dpt();
    let gue = dpt.distributions.iter_mut().filter(|d| d.port == port_of(GUE));
    gue.for_each(|distribution| distribution.targets.clear());
    let mut bench = Bench::with(&dpt, &node());
    let refused = syn(Family::V4, 1024, port_of(GUE));
    bench.sent(&refused);
    bench.dropped(&syn(Family::V4, 1024, port_of(UNRESOLVED)));
    // A connection that a target opened itself.
    bench.establish(443, 40_000, Protocol::Tcp, IPIP);
    let answer = ack(Family::V4, 443, 40_000);
    bench.sent(&answer);
    let rows = [
        (None, What::To(IPIP), 1, ip_bytes(&answer)),
        (Some(port_of(GUE)), What::Refused, 1, ip_bytes(&refused)),
    ];
    assert_eq!(volumes(&bench), rows);
}

#[test]
fn later_fragments_count_as_of_other_ports() {
    let mut bench = Bench::new();
    let whole = udp(Family::V4, 1024, port_of(IPIP), &[0x5a; 40]);
    let part = |offset: u16, more: bool| {
        let mut ip = etherparse::Ipv4Header::from_slice(&whole[14..]).unwrap().0;
        (ip.dont_fragment, ip.more_fragments) = (false, more);
        ip.fragment_offset = offset.try_into().unwrap();
        ip.total_len = 44;
        ip.header_checksum = ip.calc_header_checksum();
        let from = 34 + usize::from(offset) * 8;
        [&whole[..14], &ip.to_bytes(), &whole[from..from + 24]].concat()
    };
    bench.burst(&[part(0, true), part(3, false)], Port::Nic);
    assert_eq!(bench.count(Reason::ForwardedFragment), 1);
    assert_eq!(
        volumes(&bench),
        [(None, What::To(IPIP), 1, 44), (Some(port_of(IPIP)), What::To(IPIP), 1, 44)]
    );
}

#[test]
fn a_request_counts_at_the_target_of_its_route_and_what_is_answered_here_does_not() {
    let mut bench = transact::bench();
    let sent = transact::handshake(&mut bench, Family::V4);
    assert_eq!(volumes(&bench), []);
    let request = transact::segment(Family::V4, (transact::FIRST + 1, sent), transact::WHOLE);
    bench.sent(&request);
    let [(port, What::To(stack), 1, bytes)] = volumes(&bench)[..] else { panic!("{:?}", volumes(&bench)) };
    assert_eq!((port, bytes), (Some(port_of(GUE)), ip_bytes(&request)));
    assert!([GUE, IPIP].contains(&stack));
}

#[test]
fn a_burst_of_many_services_is_counted_as_packet_by_packet() {
    let frames: Vec<Vec<u8>> = (0..200_u16)
        .flat_map(|n| {
            let port = port_of([GUE, IPIP, L2][usize::from(n % 3)]);
            [syn(Family::V4, 2000 + n, port), udp(Family::V6, 2000 + n, port, &vec![0; n.into()])]
        })
        .collect();
    let mut bench = Bench::new();
    bench.burst(&frames, Port::Nic);
    let mut wanted: BTreeMap<Option<u16>, (u64, u64)> = BTreeMap::new();
    for frame in &frames {
        let ports = if frame[14] >> 4 == 4 { 34 } else { 54 };
        let port = u16::from_be_bytes([frame[ports + 2], frame[ports + 3]]);
        let of = wanted.entry(Some(port)).or_default();
        *of = (of.0 + 1, of.1 + ip_bytes(frame));
    }
    let mut counted: BTreeMap<Option<u16>, (u64, u64)> = BTreeMap::new();
    for (port, _, packets, bytes) in volumes(&bench) {
        let of = counted.entry(port).or_default();
        *of = (of.0 + packets, of.1 + bytes);
    }
    assert_eq!(counted, wanted);
}
