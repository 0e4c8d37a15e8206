//! A good file becomes the right values; every mistake is found at its place, with its fix; every key is documented.

mod etcd;
mod mistakes;
mod quic;

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use model::dpt::{Affinity, Encapsulation, Method};
use model::limits::Rate;
use model::{Limits, Protocol, Rank, StackName};

use super::mistake::Ledger;
use super::read::KeyFiles;
use super::{Candidate, Config, Destip, Idle, Mistakes, Moveable, TargetRules, Weights, read};

/// A file that has every key, but those of `etcd`.
const GOOD: &str = include_str!("tests/good.toml");

fn parse(text: &str) -> Result<Config, Mistakes> {
    Config::parse("batond.toml", text, Path::new("/etc/baton"))
}

fn good() -> Config {
    parse(GOOD).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn name(name: &str) -> StackName {
    StackName::new(name).unwrap()
}

#[test]
fn a_good_file_becomes_the_values_it_says() {
    let config = good();
    assert_eq!(config.node.name, name("rt1"));
    assert_eq!(config.node.cluster_address.to_string(), "198.18.0.10, 2001:db8::10");
    assert_eq!(config.cluster.lost_after, Duration::from_millis(1500));
    assert_eq!(config.forwarder.workers, [1, 2]);
    assert_eq!(config.forwarder.idle, Idle::Backoff);
    assert_eq!(config.forwarder.nic.vlan, Some(100));
    assert_eq!(config.forwarder.local.interface, "loc0");
    assert_eq!(config.forwarder.half_open_life, Duration::from_secs(10));
    assert_eq!(config.encapsulation_of(&name("t3")), Encapsulation::L2);
    assert_eq!(config.encapsulation_of(&name("t1")), Encapsulation::Gue);

    let dynamic = &config.vipadynamic;
    assert_eq!(dynamic.defines.len(), 2);
    assert_eq!((dynamic.defines[0].prefix_bits, dynamic.defines[0].moveable), (24, Moveable::WhenIdle));
    assert_eq!((dynamic.defines[1].prefix_bits, dynamic.defines[1].moveable), (64, Moveable::Immediate));
    assert_eq!(Some(dynamic.backups[0].rank), Rank::new(200));
    let first = &dynamic.distributes[0];
    assert_eq!(first.ports, [80, 443], "sorted");
    assert_eq!((first.protocol, first.method), (Protocol::Tcp, Method::WeightedRoundRobin));
    let by_address = Candidate::Address("198.18.0.22".parse().unwrap());
    let list = vec![Candidate::Name(name("t1")), by_address.clone(), Candidate::Name(name("t3"))];
    assert_eq!(first.destip, Destip::List(list));
    let Weights::Configured(weights) = &first.weights else { panic!("{:?}", first.weights) };
    assert_eq!((weights.len(), weights[&by_address]), (2, 5));
    assert_eq!(first.policies[0].client.to_string(), "198.18.1.0/24");
    let rules = (first.rules.panic_percent, first.rules.slow_start_s, first.rules.max_connections);
    assert_eq!(rules, (50, 30, NonZeroU32::new(10_000)));
    assert_eq!(first.rules.affinity, Some(Affinity { seconds: 600, clients: 4096 }));
    let rate = |per_s, burst| NonZeroU32::new(per_s).zip(NonZeroU32::new(burst));
    let rate = |per_s, burst| rate(per_s, burst).map(|(per_s, burst)| Rate { per_s, burst });
    assert_eq!(first.limits, Limits { service: rate(5000, 20_000), client: rate(20, 40) });
    let second = dynamic.distributes.last().unwrap();
    assert_eq!(second.limits, Limits::NONE);
    assert_eq!((second.ports.len(), &second.destip, &second.weights), (0, &Destip::All, &Weights::Load));
    assert_eq!(second.rules, TargetRules::default());
    assert_eq!(dynamic.ranges[0].range.to_string(), "198.18.10.0/24");
}

#[test]
fn relative_paths_begin_at_the_file() {
    let cluster = good().cluster;
    assert_eq!(cluster.ca, Path::new("/etc/baton/pki/ca.pem"));
    assert_eq!(cluster.key, Path::new("/etc/baton/rt1.key"));
}

#[test]
fn what_is_left_out_has_its_documented_default() {
    let optional = [
        "heartbeat_ms",
        "lost_after_ms",
        "quiet_after_ms",
        "dead_after_s",
        "peers_listen",
        "takeover_after_ms",
        "lease_ms",
        "directory",
        "metrics",
        "log_level",
        "idle",
        "eal",
        "encapsulation = \"gue\"",
        "fabric_mtu",
        "crt_file",
        "connections_v",
        "flows_udp",
        "half_open",
        "closing_s",
        "vlan",
        "moveable",
        "content_routed",
        "refuse",
        "protocol = \"tcp\"",
    ];
    let keep = |line: &&str| !optional.iter().any(|key| line.starts_with(key));
    let config = parse(&GOOD.lines().filter(keep).collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(config.cluster, super::Cluster { dead_after: None, ..good().cluster });
    assert_eq!(config.vipadynamic.distributes, good().vipadynamic.distributes);
    assert_eq!((config.admin.metrics, config.admin.metrics_socket), (None, None));
    let forwarder = config.forwarder;
    assert_eq!((forwarder.idle, forwarder.eal.len(), forwarder.nic.vlan), (Idle::Pure, 0, None));
    let restored = super::Forwarder {
        idle: Idle::Backoff,
        eal: good().forwarder.eal,
        nic: good().forwarder.nic,
        crt_file: good().forwarder.crt_file,
        ..forwarder
    };
    assert_eq!(restored, good().forwarder);
}

#[test]
fn every_key_is_in_the_documentation() {
    let mut ledger = Ledger::default();
    assert!(read::file(GOOD, Path::new(""), KeyFiles::Leave, &mut ledger).is_some());
    assert!(read::file(&etcd::with_etcd(), Path::new(""), KeyFiles::Leave, &mut ledger).is_some());
    let page = include_str!("../../../docs/configuration.md");
    let keys = ledger.keys();
    assert!(keys.len() > 50, "the good file no longer has every section: {keys:?}");
    let missing: Vec<&String> = keys.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "describe these keys in docs/configuration.md: {missing:?}");
}

#[test]
fn the_good_file_has_every_key() {
    let mut ledger = Ledger::default();
    assert!(read::file(GOOD, Path::new(""), KeyFiles::Leave, &mut ledger).is_some());
    let all = etcd::with_etcd() + GOOD;
    let missing = |key: &&String| {
        let word = key.rsplit('.').next().unwrap();
        !all.contains(&format!("{word} =")) && !all.contains(&format!("[{key}]"))
    };
    let missing: Vec<&String> = ledger.keys().iter().filter(missing).collect();
    assert!(missing.is_empty(), "add them to good.toml: {missing:?}");
}

#[test]
fn the_documented_example_is_a_good_file() {
    let page = include_str!("../../../docs/configuration.md");
    let example =
        page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    parse(example).unwrap_or_else(|mistakes| panic!("{mistakes}"));
}

#[test]
fn a_reload_may_change_definitions_and_how_stacks_are_reached() {
    let new = GOOD
        .replace("ports = [443, 80]", "ports = [8080]")
        .replace("encapsulation = \"gue\"", "encapsulation = \"ipip\"")
        .replace("name = \"t3\"", "name = \"t9\"");
    good().check_reload(&parse(&new).unwrap()).unwrap();
}

#[test]
fn a_reload_refuses_each_change_that_needs_a_restart_and_says_why() {
    let changes = [
        ("name = \"rt1\"", "name = \"rt9\"", "node.name"),
        ("[\"198.18.0.10\", \"2001:db8::10\"]", "[\"198.18.0.10\"]", "node.cluster_address"),
        ("198.18.0.10:7440", "198.18.0.10:7441", "cluster.listen"),
        ("pki/ca.pem", "pki/ca2.pem", "cluster.ca"),
        ("pki/rt1.pem", "pki/rt2.pem", "cluster.certificate"),
        ("rt1.key", "rt2.key", "cluster.key"),
        ("heartbeat_ms = 200", "heartbeat_ms = 100", "cluster.heartbeat_ms"),
        ("198.18.0.10:7441", "198.18.0.10:7442", "cluster.peers_listen"),
        ("takeover_after_ms = 600", "takeover_after_ms = 700", "cluster.takeover_after_ms"),
        ("lost_after_ms = 1500", "lost_after_ms = 1600", "cluster.lost_after_ms"),
        ("\"t1\", \"t2\", \"t3\"]\nlease", "\"t1\", \"t2\", \"t4\"]\nlease", "cluster.witnesses"),
        ("lease_ms = 600", "lease_ms = 700", "cluster.lease_ms"),
        ("lib/baton", "lib/other", "cluster.directory"),
        ("batond.sock", "other.sock", "admin.socket"),
        ("127.0.0.1:9440", "127.0.0.1:9441", "admin.metrics"),
        ("web.token", "other.token", "admin.web"),
        ("route_table = 200", "route_table = 201", "announce"),
        ("log_level = \"info\"", "log_level = \"warn\"", "admin.log_level"),
        ("quiet_after_ms = 600", "quiet_after_ms = 700", "cluster.quiet_after_ms"),
        ("workers = [1, 2]", "workers = [1]", "forwarder.workers"),
        ("\"512\"", "\"1024\"", "forwarder.eal"),
        ("idle = \"backoff\"", "idle = \"pure\"", "forwarder.idle"),
        ("vlan = 100", "vlan = 101", "forwarder.port (nic)"),
        ("loc0", "loc2", "forwarder.port (local)"),
        ("hugepages/baton/crt", "hugepages/other", "forwarder.crt_file"),
        ("connections_v4 = 1000000", "connections_v4 = 2000000", "forwarder.connections_v4"),
        ("connections_v6 = 250000", "connections_v6 = 260000", "forwarder.connections_v6"),
        ("flows_udp = 262144", "flows_udp = 131072", "forwarder.flows_udp"),
        ("half_open = 262144", "half_open = 131072", "forwarder.half_open"),
        ("fabric_mtu = 1500", "fabric_mtu = 9000", "forwarder.fabric_mtu"),
        ("idle_tcp_s = 3600", "idle_tcp_s = 60", "forwarder.idle_tcp_s"),
        ("idle_udp_s = 120", "idle_udp_s = 60", "forwarder.idle_udp_s"),
        ("half_open_s = 10", "half_open_s = 5", "forwarder.half_open_s"),
        ("closing_s = 4", "closing_s = 5", "forwarder.closing_s"),
    ];
    for (from, to, key) in changes {
        assert!(GOOD.contains(from), "{from}");
        let frozen = good().check_reload(&parse(&GOOD.replace(from, to)).unwrap()).unwrap_err();
        assert_eq!(frozen.iter().map(|f| f.key).collect::<Vec<_>>(), [key]);
        assert!(frozen[0].to_string().contains("restart it"), "{}", frozen[0]);
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics_and_a_refused_one_has_a_mistake(text in ".{0,200}") {
        if let Err(mistakes) = parse(&text) {
            assert!(mistakes.iter().count() > 0);
            assert!(!mistakes.report(false).is_empty());
        }
    }

    #[test]
    fn a_damaged_file_never_panics(at in 0..GOOD.len(), len in 0..40_usize, put in "[a-z\"\\[\\]=0-9\n.{}é]{0,6}") {
        let mut text = GOOD.to_owned();
        text.replace_range(at..(at + len).min(GOOD.len()), &put);
        if let Err(mistakes) = parse(&text) {
            assert!(!mistakes.report(true).is_empty());
        }
    }
}

#[test]
fn a_device_on_a_kernel_interface_names_it() {
    assert_eq!(super::shared_interface("net_af_packet0,iface=eth0,qpairs=2"), Some("eth0"));
    for device in ["0000:01:00.0", "net_tap0,iface=loc0", "net_virtio_user0,path=/dev/vhost-net,iface=loc0"] {
        assert_eq!(super::shared_interface(device), None, "{device}");
    }
}
