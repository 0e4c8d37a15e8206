//! Stacks that are not heard of.

use model::Protocol;
use model::dpt::{Dpt, StackState, WeightedTarget};

use super::bench::*;
use crate::crt::{CrtState, Entry, KeyV4, KeyV6};
use crate::tables::Family;
use crate::{Limits, Port, Reason, Tables, Verdict, Worker};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// GUE is not heard of, and IPIP serves its ports too.
fn dpt_where_it_is(state: StackState) -> Dpt {
    let mut dpt = dpt();
    dpt.stacks[usize::from(GUE.0)].state = state;
    for row in dpt.distributions.iter_mut().filter(|row| row.port == port_of(GUE)) {
        row.targets = vec![WeightedTarget { stack: IPIP, weight: 1 }];
    }
    dpt
}

/// GUE is lost.
fn bench() -> Bench {
    Bench::with(&dpt_where_it_is(StackState::Lost), &node())
}

/// GUE is quiet; a SYN on its established connection has come.
fn in_doubt(family: Family) -> Bench {
    let mut bench = Bench::with(&dpt_where_it_is(StackState::Quiet), &node());
    bench.establish(2048, port_of(GUE), Protocol::Tcp, GUE);
    assert_eq!(bench.burst(&[syn(family, 2048, port_of(GUE))], Port::Nic), [], "it waits");
    let established = Entry { owner: GUE, state: CrtState::Established };
    assert_eq!(entry(&bench, family, 2048), Some(established));
    bench
}

/// Where the SYN goes at the next turn, a while later.
fn goes(bench: &mut Bench, ms: u64) -> Option<std::net::IpAddr> {
    bench.now.ms += ms;
    let out = bench.turn(true);
    assert!(out.len() <= 1);
    out.first().map(|(frame, _)| outer(frame).1)
}

#[test]
fn a_syn_on_an_established_entry_of_a_quiet_stack_waits_for_what_becomes_of_that() {
    for family in FAMILIES {
        let mut bench = in_doubt(family);
        assert_eq!(goes(&mut bench, 900), None);
        bench.tables = Tables::build(&dpt_where_it_is(StackState::Up), &neighbours(), &node());
        assert_eq!(goes(&mut bench, 1), Some(stack_v4(GUE).into()), "its host knows what it is");
        assert_eq!(
            entry(&bench, family, 2048).map(|entry| entry.owner),
            Some(GUE),
            "a late copy moves nothing"
        );

        let mut bench = in_doubt(family);
        bench.tables = Tables::build(&dpt_where_it_is(StackState::Lost), &neighbours(), &node());
        assert_eq!(goes(&mut bench, 1), Some(stack_v4(IPIP).into()), "a client does not wait at a dead host");
        assert_eq!(entry(&bench, family, 2048), Some(Entry { owner: IPIP, state: CrtState::HalfOpen }));

        let mut bench = in_doubt(family);
        assert_eq!(goes(&mut bench, Limits::default().quiet_ms), Some(stack_v4(GUE).into()), "it has an end");
        assert_eq!((bench.count(Reason::QuietHeld), bench.count(Reason::QuietNoRoom)), (1, 0));
    }
}

#[test]
fn a_syn_on_a_half_open_entry_of_a_quiet_stack_is_selected_anew_at_once() {
    for family in FAMILIES {
        let mut bench = Bench::with(&dpt_where_it_is(StackState::Quiet), &node());
        half_open(&bench, family, 1024);
        assert_eq!(outer(&bench.sent(&syn(family, 1024, port_of(GUE)))).1, stack_v4(IPIP));
        bench.establish(2048, port_of(GUE), Protocol::Tcp, GUE);
        assert_eq!(outer(&bench.sent(&ack(family, 2048, port_of(GUE)))).1, stack_v4(GUE));
    }
}

#[test]
fn when_many_wait_the_next_one_goes_to_the_quiet_stack_at_once() {
    let mut bench = Bench::with(&dpt_where_it_is(StackState::Quiet), &node());
    bench.worker = Worker::new(Limits { quiet: 1, ..Limits::default() }, bench.counters.clone());
    for port in [2048, 2049] {
        bench.establish(port, port_of(GUE), Protocol::Tcp, GUE);
    }
    let frames = [2048, 2049].map(|port| syn(Family::V4, port, port_of(GUE)));
    let out = bench.burst(&frames, Port::Nic);
    assert_eq!((out.len(), outer(&out[0].0).1), (1, stack_v4(GUE).into()));
    assert_eq!((bench.count(Reason::QuietHeld), bench.count(Reason::QuietNoRoom)), (1, 1));
}

fn entry(bench: &Bench, family: Family, port: u16) -> Option<Entry> {
    match family {
        Family::V4 => bench.crt.get(KeyV4::new(CLIENT, port, V4, port_of(GUE), Protocol::Tcp), bench.now),
        Family::V6 => bench.crt.get(KeyV6::new(CLIENT6, port, V6, port_of(GUE), Protocol::Tcp), bench.now),
    }
}

fn half_open(bench: &Bench, family: Family, port: u16) {
    let done = match family {
        Family::V4 => {
            let key = KeyV4::new(CLIENT, port, V4, port_of(GUE), Protocol::Tcp);
            bench.crt.insert_half_open(key, GUE, bench.now)
        }
        Family::V6 => {
            let key = KeyV6::new(CLIENT6, port, V6, port_of(GUE), Protocol::Tcp);
            bench.crt.insert_half_open(key, GUE, bench.now)
        }
    };
    done.unwrap();
}

#[test]
fn a_syn_on_a_half_open_or_established_entry_of_a_lost_stack_is_selected_anew() {
    for family in FAMILIES {
        let mut bench = bench();
        half_open(&bench, family, 1024);
        bench.establish(2048, port_of(GUE), Protocol::Tcp, GUE);
        for port in [1024, 2048] {
            let out = bench.sent(&syn(family, port, port_of(GUE)));
            assert_eq!(outer(&out).1, stack_v4(IPIP));
            let new = Entry { owner: IPIP, state: CrtState::HalfOpen };
            assert_eq!(entry(&bench, family, port), Some(new));
        }
        assert_eq!((bench.count(Reason::ForwardedNew), bench.count(Reason::Forwarded)), (2, 0));
        let (lost, other) = (bench.crt.stack_count(GUE), bench.crt.stack_count(IPIP));
        let of_the_other_family = 1;
        let left = (lost.connections, lost.half_open, other.half_open);
        assert_eq!(left, (of_the_other_family, 0, 2), "{family:?}");
    }
}

#[test]
fn its_other_packets_still_go_to_it() {
    for family in FAMILIES {
        let mut bench = bench();
        bench.establish(2048, port_of(GUE), Protocol::Tcp, GUE);
        let out = bench.sent(&ack(family, 2048, port_of(GUE)));
        assert_eq!(outer(&out).1, stack_v4(GUE), "its host may serve on");
        bench.establish(2048, port_of(GUE), Protocol::Udp, GUE);
        assert_eq!(outer(&bench.sent(&udp(family, 2048, port_of(GUE), b"x"))).1, stack_v4(GUE));
        assert_eq!(bench.count(Reason::Forwarded), 2);
    }
}

#[test]
fn without_another_target_a_lost_stack_keeps_its_syns() {
    let mut dpt = dpt();
    for state in [StackState::Lost, StackState::Dead] {
        dpt.stacks[usize::from(GUE.0)].state = state;
        let mut bench = Bench::with(&dpt, &node());
        bench.establish(2048, port_of(GUE), Protocol::Tcp, GUE);
        assert_eq!(outer(&bench.sent(&syn(Family::V4, 2048, port_of(GUE)))).1, stack_v4(GUE));
        assert_eq!(outer(&bench.sent(&syn(Family::V4, 2049, port_of(GUE)))).1, stack_v4(GUE), "a new one");
    }
}

#[test]
fn the_retransmission_of_a_syn_in_the_same_burst_goes_to_the_same_new_target() {
    let mut bench = bench();
    bench.establish(2048, port_of(GUE), Protocol::Tcp, GUE);
    let again = syn(Family::V4, 2048, port_of(GUE));
    let out = bench.burst(&[again.clone(), again, ack(Family::V4, 2048, port_of(GUE))], Port::Nic);
    assert!(out.iter().all(|(frame, v)| *v == Verdict::Send(Port::Nic) && outer(frame).1 == stack_v4(IPIP)));
}
