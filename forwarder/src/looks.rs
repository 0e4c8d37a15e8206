//! How far the stacks have looked for connections that they were asked about.
//!
//! A stack that is asked about a connection ([`path`](crate::path)) says yes or nothing. Its silence is a no only when it has looked: the
//! control thread tells it the time, and it answers when it has reported all that its kernel had told by then. Its answer comes behind its
//! reports, so that with the answer their entries are in the CRT. How busy it is, and how often it gives a sign of life, does not matter.
//!
//! The control thread writes, workers read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::StackIndex;

use crate::Now;

/// What the control thread and the workers share. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Looks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// A worker waits for answers.
    wanted: AtomicBool,
    of: Box<[Look]>,
}

/// The stack has reported what it was asked about from `since` to `until`.
#[derive(Debug, Default)]
struct Look {
    since: AtomicU64,
    until: AtomicU64,
}

impl Default for Looks {
    /// Nobody has looked.
    fn default() -> Self {
        let of = (0..=StackIndex::MAX).map(|_| Look::default()).collect();
        Self(Arc::new(Shared { wanted: AtomicBool::new(false), of }))
    }
}

/// Always: what is made for a node does not depend on it.
impl PartialEq for Looks {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Looks {}

impl Looks {
    /// This stack's reports of what it was asked about from `since` to `until` are in the CRT. One thread says so.
    pub fn looked(&self, stack: StackIndex, since: Now, until: Now) {
        let Some(look) = self.0.of.get(usize::from(stack.0)) else { return };
        if look.since.load(Ordering::Relaxed) != since.ms {
            // No reader joins the former beginning with the new end.
            look.until.store(0, Ordering::Release);
            look.since.store(since.ms, Ordering::Release);
        }
        // Release: who reads this finds the entries of the reports, and `since`.
        look.until.store(until.ms, Ordering::Release);
    }

    /// Whether a stack had looked for what it was asked at a time, when that had had until another one to reach it.
    pub(crate) fn cover(&self, stack: StackIndex, asked: Now, arrived: Now) -> bool {
        let Some(look) = self.0.of.get(usize::from(stack.0)) else { return false };
        // Acquire: see `looked`.
        arrived.ms <= look.until.load(Ordering::Acquire) && look.since.load(Ordering::Acquire) <= asked.ms
    }

    /// Answers are waited for.
    pub fn want(&self) {
        // Relaxed: nothing is read because of it.
        if !self.0.wanted.load(Ordering::Relaxed) {
            self.0.wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether they are; not any more then.
    pub fn take_wanted(&self) -> bool {
        self.0.wanted.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_beginning_of_a_look_to_its_end() {
        let (looks, stack, at) = (Looks::default(), StackIndex(3), |ms| Now { ms });
        assert!(!looks.cover(stack, at(0), at(220)), "it has not looked");
        looks.looked(stack, at(100), at(500));
        assert!(looks.cover(stack, at(100), at(320)));
        assert!(looks.cover(stack, at(280), at(500)));
        assert!(!looks.cover(stack, at(281), at(501)), "it may not have come by then");
        assert!(!looks.cover(stack, at(99), at(319)), "what was told then may be lost");
        assert!(!looks.cover(StackIndex(2), at(100), at(320)), "another stack");
        looks.looked(stack, at(600), at(900));
        assert!(!looks.cover(stack, at(280), at(500)));
        assert!(looks.cover(stack, at(600), at(820)));
        looks.looked(StackIndex(u16::MAX), at(0), at(1));
        assert!(!looks.cover(StackIndex(u16::MAX), at(0), at(0)), "no such stack");
    }

    #[test]
    fn that_answers_are_wanted_is_taken_once() {
        let looks = Looks::default();
        looks.clone().want();
        assert_eq!((looks.take_wanted(), looks.take_wanted()), (true, false));
    }
}
