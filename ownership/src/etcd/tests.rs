//! Named cases.

use super::*;

const LEASE: Duration = Duration::from_secs(11);
/// What the node counts of it.
const COUNTED: Duration = Duration::from_secs(9);
/// When it is renewed.
const INTERVAL: Duration = Duration::from_millis(2200);

fn dvipa() -> Dvipa {
    Dvipa::new("198.18.9.1".parse().unwrap())
}

struct Bench {
    leases: Leases,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { leases: Leases::new(Epoch(0), LEASE), now: Instant::now() }
    }

    fn later(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    fn want(&mut self, wanted: bool) -> Vec<String> {
        self.leases.want(dvipa(), wanted, self.now);
        self.said()
    }

    fn tick(&mut self) -> Vec<String> {
        self.leases.tick(self.now);
        self.said()
    }

    fn answer(&mut self, ask: u64, answer: Answer) -> Vec<String> {
        self.leases.told(News::Answer { ask: Ask(ask), answer }, self.now);
        self.said()
    }

    fn granted(&mut self, ask: u64, lease: i64) -> Vec<String> {
        self.answer(ask, Answer::Granted { lease: LeaseId(lease), ttl_s: 11 })
    }

    fn claimed(&mut self, ask: u64) -> Vec<String> {
        self.answer(ask, Answer::Claimed { revision: Revision(5) })
    }

    fn taken(&mut self, ask: u64, owner: Option<(i64, u64)>, epoch: u64, revision: i64) -> Vec<String> {
        let owner = owner.map(|(lease, epoch)| Owner { lease: LeaseId(lease), epoch: Epoch(epoch) });
        self.answer(ask, Answer::Taken { owner, epoch: Epoch(epoch), revision: Revision(revision) })
    }

    fn renewed(&mut self, ask: u64, term: u64, lease: i64) -> Vec<String> {
        let leases = vec![LeaseId(lease)];
        self.answer(ask, Answer::Renewed { term: Term(term), leases, gone: Vec::new() })
    }

    fn confirmed(&mut self, ask: u64, term: u64) -> Vec<String> {
        self.answer(ask, Answer::Confirmed { term: Term(term) })
    }

    fn said(&mut self) -> Vec<String> {
        let word = |action| match action {
            Action::Ask { ask: Ask(ask), question } => match question {
                Question::Grant { ttl_s } => format!("{ask}: grant {ttl_s}"),
                Question::Claim { dvipa, epoch, lease, after } => {
                    format!("{ask}: claim {dvipa}@{} by {} after {}", epoch.0, lease.0, after.0)
                }
                Question::Renew { leases } => {
                    format!("{ask}: renew {:?}", leases.iter().map(|l| l.0).collect::<Vec<_>>())
                }
                Question::Confirm => format!("{ask}: confirm"),
                Question::Revoke { lease } => format!("{ask}: revoke {}", lease.0),
            },
            Action::Gained { dvipa, epoch } => format!("gained {dvipa}@{}", epoch.0),
            Action::Lost { dvipa, why } => format!("lost {dvipa} {why:?}"),
            Action::Keep { epoch } => format!("keep {}", epoch.0),
            Action::Send { .. } => "tells a witness".to_owned(),
        };
        std::iter::from_fn(|| self.leases.poll()).map(word).collect()
    }

    fn held(&self) -> Option<u64> {
        self.leases.held(dvipa(), self.now).map(|epoch| epoch.0)
    }
}

/// A node that owns the DVIPA by lease 7, in epoch 1.
fn owner() -> Bench {
    let mut bench = Bench::new();
    bench.want(true);
    bench.granted(1, 7);
    bench.claimed(2);
    bench
}

#[test]
fn a_dvipa_is_owned_when_a_lease_and_then_the_claim_is_granted() {
    let mut bench = Bench::new();
    assert_eq!(bench.want(true), ["1: grant 11"]);
    assert_eq!(bench.granted(1, 7), ["2: claim 198.18.9.1@1 by 7 after 0"]);
    assert_eq!(bench.held(), None);
    assert_eq!(bench.claimed(2), ["keep 1", "gained 198.18.9.1@1"]);
    assert_eq!(bench.held(), Some(1));
}

#[test]
fn the_lease_counts_from_the_ask_and_lapses_by_the_clock_whatever_was_polled() {
    let mut bench = Bench::new();
    bench.want(true);
    bench.later(Duration::from_secs(1)).granted(1, 7);
    bench.claimed(2);
    assert_eq!(bench.leases.fence(), Some(bench.now + COUNTED - Duration::from_secs(1)));
    assert_eq!(bench.later(COUNTED - Duration::from_millis(1001)).held(), Some(1));
    assert_eq!(bench.later(Duration::from_millis(1)).held(), None);
    assert_eq!(bench.tick(), ["lost 198.18.9.1 Lapsed", "3: revoke 7", "4: grant 11"]);
    // In the next epoch.
    assert_eq!(bench.granted(4, 8), ["5: claim 198.18.9.1@2 by 8 after 5"]);
}

#[test]
fn a_renewal_counts_from_its_ask_once_the_majority_has_confirmed_its_term() {
    let mut bench = owner();
    assert_eq!(bench.later(INTERVAL).tick(), ["3: renew [7]"]);
    let asked = bench.now;
    assert_eq!(bench.later(Duration::from_millis(10)).renewed(3, 4, 7), ["4: confirm"]);
    assert_eq!(bench.leases.fence(), Some(asked - INTERVAL + COUNTED), "not yet");
    bench.confirmed(4, 4);
    assert_eq!(bench.leases.fence(), Some(asked + COUNTED));
}

#[test]
fn a_renewal_by_a_leader_that_was_replaced_counts_for_nothing() {
    let mut bench = owner();
    let lapses = bench.leases.fence();
    bench.later(INTERVAL).tick();
    bench.renewed(3, 4, 7);
    assert!(bench.confirmed(4, 5).is_empty());
    assert_eq!(bench.leases.fence(), lapses);
}

#[test]
fn no_answer_revives_a_lease_in_which_the_node_believes_no_more() {
    let mut bench = owner();
    bench.later(COUNTED - Duration::from_millis(1)).tick();
    bench.renewed(3, 4, 7);
    assert_eq!(bench.later(Duration::from_millis(1)).held(), None);
    let said = bench.confirmed(4, 4);
    assert_eq!(said, ["lost 198.18.9.1 Lapsed", "5: revoke 7", "6: grant 11"]);
    assert_eq!(bench.held(), None);
    assert!(bench.later(Duration::from_millis(1)).claimed(2).is_empty());
    assert_eq!(bench.held(), None);
}

#[test]
fn a_lease_that_etcd_does_not_have_any_more_is_lost_at_once() {
    let mut bench = owner();
    bench.later(INTERVAL).tick();
    let gone = Answer::Renewed { term: Term(4), leases: Vec::new(), gone: vec![LeaseId(7)] };
    assert_eq!(bench.answer(3, gone), ["4: confirm"]);
    assert_eq!(bench.confirmed(4, 4)[0], "lost 198.18.9.1 Lapsed");
    let mut bench = owner();
    bench.leases.told(News::Freed { dvipa: dvipa(), epoch: Epoch(9) }, bench.now);
    assert_eq!(bench.held(), Some(1), "that was another ownership");
    bench.leases.told(News::Freed { dvipa: dvipa(), epoch: Epoch(1) }, bench.now);
    assert_eq!(bench.said()[0], "lost 198.18.9.1 Lapsed", "its key is gone");
}

#[test]
fn a_lease_that_is_shorter_than_asked_or_came_too_late_is_not_used() {
    let mut bench = Bench::new();
    bench.want(true);
    let short = Answer::Granted { lease: LeaseId(7), ttl_s: 10 };
    assert_eq!(bench.answer(1, short), ["2: revoke 7"]);
    assert_eq!(bench.later(INTERVAL).tick(), ["3: grant 11"]);
    bench.later(COUNTED);
    assert_eq!(bench.granted(3, 8), ["4: revoke 8"]);
}

#[test]
fn an_epoch_is_the_successor_of_the_highest_that_etcd_has() {
    let mut bench = Bench::new();
    bench.want(true);
    bench.granted(1, 7);
    assert_eq!(bench.taken(2, None, 41, 99), ["3: claim 198.18.9.1@42 by 7 after 99"]);
    assert_eq!(bench.claimed(3), ["keep 42", "gained 198.18.9.1@42"]);
}

#[test]
fn while_another_owns_it_a_node_waits_for_the_news_that_it_is_free_but_not_for_ever() {
    let mut bench = Bench::new();
    bench.want(true);
    bench.granted(1, 7);
    assert!(bench.taken(2, Some((3, 5)), 5, 20).is_empty());
    bench.leases.told(News::Freed { dvipa: dvipa(), epoch: Epoch(5) }, bench.now);
    assert_eq!(bench.said(), ["3: claim 198.18.9.1@6 by 7 after 20"]);
    assert!(bench.taken(3, Some((4, 6)), 6, 30).is_empty(), "another was faster");
    bench.later(LEASE / 2);
    assert!(bench.tick().contains(&"4: claim 198.18.9.1@7 by 7 after 30".to_owned()));
}

#[test]
fn a_claim_without_an_answer_is_asked_again_and_known_by_its_lease() {
    let mut bench = Bench::new();
    bench.want(true);
    bench.granted(1, 7);
    assert!(bench.answer(2, Answer::Failed).is_empty());
    bench.later(INTERVAL);
    assert!(bench.tick().contains(&"3: claim 198.18.9.1@1 by 7 after 0".to_owned()), "the same");
    assert_eq!(bench.taken(3, Some((7, 1)), 1, 5), ["keep 1", "gained 198.18.9.1@1"]);
}

#[test]
fn a_claim_that_was_granted_in_an_epoch_that_is_not_claimed_any_more_is_given_up() {
    let mut bench = Bench::new();
    bench.want(true);
    bench.granted(1, 7);
    assert_eq!(bench.taken(2, Some((7, 9)), 9, 5), ["3: revoke 7", "4: grant 11"]);
    assert_eq!(bench.granted(4, 8), ["5: claim 198.18.9.1@10 by 8 after 5"]);
}

#[test]
fn what_is_released_is_lost_before_etcd_hears_of_it_and_a_late_lease_is_revoked() {
    let mut bench = owner();
    assert_eq!(bench.want(false), ["lost 198.18.9.1 Released", "3: revoke 7"]);
    assert_eq!(bench.held(), None);
    assert_eq!(bench.want(true), ["4: grant 11"]);
    bench.want(false);
    assert_eq!(bench.want(true), ["5: grant 11"]);
    assert_eq!(bench.granted(4, 8), ["6: revoke 8"], "that was asked for before");
    assert_eq!(bench.granted(5, 9), ["7: claim 198.18.9.1@2 by 9 after 0"]);
    assert_eq!(bench.answer(7, Answer::Unleased), ["8: revoke 9", "9: grant 11"]);
}

#[test]
fn an_etcd_that_does_not_answer_is_asked_at_intervals_and_nothing_is_asked_when_nothing_is_wanted() {
    let mut bench = Bench::new();
    assert_eq!(bench.leases.next_deadline(), None);
    bench.want(true);
    assert_eq!(bench.leases.next_deadline(), None, "the answer comes");
    assert!(bench.answer(1, Answer::Failed).is_empty());
    assert_eq!(bench.leases.next_deadline(), Some(bench.now + INTERVAL));
    bench.want(false);
    assert_eq!(bench.leases.next_deadline(), None);
}

#[test]
fn no_more_than_so_many_renewals_are_under_way() {
    let mut bench = Bench { leases: Leases::new(Epoch(0), LEASE), now: Instant::now() };
    bench.want(true);
    bench.granted(1, 7);
    bench.claimed(2);
    let mut asked = 0;
    for _ in 0..20 {
        asked += bench.tick().iter().filter(|said| said.contains("renew")).count();
        // Later than each renewal, and before the lease lapses.
        bench.leases.renews = Some(bench.now);
    }
    assert_eq!(asked, MAX_RENEWALS);
}

#[test]
fn a_lease_is_asked_for_in_whole_seconds_within_the_limits() {
    for (configured_ms, asked_for) in [(600, 2), (2000, 2), (3000, 3), (90_000, 60)] {
        let (mut leases, now) = (Leases::new(Epoch(0), Duration::from_millis(configured_ms)), Instant::now());
        leases.want(dvipa(), true, now);
        let Some(Action::Ask { question: Question::Grant { ttl_s }, .. }) = leases.poll() else {
            panic!("no lease is asked for")
        };
        assert_eq!(ttl_s, asked_for);
    }
}

#[test]
fn a_node_that_etcd_does_not_answer_is_cut_off_until_it_does() {
    let mut bench = owner();
    assert!(!bench.leases.is_cut_off());
    bench.leases.told(News::Answers(false), bench.now);
    assert!(bench.leases.is_cut_off());
    bench.leases.told(News::Answers(true), bench.now);
    assert!(!bench.leases.is_cut_off());
}

#[test]
fn an_epoch_that_somebody_names_is_passed_over_unless_it_is_claimed_already() {
    let mut bench = Bench::new();
    bench.want(true);
    bench.leases.saw(dvipa(), Epoch(8));
    assert!(bench.leases.is_credible(Epoch(9)) && !bench.leases.is_credible(Epoch(u64::MAX)));
    assert_eq!(bench.granted(1, 7), ["2: claim 198.18.9.1@9 by 7 after 0"]);
    bench.leases.saw(dvipa(), Epoch(20));
    assert_eq!(bench.claimed(2), ["keep 9", "gained 198.18.9.1@9"]);
    bench.leases.saw(dvipa(), Epoch(3));
    bench.want(false);
    bench.want(true);
    bench.granted(4, 8);
    assert_eq!(bench.claimed(5), ["keep 21", "gained 198.18.9.1@21"]);
}

fn other() -> Dvipa {
    Dvipa::new("198.18.9.2".parse().unwrap())
}

/// The owner of the first DVIPA owns another one a second later, by lease 8.
fn owner_of_two() -> Bench {
    let mut bench = owner();
    bench.later(Duration::from_secs(1));
    bench.leases.want(other(), true, bench.now);
    assert_eq!(bench.said(), ["3: grant 11"]);
    bench.granted(3, 8);
    assert_eq!(bench.claimed(4), ["gained 198.18.9.2@1"]);
    bench
}

#[test]
fn leases_are_renewed_together_and_each_lapses_by_itself() {
    let mut bench = owner_of_two();
    let first = bench.now - Duration::from_secs(1) + COUNTED;
    assert_eq!(bench.leases.fence(), Some(first));
    let renews = bench.now - Duration::from_secs(1) + INTERVAL;
    assert_eq!(bench.leases.next_deadline(), Some(renews));
    bench.now = renews;
    assert_eq!(bench.tick(), ["5: renew [7, 8]"]);
    assert_eq!(bench.leases.next_deadline(), Some(renews + INTERVAL));
    let both = Answer::Renewed { term: Term(1), leases: vec![LeaseId(8)], gone: vec![LeaseId(7)] };
    bench.answer(5, both);
    let said = bench.confirmed(6, 1);
    assert_eq!(said, ["lost 198.18.9.1 Lapsed", "7: revoke 7", "8: grant 11"]);
    assert_eq!(bench.leases.held(other(), bench.now), Some(Epoch(1)));
    assert_eq!(bench.leases.fence(), Some(renews + COUNTED));
    assert!(bench.leases.wants(dvipa()) && bench.leases.wants(other()));
}

#[test]
fn an_older_renewal_does_not_shorten_a_lease() {
    let mut bench = owner();
    bench.later(INTERVAL).tick();
    bench.later(INTERVAL).tick();
    let later = bench.now;
    bench.renewed(4, 1, 7);
    bench.renewed(3, 1, 7);
    bench.confirmed(5, 1);
    assert_eq!(bench.leases.fence(), Some(later + COUNTED));
    bench.confirmed(6, 1);
    assert_eq!(bench.leases.fence(), Some(later + COUNTED));
}

#[test]
fn what_is_not_owned_any_more_needs_no_renewal() {
    let mut bench = owner();
    bench.want(false);
    assert_eq!((bench.leases.fence(), bench.leases.next_deadline()), (None, None));
    assert!(bench.later(INTERVAL).tick().is_empty());
    bench.want(true);
    bench.granted(4, 8);
    assert_eq!(bench.leases.next_deadline(), Some(bench.now + INTERVAL), "counted anew");
}

#[test]
fn an_answer_that_came_too_late_for_its_question_moves_nothing() {
    let mut bench = Bench::new();
    bench.want(true);
    bench.answer(1, Answer::Failed);
    bench.later(INTERVAL);
    assert_eq!(bench.tick(), ["2: grant 11"]);
    assert!(bench.answer(1, Answer::Failed).is_empty());
    assert_eq!(bench.leases.next_deadline(), None, "2 is still awaited");
    bench.want(false);
    assert_eq!(bench.granted(2, 7), ["3: revoke 7"]);
    assert!(bench.answer(3, Answer::Revoked).is_empty());
    assert!(bench.answer(99, Answer::Revoked).is_empty(), "nobody has asked that");
}

#[test]
fn no_more_dvipas_are_wanted_than_there_are_numbers_for() {
    let mut bench = Bench::new();
    let dvipa = |n: usize| Dvipa::new(std::net::Ipv4Addr::from(u32::try_from(n).unwrap()).into());
    (1..=MAX_WANTED + 1).for_each(|n| bench.leases.want(dvipa(n), true, bench.now));
    assert!(bench.leases.wants(dvipa(MAX_WANTED)) && !bench.leases.wants(dvipa(MAX_WANTED + 1)));
}
