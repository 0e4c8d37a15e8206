//! The table in [`super::super::ranges`]'s head.

use std::time::Duration;

use model::codec::Address;
use model::dpt::Duty;
use model::message::{FromStack, Listen, Srvstat, ToStack, VipaListDvipa};
use model::peer::{Definition, Definitions, ToPeer};
use model::ranges::{Activate, Bound, BoundAddress, MAX_ADDRESSES, Ranges, Turn};
use model::{Dvipa, Protocol, StackName};

use super::super::fixture::{Bench, config, connection, dvipa, lists, name, newconn, tcp};
use super::super::ranges::RELIEVED;
use super::super::{Action, ActiveState, ActiveView, Event, OrderRefusal, Refusal, RefusalKind};

const RANGE: &str = "[[vipadynamic]]\n[[vipadynamic.viparange]]\naddress = \"198.18.10.0\"\nmask = 24\n";
const ADDRESS: &str = "198.18.10.5";
const DEFINED: &str = "[[vipadynamic.vipadefine]]\naddress = \"198.18.10.5\"\nmask = 24\n\
                       [[vipadynamic.vipadistribute]]\naddress = \"198.18.10.5\"\nports = [80]\ndestip = [\"t3\"]\n";

/// Three stacks are here.
fn bench(tables: &str) -> Bench {
    let mut bench = Bench::new(tables);
    ["t1", "t2", "t3"].iter().for_each(|stack| bench.up(stack));
    bench.actions();
    bench
}

fn claims(bench: &mut Bench, stack: &str, all: &[(&str, u64, bool)]) -> Result<(), Refusal> {
    let claim = |(address, turn, ordered): &(&str, u64, bool)| BoundAddress {
        address: Address(address.parse().unwrap()),
        turn: Turn(*turn),
        ordered: *ordered,
    };
    bench.message(stack, FromStack::Bound(Bound { addresses: all.iter().map(claim).collect() }))
}

/// The stack claims the address since this turn, and no other.
fn binds(bench: &mut Bench, stack: &str, turn: u64) {
    claims(bench, stack, &[(ADDRESS, turn, false)]).unwrap();
}

/// Its agent has answered the list: port 80 listens.
fn listens(bench: &mut Bench, stack: &str) -> Result<(), Refusal> {
    let actions = bench.actions();
    let known = bench.stack.dpt().dvipas.iter().any(|entry| entry.dvipa == dvipa(ADDRESS));
    assert!(known, "{actions:?}");
    let epoch = bench.stack.vipa_view().dvipas.iter().find(|d| d.dvipa == dvipa(ADDRESS)).unwrap().epoch;
    let listens = vec![Listen { protocol: Protocol::Tcp, port: 80, listening: true }];
    let dvipa = Address(ADDRESS.parse().unwrap());
    bench.message(stack, FromStack::Srvstat(Srvstat { dvipa, epoch, complete: true, listens }))
}

fn active(bench: &Bench) -> Vec<ActiveView> {
    bench.stack.vipa_view().ranges.into_iter().flat_map(|range| range.active).collect()
}

/// Who has the address, and how it is with it.
fn holder(bench: &Bench) -> Option<(String, ActiveState)> {
    let of_it = active(bench).into_iter().find(|active| active.address == dvipa(ADDRESS));
    of_it.map(|active| (active.stack.to_string(), active.state))
}

fn at(stack: &str, state: ActiveState) -> Option<(String, ActiveState)> {
    Some((stack.to_owned(), state))
}

fn selectable(bench: &mut Bench) -> Vec<String> {
    bench.selectable(tcp(ADDRESS, 80))
}

fn duty(bench: &mut Bench) -> Option<Duty> {
    bench.actions();
    bench.stack.dpt().dvipas.iter().find(|entry| entry.dvipa == dvipa(ADDRESS)).map(|entry| entry.duty)
}

/// What `stack` is told of ranges among these actions, the last time.
fn told(actions: &[Action], stack: &str) -> Option<Ranges> {
    let told = |action: &Action| match action {
        Action::Send { to, message: ToStack::Ranges(ranges) } if *to == name(stack) => Some(ranges.clone()),
        _ => None,
    };
    actions.iter().filter_map(told).next_back()
}

fn counted(bench: &mut Bench, connections: &[(&str, u64)]) {
    let index = |stack: &str| bench.stack.stack_index(&name(stack)).unwrap();
    let connections = connections.iter().map(|(stack, count)| (index(stack), *count)).collect();
    bench.handle(Event::CountedStacks { dvipa: dvipa(ADDRESS), connections }).unwrap();
}

#[test]
fn stacks_are_told_of_ranges_before_the_list_and_where_addresses_are_active() {
    let mut bench = Bench::new(RANGE);
    bench.up("t1");
    let actions = bench.actions();
    let kinds = actions.iter().filter_map(|action| match action {
        Action::Send { message: ToStack::Ranges(_), .. } => Some("ranges"),
        Action::Send { message: ToStack::VipaList(_), .. } => Some("list"),
        _ => None,
    });
    assert_eq!(kinds.collect::<Vec<_>>(), ["ranges", "list"]);
    let said = told(&actions, "t1").unwrap();
    assert_eq!((said.ranges.len(), said.ranges[0].prefix_bits, said.active.len()), (1, 24, 0));
    binds(&mut bench, "t1", 3);
    let said = told(&bench.actions(), "t1").unwrap();
    assert_eq!((said.active[0].stack.as_str(), said.active[0].turn), ("t1", Turn(3)));
    binds(&mut bench, "t1", 3);
    assert_eq!(told(&bench.actions(), "t1"), None, "nothing new");
    let mut without = Bench::new("[[vipadynamic]]\n");
    without.up("t1");
    assert_eq!(told(&without.actions(), "t1"), None);
}

#[test]
fn a_bind_makes_the_address_a_dvipa_of_its_stack() {
    let mut bench = bench(RANGE);
    binds(&mut bench, "t1", 1);
    let actions = bench.actions();
    assert!(actions.contains(&Action::Announce { dvipa: dvipa(ADDRESS) }), "{actions:?}");
    let list = lists(&actions).into_iter().find(|(to, _)| to == "t1").unwrap().1;
    let entry: &VipaListDvipa = &list.dvipas[0];
    assert!(entry.owner && entry.distributions.iter().all(|d| d.ports.is_empty() && d.candidates == ["t1"]));
    assert_eq!(
        entry.distributions.iter().map(|d| d.protocol).collect::<Vec<_>>(),
        [Protocol::Tcp, Protocol::Udp]
    );
    listens(&mut bench, "t1").unwrap();
    assert_eq!(selectable(&mut bench), ["t1"]);
    assert_eq!(holder(&bench), at("t1", ActiveState::Active));
}

#[test]
fn a_later_bind_has_it_at_once_and_the_former_stack_takes_clients_until_it_listens() {
    let mut bench = bench(RANGE);
    binds(&mut bench, "t1", 1);
    listens(&mut bench, "t1").unwrap();
    binds(&mut bench, "t2", 2);
    assert_eq!(selectable(&mut bench), ["t1"], "as long as t2 has not answered");
    listens(&mut bench, "t2").unwrap();
    assert_eq!(selectable(&mut bench), ["t2"]);
    counted(&mut bench, &[("t1", 2), ("t2", 5)]);
    assert_eq!(holder(&bench), at("t2", ActiveState::Moving));
    let former =
        active(&bench)[0].former.iter().map(|f| (f.stack.to_string(), f.connections)).collect::<Vec<_>>();
    assert_eq!(former, [("t1".to_owned(), 2)]);
    // What is at the former stack, and at one that never had it, is known.
    for stack in ["t1", "t3"] {
        bench.message(stack, newconn(true, true, &[connection(1, "198.18.10.5:80")])).unwrap();
        let actions = bench.actions();
        let kept = actions
            .iter()
            .any(|a| matches!(a, Action::Newconn { connections, .. } if connections.len() == 1));
        assert!(kept, "{actions:?}");
    }
    binds(&mut bench, "t3", 3);
    listens(&mut bench, "t3").unwrap();
    assert_eq!(selectable(&mut bench), ["t3"]);
    counted(&mut bench, &[("t3", 1)]);
    assert_eq!(holder(&bench), at("t3", ActiveState::Active));
}

#[test]
fn a_stack_that_reports_no_listener_relieves_the_former_one_after_a_time() {
    let mut bench = bench(RANGE);
    binds(&mut bench, "t1", 1);
    listens(&mut bench, "t1").unwrap();
    binds(&mut bench, "t2", 2);
    bench.wait(Duration::ZERO);
    assert_eq!(selectable(&mut bench), ["t1"]);
    assert!(bench.stack.next_deadline().unwrap() <= bench.now + RELIEVED);
    bench.wait(RELIEVED);
    assert_eq!(selectable(&mut bench), Vec::<String>::new());
}

#[test]
fn a_late_or_repeated_claim_does_not_move_it_back() {
    let mut bench = bench(RANGE);
    binds(&mut bench, "t2", 2);
    listens(&mut bench, "t2").unwrap();
    binds(&mut bench, "t1", 1);
    assert_eq!(
        (holder(&bench), selectable(&mut bench)),
        (at("t2", ActiveState::Active), vec!["t2".to_owned()])
    );
    // The sessions begin anew, in whichever order, and their agents say the same again.
    for stack in ["t2", "t1"] {
        bench.down(stack);
        assert_eq!(holder(&bench), at("t2", ActiveState::Active), "its host may serve on");
    }
    bench.up("t1");
    binds(&mut bench, "t1", 1);
    bench.up("t2");
    assert_eq!(holder(&bench), at("t2", ActiveState::Active));
    binds(&mut bench, "t2", 2);
    assert_eq!(holder(&bench), at("t2", ActiveState::Active));
    // Two that could not know of each other: all routing stacks choose the same one.
    claims(&mut bench, "t3", &[(ADDRESS, 2, false)]).unwrap();
    assert_eq!(holder(&bench), at("t2", ActiveState::Active));
}

#[test]
fn the_end_of_the_application_gives_it_to_the_one_that_waits_and_the_last_end_to_nobody() {
    let mut bench = bench(RANGE);
    binds(&mut bench, "t1", 1);
    binds(&mut bench, "t2", 2);
    listens(&mut bench, "t2").unwrap();
    claims(&mut bench, "t2", &[]).unwrap();
    listens(&mut bench, "t1").unwrap();
    assert_eq!(
        (holder(&bench), selectable(&mut bench)),
        (at("t1", ActiveState::Active), vec!["t1".to_owned()])
    );
    claims(&mut bench, "t1", &[]).unwrap();
    assert_eq!(holder(&bench), at("t1", ActiveState::Ending));
    bench.wait(Duration::from_secs(1));
    let actions = bench.actions();
    assert!(actions.contains(&Action::CountStacks { dvipa: dvipa(ADDRESS) }), "{actions:?}");
    counted(&mut bench, &[("t2", 1)]);
    assert_eq!(duty(&mut bench), Some(Duty::Owner), "its connections go on");
    counted(&mut bench, &[]);
    assert_eq!((holder(&bench), duty(&mut bench)), (None, None));
    binds(&mut bench, "t3", 1);
    assert_eq!((holder(&bench), duty(&mut bench)), (at("t3", ActiveState::Active), Some(Duty::Owner)));
}

#[test]
fn a_host_that_is_dead_has_no_address_any_more() {
    let mut bench = bench(RANGE);
    binds(&mut bench, "t1", 1);
    binds(&mut bench, "t2", 2);
    bench.down("t2");
    let dead = bench.stack.stack_index(&name("t2")).unwrap();
    bench.handle(Event::SilentHosts(vec![dead])).unwrap();
    bench.actions();
    assert_eq!(holder(&bench), at("t1", ActiveState::Active));
}

#[test]
fn a_vipadefine_takes_the_address_and_its_end_gives_it_back() {
    let mut bench = bench(RANGE);
    binds(&mut bench, "t1", 1);
    listens(&mut bench, "t1").unwrap();
    let before = duty(&mut bench);
    bench.handle(Event::Configure(Box::new(config(&format!("{RANGE}{DEFINED}"))))).unwrap();
    assert_eq!((before, duty(&mut bench)), (Some(Duty::Owner), Some(Duty::Owner)));
    assert_eq!(holder(&bench), at("t1", ActiveState::Defined));
    listens(&mut bench, "t3").unwrap();
    assert_eq!(selectable(&mut bench), ["t3"]);
    binds(&mut bench, "t2", 2);
    assert_eq!(selectable(&mut bench), ["t3"]);
    assert_eq!(told(&bench.actions(), "t1").map(|said| said.active), None, "it is out of the range");
    bench.message("t1", newconn(true, true, &[connection(1, "198.18.10.5:80")])).unwrap();
    bench.handle(Event::Configure(Box::new(config(RANGE)))).unwrap();
    assert_eq!(holder(&bench), at("t2", ActiveState::Active));
    listens(&mut bench, "t2").unwrap();
    assert_eq!(selectable(&mut bench), ["t2"]);
    bench.handle(Event::Configure(Box::new(config("[[vipadynamic]]\n")))).unwrap();
    assert_eq!((duty(&mut bench), active(&bench)), (None, vec![]));
}

#[test]
fn a_vipadefine_of_another_routing_stack_takes_it_while_that_lives() {
    let other = "[[routing_stack]]\nname = \"rt2\"\naddress = \"198.18.0.11:7441\"\n";
    let mut bench = bench(&format!("{other}{RANGE}"));
    let said = |definitions: Vec<Definition>| Event::PeerMessage {
        from: name("rt2"),
        message: ToPeer::Definitions(Definitions { dvipas: definitions, ..Definitions::default() }),
    };
    let definition = |moveable, epoch: u64| Definition {
        address: Address(ADDRESS.parse().unwrap()),
        epoch: model::Epoch(epoch),
        owner: epoch > 0,
        rank: 255,
        prefix_bits: Some(24),
        moveable,
        by_order: None,
        next: None,
        refuse: None,
        distributes: Vec::new(),
        wants: None,
    };
    bench.handle(Event::PeerUp { stack: name("rt2") }).unwrap();
    bench.handle(said(Vec::new())).unwrap();
    binds(&mut bench, "t1", 1);
    assert_eq!(duty(&mut bench), Some(Duty::Owner));
    let rank = |bench: &Bench| bench.stack.vipa_view().dvipas[0].rank;
    assert_eq!(rank(&bench), None);
    bench.handle(said(vec![definition(Some(2), 0)])).unwrap();
    assert_eq!(rank(&bench), None, "the other one has the range too: that is a contradiction");
    bench.handle(said(vec![definition(Some(0), 0)])).unwrap();
    assert_eq!((rank(&bench), holder(&bench)), (Some(1), at("t1", ActiveState::Defined)));
    bench.handle(said(vec![definition(Some(0), 100)])).unwrap();
    assert_eq!(duty(&mut bench), Some(Duty::Former));
    bench.handle(Event::PeerDown { stack: name("rt2") }).unwrap();
    assert_eq!((duty(&mut bench), rank(&bench)), (Some(Duty::Owner), None));
}

#[test]
fn a_backup_of_the_range_backs_up_what_is_active() {
    let other = "[[routing_stack]]\nname = \"rt2\"\naddress = \"198.18.0.11:7441\"\n";
    let mut bench = bench(&format!("{other}{RANGE}rank = 100\n"));
    binds(&mut bench, "t1", 1);
    let view = bench.stack.vipa_view();
    assert_eq!((view.dvipas[0].rank, view.ranges[0].rank), (Some(100), Some(100)));
}

#[test]
fn orders_go_to_stacks_in_a_turn_after_all_others() {
    let mut bench = bench(RANGE);
    binds(&mut bench, "t1", 4);
    let order = |stack: &str| Event::Activate { dvipa: dvipa(ADDRESS), stack: name(stack) };
    bench.handle(order("t2")).unwrap();
    let sent = |bench: &mut Bench| {
        let actions = bench.actions();
        let sent = |action: &Action| match action {
            Action::Send { to, message: ToStack::Activate(Activate { turn, active, .. }) } => {
                Some((to.to_string(), turn.0, *active))
            }
            _ => None,
        };
        actions.iter().filter_map(sent).collect::<Vec<_>>()
    };
    assert_eq!(sent(&mut bench), [("t2".to_owned(), 5, true)]);
    assert_eq!(holder(&bench), at("t1", ActiveState::Active), "until t2 claims it");
    claims(&mut bench, "t2", &[(ADDRESS, 5, true)]).unwrap();
    assert!(active(&bench)[0].ordered);
    assert_eq!(holder(&bench), at("t2", ActiveState::Active));
    bench.handle(Event::Deactivate { dvipa: dvipa(ADDRESS) }).unwrap();
    assert_eq!(sent(&mut bench), [("t2".to_owned(), 5, false)]);
    claims(&mut bench, "t2", &[]).unwrap();
    assert_eq!(holder(&bench), at("t1", ActiveState::Active));
}

#[test]
fn orders_that_can_not_be_followed_say_why() {
    let mut bench = bench(RANGE);
    let refused = |bench: &mut Bench, event: Event| match bench.handle(event) {
        Err(Refusal::Order(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let outside = dvipa("198.18.11.5");
    let activate = |dvipa: Dvipa, stack: StackName| Event::Activate { dvipa, stack };
    let inside = dvipa(ADDRESS);
    assert_eq!(refused(&mut bench, activate(outside, name("t1"))), OrderRefusal::NotInARange(outside));
    assert_eq!(refused(&mut bench, activate(inside, name("t9"))), OrderRefusal::NoSuchStack(name("t9")));
    assert_eq!(refused(&mut bench, Event::Deactivate { dvipa: inside }), OrderRefusal::NotOrdered(inside));
    bench.down("t3");
    assert_eq!(refused(&mut bench, activate(inside, name("t3"))), OrderRefusal::NotHere(name("t3")));
    bench.handle(Event::Configure(Box::new(config(&format!("{RANGE}{DEFINED}"))))).unwrap();
    assert_eq!(refused(&mut bench, activate(inside, name("t1"))), OrderRefusal::Defined(inside));
}

#[test]
fn claims_outside_of_ranges_and_beyond_the_limit_are_refused() {
    let mut bench = bench(RANGE);
    let refusal = claims(&mut bench, "t1", &[(ADDRESS, 1, false), ("198.18.11.5", 1, false)]).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::NotOurs);
    assert_eq!(holder(&bench), at("t1", ActiveState::Active), "the others count");
    let wide = RANGE.replace("mask = 24", "mask = 16").replace("198.18.10.0", "198.18.0.0");
    assert!(super::super::fixture::try_config(&wide).is_err(), "it has the node's own address in it");
    let mut bench = Bench::new(&RANGE.replace("mask = 24", "mask = 16").replace("198.18.10.0", "198.19.0.0"));
    bench.up("t1");
    let addresses: Vec<String> =
        (0..=MAX_ADDRESSES).map(|n| format!("198.19.{}.{}", n / 250, n % 250 + 1)).collect();
    let all: Vec<(&str, u64, bool)> = addresses.iter().map(|address| (address.as_str(), 1, false)).collect();
    assert_eq!(claims(&mut bench, "t1", &all).unwrap_err().kind(), RefusalKind::TooManyAddresses);
    assert_eq!(active(&bench).len(), MAX_ADDRESSES);
}
