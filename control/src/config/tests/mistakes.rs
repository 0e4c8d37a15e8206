//! The mistakes: what is put into the good file, and what a person is told. `«` marks where the mistake has to be found.

use super::{GOOD, parse};

struct Case {
    /// What is in the good file.
    find: &'static str,
    /// What stands there instead; behind `«` is the mistake.
    put: &'static str,
    /// Part of what is said.
    what: &'static str,
    /// Part of the fix.
    fix: &'static str,
}

const fn case(find: &'static str, put: &'static str, what: &'static str, fix: &'static str) -> Case {
    Case { find, put, what, fix }
}

/// Where a VIPADISTRIBUTE of IPv4 can be added.
const END: &str = "[[vipadynamic]]\n\n[[vipadynamic.viparange]]";

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Form and keys.
    case("name = \"rt1\"", "name = «rt1", "not TOML", "text needs quotes"),
    case("name = \"rt1\"", "name = \"rt1\"\n«name = \"rt2\"", "duplicate key", "keep one"),
    case("heartbeat_ms = 200", "«hartbeat_ms = 200", "`cluster` has no key `hartbeat_ms`", "did you mean `heartbeat_ms`?"),
    case("half_open = 262144", "«half-open = 262144", "no key `half-open`", "did you mean `half_open`?"),
    case("idle = \"backoff\"", "«colour = \"red\"", "`forwarder` has no key `colour`", "known here are"),
    case("[[stack]]", "[[«stacks]]", "the file has no key `stacks`", "did you mean `stack`?"),
    case("moveable = \"whenidle\"", "«movable = \"whenidle\"", "`vipadynamic.vipadefine` has no key `movable`", "did you mean `moveable`?"),
    case("content_routed = false", "«contentrouted = false", "no key `contentrouted`", "did you mean `content_routed`?"),
    case("weights = { t1 = 3 }", "weights = { t1 = 3 }\n«wieghts = \"load\"", "no key `wieghts`", "did you mean `weights`?"),
    case("[admin]\nsocket = \"/run/baton/batond.sock\"\nmetrics = \"127.0.0.1:9440\"\nmetrics_socket = \"/run/baton/metrics.sock\"\nmetrics_mode = 0o640\nmetrics_group = 9440\nweb = \"127.0.0.1:9480\"\nweb_token = \"web.token\"\nweb_hosts = [\"rt1.example\"]\nweb_beyond_loopback = false\nconfig = \"file\"\nlog_level = \"info\"\n", "", "there is no `[admin]`", "add a table `[admin]`"),
    case("[[vipadynamic.viparange]]", "«[vipadynamic.viparange]", "`viparange` is a table, not a list of tables", "[[vipadynamic.viparange]]"),
    case(END, "[[vipadynamic]]\n\n[[vipadynamic.vipadistribute]]\naddress = \"2001:db8:9::1\"\nports = [9000]\ndestip = \"all\"\ncontent_routed = «true\n\n[[vipadynamic.viparange]]", "whoever owns it", "when-owner"),
    case("web = \"127.0.0.1:9480\"", "web = «\"198.18.0.10:9480\"", "other hosts reach the web page at 198.18.0.10:9480", "web_beyond_loopback = true"),
    // Affinity.
    case("affinity_s = 600", "affinity_s = «0", "`affinity_s` is 0", "1 to 43200 (seconds)"),
    case("affinity_s = 600\naffinity_clients = 4096", "affinity_clients = «4096", "not for how long", "add `affinity_s`"),
    case("[[vipadynamic]]\n\n[[vipadynamic.viparange]]", "[[vipadynamic]]\n\n[[vipadynamic.vipadistribute]]\naddress = \"198.18.9.1\"\nports = [9000]\ndestip = \"all\"\nprotocol = \"udp\"\naffinity_s = «60\n\n[[vipadynamic.viparange]]", "UDP has none", "method = \"source\""),
    case("[[vipadynamic]]\n\n[[vipadynamic.viparange]]", "[[vipadynamic]]\n\n[[vipadynamic.vipadistribute]]\naddress = \"198.18.9.1\"\nports = [9000]\ndestip = \"all\"\ncontent_routed = true\naffinity_s = «60\n\n[[vipadynamic.viparange]]", "its requests choose", "remove it"),
    // Methods.
    case(END, "[[vipadynamic]]\n\n[[vipadynamic.vipadistribute]]\naddress = \"198.18.9.1\"\nports = [9000]\ndestip = \"all\"\nprotocol = \"udp\"\nmethod = «\"power-of-two\"\n\n[[vipadynamic.viparange]]", "UDP has none", "least-connections"),
    // Node and cluster.
    case("name = \"rt1\"\n", "", "`node` has no `name`", "name = \"rt1\""),
    case("name = \"rt1\"", "name = «\"RT1\"", "\"RT1\" is not a stack name", "a-z, 0-9"),
    case("name = \"rt1\"", "name = «1", "`name` is a whole number, not text", "in quotes"),
    case("\"2001:db8::10\"]", "«\"198.18.0.x\"]", "\"198.18.0.x\" is not an IP address", "2001:db8:9::1"),
    case("[\"198.18.0.10\", \"2001:db8::10\"]", "«[\"198.18.0.10\", \"198.18.0.11\"]", "two addresses of one family", "at most one IPv4"),
    case("[\"198.18.0.10\", \"2001:db8::10\"]", "[«\"127.0.0.1\"]", "127.0.0.1 is not an address of one host", "loopback"),
    case("\"198.18.0.10:7440\"", "«\"198.18.0.10\"", "is not an address with a port", "198.18.0.10:7440"),
    case("\"198.18.0.10:7440\"", "«\"198.18.0.10:0\"", "has port 0", "1 to 65535"),
    case("lost_after_ms = 1500", "lost_after_ms = «300", "less than two heartbeats", "at least 400"),
    case("quiet_after_ms = 600", "quiet_after_ms = «1500", "lost after 1500 ms already", "less than lost_after_ms"),
    case("[\"t1\", \"t2\", \"t3\"]\nlease", "«[\"t1\", \"t2\"]\nlease", "`witnesses` has 2 names, and a majority of 3, 5 or 7", "3 or 5 hosts"),
    case("heartbeat_ms = 200", "heartbeat_ms = «5", "`heartbeat_ms` is 5", "10 to 60000 (milliseconds)"),
    case("takeover_after_ms = 600", "takeover_after_ms = «500", "less than three heartbeats of 200 ms", "at least 600"),
    case("[[routing_stack]]\nname = \"rt2\"", "[[routing_stack]]\nname = «\"rt1\"", "rt1 is this node", "it names the others"),
    case("[[stack]]", "[[routing_stack]]\nname = «\"rt2\"\naddress = \"198.18.0.12:7441\"\n\n[[stack]]", "two `routing_stack` tables for rt2", "keep one"),
    case("address = \"198.18.0.11:7441\"", "address = «\"198.18.0.11\"", "is not an address with a port", "198.18.0.10:7440"),
    // Limits.
    case("new_connections_per_s = 5000\nnew_connections_burst = 20000", "new_connections_per_s = «0", "`new_connections_per_s` is 0", "1 to 10000000 (connections a second)"),
    case("new_connections_per_s = 5000\nnew_connections_burst = 20000", "new_connections_burst = «20000", "`new_connections_burst` is of a limit that is not there", "add new_connections_per_s = 20000, or remove it"),
    case("client_new_connections_per_s = 20\n", "", "`client_new_connections_burst` is of a limit that is not there", "add client_new_connections_per_s = 40"),
    case("client_new_connections_burst = 40", "client_new_connections_burst = «\"40\"", "`client_new_connections_burst` is text", "write a whole number from 1"),
    // Connection IDs.
    case("[[vipadynamic.vipadistribute.quic]]\nrotation = 0", "«[[vipadynamic.vipadistribute.quic]]", "has no `rotation`", "rotation = 0"),
    case("rotation = 1", "rotation = «7", "`rotation` is 7", "0 to 6 (7 is for connection IDs that name no server)"),
    case("rotation = 1", "rotation = «0", "two `quic` tables with rotation = 0", "a number of its own"),
    case("server_id_bytes = 4", "server_id_bytes = «0", "`server_id_bytes` is 0", "1 to 15 (bytes)"),
    case("nonce_bytes = 6", "nonce_bytes = «3", "`nonce_bytes` is 3", "4 to 18 (bytes)"),
    case("nonce_bytes = 6", "nonce_bytes = «16", "a server ID of 4 and a nonce of 16 bytes are more than 19", "20 bytes at most"),
    case("t1 = \"0a01\"", "t1 = «\"0a\"", "the server ID 0a of t1 has 1 bytes, not 2", "4 hexadecimal digits"),
    case("t1 = \"0a01\"", "t1 = «\"0a0x\"", "\"0a0x\" is no server ID", "two hexadecimal digits"),
    case("\"0b02\"", "«\"0a01\"", "t1 and t2 have the same server ID 0a01", "give each its own"),
    case("\"0b02\"", "«\"0a02\"", "t2 has the server ID 0a02 twice", "give each its own"),
    case("t1 = \"0a01\", t2", "«t2", "t1 has no server ID", "t1 = \"0000\""),
    case("t1 = \"0a01\"", "t1 = \"0a01\", «t9 = \"0909\"", "names t9, which is not in destip", "remove its server ID"),
    case("server_ids = { t1 = \"0a01\", t2 = [\"0a02\", \"0b02\"] }", "server_ids = «{}", "an empty table", "follow from the stacks' names"),
    case("ports = [4433]\nprotocol = \"udp\"", "ports = [4433]", "`quic` is about UDP", "protocol = \"udp\""),
    case("ports = [4433]\n", "", "`quic` is for the ports that are enumerated", "ports = [443]"),
    // Forwarder.
    case("workers = [1, 2]", "workers = [1, «1]", "`workers` has 1 twice", "remove one"),
    case("workers = [1, 2]", "workers = «[]", "`workers` is an empty list", "at least one core"),
    case("idle = \"backoff\"", "idle = «\"backof\"", "`idle` can't be \"backof\"", "did you mean \"backoff\"?"),
    case("encapsulation = \"gue\"", "encapsulation = «\"vxlan\"", "can't be \"vxlan\"", "\"gue\" or \"ipip\" or \"l2\""),
    case("\"--no-huge\", ", "\"--no-huge\", «\"--lcores=1\", ", "`eal` has --lcores", "use `workers`"),
    case("fabric_mtu = 1500", "fabric_mtu = «576", "outside of 1280 to 65535", "(bytes)"),
    case("connections_v4 = 1000000", "connections_v4 = «1e6", "a number with a fraction", "whole number"),
    case("role = \"nic\"", "role = «\"nicc\"", "`role` can't be", "did you mean \"nic\"?"),
    case("role = \"local\"\ndevice = \"net_af_packet1,iface=loc1\"\ninterface = \"loc0\"", "role = «\"nic\"\ndevice = \"net_tap0\"", "a second port with role \"nic\"", "one port of each role"),
    case("[[forwarder.port]]\nrole = \"nic\"\ndevice = \"net_af_packet0,iface=eth0\"\nvlan = 100\n", "", "no port with role \"nic\"", "net_af_packet0,iface=eth0"),
    case("interface = \"loc0\"\n", "", "`forwarder.port` has no `interface`", "loc0"),
    case("iface=loc1\"", "iface=loc1\"\nvlan = «7", "`vlan` belongs to the nic port", "remove it"),
    case("vlan = 100", "vlan = «4095", "`vlan` is 4095", "1 to 4094"),
    case("interface = \"loc0\"", "interface = «\"a-name-that-is-too-long\"", "is not an interface name", "15 characters"),
    case("device = \"net_af_packet1,iface=loc1\"", "device = «\"net_af_packet0,iface=eth0\"", "two ports have the device", "its own"),
    // Stacks.
    case("name = \"t3\"\nencapsulation = \"l2\"", "name = «\"rt1\"\nencapsulation = \"l2\"", "rt1 is this node", "remove"),
    case("[[vipadynamic]]\n\n[[vipadynamic.vipadefine]]", "[[stack]]\nname = «\"t3\"\nencapsulation = \"gue\"\n[[vipadynamic]]\n\n[[vipadynamic.vipadefine]]", "two `stack` tables for t3", "keep one"),
    // VIPADEFINE.
    case("mask = 64\n", "", "`vipadynamic.vipadefine` has no `mask`", "mask = 24"),
    case("mask = 64", "mask = «129", "`mask` is 129", "1 to 128"),
    case("mask = 64", "mask = «\"255.255.255.0\"", "is an IPv4 mask, and the address is IPv6", "mask = 64"),
    case("mask = \"255.255.255.0\"\nmoveable = \"whenidle\"", "mask = «\"255.0.255.0\"", "not ones followed by zeros", "255.255.255.0"),
    case("mask = \"255.255.255.0\"\nmoveable = \"whenidle\"", "mask = «\"/24\"", "\"/24\" is not a mask", "without quotes"),
    case("mask = \"255.255.255.0\"\nmoveable = \"whenidle\"", "mask = «33", "`mask` is 33", "1 to 32"),
    case("moveable = \"whenidle\"", "moveable = «\"nondisruptive\"", "`moveable` can't be \"nondisruptive\"", "\"immediate\" or \"whenidle\""),
    case("mask = 64\nforwards = \"always\"", "mask = 64\nforwards = \"always\"\n[[vipadynamic.vipadefine]]\naddress = «\"198.18.9.1\"\nmask = 24", "two `vipadefine` statements", "keep one"),
    case("mask = 64", "mask = 64\n[[vipadynamic.vipadefine]]\naddress = «\"224.0.0.1\"\nmask = 24", "not an address of one host", "unicast"),
    case("mask = 64", "mask = 64\n[[vipadynamic.vipadefine]]\naddress = \"198.18.7.255\"\nmask = «24", "network or broadcast address of 198.18.7.0/24", "between them"),
    case("mask = 64", "mask = 64\n[[vipadynamic.vipadefine]]\naddress = «\"198.18.0.10\"\nmask = 24", "this node's cluster address", "a DVIPA moves"),
    // VIPABACKUP.
    case("rank = 200", "rank = «255", "`rank` is 255, which is outside of 1 to 254", "1 to 254"),
    case("rank = 200", "rank = «0", "`rank` is 0", "1 to 254"),
    case("address = \"198.18.9.2\"", "address = «\"198.18.9.1\"", "can't back itself up", "on other stacks"),
    case("rank = 200\n", "", "`vipadynamic.vipabackup` has no `rank`", "rank = 200"),
    // VIPADISTRIBUTE.
    case("ports = [443, 80]", "ports = [443, «0]", "`ports` is 0", "1 to 65535"),
    case("ports = [443, 80]", "ports = [443, «443]", "`ports` has 443 twice", "remove one"),
    case("ports = [443, 80]", "ports = «[]", "`ports` is an empty list", "remove the key"),
    case("ports = [443, 80]", "ports = «80", "`ports` is a whole number, not a list", "brackets"),
    case("protocol = \"tcp\"", "protocol = «\"sctp\"", "`protocol` can't be \"sctp\"", "\"tcp\" or \"udp\""),
    case("address = \"198.18.9.1\"\nports", "address = «\"198.18.9.7\"\nports", "198.18.9.7 is distributed but not defined", "add a `vipadefine`"),
    case("destip = \"all\"", "destip = «\"ALL\"", "`destip` can't be \"ALL\"", "did you mean \"all\"?"),
    case("destip = \"all\"", "destip = «\"t1\"", "`destip` can't be \"t1\"", "destip = [\"t1\"]"),
    case("destip = \"all\"", "destip = «[]", "`destip` is an empty list", "at least one stack"),
    case("destip = \"all\"", "destip = [«\"all\"]", "neither a stack name nor a cluster address", "not in a list"),
    case("destip = \"all\"", "destip = [«\"198.18.0.22:80\"]", "neither a stack name nor a cluster address", "without a port"),
    case("destip = \"all\"", "destip = [«\"t1.example.net\"]", "neither a stack name nor a cluster address", "the stack's name"),
    case("destip = \"all\"", "destip = [\"t1\", «\"t1\"]", "`destip` has t1 twice", "remove one"),
    case("destip = \"all\"", "destip = [«\"198.18.9.1\"]", "198.18.9.1 is a DVIPA", "cluster address"),
    case("method = \"least-connections\"", "method = «\"least-connection\"", "`method` can't be", "did you mean \"least-connections\"?"),
    case("method = \"least-connections\"", "method = \"round-robin\"", "`weights` are not used by method \"round-robin\"", "weighted-round-robin"),
    case("weights = \"load\"", "weights = «\"wlm\"", "`weights` can't be \"wlm\"", "weights = \"load\""),
    case("weights = { t1 = 10, \"198.18.0.22\" = 5 }", "weights = { t1 = 10, «t2 = 5 }", "`weights` names t2, which is not in destip", "add it to destip"),
    case("weights = { t1 = 10, \"198.18.0.22\" = 5 }", "weights = { t1 = «70000 }", "`weights` is 70000", "0 to 65535"),
    case("weights = { t1 = 10, \"198.18.0.22\" = 5 }", "weights = «{ t1 = 0, \"198.18.0.22\" = 0, t3 = 0 }", "every candidate has weight 0", "1 or more"),
    case(END, "[[vipadynamic.vipadistribute]]\naddress = \"198.18.9.1\"\nports = [«80]\ndestip = \"all\"\n[[vipadynamic]]\n\n[[vipadynamic.viparange]]", "tcp port 80 of 198.18.9.1 is in two", "remove it from one"),
    case(END, "[[vipadynamic.vipadistribute]]\naddress = «\"2001:db8:9::1\"\nprotocol = \"udp\"\ndestip = \"all\"\n[[vipadynamic]]\n\n[[vipadynamic.viparange]]", "two `vipadistribute` statements for udp without ports", "keep one"),
    case("protocol = \"udp\"", "protocol = \"udp\"\ncontent_routed = «true", "UDP has none", "protocol = \"tcp\""),
    case("\"198.18.0.22\", \"t3\"]", "«\"198.18.0.22:1\", \"t3\"]", "\"198.18.0.22:1\" is neither", "without a port"),
    // Policies.
    case("client = \"198.18.1.0/24\"", "client = «\"198.18.1.5/24\"", "has bits set behind the prefix", "198.18.1.0/24"),
    case("client = \"198.18.1.0/24\"", "client = «\"2001:db8::/48\"", "different families", "IPv4 prefix"),
    case("client = \"198.18.1.0/24\"", "client = «\"198.18.1.0\"", "is not an IP prefix", "/24"),
    case("client = \"198.18.1.0/24\"\ndestip = [\"t1\"]", "client = \"198.18.1.0/24\"\ndestip = [\"t1\", «\"t7\"]", "the policy names t7", "destip of the `vipadistribute`"),
    case("weights = { t1 = 3 }", "weights = { t1 = 3 }\n[[vipadynamic.vipadistribute.policy]]\nclient = «\"198.18.1.128/25\"", "no client gets to the policy for 198.18.1.128/25", "narrower prefix first"),
    // VIPARANGE.
    case("address = \"198.18.10.0\"", "address = «\"198.18.10.7\"", "not the first address of a range", "198.18.10.0"),
    case("moveable = \"nondisruptive\"", "moveable = «\"immediate\"", "`moveable` can't be \"immediate\"", "\"nondisruptive\""),
    case("address = \"198.18.10.0\"", "address = «\"198.18.0.0\"", "this node's cluster address 198.18.0.10", "smaller"),
    case("address = \"198.18.10.0\"", "address = \"198.18.10.0\"\n[[vipadynamic.viparange]]\naddress = «\"198.18.10.128\"\nmask = 25", "overlaps the range 198.18.10.0/24", "one range"),
    // Routes.
    case("name = \"default\"\n", "name = «\"canary\"\n", "two routes \"canary\"", "a name of its own"),
    case("[[vipadynamic.vipadistribute.route]]\nname = \"default\"\n", "«[[vipadynamic.vipadistribute.route]]\nhostnames = [\"*.SHOP.example\"]\nmatches = [{ path = \"/static/\" }]\n", "has no `name`", "add a name"),
    case("name = \"default\"\n", "name = \"default\"\nhostnames = [\"*.SHOP.example\"]\nmatches = [«{ path = \"/static/\" }]\n", "no request gets here: route \"canary\" has the same match for *.shop.example", "remove one"),
    case("{ path = \"/static\" },", "«{ path = \"static\" },", "\"static\" does not begin with `/`", "begin it with `/`"),
    case("{ path = \"/static\" },", "«{ path = { type = \"RegularExpression\", value = \"/(a\" } },", "regular expression `/(a` can't be used", "simpler one"),
    case("{ path = \"/static\" },", "«{ path = { type = \"RegularExpression\", value = \"/([a-z]{1,200}x){1,200}\" } },", "can't be used", "simpler one"),
    case("{ path = \"/static\" },", "{ path = { type = «\"Prefix\", value = \"/s\" } },", "`type` can't be \"Prefix\"", "write \"Exact\" or \"PathPrefix\""),
    case("{ path = \"/static\" },", "{ «pth = \"/static\" },", "no key `pth`", "did you mean `path`?"),
    case("{ path = \"/static\" },", "«{ alpn = \"h2\" },", "a request of http has no `alpn`", "client_protocol"),
    case("{ path = \"/static\" },", "{ path = \"/static\", key = «\"k\" },", "of different protocols", "keep the one"),
    case("\"*.shop.example\"", "«\"*shop.example\"", "has `*` where it stands for nothing", "`*.`"),
    case("\"*.shop.example\"", "«\"shop.example:80\"", "is more than a host name", "without scheme"),
    case("{ stack = \"t2\" }]", "{ stack = «\"t9\" }]", "route \"canary\" names t9, which is not in the distribution's destip", "add it to the destip"),
    case("{ stack = \"t2\" }]", "{ stack = «\"t1\" }]", "`backends` has t1 twice", "keep one"),
    case("ports = [8081]\n", "ports = [8081]\ncontent_routed = true\n", "the routing application reads requests", "remove one"),
    case("ports = [8081]\n", "", "there are none", "ports = [80]"),
    case("slots = [0, 8191]", "slots = «[0]", "`slots` is not a first and a last slot", "two numbers"),
    case("{ slots = [0, 8191] }", "«{ slots = [9, 8] }", "9 to 8 are not hash slots", "0 to 16383"),
    case("ports = [443, 80]\n", "ports = [443, 80]\nclient_protocol = «\"tls\"\n", "there is no route", "add a `route`"),
];

/// The text with a mistake in it, and the line and column where it has to be found.
fn spoil(case: &Case) -> (String, Option<(usize, usize)>) {
    assert_eq!(GOOD.matches(case.find).count().min(1), 1, "not in the good file: {}", case.find);
    let marked = GOOD.replacen(case.find, case.put, 1);
    let place = marked.find('«').map(|at| {
        let before = &marked[..at];
        (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap().chars().count() + 1)
    });
    (marked.replace('«', ""), place)
}

#[test]
fn each_mistake_is_found_at_its_place_with_its_fix() {
    let mut failures = Vec::new();
    for case in CASES {
        let (text, place) = spoil(case);
        let said = match parse(&text) {
            Ok(_) => "nothing".to_owned(),
            Err(mistakes) => {
                let matches = |m: &super::super::Mistake| {
                    m.what.contains(case.what)
                        && m.fix.contains(case.fix)
                        && place.is_none_or(|place| place == (m.line, m.column))
                };
                // A mistake of form may be said more than once; any other must be the only one.
                let form = case.what.contains("TOML") || case.what.contains("duplicate");
                if mistakes.iter().any(matches) && (form || mistakes.iter().count() == 1) {
                    continue;
                }
                mistakes.to_string()
            }
        };
        failures.push(format!(
            "{:?}\n  wanted at {place:?}: {} / {}\n  said: {said}",
            case.put, case.what, case.fix
        ));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(CASES.len() >= 30);
}

#[test]
fn every_mistake_of_a_file_is_reported_not_only_the_first() {
    let text = GOOD
        .replace("rank = 200", "rank = 300")
        .replace("name = \"t3\"", "name = \"T3\"")
        .replace("heartbeat_ms", "heart_beat_ms")
        .replace("ports = [443, 80]", "ports = [0, 443, 443]");
    let mistakes = parse(&text).unwrap_err();
    let lines: Vec<usize> = mistakes.iter().map(|m| m.line).collect();
    assert_eq!(lines.len(), 5, "{mistakes}");
    assert!(lines.is_sorted());
}

#[test]
fn a_report_shows_the_line_the_sentence_and_the_fix() {
    let text = GOOD.replace("rank = 200", "rank = 300");
    let line = text.lines().position(|line| line.starts_with("rank = 300")).unwrap() + 1;
    let mistakes = parse(&text).unwrap_err();
    let sentence = "`rank` is 300, which is outside of 1 to 254; write a whole number from 1 to 254";
    assert_eq!(mistakes.to_string(), format!("batond.toml:{line}:8: {sentence}"));
    let report = mistakes.report(false);
    for part in [
        &*format!("batond.toml:{line}:8"),
        "rank = 300",
        "which is outside of 1 to 254",
        "help: write a whole number",
        "1 mistake in",
    ] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
}
