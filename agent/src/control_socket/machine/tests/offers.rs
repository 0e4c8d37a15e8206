//! Offers, and connections that are passed or given.

use super::*;

#[test]
fn an_offer_is_answered_and_its_connection_told_once() {
    let mut bench = Bench::registered();
    bench.offer(5);
    assert!(matches!(bench.told()[..], [Notification::Offer(_)]));
    bench.command(Command::Connection(OfferId(5), socket()));
    assert!(bench.actions().is_empty(), "not accepted, so there is nothing to hand over");

    bench.offer(6);
    bench.actions();
    bench.ask(Accept { offer: OfferId(6) });
    assert!(matches!(bench.reported()[..], [event::Event::Answer(OfferId(6), Answer::Accepted)]));
    bench.ask(Accept { offer: OfferId(6) });
    bench.ask(Reject { offer: OfferId(6), reason: "too late".into() });
    assert!(bench.actions().is_empty(), "it is answered");
    bench.command(Command::Pass(OfferId(6), socket()));
    bench.passes(By::Offer(OfferId(6)));
    bench.handle(Event::Sent(OfferId(6)));
    bench.command(Command::Pass(OfferId(6), socket()));
    assert!(bench.actions().is_empty(), "once");
    bench.command(Command::Connection(OfferId(6), socket()));
    let connection = WireConnection(connection(40_000, 80));
    let told = notification::Connection { by: By::Offer(OfferId(6)), connection };
    assert_eq!(bench.told(), [told.into()]);
    bench.command(Command::Connection(OfferId(6), socket()));
    assert!(bench.actions().is_empty());
}

#[test]
fn a_rejection_has_the_applications_words_cut_to_a_bearable_length() {
    let mut bench = Bench::registered();
    bench.offer(5);
    bench.actions();
    bench.ask(Reject { offer: OfferId(5), reason: "é".repeat(1000) });
    match &bench.reported()[..] {
        [
            event::Event::Answer(
                OfferId(5),
                Answer::Rejected { why: Refusal::Rejected, detail: Some(words) },
            ),
        ] => {
            assert_eq!(*words, "é".repeat(256));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_withdrawn_offer_is_void() {
    let mut bench = Bench::registered();
    for accepted in [false, true] {
        bench.offer(5);
        if accepted {
            bench.ask(Accept { offer: OfferId(5) });
        }
        bench.actions();
        bench.command(Command::Withdraw(OfferId(5), Refusal::Aborted));
        assert!(matches!(bench.told()[..], [Notification::Withdrawn(_)]));
        bench.ask(Reject { offer: OfferId(5), reason: String::new() });
        bench.command(Command::Withdraw(OfferId(5), Refusal::Aborted));
        assert!(bench.actions().is_empty());
        bench.ask(Accept { offer: OfferId(5) });
        assert!(matches!(bench.told()[..], [Notification::Withdrawn(_)]), "who accepts waits for an answer");
    }
}

#[test]
fn a_connection_is_passed_only_if_its_offer_was_accepted_and_not_withdrawn() {
    let mut bench = Bench::registered();
    bench.offer(5);
    bench.actions();
    bench.command(Command::Pass(OfferId(5), socket()));
    assert!(bench.actions().is_empty(), "not accepted");
    bench.ask(Accept { offer: OfferId(5) });
    bench.actions();
    bench.command(Command::Withdraw(OfferId(5), Refusal::Aborted));
    bench.actions();
    bench.command(Command::Pass(OfferId(5), socket()));
    assert!(bench.actions().is_empty(), "withdrawn");
}

#[test]
fn an_application_without_room_for_a_connection_is_closed_in_time() {
    let mut bench = Bench::registered();
    bench.give(5);
    bench.actions();
    let (at, timer) = bench.machine.next_deadline().expect("a deadline");
    assert_eq!((at, timer), (bench.now + PASS_WITHIN, Timer::Pass));
    bench.handle(Event::TimePassed);
    assert!(bench.actions().is_empty());
    bench.now = at;
    bench.handle(Event::TimePassed);
    assert_eq!(bench.over(), Some(Refusal::Stuck));
}

#[test]
fn given_connections_are_passed_at_once_and_are_the_applications_when_they_are_active() {
    let mut bench = Bench::registered();
    for offer in [5, 6] {
        let by = By::Given(OfferId(offer));
        bench.give(offer);
        bench.passes(by);
        bench.command(Command::Connection(OfferId(offer), socket()));
        let connection = WireConnection(connection(40_000, 80));
        assert_eq!(bench.told(), [notification::Connection { by, connection }.into()]);
    }
    bench.give(7);
    bench.passes(By::Given(OfferId(7)));
    bench.command(Command::Withdraw(OfferId(7), Refusal::Aborted));
    assert!(matches!(bench.told()[..], [Notification::Withdrawn(_)]), "it holds a descriptor");
}

#[test]
fn a_given_connection_that_is_not_taken_expires() {
    let mut bench = Bench::registered();
    for offer in [5, 6] {
        bench.give(offer);
        bench.passes(By::Given(OfferId(offer)));
        bench.command(Command::Connection(OfferId(offer), socket()));
        bench.actions();
    }
    bench.ask(Taken { by: By::Given(OfferId(5)) });
    let (at, timer) = bench.machine.next_deadline().expect("a deadline");
    assert_eq!((at, timer), (bench.now + TAKE_WITHIN, Timer::Take));
    bench.handle(Event::TimePassed);
    assert!(bench.actions().is_empty());
    bench.now = at;
    bench.handle(Event::TimePassed);
    match &bench.actions()[..] {
        [
            Action::Tell(Notification::Withdrawn(withdrawn), _),
            Action::Report(event::Event::NotTaken(held)),
        ] => {
            assert_eq!((withdrawn.offer, withdrawn.why), (OfferId(6), Refusal::NotTaken));
            assert_eq!(held.connection, connection(40_000, 80));
        }
        other => panic!("not closed: {other:?}"),
    }
    assert!(bench.machine.next_deadline().is_none());
}
