//! `baton doctor` on hosts of a lab.

use lab::{Lab, Spec};
use serde_json::Value;

use crate::fixture::{SOON, lab};

/// What is found on a host: check, what and mend, in one line each.
fn findings(lab: &Lab, host: &str, words: &[&str]) -> Vec<String> {
    let baton = lab.program("baton").expect("it is built").display().to_string();
    let output = lab
        .host(host)
        .try_run(&[&[baton.as_str(), "--json", "doctor"][..], words].concat())
        .expect("it runs");
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let found = answer["findings"].as_array().expect("findings");
    let line =
        |f: &Value| format!("{}: {} ({})", f["check"].as_str().unwrap_or_default(), f["what"], f["mend"]);
    found.iter().map(line).collect()
}

/// Waits until a line has all of these words.
fn until_named(lab: &Lab, host: &str, words: &[&str], wanted: &[&str]) {
    lab.wait_for(&format!("{wanted:?} on {host}"), SOON, || {
        let found = findings(lab, host, words);
        let is_named = found.iter().any(|line| wanted.iter().all(|word| line.contains(word)));
        if is_named { Ok(()) } else { Err(format!("{found:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// F5, B5: nothing but this machine's clock and cores is named while a cluster runs; what is broken on a host is named with its mend,
/// and `--fix` mends the settings.
#[test]
#[ignore = "needs root"]
fn what_is_broken_on_a_host_is_named_and_mended() {
    let lab = lab(Spec { targets: 2, ..Spec::default() }.web(["t1", "t2"].map(lab::Web::wildcard)));
    let file = |name: &str| lab.files().join(name).display().to_string();
    let (batond, t1, t2) = (file("batond.toml"), file("t1.toml"), file("t2.toml"));
    for (host, words) in [("t1", ["--agent", &t1]), ("rt1", ["--batond", &batond])] {
        let mut found = findings(&lab, host, &words);
        // What this machine has of its own.
        let of_the_machine = ["clock: ", "cores: ", "hugepages: ", "kernel: ", "filter: "];
        found.retain(|line| !of_the_machine.iter().any(|check| line.starts_with(check)));
        assert!(found.is_empty(), "{host}: {found:#?}");
    }

    lab.kill("agent-t1").expect("it is killed");
    until_named(
        &lab,
        "rt1",
        &["--batond", &batond],
        &["session: ", "t1 is lost", "systemctl status baton-agent"],
    );
    let broken = "sysctl -qw net.ipv4.conf.eth0.rp_filter=1 net.ipv4.conf.all.arp_ignore=0 net.ipv4.tcp_sack=0
         ip link set eth0 mtu 1400
         nft add table inet guard && nft add chain inet guard input '{ type filter hook input priority 0; policy drop; }'
         nft add rule inet guard input accept";
    lab.host("t1").sh(broken).expect("it is broken");
    let found = findings(&lab, "t1", &["--agent", &t1]);
    for wanted in [
        "rp_filter=2",
        "arp_ignore=1",
        "tcp_sack=1",
        "mtu: \"the MTU of eth0 is 1400",
        "filter: \"the chain `guard input` (input)",
    ] {
        assert!(found.iter().any(|line| line.contains(wanted)), "{wanted}: {found:#?}");
    }
    let found = findings(&lab, "t1", &["--agent", &t1, "--fix"]);
    assert!(!found.iter().any(|line| line.starts_with("setting: ")), "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("mtu: ")), "{found:#?}");

    std::fs::remove_file(lab.files().join("pki/t2.key")).expect("a key");
    until_named(&lab, "t2", &["--agent", &t2], &["certificate: ", "t2.key", "baton pki issue"]);
    lab.kill("batond").expect("it is killed");
    until_named(&lab, "t2", &["--agent", &t2], &["session: ", "rt1 at 198.18.0.10:7440", "ping 198.18.0.10"]);
}
