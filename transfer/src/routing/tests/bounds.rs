//! How long, and how much.

use model::transfer::PART_BYTES;

use super::*;

#[test]
fn patience_ends_when_the_limits_say_and_not_before() {
    let (asked, listener) = (Reach::ControlSocket, Reach::Listener);
    for (phase, reach, patience, after) in [
        ("Consulting", asked, limits::CONSULT, None),
        ("Awaiting", asked, limits::PART, Some("Returning")),
        ("Awaiting", listener, limits::PART, Some("Returning")),
        ("Offering", listener, limits::PREPARE, Some("Returning")),
        ("Committing", asked, limits::COMMIT, Some("Asking")),
        ("Committing", listener, limits::MADE, Some("Asking")),
        ("Asking", asked, limits::MEMORY, None),
        ("Releasing", asked, limits::MEMORY, None),
        ("Returning", asked, limits::THAW, None),
        ("Losing", asked, limits::MEMORY, None),
    ] {
        let mut bench = Bench::at(phase, reach);
        let end = bench.now + patience;
        bench.now = end - Duration::from_millis(1);
        bench.tell(Event::TimePassed);
        assert_eq!(bench.machine.phase().as_deref(), Some(phase), "{reach:?}");
        bench.now = end;
        bench.tell(Event::TimePassed);
        assert_eq!(bench.machine.phase().as_deref(), after, "{phase} {reach:?}");
    }
}

#[test]
fn the_state_of_an_application_that_is_asked_has_its_time_too() {
    let mut bench = Bench::new(Reach::ControlSocket);
    bench.tell(prepare_to("t2", request(1), 5, Consent::Asked));
    let first = Part { of: 2, bytes: vec![0; PART_BYTES], ..part(OWN) };
    bench.tell(from("t1", FromSource::State(first)));
    bench.now += limits::PART - Duration::from_millis(1);
    assert_eq!(bench.words(Event::TimePassed), [""; 0]);
    bench.now += Duration::from_millis(1);
    assert_eq!(bench.words(Event::TimePassed), ["Abort:t2", "Aborted:t1"]);
}

#[test]
fn a_connection_of_more_than_a_part_is_given_the_time_of_parts() {
    for (bytes, patience) in [(PART_BYTES, limits::COMMIT), (PART_BYTES + 1, limits::PART)] {
        let mut bench = Bench::at("Awaiting", Reach::ControlSocket);
        let parcel = model::transfer::Parcel { socket: vec![0; bytes - 1], application: vec![0] };
        for part in parcel.parts(about(OWN)).expect("it fits") {
            bench.tell(from("t1", FromSource::Part(part)));
        }
        bench.now += patience - Duration::from_millis(1);
        bench.tell(Event::TimePassed);
        assert_eq!(bench.machine.phase().as_deref(), Some("Committing"), "{bytes}");
        bench.now += Duration::from_millis(1);
        bench.tell(Event::TimePassed);
        assert_eq!(bench.machine.phase().as_deref(), Some("Asking"), "{bytes}");
    }
}

#[test]
fn patience_lasts_while_parts_come_in() {
    let mut bench = Bench::at("Awaiting", Reach::ControlSocket);
    let parts = large_parts(OWN);
    let (last, before) = parts.split_last().expect("there are several");
    let wait = |bench: &mut Bench, patience: Duration| {
        bench.now += patience - Duration::from_millis(1);
        assert_eq!(bench.words(Event::TimePassed), [] as [&str; 0]);
    };
    for part in before {
        wait(&mut bench, limits::PART);
        assert_eq!(bench.words(from("t1", FromSource::Part(part.clone()))), [] as [&str; 0]);
    }
    wait(&mut bench, limits::PART);
    bench.tell(from("t1", FromSource::Part(last.clone())));
    // The target takes them in as slowly; what it was sent it is not sent again.
    for _ in before {
        bench.now += limits::PART - Duration::from_millis(1);
        let words = bench.words(Event::TimePassed);
        assert!(words.iter().all(|word| word != "Part:t2" && word != "Abort:t2"), "{words:?}");
        assert_eq!(bench.words(agreed()), ["Commit:t2"]);
    }
    bench.now += limits::PART;
    assert!(bench.words(Event::TimePassed).contains(&"Abort:t2".to_owned()), "no part came any more");
}

#[test]
fn what_nobody_has_answered_is_said_again() {
    let (asked, listener) = (Reach::ControlSocket, Reach::Listener);
    for (phase, reach, pause, said) in [
        ("Offering", listener, limits::REPEAT, &["Offer:t2"][..]),
        ("Committing", asked, limits::REPEAT, &["Offer:t2", "Commit:t2"]),
        ("Committing", listener, limits::HAND_OVER, &["HandOver"]),
        ("Asking", asked, limits::REPEAT, &["Abort:t2"]),
        ("Releasing", asked, limits::REPEAT, &["Released:t1"]),
        ("Losing", asked, limits::REPEAT, &["Lost:t1"]),
    ] {
        let mut bench = Bench::at(phase, reach);
        for _ in 0..2 {
            assert_eq!(bench.machine.next_deadline(), Some(bench.now + pause), "{phase}");
            bench.now += pause;
            assert_eq!(bench.words(Event::TimePassed), said, "{phase}");
        }
    }
}

/// Asks for a transfer of one of many connections, whose target is not asked.
fn prepare_one(number: usize, target: &str) -> Event {
    let Event::Received { from, message: FromHost::Source(FromSource::Prepare(prepare)) } =
        prepare_to(target, request(number as u64), 0, Consent::Presumed)
    else {
        panic!("a Prepare")
    };
    let prepare = Prepare { connection: WireConnection(numbered(number)), ..prepare };
    Event::Received { from, message: FromHost::Source(FromSource::Prepare(prepare)) }
}

#[test]
fn the_bytes_that_are_held_are_bounded() {
    let (parts, a_transfer) = (limits::BYTES / PART_BYTES, 16);
    let mut bench = Bench::new(Reach::ControlSocket);
    let part_of = |number: usize, index: usize| {
        let transfer = TransferId { number: number as u64 + 1, ..OWN };
        let about = About { connection: WireConnection(numbered(number)), ..about(transfer) };
        let (index, of) = (index as u16, a_transfer as u16 + 1);
        Part { about, index, of, socket_bytes: 0, bytes: vec![0; PART_BYTES] }
    };
    for number in 0..parts / a_transfer {
        bench.tell(prepare_one(number, "t2"));
        for index in 0..a_transfer {
            let part = part_of(number, index);
            assert_eq!(bench.words(from("t1", FromSource::Part(part))), [""; 0], "{number}");
        }
    }
    assert_eq!(bench.machine.bytes(), limits::BYTES);
    let last = Part { bytes: vec![0], ..part_of(0, a_transfer) };
    assert_eq!(bench.words(from("t1", FromSource::Part(last))), ["Abort:t2", "Aborted:t1"]);
    assert_eq!(bench.machine.bytes(), limits::BYTES - a_transfer * PART_BYTES);
    // The state of an application that is asked counts too.
    let number = parts / a_transfer;
    let Event::Received { from: source, message: FromHost::Source(FromSource::Prepare(prepare)) } =
        prepare_one(number, "t2")
    else {
        panic!("a Prepare")
    };
    let asks = Prepare { consent: Consent::Asked, application_bytes: 9, ..prepare };
    bench.tell(Event::Received { from: source, message: FromHost::Source(FromSource::Prepare(asks)) });
    for index in 0..a_transfer {
        let state = part_of(number, index);
        assert_eq!(bench.words(from("t1", FromSource::State(state))), [""; 0], "{index}");
    }
    let last = Part { bytes: vec![0], ..part_of(number, a_transfer) };
    assert_eq!(bench.words(from("t1", FromSource::State(last))), ["Abort:t2", "Aborted:t1"]);
}

#[test]
fn a_dead_target_uses_up_no_others_places() {
    let mut bench = Bench::new(Reach::ControlSocket);
    let ask = |bench: &mut Bench, number, target: &str| bench.words(prepare_one(number, target));
    for number in 0..limits::TRANSFERS_TO_A_TARGET {
        assert_eq!(ask(&mut bench, number, "t2"), ["Freeze", "Freeze:t1", "Offer:t2"]);
    }
    assert_eq!(ask(&mut bench, limits::TRANSFERS_TO_A_TARGET, "t2"), ["Refuse:t1"]);
    bench.tell(from("t3", FromHost::Abilities(able())));
    let other = ask(&mut bench, limits::TRANSFERS_TO_A_TARGET, "t3");
    assert_eq!(other, ["Freeze", "Freeze:t1", "Offer:t3"], "another target has its own");
}

#[test]
fn what_may_have_been_permitted_long_ago_is_asked_about_again() {
    let mut bench = Bench::at("Asking", Reach::ControlSocket);
    assert_eq!(bench.words(doubt(OWN)), [""; 0], "the target is asked already");
    bench.now += limits::MEMORY;
    assert_eq!(bench.words(Event::TimePassed).last().map(String::as_str), Some("End"));
    assert_eq!(bench.words(doubt(OWN)), ["Freeze", "Abort:t2"], "its own, and not known any more");
}
