//! Tokens that stacks give to the workers: which are nearly used up, and what has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use forwarder::{Now, Pool};
use model::StackIndex;
use model::dpt::{Dpt, Reach, StackState};
use model::handoff::Token;

use super::Plane;

/// Tokens of one stack that are kept at most: two batches of an agent's, so that none is of a batch that is void.
const ROOM: usize = 4096;
/// A stack is asked for more when fewer are left.
const LOW: usize = 1536;
/// It is asked again after so many milliseconds if nothing has come.
const AGAIN_MS: u64 = 1000;

/// When which stack was asked, if nothing has come since.
pub(super) type Asked = BTreeMap<StackIndex, Now>;

/// The stacks that first requests may go to.
pub(super) fn routed(dpt: &Dpt) -> BTreeSet<StackIndex> {
    let routings = dpt.distributions.iter().filter_map(|row| row.routing.as_ref());
    routings.flat_map(|routing| routing.targets.iter().flatten()).map(|target| target.stack).collect()
}

impl Plane {
    /// The stacks whose tokens are nearly used up, of those that requests go to; each once until something comes.
    pub(super) fn tokens_low(&mut self, now: Now) -> Vec<StackIndex> {
        if self.routed.is_empty() {
            return Vec::new();
        }
        let pools = self.node.shared.pools.load();
        let reached = |stack: &StackIndex| {
            let entry = model::dpt::stack_of(&self.dpt.stacks, *stack);
            entry.is_some_and(|entry| entry.reach != Reach::Local && entry.state == StackState::Up)
        };
        let is_low = |stack: &StackIndex| pools.get(*stack).is_none_or(|pool| pool.len() < LOW);
        let low: Vec<StackIndex> = self.routed.iter().copied().filter(reached).filter(is_low).collect();
        let due = |asked: Option<&Now>| asked.is_none_or(|at| now.ms.saturating_sub(at.ms) >= AGAIN_MS);
        let asked: Vec<StackIndex> = low.into_iter().filter(|stack| due(self.asked.get(stack))).collect();
        self.asked.extend(asked.iter().map(|stack| (*stack, now)));
        asked
    }

    /// A stack gives tokens, or voids those that it gave.
    pub(super) fn take_tokens(&mut self, stack: StackIndex, tokens: Option<Vec<Token>>) {
        self.asked.remove(&stack);
        let current = self.node.shared.pools.load_full();
        match (current.get(stack), tokens) {
            (Some(pool), Some(tokens)) => pool.fill(tokens),
            (None, Some(tokens)) => {
                let pool = Pool::new(ROOM);
                pool.fill(tokens);
                self.pools.replace(&self.node.shared.pools, current.with(stack, Some(Arc::new(pool))));
            }
            (Some(_), None) => self.pools.replace(&self.node.shared.pools, current.with(stack, None)),
            (None, None) => {}
        }
    }
}
