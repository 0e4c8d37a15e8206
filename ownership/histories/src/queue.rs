//! What happens when.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::Nanos;

/// Everything that is to happen, in the order of its times; at one time in the order in which it was put here.
#[derive(Debug)]
pub struct Queue<T> {
    heap: BinaryHeap<Reverse<Due<T>>>,
    order: u64,
}

#[derive(Debug)]
struct Due<T> {
    at: Nanos,
    order: u64,
    what: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), order: 0 }
    }
}

impl<T> Queue<T> {
    /// This happens at this time.
    pub fn put(&mut self, at: Nanos, what: T) {
        self.order += 1;
        self.heap.push(Reverse(Due { at, order: self.order, what }));
    }

    /// When the next thing happens.
    pub fn next(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse(due)| due.at)
    }

    /// The next thing, which happens now.
    pub fn pop(&mut self) -> Option<T> {
        self.heap.pop().map(|Reverse(due)| due.what)
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_first_comes_first_and_what_happens_at_once_in_its_order() {
        let mut queue = Queue::default();
        for (at, what) in [(5, "d"), (2, "a"), (3, "b"), (3, "c")] {
            queue.put(at, what);
        }
        assert_eq!(queue.next(), Some(2));
        let order: Vec<&str> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!((order, queue.next()), (vec!["a", "b", "c", "d"], None));
    }
}
