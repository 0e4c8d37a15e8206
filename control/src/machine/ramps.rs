//! Targets whose shares grow (row B9): one that begins to serve, or serves again, gets a tenth of its share of new connections, and a
//! tenth more each time a tenth of `slow_start_s` has passed. What was there when this node started has its whole share.
//!
//! | a target is | and is seen | it is |
//! | --- | --- | --- |
//! | unknown, cold | serving, while the node settles | warm |
//! | unknown, cold | serving | growing |
//! | growing | serving | growing, and warm when the time has passed |
//! | any | not serving | cold |
//! | any | lost, or in another state that says nothing of its server | as before |

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::{Service, StackIndex};

use super::RoutingStack;
use super::dirty::Mark;
use super::pace::Urgency;
use super::view::TargetState;

/// In so many steps.
pub(super) const STEPS: u8 = 10;

/// A target of a service.
type Target = (Service, StackIndex);

/// How it is with targets of services that begin slowly.
#[derive(Debug)]
pub(super) struct Ramps {
    targets: BTreeMap<Target, Warmth>,
    now: Instant,
    /// When the next step is due.
    next: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Warmth {
    Cold,
    Growing { since: Instant, over: Duration, step: u8 },
    Warm,
}

impl Ramps {
    pub(super) fn new(now: Instant) -> Self {
        Self { targets: BTreeMap::new(), now, next: None }
    }

    /// Takes how targets are. Returns those whose shares begin to grow.
    pub(super) fn see(
        &mut self,
        seen: Vec<(Service, StackIndex, TargetState, Duration)>,
        settled: bool,
    ) -> Vec<Target> {
        let mut begun = Vec::new();
        for (service, stack, state, over) in seen {
            let target = (service, stack);
            let before = self.targets.get(&target).copied().unwrap_or(Warmth::Cold);
            let after = match (serves(state), before) {
                (None, _) => continue,
                (Some(false), _) => Warmth::Cold,
                (Some(true), Warmth::Cold) if settled => {
                    begun.push(target);
                    Warmth::Growing { since: self.now, over, step: 1 }
                }
                (Some(true), Warmth::Cold) => Warmth::Warm,
                (Some(true), Warmth::Growing { .. } | Warmth::Warm) => continue,
            };
            self.targets.insert(target, after);
        }
        if !begun.is_empty() {
            self.look_ahead();
        }
        begun
    }

    /// Time passes. Returns the targets whose shares are larger now. A clock that goes backwards only delays.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Target> {
        self.now = now;
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut larger = Vec::new();
        for (target, warmth) in &mut self.targets {
            let Warmth::Growing { since, over, step } = *warmth else { continue };
            let passed = now.saturating_duration_since(since).as_millis() * u128::from(STEPS);
            let steps = passed / over.as_millis().max(1) + 1;
            let reached = u8::try_from(steps).unwrap_or(STEPS).min(STEPS);
            if reached > step {
                larger.push(*target);
                *warmth = match reached {
                    STEPS => Warmth::Warm,
                    step => Warmth::Growing { since, over, step },
                };
            }
        }
        self.look_ahead();
        larger
    }

    /// How many steps of its share a target has.
    pub(super) fn step(&self, service: Service, stack: StackIndex) -> u8 {
        match self.targets.get(&(service, stack)) {
            Some(Warmth::Growing { step, .. }) => *step,
            Some(Warmth::Cold | Warmth::Warm) | None => STEPS,
        }
    }

    /// Forgets targets that are none any more: their numbers may be given to others.
    pub(super) fn retain(&mut self, is: impl Fn(Service, StackIndex) -> bool) {
        self.targets.retain(|(service, stack), _| is(*service, *stack));
        self.look_ahead();
    }

    /// When [`Ramps::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    fn look_ahead(&mut self) {
        let next = |warmth: &Warmth| match warmth {
            Warmth::Growing { since, over, step } => {
                Some(*since + *over * u32::from(*step) / u32::from(STEPS))
            }
            Warmth::Cold | Warmth::Warm => None,
        };
        self.next = self.targets.values().filter_map(next).min();
    }
}

impl RoutingStack {
    /// Time passes: some shares are larger.
    pub(super) fn grow_shares(&mut self, now: Instant) {
        for (service, stack) in self.ramps.tick(now) {
            self.mark(Mark::Cell(service, stack), Urgency::Soon);
        }
    }
}

/// Whether a target serves new clients, as its state says; none: that says nothing of its server.
fn serves(state: TargetState) -> Option<bool> {
    match state {
        TargetState::Quiet | TargetState::Listening | TargetState::Full => Some(true),
        TargetState::NotListening
        | TargetState::TransferOnly
        | TargetState::NoRoutingApplication
        | TargetState::Draining
        | TargetState::WeightZero
        | TargetState::Failing
        | TargetState::Stalled => Some(false),
        TargetState::NeverSeen
        | TargetState::Lost
        | TargetState::AddressConflict
        | TargetState::Unreachable
        | TargetState::NotReported => None,
    }
}

/// The weight of a target among others, of which the heaviest weighs `largest`, while the share of one of them grows: all are weighed in
/// finer units if there is room for that.
pub(super) fn part(weight: u16, step: u8, largest: u16) -> u16 {
    let (step, steps) = (u16::from(step.min(STEPS)), u16::from(STEPS));
    match (weight, largest.checked_mul(steps)) {
        (0, _) => 0,
        (weight, Some(_)) => weight.saturating_mul(step),
        (weight, None) => {
            u16::try_from(u32::from(weight) * u32::from(step) / u32::from(steps)).unwrap_or(weight).max(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fixture::tcp;

    const LONG: Duration = Duration::from_secs(20);
    const T1: StackIndex = StackIndex(1);

    struct Bench {
        ramps: Ramps,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self { ramps: Ramps::new(now), now }
        }

        /// Whether its share begins to grow.
        fn see(&mut self, state: TargetState, settled: bool) -> bool {
            !self.ramps.see(vec![(tcp("198.18.9.1", 80), T1, state, LONG)], settled).is_empty()
        }

        /// Its share after this time.
        fn after(&mut self, seconds: u64) -> u8 {
            self.now += Duration::from_secs(seconds);
            self.ramps.tick(self.now);
            self.ramps.step(tcp("198.18.9.1", 80), T1)
        }
    }

    #[test]
    fn a_share_grows_in_ten_steps_and_nothing_is_due_afterwards() {
        let mut bench = Bench::new();
        assert!(bench.see(TargetState::Listening, true) && !bench.see(TargetState::Listening, true));
        let shares: Vec<u8> = std::iter::once(0).chain([2; 9]).map(|seconds| bench.after(seconds)).collect();
        assert_eq!(shares, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(bench.ramps.next_deadline(), None);
        assert!(!bench.see(TargetState::Quiet, true), "it is warm");
    }

    #[test]
    fn what_is_there_at_the_start_is_warm_and_so_is_what_was_lost_meanwhile() {
        let mut bench = Bench::new();
        assert!(!bench.see(TargetState::Listening, false));
        for state in [TargetState::Lost, TargetState::NotReported, TargetState::Listening] {
            assert!(!bench.see(state, true), "{state:?}");
        }
        for state in [TargetState::NotListening, TargetState::Failing, TargetState::Draining] {
            assert!(!bench.see(state, true) && bench.see(TargetState::Listening, true), "{state:?}");
        }
    }

    #[test]
    fn one_that_ends_meanwhile_begins_anew() {
        let mut bench = Bench::new();
        bench.see(TargetState::Listening, true);
        assert_eq!(bench.after(10), 6);
        bench.see(TargetState::Failing, true);
        bench.see(TargetState::Listening, true);
        assert_eq!((bench.after(0), bench.after(100)), (1, 10));
        bench.ramps.retain(|_, _| false);
        assert!(bench.see(TargetState::Listening, true), "it is forgotten");
    }

    #[test]
    fn weights_are_finer_while_a_share_grows_and_never_nothing() {
        assert_eq!([part(1, 3, 1), part(1, 10, 1), part(0, 3, 1)], [3, 10, 0]);
        assert_eq!([part(5, 5, 60_000), part(60_000, 10, 60_000), part(1, 1, 60_000)], [2, 60_000, 1]);
    }
}
