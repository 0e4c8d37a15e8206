//! Random operations, hostile ones among them: nothing panics, and after each the DPT is a possible one and the display
//! says the same.

use std::time::Duration;

use model::codec::Address;
use model::message::{FromStack, Listen, Load, Newconn, Srvstat};
use model::{Epoch, Protocol};
use proptest::prelude::*;

use super::super::fixture::{
    Bench, EPOCH, WEB, config, connection, name, newconn, session_up, tcp, termconn,
};
use super::super::{Event, Scope, SessionState, TargetState};

const STACKS: [&str; 4] = ["t1", "t2", "t3", "rt1"];
const ADDRESSES: [&str; 5] = ["198.18.0.21", "198.18.0.22", "198.18.0.23", "198.18.0.10", "2001:db8::21"];

fn event() -> impl Strategy<Value = (Event, u64)> {
    let stack = prop::sample::select(&STACKS[..]);
    let pair = (stack.clone(), message());
    let greet = (stack.clone(), prop::sample::subsequence(&ADDRESSES[..], 0..3));
    let what = prop_oneof![
        3 => greet.prop_map(|(stack, addresses)| session_up(stack, &addresses)),
        1 => stack.clone().prop_map(|stack| Event::SessionDown { stack: name(stack) }),
        8 => pair.prop_map(|(from, message)| Event::Message { from: name(from), message }),
        1 => stack.clone().prop_map(|stack| Event::Drain { stack: name(stack), scope: Scope::All }),
        1 => stack.clone().prop_map(|stack| Event::Resume { stack: name(stack), scope: Scope::All }),
        1 => (stack, any::<u16>(), 0..3_u64).prop_map(|(stack, weight, seconds)| Event::SetWeights {
            service: tcp("198.18.9.1", 80),
            weights: vec![(name(stack), weight)],
            ttl: Duration::from_secs(seconds),
        }),
        1 => prop::sample::select(vec![WEB, ""]).prop_map(|text| Event::Configure(Box::new(config(text)))),
    ];
    (what, 0..1500_u64)
}

fn message() -> impl Strategy<Value = FromStack> {
    let listen = (prop::sample::select(vec![80_u16, 443, 9]), any::<bool>());
    let listens = prop::collection::vec(listen, 0..4);
    let reported = (prop::sample::select(vec!["198.18.9.1", "198.18.9.9"]), 0..3_u64, any::<bool>(), listens);
    let accounts =
        (any::<bool>(), any::<bool>(), prop::sample::select(vec!["198.18.9.1:80", "198.18.9.9:80"]));
    prop_oneof![
        6 => reported.prop_map(|(dvipa, later, complete, listens)| {
            let listen = |(port, listening)| Listen { protocol: Protocol::Tcp, port, listening };
            let listens = listens.into_iter().map(listen).collect();
            let epoch = Epoch(EPOCH.0 + later);
            FromStack::Srvstat(Srvstat { dvipa: Address(dvipa.parse().unwrap()), epoch, complete, listens })
        }),
        2 => accounts.prop_map(|(first, last, to)| newconn(first, last, &[connection(1, to)])),
        1 => Just(FromStack::Newconn(Newconn { first: false, last: true, connections: vec![] })),
        1 => Just(termconn(&[connection(1, "198.18.9.1:80")])),
        1 => any::<u16>().prop_map(|cpu_permille| FromStack::Load(Load { cpu_permille, ..Load::default() })),
    ]
}

/// The DPT is one that workers can use, and no target in it is lost.
fn consistent(bench: &mut Bench) {
    bench.actions();
    let dpt = bench.stack.dpt();
    let status = bench.stack.status_view();
    let view = bench.stack.dpt_view(bench.now);
    assert!(dpt.distributions.is_sorted_by_key(|d| (d.dvipa, d.port, d.protocol)));
    assert!(dpt.stacks.iter().enumerate().all(|(i, stack)| usize::from(stack.index.0) == i));
    assert_eq!(dpt.distributions.len(), view.services.len());
    for (row, shown) in dpt.distributions.iter().zip(&view.services) {
        assert!(row.targets.is_sorted_by_key(|target| target.stack));
        let up = |target: &&super::super::TargetView| target.state == TargetState::Listening;
        let mut listening: Vec<_> =
            shown.targets.iter().filter(up).map(|t| (t.index.unwrap(), t.weight)).collect();
        listening.sort();
        assert_eq!(row.targets.iter().map(|t| (t.stack, t.weight)).collect::<Vec<_>>(), listening);
        for target in &row.targets {
            assert!(target.weight > 0);
            // A port of one host is reached there as long as the host lives.
            if shown.direct {
                assert_eq!(row.targets.len(), 1);
                continue;
            }
            let stack = status.stacks.iter().find(|stack| stack.index == target.stack).unwrap();
            assert_eq!((stack.session, stack.draining), (SessionState::Up, false));
            assert!(stack.listens > 0);
        }
    }
}

proptest! {
    #[test]
    fn after_any_operations_the_dpt_is_possible_and_shown_as_it_is(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut bench = Bench::new(WEB);
        for (event, ms) in events {
            let before = bench.stack.status_view().refused.iter().map(|r| r.count).sum::<u64>();
            let refused = bench.handle(event).is_err();
            let after = bench.stack.status_view().refused.iter().map(|r| r.count).sum::<u64>();
            prop_assert_eq!(after - before, u64::from(refused), "refusals are counted");
            consistent(&mut bench);
            bench.wait(Duration::from_millis(ms));
            consistent(&mut bench);
        }
    }
}
