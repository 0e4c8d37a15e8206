use super::*;
use crate::machine::{Takers, TakersOf};

fn opened(actions: &[Action]) -> usize {
    told(actions).iter().filter(|m| matches!(m, FromStack::Newconn(m) if !m.connections.is_empty())).count()
}

fn ended(actions: &[Action]) -> usize {
    told(actions).iter().filter(|m| matches!(m, FromStack::Termconn(_))).count()
}

/// A machine that has told of one connection, which begins to move.
fn moving() -> Bench {
    let mut bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    let actions = bench.tell(Event::Established(Cookie(1), connection(1, 40_000)));
    assert_eq!(opened(&actions), 1);
    bench.tell(Event::Moving(connection(1, 40_000)));
    bench
}

fn rests(ours: bool) -> Event {
    Event::Rests { connection: connection(1, 40_000), ours }
}

#[test]
fn that_a_connection_has_left_is_told_to_those_who_did_not_move_it() {
    let mut bench = moving();
    let mut backed_up = list(&[1], &[]);
    backed_up.dvipas[0].owner = false;
    bench.tell(Event::SessionUp(stack("rt2")));
    bench.tell(received("rt2", backed_up));
    bench.tell(Event::Seen(Scope::All, Picture::default()));
    bench.tell(Event::Ended(Cookie(1)));
    let sent = bench.tell(rests(false)).into_iter().map(|action| match action {
        Action::Send(to, FromStack::Termconn(termconn)) => (to, termconn.connections[0].0),
        other => panic!("{other:?}"),
    });
    assert_eq!(sent.collect::<Vec<_>>(), [(stack("rt2"), connection(1, 40_000))]);
}

#[test]
fn to_the_owner_a_connection_that_left_ends_here_without_a_word() {
    let mut bench = moving();
    assert!(told(&bench.tell(Event::Ended(Cookie(1)))).is_empty());
    assert!(told(&bench.tell(rests(false))).is_empty());
    let actions = bench.tell(Event::Established(Cookie(2), connection(1, 40_000)));
    assert_eq!(opened(&actions), 1, "another one later");
}

#[test]
fn a_connection_that_stays_is_told_of_again_and_one_that_ended_meanwhile_as_ended() {
    assert_eq!(opened(&moving().tell(rests(true))), 1);
    let mut bench = moving();
    bench.tell(Event::Ended(Cookie(1)));
    assert_eq!(ended(&bench.tell(rests(true))), 1);
}

#[test]
fn an_account_leaves_out_what_moves() {
    let mut bench = moving();
    let picture = Picture { connections: vec![(Cookie(1), connection(1, 40_000))], ..Picture::default() };
    bench.tell(received("rt1", list(&[1], &[])));
    let actions = bench.tell(Event::Seen(Scope::All, picture));
    assert_eq!(opened(&actions), 0, "{actions:?}");
    assert_eq!(opened(&bench.tell(rests(true))), 1);
}

#[test]
fn a_listener_that_takes_no_new_connection_is_none() {
    let picture = Picture { listeners: vec![(Cookie(9), WEB), (Cookie(10), WEB)], ..Picture::default() };
    let mut bench = Bench::reporting(list(&[1], &[]), &picture);
    let listening = |actions: &[Action]| match told(actions)[..] {
        [FromStack::Srvstat(m)] => m.listens.iter().map(|l| l.listening).collect::<Vec<_>>(),
        ref other => panic!("{other:?}"),
    };
    let takers = |open: &[u64], holds| {
        let open = open.iter().copied().map(Cookie).collect();
        Event::Takers([((dvipa(1), 80), Takers { open, holds })].into())
    };
    assert!(bench.machine.held().is_empty());
    assert_eq!(listening(&bench.tell(takers(&[], true))), [false]);
    assert_eq!(bench.machine.held(), [(dvipa(1), 80)].into(), "it can be transferred to");
    assert_eq!(listening(&bench.tell(takers(&[10], true))), [true], "another one takes clients");
    assert_eq!(listening(&bench.tell(Event::Ended(Cookie(10)))), [false]);
    assert_eq!(listening(&bench.tell(Event::Takers(TakersOf::new()))), [true]);
    assert_eq!(listening(&bench.tell(takers(&[], false))), [false]);
    assert!(bench.machine.held().is_empty(), "one that waits is nobody's target");
}

#[test]
fn the_owner_is_whoever_says_so_with_the_newest_epoch_in_a_session() {
    let mut bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    let owner = |bench: &Bench| bench.machine.owners().get(&dvipa(1)).cloned();
    assert_eq!(owner(&bench), Some((stack("rt1"), Epoch(7))));
    let mut newer = list(&[1], &[]);
    newer.dvipas[0].epoch = Epoch(8);
    bench.tell(Event::SessionUp(stack("rt2")));
    bench.tell(received("rt2", newer));
    assert_eq!(owner(&bench), Some((stack("rt2"), Epoch(8))));
    bench.tell(Event::SessionDown(stack("rt2")));
    assert_eq!(owner(&bench), Some((stack("rt1"), Epoch(7))));
}
