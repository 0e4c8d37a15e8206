//! One set of targets and the method by which one of them is selected.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use model::dpt::WeightedTarget;
use model::{StackIndex, StackName};

use super::affinity::{Affinities, network};
use super::maglev::Maglev;
use super::pair::Pairs;
use super::service::Stacks;
use crate::Now;
use crate::crt::Crt;
use crate::loads::Burden;

/// Where a rotation is. Shared by all workers, so that their selections interleave; outlives the tables, so that it
/// goes on where it was. Relaxed: only its own order counts.
pub(super) type Turn = Arc<AtomicU32>;

/// How many connections a stack has or is about to have.
pub(crate) trait Counts {
    /// Those of this stack.
    fn connections_of(&self, stack: StackIndex) -> u64;

    /// What this stack has to do.
    fn burden_of(&self, stack: StackIndex) -> Burden;
}

impl Counts for Crt {
    #[inline]
    fn connections_of(&self, stack: StackIndex) -> u64 {
        let count = self.stack_count(stack);
        u64::from(count.connections).saturating_add(count.half_open.into())
    }

    #[inline]
    fn burden_of(&self, stack: StackIndex) -> Burden {
        self.loads().burden(stack, self.connections_of(stack))
    }
}

/// Selects a target for a new connection.
#[derive(Debug)]
pub(super) enum Choice {
    /// Round robin, with or without weights: the list is gone through.
    Rotation { list: Box<[StackIndex]>, turn: Turn },
    /// Least connections.
    Least { targets: Box<[WeightedTarget]>, turn: Turn },
    /// Power of two choices.
    Pair { pairs: Pairs, turn: Turn },
    /// By the client's address and port.
    Maglev(Arc<Maglev>),
    /// By the client's address.
    Source(Arc<Maglev>),
    /// Hot standby: this one.
    First(Option<StackIndex>),
    /// One of these, but none that has as many connections as it may.
    Limited(Box<Limited>),
    /// The one that the client has, or one of these.
    Sticky(Box<Sticky>),
}

/// Targets whose clients keep theirs for a time.
#[derive(Debug)]
pub(super) struct Sticky {
    method: Choice,
    /// Those that may be selected.
    takers: Stacks,
    affinities: Arc<Affinities>,
    keep_s: u16,
    /// What is picked is remembered.
    remembers: bool,
}

impl Sticky {
    /// By this method, which is none of these itself.
    pub(super) fn new(
        method: Choice,
        targets: &[WeightedTarget],
        (affinities, keep_s): (Arc<Affinities>, u16),
    ) -> Self {
        let takers = targets.iter().filter(|target| target.weight > 0).map(|target| target.stack).collect();
        Self { method, takers, affinities, keep_s, remembers: true }
    }

    /// The target that the client has.
    fn kept(&self, client: SocketAddr, now: Now) -> Option<StackIndex> {
        self.affinities.target(client.ip(), self.keep_s, now)
    }

    /// The same, if it takes new connections.
    fn taker(&self, client: SocketAddr, now: Now) -> Option<StackIndex> {
        self.kept(client, now).filter(|stack| self.takers.has(*stack))
    }

    fn pick(&self, client: SocketAddr, counts: &impl Counts, now: Now) -> Option<StackIndex> {
        let has_room = |stack: &StackIndex| match &self.method {
            Choice::Limited(limited) => limited.has_room(*stack, counts),
            _ => true,
        };
        let kept = self.kept(client, now);
        kept.filter(|stack| self.takers.has(*stack) && has_room(stack)).or_else(|| {
            let picked = self.method.pick(client, counts, now)?;
            let in_force = || self.affinities.selected(client.ip(), (kept, picked), self.keep_s, now);
            Some(if self.remembers { in_force() } else { picked })
        })
    }
}

/// How often a method is asked for a target that has room; after that any that has is taken.
const TRIES: usize = 8;

/// Targets that may have so many connections, of all their services together.
#[derive(Debug)]
pub(super) struct Limited {
    method: Choice,
    most: u64,
    /// Those that may be selected, the heaviest first.
    targets: Box<[WeightedTarget]>,
}

impl Limited {
    /// By this method, which is none with a limit.
    pub(super) fn new(method: Choice, most: NonZeroU32, targets: &[WeightedTarget]) -> Self {
        let mut targets: Vec<_> = targets.iter().filter(|target| target.weight > 0).copied().collect();
        targets.sort_by_key(|target| Reverse(target.weight));
        Self { method, most: u64::from(most.get()), targets: targets.into() }
    }

    fn has_room(&self, stack: StackIndex, counts: &impl Counts) -> bool {
        counts.connections_of(stack) < self.most
    }

    fn pick(&self, client: SocketAddr, counts: &impl Counts, now: Now) -> Option<StackIndex> {
        let has_room = |stack: &StackIndex| self.has_room(*stack, counts);
        let tries = if self.method.turn().is_some() { TRIES } else { 1 };
        let mut picks = (0..tries).map_while(|_| self.method.pick(client, counts, now));
        picks.find(has_room).or_else(|| {
            let mut others = self.targets.iter().filter(|target| has_room(&target.stack));
            match self.method {
                Choice::First(_) => others.next().map(|target| target.stack),
                _ => least(others, counts),
            }
        })
    }
}

impl Choice {
    /// The same with a rotation of its own, which is where this one's is; it remembers nothing of clients.
    pub(super) fn apart(&self) -> Self {
        let copy = |turn: &Turn| Arc::new(AtomicU32::new(turn.load(Ordering::Relaxed)));
        match self {
            Choice::Rotation { list, turn } => Choice::Rotation { list: list.clone(), turn: copy(turn) },
            Choice::Least { targets, turn } => Choice::Least { targets: targets.clone(), turn: copy(turn) },
            Choice::Pair { pairs, turn } => Choice::Pair { pairs: pairs.clone(), turn: copy(turn) },
            Choice::Maglev(table) => Choice::Maglev(Arc::clone(table)),
            Choice::Source(table) => Choice::Source(Arc::clone(table)),
            Choice::First(target) => Choice::First(*target),
            Choice::Limited(limited) => Choice::Limited(Box::new(Limited {
                method: limited.method.apart(),
                most: limited.most,
                targets: limited.targets.clone(),
            })),
            Choice::Sticky(sticky) => Choice::Sticky(Box::new(Sticky {
                method: sticky.method.apart(),
                takers: sticky.takers.clone(),
                affinities: Arc::clone(&sticky.affinities),
                keep_s: sticky.keep_s,
                remembers: false,
            })),
        }
    }

    /// Where its rotation is, if it has one.
    pub(super) fn turn(&self) -> Option<&Turn> {
        match self {
            Choice::Rotation { turn, .. } | Choice::Least { turn, .. } | Choice::Pair { turn, .. } => {
                Some(turn)
            }
            Choice::Limited(limited) => limited.method.turn(),
            Choice::Sticky(sticky) => sticky.method.turn(),
            Choice::Maglev(_) | Choice::Source(_) | Choice::First(_) => None,
        }
    }

    /// The same for a client that is there already: for it targets have no limit.
    pub(super) fn unlimited(&self) -> &Self {
        match self {
            Choice::Limited(limited) => &limited.method,
            choice => choice,
        }
    }

    /// Whether there are targets: if none of them is picked, each has as many connections as it may.
    pub(super) fn is_limited(&self) -> bool {
        match self {
            Choice::Limited(limited) => !limited.targets.is_empty(),
            Choice::Sticky(sticky) => sticky.method.is_limited(),
            _ => false,
        }
    }

    /// The target, if there is one that takes new connections.
    pub(super) fn pick(&self, client: SocketAddr, counts: &impl Counts, now: Now) -> Option<StackIndex> {
        match self {
            Choice::Rotation { list, turn } => {
                let turn = turn.fetch_add(1, Ordering::Relaxed) as usize;
                list.get(turn.checked_rem(list.len())?).copied()
            }
            Choice::Least { targets, turn } => {
                let start = (turn.fetch_add(1, Ordering::Relaxed) as usize).checked_rem(targets.len())?;
                let (behind, ahead) = targets.split_at_checked(start)?;
                least(ahead.iter().chain(behind), counts)
            }
            Choice::Pair { pairs, turn } => pairs.pick(turn.fetch_add(1, Ordering::Relaxed), counts),
            Choice::Maglev(table) => table.pick(client.ip(), client.port()),
            Choice::Source(table) => table.pick(network(client.ip()), 0),
            Choice::First(target) => *target,
            Choice::Limited(limited) => limited.pick(client, counts, now),
            Choice::Sticky(sticky) => sticky.pick(client, counts, now),
        }
    }

    /// The target that the client's address and port alone tell.
    pub(super) fn hashed(&self, client: SocketAddr, now: Now) -> Option<StackIndex> {
        match self {
            Choice::Maglev(table) => table.pick(client.ip(), client.port()),
            Choice::Source(table) => table.pick(network(client.ip()), 0),
            Choice::First(target) => *target,
            Choice::Limited(limited) => limited.method.hashed(client, now),
            Choice::Sticky(sticky) => sticky.taker(client, now).or_else(|| sticky.method.hashed(client, now)),
            Choice::Rotation { .. } | Choice::Least { .. } | Choice::Pair { .. } => None,
        }
    }
}

/// The target with the highest weight, of equals the first by name.
pub(super) fn first(targets: &[(&StackName, WeightedTarget)]) -> Option<StackIndex> {
    let those = targets.iter().filter(|(_, target)| target.weight > 0);
    let heaviest = those.max_by_key(|(name, target)| (target.weight, Reverse(*name)));
    heaviest.map(|(_, target)| target.stack)
}

/// The target with the fewest connections for its weight, half-open ones included; of equals the first.
fn least<'t>(targets: impl Iterator<Item = &'t WeightedTarget>, counts: &impl Counts) -> Option<StackIndex> {
    let mut best: Option<(u64, u64, StackIndex)> = None;
    for target in targets {
        let (has, weight) = (counts.connections_of(target.stack), target.weight.into());
        let fewer = |(b, w, _): (u64, u64, _)| has.saturating_mul(w) < b.saturating_mul(weight);
        if best.is_none_or(fewer) {
            best = Some((has, weight, target.stack));
        }
    }
    best.map(|(.., stack)| stack)
}

/// Targets with the names that Maglev hashes.
pub(super) fn named<'n>(
    targets: &[WeightedTarget],
    name: impl Fn(StackIndex) -> Option<&'n StackName>,
) -> Vec<(&'n StackName, WeightedTarget)> {
    targets.iter().filter_map(|t| name(t.stack).map(|n| (n, *t))).collect()
}
