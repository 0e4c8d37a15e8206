use super::super::fixture::{connection, name, tcp};
use super::*;

fn terms() -> Terms {
    Terms { quiet_ms: None, at_once: 2, time: Some(Duration::from_secs(60)) }
}

fn there(ports: std::ops::Range<u16>) -> Vec<Connection> {
    ports.map(|port| connection(port, "198.18.9.1:80")).collect()
}

fn stays(why: Reason) -> Outcome {
    Outcome::Stayed(why.into())
}

/// An evacuation that has asked the CRT and heard of these.
fn listed(ports: std::ops::Range<u16>) -> (Evacuation, Instant) {
    let now = Instant::now();
    let mut evacuation = Evacuation::new(terms(), now);
    assert!(evacuation.time_passed(now), "it asks at once");
    assert!(!evacuation.time_passed(now), "and waits for the answer");
    evacuation.list(there(ports), 0, now);
    (evacuation, now)
}

fn to(targets: &[&str]) -> impl Fn(&Connection) -> Vec<(StackName, u16)> {
    let targets: Vec<_> = targets.iter().map(|target| (name(target), 1)).collect();
    move |_| targets.clone()
}

/// The next one, of an evacuation with one target.
fn next(evacuation: &mut Evacuation, now: Instant) -> Option<Connection> {
    evacuation.next(now, to(&["t2"])).map(|(connection, _)| connection)
}

#[test]
fn so_many_move_at_once_and_the_others_follow_until_none_is_left() {
    let (mut evacuation, now) = listed(1..4);
    let first = next(&mut evacuation, now).expect("the first");
    next(&mut evacuation, now).expect("the second");
    assert_eq!(next(&mut evacuation, now), None, "there is room for two");
    evacuation.over(&first, &Outcome::Moved, now);
    assert!(next(&mut evacuation, now).is_some());
    for connection in there(1..4) {
        evacuation.over(&connection, &Outcome::Moved, now);
    }
    assert_eq!((evacuation.moved, evacuation.is_empty()), (3, false), "the CRT was not asked again");
    evacuation.list(Vec::new(), 0, now);
    assert!(evacuation.is_empty());
}

#[test]
fn a_busy_connection_is_tried_again_and_again_and_ever_less_often() {
    let (mut evacuation, mut now) = listed(1..2);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let one = next(&mut evacuation, now).expect("its turn");
        evacuation.over(&one, &stays(Reason::NotIdle), now);
        assert_eq!(next(&mut evacuation, now), None);
        let at = evacuation.waiting.values().next().expect("it waits").at;
        pauses.push(at - now);
        now = at;
    }
    assert_eq!((pauses[0], pauses[1], pauses[11]), (AGAIN.0, AGAIN.0 * 2, AGAIN.1));
    assert_eq!(evacuation.waiting(), BTreeMap::from([(Some(Reason::NotIdle), 1)]));
}

#[test]
fn what_cannot_move_is_not_tried_for_ever() {
    let (mut evacuation, mut now) = listed(1..4);
    for why in [Reason::NotDumped, Reason::TakesNoOffers] {
        let one = next(&mut evacuation, now).expect("its turn");
        evacuation.over(&one, &stays(why), now);
    }
    for _ in 0..TRIES {
        let other = next(&mut evacuation, now).expect("its turn");
        evacuation.over(&other, &stays(Reason::TargetLost), now);
        now += AGAIN.1;
    }
    assert_eq!(next(&mut evacuation, now), None);
    let refused = [Reason::NotDumped, Reason::TakesNoOffers, Reason::TargetLost].map(|why| (why, 1));
    assert_eq!(evacuation.refused(), BTreeMap::from(refused));
    evacuation.list(there(1..4), 0, now);
    assert_eq!(next(&mut evacuation, now), None, "they are still there");
    evacuation.list(Vec::new(), 0, now);
    assert!(evacuation.refused().is_empty() && evacuation.is_empty());
}

#[test]
fn what_comes_back_while_the_crt_is_looked_through_is_not_forgotten() {
    let (mut evacuation, mut now) = listed(1..3);
    for why in [Reason::NotDumped, Reason::TargetLost] {
        now += LOOKS.1;
        let one = next(&mut evacuation, now).expect("its turn");
        evacuation.time_passed(now);
        now += Duration::from_millis(100);
        evacuation.over(&one, &stays(why), now);
    }
    // The look came by while both were frozen.
    evacuation.list(Vec::new(), 0, now);
    let failed = BTreeMap::from([(Some(Reason::TargetLost), 1)]);
    assert_eq!((evacuation.refused().len(), evacuation.waiting()), (1, failed));
    assert!(evacuation.time_passed(now + LOOKS.2));
    evacuation.list(Vec::new(), 0, now + LOOKS.2);
    assert!(evacuation.is_empty(), "the next one did not find them");
}

#[test]
fn it_ends_when_its_time_is_over_or_an_operator_says_so() {
    let (mut evacuation, now) = listed(1..9);
    assert!(evacuation.next_deadline() <= Some(now));
    let under_way = next(&mut evacuation, now).expect("its turn");
    evacuation.time_passed(now + Duration::from_secs(60));
    assert_eq!((evacuation.phase, next(&mut evacuation, now)), (Phase::TimeOver, None));
    evacuation.over(&under_way, &stays(Reason::NotIdle), now);
    let waiting = BTreeMap::from([(None, 7), (Some(Reason::NotIdle), 1)]);
    assert_eq!((evacuation.next_deadline(), evacuation.waiting()), (None, waiting), "those that remain");
    let (mut evacuation, now) = listed(1..9);
    evacuation.end(Phase::Stopped, now);
    assert_eq!((next(&mut evacuation, now), evacuation.next_deadline()), (None, None));
}

#[test]
fn the_others_get_their_share_by_weight() {
    let (mut evacuation, _) = listed(1..2);
    let web = tcp("198.18.9.1", 80);
    let mut chosen = BTreeMap::<StackName, u32>::new();
    for _ in 0..60 {
        let targets = vec![(name("t2"), 1), (name("t3"), 2)];
        *chosen.entry(evacuation.choose(web, targets).expect("one of them")).or_default() += 1;
    }
    assert_eq!(chosen, BTreeMap::from([(name("t2"), 20), (name("t3"), 40)]));
    assert_eq!(evacuation.choose(web, Vec::new()), None);
}

#[test]
fn a_target_that_takes_its_time_keeps_only_its_own_share_waiting() {
    let (mut evacuation, now) = listed(1..20);
    let both = to(&["t2", "t3"]);
    let mut moving: Vec<_> = std::iter::from_fn(|| evacuation.next(now, &both)).collect();
    let share = |target: &str| moving.iter().filter(|(_, to)| *to == name(target)).count();
    assert_eq!((share("t2"), share("t3")), (2, 2), "each has room for two");
    assert!(evacuation.next_deadline() > Some(now), "nobody looks again before there is room");
    moving.retain(|(_, to)| *to == name("t3"));
    for _ in 4..19 {
        let (quick, _) = moving.remove(0);
        evacuation.over(&quick, &Outcome::Moved, now);
        let (next, target) = evacuation.next(now, &both).expect("there is room again");
        assert_eq!(target, name("t3"), "the other one still takes its time");
        moving.push((next, target));
    }
    assert_eq!((evacuation.moved, evacuation.under_way(), evacuation.next(now, &both)), (15, 4, None));
}

#[test]
fn a_connection_with_another_way_out_does_not_wait_behind_one_whose_target_is_full() {
    let (mut evacuation, now) = listed(1..20);
    let odd = |connection: &Connection| connection.client.port() % 2 == 1;
    let by_policy = |connection: &Connection| vec![(name(if odd(connection) { "t2" } else { "t3" }), 1)];
    let under_way: Vec<_> = std::iter::from_fn(|| evacuation.next(now, by_policy)).collect();
    assert_eq!(under_way.iter().filter(|(connection, _)| odd(connection)).count(), 2);
    assert_eq!(under_way.len(), 4, "each has room for two");
    let (even, _) = under_way.iter().find(|(connection, _)| !odd(connection)).expect("one of them");
    evacuation.over(even, &Outcome::Moved, now);
    assert_eq!(evacuation.next(now, by_policy).map(|(_, target)| target), Some(name("t3")));
}
