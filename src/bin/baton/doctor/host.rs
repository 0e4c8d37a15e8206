//! What a host looks like: plain data, so that checks need no host; and how it is read. What can't be read is left out, and the checks
//! that need it say nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::nic::{self, Nic};

/// What baton's programs need of a host, as far as it can be seen from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Host {
    /// The kernel's release.
    pub(super) kernel: String,
    /// Its types can be read by BPF programs.
    pub(super) has_btf: bool,
    /// Directories and the file systems that are mounted there.
    pub(super) mounts: BTreeMap<PathBuf, String>,
    /// Hugepages of each size on each NUMA node.
    pub(super) hugepages: Vec<Hugepages>,
    /// Devices are kept from memory that is not theirs.
    pub(super) has_iommu: bool,
    /// The cores and their NUMA nodes.
    pub(super) cores: BTreeMap<u16, u32>,
    /// Those that the kernel gives nothing else to do.
    pub(super) isolated: BTreeSet<u16>,
    /// The PCI NICs.
    pub(super) nics: Vec<Nic>,
    /// The network interfaces.
    pub(super) interfaces: BTreeMap<String, Interface>,
    /// Settings below `/proc/sys/net`, by their paths.
    pub(super) settings: BTreeMap<String, i64>,
    /// Chains of the host's filter that drop what no rule accepts, by table and name, with their hooks.
    pub(super) dropping: Vec<(String, String)>,
    /// The clock follows others.
    pub(super) clock_follows: Option<bool>,
}

/// Hugepages of one size on one NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hugepages {
    pub(super) node: u32,
    pub(super) size_kb: u64,
    pub(super) total: u64,
    pub(super) free: u64,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) mtu: u32,
    pub(super) is_up: bool,
    pub(super) addresses: Vec<String>,
    /// Programs that others have attached: XDP, and filters of arriving and leaving packets.
    pub(super) programs: Vec<String>,
}

/// The settings that are looked at.
const SETTINGS: [&str; 7] = [
    "ipv4/conf/all/rp_filter",
    "ipv4/conf/all/arp_ignore",
    "ipv4/conf/all/arp_announce",
    "ipv4/tcp_timestamps",
    "ipv4/tcp_window_scaling",
    "ipv4/tcp_sack",
    "ipv4/tcp_syncookies",
];

impl Host {
    /// This host, as this process sees it.
    pub(super) fn read() -> Self {
        let root = Path::new("/");
        let interfaces = interfaces();
        let own = interfaces.keys().map(|name| format!("ipv4/conf/{name}/rp_filter"));
        let settings = SETTINGS.map(str::to_owned).into_iter().chain(own);
        Self {
            settings: settings.filter_map(|path| Some((path.clone(), setting(&path)?))).collect(),
            interfaces,
            dropping: dropping(),
            clock_follows: said(&["timedatectl", "show", "--property=NTPSynchronized", "--value"])
                .map(|word| word.trim() == "yes"),
            ..Self::read_below(root)
        }
    }

    /// What its file systems say, which are below this directory.
    pub(super) fn read_below(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let cores = numbers(&text("sys/devices/system/cpu/online"));
        Self {
            kernel: text("proc/sys/kernel/osrelease").trim().to_owned(),
            has_btf: root.join("sys/kernel/btf/vmlinux").exists(),
            mounts: mounts(&text("proc/self/mounts")),
            hugepages: hugepages(root),
            has_iommu: entries(&root.join("sys/class/iommu")).next().is_some(),
            cores: cores.into_iter().map(|core| (core, node_of(root, core))).collect(),
            isolated: numbers(&text("sys/devices/system/cpu/isolated")),
            nics: nic::list(&root.join("sys")),
            ..Self::default()
        }
    }

    /// The kind of the file system that this path is in.
    pub(super) fn file_system(&self, path: &Path) -> Option<&str> {
        path.ancestors().find_map(|above| self.mounts.get(above)).map(String::as_str)
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = String> {
    let found = fs::read_dir(directory).into_iter().flatten().flatten();
    found.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn setting(path: &str) -> Option<i64> {
    fs::read_to_string(Path::new("/proc/sys/net").join(path)).ok()?.trim().parse().ok()
}

/// `0-3,8`
fn numbers(list: &str) -> BTreeSet<u16> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u16>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

fn node_of(root: &Path, core: u16) -> u32 {
    let directory = root.join(format!("sys/devices/system/cpu/cpu{core}"));
    entries(&directory).find_map(|name| name.strip_prefix("node")?.parse().ok()).unwrap_or_default()
}

fn mounts(table: &str) -> BTreeMap<PathBuf, String> {
    let line = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some((PathBuf::from(words.next()?), words.next()?.to_owned()))
    };
    table.lines().filter_map(line).collect()
}

fn hugepages(root: &Path) -> Vec<Hugepages> {
    let nodes = root.join("sys/devices/system/node");
    let mut found = Vec::new();
    for (node, name) in
        entries(&nodes).filter_map(|n| Some((n.strip_prefix("node")?.parse().ok()?, n.clone())))
    {
        let sizes = nodes.join(name).join("hugepages");
        for size in entries(&sizes) {
            let number = |file: &str| {
                let text = fs::read_to_string(sizes.join(&size).join(file)).unwrap_or_default();
                text.trim().parse().unwrap_or_default()
            };
            let kb = size.strip_prefix("hugepages-").and_then(|s| s.strip_suffix("kB")?.parse().ok());
            let Some(size_kb) = kb else { continue };
            let (total, free) = (number("nr_hugepages"), number("free_hugepages"));
            found.push(Hugepages { node, size_kb, total, free });
        }
    }
    found.sort_by_key(|pages| (pages.node, pages.size_kb));
    found
}

/// What a program of the host writes; none: it is not there, or fails.
fn said(words: &[&str]) -> Option<String> {
    let output = Command::new(words.first()?).args(words.get(1..)?).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn json(words: &[&str]) -> Option<Value> {
    serde_json::from_str(&said(words)?).ok()
}

#[derive(Deserialize)]
struct Link {
    ifname: String,
    mtu: u32,
    flags: Vec<String>,
    #[serde(default)]
    addr_info: Vec<Value>,
    #[serde(default)]
    xdp: Option<Value>,
}

/// Of this network namespace, which `/sys` need not show.
fn interfaces() -> BTreeMap<String, Interface> {
    let links = json(&["ip", "-json", "-details", "address", "show"]).unwrap_or_default();
    let links: Vec<Link> = serde_json::from_value(links).unwrap_or_default();
    let interface = |link: Link| {
        let addresses =
            link.addr_info.iter().filter_map(|a| a["local"].as_str().map(str::to_owned)).collect();
        let mut programs: Vec<String> = link.xdp.iter().map(|_| "an XDP program".to_owned()).collect();
        programs.extend(["ingress", "egress"].iter().flat_map(|side| filters(&link.ifname, side)));
        let is_up = link.flags.iter().any(|flag| flag == "UP");
        (link.ifname, Interface { mtu: link.mtu, is_up, addresses, programs })
    };
    links.into_iter().map(interface).collect()
}

/// Filters that are not the agent's.
fn filters(interface: &str, side: &str) -> Vec<String> {
    let all = json(&["tc", "-json", "filter", "show", "dev", interface, side]).unwrap_or_default();
    let name = |filter: &Value| {
        let options = filter.get("options")?;
        let name =
            options["bpf_name"].as_str().unwrap_or_else(|| filter["kind"].as_str().unwrap_or("a filter"));
        (!name.starts_with("baton")).then(|| format!("{name} ({side})"))
    };
    all.as_array().into_iter().flatten().filter_map(name).collect()
}

/// Chains of nftables (and of iptables on top of it) that drop what no rule accepts.
fn dropping() -> Vec<(String, String)> {
    let rules = json(&["nft", "--json", "list", "chains"]).unwrap_or_default();
    let chain = |row: &Value| {
        let chain = row.get("chain").filter(|chain| chain["policy"] == "drop")?;
        let [table, name, hook] =
            ["table", "name", "hook"].map(|key| chain[key].as_str().unwrap_or_default());
        Some((format!("{table} {name}"), hook.to_owned()))
    };
    rules["nftables"].as_array().into_iter().flatten().filter_map(chain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_from_its_file_systems() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/sys/kernel/osrelease", "6.1.0-38-amd64\n");
        write(
            "proc/self/mounts",
            "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\nnone /dev/hugepages hugetlbfs rw 0 0\n",
        );
        write("sys/devices/system/cpu/online", "0-2,6\n");
        write("sys/devices/system/cpu/isolated", "2\n");
        write("sys/devices/system/cpu/cpu6/node1/x", "");
        write("sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages", "512\n");
        write("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "500\n");
        let host = Host::read_below(root.path());
        assert_eq!(host.kernel, "6.1.0-38-amd64");
        assert!(!host.has_btf && !host.has_iommu);
        assert_eq!(host.cores, BTreeMap::from([(0, 0), (1, 0), (2, 0), (6, 1)]));
        assert_eq!(host.isolated, BTreeSet::from([2]));
        assert_eq!(host.hugepages, [Hugepages { node: 1, size_kb: 2048, total: 512, free: 500 }]);
        assert_eq!(host.file_system(Path::new("/dev/hugepages/baton/crt")), Some("hugetlbfs"));
        assert_eq!(host.file_system(Path::new("/var/lib")), None);
    }
}
