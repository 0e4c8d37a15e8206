//! When something is due, how much is taken, and what operators are shown.

use super::*;
use crate::machine::{LOOK_AGAIN, MAX_DVIPAS, MAX_FORWARDERS, Timer};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Nothing happens before this time, and this is what is due then.
fn due(bench: &mut Bench, at: Instant, timer: Timer) -> Vec<Action> {
    assert_eq!(bench.machine.next_deadline(), Some((at, timer)));
    bench.now = at - MS(1);
    assert_eq!(bench.tell(Event::TimePassed), [], "{timer:?} is not due yet");
    bench.now = at;
    bench.tell(Event::TimePassed)
}

#[test]
fn the_load_is_measured_and_lost_events_are_repaired_each_in_its_time() {
    let mut bench = Bench::new();
    bench.tell(Event::Seen(Scope::All, Picture::default()));
    let start = bench.now;
    for s in 1..10 {
        let loaded = due(&mut bench, start + LOAD_INTERVAL * s, Timer::Load);
        assert_eq!(loaded, [Action::SampleLoad], "after {s} s");
    }
    let both = due(&mut bench, start + own().repair, Timer::Repair);
    assert_eq!(both, [Action::SampleLoad, Action::Look(Scope::All)]);
    bench.tell(Event::Seen(Scope::All, Picture::default()));
    // More often from now on.
    bench.tell(Event::Repair(MS(300)));
    let now = bench.now;
    assert_eq!(due(&mut bench, now + MS(300), Timer::Repair), [Action::Look(Scope::All)]);
    assert_eq!(bench.tell(Event::NotSeen), [], "it is tried again");
    assert_eq!(due(&mut bench, now + MS(600), Timer::Repair), [Action::Look(Scope::All)]);
    // Less often: the next time stays.
    bench.tell(Event::Seen(Scope::All, Picture::default()));
    bench.tell(Event::Repair(own().repair));
    assert_eq!(bench.machine.next_deadline(), Some((now + MS(900), Timer::Repair)));
}

#[test]
fn a_look_that_failed_is_tried_again_no_earlier_than_after_a_while() {
    let mut bench = Bench::new();
    let start = bench.now;
    assert_eq!(bench.tell(Event::NotSeen), []);
    bench.now = start + LOOK_AGAIN - MS(1);
    assert_eq!(bench.tell(Event::TimePassed), []);
    bench.now = start + LOOK_AGAIN;
    assert_eq!(bench.tell(Event::TimePassed), [Action::SampleLoad, Action::Look(Scope::All)]);
}

/// A list of so many DVIPAs, the last one of them with this number.
fn many(count: u32, last: u32) -> VipaList {
    let mut all = list(&[1], &[]);
    let [entry] = &all.dvipas[..] else { panic!("one") };
    let address = |number: u32| Address(IpAddr::from((0xc612_0000 + number).to_be_bytes()));
    all.dvipas =
        (last + 1 - count..=last).map(|n| VipaListDvipa { address: address(n), ..entry.clone() }).collect();
    all
}

#[test]
fn a_host_has_a_bounded_number_of_dvipas() {
    let most = u32::try_from(MAX_DVIPAS).unwrap();
    assert_eq!(most, 4096, "as many as a CRT entry can name");
    let added = |actions: &[Action]| actions.iter().filter(|a| matches!(a, Action::AddDvipa(..))).count();
    let mut bench = Bench::new();
    bench.tell(Event::SessionUp(stack("rt1")));
    bench.tell(Event::SessionUp(stack("rt2")));
    let actions = bench.tell(received("rt1", many(most, 10_000 + most)));
    assert_eq!(added(&actions), MAX_DVIPAS);
    let actions = bench.tell(received("rt1", many(most + 1, 10_001 + most)));
    assert_eq!((added(&actions), in_place(&actions).len()), (0, 0), "the last one of the list is left out");
    // All lists together: the highest address is left out.
    let actions = bench.tell(received("rt2", many(1, 9)));
    assert_eq!((added(&actions), in_place(&actions).len()), (1, 2), "one for another");
}

#[test]
fn a_routing_stack_has_a_bounded_number_of_forwarders() {
    let mut of_many = list(&[1], &[]);
    let all = ["198.18.0.10", "2001:db8::10", "198.18.0.11"];
    of_many.forwarders = all.iter().map(|a| Address(ip(a))).collect();
    let bench = Bench::reporting(of_many, &Picture::default());
    let taken: BTreeSet<_> = all[..MAX_FORWARDERS].iter().map(|a| ip(a)).collect();
    assert_eq!(bench.machine.view().forwarders, taken);
}

#[test]
fn operators_see_what_is_here_and_what_was_told() {
    let picture = Picture {
        listeners: vec![(Cookie(1), WEB), (Cookie(3), Listener { port: 81, ..WEB })],
        connections: vec![(Cookie(2), connection(1, 1001))],
        ..Picture::default()
    };
    let mut bench = Bench::new();
    bench.tell(Event::SessionUp(stack("rt1")));
    bench.tell(Event::Seen(Scope::All, Picture::default()));
    assert!(!bench.machine.owes_an_account());
    bench.tell(received("rt1", list(&[1], &[])));
    assert!(bench.machine.owes_an_account(), "the look for it is under way");
    assert_eq!(bench.machine.listing().count(), 0, "it is told of no changes yet");
    bench.tell(Event::Seen(Scope::All, picture));
    assert!(!bench.machine.owes_an_account());
    let listing: Vec<_> = bench.machine.listing().collect();
    assert_eq!(listing, [(&stack("rt1"), dvipa(1), Epoch(7))]);
    assert!(bench.machine.has(&connection(1, 1001)) && !bench.machine.has(&connection(1, 1002)));
    let view = bench.machine.view();
    assert_eq!((view.listeners, view.connections), (2, 1));
    assert_eq!(view.forwarders, [ip("198.18.0.10")].into());
    let served = BTreeSet::from([(Protocol::Tcp, 80)]);
    assert_eq!(view.dvipas, [(dvipa(1), [(stack("rt1"), served)].into())].into());
    let standings = [(stack("rt1"), Standing::Reporting), (stack("rt2"), Standing::Apart)];
    assert_eq!(view.standings, standings.into());
}
