//! Targets whose servers do not serve, and how much the others take.

use std::time::Duration;

use model::Service;
use model::codec::Address;
use model::dpt::Method;
use model::message::{Failing, FromStack, Stalled};

use super::super::fixture::{Bench, EPOCH, WEB, name, srvstat, tcp};
use super::super::view::Selection;
use super::super::{Action, Event, Note, SETTLES, Scope, TargetState};

const VIP: &str = "198.18.9.1";

/// [`WEB`] with more keys.
fn web(keys: &str) -> Bench {
    let mut bench = Bench::new(&format!("{WEB}{keys}\n"));
    for stack in ["t1", "t2", "t3"] {
        bench.up(stack);
        bench.listens(stack, tcp(VIP, 80));
    }
    bench.actions();
    bench
}

/// These ports are stalled, and port 80 fails for this reason.
fn says(stalled: &[u16], why: Option<&str>) -> FromStack {
    let service = tcp(VIP, 80);
    let fails = |why: &str| vec![Failing { protocol: service.protocol, port: 80, why: why.to_owned() }];
    let ports = stalled.iter().copied().chain(why.map(|_| 80)).collect();
    let dvipa = Address(service.dvipa.address());
    FromStack::Stalled(Stalled { dvipa, epoch: EPOCH, ports, failing: why.map(fails) })
}

/// The state of a stack, and who is selected.
fn now(bench: &mut Bench, stack: &str) -> (TargetState, String) {
    let service = tcp(VIP, 80);
    (bench.states(service)[stack], bench.selectable(service).join(" "))
}

fn notes(bench: &mut Bench) -> Vec<Note> {
    let note = |action| if let Action::Note(note) = action { Some(note) } else { None };
    bench.actions().into_iter().filter_map(note).collect()
}

#[test]
fn a_target_that_is_stalled_or_fails_is_not_selected_while_another_serves() {
    let mut bench = web("");
    let mut say = |stack, stalled: &[u16], why| {
        bench.message(stack, says(stalled, why)).unwrap();
        now(&mut bench, stack)
    };
    assert_eq!(say("t1", &[80], None), (TargetState::Stalled, "t2 t3".to_owned()));
    assert_eq!(say("t2", &[9999], Some("GET /: 503")), (TargetState::Failing, "t3".to_owned()));
    assert_eq!(say("t3", &[80], None), (TargetState::Stalled, "t1 t2 t3".to_owned()), "none is left");
    assert_eq!(say("t1", &[], None), (TargetState::Listening, "t1".to_owned()));
    bench.message("t2", srvstat(tcp(VIP, 80), true, true)).unwrap();
    assert_eq!(bench.selectable(tcp(VIP, 80)), ["t1", "t2"], "a complete account says all anew");
}

#[test]
fn a_quiet_target_is_selected_before_those_that_fail_and_a_drained_one_is_not_counted() {
    let mut bench = web("");
    bench.handle(Event::Quiet { stack: name("t3") }).unwrap();
    for stack in ["t1", "t2"] {
        bench.message(stack, says(&[], Some("503"))).unwrap();
    }
    assert_eq!(now(&mut bench, "t3"), (TargetState::Quiet, "t3".to_owned()));
    let (stack, scope) = (name("t3"), Scope::All);
    bench.handle(Event::Drain { stack, scope }).unwrap();
    assert_eq!(now(&mut bench, "t3"), (TargetState::Draining, "t1 t2".to_owned()));
}

#[test]
fn when_too_many_fail_all_are_selected_and_that_is_said_once() {
    let mut bench = web("panic_percent = 60");
    let service = tcp(VIP, 80);
    let mut say = |stack: &str, why: Option<&str>| {
        bench.message(stack, says(&[], why)).unwrap();
        let notes = notes(&mut bench).into_iter().filter(|note| matches!(note, Note::Panics { .. }));
        let notes: Vec<Note> = notes.collect();
        (bench.selectable(service).join(" "), notes)
    };
    let panics = |begins| vec![Note::Panics { service, begins }];
    assert_eq!(say("t1", Some("503")), ("t2 t3".to_owned(), vec![]));
    assert_eq!(say("t2", Some("503")), ("t1 t2 t3".to_owned(), panics(true)));
    assert_eq!(say("t3", Some("503")), ("t1 t2 t3".to_owned(), vec![]));
    assert_eq!(say("t1", None), ("t1 t2 t3".to_owned(), vec![]));
    let unfit = bench.stack.unfit();
    assert_eq!((unfit.len(), unfit[0].panics, unfit[0].targets.len()), (1, true, 2));
    assert!(bench.stack.service_view(service, bench.now).unwrap().panics);
    bench.message("t2", says(&[], None)).unwrap();
    assert!(notes(&mut bench).contains(&Note::Panics { service, begins: false }));
    assert_eq!(bench.selectable(service), ["t1", "t2"]);
}

#[test]
fn that_a_server_fails_is_said_with_the_reason_and_so_is_its_end() {
    let mut bench = web("");
    let service = tcp(VIP, 80);
    let mut say = |stalled: &[u16], why: Option<&str>| {
        bench.message("t1", says(stalled, why)).unwrap();
        let is_of_it = |note: &Note| matches!(note, Note::Fails { .. } | Note::Recovers { .. });
        notes(&mut bench).into_iter().filter(is_of_it).collect::<Vec<_>>()
    };
    let stack = name("t1");
    let fails = |why: &str| vec![Note::Fails { stack: stack.clone(), service, why: why.to_owned() }];
    assert_eq!(say(&[80], None), []);
    assert_eq!(say(&[], Some("503\u{1b}[2J")), fails("503[2J"), "a terminal obeys nothing of it");
    assert_eq!(say(&[], Some("refused")), [], "it is no news");
    let view = bench.stack.service_view(service, bench.now).unwrap();
    assert_eq!(view.targets[0].why.as_deref(), Some("refused"), "{view:?}");
    let mut say = |stalled: &[u16], why: Option<&str>| {
        bench.message("t1", says(stalled, why)).unwrap();
        notes(&mut bench).len()
    };
    assert_eq!(say(&[80], None), 1, "stalled, and not failing any more");
    let long = "x".repeat(1000);
    say(&[], Some(&long));
    let view = bench.stack.service_view(service, bench.now).unwrap();
    assert_eq!(view.targets[0].why.as_ref().map(String::len), Some(200));
}

/// The weights of a service, and how its targets are selected.
fn weights(bench: &mut Bench, service: Service) -> (String, Method) {
    let targets = bench.targets(service).unwrap();
    let weights: Vec<String> = targets.iter().map(|(stack, weight)| format!("{stack} {weight}")).collect();
    let row = bench.stack.dpt().distributions.iter().find(|row| row.port == service.port).unwrap();
    (weights.join(", "), row.method)
}

#[test]
fn the_share_of_a_target_that_comes_back_grows_in_ten_steps() {
    let (mut bench, service) = (web("slow_start_s = 20"), tcp(VIP, 80));
    let even = ("t1 1, t2 1, t3 1".to_owned(), Method::RoundRobin);
    assert_eq!(weights(&mut bench, service), even, "what is there at the start is warm");
    bench.wait(SETTLES);
    bench.message("t1", says(&[], Some("503"))).unwrap();
    bench.actions();
    bench.message("t1", says(&[], None)).unwrap();
    for step in 1..10 {
        let grown = (format!("t1 {step}, t2 10, t3 10"), Method::WeightedRoundRobin);
        assert_eq!(weights(&mut bench, service), grown);
        let view = bench.stack.service_view(service, bench.now).unwrap();
        let percent: Vec<_> = view.targets.iter().map(|target| target.share_percent).collect();
        assert_eq!(percent, [Some(step * 10), None, None], "{view:?}");
        let generation = bench.stack.dpt().generation;
        bench.wait(Duration::from_secs(1));
        bench.actions();
        assert_eq!(bench.stack.dpt().generation, generation, "nothing between two steps");
        bench.wait(Duration::from_secs(1));
    }
    assert_eq!(weights(&mut bench, service), even);
    bench.down("t1");
    bench.actions();
    bench.up("t1");
    bench.listens("t1", service);
    assert_eq!(weights(&mut bench, service), even, "its agent was away, and not its server");
}

#[test]
fn configured_weights_keep_their_proportion_while_a_share_grows() {
    let keys = "method = \"weighted-round-robin\"\nweights = { t1 = 30, t2 = 20 }\nslow_start_s = 10";
    let (mut bench, service) = (web(keys), tcp(VIP, 80));
    bench.wait(SETTLES);
    bench.stops("t1", service);
    bench.actions();
    bench.listens("t1", service);
    bench.actions();
    bench.wait(Duration::from_secs(4));
    assert_eq!(weights(&mut bench, service).0, "t1 150, t2 200, t3 10");
    bench.message("t2", says(&[], Some("503"))).unwrap();
    bench.message("t3", says(&[], Some("503"))).unwrap();
    assert_eq!(weights(&mut bench, service).0, "t1 150");
    bench.message("t1", says(&[], Some("503"))).unwrap();
    assert_eq!(weights(&mut bench, service).0, "t1 30, t2 20, t3 1", "all fail: all have their whole shares");
}

#[test]
fn a_target_with_as_many_connections_as_it_may_have_is_shown_as_full() {
    let (mut bench, service) = (web("max_connections = 5"), tcp(VIP, 80));
    let index = bench.stack.stack_index(&name("t1")).unwrap();
    bench.handle(Event::ConnectionCounts(vec![(index, 5)])).unwrap();
    assert_eq!(now(&mut bench, "t1"), (TargetState::Full, "t1 t2 t3".to_owned()), "workers count themselves");
    let row = bench.stack.dpt().distributions.iter().find(|row| row.port == 80).unwrap();
    assert_eq!(row.max_connections.map(|most| most.get()), Some(5));
    bench.handle(Event::ConnectionCounts(vec![(index, 4)])).unwrap();
    assert_eq!(bench.states(service)["t1"], TargetState::Listening);
}

#[test]
fn in_panic_those_that_fail_count_as_the_others_that_are_left() {
    let of = |states: &[TargetState]| Selection::new(states.iter().copied(), 50);
    let (fails, quiet, listens) = (TargetState::Failing, TargetState::Quiet, TargetState::Listening);
    let two = of(&[fails, quiet]);
    assert!(two.panics && two.takes(fails) && two.takes(quiet), "it is not all left to the one that fails");
    let four = of(&[fails, fails, quiet, listens]);
    assert!(four.panics && four.takes(fails) && four.takes(listens) && !four.takes(quiet));
    let none = of(&[fails, quiet, listens]);
    assert!(!none.panics && none.takes(listens) && !none.takes(fails));
}
