use std::path::Path;
use std::time::Duration;

use model::control_socket::JobName;
use model::control_socket::request::Role;
use transport::private::Access;

use super::Config;
use crate::control_socket::Rule;

const GOOD: &str = r#"[node]
name = "t1"
cluster_address = ["198.18.0.21", "2001:db8::21"]
interface = "eth0"

[cluster]
ca = "pki/ca.pem"
certificate = "pki/t1.pem"
key = "/etc/t1.key"

[[routing_stack]]
name = "rt1"
control = "198.18.0.10:7440"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/etc/baton/agent.toml"), text)
        .map_err(|e| e.lines().collect::<Vec<_>>().join("\n"))
}

#[test]
fn defaults_and_relative_paths() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.node.interfaces, ["eth0"]);
    assert_eq!(config.cluster.ca, Path::new("/etc/baton/pki/ca.pem"));
    assert_eq!(config.cluster.key, Path::new("/etc/t1.key"));
    assert_eq!(config.cluster.heartbeat, Duration::from_millis(200));
    assert_eq!(config.cluster.lost_after, Duration::from_millis(1500));
    assert_eq!(config.admin_socket, Path::new("/run/baton/agent.sock"));
    assert_eq!(config.bpf.pin, Path::new("/sys/fs/bpf/baton"));
    assert_eq!(config.applications.socket, Path::new("/run/baton/applications.sock"));
    let applications = &config.applications;
    assert_eq!((applications.mode, applications.group, &applications.users), (0o660, None, &None));
    assert_eq!(config.repair, Duration::from_secs(10));
}

#[test]
fn the_log_level_is_a_word() {
    use tracing::level_filters::LevelFilter;
    assert_eq!(parse(GOOD).unwrap().log_level, LevelFilter::INFO);
    assert_eq!(parse(&format!("{GOOD}[log]\nlevel = \"debug\"\n")).unwrap().log_level, LevelFilter::DEBUG);
    let mistake = parse(&format!("{GOOD}[log]\nlevel = \"loud\"\n")).unwrap_err();
    assert!(mistake.contains("`loud` is no level") && mistake.contains("debug"), "{mistake}");
}

#[test]
fn what_a_running_agent_can_not_change_is_named() {
    let config = parse(GOOD).unwrap();
    let with = |from: &str, to: &str| parse(&GOOD.replace(from, to)).unwrap();
    assert_eq!(config.needs_restart(&with("pki/t1.pem", "pki/new.pem")), None);
    assert_eq!(config.needs_restart(&with(":7440", ":7441")), None);
    assert_eq!(config.needs_restart(&with("\"eth0\"", "\"eth1\"")), Some("[node]"));
}

#[test]
fn several_interfaces() {
    let config = parse(&GOOD.replace("\"eth0\"", "[\"eth0\", \"eth1\"]")).unwrap();
    assert_eq!(config.node.interfaces, ["eth0", "eth1"]);
}

#[test]
fn containers_have_ports_and_addresses() {
    use model::Protocol;
    let section = "[[container]]\nport = 8080\naddress = \"172.17.0.2:80\"\n\n\
                   [[container]]\nprotocol = \"udp\"\nport = 53\ndvipa = \"2001:db8:9::1\"\naddress = \"[fd00::2]:53\"\n";
    let config = parse(&format!("{GOOD}{section}")).unwrap();
    let [web, dns] = config.containers[..] else { panic!("{:?}", config.containers) };
    assert_eq!((web.protocol, web.port, web.dvipa), (Protocol::Tcp, 8080, None));
    assert_eq!((web.address, dns.protocol), ("172.17.0.2:80".parse().unwrap(), Protocol::Udp));
    assert_eq!(dns.dvipa, Some("2001:db8:9::1".parse().unwrap()));
    assert_eq!(parse(GOOD).unwrap().needs_restart(&config), Some("[[container]]"));
    for (from, to, mistake) in [
        ("8080", "0", "port 0 is none"),
        (
            "protocol = \"udp\"\nport = 53\ndvipa = \"2001:db8:9::1\"\naddress = \"[fd00::2]:53\"",
            "port = 8080\naddress = \"172.17.0.3:80\"",
            "twice",
        ),
        ("2001:db8:9::1", "198.18.9.1", "different families"),
    ] {
        let said = parse(&format!("{GOOD}{}", section.replacen(from, to, 1))).unwrap_err();
        assert!(said.contains(mistake), "{said}");
    }
}

#[test]
fn checks_have_defaults_and_each_kind_its_own_keys() {
    use crate::checks::Asks;
    let section = "[[check]]\nports = [80]\nkind = \"http\"\n\n\
                   [[check]]\nports = [53]\nprotocol = \"udp\"\nkind = \"script\"\ncommand = [\"/bin/check\", \"-x\"]\n\
                   dvipa = [\"198.18.9.0/24\"]\ninterval_s = 1\nrise = 1\nfall = 5\n";
    let config = parse(&format!("{GOOD}{section}")).unwrap();
    let [web, dns] = &config.checks[..] else { panic!("{:?}", config.checks) };
    assert_eq!(web.asks, Asks::Http { path: "/".to_owned(), host: None, status: None });
    assert_eq!((web.interval, web.timeout), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!((web.rise, web.fall, &web.dvipas), (2, 3, &None));
    assert_eq!(dns.asks, Asks::Script { command: vec!["/bin/check".to_owned(), "-x".to_owned()] });
    assert_eq!((dns.rise, dns.fall, dns.timeout), (1, 5, Duration::from_secs(1)));
    assert_eq!(parse(GOOD).unwrap().needs_restart(&config), None);
    assert_eq!(parse(GOOD).unwrap().unanswered, Some(Duration::from_secs(30)));
    assert_eq!(parse(&format!("{GOOD}[watch]\nunanswered_s = 0\n")).unwrap().unanswered, None);
    for (from, to, mistake) in [
        ("[80]", "[]", "about no port"),
        ("[80]", "[0]", "port 0 is none"),
        ("kind = \"http\"", "kind = \"http\"\ncommand = [\"/bin/check\"]", "for checks of kind \"script\""),
        ("kind = \"http\"", "kind = \"http\"\npath = \"healthz\"", "not a path"),
        ("kind = \"http\"", "kind = \"http\"\nhost = \"a b\"", "no host"),
        ("kind = \"http\"", "kind = \"http\"\nstatus = [20]", "from 100 to 599"),
        ("kind = \"http\"", "kind = \"tcp\"\nservice = \"x\"", "for checks of kind \"grpc\""),
        ("kind = \"http\"", "kind = \"http\"\ntimeout_ms = 3000", "longer than until the next question"),
        ("kind = \"http\"", "kind = \"http\"\ninterval_s = 0", "0 is none"),
        ("\"/bin/check\", ", "\"check\", ", "whole path"),
        ("kind = \"script\"\ncommand = [\"/bin/check\", \"-x\"]", "kind = \"tcp\"", "only a script"),
    ] {
        let said = parse(&format!("{GOOD}{}", section.replacen(from, to, 1))).unwrap_err();
        assert!(said.contains(mistake), "{to}: {said}");
    }
}

#[test]
fn who_may_use_the_control_socket() {
    let section =
        "[applications]\nsocket = \"a.sock\"\nmode = 0o600\ngroup = \"root\"\nusers = [\"root\", 33]\n";
    let applications = parse(&format!("{GOOD}{section}")).unwrap().applications;
    assert_eq!(applications.socket, Path::new("/etc/baton/a.sock"));
    assert_eq!((applications.mode, applications.group), (0o600, Some(0)));
    assert_eq!(applications.users, Some(vec![0, 33]));
}

/// What is written, instead of what, the line of the mistake, and words of what is said.
#[test]
fn every_mistake_names_its_line_and_the_fix() {
    let rows = [
        ("name = \"t1\"", "name = \"T1\"", 2, "is not a stack name"),
        ("[\"198.18.0.21\", \"2001:db8::21\"]", "[]", 3, "needs one address"),
        ("\"2001:db8::21\"", "\"198.18.0.22\"", 3, "needs one address"),
        ("\"198.18.0.21\"", "\"198.18.0.256\"", 3, "invalid"),
        ("interface = \"eth0\"", "interface = []", 4, "1 to 15 characters"),
        ("interface = \"eth0\"", "interface = 7", 4, "an interface's name"),
        ("interface = \"eth0\"", "interface = \"eth0\"\nfabric_mtu = 576", 5, "1280"),
        ("interface = \"eth0\"", "interfaces = \"eth0\"", 4, "unknown field"),
        ("ca = \"pki/ca.pem\"\n", "", 6, "missing field `ca`"),
        ("key = \"/etc/t1.key\"", "key = \"k\"\nheartbeat_ms = 0", 10, "write 200"),
        ("key = \"/etc/t1.key\"", "key = \"k\"\nlost_after_ms = 500", 10, "600"),
        ("198.18.0.10:7440", "198.18.0.10", 13, "invalid"),
        ("[[routing_stack]]", "[bpf]\ncontainer_mark = 3\n[[routing_stack]]", 12, "0x2000"),
        ("[[routing_stack]]", "[watch]\nrepair_s = 0\n[[routing_stack]]", 12, "write 10"),
        ("name = \"rt1\"", "name = \"rt_1\"", 12, "is not a stack name"),
        ("[[routing_stack]]", "[applications]\nmode = 1600\n[[routing_stack]]", 12, "0o before the digits"),
        ("[[routing_stack]]", "[applications]\ngroup = \"no such\"\n[[routing_stack]]", 12, "getent"),
        (
            "[[routing_stack]]",
            "[applications]\nusers = [0, \"no such\"]\n[[routing_stack]]",
            12,
            "no user `no such`",
        ),
        ("[[routing_stack]]", "[applications]\nusers = [0, []]\n[[routing_stack]]", 12, "a name in quotes"),
        (
            "[[routing_stack]]",
            "[[application]]\nrole = \"target\"\n[[routing_stack]]",
            12,
            "neither a user nor a group",
        ),
        ("[[routing_stack]]", "[[application]]\nuser = 7\n[[routing_stack]]", 11, "missing field `role`"),
        (
            "[[routing_stack]]",
            "[[application]]\nuser = 7\nrole = \"routing\"\nhold_accepts = true\n[[routing_stack]]",
            13,
            "only targets hold accepts",
        ),
        (
            "[[routing_stack]]",
            "[[application]]\nuser = 7\nrole = \"target\"\ndvipa = [\"web\"]\n[[routing_stack]]",
            14,
            "`web` is no address and no network",
        ),
        (
            "[[routing_stack]]",
            "[[application]]\nuser = 7\nrole = \"target\"\nports = [80, 0]\n[[routing_stack]]",
            14,
            "port 0 is none",
        ),
    ];
    for (good, bad, line, says) in rows {
        let mistake = parse(&GOOD.replacen(good, bad, 1)).unwrap_err();
        let place = format!("/etc/baton/agent.toml:{line}:");
        assert!(mistake.starts_with(&place) && mistake.contains(says), "for {bad}: {mistake}");
    }
}

#[test]
fn a_routing_stack_is_needed_once() {
    let none = GOOD.split("[[routing").next().unwrap();
    assert!(parse(none).unwrap_err().contains("routing_stack"));
    let twice = format!("{GOOD}[[routing_stack]]\nname = \"rt1\"\ncontrol = \"198.18.0.11:7440\"\n");
    assert!(parse(&twice).unwrap_err().contains("agent.toml:15:8: `rt1` is here twice"));
}

#[test]
fn rules_say_who_may_register_for_what() {
    let rule = "[[application]]\nuser = \"root\"\nrole = \"target\"\ndvipa = [\"198.18.9.1\", \"2001:db8:9::/64\"]\n\
                ports = [80, 443]\njob = [\"images\"]\nhold_accepts = true\n[[application]]\ngroup = 33\nrole = \"routing\"\n";
    let text = format!("{GOOD}{rule}");
    let config = Config::parse(Path::new("/etc/baton/agent.toml"), &text).unwrap_or_else(|e| panic!("{e:?}"));
    let networks = ["198.18.9.1/32", "2001:db8:9::/64"].map(|network| network.parse().unwrap());
    let first = Rule {
        users: [0].into(),
        group: None,
        dvipas: Some(networks.to_vec()),
        ports: Some([80, 443].into()),
        jobs: Some([JobName::new("images").unwrap()].into()),
        role: Role::Target,
        hold_accepts: true,
    };
    let [one, other] = &config.applications.rules.rules[..] else { panic!("{config:?}") };
    assert_eq!(*one, first);
    assert_eq!((other.group, other.role, other.hold_accepts), (Some(33), Role::Routing, false));
    let before = Config::parse(Path::new("/etc/baton/agent.toml"), GOOD).unwrap();
    assert_eq!(before.needs_restart(&config), None);
}

#[test]
fn metrics_can_have_a_socket_of_their_own() {
    let admin = "[admin]\nmetrics = \"192.0.2.21:9441\"\nmetrics_socket = \"/run/m.sock\"\nmetrics_mode = 0o640\nmetrics_group = 33\n";
    let text = format!("{GOOD}{admin}");
    let config = Config::parse(Path::new("/etc/baton/agent.toml"), &text).unwrap_or_else(|e| panic!("{e:?}"));
    let access = Access { mode: 0o640, group: Some(33) };
    assert_eq!(config.metrics, Some("192.0.2.21:9441".parse().unwrap()));
    assert_eq!(config.metrics_socket, Some(("/run/m.sock".into(), access)));
    let before = Config::parse(Path::new("/etc/baton/agent.toml"), GOOD).unwrap();
    assert_eq!((before.metrics_socket.as_ref(), before.needs_restart(&config)), (None, Some("[admin]")));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let bad = GOOD.replace("name = \"t1\"", "name = \"T1\"").replace("name = \"rt1\"", "name = \"RT1\"");
    assert_eq!(parse(&bad).unwrap_err().lines().count(), 2);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let missing = Config::load(Path::new("/nonexistent/agent.toml")).unwrap_err();
    let line = missing.lines().next().unwrap();
    assert!(line.starts_with("/nonexistent/agent.toml: it cannot be read"), "{line}");
}

#[test]
fn every_key_is_in_the_docs() {
    let docs = include_str!("../../../docs/configuration.md");
    let section =
        docs.split("## agent.toml").nth(1).expect("docs/configuration.md has a section `## agent.toml`");
    let section = section.split("\n## ").next().unwrap_or(section);
    let file = include_str!("file.rs");
    for line in file.lines().filter_map(|l| l.trim().strip_prefix("pub(super) ")) {
        let Some((key, _)) = line.split_once(':') else { continue };
        assert!(
            section.contains(&format!("`{key}`")) || section.contains(&format!("[{key}]")),
            "document `{key}`"
        );
    }
}
