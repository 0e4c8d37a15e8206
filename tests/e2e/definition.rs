//! The definition block and its change at run time.

use std::fs;

use lab::spec::{self, Web};
use lab::{Server, Spec};

use crate::fixture::{any, connect, dvipa4, lab, still_answered_by, web4};

const EVERYTHING: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = "255.255.255.0"
moveable = "whenidle"
[[vipadynamic.vipabackup]]
address = "198.18.9.7"
rank = 200
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80, 443]
destip = ["t1", "198.18.0.22"]
method = "weighted-round-robin"
weights = { t1 = 10, "198.18.0.22" = 5 }
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [53]
protocol = "udp"
destip = "all"
[[vipadynamic.viparange]]
moveable = "nondisruptive"
mask = "255.255.255.0"
address = "198.18.10.0"
"#;

/// W1: every statement of the definition block is read, in force, and shown.
#[test]
#[ignore = "needs root"]
fn a_definition_with_every_statement_is_in_force_and_shown() {
    let lab = lab(Spec::default().vipadynamic(EVERYTHING).web(["t1", "t2"].map(Web::wildcard)));
    let vipa = lab.baton_json(&["vipa"]).expect("baton vipa answers");
    let dvipas = vipa["dvipas"].as_array().expect("a list of DVIPAs");
    let of = |address: &str| dvipas.iter().find(|d| d["dvipa"] == address).expect("the DVIPA is shown");
    assert_eq!(of("198.18.9.1")["role"], "owner");
    assert_eq!(of("198.18.9.1")["prefix_bits"], 24);
    assert_eq!(of("198.18.9.1")["moveable"], "whenidle");
    assert_eq!(of("198.18.9.7")["role"], "backup");
    assert_eq!(of("198.18.9.7")["rank"], 200);
    assert_eq!(vipa["ranges"][0]["range"], "198.18.10.0/24");
    let mut answers: Vec<String> = (0..3).map(|_| connect(&lab, web4()).1).collect();
    answers.sort();
    assert_eq!(answers, ["t1", "t1", "t2"]);
}

/// W1: a reload applies what changed, with no restart, and touches nothing else.
#[test]
#[ignore = "needs root"]
fn a_reload_adds_a_port_and_connections_live_on() {
    let mut lab = lab(Spec::default());
    let (mut connection, target) = connect(&lab, web4());
    let server = Server::tcp(lab.host("t2"), any(8080), "t2:8080").expect("t2 listens");
    lab.set_vipadynamic(spec::both_families("ports = [80, 8080]\ndestip = \"all\""))
        .expect("the file is written");
    lab.baton(&["reload"]).expect("the reload is accepted");
    lab.wait_for_targets(8080, &["t2"]).expect("port 8080 is distributed");
    assert_eq!(connect(&lab, dvipa4(8080)).1, "t2:8080");
    still_answered_by(&mut connection, &target);
    drop(server);
}

/// W1: a bad file is refused whole, the message names line and fix, and the old definition stays in force.
#[test]
#[ignore = "needs root"]
fn a_bad_file_is_refused_whole_and_the_old_one_stays_in_force() {
    let mut lab = lab(Spec::default());
    let before = lab.baton_json(&["vipa"]).expect("baton vipa answers");
    let bad = spec::both_families("ports = [80, 8080]\ndestip = \"all\"\nmethod = \"rownd-robin\"");
    lab.set_vipadynamic(bad).expect("the file is written");
    let file = lab.files().join("batond.toml");
    let text = fs::read_to_string(&file).expect("the file is read");
    let line = text.lines().position(|l| l.contains("rownd-robin")).expect("it is in there") + 1;
    for words in [&["reload"][..], &["check", &file.display().to_string()]] {
        let refusal = lab.baton(words).expect_err("a bad file is refused").to_string();
        assert!(refusal.contains(&format!("{line}:")), "{words:?} names line {line}:\n{refusal}");
        assert!(refusal.contains("round-robin"), "{words:?} names the fix:\n{refusal}");
    }
    assert_eq!(lab.baton_json(&["vipa"]).expect("baton vipa answers"), before);
    connect(&lab, web4());
}

/// W1, W2: a DVIPA whose definition goes is withdrawn everywhere, one that comes is taken everywhere.
#[test]
#[ignore = "needs root"]
fn a_dvipa_comes_and_goes_with_its_definition() {
    let mut lab = lab(Spec::default());
    let other = spec::both_families("ports = [80]\ndestip = \"all\"").replace("198.18.9.1", "198.18.9.2");
    lab.set_vipadynamic(other).expect("the file is written");
    lab.baton(&["reload"]).expect("the reload is accepted");
    for target in ["t1", "t2", "t3"] {
        lab.wait_for("the addresses to change", crate::fixture::SOON, || {
            let addresses =
                lab.host(target).run(&["ip", "-4", "addr", "show", "lo"]).map_err(|e| e.to_string())?;
            let good = addresses.contains("198.18.9.2/32") && !addresses.contains("198.18.9.1/32");
            if good { Ok(()) } else { Err(addresses) }
        })
        .unwrap_or_else(|e| panic!("{target}: {e}"));
    }
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).expect("all serve the new one");
    lab::client::ask(lab.client(), "198.18.9.2:80".parse().expect("an address")).expect("it answers");
}
