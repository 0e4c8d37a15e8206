//! What is said, to whom, and what is not heard.

use super::*;

#[test]
fn who_owns_the_address_in_another_epoch_begins_anew() {
    let mut bench = Bench::at("Committing", Reach::ControlSocket);
    assert_eq!(bench.words(Event::Owns { dvipa: dvipa(), epoch: EPOCH }), [""; 0], "nothing has changed");
    assert_eq!(bench.words(Event::Owns { dvipa: dvipa(), epoch: Epoch(EPOCH.0 + 1) }), ["End"]);
    // What is of the former one is void.
    for message in [agreed(), last_part(), doubt(OWN), done(OWN, Held::Here)] {
        let now = bench.now;
        assert_eq!(bench.machine.hear(message, now), Err(Reason::NotOurs));
    }
}

#[test]
fn strange_words_are_refused_and_counted() {
    let refuses = |phase: &str, event: Event| {
        let mut bench = Bench::at(phase, Reach::ControlSocket);
        let now = bench.now;
        bench.machine.hear(event, now)
    };
    let strange = |event: Event| {
        let Event::Received { message, .. } = event else { panic!("{event:?}") };
        from("t3", message)
    };
    for event in [abandon(), last_part(), doubt(OWN), agreed(), prepared(1), void(LEDGER), active(OWN)] {
        assert_eq!(refuses("Committing", strange(event.clone())), Err(Reason::Unknown), "{event:?}");
    }
    for (phase, event) in [
        ("Releasing", agreed()),
        ("Releasing", prepared(1)),
        ("Releasing", void(LEDGER)),
        ("Returning", active(OWN)),
        ("Consulting", active(OWN)),
        ("none", done(FOREIGN, Held::Gone)),
    ] {
        assert_eq!(refuses(phase, event.clone()), Err(Reason::Unknown), "{phase}: {event:?}");
    }
    // Another transfer of a connection that moves.
    assert_eq!(refuses("Committing", doubt(FOREIGN)), Err(Reason::Busy));
    assert_eq!(refuses("Committing", active(FOREIGN)), Err(Reason::Busy));
    let mut bench = Bench::at("Returning", Reach::ControlSocket);
    let Event::Received { message, .. } = prepare(1) else { panic!("a Prepare") };
    assert_eq!(bench.words(from("t3", message)), ["Refuse:t3"], "it is another source");
}

#[test]
fn an_abort_says_why() {
    let why = |phase, event| {
        let told = Bench::at(phase, Reach::ControlSocket).tell(event);
        let why = told.into_iter().find_map(|action| match action {
            Action::Send { message: ToHost::Target(ToTarget::Abort(abort)), .. } => Some(abort.why.reason),
            _ => None,
        });
        why.expect("it is aborted")
    };
    assert_eq!(why("none", agreed()), Reason::Unknown);
    assert_eq!(why("Asking", agreed()), Reason::Cancelled);
    assert_eq!(why("Returning", agreed()), Reason::Cancelled);
    assert_eq!(why("Losing", agreed()), Reason::OtherLedger);
    assert_eq!(why("Committing", prepared(1)), Reason::TargetLost);
    assert_eq!(why("Awaiting", Event::SessionDown(stack("t1"))), Reason::SourceLost);
    assert_eq!(why("Awaiting", Event::SessionDown(stack("t2"))), Reason::TargetLost);
    assert_eq!(why("Consulting", Event::Ended(connection())), Reason::Ended);
}

#[test]
fn what_is_asked_about_a_transfer_is_answered() {
    let (t1, t2, t3) = (stack("t1"), stack("t2"), stack("t3"));
    let bench = Bench::at("Committing", Reach::ControlSocket);
    let machine = &bench.machine;
    assert_eq!(machine.parties(OWN), Some((&t1, &t2)));
    assert_eq!(machine.parties(FOREIGN), None);
    assert_eq!([&t1, &t2, &t3].map(|stack| machine.involves(stack)), [true, true, false]);
    assert_eq!(machine.abilities(&t2), Some(able()));
    assert_eq!(machine.abilities(&t3), None);
    assert!(machine.speaks_for(&connection()) && !machine.speaks_for(&numbered(1)));
    assert_eq!(machine.connections().collect::<Vec<_>>(), [connection()]);
    assert!(machine.knows(OWN) && !machine.knows(FOREIGN));
    assert!(!machine.knows(TransferId { number: 2, ..OWN }), "it is not given yet");
    let mut bench = Bench::new(Reach::ControlSocket);
    bench.tell(doubt(FOREIGN));
    assert!(bench.machine.knows(FOREIGN), "it is under way");
    bench.tell(void_of(FOREIGN, LEDGER));
    bench.tell(done(FOREIGN, Held::Here));
    assert!(bench.machine.knows(FOREIGN) && !bench.machine.involves(&t1), "it has ended");
    let mut bench = Bench::at("Releasing", Reach::ControlSocket);
    bench.tell(done(OWN, Held::Gone));
    assert!(bench.machine.knows(OWN), "it is its own");
    assert!(!bench.machine.closed.has(OWN), "its number says that it has ended");
    assert_eq!((bench.machine.begun(), Bench::new(Reach::Listener).machine.begun()), (1, 0));
}

#[test]
fn what_is_under_way_can_be_seen() {
    let steps = ["consulting", "dumping", "committed", "in-doubt", "moved", "returning", "lost"];
    for (phase, word) in PHASES.into_iter().skip(1).zip(steps) {
        let bench = Bench::at(phase, Reach::ControlSocket);
        let seen = bench.machine.under_way(&connection()).expect("a transfer");
        assert_eq!((seen.step.word(), seen.source, seen.target), (word, &stack("t1"), &stack("t2")));
        let held = usize::from(phase != "Consulting");
        assert_eq!((bench.machine.begun(), bench.machine.connections().count()), (1, held));
    }
    let bench = Bench::at("Offering", Reach::Listener);
    assert_eq!(bench.machine.under_way(&connection()).map(|seen| seen.step.word()), Some("offered"));
}

#[test]
fn strangers_change_nothing() {
    for phase in &PHASES[1..] {
        let mut bench = Bench::at(phase, Reach::ControlSocket);
        for event in [
            last_part(),
            abandon(),
            doubt(OWN),
            done(OWN, Held::Gone),
            agreed(),
            prepared(1),
            void(LEDGER),
            active(OWN),
        ] {
            let Event::Received { message, .. } = event else { panic!("{event:?}") };
            assert_eq!(bench.cell(&from("t3", message)), format!("– → {phase}"));
        }
    }
}

#[test]
fn parts_that_do_not_fit_together_end_the_transfer() {
    let mut bench = Bench::at("Awaiting", Reach::ControlSocket);
    let bad = Part { of: 0, ..part(OWN) };
    assert_eq!(bench.words(from("t1", FromSource::Part(bad))), ["Abort:t2", "Aborted:t1"]);
}
