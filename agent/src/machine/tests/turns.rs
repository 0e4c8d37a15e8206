//! What concerns all connections is done in parts, and what happens in between counts.

use super::*;
use crate::machine::LOOK_AGAIN;

/// As many connections as take several parts, and how many parts.
const PARTS: usize = 5;
const MANY: usize = PARTS * AT_A_STEP;

fn numbered(number: usize) -> Connection {
    let [_, _, high, low] = u32::try_from(number / 60_000).unwrap().to_be_bytes();
    let port = u16::try_from(number % 60_000).unwrap() + 1;
    let client = SocketAddr::from(([198, 19, high, low], port));
    Connection::new(Protocol::Tcp, client, (dvipa(1).address(), 80).into()).unwrap()
}

fn many(numbers: std::ops::Range<usize>) -> Picture {
    let connections = numbers.map(|n| (Cookie(n as u64 + 1), numbered(n))).collect();
    Picture { connections, ..Picture::default() }
}

/// How many connections are named in these actions, and how many of their ends.
fn named(actions: &[Action]) -> (usize, usize) {
    told(actions).iter().fold((0, 0), |(came, went), message| match message {
        FromStack::Newconn(m) => (came + m.connections.len(), went),
        FromStack::Termconn(m) => (came, went + m.connections.len()),
        _ => (came, went),
    })
}

impl Bench {
    fn poll_all(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.machine.poll(self.now)).collect()
    }

    /// Goes on to the end. The actions of each part.
    pub(super) fn goes_on(&mut self) -> Vec<Vec<Action>> {
        let parts = std::iter::from_fn(|| self.machine.step().then(|| self.poll_all())).collect();
        assert!(!self.machine.is_busy());
        parts
    }

    /// With a session with `rt1` that has been told of as many.
    fn of_many() -> Self {
        let mut bench = Self::new();
        bench.tell(Event::Seen(Scope::All, Picture::default()));
        bench.tell(Event::SessionUp(stack("rt1")));
        assert_eq!(bench.tell(received("rt1", list(&[1], &[]))).last(), Some(&Action::Look(Scope::All)));
        bench.tell(Event::Seen(Scope::All, many(0..MANY)));
        bench.goes_on();
        assert_eq!(bench.machine.view().connections, MANY);
        bench
    }
}

#[test]
fn a_picture_and_an_account_of_many_connections_take_turns_with_all_else() {
    let mut bench = Bench::new();
    bench.tell(Event::Seen(Scope::All, Picture::default()));
    bench.tell(Event::SessionUp(stack("rt1")));
    bench.tell(received("rt1", list(&[1], &[])));
    let first = bench.tell(Event::Seen(Scope::All, many(0..MANY)));
    assert_eq!((bench.machine.view().connections, told(&first).len()), (AT_A_STEP, 0), "one part of it");
    // One comes, one goes while the picture is being compared.
    bench.tell(Event::Ended(Cookie(1)));
    bench.tell(Event::Established(Cookie(MANY as u64 + 1), numbered(MANY)));
    let mut parts: Vec<Vec<Action>> = Vec::new();
    while bench.machine.view().standings[&stack("rt1")] != Standing::Answering {
        assert!(bench.machine.step());
        parts.push(bench.poll_all());
    }
    assert_eq!(bench.machine.view().connections, MANY);
    // Two come, two go while the account is given: of those that were named and of those that were not.
    for cookie in [2, MANY as u64] {
        bench.tell(Event::Ended(Cookie(cookie)));
    }
    for n in [MANY + 1, MANY + 2] {
        bench.tell(Event::Established(Cookie(n as u64 + 1), numbered(n)));
    }
    parts.extend(bench.goes_on());
    for part in &parts {
        let (came, went) = named(part);
        assert!(came <= AT_A_STEP + 2 && went <= 2, "{came} and {went} are told in one turn");
    }
    let mut known = BTreeSet::new();
    let all = parts.concat();
    for message in told(&all) {
        match message {
            FromStack::Newconn(m) => known.extend(m.connections.iter().map(|c| c.0)),
            FromStack::Termconn(m) => known.retain(|c| m.connections.iter().all(|gone| gone.0 != *c)),
            _ => {}
        }
    }
    let here: BTreeSet<_> = (2..MANY - 1).chain(MANY..MANY + 3).map(numbered).collect();
    assert!(known == here, "{} instead of {}", known.len(), here.len());
}

#[test]
fn a_look_that_finds_nothing_new_compares_some_at_a_time() {
    let mut bench = Bench::of_many();
    bench.now += own().repair;
    assert!(bench.tell(Event::TimePassed).contains(&Action::Look(Scope::All)));
    assert_eq!(named(&bench.tell(Event::Seen(Scope::All, many(0..MANY)))), (0, 0));
    assert_eq!(bench.tell(Event::UdpBound), [], "one look at a time");
    // As many parts for the picture as for what is known; the first was done at once.
    let parts = bench.goes_on();
    assert!(parts.len() > 2 * PARTS - 2, "{}", parts.len());
    assert_eq!(parts.concat(), [Action::Look(Scope::Untold)]);
    // Half are gone, and no event has told of it.
    bench.tell(Event::Seen(Scope::Untold, Picture::default()));
    bench.now += own().repair;
    assert!(bench.tell(Event::TimePassed).contains(&Action::Look(Scope::All)));
    let first = bench.tell(Event::Seen(Scope::All, many(0..MANY / 2)));
    let parts = bench.goes_on();
    let ended: usize = parts.iter().chain([&first]).map(|part| named(part).1).sum();
    assert_eq!((ended, bench.machine.view().connections), (MANY - MANY / 2, MANY / 2));
    assert!(parts.iter().all(|part| named(part).1 <= AT_A_STEP));
}

#[test]
fn what_was_missed_is_told_in_parts() {
    let mut bench = Bench::of_many();
    bench.tell(Event::SessionDown(stack("rt1")));
    (0..MANY as u64).for_each(|n| bench.machine.handle(Event::Ended(Cookie(n + 1)), bench.now));
    bench.tell(Event::SessionUp(stack("rt1")));
    bench.tell(Event::Heard(stack("rt1"), 1));
    bench.tell(received("rt1", list(&[1], &[])));
    let first = bench.tell(Event::Seen(Scope::All, Picture::default()));
    assert_eq!(named(&first), (0, AT_A_STEP));
    let parts = bench.goes_on();
    assert!(parts.iter().all(|part| named(part).1 <= AT_A_STEP));
    let all = parts.concat();
    assert_eq!(named(&all), (0, MANY - AT_A_STEP));
    let number = 1 + MANY as u64;
    assert_eq!(told(&all).last(), Some(&&FromStack::Told(Told { number, since: Some(1) })));
    assert_eq!(bench.standing(), Standing::Reporting);
}

#[test]
fn news_are_told_in_parts_and_their_number_behind_the_last() {
    let mut bench = Bench::of_many();
    (0..MANY as u64).for_each(|n| bench.machine.handle(Event::Ended(Cookie(n + 1)), bench.now));
    bench.machine.handle(Event::Asked(stack("rt1"), 5), bench.now);
    let first = bench.poll_all();
    assert_eq!(named(&first), (0, AT_A_STEP), "{}", first.len());
    let parts = bench.goes_on();
    assert!(parts.iter().all(|part| named(part).1 <= AT_A_STEP));
    let all = parts.concat();
    assert_eq!(named(&all), (0, MANY - AT_A_STEP));
    assert!(matches!(told(&all).last(), Some(FromStack::Looked(Looked { number: 5, .. }))));
}

#[test]
fn a_list_that_comes_in_the_middle_of_an_account_begins_another() {
    let mut bench = Bench::new();
    bench.tell(Event::Seen(Scope::All, Picture::default()));
    bench.tell(Event::SessionUp(stack("rt1")));
    bench.tell(received("rt1", list(&[1], &[])));
    bench.tell(Event::Seen(Scope::All, many(0..MANY)));
    while bench.standing() != Standing::Answering {
        assert!(bench.machine.step());
        bench.poll_all();
    }
    assert_eq!(bench.tell(received("rt1", list(&[1], &[]))), [Action::Look(Scope::All)]);
    let mut all = bench.tell(Event::Seen(Scope::All, many(0..MANY)));
    all.extend(bench.goes_on().concat());
    let newconns = told(&all).into_iter().filter_map(|message| match message {
        FromStack::Newconn(m) => Some((m.first, m.last)),
        _ => None,
    });
    let newconns: Vec<_> = newconns.collect();
    assert_eq!((newconns.first(), newconns.last()), (Some(&(true, false)), Some(&(false, true))));
    assert_eq!(named(&all), (MANY, 0), "all of them again");
}

#[test]
fn an_address_that_goes_and_comes_back_has_its_connections_again() {
    let mut bench = Bench::of_many();
    let connections = |bench: &Bench| bench.machine.view().connections;
    let gone = bench.tell(received("rt1", list(&[], &[])));
    assert_eq!(in_place(&gone), [&Action::RemoveDvipa(dvipa(1))]);
    assert_eq!((connections(&bench), bench.machine.has(&numbered(7))), (0, false), "at once");
    assert!(bench.machine.is_busy() && bench.machine.step());
    let back = bench.tell(received("rt1", list(&[1], &[])));
    assert_eq!(in_place(&back).len(), 1);
    assert_eq!((connections(&bench), bench.machine.has(&numbered(0))), (MANY - 3 * AT_A_STEP, false));
    assert!(!bench.machine.is_busy());
    // That look had begun before.
    bench.tell(Event::Seen(Scope::All, many(0..MANY)));
    bench.goes_on();
    let first = bench.tell(Event::Seen(Scope::All, many(0..MANY)));
    let parts = bench.goes_on();
    assert_eq!(named(&[first, parts.concat()].concat()), (MANY, 0), "the look finds the others");
    bench.tell(received("rt1", list(&[], &[])));
    assert_eq!(bench.goes_on().len(), PARTS, "the last of them finds none");
    bench.machine.sockets.remember(dvipa(1).address());
    assert_eq!(connections(&bench), 0);
}

#[test]
fn a_list_in_the_middle_of_an_account_has_that_begin_again() {
    let mut bench = Bench::new();
    bench.tell(Event::Seen(Scope::All, Picture::default()));
    bench.tell(Event::SessionUp(stack("rt1")));
    bench.tell(received("rt1", list(&[1], &[])));
    bench.tell(Event::Seen(Scope::All, many(0..MANY)));
    while bench.machine.view().standings[&stack("rt1")] != Standing::Answering {
        assert!(bench.machine.step());
        bench.poll_all();
    }
    assert!(bench.machine.step());
    assert_eq!(named(&bench.poll_all()).0, AT_A_STEP, "some of it is told");
    let mut all = bench.tell(received("rt1", list(&[1], &[])));
    if all.contains(&Action::Look(Scope::All)) {
        all.extend(bench.tell(Event::Seen(Scope::All, many(0..MANY))));
    }
    all.extend(bench.goes_on().concat());
    assert_eq!(named(&all), (MANY, 0), "all of it is told");
    let ends = told(&all).iter().filter(|m| matches!(m, FromStack::Told(Told { since: None, .. }))).count();
    assert_eq!((ends, told(&all).iter().filter(|m| matches!(m, FromStack::Told(_))).count()), (1, 1));
}

#[test]
fn looks_that_take_long_and_that_nothing_has_asked_for_are_rare() {
    let mut bench = Bench::new();
    bench.now += Duration::from_secs(3);
    bench.tell(Event::Seen(Scope::All, Picture::default()));
    let (seen, mut looks) = (bench.now, Vec::new());
    while bench.now < seen + Duration::from_secs(140) {
        bench.now += Duration::from_secs(1);
        let actions = bench.tell(Event::TimePassed);
        for action in actions {
            let Action::Look(scope) = action else { continue };
            looks.push(((bench.now - seen).as_secs(), scope));
            bench.now += Duration::from_secs(if scope == Scope::All { 3 } else { 0 });
            bench.tell(Event::Seen(scope, Picture::default()));
        }
    }
    let whole: Vec<u64> = looks.iter().filter(|(_, scope)| *scope == Scope::All).map(|(at, _)| *at).collect();
    assert_eq!(whole, [67, 137], "twenty times as long as they take: {looks:?}");
    assert!(looks.len() >= 12, "what no event tells of is looked at as often as ever: {looks:?}");
    assert!(
        bench.tell(Event::EventsLost).contains(&Action::Look(Scope::All)),
        "at once where something was lost"
    );
    bench.tell(Event::NotSeen);
    bench.now += LOOK_AGAIN;
    assert!(bench.tell(Event::TimePassed).contains(&Action::Look(Scope::All)), "and again if it failed");
}
