use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::json;
use transport::Expiry;

use super::checks::{NAMES, all};
use super::finding::Severity;
use super::host::{Host, Hugepages, Interface};
use super::picture::{Agent, Batond, Picture};
use crate::nic::Nic;

/// A host with both programs on which nothing is in the way.
fn good() -> Picture {
    let interface = |mtu| Interface { mtu, is_up: true, ..Interface::default() };
    let settings = [
        ("ipv4/conf/all/rp_filter", 0),
        ("ipv4/conf/eth0/rp_filter", 2),
        ("ipv4/conf/all/arp_ignore", 1),
        ("ipv4/conf/all/arp_announce", 2),
        ("ipv4/tcp_timestamps", 1),
        ("ipv4/tcp_window_scaling", 1),
        ("ipv4/tcp_sack", 1),
        ("ipv4/tcp_syncookies", 1),
    ];
    let mounts = [("/", "ext4"), ("/sys/fs/cgroup", "cgroup2"), ("/dev/hugepages", "hugetlbfs")];
    let host = Host {
        kernel: "6.12.9-amd64".to_owned(),
        has_btf: true,
        mounts: mounts.map(|(path, kind)| (PathBuf::from(path), kind.to_owned())).into(),
        hugepages: vec![Hugepages { node: 0, size_kb: 2048, total: 512, free: 512 }],
        has_iommu: true,
        cores: BTreeMap::from([(0, 0), (1, 0), (2, 1)]),
        isolated: BTreeSet::from([1]),
        nics: vec![Nic {
            address: "0000:01:00.0".to_owned(),
            driver: Some("vfio-pci".to_owned()),
            numa_node: Some(0),
            ..Nic::default()
        }],
        interfaces: BTreeMap::from([
            ("eth0".to_owned(), interface(1500)),
            ("loc0".to_owned(), interface(1500)),
        ]),
        settings: settings.map(|(path, value)| (path.to_owned(), value)).into(),
        dropping: Vec::new(),
        clock_follows: Some(true),
    };
    let batond = Batond {
        workers: vec![1],
        nic: "0000:01:00.0".to_owned(),
        local: "loc0".to_owned(),
        fabric_mtu: 1500,
        wants_hugepages: true,
        crt_file: Some("/dev/hugepages/baton/crt".into()),
    };
    let agent = Agent { interfaces: vec!["eth0".to_owned()], fabric_mtu: Some(1500) };
    Picture {
        host,
        batond: Some(batond),
        agent: Some(agent),
        certificates: vec![("t1.pem".into(), Ok(Expiry::at(i64::from(u32::MAX))))],
        answers: vec![
            json!({ "version": "0.1.0", "stacks": [{ "stack": "t1", "session": "up", "version": "0.1.0" }] }),
        ],
        ..Picture::default()
    }
}

#[test]
fn nothing_is_found_where_nothing_is_in_the_way() {
    assert_eq!(all(&good()), []);
}

fn set(picture: &mut Picture, path: &str, value: i64) {
    picture.host.settings.insert(path.to_owned(), value);
}

/// How a good host is broken.
type Break = fn(&mut Picture);

/// What breaks a good host, the check that has to name it, and a word that has to be in it.
const BREAKS: [(&str, &str, Severity, Break); 30] = [
    ("configuration", "baton check /etc/x", Severity::Error, |p| p.unreadable.push("/etc/x".into())),
    ("kernel", "5.10.0", Severity::Error, |p| p.host.kernel = "5.10.0-1-amd64".to_owned()),
    ("kernel", "6.1.0", Severity::Warning, |p| p.host.kernel = "6.1.0-38-amd64".to_owned()),
    ("btf", "CONFIG_DEBUG_INFO_BTF", Severity::Error, |p| p.host.has_btf = false),
    ("cgroup", "no cgroup v2", Severity::Error, |p| p.host.mounts.retain(|_, kind| kind != "cgroup2")),
    ("hugepages", "baton setup hugepages", Severity::Error, |p| p.host.hugepages.clear()),
    ("hugepages", "mount -t hugetlbfs", Severity::Error, |p| {
        p.host.mounts.retain(|_, kind| kind != "hugetlbfs");
        p.batond.as_mut().unwrap().crt_file = None;
    }),
    ("hugepages", "--node 1", Severity::Warning, |p| {
        p.batond.as_mut().unwrap().workers = vec![2];
        p.host.isolated.insert(2);
        p.host.nics[0].numa_node = None;
    }),
    ("crt-file", "ext4", Severity::Error, |p| p.batond.as_mut().unwrap().crt_file = Some("/var/crt".into())),
    ("cores", "worker core 9 is not there", Severity::Error, |p| {
        p.batond.as_mut().unwrap().workers = vec![9]
    }),
    ("cores", "isolcpus=1", Severity::Warning, |p| p.host.isolated.clear()),
    ("nic", "baton nic list", Severity::Error, |p| p.host.nics.clear()),
    ("nic", "baton nic bind 0000:01:00.0", Severity::Error, |p| {
        p.host.nics[0].driver = Some("e1000e".to_owned())
    }),
    ("nic", "NUMA node 1", Severity::Warning, |p| p.host.nics[0].numa_node = Some(1)),
    ("iommu", "intel_iommu=on", Severity::Error, |p| p.host.has_iommu = false),
    ("interface", "no interface loc0", Severity::Error, |p| drop(p.host.interfaces.remove("loc0"))),
    ("interface", "ip link set eth0 up", Severity::Error, |p| {
        p.host.interfaces.get_mut("eth0").unwrap().is_up = false
    }),
    ("mtu", "ip link set eth0 mtu 1500", Severity::Error, |p| {
        p.host.interfaces.get_mut("eth0").unwrap().mtu = 1400
    }),
    ("setting", "net/ipv4/conf/all/rp_filter=2", Severity::Error, |p| {
        p.host
            .settings
            .extend([("ipv4/conf/all/rp_filter".to_owned(), 1), ("ipv4/conf/eth0/rp_filter".to_owned(), 0)]);
    }),
    ("setting", "net/ipv4/conf/eth0/rp_filter=2", Severity::Error, |p| set(p, "ipv4/conf/eth0/rp_filter", 1)),
    ("setting", "arp_ignore=1", Severity::Error, |p| set(p, "ipv4/conf/all/arp_ignore", 0)),
    ("setting", "tcp_syncookies=1", Severity::Error, |p| set(p, "ipv4/tcp_syncookies", 0)),
    ("filter", "inet filter input", Severity::Warning, |p| {
        p.host.dropping.push(("filter input".to_owned(), "input".to_owned()))
    }),
    ("program", "cil_from_netdev", Severity::Warning, |p| {
        p.host.interfaces.get_mut("eth0").unwrap().programs.push("cil_from_netdev (ingress)".to_owned());
    }),
    ("clock", "timedatectl set-ntp true", Severity::Warning, |p| p.host.clock_follows = Some(false)),
    ("certificate", "ends on 1970-01-01", Severity::Warning, |p| p.certificates[0].1 = Ok(Expiry::at(0))),
    ("certificate", "the key", Severity::Error, |p| p.certificates[0].1 = Err("the key is lost".to_owned())),
    ("session", "rt1 at 198.18.0.10:7440: no answer", Severity::Error, |p| {
        p.answers.push(json!({ "routing_stacks": { "rt1": { "session": "apart", "control": "198.18.0.10:7440", "why": "no answer" } } }));
    }),
    ("version", "0.0.9", Severity::Warning, |p| p.answers[0]["stacks"][0]["version"] = json!("0.0.9")),
    ("checksum", "wrong", Severity::Error, |p| {
        p.answers[0]["environment"] =
            json!({ "standing": [{ "subject": "checksum", "sentence": "wrong checksums" }] });
    }),
];

#[test]
fn what_is_in_the_way_is_named_with_its_mend_and_nothing_else_is() {
    for (check, word, severity, spoil) in BREAKS {
        let mut picture = good();
        spoil(&mut picture);
        let found = all(&picture);
        let [finding] = &found[..] else { panic!("{check}, {word}: {found:#?}") };
        let text = format!("{} {}", finding.what, finding.mend);
        let word = word.trim_start_matches("inet ");
        assert!(
            finding.check == check && finding.severity == severity && text.contains(word),
            "{check}, {word}: {finding:#?}"
        );
        assert!(!finding.mend.is_empty() && finding.why.ends_with('.'), "{finding:#?}");
    }
}

#[test]
fn every_check_is_broken_once() {
    let broken: BTreeSet<&str> = BREAKS.iter().map(|(check, ..)| *check).collect();
    let missing: Vec<_> = NAMES.iter().filter(|name| !broken.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_check_is_in_the_docs() {
    let page = include_str!("../../../../docs/doctor.md");
    let missing: Vec<_> = NAMES.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/doctor.md: add {missing:?}");
}

#[test]
fn a_host_without_configuration_is_looked_at_for_what_both_programs_need() {
    let mut picture = good();
    picture.batond = Some(Batond { wants_hugepages: true, ..Batond::default() });
    picture.agent = Some(Agent::default());
    picture.host.settings.clear();
    assert_eq!(all(&picture), []);
    picture.host.has_btf = false;
    picture.host.hugepages.clear();
    let names: Vec<_> = all(&picture).iter().map(|finding| finding.check).collect();
    assert_eq!(names, ["btf", "hugepages"]);
}
