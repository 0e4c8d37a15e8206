//! Who is killed when, and when started again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lab::Lab;

/// The victims; agents of hosts that have all connections come more often than `batond`.
const VICTIMS: [&str; 10] = [
    "agent-rt1",
    "agent-t1",
    "agent-t2",
    "agent-rt1",
    "agent-t1",
    "agent-t2",
    "agent-rt1",
    "agent-t1",
    "agent-t2",
    "batond",
];
/// Between two kills, ms.
const BETWEEN_MS: (u64, u64) = (50, 1000);
/// Until the victim is started again, ms: mostly soon.
const DEAD_MS: (u64, u64) = (50, 300);
/// One in so many stays dead for long.
const ONE_IN: u64 = 15;
const LONG_DEAD_MS: (u64, u64) = (300, 5000);

/// Numbers that follow from a seed (SplitMix64).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }

    fn between_ms(&mut self, (from, to): (u64, u64)) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// Kills one at a time, and several may be dead at once.
pub(crate) struct Killer {
    chance: Chance,
    kills: BTreeMap<&'static str, usize>,
}

impl Killer {
    pub(crate) fn new(seed: u64) -> Self {
        Self { chance: Chance::new(seed), kills: BTreeMap::new() }
    }

    pub(crate) fn kills(&self) -> usize {
        self.kills.values().sum()
    }

    pub(crate) fn by_victim(&self) -> &BTreeMap<&'static str, usize> {
        &self.kills
    }

    /// Kills so many, and returns when all are started again.
    pub(crate) fn kill(&mut self, lab: &Lab, kills: usize) {
        let mut dead: BTreeMap<&str, Instant> = BTreeMap::new();
        for _ in 0..kills {
            let next = Instant::now() + self.chance.between_ms(BETWEEN_MS);
            start_again(lab, &mut dead, next);
            let victim = VICTIMS[self.chance.below(VICTIMS.len() as u64) as usize];
            if dead.remove(victim).is_some() {
                start(lab, victim);
            }
            lab.kill(victim).expect("it is killed");
            *self.kills.entry(victim).or_default() += 1;
            let is_long = self.chance.below(ONE_IN) == 0;
            let dead_for = self.chance.between_ms(if is_long { LONG_DEAD_MS } else { DEAD_MS });
            dead.insert(victim, Instant::now() + dead_for);
        }
        while let Some(last) = dead.values().max().copied() {
            start_again(lab, &mut dead, last + Duration::from_millis(1));
        }
    }
}

/// Until then starts each process whose time has come.
fn start_again(lab: &Lab, dead: &mut BTreeMap<&str, Instant>, until: Instant) {
    loop {
        let due: Vec<_> = dead.iter().filter(|(_, at)| **at <= Instant::now()).map(|(who, _)| *who).collect();
        for victim in due {
            dead.remove(victim);
            start(lab, victim);
        }
        if Instant::now() >= until {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start(lab: &Lab, victim: &str) {
    let started = match victim.strip_prefix("agent-") {
        Some(stack) => lab.start_agent(stack),
        None => lab.start_batond(),
    };
    started.unwrap_or_else(|e| panic!("{e}"));
}
