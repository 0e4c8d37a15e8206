//! What is written down for operators.

use model::message::Hello;

use super::super::fixture::{Bench, WEB, name, session_up, tcp};
use super::super::{Action, Event, Note, TargetState};

/// The notes among what is to be done.
fn notes(bench: &mut Bench) -> Vec<Note> {
    let note = |action| if let Action::Note(note) = action { Some(note) } else { None };
    bench.actions().into_iter().filter_map(note).collect()
}

#[test]
fn a_target_that_comes_and_goes_is_noted_once_with_the_reason() {
    let (mut bench, web) = (Bench::new(WEB), tcp("198.18.9.1", 80));
    bench.up("t1");
    assert_eq!(notes(&mut bench), []);
    let came = Note::Came { stack: name("t1"), services: vec![web] };
    let went = |why| Note::Went { stack: name("t1"), services: vec![web], why: Some(why) };
    bench.listens("t1", web);
    assert_eq!(notes(&mut bench), std::slice::from_ref(&came));
    bench.listens("t1", web);
    assert_eq!(notes(&mut bench), [], "it is not news");
    bench.stops("t1", web);
    assert_eq!(notes(&mut bench), [went(TargetState::NotListening)]);
    bench.listens("t1", web);
    assert_eq!(notes(&mut bench), [came]);
    bench.down("t1");
    assert_eq!(notes(&mut bench), [went(TargetState::Lost)]);
}

#[test]
fn a_stack_with_another_mtu_is_noted_and_shown() {
    let mut bench = Bench::new(WEB);
    let Event::SessionUp { stack, hello } = session_up("t1", &["198.18.0.21"]) else { unreachable!() };
    let says = |mtu| Hello { fabric_mtu: Some(mtu), ..hello.clone() };
    bench.handle(Event::SessionUp { stack, hello: says(9000) }).unwrap();
    let other = Note::OtherMtu { stack: name("t1"), theirs: 9000, ours: 1500 };
    assert_eq!(notes(&mut bench), [other]);
    let view = bench.stack.status_view();
    assert_eq!((view.fabric_mtu, view.stacks[0].fabric_mtu), (1500, Some(9000)));
    // It may say another one while the session goes on.
    bench.handle(Event::Greets { stack: name("t1"), hello: says(9000) }).unwrap();
    assert_eq!(notes(&mut bench), [], "it is not news");
    bench.handle(Event::Greets { stack: name("t1"), hello: says(1400) }).unwrap();
    assert_eq!(notes(&mut bench), [Note::OtherMtu { stack: name("t1"), theirs: 1400, ours: 1500 }]);
    bench.handle(Event::Greets { stack: name("t1"), hello: says(1500) }).unwrap();
    assert_eq!(notes(&mut bench), []);
    assert_eq!(bench.stack.status_view().stacks[0].fabric_mtu, Some(1500));
    bench.handle(Event::SessionDown { stack: name("t1") }).unwrap();
    bench.up("t1");
    assert_eq!(notes(&mut bench), [], "one that does not say it is no news");
}
