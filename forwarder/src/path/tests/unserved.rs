//! SYNs to ports that no stack is known to listen on.

use model::Protocol;
use model::dpt::{Distribution, Dpt, Method, Refuse, Shared, WeightedTarget};

use super::bench::*;
use crate::tables::Family;
use crate::{Limits, Port, Reason, Tables, Verdict, Worker};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// A port that a server may choose, and one that it may not.
const CHOSEN: u16 = 40_000;
const PRIVILEGED: u16 = 1023;

/// The small cluster after one stack's report that it listens on [`CHOSEN`].
fn reported() -> Dpt {
    let mut dpt = dpt();
    for dvipa in [V4, V6] {
        let row = Distribution {
            dvipa,
            port: CHOSEN,
            protocol: Protocol::Tcp,
            method: Method::RoundRobin,
            targets: vec![WeightedTarget { stack: GUE, weight: 1 }],
            serving: vec![GUE],
            policies: vec![],
            refuse: Refuse::Reset,
            max_connections: None,
            affinity: None,
            limits: model::Limits::NONE,
            routing: None,
            quic: Shared::default(),
        };
        dpt.distributions.push(row.into());
    }
    dpt.distributions.sort_by_key(|row| (row.dvipa, row.port, row.protocol));
    dpt
}

/// What comes out within a time, a millisecond a turn.
fn pass(bench: &mut Bench, ms: u64) -> Vec<(Vec<u8>, Verdict)> {
    let turn = |_| {
        bench.now.ms += 1;
        bench.turn(true)
    };
    (0..ms).flat_map(turn).collect()
}

#[test]
fn a_syn_waits_for_the_report_of_the_listen() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        assert_eq!(bench.burst(&[syn(family, 1024, CHOSEN)], Port::Nic), []);
        assert_eq!(pass(&mut bench, 100), []);
        bench.tables = Tables::build(&reported(), &neighbours(), &node());
        let out = pass(&mut bench, 1);
        assert_eq!((out.len(), out[0].1), (1, Verdict::Send(Port::Nic)));
        assert_eq!(outer(&out[0].0).1, std::net::IpAddr::from(stack_v4(GUE)));
        assert_eq!((bench.count(Reason::UnservedHeld), bench.count(Reason::ForwardedNew)), (1, 1));
    }
}

#[test]
fn without_a_report_it_goes_to_the_owners_own_stack() {
    let mut bench = Bench::new();
    assert_eq!(bench.burst(&[syn(Family::V4, 1024, CHOSEN)], Port::Nic), []);
    assert_eq!(pass(&mut bench, Limits::default().unserved_ms - 1), []);
    assert_eq!(pass(&mut bench, 1)[0].1, Verdict::Send(Port::Local));
}

#[test]
fn without_an_own_stack_it_is_refused_after_the_wait() {
    let mut bench = Bench::with(&without_own_stack(), &node());
    assert_eq!(bench.burst(&[syn(Family::V6, 1024, CHOSEN)], Port::Nic), []);
    assert_eq!(pass(&mut bench, Limits::default().unserved_ms).len(), 1);
    assert_eq!((bench.count(Reason::NotDistributed), bench.count(Reason::RefusedReset)), (1, 1));
}

#[test]
fn what_no_server_chooses_does_not_wait() {
    let mut bench = Bench::new();
    assert_eq!(bench.one(&syn(Family::V4, 1024, PRIVILEGED)).1, Verdict::Send(Port::Local));
    assert_eq!(bench.one(&udp(Family::V4, 1024, CHOSEN, b"x")).1, Verdict::Send(Port::Local));
    assert_eq!(bench.count(Reason::UnservedHeld), 0);
}

#[test]
fn a_scan_takes_the_places_and_no_more() {
    let mut bench = Bench::new();
    bench.worker = Worker::new(Limits { unserved: 2, ..Limits::default() }, bench.counters.clone());
    let frames: Vec<_> = (0..3).map(|more| syn(Family::V4, 1024, CHOSEN + more)).collect();
    let out = bench.burst(&frames, Port::Nic);
    assert_eq!(out.iter().map(|(_, verdict)| *verdict).collect::<Vec<_>>(), [Verdict::Send(Port::Local)]);
    assert_eq!((bench.count(Reason::UnservedHeld), bench.count(Reason::UnservedNoRoom)), (2, 1));
}
