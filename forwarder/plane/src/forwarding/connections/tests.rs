use std::net::Ipv4Addr;

use forwarder::crt::{Config, CrtState, Cursor, Entry};
use forwarder::{Fence, Lastings, Looks, Mac, Neighbours, Node};
use model::ClusterAddress;
use model::dpt::{Affinity, Distribution, DvipaEntry, Method, Reach, Refuse, Shared, StackEntry};
use model::{Dvipa, DvipaIndex, StackName};

use super::*;

const NOW: Now = Now { ms: 1000 };
const ONE: StackIndex = StackIndex(1);
const TWO: StackIndex = StackIndex(2);

/// A CRT, and what is known of one DVIPA and two stacks, of which the first is in this state.
struct Bench {
    crt: Crt,
    connections: Connections,
}

fn key(port: u16) -> KeyV4 {
    KeyV4::new([198, 18, 0, 2].into(), port, DvipaIndex(0), 80, Protocol::Tcp)
}

fn of(port: u16) -> Connection {
    let (client, dvipa) = (([198, 18, 0, 2], port).into(), ([198, 18, 9, 1], 80).into());
    Connection::new(Protocol::Tcp, client, dvipa).unwrap()
}

fn dpt(one: StackState) -> Dpt {
    let stack = |index, state| StackEntry {
        index: StackIndex(index),
        name: StackName::new(format!("t{index}")).unwrap(),
        reach: Reach::Local,
        state,
    };
    let states = [StackState::Up, one, StackState::Up];
    Dpt {
        dvipas: vec![DvipaEntry::new(DvipaIndex(0), Dvipa::new([198, 18, 9, 1].into())).into()],
        stacks: (0..).zip(states).map(|(index, state)| stack(index, state)).collect(),
        ..Dpt::default()
    }
}

/// A row of the DPT that has no targets.
fn service(port: u16, protocol: Protocol, affinity: Option<Affinity>) -> Distribution {
    Distribution {
        dvipa: DvipaIndex(0),
        port,
        protocol,
        method: Method::RoundRobin,
        targets: vec![],
        serving: vec![],
        policies: vec![],
        refuse: Refuse::Reset,
        max_connections: None,
        affinity,
        limits: model::Limits::NONE,
        routing: None,
        quic: Shared::default(),
    }
}

const FIRST: Account = Account { first: true, last: false, earlier: true };
const LAST: Account = Account { first: false, last: true, earlier: true };
const ALL: Account = Account { first: true, last: true, earlier: true };
const NEWS: Account = Account { first: false, last: false, earlier: false };

impl Bench {
    fn new() -> Self {
        let mut connections = Connections::new(NOW);
        connections.publish(&dpt(StackState::Up));
        Self { crt: Crt::new(&Config::default()).unwrap(), connections }
    }

    fn is(&mut self, one: StackState) {
        self.connections.publish(&dpt(one));
    }

    fn says(&mut self, owner: StackIndex, account: Account, ports: impl IntoIterator<Item = u16>) {
        let named: Vec<_> = ports.into_iter().map(of).collect();
        self.connections.newconn(&self.crt, owner, &named, account, &[], NOW);
    }

    /// Ticks until nothing is looked for; returns how many that took.
    fn walk(&mut self) -> u32 {
        let mut steps = 0;
        while self.connections.looks() {
            self.connections.step(&self.crt, 0, NOW);
            steps += 1;
        }
        steps
    }

    fn owner(&self, port: u16) -> Option<StackIndex> {
        let entry = self.crt.get(key(port), NOW)?;
        (entry.state != CrtState::Closing).then_some(entry.owner)
    }
}

#[test]
fn established_tcp_connections_that_no_part_of_an_account_names_have_ended() {
    let mut bench = Bench::new();
    bench.says(ONE, NEWS, 1..10);
    bench.says(TWO, NEWS, 10..12);
    bench.crt.insert_half_open(key(20), ONE, NOW).unwrap();
    let frozen = Entry { owner: ONE, state: CrtState::Frozen };
    bench.crt.change(key(9), Entry { owner: ONE, state: CrtState::Established }, frozen, NOW).unwrap();
    let flow = KeyV4::new([198, 18, 0, 2].into(), 30, DvipaIndex(0), 53, Protocol::Udp);
    bench.crt.insert_flow(flow, ONE, None, NOW).unwrap();
    bench.says(ONE, FIRST, 1..3);
    bench.says(ONE, LAST, 3..5);
    assert!(bench.walk() > 1, "in steps");
    let left: Vec<u16> = (1..30).filter(|port| bench.owner(*port).is_some()).collect();
    assert_eq!(left, [1, 2, 3, 4, 9, 10, 11, 20], "one that moves, another stack's and one that is new stay");
    assert!(bench.crt.get(flow, NOW).is_some(), "of UDP no account is given");
}

#[test]
fn what_comes_or_moves_before_the_walk_has_come_by_stays() {
    let mut bench = Bench::new();
    bench.says(ONE, NEWS, 1..10);
    bench.says(TWO, NEWS, 20..21);
    bench.says(ONE, ALL, 1..2);
    bench.says(ONE, NEWS, 5..6);
    bench.says(ONE, NEWS, 30..31);
    let (two, one) = ([TWO, ONE]).map(|owner| Entry { owner, state: CrtState::Established }).into();
    bench.crt.change(key(20), two, one, NOW).unwrap();
    bench.connections.moves(&of(20));
    bench.walk();
    let left: Vec<u16> = (1..40).filter(|port| bench.owner(*port).is_some()).collect();
    assert_eq!(left, [1, 5, 20, 30]);
}

#[test]
fn an_account_that_breaks_off_ends_nothing_and_the_next_one_begins_anew() {
    let mut bench = Bench::new();
    bench.says(ONE, NEWS, 1..10);
    bench.says(ONE, FIRST, 1..3);
    assert_eq!(bench.walk(), 0);
    bench.says(ONE, FIRST, 5..7);
    bench.says(ONE, LAST, []);
    bench.walk();
    let left: Vec<u16> = (1..10).filter(|port| bench.owner(*port).is_some()).collect();
    assert_eq!(left, [5, 6]);
}

#[test]
fn accounts_of_many_stacks_at_once_take_one_round_and_of_a_new_table_none() {
    let mut bench = Bench::new();
    for stack in 0..2000 {
        bench.says(StackIndex(stack), ALL, [stack + 1, stack + 3001]);
    }
    assert_eq!(bench.walk(), 0, "nothing was there before");
    bench.says(ONE, ALL, [2]);
    let one = bench.walk();
    for stack in 2..2000 {
        bench.says(StackIndex(stack), ALL, [stack + 1]);
    }
    assert_eq!(bench.walk(), one);
    let left = |from| (from..from + 2000).filter(|port| bench.owner(*port).is_some()).count();
    assert_eq!((left(1), left(3001)), (2000, 1));
}

/// One of many connections, of which each address has a thousand.
fn of_many(number: u32) -> Connection {
    let client = Ipv4Addr::from(0x0a00_0000 | (number / 1000));
    let port = 1024 + u16::try_from(number % 1000).unwrap();
    Connection::new(Protocol::Tcp, (client, port).into(), ([198, 18, 9, 1], 80).into()).unwrap()
}

#[test]
fn an_account_of_a_million_connections_is_looked_through_once_as_one_of_a_single_connection_is() {
    const MANY: u32 = 1_000_000;
    const A_MESSAGE: u32 = 10_000;
    let mut bench = Bench::new();
    bench.crt = Crt::new(&Config { connections_v4: MANY as usize, ..Config::default() }).unwrap();
    let mut accounts = |from: u32| {
        let mut at = from;
        while at < MANY {
            let named: Vec<_> = (at..(at + A_MESSAGE).min(MANY)).map(of_many).collect();
            let account = Account { first: at == from, last: at + A_MESSAGE >= MANY, earlier: true };
            bench.connections.newconn(&bench.crt, ONE, &named, account, &[], NOW);
            at += A_MESSAGE;
        }
        (bench.walk(), bench.crt.stack_count(ONE).connections)
    };
    assert_eq!(accounts(0), (0, MANY), "nothing was there before");
    let (steps, left) = accounts(0);
    assert_eq!(left, MANY);
    assert_eq!(accounts(MANY / 2), (steps, MANY / 2), "what it does not name has ended");
    assert_eq!(accounts(MANY - 1), (steps, 1), "each line is looked at once, whatever it names");
}

#[test]
fn the_entries_of_a_dead_stack_go_and_no_others() {
    let mut bench = Bench::new();
    bench.says(ONE, NEWS, (0..500).step_by(2));
    bench.says(TWO, NEWS, (1..500).step_by(2));
    bench.says(ONE, NEWS, [1002]);
    bench.crt.insert_half_open(key(1000), ONE, NOW).unwrap();
    let moving = Entry { owner: ONE, state: CrtState::Frozen };
    bench.crt.change(key(1002), Entry { owner: ONE, state: CrtState::Established }, moving, NOW).unwrap();
    bench.is(StackState::Lost);
    assert_eq!(bench.walk(), 0, "lost is not dead");
    bench.is(StackState::Dead);
    assert!(bench.walk() > 1, "in steps");
    for port in 0..500 {
        assert_eq!(bench.owner(port), (port % 2 == 1).then_some(TWO));
    }
    assert_eq!(bench.crt.get(key(1000), NOW), None);
    assert_eq!(bench.crt.get(key(1002), NOW), Some(moving), "its transfer decides");
    assert_eq!((bench.crt.stack_count(ONE).connections, bench.crt.stack_count(ONE).half_open), (1, 0));
}

#[test]
fn a_dead_stack_that_comes_back_in_the_middle_keeps_the_rest() {
    let mut bench = Bench::new();
    bench.is(StackState::Dead);
    bench.says(ONE, NEWS, [1]);
    bench.is(StackState::Up);
    assert_eq!(bench.walk(), 0);
    assert_eq!(bench.owner(1), Some(ONE));
}

#[test]
fn the_flows_of_a_service_end_with_its_definition_and_those_of_targets_stay() {
    let mut bench = Bench::new();
    let flow = |port| KeyV4::new([198, 18, 0, 2].into(), 9, DvipaIndex(0), port, Protocol::Udp);
    for port in [53, 5300, 40_000] {
        bench.crt.insert_flow(flow(port), TWO, None, NOW).unwrap();
    }
    let serves = |ports: &[u16]| {
        let service = |port: &u16| service(*port, Protocol::Udp, None);
        Dpt { distributions: ports.iter().map(service).map(Into::into).collect(), ..Dpt::default() }
    };
    bench.connections.publish(&serves(&[53, 5300]));
    assert_eq!(bench.walk(), 0, "nothing has ended");
    bench.connections.publish(&serves(&[53]));
    bench.walk();
    let left = [53, 5300, 40_000].map(|port| bench.crt.get(flow(port), NOW).is_some());
    assert_eq!(left, [true, false, true], "one that a target began itself has no service");
}

#[test]
fn a_number_is_vacant_when_no_table_no_hold_and_no_entry_names_it() {
    const HELD: Now = Now { ms: 70_000 };
    let mut bench = Bench::new();
    bench.says(ONE, NEWS, 1..10);
    bench.says(TWO, NEWS, 10..12);
    bench.crt.insert_half_open(key(20), ONE, NOW).unwrap();
    let (as_is, moving) =
        [CrtState::Established, CrtState::Frozen].map(|state| Entry { owner: ONE, state }).into();
    bench.crt.change(key(9), as_is, moving, NOW).unwrap();
    let mut without = dpt(StackState::Dead);
    bench.connections.retire(vec![ONE], vec![]);
    without.stacks.remove(1);
    without.generation = 7;
    let rest = |bench: &mut Bench, oldest, now| {
        let steps = (0..200).map(|_| bench.connections.step(&bench.crt, oldest, now));
        steps.collect::<Vec<_>>().into_iter().flatten().next()
    };
    assert_eq!(rest(&mut bench, 9, HELD), None, "the DPT in force names it");
    bench.connections.publish(&without);
    assert_eq!(rest(&mut bench, 6, HELD), None, "a worker may have the tables of before");
    assert_eq!(rest(&mut bench, 7, NOW), None, "packets that workers hold may name it");
    assert_eq!(bench.owner(1), Some(ONE), "and so may the entries");
    assert_eq!(rest(&mut bench, 7, HELD), None, "its transfer decides on one that moves");
    let left: Vec<u16> = (1..30).filter(|port| bench.owner(*port).is_some()).collect();
    assert_eq!(left, [9, 10, 11]);
    bench.crt.change(key(9), moving, as_is, HELD).unwrap();
    assert_eq!(rest(&mut bench, 7, HELD), Some((vec![ONE], vec![])));
    assert_eq!((bench.owner(9), bench.connections.looks()), (None, false));
}

#[test]
fn the_number_of_a_dvipa_is_another_ones_then() {
    let mut bench = Bench::new();
    bench.says(ONE, NEWS, 1..10);
    let other = |index| {
        let dvipa = Dvipa::new([198, 18, 9, 2].into());
        Dpt {
            dvipas: vec![DvipaEntry::new(DvipaIndex(index), dvipa).into()],
            generation: 1,
            ..dpt(StackState::Up)
        }
    };
    bench.connections.publish(&other(1));
    assert!(bench.connections.entry_of(&bench.crt, &of(1), NOW).is_some(), "still shown");
    bench.connections.retire(vec![], vec![DvipaIndex(0)]);
    for ms in [1000, 70_000, 70_001, 70_002].into_iter().flat_map(|ms| [ms; 200]) {
        bench.connections.step(&bench.crt, 1, Now { ms });
    }
    assert_eq!(bench.crt.stack_count(ONE).connections, 0);
    bench.connections.publish(&other(0));
    assert!(bench.connections.entry_of(&bench.crt, &of(1), NOW).is_none());
    bench.crt.newconn(key(1), ONE, NOW).unwrap();
    let entry = bench.crt.scan(Cursor::default(), usize::MAX, NOW, |row| {
        let entry = bench.connections.entry(row).unwrap();
        assert_eq!(entry.connection.dvipa, ([198, 18, 9, 2], 80).into());
    });
    assert_eq!(entry, None);
}

#[test]
fn what_a_stack_had_before_its_session_takes_no_half_open_entry_of_another_and_news_do() {
    for (account, owner) in [(Account { earlier: true, ..NEWS }, TWO), (FIRST, TWO), (NEWS, ONE)] {
        let mut bench = Bench::new();
        bench.crt.insert_half_open(key(1), TWO, NOW).unwrap();
        bench.says(ONE, account, [1]);
        assert_eq!(bench.owner(1), Some(owner), "{account:?}");
    }
}

#[test]
fn connections_that_begin_are_counted_by_service_and_stack_and_others_are_not() {
    let mut bench = Bench::new();
    bench.says(ONE, ALL, 1..10);
    assert_eq!(bench.connections.begun().count(), 0, "those were there before");
    bench.crt.insert_half_open(key(20), ONE, NOW).unwrap();
    bench.says(ONE, NEWS, [20, 21]);
    bench.says(ONE, NEWS, [20]);
    bench.says(TWO, NEWS, [22]);
    bench.connections.termconn(&bench.crt, TWO, &[of(22)], NOW);
    bench.says(TWO, NEWS, [22]);
    bench.connections.note_move(&of(21), ONE, TWO, NOW);
    let mut begun: Vec<_> = bench.connections.begun().collect();
    begun.sort_by_key(|((.., stack), _)| *stack);
    let of = |stack, opened, moved| ((DvipaIndex(0), 80, Protocol::Tcp, stack), Count { opened, moved });
    assert_eq!(begun, [of(ONE, 2, 0), of(TWO, 2, 1)]);
}

#[test]
fn a_client_keeps_its_target_while_one_of_its_connections_is_open_whatever_is_said_twice() {
    let mut bench = Bench::new();
    let affinity = Some(Affinity { seconds: 60, clients: 1024 });
    let dpt = Dpt { distributions: vec![service(80, Protocol::Tcp, affinity).into()], ..dpt(StackState::Up) };
    let node = Node {
        mac: Mac([2, 0, 0, 0, 0, 1]),
        cluster_address: ClusterAddress { v4: Some([198, 18, 0, 10].into()), v6: None },
        fabric_mtu: 1500,
        vlan: None,
        fence: Fence::default(),
        looks: Looks::default(),
    };
    let tables = Tables::build(&dpt, &Neighbours::new(), &node);
    bench.connections.keep(&tables);
    let (_, clients) = tables.affinities().next().unwrap();
    let target = |s: u64| clients.target([198, 18, 0, 2].into(), 60, Now { ms: NOW.ms + s * 1000 });
    assert_eq!(target(0), None);
    bench.says(ONE, NEWS, [1, 2]);
    bench.says(ONE, NEWS, [1]);
    for _ in 0..2 {
        bench.connections.termconn(&bench.crt, ONE, &[of(1)], NOW);
    }
    assert_eq!(target(61), Some(ONE), "the other one is open");
    bench.connections.termconn(&bench.crt, TWO, &[of(2)], NOW);
    assert_eq!(target(61), Some(ONE), "it is not that stack's");
    bench.connections.note_move(&of(2), ONE, TWO, NOW);
    assert_eq!(target(61), Some(TWO), "its connection has moved");
    bench.connections.note_move(&of(2), TWO, ONE, NOW);
    // What an account does not name has ended.
    bench.says(ONE, ALL, []);
    bench.walk();
    assert_eq!((target(60), target(61)), (Some(ONE), None));
}

#[test]
fn for_how_long_connections_last_follows_from_those_that_end() {
    let mut bench = Bench::new();
    let mut lastings = Lastings::default();
    bench.says(ONE, NEWS, 1..41);
    lastings.pass(&bench.crt, [ONE].into_iter(), Now { ms: 5_000 });
    assert_eq!(bench.crt.loads().burden(ONE, 40).lasts_us, 0, "none has ended");
    let ended: Vec<_> = (1..31).map(of).collect();
    bench.connections.termconn(&bench.crt, TWO, &ended, NOW);
    bench.connections.termconn(&bench.crt, ONE, &ended, NOW);
    lastings.pass(&bench.crt, [ONE, TWO].into_iter(), Now { ms: 6_000 });
    // 40 for a second, of which less counts by now, and 10 for another one, for 30 that have ended.
    let us = bench.crt.loads().burden(ONE, 10).lasts_us;
    assert!((1_420_000..1_430_000).contains(&us), "{us}");
    assert_eq!(bench.crt.loads().burden(TWO, 0).lasts_us, 0, "what another stack has does not end");
}
