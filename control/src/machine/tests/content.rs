//! Routes by content: which targets each of them has in the DPT.

use super::super::Event;
use super::super::fixture::{Bench, config, name, tcp};

const VIP: &str = "198.18.9.1";

/// Port 80 for three stacks; one route names two of them, one the second alone, the last none.
const ROUTED: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80]
destip = ["t1", "t2", "t3"]
[[vipadynamic.vipadistribute.route]]
name = "pay"
matches = [{ path = "/pay" }]
backends = [{ stack = "t1", weight = 9 }, { stack = "t2" }]
[[vipadynamic.vipadistribute.route]]
name = "admin"
matches = [{ path = "/admin" }]
backends = [{ stack = "t2" }]
[[vipadynamic.vipadistribute.route]]
name = "rest"
"#;

/// The targets of each route, with their weights.
fn targets(bench: &mut Bench) -> Vec<Vec<(String, u16)>> {
    bench.actions();
    let row = bench.stack.dpt().distributions[0].clone();
    let routing = row.routing.as_ref().expect("routes");
    assert_eq!(routing.set.routes.len(), routing.targets.len());
    let name = |stack| bench.stack.stack_name(stack).expect("a name").to_string();
    let list =
        |list: &Vec<_>| list.iter().map(|t: &model::dpt::WeightedTarget| (name(t.stack), t.weight)).collect();
    routing.targets.iter().map(list).collect()
}

fn serving() -> Bench {
    let mut bench = Bench::new(ROUTED);
    for stack in ["t1", "t2", "t3"] {
        bench.up(stack);
        bench.listens(stack, tcp(VIP, 80));
    }
    bench
}

fn list(targets: &[(&str, u16)]) -> Vec<(String, u16)> {
    targets.iter().map(|(stack, weight)| ((*stack).to_owned(), *weight)).collect()
}

#[test]
fn each_route_has_those_of_its_backends_that_take_connections() {
    let mut bench = serving();
    let rest = list(&[("t1", 1), ("t2", 1), ("t3", 1)]);
    assert_eq!(targets(&mut bench), [list(&[("t1", 9), ("t2", 1)]), list(&[("t2", 1)]), rest]);
    bench.stops("t2", tcp(VIP, 80));
    let rest = list(&[("t1", 1), ("t3", 1)]);
    assert_eq!(
        targets(&mut bench),
        [list(&[("t1", 9)]), list(&[]), rest],
        "never a stack that is no backend"
    );
}

#[test]
fn a_reload_puts_other_routes_in_force() {
    let mut bench = serving();
    targets(&mut bench);
    let other = ROUTED.replace("weight = 9", "weight = 2").replace("/admin", "/root");
    bench.handle(Event::Configure(Box::new(config(&other)))).expect("a reload");
    assert_eq!(targets(&mut bench)[0], list(&[("t1", 2), ("t2", 1)]));
    let row = bench.stack.dpt().distributions[0].clone();
    let routes = &row.routing.as_ref().expect("routes").set.routes;
    assert_eq!(routes[1].matches[0].subject, Some(model::route::Pattern::Prefix("/root".into())));
}

#[test]
fn a_connection_follows_only_to_a_stack_that_serves_all_that_its_own_does() {
    let routing = config(ROUTED).vipadynamic.distributes[0].routing.clone().expect("routes");
    let can = |source, next| routing.can_follow(&name(source), &name(next));
    assert!(can("t1", "t2"), "t2 has every route that t1 has");
    assert!(!can("t2", "t1"), "t1 has no admin");
    assert!(can("t3", "t1") && !can("t1", "t3"));
}
