//! The checks: one function each, from a picture to what it finds.

use model::environment::Subject as _;
use serde_json::Value;

use super::finding::{Finding, Fix};
use super::host::Interface;
use super::picture::Picture;
use crate::nic::Nic;

/// Days before a certificate's end from which on it is named.
const SOON_DAYS: i64 = 30;
/// The oldest kernel of a host with an agent, and the oldest that all transfers work on.
const OLDEST: (u32, u32) = (6, 1);
const ALL_WORKS: (u32, u32) = (6, 9);

type Check = fn(&Picture) -> Vec<Finding>;

const CHECKS: [(&str, Check); 18] = [
    ("configuration", configuration),
    ("kernel", kernel),
    ("btf", btf),
    ("cgroup", cgroup),
    ("hugepages", hugepages),
    ("crt-file", crt_file),
    ("cores", cores),
    ("nic", nic),
    ("iommu", iommu),
    ("interface", interface),
    ("mtu", mtu),
    ("setting", setting),
    ("filter", filter),
    ("program", program),
    ("clock", clock),
    ("certificate", certificate),
    ("session", session),
    ("version", version),
];

/// What they are called.
pub(super) const NAMES: [&str; CHECKS.len()] = {
    let mut names = [""; CHECKS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = CHECKS[at].0;
        at += 1;
    }
    names
};

/// All findings, errors first.
pub(super) fn all(picture: &Picture) -> Vec<Finding> {
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|(_, check)| check(picture)).collect();
    findings.extend(environment(picture));
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn configuration(picture: &Picture) -> Vec<Finding> {
    let each = |file: &std::path::PathBuf| {
        let mend = format!("baton check {}", file.display());
        let what = format!("{} can't be read, or has mistakes", file.display());
        Finding::error("configuration", what, "Without it the program does not start.", mend)
    };
    picture.unreadable.iter().map(each).collect()
}

/// Major and minor number of a release.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(['.', '-']).map(|word| word.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn kernel(Picture { host, agent, .. }: &Picture) -> Vec<Finding> {
    let Some(release) = release(&host.kernel).filter(|_| agent.is_some()) else { return Vec::new() };
    let what = format!("Linux {}", host.kernel);
    let mend = "apt-get install -t bookworm-backports linux-image-amd64, and start the host again";
    if release < OLDEST {
        let why = "The agent's BPF programs need Linux 6.1 or newer.";
        vec![Finding::error("kernel", what, why, mend)]
    } else if release < ALL_WORKS {
        let why = "Before Linux 6.9 no connection can be moved to an unmodified server of this host.";
        vec![Finding::warning("kernel", what, why, mend)]
    } else {
        Vec::new()
    }
}

fn btf(Picture { host, agent, .. }: &Picture) -> Vec<Finding> {
    let why = "The agent's BPF programs are fitted to the running kernel by its type information.";
    let found = || {
        Finding::error(
            "btf",
            "the kernel has no BTF",
            why,
            "use a kernel with CONFIG_DEBUG_INFO_BTF, as Debian's are",
        )
    };
    (agent.is_some() && !host.has_btf).then(found).into_iter().collect()
}

fn cgroup(Picture { host, agent, .. }: &Picture) -> Vec<Finding> {
    let is_there = host.mounts.values().any(|kind| kind == "cgroup2");
    let why = "The agent's programs that see listens and connections belong to the root of cgroup v2.";
    let found = || {
        Finding::error(
            "cgroup",
            "no cgroup v2 is mounted",
            why,
            "remove systemd.unified_cgroup_hierarchy=0 from the kernel's command line",
        )
    };
    (agent.is_some() && !is_there).then(found).into_iter().collect()
}

fn hugepages(Picture { host, batond, .. }: &Picture) -> Vec<Finding> {
    let Some(batond) = batond.as_ref().filter(|batond| batond.wants_hugepages) else { return Vec::new() };
    let mut findings = Vec::new();
    let on = |node: Option<u32>| {
        host.hugepages.iter().filter(move |pages| node.is_none_or(|node| pages.node == node))
    };
    let why = "Packet buffers and the connection table are in hugepages.";
    if on(None).all(|pages| pages.total == 0) {
        findings.push(Finding::error(
            "hugepages",
            "this host has none",
            why,
            "baton setup hugepages 512 --keep",
        ));
    } else {
        for worker in &batond.workers {
            let Some(node) = host.cores.get(worker) else { continue };
            if on(Some(*node)).all(|pages| pages.total == 0) {
                let what = format!("NUMA node {node} has none, and worker core {worker} is there");
                let why = "A worker that reaches for the memory of another node is slower.";
                findings.push(Finding::warning(
                    "hugepages",
                    what,
                    why,
                    format!("baton setup hugepages 512 --node {node} --keep"),
                ));
            }
        }
    }
    if !host.mounts.values().any(|kind| kind == "hugetlbfs") {
        let fix = Fix::Run(vec!["mount", "-t", "hugetlbfs", "none", "/dev/hugepages"]);
        findings.push(Finding::error("hugepages", "no hugetlbfs is mounted", why, "").fixed_by(fix));
    }
    findings
}

fn crt_file(Picture { host, batond, .. }: &Picture) -> Vec<Finding> {
    let Some(file) = batond.as_ref().and_then(|batond| batond.crt_file.as_deref()) else { return Vec::new() };
    let kind = host.file_system(file).unwrap_or("unknown");
    let what = format!("{} is in a file system of the kind {kind}", file.display());
    let why = "The table that outlives batond has to be in memory: packets would wait for a disk.";
    let found = || Finding::error("crt-file", what, why, "forwarder.crt_file = \"/dev/hugepages/baton/crt\"");
    (!["hugetlbfs", "tmpfs"].contains(&kind)).then(found).into_iter().collect()
}

fn cores(Picture { host, batond, .. }: &Picture) -> Vec<Finding> {
    let Some(batond) = batond else { return Vec::new() };
    let each = |core: &u16| {
        if !host.cores.contains_key(core) {
            let why = "A worker needs a core of its own.";
            let mend = format!(
                "change forwarder.workers: this host has the cores {:?}",
                host.cores.keys().collect::<Vec<_>>()
            );
            return Some(Finding::error("cores", format!("worker core {core} is not there"), why, mend));
        }
        let why = "While another program has the worker's core, packets wait and may be lost.";
        let mend = format!("put isolcpus={core} nohz_full={core} on the kernel's command line");
        let found = || Finding::warning("cores", format!("worker core {core} is not isolated"), why, mend);
        (!host.isolated.contains(core)).then(found)
    };
    batond.workers.iter().filter_map(each).collect()
}

/// The PCI device that DPDK's name means.
fn device<'a>(nics: &'a [Nic], name: &str) -> Option<&'a Nic> {
    let address = name.split(',').next().unwrap_or_default().trim_start_matches("pci:");
    nics.iter().find(|nic| nic.address == address || nic.address.strip_prefix("0000:") == Some(address))
}

/// Whether DPDK's name means a PCI device and not a virtual one.
fn is_pci(name: &str) -> bool {
    !name.is_empty() && !name.starts_with("net_")
}

fn nic(Picture { host, batond, .. }: &Picture) -> Vec<Finding> {
    let Some(batond) = batond.as_ref().filter(|batond| is_pci(&batond.nic)) else { return Vec::new() };
    let Some(nic) = device(&host.nics, &batond.nic) else {
        let what = format!("there is no PCI NIC {}", batond.nic);
        return vec![Finding::error(
            "nic",
            what,
            "batond's port is on it.",
            "baton nic list, and change forwarder.port.device",
        )];
    };
    let mut findings = Vec::new();
    if !nic.is_for_dpdk() {
        let what = format!("{} belongs to {}", nic.address, nic.driver.as_deref().unwrap_or("no driver"));
        let why = "DPDK takes a NIC only from a driver that leaves it to programs.";
        findings.push(Finding::error(
            "nic",
            what,
            why,
            format!("modprobe vfio-pci && baton nic bind {}", nic.address),
        ));
    }
    let node = nic.numa_node;
    let far = batond
        .workers
        .iter()
        .find(|core| node.is_some_and(|node| host.cores.get(core).is_some_and(|at| *at != node)));
    if let (Some(core), Some(node)) = (far, node) {
        let what = format!("{} is on NUMA node {node}, and worker core {core} is not", nic.address);
        let mend = format!("change forwarder.workers to cores of NUMA node {node}");
        findings.push(Finding::warning("nic", what, "Each packet crosses between the nodes.", mend));
    }
    findings
}

fn iommu(Picture { host, batond, .. }: &Picture) -> Vec<Finding> {
    let wants = |nic: &str| {
        device(&host.nics, nic).is_some_and(|nic| {
            !nic.driver.as_deref().is_some_and(|d| d.starts_with("uio") || d.starts_with("mlx"))
        })
    };
    let why = "vfio-pci hands a NIC out only where an IOMMU keeps it from other memory.";
    let mend =
        "put intel_iommu=on on the kernel's command line (AMD's is on by itself), or use uio_pci_generic";
    let found = || Finding::error("iommu", "this host shows no IOMMU", why, mend);
    let is_wanted = batond.as_ref().is_some_and(|batond| wants(&batond.nic));
    (is_wanted && !host.has_iommu).then(found).into_iter().collect()
}

/// The interfaces that the files name, and what each has to carry.
fn named(picture: &Picture) -> Vec<(&str, Option<u32>)> {
    let mut named = Vec::new();
    if let Some(batond) = picture.batond.as_ref().filter(|batond| !batond.local.is_empty()) {
        named.push((batond.local.as_str(), Some(batond.fabric_mtu)));
        named.extend(
            control::config::shared_interface(&batond.nic).map(|name| (name, Some(batond.fabric_mtu))),
        );
    }
    let agent = picture.agent.iter();
    named.extend(
        agent.flat_map(|agent| agent.interfaces.iter().map(|name| (name.as_str(), agent.fabric_mtu))),
    );
    named
}

fn interface(picture: &Picture) -> Vec<Finding> {
    let each = |(name, _): (&str, Option<u32>)| match picture.host.interfaces.get(name) {
        None => {
            let mend = format!("make it (routing-node.md says how), or change `interface`: {name}");
            Some(Finding::error(
                "interface",
                format!("there is no interface {name}"),
                "A configuration file names it.",
                mend,
            ))
        }
        Some(Interface { is_up: false, .. }) => {
            let mend = format!("ip link set {name} up");
            Some(Finding::error(
                "interface",
                format!("{name} is down"),
                "No packet arrives or leaves there.",
                mend,
            ))
        }
        Some(_) => None,
    };
    named(picture).into_iter().filter_map(each).collect()
}

fn mtu(picture: &Picture) -> Vec<Finding> {
    let each = |(name, wanted): (&str, Option<u32>)| {
        let (wanted, interface) = (wanted?, picture.host.interfaces.get(name)?);
        let what = format!("the MTU of {name} is {}, and fabric_mtu is {wanted}", interface.mtu);
        let why = "Forwarded packets that are longer than the interface carries are lost.";
        let mend = format!("ip link set {name} mtu {wanted}, or a smaller fabric_mtu on all stacks");
        (interface.mtu < wanted).then(|| Finding::error("mtu", what, why, mend))
    };
    named(picture).into_iter().filter_map(each).collect()
}

fn setting(Picture { host, agent, .. }: &Picture) -> Vec<Finding> {
    let Some(agent) = agent else { return Vec::new() };
    let value = |path: &str| host.settings.get(path).copied();
    let wrong = |path: &str, why| {
        let what = format!("net/{path} is {}", value(path).unwrap_or_default());
        Finding::error("setting", what, why, "")
    };
    let mut findings = Vec::new();
    // An agent that runs, or starts, does these by itself; where one has a file already and is not there, they are named.
    for name in &agent.interfaces {
        let own = format!("ipv4/conf/{name}/rp_filter");
        if value("ipv4/conf/all/rp_filter").max(value(&own)) == Some(1) {
            let path = if value(&own) == Some(1) { own } else { "ipv4/conf/all/rp_filter".to_owned() };
            let why = "A strict filter drops packets of the DVIPA that arrive over another interface than the answer's.";
            findings.push(wrong(&path, why).fixed_by(Fix::Setting(path.clone(), 2)));
        }
    }
    let raised = [
        (
            "ipv4/conf/all/arp_ignore",
            1,
            "Otherwise this host answers ARP for the DVIPA, which the routing node alone may.",
        ),
        (
            "ipv4/conf/all/arp_announce",
            2,
            "Otherwise this host's ARP requests tell others that the DVIPA is here.",
        ),
    ];
    for (path, least, why) in raised.into_iter().filter(|_| !agent.interfaces.is_empty()) {
        if value(path).is_some_and(|now| now < least) {
            findings.push(wrong(path, why).fixed_by(Fix::Setting(path.to_owned(), least)));
        }
    }
    for path in ["ipv4/tcp_timestamps", "ipv4/tcp_window_scaling", "ipv4/tcp_sack", "ipv4/tcp_syncookies"] {
        if value(path) == Some(0) {
            let why = "Connections that have it can't be handed over to servers of this host.";
            findings.push(wrong(path, why).fixed_by(Fix::Setting(path.to_owned(), 1)));
        }
    }
    findings
}

fn filter(Picture { host, .. }: &Picture) -> Vec<Finding> {
    let each = |(chain, hook): &(String, String)| {
        let why = "Sessions (UDP 7440, between routing nodes 7441) and forwarded packets (GUE: UDP 6080; IPIP: protocols 4 and 41) must pass.";
        let mend =
            format!("nft list chain {chain}; accept these from the cluster's addresses if no rule does");
        Finding::warning(
            "filter",
            format!("the chain `{chain}` ({hook}) drops what no rule accepts"),
            why,
            mend,
        )
    };
    host.dropping.iter().map(each).collect()
}

fn program(picture: &Picture) -> Vec<Finding> {
    let each = |(name, _): (&str, Option<u32>)| {
        let others = &picture.host.interfaces.get(name)?.programs;
        let what = format!("others have attached to {name}: {}", others.join(", "));
        let why = "A program that gets packets before baton's may drop or change what is forwarded.";
        let mend = format!(
            "tc filter show dev {name} ingress; let it pass packets of the cluster, or move it behind baton's"
        );
        (!others.is_empty()).then(|| Finding::warning("program", what, why, mend))
    };
    named(picture).into_iter().filter_map(each).collect()
}

fn clock(Picture { host, .. }: &Picture) -> Vec<Finding> {
    let why = "Certificates begin and end by the clock, and logs of several hosts are read side by side.";
    let fix = Fix::Run(vec!["timedatectl", "set-ntp", "true"]);
    let found = || Finding::warning("clock", "this host's clock follows no other", why, "").fixed_by(fix);
    (host.clock_follows == Some(false)).then(found).into_iter().collect()
}

fn certificate(picture: &Picture) -> Vec<Finding> {
    let each = |(file, found): &(std::path::PathBuf, Result<transport::Expiry, String>)| {
        let why = "Without a certificate that is valid, no session begins.";
        let mend =
            "baton pki issue DIRECTORY NAME where the authority is, and replace certificate and key here";
        match found {
            Err(what) => Some(Finding::error("certificate", what.clone(), why, mend)),
            Ok(expiry) if expiry.days() < SOON_DAYS => {
                let what = format!("{} ends on {}, in {} days", file.display(), expiry.date, expiry.days());
                Some(Finding::warning("certificate", what, why, mend))
            }
            Ok(_) => None,
        }
    };
    picture.certificates.iter().filter_map(each).collect()
}

fn rows<'a>(answers: &'a [Value], path: &'a str) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    let of = move |answer: &'a Value| {
        answer.pointer(path).and_then(Value::as_array).into_iter().flatten().map(move |row| (answer, row))
    };
    answers.iter().flat_map(of)
}

fn session(Picture { answers, .. }: &Picture) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, stack) in answers.iter().filter_map(|answer| answer["routing_stacks"].as_object()).flatten() {
        if stack["session"] == "apart" {
            let (control, cause) = (&stack["control"], stack["why"].as_str().unwrap_or("no session yet"));
            let what = format!(
                "no session with the routing stack {name} at {}: {cause}",
                control.as_str().unwrap_or_default()
            );
            let why = "Without it this host gets no new connection.";
            let address =
                control.as_str().and_then(|at| at.rsplit_once(':')).map_or("", |(address, _)| address);
            findings.push(Finding::error(
                "session",
                what,
                why,
                format!("ping {address}; on {name}: baton status"),
            ));
        }
    }
    for (_, stack) in rows(answers, "/stacks") {
        if ["lost", "dead"].iter().any(|word| stack["session"] == *word) {
            let name = stack["stack"].as_str().unwrap_or_default();
            let what =
                format!("the session with {name} is {}", stack["session"].as_str().unwrap_or_default());
            let why = "That host gets no new connection.";
            findings.push(Finding::warning(
                "session",
                what,
                why,
                format!("on {name}: systemctl status baton-agent"),
            ));
        }
    }
    findings
}

fn version(Picture { answers, .. }: &Picture) -> Vec<Finding> {
    let each = |(answer, stack): (&Value, &Value)| {
        let [own, theirs] =
            [&answer["version"], &stack["version"]].map(|version| version.as_str().unwrap_or_default());
        let name = stack["stack"].as_str().unwrap_or_default();
        let what = format!("{name} has version {theirs}, and this node has {own}");
        let why = "What only one of them knows is not used between them.";
        let mend = format!(
            "on the older one: apt-get install --only-upgrade baton-agent baton ({name}) or batond baton (here)"
        );
        (!theirs.is_empty() && own != theirs).then(|| Finding::warning("version", what, why, mend))
    };
    rows(answers, "/stacks").filter_map(each).collect()
}

/// What the programs that run have found themselves and can't mend.
fn environment(Picture { answers, .. }: &Picture) -> Vec<Finding> {
    let subjects = control::runtime::environment::Subject::ALL.iter().map(|subject| subject.as_str());
    let subjects: Vec<&'static str> =
        subjects.chain(agent::environment::Subject::ALL.iter().map(|s| s.as_str())).collect();
    let each = |(_, found): (&Value, &Value)| {
        let subject = subjects.iter().copied().find(|subject| found["subject"] == *subject)?;
        let what = found["sentence"].as_str().unwrap_or_default();
        Some(Finding::error(
            subject,
            what,
            "The program that runs here has found it, and can't put it right.",
            "as it says",
        ))
    };
    rows(answers, "/environment/standing").filter_map(each).collect()
}
