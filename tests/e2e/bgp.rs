//! Routes to the DVIPAs by BGP: BIRD beside `batond`, and BIRD on a router between the client and the routing nodes. Both run with
//! the files of examples/setups/bgp/.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::client::ask;
use lab::spec::{DVIPA, EDGE, RoutingNode, both_families, dvipa};
use lab::{Lab, Spec};
use nix::sys::signal::Signal;

use crate::fixture::{SOON, connect, lab, web4, web6};

const OF_NODE: &str = include_str!("../../examples/setups/bgp/bird-node.conf");
const OF_ROUTER: &str = include_str!("../../examples/setups/bgp/bird-router.conf");
/// BFD's multiplier here: 3 s instead of 0.9 s, because BIRD shares the cores with everything else.
const PATIENT: &str = "multiplier 10";

/// The file for this routing node.
fn of_node(node: RoutingNode) -> String {
    let (v4, v6) = node.addresses();
    let text = OF_NODE.replace("multiplier 3", PATIENT);
    text.replace("198.18.0.10", &v4.to_string()).replace("2001:db8::10", &v6.to_string())
}

/// The file for the router.
fn of_router() -> String {
    OF_ROUTER.replace("multiplier 3", PATIENT)
}

/// A lab with a router, where BIRD runs on the router and on every routing node.
pub(crate) fn with_bird(spec: Spec) -> Lab {
    let lab = lab(spec.edge().announce("route_table = 200"));
    start_bird(&lab);
    lab
}

/// Starts BIRD on the router and on every routing node.
pub(crate) fn start_bird(lab: &Lab) {
    let nodes = lab.spec().routing_nodes();
    let mut router = of_router();
    for node in nodes.iter().skip(2) {
        let (name, (v4, v6)) = (node.name(), node.addresses());
        router += &format!("protocol bgp {name}_4 from node4 {{ neighbor {v4} as 64512; }}\n");
        router += &format!("protocol bgp {name}_6 from node6 {{ neighbor {v6} as 64512; }}\n");
    }
    lab.start_bird(EDGE, &router).expect("BIRD starts");
    for node in nodes {
        lab.start_bird(node.name(), &of_node(*node)).expect("BIRD starts");
    }
}

/// The routes of a host to a DVIPA.
fn routes(lab: &Lab, host: &str, table: &str, dvipa: IpAddr) -> String {
    let (family, dvipa) = (if dvipa.is_ipv4() { "-4" } else { "-6" }, dvipa.to_string());
    lab.host(host).run(&["ip", family, "route", "show", "table", table, "exact", &dvipa]).unwrap_or_default()
}

/// Waits until the router has a BGP route to a DVIPA over exactly these nodes, and watches each of them by BFD.
pub(crate) fn wait_for_route(lab: &Lab, dvipa: IpAddr, over: &[RoutingNode]) {
    let hop = |node: &RoutingNode| match node.addresses() {
        (v4, _) if dvipa.is_ipv4() => v4.to_string(),
        (_, v6) => v6.to_string(),
    };
    let hops: Vec<String> = over.iter().map(hop).collect();
    lab.wait_for(&format!("a route to {dvipa} over {hops:?}"), SOON * 3, || {
        let routes = routes(lab, EDGE, "main", dvipa);
        let bfd = lab.birdc(EDGE, &["show", "bfd", "sessions"]).map_err(|e| e.to_string())?;
        let is_watched = |hop: &String| {
            let mut rows = bfd.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
            rows.any(|row| row.first() == Some(&hop.as_str()) && row.get(2) == Some(&"Up"))
        };
        let is_whole = hops.iter().all(|hop| routes.contains(&format!("via {hop} ")) && is_watched(hop));
        let is_good = is_whole && routes.matches("via ").count() == hops.len();
        if is_good { Ok(()) } else { Err(format!("{routes}\n{bfd}\n{}", protocols(lab))) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

fn protocols(lab: &Lab) -> String {
    lab.birdc(EDGE, &["show", "protocols", "all"]).unwrap_or_else(|e| e.to_string())
}

/// The addresses of both services, and their DVIPAs.
fn both() -> [(SocketAddr, IpAddr); 2] {
    [(web4(), DVIPA.0.into()), (web6(), DVIPA.1.into())]
}

/// W10: a router has routes to the DVIPAs that a node behind it owns, clients reach them over it, and a DVIPA that is not defined any
/// more has no route.
#[test]
#[ignore = "needs root"]
fn a_router_learns_where_the_dvipas_are_for_as_long_as_they_are_defined() {
    let mut lab = with_bird(Spec::default());
    for (to, dvipa) in both() {
        wait_for_route(&lab, dvipa, &[RoutingNode::First]);
        for _ in 0..6 {
            let target = ask(lab.client(), to).expect("a target answers");
            assert!(target.starts_with('t'), "{target}");
        }
    }
    let keys = "ports = [80]\ndestip = \"all\"";
    lab.set_vipadynamic(format!("[[vipadynamic]]\n{}", dvipa(DVIPA.0.into(), 24, &[keys])))
        .expect("it is written");
    lab.baton(&["reload"]).expect("it is in force");
    wait_for_route(&lab, DVIPA.1.into(), &[]);
    wait_for_route(&lab, DVIPA.0.into(), &[RoutingNode::First]);
    assert!(ask(lab.client(), web6()).is_err(), "nothing leads there");
    lab.set_vipadynamic(both_families(keys)).expect("it is written");
    lab.baton(&["reload"]).expect("it is in force");
    wait_for_route(&lab, DVIPA.1.into(), &[RoutingNode::First]);
    ask(lab.client(), web6()).expect("a target answers");
    lab.check().expect("everything runs");
}

/// W10: a `batond` that is asked to end withdraws its routes, and forwards until the routers have heard of it.
#[test]
#[ignore = "needs root"]
fn a_batond_that_ends_withdraws_its_routes_first_and_forwards_on() {
    let lab = lab(Spec::default().edge().announce("route_table = 200\nwithdrawn_ms = 20000"));
    lab.start_bird(EDGE, &of_router()).expect("BIRD starts");
    lab.start_bird("rt1", &of_node(RoutingNode::First)).expect("BIRD starts");
    let dvipa = IpAddr::from(DVIPA.0);
    wait_for_route(&lab, dvipa, &[RoutingNode::First]);
    let (mut connection, target) = connect(&lab, web4());
    // A router that has not heard of it yet.
    let (rt1, late) = (RoutingNode::First.addresses().0, dvipa.to_string());
    let late = ["ip", "route", "add", &late, "via", &rt1.to_string(), "metric", "99999"];
    lab.host(EDGE).run(&late).expect("it is added");
    lab.signal("batond", Signal::SIGTERM);
    lab.wait_for("the route to go", SOON, || {
        let routes = routes(&lab, EDGE, "main", dvipa);
        if routes.contains("proto bird") { Err(routes) } else { Ok(()) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    lab.check().expect("batond has not ended");
    assert_eq!(connection.target().expect("its packets are forwarded"), target);
    ask(lab.client(), web4()).expect("a new connection is too");
    lab.check().expect("batond has not ended");
}

/// W10: a `batond` that is killed leaves no route: the kernel of its node removes them, and the router hears of it by BFD, as it does
/// of one that is stopped.
#[test]
#[ignore = "needs root"]
fn a_batond_that_is_stopped_or_killed_has_no_routes() {
    let lab = with_bird(Spec::default());
    let all = || both().into_iter().map(|(_, dvipa)| dvipa);
    all().for_each(|dvipa| wait_for_route(&lab, dvipa, &[RoutingNode::First]));
    lab.signal("batond", Signal::SIGSTOP);
    all().for_each(|dvipa| wait_for_route(&lab, dvipa, &[]));
    lab.signal("batond", Signal::SIGCONT);
    all().for_each(|dvipa| wait_for_route(&lab, dvipa, &[RoutingNode::First]));
    ask(lab.client(), web4()).expect("a target answers");
    lab.kill("batond").expect("it is dead");
    for dvipa in all() {
        assert_eq!(routes(&lab, "rt1", "200", dvipa), "", "the kernel has removed them");
        wait_for_route(&lab, dvipa, &[]);
    }
    lab.start_batond().expect("it starts");
    all().for_each(|dvipa| wait_for_route(&lab, dvipa, &[RoutingNode::First]));
    ask(lab.client(), web4()).expect("a target answers");
}

/// W10: a `batond` that is asked to end gives its DVIPAs to the backup, and the routes follow, without one failed request.
#[test]
#[ignore = "needs root"]
fn no_request_fails_while_routes_move_to_a_backup() {
    let each = |dvipa| format!("[[vipadynamic.vipabackup]]\naddress = \"{dvipa}\"\nrank = 100\n");
    let backup = format!("[[vipadynamic]]\n{}{}", each(IpAddr::from(DVIPA.0)), each(DVIPA.1.into()));
    let lab = with_bird(Spec::default().second(backup));
    let all = || both().into_iter().map(|(_, dvipa)| dvipa);
    all().for_each(|dvipa| wait_for_route(&lab, dvipa, &[RoutingNode::First]));
    lab.wait_for("rt2 to know all targets", SOON, || {
        let dpt = lab.dpt_at(RoutingNode::Second).map_err(|e| e.to_string())?;
        let is_known = !dpt.is_empty() && dpt.iter().all(|row| row.selectable().len() == 3);
        if is_known { Ok(()) } else { Err(format!("{dpt:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let (mut connection, target) = connect(&lab, web4());
    let ends = AtomicBool::new(false);
    let (asked, failed) = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut asked, mut failed) = (0, Vec::new());
            while !ends.load(Ordering::Relaxed) {
                failed.extend(both().into_iter().filter_map(|(to, _)| ask(lab.client(), to).err()));
                asked += 2;
            }
            (asked, failed)
        });
        lab.signal("batond", Signal::SIGTERM);
        all().for_each(|dvipa| wait_for_route(&lab, dvipa, &[RoutingNode::Second]));
        lab.wait_end("batond").expect("it ends");
        thread::sleep(Duration::from_millis(500));
        ends.store(true, Ordering::Relaxed);
        asking.join().expect("it asks until it is told")
    });
    assert!(failed.is_empty() && asked > 20, "{asked} requests, of which failed: {failed:?}");
    assert_eq!(connection.target().expect("its packets are forwarded"), target);
    lab.check().expect("everything runs");
}
