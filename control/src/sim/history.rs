//! What happens, in which order.

use super::settings::{NODES, PORTS, Settings, TARGETS};
use fastrand::Rng;

/// One thing that happens. It means something after any other, or nothing at all, so that a part of a history is one.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Time passes, and what is under way arrives.
    Wait { ms: u64 },
    /// An application begins to listen, on the DVIPAs or on the wildcard address.
    Listen { target: usize, port: u16, bound_to_dvipa: bool },
    /// It stops.
    Stop { target: usize, port: u16 },
    /// Connections begin at a target.
    Connect { target: usize, node: usize, count: usize },
    /// The oldest connections of a target end.
    Disconnect { target: usize, count: usize },
    /// A target's processors are this busy.
    Load { target: usize, cpu_permille: u16 },
    /// A session breaks, and both ends notice.
    Break { node: usize, target: usize },
    /// A session breaks, and only the target notices: its next session comes before the end of the former.
    BreakUnnoticed { node: usize, target: usize },
    /// Nothing gets through between the two, in either direction.
    Partition { node: usize, target: usize },
    /// It does again.
    Heal { node: usize, target: usize },
    /// Everything to and from the target takes this long.
    Slow { target: usize, ms: u64 },
    /// The routing node's process dies, with its CRT, and comes back.
    CrashNode { node: usize },
    /// The agent dies; applications and connections live on. It comes back.
    CrashAgent { target: usize },
    /// The host dies with all applications and connections. It comes back without them.
    CrashHost { target: usize },
    /// An operator.
    Drain { node: usize, target: usize },
    /// An operator.
    Resume { node: usize, target: usize },
    /// An operator.
    Reload { node: usize, settings: Settings },
    /// A controller.
    SetWeight { node: usize, target: usize, port: u16, weight: u16, seconds: u64 },
    /// A target repeats a report of a former epoch.
    SayOldEpoch { node: usize, target: usize, port: u16 },
    /// Not in any history: to see that a broken promise is found.
    BreakAPromise,
}

/// A history out of chance.
pub(super) fn of(random: &mut Rng) -> Vec<Step> {
    let length = 10 + random.usize(..50);
    (0..length)
        .flat_map(|_| [step(random), Step::Wait { ms: one(random, &[0, 1, 5, 30, 200, 2000]) }])
        .collect()
}

fn step(random: &mut Rng) -> Step {
    let (node, target, port) = (random.usize(..NODES), random.usize(..TARGETS), one(random, &PORTS));
    match random.usize(..24) {
        0..=4 => Step::Listen { target, port, bound_to_dvipa: random.usize(..2) == 0 },
        5..=6 => Step::Stop { target, port },
        7..=8 => Step::Connect { target, node, count: 1 + random.usize(..20) },
        9 => Step::Disconnect { target, count: 1 + random.usize(..20) },
        10 => Step::Load { target, cpu_permille: one(random, &[0, 100, 500, 1000]) },
        11 => Step::Break { node, target },
        12 => Step::BreakUnnoticed { node, target },
        13 => Step::Partition { node, target },
        14 => Step::Heal { node, target },
        15 => Step::Slow { target, ms: one(random, &[1, 10, 400, 1200]) },
        16 => Step::CrashNode { node },
        17 => Step::CrashAgent { target },
        18 => Step::CrashHost { target },
        19 => Step::Drain { node, target },
        20 => Step::Resume { node, target },
        21 => Step::Reload { node, settings: one(random, &Settings::EVERY) },
        22 => {
            let weight = one(random, &[0, 1, 50, 60_000]);
            Step::SetWeight { node, target, port, weight, seconds: one(random, &[1, 3, 30]) }
        }
        _ => Step::SayOldEpoch { node, target, port },
    }
}

fn one<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}
