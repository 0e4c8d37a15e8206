//! Quiet, lost and dead stacks.

use std::time::Duration;

use model::dpt::StackState;

use super::super::fixture::{Bench, WEB, name, tcp};
use super::super::{Event, SessionState, TargetState};

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
    assert_eq!(state(&mut bench), (StackState::Lost, SessionState::Quiet));
    bench.handle(Event::Heard { stack: name(T1) }).unwrap();
    assert_eq!(bench.selectable(web), [T1, "t2"], "and it need not say anything again");
    assert_eq!(state(&mut bench), (StackState::Up, SessionState::Up));
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
fn a_session_that_breaks_off_again_and_again_does_not_put_the_death_off() {
    let mut bench = two_targets(WEB);
    let mut config = bench.stack.config().clone();
    config.cluster.dead_after = Some(Duration::from_secs(30));
    bench.handle(Event::Configure(Box::new(config))).unwrap();
    bench.down(T1);
    for _ in 0..4 {
        bench.wait(Duration::from_secs(8));
        bench.session_up(T1);
        bench.down(T1);
    }
    assert_eq!(state(&mut bench).0, StackState::Dead, "it has not greeted for 32 s");
}
