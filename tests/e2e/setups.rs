//! The set-ups of `examples/setups/`, each brought up from its own files; then what its README shows is done, and has to come out as it
//! stands there.
//!
//! Of the files a lab replaces [`OF_THE_LAB`], gives `agent.toml`, which is t1's, the names and addresses of the other hosts, and has its
//! own directory in the place of `/etc/baton`. Everything else is as it stands there: names, addresses, definitions, checks.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use lab::spec::{self, RoutingNode, Web};
use lab::{Lab, Spec};

use crate::fixture::SOON;
use crate::{bgp, databases, health};

/// What belongs to a machine and not to a set-up: sockets and directories that labs must not share, devices and cores; and sizes and
/// times for two cores that everything shares.
const OF_THE_LAB: &[(&str, &[&str])] = &[
    ("admin", &["socket"]),
    ("cluster", &["directory", "heartbeat_ms", "lost_after_ms", "lease_ms"]),
    ("forwarder", &["workers", "idle", "eal", "port", "rx_descriptors", "tx_descriptors"]),
    ("forwarder", &["connections_v4", "connections_v6", "flows_udp", "half_open"]),
    ("applications", &["socket"]),
    ("witness", &["directory"]),
    ("bpf", &["pin"]),
];

const TARGETS: [&str; 3] = ["t1", "t2", "t3"];

/// A command of a page, on which host, and what it prints.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) host: String,
    pub(crate) command: String,
    pub(crate) output: String,
}

/// A file of a set-up, or the one that all have that have none of their own.
fn file(setup: &str, name: &str) -> String {
    let all = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/setups"));
    let own = all.join(setup).join(name);
    let path = if own.exists() { own } else { all.join(name) };
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What stands in a page's blocks: lines `HOST$ COMMAND`, and what each prints below it.
pub(crate) fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in page.split("```console\n").skip(1).filter_map(|b| b.split("```").next()).flat_map(str::lines)
    {
        let is_host = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match line.split_once("$ ").filter(|(host, _)| is_host(host)) {
            Some((host, command)) => {
                let (host, command) = (host.to_owned(), command.to_owned());
                steps.push(Step { host, command, output: String::new() });
            }
            None => {
                let last = steps.last_mut().expect("a block begins with a command");
                last.output += &format!("{line}\n");
            }
        }
    }
    assert!(steps.len() > 1, "the page shows nothing");
    steps
}

/// Puts a file in the place of the lab's own, whose [`OF_THE_LAB`] it gets.
fn put(lab: &Lab, own: &str, text: &str) {
    let path = lab.files().join(own);
    let text = text.replace("/etc/baton", &lab.files().display().to_string());
    let parse = |text: &str| text.parse::<toml::Table>().expect("TOML");
    let (of_lab, mut given) = (parse(&fs::read_to_string(&path).expect("the lab's own")), parse(&text));
    for (table, keys) in OF_THE_LAB {
        let from = of_lab.get(*table).and_then(toml::Value::as_table);
        let into = given.entry(*table).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        for (key, value) in from.into_iter().flatten().filter(|(key, _)| keys.contains(&key.as_str())) {
            into.as_table_mut().expect("a table").insert(key.clone(), value.clone());
        }
        if into.as_table().is_some_and(toml::Table::is_empty) {
            given.remove(*table);
        }
    }
    fs::write(path, given.to_string()).expect("it is written");
}

/// The hosts of a set-up, with its files; nothing runs yet.
fn built(setup: &str, spec: Spec) -> Lab {
    let lab = Lab::build(spec.web([])).unwrap_or_else(|e| panic!("{e}"));
    for node in lab.spec().routing_nodes() {
        let name = format!("{}.toml", node.batond());
        put(&lab, &name, &file(setup, &name));
    }
    for name in lab.spec().agents() {
        let (v4, v6) = spec::host(spec::number(&name));
        let text = file(setup, "agent.toml")
            .replace("\"t1\"", &format!("\"{name}\""))
            .replace("pki/t1.", &format!("pki/{name}."))
            .replace("198.18.0.21", &v4.to_string())
            .replace("2001:db8::21", &v6.to_string());
        put(&lab, &format!("{name}.toml"), &text);
    }
    lab
}

/// Starts what the set-up consists of.
fn start(lab: &Lab) {
    lab.start_programs().and_then(|()| lab.wait_until_ready()).unwrap_or_else(|e| panic!("{e}"));
}

/// A set-up that runs, without servers.
fn up(setup: &str, spec: Spec) -> Lab {
    let lab = built(setup, spec);
    start(&lab);
    lab
}

/// An nginx on each target.
fn serve(lab: &Lab) {
    for target in TARGETS {
        lab.start_web_as(&Web::wildcard(target).and_tls()).expect("nginx starts");
    }
}

/// Runs a line of shell on a host, in the lab's directory, where `baton` is the operator's on a routing node.
fn run(lab: &Lab, host: &str, command: &str) -> Result<String, String> {
    let script = format!(
        "cd {files}; export PGHOST={files}/postgresql-{host} PGCONNECT_TIMEOUT=5
         baton() {{ {baton} --socket {socket} \"$@\"; }}
         {command}",
        files = lab.files().display(),
        baton = env!("CARGO_BIN_EXE_baton"),
        socket = lab.socket().with_file_name(format!("{host}.sock")).display(),
    );
    lab.host(host).sh(&script).map_err(|e| e.to_string())
}

/// Does what the README shows. Servers, which run under no systemd here, are started by `serve` and stopped by a signal; anything else is
/// repeated until it prints what stands there.
fn follow(lab: &Lab, setup: &str, serve: impl Fn(&str)) {
    for Step { host, command, output } in steps(&file(setup, "README.md")) {
        let node = RoutingNode::ALL.into_iter().find(|node| node.name() == host);
        match (command.split_whitespace().collect::<Vec<_>>().as_slice(), node) {
            (["systemctl", "kill", "--signal=KILL", "batond"], Some(node)) => {
                lab.kill(node.batond()).map(drop)
            }
            (["systemctl", "start", "batond"], Some(node)) => lab.start_batond_of(node),
            (["systemctl", "stop", "postgresql"], None) => lab.kill_all(&host, "postgres"),
            (["systemctl", "stop", server], None) => lab.kill_all(&host, server),
            (["systemctl", "start", _], None) => {
                serve(&host);
                Ok(())
            }
            _ => lab.wait_for(&format!("{host}$ {command}\n{output}"), 3 * SOON, || {
                let said = run(lab, &host, &command)?;
                if said == output { Ok(()) } else { Err(said) }
            }),
        }
        .unwrap_or_else(|e| panic!("examples/setups/{setup}/README.md: {e}"));
    }
    lab.check().expect("everything runs");
}

/// U1, W3, W5, F6: one web service on three hosts; a server that ends is left out.
#[test]
#[ignore = "needs root"]
fn web_requests_are_spread_over_three_hosts() {
    let lab = up("web", Spec::default());
    serve(&lab);
    follow(&lab, "web", |host| lab.start_web(host).expect("nginx starts"));
}

/// T1, T2: requests by host name and path.
#[test]
#[ignore = "needs root"]
fn requests_go_by_host_name_and_path() {
    let lab = up("http-routes", Spec::default());
    serve(&lab);
    follow(&lab, "http-routes", |_| ());
}

/// T1: TLS by the name of the server that clients ask for.
#[test]
#[ignore = "needs root"]
fn tls_clients_go_by_the_name_that_they_ask_for() {
    let lab = up("tls-names", Spec::default());
    serve(&lab);
    follow(&lab, "tls-names", |_| ());
}

/// W7, W8, W12: of two routing nodes the second takes over when the first one dies, by leave of the witnesses; a download goes on.
#[test]
#[ignore = "needs root"]
fn a_second_routing_node_takes_over_by_leave_of_the_witnesses() {
    let lab = up("two-nodes", Spec::default().second("").witnessed());
    serve(&lab);
    for node in [RoutingNode::First, RoutingNode::Second] {
        lab.wait_for("both nodes to know the targets", 3 * SOON, || {
            let rows = lab.dpt_at(node).map_err(|e| e.to_string())?;
            let good = rows.len() == 2 && rows.iter().all(|row| row.selectable() == TARGETS);
            if good { Ok(()) } else { Err(format!("{rows:#?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
    thread::scope(|scope| {
        let download = scope
            .spawn(|| run(&lab, "client", "curl -sS --max-time 60 http://198.18.9.1/slow-enough | wc -c"));
        thread::sleep(Duration::from_millis(700));
        follow(&lab, "two-nodes", |_| ());
        let bytes = download.join().expect("it ends").expect("curl runs");
        assert_eq!(bytes.trim(), (8 << 20).to_string(), "the download is whole");
    });
}

/// B7, W10: two routing nodes at once behind a router, which learns by BGP where the DVIPAs are.
#[test]
#[ignore = "needs root"]
fn two_routing_nodes_share_clients_behind_a_router() {
    let lab = up("bgp", Spec::default().second("").edge());
    bgp::start_bird(&lab);
    serve(&lab);
    follow(&lab, "bgp", |_| ());
}

/// B6, B9: clients of a PostgreSQL reach the server that takes writes, and the standby once that was promoted.
#[test]
#[ignore = "needs root"]
fn database_clients_reach_the_server_that_takes_writes() {
    let lab = built("database", Spec { targets: 2, ..Spec::default() });
    // The check is beside agent.toml, as in /etc/baton.
    let check = lab.files().join("is-primary");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/setups/database/is-primary"), check)
        .expect("it is copied");
    start(&lab);
    databases::start_server(&lab, "t1");
    let primary = spec::host(spec::number("t1")).0.to_string();
    let copy = ["pg_basebackup", "-R", "-c", "fast", "--no-sync", "-U", "postgres", "-h", &primary];
    databases::start_server_with(&lab, "t2", &copy);
    follow(&lab, "database", |_| ());
}

/// R5, U1: a DNS service by UDP and TCP.
#[test]
#[ignore = "needs root"]
fn dns_is_served_by_udp_and_tcp() {
    let lab = up("dns", Spec::default());
    for target in TARGETS {
        let name = format!("--txt-record=who.example,{target}");
        let words =
            ["dnsmasq", "-k", "-C", "/dev/null", "-R", "-h", "-u", "root", "-x", "", "--log-facility=-"];
        let words = [&words[..], &[&name, "--host-record=www.example,198.18.9.1,2001:db8:9::1"]].concat();
        lab.start_on(target, &format!("dnsmasq-{target}"), &words).expect("dnsmasq starts");
    }
    follow(&lab, "dns", |_| ());
}

/// B9: a server that says that it is not well gets no clients, and comes back slowly.
#[test]
#[ignore = "needs root"]
fn a_server_that_is_not_well_gets_no_clients_and_comes_back_slowly() {
    let lab = up("health", Spec::default());
    for target in TARGETS {
        health::set_health(&lab, target, 200);
        let status = health::health(&lab, target).display().to_string();
        let words = ["/usr/bin/python3", "-c", health::SERVER, target, "0.0.0.0", &status];
        lab.start_on(target, &format!("server-{target}"), &words).expect("it starts");
    }
    // Who comes soon after `batond` does not begin slowly.
    thread::sleep(Duration::from_secs(10));
    follow(&lab, "health", |_| ());
}

/// W9: an address that is where its application was started last.
#[test]
#[ignore = "needs root"]
fn an_address_is_where_its_application_was_started_last() {
    let lab = up("moving-address", Spec::default());
    follow(&lab, "moving-address", |host| {
        lab.wait_for("binds to be allowed", SOON, || {
            let allowed = run(&lab, host, "cat /proc/sys/net/ipv4/ip_nonlocal_bind")?;
            if allowed == "1\n" { Ok(()) } else { Err(allowed) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        let web = Web { stack: host.to_owned(), listen: vec!["198.18.10.5:80".to_owned()] };
        lab.start_web_as(&web).expect("nginx starts");
    });
}

/// F6: nobody has an IPv4 address.
#[test]
#[ignore = "needs root"]
fn a_cluster_without_ipv4_serves() {
    let lab = built("ipv6-only", Spec::default());
    for (name, host) in lab.hosts() {
        host.sh("ip -4 address flush scope global").unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    start(&lab);
    serve(&lab);
    follow(&lab, "ipv6-only", |_| ());
}
