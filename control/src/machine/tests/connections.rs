//! NEWCONN and TERMCONN: what the CRT is told.

use model::message::{FromStack, Heard, ToStack, Told};

use super::super::fixture::{Bench, WEB, connection, name, newconn, session_of_run, termconn};
use super::super::{Action, Event, Refusal, RefusalKind};

const HERE: &str = "198.18.9.1:80";

fn newconns(actions: Vec<Action>) -> Vec<(bool, bool, usize)> {
    let parts = |action| match action {
        Action::Newconn { first, last, connections, .. } => Some((first, last, connections.len())),
        _ => None,
    };
    actions.into_iter().filter_map(parts).collect()
}

/// W6
#[test]
fn a_complete_account_goes_to_the_crt_with_its_first_and_last_part() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    let many: Vec<_> = (1..=5).map(|port| connection(port, HERE)).collect();
    bench.message("t1", newconn(true, false, &many[..2])).unwrap();
    bench.message("t1", newconn(false, false, &many[2..4])).unwrap();
    bench.message("t1", newconn(false, true, &many[4..])).unwrap();
    let owner = bench.stack.stack_index(&super::super::fixture::name("t1")).unwrap();
    let actions = bench.actions();
    assert!(actions.iter().all(|a| !matches!(a, Action::Newconn { owner: o, .. } if *o != owner)));
    assert_eq!(newconns(actions), [(true, false, 2), (false, false, 2), (false, true, 1)]);
}

#[test]
fn an_empty_account_still_says_that_there_is_nothing() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.message("t1", newconn(true, true, &[])).unwrap();
    assert_eq!(newconns(bench.actions()), [(true, true, 0)]);
    bench.message("t1", newconn(false, false, &[])).unwrap();
    assert_eq!(newconns(bench.actions()), [], "nothing is nothing");
}

#[test]
fn the_dpt_that_introduces_a_stack_comes_before_its_connections() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.message("t1", newconn(true, true, &[connection(1, HERE)])).unwrap();
    let actions = bench.actions();
    let at = |wanted: fn(&Action) -> bool| actions.iter().position(wanted).unwrap();
    assert!(at(|a| matches!(a, Action::Publish(_))) < at(|a| matches!(a, Action::Newconn { .. })));
}

#[test]
fn an_account_whose_session_ended_removes_nothing() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.message("t1", newconn(true, false, &[connection(1, HERE)])).unwrap();
    bench.down("t1");
    bench.up("t1");
    bench.actions();
    let refusal = bench.message("t1", newconn(false, true, &[connection(2, HERE)])).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::AccountWithoutFirst);
    assert_eq!(newconns(bench.actions()), [(false, false, 1)], "its connections count, its end does not");
}

#[test]
fn connections_of_addresses_that_are_not_owned_are_left_out_and_counted() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    let foreign = connection(1, "198.18.9.77:80");
    let refusal = bench.message("t1", newconn(false, false, &[foreign, connection(2, HERE)])).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::ForeignConnections);
    assert_eq!(newconns(bench.actions()), [(false, false, 1)]);
    bench.message("t1", termconn(&[foreign])).unwrap_err();
    assert!(bench.actions().is_empty());
}

#[test]
fn a_lost_target_keeps_its_connections() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.message("t1", newconn(true, true, &[connection(1, HERE)])).unwrap();
    bench.actions();
    bench.down("t1");
    let about_connections = |a: &Action| matches!(a, Action::Newconn { .. } | Action::Termconn { .. });
    assert!(!bench.actions().iter().any(about_connections));
    assert_eq!(bench.stack.dpt().stacks.len(), 1, "the workers still know how to reach it");
}

/// The stack has said so much; `since`: in the place of an account.
fn told(bench: &mut Bench, number: u64, since: Option<u64>) -> Result<(), Refusal> {
    bench.message("t1", FromStack::Told(Told { number, since }))
}

/// The session with `t1` begins anew; how far it is told that it was heard.
fn heard(bench: &mut Bench, incarnation: u64) -> Option<u64> {
    bench.down("t1");
    bench.actions();
    bench.handle(session_of_run("t1", &["198.18.0.21"], incarnation)).unwrap();
    bench.stack.hurry();
    let actions = bench.actions();
    let to = |action: &Action| match action {
        Action::Send { message: ToStack::Heard(Heard { number }), .. } => Some(Some(*number)),
        Action::Send { message: ToStack::VipaList(_), .. } => Some(None),
        _ => None,
    };
    let said: Vec<_> = actions.iter().filter_map(to).collect();
    assert_eq!(said.last(), Some(&None), "the list comes last: {actions:?}");
    said[0]
}

#[test]
fn a_stack_that_comes_back_is_told_how_far_it_was_heard_and_names_what_followed() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    let many: Vec<_> = (1..=5).map(|port| connection(port, HERE)).collect();
    bench.message("t1", newconn(true, true, &many)).unwrap();
    assert_eq!(heard(&mut bench, 1), None, "it did not say how far it was");
    bench.message("t1", newconn(true, true, &many)).unwrap();
    told(&mut bench, 0, None).unwrap();
    bench.message("t1", termconn(&many[..1])).unwrap();
    told(&mut bench, 1, None).unwrap();
    assert_eq!(heard(&mut bench, 1), Some(1));
    let accounted = |bench: &mut Bench| bench.stack.stacks.said_mut(&name("t1")).unwrap().accounted;
    assert!(!accounted(&mut bench));
    bench.message("t1", termconn(&many[1..2])).unwrap();
    told(&mut bench, 2, Some(1)).unwrap();
    assert!(accounted(&mut bench), "as if it had named all");
    assert_eq!(newconns(bench.actions()), [], "and nothing is looked for");
    assert_eq!(heard(&mut bench, 1), Some(2));
    assert_eq!(told(&mut bench, 9, Some(3)).unwrap_err().kind(), RefusalKind::AccountWithoutFirst);
    assert_eq!(heard(&mut bench, 2), None, "another process");
}

#[test]
fn who_was_dead_or_broke_off_an_account_has_to_name_everything() {
    let numbered = || {
        let mut bench = Bench::new(WEB);
        bench.up("t1");
        bench.message("t1", newconn(true, true, &[])).unwrap();
        told(&mut bench, 7, None).unwrap();
        bench
    };
    let mut bench = numbered();
    assert_eq!(heard(&mut bench, 1), Some(7));
    bench.message("t1", newconn(true, false, &[])).unwrap();
    assert_eq!(heard(&mut bench, 1), None);
    let mut bench = numbered();
    bench.down("t1");
    let index = bench.stack.stack_index(&name("t1")).unwrap();
    bench.handle(Event::SilentHosts(vec![index])).unwrap();
    bench.stack.hurry();
    bench.actions();
    bench.handle(Event::SilentHosts(vec![])).unwrap();
    assert_eq!(heard(&mut bench, 1), None, "its entries are gone");
}
