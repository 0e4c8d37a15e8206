//! Transfers among the events of this machine: whole ones with agents that keep the protocol, and what they keep out.

use model::codec::WireConnection;
use model::connection_state::{ConnectionState, Phase, SocketFamily};
use model::control_socket::request::Role;
use model::handoff::Token;
use model::message::{After, FromStack, Targets, ToStack, Told};
use model::transfer::{
    Abandon, Abilities, About, Active, Agreed, Consent, Done, FromHost, FromSource, FromTarget, Held, Ledger,
    Parcel, Prepare, Prepared, Reason, Request, ToHost, ToSource, Void, Way,
};
use model::{Connection, Service, StackIndex};
use transfer::limits;

use super::super::fixture::{Bench, EPOCH, connection, name, newconn, tcp, termconn};
use super::super::{Action, Event, OrderRefusal, Refusal, RefusalKind, TargetState, Wanted};

const ROUTED: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80]
destip = ["t1", "t2"]
content_routed = true
"#;

fn web() -> Service {
    tcp("198.18.9.1", 80)
}

fn here() -> Connection {
    connection(1000, "198.18.9.1:80")
}

/// `rt1` with the routing application, `t1` with a target application, `t2` with a server that only listens.
fn cluster() -> Bench {
    let mut bench = Bench::new(ROUTED);
    for stack in ["rt1", "t1", "t2"] {
        bench.up(stack);
        able(&mut bench, stack);
        bench.listens(stack, web());
    }
    bench.registers("rt1", web(), &[(Role::Routing, "router")]);
    bench.registers("t1", web(), &[(Role::Target, "images")]);
    bench.message("rt1", newconn(false, false, &[here()])).unwrap();
    bench.actions();
    bench
}

fn able(bench: &mut Bench, stack: &str) {
    let abilities = Abilities { ledger: Ledger(9), restores: true, injects: true, incarnation: 1 };
    say(bench, stack, FromHost::Abilities(abilities)).unwrap();
}

fn say(bench: &mut Bench, stack: &str, message: impl Into<FromHost>) -> Result<(), Refusal> {
    bench.message(stack, message.into().into())
}

fn prepare(target: &str, job: Option<&str>, application_bytes: u32) -> FromSource {
    FromSource::Prepare(Prepare {
        connection: WireConnection(here()),
        epoch: EPOCH,
        request: Request { incarnation: 5, number: 1 },
        target: name(target),
        consent: Consent::Asked,
        application_bytes,
        job: job.map(str::to_owned),
        giver: None,
    })
}

fn state() -> ConnectionState {
    ConnectionState {
        connection: here(),
        family: SocketFamily::V4,
        phase: Phase::Established,
        send: Default::default(),
        receive: model::connection_state::ReceiveQueue { first: 77, bytes: b"GET /".to_vec() },
        windows: Default::default(),
        mss: 1460,
        scales: None,
        sack: true,
        timestamp: None,
        ecn: false,
        options: Vec::new(),
        congestion_control: "cubic".to_owned(),
    }
}

/// The words of what is to be done; a message with whom it goes to.
fn words(actions: &[Action]) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Send { to, message: ToStack::Transfer(message) } => format!("{}:{to}", message.word()),
        Action::Send { to, message: ToStack::Move(_) } => format!("Move:{to}"),
        Action::Send { to, message: ToStack::Targets(_) } => format!("Targets:{to}"),
        Action::Freeze { owner, .. } => format!("freeze at {}", owner.0),
        Action::Thaw { owner: Some(owner), .. } => format!("thaw to {}", owner.0),
        Action::HandOver { to, .. } => format!("hand over to {}", to.0),
        Action::Report { outcome, .. } => format!("{outcome:?}"),
        other => format!("{other:?}"),
    };
    actions.iter().map(word).collect()
}

/// The source's agent has asked for a transfer: which one it is.
fn begun(actions: &[Action]) -> About {
    let about = actions.iter().find_map(|action| match action {
        Action::Send { message: ToStack::Transfer(ToHost::Source(ToSource::Freeze(freeze))), .. } => {
            Some(freeze.about)
        }
        Action::Send { message: ToStack::Transfer(ToHost::Source(ToSource::Consult(consult))), .. } => {
            Some(consult.about)
        }
        _ => None,
    });
    about.unwrap_or_else(|| panic!("no transfer begins: {actions:?}"))
}

/// Until the target is offered the connection.
fn offered(bench: &mut Bench, target: &str) -> About {
    say(bench, "rt1", prepare(target, None, 0)).unwrap();
    let actions = bench.actions();
    assert!(words(&actions).contains(&format!("Offer:{target}")));
    begun(&actions)
}

/// The source's agent sends the parts.
fn parts(bench: &mut Bench, about: About) -> Vec<String> {
    let parcel = Parcel { socket: state().encode(), application: Vec::new() };
    for part in parcel.parts(about).unwrap() {
        say(bench, "rt1", FromSource::Part(part)).unwrap();
    }
    words(&bench.actions())
}

/// Until the target's application has agreed.
fn agreed(bench: &mut Bench, target: &str) -> About {
    let about = offered(bench, target);
    say(bench, target, FromTarget::Agreed(Agreed { about })).unwrap();
    about
}

fn token() -> Token {
    Token::new(77).unwrap()
}

/// Until the target is ready for packets.
fn prepared(bench: &mut Bench, target: &str) -> About {
    let about = offered(bench, target);
    assert_eq!(parts(bench, about), [format!("Part:{target}")]);
    say(bench, target, FromTarget::Prepared(Prepared { about, token: token() })).unwrap();
    about
}

fn active(bench: &mut Bench, target: &str, about: About, way: Way) -> Vec<String> {
    say(bench, target, FromTarget::Active(Active { about, source: name("rt1"), way })).unwrap();
    words(&bench.actions())
}

fn done(bench: &mut Bench, about: About, held: Held) -> Vec<String> {
    say(bench, "rt1", FromSource::Done(Done { about, held })).unwrap();
    words(&bench.actions())
}

fn reason(bench: &mut Bench, message: FromSource) -> Option<Reason> {
    say(bench, "rt1", message).unwrap();
    bench.actions().iter().find_map(|action| match action {
        Action::Send { message: ToStack::Transfer(ToHost::Source(ToSource::Refuse(refuse))), .. } => {
            Some(refuse.why.reason)
        }
        _ => None,
    })
}

fn index(bench: &Bench, stack: &str) -> StackIndex {
    bench.stack.stack_index(&name(stack)).unwrap()
}

#[test]
fn a_connection_moves_to_an_application_with_a_control_socket() {
    let mut bench = cluster();
    let about = agreed(&mut bench, "t1");
    bench.actions();
    assert_eq!(parts(&mut bench, about), ["Part:t1", "Commit:t1"]);
    assert_eq!(bench.stack.under_way(&here()).unwrap().step.word(), "committed");
    let to = index(&bench, "t1").0;
    assert_eq!(
        active(&mut bench, "t1", about, Way::Restore),
        [format!("thaw to {to}"), "Released:rt1".into()]
    );
    assert_eq!(done(&mut bench, about, Held::Gone), ["Moved", "Settled:t1"]);
    let counts = bench.stack.transfer_counts();
    assert_eq!((counts.begun, counts.moved.get(&Way::Restore), counts.stayed.len()), (1, Some(&1), 0));
    assert!(bench.stack.under_way(&here()).is_none());
}

#[test]
fn the_entry_is_frozen_where_it_is_before_the_source_is_told() {
    let mut bench = cluster();
    say(&mut bench, "rt1", prepare("t1", Some("images"), 10)).unwrap();
    let actions = bench.actions();
    assert_eq!(words(&actions), ["Consult:rt1", "Offer:t1"], "the application has yet to agree");
    let about = begun(&actions);
    say(&mut bench, "t1", FromTarget::Agreed(Agreed { about })).unwrap();
    let source = index(&bench, "rt1").0;
    assert_eq!(words(&bench.actions()), [format!("freeze at {source}"), "Freeze:rt1".into()]);
}

#[test]
fn a_connection_that_ends_or_is_elsewhere_while_an_application_thinks_is_offered_no_longer() {
    for (stack, message, gone) in [
        ("rt1", termconn(&[here()]), true),
        ("t2", termconn(&[here()]), false),
        ("t2", newconn(false, false, &[here()]), true),
        ("rt1", newconn(true, true, &[here()]), false),
    ] {
        let mut bench = cluster();
        let about = offered(&mut bench, "t1");
        bench.message(stack, message).unwrap();
        let words = words(&bench.actions());
        assert!(words[0].starts_with("Termconn") || words[0].starts_with("Newconn"), "it counts: {words:?}");
        assert_eq!(words.iter().any(|word| word == "Abort:t1"), gone, "{words:?}");
        assert_eq!(bench.stack.under_way(&here()).is_none(), gone);
        assert_eq!(bench.stack.transfer_counts().stayed.get(&Reason::Ended), gone.then_some(&1));
        say(&mut bench, "t1", FromTarget::Agreed(Agreed { about })).unwrap();
        let froze = bench.actions().iter().any(|action| matches!(action, Action::Freeze { .. }));
        assert_eq!(froze, !gone, "a late agreement is harmless");
    }
}

#[test]
fn a_server_without_a_control_socket_is_handed_the_connection_from_its_first_unread_byte_on() {
    let mut bench = cluster();
    let about = prepared(&mut bench, "t2");
    let actions = bench.actions();
    let [Action::HandOver { connection, to, handoff }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((*connection, *to), (here(), index(&bench, "t2")));
    assert_eq!((handoff.option.start, handoff.option.token), (77, token()));
    let thaw = format!("thaw to {}", to.0);
    assert_eq!(active(&mut bench, "t2", about, Way::Inject), [thaw, "Released:rt1".into()]);
    done(&mut bench, about, Held::Gone);
    assert_eq!(bench.stack.transfer_counts().moved.get(&Way::Inject), Some(&1));
}

#[test]
fn a_connection_whose_clients_next_request_waits_is_made_by_that_and_the_second_time_by_an_own_packet() {
    let mut bench = cluster();
    let (from, to) = (index(&bench, "rt1"), index(&bench, "t2"));
    bench
        .handle(Event::Reselect(vec![Wanted { connection: here(), from, to, start: 77, acknowledged: 0 }]))
        .unwrap();
    prepared(&mut bench, "t2");
    let is_made_by_it = |bench: &mut Bench| {
        let all = bench.actions();
        let mut handoffs = all.iter().filter_map(|action| match action {
            Action::HandOver { handoff, .. } => Some(handoff.request_waits),
            _ => None,
        });
        handoffs.next()
    };
    assert_eq!(is_made_by_it(&mut bench), Some(true));
    let again = (0..100).find_map(|_| {
        bench.wait(std::time::Duration::from_millis(100));
        is_made_by_it(&mut bench)
    });
    assert_eq!(again, Some(false));
}

#[test]
fn a_forwarder_that_cannot_hand_over_gives_the_connection_back() {
    let mut bench = cluster();
    let about = prepared(&mut bench, "t2");
    bench.actions();
    bench.handle(Event::NotHandedOver { connection: here(), said: "no".into() }).unwrap();
    let source = index(&bench, "rt1").0;
    assert_eq!(words(&bench.actions()), [format!("freeze at {source}"), "Abort:t2".into()]);
    let why = Reason::NoWay.into();
    say(&mut bench, "t2", FromTarget::Void(Void { about, ledger: Ledger(9), why })).unwrap();
    assert_eq!(words(&bench.actions()), ["Aborted:rt1"]);
    assert_eq!(done(&mut bench, about, Held::Here)[0], format!("thaw to {source}"));
    assert_eq!(bench.stack.transfer_counts().stayed.get(&Reason::NoWay), Some(&1));
}

#[test]
fn who_is_no_target_is_refused_with_the_reason() {
    let mut bench = cluster();
    assert_eq!(reason(&mut bench, prepare("t9", None, 0)), Some(Reason::NotATarget));
    assert_eq!(reason(&mut bench, prepare("t1", Some("pages"), 0)), Some(Reason::NotATarget));
    assert_eq!(reason(&mut bench, prepare("t2", None, 1)), Some(Reason::NeedsControlSocket));
    assert_eq!(reason(&mut bench, prepare("rt1", None, 0)), Some(Reason::SameStack));
    bench.stops("t2", web());
    assert_eq!(reason(&mut bench, prepare("t2", None, 0)), Some(Reason::NotATarget));
    bench.down("t1");
    assert_eq!(reason(&mut bench, prepare("t1", None, 0)), Some(Reason::TargetLost));
    assert_eq!(bench.stack.transfer_counts().stayed.get(&Reason::NotATarget), Some(&3));
    assert_eq!(bench.stack.transfer_counts().begun, 0);
}

#[test]
fn what_other_messages_say_of_a_connection_that_moves_does_not_count() {
    let mut bench = cluster();
    let about = agreed(&mut bench, "t1");
    bench.actions();
    parts(&mut bench, about);
    bench.message("rt1", termconn(&[here()])).unwrap();
    bench.message("t1", newconn(false, false, &[here()])).unwrap();
    assert_eq!(bench.actions(), []);
    bench.message("rt1", newconn(true, true, &[])).unwrap();
    let actions = bench.actions();
    let [Action::Newconn { connections, moving, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((&connections[..], &moving[..]), (&[][..], &[here()][..]));
    active(&mut bench, "t1", about, Way::Restore);
    bench.message("rt1", FromStack::After(After { number: 3 })).unwrap();
    assert!(done(&mut bench, about, Held::Gone).is_empty(), "what it said before has not come in");
    bench.message("rt1", newconn(false, false, &[here()])).unwrap();
    bench.message("rt1", FromStack::Told(Told { number: 2, since: None })).unwrap();
    bench.message("rt1", termconn(&[here()])).unwrap();
    assert_eq!(bench.actions(), [], "said before it moved, heard afterwards");
    bench.message("rt1", FromStack::Told(Told { number: 3, since: None })).unwrap();
    assert_eq!(words(&bench.actions()), ["Moved", "Settled:t1"]);
    bench.message("t1", termconn(&[here()])).unwrap();
    assert!(matches!(&bench.actions()[..], [Action::Termconn { .. }]), "it has settled");
    bench.message("rt1", newconn(false, false, &[here()])).unwrap();
    assert!(matches!(&bench.actions()[..], [Action::Newconn { .. }]), "the client uses its port again");
}

/// The source's agent does not wait for anybody where nothing has left it, and its two words come on two streams.
#[test]
fn an_end_that_is_told_before_its_transfer_is_given_up_counts_afterwards() {
    let give_up = |words_before: &[FromStack]| {
        let mut bench = cluster();
        let about = agreed(&mut bench, "t1");
        bench.actions();
        for message in words_before {
            bench.message("rt1", message.clone()).unwrap();
        }
        assert_eq!(bench.actions(), []);
        let why = Reason::NotDumped.into();
        say(&mut bench, "rt1", FromSource::Abandon(Abandon { about, why })).unwrap();
        say(&mut bench, "rt1", FromSource::Done(Done { about, held: Held::Here })).unwrap();
        let actions = bench.actions();
        actions.iter().filter(|action| matches!(action, Action::Termconn { .. })).count()
    };
    assert_eq!(give_up(&[]), 0);
    assert_eq!(give_up(&[termconn(&[here()])]), 1);
    assert_eq!(give_up(&[termconn(&[here()]), newconn(false, false, &[here()])]), 0, "another one");
}

#[test]
fn a_routing_application_is_told_the_targets_and_every_change() {
    let mut bench = cluster();
    let told = |bench: &mut Bench| -> Vec<Vec<String>> {
        let actions = bench.actions();
        let lists = actions.iter().filter_map(|action| match action {
            Action::Send { to, message: ToStack::Targets(Targets { targets, port: 80, .. }) }
                if *to == name("rt1") =>
            {
                Some(targets.iter().map(ToString::to_string).collect())
            }
            _ => None,
        });
        lists.collect()
    };
    bench.registers("t1", web(), &[(Role::Target, "images"), (Role::Target, "pages")]);
    assert_eq!(told(&mut bench), [["images@t1", "pages@t1", "listener@t2"]]);
    bench.registers("t1", web(), &[(Role::Target, "images"), (Role::Target, "pages")]);
    assert_eq!(told(&mut bench).len(), 0, "nothing new");
    bench.stops("t2", web());
    assert_eq!(told(&mut bench), [["images@t1", "pages@t1"]]);
    bench.handle(Event::Drain { stack: name("t1"), scope: super::super::Scope::All }).unwrap();
    assert_eq!(told(&mut bench), [[""; 0]]);
    bench.registers("rt1", web(), &[]);
    bench.handle(Event::Resume { stack: name("t1"), scope: super::super::Scope::All }).unwrap();
    assert_eq!(told(&mut bench).len(), 0, "nobody is registered");
    bench.registers("rt1", web(), &[(Role::Routing, "router")]);
    assert_eq!(told(&mut bench), [["images@t1", "pages@t1"]]);
}

#[test]
fn a_content_routed_port_is_offered_only_while_its_routing_application_is_there() {
    let mut bench = cluster();
    assert_eq!(bench.selectable(web()), ["rt1"]);
    let targets = bench.stack.dpt_view(bench.now).services.remove(0).targets;
    let jobs = targets.iter().map(|t| t.applications.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(jobs.collect::<Vec<_>>(), [vec!["router"], vec!["images"], vec![]]);
    bench.registers("rt1", web(), &[]);
    assert_eq!(bench.selectable(web()), [""; 0]);
    assert_eq!(bench.states(web())["rt1"], TargetState::NoRoutingApplication);
    // A target application with its listener closed is a target all the same.
    bench.stops("t1", web());
    assert_eq!(bench.states(web())["t1"], TargetState::TransferOnly);
    // Of another epoch.
    let FromStack::Applications(mut old) =
        super::super::fixture::registered(web(), &[(Role::Routing, "router")])
    else {
        panic!()
    };
    old.epoch.0 -= 1;
    let refusal = bench.message("rt1", FromStack::Applications(old)).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::OtherEpoch);
    assert_eq!(bench.selectable(web()), [""; 0]);
}

#[test]
fn an_operators_order_goes_to_the_stack_that_has_the_connection() {
    let mut bench = cluster();
    let source = index(&bench, "rt1");
    let order = |target: &str| Event::Move {
        connection: here(),
        source,
        target: name(target),
        job: None,
        quiet_ms: None,
    };
    let why = |bench: &mut Bench, target| match bench.handle(order(target)) {
        Err(Refusal::Order(OrderRefusal::NotMoved { reason, .. })) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(&mut bench, "rt1"), Reason::SameStack);
    assert!(matches!(bench.handle(order("t9")), Err(Refusal::Order(OrderRefusal::NoSuchStack(_)))));
    bench.stops("t2", web());
    assert_eq!(why(&mut bench, "t2"), Reason::NotATarget);
    bench.listens("t2", web());
    bench.actions();
    bench.handle(order("t2")).unwrap();
    assert_eq!(words(&bench.actions()), ["Move:rt1"]);
    assert_eq!(why(&mut bench, "t2"), Reason::Busy, "that order is not over");
    agreed(&mut bench, "t1");
    assert_eq!(why(&mut bench, "t1"), Reason::Busy);
}

#[test]
fn patience_has_an_end() {
    let mut bench = cluster();
    agreed(&mut bench, "t1");
    bench.actions();
    let deadline = bench.stack.next_deadline().expect("a patience");
    assert!(deadline <= bench.now + limits::PART);
    bench.wait(limits::PART);
    assert!(words(&bench.actions()).contains(&"Aborted:rt1".to_owned()));
    bench.wait(limits::THAW);
    assert_eq!(bench.stack.transfer_counts().stayed.get(&Reason::TimedOut), Some(&1));
}

#[test]
fn an_address_that_is_given_up_has_no_entry_of_what_moves() {
    let mut bench = cluster();
    agreed(&mut bench, "t1");
    bench.actions();
    let config = super::super::fixture::config("");
    bench.handle(Event::Configure(Box::new(config))).unwrap();
    let ends = |action: &Action| matches!(action, Action::End { .. });
    assert_eq!(bench.actions().iter().filter(|a| ends(a)).count(), 1);
    assert!(say(&mut bench, "rt1", prepare("t1", None, 0)).is_err());
}
