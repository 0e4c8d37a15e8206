//! The good file where etcd decides.

use std::path::PathBuf;
use std::time::Duration;

use super::super::DecidedBy;
use super::{GOOD, good, parse};

const WITNESSES: &str = "witnesses = [\"t1\", \"t2\", \"t3\"]\nlease_ms = 600\n";
const ETCD: &str = "[cluster.etcd]\nendpoints = [\"https://etcd1:2379\", \"https://[2001:db8::32]:2379\"]\n\
                    prefix = \"/east/baton/\"\nca = \"pki/etcd.pem\"\ncertificate = \"pki/rt1-etcd.pem\"\nkey = \"pki/rt1-etcd.key\"\n\n";

/// With every key.
pub(super) fn with_etcd() -> String {
    let text = GOOD.replace(WITNESSES, "lease_ms = 3000\n").replace("[admin]\n", &format!("{ETCD}[admin]\n"));
    assert!(!text.contains("witnesses") && text.contains("endpoints"));
    text
}

#[test]
fn the_table_becomes_the_values_it_says() {
    let cluster = parse(&with_etcd()).unwrap_or_else(|mistakes| panic!("{mistakes}")).cluster;
    assert_eq!((cluster.decided_by(), cluster.lease), (DecidedBy::Etcd, Duration::from_secs(3)));
    let etcd = cluster.etcd.unwrap();
    assert_eq!(etcd.endpoints, ["https://etcd1:2379", "https://[2001:db8::32]:2379"]);
    assert_eq!(
        (etcd.prefix.as_str(), etcd.ca),
        ("/east/baton/", Some(PathBuf::from("/etc/baton/pki/etcd.pem")))
    );
    assert!(etcd.certificate.is_some());
    assert_eq!(good().cluster.decided_by(), DecidedBy::Witnesses);
    let alone = parse(&GOOD.replace(WITNESSES, "")).unwrap();
    assert_eq!(alone.cluster.decided_by(), DecidedBy::Itself);
}

#[test]
fn what_is_left_out_has_its_documented_default() {
    let text = with_etcd().replace("lease_ms = 3000\n", "").replace("prefix = \"/east/baton/\"\n", "");
    let cluster = parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).cluster;
    assert_eq!(cluster.lease, Duration::from_secs(2));
    assert_eq!(cluster.etcd.unwrap().prefix, "/baton/");
}

#[test]
fn each_mistake_is_found_with_its_fix() {
    let cases = [
        (
            "lease_ms = 3000",
            "lease_ms = 600",
            "`lease_ms` is 600, and etcd leases for whole seconds, and 2 at least",
            "2000",
        ),
        ("lease_ms = 3000", "lease_ms = 2500", "`lease_ms` is 2500", "3000"),
        (
            "lease_ms = 3000\n",
            &format!("{}lease_ms = 3000\n", "witnesses = [\"t1\", \"t2\", \"t3\"]\n"),
            "`witnesses` and `[cluster.etcd]`",
            "keep one",
        ),
        ("https://etcd1:2379", "http://etcd1:2379", "http and https", "one of both"),
        ("https://etcd1:2379", "etcd1:2379", "\"etcd1:2379\" is not where", "http://198.18.0.31:2379"),
        ("https://etcd1:2379", "https://etcd1:0", "is not where", "port"),
        ("prefix = \"/east/baton/\"", "prefix = \"/east/baton\"", "does not end in /", "\"/east/baton/\""),
        ("ca = \"pki/etcd.pem\"\n", "", "`https` needs a `ca`", "pki/etcd.pem"),
        ("key = \"pki/rt1-etcd.key\"\n", "", "one of `certificate` and `key`", "both"),
        (
            "endpoints = [\"https://etcd1:2379\", \"https://[2001:db8::32]:2379\"]\n",
            "",
            "has no `endpoints`",
            "name its members",
        ),
        ("prefix =", "prefx =", "no key `prefx`", "did you mean `prefix`?"),
    ];
    for (find, put, what, fix) in cases {
        let text = with_etcd();
        assert!(text.contains(find), "{find}");
        let mistakes = parse(&text.replacen(find, put, 1)).expect_err(put);
        let found = mistakes.iter().any(|m| m.what.contains(what) && m.fix.contains(fix));
        assert!(found && mistakes.iter().count() == 1, "{put}: {mistakes}");
    }
    let plain = with_etcd().replace("https://", "http://");
    assert!(parse(&plain).unwrap_err().to_string().contains("certificates are for `https`"));
}

#[test]
fn a_reload_may_not_change_it() {
    let config = parse(&with_etcd()).unwrap();
    let other = parse(&with_etcd().replace("etcd1", "etcd9")).unwrap();
    let frozen = config.check_reload(&other).unwrap_err();
    assert_eq!(frozen.iter().map(|f| f.key).collect::<Vec<_>>(), ["cluster.etcd"]);
}
