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

#[test]
fn so_many_move_at_once_and_the_others_follow_until_none_is_left() {
    let (mut evacuation, now) = listed(1..4);
    let first = evacuation.next(now).expect("the first");
    evacuation.next(now).expect("the second");
    assert_eq!(evacuation.next(now), None, "there is room for two");
    evacuation.over(&first, &Outcome::Moved, now);
    assert!(evacuation.next(now).is_some());
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
        let one = evacuation.next(now).expect("its turn");
        evacuation.over(&one, &stays(Reason::NotIdle), now);
        assert_eq!(evacuation.next(now), None);
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
        let one = evacuation.next(now).expect("its turn");
        evacuation.over(&one, &stays(why), now);
    }
    for _ in 0..TRIES {
        let other = evacuation.next(now).expect("its turn");
        evacuation.over(&other, &stays(Reason::TargetLost), now);
        now += AGAIN.1;
    }
    assert_eq!(evacuation.next(now), None);
    let refused = [Reason::NotDumped, Reason::TakesNoOffers, Reason::TargetLost].map(|why| (why, 1));
    assert_eq!(evacuation.refused(), BTreeMap::from(refused));
    evacuation.list(there(1..4), 0, now);
    assert_eq!(evacuation.next(now), None, "they are still there");
    evacuation.list(Vec::new(), 0, now);
    assert!(evacuation.refused().is_empty() && evacuation.is_empty());
}

#[test]
fn it_ends_when_its_time_is_over_or_an_operator_says_so() {
    let (mut evacuation, now) = listed(1..9);
    assert!(evacuation.next_deadline() <= Some(now));
    let under_way = evacuation.next(now).expect("its turn");
    evacuation.time_passed(now + Duration::from_secs(60));
    assert_eq!((evacuation.phase, evacuation.next(now)), (Phase::TimeOver, None));
    evacuation.over(&under_way, &stays(Reason::NotIdle), now);
    let waiting = BTreeMap::from([(None, 7), (Some(Reason::NotIdle), 1)]);
    assert_eq!((evacuation.next_deadline(), evacuation.waiting()), (None, waiting), "those that remain");
    let (mut evacuation, now) = listed(1..9);
    evacuation.end(Phase::Stopped, now);
    assert_eq!((evacuation.next(now), evacuation.next_deadline()), (None, None));
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
