//! What is told of connections is numbered, and a session that begins anew goes on where the former one was heard.

use super::*;

/// What `rt1` is told, in short: how many connections came and went, `all` that are here, and numbers.
fn short(actions: &[Action]) -> Vec<String> {
    let word = |message: &&FromStack| match message {
        FromStack::Newconn(m) if m.first => Some(format!("all {}", m.connections.len())),
        FromStack::Newconn(m) => Some(format!("+{}", m.connections.len())),
        FromStack::Termconn(m) => Some(format!("-{}", m.connections.len())),
        FromStack::Told(Told { number, since: Some(since) }) => Some(format!("{since}..{number}")),
        FromStack::Told(Told { number, since: None }) => Some(format!("..{number}")),
        FromStack::Looked(Looked { number, anew }) => {
            Some(format!("looked {number}{}", if *anew { " anew" } else { "" }))
        }
        _ => None,
    };
    told(actions).iter().filter_map(word).collect()
}

/// The session ends and begins again; the routing stack has heard so far, and lists these DVIPAs.
fn again(bench: &mut Bench, heard: Option<u64>, list: VipaList, picture: &Picture) -> Vec<String> {
    let mut actions = bench.tell(Event::SessionDown(stack("rt1")));
    actions.extend(bench.tell(Event::SessionUp(stack("rt1"))));
    if let Some(number) = heard {
        actions.extend(bench.tell(Event::Heard(stack("rt1"), number)));
    }
    actions.extend(bench.tell(received("rt1", list)));
    actions.extend(bench.tell(Event::Seen(Scope::All, picture.clone())));
    short(&actions)
}

/// Connections that are here.
fn here(ports: std::ops::Range<u16>) -> Picture {
    let connections = ports.map(|port| (Cookie(u64::from(port)), connection(1, port))).collect();
    Picture { connections, ..Picture::default() }
}

fn comes(bench: &mut Bench, port: u16) -> Vec<String> {
    short(&bench.tell(Event::Established(Cookie(u64::from(port)), connection(1, port))))
}

fn goes(bench: &mut Bench, port: u16) -> Vec<String> {
    short(&bench.tell(Event::Ended(Cookie(u64::from(port)))))
}

#[test]
fn a_routing_stack_that_comes_back_is_told_what_it_missed_and_no_more() {
    let mut bench = Bench::reporting(list(&[1], &[]), &here(1000..1300));
    assert_eq!((comes(&mut bench, 1300), goes(&mut bench, 1000)), (vec!["+1".into()], vec!["-1".into()]));
    assert_eq!(again(&mut bench, Some(2), list(&[1], &[]), &here(1001..1301)), ["-1", "2..3"]);
    bench.tell(Event::SessionDown(stack("rt1")));
    assert_eq!((goes(&mut bench, 1001), comes(&mut bench, 1301)), (vec![], vec![]), "nobody hears it");
    // One that came and went: its end is enough.
    comes(&mut bench, 1302);
    goes(&mut bench, 1302);
    assert_eq!(again(&mut bench, Some(3), list(&[1], &[]), &here(1002..1302)), ["-1", "+1", "-1", "3..7"]);
    assert_eq!(comes(&mut bench, 1303), ["+1"]);
}

#[test]
fn what_a_look_finds_while_nobody_hears_is_told_too() {
    let mut bench = Bench::reporting(list(&[1], &[]), &here(1000..1010));
    bench.now += RECENT * 2;
    assert_eq!(again(&mut bench, Some(1), list(&[1], &[]), &here(1005..1012)), ["+2", "-5", "1..8"]);
}

#[test]
fn a_routing_stack_that_has_heard_nothing_is_told_everything() {
    for heard in [None, Some(0), Some(7)] {
        let mut bench = Bench::reporting(list(&[1], &[]), &here(1000..1010));
        assert_eq!(
            again(&mut bench, heard, list(&[1], &[]), &here(1000..1010)),
            ["all 10", "..2"],
            "{heard:?}"
        );
    }
}

#[test]
fn other_dvipas_ask_for_everything() {
    let mut bench = Bench::reporting(list(&[1], &[]), &here(1000..1010));
    comes(&mut bench, 1010);
    assert_eq!(again(&mut bench, Some(2), list(&[1, 2], &[]), &here(1000..1011)), ["all 11", "..3"]);
    assert_eq!(again(&mut bench, Some(3), list(&[1], &[]), &here(1000..1011)), ["3..3"], "fewer do not");
    assert_eq!(again(&mut bench, Some(3), list(&[1, 2], &[]), &here(1000..1011)), ["all 11", "..4"]);
}

/// A backup that takes over, and an owner that yields, know the connections as before.
#[test]
fn another_epoch_or_owner_of_the_same_dvipas_asks_for_nothing_twice() {
    let mut bench = Bench::reporting(list(&[1], &[]), &here(1000..1010));
    comes(&mut bench, 1010);
    let mut other = list(&[1], &[]);
    (other.dvipas[0].epoch, other.dvipas[0].owner) = (Epoch(8), false);
    bench.tell(received("rt1", other.clone()));
    let actions = bench.tell(Event::Seen(Scope::All, here(1000..1011)));
    assert_eq!(short(&actions), ["1..2"], "in the session");
    (other.dvipas[0].epoch, other.dvipas[0].owner) = (Epoch(9), true);
    assert_eq!(again(&mut bench, Some(2), other, &here(1000..1011)), ["2..2"], "in the next one");
}

#[test]
fn a_complete_account_that_was_not_heard_is_given_again() {
    let mut bench = Bench::reporting(list(&[1], &[]), &here(1000..1010));
    comes(&mut bench, 1010);
    let other = list(&[1, 2], &[]);
    bench.tell(received("rt1", other.clone()));
    let actions = bench.tell(Event::Seen(Scope::All, here(1000..1011)));
    assert_eq!(short(&actions), ["all 11", "..3"]);
    for number in [4, 5] {
        let answer = again(&mut bench, Some(2), other.clone(), &here(1000..1011));
        assert_eq!(answer, ["all 11".to_owned(), format!("..{number}")], "2 was before it");
    }
    assert_eq!(again(&mut bench, Some(5), other, &here(1000..1011)), ["5..5"]);
}

#[test]
fn a_new_list_in_a_session_that_goes_on_asks_for_nothing_twice() {
    let mut bench = Bench::reporting(list(&[1], &[]), &here(1000..1010));
    comes(&mut bench, 1010);
    bench.tell(received("rt1", list(&[1], &[])));
    assert_eq!(comes(&mut bench, 1011), Vec::<String>::new(), "after the look");
    let actions = bench.tell(Event::Seen(Scope::All, here(1000..1012)));
    assert_eq!(short(&actions), ["+1", "1..3"], "the last number that it was told is 1");
}

#[test]
fn more_than_is_kept_is_told_as_everything() {
    let mut bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    bench.tell(Event::SessionDown(stack("rt1")));
    for _ in 0..=LOGGED_CHANGES / 2 {
        bench.machine.handle(Event::Established(Cookie(9), connection(1, 9)), bench.now);
        bench.machine.handle(Event::Ended(Cookie(9)), bench.now);
    }
    let last = 2 * (LOGGED_CHANGES / 2 + 1) + 2;
    let everything = again(&mut bench, Some(1), list(&[1], &[]), &Picture::default());
    assert_eq!(everything, ["all 0".to_owned(), format!("..{last}")]);
    let none = again(&mut bench, Some(last as u64), list(&[1], &[]), &Picture::default());
    assert_eq!(none, [format!("{last}..{last}")]);
}

#[test]
fn the_end_of_a_transfer_goes_behind_what_was_told_before() {
    let mut bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    let fence = |bench: &mut Bench| bench.machine.fence(&stack("rt1"));
    let after = |number| Some(FromStack::After(After { number }));
    assert_eq!(fence(&mut bench), after(1), "an account was given");
    comes(&mut bench, 1000);
    assert_eq!(fence(&mut bench), after(2));
    assert_eq!(fence(&mut bench), None, "it is there");
    let actions: Vec<_> = std::iter::from_fn(|| bench.machine.poll(bench.now)).collect();
    assert_eq!(short(&actions), ["..2"], "so that the routing stack learns that it has heard it");
    bench.now += LOAD_INTERVAL;
    comes(&mut bench, 1001);
    assert_eq!(short(&bench.tell(Event::TimePassed)), ["..3"], "at times");
    bench.tell(received("rt1", list(&[1], &[])));
    assert_eq!(comes(&mut bench, 1002), Vec::<String>::new());
    assert_eq!(fence(&mut bench), after(4), "the answer to the list reaches it");
    assert_eq!(short(&bench.tell(Event::Seen(Scope::All, here(1000..1003)))), ["+1", "3..4"]);
    bench.tell(Event::SessionDown(stack("rt1")));
    assert_eq!(fence(&mut bench), None);
}

#[test]
fn what_is_named_again_has_a_number_too() {
    let mut bench = Bench::reporting(list(&[1], &[]), &here(1000..1001));
    bench.now += RENEWAL_ROUND;
    bench.machine.handle(Event::TimePassed, bench.now);
    let fence = bench.machine.fence(&stack("rt1"));
    assert_eq!(fence, Some(FromStack::After(After { number: 2 })));
    let actions: Vec<_> = std::iter::from_fn(|| bench.machine.poll(bench.now)).collect();
    assert_eq!(short(&actions), ["+1", "..2"]);
    assert_eq!(comes(&mut bench, 1001), ["+1"], "the number alone is nothing to tell");
    bench.tell(Event::Seen(Scope::All, here(1000..1002)));
    assert_eq!(again(&mut bench, Some(1), list(&[1], &[]), &here(1000..1002)), ["+1", "1..3"]);
}

#[test]
fn that_it_has_looked_is_said_behind_what_it_has_found() {
    let mut bench = Bench::reporting(list(&[1], &[]), &here(1000..1010));
    let asked = |bench: &mut Bench, number| short(&bench.tell(Event::Asked(stack("rt1"), number)));
    let claimed = |bench: &mut Bench, port| {
        bench.machine.handle(Event::Claimed { connection: connection(1, port), closing: false }, bench.now);
    };
    assert_eq!(asked(&mut bench, 5), ["looked 5 anew"], "an account has just been given");
    claimed(&mut bench, 1005);
    assert_eq!(asked(&mut bench, 55), ["+1", "looked 55"]);
    bench.machine.handle(Event::EventsLost, bench.now);
    claimed(&mut bench, 1006);
    assert_eq!(asked(&mut bench, 105), ["+1", "looked 105 anew"], "it may have been told of others");
    bench.tell(Event::Seen(Scope::All, here(1000..1010)));
    assert_eq!(asked(&mut bench, 155), ["looked 155"]);
    // Of a connection that moves others speak.
    bench.tell(Event::Moving(connection(1, 1008)));
    claimed(&mut bench, 1008);
    assert_eq!(asked(&mut bench, 180), ["looked 180 anew"], "it is here and not told of");
    // Between a list and its answer nothing is told of connections, and nothing is said of looks.
    bench.tell(received("rt1", list(&[1, 2], &[])));
    claimed(&mut bench, 1007);
    assert_eq!(asked(&mut bench, 205), [] as [&str; 0]);
    assert_eq!(
        short(&bench.tell(Event::Seen(Scope::All, here(1000..1010)))),
        ["all 9", "..5", "looked 205 anew"],
        "all but the one that moves"
    );
}
