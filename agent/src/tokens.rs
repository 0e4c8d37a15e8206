//! Tokens that routing stacks are given ahead of connections, so that they can hand one over without asking: who has which. Pure.
//!
//! Tokens are given out in batches, each with a range of the kernel's places to itself. A routing stack has [`LIVE`] batches at most:
//! the next one takes the range of its oldest, whose tokens are void from then on. It uses them in their order and asks when half of
//! a batch is left, so that it has none of them any more. When its session is over, its tokens are void.

use std::collections::VecDeque;
use std::ops::Range;

use model::StackName;

/// Tokens of a batch.
pub const BATCH: u32 = 2048;
/// Places of the kernel's table, as in bpf/tokens.h; a test compares them.
pub const PLACES: u32 = 65_536;
/// Batches that a routing stack has at most.
const LIVE: usize = 4;

/// A batch's number among the ranges.
type Number = u32;

/// Who has which batches.
#[derive(Debug, Default)]
pub struct Tokens {
    /// In the order in which they were given.
    given: VecDeque<(StackName, Number)>,
}

impl Tokens {
    /// The range of a batch for a routing stack; `None`: all are others'.
    pub fn next(&mut self, to: &StackName) -> Option<Range<u32>> {
        let has = self.given.iter().filter(|(stack, _)| stack == to).count();
        let number = if has >= LIVE {
            let oldest = self.given.iter().position(|(stack, _)| stack == to)?;
            self.given.remove(oldest)?.1
        } else {
            (0..PLACES / BATCH).find(|number| self.given.iter().all(|(_, given)| given != number))?
        };
        self.given.push_back((to.clone(), number));
        Some(places(number))
    }

    /// The session with a routing stack is over: these ranges are to be voided.
    pub fn session_over(&mut self, stack: &StackName) -> Vec<Range<u32>> {
        let (over, others) = self.given.drain(..).partition(|(to, _)| to == stack);
        let over: VecDeque<(StackName, Number)> = over;
        self.given = others;
        over.into_iter().map(|(_, number)| places(number)).collect()
    }
}

fn places(number: Number) -> Range<u32> {
    number * BATCH..(number + 1) * BATCH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(name: &str) -> StackName {
        StackName::new(name).unwrap()
    }

    #[test]
    fn a_fifth_batch_takes_the_place_of_the_first() {
        let mut tokens = Tokens::default();
        let (a, b) = (stack("a"), stack("b"));
        let first = tokens.next(&a).unwrap();
        let others: Vec<_> = (0..3).map(|_| tokens.next(&a).unwrap()).collect();
        let of_b = tokens.next(&b).unwrap();
        assert!(!others.contains(&first) && !others.contains(&of_b));
        assert_eq!(tokens.next(&a), Some(first));
        assert_eq!(tokens.next(&a), others.first().cloned());
        assert_eq!(tokens.session_over(&a).len(), LIVE);
        assert_eq!(tokens.session_over(&b), vec![of_b]);
    }

    #[test]
    fn nobody_takes_what_others_have() {
        let mut tokens = Tokens::default();
        let stacks = PLACES / BATCH / LIVE as u32;
        for n in 0..stacks * LIVE as u32 {
            assert!(tokens.next(&stack(&format!("s{}", n % stacks))).is_some());
        }
        assert_eq!(tokens.next(&stack("late")), None);
        assert!(tokens.next(&stack("s0")).is_some());
    }

    #[test]
    fn the_programs_have_as_many_places() {
        let header = include_str!("../bpf/tokens.h");
        assert!(header.lines().any(|line| line == format!("#define TOKENS {PLACES}")));
    }
}
