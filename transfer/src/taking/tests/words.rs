//! What is said, and for what the machine speaks.

use super::*;

/// Why the target says Void to this event.
fn void(bench: &mut Bench, event: Event) -> Reason {
    let said = bench.tell(event).into_iter().find_map(|action| match action {
        Action::Send { message: FromHost::Target(FromTarget::Void(void)), .. } => Some(void.why.reason),
        _ => None,
    });
    said.expect("it is void")
}

#[test]
fn void_says_why() {
    let offered = |change: fn(&mut Offer)| {
        let mut offer = an_offer();
        change(&mut offer);
        received(ToTarget::Offer(offer))
    };
    assert_eq!(void(&mut Bench::new(), offered(|o| o.ledger = Ledger(1))), Reason::OtherLedger);
    assert_eq!(void(&mut Bench::new(), offered(|o| o.incarnation -= 1)), Reason::TargetLost);
    let mut bench = Bench::at("Prepared", Way::Restore);
    assert_eq!(void(&mut bench, abort()), Reason::TimedOut);
    assert_eq!(void(&mut bench, offered(|_| {})), Reason::Unknown);
    assert_eq!(void(&mut bench, commit()), Reason::Unknown);
    let mut bench = Bench::at("Active", Way::Restore);
    let other = offered(|o| o.about.transfer.number += 1);
    assert_eq!(void(&mut bench, other), Reason::Busy);
    let bad = Part { of: 0, ..part(OWN) };
    let malformed = received(ToTarget::Part(bad.clone()));
    assert_eq!(void(&mut Bench::at("Collecting", Way::Restore), malformed), Reason::Malformed);
    let malformed = received(ToTarget::State(bad));
    assert_eq!(void(&mut Bench::at("Hearing", Way::Restore), malformed), Reason::Malformed);
    let rejected = Event::Rejected { transfer: OWN, said: "full".into() };
    assert_eq!(void(&mut Bench::at("Thinking", Way::Restore), rejected), Reason::Rejected);
    let gone = Event::ApplicationGone(OWN);
    assert_eq!(void(&mut Bench::at("Thinking", Way::Restore), gone), Reason::ApplicationGone);
    let mut bench = Bench::at("Thinking", Way::Restore);
    bench.now += limits::CONSENT;
    assert_eq!(void(&mut bench, Event::TimePassed), Reason::OfferTimedOut);
    let mut bench = Bench::at("Collecting", Way::Restore);
    bench.now += limits::PART;
    assert_eq!(void(&mut bench, Event::TimePassed), Reason::TimedOut);
}

#[test]
fn what_can_not_be_of_a_transfer_is_refused_and_counted() {
    let stray = [
        last_of_state(),
        last_part(),
        Event::Accepted(OWN),
        Event::Rejected { transfer: OWN, said: "full".into() },
        Event::Refused { transfer: OWN, why: Reason::TakesNoOffers.into() },
        Event::ApplicationGone(OWN),
        Event::Ready(OWN),
        admitted(),
        Event::NotReady { transfer: OWN, why: Reason::NotRestored.into() },
        Event::Passed(OWN),
        Event::NotPassed(OWN),
        Event::Activated(OWN),
        Event::Made(OWN),
        Event::Barred { transfer: OWN, made: false },
    ];
    for event in stray {
        let mut bench = Bench::new();
        assert_eq!(bench.machine.handle(event.clone(), bench.now), Err(Reason::Unknown), "{event:?}");
    }
    let mut bench = Bench::at("Active", Way::Inject);
    assert_eq!(bench.machine.handle(Event::Made(OWN), bench.now), Ok(()), "it was known");
    let mut bench = Bench::at("Active", Way::Restore);
    assert_eq!(bench.machine.handle(Event::Made(OWN), bench.now), Err(Reason::Unknown));
    let late = Event::Barred { transfer: OWN, made: true };
    assert_eq!(bench.machine.handle(late, bench.now), Ok(()));
    let strange =
        Event::Received { from: stack("rt2"), message: ToTarget::Commit(Commit { about: about(OWN) }) };
    assert_eq!(bench.machine.handle(strange, bench.now), Err(Reason::NotOurs));
}

#[test]
fn the_target_speaks_for_what_is_prepared_and_not_active() {
    for (phase, way, speaks_for, unsettled) in [
        ("none", Way::Restore, false, false),
        ("Hearing", Way::Restore, false, false),
        ("Thinking", Way::Restore, false, false),
        ("Collecting", Way::Restore, false, true),
        ("Preparing", Way::Restore, true, true),
        ("Prepared", Way::Restore, true, true),
        ("Admitted", Way::Inject, true, true),
        ("Passing", Way::Restore, true, true),
        ("Activating", Way::Restore, true, true),
        ("Barring", Way::Inject, true, true),
        ("Active", Way::Restore, false, true),
    ] {
        let mut bench = Bench::at(phase, way);
        let machine = &mut bench.machine;
        let stands = (machine.speaks_for(&connection()), machine.unsettled(&connection()));
        assert_eq!(stands, (speaks_for, unsettled), "{phase}");
        assert!(!machine.speaks_for(&numbered(1)) && !machine.unsettled(&numbered(1)));
        assert_eq!(machine.take_ended(), [], "{phase}");
        bench.tell(abort());
        bench.tell(settled());
        let ends = ["Preparing", "Prepared", "Collecting", "Hearing", "Thinking", "Active"].contains(&phase);
        assert_eq!(bench.machine.take_ended().len(), usize::from(ends), "{phase}");
        assert_eq!(bench.machine.take_ended(), [], "once");
    }
}

#[test]
fn while_an_application_thinks_nothing_of_the_connection_is_here() {
    for phase in ["Hearing", "Thinking"] {
        let machine = Bench::at(phase, Way::Restore).machine;
        assert!(!machine.speaks_for(&connection()) && !machine.unsettled(&connection()), "{phase}");
    }
    assert!(Bench::at("Collecting", Way::Restore).machine.unsettled(&connection()));
}

#[test]
fn the_routing_stack_is_told_the_token_of_the_admission() {
    let mut bench = Bench::at("Preparing", Way::Inject);
    for event in [admitted(), offer(Way::Inject, Consent::Presumed)] {
        let said = bench.tell(event);
        let [Action::Send { message: FromHost::Target(FromTarget::Prepared(prepared)), .. }] = &said[..]
        else {
            panic!("{said:?}")
        };
        assert_eq!(prepared.token, token(7));
    }
}

#[test]
fn what_the_kernel_does_not_take_is_void_at_once_with_its_words() {
    let mut bench = Bench::at("Admitted", Way::Inject);
    let why = Why::new(Reason::NotRestored, "SACK is off");
    assert_eq!(bench.words(Event::Refused { transfer: OWN, why: why.clone() }), ["Bar"]);
    let said = bench.tell(Event::Barred { transfer: OWN, made: false });
    let [Action::Discard(_), Action::Send { message: FromHost::Target(FromTarget::Void(void)), .. }] =
        &said[..]
    else {
        panic!("{said:?}")
    };
    assert_eq!(void.why, why);
}
