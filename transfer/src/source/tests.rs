use model::transfer::{Aborted, Consent, Lost, Released, Way};

use super::*;
use crate::fixture::*;

const PHASES: [&str; 5] = ["none", "Asking", "Consulted", "Dumping", "InDoubt"];

struct Bench {
    machine: Source,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { machine: Source::new(100), now: Instant::now() };
        bench.tell(Event::Owner { dvipa: dvipa(), owner: owner() });
        bench
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        let _ = self.machine.handle(event, self.now);
        std::iter::from_fn(|| self.machine.poll()).collect()
    }

    fn words(&mut self, event: Event) -> Vec<String> {
        self.tell(event)
            .iter()
            .map(|action| match action {
                Action::Send { message, .. } => message.word().to_owned(),
                other => word(other),
            })
            .collect()
    }

    /// A machine with one transfer in this phase.
    fn at(phase: &str) -> Self {
        let mut bench = Self::new();
        let events = [Event::Asked(ask()), consult(request(1), OWN), freeze(request(1), OWN), dumped()];
        let steps = PHASES.iter().position(|p| *p == phase);
        for event in events.into_iter().take(steps.expect("a phase")) {
            bench.tell(event);
        }
        let frozen = matches!(phase, "Dumping" | "InDoubt");
        assert_eq!(bench.machine.speaks_for(&connection()), frozen);
        bench
    }

    fn cell(phase: &str, event: &Event) -> String {
        let mut bench = Self::at(phase);
        let words = bench.words(event.clone());
        cell(&words, bench.machine.transfers.get(&connection()))
    }
}

fn ask() -> Ask {
    Ask {
        connection: connection(),
        target: stack("t2"),
        job: None,
        consent: Consent::Asked,
        application: b"state".to_vec(),
    }
}

fn received(message: TransferMessage) -> Event {
    Event::Received { from: stack("rt1"), message }
}

fn consult(request: Request, transfer: TransferId) -> Event {
    received(TransferMessage::Consult(Consult { about: about(transfer), request }))
}

fn freeze(request: Request, transfer: TransferId) -> Event {
    let freeze = Freeze { about: about(transfer), request, way: Way::Restore, ledger: LEDGER };
    received(TransferMessage::Freeze(freeze))
}

fn note() -> Note {
    let (target, way) = (stack("t2"), Way::Restore);
    Note { connection: connection(), transfer: OWN, target, ledger: LEDGER, way }
}

fn dumped() -> Event {
    Event::Dumped { connection: connection(), socket: b"socket".to_vec() }
}

fn refuse() -> Event {
    let connection = WireConnection(connection());
    let why = Reason::NotATarget.into();
    received(TransferMessage::Refuse(Refuse { connection, epoch: EPOCH, request: request(1), why }))
}

fn aborted() -> Event {
    received(TransferMessage::Aborted(Aborted {
        about: about(OWN),
        why: Reason::Rejected.into(),
        request: None,
    }))
}

#[test]
fn the_table_holds() {
    let not_dumped = Event::NotDumped { connection: connection(), why: Reason::NotDumped.into() };
    let released = received(TransferMessage::Released(Released { about: about(OWN) }));
    let lost = received(TransferMessage::Lost(Lost { about: about(OWN) }));
    let owner = Event::Owner { dvipa: dvipa(), owner: owner() };
    let table: [(&str, Event, [&str; 5]); 14] = [
        (
            "Asked",
            Event::Asked(ask()),
            ["Prepare → Asking", "– → Asking", "– → Consulted", "– → Dumping", "– → InDoubt"],
        ),
        (
            "Cancelled",
            Event::Cancelled(connection()),
            [
                "– → none",
                "Failed → none",
                "Abandon Failed → none",
                "Thaw Abandon Failed → none",
                "Abandon → InDoubt",
            ],
        ),
        ("Refuse", refuse(), ["– → none", "Failed → none", "Failed → none", "– → Dumping", "– → InDoubt"]),
        (
            "Consult of its own",
            consult(request(1), OWN),
            ["Abandon → none", "State → Consulted", "State → Consulted", "– → Dumping", "– → InDoubt"],
        ),
        (
            "Consult of another",
            consult(request(9), FOREIGN),
            [
                "Abandon → none",
                "Abandon → Asking",
                "Abandon → Consulted",
                "Abandon → Dumping",
                "Abandon → InDoubt",
            ],
        ),
        (
            "Freeze of its own",
            freeze(request(1), OWN),
            [
                "Abandon → none",
                "Freeze Dump → Dumping",
                "Freeze Dump → Dumping",
                "– → Dumping",
                "Part → InDoubt",
            ],
        ),
        (
            "Freeze of another",
            freeze(request(9), FOREIGN),
            [
                "Abandon → none",
                "Abandon → Asking",
                "Abandon → Consulted",
                "Abandon → Dumping",
                "Abandon → InDoubt",
            ],
        ),
        ("Dumped", dumped(), ["– → none", "– → Asking", "– → Consulted", "Part → InDoubt", "– → InDoubt"]),
        (
            "NotDumped",
            not_dumped,
            ["– → none", "– → Asking", "– → Consulted", "Thaw Abandon Failed → none", "– → InDoubt"],
        ),
        (
            "Released",
            released,
            [
                "Done → none",
                "Done → Asking",
                "Done → Consulted",
                "Done → Dumping",
                "Discard Moved Done → none",
            ],
        ),
        (
            "Aborted",
            aborted(),
            [
                "Done → none",
                "Done → Asking",
                "Done → Consulted",
                "Thaw Failed Done → none",
                "Thaw Failed Done → none",
            ],
        ),
        (
            "Lost",
            lost,
            [
                "Done → none",
                "Done → Asking",
                "Done → Consulted",
                "Done → Dumping",
                "Discard Failed Done → none",
            ],
        ),
        (
            "new owner",
            owner,
            ["– → none", "Prepare → Asking", "Prepare → Consulted", "– → Dumping", "Doubt → InDoubt"],
        ),
        (
            "SocketFound",
            Event::SocketFound(connection()),
            ["– → none", "– → Asking", "– → Consulted", "– → Dumping", "– → InDoubt"],
        ),
    ];
    for (name, event, cells) in &table {
        for (phase, expected) in PHASES.iter().zip(cells) {
            assert_eq!(Bench::cell(phase, event), *expected, "{name} in {phase}");
        }
    }
}

#[test]
fn timers_say_it_again_and_end_the_patience() {
    let mut asking = Bench::at("Asking");
    asking.now += limits::REPEAT;
    assert_eq!(asking.words(Event::TimePassed), ["Prepare"]);
    asking.now += limits::ANSWER;
    assert_eq!(asking.words(Event::TimePassed), ["Prepare", "Failed"]);
    assert_eq!(asking.machine.next_deadline(), None);

    let mut consulted = Bench::at("Consulted");
    consulted.now += limits::REPEAT;
    assert_eq!(consulted.words(Event::TimePassed), ["Prepare"]);
    consulted.now += limits::CONSULTED;
    assert_eq!(consulted.words(Event::TimePassed), ["Prepare", "Abandon", "Failed"]);
    assert_eq!(consulted.machine.next_deadline(), None);

    let mut in_doubt = Bench::at("InDoubt");
    in_doubt.now += limits::REPEAT;
    assert_eq!(in_doubt.words(Event::TimePassed), ["Doubt"]);
    in_doubt.now += limits::IN_DOUBT;
    assert_eq!(in_doubt.words(Event::TimePassed), ["Doubt", "Discard", "Failed", "Done"]);
    assert_eq!(in_doubt.machine.next_deadline(), None);
    assert_eq!(Bench::at("Dumping").machine.next_deadline(), None);
}

#[test]
fn a_clock_that_goes_backwards_only_delays() {
    let mut bench = Bench::at("InDoubt");
    bench.now -= limits::IN_DOUBT;
    assert!(bench.tell(Event::TimePassed).is_empty());
}

#[test]
fn words_of_another_epoch_or_of_another_stack_are_void() {
    let mut bench = Bench::at("InDoubt");
    let old = About { epoch: Epoch(EPOCH.0 - 1), ..about(OWN) };
    let message =
        TransferMessage::Aborted(Aborted { about: old, why: Reason::TimedOut.into(), request: None });
    assert!(bench.tell(received(message)).is_empty());
    let message =
        TransferMessage::Aborted(Aborted { about: about(OWN), why: Reason::TimedOut.into(), request: None });
    assert!(bench.tell(Event::Received { from: stack("rt2"), message }).is_empty());
    assert!(bench.machine.speaks_for(&connection()));
}

#[test]
fn what_was_sent_to_nobody_thaws_when_the_routing_stack_is_another() {
    let mut bench = Bench::at("Dumping");
    let owner = Some(Owner { stack: stack("rt2"), epoch: Epoch(EPOCH.0 + 1) });
    bench.tell(Event::Owner { dvipa: dvipa(), owner });
    assert_eq!(bench.words(dumped()), ["Thaw", "Abandon", "Failed"]);
}

#[test]
fn an_inherited_connection_asks_for_its_outcome_and_thaws_only_if_its_socket_lives() {
    for (alive, expected) in [(true, ["Thaw", "Failed", "Done"]), (false, ["Discard", "Failed", "Done"])] {
        let mut bench = Bench { machine: Source::new(101), now: Instant::now() };
        assert!(bench.words(Event::Inherited { note: note(), alive }).is_empty());
        assert_eq!(bench.words(Event::Owner { dvipa: dvipa(), owner: owner() }), ["Doubt"]);
        // The dump died with the former run: the routing stack learns that it need not wait.
        assert_eq!(bench.words(freeze(request(1), OWN)), ["Abandon"]);
        assert_eq!(bench.words(aborted()), expected);
    }
}

#[test]
fn an_inherited_connection_whose_socket_was_found_late_thaws() {
    let mut bench = Bench { machine: Source::new(101), now: Instant::now() };
    bench.tell(Event::Inherited { note: note(), alive: false });
    bench.tell(Event::Owner { dvipa: dvipa(), owner: owner() });
    assert!(bench.words(Event::SocketFound(connection())).is_empty());
    assert_eq!(bench.words(aborted()), ["Thaw", "Failed", "Done"]);
}

#[test]
fn too_much_state_is_refused_before_anything_happens() {
    let mut bench = Bench::new();
    let application = vec![0; model::transfer::MAX_APPLICATION_BYTES + 1];
    let refused = bench.machine.handle(Event::Asked(Ask { application, ..ask() }), bench.now);
    assert_eq!(refused, Err(Reason::TooLarge));
    bench.tell(Event::Owner { dvipa: dvipa(), owner: None });
    assert_eq!(bench.machine.handle(Event::Asked(ask()), bench.now), Err(Reason::NoRoutingStack));
}

#[test]
fn who_asked_and_did_not_hear_freeze_learns_that_it_is_over() {
    let aborted = |request| {
        let why = Reason::Rejected.into();
        received(TransferMessage::Aborted(Aborted { about: about(OWN), why, request: Some(request) }))
    };
    for phase in ["Asking", "Consulted"] {
        assert_eq!(Bench::at(phase).words(aborted(request(2))), ["Done"], "it was another request");
        assert_eq!(Bench::at(phase).words(aborted(request(1))), ["Failed", "Done"]);
    }
}

/// The bytes of state and of socket that are sent from here on.
fn sent(told: &[Action]) -> (Vec<u8>, Vec<u8>) {
    let (mut ahead, mut parts) = (Vec::new(), Vec::new());
    for action in told {
        match action {
            Action::Send { message: TransferMessage::State(part), .. } => ahead.extend(&part.bytes),
            Action::Send { message: TransferMessage::Part(part), .. } => parts.extend(&part.bytes),
            _ => {}
        }
    }
    (ahead, parts)
}

#[test]
fn state_goes_ahead_to_an_application_that_is_asked_and_with_the_socket_to_another() {
    let mut bench = Bench::at("Asking");
    assert_eq!(sent(&bench.tell(consult(request(1), OWN))).0, b"state");
    bench.tell(freeze(request(1), OWN));
    assert_eq!(sent(&bench.tell(dumped())).1, b"socket");
    let mut bench = Bench::new();
    bench.tell(Event::Asked(Ask { consent: Consent::Presumed, ..ask() }));
    bench.tell(freeze(request(1), OWN));
    assert_eq!(sent(&bench.tell(dumped())).1, b"socketstate");
    let mut bench = Bench::new();
    bench.tell(Event::Asked(Ask { application: Vec::new(), ..ask() }));
    assert_eq!(bench.words(consult(request(1), OWN)), [""; 0], "there is no state");
}

#[test]
fn the_application_is_asked_again_by_a_routing_stack_that_was_restarted() {
    let mut bench = Bench::at("Consulted");
    let again = TransferId { incarnation: OWN.incarnation + 1, ..OWN };
    assert_eq!(bench.words(consult(request(1), again)), ["State"]);
    let abandoned = bench.tell(Event::Cancelled(connection()));
    let named = abandoned.iter().find_map(|action| match action {
        Action::Send { message: TransferMessage::Abandon(abandon), .. } => Some(abandon.about.transfer),
        _ => None,
    });
    assert_eq!(named, Some(again));
}
