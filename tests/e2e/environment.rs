//! What others change under the agents and the routing node: put right, or named.

use std::time::{Duration, Instant};

use lab::spec::DVIPA;
use lab::{Lab, Spec};

use crate::fixture::{SOON, connect, lab, web4, web6};

/// Within a second, on a machine that is shared by several labs.
const AT_ONCE: Duration = Duration::from_secs(3);

/// How often t1's agent has put something of this kind right.
fn put_right(lab: &Lab, subject: &str) -> u64 {
    let status = lab.agent("t1").expect("the agent answers");
    status["environment"]["put_right"][subject].as_u64().unwrap_or_default()
}

/// The sentences of what t1's agent can't put right.
fn standing(lab: &Lab, subject: &str) -> Vec<String> {
    let status = lab.agent("t1").expect("the agent answers");
    let findings = status["environment"]["standing"].as_array().cloned().unwrap_or_default();
    let of_subject = findings.iter().filter(|f| f["subject"] == subject);
    of_subject.map(|f| f["sentence"].as_str().unwrap_or_default().to_owned()).collect()
}

/// R9: DVIPAs, settings and programs of a target that somebody removes or changes are back within a second, and the
/// agent says so.
#[test]
#[ignore = "needs root"]
fn what_is_changed_under_an_agent_is_put_right() {
    let lab = lab(Spec::default());
    let t1 = lab.host("t1");
    let (v4, v6) = (format!("{}/32", DVIPA.0), format!("{}/128", DVIPA.1));
    let conf = "/proc/sys/net/ipv4/conf";
    let cases = [
        ("address", format!("ip addr del {v4} dev lo"), format!("ip addr show lo | grep -q 'inet {v4}'")),
        ("address", format!("ip addr del {v6} dev lo"), format!("ip addr show lo | grep -q 'inet6 {v6}'")),
        (
            "setting",
            format!("echo 0 >{conf}/all/arp_ignore"),
            format!("[ $(cat {conf}/all/arp_ignore) = 1 ]"),
        ),
        (
            "setting",
            format!("echo 0 >{conf}/all/arp_announce"),
            format!("[ $(cat {conf}/all/arp_announce) = 2 ]"),
        ),
        ("setting", format!("echo 1 >{conf}/all/rp_filter"), format!("[ $(cat {conf}/eth0/rp_filter) = 2 ]")),
        (
            "setting",
            format!("echo 0 >{conf}/eth0/accept_local"),
            format!("[ $(cat {conf}/eth0/accept_local) = 1 ]"),
        ),
        (
            "program",
            "tc filter del dev eth0 ingress".to_owned(),
            "tc filter show dev eth0 ingress | grep -q baton_decapsul".to_owned(),
        ),
        (
            "program",
            "tc qdisc del dev eth0 clsact".to_owned(),
            "tc filter show dev eth0 egress | grep -q baton_egress".to_owned(),
        ),
    ];
    for (subject, change, is_right) in cases {
        let before = put_right(&lab, subject);
        t1.sh(&change).unwrap_or_else(|e| panic!("{e}"));
        let begun = Instant::now();
        lab.wait_for(&format!("what `{change}` did to be put right"), SOON, || {
            t1.sh(&is_right).map(drop).map_err(|e| e.to_string())
        })
        .unwrap_or_else(|e| panic!("{e}"));
        let elapsed = begun.elapsed();
        assert!(elapsed < AT_ONCE, "`{change}`: put right after {elapsed:?}");
        lab.wait_for(&format!("the agent to say that it put `{change}` right"), SOON, || {
            if put_right(&lab, subject) > before { Ok(()) } else { Err(String::new()) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
    // All of it is as it was: each target is reached by both families.
    for to in [web4(), web6()] {
        let mut seen: Vec<_> = (0..3).map(|_| connect(&lab, to).1).collect();
        seen.sort();
        assert_eq!(seen, ["t1", "t2", "t3"]);
    }
}

/// R9: another product's program before the agent's, and settings that keep connections from moving, are named in status
/// and metrics while they last.
#[test]
#[ignore = "needs root"]
fn what_an_agent_cannot_put_right_is_named() {
    let lab = lab(Spec::default());
    let t1 = lab.host("t1");
    let cases = [
        (
            "order",
            "tc filter add dev eth0 ingress prio 1 protocol ip matchall action pass",
            "a filter (matchall) of priority 1 on eth0 ingress",
            "tc filter del dev eth0 ingress prio 1",
        ),
        (
            "order",
            "tc filter add dev eth0 egress prio 3 protocol ip matchall action pass",
            "a filter (matchall) of priority 3 on eth0 egress",
            "tc filter del dev eth0 egress prio 3",
        ),
        (
            "hand_over",
            "echo 0 >/proc/sys/net/ipv4/tcp_sack",
            "net.ipv4.tcp_sack is 0",
            "echo 1 >/proc/sys/net/ipv4/tcp_sack",
        ),
    ];
    for (subject, change, sentence, undo) in cases {
        assert_eq!(standing(&lab, subject), Vec::<String>::new());
        t1.sh(change).unwrap_or_else(|e| panic!("{e}"));
        lab.wait_for(sentence, AT_ONCE, || {
            let found = standing(&lab, subject);
            if found.iter().any(|f| f.contains(sentence)) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        let log = std::fs::read_to_string(lab.files().join("agent-t1.log")).expect("its log is read");
        assert!(log.contains(sentence), "the agent's log has it");
        t1.sh(undo).unwrap_or_else(|e| panic!("{e}"));
        lab.wait_for(&format!("an end of {sentence}"), AT_ONCE, || {
            let found = standing(&lab, subject);
            if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
}
