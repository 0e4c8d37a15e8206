use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use model::dpt::Method;
use model::{DvipaIndex, Protocol};
use proptest::prelude::*;

use super::super::tests::{dpt, node};
use super::super::{Neighbours, Service, Tables};
use super::*;
use crate::Now;
use crate::loads::{Lasting, Loads};

/// What each stack has to do, as a test says.
#[derive(Debug, Default)]
struct Said(HashMap<StackIndex, Burden>);

impl Counts for Said {
    fn connections_of(&self, stack: StackIndex) -> u64 {
        self.burden_of(stack).busy
    }

    fn burden_of(&self, stack: StackIndex) -> Burden {
        self.0.get(&stack).copied().unwrap_or_default()
    }
}

fn said(burdens: &[(u64, u32)]) -> Said {
    Said(
        (1..)
            .zip(burdens)
            .map(|(i, (busy, lasts_us))| (StackIndex(i), Burden { busy: *busy, lasts_us: *lasts_us }))
            .collect(),
    )
}

fn pairs(weights: &[u16]) -> Pairs {
    let targets =
        (1..).zip(weights).map(|(i, weight)| WeightedTarget { stack: StackIndex(i), weight: *weight });
    Pairs::new(&targets.collect::<Vec<_>>())
}

/// How often each target is picked in so many turns.
fn picked(pairs: &Pairs, counts: &Said, turns: u32) -> HashMap<u16, u32> {
    let mut picked = HashMap::new();
    for turn in 0..turns {
        *picked.entry(pairs.pick(turn, counts).unwrap().0).or_default() += 1;
    }
    picked
}

#[test]
fn one_target_gets_all_and_none_nothing() {
    assert_eq!(picked(&pairs(&[0, 7, 0]), &Said::default(), 50), HashMap::from([(2, 50)]));
    assert_eq!(pairs(&[0, 0]).pick(1, &Said::default()), None);
    assert_eq!(pairs(&[]).pick(1, &Said::default()), None);
}

#[test]
fn of_two_the_one_with_less_to_do_gets_all() {
    assert_eq!(picked(&pairs(&[1, 1]), &said(&[(3, 0), (2, 0)]), 99), HashMap::from([(2, 99)]));
    // For their weights: 7 of 3 and 4 of 2 with the new one.
    assert_eq!(picked(&pairs(&[3, 2]), &said(&[(6, 0), (3, 0)]), 99), HashMap::from([(2, 99)]));
    assert_eq!(picked(&pairs(&[3, 2]), &said(&[(4, 0), (3, 0)]), 99), HashMap::from([(1, 99)]));
    assert_eq!(picked(&pairs(&[1000, 999]), &said(&[(1, 0), (1, 0)]), 99), HashMap::from([(1, 99)]));
}

#[test]
fn of_two_that_have_nothing_to_do_each_gets_what_its_weight_says_however_quick_the_other_is() {
    let slow_start = picked(&pairs(&[10, 1]), &said(&[(0, 0), (0, 0)]), 11_000);
    assert!((900..=1_100).contains(&slow_start[&2]), "{slow_start:?}");
    let fails_at_once = picked(&pairs(&[1, 1]), &said(&[(0, 10_000), (0, 200)]), 10_000);
    assert!((4_800..=5_200).contains(&fails_at_once[&1]), "{fails_at_once:?}");
}

#[test]
fn the_one_whose_connections_last_longer_gets_fewer_but_a_quarter_of_the_others_at_least() {
    let both =
        |burdens: &[(u64, u32)]| picked(&pairs(&[1, 1]), &said(burdens), 9).into_keys().next().unwrap();
    assert_eq!(both(&[(5, 1000), (2, 2100)]), 1, "six times 1000 is less than three times 2100");
    assert_eq!(both(&[(5, 1000), (2, 1900)]), 2);
    assert_eq!(both(&[(8, 1000), (1, u32::MAX)]), 2, "nine against two of at most four times as long");
    assert_eq!(both(&[(6, 1000), (1, u32::MAX)]), 1);
    assert_eq!(both(&[(5, 0), (2, u32::MAX)]), 2, "of one it is not known");
    assert_eq!(both(&[(5, 1), (2, 0)]), 2);
}

#[test]
fn equal_targets_get_equal_shares_and_others_those_of_their_weights() {
    let all = picked(&pairs(&[1, 1, 1, 0, 1]), &Said::default(), 40_000);
    assert!(!all.contains_key(&4));
    assert!(all.values().all(|count| (9_600..=10_400).contains(count)), "{all:?}");
    // Who has little weight is drawn seldom, also beside one that is better.
    let drawn = picked(&pairs(&[1, 1, 18]), &said(&[(0, 0), (999, 0), (999, 0)]), 20_000);
    // 1/20 first, or second after another: 1/20 · 1/19 + 18/20 · 1/2.
    assert!((9_900..=10_600).contains(&drawn[&1]), "{drawn:?}");
}

proptest! {
    /// Whatever the weights and burdens: only a target that takes connections is picked, and never the one that has most to do for its
    /// weight if another is drawn with it.
    #[test]
    fn only_a_taker_is_picked_and_never_the_worst_of_all(
        targets in proptest::collection::vec((0..5_u16, 0..9_u64), 1..9),
        turn in any::<u32>(),
    ) {
        let weights: Vec<u16> = targets.iter().map(|(weight, _)| *weight).collect();
        let burdens: Vec<(u64, u32)> = targets.iter().map(|(_, busy)| (*busy, 0)).collect();
        let (pairs, counts) = (pairs(&weights), said(&burdens));
        let takers: BTreeSet<u16> = (1..).zip(&weights).filter(|(_, w)| **w > 0).map(|(i, _)| i).collect();
        let picked = pairs.pick(turn, &counts).map(|stack| stack.0);
        prop_assert_eq!(picked.is_none(), takers.is_empty());
        let Some(picked) = picked else { return Ok(()) };
        prop_assert!(takers.contains(&picked), "{} of {:?}", picked, weights);
        let cost = |stack: u16| {
            let (weight, busy) = targets[usize::from(stack) - 1];
            (busy + 1) as f64 / f64::from(weight)
        };
        // Of two that have nothing to do, the draw decides.
        let is_busy = burdens[usize::from(picked) - 1].0 > 0;
        let is_worst = is_busy && takers.iter().all(|stack| *stack == picked || cost(*stack) < cost(picked));
        prop_assert!(takers.len() == 1 || !is_worst, "{} of {:?}", picked, targets);
    }
}

/// Servers that each share their speed among the requests that they have, on virtual time.
struct Sim {
    servers: Vec<Server>,
    loads: Loads,
}

struct Server {
    speed: f64,
    /// What each request there has been given so far, in seconds of a server of speed 1.
    given: f64,
    /// When requests end, as `given` goes, and when they came.
    requests: BinaryHeap<Reverse<(u64, u64)>>,
    lasting: Lasting,
}

impl Counts for Sim {
    fn connections_of(&self, stack: StackIndex) -> u64 {
        self.servers[usize::from(stack.0) - 1].requests.len() as u64
    }

    fn burden_of(&self, stack: StackIndex) -> Burden {
        self.loads.burden(stack, self.connections_of(stack))
    }
}

/// What clients see: seconds from request to answer.
#[derive(Debug)]
struct Times {
    p50: f64,
    p99: f64,
    /// Which part of all the last server was given.
    last: f64,
}

/// Positive numbers in their order.
fn bits(number: f64) -> u64 {
    number.to_bits()
}

impl Server {
    /// How long it takes until the next request ends.
    fn next(&self) -> Option<f64> {
        let Reverse((end, _)) = self.requests.peek()?;
        Some((f64::from_bits(*end) - self.given).max(0.0) * self.requests.len() as f64 / self.speed)
    }

    fn pass(&mut self, time: f64) {
        self.given += time * self.speed / self.requests.len().max(1) as f64;
    }
}

/// Requests of a heavy-tailed cost (Pareto, 1.4, of 2 ms to 1 s) come as a Poisson process, so many that all servers together are used to
/// this part. `measured`: for how long connections last is known.
fn simulate((method, measured): (Method, bool), speeds: &[f64], used: f64, seed: u64) -> Times {
    const COUNT: usize = 30_000;
    const STEP: f64 = 0.01;
    let weights = vec![1; speeds.len()];
    let tables = Tables::build(&dpt(method, &weights, vec![]), &Neighbours::new(), &node());
    let service: &Service = tables.service(DvipaIndex(0), 80, Protocol::Tcp).unwrap();
    let server = |speed: &f64| Server {
        speed: *speed,
        given: 0.0,
        requests: BinaryHeap::new(),
        lasting: Lasting::default(),
    };
    let mut sim = Sim { servers: speeds.iter().map(server).collect(), loads: Loads::default() };
    let mut random = fastrand::Rng::with_seed(seed);
    let costs: Vec<f64> =
        (0..COUNT).map(|_| (0.002 * (1.0 - random.f64()).powf(-1.0 / 1.4)).min(1.0)).collect();
    let rate = used * speeds.iter().sum::<f64>() * COUNT as f64 / costs.iter().sum::<f64>();
    let mut gap = || -(1.0 - random.f64()).ln() / rate;

    let (mut now, mut arrives, mut looks, mut last) = (0.0, gap(), STEP, 0);
    let mut times = Vec::new();
    let mut costs = costs.iter().enumerate();
    let mut waiting = costs.next();
    while let Some((number, cost)) = waiting {
        let ends = sim.servers.iter().enumerate().filter_map(|(at, server)| Some((now + server.next()?, at)));
        let ends = ends.min_by(|one, other| one.0.total_cmp(&other.0));
        let then = arrives.min(looks).min(ends.map_or(f64::MAX, |(end, _)| end));
        sim.servers.iter_mut().for_each(|server| server.pass(then - now));
        now = then;
        if let Some((_, at)) = ends.filter(|(end, _)| *end == then) {
            let Reverse((_, came)) = sim.servers[at].requests.pop().unwrap();
            times.push(now - f64::from_bits(came));
            sim.loads.ended(StackIndex(at as u16 + 1), 1);
        } else if looks == then {
            looks += if measured { STEP } else { f64::MAX };
            for (stack, server) in (1..).map(StackIndex).zip(&mut sim.servers) {
                sim.loads.pass(stack, server.requests.len() as u64, &mut server.lasting, STEP * 1000.0);
            }
        } else {
            arrives += gap();
            let client = (IpAddr::V4(Ipv4Addr::from_bits(number as u32)), 1).into();
            let stack = service.pick(client, &sim, Now::default()).unwrap();
            last += usize::from(usize::from(stack.0) == speeds.len());
            let server = &mut sim.servers[usize::from(stack.0) - 1];
            server.requests.push(Reverse((bits(server.given + cost), bits(now))));
            waiting = costs.next();
        }
    }
    // Those that are still there have waited so long at least.
    let there = sim.servers.iter().flat_map(|server| &server.requests);
    times.extend(there.map(|Reverse((_, came))| now - f64::from_bits(*came)));
    times.sort_by(f64::total_cmp);
    let of = |part: f64| times[(times.len() as f64 * part) as usize];
    Times { p50: of(0.5), p99: of(0.99), last: last as f64 / COUNT as f64 }
}

#[test]
fn of_three_servers_of_which_one_has_a_third_of_the_speed_clients_wait_least_by_power_of_two() {
    let methods = [
        (Method::RoundRobin, false),
        (Method::LeastConnections, false),
        (Method::PowerOfTwo, false),
        (Method::PowerOfTwo, true),
    ];
    for seed in 1..=3 {
        let all = methods.map(|method| simulate(method, &[1.0, 1.0, 1.0 / 3.0], 0.6, seed));
        let [round, least, counted, measured] = &all;
        assert!(measured.p99 < least.p99 && least.p99 < round.p99, "seed {seed}: {all:?}");
        assert!(measured.p99 < counted.p99, "seed {seed}: how long connections last is worth it: {all:?}");
        assert!(
            measured.p50 < round.p50 && measured.last < counted.last && measured.last < 0.18,
            "seed {seed}: a seventh is its part, and a third of what comes when nobody is busy: {all:?}"
        );
    }
}
