//! Quiet, lost and dead stacks.

use std::time::Duration;

use model::control_socket::request::Role;
use model::dpt::StackState;
use model::message::{FromStack, Told};

use super::super::fixture::{Bench, WEB, name, newconn, srvstat, tcp};
use super::super::{Event, SETTLES, SessionState, TargetState};

const T1: &str = "t1";

fn two_targets(definitions: &str) -> Bench {
    let mut bench = Bench::new(definitions);
    for target in [T1, "t2"] {
        bench.up(target);
        bench.listens(target, tcp("198.18.9.1", 80));
    }
    bench.actions();
    bench
}

fn quiet(bench: &mut Bench, stack: &str) {
    bench.handle(Event::Quiet { stack: name(stack) }).unwrap();
}

/// What the workers are told of `t1`, and what the displays say.
fn state(bench: &mut Bench) -> (StackState, SessionState) {
    bench.actions();
    let entry = bench.stack.dpt().stacks.iter().find(|s| s.name == name(T1)).unwrap();
    let view = bench.stack.status_view().stacks.into_iter().find(|s| s.stack == name(T1)).unwrap();
    (entry.state, view.session)
}

fn silent_host(bench: &mut Bench) {
    let t1 = bench.stack.stack_index(&name(T1)).unwrap();
    bench.handle(Event::SilentHosts(vec![t1])).unwrap();
}

#[test]
fn a_quiet_target_gets_no_new_connection_until_it_is_heard_again() {
    let (mut bench, web) = (two_targets(WEB), tcp("198.18.9.1", 80));
    quiet(&mut bench, T1);
    assert_eq!(bench.selectable(web), ["t2"]);
    assert_eq!(bench.states(web)[T1], TargetState::Quiet);
    assert_eq!(state(&mut bench), (StackState::Quiet, SessionState::Quiet));
    bench.handle(Event::Heard { stack: name(T1) }).unwrap();
    assert_eq!(bench.selectable(web), [T1, "t2"], "and it need not say anything again");
    assert_eq!(state(&mut bench), (StackState::Up, SessionState::Up));
}

#[test]
fn while_a_candidate_has_no_session_it_is_not_certain_that_a_connection_is_nobodys() {
    let mut bench = two_targets(WEB);
    for target in [T1, "t2"] {
        bench.message(target, newconn(true, true, &[])).unwrap();
    }
    bench.wait(SETTLES);
    let certain = |bench: &mut Bench| {
        bench.actions();
        bench.stack.dpt().dvipas[0].ask.certain
    };
    assert!(certain(&mut bench), "all have said what they have");
    quiet(&mut bench, T1);
    assert!(certain(&mut bench), "that it is quiet says nothing of how far it has looked");
    bench.down(T1);
    assert!(!certain(&mut bench), "it may have a connection and not come to say so");
}

#[test]
fn quiet_targets_are_selected_if_no_other_is_left() {
    let (mut bench, web) = (two_targets(WEB), tcp("198.18.9.1", 80));
    quiet(&mut bench, T1);
    quiet(&mut bench, "t2");
    assert_eq!(bench.selectable(web), [T1, "t2"], "it may as well be this node that hears nobody");
    bench.down(T1);
    assert_eq!(bench.selectable(web), ["t2"]);
}

#[test]
fn a_lost_stack_is_dead_only_when_its_host_does_not_answer() {
    let mut bench = two_targets(WEB);
    silent_host(&mut bench);
    assert_eq!(state(&mut bench), (StackState::Up, SessionState::Up), "its agent is heard");
    bench.handle(Event::SilentHosts(Vec::new())).unwrap();
    bench.down(T1);
    assert_eq!(state(&mut bench), (StackState::Lost, SessionState::Lost));
    bench.wait(Duration::from_secs(3600));
    assert_eq!(state(&mut bench).0, StackState::Lost, "its host may serve on");
    silent_host(&mut bench);
    assert_eq!(state(&mut bench), (StackState::Dead, SessionState::Dead));
    bench.up(T1);
    assert_eq!(state(&mut bench), (StackState::Up, SessionState::Up));
}

#[test]
fn behind_a_router_a_lost_stack_is_dead_when_the_operator_says() {
    let mut bench = two_targets(WEB);
    let mut config = bench.stack.config().clone();
    config.cluster.dead_after = Some(Duration::from_secs(30));
    bench.handle(Event::Configure(Box::new(config))).unwrap();
    bench.actions();
    bench.down(T1);
    bench.wait(Duration::from_secs(29));
    assert_eq!(state(&mut bench).0, StackState::Lost);
    let due = bench.stack.next_deadline().expect("it will be dead");
    bench.wait(due - bench.now);
    assert_eq!(state(&mut bench).0, StackState::Dead);
    bench.up(T1);
    assert_eq!(state(&mut bench).0, StackState::Up);
}

#[test]
fn what_a_stack_served_it_serves_until_its_next_session_says_otherwise() {
    let mut bench = Bench::new(WEB);
    let (web, tls) = (tcp("198.18.9.1", 80), tcp("198.18.9.1", 443));
    bench.up("t1");
    bench.listens("t1", web);
    bench.up("t1");
    assert_eq!(bench.selectable(web), ["t1"], "its agent has begun again, and has not said anything yet");
    bench.message("t1", srvstat(tls, true, true)).unwrap();
    assert_eq!((bench.selectable(web), bench.selectable(tls)), (vec![], vec!["t1".to_owned()]));
    bench.down("t1");
    bench.up("t1");
    assert_eq!(bench.selectable(tls), [""; 0], "it was lost in between");
}

#[test]
fn applications_are_registered_until_the_next_session_has_said_which_are() {
    let mut bench = Bench::new(
        &WEB.replace("destip = [\"t1\", \"t2\", \"198.18.0.23\"]", "destip = \"all\"\ncontent_routed = true"),
    );
    let web = tcp("198.18.9.1", 80);
    bench.up("rt1");
    bench.registers("rt1", web, &[(Role::Routing, "router")]);
    bench.listens("rt1", web);
    assert_eq!(bench.selectable(web), ["rt1"]);
    bench.up("rt1");
    bench.message("rt1", srvstat(web, true, true)).unwrap();
    assert_eq!(bench.selectable(web), ["rt1"], "it names them next");
    bench.message("rt1", FromStack::Told(Told { number: 1, since: None })).unwrap();
    assert_eq!(bench.selectable(web), [""; 0], "it has named none");
}
