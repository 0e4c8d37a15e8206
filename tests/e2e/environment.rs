//! What others change under the agents and the routing node: put right, or named.

use std::time::{Duration, Instant};

use lab::spec::DVIPA;
use lab::{Lab, Spec};

use crate::fixture::{SOON, connect, established, lab, web4, web6};

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
            "tc filter add dev eth0 ingress prio 1 bpf bytecode '1,6 0 0 0,'",
            "a filter (bpf) of priority 1 on eth0 ingress",
            "tc filter del dev eth0 ingress prio 1",
        ),
        (
            "order",
            "tc filter add dev eth0 egress prio 3 bpf bytecode '1,6 0 0 0,'",
            "a filter (bpf) of priority 3 on eth0 egress",
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

/// A stateful filter as hosts have it: nothing invalid, and nothing new but with SYN alone.
const STATEFUL: &str = "nft 'table inet stateful {
    chain in {
        type filter hook input priority 0; policy accept;
        ct state invalid counter drop
        meta l4proto tcp tcp flags & (fin|syn|rst|ack) != syn ct state new counter drop
    }
    chain out {
        type filter hook output priority 0; policy accept;
        ct state invalid counter drop
        meta l4proto tcp tcp flags & (fin|syn|rst|ack) != syn ct state new counter drop
    }
}'";

/// R9: connections that move to hosts with stateful filters go on there, and come back.
#[test]
#[ignore = "needs root"]
fn stateful_filters_on_targets_let_connections_go_on_that_move() {
    let lab = lab(Spec::default());
    for target in ["t1", "t2", "t3"] {
        lab.host(target).sh(STATEFUL).expect("nft runs");
    }
    let mut connections: Vec<_> =
        (0..6).map(|n| connect(&lab, if n % 2 == 0 { web4() } else { web6() })).collect();
    connections.iter().for_each(|(connection, _)| drop(established(&lab, connection)));
    for drained in ["t1", "t2", "t3", "t1"] {
        lab.baton(&["drain", drained, "--move", "--for", "20"]).unwrap_or_else(|e| panic!("{e}"));
        for (connection, before) in &mut connections {
            let answers =
                connection.target().unwrap_or_else(|e| panic!("{drained} drained, was at {before}: {e}"));
            assert_ne!(answers, drained);
            *before = answers;
        }
        lab.baton(&["resume", drained]).unwrap_or_else(|e| panic!("{e}"));
    }
    assert!(lab.transfers().expect("baton stats answers")["injected"] >= 6);
    for target in ["t1", "t2", "t3"] {
        let rules = lab.host(target).sh("nft list table inet stateful").expect("nft runs");
        let dropped: Vec<_> =
            rules.lines().filter(|l| l.contains("counter packets") && !l.contains("packets 0 ")).collect();
        assert_eq!(dropped, Vec::<&str>::new(), "{target} drops nothing");
    }
}

/// R9: the routing node reports the solicited-node group of its IPv6 DVIPA (MLD), so that a snooping switch passes
/// solicitations on to it.
#[test]
#[ignore = "needs root"]
fn the_routing_node_reports_the_groups_of_its_dvipas() {
    let lab = Lab::build(Spec::default()).unwrap_or_else(|e| panic!("{e}"));
    // MLDv2 reports behind a hop-by-hop header.
    let capture = lab.capture("client", "eth0", "ip6[6] == 0 and ip6[48] == 143").expect("a capture");
    lab.start_programs().and_then(|()| lab.wait_until_ready()).unwrap_or_else(|e| panic!("{e}"));
    let group = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1).octets();
    // It is sent when the group is joined, and again within a second (RFC 3810 9.11).
    std::thread::sleep(Duration::from_secs(2));
    let captured = capture.stop().expect("the capture ends");
    let frames = std::fs::read(captured.file()).expect("it is read");
    assert!(frames.windows(group.len()).any(|bytes| bytes == group), "a report of the group on the segment");
}

/// R9: an agent reads certificates, routing stacks and the log level again at SIGHUP, refuses what it can't change, and
/// goes on.
#[test]
#[ignore = "needs root"]
fn an_agent_reads_its_configuration_again() {
    let lab = lab(Spec::default());
    let (file, log) = (lab.files().join("t1.toml"), lab.files().join("agent-t1.log"));
    let text = std::fs::read_to_string(&file).expect("it is read");
    let id = lab.id_of("agent-t1").expect("it runs").to_string();
    let reload = |text: String, said: &str| {
        std::fs::write(&file, text).expect("it is written");
        lab.host("t1").run(&["kill", "-HUP", &id]).expect("it is signalled");
        lab.wait_for(said, SOON, || {
            let log = std::fs::read_to_string(&log).map_err(|e| e.to_string())?;
            if log.contains(said) { Ok(()) } else { Err(log) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    };
    reload(text.replace("interface = \"eth0\"", "interface = \"eth9\""), "needs a restart of the agent");
    reload(text.replace("[node]", "[nodes]"), "is not taken over");
    reload(text.clone(), "the configuration was read again");
    let more = "[[routing_stack]]\nname = \"rt9\"\ncontrol = \"198.18.0.99:7440\"\n\n[admin]";
    reload(text.replace("[admin]", more), "new in the configuration, dialling");
    let stacks = lab.agent("t1").expect("it answers")["routing_stacks"].clone();
    assert!(stacks["rt9"].is_object() && stacks["rt1"]["session"] == "reporting", "{stacks}");
    reload(text, "no longer in the configuration");
    assert_eq!(lab.id_of("agent-t1").map(|id| id.to_string()), Some(id), "it is the same process");
    lab.check().unwrap_or_else(|e| panic!("{e}"));
    assert!(!std::fs::read_to_string(&log).expect("it is read").contains('\x1b'), "no colours in a file");
    // At its end everything it left is removed, and named.
    lab.stop("agent-t1", nix::sys::signal::Signal::SIGTERM).expect("it ends");
    let agent = std::env::current_exe().expect("this test has a path");
    let agent = agent.ancestors().nth(2).expect("the build directory").join("baton-agent");
    let clean_up = || {
        let words = [&*agent.to_string_lossy(), "--config", &*file.to_string_lossy(), "--cleanup"];
        lab.host("t1").run(&words).unwrap_or_else(|e| panic!("{e}"))
    };
    let said = clean_up();
    for what in
        ["removed: the program on eth0 ingress", "pinned maps and links", "removed: 198.18.9.1 from lo"]
    {
        assert!(said.contains(what), "{what}:\n{said}");
    }
    let again = clean_up();
    assert!(again.contains("nothing to remove") && again.contains("another mount namespace"), "{again}");
}
