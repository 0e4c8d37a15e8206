//! Which keys there are: one function a section, in the order of the file.

mod etcd;
mod forwarder;
mod limits;
mod quic;
mod route;
mod vipadynamic;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::dpt::Encapsulation;
use model::{ClusterAddress, StackName};
use toml::de::DeTable;
use tracing::Level;

use super::check::{self, Own};
use super::mistake::Ledger;
use super::section::{At, Section};
use super::tree::{
    Admin, Announce, Cluster, Config, MetricsSocket, Node, RoutingStack, StackOverride, Truth, Web,
};
use super::value::Value;
pub(super) use quic::KeyFiles;

/// `cluster.directory` if it is not set.
const DIRECTORY: &str = "/var/lib/baton";

/// `cluster.quiet_after_ms` if it is not set. A client whose SYN went to a host that has just died repeats it after 1 s (RFC 6298
/// 2.1); by then another target has to be selected, and the last heartbeat was up to 200 ms before the death. Three heartbeats
/// that fail to come are no proof of anything, so that nothing else follows from them.
const QUIET_AFTER: Duration = Duration::from_millis(600);

/// The words for how much is logged.
const LOG_LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

/// The words for what says which configuration is in force.
const TRUTHS: [(&str, Truth); 2] = [("file", Truth::File), ("api", Truth::Api)];

/// The words for encapsulations.
pub(super) const ENCAPSULATIONS: [(&str, Encapsulation); 3] =
    [("gue", Encapsulation::Gue), ("ipip", Encapsulation::Ipip), ("l2", Encapsulation::L2)];

/// The whole file. `None` if something that is needed is missing or wrong, which the ledger then says.
pub(super) fn file(text: &str, directory: &Path, keys: KeyFiles<'_>, ledger: &mut Ledger) -> Option<Config> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            syntax(&error, text, ledger);
        }
        return None;
    }
    let mut root = Section::new("", document.get_ref(), 0..0);
    let node = root.table("node", ledger).and_then(|section| node(section, ledger));
    let cluster = root.table("cluster", ledger).and_then(|section| cluster(section, directory, ledger));
    let admin = root.table("admin", ledger).and_then(|section| admin(section, directory, ledger));
    let forwarder =
        root.table("forwarder", ledger).and_then(|section| forwarder::forwarder(section, directory, ledger));
    let announce = root.optional_table("announce", ledger).map(|section| announce(section, ledger));
    let routing_stacks = root.tables("routing_stack", ledger);
    let routing_stacks: Vec<_> =
        routing_stacks.into_iter().filter_map(|section| routing_stack(section, ledger)).collect();
    let stacks = root.tables("stack", ledger);
    let stacks: Vec<_> = stacks.into_iter().filter_map(|section| stack_override(section, ledger)).collect();
    let drafts = vipadynamic::drafts(&mut root, keys, ledger);
    root.finish(ledger);

    let own = node.as_ref().map(|(node, _)| Own { name: &node.name, address: node.cluster_address });
    let routing_stacks = check::routing_stacks(routing_stacks, own, ledger);
    let stacks = check::stacks(stacks, own, ledger);
    let vipadynamic = check::vipadynamic(drafts, own, ledger);
    let (node, _) = node?;
    Some(Config {
        node,
        cluster: cluster?,
        admin: admin?,
        forwarder: forwarder?,
        announce: announce.flatten(),
        routing_stacks,
        stacks,
        vipadynamic,
    })
}

/// A mistake of the file's form.
fn syntax(error: &toml::de::Error, text: &str, ledger: &mut Ledger) {
    let what = error.message().lines().collect::<Vec<_>>().join(", ");
    let fix = if what.contains("duplicate") {
        "keep one of them"
    } else {
        "correct the TOML here: text needs quotes, a table is [name], one of several tables is [[name]]"
    };
    let end = text.len();
    let span = error.span().unwrap_or(0..0);
    ledger.add(&(span.start.min(end)..span.end.min(end)), format!("this is not TOML: {what}"), fix);
}

fn node(mut section: Section<'_>, ledger: &mut Ledger) -> Option<(Node, Range<usize>)> {
    let name = section.required(
        "name",
        "add the name of this stack, as in its certificate: name = \"rt1\"",
        ledger,
        Value::stack_name,
    );
    let cluster_address = section.required(
        "cluster_address",
        "add this stack's addresses in the cluster: cluster_address = [\"198.18.0.10\"]",
        ledger,
        cluster_address,
    );
    let span = section.span().clone();
    section.finish(ledger);
    Some((Node { name: name?.value, cluster_address: cluster_address?.value }, span))
}

/// One address, or one of each family.
fn cluster_address(value: Value<'_>, ledger: &mut Ledger) -> Option<ClusterAddress> {
    let list = value.distinct("write one address, or one of each family", ledger, Value::host_address)?;
    let addresses: Vec<_> = list.iter().map(|at| at.value).collect();
    if addresses.is_empty() {
        return None;
    }
    let one_a_family = "keep at most one IPv4 and one IPv6 address";
    match ClusterAddress::from_addresses(&addresses) {
        Some(address) => Some(address),
        None => {
            value.wrong(ledger, "`cluster_address` has two addresses of one family".to_owned(), one_a_family)
        }
    }
}

fn cluster(mut section: Section<'_>, directory: &Path, ledger: &mut Ledger) -> Option<Cluster> {
    let listen = section.required(
        "listen",
        "add the UDP address for sessions: listen = \"198.18.0.10:7440\"",
        ledger,
        Value::socket_address,
    );
    let mut file =
        |key, fix| section.required(key, fix, ledger, |value, ledger| value.path(directory, ledger));
    let ca =
        file("ca", "add the cluster's certificate authority, made by `baton pki init`: ca = \"pki/ca.pem\"");
    let certificate = file(
        "certificate",
        "add this stack's certificate, made by `baton pki issue`: certificate = \"pki/rt1.pem\"",
    );
    let key =
        file("key", "add the certificate's private key, made by `baton pki issue`: key = \"pki/rt1.key\"");
    let heartbeat = section.optional("heartbeat_ms", ledger, |v, l| v.milliseconds(10..=60_000, l));
    let heartbeat_span = heartbeat.as_ref().map(|at| at.span.clone());
    let lost_after = section.optional("lost_after_ms", ledger, |v, l| v.milliseconds(20..=600_000, l));
    let lost_span = lost_after.as_ref().map(|at| at.span.clone());
    let quiet_after = section.optional("quiet_after_ms", ledger, |v, l| v.milliseconds(20..=600_000, l));
    let peers_listen = section.optional("peers_listen", ledger, Value::socket_address);
    let takeover_after =
        section.optional("takeover_after_ms", ledger, |v, l| v.milliseconds(30..=600_000, l));
    let witnesses = section.optional("witnesses", ledger, witnesses);
    let lease = section.optional("lease_ms", ledger, |v, l| v.milliseconds(100..=60_000, l));
    let state = section.optional("directory", ledger, |v, l| v.path(directory, l));
    let etcd_is_named = section.value("etcd", ledger).is_some();
    let etcd = section.optional_table("cluster.etcd", ledger).and_then(|s| etcd::etcd(s, directory, ledger));
    if let Some(At { span, .. }) = witnesses.as_ref().filter(|_| etcd_is_named) {
        let what = "`witnesses` and `[cluster.etcd]` both name who decides which routing stack owns a DVIPA";
        ledger.add(span, what, "keep one of them, the same in the file of every routing node");
    }
    let lease = match etcd_is_named {
        true => etcd::lease(lease, ledger),
        false => lease.map_or(ownership::lease::DEFAULT, |at| at.value),
    };
    let dead_after = section.optional("dead_after_s", ledger, |v, l| v.seconds(1..=86_400, l));
    let heartbeat = heartbeat.map_or(Duration::from_millis(200), |at| at.value);
    let lost_after = lost_after.map_or(Duration::from_millis(1500), |at| at.value);
    if lost_after < heartbeat.saturating_mul(2)
        && let Some(span) = lost_span.or(heartbeat_span)
    {
        let (lost, beat) = (lost_after.as_millis(), heartbeat.as_millis());
        let what = format!(
            "`lost_after_ms` is {lost}, less than two heartbeats of {beat} ms: one late packet would lose a stack"
        );
        ledger.add(&span, what, format!("set lost_after_ms to at least {}, better {}", beat * 2, beat * 5));
    } else if let Some(At { value, span }) = quiet_after.as_ref().filter(|at| at.value >= lost_after) {
        let what = format!(
            "`quiet_after_ms` is {}, and a stack is lost after {} ms already",
            value.as_millis(),
            lost_after.as_millis()
        );
        ledger.add(span, what, "set quiet_after_ms to less than lost_after_ms");
    }
    if let Some(At { value, span }) =
        takeover_after.as_ref().filter(|at| at.value < heartbeat.saturating_mul(3))
    {
        let (after, beat) = (value.as_millis(), heartbeat.as_millis());
        let what = format!(
            "`takeover_after_ms` is {after}, less than three heartbeats of {beat} ms: one late packet would cause a takeover"
        );
        ledger.add(span, what, format!("set takeover_after_ms to at least {}", beat * 3));
    }
    section.finish(ledger);
    let listen = listen?.value;
    let next_port = SocketAddr::new(listen.ip(), listen.port().saturating_add(1));
    Some(Cluster {
        listen,
        ca: ca?.value,
        certificate: certificate?.value,
        key: key?.value,
        heartbeat,
        quiet_after: quiet_after.map_or(QUIET_AFTER.min(lost_after), |at| at.value),
        lost_after,
        dead_after: dead_after.map(|at| at.value),
        witnesses: witnesses.map_or_else(BTreeSet::new, |at| at.value),
        etcd,
        lease,
        directory: state.map_or_else(|| DIRECTORY.into(), |at| at.value),
        peers_listen: peers_listen.map_or(next_port, |at| at.value),
        takeover_after: takeover_after.map_or(QUIET_AFTER.max(heartbeat.saturating_mul(3)), |at| at.value),
    })
}

/// Of an even number one more has to live than of the odd one below it, which serves as well.
fn witnesses(value: Value<'_>, ledger: &mut Ledger) -> Option<BTreeSet<StackName>> {
    let fix =
        "name the stacks of 3 or 5 hosts that run an agent, the same ones in the file of every routing node";
    let names = value.distinct(fix, ledger, Value::stack_name)?;
    let names: BTreeSet<StackName> = names.into_iter().map(|at| at.value).collect();
    if names.len() < 3 || names.len().is_multiple_of(2) || names.len() > ownership::tenures::MAX_WITNESSES {
        let what = format!("`witnesses` has {} names, and a majority of 3, 5 or 7 decides", names.len());
        return value.wrong(ledger, what, fix);
    }
    Some(names)
}

/// The file's own user and group, and nobody else.
const METRICS_MODE: u32 = 0o660;

fn unix_socket(value: Value<'_>, directory: &Path, ledger: &mut Ledger) -> Option<PathBuf> {
    let (key, path) = (value.key, value.path(directory, ledger)?);
    // sockaddr_un(7): sun_path has 108 bytes with the final zero.
    if path.as_os_str().len() > 107 {
        let what =
            format!("`{key}`: {} is longer than the 107 bytes of a Unix socket's path", path.display());
        return value.wrong(ledger, what, "choose a shorter path");
    }
    Some(path)
}

fn admin(mut section: Section<'_>, directory: &Path, ledger: &mut Ledger) -> Option<Admin> {
    let socket = section.required(
        "socket",
        "add the path of the admin API's Unix socket: socket = \"/run/baton/batond.sock\"",
        ledger,
        |value, ledger| unix_socket(value, directory, ledger),
    );
    let metrics = section.optional("metrics", ledger, Value::socket_address);
    let at =
        section.optional("metrics_socket", ledger, |value, ledger| unix_socket(value, directory, ledger));
    let mode = section.optional("metrics_mode", ledger, |value, ledger| value.number(0..=0o777, "", ledger));
    let group =
        section.optional("metrics_group", ledger, |value, ledger| value.number(0..=u32::MAX, "", ledger));
    let metrics_socket = at.map(|at| MetricsSocket {
        path: at.value,
        mode: mode.map_or(METRICS_MODE, |mode| mode.value),
        group: group.map(|group| group.value),
    });
    let web = web(&mut section, directory, ledger);
    let truth = section.optional("config", ledger, |v, l| v.choice(&TRUTHS, l));
    let log_level = section.optional("log_level", ledger, |value, ledger| value.choice(&LOG_LEVELS, ledger));
    section.finish(ledger);
    Some(Admin {
        socket: socket?.value,
        metrics: metrics.map(|at| at.value),
        metrics_socket,
        web,
        truth: truth.map_or(Truth::default(), |at| at.value),
        log_level: log_level.map_or(Level::INFO, |at| at.value),
    })
}

/// The keys of `[admin]` that are about the web page.
fn web(section: &mut Section<'_>, directory: &Path, ledger: &mut Ledger) -> Option<Web> {
    let address = section.optional("web", ledger, Value::socket_address);
    let token = section.optional("web_token", ledger, |value, ledger| value.path(directory, ledger));
    let hosts = section.optional("web_hosts", ledger, |value, ledger| {
        value.list(ledger, |value, ledger| value.some_text(ledger))
    });
    let beyond = section.optional("web_beyond_loopback", ledger, Value::flag);
    let At { value: address, span } = address?;
    if !address.ip().is_loopback() && !beyond.is_some_and(|at| at.value) {
        let what = format!(
            "other hosts reach the web page at {address}, which is neither encrypted nor asks who looks"
        );
        let fix = "choose a loopback address, and reach it through ssh -L or a proxy with TLS; or set web_beyond_loopback = true";
        ledger.add(&span, what, fix);
    }
    let hosts = hosts.map(|at| at.value).unwrap_or_default().into_iter().map(|at| at.value);
    Some(Web { address, token: token.map(|at| at.value), hosts: hosts.collect() })
}

/// `announce.withdrawn_ms` if it is not set. BGP takes some milliseconds a router on the way, a router's tables up to a second.
const WITHDRAWN: Duration = Duration::from_secs(2);

fn announce(mut section: Section<'_>, ledger: &mut Ledger) -> Option<Announce> {
    let route_table = section.required(
        "route_table",
        "add the number of a routing table that nothing else uses: route_table = 200",
        ledger,
        // From 253 on are the kernel's own; FRR reads no table above 252.
        |value, ledger| value.number(1..=252, "", ledger),
    );
    let metric = section.optional("metric", ledger, |value, ledger| value.number(1..=u32::MAX, "", ledger));
    let withdrawn = section.optional("withdrawn_ms", ledger, |v, l| v.milliseconds(0..=60_000, l));
    section.finish(ledger);
    Some(Announce {
        route_table: route_table?.value,
        metric: metric.map_or(100, |at| at.value),
        withdrawn: withdrawn.map_or(WITHDRAWN, |at| at.value),
    })
}

fn routing_stack(mut section: Section<'_>, ledger: &mut Ledger) -> Option<At<RoutingStack>> {
    let name = section.required("name", "add the stack's name: name = \"rt2\"", ledger, Value::stack_name);
    let address = section.required(
        "address",
        "add where its batond listens for routing stacks, its `cluster.peers_listen`: address = \"198.18.0.11:7441\"",
        ledger,
        Value::socket_address,
    );
    section.finish(ledger);
    let name: At<StackName> = name?;
    Some(At { value: RoutingStack { name: name.value, address: address?.value }, span: name.span })
}

fn stack_override(mut section: Section<'_>, ledger: &mut Ledger) -> Option<At<StackOverride>> {
    let name = section.required("name", "add the stack's name: name = \"t1\"", ledger, Value::stack_name);
    let encapsulation = section.required(
        "encapsulation",
        "add how its packets are carried: encapsulation = \"l2\"",
        ledger,
        |value, ledger| value.choice(&ENCAPSULATIONS, ledger),
    );
    section.finish(ledger);
    let name: At<StackName> = name?;
    let value = StackOverride { name: name.value, encapsulation: encapsulation?.value };
    Some(At { value, span: name.span })
}
