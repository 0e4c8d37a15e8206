//! Stacks that are asked how far they have looked.

use model::message::{FromStack, Looked, ToStack};

use super::super::fixture::{Bench, WEB, connection, name, newconn};
use super::super::{Action, Event};

/// Who was told which time.
fn asked(bench: &mut Bench, until: u64) -> Vec<(String, u64)> {
    bench.handle(Event::Asked { until }).unwrap();
    let asked = bench.actions().into_iter().filter_map(|action| match action {
        Action::Send { to, message: ToStack::Asked(asked) } => Some((to.to_string(), asked.number)),
        _ => None,
    });
    asked.collect()
}

/// From when to when a stack's silence counts.
fn looked(bench: &mut Bench, stack: &str, number: u64, anew: bool) -> Vec<(u64, u64)> {
    bench.message(stack, FromStack::Looked(Looked { number, anew })).unwrap();
    let index = bench.stack.stack_index(&name(stack)).unwrap();
    let counts = bench.actions().into_iter().filter_map(|action| match action {
        Action::Looked { stack, since, until } => {
            assert_eq!(stack, index);
            Some((since, until))
        }
        _ => None,
    });
    counts.collect()
}

#[test]
fn silence_counts_from_the_first_answer_of_a_session_to_the_last() {
    let mut bench = Bench::new(WEB);
    ["t1", "t2"].into_iter().for_each(|stack| bench.up(stack));
    bench.actions();
    assert_eq!(asked(&mut bench, 10), [("t1".to_owned(), 10), ("t2".to_owned(), 10)]);
    assert_eq!(looked(&mut bench, "t1", 10, false), [(10, 10)]);
    assert_eq!(asked(&mut bench, 60), [("t1".to_owned(), 60)], "the other has not answered");
    assert_eq!(looked(&mut bench, "t1", 70, false), [], "a number that it was not asked for");
    assert_eq!(looked(&mut bench, "t1", 60, false), [(10, 60)]);
    assert_eq!(looked(&mut bench, "t1", 60, false), [], "once");
    asked(&mut bench, 110);
    assert_eq!(looked(&mut bench, "t1", 110, true), [(110, 110)], "it has lost something meanwhile");
    asked(&mut bench, 160);
    assert_eq!(looked(&mut bench, "t1", 160, false), [(110, 160)]);
    asked(&mut bench, 210);
    bench.down("t1");
    bench.up("t1");
    bench.actions();
    assert_eq!(looked(&mut bench, "t1", 210, false), [], "of the former session");
    asked(&mut bench, 260);
    assert_eq!(looked(&mut bench, "t1", 260, false), [(260, 260)]);
}

#[test]
fn what_a_stack_reports_before_its_answer_comes_before_it() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.actions();
    asked(&mut bench, 10);
    let here = [connection(1000, "198.18.9.1:80")];
    bench.message("t1", newconn(false, false, &here)).unwrap();
    bench.message("t1", FromStack::Looked(Looked { number: 10, anew: false })).unwrap();
    let of_it = |action: &Action| matches!(action, Action::Newconn { .. } | Action::Looked { .. });
    let actions: Vec<Action> = bench.actions().into_iter().filter(of_it).collect();
    assert!(matches!(actions[..], [Action::Newconn { .. }, Action::Looked { .. }]), "{actions:?}");
}
