//! The table in [`super::super::peers`]'s head, and what follows for ownership: this node is `rt1`, the other routing stack `rt2`.

use std::time::Duration;

use model::codec::Address;
use model::dpt::{Duty, Refuse};
use model::message::{FromStack, Listen, Srvstat, VipaListDvipa};
use model::peer::{Accounted, Definition, Definitions, Distribute, Drain, Orders, ToPeer, Weights};
use model::route::{Match, Pattern, Route, RouteSet};
use model::{Epoch, Protocol, Service};

use super::super::fixture::{Bench, EPOCH, config, connection, dvipa, lists, name, newconn, tcp};
use super::super::ownership::FORMER;
use super::super::peers::UNHEARD;
use super::super::{Action, Event, Note, OrderRefusal, Refusal, RefusalKind, Role, SETTLES, Scope};

const OTHER: &str = "[[routing_stack]]\nname = \"rt2\"\naddress = \"198.18.0.11:7441\"\n";
const PRIMARY: &str = "[[vipadynamic.vipadefine]]\naddress = \"198.18.9.1\"\nmask = 24\n";
const WHEN_IDLE: &str =
    "[[vipadynamic.vipadefine]]\naddress = \"198.18.9.1\"\nmask = 24\nmoveable = \"whenidle\"\n";
const BACKUP: &str = "[[vipadynamic.vipabackup]]\naddress = \"198.18.9.1\"\nrank = 100\n";
const PORT_80: &str =
    "[[vipadynamic.vipadistribute]]\naddress = \"198.18.9.1\"\nports = [80]\ndestip = \"all\"\n";
/// The epoch in which `rt2` owns.
const THEIRS: Epoch = Epoch(100);

fn bench(tables: &[&str]) -> Bench {
    Bench::new(&format!("{OTHER}[[vipadynamic]]\n{}", tables.concat()))
}

fn service() -> Service {
    tcp("198.18.9.1", 80)
}

/// What `rt2` says of 198.18.9.1.
fn theirs(rank: u8, epoch: Option<Epoch>) -> Definition {
    Definition {
        address: Address(service().dvipa.address()),
        epoch: epoch.unwrap_or_default(),
        owner: epoch.is_some(),
        rank,
        prefix_bits: None,
        moveable: None,
        by_order: None,
        next: None,
        refuse: None,
        distributes: vec![Distribute {
            protocol: Protocol::Tcp,
            ports: vec![80],
            destip: Vec::new(),
            method: 0,
            weights: Weights::default(),
            content_routed: false,
            refuse: None,
            policies: Vec::new(),
            routes: None,
            rules: None,
            limits: None,
            quic: Vec::new(),
        }],
        wants: None,
    }
}

fn says(bench: &mut Bench, message: ToPeer) {
    bench.handle(Event::PeerMessage { from: name("rt2"), message }).unwrap();
}

fn defines(bench: &mut Bench, definition: Definition) {
    says(bench, ToPeer::Definitions(Definitions { dvipas: vec![definition], ..Definitions::default() }));
}

/// `rt2` is heard, and says this.
fn heard(bench: &mut Bench, definition: Definition) {
    bench.handle(Event::PeerUp { stack: name("rt2") }).unwrap();
    defines(bench, definition);
}

/// `rt2` knows the connections of these stacks.
fn knows(bench: &mut Bench, stacks: &[&str]) {
    let stacks = stacks.iter().map(|stack| name(stack)).collect();
    says(bench, ToPeer::Accounted(Accounted { stacks }));
}

fn dies(bench: &mut Bench) {
    bench.handle(Event::PeerDown { stack: name("rt2") }).unwrap();
}

fn duty(bench: &mut Bench) -> (Vec<Action>, Option<Duty>) {
    let actions = bench.actions();
    let entry = bench.stack.dpt().dvipas.iter().find(|entry| entry.dvipa == service().dvipa);
    (actions, entry.map(|entry| entry.duty))
}

fn owns(bench: &mut Bench) -> bool {
    duty(bench).1 == Some(Duty::Owner)
}

fn announces(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Announce { .. }))
}

/// `t1` is up, has given its account, and reports a listen in this epoch.
fn target(bench: &mut Bench, epoch: Epoch) {
    bench.up("t1");
    let listens = vec![Listen { protocol: Protocol::Tcp, port: 80, listening: true }];
    let dvipa = Address(service().dvipa.address());
    bench.message("t1", FromStack::Srvstat(Srvstat { dvipa, epoch, complete: true, listens })).unwrap();
    bench.message("t1", newconn(true, true, &[connection(1, "198.18.9.1:80")])).unwrap();
}

/// What `rt2` is told of 198.18.9.1 among these actions, the last time.
fn told(actions: &[Action]) -> Option<Definition> {
    let told = |action: &Action| match action {
        Action::Tell { message: ToPeer::Definitions(said), .. } => said.dvipas.first().cloned(),
        _ => None,
    };
    actions.iter().filter_map(told).next_back()
}

/// What stacks are told of it, the last time.
fn listed(actions: &[Action]) -> Option<VipaListDvipa> {
    lists(actions).into_iter().filter_map(|(_, list)| list.dvipas.into_iter().next()).next_back()
}

#[test]
fn a_primary_alone_owns_at_once_and_one_with_peers_waits_until_they_are_heard() {
    assert!(owns(&mut Bench::new(&format!("[[vipadynamic]]\n{PRIMARY}"))));
    let mut bench = bench(&[PRIMARY, PORT_80]);
    assert!(!owns(&mut bench), "rt2 may own it");
    heard(&mut bench, theirs(100, None));
    let (actions, duty) = duty(&mut bench);
    assert_eq!((duty, announces(&actions)), (Some(Duty::Owner), true));
}

#[test]
fn peers_that_are_not_heard_for_long_enough_after_the_start_are_dead() {
    let mut primary = bench(&[PRIMARY, PORT_80]);
    primary.wait(UNHEARD - Duration::from_millis(1));
    assert!(!owns(&mut primary));
    primary.wait(Duration::from_millis(1));
    assert!(owns(&mut primary));
    let mut backup = bench(&[BACKUP, PORT_80]);
    backup.wait(UNHEARD);
    assert!(owns(&mut backup), "the primary is dead");
}

#[test]
fn a_peer_whose_session_has_begun_is_waited_for_until_it_says_what_it_owns() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    bench.handle(Event::PeerUp { stack: name("rt2") }).unwrap();
    bench.wait(UNHEARD);
    assert!(!owns(&mut bench));
    defines(&mut bench, theirs(100, None));
    assert!(owns(&mut bench));
}

#[test]
fn a_backup_is_warm_with_the_primarys_distribution_and_takes_over_at_once() {
    let mut bench = bench(&[BACKUP]);
    heard(&mut bench, theirs(255, Some(THEIRS)));
    target(&mut bench, Epoch(0));
    let (actions, now) = duty(&mut bench);
    assert_eq!(now, Some(Duty::Backup));
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Newconn { connections, .. } if connections.len() == 1))
    );
    assert!(!announces(&actions));
    assert_eq!(listed(&actions).map(|d| (d.owner, d.rank, d.distributions.len())), Some((false, 100, 1)));
    assert_eq!(bench.selectable(service()), ["t1"], "warm");
    dies(&mut bench);
    let (actions, now) = duty(&mut bench);
    assert_eq!((now, announces(&actions)), (Some(Duty::Owner), true));
    let entry = listed(&actions).unwrap();
    assert_eq!((entry.owner, entry.epoch, entry.forwards), (true, Epoch(THEIRS.0 + 1), None));
    assert_eq!(bench.selectable(service()), ["t1"], "what was reported to the backup holds");
}

#[test]
fn a_backup_that_does_not_know_what_is_distributed_refuses_nothing() {
    let mut bench = bench(&[BACKUP]);
    bench.handle(Event::PeerUp { stack: name("rt2") }).unwrap();
    says(&mut bench, ToPeer::Definitions(Definitions::default()));
    bench.wait(SETTLES);
    let (actions, now) = duty(&mut bench);
    assert_eq!(now, Some(Duty::Owner), "nobody else has it");
    assert!(actions.iter().any(|action| matches!(action, Action::Note(Note::Unheard { .. }))));
    let stands = |bench: &Bench| {
        let entry = &bench.stack.dpt().dvipas[0];
        (entry.refuse, entry.ask.certain)
    };
    assert_eq!(stands(&bench), (Refuse::Silent, false));
    // Its primary comes, which distributes nothing.
    defines(&mut bench, Definition { distributes: Vec::new(), ..theirs(255, None) });
    bench.actions();
    assert_eq!(stands(&bench), (Refuse::Reset, true));
}

#[test]
fn a_backups_own_distribution_comes_before_the_primarys() {
    let own = PORT_80.replace("80", "81");
    let mut bench = bench(&[BACKUP, &own]);
    heard(&mut bench, theirs(255, Some(THEIRS)));
    bench.actions();
    let ports: Vec<u16> = bench.stack.dpt().distributions.iter().map(|d| d.port).collect();
    assert_eq!(ports, [81]);
}

#[test]
fn a_backup_distributes_by_the_primarys_routes_and_not_by_routes_that_it_can_not_read() {
    let route = |path: &str| {
        let subject = Some(Pattern::RegularExpression(path.to_owned()));
        Route { name: "a".into(), matches: vec![Match { subject, ..Match::default() }], ..Route::default() }
    };
    for (path, ports) in [("/a+", vec![80]), ("/(", vec![])] {
        let mut bench = bench(&[BACKUP]);
        let set = RouteSet { routes: vec![route(path)], ..RouteSet::default() };
        let mut definition = theirs(255, Some(THEIRS));
        definition.distributes[0].routes = Some(set.clone());
        heard(&mut bench, definition);
        bench.actions();
        let rows = bench.stack.dpt().distributions.clone();
        assert_eq!(rows.iter().map(|row| row.port).collect::<Vec<u16>>(), ports, "{path}");
        assert!(rows.iter().all(|row| row.routing.as_ref().is_some_and(|routing| *routing.set == set)));
    }
}

#[test]
fn the_primary_takes_back_when_it_knows_what_the_owner_knows() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    heard(&mut bench, theirs(100, Some(THEIRS)));
    assert!(!owns(&mut bench), "it has not said what it knows");
    knows(&mut bench, &["t1"]);
    assert!(!owns(&mut bench), "cold");
    target(&mut bench, Epoch(0));
    let (actions, now) = duty(&mut bench);
    assert_eq!(now, Some(Duty::Owner));
    assert_eq!(told(&actions).map(|d| (d.owner, d.epoch)), Some((true, Epoch(THEIRS.0 + 1))));
}

#[test]
fn the_primary_does_not_wait_for_ever_for_what_the_owner_knows() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    heard(&mut bench, theirs(100, Some(THEIRS)));
    knows(&mut bench, &["t1"]);
    bench.wait(SETTLES);
    assert!(owns(&mut bench));
}

#[test]
fn one_that_hears_of_a_later_epoch_forwards_for_a_while_and_answers_no_longer() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    heard(&mut bench, theirs(100, None));
    target(&mut bench, EPOCH);
    assert!(owns(&mut bench));
    let later = Definition { by_order: Some(true), ..theirs(100, Some(Epoch(EPOCH.0 + 1))) };
    defines(&mut bench, later);
    let (actions, now) = duty(&mut bench);
    assert_eq!(now, Some(Duty::Former));
    let entry = listed(&actions).unwrap();
    assert_eq!((entry.owner, entry.epoch, entry.forwards), (false, Epoch(0), Some(true)));
    assert_eq!(bench.selectable(service()), ["t1"], "warm");
    bench.wait(FORMER);
    let (actions, now) = duty(&mut bench);
    assert_eq!(now, Some(Duty::Backup));
    assert_eq!(listed(&actions).unwrap().forwards, None);
}

#[test]
fn drains_of_a_dead_owner_hold_on_for_its_dvipa_only() {
    let mut bench = bench(&[BACKUP]);
    heard(&mut bench, theirs(255, Some(THEIRS)));
    target(&mut bench, Epoch(0));
    let drain = Drain { stack: name("t1"), dvipa: None, port: None, protocol: None };
    says(&mut bench, ToPeer::Orders(Orders { drains: vec![drain], weights: Vec::new() }));
    assert_eq!(bench.selectable(service()), ["t1"], "the owner's affair so far");
    dies(&mut bench);
    assert!(bench.selectable(service()).is_empty());
    bench.handle(Event::Resume { stack: name("t1"), scope: Scope::Dvipa(service().dvipa) }).unwrap();
    assert_eq!(bench.selectable(service()), ["t1"]);
}

#[test]
fn the_highest_epoch_that_a_peer_names_is_one_to_be_kept() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    assert!(bench.stack.highest_epoch() < THEIRS);
    heard(&mut bench, theirs(100, Some(THEIRS)));
    assert!(bench.stack.highest_epoch() >= THEIRS);
}

#[test]
fn peers_are_told_what_is_ordered() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    heard(&mut bench, theirs(100, None));
    bench.up("t1");
    bench.actions();
    bench.handle(Event::Drain { stack: name("t1"), scope: Scope::All }).unwrap();
    let is_told = |action: &Action| matches!(action, Action::Tell { message: ToPeer::Orders(o), .. } if o.drains.len() == 1);
    assert!(bench.actions().iter().any(is_told));
}

#[test]
fn a_dvipa_moves_by_order_to_a_stack_that_can_take_it() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    heard(&mut bench, theirs(100, None));
    bench.actions();
    let to = |stack| Event::MoveDvipa { dvipa: service().dvipa, to: name(stack) };
    let refused = bench.handle(to("rt9")).unwrap_err();
    assert!(matches!(refused, Refusal::Order(OrderRefusal::NotABackup { .. })), "{refused}");
    bench.handle(to("rt2")).unwrap();
    assert_eq!(told(&bench.actions()).unwrap().next, Some(name("rt2")));
    assert!(owns(&mut bench), "until rt2 does");
    defines(&mut bench, Definition { by_order: Some(true), ..theirs(100, Some(Epoch(EPOCH.0 + 1))) });
    assert!(!owns(&mut bench), "and does not take it back");
    let refused = bench.handle(to("rt2")).unwrap_err();
    assert!(refused.to_string().contains("but by rt2"), "{refused}");
}

#[test]
fn one_that_was_named_by_the_owner_owns_by_order() {
    let mut bench = bench(&[BACKUP]);
    heard(&mut bench, Definition { next: Some(name("rt1")), ..theirs(255, Some(THEIRS)) });
    knows(&mut bench, &[]);
    let told = told(&bench.actions()).unwrap();
    assert_eq!((told.owner, told.by_order), (true, Some(true)));
}

#[test]
fn one_that_leaves_gives_away_what_another_can_take() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    heard(&mut bench, theirs(100, None));
    bench.handle(Event::Leave(true)).unwrap();
    let is_told = |action: &Action| matches!(action, Action::Tell { message: ToPeer::Definitions(said), .. } if said.leaving == Some(true));
    assert!(bench.actions().iter().any(is_told));
    assert!(owns(&mut bench), "until rt2 does");
    defines(&mut bench, theirs(100, Some(Epoch(EPOCH.0 + 1))));
    assert!(!owns(&mut bench), "a primary that leaves does not take back");
    knows(&mut bench, &[]);
    assert!(!owns(&mut bench));
    bench.handle(Event::Leave(false)).unwrap();
    assert!(owns(&mut bench));
}

#[test]
fn when_idle_the_primary_takes_back_only_what_has_no_connection() {
    let mut bench = bench(&[WHEN_IDLE, PORT_80]);
    heard(&mut bench, theirs(100, Some(THEIRS)));
    knows(&mut bench, &[]);
    let counts = |actions: Vec<Action>| actions.iter().any(|action| matches!(action, Action::Count { .. }));
    bench.stack.tick(bench.now);
    assert!(counts(bench.actions()));
    bench.handle(Event::Counted { dvipa: service().dvipa, connections: 1 }).unwrap();
    assert!(!owns(&mut bench));
    bench.wait(Duration::from_secs(1));
    assert!(counts(bench.actions()), "again and again");
    bench.handle(Event::Counted { dvipa: service().dvipa, connections: 0 }).unwrap();
    assert!(owns(&mut bench));
}

#[test]
fn two_primaries_are_noted_once_with_both_names_and_shown() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    heard(&mut bench, theirs(255, None));
    let both = vec![name("rt1"), name("rt2")];
    let note = Note::Contradiction { dvipa: service().dvipa, rank: 255, stacks: both.clone() };
    let notes = |actions: Vec<Action>| actions.iter().filter(|a| **a == Action::Note(note.clone())).count();
    assert_eq!(notes(bench.actions()), 1);
    assert_eq!(bench.stack.vipa_view().dvipas[0].contradiction, both);
    defines(&mut bench, theirs(255, None));
    assert_eq!(notes(bench.actions()), 0, "no news");
    defines(&mut bench, theirs(100, None));
    assert!(bench.stack.vipa_view().dvipas[0].contradiction.is_empty());
}

#[test]
fn a_stack_that_is_not_named_is_no_peer() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    let up = bench.handle(Event::PeerUp { stack: name("t1") }).unwrap_err();
    assert_eq!(up.kind(), RefusalKind::UnknownRoutingStack);
    let message = ToPeer::Definitions(Definitions {
        dvipas: vec![theirs(255, Some(THEIRS))],
        ..Definitions::default()
    });
    let said = bench.handle(Event::PeerMessage { from: name("rt2"), message }).unwrap_err();
    assert_eq!(said.kind(), RefusalKind::UnknownRoutingStack, "without a session");
}

#[test]
fn a_reload_that_makes_a_primary_of_an_owning_backup_changes_no_owner() {
    let mut bench = bench(&[BACKUP, PORT_80]);
    heard(&mut bench, theirs(200, None));
    dies(&mut bench);
    assert!(owns(&mut bench));
    let epoch = bench.stack.vipa_view().dvipas[0].epoch;
    let text = format!("{OTHER}[[vipadynamic]]\n{PRIMARY}{PORT_80}");
    bench.handle(Event::Configure(Box::new(config(&text)))).unwrap();
    bench.actions();
    let view = &bench.stack.vipa_view().dvipas[0];
    assert_eq!((view.dvipa, view.role, view.epoch), (dvipa("198.18.9.1"), Role::Owner, epoch));
}

#[test]
fn a_primary_that_yields_to_a_later_epoch_takes_back_in_one_that_is_later_still() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    heard(&mut bench, theirs(100, None));
    knows(&mut bench, &[]);
    assert!(owns(&mut bench));
    defines(&mut bench, theirs(100, Some(Epoch(EPOCH.0 + 1))));
    let told: Vec<(bool, Epoch)> = bench
        .actions()
        .iter()
        .filter_map(|action| told(std::slice::from_ref(action)))
        .map(|said| (said.owner, said.epoch))
        .collect();
    assert_eq!(told, [(false, Epoch(0)), (true, Epoch(EPOCH.0 + 2))]);
    assert!(owns(&mut bench));
}

#[test]
fn a_backup_to_which_no_other_is_named_owns_nothing() {
    let mut bench = Bench::new(&format!("[[vipadynamic]]\n{BACKUP}{PORT_80}"));
    bench.wait(SETTLES);
    assert!(!owns(&mut bench));
}

#[test]
fn an_epoch_that_leaves_none_for_others_is_refused_with_the_peers_name() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    heard(&mut bench, theirs(100, None));
    assert!(owns(&mut bench));
    let definition = theirs(100, Some(Epoch(u64::MAX)));
    let message = ToPeer::Definitions(Definitions { dvipas: vec![definition], ..Definitions::default() });
    let refused = bench.handle(Event::PeerMessage { from: name("rt2"), message }).unwrap_err();
    assert_eq!((refused.kind(), refused.from()), (RefusalKind::EpochTooHigh, Some(&name("rt2"))));
    assert!(owns(&mut bench), "nobody can own it in such an epoch");
}

#[test]
fn a_list_that_is_longer_than_a_message_comes_in_parts_and_counts_as_a_whole() {
    let names: Vec<String> = (0..40).map(|at| format!("\"a-long-name-of-a-stack-{at}\"")).collect();
    let dvipa = |at: usize| format!("198.18.{}.{}", 8 + at / 250, 1 + at % 250);
    let tables = |at: usize| {
        let (dvipa, names) = (dvipa(at), names.join(", "));
        format!(
            "[[vipadynamic.vipadefine]]\naddress = \"{dvipa}\"\nmask = 24\n[[vipadynamic.vipadistribute]]\naddress = \"{dvipa}\"\nports = [80]\ndestip = [{names}]\n"
        )
    };
    let all: Vec<String> = (0..1000).map(tables).collect();
    let mut one = bench(&all.iter().map(String::as_str).collect::<Vec<_>>());
    one.handle(Event::PeerUp { stack: name("rt2") }).unwrap();
    let said: Vec<Definitions> = one
        .actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::Tell { message: ToPeer::Definitions(said), .. } => Some(said),
            _ => None,
        })
        .collect();
    assert!(said.len() > 1 && said.iter().all(|part| part.dvipas.len() < 1000), "{} parts", said.len());
    let (last, before) = said.split_last().unwrap();
    assert!(last.more.is_none() && before.iter().all(|part| part.more == Some(true)));
    assert_eq!(said.iter().map(|part| part.dvipas.len()).sum::<usize>(), 1000);
    // And the other side: nothing is in force before the last part.
    let mut other = bench(&[&format!("[[vipadynamic.vipabackup]]\naddress = \"{}\"\nrank = 1\n", dvipa(0))]);
    other.handle(Event::PeerUp { stack: name("rt2") }).unwrap();
    other.wait(UNHEARD);
    for part in before {
        says(&mut other, ToPeer::Definitions(part.clone()));
        assert!(other.stack.dpt().distributions.is_empty());
    }
    says(&mut other, ToPeer::Definitions(last.clone()));
    other.actions();
    assert_eq!(other.stack.dpt().distributions.len(), 1, "the primary's");
}

#[test]
fn a_peer_that_asks_other_witnesses_is_noted_once_and_shown() {
    let mut bench = bench(&[PRIMARY, PORT_80]);
    heard(&mut bench, theirs(100, None));
    let others = |witnesses: &[&str]| {
        let witnesses = Some(witnesses.iter().map(|witness| name(witness)).collect());
        let dvipas = vec![theirs(100, None)];
        ToPeer::Definitions(Definitions { dvipas, witnesses, lease_ms: Some(600), ..Definitions::default() })
    };
    let notes = |bench: &mut Bench| {
        let is_note = |action: &Action| matches!(action, Action::Note(Note::OtherWitnesses { .. }));
        bench.actions().iter().filter(|action| is_note(action)).count()
    };
    says(&mut bench, others(&["t1", "t2", "t3"]));
    assert_eq!(notes(&mut bench), 1);
    let shown = bench.stack.vipa_view().other_witnesses;
    assert_eq!(
        shown.iter().map(|other| (&other.stack, other.witnesses.len())).collect::<Vec<_>>(),
        [(&name("rt2"), 3)]
    );
    says(&mut bench, others(&["t1", "t2", "t3"]));
    assert_eq!(notes(&mut bench), 0, "no news");
    says(&mut bench, others(&[]));
    assert!(bench.stack.vipa_view().other_witnesses.is_empty());
}

#[test]
fn a_reload_names_others_and_forgets_them() {
    let mut bench = bench(&[BACKUP, PORT_80]);
    heard(&mut bench, theirs(255, Some(THEIRS)));
    let third = OTHER.replace("rt2", "rt3").replace(".11", ".12");
    let reload = |bench: &mut Bench, others: &str| {
        let text = format!("{others}[[vipadynamic]]\n{BACKUP}{PORT_80}");
        bench.handle(Event::Configure(Box::new(config(&text)))).unwrap();
    };
    reload(&mut bench, &format!("{OTHER}{third}"));
    bench.handle(Event::PeerUp { stack: name("rt3") }).unwrap();
    assert!(!owns(&mut bench), "rt2 does");
    reload(&mut bench, &third);
    assert!(!owns(&mut bench), "rt3 may");
    bench.handle(Event::PeerDown { stack: name("rt3") }).unwrap();
    assert!(owns(&mut bench), "rt2 is none of the cluster any more");
    let said = bench.handle(Event::PeerUp { stack: name("rt2") }).unwrap_err();
    assert_eq!(said.kind(), RefusalKind::UnknownRoutingStack);
}
