//! `baton convert keepalived`: the part of batond.toml that says the same as the virtual servers of a keepalived.conf.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::failure::Failure;

/// Whose configuration is converted.
#[derive(Debug, Subcommand)]
pub(crate) enum ConvertCommand {
    /// The virtual servers and VRRP addresses of a keepalived.conf, as the VIPADYNAMIC part of batond.toml.
    #[command(after_help = "\
What has no counterpart in baton is named in comments, with its line.

Example:
  baton convert keepalived /etc/keepalived/keepalived.conf >> batond.toml && baton check --file-only batond.toml")]
    Keepalived {
        /// keepalived.conf, without includes.
        file: PathBuf,
    },
}

const HEAD: &str = "\
# What is distributed, converted from keepalived.conf. [node], [cluster], [admin] and [forwarder] are each node's own: they are not in that
# file. Every real server runs baton-agent, with the address that stands here as its cluster_address, and listens on the virtual server's port.
[[vipadynamic]]
";

/// Reads the file and returns what is to be printed.
pub(crate) fn keepalived(file: &Path) -> Result<String, Failure> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::Text(format!("error: cannot read {name}: {e}")))?;
    converted(&text).map_err(|Mistake { line, what }| Failure::Text(format!("error: {name}:{line}: {what}")))
}

/// What can't be read.
#[derive(Debug, PartialEq, Eq)]
struct Mistake {
    line: usize,
    what: String,
}

fn mistake<T>(line: usize, what: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake { line, what: what.into() })
}

/// A statement, with the statements of its block if it has one.
#[derive(Debug, Default)]
struct Statement {
    line: usize,
    words: Vec<String>,
    block: Vec<Statement>,
}

impl Statement {
    fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn word(&self, at: usize) -> Option<&str> {
        self.words.get(at).map(String::as_str)
    }

    /// The statements of the block that begin with this word.
    fn all<'s>(&'s self, keyword: &'s str) -> impl Iterator<Item = &'s Statement> {
        self.block.iter().filter(move |statement| statement.keyword() == keyword)
    }

    /// What the last of them says.
    fn value<'s>(&'s self, keyword: &'s str) -> Option<&'s str> {
        self.all(keyword).last()?.word(1)
    }

    /// The number behind a keyword.
    fn number<T: std::str::FromStr>(&self, at: usize, what: &str) -> Result<T, Mistake> {
        let word = self.word(at).unwrap_or("nothing");
        word.parse().or_else(|_| mistake(self.line, format!("{word:?} where {what} is expected")))
    }
}

/// A block that is open: its head, and the statements in it until now.
type Open = (Statement, Vec<Statement>);

/// The statements of a file: words on a line, and what stands in braces behind them.
fn parsed(text: &str) -> Result<Vec<Statement>, Mistake> {
    let (mut open, mut here): (Vec<Open>, Vec<Statement>) = (Vec::new(), Vec::new());
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.split(['#', '!']).next().unwrap_or_default();
        let content = content.replace('{', " { ").replace('}', " } ").replace('"', " ");
        let mut said = Statement { line, ..Statement::default() };
        for word in content.split_whitespace() {
            match word {
                "{" => {
                    let head = std::mem::replace(&mut said, Statement { line, ..Statement::default() });
                    let head = if head.words.is_empty() { here.pop() } else { Some(head) };
                    let Some(head) = head else { return mistake(line, "a { without a word before it") };
                    open.push((head, std::mem::take(&mut here)));
                }
                "}" => {
                    here.extend((!said.words.is_empty()).then_some(said));
                    said = Statement { line, ..Statement::default() };
                    let Some((head, before)) = open.pop() else { return mistake(line, "a } without a {") };
                    let closed = Statement { block: std::mem::replace(&mut here, before), ..head };
                    here.push(closed);
                }
                word => said.words.push(word.to_owned()),
            }
        }
        here.extend((!said.words.is_empty()).then_some(said));
    }
    match open.last() {
        Some((head, _)) => mistake(head.line, format!("the block of {:?} has no end", head.keyword())),
        None => Ok(here),
    }
}

/// What keepalived takes for `persistence_timeout` without a number.
const KEEPALIVEDS_PERSISTENCE_S: u32 = 360;

/// What several virtual servers may have in common, so that they become one distribution.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Distribution {
    address: IpAddr,
    udp: bool,
    method: &'static str,
    /// For so many seconds a client keeps its server.
    affinity_s: Option<u16>,
    /// With their weights.
    servers: BTreeMap<IpAddr, u16>,
}

fn converted(text: &str) -> Result<String, Mistake> {
    let statements = parsed(text)?;
    let mut distributions: BTreeMap<Distribution, BTreeSet<u16>> = BTreeMap::new();
    let mut notes = BTreeSet::new();
    let mut checks = Checks::new();
    for server in statements.iter().filter(|s| s.keyword() == "virtual_server") {
        for (address, port) in served(server, &statements, &mut notes)? {
            let (distribution, of_it) = distribution(server, address, port)?;
            notes.extend(of_it);
            note_checks(server, port, &mut checks);
            distributions.entry(distribution).or_default().insert(port);
        }
    }
    let addresses: BTreeSet<IpAddr> = distributions.keys().map(|d| d.address).collect();
    let mut out = HEAD.to_owned();
    for (line, note) in &notes {
        // Writing to a String does not fail.
        let _ = writeln!(out, "# Line {line}: {note}.");
    }
    let vrrp = vrrp(&statements)?;
    for address in addresses {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let (rank, bits) = vrrp.get(&address).copied().unwrap_or((None, bits));
        let _ = match rank {
            None => writeln!(out, "\n[[vipadynamic.vipadefine]]\naddress = \"{address}\"\nmask = {bits}"),
            Some(rank) => writeln!(
                out,
                "\n[[vipadynamic.vipabackup]]\naddress = \"{address}\"\nrank = {rank}\nmask = {bits}"
            ),
        };
    }
    for (Distribution { address, udp, method, affinity_s, servers }, ports) in &distributions {
        let list = |words: Vec<String>| words.join(", ");
        let ports = list(ports.iter().map(u16::to_string).collect());
        let destip = list(servers.keys().map(|address| format!("\"{address}\"")).collect());
        let _ = writeln!(out, "\n[[vipadynamic.vipadistribute]]\naddress = \"{address}\"\nports = [{ports}]");
        let _ = if *udp { writeln!(out, "protocol = \"udp\"") } else { Ok(()) };
        let _ = writeln!(out, "destip = [{destip}]\nmethod = \"{method}\"");
        if let Some(seconds) = affinity_s {
            let _ = writeln!(out, "affinity_s = {seconds}");
        }
        // Round robin knows of weights only that 0 is never selected.
        let most = if *method == "round-robin" { 1 } else { u16::MAX };
        if servers.values().any(|weight| (*weight).min(most) != 1) {
            let weight =
                |(address, weight): (&IpAddr, &u16)| format!("\"{address}\" = {}", weight.min(&most));
            let weights = list(servers.iter().map(weight).collect());
            let _ = writeln!(out, "weights = {{ {weights} }}");
        }
    }
    for (check, (ports, hosts)) in &checks {
        let list = |words: Vec<String>| words.join(", ");
        let hosts = list(hosts.iter().map(IpAddr::to_string).collect());
        let ports = list(ports.iter().map(u16::to_string).collect());
        let _ = writeln!(out, "\n# In agent.toml of {hosts}:\n# [[check]]\n# ports = [{ports}]");
        for line in check.lines() {
            let _ = writeln!(out, "# {line}");
        }
    }
    Ok(out)
}

/// Checks as agent.toml has them, without the ports; and the ports and hosts that each is about.
type Checks = BTreeMap<String, (BTreeSet<u16>, BTreeSet<IpAddr>)>;

/// What the checks of a virtual server become in its servers' agent.toml.
fn note_checks(server: &Statement, port: u16, checks: &mut Checks) {
    let seconds = |of: &Statement, key: &str| of.value(key).and_then(|word| word.parse::<f64>().ok());
    for real in server.all("real_server") {
        let Some(host) = real.word(1).and_then(|word| word.parse().ok()) else { continue };
        for check in &real.block {
            let kind = match check.keyword() {
                "TCP_CHECK" => "kind = \"tcp\"\n".to_owned(),
                "HTTP_GET" => http(check),
                "MISC_CHECK" => script(check),
                _ => continue,
            };
            let timeout = seconds(check, "connect_timeout").or(seconds(check, "misc_timeout"));
            let timeout =
                timeout.or(seconds(server, "connect_timeout")).filter(|s| (0.001..3600.0).contains(s));
            let interval = seconds(check, "delay_loop").or(seconds(server, "delay_loop"));
            let interval = interval.unwrap_or(2.0).max(timeout.unwrap_or(1.0)).clamp(1.0, 3600.0).ceil();
            let mut text = format!("{kind}interval_s = {interval}\n");
            if let Some(timeout) = timeout {
                let _ = writeln!(text, "timeout_ms = {}", (timeout * 1000.0).round());
            }
            let (ports, hosts) = checks.entry(text).or_default();
            ports.insert(port);
            hosts.insert(host);
        }
    }
}

fn http(check: &Statement) -> String {
    let url = check.all("url").next();
    let said = |key| url.and_then(|url| url.value(key)).or(check.value(key));
    let mut text = format!("kind = \"http\"\npath = \"{}\"\n", said("path").unwrap_or("/"));
    if let Some(host) = said("virtualhost") {
        let _ = writeln!(text, "host = \"{host}\"");
    }
    if let Some(code) = said("status_code").filter(|code| code.parse::<u16>().is_ok()) {
        let _ = writeln!(text, "status = [{code}]");
    }
    text
}

fn script(check: &Statement) -> String {
    let words = check.all("misc_path").last().and_then(|path| path.words.get(1..)).unwrap_or_default();
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    format!("kind = \"script\"\ncommand = [{}]\n", words.join(", "))
}

/// What stands in place of something that has no counterpart, by the line.
type Notes = BTreeSet<(usize, String)>;

/// The addresses and ports of a virtual server.
fn served(server: &Statement, all: &[Statement], notes: &mut Notes) -> Result<Vec<(IpAddr, u16)>, Mistake> {
    match server.word(1) {
        Some("group") => {
            let is_it = |s: &&Statement| s.keyword() == "virtual_server_group" && s.word(1) == server.word(2);
            let Some(group) = all.iter().find(is_it) else {
                return mistake(server.line, "there is no such virtual_server_group in this file");
            };
            group.block.iter().map(|s| Ok((s.number(0, "an address")?, s.number(1, "a port")?))).collect()
        }
        Some("fwmark") => {
            let said = "virtual servers by fwmark have no counterpart: name addresses and ports";
            notes.insert((server.line, said.to_owned()));
            Ok(Vec::new())
        }
        _ => Ok(vec![(server.number(1, "an address")?, server.number(2, "a port")?)]),
    }
}

fn distribution(server: &Statement, address: IpAddr, port: u16) -> Result<(Distribution, Notes), Mistake> {
    let mut notes = Notes::new();
    let mut note = |line, said: String| notes.extend([(line, said)]);
    let protocol = server.value("protocol").unwrap_or("TCP");
    if !["TCP", "UDP"].contains(&protocol) {
        return mistake(server.line, format!("protocol {protocol}: baton has TCP and UDP"));
    }
    let algorithm = server.value("lb_algo").or(server.value("lvs_sched")).unwrap_or("rr");
    let by_port = server.all("mh-port").next().is_some();
    let mut method = match algorithm {
        "rr" => "round-robin",
        "wrr" => "weighted-round-robin",
        "lc" | "wlc" | "sed" | "nq" | "lblc" | "lblcr" => "least-connections",
        "mh" if by_port => "maglev",
        "sh" | "mh" => "source",
        "fo" => "hot-standby",
        other => {
            note(server.line, format!("lb_algo {other} has no counterpart: round robin stands here"));
            "round-robin"
        }
    };
    let mut affinity_s = None;
    if let Some(said) = server.all("persistence_timeout").last()
        && method != "source"
    {
        if protocol == "UDP" {
            let why =
                "persistence_timeout: method source keeps a client of UDP at its server, without a time";
            note(said.line, why.into());
            method = "source";
        } else {
            let seconds =
                said.word(1).map_or(Ok(KEEPALIVEDS_PERSISTENCE_S), |_| said.number(1, "seconds"))?;
            affinity_s = u16::try_from(seconds.clamp(1, 43_200)).ok();
        }
    }
    if ["NAT", "nat"].contains(&server.value("lb_kind").or(server.value("lvs_method")).unwrap_or("NAT")) {
        let said =
            "lb_kind NAT: answers go straight from the servers to the clients, they need a route there";
        note(server.line, said.into());
    }
    for sorry in server.all("sorry_server") {
        note(
            sorry.line,
            "sorry_server has no counterpart: where no server listens, clients are refused".into(),
        );
    }
    let mut servers = BTreeMap::new();
    for real in server.all("real_server") {
        let (at, its_port): (IpAddr, u16) = (real.number(1, "an address")?, real.number(2, "a port")?);
        let weight = real.all("weight").last().map_or(Ok(1), |weight| weight.number(1, "a weight"))?;
        if its_port != port {
            note(
                real.line,
                format!("real server {at} listens on {its_port}: let it listen on {port}, ports are kept"),
            );
        }
        for check in real.block.iter().filter(|s| {
            ["SSL_GET", "SMTP_CHECK", "DNS_CHECK", "UDP_CHECK", "PING_CHECK"].contains(&s.keyword())
        }) {
            note(
                check.line,
                format!(
                    "{} has no counterpart but a [[check]] of kind \"script\" in agent.toml",
                    check.keyword()
                ),
            );
        }
        servers.insert(at, weight);
    }
    if servers.is_empty() {
        return mistake(server.line, "the virtual server has no real_server");
    }
    Ok((Distribution { address, udp: protocol == "UDP", method, affinity_s, servers }, notes))
}

/// Of each address of a VRRP instance its rank as a backup, if it is not the master's, and the length of its network.
fn vrrp(statements: &[Statement]) -> Result<BTreeMap<IpAddr, (Option<u8>, u8)>, Mistake> {
    let mut found = BTreeMap::new();
    for instance in statements.iter().filter(|s| s.keyword() == "vrrp_instance") {
        let priority = instance.all("priority").last().map_or(Ok(100_u8), |s| s.number(1, "a priority"))?;
        let is_master = instance.value("state") == Some("MASTER") || priority == 255;
        let rank = (!is_master).then_some(priority.max(1));
        let lists = ["virtual_ipaddress", "virtual_ipaddress_excluded"].map(|list| instance.all(list));
        for said in lists.into_iter().flatten().flat_map(|list| &list.block) {
            let (address, bits) = said.keyword().split_once('/').unwrap_or((said.keyword(), ""));
            let Ok(address) = address.parse::<IpAddr>() else {
                return mistake(said.line, format!("{address:?} where an address is expected"));
            };
            let whole = if address.is_ipv4() { 32 } else { 128 };
            found.insert(address, (rank, bits.parse().unwrap_or(whole)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use control::config::Config;
    use control::runtime::fake::NodeDirectory;

    use super::*;

    const FILE: &str = "\
! Two web ports with the same servers, and DNS
vrrp_instance VI_1 {
    state BACKUP
    interface eth0
    priority 90
    virtual_ipaddress { 198.18.9.1/24 dev eth0 }
}
virtual_server_group dns {
    198.18.9.2 53
}
virtual_server 198.18.9.1 80 {
    lb_algo wrr
    lb_kind DR
    persistence_timeout 600
    protocol TCP
    real_server 198.18.0.21 80 { weight 3
        TCP_CHECK { connect_timeout 3 }
        MISC_CHECK { misc_path \"/usr/local/lib/check deep\" }
    }
    real_server 198.18.0.22 80 {
        HTTP_GET {
            url {
                path /healthz
                status_code 200
            }
            connect_timeout 3
        }
    }
}
virtual_server 198.18.9.1 443
{
    persistence_timeout 600
    lb_algo wrr
    lb_kind DR
    delay_loop 6
    real_server 198.18.0.22 443 {
        SSL_GET { url { path / } }
        TCP_CHECK
    }
    real_server 198.18.0.21 443 { weight 3 } # the big one
}
virtual_server group dns {
    lb_algo lc
    lb_kind TUN
    protocol UDP
    persistence_timeout 60
    real_server 198.18.0.21 5353
}
";

    #[test]
    fn virtual_servers_become_distributions_and_what_has_no_counterpart_is_named() {
        let text = converted(FILE).unwrap();
        let body = text.strip_prefix(HEAD).unwrap();
        assert_eq!(
            body,
            "\
# Line 37: SSL_GET has no counterpart but a [[check]] of kind \"script\" in agent.toml.
# Line 46: persistence_timeout: method source keeps a client of UDP at its server, without a time.
# Line 47: real server 198.18.0.21 listens on 5353: let it listen on 53, ports are kept.

[[vipadynamic.vipabackup]]
address = \"198.18.9.1\"
rank = 90
mask = 24

[[vipadynamic.vipadefine]]
address = \"198.18.9.2\"
mask = 32

[[vipadynamic.vipadistribute]]
address = \"198.18.9.1\"
ports = [80, 443]
destip = [\"198.18.0.21\", \"198.18.0.22\"]
method = \"weighted-round-robin\"
affinity_s = 600
weights = { \"198.18.0.21\" = 3, \"198.18.0.22\" = 1 }

[[vipadynamic.vipadistribute]]
address = \"198.18.9.2\"
ports = [53]
protocol = \"udp\"
destip = [\"198.18.0.21\"]
method = \"source\"

# In agent.toml of 198.18.0.22:
# [[check]]
# ports = [80]
# kind = \"http\"
# path = \"/healthz\"
# status = [200]
# interval_s = 3
# timeout_ms = 3000

# In agent.toml of 198.18.0.21:
# [[check]]
# ports = [80]
# kind = \"script\"
# command = [\"/usr/local/lib/check\", \"deep\"]
# interval_s = 2

# In agent.toml of 198.18.0.21:
# [[check]]
# ports = [80]
# kind = \"tcp\"
# interval_s = 3
# timeout_ms = 3000

# In agent.toml of 198.18.0.22:
# [[check]]
# ports = [443]
# kind = \"tcp\"
# interval_s = 6
"
        );
        let dir = tempfile::tempdir().unwrap();
        let files = NodeDirectory::fill(dir.path(), &text).unwrap();
        Config::load(&files.file()).unwrap_or_else(|e| panic!("{e}"));
    }

    #[test]
    fn what_can_not_be_read_is_named_with_its_line() {
        let said = |text: &str| converted(text).unwrap_err();
        assert_eq!(said("virtual_server 198.18.9.1 http {\n}").line, 1);
        assert_eq!(
            said("\nvirtual_server 198.18.9.1 80 {\n").what,
            "the block of \"virtual_server\" has no end"
        );
        assert_eq!(said("a\n}\n").line, 2);
        assert_eq!(said("virtual_server 198.18.9.1 80 {\n}").what, "the virtual server has no real_server");
        assert_eq!(said("virtual_server group g {\n}").line, 1);
    }
}
