//! Several nodes that forward one DVIPA at once, behind a router that shares its packets among them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::client::{HttpConnection, udp};
use lab::spec::{CLIENT_FAR, DVIPA, EDGE, RoutingNode, both_families};
use lab::{Lab, Server, Spec};
use nix::sys::signal::Signal;

use crate::bgp::{wait_for_route, with_bird};
use crate::crowd::under_load;
use crate::fixture::{SOON, any, web4, web6};

const TARGETS: [&str; 3] = ["t1", "t2", "t3"];
/// How long a client waits whose node is dead: BFD is patient here, and clients repeat what was lost ever more rarely.
const PATIENCE: Duration = Duration::from_secs(30);

/// The primary of both DVIPAs.
fn primary(distribute: &str) -> String {
    both_families(distribute).replace("moveable = ", "forwards = \"always\"\nmoveable = ")
}

/// A backup of both.
fn backup(rank: u8) -> String {
    let each = |address: IpAddr| {
        format!("[[vipadynamic.vipabackup]]\naddress = \"{address}\"\nrank = {rank}\nforwards = \"always\"\n")
    };
    format!("[[vipadynamic]]\n{}{}", each(DVIPA.0.into()), each(DVIPA.1.into()))
}

/// A lab whose two or three nodes forward both DVIPAs, and a router that has a route over each.
fn shared(method: &str, nodes: usize) -> Lab {
    let distribute = format!("ports = [80]\ndestip = \"all\"\nmethod = \"{method}\"");
    let spec = Spec::default().vipadynamic(primary(&distribute)).second(backup(200));
    let lab = with_bird(if nodes == 3 { spec.third(backup(100)) } else { spec });
    wait_for_all(&lab);
    lab
}

/// Waits until each node knows all targets, and the router has a route over each node.
fn wait_for_all(lab: &Lab) {
    let nodes = lab.spec().routing_nodes();
    for node in nodes {
        lab.wait_for(&format!("{} to know all targets", node.name()), SOON * 3, || {
            let dpt = lab.dpt_at(*node).map_err(|e| e.to_string())?;
            let is_known = !dpt.is_empty() && dpt.iter().all(|row| row.selectable() == TARGETS);
            if is_known { Ok(()) } else { Err(format!("{dpt:#?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        wait_for_route(lab, dvipa, nodes);
    }
}

/// What a node has forwarded.
fn forwarded(lab: &Lab, node: RoutingNode) -> u64 {
    let counters = lab.counters_at(node).expect("baton stats answers");
    ["forwarded", "forwarded_new"].iter().filter_map(|name| counters.get(*name)).sum()
}

/// From this port of the client.
fn connect_from(lab: &Lab, port: u16, to: SocketAddr) -> HttpConnection {
    let from = if to.is_ipv4() { IpAddr::from(CLIENT_FAR.0) } else { CLIENT_FAR.1.into() };
    HttpConnection::open_from(lab.client(), SocketAddr::new(from, port), to).expect("the client connects")
}

/// A few connections to each service, with the target of each.
fn connections(lab: &Lab, count: usize) -> Vec<(HttpConnection, String)> {
    let each = [web4(), web6()].into_iter().cycle().take(count);
    let open = |to| {
        let mut connection = HttpConnection::open_patiently(lab.client(), to, PATIENCE).expect("it connects");
        let target = connection.target().expect("a target answers");
        (connection, target)
    };
    each.map(open).collect()
}

/// Each is answered by the target that it has always had.
fn all_go_on(connections: &mut [(HttpConnection, String)]) {
    for (connection, target) in connections {
        assert_eq!(&connection.target().expect("its target answers"), target);
    }
}

/// B7: three nodes behind ECMP forward one DVIPA, each of them some connections.
#[test]
#[ignore = "needs root"]
fn a_router_shares_connections_among_three_nodes() {
    let lab = shared("maglev", 3);
    let mut connections = connections(&lab, 48);
    all_go_on(&mut connections);
    for node in lab.spec().routing_nodes() {
        assert!(forwarded(&lab, *node) > 0, "{} has its share", node.name());
    }
    lab.check().expect("everything runs");
}

/// B7: with `maglev` a client's port is given the same target by every node.
#[test]
#[ignore = "needs root"]
fn every_node_selects_the_same_target() {
    let lab = shared("maglev", 2);
    let by = |node: RoutingNode, port: u16| {
        let (dvipa, hop) = (DVIPA.0.to_string(), node.addresses().0.to_string());
        lab.host(EDGE)
            .run(&["ip", "route", "replace", &dvipa, "via", &hop, "metric", "1"])
            .expect("it is set");
        let mut connection = connect_from(&lab, port, web4());
        let target = connection.target().expect("a target answers");
        connection.abort().expect("it ends");
        // To both nodes it has ended when its port is used again, so that the SYN selects.
        for node in lab.spec().routing_nodes() {
            lab.wait_for(&format!("{} to forget port {port}", node.name()), SOON, || {
                let client = format!(":{port}");
                let rows = lab.crt_at(*node, &[]).map_err(|e| e.to_string())?;
                let known: Vec<_> = rows
                    .iter()
                    .filter(|row| row.client.ends_with(&client) && row.state != "closing")
                    .collect();
                if known.is_empty() { Ok(()) } else { Err(format!("{known:?}")) }
            })
            .unwrap_or_else(|e| panic!("{e}"));
        }
        target
    };
    let selected = |node| (40_001..40_009).map(|port| by(node, port)).collect::<Vec<_>>();
    let first = selected(RoutingNode::First);
    assert_eq!(selected(RoutingNode::Second), first);
    assert!(first.iter().any(|target| *target != first[0]), "there is something to select: {first:?}");
}

/// B7, W4: packets of one connection that come by several nodes in turn reach its target, the first ones too: who has no entry asks.
#[test]
#[ignore = "needs root"]
fn packets_of_a_connection_may_come_by_any_node() {
    let lab = shared("round-robin", 2);
    // Each packet to the other node than the one before it.
    let [first, second] = [RoutingNode::First, RoutingNode::Second].map(RoutingNode::addresses);
    lab.host(EDGE)
        .sh(&format!(
            "nft 'add table inet turns
                  add chain inet turns in {{ type filter hook prerouting priority mangle; }}
                  add rule inet turns in iifname \"far\" meta mark set numgen inc mod 2 offset 1'
             for f in -4 -6; do for m in 1 2; do ip $f rule add fwmark $m lookup 10$m; done; done
             ip -4 route add default via {} table 101; ip -6 route add default via {} table 101
             ip -4 route add default via {} table 102; ip -6 route add default via {} table 102",
            first.0, first.1, second.0, second.1
        ))
        .expect("it is set");
    let mut connections = connections(&lab, 24);
    all_go_on(&mut connections);
    all_go_on(&mut connections);
    for node in [RoutingNode::First, RoutingNode::Second] {
        assert!(forwarded(&lab, node) >= 24, "{} has half of the packets", node.name());
    }
    lab.check().expect("everything runs");
}

/// B7, F6: datagrams in fragments are answered, whichever node has them.
#[test]
#[ignore = "needs root"]
fn datagrams_in_fragments_are_answered_by_every_node() {
    let distribute = "ports = [5300]\nprotocol = \"udp\"\ndestip = \"all\"\nmethod = \"maglev\"";
    let spec = Spec::default().web([]).vipadynamic(primary(distribute)).second(backup(200));
    let lab = with_bird(spec);
    let serve = |target| Server::udp(lab.host(target), any(5300), target).expect("it listens");
    let _servers = TARGETS.map(serve);
    wait_for_all(&lab);
    for dvipa in [IpAddr::from(DVIPA.0), DVIPA.1.into()] {
        for _ in 0..12 {
            let socket = udp(lab.client(), SocketAddr::new(dvipa, 5300)).expect("a socket");
            let mut answer = [0; 64];
            // The first one may be too long with its outer header: then the client makes shorter fragments.
            let ask = |_| socket.send(&[0; 3000]).and_then(|_| socket.recv(&mut answer));
            let answered: Vec<usize> = (0..4).map(ask).filter_map(Result::ok).take(1).collect();
            let [bytes] = answered[..] else { panic!("no target answers") };
            let answer = String::from_utf8_lossy(&answer[..bytes]).into_owned();
            assert!(answer.ends_with(" 3000"), "{answer}");
        }
    }
    for node in [RoutingNode::First, RoutingNode::Second] {
        assert!(forwarded(&lab, node) > 0, "{} has its share", node.name());
    }
}

/// B7: a node that leaves, dies or joins under load costs no connection of others, nor of its own, and no byte.
#[test]
#[ignore = "needs root"]
fn a_node_that_leaves_or_dies_or_joins_costs_no_connection() {
    let lab = shared("maglev", 2);
    let mut connections = connections(&lab, 24);
    under_load(&lab, || {
        lab.stop(RoutingNode::Second.batond(), Signal::SIGTERM).expect("it ends");
        all_go_on(&mut connections);
        lab.start_batond_of(RoutingNode::Second).expect("it starts");
        wait_for_all(&lab);
        all_go_on(&mut connections);
    });
    under_load(&lab, || {
        lab.kill(RoutingNode::Second.batond()).expect("it is dead");
        all_go_on(&mut connections);
        lab.start_batond_of(RoutingNode::Second).expect("it starts");
        wait_for_all(&lab);
        all_go_on(&mut connections);
    });
    lab.check().expect("everything runs");
}
