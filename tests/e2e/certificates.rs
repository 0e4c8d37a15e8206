//! Certificates that are renewed while the cluster runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use lab::{Lab, Spec};
use serde_json::Value;

use crate::fixture::{SOON, connect, lab, still_answered_by, web4};

/// How long the renewed certificates are valid, other than those that the lab has made.
const DAYS: i64 = 100;

fn pki(lab: &Lab, words: &[&str], dir: &Path, names: &[&str]) {
    let mut command = Command::new(lab.program("baton").expect("it is built"));
    command.arg("pki").args(words.iter().take(1)).arg(dir).args(names).args(words.iter().skip(1));
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Seconds since 1970 at which the certificate ends that a program uses.
fn expires(status: &Value) -> i64 {
    status["certificate"]["unix_s"].as_i64().unwrap_or_default()
}

fn sessions(lab: &Lab) -> u64 {
    let stats = lab.baton_json(&["stats", "--all"]).expect("batond answers");
    let row = stats["cluster"].as_array().into_iter().flatten().find(|row| row["name"] == "sessions_up");
    row.and_then(|row| row["value"].as_u64()).unwrap_or_default()
}

/// F5: all stacks get certificates of another authority while they run, and trust both; no session and no connection ends. A stack
/// that trusts the new authority alone is let in afterwards, so the routing node shows its new certificate.
#[test]
#[ignore = "needs root"]
fn certificates_and_their_authority_are_replaced_without_a_restart() {
    let lab = lab(Spec::default());
    let (pki_dir, new) = (lab.files().join("pki"), lab.files().join("new"));
    let (mut client, target) = connect(&lab, web4());
    let (former, begun) = (expires(&lab.baton_json(&["status"]).expect("batond answers")), sessions(&lab));
    assert!(former > 0);

    pki(&lab, &["init"], &new, &[]);
    pki(&lab, &["issue", "--days", &DAYS.to_string()], &new, &["rt1", "t1", "t2", "t3"]);
    let read = |path: &Path| fs::read_to_string(path).expect("a file of the lab");
    let both = read(&pki_dir.join("ca.pem")) + &read(&new.join("ca.pem"));
    fs::write(pki_dir.join("ca.pem"), both).expect("the authority's file");
    for stack in ["rt1", "t1", "t2", "t3"] {
        for kind in ["pem", "key"] {
            let file = format!("{stack}.{kind}");
            fs::rename(new.join(&file), pki_dir.join(&file)).expect("a file of the lab");
        }
    }

    let renewed = |status: Value| match expires(&status) {
        at if at > 0 && at < former => Ok(()),
        at => Err(format!("until {at}, before {former}")),
    };
    lab.wait_for("batond to use the new certificate", SOON, || {
        renewed(lab.baton_json(&["status"]).map_err(|e| e.to_string())?)
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for stack in ["t1", "t2", "t3"] {
        lab.wait_for(&format!("{stack} to use its new certificate"), SOON, || {
            renewed(lab.agent_status(stack).map_err(|e| e.to_string())?)
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
    assert_eq!(sessions(&lab), begun, "no session had to begin anew");
    still_answered_by(&mut client, &target);
    let shown = lab.baton(&["status"]).expect("batond answers");
    assert!(shown.contains("certificate") && shown.contains(&format!("({} days)", DAYS - 1)), "{shown}");

    lab.kill("agent-t1").expect("it is killed");
    let file = lab.files().join("t1.toml");
    let alone = read(&file).replace("pki/ca.pem", "new/ca.pem");
    fs::write(&file, alone).expect("its configuration");
    lab.start_agent("t1").expect("it starts");
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).expect("the routing node's new certificate is trusted");
}
