//! What happened lately.

use lab::{Lab, Spec};

use crate::fixture::{SOON, lab};

/// Waits until a line of what `baton events` has written has all of these words.
fn until(lab: &Lab, words: &[&str]) {
    let log = lab.files().join("events.log");
    lab.wait_for(&format!("{words:?}"), SOON, || {
        let text = std::fs::read_to_string(&log).map_err(|e| e.to_string())?;
        let is_there = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        if is_there { Ok(()) } else { Err(text) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// B5: whoever follows the events sees targets come and go with why, drains, reloads and refused ones, and what a batond does that
/// was killed and started again.
#[test]
#[ignore = "needs root"]
fn what_happens_is_told_to_who_follows() {
    let mut lab = lab(Spec::default());
    let baton = lab.program("baton").expect("it is built").display().to_string();
    let socket = lab.socket().display().to_string();
    lab.start_on("rt1", "events", &[&baton, "--socket", &socket, "events", "--follow"]).expect("it starts");
    until(&lab, &["dvipa-gained", "198.18.9.1", "owned from now on"]);
    until(&lab, &["target-came", "  t1  ", "198.18.9.1"]);
    lab.kill_all("t1", "nginx").expect("it is killed");
    until(&lab, &["target-went", "  t1  ", "not-listening"]);
    lab.baton(&["drain", "t2"]).expect("an order");
    until(&lab, &["drained", "  t2  "]);
    until(&lab, &["target-went", "  t2  ", "draining"]);
    lab.baton(&["resume", "t2"]).expect("an order");
    until(&lab, &["resumed", "  t2  "]);
    lab.baton(&["reload"]).expect("an order");
    until(&lab, &["reloaded", "batond.toml"]);
    lab.set_vipadynamic("nonsense = 1\n").expect("a file");
    lab.baton(&["reload"]).expect_err("it has a mistake");
    until(&lab, &["reload-refused", "batond.toml"]);
    let log = std::fs::read_to_string(lab.files().join("batond.log")).expect("its log");
    assert!(
        log.contains("target-went") && log.contains("reload-refused"),
        "the log has the same names: {log}"
    );
}
