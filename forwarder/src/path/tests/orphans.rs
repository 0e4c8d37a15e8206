//! Packets without an entry: the stacks that may have the connection are asked.

use std::collections::BTreeSet;

use model::dpt::{Ask, Dpt, DvipaEntry, Encapsulation, Method, Reach, StackEntry, StackState};
use model::{ClusterAddress, Dvipa, Protocol, StackIndex, StackName};

use super::bench::*;
use crate::crt::KeyV4;
use crate::packet::Gue;
use crate::tables::Family;
use crate::{Limits, Looks, Mac, Neighbours, Node, Now, Port, Reason, Tables, Verdict, Worker};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What was sent to ask: to whom, the option, and the packet inside.
fn asked(frame: &[u8]) -> (std::net::IpAddr, Vec<u8>, Vec<u8>) {
    let ip = if frame[14] >> 4 == 4 { 20 } else { 40 };
    let payload = &frame[14 + ip + 8..];
    let gue = Gue::parse(payload).unwrap();
    assert_eq!(gue.protocol, if gue.payload[0] >> 4 == 4 { 4 } else { 41 }, "the family of what is inside");
    (outer(frame).1, payload[4..gue.header_bytes].to_vec(), gue.payload.to_vec())
}

/// All that comes out while time passes, a millisecond a turn.
fn pass(bench: &mut Bench, ms: u64) -> Vec<(Vec<u8>, Verdict)> {
    let mut out = Vec::new();
    for _ in 0..ms {
        bench.now.ms += 1;
        out.extend(bench.turn(true));
    }
    out
}

fn established(bench: &Bench, owner: StackIndex) {
    bench.establish(1024, port_of(GUE), Protocol::Tcp, owner);
}

#[test]
fn one_candidate_is_asked_first_and_then_the_others() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        let packet = ack(family, 1024, port_of(GUE));
        let mut out = bench.burst(&[&packet], Port::Nic);
        assert_eq!(out.len(), 1);
        assert_eq!(pass(&mut bench, 29), [], "the first has some time to answer");
        out.extend(pass(&mut bench, 20));
        // The node's own kernel is asked through the local port.
        let ports: BTreeSet<_> = out.iter().map(|(_, v)| format!("{v:?}")).collect();
        assert_eq!(ports, BTreeSet::from(["Send(Local)".to_owned(), "Send(Nic)".to_owned()]));
        let mut expected = BTreeSet::from([std::net::IpAddr::from(NODE)]);
        expected.extend([GUE, IPIP, L2].map(|stack| std::net::IpAddr::from(stack_v4(stack))));
        let mut to = BTreeSet::new();
        for (frame, _) in &out {
            let (who, option, inside) = asked(frame);
            assert_eq!((option, inside), (model::ask::OPTION.to_vec(), counted_down(&packet)));
            to.insert(who);
        }
        assert_eq!((out.len(), to), (4, expected));
        assert_eq!((bench.count(Reason::Asked), bench.count(Reason::AskHeld)), (4, 1));
    }
}

#[test]
fn what_a_client_sends_again_is_asked_about_once_more() {
    let mut bench = Bench::new();
    let packet = ack(Family::V4, 1024, port_of(GUE));
    bench.burst(&[&packet], Port::Nic);
    pass(&mut bench, 50);
    bench.burst(&[&packet], Port::Nic);
    pass(&mut bench, 10);
    assert_eq!(bench.count(Reason::Asked), 4, "in the same flight");
    for asked in [8, 8] {
        pass(&mut bench, 120);
        bench.burst(&[&packet], Port::Nic);
        pass(&mut bench, 10);
        assert_eq!(bench.count(Reason::Asked), asked, "the copies may have been lost");
    }
    assert_eq!(bench.count(Reason::RefusedReset), 0);
    pass(&mut bench, 220);
    assert_eq!((bench.count(Reason::RefusedReset), bench.count(Reason::Asked)), (4, 8));
}

#[test]
fn before_anybody_is_told_all_are_asked_a_second_time() {
    let mut bench = Bench::new();
    bench.burst(&[ack(Family::V4, 1024, port_of(GUE))], Port::Nic);
    pass(&mut bench, 245);
    assert_eq!(bench.count(Reason::Asked), 4);
    pass(&mut bench, 215);
    assert_eq!((bench.count(Reason::Asked), bench.count(Reason::RefusedReset)), (8, 0), "a copy may be lost");
    established(&bench, IPIP);
    pass(&mut bench, 20);
    assert_eq!((bench.count(Reason::Forwarded), bench.count(Reason::RefusedReset)), (1, 0));
}

#[test]
fn a_connection_is_nobodys_only_when_all_have_looked() {
    let node = Node { looks: Looks::default(), ..node() };
    let mut bench = Bench::with(&dpt(), &node);
    bench.now.ms = 5000;
    let stacks = dpt().dvipas[0].ask.candidates.clone();
    let looked = |since, until| {
        let at = |ms| Now { ms };
        stacks.iter().for_each(|stack| node.looks.looked(*stack, at(since), at(until)));
    };
    let packet = ack(Family::V4, 1024, port_of(GUE));
    let told = |bench: &Bench| [Reason::AskUnanswered, Reason::RefusedReset].map(|r| bench.count(r));
    looked(0, 5000);
    bench.burst(&[&packet], Port::Nic);
    assert!(!node.looks.take_wanted());
    pass(&mut bench, 500);
    assert!(node.looks.take_wanted(), "they may be busy");
    looked(0, 5400);
    pass(&mut bench, 400);
    assert_eq!(
        told(&bench),
        [0, 0],
        "they had not been asked the second time yet, or the copies were on their way"
    );
    looked(0, bench.now.ms);
    pass(&mut bench, 10);
    assert_eq!(told(&bench), [0, 1]);
    // Of another connection one does not look, and one has lost what it was told.
    for (late, since, until) in [(GUE, 0, bench.now.ms), (IPIP, 10_000, 20_000)] {
        let before = told(&bench);
        looked(0, 20_000);
        node.looks.looked(late, Now { ms: since }, Now { ms: until });
        bench.burst(&[ack(Family::V4, 1025, port_of(GUE))], Port::Nic);
        pass(&mut bench, 1300);
        assert_eq!(told(&bench), [before[0] + 1, before[1]], "it may have it");
    }
}

#[test]
fn a_worker_that_has_stood_still_reads_first_what_came_meanwhile() {
    let mut bench = Bench::new();
    bench.now.ms += 5000;
    bench.burst(&[ack(Family::V4, 1024, port_of(GUE))], Port::Nic);
    pass(&mut bench, 50);
    bench.now.ms += 300;
    pass(&mut bench, 200);
    assert_eq!(bench.count(Reason::Asked), 4, "the copies may have left only now");
    pass(&mut bench, 230);
    assert_eq!((bench.count(Reason::Asked), bench.count(Reason::RefusedReset)), (8, 0));
    pass(&mut bench, 40);
    assert_eq!(bench.count(Reason::RefusedReset), 1);
}

#[test]
fn what_may_have_been_claimed_while_the_table_was_full_is_not_reset() {
    let mut bench = Bench::new();
    bench.burst(&[ack(Family::V4, 1024, port_of(GUE))], Port::Nic);
    let report = |port| {
        let key = KeyV4::new(CLIENT, port, V4, port_of(GUE), Protocol::Tcp);
        bench.crt.newconn(key, GUE, bench.now).is_err()
    };
    assert!((2000..u16::MAX).any(report), "the table is full");
    pass(&mut bench, 300);
    assert_eq!([Reason::AskUnanswered, Reason::RefusedReset].map(|reason| bench.count(reason)), [1, 0]);
    bench.burst(&[ack(Family::V4, 1025, port_of(GUE))], Port::Nic);
    pass(&mut bench, 520);
    assert_eq!(bench.count(Reason::RefusedReset), 1, "that nobody reports");
}

#[test]
fn with_the_entry_all_that_waited_goes_the_normal_way() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        let packet = ack(family, 1024, port_of(GUE));
        assert_eq!(bench.burst(&[&packet; 6], Port::Nic).len(), 1 + 2, "one asks, four wait");
        assert_eq!(bench.count(Reason::AskNoRoom), 2);
        established(&bench, IPIP);
        let out = pass(&mut bench, 8);
        assert_eq!(out.len(), 4);
        assert!(out.iter().all(|(frame, _)| frame[34..] == counted_down(&packet)));
        assert_eq!(bench.count(Reason::Forwarded), 4);
        assert_eq!(pass(&mut bench, 300), []);
    }
}

#[test]
fn what_nobody_claims_is_refused_and_remembered() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        let packet = ack(family, 1024, port_of(GUE));
        bench.burst(&[&packet, &packet], Port::Nic);
        pass(&mut bench, 465);
        assert_eq!((bench.count(Reason::RefusedReset), bench.count(Reason::Unclaimed)), (0, 0));
        assert_eq!(pass(&mut bench, 40).len(), 2);
        assert_eq!((bench.count(Reason::RefusedReset), bench.count(Reason::Unclaimed)), (2, 2));
        bench.sent(&packet);
        assert_eq!((bench.count(Reason::RefusedReset), bench.count(Reason::Asked)), (3, 8), "at once");
        // Its client may connect, and after a while is asked about again.
        bench.sent(&syn(family, 1024, port_of(GUE)));
        assert_eq!(bench.count(Reason::ForwardedNew), 1);
        pass(&mut bench, 3001);
        bench.burst(&[ack(family, 1025, port_of(GUE))], Port::Nic);
        assert_eq!(bench.count(Reason::Asked), 9);
    }
}

#[test]
fn what_nobody_claims_is_asked_about_again_after_three_seconds() {
    let mut bench = Bench::new();
    let packet = ack(Family::V4, 1024, port_of(GUE));
    bench.burst(&[&packet], Port::Nic);
    while bench.count(Reason::Unclaimed) == 0 {
        pass(&mut bench, 1);
    }
    bench.now.ms += 2999;
    bench.sent(&packet);
    assert_eq!(bench.count(Reason::Unclaimed), 2);
    bench.now.ms += 1;
    bench.burst(&[&packet], Port::Nic);
    assert_eq!((bench.count(Reason::Unclaimed), bench.count(Reason::AskHeld)), (2, 2));
}

#[test]
fn a_client_behind_the_local_port_is_told_there() {
    let mut bench = Bench::new();
    bench.burst(&[ack(Family::V4, 1024, port_of(GUE))], Port::Local);
    let out = pass(&mut bench, 520);
    assert_eq!((out.last().unwrap().1, bench.count(Reason::RefusedReset)), (Verdict::Send(Port::Local), 1));
}

#[test]
fn while_somebody_can_not_answer_nobody_is_told() {
    let mut dpt = dpt();
    dpt.dvipas.iter_mut().for_each(|dvipa| dvipa.ask.certain = false);
    let mut unresolved = super::bench::dpt();
    unresolved.dvipas.iter_mut().for_each(|dvipa| dvipa.ask.candidates.push(UNRESOLVED));
    for dpt in [dpt, unresolved] {
        let mut bench = Bench::with(&dpt, &node());
        bench.burst(&[ack(Family::V4, 1024, port_of(GUE))], Port::Nic);
        let out = pass(&mut bench, 300);
        assert_eq!(out.last().unwrap().1, Verdict::Drop(Reason::AskUnanswered));
        bench.burst(&[ack(Family::V4, 1024, port_of(GUE))], Port::Nic);
        assert_eq!(bench.count(Reason::AskHeld), 2, "asked about anew");
    }
}

#[test]
fn a_segment_that_would_be_too_long_is_asked_about_without_its_data() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        let data = vec![7; 1500 - if family == Family::V4 { 40 } else { 60 }];
        let packet = frame!(to_dvipa(family).tcp(1024, port_of(GUE), 2, 65535).ack(9).psh(), &data);
        let out = bench.burst(&[&packet], Port::Nic);
        let (_, _, inside) = asked(&out[0].0);
        let expected = frame!(to_dvipa(family).tcp(1024, port_of(GUE), 2, 65535).ack(9), &[]);
        assert_eq!(inside, counted_down(&expected));
        established(&bench, L2);
        assert_eq!(pass(&mut bench, 8)[0].0[14..], counted_down(&packet));
    }
}

#[test]
fn asks_have_a_budget_and_places_an_end() {
    let mut bench = Bench::new();
    let limits = Limits { asks_a_second: 100, asks: 64, ..Limits::default() };
    bench.worker = Worker::new(limits, bench.counters.clone());
    let flood: Vec<_> = (0..200).map(|i| ack(Family::V4, 2000 + i, port_of(GUE))).collect();
    bench.burst(&flood, Port::Nic);
    assert_eq!((bench.count(Reason::Asked), bench.count(Reason::AskLimited)), (10, 190));
    pass(&mut bench, 1300);
    assert!(bench.count(Reason::Asked) <= 140, "{}", bench.count(Reason::Asked));
    assert_eq!(bench.count(Reason::RefusedReset) + bench.count(Reason::AskUnanswered), 10);
    let limits = Limits { asks: 16, ..Limits::default() };
    bench.worker = Worker::new(limits, bench.counters.clone());
    let before = bench.count(Reason::AskHeld);
    bench.burst(&flood, Port::Nic);
    assert_eq!(bench.count(Reason::AskHeld) - before, 16, "and no more are held");
}

#[test]
fn a_service_by_hash_is_asked_first_where_the_hash_points() {
    let mut dpt = dpt();
    let weight = |stack| model::dpt::WeightedTarget { stack, weight: 1 };
    for d in &mut dpt.distributions {
        let d = &mut **d;
        (d.method, d.targets) = (Method::Maglev, [GUE, IPIP, L2].map(weight).to_vec());
    }
    let mut bench = Bench::with(&dpt, &node());
    bench.worker = Worker::new(Limits::default(), bench.counters.clone());
    for port in 2000..2050 {
        bench.sent(&syn(Family::V4, port, port_of(GUE)));
        let key = KeyV4::new(CLIENT, port, V4, port_of(GUE), Protocol::Tcp);
        let owner = bench.crt.remove(key).unwrap().owner;
        let out = bench.burst(&[ack(Family::V4, port, port_of(GUE))], Port::Nic);
        assert_eq!(asked(&out[0].0).0, std::net::IpAddr::from(stack_v4(owner)));
    }
}

/// A cluster of 200 stacks on the segment.
fn many() -> (Dpt, Neighbours) {
    let mut neighbours = Neighbours::new();
    let stack = |i: u16| {
        let address = ClusterAddress { v4: Some([198, 18, 5, i as u8].into()), v6: None };
        let reach = Reach::Remote { cluster_address: address, encapsulation: Encapsulation::L2 };
        let name = StackName::new(format!("s{i}")).unwrap();
        StackEntry { index: StackIndex(i), name, reach, state: StackState::Up }
    };
    let stacks: model::dpt::Shared<Vec<_>> = (0..200).map(stack).collect();
    stacks.iter().for_each(|s| neighbours.set(s.index, Family::V4, Mac([2, 0, 0, 0, 5, s.index.0 as u8])));
    let ask = Ask { candidates: stacks.iter().map(|s| s.index).collect(), certain: true };
    let dvipas = vec![DvipaEntry { ask, ..DvipaEntry::new(V4, Dvipa::new(DVIPA.into())) }.into()];
    (Dpt { generation: 1, dvipas, stacks, distributions: vec![] }, neighbours)
}

#[test]
fn two_hundred_candidates_are_asked_in_steps_each_once() {
    let (dpt, neighbours) = many();
    let mut bench = Bench::new();
    bench.tables = Tables::build(&dpt, &neighbours, &node());
    let mut out = bench.burst(&[ack(Family::V4, 1024, 80)], Port::Nic);
    let mut most = 0;
    for _ in 0..120 {
        let step = pass(&mut bench, 1);
        most = most.max(step.len());
        out.extend(step);
    }
    let to: BTreeSet<_> = out.iter().map(|(frame, _)| asked(frame).0).collect();
    assert_eq!((out.len(), to.len(), most), (200, 200, 32));
    assert_eq!(pass(&mut bench, 600).len(), 200 + 1);
    assert_eq!(bench.count(Reason::RefusedReset), 1);
}

#[test]
fn in_a_vlan_what_asks_other_hosts_is_tagged() {
    for family in FAMILIES {
        let mut dpt = dpt();
        dpt.dvipas.iter_mut().for_each(|dvipa| dvipa.ask.candidates = vec![LOCAL, GUE, GUE6]);
        let packet = ack(family, 1024, port_of(GUE));
        let questions = |vlan: Option<u16>, packet: &[u8]| {
            let mut bench = Bench::with(&dpt, &Node { vlan, ..node() });
            let mut out = bench.burst(&[packet], Port::Nic);
            out.extend(pass(&mut bench, 40));
            out.sort_by_key(|(frame, _)| outer(frame).1);
            out
        };
        let expected: Vec<_> = questions(None, &packet)
            .into_iter()
            .map(|(frame, port)| match port {
                Verdict::Send(Port::Nic) => (in_vlan(100, &frame), port),
                _ => (frame, port),
            })
            .collect();
        assert_eq!(questions(Some(100), &in_vlan(100, &packet)), expected);
        let to: Vec<_> = expected.iter().map(|(frame, _)| outer(frame).1).collect();
        assert_eq!(to, [NODE.into(), stack_v4(GUE).into(), std::net::IpAddr::from(stack_v6(GUE6))]);
        for (frame, _) in questions(None, &packet) {
            assert_eq!(asked(&frame).1, model::ask::OPTION);
        }
    }
}
