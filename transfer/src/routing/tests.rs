mod bounds;
mod words;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use model::transfer::{Abandon, Active, Agreed, Done, Doubt, Held, Ledger, Part, Prepared, Request, Void};

use super::*;
use crate::fixture::{self, *};

/// Targets that have a control socket, or only listen.
#[derive(Clone, Copy)]
struct Dpt(Reach);

impl Targets for Dpt {
    fn reach(&self, _: &Connection, target: &StackName, _: Option<&str>) -> Result<Reach, Reason> {
        if *target == stack("t9") { Err(Reason::NotATarget) } else { Ok(self.0) }
    }
}

/// The machine, and what it asks.
#[derive(Clone)]
struct Asking {
    routing: Routing,
    dpt: Dpt,
}

impl Deref for Asking {
    type Target = Routing;
    fn deref(&self) -> &Routing {
        &self.routing
    }
}

impl DerefMut for Asking {
    fn deref_mut(&mut self) -> &mut Routing {
        &mut self.routing
    }
}

type Bench = fixture::Bench<Asking>;

impl Machine for Asking {
    type Event = Event;
    type Action = Action;

    fn hear(&mut self, event: Event, now: Instant) -> Result<(), Reason> {
        self.routing.handle(event, &self.dpt, now)
    }

    fn next_action(&mut self) -> Option<Action> {
        self.poll()
    }

    fn word(action: &Action) -> Option<String> {
        match action {
            Action::Send { to, message } => Some(format!("{}:{to}", message.word())),
            Action::Thaw { owner: Some(owner), .. } => Some(format!("Thaw:{owner}")),
            Action::Report { .. } => None,
            other => Some(word(other)),
        }
    }

    fn phase(&self) -> Option<String> {
        self.entries.values().next().map(|entry| word(&entry.phase))
    }
}

impl Bench {
    fn new(reach: Reach) -> Self {
        let mut bench = Self::of(Asking { routing: Routing::new(ROUTING), dpt: Dpt(reach) });
        bench.tell(Event::Owns { dvipa: dvipa(), epoch: EPOCH });
        for name in ["t1", "t2"] {
            bench.tell(from(name, FromHost::Abilities(able())));
        }
        bench
    }

    /// A machine with one transfer in this phase, from t1 to t2.
    fn at(phase: &str, reach: Reach) -> Self {
        let mut bench = Self::new(reach);
        let way: &[Event] = match phase {
            "none" => &[],
            "Consulting" => &[prepare(1)],
            "Awaiting" if reach == Reach::Listener => &[prepare(1)],
            "Awaiting" => &[prepare(1), agreed()],
            "Offering" => &[prepare(1), last_part()],
            "Committing" if reach == Reach::Listener => &[prepare(1), last_part(), prepared(1)],
            "Committing" => &[prepare(1), agreed(), last_part()],
            "Asking" => &[prepare(1), agreed(), last_part(), abandon()],
            "Releasing" => &[prepare(1), agreed(), last_part(), active(OWN)],
            "Returning" => &[prepare(1), agreed(), abandon()],
            "Losing" => &[prepare(1), agreed(), last_part(), void(Ledger(1))],
            other => panic!("{other}"),
        };
        for event in way {
            bench.tell(event.clone());
        }
        bench
    }
}

fn able() -> Abilities {
    Abilities { ledger: LEDGER, restores: true, injects: true, incarnation: RUN }
}

fn from(name: &str, message: impl Into<FromHost>) -> Event {
    Event::Received { from: stack(name), message: message.into() }
}

fn prepare(number: u64) -> Event {
    prepare_to("t2", request(number), 0, Consent::Asked)
}

fn prepare_to(target: &str, request: Request, application_bytes: u32, consent: Consent) -> Event {
    let connection = WireConnection(connection());
    let (target, job, giver) = (stack(target), None, None);
    let prepare =
        Prepare { connection, epoch: EPOCH, request, target, consent, application_bytes, job, giver };
    from("t1", FromSource::Prepare(prepare))
}

/// A transfer of which the target's application is not asked.
fn prepare_presumed() -> Event {
    prepare_to("t2", request(1), 0, Consent::Presumed)
}

/// The only part of what the target's application is to read.
fn last_of_state() -> Event {
    from("t1", FromSource::State(part(OWN)))
}

fn last_part() -> Event {
    from("t1", FromSource::Part(part(OWN)))
}

fn abandon() -> Event {
    from("t1", FromSource::Abandon(Abandon { about: about(OWN), why: Reason::Cancelled.into() }))
}

fn doubt(transfer: TransferId) -> Event {
    let doubt = Doubt { about: about(transfer), target: stack("t2"), ledger: LEDGER, way: Way::Restore };
    from("t1", FromSource::Doubt(doubt))
}

fn agreed() -> Event {
    from("t2", FromTarget::Agreed(Agreed { about: about(OWN) }))
}

fn prepared(number: u64) -> Event {
    from("t2", FromTarget::Prepared(Prepared { about: about(OWN), token: token(number) }))
}

fn void_of(transfer: TransferId, ledger: Ledger) -> Event {
    from("t2", FromTarget::Void(Void { about: about(transfer), ledger, why: Reason::Rejected.into() }))
}

fn void(ledger: Ledger) -> Event {
    void_of(OWN, ledger)
}

fn active(transfer: TransferId) -> Event {
    let active = Active { about: about(transfer), source: stack("t1"), way: Way::Restore };
    from("t2", FromTarget::Active(active))
}

fn done(transfer: TransferId, held: Held) -> Event {
    from("t1", FromSource::Done(Done { about: about(transfer), held }))
}

/// Of a connection that is restored.
const PHASES: [&str; 8] =
    ["none", "Consulting", "Awaiting", "Committing", "Asking", "Releasing", "Returning", "Losing"];
/// Of one that is injected, as far as they differ.
const INJECTION: [&str; 3] = ["Awaiting", "Offering", "Committing"];

#[test]
fn the_table_holds() {
    let down = |name: &str| Event::SessionDown(stack(name));
    let table: [Row<'_, Asking>; 19] = [
        (
            "Prepare, the same",
            prepare(1),
            &[
                ("none", "Consult:t1 Offer:t2 → Consulting"),
                ("Consulting", "Consult:t1 Offer:t2 → Consulting"),
                ("Awaiting", "Freeze:t1 → Awaiting"),
                ("Returning", "Thaw Consult:t1 Offer:t2 → Consulting"),
            ],
        ),
        (
            "Prepare, another",
            prepare(2),
            &[
                ("none", "Consult:t1 Offer:t2 → Consulting"),
                ("Consulting", "Refuse:t1 → Consulting"),
                ("Awaiting", "Refuse:t1 → Awaiting"),
                ("Committing", "Refuse:t1 → Committing"),
                ("Asking", "Refuse:t1 → Asking"),
                ("Releasing", "Refuse:t1 → Releasing"),
                ("Returning", "Thaw Consult:t1 Offer:t2 → Consulting"),
                ("Losing", "Refuse:t1 → Losing"),
            ],
        ),
        ("State where there is none", last_of_state(), &[]),
        ("Part", last_part(), &[("Awaiting", "Part:t2 Commit:t2 → Committing")]),
        (
            "Agreed",
            agreed(),
            &[
                ("none", "Abort:t2 → none"),
                ("Consulting", "Freeze Freeze:t1 → Awaiting"),
                ("Committing", "Commit:t2 → Committing"),
                ("Asking", "Abort:t2 → Asking"),
                ("Returning", "Abort:t2 → Returning"),
                ("Losing", "Abort:t2 → Losing"),
            ],
        ),
        (
            "Abandon",
            abandon(),
            &[
                ("Consulting", "Abort:t2 Aborted:t1 → none"),
                ("Awaiting", "Abort:t2 Aborted:t1 → Returning"),
                ("Committing", "Abort:t2 → Asking"),
            ],
        ),
        (
            "Doubt",
            doubt(OWN),
            &[
                // A number that this machine has not given yet is not its own.
                ("none", "Freeze Abort:t2 → Asking"),
                ("Awaiting", "Freeze:t1 → Awaiting"),
                ("Releasing", "Released:t1 → Releasing"),
                ("Returning", "Aborted:t1 → Returning"),
                ("Losing", "Lost:t1 → Losing"),
            ],
        ),
        (
            "Prepared",
            prepared(1),
            &[
                ("none", "Abort:t2 → none"),
                ("Committing", "Abort:t2 → Committing"),
                ("Asking", "Abort:t2 → Asking"),
                ("Returning", "Abort:t2 → Returning"),
                ("Losing", "Abort:t2 → Losing"),
            ],
        ),
        (
            "Void",
            void(LEDGER),
            &[
                ("Consulting", "Aborted:t1 → none"),
                ("Awaiting", "Aborted:t1 → Returning"),
                ("Committing", "Aborted:t1 → Returning"),
                ("Asking", "Aborted:t1 → Returning"),
            ],
        ),
        (
            "Void out of another ledger",
            void(Ledger(1)),
            &[
                ("Consulting", "Aborted:t1 → none"),
                ("Awaiting", "Aborted:t1 → Returning"),
                ("Committing", "Lost:t1 → Losing"),
                ("Asking", "Lost:t1 → Losing"),
            ],
        ),
        (
            "Active",
            active(OWN),
            &[
                ("none", "Thaw:t2 Released:t1 → Releasing"),
                ("Committing", "Thaw:t2 Released:t1 → Releasing"),
                ("Asking", "Thaw:t2 Released:t1 → Releasing"),
            ],
        ),
        (
            "Done",
            done(OWN, Held::Here),
            &[("Releasing", "Settled:t2 → none"), ("Returning", "Thaw:t1 → none"), ("Losing", "End → none")],
        ),
        (
            "Done, and gone",
            done(OWN, Held::Gone),
            &[("Releasing", "Settled:t2 → none"), ("Returning", "End → none"), ("Losing", "End → none")],
        ),
        (
            "Done, unknown",
            done(OWN, Held::Unknown),
            &[("Releasing", "Settled:t2 → none"), ("Returning", "Thaw → none"), ("Losing", "End → none")],
        ),
        (
            "session with target down",
            down("t2"),
            &[("Consulting", "Abort:t2 Aborted:t1 → none"), ("Awaiting", "Abort:t2 Aborted:t1 → Returning")],
        ),
        (
            "session with source down",
            down("t1"),
            &[("Consulting", "Abort:t2 Aborted:t1 → none"), ("Awaiting", "Abort:t2 Aborted:t1 → Returning")],
        ),
        ("Ended", Event::Ended(connection()), &[("Consulting", "Abort:t2 Aborted:t1 → none")]),
        (
            "session with source up",
            Event::SessionUp(stack("t1")),
            &[
                ("Committing", "Offer:t2 Commit:t2 → Committing"),
                ("Asking", "Abort:t2 → Asking"),
                ("Releasing", "Released:t1 → Releasing"),
                ("Returning", "Aborted:t1 → Returning"),
                ("Losing", "Lost:t1 → Losing"),
            ],
        ),
        (
            "session with target up",
            Event::SessionUp(stack("t2")),
            &[
                ("Committing", "Offer:t2 Commit:t2 Part:t2 → Committing"),
                ("Asking", "Abort:t2 → Asking"),
                ("Releasing", "Released:t1 → Releasing"),
                ("Returning", "Aborted:t1 → Returning"),
                ("Losing", "Lost:t1 → Losing"),
            ],
        ),
    ];
    Bench::walk(|phase| Bench::at(phase, Reach::ControlSocket), &PHASES, &table);
}

#[test]
fn the_end_of_patience_in_each_phase() {
    for (phase, expected) in [
        ("Consulting", "Abort:t2 Aborted:t1 → none"),
        ("Awaiting", "Abort:t2 Aborted:t1 → Returning"),
        ("Committing", "Abort:t2 → Asking"),
        ("Asking", "End → none"),
        ("Releasing", "– → none"),
        ("Returning", "Thaw → none"),
        ("Losing", "End → none"),
    ] {
        let mut bench = Bench::at(phase, Reach::ControlSocket);
        bench.machine.fire(OWN, Timer::Patience, bench.now);
        let got = bench.cell(&Event::TimePassed);
        assert_eq!(got, expected, "{phase}");
    }
}

#[test]
fn while_an_application_thinks_nothing_is_held_and_others_tell_of_the_connection() {
    let mut bench = Bench::new(Reach::ControlSocket);
    assert_eq!(bench.words(prepare(1)), ["Consult:t1", "Offer:t2"]);
    assert!(!bench.machine.speaks_for(&connection()));
    assert_eq!(bench.machine.connections().count(), 0);
    assert_eq!(bench.words(Event::Yields(dvipa())), [""; 0], "nothing is held");
    let mut bench = Bench::at("Awaiting", Reach::ControlSocket);
    assert!(bench.machine.speaks_for(&connection()));
    assert_eq!(bench.words(agreed()), [""; 0], "once is enough");
}

#[test]
fn who_is_not_asked_is_not_waited_for() {
    let mut bench = Bench::new(Reach::ControlSocket);
    assert_eq!(bench.words(prepare_presumed()), ["Freeze", "Freeze:t1", "Offer:t2"]);
    assert_eq!(bench.words(last_part()), ["Part:t2", "Commit:t2"]);
    let mut bench = Bench::new(Reach::Listener);
    assert_eq!(bench.words(prepare(1)), ["Freeze", "Freeze:t1", "Offer:t2"]);
}

#[test]
fn state_is_sent_on_once_it_is_whole_and_not_kept() {
    let mut bench = Bench::new(Reach::ControlSocket);
    bench.tell(prepare_to("t2", request(1), 5, Consent::Asked));
    let bad = Part { of: 0, ..part(OWN) };
    let mut bad_bench = Bench { machine: bench.machine.clone(), ..Bench::new(Reach::ControlSocket) };
    let refused = bad_bench.words(from("t1", FromSource::State(bad)));
    assert_eq!(refused, ["Abort:t2", "Aborted:t1"]);
    let first = Part { of: 2, bytes: vec![0; model::transfer::PART_BYTES], ..part(OWN) };
    let last = Part { index: 1, ..Part { of: 2, ..part(OWN) } };
    assert_eq!(bench.words(from("t1", FromSource::State(first))), [""; 0]);
    assert_eq!(bench.machine.bytes(), model::transfer::PART_BYTES);
    assert_eq!(bench.words(from("t1", FromSource::State(last))), ["State:t2", "State:t2"]);
    assert_eq!(bench.machine.bytes(), 0);
    assert_eq!(bench.words(last_of_state()), [""; 0], "a late copy");
    assert_eq!(bench.words(agreed()), ["Freeze", "Freeze:t1"]);
}

#[test]
fn an_agreement_to_what_was_given_up_is_answered_with_abort() {
    let mut bench = Bench::at("Consulting", Reach::ControlSocket);
    assert_eq!(bench.words(Event::Ended(connection())), ["Abort:t2", "Aborted:t1"]);
    assert_eq!(bench.words(agreed()), ["Abort:t2"]);
    assert_eq!(bench.words(done(OWN, Held::Here)), [""; 0]);
    assert_eq!(bench.words(doubt(OWN)), ["Aborted:t1"]);
}

#[test]
fn the_table_holds_for_an_injected_connection() {
    let table: [Row<'_, Asking>; 8] = [
        ("Agreed", agreed(), &[]),
        ("Part", last_part(), &[("Awaiting", "Part:t2 → Offering")]),
        (
            "Prepared, the first",
            prepared(1),
            &[("Offering", "HandOver → Committing"), ("Committing", "HandOver → Committing")],
        ),
        (
            "Prepared, another",
            prepared(2),
            &[("Offering", "HandOver → Committing"), ("Committing", "Abort:t2 → Committing")],
        ),
        (
            "Abandon",
            abandon(),
            &[
                ("Awaiting", "Abort:t2 Aborted:t1 → Returning"),
                ("Offering", "Abort:t2 Aborted:t1 → Returning"),
                ("Committing", "Freeze Abort:t2 → Asking"),
            ],
        ),
        (
            "Void out of another ledger",
            void(Ledger(1)),
            &[
                ("Awaiting", "Aborted:t1 → Returning"),
                ("Offering", "Aborted:t1 → Returning"),
                ("Committing", "Lost:t1 → Losing"),
            ],
        ),
        (
            "session with target down",
            Event::SessionDown(stack("t2")),
            &[
                ("Awaiting", "Abort:t2 Aborted:t1 → Returning"),
                ("Offering", "Abort:t2 Aborted:t1 → Returning"),
            ],
        ),
        (
            "session with target up",
            Event::SessionUp(stack("t2")),
            &[("Offering", "Offer:t2 Part:t2 → Offering"), ("Committing", "HandOver → Committing")],
        ),
    ];
    Bench::walk(|phase| Bench::at(phase, Reach::Listener), &INJECTION, &table);
}

#[test]
fn an_injected_connection_is_held_again_before_the_target_is_asked() {
    let mut bench = Bench::at("Offering", Reach::Listener);
    assert_eq!(bench.words(prepared(1)), ["HandOver"]);
    assert_eq!(bench.words(abandon()), ["Freeze", "Abort:t2"]);
    assert_eq!(bench.words(void(LEDGER)), ["Aborted:t1"]);
    assert_eq!(bench.words(done(OWN, Held::Here)), ["Thaw:t1"]);
}

#[test]
fn a_connection_that_cannot_be_handed_over_is_held_until_the_target_has_voided_it() {
    let not = Event::NotHandedOver { connection: connection(), why: Reason::NoWay.into() };
    let mut bench = Bench::at("Committing", Reach::Listener);
    assert_eq!(bench.words(not.clone()), ["Freeze", "Abort:t2"]);
    assert_eq!(bench.words(not.clone()), [""; 0]);
    assert_eq!(bench.words(void(LEDGER)), ["Aborted:t1"]);
    assert_eq!(bench.words(done(OWN, Held::Here)), ["Thaw:t1"]);
    let mut restoring = Bench::at("Committing", Reach::ControlSocket);
    assert_eq!(restoring.words(not), [""; 0], "no packets carry this permission");
}

#[test]
fn a_target_that_cannot_take_it_is_refused_with_the_reason() {
    let refusal = |bench: &mut Bench, event| match bench.tell(event).as_slice() {
        [Action::Send { message: ToHost::Source(ToSource::Refuse(refuse)), .. }] => refuse.why.reason,
        other => panic!("{other:?}"),
    };
    let mut bench = Bench::new(Reach::ControlSocket);
    assert_eq!(refusal(&mut bench, prepare_to("t9", request(1), 0, Consent::Asked)), Reason::NotATarget);
    assert_eq!(refusal(&mut bench, prepare_to("t1", request(1), 0, Consent::Asked)), Reason::SameStack);
    assert_eq!(refusal(&mut bench, prepare_to("t3", request(1), 0, Consent::Asked)), Reason::TargetLost);
    let mut bench = Bench::new(Reach::Listener);
    assert_eq!(
        refusal(&mut bench, prepare_to("t2", request(1), 5, Consent::Asked)),
        Reason::NeedsControlSocket
    );
    let unable = Abilities { restores: false, injects: false, ..able() };
    for reach in [Reach::Listener, Reach::ControlSocket] {
        let mut bench = Bench::new(reach);
        bench.tell(from("t2", FromHost::Abilities(unable)));
        assert_eq!(refusal(&mut bench, prepare(1)), Reason::NoWay);
    }
}

#[test]
fn a_restarted_routing_stack_lets_the_target_say_what_it_decided() {
    let mut bench = Bench::new(Reach::ControlSocket);
    assert_eq!(bench.words(doubt(FOREIGN)), ["Freeze", "Abort:t2"]);
    assert_eq!(bench.words(active(FOREIGN)), ["Thaw:t2", "Released:t1"]);
    assert_eq!(bench.words(done(FOREIGN, Held::Gone)), ["Settled:t2"]);
    // Late copies of what was said change nothing.
    assert_eq!(bench.words(active(FOREIGN)), ["Settled:t2"]);
    assert_eq!(bench.words(doubt(FOREIGN)), ["Aborted:t1"]);

    let mut bench = Bench::new(Reach::ControlSocket);
    bench.tell(doubt(FOREIGN));
    assert_eq!(bench.words(void_of(FOREIGN, LEDGER)), ["Aborted:t1"]);
    let mut bench = Bench::new(Reach::ControlSocket);
    bench.tell(doubt(FOREIGN));
    assert_eq!(bench.words(void_of(FOREIGN, Ledger(1))), ["Lost:t1"]);
}

#[test]
fn who_loses_the_address_forgets_and_later_asks_the_target_about_its_own_transfers_too() {
    let mut bench = Bench::at("Committing", Reach::ControlSocket);
    assert_eq!(bench.words(Event::Yields(dvipa())), ["End"]);
    bench.tell(Event::Owns { dvipa: dvipa(), epoch: EPOCH });
    assert_eq!(bench.words(doubt(OWN)), ["Freeze", "Abort:t2"]);
}

#[test]
fn who_loses_the_address_leaves_a_connection_that_moves_to_no_host() {
    for phase in ["Awaiting", "Offering", "Committing"] {
        let mut bench = Bench::at(phase, Reach::Listener);
        assert_eq!(bench.words(Event::Yields(dvipa())), ["End"], "{phase}");
    }
    for phase in ["Awaiting", "Committing", "Asking", "Releasing", "Returning"] {
        let mut bench = Bench::at(phase, Reach::ControlSocket);
        assert_eq!(bench.words(Event::Yields(dvipa())), ["End"], "{phase}");
    }
}
