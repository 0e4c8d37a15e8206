mod bounds;
mod words;

use std::time::Duration;

use model::transfer::{Abort, Commit, Consent, Offer, Part, Settled};

use super::*;
use crate::fixture::{self, *};

type Bench = fixture::Bench<Target>;

impl Machine for Target {
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
        self.entries.get(&OWN).map(|entry| word(&entry.phase))
    }
}

fn able() -> Abilities {
    Abilities { ledger: LEDGER, restores: true, injects: true, incarnation: RUN }
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self::of(Target::new(able()));
        bench.tell(Event::Owner { dvipa: dvipa(), owner: owner() });
        bench
    }

    /// A machine with one transfer in this phase.
    fn at(phase: &str, way: Way) -> Self {
        let mut bench = Self::new();
        let events: &[Event] = match (phase, way) {
            ("none", _) => &[],
            ("Hearing", _) => &[offer(way, Consent::Asked)],
            ("Thinking", _) => &[offer(way, Consent::Asked), last_of_state()],
            ("Collecting", Way::Restore) => {
                &[offer(way, Consent::Asked), last_of_state(), Event::Accepted(OWN)]
            }
            ("Collecting", Way::Inject) => &[offer(way, Consent::Presumed)],
            ("Preparing", _) => &[offer(way, Consent::Presumed), last_part()],
            ("Prepared", _) => &[offer(way, Consent::Presumed), last_part(), Event::Ready(OWN)],
            ("Passing", _) => &[offer(way, Consent::Presumed), last_part(), Event::Ready(OWN), commit()],
            ("Activating", _) => {
                &[offer(way, Consent::Presumed), last_part(), commit(), Event::Ready(OWN), Event::Passed(OWN)]
            }
            ("Active", Way::Restore) => &[
                offer(way, Consent::Presumed),
                last_part(),
                commit(),
                Event::Ready(OWN),
                Event::Passed(OWN),
                Event::Activated(OWN),
            ],
            ("Admitted", _) => &[offer(way, Consent::Presumed), last_part(), admitted()],
            ("Active", Way::Inject) => {
                &[offer(way, Consent::Presumed), last_part(), admitted(), Event::Made(OWN)]
            }
            ("Barring", _) => &[offer(way, Consent::Presumed), last_part(), admitted(), abort()],
            (other, _) => panic!("{other}"),
        };
        for event in events {
            bench.tell(event.clone());
        }
        bench
    }
}

fn received(message: ToTarget) -> Event {
    Event::Received { from: stack("rt1"), message }
}

/// An offer that comes with state.
fn offer(way: Way, consent: Consent) -> Event {
    offered(Offer { way, consent, ..an_offer() })
}

fn offered(offer: Offer) -> Event {
    received(ToTarget::Offer(offer))
}

fn an_offer() -> Offer {
    Offer {
        about: about(OWN),
        source: stack("t1"),
        way: Way::Restore,
        consent: Consent::Asked,
        ledger: LEDGER,
        job: None,
        application_bytes: 5,
        incarnation: RUN,
        giver: None,
    }
}

/// The only part of what the application is to read.
fn last_of_state() -> Event {
    let parcel = model::transfer::Parcel { socket: Vec::new(), application: b"state".to_vec() };
    received(ToTarget::State(parcel.parts(about(OWN)).expect("it is small").remove(0)))
}

fn last_part() -> Event {
    received(ToTarget::Part(part(OWN)))
}

fn admitted() -> Event {
    Event::Admitted { transfer: OWN, token: token(7) }
}

fn commit() -> Event {
    received(ToTarget::Commit(Commit { about: about(OWN) }))
}

fn abort() -> Event {
    received(ToTarget::Abort(Abort { about: about(OWN), why: Reason::TimedOut.into() }))
}

fn settled() -> Event {
    received(ToTarget::Settled(Settled { about: about(OWN) }))
}

fn walk(way: Way, phases: &[&str], table: &[Row<'_, Target>]) {
    Bench::walk(|phase| Bench::at(phase, way), phases, table);
}

#[test]
fn the_table_holds_for_a_restored_connection() {
    let phases = [
        "none",
        "Hearing",
        "Thinking",
        "Collecting",
        "Preparing",
        "Prepared",
        "Passing",
        "Activating",
        "Active",
    ];
    let gone = "Discard Void → none";
    walk(
        Way::Restore,
        &phases,
        &[
            (
                "Offer",
                offer(Way::Restore, Consent::Asked),
                &[
                    ("none", "– → Hearing"),
                    ("Collecting", "Agreed → Collecting"),
                    ("Prepared", "Agreed → Prepared"),
                    ("Active", "Active → Active"),
                ],
            ),
            (
                "Offer to an application that is not asked",
                offer(Way::Restore, Consent::Presumed),
                &[
                    ("none", "– → Collecting"),
                    ("Collecting", "Agreed → Collecting"),
                    ("Prepared", "Agreed → Prepared"),
                    ("Active", "Active → Active"),
                ],
            ),
            ("State", last_of_state(), &[("Hearing", "Ask → Thinking")]),
            (
                "Refused",
                Event::Refused { transfer: OWN, why: Reason::TakesNoOffers.into() },
                &[("Hearing", gone), ("Thinking", gone), ("Collecting", gone), ("Passing", gone)],
            ),
            ("Accepted", Event::Accepted(OWN), &[("Thinking", "Agreed → Collecting")]),
            ("Part", last_part(), &[("Collecting", "Restore → Preparing")]),
            (
                "Commit",
                commit(),
                &[("none", "Void → none"), ("Prepared", "Pass → Passing"), ("Active", "Active → Active")],
            ),
            ("Rejected", Event::Rejected { transfer: OWN, said: "full".into() }, &[("Thinking", gone)]),
            (
                "ApplicationGone",
                Event::ApplicationGone(OWN),
                &[
                    ("Hearing", gone),
                    ("Thinking", gone),
                    ("Collecting", gone),
                    ("Preparing", gone),
                    ("Prepared", gone),
                ],
            ),
            ("Ready", Event::Ready(OWN), &[("Preparing", "Agreed → Prepared")]),
            (
                "NotReady",
                Event::NotReady { transfer: OWN, why: Reason::NotRestored.into() },
                &[("Preparing", gone)],
            ),
            ("Passed", Event::Passed(OWN), &[("Passing", "Activate → Activating")]),
            ("NotPassed", Event::NotPassed(OWN), &[("Passing", gone)]),
            ("Activated", Event::Activated(OWN), &[("Activating", "Active → Active")]),
            ("Admitted", admitted(), &[]),
            ("Made", Event::Made(OWN), &[]),
            (
                "Abort",
                abort(),
                &[
                    ("none", "Void → none"),
                    ("Hearing", gone),
                    ("Thinking", gone),
                    ("Collecting", gone),
                    ("Preparing", gone),
                    ("Prepared", gone),
                    ("Active", "Active → Active"),
                ],
            ),
            ("Barred", Event::Barred { transfer: OWN, made: false }, &[]),
            ("Settled", settled(), &[("Active", "Forget → none")]),
            (
                "new owner",
                Event::Owner { dvipa: dvipa(), owner: owner() },
                &[
                    ("none", "Abilities → none"),
                    ("Hearing", "Abilities → Hearing"),
                    ("Thinking", "Abilities → Thinking"),
                    ("Collecting", "Abilities Agreed → Collecting"),
                    ("Preparing", "Abilities → Preparing"),
                    ("Prepared", "Abilities Agreed → Prepared"),
                    ("Passing", "Abilities → Passing"),
                    ("Activating", "Abilities → Activating"),
                    ("Active", "Abilities Active → Active"),
                ],
            ),
        ],
    );
}

#[test]
fn the_table_holds_for_an_injected_connection() {
    walk(
        Way::Inject,
        &["Collecting", "Preparing", "Admitted", "Active", "Barring"],
        &[
            ("Part", last_part(), &[("Collecting", "Admit → Preparing")]),
            ("Commit", commit(), &[("Active", "Active → Active")]),
            (
                "Offer",
                offer(Way::Inject, Consent::Presumed),
                &[("Admitted", "Prepared → Admitted"), ("Active", "Active → Active")],
            ),
            ("Ready", Event::Ready(OWN), &[]),
            ("Admitted", admitted(), &[("Preparing", "Prepared → Admitted")]),
            (
                "new owner",
                Event::Owner { dvipa: dvipa(), owner: owner() },
                &[
                    ("Collecting", "Abilities → Collecting"),
                    ("Preparing", "Abilities → Preparing"),
                    ("Admitted", "Abilities Prepared → Admitted"),
                    ("Active", "Abilities Active → Active"),
                    ("Barring", "Abilities → Barring"),
                ],
            ),
            (
                "Made",
                Event::Made(OWN),
                &[
                    ("Preparing", "Active → Active"),
                    ("Admitted", "Active → Active"),
                    ("Barring", "Active → Active"),
                ],
            ),
            (
                "Abort",
                abort(),
                &[
                    ("Collecting", "Discard Void → none"),
                    ("Preparing", "Bar → Barring"),
                    ("Admitted", "Bar → Barring"),
                    ("Active", "Active → Active"),
                ],
            ),
            (
                "Barred, unused",
                Event::Barred { transfer: OWN, made: false },
                &[("Barring", "Discard Void → none")],
            ),
            (
                "Barred, too late",
                Event::Barred { transfer: OWN, made: true },
                &[("Barring", "Active → Active")],
            ),
        ],
    );
}

#[test]
fn the_end_of_patience_in_each_phase() {
    for (phase, way, expected) in [
        ("Collecting", Way::Restore, "Discard Void → none"),
        ("Hearing", Way::Restore, "Discard Void → none"),
        ("Thinking", Way::Restore, "Discard Void → none"),
        ("Prepared", Way::Restore, "Discard Void → none"),
        ("Admitted", Way::Inject, "Bar → Barring"),
        ("Active", Way::Restore, "Forget → none"),
    ] {
        let mut bench = Bench::at(phase, way);
        bench.machine.fire(OWN, Timer::Patience, bench.now);
        assert_eq!(bench.cell(&Event::TimePassed), expected, "{phase} {way:?}");
    }
    for phase in ["Preparing", "Passing", "Activating"] {
        assert_eq!(Bench::at(phase, Way::Restore).machine.next_deadline(), None, "{phase}");
    }
}

#[test]
fn what_was_voided_is_not_revived_by_a_late_offer() {
    let mut bench = Bench::at("Prepared", Way::Restore);
    assert_eq!(bench.words(abort()), ["Discard", "Void"]);
    assert_eq!(bench.words(offer(Way::Restore, Consent::Asked)), ["Void"]);
    assert_eq!(bench.words(commit()), ["Void"]);
}

#[test]
fn an_offer_that_a_former_run_was_permitted_is_void() {
    let mut bench = Bench::new();
    let late = offered(Offer { incarnation: RUN - 1, ..an_offer() });
    assert_eq!(bench.words(late), ["Void"]);
    assert_eq!(bench.words(last_part()), [""; 0]);
}

#[test]
fn an_application_without_state_to_read_is_asked_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.words(offered(Offer { application_bytes: 0, ..an_offer() })), ["Ask"]);
    assert_eq!(bench.words(last_part()), [""; 0], "it thinks still: this is of another order");
    assert_eq!(bench.words(Event::Accepted(OWN)), ["Agreed"], "the parts are not here");
    assert_eq!(bench.words(Event::Accepted(OWN)), [""; 0], "once is enough");
    assert_eq!(bench.words(last_part()), ["Restore"]);
    assert_eq!(bench.words(commit()), [""; 0], "it is not ready");
    assert_eq!(bench.words(Event::Ready(OWN)), ["Pass"]);
    for no in [Event::Rejected { transfer: OWN, said: "full".into() }, Event::ApplicationGone(OWN)] {
        assert_eq!(Bench::at("Thinking", Way::Restore).words(no), ["Discard", "Void"]);
    }
}

#[test]
fn an_offer_for_another_ledger_is_void() {
    let mut bench = Bench::new();
    bench.machine.abilities.ledger = Ledger(1);
    assert_eq!(bench.words(offer(Way::Restore, Consent::Asked)), ["Void"]);
}

#[test]
fn a_former_transfer_of_the_same_connection_makes_way_unless_it_is_decided() {
    let second = TransferId { number: OWN.number + 1, ..OWN };
    let offer = |transfer| offered(Offer { about: about(transfer), ..an_offer() });
    let mut bench = Bench::at("Preparing", Way::Restore);
    assert_eq!(bench.words(offer(second)), ["Discard", "Void"]);
    assert_eq!(bench.machine.by_connection.get(&connection()), Some(&second));
    let mut bench = Bench::at("Active", Way::Restore);
    assert_eq!(bench.words(offer(second)), ["Void"]);
    assert_eq!(bench.machine.by_connection.get(&connection()), Some(&OWN));
}

#[test]
fn a_restarted_agent_says_what_its_predecessor_decided() {
    for (way, standing, before, after) in [
        (Way::Restore, Standing::Active, vec!["Activate"], vec!["Abilities"]),
        (Way::Inject, Standing::Active, vec![], vec!["Abilities", "Active"]),
        (Way::Inject, Standing::Admitted, vec!["Bar"], vec!["Abilities"]),
        (Way::Inject, Standing::Barred, vec![], vec!["Abilities"]),
    ] {
        let mut bench = Bench::of(Target::new(Abilities { incarnation: RUN + 1, ..able() }));
        let note = Note { connection: connection(), transfer: OWN, source: stack("t1"), way };
        assert_eq!(bench.words(Event::Inherited { note, standing }), before, "{way:?} {standing:?}");
        assert_eq!(
            bench.words(Event::Owner { dvipa: dvipa(), owner: owner() }),
            after,
            "{way:?} {standing:?}"
        );
    }
}
