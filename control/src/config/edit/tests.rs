//! Paths lead to one place or say what is near; an edit changes what was named and nothing else of the text.

use super::{Change, KeyPath, differences, get, set};

const FILE: &str = r#"# The file of rt1.
[node]
name = "rt1" # as in its certificate

[cluster]
heartbeat_ms = 200 # often

[[forwarder.port]]
role = "nic"
device = "net_null0"

[[forwarder.port]]
role = "local"
device = "net_null1"

[[vipadynamic]]

# The shop.
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80, 443]
weights = { t1 = 10, "198.18.0.22" = 5 } # by cores

[[vipadynamic.vipadistribute.policy]]
client = "198.18.1.0/24"
destip = ["t1"]

[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [53]

# Names over UDP.
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [53]
protocol = "udp"

[[vipadynamic.vipadistribute]]
address = "2001:db8:9::1"
destip = "all"

[announce]
route_table = 200
"#;

fn path(text: &str) -> KeyPath {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn found(text: &str) -> Vec<(String, String)> {
    let found = get(FILE, &path(text)).unwrap_or_else(|e| panic!("{e}"));
    found.into_iter().map(|found| (found.key, found.value.to_string())).collect()
}

fn one(text: &str) -> String {
    let all = found(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].1.clone()
}

fn with(text: &str, value: &str) -> String {
    set(FILE, &path(text), Some(value)).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(text: &str, value: Option<&str>) -> String {
    let parsed: Result<KeyPath, _> = text.parse();
    parsed.and_then(|path| set(FILE, &path, value)).unwrap_err().to_string()
}

#[test]
fn a_path_names_one_value() {
    let rows = [
        ("cluster.heartbeat_ms", "200"),
        ("forwarder.port[role=local].device", "\"net_null1\""),
        ("forwarder.port[1].device", "\"net_null1\""),
        ("vipadynamic.vipadistribute[address=198.18.9.1,ports=80].weights.t1", "10"),
        ("vipadynamic.vipadistribute[ports=443].weights.\"198.18.0.22\"", "5"),
        ("vipadynamic[0].vipadistribute[ports=80].policy.client", "\"198.18.1.0/24\""),
        ("vipadynamic.vipadistribute[ports=53,protocol=udp].ports", "[53]"),
        ("vipadynamic.vipadistribute[ports=53,protocol=tcp].ports", "[53]"),
        ("vipadynamic.vipadistribute[address=\"2001:db8:9:0::1\"].destip", "\"all\""),
        ("vipadynamic.vipadistribute[ports=].destip", "\"all\""),
        ("vipadynamic.vipadistribute.policy.destip[0]", "\"t1\""),
    ];
    for (text, value) in rows {
        assert_eq!(one(text), value, "{text}");
        assert_eq!(
            path(text).to_string(),
            text.replace("[address=\"2001:db8:9:0::1\"]", "[address=2001:db8:9:0::1]")
        );
    }
}

#[test]
fn what_is_found_has_the_path_that_names_it_alone() {
    let all = found("vipadynamic.vipadistribute.ports");
    let keys: Vec<&str> = all.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "vipadynamic.vipadistribute[address=198.18.9.1,ports=80,protocol=tcp].ports",
            "vipadynamic.vipadistribute[address=198.18.9.1,ports=53,protocol=tcp].ports",
            "vipadynamic.vipadistribute[address=198.18.9.1,ports=53,protocol=udp].ports",
        ]
    );
    for (key, value) in &all {
        assert_eq!(&one(key), value, "{key}");
    }
}

#[test]
fn what_is_not_there_is_told_with_what_is_near() {
    let rows = [
        ("cluster.directory", "`directory` is not written in `cluster`; written there: heartbeat_ms"),
        ("cluster.heartbet_ms", "did you mean `heartbeat_ms`?"),
        ("clutser.heartbeat_ms", "`clutser` is not written in the file; did you mean `cluster`?"),
        (
            "forwarder.port[role=loca].device",
            "no table of `forwarder.port` is [role=loca]; did you mean forwarder.port[role=local]?",
        ),
        ("forwarder.port[7]", "there are forwarder.port[role=nic], forwarder.port[role=local]"),
        ("cluster.heartbeat_ms.x", "`cluster.heartbeat_ms` is not a table, and has no `x`"),
        ("node.name[0]", "`node.name` is not a list"),
    ];
    for (text, says) in rows {
        let error = get(FILE, &path(text)).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
    for text in ["", "a..b", "a.", "a[", "a[b", "a[b=1", "a[=1]", "a[0]b", "a.\"b", "a[1,b=2]"] {
        assert!(text.parse::<KeyPath>().is_err(), "{text}");
    }
}

#[test]
fn a_value_is_set_with_everything_around_it_as_it_was() {
    let rows = [
        ("cluster.heartbeat_ms", "100", "heartbeat_ms = 200 # often", "heartbeat_ms = 100 # often"),
        ("vipadynamic.vipadistribute[ports=80].weights.t1", "3", "{ t1 = 10,", "{ t1 = 3,"),
        (
            "vipadynamic.vipadistribute[ports=80].weights.t3",
            "1",
            "{ t1 = 10, \"198.18.0.22\" = 5 } # by",
            "{ t1 = 10, \"198.18.0.22\" = 5, t3 = 1 } # by",
        ),
        ("vipadynamic.vipadistribute[ports=80].ports[+]", "8080", "[80, 443]", "[80, 443, 8080]"),
        ("vipadynamic.vipadistribute[ports=80].ports", "[81]", "[80, 443]", "[81]"),
        (
            "vipadynamic.vipadistribute[ports=80].method",
            "least-connections",
            "# by cores\n",
            "# by cores\nmethod = \"least-connections\"\n",
        ),
        ("cluster.lost_after_ms", "900", "# often\n", "# often\nlost_after_ms = 900\n"),
        ("cluster.etcd.prefix", "/a/", "# often\n", "# often\netcd = { prefix = \"/a/\" }\n"),
        ("announce", "{ route_table = 7 }", "route_table = 200", "route_table = 7"),
        (
            "vipadynamic.vipadistribute[ports=53,protocol=tcp].weights.t1",
            "2",
            "ports = [53]\n\n#",
            "ports = [53]\nweights = { t1 = 2 }\n\n#",
        ),
        (
            "vipadynamic.vipadistribute[+]",
            "{ address = \"198.18.9.1\", ports = [81], destip = \"all\" }",
            "destip = \"all\"\n",
            "destip = \"all\"\n\n[[vipadynamic.vipadistribute]]\naddress = \"198.18.9.1\"\nports = [81]\ndestip = \"all\"\n",
        ),
        (
            "vipadynamic.vipadistribute[ports=80].policy[+]",
            "{ client = \"198.18.2.0/24\" }",
            "destip = [\"t1\"]\n",
            "destip = [\"t1\"]\n\n[[vipadynamic.vipadistribute.policy]]\nclient = \"198.18.2.0/24\"\n",
        ),
        (
            "stack[+]",
            "{ name = \"t3\", encapsulation = \"l2\" }",
            "route_table = 200\n",
            "route_table = 200\n\n[[stack]]\nname = \"t3\"\nencapsulation = \"l2\"\n",
        ),
        ("log.level", "debug", "route_table = 200\n", "route_table = 200\n\n[log]\nlevel = \"debug\"\n"),
    ];
    for (text, value, before, after) in rows {
        assert_eq!(FILE.matches(before).count(), 1, "{before}");
        assert_eq!(with(text, value), FILE.replacen(before, after, 1), "{text} = {value}");
    }
}

#[test]
fn what_is_removed_is_gone_and_nothing_else() {
    let without = |text| set(FILE, &path(text), None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(without("cluster.heartbeat_ms"), FILE.replace("heartbeat_ms = 200 # often\n", ""));
    let weights = without("vipadynamic.vipadistribute[ports=80].weights.\"198.18.0.22\"");
    assert_eq!(weights, FILE.replace("{ t1 = 10, \"198.18.0.22\" = 5 }", "{ t1 = 10 }"));
    let udp = "\n# Names over UDP.\n[[vipadynamic.vipadistribute]]\naddress = \"198.18.9.1\"\nports = [53]\nprotocol = \"udp\"\n";
    assert_eq!(without("vipadynamic.vipadistribute[protocol=udp]"), FILE.replace(udp, ""));
}

#[test]
fn a_path_that_could_mean_several_is_not_set() {
    let rows = [
        (
            "vipadynamic.vipadistribute.method",
            Some("maglev"),
            "4 tables are meant; name one of vipadynamic.vipadistribute[address=198.18.9.1,ports=80",
        ),
        ("vipadynamic.vipadistribute[ports=53].method", Some("maglev"), "2 tables are meant"),
        ("vipadynamic.vipadistribute[ports=80].weights.t1", Some("{"), "`{` is not a value"),
        ("node.name", Some("two words"), "is not a value"),
        ("node.name", Some("1\n[x]"), "is not a value"),
        ("node", Some("5"), "`node` is a table { key = value }"),
        ("forwarder.port", Some("5"), "a list of tables"),
        ("forwarder.port[+]", Some("5"), "the list has tables"),
        ("node.name[+]", Some("5"), "is not a list"),
        ("cluster.lost_after_ms", None, "`lost_after_ms` is not written in `cluster`"),
        ("vipadynamic.vipadistribute[ports=99].method", Some("maglev"), "[ports=99]"),
        ("cluster.etcd[0].x", Some("1"), "`etcd` is not written"),
    ];
    for (text, value, says) in rows {
        let error = refused(text, value);
        assert!(error.contains(says), "{text} = {value:?}: {error}");
    }
}

#[test]
fn a_path_has_sixteen_parts_at_most() {
    let deep = |parts: usize| vec!["a"; parts].join(".");
    assert_eq!(get(&with(&deep(16), "1"), &path(&deep(16))).unwrap()[0].value, toml::Value::Integer(1));
    for parts in [17, 100_000] {
        let error = deep(parts).parse::<KeyPath>().unwrap_err();
        assert!(error.what.ends_with("it has more than 16 parts"), "{parts}");
    }
}

/// Whatever is set is what is read there afterwards, and all else is as it was.
#[test]
fn what_was_set_is_what_is_there() {
    let paths = [
        "cluster.heartbeat_ms",
        "cluster.new",
        "new.table.key",
        "vipadynamic.vipadistribute[ports=80].weights.t9",
        "vipadynamic.vipadistribute[ports=80].policy.weights.t1",
        "forwarder.port[role=nic].vlan",
    ];
    for text in paths {
        for value in ["1", "\"text\"", "[1, 2]", "{ a = 1 }"] {
            let after = with(text, value);
            let there = get(&after, &path(text)).unwrap_or_else(|e| panic!("{text}: {e}\n{after}"));
            assert_eq!(there.len(), 1);
            assert_eq!(there[0].value.to_string().replace(' ', ""), value.replace(' ', ""), "{text}");
            let changes = differences(FILE, &after).unwrap();
            assert_eq!(changes.len(), 1, "{text} = {value}: {changes:?}");
            assert!(after.contains("# The shop.") && after.contains("# Names over UDP."));
        }
    }
}

#[test]
fn differences_are_told_by_key() {
    let change = |key: &str, before: Option<&str>, after: Option<&str>| Change {
        key: key.to_owned(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
    };
    let after = FILE
        .replace("# The shop.\n", "")
        .replace("t1 = 10", "t1 = 1")
        .replace("heartbeat_ms = 200", "lost_after_ms = 900")
        .replace("role = \"local\"\ndevice = \"net_null1\"", "role = \"local\"\ndevice = \"net_null2\"");
    let (start, end) =
        (after.find("# Names").unwrap(), after.rfind("[[vipadynamic.vipadistribute]]").unwrap());
    let after = after[..start].to_owned() + &after[end..];
    let changes = differences(FILE, &after).unwrap();
    let shop = "vipadynamic.vipadistribute[address=198.18.9.1,ports=80,protocol=tcp].weights.t1";
    let names = "vipadynamic.vipadistribute[address=198.18.9.1,ports=53,protocol=udp]";
    assert_eq!(changes[0], change("cluster.heartbeat_ms", Some("200"), None));
    assert_eq!(changes[1], change("cluster.lost_after_ms", None, Some("900")));
    assert_eq!(
        changes[2],
        change("forwarder.port[role=local].device", Some("\"net_null1\""), Some("\"net_null2\""))
    );
    assert_eq!(changes[3], change(shop, Some("10"), Some("1")));
    assert_eq!((changes[4].key.as_str(), changes[4].after.as_deref(), changes.len()), (names, None, 5));
    assert!(differences(FILE, &FILE.replace("# The shop.", "#")).unwrap().is_empty());
    assert!(differences(FILE, "[").is_err());
}
