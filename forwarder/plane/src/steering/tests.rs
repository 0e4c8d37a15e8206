use std::path::Path;

use super::*;

const CONFIG: &str = r#"
[node]
name = "rt1"
cluster_address = ["198.18.0.10", "2001:db8::10"]

[cluster]
listen = "198.18.0.10:7440"
ca = "ca.pem"
certificate = "rt1.pem"
key = "rt1.key"

[admin]
socket = "/run/baton/batond.sock"

[forwarder]
workers = [1]
encapsulation = "gue"

[[forwarder.port]]
role = "nic"
device = "0000:01:00.0"

[[forwarder.port]]
role = "local"
device = "net_tap0,iface=loc0"
interface = "loc0"
"#;

fn of(changes: &[(&str, &str)]) -> Vec<Wanted> {
    let text = changes.iter().fold(CONFIG.to_owned(), |text, (from, to)| text.replace(from, to));
    wanted(&Config::parse("test", &text, Path::new("")).unwrap_or_else(|m| panic!("{m}")))
}

fn names(wanted: &[Wanted]) -> Vec<&str> {
    wanted.iter().map(|w| w.name.as_str()).collect()
}

#[test]
fn a_node_wants_arp_discovery_its_sessions_and_bgp_apart() {
    let all = of(&[]);
    assert_eq!(names(&all), ["ARP", "ND", "sessions over IPv4", "BGP over IPv4", "BGP over IPv6"]);
    let kinds = |name: &str| -> Vec<Vec<Kind>> {
        let one = all.iter().find(|w| w.name == name).unwrap();
        assert!(one.alternatives.iter().flatten().all(|pattern| pattern.vlan.is_none()));
        one.alternatives.iter().map(|a| a.iter().map(|pattern| pattern.kind).collect()).collect()
    };
    assert_eq!(kinds("ARP"), [[Kind::EtherType(0x0806)]]);
    let session = |to| Kind::Ports { to, protocol: 17, source: 0, destination: 7440 };
    let (own, any) = ((Ipv4Addr::new(198, 18, 0, 10).into(), 32), (Ipv4Addr::UNSPECIFIED.into(), 0));
    assert_eq!(kinds("sessions over IPv4"), [[session(own)], [session(any)]], "the narrowest first");
    let bgp = kinds("BGP over IPv6");
    assert!(bgp.iter().all(|alternative| alternative.len() == 2), "either side may have opened it: {bgp:?}");
    let [by_type, by_group] = &kinds("ND")[..] else { panic!() };
    assert_eq!(by_type[..], [Kind::Icmp6(134), Kind::Icmp6(135), Kind::Icmp6(136)]);
    assert_eq!(by_group[0], Kind::Protocol("ff02::1:ff00:0".parse().unwrap(), 104, 58));
    assert_eq!(by_group[2], Kind::Protocol("2001:db8::10".parse().unwrap(), 128, 58));
}

#[test]
fn sessions_are_steered_wherever_the_node_listens() {
    let session = |listen: &str| -> Vec<String> {
        let all = of(&[("198.18.0.10:7440", listen)]);
        all.into_iter().map(|w| w.name).filter(|name| name.starts_with("sessions")).collect()
    };
    assert_eq!(session("0.0.0.0:7440"), ["sessions over IPv4"]);
    assert_eq!(session("[::]:7440"), ["sessions over IPv4", "sessions over IPv6"]);
    assert_eq!(session("192.0.2.1:7440"), ["sessions over IPv4"]);
    assert_eq!(session("[2001:db8::10]:7440"), ["sessions over IPv6"]);
}

#[test]
fn a_node_without_ipv6_wants_none_of_its_packets() {
    let all = of(&[(", \"2001:db8::10\"", "")]);
    assert_eq!(names(&all), ["ARP", "sessions over IPv4", "BGP over IPv4"]);
}

#[test]
fn where_the_nic_has_a_vlan_the_kernels_address_may_be_within_or_without() {
    let all = of(&[("role = \"nic\"", "role = \"nic\"\nvlan = 5")]);
    assert_eq!(names(&all)[5..7], ["ARP in VLAN 5", "ND in VLAN 5"]);
    let tags: Vec<Option<u16>> = all.iter().map(|w| w.alternatives[0][0].vlan).collect();
    assert_eq!(tags, [[None; 5], [Some(5); 5]].concat());
}
