//! Routing applications on a routing node that is a backup.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lab::client::ask_often;
use lab::spec::{DVIPA, RoutingNode};
use lab::{Lab, Spec};

use crate::fixture::{SOON, lab, web4, web6};
use crate::transfer::{start_router, start_router_on, start_target};

/// The definition of a backup for both DVIPAs, with the same distribution as their owner.
fn backup() -> String {
    let each = |address: IpAddr| {
        format!(
            "[[vipadynamic.vipabackup]]\naddress = \"{address}\"\nrank = 100\n\
             [[vipadynamic.vipadistribute]]\naddress = \"{address}\"\nports = [80]\ndestip = \"all\"\ncontent_routed = true\n"
        )
    };
    format!("[[vipadynamic]]\n{}{}", each(DVIPA.0.into()), each(DVIPA.1.into()))
}

/// How the routers of a stack stand, one for each DVIPA.
fn wait_for_routers(lab: &Lab, stack: &str, wanted: &str) {
    lab.wait_for(&format!("the routers of {stack} to be {wanted}"), SOON, || {
        let status = lab.agent_status(stack).map_err(|e| e.to_string())?;
        let applications = status["applications"].as_array().ok_or("no applications")?;
        let routing = applications.iter().filter(|a| a["role"] == "routing").map(|a| a["state"].as_str());
        let states: Vec<_> = routing.flatten().collect();
        if states == [wanted; 2] { Ok(()) } else { Err(format!("{applications:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

fn listeners(lab: &Lab, stack: &str) -> String {
    lab.host(stack).run(&["ss", "-Hltn", "sport = :80"]).expect("ss answers")
}

/// C13: on a backup stack the routing application is blocked, and its listener takes nobody, until that stack owns the DVIPA; then
/// it has each new client first, and the one on the former owner waits.
#[test]
#[ignore = "needs root"]
fn a_routing_application_on_a_backup_is_blocked_until_its_stack_owns_the_dvipa() {
    let mut lab = lab(Spec::content_routed().second(backup()));
    start_target(&lab, "files@t1");
    start_router(&lab);
    start_router_on(&lab, "rt2");
    let all_served = BTreeMap::from([("files@t1 has /".to_owned(), 5)]);
    wait_for_routers(&lab, "rt1", "registered");
    wait_for_routers(&lab, "rt2", "waiting");
    assert_eq!(listeners(&lab, "rt2").lines().count(), 2, "it listens already, and waits");
    for to in [web4(), web6()] {
        assert_eq!(ask_often(lab.client(), to, 5), all_served, "the router of rt1 hands its clients over");
    }
    let waiting = listeners(&lab, "rt2");
    assert!(waiting.lines().all(|line| line.split_whitespace().nth(1) == Some("0")), "no client: {waiting}");
    wait_for_routers(&lab, "rt2", "waiting");
    // The operator gives the DVIPAs to the backup.
    let owner = lab.spec().vipadynamic.clone();
    lab.set_vipadynamic_of(RoutingNode::First, backup()).expect("it is written");
    lab.set_vipadynamic_of(RoutingNode::Second, owner).expect("it is written");
    lab.baton_at(RoutingNode::First, &["reload"]).expect("it is in force");
    lab.baton_at(RoutingNode::Second, &["reload"]).expect("it is in force");
    wait_for_routers(&lab, "rt2", "registered");
    wait_for_routers(&lab, "rt1", "waiting");
    lab.wait_for("rt2 to offer the ports", SOON, || {
        let dpt = lab.baton_at(RoutingNode::Second, &["--json", "dpt"]).map_err(|e| e.to_string())?;
        if dpt.matches("\"listening\"").count() == 2 { Ok(()) } else { Err(dpt) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for to in [web4(), web6()] {
        assert_eq!(ask_often(lab.client(), to, 5), all_served, "the router of rt2 hands its clients over");
    }
    lab.check().expect("everything runs");
}

/// C13, W7: the owner dies, and with its stack the routing application there; the one that was blocked on the backup has each new client
/// from now on.
#[test]
#[ignore = "needs root"]
fn a_blocked_routing_application_goes_on_when_the_owner_dies() {
    let lab = lab(Spec::content_routed().second(backup()));
    start_target(&lab, "files@t1");
    start_router(&lab);
    start_router_on(&lab, "rt2");
    wait_for_routers(&lab, "rt1", "registered");
    wait_for_routers(&lab, "rt2", "waiting");
    lab.kill("batond").expect("it dies");
    wait_for_routers(&lab, "rt2", "registered");
    lab.wait_for("rt2 to offer the ports", SOON, || {
        let dpt = lab.baton_at(RoutingNode::Second, &["--json", "dpt"]).map_err(|e| e.to_string())?;
        if dpt.matches("\"listening\"").count() == 2 { Ok(()) } else { Err(dpt) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for to in [web4(), web6()] {
        let all_served = BTreeMap::from([("files@t1 has /".to_owned(), 5)]);
        assert_eq!(ask_often(lab.client(), to, 5), all_served, "the router of rt2 hands its clients over");
    }
}
