//! The configuration of a running node, changed by order.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::client;
use lab::spec::{self, Web};
use lab::{Lab, LabError, Spec};
use serde_json::Value;

use crate::fixture::{connect, lab, still_answered_by, web4};

const SHOP: &str = "vipadynamic.vipadistribute[address=198.18.9.1,ports=80]";

/// `baton config` with these words: what it answers, or what it says against it.
fn config(lab: &Lab, words: &[&str]) -> Result<Value, LabError> {
    lab.baton_json(&[&["config"], words].concat())
}

fn weights(lab: &Lab, t1: &str) -> Result<Value, LabError> {
    config(lab, &["set", &format!("{SHOP}.weights.t1"), t1])
}

/// Two targets with weights 1 and 1, and comments in the file.
fn weighed() -> Lab {
    let keys = "# The shop.\nports = [80]\ndestip = [\"t1\", \"t2\"]\nmethod = \"weighted-round-robin\"\nweights = { t1 = 1, t2 = 1 } # even\n";
    lab(Spec::default().vipadynamic(spec::ipv4_only(&[keys])).web(["t1", "t2"].map(Web::wildcard)))
}

/// How many of 40 new connections are given to t1.
fn at_t1(lab: &Lab) -> usize {
    client::ask_often(lab.client(), web4(), 40).get("t1").copied().unwrap_or_default()
}

/// Ends what waits for it, also if the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// W1: weights change by order while clients ask, in the file with its comments and in force at once; orders that are wrong change nothing; a former
/// configuration comes back whole, after a `batond` that was killed too; no request fails and connections stay.
#[test]
#[ignore = "needs root"]
fn a_key_is_set_and_taken_back_while_clients_ask() {
    let lab = weighed();
    let file = lab.files().join("batond.toml");
    let text = || fs::read_to_string(&file).expect("the file");
    let (first, ends) = (text(), AtomicBool::new(false));
    let (mut kept, target) = connect(&lab, web4());
    let failures = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut failures = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                failures.extend(client::ask(lab.client(), web4()).err());
                std::thread::sleep(Duration::from_millis(5));
            }
            failures
        });
        let ending = Ends(&ends);
        let steps = || -> Result<(), LabError> {
            let done = weights(&lab, "3")?;
            assert_eq!(done["changes"][0]["after"], "3", "{done}");
            assert_eq!(text(), first.replace("t1 = 1,", "t1 = 3,"), "nothing else has changed");
            for (key, value, says) in [
                ("weights.t1", "99999", "outside of 0 to 65535"),
                ("weights.t3", "1", "not in destip"),
                ("wieghts.t1", "1", "did you mean `weights`?"),
            ] {
                let refused =
                    config(&lab, &["set", &format!("{SHOP}.{key}"), value]).expect_err("it is wrong");
                assert!(refused.to_string().contains(says), "{refused}");
            }
            let refused =
                config(&lab, &["set", "cluster.heartbeat_ms", "150"]).expect_err("it needs a restart");
            assert!(refused.to_string().contains("can't change while batond runs"), "{refused}");
            assert_eq!(text(), first.replace("t1 = 1,", "t1 = 3,"), "refused whole");
            config(&lab, &["set", &format!("{SHOP}.method"), "least-connections"])?;
            config(&lab, &["rollback", "2"]).map(drop)
        };
        let outcome = steps();
        let shares = at_t1(&lab);
        drop(ending);
        outcome.unwrap_or_else(|e| panic!("{e}"));
        assert!((25..=35).contains(&shares), "three of four, beside the other clients: {shares}");
        asking.join().expect("it asks")
    });
    assert!(failures.is_empty(), "{failures:?}");
    still_answered_by(&mut kept, &target);
    let events = lab.baton(&["events"]).expect("batond answers");
    assert!(events.contains("config-set") && events.contains("config-refused"), "{events}");
    assert!(events.contains("by order of uid 0"), "{events}");

    lab.kill("batond").expect("it is killed");
    lab.start_batond().expect("it starts");
    lab.wait_for_targets(80, &["t1", "t2"]).expect("the targets are back");
    let history = config(&lab, &["history"]).expect("batond answers");
    let orders: Vec<&str> =
        history["history"].as_array().into_iter().flatten().filter_map(|row| row["order"].as_str()).collect();
    assert_eq!(
        orders,
        ["start", "set", "set", "rollback"],
        "a restart with the same is no other configuration"
    );
    config(&lab, &["rollback", "1"]).expect("it is kept");
    assert_eq!(text(), first);
    assert!((15..=25).contains(&at_t1(&lab)), "even again");
}

/// W1: what somebody has changed in the file by hand is told key by key; where the API is the truth it is not put in force, by no reload and by
/// no restart.
#[test]
#[ignore = "needs root"]
fn what_is_edited_by_hand_is_told_and_follows_the_chosen_truth() {
    let lab = weighed();
    let file = lab.files().join("batond.toml");
    let edit = |from: &str, to: &str| {
        let text = fs::read_to_string(&file).expect("the file");
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).expect("the file");
    };
    edit("t2 = 1 }", "t2 = 0 }");
    let differs = lab.baton(&["config", "diff"]).expect_err("it exits with 1").to_string();
    assert!(
        differs.contains("weights.t2: 1 -> 0") && differs.contains("`baton reload` puts it in force"),
        "{differs}"
    );
    lab.baton(&["reload"]).expect("the file is the truth");
    assert_eq!(at_t1(&lab), 40);

    config(&lab, &["set", "admin.config", "api"]).expect("an order");
    edit("t2 = 0 }", "t2 = 1 }");
    let refused = lab.baton(&["reload"]).expect_err("the API is the truth").to_string();
    assert!(refused.contains("admin.config"), "{refused}");
    lab.kill("batond").expect("it is killed");
    lab.start_batond().expect("it starts");
    lab.wait_for_targets(80, &["t1"]).expect("the target is back");
    assert_eq!(at_t1(&lab), 40, "what was in force still is");
    config(&lab, &["set", &format!("{SHOP}.weights.t2"), "3"]).expect("an order");
    lab.wait_for_targets(80, &["t1", "t2"]).expect("both are selected again");
    assert!((5..=15).contains(&at_t1(&lab)), "one of four");
}
