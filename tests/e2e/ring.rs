//! Connections that never stop moving in a ring, from the router to t1, to t2 and back, while agents and `batond` are killed at
//! random and started again, and every application tries everything again. No client may be reset or hang, and no connection may
//! be on two hosts. The applications run in this process, so that it is known what each of them was told.
//!
//! `BATON_SOAK` has thousands of kills instead of some; `BATON_SEED` repeats the choices that a failure printed.

mod clients;
mod hosts;
mod killer;
mod trails;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::spec::DVIPA;
use lab::{Lab, Spec};

use crate::fixture::{SOON, lab};
use crate::soak::{be_impatient, seed};
use clients::Clients;
use hosts::Ring;
use killer::Killer;
use trails::Trails;

/// The hosts in the order in which connections visit them.
pub(crate) const HOSTS: [&str; 3] = ["rt1", "t1", "t2"];
/// How many kills there are.
const KILLS: usize = 60;
/// And with `BATON_SOAK`.
const SOAK_KILLS: usize = 5000;
/// After so many everything comes to rest and is looked at.
const KILLS_A_PHASE: usize = 10;

/// C5, C8, C11: however often agents and `batond` are killed, each connection has one owner, its client gets each answer once and in
/// order, and no client waits for ever.
#[test]
#[ignore = "needs root"]
fn agents_that_are_killed_again_and_again_leave_each_connection_one_owner() {
    let seed = seed();
    let lab = lab(Spec { targets: 2, ..Spec::content_routed() });
    be_impatient(&lab);
    let trails = Arc::new(Trails::default());
    let ring = Ring::begin(&lab, &trails);
    lab.wait_for("all applications", SOON, || are_served(&lab)).unwrap_or_else(|e| panic!("{e}"));
    let clients = Clients::begin(lab.client(), &trails, seed);
    let mut killer = Killer::new(seed);
    let kills = if std::env::var("BATON_SOAK").is_ok() { SOAK_KILLS } else { KILLS };
    let begun = Instant::now();
    while killer.kills() < kills {
        killer.kill(&lab, KILLS_A_PHASE.min(kills - killer.kills()));
        let rested = ring.rest(|| look(&lab, &clients));
        let told = format!(
            "{} kills in {:?}, {} transfers, {} rounds, {} lost in the hands of an agent",
            killer.kills(),
            begun.elapsed(),
            ring.moved(),
            clients.rounds(),
            clients.lost()
        );
        println!("{told}");
        if let Err(what) = rested {
            panic!("BATON_SEED={seed}, after {told}:\n{what}");
        }
    }
    println!("kills: {:?}; why transfers failed: {:#?}", killer.by_victim(), ring.failures());
    assert!(ring.moved() > 10 * kills, "connections move: {}", ring.moved());
    assert_eq!(clients.lost(), 0, "in the hands of an agent that was killed: BATON_SEED={seed}");
}

/// Waits until nothing moves and each client was answered since, and says what is wrong: clients that got something else than
/// they are owed, connections that are on two hosts or on another one than the routing stack says.
fn look(lab: &Lab, clients: &Clients) -> Result<(), String> {
    let calm = lab.wait_for("nothing to move", 6 * SOON, || is_calm(lab));
    let answered = clients.wait_for_rounds(lab);
    answered.and(calm.map_err(|e| e.to_string()))?;
    let places = lab.wait_for("each connection to be where the routing stack says", SOON, || {
        let owners = owners(lab)?;
        let rows = lab.crt(&[]).map_err(|e| e.to_string())?;
        let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.client, row.stack)).collect();
        let wrong = clients.connections().into_iter().filter_map(|client| {
            let (here, told) = (owners.get(&client).cloned().unwrap_or_default(), rows.get(&client).cloned());
            let is_right = matches!((&here[..], &told), ([one], Some(told)) if one == told);
            (!is_right).then(|| (client, format!("is on {here:?}, and on {told:?} for the routing stack")))
        });
        let wrong: Vec<_> = wrong.collect();
        // Two owners may be a connection of which one has not heard yet that it is gone: it is asked again.
        wrong.is_empty().then_some(()).ok_or_else(|| clients.explain(lab, wrong))
    });
    places.map_err(|e| e.to_string())
}

/// On which hosts each client's connection is established.
fn owners(lab: &Lab) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for host in HOSTS {
        let rows = lab.host(host).sh("ss -Htn state established sport = :80").map_err(|e| e.to_string())?;
        for client in rows.lines().filter_map(|row| row.split_whitespace().nth(3)) {
            owners.entry(client.to_owned()).or_default().push(host.to_owned());
        }
    }
    Ok(owners)
}

fn are_served(lab: &Lab) -> Result<(), String> {
    let rows = lab.dpt().map_err(|e| e.to_string())?;
    let row = rows.iter().find(|row| row.port == 80 && row.dvipa == DVIPA.0.to_string());
    let targets = row.map(|row| row.targets.as_slice()).unwrap_or_default();
    let states: BTreeMap<_, _> = targets.iter().map(|t| (t.target.as_str(), t.state.as_str())).collect();
    let wanted = [("rt1", "listening"), ("t1", "transfer-only"), ("t2", "transfer-only")].into();
    if states == wanted { Ok(()) } else { Err(format!("{states:?}")) }
}

fn is_calm(lab: &Lab) -> Result<(), String> {
    for host in HOSTS {
        let agent = lab.agent(host).map_err(|e| e.to_string())?;
        let reports = agent["routing_stacks"]["rt1"]["session"] == "reporting";
        let moving = ["leaving", "coming", "frozen"].map(|what| agent["transfers"][what] == 0);
        if !reports || moving != [true; 3] {
            return Err(format!("{host}: {agent}"));
        }
    }
    let frozen = lab.crt(&["--state", "frozen"]).map_err(|e| e.to_string())?;
    if frozen.is_empty() { Ok(()) } else { Err(format!("frozen at the routing node: {frozen:#?}")) }
}

/// How long a client waits for an answer before it counts as hanging.
const HANGS: Duration = Duration::from_secs(30);
