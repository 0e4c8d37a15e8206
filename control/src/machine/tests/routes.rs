//! Which DVIPAs the routing daemon has routes to.

use model::codec::Address;
use model::dpt::Duty;
use model::message::{FromStack, Listen, Srvstat};
use model::peer::{Definition, Definitions, ToPeer};
use model::{Epoch, Protocol};

use super::super::fixture::{Bench, WEB, config, dvipa, lists, name, tcp};
use super::super::{Action, Event, SETTLES};

/// With a table for routes.
fn with_routes(vipadynamic: &str) -> String {
    format!("[announce]\nroute_table = 200\n{vipadynamic}")
}

/// What is done about routes and about the DPT, in order.
fn steps(actions: &[Action]) -> Vec<String> {
    let step = |action: &Action| match action {
        Action::Route { dvipas } => {
            let to: Vec<String> = dvipas.iter().map(ToString::to_string).collect();
            Some(format!("routes: {}", to.join(" ")))
        }
        Action::Publish(dpt) => Some(format!("dpt: {}", dpt.dvipas.len())),
        _ => None,
    };
    actions.iter().filter_map(step).collect()
}

fn serving() -> Bench {
    let mut bench = Bench::new(&with_routes(WEB));
    bench.up("t1");
    bench.listens("t1", tcp("198.18.9.1", 80));
    bench
}

#[test]
fn a_dvipa_has_a_route_from_its_first_target_on() {
    let mut bench = Bench::new(&with_routes(WEB));
    bench.up("t1");
    assert!(steps(&bench.actions()).iter().all(|step| step.starts_with("dpt")), "nothing serves it yet");
    bench.listens("t1", tcp("198.18.9.1", 80));
    assert_eq!(steps(&bench.actions()), ["dpt: 1", "routes: 198.18.9.1"]);
}

#[test]
fn it_keeps_its_route_when_the_last_target_ends() {
    let mut bench = serving();
    bench.actions();
    bench.stops("t1", tcp("198.18.9.1", 80));
    assert_eq!(steps(&bench.actions()), ["dpt: 1"]);
}

#[test]
fn after_a_while_a_dvipa_has_a_route_even_if_nothing_serves_it() {
    let mut bench = Bench::new(&with_routes(WEB));
    bench.actions();
    bench.wait(SETTLES);
    assert!(steps(&bench.actions()).contains(&"routes: 198.18.9.1".to_owned()));
}

#[test]
fn the_route_goes_before_the_dvipa() {
    let mut bench = serving();
    bench.actions();
    bench.handle(Event::Configure(Box::new(config(&with_routes(""))))).unwrap();
    assert_eq!(steps(&bench.actions()), ["routes: ", "dpt: 0"]);
}

#[test]
fn who_ends_has_no_routes_and_gets_none_again() {
    let mut bench = serving();
    bench.actions();
    bench.handle(Event::Ends).unwrap();
    assert_eq!(steps(&bench.actions()), ["routes: "], "it forwards as before");
    bench.stops("t1", tcp("198.18.9.1", 80));
    bench.listens("t1", tcp("198.18.9.1", 80));
    assert!(steps(&bench.actions()).iter().all(|step| step.starts_with("dpt")));
}

#[test]
fn without_a_table_there_are_no_routes() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.listens("t1", tcp("198.18.9.1", 80));
    bench.handle(Event::Ends).unwrap();
    assert!(steps(&bench.actions()).iter().all(|step| step.starts_with("dpt")));
}

/// `rt2` is heard and owns 198.18.9.1.
fn owned_elsewhere(bench: &mut Bench) {
    let said = Definition {
        address: Address(dvipa("198.18.9.1").address()),
        epoch: Epoch(100),
        owner: true,
        rank: 255,
        prefix_bits: None,
        moveable: None,
        by_order: None,
        next: None,
        refuse: None,
        distributes: Vec::new(),
        wants: None,
    };
    bench.handle(Event::PeerUp { stack: name("rt2") }).unwrap();
    let message = ToPeer::Definitions(Definitions { dvipas: vec![said], ..Definitions::default() });
    bench.handle(Event::PeerMessage { from: name("rt2"), message }).unwrap();
}

/// A backup of 198.18.9.1 with these further keys, which `rt2` owns; `t1` serves it.
fn backup(keys: &str) -> Bench {
    let mut bench = Bench::new(&with_routes(&format!(
        "[[routing_stack]]\nname = \"rt2\"\naddress = \"198.18.0.11:7441\"\n[[vipadynamic]]\n\
         [[vipadynamic.vipabackup]]\naddress = \"198.18.9.1\"\nrank = 100\n{keys}\n\
         [[vipadynamic.vipadistribute]]\naddress = \"198.18.9.1\"\nports = [80]\ndestip = \"all\"\n"
    )));
    owned_elsewhere(&mut bench);
    bench.up("t1");
    let listens = vec![Listen { protocol: Protocol::Tcp, port: 80, listening: true }];
    let address = Address(dvipa("198.18.9.1").address());
    let report = Srvstat { dvipa: address, epoch: Epoch(0), complete: true, listens };
    bench.message("t1", FromStack::Srvstat(report)).unwrap();
    bench
}

/// What the forwarder does for it, whether it has a route, and whether targets are told to take its packets.
fn stands(bench: &mut Bench) -> (Option<Duty>, bool, bool) {
    let actions = bench.actions();
    let route = actions.iter().rev().find_map(|action| match action {
        Action::Route { dvipas } => Some(!dvipas.is_empty()),
        _ => None,
    });
    let told = lists(&actions).into_iter().next_back();
    let takes = told.is_some_and(|(_, list)| {
        list.dvipas.iter().any(|entry| !entry.owner && entry.forwards == Some(true))
    });
    let duty = bench.stack.dpt().dvipas.first().map(|entry| entry.duty);
    (duty, route.unwrap_or_default(), takes)
}

#[test]
fn a_backup_that_always_forwards_has_a_route_and_its_packets_are_taken() {
    let mut bench = backup("forwards = \"always\"");
    assert_eq!(stands(&mut bench), (Some(Duty::Partner), true, true));
    assert!(!bench.actions().iter().any(|action| matches!(action, Action::Announce { .. })));
}

#[test]
fn any_other_backup_has_none() {
    assert_eq!(stands(&mut backup("")), (Some(Duty::Backup), false, false));
}
