//! Selection, schedules and the look-ups.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use model::dpt::{
    Distribution, Dpt, Duty, DvipaEntry, Method, Policy, Reach, Refuse, Shared, StackEntry, StackState,
    WeightedTarget,
};
use model::{ClusterAddress, Connection, Dvipa, DvipaIndex, Protocol, StackIndex, StackName};

use super::*;
use crate::crt::{Config, Crt, KeyV4, Now};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2));

fn targets(weights: &[u16]) -> Vec<WeightedTarget> {
    weights
        .iter()
        .zip(1..)
        .map(|(weight, i)| WeightedTarget { stack: StackIndex(i), weight: *weight })
        .collect()
}

pub(super) fn dpt(method: Method, weights: &[u16], policies: Vec<Policy>) -> Dpt {
    let stacks = (1..=weights.len() as u16).map(|i| StackEntry {
        index: StackIndex(i),
        name: StackName::new(format!("t{i}")).unwrap(),
        reach: Reach::Local,
        state: StackState::Up,
    });
    let targets = targets(weights);
    let serving = targets.iter().map(|target| target.stack).collect();
    let (dvipa, protocol) = (DvipaIndex(0), Protocol::Tcp);
    Dpt {
        generation: 1,
        dvipas: vec![DvipaEntry::new(dvipa, Dvipa::new("198.18.9.1".parse().unwrap())).into()],
        stacks: stacks.collect(),
        distributions: vec![
            Distribution {
                dvipa,
                port: 80,
                protocol,
                method,
                targets,
                serving,
                policies,
                refuse: Refuse::Reset,
                max_connections: None,
                affinity: None,
                limits: model::Limits::NONE,
                routing: None,
                quic: Shared::default(),
            }
            .into(),
        ],
    }
}

pub(super) fn node() -> Node {
    let cluster_address = ClusterAddress { v4: Some(Ipv4Addr::new(198, 18, 0, 10)), v6: None };
    Node {
        mac: Mac([2; 6]),
        cluster_address,
        fabric_mtu: 1500,
        vlan: None,
        fence: Fence::default(),
        looks: Looks::default(),
    }
}

fn tables(method: Method, weights: &[u16], policies: Vec<Policy>) -> Tables {
    Tables::build(&dpt(method, weights, policies), &Neighbours::new(), &node())
}

pub(super) fn crt() -> Crt {
    let config = Config {
        connections_v4: 1024,
        connections_v6: 64,
        half_open: 64,
        fragments: 16,
        ..Config::default()
    };
    Crt::new(&config).unwrap()
}

fn pick(tables: &Tables, client: IpAddr, port: u16, crt: &Crt) -> Option<u16> {
    let service = tables.service(DvipaIndex(0), 80, Protocol::Tcp).unwrap();
    service.pick((client, port).into(), crt, Now::default()).map(|s| s.0)
}

fn picks(tables: &Tables, n: u16) -> Vec<u16> {
    let crt = crt();
    (0..n).map(|i| pick(tables, CLIENT, 1024 + i, &crt).unwrap()).collect()
}

#[test]
fn round_robin_goes_round_and_ignores_weights_but_zero() {
    assert_eq!(picks(&tables(Method::RoundRobin, &[9, 0, 1, 5], vec![]), 7), [1, 3, 4, 1, 3, 4, 1]);
}

#[test]
fn weighted_round_robin_interleaves_evenly() {
    assert_eq!(picks(&tables(Method::WeightedRoundRobin, &[2, 1, 0], vec![]), 6), [1, 2, 1, 1, 2, 1]);
    let turns = picks(&tables(Method::WeightedRoundRobin, &[50, 30, 20], vec![]), 1000);
    for (stack, share) in [(1, 5), (2, 3), (3, 2)] {
        for round in turns.chunks(10) {
            let has = round.iter().filter(|t| **t == stack).count();
            assert_eq!(has, share, "stack {stack} in {round:?}");
        }
    }
}

#[test]
fn hot_standby_gives_all_to_the_heaviest_and_of_equals_to_the_first_by_name() {
    for (weights, all) in [(&[2, 9, 1][..], 2), (&[3, 3, 1], 1), (&[0, 0, 1], 3)] {
        let picked = picks(&tables(Method::HotStandby, weights, vec![]), 9);
        assert!(picked.iter().all(|target| *target == all), "{weights:?}: {picked:?}");
    }
}

#[test]
fn source_gives_a_client_the_same_target_whatever_its_port_and_many_clients_all() {
    let (tables, crt) = (tables(Method::Source, &[1, 1, 1, 0], vec![]), crt());
    let clients = (0..64_u32).map(|n| IpAddr::from(Ipv4Addr::from_bits(0xc612_0000 + n)));
    let of = |client| {
        let all: BTreeSet<u16> = (1..50).map(|port| pick(&tables, client, port, &crt).unwrap()).collect();
        assert_eq!(all.len(), 1, "{client}: {all:?}");
        all.into_iter().next()
    };
    assert_eq!(clients.filter_map(of).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 3]));
    let hosts = (0..50_u128).map(|host| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | host)));
    let picked: BTreeSet<_> = hosts.map(|client| pick(&tables, client, 1, &crt)).collect();
    assert_eq!(picked.len(), 1, "a host may change the last 64 bits");
}

#[test]
fn a_round_is_as_short_as_the_weights_allow() {
    for (weights, turns) in [(&[50, 30, 20][..], 10), (&[7, 7], 2), (&[6, 0, 9], 5), (&[0], 0)] {
        assert_eq!(schedule::weighted(&targets(weights)).len(), turns, "{weights:?}");
    }
}

#[test]
fn weights_that_share_nothing_still_make_a_bounded_schedule() {
    let list = schedule::weighted(&targets(&[65_535, 65_521, 1]));
    assert!(list.len() <= 8200, "{} turns", list.len());
    assert!(list.contains(&StackIndex(3)), "even the lightest has a turn");
}

#[test]
fn no_target_means_no_selection() {
    for method in Method::ALL {
        for weights in [&[][..], &[0, 0]] {
            assert_eq!(pick(&tables(method, weights, vec![]), CLIENT, 1, &crt()), None, "{method}");
        }
    }
}

#[test]
fn least_connections_fills_up_in_proportion_to_the_weights() {
    let (tables, crt) = (tables(Method::LeastConnections, &[2, 1, 0], vec![]), crt());
    let mut has = HashMap::<u16, u32>::new();
    for port in 0..30 {
        let stack = pick(&tables, CLIENT, port, &crt).unwrap();
        let key = KeyV4::new(Ipv4Addr::LOCALHOST, port, DvipaIndex(0), 80, Protocol::Tcp);
        crt.newconn(key, StackIndex(stack), Now::default()).unwrap();
        *has.entry(stack).or_default() += 1;
    }
    assert_eq!((has[&1], has[&2]), (20, 10));
}

/// By a method, of targets that may have so many connections each, some of which they have already.
fn limited(method: Method, weights: &[u16], most: u32, has: &[u16]) -> (Tables, Crt) {
    let (mut dpt, crt) = (dpt(method, weights, vec![]), crt());
    dpt.distributions[0].max_connections = NonZeroU32::new(most);
    for (stack, has) in (1..).zip(has) {
        for port in 0..*has {
            connect(&crt, stack, port);
        }
    }
    (Tables::build(&dpt, &Neighbours::new(), &node()), crt)
}

fn connect(crt: &Crt, stack: u16, port: u16) {
    let key = KeyV4::new(Ipv4Addr::from([127, 0, 1, stack as u8]), port, DvipaIndex(0), 80, Protocol::Tcp);
    crt.newconn(key, StackIndex(stack), Now::default()).unwrap();
}

#[test]
fn a_full_target_is_passed_over_whatever_the_method_and_shares_stay_among_the_others() {
    for method in Method::ALL {
        let (tables, crt) = limited(method, &[3, 2, 1], 5, &[5, 4, 0]);
        let picked: BTreeSet<_> = (0..200).map(|port| pick(&tables, CLIENT, port, &crt).unwrap()).collect();
        assert!(!picked.contains(&1) && picked.contains(&2) | picked.contains(&3), "{method}: {picked:?}");
    }
    let (tables, crt) = limited(Method::RoundRobin, &[1, 1, 1], 5, &[5]);
    let turns: Vec<_> = (0..6).map(|port| pick(&tables, CLIENT, port, &crt).unwrap()).collect();
    assert_eq!(turns, [2, 3, 2, 3, 2, 3], "a full one's turns are the next one's, which goes on from there");
    let (tables, crt) = limited(Method::HotStandby, &[3, 1, 2], 5, &[5]);
    assert_eq!(pick(&tables, CLIENT, 1, &crt), Some(3), "the heaviest that has room");
}

#[test]
fn when_all_are_full_nobody_is_picked_until_a_connection_ends() {
    for method in Method::ALL {
        let (tables, crt) = limited(method, &[1, 1, 0], 2, &[2, 1]);
        let service = tables.service(DvipaIndex(0), 80, Protocol::Tcp).unwrap();
        assert_eq!(pick(&tables, CLIENT, 1, &crt), Some(2), "{method}");
        connect(&crt, 2, 9);
        assert_eq!(pick(&tables, CLIENT, 1, &crt), None, "{method}");
        assert_eq!(service.refusal(CLIENT), Reason::TargetsFull);
    }
    let (tables, _) = limited(Method::Maglev, &[0], 2, &[]);
    let service = tables.service(DvipaIndex(0), 80, Protocol::Tcp).unwrap();
    assert_eq!(service.refusal(CLIENT), Reason::NoTarget, "there is none to be full");
}

#[test]
fn maglev_gives_shares_by_weight_and_the_same_client_the_same_target() {
    let (tables, crt) = (tables(Method::Maglev, &[2, 1, 1, 0], vec![]), crt());
    let mut has = HashMap::<u16, u32>::new();
    for i in 0..20_000_u32 {
        let client = IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + i));
        let stack = pick(&tables, client, 5, &crt).unwrap();
        assert_eq!(pick(&tables, client, 5, &crt), Some(stack));
        *has.entry(stack).or_default() += 1;
    }
    assert!(!has.contains_key(&4));
    for (stack, share) in [(1, 10_000_i64), (2, 5000), (3, 5000)] {
        assert!((i64::from(has[&stack]) - share).abs() < 400, "{has:?}");
    }
}

#[test]
fn maglev_moves_few_clients_when_a_target_leaves() {
    let before = tables(Method::Maglev, &[1, 1, 1, 1, 1], vec![]);
    let after = tables(Method::Maglev, &[1, 1, 0, 1, 1], vec![]);
    let crt = crt();
    let mut moved = 0;
    for i in 0..10_000_u32 {
        let client = IpAddr::V4(Ipv4Addr::from_bits(i));
        let (old, new) = (pick(&before, client, 9, &crt).unwrap(), pick(&after, client, 9, &crt).unwrap());
        moved += u32::from(old != 3 && old != new);
    }
    assert!(moved < 500, "{moved} of 8000 moved without need");
}

#[test]
fn maglev_depends_on_names_not_on_indices() {
    let crt = crt();
    let one = dpt(Method::Maglev, &[1, 1, 1], vec![]);
    let mut two = one.clone();
    for (entry, index) in two.stacks.iter_mut().zip([7, 5, 6]) {
        entry.index = StackIndex(index);
    }
    two.distributions[0].targets =
        [5, 6, 7].map(|i| WeightedTarget { stack: StackIndex(i), weight: 1 }).to_vec();
    let build = |dpt| Tables::build(dpt, &Neighbours::new(), &node());
    let (one, two) = (build(&one), build(&two));
    let renamed = HashMap::from([(1, 7), (2, 5), (3, 6)]);
    for port in 0..500 {
        assert_eq!(
            renamed[&pick(&one, CLIENT, port, &crt).unwrap()],
            pick(&two, CLIENT, port, &crt).unwrap()
        );
    }
}

/// Routing nodes of other versions make the same tables and choose the same targets, or a takeover would move connections.
#[test]
fn maglev_always_tells_the_same_target() {
    let (tables, crt) = (tables(Method::Maglev, &[1, 2, 3, 4, 5, 6, 7], vec![]), crt());
    let picks = ["198.18.0.2", "203.0.113.77", "2001:db8::2", "2001:db8:ffff:1::f00d"].map(|client| {
        let client = client.parse().unwrap();
        [80, 1024, 40_000, 65_535].map(|port| pick(&tables, client, port, &crt).unwrap())
    });
    assert_eq!(picks, [[6, 1, 7, 7], [3, 5, 6, 5], [1, 4, 3, 5], [5, 4, 6, 5]]);
}

#[test]
fn the_first_policy_that_matches_the_client_decides() {
    let policy = |client: &str, stack| Policy {
        client: client.parse().unwrap(),
        targets: vec![WeightedTarget { stack: StackIndex(stack), weight: 1 }],
    };
    let nobody = Policy { client: "203.0.113.0/24".parse().unwrap(), targets: vec![] };
    let tables = tables(
        Method::RoundRobin,
        &[1, 0, 0],
        vec![policy("198.18.1.0/24", 2), policy("198.18.0.0/16", 3), nobody],
    );
    let by = |client: &str| pick(&tables, client.parse().unwrap(), 1, &crt());
    assert_eq!(by("198.18.1.9"), Some(2));
    assert_eq!(by("198.18.2.9"), Some(3));
    assert_eq!(by("192.0.2.1"), Some(1));
    assert_eq!(by("203.0.113.7"), None);
    assert_eq!(by("2001:db8::1"), Some(1));
}

#[test]
fn a_rotation_goes_on_where_it_was_when_the_tables_are_replaced() {
    for method in [Method::RoundRobin, Method::LeastConnections] {
        let mut dpt = dpt(method, &[1, 1, 1], vec![]);
        let first = Tables::build(&dpt, &Neighbours::new(), &node());
        assert_eq!(picks(&first, 2), [1, 2]);
        let second = first.rebuild(&dpt, &Neighbours::new(), &node());
        assert_eq!(picks(&second, 2), [3, 1], "the service is the same");
        dpt.distributions[0].refuse = Refuse::Silent;
        let third = second.rebuild(&dpt, &Neighbours::new(), &node());
        assert_eq!(picks(&third, 2), [2, 3], "the service was made anew");
    }
}

#[test]
fn an_open_map_finds_what_is_in_it_and_nothing_else() {
    let pairs: Vec<(u32, u32)> = (0..5000).map(|i| (i * 7, i)).collect();
    let map = OpenMap::new(pairs.into_iter());
    for i in 0..35_000 {
        assert_eq!(map.get(i), (i % 7 == 0).then_some(i / 7));
    }
    assert_eq!(OpenMap::<u32, u32>::new(Vec::new().into_iter()).get(0), None);
    // Cubes lie less evenly than multiples: some share a slot.
    let cubes: Vec<(u32, u32)> = (0..1600).map(|i: u32| (i.pow(3), i)).collect();
    let map = OpenMap::new(cubes.into_iter());
    assert!((0..1600_u32).all(|i| map.get(i.pow(3)) == Some(i) && map.get(i.pow(3) + 2).is_none()));
}

/// The same DPT with two services, of which the second has these weights.
fn two_services(weights: &[u16]) -> Dpt {
    let mut dpt = dpt(Method::RoundRobin, &[1, 1, 1], vec![]);
    let mut second = dpt.distributions[0].clone();
    (second.port, second.targets) = (81, targets(weights));
    dpt.distributions.push(second);
    dpt
}

#[test]
fn a_change_of_one_service_makes_no_other_anew() {
    let before = Tables::build(&two_services(&[1, 1, 1]), &Neighbours::new(), &node());
    let after = before.rebuild(&two_services(&[1, 0, 1]), &Neighbours::new(), &node());
    let same: Vec<bool> =
        before.distributions.iter().zip(&*after.distributions).map(|(b, a)| Arc::ptr_eq(b, a)).collect();
    assert_eq!(same, [true, false]);
    let crt = crt();
    let pick = |port| {
        after.service(DvipaIndex(0), port, Protocol::Tcp)?.pick((CLIENT, 1).into(), &crt, Now::default())
    };
    assert!((0..9).all(|_| pick(81) != Some(StackIndex(2))));
}

/// What was made for the successor of these tables.
fn built(before: &Tables, dpt: &Dpt) -> Built {
    before.rebuild(dpt, &Neighbours::new(), &node()).built()
}

#[test]
fn what_is_made_for_a_new_dpt_is_what_has_changed_in_it() {
    let mut dpt = two_services(&[1, 1, 1]);
    let before = Tables::build(&dpt, &Neighbours::new(), &node());
    assert_eq!(before.built(), Built { services: 2, maglevs: 0, ways: 4, lookups: 3 });
    dpt.generation += 1;
    assert_eq!(built(&before, &dpt), Built::default());
    dpt.distributions[1].refuse = Refuse::Silent;
    assert_eq!(built(&before, &dpt), Built { services: 1, ..Built::default() });
    dpt.dvipas[0].ask.certain = true;
    assert_eq!(built(&before, &dpt), Built { services: 1, ..Built::default() });
    dpt.stacks[2].state = StackState::Lost;
    assert_eq!(built(&before, &dpt), Built { services: 1, ways: 4, lookups: 1, ..Built::default() });
}

#[test]
fn other_next_hops_make_the_ways_anew_and_nothing_else() {
    let dpt = two_services(&[1, 1, 1]);
    let mut neighbours = Neighbours::new();
    let before = Tables::build(&dpt, &neighbours, &node());
    neighbours.set(StackIndex(1), Family::V4, Mac([4; 6]));
    let after = before.with_neighbours(&neighbours);
    assert_eq!(after.built(), Built { ways: 4, ..Built::default() });
    assert!(before.distributions.iter().zip(&*after.distributions).all(|(b, a)| Arc::ptr_eq(b, a)));
    let next = after.rebuild(&dpt, &neighbours, &node());
    assert_eq!(next.built(), Built::default(), "they are kept");
}

#[test]
fn a_maglev_table_is_made_once_for_equal_targets_and_kept() {
    let mut dpt = dpt(Method::Maglev, &[1, 2, 3], vec![]);
    let mut second = dpt.distributions[0].clone();
    second.port = 81;
    dpt.distributions.push(second);
    let before = Tables::build(&dpt, &Neighbours::new(), &node());
    assert_eq!(before.built().maglevs, 1);
    dpt.distributions[0].refuse = Refuse::Silent;
    assert_eq!(built(&before, &dpt), Built { services: 1, ..Built::default() }, "the targets are the same");
    dpt.distributions[0].targets = targets(&[1, 2, 4]);
    let after = before.rebuild(&dpt, &Neighbours::new(), &node());
    assert_eq!(after.built(), Built { services: 1, maglevs: 1, ..Built::default() });
    drop(before);
    dpt.distributions[1].targets = targets(&[1, 2, 4]);
    let last = after.rebuild(&dpt, &Neighbours::new(), &node());
    assert_eq!(last.built(), Built { services: 1, ..Built::default() });
}

#[test]
fn a_service_is_found_again_when_others_come_before_it() {
    let before = Tables::build(&two_services(&[1]), &Neighbours::new(), &node());
    let mut dpt = two_services(&[1]);
    let mut first = dpt.distributions[0].clone();
    first.port = 79;
    dpt.distributions.insert(0, first);
    let after = before.rebuild(&dpt, &Neighbours::new(), &node());
    let same = |before_at: usize, after_at: usize| {
        Arc::ptr_eq(&before.distributions[before_at], &after.distributions[after_at])
    };
    assert!(same(0, 1) && same(1, 2));
}

#[test]
fn a_learned_path_mtu_makes_the_longest_packet_shorter() {
    let remote = |encapsulation| {
        let mut dpt = dpt(Method::RoundRobin, &[1], vec![]);
        let cluster_address = ClusterAddress { v4: Some([198, 18, 0, 21].into()), v6: None };
        dpt.stacks[0].reach = Reach::Remote { cluster_address, encapsulation };
        dpt
    };
    let longest = |encapsulation, mtu: Option<u16>| {
        let mut neighbours = Neighbours::new();
        neighbours.set(StackIndex(1), Family::V4, Mac([2; 6]));
        mtu.into_iter().for_each(|mtu| neighbours.set_mtu(StackIndex(1), Family::V4, mtu));
        let tables = Tables::build(&remote(encapsulation), &neighbours, &node());
        [Family::V4, Family::V6].map(|family| tables.carrier(StackIndex(1), family).max_inner)
    };
    use model::dpt::Encapsulation::{Gue, Ipip, L2};
    assert_eq!(longest(Gue, None), [1468, 1468]);
    assert_eq!(longest(Gue, Some(1400)), [1368, 1368]);
    assert_eq!(longest(Ipip, Some(1400)), [1380, 1380]);
    assert_eq!(longest(Gue, Some(1280)), [1248, 1280], "IPv6 knows no smaller one");
    assert_eq!(longest(Gue, Some(9000)), [1468, 1468], "what is configured is the limit");
    assert_eq!(longest(L2, Some(1400)), [1500, 1500], "there is no router on a segment");
}

#[test]
fn tables_say_what_they_were_made_from() {
    let mut dpt = dpt(Method::RoundRobin, &[1], vec![]);
    dpt.generation = 7;
    let address = IpAddr::from([198, 18, 9, 3]);
    dpt.dvipas.push(DvipaEntry::new(DvipaIndex(2), Dvipa::new(address)).into());
    let tables = Tables::build(&dpt, &Neighbours::new(), &node());
    assert_eq!(tables.generation(), 7);
    let known = [0, 1, 2, 3].map(|i| tables.dvipa_address(DvipaIndex(i)));
    assert_eq!(known, [Some([198, 18, 9, 1].into()), None, Some(address), None]);
}

#[test]
fn a_set_of_stacks_has_those_that_it_was_made_of_and_no_others() {
    let members = [0, 63, 64, 300, StackIndex::MAX].map(StackIndex);
    let set: service::Stacks = members.into_iter().collect();
    for stack in (0..=StackIndex::MAX).map(StackIndex) {
        assert_eq!(set.has(stack), members.contains(&stack), "{stack:?}");
    }
    assert!(!set.has(StackIndex(u16::MAX)) && !service::Stacks::from_iter([]).has(StackIndex(0)));
}

#[test]
fn a_former_owner_forwards_and_does_not_answer_and_a_backup_does_neither() {
    let address = Ipv4Addr::new(198, 18, 9, 1);
    let mut dpt = dpt(Method::RoundRobin, &[1], vec![]);
    let mut tables = Tables::build(&dpt, &Neighbours::new(), &node());
    let known = Some(DvipaIndex(0));
    for (duty, forwards, answers) in [
        (Duty::Owner, known, known),
        (Duty::Former, known, None),
        (Duty::Backup, None, None),
        (Duty::Owner, known, known),
    ] {
        dpt.dvipas[0].duty = duty;
        tables = tables.rebuild(&dpt, &Neighbours::new(), &node());
        assert_eq!(
            (tables.dvipa_v4(address), tables.owned_v4(address, Now::default())),
            (forwards, answers),
            "{duty:?}"
        );
        assert_eq!(tables.dvipa_address(DvipaIndex(0)), Some(address.into()), "it has a number all the time");
    }
}

#[test]
fn an_owner_whose_leases_are_over_forwards_and_does_not_answer() {
    let address = Ipv4Addr::new(198, 18, 9, 1);
    let node = node();
    let tables = Tables::build(&dpt(Method::RoundRobin, &[1], vec![]), &Neighbours::new(), &node);
    let answers = |ms| tables.owned_v4(address, Now { ms }).is_some();
    assert!(answers(u64::MAX - 1), "it decides alone");
    node.fence.set(Now { ms: 500 });
    assert_eq!([499, 500, 501].map(answers), [true, false, false]);
    assert_eq!(tables.dvipa_v4(address), Some(DvipaIndex(0)));
    node.fence.set(Now { ms: 900 });
    assert!(answers(500), "renewed");
}

/// The targets that so many connections are given by SYN, and by choice out of the same row.
fn selected_and_chosen(method: Method, weights: &[u16], policies: Vec<Policy>) -> [Vec<u16>; 2] {
    let (dpt, crt) = (dpt(method, weights, policies), crt());
    let tables = Tables::build(&dpt, &Neighbours::new(), &node());
    let mut choosers = Choosers::default();
    [true, false].map(|by_syn| {
        let pick = |i: u16| {
            let client = if i.is_multiple_of(4) { IpAddr::from([198, 18, 1, 9]) } else { CLIENT };
            if by_syn {
                return pick(&tables, client, 1024 + i, &crt).unwrap();
            }
            let connection = connection(client, 1024 + i);
            let chosen = choosers.choose((&0, &0), &dpt.distributions[0], &connection, around(&dpt, &crt));
            choosers.settled(&connection);
            chosen.unwrap().0
        };
        (0..200).map(pick).collect()
    })
}

fn connection(client: IpAddr, port: u16) -> Connection {
    let dvipa = SocketAddr::from(([198, 18, 9, 1], 80));
    Connection::new(Protocol::Tcp, SocketAddr::new(client, port), dvipa).unwrap()
}

fn around<'a>(dpt: &'a Dpt, crt: &'a Crt) -> (&'a [StackEntry], &'a Crt, Now) {
    (&dpt.stacks, crt, Now { ms: 1 })
}

#[test]
fn a_connection_that_moves_is_given_the_target_that_a_syn_would_be() {
    use Method::{LeastConnections, Maglev, PowerOfTwo, RoundRobin, WeightedRoundRobin};
    for method in [RoundRobin, WeightedRoundRobin, LeastConnections, Maglev, PowerOfTwo] {
        let policy = Policy { client: "198.18.1.0/24".parse().unwrap(), targets: targets(&[0, 1, 3]) };
        let [selected, chosen] = selected_and_chosen(method, &[6, 3, 1, 0], vec![policy]);
        assert_eq!(selected, chosen, "{method}");
    }
}

#[test]
fn connections_that_have_not_moved_yet_count_at_the_targets_chosen_for_them() {
    let (dpt, crt) = (dpt(Method::LeastConnections, &[1, 1, 1], vec![]), crt());
    let key = |port| KeyV4::new(Ipv4Addr::new(198, 18, 0, 2), port, DvipaIndex(0), 80, Protocol::Tcp);
    for port in 0..4 {
        crt.newconn(key(port), StackIndex(1), Now { ms: 1 }).unwrap();
    }
    let mut choosers = Choosers::default();
    let mut choose = |port: u16, now| {
        let around = (&dpt.stacks[..], &crt, Now { ms: now });
        let row = &dpt.distributions[0];
        choosers.choose((&0, &0), row, &connection(CLIENT, port), around).unwrap().0
    };
    let mut crowd: Vec<u16> = (1000..1008).map(|port| choose(port, 1)).collect();
    crowd.sort_unstable();
    assert_eq!(crowd, [2, 2, 2, 2, 3, 3, 3, 3], "as many as t1 has");
    let again: Vec<u16> = (0..8).map(|_| choose(1000, 1)).collect();
    let others: Vec<u16> = (2000..2005).map(|port| choose(port, 1)).collect();
    let each = [1, 2, 3].map(|stack| others.iter().filter(|target| **target == stack).count());
    assert!(each.iter().all(|n| (1..=2).contains(n)), "one counts once: {again:?} {others:?}");
    let late: Vec<u16> = (3000..3004).map(|port| choose(port, 20_000)).collect();
    assert!(!late.contains(&1), "what has not moved for ten seconds does not count: {late:?}");
}

#[test]
fn a_choice_goes_on_in_turn_when_its_row_changes_or_leaves_something_out() {
    let (dpt, crt) = (dpt(Method::RoundRobin, &[1, 1, 1], vec![]), crt());
    let row = |weights: &[u16]| {
        let mut row = dpt.distributions[0].clone();
        row.targets = targets(weights);
        row
    };
    let mut choosers = Choosers::default();
    let mut choose = |key, weights: &[u16]| {
        choosers.choose((&key, &0), &row(weights), &connection(CLIENT, 1), around(&dpt, &crt)).map(|s| s.0)
    };
    assert_eq!([choose(0, &[1, 1, 1]), choose(0, &[1, 1, 1])], [Some(1), Some(2)]);
    assert_eq!(choose(0, &[2, 2, 2]), Some(3), "another row");
    let rest = [1, 0, 1];
    let left: Vec<_> = (0..4).map(|_| choose(5, &rest)).collect();
    assert_eq!(left, [Some(3), Some(1), Some(3), Some(1)], "it shares the turn");
    assert_eq!(choose(0, &[0]), None, "nothing to choose from");
}

#[test]
fn a_maglev_table_of_choices_is_made_once_for_equal_targets() {
    let (dpt, crt) = (dpt(Method::Maglev, &[1, 2, 3], vec![]), crt());
    let mut choosers = Choosers::default();
    let tables: Vec<_> = (0..300)
        .map(|key| {
            let row = dpt.distributions[0].clone();
            choosers.choose((&key, &key), &row, &connection(CLIENT, 1), around(&dpt, &crt));
            choosers.maglev_tables()
        })
        .collect();
    assert!(tables.iter().all(|tables| *tables == 1), "{tables:?}");
}
