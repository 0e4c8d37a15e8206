//! The table in [`super::super::ranges`]'s head.

use model::ranges::{Activate, Active, Bound as Claims, BoundAddress, Range, Ranges, Turn};

use super::*;

/// 198.18.9.0/24, active as this says.
fn ranges(disruptive: bool, active: &[(u8, &str, u64, bool)]) -> Ranges {
    let range = Range { network: Address(ip("198.18.9.0")), prefix_bits: 24, disruptive };
    let active = active.iter().map(|(last, at, turn, ordered)| Active {
        address: Address(dvipa(*last).address()),
        stack: stack(at),
        turn: Turn(*turn),
        ordered: *ordered,
    });
    Ranges { ranges: vec![range], active: active.collect() }
}

fn on(last: u8) -> Listener {
    Listener {
        protocol: Protocol::Tcp,
        bound: Bound::Address(dvipa(last).address()),
        port: 80,
        interface: None,
    }
}

/// What `rt1` is told that is claimed, the last time: address, turn, by order.
fn claims(actions: &[Action]) -> Option<Vec<(u8, u64, bool)>> {
    let mut bound = told(actions).into_iter().filter_map(|message| match message {
        FromStack::Bound(Claims { addresses }) => Some(addresses),
        _ => None,
    });
    let claim = |said: &BoundAddress| {
        let IpAddr::V4(address) = said.address.0 else { panic!("{said:?}") };
        (address.octets()[3], said.turn.0, said.ordered)
    };
    bound.next_back().map(|all| all.iter().map(claim).collect())
}

/// `rt1` has a range of which nothing is active; `before`: what listens since before the agent began.
fn bench(before: &[(Cookie, Listener)]) -> (Bench, Vec<Action>) {
    let mut bench = Bench::new();
    let picture = Picture { listeners: before.to_vec(), ..Picture::default() };
    bench.tell(Event::Seen(Scope::All, picture.clone()));
    bench.tell(Event::SessionUp(stack("rt1")));
    let mut actions = bench.tell(Event::Ranges(stack("rt1"), ranges(false, &[])));
    actions.extend(bench.tell(received("rt1", list(&[], &[]))));
    actions.extend(bench.tell(Event::Seen(Scope::All, picture)));
    (bench, actions)
}

#[test]
fn an_address_is_claimed_with_the_first_bind_and_until_the_last_listener_ends() {
    let (mut bench, actions) = bench(&[]);
    assert!(actions.contains(&Action::AllowBinds { v4: true }), "{actions:?}");
    assert_eq!(claims(&actions), Some(vec![]), "what a former session said is void");
    assert_eq!(claims(&bench.tell(Event::Listening(Cookie(1), on(5)))), Some(vec![(5, 1, false)]));
    let second = Listener { port: 443, ..on(5) };
    assert_eq!(claims(&bench.tell(Event::Listening(Cookie(2), second))), None, "it is claimed");
    assert_eq!(claims(&bench.tell(Event::Ended(Cookie(1)))), None, "one is left");
    assert_eq!(claims(&bench.tell(Event::Ended(Cookie(2)))), Some(vec![]));
    let elsewhere = Listener { bound: Bound::Address(ip("198.18.8.5")), ..on(5) };
    assert_eq!(claims(&bench.tell(Event::Listening(Cookie(3), elsewhere))), None, "in no range");
    assert_eq!(claims(&bench.tell(Event::Listening(Cookie(4), WEB))), None, "of the wildcard address");
    let container = Cookie(1 << Cookie::OF_CONTAINERS);
    assert_eq!(claims(&bench.tell(Event::Listening(container, on(6)))), None, "a container's");
    let again = bench.tell(Event::Listening(Cookie(5), on(5)));
    assert_eq!(claims(&again), Some(vec![(5, 2, false)]), "a bind of its own, in a turn of its own");
}

#[test]
fn a_bind_comes_after_all_turns_that_any_routing_stack_knows() {
    let (mut bench, _) = bench(&[]);
    bench.tell(Event::Ranges(stack("rt1"), ranges(false, &[(5, "t2", 7, false)])));
    bench.tell(Event::Ranges(stack("rt2"), ranges(false, &[(5, "t3", 9, true)])));
    assert_eq!(claims(&bench.tell(Event::Listening(Cookie(1), on(5)))), Some(vec![(5, 10, false)]));
    // It moves on, and the application listens on: that is no new bind.
    let actions = bench.tell(Event::Ranges(stack("rt1"), ranges(false, &[(5, "t2", 11, false)])));
    assert_eq!(claims(&actions), None);
    let second = Listener { port: 443, ..on(5) };
    assert_eq!(claims(&bench.tell(Event::Listening(Cookie(2), second))), None);
}

#[test]
fn what_is_bound_when_the_agent_begins_has_the_turn_that_a_list_says_and_otherwise_the_earliest() {
    let (mut bench, actions) = bench(&[(Cookie(1), on(5)), (Cookie(2), on(6))]);
    assert_eq!(claims(&actions), Some(vec![(5, 0, false), (6, 0, false)]));
    let said =
        ranges(false, &[(5, "t1", 4, false), (6, "t2", 3, false), (7, "t1", 8, true), (8, "t1", 2, false)]);
    let actions = bench.tell(Event::Ranges(stack("rt1"), said));
    let adopted = vec![(5, 4, false), (6, 0, false), (7, 8, true)];
    assert_eq!(
        claims(&actions),
        Some(adopted),
        "of its own, of another, by order, and of an application that has ended"
    );
    bench.tell(Event::Ended(Cookie(2)));
    let again = bench.tell(Event::Listening(Cookie(3), on(6)));
    assert_eq!(claims(&again), Some(vec![(5, 4, false), (6, 4, false), (7, 8, true)]), "bound anew");
}

#[test]
fn a_claim_that_has_ended_is_not_taken_up_again_by_a_late_list() {
    let (mut bench, _) = bench(&[]);
    bench.tell(Event::Listening(Cookie(1), on(5)));
    let order = |turn, active| {
        Event::Activate(
            stack("rt1"),
            Activate { address: Address(dvipa(5).address()), turn: Turn(turn), active },
        )
    };
    assert_eq!(claims(&bench.tell(order(6, true))), Some(vec![(5, 6, true)]));
    assert_eq!(claims(&bench.tell(order(6, false))), Some(vec![(5, 1, false)]), "bound since turn 1");
    let late = bench.tell(Event::Ranges(stack("rt2"), ranges(false, &[(5, "t1", 6, true)])));
    assert_eq!(claims(&late), None);
    assert_eq!(claims(&bench.tell(Event::Ended(Cookie(1)))), Some(vec![]));
    let late = bench.tell(Event::Ranges(stack("rt2"), ranges(false, &[(5, "t1", 6, true)])));
    assert_eq!(claims(&late), None);
}

#[test]
fn an_order_counts_without_a_bind_and_for_listeners_of_the_wildcard_address() {
    let (mut bench, _) = bench(&[]);
    bench.tell(Event::Listening(Cookie(1), WEB));
    let order = |last, active| {
        Event::Activate(
            stack("rt1"),
            Activate { address: Address(dvipa(last).address()), turn: Turn(3), active },
        )
    };
    assert_eq!(claims(&bench.tell(order(5, true))), Some(vec![(5, 3, true)]));
    let outside = Activate { address: Address(ip("198.18.8.1")), turn: Turn(3), active: true };
    assert_eq!(claims(&bench.tell(Event::Activate(stack("rt1"), outside))), None);
    let mut everything = list(&[5], &["t1"]);
    everything.dvipas[0].distributions[0].ports.clear();
    bench.tell(received("rt1", everything));
    let picture = Picture { listeners: vec![(Cookie(1), WEB)], ..Picture::default() };
    let actions = bench.tell(Event::Seen(Scope::All, picture));
    let served = |actions: &[Action]| {
        let srvstat = told(actions).into_iter().find_map(|m| match m {
            FromStack::Srvstat(srvstat) => Some(srvstat.clone()),
            _ => None,
        });
        srvstat.map(|s| s.listens.iter().map(|l| (l.port, l.listening)).collect::<Vec<_>>())
    };
    assert_eq!(served(&actions), Some(vec![(80, true)]));
    assert_eq!(
        served(&bench.tell(order(5, false))),
        Some(vec![(80, false)]),
        "it is bound to the wildcard address"
    );
}

#[test]
fn connections_end_where_a_disruptive_address_has_moved_on() {
    for (disruptive, at, ends) in [(true, "t2", true), (true, "t1", false), (false, "t2", false)] {
        let (mut bench, _) = bench(&[]);
        bench.tell(received("rt1", list(&[5], &["t1"])));
        bench.tell(Event::Seen(Scope::All, Picture::default()));
        bench.tell(Event::Established(Cookie(9), connection(5, 1000)));
        let actions = bench.tell(Event::Ranges(stack("rt1"), ranges(disruptive, &[(5, at, 2, false)])));
        assert_eq!(actions.contains(&Action::End(vec![connection(5, 1000)])), ends, "{disruptive} {at}");
        // One that was half open then.
        bench.tell(Event::Established(Cookie(10), connection(5, 1001)));
        bench.now += LOAD_INTERVAL;
        let actions = bench.tell(Event::TimePassed);
        assert_eq!(actions.iter().any(|a| matches!(a, Action::End(all) if all.len() == 2)), ends);
    }
}

#[test]
fn a_routing_stack_that_begins_anew_without_ranges_has_none() {
    let (mut bench, _) = bench(&[]);
    bench.tell(Event::Listening(Cookie(1), on(5)));
    bench.tell(Event::SessionDown(stack("rt1")));
    bench.tell(Event::SessionUp(stack("rt1")));
    bench.tell(received("rt1", list(&[], &[])));
    let picture = Picture { listeners: vec![(Cookie(1), on(5))], ..Picture::default() };
    assert_eq!(claims(&bench.tell(Event::Seen(Scope::All, picture.clone()))), None);
    bench.tell(Event::SessionUp(stack("rt1")));
    bench.tell(Event::Ranges(stack("rt1"), ranges(false, &[])));
    bench.tell(received("rt1", list(&[], &[])));
    assert_eq!(
        claims(&bench.tell(Event::Seen(Scope::All, picture))),
        Some(vec![(5, 1, false)]),
        "in its turn"
    );
}

#[test]
fn an_address_of_a_range_stays_while_it_has_connections_also_in_no_list() {
    let (mut bench, _) = bench(&[]);
    bench.tell(received("rt1", list(&[5, 6], &["t1"])));
    let connections = vec![(Cookie(9), connection(5, 1000))];
    bench.tell(Event::Seen(Scope::All, Picture { connections: connections.clone(), ..Picture::default() }));
    let actions = bench.tell(received("rt1", list(&[], &[])));
    assert_eq!(in_place(&actions), [&Action::RemoveDvipa(dvipa(6))]);
    bench.tell(Event::Seen(Scope::All, Picture { connections, ..Picture::default() }));
    bench.tell(Event::Ended(Cookie(9)));
    let actions = bench.tell(received("rt1", list(&[], &[])));
    assert_eq!(in_place(&actions), [&Action::RemoveDvipa(dvipa(5))]);
}
