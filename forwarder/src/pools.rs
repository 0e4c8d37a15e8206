//! Tokens that stacks gave out ahead, for connections that workers hand over without asking.
//!
//! A pool is filled by the control thread and emptied by the workers, without locks. Tokens leave it in the order in which they came,
//! so that the stack can tell which are still to come: it gives out a new batch when half of the last is left, and voids those before.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use model::StackIndex;
use model::handoff::Token;

/// The tokens of one stack.
#[derive(Debug)]
pub struct Pool(ArrayQueue<Token>);

impl Pool {
    /// An empty one with room for so many.
    pub fn new(room: usize) -> Self {
        Self(ArrayQueue::new(room.max(1)))
    }

    /// Adds tokens; those that find no room are lost.
    pub fn fill(&self, tokens: impl IntoIterator<Item = Token>) {
        for token in tokens {
            if self.0.push(token).is_err() {
                return;
            }
        }
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The pools of all stacks: an immutable snapshot, whose pools change.
#[derive(Clone, Debug, Default)]
pub struct Pools(Vec<Option<Arc<Pool>>>);

impl Pools {
    /// The pool of a stack, if it has given out tokens.
    pub fn get(&self, stack: StackIndex) -> Option<&Arc<Pool>> {
        self.0.get(usize::from(stack.0))?.as_ref()
    }

    /// These, with this pool of a stack, or with none.
    #[must_use]
    pub fn with(&self, stack: StackIndex, pool: Option<Arc<Pool>>) -> Self {
        let (mut pools, at) = (self.0.clone(), usize::from(stack.0));
        if pools.len() <= at {
            pools.resize(at.saturating_add(1), None);
        }
        if let Some(place) = pools.get_mut(at) {
            *place = pool;
        }
        Self(pools)
    }

    /// The next token of a stack.
    pub(crate) fn take(&self, stack: StackIndex) -> Option<Token> {
        self.get(stack)?.0.pop()
    }
}
