//! NEWCONN and TERMCONN: what the CRT is told.

use super::super::fixture::{Bench, WEB, connection, newconn, termconn};
use super::super::{Action, RefusalKind};

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
