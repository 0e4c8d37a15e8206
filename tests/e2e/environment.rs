//! What others change under the agents and the routing node: put right, or named.

use std::time::{Duration, Instant};

use lab::client::ask_often;
use lab::spec::DVIPA;
use lab::{Lab, Spec};
use serde_json::Value;

use crate::fixture::{SOON, connect, established, lab, web4, web6};

/// Within a second, on a machine that is shared by several labs.
const AT_ONCE: Duration = Duration::from_secs(3);

/// What t1's agent shows.
fn agent(lab: &Lab) -> Value {
    lab.agent("t1").expect("the agent answers")
}

/// What `batond` shows.
fn batond(lab: &Lab) -> Value {
    lab.baton_json(&["status"]).expect("baton status answers")
}

/// How often something of this kind was put right.
fn put_right(status: &Value, subject: &str) -> u64 {
    status["environment"]["put_right"][subject].as_u64().unwrap_or_default()
}

/// The sentences of what can't be put right.
fn standing(status: &Value, subject: &str) -> Vec<String> {
    let findings = status["environment"]["standing"].as_array().cloned().unwrap_or_default();
    let of_subject = findings.iter().filter(|f| f["subject"] == subject);
    of_subject.map(|f| f["sentence"].as_str().unwrap_or_default().to_owned()).collect()
}

/// What each of these commands changes on a host is soon as it was, and the program that shows `status` says so. Of each: the
/// subject, the command, and one that succeeds when all is right.
fn are_put_right(lab: &Lab, host: &str, status: fn(&Lab) -> Value, cases: &[(&str, String, String)]) {
    for (subject, change, is_right) in cases {
        let before = put_right(&status(lab), subject);
        lab.host(host).sh(change).unwrap_or_else(|e| panic!("{e}"));
        let begun = Instant::now();
        lab.wait_for(&format!("what `{change}` did to be put right"), SOON, || {
            lab.host(host).sh(is_right).map(drop).map_err(|e| e.to_string())
        })
        .unwrap_or_else(|e| panic!("{e}"));
        let elapsed = begun.elapsed();
        assert!(elapsed < AT_ONCE, "`{change}`: put right after {elapsed:?}");
        lab.wait_for(&format!("`{change}` to be shown as put right"), SOON, || {
            let status = status(lab);
            if put_right(&status, subject) > before { Ok(()) } else { Err(status["environment"].to_string()) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
}

/// What each of these commands changes on a host is soon named, in `status` and in the log, and no longer when it is undone. Of
/// each: the subject, the command, a part of the sentence, and the command that undoes it.
fn are_named(lab: &Lab, (host, log): (&str, &str), status: fn(&Lab) -> Value, cases: &[[&str; 4]]) {
    for [subject, change, sentence, undo] in cases {
        assert_eq!(standing(&status(lab), subject), Vec::<String>::new());
        lab.host(host).sh(change).unwrap_or_else(|e| panic!("{e}"));
        lab.wait_for(sentence, AT_ONCE, || {
            let found = standing(&status(lab), subject);
            if found.iter().any(|f| f.contains(sentence)) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        // Longer than a look takes to come.
        std::thread::sleep(Duration::from_millis(1200));
        let log = std::fs::read_to_string(lab.files().join(log)).expect("its log is read");
        let named = log.lines().filter(|line| line.contains(sentence) && line.contains("WARN")).count();
        assert_eq!(named, 1, "the log has it once:\n{log}");
        lab.host(host).sh(undo).unwrap_or_else(|e| panic!("{e}"));
        lab.wait_for(&format!("an end of {sentence}"), AT_ONCE, || {
            let found = standing(&status(lab), subject);
            if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Each target is reached by both families.
fn all_are_reached(lab: &Lab) {
    lab.wait_until_ready().unwrap_or_else(|e| panic!("{e}"));
    for to in [web4(), web6()] {
        let seen = ask_often(lab.client(), to, 12);
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["t1", "t2", "t3"], "{seen:?}");
    }
}

/// R9: DVIPAs, settings and programs of a target that are removed or changed are back within a second, and the
/// agent says so.
#[test]
#[ignore = "needs root"]
fn what_is_changed_under_an_agent_is_put_right() {
    let lab = lab(Spec::default());
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
            "setting",
            "echo 0 >/proc/sys/net/ipv6/conf/eth0/use_oif_addrs_only".to_owned(),
            "[ $(cat /proc/sys/net/ipv6/conf/eth0/use_oif_addrs_only) = 1 ]".to_owned(),
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
    are_put_right(&lab, "t1", agent, &cases);
    // All of it is as it was.
    all_are_reached(&lab);
}

/// R9: another product's program before the agent's, and settings that keep connections from moving, are named in status
/// and metrics while they last.
#[test]
#[ignore = "needs root"]
fn what_an_agent_cannot_put_right_is_named() {
    let lab = lab(Spec::default());
    let cases = [
        [
            "order",
            "tc filter add dev eth0 ingress prio 1 bpf bytecode '1,6 0 0 0,'",
            "a filter (bpf) of priority 1 on eth0 ingress",
            "tc filter del dev eth0 ingress prio 1",
        ],
        [
            "order",
            "tc filter add dev eth0 egress prio 3 bpf bytecode '1,6 0 0 0,'",
            "a filter (bpf) of priority 3 on eth0 egress",
            "tc filter del dev eth0 egress prio 3",
        ],
        [
            "hand_over",
            "echo 0 >/proc/sys/net/ipv4/tcp_sack",
            "net.ipv4.tcp_sack is 0",
            "echo 1 >/proc/sys/net/ipv4/tcp_sack",
        ],
    ];
    are_named(&lab, ("t1", "agent-t1.log"), agent, &cases);
}

/// R9: settings, offloads and the address that the routing node's kernel needs are put right within a second while `batond` runs,
/// also those that the kernel tells nobody of.
#[test]
#[ignore = "needs root"]
fn what_is_changed_under_a_routing_node_is_put_right() {
    let lab = lab(Spec::default());
    let (v4, v6) = ("/proc/sys/net/ipv4", "/proc/sys/net/ipv6");
    let setting = |path: String, changed: u32, right: u32| {
        ("setting", format!("echo {changed} >{path}"), format!("[ $(cat {path}) = {right} ]"))
    };
    let offload = |interface: &str, name: &str, shown: &str| {
        let is_off = format!("ethtool -k {interface} | grep -q '^{shown}: off'");
        ("offload", format!("ethtool -K {interface} {name} on >/dev/null"), is_off)
    };
    let address = lab::fabric::mac(lab::spec::RoutingNode::First.number());
    let mut cases = vec![
        setting(format!("{v4}/conf/all/rp_filter"), 1, 0),
        setting(format!("{v4}/conf/loc0/rp_filter"), 1, 0),
        setting(format!("{v4}/conf/loc0/accept_local"), 0, 1),
        setting(format!("{v4}/conf/all/send_redirects"), 1, 0),
        setting(format!("{v4}/conf/loc0/send_redirects"), 1, 0),
        setting(format!("{v4}/conf/eth0/rp_filter"), 0, 1),
        setting(format!("{v4}/conf/eth0/arp_ignore"), 0, 8),
        setting(format!("{v6}/conf/eth0/disable_ipv6"), 0, 1),
        (
            "setting",
            format!("echo 1 >{v4}/ip_forward; echo 0 >{v4}/ip_forward"),
            format!("[ $(cat {v4}/conf/loc0/forwarding) = 1 ]"),
        ),
        offload("loc0", "tx", "tx-checksumming"),
        offload("loc1", "gro", "generic-receive-offload"),
        (
            "address",
            "ip link set loc0 address 02:00:00:00:00:99".to_owned(),
            format!("ip link show loc0 | grep -q 'link/ether {address}'"),
        ),
    ];
    let one = format!("{v6}/conf/loc0/force_forwarding");
    let has_one = lab.host("rt1").sh(&format!("cat {one}")).is_ok();
    let path = if has_one { one } else { format!("{v6}/conf/all/forwarding") };
    cases.push(setting(path, 0, 1));
    are_put_right(&lab, "rt1", batond, &cases);
    let others = lab.host("rt1").sh(&format!("cat {v4}/conf/lo/rp_filter")).expect("it is read");
    assert_eq!(others.trim(), "1", "other interfaces keep what was set for all of them");
    all_are_reached(&lab);
}

/// R9: what `batond` can't put right in its kernel is named in the log, in `baton status` and in the metrics while it lasts.
#[test]
#[ignore = "needs root"]
fn what_a_routing_node_cannot_put_right_is_named() {
    let lab = lab(Spec::default());
    let rt1 = lab.host("rt1");
    let cases = [
        ["mtu", "ip link set loc0 mtu 1400", "the MTU of loc0 is 1400", "ip link set loc0 mtu 1500"],
        ["mtu", "ip link set eth0 mtu 1400", "the MTU of eth0 is 1400", "ip link set eth0 mtu 1500"],
        ["interface", "ip link set loc1 down", "loc1 (which a port reads) is down", "ip link set loc1 up"],
    ];
    are_named(&lab, ("rt1", "batond.log"), batond, &cases);
    rt1.sh("ip link set loc0 mtu 9000").expect("it is set");
    lab.wait_for("the metric", AT_ONCE, || {
        let metrics = rt1.sh("curl -sf http://127.0.0.1:9440/metrics").map_err(|e| e.to_string())?;
        let good = metrics.contains("baton_environment_standing{subject=\"mtu\"} 1\n");
        if good { Ok(()) } else { Err(metrics) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let shown = lab.baton(&["status"]).expect("baton status answers");
    assert!(shown.contains("TO DO: the MTU of loc0 is 9000 and fabric_mtu is 1500"), "{shown}");
    rt1.sh("ip link set loc0 mtu 1500").expect("it is set");
    all_are_reached(&lab);
}

/// R9: an agent whose interface gets another MTU says so at once, and again when it is the old one.
#[test]
#[ignore = "needs root"]
fn an_agent_says_when_its_mtu_changes() {
    let lab = lab(Spec::default());
    let file = lab.files().join("t1.toml");
    let text = std::fs::read_to_string(&file).expect("it is read");
    let without = text.lines().filter(|line| !line.starts_with("fabric_mtu")).collect::<Vec<_>>().join("\n");
    std::fs::write(&file, without).expect("it is written");
    lab.stop("agent-t1", nix::sys::signal::Signal::SIGTERM).expect("it ends");
    lab.start_agent("t1").expect("it starts");
    lab.wait_for_session("t1", "up").expect("it is back");
    let named = "t1: fabric_mtu is 1400 there and 1500 here";
    for (mtu, is_named) in [(1400, true), (1500, false)] {
        lab.host("t1").sh(&format!("ip link set eth0 mtu {mtu}")).expect("it is set");
        lab.wait_for("baton status", AT_ONCE, || {
            let shown = lab.baton(&["status"]).map_err(|e| e.to_string())?;
            if shown.contains(named) == is_named { Ok(()) } else { Err(shown) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
    all_are_reached(&lab);
}

/// R9: a target and a client that leave checksums to a veth, which computes none, are lost on the way and named: by `batond`,
/// whose sessions they are, and by the agent that their packets are for.
#[test]
#[ignore = "needs root"]
fn checksums_that_no_device_computes_are_named() {
    let lab = lab(Spec::default());
    let tx = |host: &str, word: &str| {
        lab.host(host).sh(&format!("ethtool -K eth0 tx {word} >/dev/null")).expect("ethtool runs");
    };
    // The lab's switch computes them, as a NIC would, until it is a veth as the kernel makes it.
    lab.switch().sh("ethtool -K rt1 tx on >/dev/null").expect("ethtool runs");
    tx("t1", "on");
    lab.wait_for_session("t1", "lost").unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for("batond to name the cause", SOON, || {
        let shown = lab.baton(&["status"]).map_err(|e| e.to_string())?;
        let named = shown.contains("TO DO: packets with wrong TCP or UDP checksums");
        if named && shown.contains("tx off") { Ok(()) } else { Err(shown) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    tx("t1", "off");
    lab.wait_for_session("t1", "up").unwrap_or_else(|e| panic!("{e}"));

    tx("client", "on");
    lab.wait_for("an agent to name the cause", Duration::from_secs(40), || {
        let crowd = format!("for i in $(seq 12); do curl -s -m 3 http://{}/ & done; wait", web4());
        lab.client().sh(&crowd).map_err(|e| e.to_string())?;
        let status = ["t1", "t2", "t3"].map(|target| lab.agent(target).map_err(|e| e.to_string()));
        let named = |s: &Result<Value, String>| {
            s.as_ref().is_ok_and(|s| s["environment"]["standing"].to_string().contains("checksum"))
        };
        if status.iter().any(named) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    tx("client", "off");
    all_are_reached(&lab);
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
