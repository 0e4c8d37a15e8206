//! Any one process is killed and started again.
//!
//! | killed | connections that exist | new connections |
//! | --- | --- | --- |
//! | `batond` | stall until it is back, then go on | wait with it |
//! | an agent | go on | go to the other targets until it is back |
//! | a server | its own are lost, no other | go to the other targets |

use std::time::Duration;

use lab::client::ask_often;
use lab::spec::DVIPA;
use lab::{Lab, Spec};

use crate::fixture::{connect, established, lab, still_answered_by, web4, web6};

/// W4, W6, F2: `batond` is killed and started again: DPT and CRT come back from the agents, connections go on.
#[test]
#[ignore = "needs root"]
fn batond_killed_and_started_again_has_its_tables_back() {
    let lab = lab(Spec::default());
    let mut held: Vec<_> = [web4(), web6()].repeat(3).into_iter().map(|to| connect(&lab, to)).collect();
    for (connection, _) in &held {
        established(&lab, connection);
    }
    lab.kill("batond").expect("batond is killed");
    lab.start_batond().expect("batond starts");
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).expect("the DPT is back");
    for (connection, target) in &mut held {
        assert_eq!(&established(&lab, connection).stack, target, "the CRT is back");
        still_answered_by(connection, target);
    }
    ask_of_all(&lab);
}

/// W5: an agent is killed: its target keeps its connections and gets no new ones; it is started again: it gets its
/// share again, and the connections never knew.
#[test]
#[ignore = "needs root"]
fn an_agent_killed_and_started_again_costs_no_connection() {
    let lab = lab(Spec::default());
    let mut held: Vec<_> = [web4(), web6()].repeat(3).into_iter().map(|to| connect(&lab, to)).collect();
    lab.kill("agent-t2").expect("the agent is killed");
    let go_on = |held: &mut Vec<(lab::client::HttpConnection, String)>| {
        for (connection, target) in held {
            still_answered_by(connection, target);
        }
    };
    go_on(&mut held);
    lab.wait_for_session("t2", "lost").expect("it is lost");
    lab.wait_for_targets(80, &["t1", "t3"]).expect("t2 is not selected");
    go_on(&mut held);
    assert!(!ask_often(lab.client(), web4(), 9).contains_key("t2"));
    lab.start_agent("t2").expect("the agent starts");
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).expect("t2 is selected again");
    go_on(&mut held);
    ask_of_all(&lab);
}

/// W3, W5: connections that began and ended while the agent was dead are accounted for when it is back.
#[test]
#[ignore = "needs root"]
fn an_agent_that_was_dead_reports_what_it_missed() {
    let lab = lab(Spec::default());
    let held: Vec<_> = (0..3).map(|_| connect(&lab, web4())).collect();
    for (connection, _) in &held {
        established(&lab, connection);
    }
    lab.kill("agent-t1").expect("the agent is killed");
    lab.wait_for_session("t1", "lost").expect("it is lost");
    drop(held);
    std::thread::sleep(Duration::from_millis(200));
    lab.start_agent("t1").expect("the agent starts");
    lab.wait_for("t1 to have no connection", crate::fixture::SOON, || {
        let rows = lab.crt(&["--stack", "t1"]).map_err(|e| e.to_string())?;
        let left = rows.iter().filter(|r| r.state == "established").count();
        if left == 0 { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// W3: the DVIPA and the decapsulation stay in force while the agent is dead.
#[test]
#[ignore = "needs root"]
fn a_target_without_its_agent_still_takes_packets() {
    let lab = lab(Spec::default());
    let mut held: Vec<_> = [web4(), web6()].repeat(3).into_iter().map(|to| connect(&lab, to)).collect();
    held.retain(|(_, target)| target == "t3");
    assert_eq!(held.len(), 2, "one of each family");
    lab.kill("agent-t3").expect("the agent is killed");
    lab.wait_for_session("t3", "lost").expect("it is lost");
    let addresses = lab.host("t3").run(&["ip", "addr", "show", "lo"]).expect("ip runs");
    assert!(addresses.contains(&DVIPA.0.to_string()), "{addresses}");
    for _ in 0..10 {
        for (connection, target) in &mut held {
            still_answered_by(connection, target);
        }
    }
}

/// W5: a killed server costs its own connections only; new ones go elsewhere at once.
#[test]
#[ignore = "needs root"]
fn a_killed_server_costs_no_connection_of_others() {
    let lab = lab(Spec::default());
    let mut held: Vec<_> = (0..6).map(|_| connect(&lab, web4())).collect();
    lab.kill_all("t1", "nginx").expect("nginx is killed");
    lab.wait_for_targets(80, &["t2", "t3"]).expect("t1 is not selected");
    for (connection, target) in held.iter_mut().filter(|(_, t)| t != "t1") {
        still_answered_by(connection, target);
    }
    let answers = ask_often(lab.client(), web4(), 10);
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), [("t2".into(), 5), ("t3".into(), 5)]);
}

fn ask_of_all(lab: &Lab) {
    let answers = ask_often(lab.client(), web4(), 9);
    assert_eq!(
        answers.into_iter().collect::<Vec<_>>(),
        [("t1".into(), 3), ("t2".into(), 3), ("t3".into(), 3)]
    );
}
