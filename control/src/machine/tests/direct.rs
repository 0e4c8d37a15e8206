//! Ports that one stack has for itself.

use super::super::fixture::{Bench, WEB, srvstat, tcp};
use super::super::{Event, RefusalKind, Scope, TargetState};
use crate::machine::fixture::name;
use std::time::Duration;

const VIP: &str = "198.18.9.1";
const PASSIVE: u16 = 40_001;

fn bench() -> Bench {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.up("t2");
    bench.actions();
    bench
}

#[test]
fn a_listener_that_no_definition_distributes_is_reached_directly() {
    let mut bench = bench();
    let passive = tcp(VIP, PASSIVE);
    assert_eq!(bench.targets(passive), None);
    bench.listens("t1", passive);
    assert_eq!(bench.targets(passive), Some(vec![("t1".to_owned(), 1)]));
    bench.stops("t1", passive);
    assert_eq!(bench.targets(passive), None);
}

#[test]
fn neither_a_drain_nor_silence_nor_a_lost_session_ends_the_route() {
    let mut bench = bench();
    let passive = tcp(VIP, PASSIVE);
    bench.listens("t1", passive);
    bench.handle(Event::Drain { stack: name("t1"), scope: Scope::All }).unwrap();
    assert_eq!(bench.selectable(passive), ["t1"]);
    bench.handle(Event::Quiet { stack: name("t1") }).unwrap();
    assert_eq!(bench.selectable(passive), ["t1"]);
    bench.down("t1");
    assert_eq!(bench.states(passive)["t1"], TargetState::Listening, "its host may serve on");
    let weights = vec![(name("t1"), 0)];
    let order = Event::SetWeights { service: passive, weights, ttl: Duration::from_secs(10) };
    bench.handle(order).unwrap_err();
    bench.up("t1");
    bench.message("t1", srvstat(tcp(VIP, 80), true, true)).unwrap();
    assert_eq!(bench.targets(passive), None, "the complete report does not name it");
}

#[test]
fn the_route_ends_when_the_host_is_dead() {
    let mut bench = bench();
    let passive = tcp(VIP, PASSIVE);
    bench.listens("t1", passive);
    bench.down("t1");
    let dead = bench.stack.stack_index(&name("t1")).unwrap();
    bench.handle(Event::SilentHosts(vec![dead])).unwrap();
    bench.actions();
    assert_eq!(bench.targets(passive), None);
}

#[test]
fn of_two_stacks_with_one_port_the_first_has_it_and_the_second_is_an_alarm() {
    let mut bench = bench();
    let passive = tcp(VIP, PASSIVE);
    bench.listens("t2", passive);
    let refusal = bench.message("t1", srvstat(passive, true, false)).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::PortTaken);
    assert!(refusal.to_string().contains("t2"), "{refusal}");
    assert_eq!(bench.selectable(passive), ["t2"]);
    bench.stops("t2", passive);
    assert_eq!(bench.selectable(passive), ["t1"], "it has waited");
}

#[test]
fn an_enumerated_port_is_never_one_stacks_own() {
    let mut bench = bench();
    let web = tcp(VIP, 80);
    bench.listens("t1", web);
    bench.listens("t2", web);
    assert_eq!(bench.selectable(web), ["t1", "t2"]);
    assert!(bench.stack.dpt_view(bench.now).services.iter().all(|service| !service.direct));
}

impl super::super::RoutingStack {
    /// Whether one stack has the port for itself.
    pub(crate) fn is_direct(&self, service: model::Service) -> bool {
        self.picture().direct_route(service).is_some()
    }
}
