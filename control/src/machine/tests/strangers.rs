//! What stacks with a good certificate and bad intentions say: nothing of it moves anything, and each is counted by name.

use model::codec::WireConnection;
use model::control_socket::request::Role;
use model::handoff::Token;
use model::message::{FromStack, OrderId, Stays, ToStack};
use model::transfer::{
    Abandon, Abilities, About, Active, Agreed, Consent, Done, Doubt, FromHost, FromSource, FromTarget, Held,
    Ledger, Parcel, Prepare, Prepared, Reason, Request, ToHost, ToSource, TransferId, Void, Way,
};
use model::{Connection, StackIndex};

use super::super::fixture::{
    Bench, EPOCH, WEB, config, connection, name, newconn, registered, srvstat, tcp, termconn,
};
use super::super::{Action, Event, RefusalKind};

fn here() -> Connection {
    connection(1000, "198.18.9.1:80")
}

fn about(incarnation: u64) -> About {
    let transfer = TransferId { incarnation, number: 1 };
    About { connection: WireConnection(here()), transfer, epoch: EPOCH }
}

/// `t1` has a connection, `t2` and `t3` are candidates too, and `t9` is a stack of the cluster.
fn cluster() -> Bench {
    let mut bench = Bench::new(WEB);
    let abilities = Abilities { ledger: Ledger(9), restores: true, injects: true, incarnation: 1 };
    for stack in ["t1", "t2", "t3", "t9"] {
        bench.up(stack);
        bench.message(stack, FromHost::Abilities(abilities).into()).unwrap();
    }
    for stack in ["t1", "t2"] {
        bench.listens(stack, tcp("198.18.9.1", 80));
    }
    bench.message("t1", newconn(false, false, &[here()])).unwrap();
    bench.actions();
    bench
}

fn index(bench: &Bench, stack: &str) -> StackIndex {
    bench.stack.stack_index(&name(stack)).unwrap()
}

fn prepare(target: &str) -> FromHost {
    FromHost::Source(FromSource::Prepare(Prepare {
        connection: WireConnection(here()),
        epoch: EPOCH,
        request: Request { incarnation: 5, number: 1 },
        target: name(target),
        consent: Consent::Presumed,
        application_bytes: 0,
        job: None,
        giver: None,
    }))
}

/// What a source says of a transfer.
fn of_a_source(about: About) -> Vec<FromHost> {
    let parcel = Parcel { socket: vec![1], application: Vec::new() };
    let part = parcel.parts(about).unwrap().remove(0);
    let doubt = Doubt { about, target: name("t2"), ledger: Ledger(9), way: Way::Inject };
    [
        FromSource::State(part.clone()),
        FromSource::Part(part),
        FromSource::Abandon(Abandon { about, why: Reason::Cancelled.into() }),
        FromSource::Doubt(doubt),
        FromSource::Done(Done { about, held: Held::Gone }),
    ]
    .map(FromHost::Source)
    .to_vec()
}

/// What a target says of it.
fn of_a_target(about: About) -> Vec<FromHost> {
    let why = Reason::Rejected.into();
    [
        FromTarget::Agreed(Agreed { about }),
        FromTarget::Prepared(Prepared { about, token: Token::new(7).unwrap() }),
        FromTarget::Void(Void { about, ledger: Ledger(9), why }),
        FromTarget::Active(Active { about, source: name("t1"), way: Way::Restore }),
    ]
    .map(FromHost::Target)
    .to_vec()
}

/// The stack says this; `home` has the connection. It is refused for this reason and changes nothing.
fn is_void(
    bench: &mut Bench,
    from: &str,
    message: impl Into<FromStack>,
    home: Option<&str>,
    why: RefusalKind,
) {
    let event = match (message.into(), home) {
        (FromStack::Transfer(message), Some(home)) => {
            Event::Transfer { from: name(from), message, home: index(bench, home) }
        }
        (message, _) => Event::Message { from: name(from), message },
    };
    is_refused(bench, from, event, why);
}

fn is_refused(bench: &mut Bench, from: &str, event: Event, why: RefusalKind) {
    let said = format!("{event:?}");
    let before = counted(bench, from, why);
    let refusal = bench.handle(event).expect_err(&said);
    assert_eq!(refusal.kind(), why, "{said}: {refusal}");
    assert_eq!(counted(bench, from, why), before + 1, "{said}");
    let actions = bench.actions();
    let notes = actions.iter().filter(|action| matches!(action, Action::Note(_))).count();
    assert_eq!(
        (actions.len(), notes),
        (usize::from(before == 0), usize::from(before == 0)),
        "{said}: {actions:?}"
    );
}

fn counted(bench: &Bench, from: &str, why: RefusalKind) -> u64 {
    let refused = bench.stack.status_view().refused;
    let of_it = |r: &&super::super::RefusedView| r.reason == why && r.stack == Some(name(from));
    refused.iter().find(of_it).map_or(0, |refused| refused.count)
}

#[test]
fn a_stack_that_is_no_candidate_moves_nothing_and_is_counted_by_name() {
    let mut bench = cluster();
    let web = tcp("198.18.9.1", 80);
    let dpt = bench.stack.dpt().clone();
    let of_no_candidate = [
        srvstat(web, true, true),
        registered(web, &[(Role::Target, "images")]),
        newconn(false, false, &[here()]),
        newconn(false, false, &[connection(2000, "198.18.9.1:80")]),
        termconn(&[here()]),
        prepare("t2").into(),
    ];
    for message in of_no_candidate {
        is_void(&mut bench, "t9", message, None, RefusalKind::NoCandidate);
    }
    for message in of_a_source(about(99)).into_iter().chain(of_a_target(about(99))) {
        is_void(&mut bench, "t9", message, None, RefusalKind::NoCandidate);
    }
    is_void(&mut bench, "t9", prepare("t2"), Some("t1"), RefusalKind::AnothersConnection);
    for message in ["a VIPA list", "Commit"] {
        let event = Event::Misdirected { from: name("t9"), message };
        is_refused(&mut bench, "t9", event, RefusalKind::RoutingStacksOnly);
    }
    assert_eq!(*bench.stack.dpt(), dpt);
    // An account of its own may come, and has nothing in it.
    let refusal = bench.message("t9", newconn(true, true, &[here()])).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::NoCandidate);
    let account = bench.actions().into_iter().find_map(|action| match action {
        Action::Newconn { connections, .. } => Some(connections),
        _ => None,
    });
    assert_eq!(account, Some(Vec::new()));
}

#[test]
fn a_candidate_takes_no_connection_of_another() {
    let mut bench = cluster();
    is_void(&mut bench, "t2", prepare("t3"), Some("t1"), RefusalKind::AnothersConnection);
    // Of transfers that a former run of this node may have given.
    for message in of_a_source(about(99)).into_iter().chain(of_a_target(about(99))) {
        let takes = matches!(
            message,
            FromHost::Source(FromSource::Doubt(_)) | FromHost::Target(FromTarget::Active(_))
        );
        if takes {
            is_void(&mut bench, "t2", message, Some("t1"), RefusalKind::AnothersConnection);
        }
    }
    let by = index(&bench, "t2");
    let refusal = bench.handle(Event::HeldElsewhere { by, connections: 3 }).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "t2 sent NEWCONN, which is void: other stacks have 3 of these connections"
    );
    assert_eq!(counted(&bench, "t2", RefusalKind::AnothersConnection), 4);
}

#[test]
fn only_source_and_target_speak_of_their_transfer() {
    let mut bench = cluster();
    let home = index(&bench, "t1");
    bench.handle(Event::Transfer { from: name("t1"), message: prepare("t2"), home }).unwrap();
    let begun = bench.actions().into_iter().find_map(|action| match action {
        Action::Send { message: ToStack::Transfer(ToHost::Source(ToSource::Freeze(freeze))), .. } => {
            Some(freeze.about)
        }
        _ => None,
    });
    let about = begun.expect("it begins");
    for (from, messages) in [
        ("t3", of_a_source(about)),
        ("t3", of_a_target(about)),
        ("t2", of_a_source(about)),
        ("t1", of_a_target(about)),
    ] {
        for message in messages {
            is_void(&mut bench, from, message, Some("t1"), RefusalKind::AnothersTransfer);
        }
    }
    assert!(bench.stack.under_way(&here()).is_some(), "it goes on");
}

#[test]
fn only_the_stack_that_has_an_order_answers_it() {
    let mut bench = cluster();
    let source = index(&bench, "t1");
    let order = Event::Move { connection: here(), source, target: name("t2"), job: None, quiet_ms: None };
    bench.handle(order).unwrap();
    bench.actions();
    let (connection, epoch, why) = (WireConnection(here()), EPOCH, Reason::NoSocket.into());
    let stays = FromStack::Stays(Stays { connection, epoch, order: OrderId(1), why });
    is_void(&mut bench, "t2", stays, None, RefusalKind::AnothersOrder);
    assert!(bench.stack.open_order(&here()).is_some());
}

#[test]
fn a_stack_that_was_a_candidate_keeps_what_it_has() {
    let mut bench = cluster();
    let without = WEB.replace("\"t1\", ", "");
    bench.handle(Event::Configure(Box::new(config(&without)))).unwrap();
    bench.actions();
    // The answer to the former list.
    bench.message("t1", srvstat(tcp("198.18.9.1", 80), true, true)).unwrap();
    bench.message("t1", newconn(true, true, &[here()])).unwrap();
    let kept =
        |action: &Action| matches!(action, Action::Newconn { connections, .. } if *connections == [here()]);
    assert!(bench.actions().iter().any(kept));
    assert_eq!(bench.selectable(tcp("198.18.9.1", 80)), ["t2"]);
}
