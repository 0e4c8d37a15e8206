//! Two targets, drawn by weight, of which the one is taken that has less to do (power of two choices).
//!
//! Each draw costs two binary searches, however many targets there are. Draws follow from the number of the turn alone, so that
//! a question is answered as a worker would decide, and workers never wait for each other.

use model::StackIndex;
use model::dpt::WeightedTarget;

use super::choice::Counts;
use super::maglev::mix;
use crate::loads::Burden;

/// How many times as long connections may last at a target for it to count: what is measured of a few, or of different services, is not
/// exact, and no target is to be left out for it.
const MOST_TIMES: u64 = 4;
/// Ratios are in this many parts.
const PARTS: u64 = 16;

/// A target, and the sum of its weight and those before it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    up_to: u64,
    weight: u64,
    stack: StackIndex,
}

/// The targets that are drawn from.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    slots: Box<[Slot]>,
    total: u64,
}

impl Pairs {
    /// Of these; those of weight 0 are never drawn.
    pub(super) fn new(targets: &[WeightedTarget]) -> Self {
        let mut total: u64 = 0;
        let slots = targets.iter().filter(|target| target.weight > 0).map(|target| {
            let weight = u64::from(target.weight);
            total = total.saturating_add(weight);
            Slot { up_to: total, weight, stack: target.stack }
        });
        let slots = slots.collect();
        Self { slots, total }
    }

    /// The better one of this turn's two; the only one, if there are no two.
    pub(super) fn pick(&self, turn: u32, counts: &impl Counts) -> Option<StackIndex> {
        let (one, other) = self.draw(turn)?;
        let Some(other) = other else { return Some(one.stack) };
        let (of_one, of_other) = (counts.burden_of(one.stack), counts.burden_of(other.stack));
        // Where neither has anything to do, the draw decides, which was by weight.
        if of_one.busy == 0 && of_other.busy == 0 {
            return Some(one.stack);
        }
        let is_better = costs((of_other, other), of_one) < costs((of_one, one), of_other);
        Some(if is_better { other.stack } else { one.stack })
    }

    /// This turn's two, each drawn with the chance that its weight gives it, and never the same one twice.
    fn draw(&self, turn: u32) -> Option<(&Slot, Option<&Slot>)> {
        let random = mix(turn.into());
        let one = self.at(below(random >> 32, self.total))?;
        // The second from those before and behind the first.
        let rest = self.total.saturating_sub(one.weight);
        let at = below(random & u64::from(u32::MAX), rest);
        let before = one.up_to.saturating_sub(one.weight);
        let at = if at < before { at } else { at.saturating_add(one.weight) };
        Some((one, self.at(at)))
    }

    fn at(&self, at: u64) -> Option<&Slot> {
        self.slots.get(self.slots.partition_point(|slot| slot.up_to <= at))
    }
}

/// A number below another one, from 32 random bits. The sum of all weights has no more.
fn below(random: u64, limit: u64) -> u64 {
    random.wrapping_mul(limit) >> 32
}

/// What one more connection would cost at a target, beside another one: what it has to do then, times how long that takes, for its weight.
fn costs((of, target): (Burden, &Slot), other: Burden) -> u64 {
    let busy = of.busy.saturating_add(1).saturating_mul(times(of.lasts_us, other.lasts_us));
    // 16 bits of a ratio, so that weights up to 65 535 tell.
    busy.saturating_mul(1 << 16).checked_div(target.weight).unwrap_or(u64::MAX)
}

/// How many times as long connections last as those of another target, in [`PARTS`]; the same if either is not known.
fn times(lasts_us: u32, other_us: u32) -> u64 {
    let parts = u64::from(lasts_us).saturating_mul(PARTS).checked_div(other_us.into());
    let parts = parts.filter(|_| lasts_us > 0).unwrap_or(PARTS);
    parts.clamp(PARTS, PARTS.saturating_mul(MOST_TIMES))
}

#[cfg(test)]
mod tests;
