//! UDP flows, and who is told of them.

use super::*;
use crate::machine::CONNECTIONS_A_MESSAGE;

fn flow(client_port: u16) -> Connection {
    let client = SocketAddr::from(([198, 18, 0, 2], client_port));
    Connection::new(Protocol::Udp, client, (dvipa(1).address(), 53).into()).unwrap()
}

/// A list of UDP port 53.
fn of_udp(owner: bool) -> VipaList {
    let mut list = list(&[1], &[]);
    for entry in &mut list.dvipas {
        entry.owner = owner;
        for distribution in &mut entry.distributions {
            (distribution.protocol, distribution.ports) = (Protocol::Udp, vec![53]);
        }
    }
    list
}

fn udp_server() -> Vec<(Cookie, Listener)> {
    vec![(Cookie(1), Listener { protocol: Protocol::Udp, bound: Bound::AnyDual, port: 53, interface: None })]
}

fn bench(owner: bool) -> Bench {
    Bench::reporting(of_udp(owner), &Picture { listeners: udp_server(), ..Picture::default() })
}

/// How many flows `rt1` is told of.
fn tells(bench: &mut Bench, flows: impl IntoIterator<Item = u16>) -> usize {
    let actions = bench.tell(Event::FlowsSeen(flows.into_iter().map(flow).collect()));
    let count = |message: &&FromStack| match message {
        FromStack::Newconn(m) if !m.first && !m.last => m.connections.len(),
        _ => 0,
    };
    told(&actions).iter().map(count).sum()
}

#[test]
fn a_backup_is_told_of_each_flow_once_and_later_again() {
    let mut bench = bench(false);
    assert!(bench.machine.tells_flows(bench.now));
    assert_eq!(tells(&mut bench, [4000, 4001]), 2);
    bench.now += LOAD_INTERVAL;
    assert_eq!(tells(&mut bench, [4000, 4001, 4002]), 1);
    bench.now += Duration::from_secs(29);
    assert_eq!(tells(&mut bench, [4000, 4002]), 1, "it would grow old there");
    assert_eq!(tells(&mut bench, 5000..u16::MAX), CONNECTIONS_A_MESSAGE, "so many at a time");
}

#[test]
fn the_owner_has_its_flows_from_packets() {
    let mut bench = bench(true);
    assert!(!bench.machine.tells_flows(bench.now));
    assert_eq!(tells(&mut bench, [4000]), 0);
}

#[test]
fn a_backup_that_has_taken_over_is_told_for_a_while_what_the_last_owner_alone_knew() {
    let mut bench = bench(false);
    bench.tell(received("rt1", of_udp(true)));
    bench.tell(Event::Seen(Scope::All, Picture { listeners: udp_server(), ..Picture::default() }));
    assert!(bench.machine.tells_flows(bench.now));
    assert_eq!(tells(&mut bench, [4000]), 1);
    bench.now += crate::machine::FLOW_RECENT;
    assert_eq!(tells(&mut bench, [4001]), 0, "its own packets tell it");
}
