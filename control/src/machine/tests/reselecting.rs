//! Connections that workers want moved for their next requests.

use std::time::Duration;

use model::transfer::Reason;
use model::{Connection, StackIndex};

use super::super::fixture::{Bench, name};
use super::super::{Action, Event, Wanted};
use super::moves::{index, moves, stays, web};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// `t1` has a connection whose next request is for `t2`.
fn wanted() -> (Bench, Connection) {
    let (mut bench, all) = web(1);
    let (connection, from, to) = (all[0], index(&bench, "t1"), index(&bench, "t2"));
    bench.handle(Event::Reselect(vec![Wanted { connection, from, to, start: 77, acknowledged: 0 }])).unwrap();
    (bench, connection)
}

fn stay(actions: &[Action], connection: Connection) -> bool {
    actions.iter().any(|action| matches!(action, Action::Stay { connection: c, .. } if *c == connection))
}

#[test]
fn the_stack_that_has_it_is_ordered_to_give_it_to_the_target() {
    let (mut bench, connection) = wanted();
    let [(to, order)] = &moves(&bench.actions())[..] else { panic!("one order") };
    assert_eq!((to, order.connection.0, &order.target), (&name("t1"), connection, &name("t2")));
    assert_eq!((order.quiet_ms, order.job.as_ref()), (None, None), "as its agent judges by itself");
    assert_eq!(order.next, Some(77), "not before all bytes of the requests before have come");
}

#[test]
fn while_an_answer_is_owed_it_is_tried_again_and_then_stays() {
    let (mut bench, connection) = wanted();
    let (mut tries, began) = (0, bench.now);
    loop {
        let actions = bench.actions();
        if stay(&actions, connection) {
            break;
        }
        for (_, order) in moves(&actions) {
            tries += 1;
            stays(&mut bench, "t1", &order, Reason::NotIdle).unwrap();
        }
        bench.wait(MS(10));
    }
    let took = bench.now - began;
    assert!(took >= MS(8_000) && took < MS(9_000), "before the worker gives up: {took:?}");
    assert!((20..100).contains(&tries), "{tries}");
    assert!(bench.stack.next_deadline().is_none_or(|at| at > bench.now + MS(200)), "nothing is left to do");
}

#[test]
fn what_can_not_move_stays_at_once() {
    let (mut bench, connection) = wanted();
    let order = moves(&bench.actions()).remove(0).1;
    stays(&mut bench, "t1", &order, Reason::Encrypted).unwrap();
    assert!(stay(&bench.actions(), connection));
}

#[test]
fn a_stack_that_is_not_known_or_takes_none_has_no_request() {
    let (mut bench, all) = web(1);
    let (connection, from) = (all[0], index(&bench, "t1"));
    for to in [StackIndex(4_000), from] {
        bench
            .handle(Event::Reselect(vec![Wanted { connection, from, to, start: 77, acknowledged: 0 }]))
            .unwrap();
        let actions = bench.actions();
        assert!(moves(&actions).is_empty() && stay(&actions, connection));
    }
}

#[test]
fn the_end_of_a_former_order_says_nothing_about_the_next_request() {
    let (mut bench, connection) = wanted();
    let former = moves(&bench.actions()).remove(0).1;
    // Its next request is for another target before it is known here that it has moved.
    let (from, to) = (index(&bench, "t1"), index(&bench, "t3"));
    bench.handle(Event::Reselect(vec![Wanted { connection, from, to, start: 77, acknowledged: 0 }])).unwrap();
    assert!(moves(&bench.actions()).is_empty(), "one at a time");
    stays(&mut bench, "t1", &former, Reason::Encrypted).unwrap();
    assert!(!stay(&bench.actions(), connection));
    bench.wait(MS(20));
    let [(_, order)] = &moves(&bench.actions())[..] else { panic!("one order") };
    assert_eq!(order.target, name("t3"));
}
