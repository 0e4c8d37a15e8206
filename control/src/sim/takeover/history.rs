//! What happens, in which order.

use fastrand::Rng;

use super::Scale;
use super::routing::{DVIPAS, NODES, Settings};

/// Ports on which applications listen.
pub(super) const PORTS: [u16; 3] = [80, 443, 8080];
/// Hosts with applications; the further ones are witnesses only.
pub(super) const TARGETS: usize = 3;

/// One thing that happens. It means something after any other, or nothing at all, so that a part of a history is one.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Time passes, and what is under way arrives.
    Wait {
        ms: u64,
    },
    /// An application begins to listen on the wildcard address, or stops.
    Listen {
        host: usize,
        port: u16,
        listens: bool,
    },
    /// Clients connect.
    Connect {
        dvipa: usize,
        port: u16,
        count: usize,
    },
    /// The oldest connections of a host end.
    Disconnect {
        host: usize,
        count: usize,
    },
    /// Applications ask for the oldest connections of a host to be moved to another.
    Transfer {
        host: usize,
        to: usize,
        count: usize,
    },
    /// Applications take ports of the host's blocks, or give back all.
    UsePorts {
        host: usize,
        dvipa: usize,
        ports: u32,
    },
    FreePorts {
        host: usize,
        dvipa: usize,
    },
    /// Nothing gets through for a while from the one to the other.
    Cut {
        from: End,
        to: End,
        ms: u64,
    },
    /// The same for all to and from one, or one of both.
    Isolate {
        end: End,
        hears: bool,
        is_heard: bool,
        ms: u64,
    },
    /// What it says takes this much longer.
    Slow {
        end: End,
        ms: u64,
    },
    /// A session breaks, and both ends notice.
    Break {
        one: End,
        other: End,
    },
    /// A process dies, and begins anew.
    Kill {
        end: End,
        back_ms: u64,
    },
    /// A process stands still, or its control thread alone: its workers go on.
    Stop {
        end: End,
        ms: u64,
        workers_run: bool,
    },
    /// A host dies with all that it has, and comes back without it.
    KillHost {
        host: usize,
        back_ms: u64,
    },
    /// Operators.
    Move {
        dvipa: usize,
        to: usize,
    },
    Leave {
        node: usize,
        leaves: bool,
    },
    Drain {
        host: usize,
        dvipa: usize,
    },
    Resume {
        host: usize,
        dvipa: usize,
    },
    Reload {
        node: usize,
        settings: Settings,
    },
}

/// A process that others have sessions with: a `batond`, or an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Node(usize),
    Host(usize),
}

/// A history out of chance.
pub(super) fn of(random: &mut Rng, scale: Scale) -> Vec<Step> {
    let mut steps = Vec::new();
    for host in 0..TARGETS {
        for port in [80, 443] {
            steps.push(Step::Listen { host, port, listens: random.u8(0..4) > 0 });
        }
    }
    steps.push(Step::Wait { ms: one(random, &[500, 4_500, 11_000]) });
    for _ in 0..12 + random.usize(0..24) {
        let next = step(random, scale);
        let moves = matches!(next, Step::Transfer { .. });
        steps.push(next);
        if moves && random.bool() {
            // At some step of the transfer.
            steps.push(Step::Wait { ms: one(random, &[1, 3, 8, 20, 60, 500]) });
            let end = End::Node(random.usize(0..NODES));
            let ms = one(random, &[400, 1_200, 2_500]);
            steps.push(match random.u8(0..4) {
                0 => Step::Stop { end, ms, workers_run: random.bool() },
                1 => Step::Isolate { end, hears: false, is_heard: false, ms },
                _ => Step::Kill { end, back_ms: ms * 2 },
            });
        }
        steps.push(Step::Wait { ms: one(random, &[0, 5, 40, 300, 700, 1_500]) });
    }
    steps
}

fn step(random: &mut Rng, scale: Scale) -> Step {
    let (node, host, dvipa) =
        (random.usize(0..NODES), random.usize(0..TARGETS), random.usize(0..DVIPAS.len()));
    let ends: Vec<End> = (0..NODES).map(End::Node).chain((0..scale.hosts()).map(End::Host)).collect();
    let end = one(random, &ends);
    let ms = one(random, &[50, 400, 700, 1_200, 2_500]);
    match random.u8(0..42) {
        0..=1 => Step::Listen { host, port: one(random, &PORTS), listens: random.u8(0..3) > 0 },
        2..=6 => Step::Connect { dvipa, port: one(random, &PORTS), count: random.usize(1..6) },
        7 => Step::Disconnect { host, count: random.usize(1..6) },
        8..=10 => Step::UsePorts { host, dvipa, ports: one(random, &[10, 600, 1_100]) },
        11 => Step::FreePorts { host, dvipa },
        12 => {
            let to = one(random, &ends);
            Step::Cut { from: end, to, ms }
        }
        13..=14 => {
            let (hears, is_heard) = one(random, &[(false, false), (true, false), (false, true)]);
            Step::Isolate { end, hears, is_heard, ms }
        }
        15..=16 => Step::Slow { end, ms: one(random, &[0, 2, 60, 300]) },
        17 => Step::Break { one: End::Node(node), other: end },
        18..=20 => Step::Kill { end: End::Node(node), back_ms: ms * 2 },
        21 => Step::Kill { end: End::Host(random.usize(0..scale.hosts())), back_ms: ms },
        22..=23 => Step::Stop { end: End::Node(node), ms, workers_run: random.bool() },
        24 => Step::Stop { end: End::Host(random.usize(0..scale.hosts())), ms, workers_run: false },
        25 => Step::KillHost { host, back_ms: ms * 2 },
        26..=28 => Step::Move { dvipa, to: node },
        29..=30 => Step::Leave { node, leaves: random.bool() },
        31..=32 => Step::Drain { host, dvipa },
        33 => Step::Resume { host, dvipa },
        34..=39 => Step::Transfer {
            host,
            to: (host + random.usize(1..TARGETS)) % TARGETS,
            count: random.usize(1..4),
        },
        _ => Step::Reload { node, settings: one(random, &Settings::EVERY) },
    }
}

pub(super) fn one<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(0..of.len())]
}
