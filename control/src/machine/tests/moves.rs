//! Operators' orders to move connections, one by one and all of a stack.

use std::time::Duration;

use model::codec::WireConnection;
use model::message::{FromStack, Move, OrderId, Stays, ToStack};
use model::transfer::{Abilities, FromHost, Ledger, Reason, Why};
use model::{Connection, StackIndex, StackName};
use transfer::routing::Outcome;

use super::super::fixture::{Bench, EPOCH, WEB, connection, name, newconn, tcp};
use super::super::{
    Action, EvacuationState, EvacuationTerms, EvacuationView, Event, OrderRefusal, Progress, Refusal,
    RefusalKind, Scope,
};

/// `t1` to `t3` with a server each; `t1` has so many connections.
pub(super) fn web(connections: u16) -> (Bench, Vec<Connection>) {
    let mut bench = Bench::new(WEB);
    for stack in ["t1", "t2", "t3"] {
        bench.up(stack);
        let able = Abilities { ledger: Ledger(1), restores: true, injects: true, incarnation: 1 };
        bench.message(stack, FromHost::Abilities(able).into()).unwrap();
        bench.listens(stack, tcp("198.18.9.1", 80));
    }
    let all: Vec<_> = (0..connections).map(|n| connection(1000 + n, "198.18.9.1:80")).collect();
    bench.message("t1", newconn(false, false, &all)).unwrap();
    bench.actions();
    (bench, all)
}

pub(super) fn index(bench: &Bench, stack: &str) -> StackIndex {
    bench.stack.stack_index(&name(stack)).unwrap()
}

fn order(bench: &mut Bench, connection: Connection, target: &str) -> Result<OrderId, Refusal> {
    let source = index(bench, "t1");
    let (target, job, quiet_ms) = (name(target), None, Some(500));
    bench.handle(Event::Move { connection, source, target, job, quiet_ms })?;
    Ok(bench.stack.open_order(&connection).unwrap().id)
}

/// The orders that a stack is given.
pub(super) fn moves(actions: &[Action]) -> Vec<(StackName, Move)> {
    let order = |action: &Action| match action {
        Action::Send { to, message: ToStack::Move(order) } => Some((to.clone(), order.clone())),
        _ => None,
    };
    actions.iter().filter_map(order).collect()
}

pub(super) fn stays(bench: &mut Bench, from: &str, order: &Move, why: Reason) -> Result<(), Refusal> {
    let Move { connection, order, .. } = *order;
    let (order, why) = (order.expect("it has a number"), Why::new(why, "so it says"));
    bench.message(from, FromStack::Stays(Stays { connection, epoch: EPOCH, order, why }))
}

fn outcome(bench: &Bench, order: OrderId) -> Outcome {
    match &bench.stack.order(order).expect("it is kept").progress {
        Progress::Over { outcome, .. } => outcome.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_that_does_not_follow_an_order_says_why() {
    let (mut bench, all) = web(1);
    let number = order(&mut bench, all[0], "t2").unwrap();
    let [(to, told)] = &moves(&bench.actions())[..] else { panic!("one order") };
    assert_eq!((to, told.connection, told.order), (&name("t1"), WireConnection(all[0]), Some(number)));
    assert_eq!((&told.target, told.quiet_ms), (&name("t2"), Some(500)));
    assert!(matches!(
        order(&mut bench, all[0], "t3"),
        Err(Refusal::Order(OrderRefusal::NotMoved { reason: Reason::Busy, .. }))
    ));
    let refusal = stays(&mut bench, "t2", told, Reason::NotIdle).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::AnothersOrder);
    assert!(bench.stack.open_order(&all[0]).is_some(), "t2 was not asked");
    stays(&mut bench, "t1", told, Reason::NotIdle).unwrap();
    assert_eq!(outcome(&bench, number), Outcome::Stayed(Why::new(Reason::NotIdle, "so it says")));
    let mut old = told.clone();
    old.connection = WireConnection(connection(1000, "198.18.77.1:80"));
    assert_eq!(stays(&mut bench, "t1", &old, Reason::NotIdle).unwrap_err().kind(), RefusalKind::NotOurs);
}

#[test]
fn an_order_that_is_not_answered_ends_with_its_session_or_its_time() {
    let (mut bench, all) = web(2);
    let first = order(&mut bench, all[0], "t2").unwrap();
    bench.wait(Duration::from_secs(15));
    assert_eq!(outcome(&bench, first), Outcome::Stayed(Reason::Unanswered.into()));
    let second = order(&mut bench, all[1], "t2").unwrap();
    bench.down("t1");
    assert_eq!(outcome(&bench, second), Outcome::Stayed(Reason::SourceLost.into()));
}

fn evacuate(bench: &mut Bench) {
    let terms = EvacuationTerms { quiet_ms: None, at_once: 2, time: None };
    bench.handle(Event::Evacuate { stack: name("t1"), scope: Scope::All, terms }).unwrap();
}

fn list(bench: &mut Bench, connections: &[Connection]) {
    let (stack, scope, connections) = (name("t1"), Scope::All, connections.to_vec());
    bench.handle(Event::Listed { stack, scope, connections, more: 0 }).unwrap();
}

fn view(bench: &Bench) -> EvacuationView {
    bench.stack.evacuation_views(bench.now).into_iter().next().expect("an evacuation")
}

#[test]
fn a_stack_that_is_evacuated_drains_and_its_connections_are_ordered_to_the_others() {
    let (mut bench, all) = web(6);
    evacuate(&mut bench);
    let actions = bench.actions();
    let asks = |action: &Action| matches!(action, Action::List { stack, limit, .. } if *stack == name("t1") && *limit > 6);
    assert_eq!(actions.iter().filter(|a| asks(a)).count(), 1, "{actions:?}");
    assert_eq!(bench.selectable(tcp("198.18.9.1", 80)), ["t2", "t3"]);
    list(&mut bench, &all);
    let orders = moves(&bench.actions());
    let to = |stack: &str| orders.iter().filter(|(_, order)| order.target == name(stack)).count();
    assert_eq!((orders.len(), to("t2"), to("t3")), (4, 2, 2));
    stays(&mut bench, "t1", &orders[0].1, Reason::NotDumped).unwrap();
    stays(&mut bench, "t1", &orders[1].1, Reason::NotIdle).unwrap();
    assert_eq!(moves(&bench.actions()).len(), 2, "the next ones");
    let seen = view(&bench);
    assert_eq!((seen.state, seen.connections, seen.under_way), (EvacuationState::Moving, Some(6), 4));
    assert_eq!(seen.refused[0].reason.as_deref(), Some("not_dumped"));
    assert_eq!(seen.waiting[0].reason.as_deref(), Some("not_idle"));
}

#[test]
fn what_is_moving_is_not_given_up_when_an_operator_stops_it_and_the_drain_goes_on() {
    let (mut bench, all) = web(6);
    evacuate(&mut bench);
    bench.actions();
    list(&mut bench, &all);
    bench.handle(Event::StopEvacuation { stack: name("t1"), scope: Scope::All }).unwrap();
    let orders = moves(&bench.actions());
    stays(&mut bench, "t1", &orders[0].1, Reason::NotIdle).unwrap();
    bench.wait(Duration::from_secs(10));
    assert_eq!(moves(&bench.actions()).len(), 0);
    assert_eq!((view(&bench).state, view(&bench).under_way), (EvacuationState::Stopped, 3));
    assert_eq!(bench.selectable(tcp("198.18.9.1", 80)), ["t2", "t3"]);
    bench.handle(Event::Resume { stack: name("t1"), scope: Scope::All }).unwrap();
    assert!(bench.stack.evacuation_views(bench.now).is_empty());
    assert_eq!(bench.selectable(tcp("198.18.9.1", 80)), ["t1", "t2", "t3"]);
    let none = bench.handle(Event::StopEvacuation { stack: name("t1"), scope: Scope::All });
    assert!(matches!(none, Err(Refusal::Order(OrderRefusal::NotEvacuated(_)))));
}

#[test]
fn with_nobody_to_take_them_connections_wait() {
    let (mut bench, all) = web(1);
    bench.stops("t2", tcp("198.18.9.1", 80));
    bench.stops("t3", tcp("198.18.9.1", 80));
    evacuate(&mut bench);
    bench.actions();
    list(&mut bench, &all);
    assert_eq!(moves(&bench.actions()).len(), 0);
    assert_eq!(view(&bench).waiting[0].reason.as_deref(), Some("not_a_target"));
    bench.listens("t2", tcp("198.18.9.1", 80));
    bench.wait(Duration::from_secs(1));
    assert_eq!(moves(&bench.actions()).len(), 1);
}
