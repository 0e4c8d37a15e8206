//! Named cases.

use super::*;

fn dvipa(last: u8) -> Dvipa {
    Dvipa::new(format!("198.18.9.{last}").parse().unwrap())
}

fn alone(above: u64) -> Tenures {
    Tenures::new(Settings { run: 1, above: Epoch(above), decider: Decider::Alone })
}

fn all(tenures: &mut Tenures) -> Vec<Action> {
    std::iter::from_fn(|| tenures.poll()).collect()
}

#[test]
fn a_node_alone_owns_what_it_wants_in_an_epoch_above_all_that_it_knows_of() {
    let (mut tenures, now, a, b) = (alone(7), Instant::now(), dvipa(1), dvipa(2));
    tenures.saw(a, Epoch(3));
    tenures.want(a, true, now);
    tenures.want(a, true, now);
    let (keep, gained) = (Action::Keep { epoch: Epoch(8) }, Action::Gained { dvipa: a, epoch: Epoch(8) });
    assert_eq!(all(&mut tenures), [keep, gained]);
    assert_eq!(tenures.held(a, now), Some(Epoch(8)));
    tenures.want(b, true, now);
    assert_eq!(all(&mut tenures), [Action::Gained { dvipa: b, epoch: Epoch(8) }], "8 is kept");

    tenures.want(a, false, now);
    assert_eq!(all(&mut tenures), [Action::Lost { dvipa: a, why: WhyLost::Released }]);
    assert_eq!(tenures.held(a, now), None);
    tenures.saw(a, Epoch(20));
    tenures.want(a, true, now);
    let (keep, gained) = (Action::Keep { epoch: Epoch(21) }, Action::Gained { dvipa: a, epoch: Epoch(21) });
    assert_eq!(all(&mut tenures), [keep, gained]);
}

const LEASE: Duration = Duration::from_millis(1100);
/// What the node counts of it.
const COUNTED: Duration = Duration::from_millis(900);

fn name(name: &str) -> StackName {
    StackName::new(name).unwrap()
}

/// A node that three witnesses can be heard by.
struct Bench {
    tenures: Tenures,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let names = ["w1", "w2", "w3"].map(name).into_iter().collect();
        let decider = Decider::Witnesses { names, lease: LEASE };
        let mut tenures = Tenures::new(Settings { run: 1, above: Epoch(0), decider });
        let now = Instant::now();
        ["w1", "w2", "w3"].iter().for_each(|witness| tenures.session(&name(witness), true, now));
        Self { tenures, now }
    }

    fn later(&mut self, ms: u64) -> &mut Self {
        self.now += Duration::from_millis(ms);
        self
    }

    fn want(&mut self, last: u8, wanted: bool) -> Vec<String> {
        self.tenures.want(dvipa(last), wanted, self.now);
        self.said()
    }

    fn tick(&mut self) -> Vec<String> {
        self.tenures.tick(self.now);
        self.said()
    }

    fn granted(&mut self, witness: &str, ask: u64, list: u64) -> Vec<String> {
        self.granted_without(witness, ask, list, Vec::new())
    }

    fn granted_without(&mut self, witness: &str, ask: u64, list: u64, without: Vec<Withheld>) -> Vec<String> {
        let answer = Granted { run: 1, ask: Ask(ask), list: Ask(list), without };
        self.tenures.heard(&name(witness), FromWitness::Granted(answer), self.now);
        self.said()
    }

    fn unleased(&mut self, witness: &str, ask: u64, wait_ms: u32) -> Vec<String> {
        let answer = Unleased { run: 1, ask: Ask(ask), wait_ms };
        self.tenures.heard(&name(witness), FromWitness::Unleased(answer), self.now);
        self.said()
    }

    fn said(&mut self) -> Vec<String> {
        let word = |action| match action {
            Action::Send { to, message: ToWitness::Claims(c) } => {
                let claims = c.claims.iter().map(|claim| {
                    let owned = if claim.owned { " owned" } else { "" };
                    format!(" {}@{}{owned}", claim.dvipa.0, claim.epoch.0)
                });
                format!("{to}: {} claims{}", c.ask.0, claims.collect::<String>())
            }
            Action::Send { to, message: ToWitness::Renew(r) } => {
                format!("{to}: {} renews {}", r.ask.0, r.list.0)
            }
            Action::Gained { dvipa, epoch } => format!("gained {dvipa}@{}", epoch.0),
            Action::Lost { dvipa, why } => format!("lost {dvipa} {why:?}"),
            Action::Keep { epoch } => format!("keep {}", epoch.0),
            Action::Ask { .. } => "asks etcd".to_owned(),
        };
        std::iter::from_fn(|| self.tenures.poll()).map(word).collect()
    }

    fn held(&self) -> Option<u64> {
        self.tenures.held(dvipa(1), self.now).map(|epoch| epoch.0)
    }
}

fn withheld(highest: u64, holder: Option<&str>) -> Vec<Withheld> {
    let (dvipa, holder) = (Address(dvipa(1).address()), holder.map(name));
    vec![Withheld { dvipa, highest: Epoch(highest), holder }]
}

/// A node that owns a DVIPA by the first two of three witnesses.
fn owner() -> Bench {
    let mut bench = Bench::new();
    bench.want(1, true);
    bench.granted("w1", 1, 1);
    assert_eq!(bench.granted("w2", 2, 2), ["keep 1", "gained 198.18.9.1@1"]);
    bench
}

#[test]
fn a_dvipa_is_owned_when_a_majority_has_granted_it() {
    let mut bench = Bench::new();
    let claims = ["w1: 1 claims 198.18.9.1@1", "w2: 2 claims 198.18.9.1@1", "w3: 3 claims 198.18.9.1@1"];
    assert_eq!(bench.want(1, true), claims);
    assert!(bench.granted("w1", 1, 1).is_empty());
    assert_eq!(bench.held(), None);
    assert!(bench.granted_without("w3", 3, 3, withheld(0, Some("other"))).is_empty());
    assert_eq!(bench.granted("w2", 2, 2), ["keep 1", "gained 198.18.9.1@1"]);
    assert_eq!(bench.held(), Some(1));
}

#[test]
fn the_lease_counts_from_the_ask_and_lapses_by_the_clock_whatever_was_polled() {
    let mut bench = Bench::new();
    bench.want(1, true);
    bench.later(500);
    bench.granted("w1", 1, 1);
    bench.granted("w2", 2, 2);
    assert_eq!(bench.tenures.fence(), Some(bench.now - Duration::from_millis(500) + COUNTED));
    assert_eq!(bench.later(399).held(), Some(1));
    assert_eq!(bench.later(1).held(), None);
    let said = bench.tick();
    assert_eq!(said[0], "lost 198.18.9.1 Lapsed");
    assert!(said.contains(&"w1: 4 claims 198.18.9.1@2".to_owned()), "in the next epoch: {said:?}");
}

#[test]
fn a_renewal_names_the_list_by_its_number_and_lengthens_the_lease() {
    let mut bench = owner();
    bench.granted("w3", 3, 3);
    assert_eq!(bench.tenures.next_deadline(), Some(bench.now + LEASE / 5));
    assert_eq!(bench.later(220).tick(), ["w1: 4 renews 1", "w2: 5 renews 2", "w3: 6 renews 3"]);
    bench.granted("w1", 4, 1);
    bench.granted("w2", 5, 2);
    assert_eq!(bench.later(899).held(), Some(1));
    assert_eq!(bench.later(1).held(), None);
}

#[test]
fn one_witness_of_three_may_be_silent_or_begin_anew() {
    let mut bench = owner();
    assert!(bench.later(100).unleased("w3", 3, 300).is_empty());
    let said = bench.later(120).tick();
    assert_eq!(said, ["w1: 4 renews 1", "w2: 5 renews 2"], "w3 waits");
    bench.granted("w1", 4, 1);
    bench.granted("w2", 5, 2);
    let said = bench.later(180).tick();
    assert_eq!(said, ["w3: 6 claims 198.18.9.1@1 owned"]);
    bench.unleased("w1", 5, 0);
    assert_eq!(bench.held(), None, "two of three have said that they do not lease");
}

#[test]
fn answers_about_what_was_not_asked_so_count_for_nothing() {
    let mut bench = Bench::new();
    bench.want(1, true);
    bench.want(1, false);
    let said = bench.want(1, true);
    assert_eq!(said[0], "w1: 7 claims 198.18.9.1@2");
    bench.granted("w1", 1, 1);
    bench.granted("w2", 2, 2);
    assert_eq!(bench.held(), None, "they granted epoch 1, which is over");
    bench.granted("w1", 9, 99);
    bench.granted("w2", 9, 99);
    assert_eq!(bench.held(), None, "no list has that number");
    let former = Granted { run: 7, ask: Ask(7), list: Ask(7), without: Vec::new() };
    bench.tenures.heard(&name("w1"), FromWitness::Granted(former), bench.now);
    bench.granted("w2", 8, 8);
    assert_eq!(bench.held(), None, "that was an answer to another run");
    bench.granted("w1", 7, 7);
    assert_eq!(bench.held(), Some(2));
}

#[test]
fn an_epoch_is_the_successor_of_the_highest_that_a_witness_has_seen() {
    let mut bench = Bench::new();
    bench.want(1, true);
    let said = bench.granted_without("w1", 1, 1, withheld(41, None));
    assert_eq!(said[0], "w1: 4 claims 198.18.9.1@42");
    bench.granted("w1", 4, 4);
    assert_eq!(bench.granted("w2", 5, 5), ["keep 42", "gained 198.18.9.1@42"]);
}

#[test]
fn while_another_has_it_a_node_waits_and_does_not_outbid_it() {
    let mut bench = Bench::new();
    bench.want(1, true);
    for (witness, ask) in [("w1", 1), ("w2", 2), ("w3", 3)] {
        assert!(bench.granted_without(witness, ask, ask, withheld(0, Some("other"))).is_empty());
    }
    // It is told when the other has released it.
    assert!(bench.later(200).granted("w1", 1, 1).is_empty());
    assert_eq!(bench.granted("w2", 2, 2), ["keep 1", "gained 198.18.9.1@1"]);
}

#[test]
fn grants_of_too_few_are_left_to_others_for_a_time_and_then_it_is_claimed_in_the_next_epoch() {
    let mut bench = Bench::new();
    bench.want(1, true);
    bench.granted("w1", 1, 1);
    for (witness, ask) in [("w2", 2), ("w3", 3)] {
        bench.granted_without(witness, ask, ask, withheld(0, Some("other")));
    }
    // One of two: three quarters of a lease.
    let said = bench.later(824).tick();
    assert_eq!(said[0], "w1: 4 renews 1");
    let said = bench.later(1).tick();
    assert_eq!(said, ["w1: 7 claims", "w2: 8 claims", "w3: 9 claims"], "nothing");
    let (began, mut said) = (bench.now, Vec::new());
    while !said.iter().any(|word: &String| word.ends_with("198.18.9.1@2")) {
        bench.now = bench.tenures.next_deadline().unwrap();
        said = bench.tick();
    }
    let rested = bench.now - began;
    assert!(rested >= LEASE / 2 && rested <= LEASE * 3 / 2, "{rested:?}");
}

#[test]
fn what_is_released_is_lost_before_the_witnesses_hear_of_it() {
    let mut bench = owner();
    let said = bench.want(1, false);
    assert_eq!(said, ["lost 198.18.9.1 Released", "w1: 4 claims", "w2: 5 claims", "w3: 6 claims"]);
    assert_eq!(bench.held(), None);
    bench.granted("w1", 4, 4);
    bench.granted("w2", 5, 5);
    bench.granted("w3", 6, 6);
    assert_eq!(bench.tenures.next_deadline(), None, "there is nothing to renew");
}

#[test]
fn a_new_session_is_told_the_list_again() {
    let mut bench = owner();
    bench.tenures.session(&name("w1"), false, bench.now);
    bench.later(300);
    let said = bench.tick();
    assert!(!said.iter().any(|word| word.starts_with("w1")), "{said:?}");
    bench.tenures.session(&name("w1"), true, bench.now);
    assert_eq!(bench.said(), ["w1: 6 claims 198.18.9.1@1 owned"]);
}

#[test]
fn it_is_shown_by_how_many_witnesses_a_dvipa_is_leased_and_for_how_long_yet() {
    let mut bench = owner();
    let leased = |bench: &Bench| {
        bench.tenures.leased(dvipa(1)).map(|l| (l.by, l.of, u64::try_from(l.left.as_millis()).unwrap()))
    };
    assert_eq!(leased(&bench), Some((2, 3, 900)));
    bench.granted("w3", 3, 3);
    bench.later(220).tick();
    assert_eq!(leased(&bench), Some((3, 3, 680)));
    bench.granted("w1", 4, 1);
    assert_eq!(leased(&bench), Some((3, 3, 680)), "two would have to renew it");
    bench.granted("w2", 5, 2);
    assert_eq!(leased(&bench), Some((3, 3, 900)));
    bench.later(700).tick();
    assert_eq!(leased(&bench), Some((2, 3, 200)), "the third has not renewed it");
    bench.want(2, true);
    assert_eq!(bench.tenures.leased(dvipa(2)), None, "it is claimed");
    assert_eq!(alone_that_owns().leased(dvipa(1)), None);
}

fn alone_that_owns() -> Tenures {
    let mut tenures = alone(0);
    tenures.want(dvipa(1), true, Instant::now());
    tenures
}

#[test]
fn a_node_alone_has_no_fence_and_is_never_due() {
    let tenures = alone_that_owns();
    assert_eq!((tenures.fence(), tenures.next_deadline(), tenures.is_cut_off()), (None, None, false));
    assert!(tenures.wants(dvipa(1)) && !tenures.wants(dvipa(2)));
    assert_eq!(tenures.held(dvipa(2), Instant::now()), None);
}

#[test]
fn a_majority_is_more_than_half_and_of_too_many_witnesses_the_first_are_asked() {
    for (count, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (MAX_WITNESSES + 4, 9)] {
        let names: BTreeSet<StackName> = (0..count).map(|n| name(&format!("w{n:02}"))).collect();
        let decider = Decider::Witnesses { names: names.clone(), lease: LEASE };
        let mut tenures = Tenures::new(Settings { run: 1, above: Epoch(0), decider });
        let now = Instant::now();
        names.iter().for_each(|witness| tenures.session(witness, true, now));
        tenures.want(dvipa(1), true, now);
        let asked = all(&mut tenures).len();
        assert_eq!(asked, count.min(MAX_WITNESSES));
        let mut granted = 0;
        for (ask, witness) in (1..).zip(&names) {
            granted += 1;
            let answer = Granted { run: 1, ask: Ask(ask), list: Ask(ask), without: Vec::new() };
            tenures.heard(witness, FromWitness::Granted(answer), now);
            if tenures.held(dvipa(1), now).is_some() {
                break;
            }
        }
        assert_eq!(granted, needed, "of {count}");
    }
}

#[test]
fn a_lease_is_neither_shorter_nor_longer_than_the_limits() {
    for (configured, asked_for) in [(1, 100), (100, 100), (60_000, 60_000), (90_000, 60_000)] {
        let decider =
            Decider::Witnesses { names: [name("w1")].into(), lease: Duration::from_millis(configured) };
        let mut tenures = Tenures::new(Settings { run: 1, above: Epoch(0), decider });
        let now = Instant::now();
        tenures.session(&name("w1"), true, now);
        tenures.want(dvipa(1), true, now);
        let Some(Action::Send { message: ToWitness::Claims(claims), .. }) = tenures.poll() else {
            panic!("it is not asked")
        };
        assert_eq!(claims.lease_ms, asked_for);
    }
}

#[test]
fn no_more_dvipas_are_wanted_than_there_are_numbers_for() {
    let (mut tenures, now) = (alone(0), Instant::now());
    let dvipa = |n: usize| Dvipa::new(std::net::Ipv4Addr::from(u32::try_from(n).unwrap()).into());
    assert_eq!(MAX_WANTED, (0..=DvipaIndex::MAX).count());
    (1..=MAX_WANTED + 1).for_each(|n| tenures.want(dvipa(n), true, now));
    assert!(tenures.wants(dvipa(MAX_WANTED)) && !tenures.wants(dvipa(MAX_WANTED + 1)));
    tenures.want(dvipa(1), false, now);
    tenures.want(dvipa(MAX_WANTED + 1), true, now);
    assert!(tenures.wants(dvipa(MAX_WANTED + 1)), "there is one again");
}

#[test]
fn the_fence_is_where_the_first_of_several_dvipas_lapses() {
    let mut bench = owner();
    let first = bench.tenures.fence();
    bench.later(100).want(2, true);
    bench.granted("w2", 5, 5);
    assert_eq!(bench.tenures.fence(), first, "w1 still leases by the older ask");
    bench.granted("w3", 6, 6);
    assert_eq!(bench.tenures.held(dvipa(2), bench.now), Some(Epoch(1)));
    assert_eq!(bench.tenures.fence(), Some(bench.now + COUNTED), "both by w2 and w3");
}

#[test]
fn a_witness_that_leases_to_none_is_asked_when_it_says_and_not_before() {
    let mut bench = owner();
    bench.unleased("w3", 3, 90_000);
    let lapses = bench.tenures.fence();
    assert_eq!(bench.tenures.next_deadline(), Some(bench.now + LEASE / 5));
    bench.granted("w1", 4, 1);
    bench.later(220).tick();
    assert!(lapses.is_some_and(|at| at > bench.now));
    // It has said more than a lease can be long: it is asked after that.
    bench.tenures.want(dvipa(1), false, bench.now);
    bench.said();
    let said = bench.later(59_780).tick();
    assert!(said.iter().any(|word| word.starts_with("w3")), "{said:?}");
}

#[test]
fn a_late_unleased_changes_nothing() {
    let mut bench = owner();
    bench.later(220).tick();
    bench.granted("w1", 4, 1);
    bench.granted("w2", 5, 2);
    assert!(bench.unleased("w1", 3, 0).is_empty());
    assert_eq!(bench.held(), Some(1), "a later answer was heard");
    bench.unleased("w1", 4, 0);
    assert_eq!(bench.held(), Some(1), "that very ask was granted");
}

#[test]
fn numbers_look_drawn_at_random() {
    // The high words of splitmix64 from 0, without its last step.
    let mut row = 0;
    assert_eq!([(); 3].map(|()| draw(&mut row)), [0xE220_A838, 0x6E78_9E6A, 0x06C4_5D18]);
}

#[test]
fn what_a_witness_has_granted_it_takes_back_by_its_answer_to_a_new_list_only() {
    let mut bench = owner();
    bench.granted_without("w1", 1, 1, withheld(0, Some("other")));
    assert_eq!(bench.held(), Some(1), "that was said before it was granted");
    bench.want(2, true);
    let said = bench.granted_without("w1", 4, 4, withheld(1, Some("other")));
    assert_eq!(said[0], "lost 198.18.9.1 Lapsed");
}

#[test]
fn what_was_said_to_a_former_run_takes_nothing_away() {
    let mut bench = owner();
    let former = Unleased { run: 7, ask: Ask(9), wait_ms: 0 };
    bench.tenures.heard(&name("w1"), FromWitness::Unleased(former), bench.now);
    assert!(bench.said().is_empty());
    assert_eq!(bench.held(), Some(1));
}

#[test]
fn a_witness_that_does_not_have_the_list_is_told_it_again_and_one_that_is_still_to_hear_it_is_not() {
    let mut bench = owner();
    assert_eq!(bench.unleased("w3", 3, 0), ["w3: 4 claims 198.18.9.1@1 owned"]);
    bench.want(2, true);
    assert!(bench.unleased("w3", 4, 0).is_empty(), "the list that it lacks is on its way");
}
