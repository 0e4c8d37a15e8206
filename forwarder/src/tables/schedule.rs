//! Weighted round robin: who is next, as a list to go through.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use model::StackIndex;
use model::dpt::WeightedTarget;

/// The longest list; weights that would need a longer one are rounded, but to no less than one turn.
const MAX_TURNS: u64 = 8192;

/// Every target once, weights ignored (but 0 is left out).
pub(super) fn equal(targets: &[WeightedTarget]) -> Box<[StackIndex]> {
    targets.iter().filter(|t| t.weight > 0).map(|t| t.stack).collect()
}

/// Every target as often as its weight says, evenly interleaved: the `k`-th of a target's `w` turns is due at
/// (2k + 1) / 2w of the round, and turns are taken when due.
pub(super) fn weighted(targets: &[WeightedTarget]) -> Box<[StackIndex]> {
    let weights = turns(targets);
    let mut due: BinaryHeap<_> =
        weights.iter().map(|(stack, w)| Reverse((Due::nth(0, *w), *stack, 0_u64, *w))).collect();
    let total = weights.iter().map(|(_, w)| *w).sum::<u64>();
    let mut list = Vec::with_capacity(usize::try_from(total).unwrap_or(0));
    while let Some(Reverse((_, stack, k, w))) = due.pop() {
        list.push(stack);
        let k = k.saturating_add(1);
        if k < w {
            due.push(Reverse((Due::nth(k, w), stack, k, w)));
        }
    }
    list.into()
}

/// Turns of each target in a round, divided by what they have in common.
fn turns(targets: &[WeightedTarget]) -> Vec<(StackIndex, u64)> {
    let weights = || targets.iter().map(|t| u64::from(t.weight)).filter(|w| *w > 0);
    let common = weights().fold(0, gcd).max(1);
    let total = weights().sum::<u64>().checked_div(common).unwrap_or(0);
    let scale = |w: u64| {
        let w = w.checked_div(common).unwrap_or(w);
        let scaled = w.saturating_mul(MAX_TURNS).checked_div(total).unwrap_or(w);
        if total <= MAX_TURNS { w } else { scaled.max(1) }
    };
    targets.iter().filter(|t| t.weight > 0).map(|t| (t.stack, scale(u64::from(t.weight)))).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    match b.checked_rem(a) {
        None => b,
        Some(rest) => gcd(rest, a),
    }
}

/// A moment of the round as an exact fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    numerator: u64,
    denominator: u64,
}

impl Due {
    fn nth(k: u64, weight: u64) -> Self {
        Self { numerator: k.saturating_mul(2).saturating_add(1), denominator: weight.saturating_mul(2) }
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let left = self.numerator.saturating_mul(other.denominator);
        left.cmp(&other.numerator.saturating_mul(self.denominator))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
