//! The tables' rows.

use super::*;
use crate::Ownership;
use model::ownership::Claim;

const LEASE: Duration = Duration::from_millis(500);

fn name(name: &str) -> StackName {
    StackName::new(name).unwrap()
}

fn dvipa(last: u8) -> Dvipa {
    Dvipa::new(format!("198.18.9.{last}").parse().unwrap())
}

/// A witness, and nodes `a` and `b` that ask it.
struct Bench {
    witness: Witness,
    now: Instant,
}

impl Bench {
    /// One that has waited.
    fn new(epoch: u64) -> Self {
        let now = Instant::now();
        let witness = Witness::new(Kept { epoch: Epoch(epoch), lease: LEASE }, now);
        Self { witness, now: now + LEASE }
    }

    fn claims_of_run(&mut self, node: &str, run: u64, ask: u64, claims: &[(u8, u64, bool)]) -> Vec<String> {
        let claim = |(last, epoch, owned): &(u8, u64, bool)| Claim {
            dvipa: Address(dvipa(*last).address()),
            epoch: Epoch(*epoch),
            owned: *owned,
        };
        let (lease_ms, claims) = (500, claims.iter().map(claim).collect());
        let message = ToWitness::Claims(Claims { run, ask: Ask(ask), lease_ms, claims });
        self.witness.heard(&name(node), message, self.now);
        self.said()
    }

    fn claims(&mut self, node: &str, ask: u64, claims: &[(u8, u64, bool)]) -> Vec<String> {
        self.claims_of_run(node, 1, ask, claims)
    }

    fn renews(&mut self, node: &str, ask: u64, list: u64) -> Vec<String> {
        let message = ToWitness::Renew(Renew { run: 1, ask: Ask(ask), list: Ask(list) });
        self.witness.heard(&name(node), message, self.now);
        self.said()
    }

    /// After so many milliseconds.
    fn later(&mut self, ms: u64) -> &mut Self {
        self.now += Duration::from_millis(ms);
        self
    }

    fn tick(&mut self) -> Vec<String> {
        self.witness.tick(self.now);
        self.said()
    }

    fn said(&mut self) -> Vec<String> {
        let word = |deed| match deed {
            Deed::Keep(kept) => format!("keep {} {}", kept.epoch.0, kept.lease.as_millis()),
            Deed::Send { to, message: FromWitness::Granted(g) } => {
                let without = g.without.iter().map(|w| {
                    let holder = w.holder.as_ref().map_or("too low", StackName::as_str);
                    format!(" but {} ({} {holder})", w.dvipa.0, w.highest.0)
                });
                format!("{to}: {} of {}{}", g.ask.0, g.list.0, without.collect::<String>())
            }
            Deed::Send { to, message: FromWitness::Unleased(u) } => {
                format!("{to}: {} unleased, wait {}", u.ask.0, u.wait_ms)
            }
        };
        std::iter::from_fn(|| self.witness.poll()).map(word).collect()
    }

    fn holder(&self, last: u8) -> Option<(String, u64)> {
        let grant = self.witness.grants().find(|grant| grant.dvipa == dvipa(last))?;
        Some((grant.to.to_string(), grant.epoch.0))
    }
}

#[test]
fn a_witness_leases_to_none_until_what_it_has_forgotten_must_have_lapsed() {
    let mut bench = Bench::new(4);
    bench.now -= Duration::from_micros(1500);
    assert_eq!(bench.claims("a", 1, &[(1, 5, false)]), ["a: 1 unleased, wait 2"], "rounded up");
    assert_eq!(bench.renews("a", 2, 1), ["a: 2 unleased, wait 2"]);
    assert_eq!(bench.later(2).claims("a", 3, &[(1, 5, false)]), ["keep 5 500", "a: 3 of 3"]);
}

#[test]
fn a_grant_needs_an_epoch_above_the_highest_and_an_owner_may_join_in_any() {
    let mut bench = Bench::new(4);
    assert_eq!(bench.claims("a", 1, &[(1, 4, false)]), ["a: 1 of 1 but 198.18.9.1 (4 too low)"]);
    assert_eq!(bench.holder(1), None);
    assert_eq!(bench.claims("a", 2, &[(1, 5, false)]), ["keep 5 500", "a: 2 of 2"]);
    assert_eq!(bench.claims("a", 3, &[(1, 5, false)]), ["a: 3 of 3"], "what is granted stays so");
    assert_eq!(bench.claims("b", 1, &[(2, 3, true)]), ["b: 1 of 1"]);
    assert_eq!(bench.holder(2), Some(("b".to_owned(), 3)));
    let low = "b: 2 of 2 but 198.18.9.2 (4 too low)";
    assert_eq!(bench.claims("b", 2, &[(2, 4, false)]), [low], "4 was there before it joined in 3");
}

#[test]
fn another_waits_until_the_holder_releases_or_lapses_and_is_told_at_once() {
    let mut bench = Bench::new(0);
    bench.claims("a", 1, &[(1, 1, false), (2, 1, false)]);
    assert_eq!(bench.claims("b", 1, &[(1, 2, false)]), ["b: 1 of 1 but 198.18.9.1 (1 a)"]);
    assert_eq!(bench.claims("a", 2, &[(2, 1, false)]), ["keep 2 500", "a: 2 of 2", "b: 1 of 1"]);
    assert_eq!(bench.holder(1), Some(("b".to_owned(), 2)));
    // `a` waits, `b` lapses.
    bench.claims("a", 3, &[(1, 3, false), (2, 1, false)]);
    bench.later(400).renews("a", 4, 3);
    assert_eq!(bench.witness.next_deadline(), Some(bench.now + Duration::from_millis(100)));
    assert!(bench.later(99).tick().is_empty());
    assert_eq!(bench.later(1).tick(), ["keep 3 500", "a: 4 of 3"]);
    assert_eq!(bench.holder(1), Some(("a".to_owned(), 3)));
}

#[test]
fn an_owner_that_waits_comes_before_others_and_one_with_too_low_an_epoch_is_passed_over() {
    let mut bench = Bench::new(0);
    bench.claims("a", 1, &[(1, 7, false)]);
    bench.claims("b", 1, &[(1, 6, false)]);
    bench.claims("c", 1, &[(1, 9, false)]);
    bench.claims("d", 1, &[(1, 5, true)]);
    bench.claims("a", 2, &[]);
    assert_eq!(bench.holder(1), Some(("d".to_owned(), 5)), "it owns by others' grants");
    let said = bench.claims("d", 2, &[]);
    assert_eq!(bench.holder(1), Some(("c".to_owned(), 9)));
    assert!(
        said.contains(&"b: 1 of 1 but 198.18.9.1 (9 c)".to_owned()),
        "it is told to claim anew: {said:?}"
    );
}

#[test]
fn a_lease_is_renewed_by_the_list_that_the_witness_has_and_by_no_other() {
    let mut bench = Bench::new(0);
    bench.claims("a", 1, &[(1, 1, false)]);
    assert_eq!(bench.later(499).renews("a", 2, 1), ["a: 2 of 1"]);
    assert_eq!(bench.later(499).renews("a", 3, 7), ["a: 3 unleased, wait 0"]);
    assert!(bench.later(1).tick().is_empty());
    assert_eq!(bench.holder(1), None, "it has lapsed");
    assert_eq!(bench.renews("a", 4, 1), ["a: 4 unleased, wait 0"]);
}

#[test]
fn late_and_doubled_messages_change_nothing() {
    let mut bench = Bench::new(0);
    bench.claims("a", 5, &[(1, 1, false)]);
    assert!(bench.claims("a", 4, &[]).is_empty());
    assert!(bench.claims("a", 5, &[]).is_empty());
    bench.renews("a", 6, 5);
    assert!(bench.later(400).renews("a", 6, 5).is_empty());
    bench.later(100).tick();
    assert_eq!(bench.holder(1), None, "the doubled one has renewed nothing");
    assert!(bench.claims("a", 6, &[(1, 2, false)]).is_empty(), "nor one that comes after the lease");
}

#[test]
fn another_run_of_a_node_waits_until_the_former_one_has_lapsed() {
    let mut bench = Bench::new(0);
    bench.claims_of_run("a", 1, 5, &[(1, 1, false)]);
    assert_eq!(bench.later(200).claims_of_run("a", 2, 1, &[(1, 2, false)]), ["a: 1 unleased, wait 300"]);
    assert_eq!(bench.later(300).claims_of_run("a", 2, 2, &[(1, 2, false)]), ["keep 2 500", "a: 2 of 2"]);
}

#[test]
fn a_lease_that_is_too_short_or_too_long_is_void_and_a_longer_one_is_kept_first() {
    let mut bench = Bench::new(0);
    for (lease_ms, void) in [(99, 1), (60_001, 2)] {
        let message = ToWitness::Claims(Claims { run: 1, ask: Ask(1), lease_ms, claims: Vec::new() });
        bench.witness.heard(&name("a"), message, bench.now);
        assert!(bench.said().is_empty());
        assert_eq!(bench.witness.void(), void);
    }
    let message = ToWitness::Claims(Claims { run: 1, ask: Ask(1), lease_ms: 900, claims: Vec::new() });
    bench.witness.heard(&name("a"), message, bench.now);
    assert_eq!(bench.said(), ["keep 0 900", "a: 1 of 1"]);
    assert_eq!(bench.witness.kept(), Kept { epoch: Epoch(0), lease: Duration::from_millis(900) });
}

#[test]
fn more_nodes_than_the_limit_wait_until_one_has_lapsed() {
    let mut bench = Bench::new(0);
    for number in 0..MAX_NODES {
        bench.claims(&format!("n{number}"), 1, &[]);
    }
    assert_eq!(bench.claims("a", 1, &[]), ["a: 1 unleased, wait 60000"]);
    assert_eq!(bench.later(500).claims("a", 2, &[]), ["a: 2 of 2"]);
}

#[test]
fn what_a_node_may_not_claim_and_what_leaves_no_epoch_is_withheld_as_if_another_had_it() {
    let mut bench = Bench::new(5);
    let claim =
        |last, epoch| Claim { dvipa: Address(dvipa(last).address()), epoch: Epoch(epoch), owned: true };
    let mut ask = |ask, claims: &[Claim]| {
        let claims = Claims { run: 1, ask: Ask(ask), lease_ms: 500, claims: claims.to_vec() };
        let may = |of: Dvipa| of != dvipa(2);
        let outcome = bench.witness.heard_within(&name("a"), ToWitness::Claims(claims), may, bench.now);
        let Some(Deed::Send { message: FromWitness::Granted(granted), .. }) =
            std::iter::from_fn(|| bench.witness.poll()).last()
        else {
            panic!("no answer")
        };
        let without: Vec<_> = granted.without.into_iter().map(|w| (w.dvipa.0, w.holder)).collect();
        (outcome, without, bench.witness.kept().epoch)
    };
    let withheld = |last| vec![(dvipa(last).address(), Some(name("a")))];
    assert_eq!(ask(1, &[claim(1, 6), claim(2, 6)]), (Err(Void::NotItsDvipa), withheld(2), Epoch(6)));
    for (number, epoch) in [(2, u64::MAX), (3, 7 + crate::MAX_LEAP)] {
        let answer = ask(number, &[claim(1, epoch)]);
        assert_eq!(answer, (Err(Void::EpochTooHigh), withheld(1), Epoch(6)), "{epoch}");
    }
    assert_eq!(ask(4, &[claim(1, 7)]), (Ok(()), Vec::new(), Epoch(7)), "one above is left");
}

#[test]
fn a_node_that_is_told_an_epoch_that_can_not_be_meant_does_not_follow_it() {
    let mut epochs =
        crate::Tenures::new(crate::Settings { run: 1, above: Epoch(5), decider: crate::Decider::Alone });
    epochs.saw(dvipa(1), Epoch(u64::MAX));
    assert!(!epochs.is_credible(Epoch(u64::MAX)) && epochs.is_credible(Epoch(6)));
    epochs.want(dvipa(1), true, Instant::now());
    let gained = std::iter::from_fn(|| epochs.poll()).find_map(|action| match action {
        crate::Action::Gained { epoch, .. } => Some(epoch),
        _ => None,
    });
    assert_eq!(gained, Some(Epoch(6)));
}

#[test]
fn what_is_granted_is_shown_with_its_epoch_and_its_end() {
    let mut bench = Bench::new(3);
    assert_eq!(bench.witness.opens(), bench.now);
    bench.claims("a", 1, &[(1, 4, false), (2, 5, false)]);
    bench.claims("b", 1, &[(1, 6, false)]);
    let until = bench.now + LEASE;
    let granted = |last, epoch| Grant { dvipa: dvipa(last), to: name("a"), epoch: Epoch(epoch), until };
    assert_eq!(bench.witness.grants().collect::<Vec<_>>(), [granted(1, 4), granted(2, 5)]);
    assert_eq!(bench.witness.void(), 0);
}

#[test]
fn of_too_many_dvipas_the_highest_epoch_of_all_is_remembered() {
    let mut bench = Bench::new(0);
    let block = |of: usize| {
        let dvipa = |n: usize| Address(std::net::Ipv4Addr::from(u32::try_from(n + 1).unwrap()).into());
        (of * MAX_WANTED..(of + 1) * MAX_WANTED).map(dvipa)
    };
    let mut claims = |ask, epoch, claimed: Vec<Address>| {
        let claim = |dvipa| Claim { dvipa, epoch: Epoch(epoch), owned: false };
        let claims = claimed.into_iter().map(claim).collect();
        let message = ToWitness::Claims(Claims { run: 1, ask: Ask(ask), lease_ms: 500, claims });
        bench.witness.heard(&name("a"), message, bench.now);
        let said = std::iter::from_fn(|| bench.witness.poll()).last();
        let Some(Deed::Send { message: FromWitness::Granted(granted), .. }) = said else { return None };
        Some(granted.without.first().map(|withheld| withheld.highest))
    };
    assert_eq!(claims(1, 9, block(0).collect()), Some(None));
    assert_eq!(claims(2, 1, block(1).collect()), Some(None));
    assert_eq!(claims(3, 1, block(2).collect()), Some(None), "all are remembered still");
    let held = block(2).take(1).collect();
    assert_eq!(claims(4, 1, held), Some(None), "what is granted stays");
    let of_all = Some(Some(Epoch(9)));
    assert_eq!(claims(5, 5, block(3).take(1).collect()), of_all, "those that were free are not remembered");
    assert_eq!(claims(6, 10, block(0).take(1).collect()), Some(None));
    let too_many = block(0).chain(block(1).take(1)).collect();
    assert_eq!(claims(7, 11, too_many), None, "more than there are numbers for");
}

#[test]
fn a_holder_that_claims_in_a_higher_epoch_keeps_it_from_those_that_wait() {
    let mut bench = Bench::new(0);
    bench.claims("a", 1, &[(1, 1, false)]);
    bench.claims("b", 1, &[(1, 2, false)]);
    assert_eq!(bench.claims("a", 2, &[(1, 3, false)]), ["keep 3 500", "a: 2 of 2"]);
    assert_eq!(bench.holder(1), Some(("a".to_owned(), 3)));
}
