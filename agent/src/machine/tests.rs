//! The table of sessions, named cases, and (in [`histories`]) random histories.

mod bounds;
mod changes;
mod flows;
mod histories;
mod kept;
mod moving;
mod numbers;
mod ranges;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use model::codec::Address;
use model::message::{
    After, FromStack, Load, Looked, Newconn, Srvstat, Termconn, Told, VipaList, VipaListDistribution,
    VipaListDvipa,
};
use model::{ClusterAddress, Connection, Dvipa, Epoch, Protocol, StackName};

use super::{
    AT_A_STEP, Action, Bound, Cookie, Event, Forwarders, Ifindex, Inherited, LOAD_INTERVAL, LOGGED_CHANGES,
    Listener, Machine, Origin, Own, Picture, RECENT, RENEWAL_ROUND, STALL, Scope, Served, Standing, Takes,
    Waiting,
};

const WEB: Listener = Listener { protocol: Protocol::Tcp, bound: Bound::AnyDual, port: 80, interface: None };

fn stack(name: &str) -> StackName {
    name.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn dvipa(last: u8) -> Dvipa {
    Dvipa::new(IpAddr::from([198, 18, 9, last]))
}

fn connection(dvipa_last: u8, client_port: u16) -> Connection {
    let client = SocketAddr::from(([198, 18, 0, 2], client_port));
    Connection::new(Protocol::Tcp, client, (dvipa(dvipa_last).address(), 80).into()).unwrap()
}

fn own() -> Own {
    Own {
        name: stack("t1"),
        cluster_address: ClusterAddress::from_addresses(&[ip("198.18.0.21"), ip("2001:db8::21")]).unwrap(),
        interfaces: vec![Ifindex(2)],
        routing_stacks: vec![stack("rt1"), stack("rt2")],
        repair: Duration::from_secs(10),
        unanswered: Some(Duration::from_secs(30)),
    }
}

/// A list of one routing stack: these DVIPAs, port 80, for these candidates.
fn list(dvipas: &[u8], candidates: &[&str]) -> VipaList {
    let distribution = VipaListDistribution {
        protocol: Protocol::Tcp,
        ports: vec![80],
        candidates: candidates.iter().map(ToString::to_string).collect(),
        content_routed: Some(false),
    };
    let entry = |last: &u8| VipaListDvipa {
        address: Address(dvipa(*last).address()),
        epoch: Epoch(7),
        owner: true,
        rank: 255,
        distributions: vec![distribution.clone()],
        forwards: None,
    };
    VipaList {
        dvipas: dvipas.iter().map(entry).collect(),
        forwarders: vec![Address(ip("198.18.0.10"))],
        ..VipaList::default()
    }
}

fn forwarders(all: &[(&str, u8, Takes)]) -> Forwarders {
    all.iter().map(|(source, number, takes)| ((ip(source), dvipa(*number)), *takes)).collect()
}

fn received(from: &str, list: VipaList) -> Event {
    Event::Listed(stack(from), list)
}

/// A machine and its clock.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    /// A machine whose first look is under way.
    fn new() -> Self {
        let now = Instant::now();
        let mut machine = Machine::new(own(), Inherited::default(), now);
        assert_eq!(machine.poll(now), Some(Action::Look(Scope::All)));
        Self { machine, now }
    }

    /// A machine whose sockets are known, with a session with `rt1` that has sent `list` and was answered.
    fn reporting(list: VipaList, picture: &Picture) -> Self {
        let mut bench = Self::new();
        bench.tell(Event::Seen(Scope::All, picture.clone()));
        bench.tell(Event::SessionUp(stack("rt1")));
        bench.tell(received("rt1", list));
        bench.tell(Event::Seen(Scope::All, picture.clone()));
        bench
    }

    /// Hands an event in and takes all actions.
    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.machine.handle(event, self.now);
        std::iter::from_fn(|| self.machine.poll(self.now)).collect()
    }

    fn standing(&self) -> Standing {
        self.machine.view().standings[&stack("rt1")]
    }
}

/// What of these actions `rt1` is told.
fn told(actions: &[Action]) -> Vec<&FromStack> {
    let to_rt1 = actions.iter().filter_map(|action| match action {
        Action::Send(to, message) if *to == stack("rt1") => Some(message),
        _ => None,
    });
    to_rt1.collect()
}

fn in_place(actions: &[Action]) -> Vec<&Action> {
    actions.iter().filter(|a| matches!(a, Action::AddDvipa(..) | Action::RemoveDvipa(_))).collect()
}

/// Each row of the table in the module's head, and each column.
#[test]
fn the_table_of_sessions() {
    use Standing::{Apart, Greeted, Listed, Looking, Reporting};
    let up = || Event::SessionUp(stack("rt1"));
    let down = || Event::SessionDown(stack("rt1"));
    let list = || received("rt1", list(&[1], &[]));
    let seen = || Event::Seen(Scope::All, Picture::default());
    // Events that lead to the standing, then for up, down, list, a finished look: the standing after it. A look under way
    // delays the next one, which keeps `Listed` in sight; otherwise it begins with the list's own actions.
    type Row = (Standing, Vec<Event>, [Standing; 4]);
    let rows: [Row; 5] = [
        (Apart, vec![seen()], [Greeted, Apart, Apart, Apart]),
        (Greeted, vec![seen(), up()], [Greeted, Apart, Looking, Greeted]),
        (Listed, vec![up(), list()], [Greeted, Apart, Listed, Looking]),
        (Looking, vec![seen(), up(), list()], [Greeted, Apart, Listed, Reporting]),
        (Reporting, vec![seen(), up(), list(), seen()], [Greeted, Apart, Looking, Reporting]),
    ];
    for (standing, history, after) in rows {
        for (event, after) in [up(), down(), list(), seen()].into_iter().zip(after) {
            let mut bench = Bench::new();
            for event in history.clone() {
                bench.tell(event);
            }
            assert_eq!(bench.standing(), standing, "after {history:?}");
            let actions = bench.tell(event.clone());
            assert_eq!(bench.standing(), after, "{event:?} in {standing:?}");
            let account = told(&actions).iter().any(|m| matches!(m, FromStack::Newconn(n) if n.last));
            assert_eq!(account, standing == Looking && after == Reporting, "{event:?} in {standing:?}");
            let listening = bench.tell(Event::Listening(Cookie(1), WEB));
            assert_eq!(told(&listening).is_empty(), after != Reporting, "a change in {after:?}");
        }
    }
}

#[test]
fn a_list_is_answered_with_everything_after_a_look() {
    let mut bench = Bench::new();
    bench.tell(Event::Seen(Scope::All, Picture::default()));
    bench.tell(Event::SessionUp(stack("rt1")));
    let actions = bench.tell(received("rt1", list(&[1, 2], &[])));
    let origin = Some(Origin { to: ip("198.18.0.10"), from: ip("198.18.0.21") });
    let expected = [
        Action::SetForwarders(forwarders(&[("198.18.0.10", 1, Takes::All), ("198.18.0.10", 2, Takes::All)])),
        Action::AddDvipa(dvipa(1), origin),
        Action::AddDvipa(dvipa(2), origin),
        Action::Look(Scope::All),
    ];
    assert_eq!(actions, expected);

    let connections = (0..25_000).map(|port| (Cookie(100 + u64::from(port)), connection(1, port))).collect();
    let picture = Picture { listeners: vec![(Cookie(1), WEB)], connections, ..Picture::default() };
    let mut actions = bench.tell(Event::Seen(Scope::All, picture));
    actions.extend(bench.goes_on().concat());
    let [FromStack::Srvstat(first), FromStack::Srvstat(second), account @ .., FromStack::Told(_)] =
        &told(&actions)[..]
    else {
        panic!("{:?}", told(&actions).first())
    };
    for (srvstat, last) in [(first, 1), (second, 2)] {
        assert!(srvstat.complete && srvstat.epoch == Epoch(7) && srvstat.dvipa.0 == dvipa(last).address());
        assert!(matches!(&srvstat.listens[..], [l] if l.listening && l.port == 80), "{srvstat:?}");
    }
    let parts: Vec<_> = account
        .iter()
        .map(|m| {
            if let FromStack::Newconn(n) = m {
                (n.first, n.last, n.connections.len())
            } else {
                panic!("{m:?}")
            }
        })
        .collect();
    let full = AT_A_STEP;
    let between = [(false, false, full); 23];
    assert_eq!(parts, [&[(true, false, full)], &between[..], &[(false, true, 25_000 - 24 * full)]].concat());
}

#[test]
fn a_look_that_began_before_the_list_does_not_answer_it() {
    let mut bench = Bench::new();
    bench.tell(Event::SessionUp(stack("rt1")));
    bench.tell(received("rt1", list(&[1], &[])));
    let actions = bench.tell(Event::Seen(Scope::All, Picture::default()));
    assert_eq!(told(&actions), Vec::<&FromStack>::new());
    assert_eq!(actions, [Action::Look(Scope::All)]);
    assert_eq!(told(&bench.tell(Event::Seen(Scope::All, Picture::default()))).len(), 3);
}

#[test]
fn changes_of_connections_are_told_in_their_order_and_in_batches() {
    let mut bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    for (cookie, port) in [(1, 1001), (2, 1002)] {
        bench.machine.handle(Event::Established(Cookie(cookie), connection(1, port)), bench.now);
    }
    bench.machine.handle(Event::Ended(Cookie(1)), bench.now);
    let actions = bench.tell(Event::Established(Cookie(3), connection(1, 1003)));
    let told: Vec<_> = told(&actions)
        .into_iter()
        .map(|m| match m {
            FromStack::Newconn(Newconn { first: false, last: false, connections }) => {
                ('+', connections.clone())
            }
            FromStack::Termconn(Termconn { connections }) => ('-', connections.clone()),
            other => panic!("{other:?}"),
        })
        .map(|(sign, all)| (sign, all.iter().map(|c| c.0.client.port()).collect::<Vec<_>>()))
        .collect();
    assert_eq!(told, [('+', vec![1001, 1002]), ('-', vec![1001]), ('+', vec![1003])]);
}

#[test]
fn connections_are_told_again_each_in_its_turn() {
    let connections: Vec<_> =
        (0..400).map(|port| (Cookie(100 + u64::from(port)), connection(1, port))).collect();
    let picture = Picture { listeners: vec![(Cookie(1), WEB)], connections, ..Picture::default() };
    let mut bench = Bench::reporting(list(&[1], &[]), &picture);
    let mut named: BTreeMap<Connection, u32> = BTreeMap::new();
    for s in 1..RENEWAL_ROUND.as_secs() * 2 {
        bench.now += LOAD_INTERVAL;
        let actions = bench.tell(Event::TimePassed);
        for message in told(&actions) {
            let FromStack::Newconn(Newconn { first: false, last: false, connections }) = message else {
                continue;
            };
            assert!(connections.len() <= 1, "after {s} s: {}", connections.len());
            connections.iter().for_each(|c| *named.entry(c.0).or_default() += 1);
        }
        if actions.contains(&Action::Look(Scope::All)) {
            bench.tell(Event::Seen(Scope::All, picture.clone()));
        }
    }
    assert_eq!((named.len(), named.values().max()), (400, Some(&1)));
}

#[test]
fn who_is_no_candidate_does_not_get_the_address() {
    let bench = Bench::reporting(list(&[1], &["t2", "t3"]), &Picture::default());
    assert_eq!(bench.machine.view().dvipas, BTreeMap::new());
}

#[test]
fn all_includes_a_stack_that_nobody_named() {
    let bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    assert!(bench.machine.view().dvipas.contains_key(&dvipa(1)));
}

#[test]
fn who_is_no_longer_a_candidate_serves_nothing_but_keeps_its_connections() {
    let picture = Picture {
        listeners: vec![(Cookie(1), WEB)],
        connections: vec![(Cookie(2), connection(1, 1001))],
        ..Picture::default()
    };
    let mut bench = Bench::reporting(list(&[1], &["t1"]), &picture);
    let actions = bench.tell(received("rt1", list(&[1], &["t2"])));
    assert_eq!(in_place(&actions), Vec::<&Action>::new(), "its connection needs the address");
    let actions = bench.tell(Event::Seen(Scope::All, picture));
    let [
        FromStack::Srvstat(Srvstat { complete: true, listens, .. }),
        FromStack::Told(Told { since: Some(1), .. }),
    ] = &told(&actions)[..]
    else {
        panic!("{actions:?}")
    };
    assert!(listens.is_empty());

    bench.tell(Event::Ended(Cookie(2)));
    bench.now += own().repair;
    let actions = bench.tell(Event::TimePassed);
    assert_eq!(in_place(&actions), [&Action::RemoveDvipa(dvipa(1))]);
}

#[test]
fn an_unlisted_dvipa_is_removed_at_once() {
    let mut bench = Bench::reporting(list(&[1, 2], &[]), &Picture::default());
    let actions = bench.tell(received("rt1", list(&[2], &[])));
    assert_eq!(in_place(&actions), [&Action::RemoveDvipa(dvipa(1))]);
}

#[test]
fn a_lost_session_changes_no_address() {
    let mut bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    assert_eq!(bench.tell(Event::SessionDown(stack("rt1"))), []);
    assert!(bench.machine.view().dvipas.contains_key(&dvipa(1)));
}

#[test]
fn what_was_inherited_stays_until_every_routing_stack_has_spoken_and_sockets_were_looked_at() {
    let now = Instant::now();
    let origin = Some(Origin { to: ip("198.18.0.10"), from: ip("198.18.0.21") });
    let inherited = Inherited {
        dvipas: BTreeMap::from([(dvipa(1), origin), (dvipa(3), origin)]),
        forwarders: forwarders(&[("198.18.0.10", 1, Takes::All), ("198.18.0.12", 3, Takes::All)]),
    };
    let mut bench = Bench { machine: Machine::new(own(), inherited, now), now };
    bench.tell(Event::SessionUp(stack("rt1")));
    let actions = bench.tell(received("rt1", list(&[1, 2], &[])));
    assert_eq!(in_place(&actions), [&Action::AddDvipa(dvipa(2), origin)]);
    bench.tell(Event::SessionUp(stack("rt2")));
    assert_eq!(in_place(&bench.tell(received("rt2", list(&[1], &[])))), Vec::<&Action>::new());
    let actions = bench.tell(Event::Seen(Scope::All, Picture::default()));
    assert_eq!(in_place(&actions), [&Action::RemoveDvipa(dvipa(3))]);
    let of_lists = forwarders(&[("198.18.0.10", 1, Takes::All), ("198.18.0.10", 2, Takes::All)]);
    assert!(actions.contains(&Action::SetForwarders(of_lists)), "{actions:?}");
}

#[test]
fn what_was_inherited_stays_for_a_connection_that_the_first_look_finds() {
    let now = Instant::now();
    let inherited =
        Inherited { dvipas: BTreeMap::from([(dvipa(1), None), (dvipa(2), None)]), ..Inherited::default() };
    let mut bench = Bench { machine: Machine::new(own(), inherited, now), now };
    let elsewhere = list(&[1, 2], &["t2"]);
    for routing_stack in ["rt1", "rt2"] {
        bench.tell(Event::SessionUp(stack(routing_stack)));
        bench.tell(received(routing_stack, elsewhere.clone()));
    }
    assert_eq!(bench.machine.view().dvipas.len(), 2);
    let picture = Picture { connections: vec![(Cookie(1), connection(1, 1))], ..Picture::default() };
    let actions = bench.tell(Event::Seen(Scope::All, picture));
    assert!(actions.contains(&Action::RemoveDvipa(dvipa(2))), "{actions:?}");
    assert!(bench.machine.view().dvipas.contains_key(&dvipa(1)));
}

#[test]
fn first_syns_go_to_the_owner_with_the_newest_epoch() {
    let mut bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    bench.tell(Event::SessionUp(stack("rt2")));
    let mut newer = list(&[1], &[]);
    newer.forwarders = vec![Address(ip("198.18.0.11"))];
    newer.dvipas[0].epoch = Epoch(8);
    let actions = bench.tell(received("rt2", newer));
    let origin = Some(Origin { to: ip("198.18.0.11"), from: ip("198.18.0.21") });
    assert_eq!(in_place(&actions), [&Action::AddDvipa(dvipa(1), origin)]);
}

#[test]
fn packets_for_a_dvipa_are_taken_of_its_owner_and_what_is_here_of_its_former_one() {
    let mut bench = Bench::reporting(list(&[1, 2], &[]), &Picture::default());
    bench.tell(Event::SessionUp(stack("rt2")));
    let of = |address: &str, epoch, owner| {
        let mut list = list(&[1], &[]);
        list.forwarders = vec![Address(ip(address))];
        list.dvipas[0].epoch = Epoch(epoch);
        list.dvipas[0].owner = owner;
        list
    };
    let rt1 = [("198.18.0.10", 1, Takes::All), ("198.18.0.10", 2, Takes::All)];
    // A backup forwards nothing.
    let actions = bench.tell(received("rt2", of("198.18.0.11", 99, false)));
    assert!(!actions.iter().any(|action| matches!(action, Action::SetForwarders(_))), "{actions:?}");
    let actions = bench.tell(received("rt2", of("198.18.0.11", 99, true)));
    let mut moved = forwarders(&rt1);
    moved.insert((ip("198.18.0.10"), dvipa(1)), Takes::WhatIsHere);
    moved.insert((ip("198.18.0.11"), dvipa(1)), Takes::All);
    assert!(actions.contains(&Action::SetForwarders(moved.clone())), "{actions:?}");
    // The former owner has heard it, and forwards what still arrives.
    let mut heard = list(&[1, 2], &[]);
    heard.dvipas[0] =
        VipaListDvipa { epoch: Epoch(0), owner: false, forwards: Some(true), ..heard.dvipas[0].clone() };
    let actions = bench.tell(received("rt1", heard));
    moved.insert((ip("198.18.0.10"), dvipa(1)), Takes::All);
    assert!(actions.contains(&Action::SetForwarders(moved.clone())), "{actions:?}");
    // Nothing arrives there any more.
    let actions = bench.tell(received("rt1", list(&[2], &[])));
    moved.remove(&(ip("198.18.0.10"), dvipa(1)));
    assert!(actions.contains(&Action::SetForwarders(moved)), "{actions:?}");
}

#[test]
fn the_routing_node_itself_sends_its_syns_as_they_are() {
    let mut own_list = list(&[1], &[]);
    own_list.forwarders = vec![Address(ip("198.18.0.21"))];
    let mut bench = Bench::new();
    bench.tell(Event::SessionUp(stack("rt1")));
    assert_eq!(in_place(&bench.tell(received("rt1", own_list))), [&Action::AddDvipa(dvipa(1), None)]);
}

#[test]
fn a_dvipa_that_can_not_be_added_serves_nothing_and_is_tried_again() {
    let picture = Picture { listeners: vec![(Cookie(1), WEB)], ..Picture::default() };
    let mut bench = Bench::reporting(list(&[1], &[]), &picture);
    let actions = bench.tell(Event::NotAdded(dvipa(1)));
    let [FromStack::Srvstat(Srvstat { complete: false, listens, .. })] = &told(&actions)[..] else {
        panic!("{actions:?}")
    };
    assert!(matches!(&listens[..], [l] if !l.listening && l.port == 80));
    bench.now += own().repair;
    let actions = bench.tell(Event::TimePassed);
    assert!(matches!(in_place(&actions)[..], [Action::AddDvipa(d, _), ..] if *d == dvipa(1)), "{actions:?}");
    assert_eq!(told(&actions).len(), 1, "it listens again");
}

#[test]
fn connections_of_other_addresses_and_within_the_host_are_none() {
    let mut bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    let at = |from: &str| {
        let client = SocketAddr::new(ip(from), 1001);
        Connection::new(Protocol::Tcp, client, (dvipa(1).address(), 80).into()).unwrap()
    };
    for (n, connection) in [connection(9, 1), at("198.18.9.1"), at("198.18.0.21")].into_iter().enumerate() {
        let actions = bench.tell(Event::Established(Cookie(n as u64), connection));
        assert_eq!(actions, [], "{connection}");
    }
}

#[test]
fn a_lost_event_or_a_udp_bind_makes_it_look() {
    let mut bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    assert_eq!(bench.tell(Event::UdpBound), [Action::Look(Scope::Untold)]);
    assert_eq!(bench.tell(Event::EventsLost), [], "one look at a time");
    assert_eq!(bench.tell(Event::Seen(Scope::Untold, Picture::default())), [Action::Look(Scope::All)]);
}

#[test]
fn a_failed_look_is_tried_again_after_a_while() {
    let mut bench = Bench::new();
    bench.tell(Event::TimePassed);
    assert_eq!(bench.tell(Event::NotSeen), []);
    bench.now += super::LOOK_AGAIN;
    assert!(bench.tell(Event::TimePassed).contains(&Action::Look(Scope::All)));
}

#[test]
fn the_load_goes_to_whoever_was_answered() {
    let mut bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    bench.tell(Event::SessionUp(stack("rt2")));
    let load = Load { cpu_permille: 500, ..Load::default() };
    let actions = bench.tell(Event::LoadSampled(load.clone(), None));
    assert_eq!(actions, [Action::Send(stack("rt1"), FromStack::Load(load))]);
}

#[test]
fn a_stalled_port_is_told_once_and_so_is_its_end() {
    let picture = Picture { listeners: vec![(Cookie(1), WEB)], ..Picture::default() };
    let mut bench = Bench::reporting(list(&[1], &[]), &picture);
    let mut sampled = |waiting: &[(u16, u64)]| {
        let waiting: Waiting = waiting.iter().copied().collect();
        let begin = bench.tell(Event::LoadSampled(Load::default(), Some(waiting.clone())));
        bench.now += STALL;
        let unknown = bench.tell(Event::LoadSampled(Load::default(), None));
        let later = bench.tell(Event::LoadSampled(Load::default(), Some(waiting)));
        let said = begin.into_iter().chain(unknown).chain(later).filter_map(|action| match action {
            Action::Send(_, FromStack::Stalled(stalled)) => Some(stalled.ports),
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    assert_eq!(sampled(&[(81, 3)]), Vec::<Vec<u16>>::new(), "nothing is served there");
    assert_eq!(sampled(&[(80, 3)]), [[80]]);
    assert_eq!(sampled(&[(80, 3)]), Vec::<Vec<u16>>::new(), "it was said");
    assert_eq!(sampled(&[]), [Vec::<u16>::new()], "nobody waits any more");
}

#[test]
fn a_service_that_fails_is_told_with_the_reason_and_so_is_its_end() {
    let picture = Picture { listeners: vec![(Cookie(1), WEB)], ..Picture::default() };
    let mut bench = Bench::reporting(list(&[1], &[]), &picture);
    let web = (dvipa(1), (Protocol::Tcp, 80));
    assert_eq!(bench.machine.listeners(|_, _| true).into_keys().collect::<Vec<_>>(), [web]);
    assert!(bench.machine.listeners(|_, (_, port)| port == 81).is_empty());
    let mut fails = |services: &[((Dvipa, Served), &str)]| {
        let failing = services.iter().map(|(service, why)| (*service, (*why).to_owned())).collect();
        let said = bench.tell(Event::Failing(failing)).into_iter().filter_map(|action| match action {
            Action::Send(_, FromStack::Stalled(said)) => {
                let why = said.failing.into_iter().flatten().map(|failing| failing.why);
                Some((said.ports, why.collect::<Vec<_>>()))
            }
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    assert_eq!(fails(&[((dvipa(1), (Protocol::Tcp, 81)), "503")]), [], "nothing is served there");
    assert_eq!(fails(&[(web, "503")]), [(vec![80], vec!["503".to_owned()])]);
    assert_eq!(fails(&[(web, "503")]), [], "it was said");
    assert_eq!(fails(&[(web, "refused")]), [(vec![80], vec!["refused".to_owned()])]);
    assert_eq!(fails(&[]), [(vec![], vec![])]);
}

#[test]
fn at_the_end_nothing_is_served_and_the_addresses_stay() {
    let picture = Picture { listeners: vec![(Cookie(1), WEB)], ..Picture::default() };
    let mut bench = Bench::reporting(list(&[1], &[]), &picture);
    let actions = bench.tell(Event::Stop);
    let [Action::Send(_, FromStack::Srvstat(Srvstat { complete: true, listens, .. }))] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert!(listens.is_empty());
    assert_eq!(bench.tell(Event::Listening(Cookie(2), WEB)), []);
    assert_eq!(bench.machine.next_deadline(), None);
}

#[test]
fn a_list_that_names_a_dvipa_twice_is_answered_for_it_once() {
    let mut bench = Bench::new();
    bench.tell(Event::SessionUp(stack("rt1")));
    bench.tell(Event::Seen(Scope::All, Picture::default()));
    bench.tell(received("rt1", list(&[1, 1], &[])));
    assert_eq!(told(&bench.tell(Event::Seen(Scope::All, Picture::default()))).len(), 3);
}
