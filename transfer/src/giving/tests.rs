use std::time::Duration;

use model::control_socket::JobName;
use model::transfer::{Aborted, Consent, Lost, Released, Way};

use super::*;
use crate::fixture::{self, *};

const PHASES: [&str; 5] = ["none", "Asking", "Consulted", "Dumping", "InDoubt"];

type Bench = fixture::Bench<Source>;

impl Machine for Source {
    type Event = Event;
    type Action = Action;

    fn hear(&mut self, event: Event, now: Instant) -> Result<(), Reason> {
        self.handle(event, now)
    }

    fn next_action(&mut self) -> Option<Action> {
        self.poll()
    }

    fn word(action: &Action) -> Option<String> {
        Some(match action {
            Action::Send { message, .. } => message.word().to_owned(),
            other => word(other),
        })
    }

    fn phase(&self) -> Option<String> {
        self.transfers.get(&connection()).map(word)
    }
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self::of(Source::new(100));
        bench.tell(Event::Owner { dvipa: dvipa(), owner: owner() });
        bench
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
}

fn ask() -> Ask {
    Ask {
        connection: connection(),
        target: stack("t2"),
        job: None,
        consent: Consent::Asked,
        application: b"state".to_vec(),
        giver: Some(JobName::new("router").unwrap()),
    }
}

fn received(message: ToSource) -> Event {
    Event::Received { from: stack("rt1"), message }
}

fn consult(request: Request, transfer: TransferId) -> Event {
    received(ToSource::Consult(Consult { about: about(transfer), request }))
}

fn freeze(request: Request, transfer: TransferId) -> Event {
    let freeze = Freeze { about: about(transfer), request, way: Way::Restore, ledger: LEDGER };
    received(ToSource::Freeze(freeze))
}

fn note() -> Note {
    let (target, way) = (stack("t2"), Way::Restore);
    Note { connection: connection(), transfer: OWN, target, ledger: LEDGER, way }
}

/// When a source that is frozen now gives up.
fn in_time() -> Instant {
    Instant::now() + limits::IN_DOUBT
}

fn dumped() -> Event {
    Event::Dumped { connection: connection(), socket: b"socket".to_vec() }
}

fn refuse() -> Event {
    let connection = WireConnection(connection());
    let why = Reason::NotATarget.into();
    received(ToSource::Refuse(Refuse { connection, epoch: EPOCH, request: request(1), why }))
}

fn aborted() -> Event {
    received(ToSource::Aborted(Aborted { about: about(OWN), why: Reason::Rejected.into(), request: None }))
}

#[test]
fn the_table_holds() {
    let not_dumped = Event::NotDumped { connection: connection(), why: Reason::NotDumped.into() };
    let released = received(ToSource::Released(Released { about: about(OWN) }));
    let lost = received(ToSource::Lost(Lost { about: about(OWN) }));
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
            ["Abandon → none", "State → Consulted", "– → Consulted", "– → Dumping", "– → InDoubt"],
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
            assert_eq!(Bench::at(phase).cell(event), *expected, "{name} in {phase}");
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

/// What is told again without an answer is no sign of the end.
fn waits(phase: &str, patience: Duration) {
    let mut bench = Bench::at(phase);
    let end = bench.now + patience;
    assert_eq!(bench.machine.next_deadline(), Some(bench.now + limits::REPEAT), "{phase}");
    bench.now += limits::REPEAT - Duration::from_millis(1);
    assert_eq!(bench.words(Event::TimePassed), [""; 0], "{phase}");
    bench.now = end - Duration::from_millis(1);
    bench.tell(Event::TimePassed);
    assert_eq!(bench.machine.phase().as_deref(), Some(phase));
    bench.now = end;
    bench.tell(Event::TimePassed);
    assert_eq!(bench.machine.phase(), None, "{phase}");
}

#[test]
fn patience_ends_when_the_limits_say_and_not_before() {
    waits("Asking", limits::ANSWER);
    waits("Consulted", limits::CONSULTED);
    waits("InDoubt", limits::IN_DOUBT);
}

#[test]
fn done_says_whether_the_source_has_the_connection() {
    let held = |phase: &str, message| {
        let told = Bench::at(phase).tell(received(message));
        let held = told.iter().find_map(|action| match action {
            Action::Send { message: FromSource::Done(done), .. } => Some(done.held),
            _ => None,
        });
        held.expect("it is always said")
    };
    let other = TransferId { number: 2, ..OWN };
    let aborted = |transfer| {
        let why = Reason::Rejected.into();
        ToSource::Aborted(Aborted { about: about(transfer), why, request: None })
    };
    let released = |transfer| ToSource::Released(Released { about: about(transfer) });
    let (here, gone, unknown) = (Held::Here, Held::Gone, Held::Unknown);
    for (phase, after_aborted, after_released) in [
        ("none", unknown, unknown),
        ("Asking", unknown, unknown),
        ("Consulted", unknown, unknown),
        ("Dumping", here, unknown),
        ("InDoubt", here, gone),
    ] {
        assert_eq!(held(phase, aborted(OWN)), after_aborted, "{phase}");
        assert_eq!(held(phase, released(OWN)), after_released, "{phase}");
        for message in [aborted(other), released(other)] {
            assert_eq!(held(phase, message.clone()), unknown, "{phase}");
            let mut bench = Bench::at(phase);
            assert_eq!(
                bench.cell(&received(message)),
                format!("Done → {phase}"),
                "it is of another transfer"
            );
        }
    }
}

#[test]
fn an_abandoned_transfer_says_why() {
    let why = |mut bench: Bench, event| {
        let told = bench.tell(event);
        let why = told.into_iter().find_map(|action| match action {
            Action::Send { message: FromSource::Abandon(abandon), .. } => Some(abandon.why.reason),
            _ => None,
        });
        why.expect("it is abandoned")
    };
    let inherited = || {
        let mut bench = Bench::of(Source::new(101));
        bench.tell(Event::Inherited { note: note(), alive: true, until: in_time() });
        bench.tell(Event::Owner { dvipa: dvipa(), owner: owner() });
        bench
    };
    assert_eq!(why(inherited(), freeze(request(1), OWN)), Reason::SourceLost, "its parts are gone");
    assert_eq!(why(inherited(), freeze(request(1), FOREIGN)), Reason::Unknown);
    assert_eq!(why(Bench::at("InDoubt"), freeze(request(1), FOREIGN)), Reason::Unknown);
    assert_eq!(why(Bench::at("Dumping"), Event::Cancelled(connection())), Reason::Cancelled);
    let large = vec![0; model::transfer::MAX_SOCKET_BYTES + 1];
    let dumped = Event::Dumped { connection: connection(), socket: large };
    assert_eq!(why(Bench::at("Dumping"), dumped), Reason::TooLarge);
}

#[test]
fn a_target_has_its_share_of_all_transfers() {
    let mut bench = Bench::new();
    let mut asks = |number, target: usize| {
        let ask = Ask { connection: numbered(number), target: stack(&format!("t{target}")), ..ask() };
        let asked = bench.machine.handle(Event::Asked(ask), bench.now);
        bench.machine.poll();
        asked
    };
    let targets = limits::TRANSFERS / limits::TRANSFERS_TO_A_TARGET;
    for number in 0..limits::TRANSFERS {
        if number == limits::TRANSFERS_TO_A_TARGET {
            assert_eq!(asks(number, 0), Err(Reason::TooMany), "its share is used up");
        }
        assert_eq!(asks(number, number / limits::TRANSFERS_TO_A_TARGET), Ok(()));
    }
    assert_eq!(asks(limits::TRANSFERS, targets), Err(Reason::TooMany), "of all");
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
    let message = ToSource::Aborted(Aborted { about: old, why: Reason::TimedOut.into(), request: None });
    assert!(bench.tell(received(message)).is_empty());
    let message =
        ToSource::Aborted(Aborted { about: about(OWN), why: Reason::TimedOut.into(), request: None });
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
        let mut bench = Bench::of(Source::new(101));
        assert!(bench.words(Event::Inherited { note: note(), alive, until: in_time() }).is_empty());
        assert_eq!(bench.words(Event::Owner { dvipa: dvipa(), owner: owner() }), ["Doubt"]);
        // The dump died with the former run: the routing stack learns that it need not wait.
        assert_eq!(bench.words(freeze(request(1), OWN)), ["Abandon"]);
        assert_eq!(bench.words(aborted()), expected);
    }
}

#[test]
fn an_inherited_connection_whose_socket_was_found_late_thaws() {
    let mut bench = Bench::of(Source::new(101));
    bench.tell(Event::Inherited { note: note(), alive: false, until: in_time() });
    bench.tell(Event::Owner { dvipa: dvipa(), owner: owner() });
    assert!(bench.words(Event::SocketFound(connection())).is_empty());
    assert_eq!(bench.words(aborted()), ["Thaw", "Failed", "Done"]);
}

/// Else the doubt of a source whose agent is restarted again and again would last longer than the target's memory.
#[test]
fn a_restarted_source_gives_up_when_the_former_run_would_have() {
    let mut bench = Bench::of(Source::new(101));
    let until = bench.now + limits::REPEAT / 2;
    bench.tell(Event::Inherited { note: note(), alive: true, until });
    bench.tell(Event::Owner { dvipa: dvipa(), owner: owner() });
    bench.now = until;
    assert_eq!(
        bench.words(aborted()),
        ["Discard", "Failed", "Done", "Done"],
        "what comes later is not heard"
    );
    let mut late = Bench { machine: Source::new(102), now: until };
    assert_eq!(late.words(Event::Inherited { note: note(), alive: true, until }), ["Discard", "Failed"]);
    assert_eq!(late.machine.next_deadline(), None);
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
        received(ToSource::Aborted(Aborted { about: about(OWN), why, request: Some(request) }))
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
            Action::Send { message: FromSource::State(part), .. } => ahead.extend(&part.bytes),
            Action::Send { message: FromSource::Part(part), .. } => parts.extend(&part.bytes),
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
        Action::Send { message: FromSource::Abandon(abandon), .. } => Some(abandon.about.transfer),
        _ => None,
    });
    assert_eq!(named, Some(again));
}
