//! The table in the module's head: each event in each state of a session.

use model::codec::WireConnection;
use model::message::{Declined, FromStack, Load, ToStack, TokensGiven};

use super::super::fixture::{
    Bench, WEB, connection, lists, name, newconn, session_up, srvstat, tcp, termconn,
};
use super::super::{Action, Event, RefusalKind, SessionState};

/// The state of the session with `t1`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    None,
    Up,
}
use State::{None as Nothing, Up};

/// What a cell of the table says.
struct Cell {
    then: State,
    refused: Option<RefusalKind>,
    /// VIPA list, a DPT, a NEWCONN or TERMCONN: what is to be done, in this order.
    does: &'static [&'static str],
}

const fn cell(then: State, does: &'static [&'static str]) -> Cell {
    Cell { then, refused: None, does }
}

const fn refused(then: State, why: RefusalKind) -> Cell {
    Cell { then, refused: Some(why), does: &[] }
}

fn bench(state: State) -> Bench {
    let mut bench = Bench::new(WEB);
    if state == Up {
        bench.up("t1");
    }
    bench.actions();
    bench
}

fn state(bench: &Bench) -> State {
    match bench.stack.status_view().stacks.iter().find(|s| s.stack == name("t1")).map(|s| s.session) {
        Some(SessionState::Up | SessionState::Quiet) => Up,
        Some(SessionState::Lost | SessionState::Dead) | None => Nothing,
    }
}

fn words(actions: &[Action]) -> Vec<&'static str> {
    let word = |action: &Action| match action {
        Action::Send { message: ToStack::VipaList(_), .. } => "list",
        Action::Send { .. } => "message",
        Action::Publish(_) => "dpt",
        Action::Newconn { .. } => "newconn",
        Action::Termconn { .. } => "termconn",
        Action::Looked { .. } => "looked",
        Action::Loaded { .. } => "loaded",
        Action::Announce { .. } => "announce",
        Action::Stay { .. } => "stay",
        Action::Route { .. } => "route",
        Action::Freeze { .. } => "freeze",
        Action::Thaw { .. } => "thaw",
        Action::HandOver { .. } => "hand over",
        Action::End { .. } => "end",
        Action::Report { .. } => "report",
        Action::Choose { .. } => "choose",
        Action::List { .. } => "list",
        Action::AskEtcd { .. } => "ask etcd",
        Action::Note(_) => "note",
        Action::Retire { .. } => "retire",
        Action::Tell { .. } => "tell",
        Action::Count { .. } => "count",
        Action::CountStacks { .. } => "count stacks",
        Action::Tokens { .. } => "tokens",
        Action::Declined { .. } => "declined",
    };
    actions.iter().map(word).filter(|word| *word != "note").collect()
}

#[test]
fn every_cell_of_the_transition_table_holds() {
    use RefusalKind::{NoSession, RoutingStacksOnly};
    let message = |message| Event::Message { from: name("t1"), message };
    let service = tcp("198.18.9.1", 80);
    let here = [connection(1000, "198.18.9.1:80")];
    let stack = name("t1");
    type Row = (&'static str, Event, [Cell; 2]);
    let rows: Vec<Row> = vec![
        ("session up", session_up("t1", &["198.18.0.21"]), [cell(Up, &["dpt", "list"]), cell(Up, &["list"])]),
        (
            "session down",
            Event::SessionDown { stack: stack.clone() },
            [cell(Nothing, &[]), cell(Nothing, &["dpt"])],
        ),
        ("quiet", Event::Quiet { stack: stack.clone() }, [cell(Nothing, &[]), cell(Up, &["dpt"])]),
        ("heard", Event::Heard { stack: stack.clone() }, [cell(Nothing, &[]), cell(Up, &[])]),
        (
            "a routing stack's",
            Event::Misdirected { from: stack, message: "a VIPA list" },
            [refused(Nothing, RoutingStacksOnly), refused(Up, RoutingStacksOnly)],
        ),
        ("SRVSTAT", message(srvstat(service, true, true)), [refused(Nothing, NoSession), cell(Up, &["dpt"])]),
        (
            "NEWCONN",
            message(newconn(false, false, &here)),
            [refused(Nothing, NoSession), cell(Up, &["newconn"])],
        ),
        ("TERMCONN", message(termconn(&here)), [refused(Nothing, NoSession), cell(Up, &["termconn"])]),
        (
            "TokensGiven",
            message(FromStack::TokensGiven(TokensGiven::default())),
            [refused(Nothing, NoSession), cell(Up, &["tokens"])],
        ),
        (
            "Declined",
            message(FromStack::Declined(Declined { connection: WireConnection(here[0]) })),
            [refused(Nothing, NoSession), cell(Up, &["declined"])],
        ),
        (
            "Load",
            message(FromStack::Load(Load::default())),
            [refused(Nothing, NoSession), cell(Up, &["loaded"])],
        ),
    ];
    for (row, event, cells) in rows {
        for (before, cell) in [Nothing, Up].into_iter().zip(cells) {
            let mut bench = bench(before);
            let outcome = bench.handle(event.clone());
            let cell_name = format!("{row} in {before:?}");
            assert_eq!(outcome.err().map(|refusal| refusal.kind()), cell.refused, "{cell_name}");
            assert_eq!(words(&bench.actions()), cell.does, "{cell_name}");
            assert_eq!(state(&bench), cell.then, "{cell_name}");
            let counted: u64 = bench.stack.status_view().refused.iter().map(|r| r.count).sum();
            assert_eq!(counted, u64::from(cell.refused.is_some()), "{cell_name}: refusals are counted");
        }
    }
}

#[test]
fn tokens_are_void_when_their_session_is_over_and_are_wanted_of_those_that_are_here() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.message("t1", FromStack::TokensGiven(TokensGiven::default())).unwrap();
    bench.actions();
    let t1 = bench.stack.stack_index(&name("t1")).unwrap();
    bench.handle(Event::TokensLow(vec![t1])).unwrap();
    let wants = |action: &Action| matches!(action, Action::Send { message: ToStack::TokensWanted(_), .. });
    assert_eq!(bench.actions().iter().filter(|action| wants(action)).count(), 1);
    bench.handle(Event::SessionDown { stack: name("t1") }).unwrap();
    assert_eq!(words(&bench.actions()), ["dpt", "tokens"]);
    bench.handle(Event::TokensLow(vec![t1])).unwrap();
    assert_eq!(bench.actions(), []);
}

#[test]
fn the_first_actions_are_the_dpt_and_then_the_announcements() {
    let mut bench = Bench::new("");
    let config = super::super::fixture::config(WEB);
    bench.handle(Event::Configure(Box::new(config))).unwrap();
    assert_eq!(words(&bench.actions()), ["dpt", "announce"]);
}

#[test]
fn an_announcement_is_made_three_times_a_second_apart() {
    let mut bench = Bench::new(WEB);
    for _ in 0..2 {
        let next = bench.stack.next_deadline().expect("one more announcement");
        let time = next - bench.now;
        assert_eq!(time.as_secs(), 1);
        bench.wait(time);
        assert_eq!(words(&bench.actions()), ["announce"]);
    }
    bench.wait(super::super::SETTLES);
    assert!(!words(&bench.actions()).contains(&"announce"));
    assert_eq!(bench.stack.next_deadline(), None);
}

#[test]
fn a_clock_that_goes_backwards_only_delays() {
    let mut bench = Bench::new(WEB);
    bench.now -= std::time::Duration::from_secs(5);
    bench.up("t1");
    bench.listens("t1", tcp("198.18.9.1", 80));
    assert_eq!(bench.selectable(tcp("198.18.9.1", 80)), ["t1"]);
}

#[test]
fn a_session_that_is_replaced_gets_nothing_that_was_meant_for_the_former() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.up("t1");
    let actions = bench.actions();
    assert_eq!(lists(&actions).len(), 1, "{actions:?}");
    assert_eq!(words(&actions), ["dpt", "list"]);
}
