//! How the words of the cluster are written where people and programs read them.

use std::net::IpAddr;

use crate::control_socket::{JobName, Refusal, Target};
use crate::dpt::{Encapsulation, Method, Reach, Shared, StackEntry, StackState, stack_of};
use crate::transfer::{Reason, TransferId, Way, Why};
use crate::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn stack(name: &str) -> StackName {
    name.parse().expect("a stack's name")
}

#[test]
fn what_people_read_is_written_in_one_way() {
    let v6 = Service { dvipa: Dvipa::new(ip("2001:db8::9")), port: 53, protocol: Protocol::Udp };
    let connection =
        Connection::new(Protocol::Tcp, (ip("198.18.0.2"), 40_000).into(), (ip("198.18.9.1"), 80).into());
    let both = ClusterAddress::from_addresses(&[ip("2001:db8::2"), ip("198.18.0.21")]);
    let target = Target { stack: stack("t-1"), job: "web".parse().expect("a job's name") };
    let written: [(&str, &dyn std::fmt::Display); 20] = [
        ("198.18.9.1", &Dvipa::new(ip("::ffff:198.18.9.1"))),
        ("tcp", &Protocol::Tcp),
        ("udp", &Protocol::Udp),
        ("[2001:db8::9]:53/udp", &v6),
        ("tcp 198.18.0.2:40000 -> 198.18.9.1:80", &connection.expect("one family")),
        ("t-1", &stack("t-1")),
        ("198.18.0.21, 2001:db8::2", &both.expect("one of each family")),
        ("ipip", &Encapsulation::Ipip),
        ("gue", &Encapsulation::Gue),
        ("l2", &Encapsulation::L2),
        ("round-robin", &Method::RoundRobin),
        ("weighted-round-robin", &Method::WeightedRoundRobin),
        ("least-connections", &Method::LeastConnections),
        ("maglev", &Method::Maglev),
        ("source", &Method::Source),
        ("hot-standby", &Method::HotStandby),
        ("power-of-two", &Method::PowerOfTwo),
        ("web@t-1", &target),
        ("7-8", &TransferId { incarnation: 7, number: 8 }),
        (Refusal::Silent.sentence(), &Refusal::Silent),
    ];
    for (text, shown) in written {
        assert_eq!(shown.to_string(), text);
    }
    assert_eq!([Way::Restore, Way::Inject].map(Way::word), ["restore", "inject"]);
    let why = Why::new(Reason::Rejected, "the mailbox is full");
    assert_eq!(why.to_string(), format!("{} (the mailbox is full)", Reason::Rejected.sentence()));
    assert_eq!(Why::from(Reason::Ended).to_string(), Reason::Ended.sentence());
}

#[test]
fn programs_read_the_same_words_as_people() {
    for blame in [Blame::Client, Blame::Application, Blame::Peer, Blame::Operator, Blame::Us] {
        assert_eq!(serde_json::to_value(blame).expect("a text"), blame.word());
    }
    let job = JobName::new("web.1").expect("a job's name");
    assert_eq!((job.as_str(), serde_json::to_value(&job).expect("a text")), ("web.1", "web.1".into()));
    let name = stack("t-1");
    assert_eq!((name.as_str(), serde_json::to_value(&name).expect("a text")), ("t-1", "t-1".into()));
    assert!(serde_json::from_str::<StackName>("\"T 1\"").is_err());
    assert!(serde_json::from_str::<JobName>("\"a job\"").is_err());
}

#[test]
fn names_ranks_and_cluster_addresses_have_bounds() {
    for (name, is_one) in
        [("", false), ("a", true), ("-a", false), ("a-", false), ("a-9", true), ("A", false), ("a_b", false)]
    {
        assert_eq!(StackName::new(name).is_ok(), is_one, "{name}");
    }
    for length in [63, 64] {
        assert_eq!(StackName::new("x".repeat(length)).is_ok(), length == 63);
        assert_eq!(JobName::new("x".repeat(length)).is_ok(), length == 63);
    }
    assert_eq!([0, 1, 254, 255].map(|rank| Rank::new(rank).map(Rank::get)), [None, Some(1), Some(254), None]);
    let of = |addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|a| ip(a)).collect();
        ClusterAddress::from_addresses(&addresses).map(|all| all.iter().collect::<Vec<_>>())
    };
    assert_eq!(of(&[]), None);
    assert_eq!(of(&["198.18.0.1"]), Some(vec![ip("198.18.0.1")]));
    assert_eq!(of(&["2001:db8::1"]), Some(vec![ip("2001:db8::1")]));
    assert_eq!(of(&["2001:db8::1", "198.18.0.1"]), Some(vec![ip("198.18.0.1"), ip("2001:db8::1")]));
    assert_eq!(of(&["198.18.0.1", "::ffff:198.18.0.2"]), None, "two of one family");
}

#[test]
fn parts_of_the_dpt_are_shared_until_one_is_written_to() {
    let one = Shared::from(vec![1]);
    let mut other = one.clone();
    assert!(one.is(&other));
    other.push(2);
    assert!(!one.is(&other));
    assert_eq!((one.as_slice(), other.as_slice()), (&[1][..], &[1, 2][..]));
    let entry = |index| StackEntry {
        index: StackIndex(index),
        name: stack("t1"),
        reach: Reach::Local,
        state: StackState::Up,
    };
    let stacks = [entry(3), entry(7)];
    assert_eq!(stack_of(&stacks, StackIndex(7)), Some(&stacks[1]));
    assert_eq!(stack_of(&stacks, StackIndex(5)), None);
}

#[test]
fn a_connection_that_is_begun_or_has_ended_is_not_counted_as_its_owners() {
    let counts: Vec<_> = CrtState::ALL.into_iter().filter(|state| state.counts()).collect();
    assert_eq!(counts, [CrtState::Established, CrtState::Frozen, CrtState::HandingOver]);
}
