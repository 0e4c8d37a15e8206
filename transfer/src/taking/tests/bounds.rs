//! How long, and how much.

use super::*;

#[test]
fn patience_ends_when_the_limits_say_and_not_before() {
    for (phase, way, patience, after) in [
        ("Hearing", Way::Restore, limits::PART, None),
        ("Thinking", Way::Restore, limits::CONSENT, None),
        ("Collecting", Way::Restore, limits::PART, None),
        ("Collecting", Way::Inject, limits::PART, None),
        ("Prepared", Way::Restore, limits::PREPARED, None),
        ("Admitted", Way::Inject, limits::PREPARED, Some("Barring")),
        ("Active", Way::Restore, limits::MEMORY, None),
        ("Active", Way::Inject, limits::MEMORY, None),
    ] {
        let mut bench = Bench::at(phase, way);
        let end = bench.now + patience;
        bench.now = end - Duration::from_millis(1);
        bench.tell(Event::TimePassed);
        assert_eq!(bench.machine.phase().as_deref(), Some(phase), "{way:?}");
        bench.now = end;
        bench.tell(Event::TimePassed);
        assert_eq!(bench.machine.phase().as_deref(), after, "{phase} {way:?}");
    }
}

#[test]
fn what_nobody_has_answered_is_said_again() {
    for (phase, way, said) in [
        ("Collecting", Way::Restore, "Agreed"),
        ("Prepared", Way::Restore, "Agreed"),
        ("Admitted", Way::Inject, "Prepared"),
        ("Active", Way::Restore, "Active"),
        ("Active", Way::Inject, "Active"),
    ] {
        let mut bench = Bench::at(phase, way);
        for _ in 0..2 {
            assert_eq!(bench.machine.next_deadline(), Some(bench.now + limits::REPEAT), "{phase}");
            bench.now += limits::REPEAT;
            assert_eq!(bench.words(Event::TimePassed), [said], "{phase}");
        }
    }
}

#[test]
fn there_is_a_limit_of_transfers_to_a_host() {
    let mut bench = Bench::new();
    for number in 0..=limits::TRANSFERS {
        let transfer = TransferId { number: number as u64, ..FOREIGN };
        let about = About { connection: WireConnection(numbered(number)), ..about(transfer) };
        let said = bench.words(offered(Offer { about, ..an_offer() }));
        assert_eq!(said.len(), usize::from(number == limits::TRANSFERS), "{number}: {said:?}");
    }
}

#[test]
fn patience_lasts_while_parts_come_in_and_the_routing_stack_is_told() {
    for (way, said) in [(Way::Restore, &["Agreed"][..]), (Way::Inject, &[])] {
        let mut bench = Bench::new();
        bench.tell(offer(way, Consent::Presumed));
        let parts = large_parts(OWN);
        let (last, before) = parts.split_last().expect("there are several");
        for part in before {
            bench.now += limits::PART - Duration::from_millis(1);
            assert_eq!(bench.words(Event::TimePassed), [] as [&str; 0]);
            assert_eq!(bench.words(received(ToTarget::Part(part.clone()))), said);
        }
        let prepares = if way == Way::Restore { "Restore" } else { "Admit" };
        assert_eq!(bench.words(received(ToTarget::Part(last.clone()))), [prepares]);
    }
}

#[test]
fn an_agreement_is_said_again_until_the_parts_come_and_does_not_hold_for_ever() {
    let mut bench = Bench::at("Collecting", Way::Restore);
    bench.now += limits::REPEAT;
    assert_eq!(bench.words(Event::TimePassed), ["Agreed"]);
    bench.now += limits::PART;
    assert_eq!(bench.words(Event::TimePassed), ["Agreed", "Discard", "Void"]);
    assert_eq!(bench.machine.next_deadline(), None);
}
