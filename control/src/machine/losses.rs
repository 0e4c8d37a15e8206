//! Stacks that are not heard of.
//!
//! | state | when | what follows |
//! | --- | --- | --- |
//! | quiet | nothing heard for `quiet_after`, the session goes on | no new connections, unless no other target is left; SYNs on its half-open entries are selected anew, those on established ones wait; ends with the next sign of life |
//! | lost | its session is over | no new connections; SYNs on its entries are selected anew |
//! | dead | lost, and its host does not answer for its cluster address, or `dead_after` is over | its entries go |
//!
//! An agent that ended says nothing of its host, which may serve on; so nobody is dead without a second witness.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::dpt::StackState;
use model::{StackIndex, StackName};

use super::stacks::StackNow;

/// Who is not heard of, and since when.
#[derive(Debug, Default)]
pub(super) struct Losses {
    quiet: BTreeSet<StackName>,
    lost: BTreeMap<StackName, Lost>,
    /// Stacks whose host does not answer.
    silent_hosts: BTreeSet<StackIndex>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    since: Instant,
    /// For as long as the operator waits.
    for_good: bool,
}

impl Losses {
    /// Nothing was heard of the stack for a while, or it is heard again. `true`: that is news.
    pub(super) fn quiet(&mut self, stack: &StackName, quiet: bool) -> bool {
        if quiet { self.quiet.insert(stack.clone()) } else { self.quiet.remove(stack) }
    }

    /// Is its session up, and nothing heard of it?
    pub(super) fn is_quiet(&self, stack: &StackName) -> bool {
        self.quiet.contains(stack)
    }

    /// The session of a stack that had greeted is over.
    pub(super) fn lose(&mut self, stack: &StackName, now: Instant) {
        self.quiet.remove(stack);
        self.lost.entry(stack.clone()).or_insert(Lost { since: now, for_good: false });
    }

    /// The stack has greeted, or is forgotten.
    pub(super) fn find(&mut self, stack: &StackName) {
        self.quiet.remove(stack);
        self.lost.remove(stack);
    }

    /// Those that were lost for as long as this.
    pub(super) fn lost_for(&self, patience: Duration, now: Instant) -> impl Iterator<Item = &StackName> {
        let is_gone = move |lost: &Lost| now.saturating_duration_since(lost.since) >= patience;
        self.lost.iter().filter(move |(_, lost)| is_gone(lost)).map(|(stack, _)| stack)
    }

    /// These hosts do not answer, all others do or were not asked. `true`: that is news.
    pub(super) fn silent_hosts(&mut self, silent: Vec<StackIndex>) -> bool {
        let silent: BTreeSet<StackIndex> = silent.into_iter().collect();
        let news = silent != self.silent_hosts;
        self.silent_hosts = silent;
        news
    }

    /// Who was lost for longer than `dead_after` is dead. `true`: there is one more.
    pub(super) fn expire(&mut self, dead_after: Option<Duration>, now: Instant) -> bool {
        let Some(dead_after) = dead_after else { return false };
        let mut news = false;
        for lost in self.lost.values_mut().filter(|lost| !lost.for_good) {
            lost.for_good = now.saturating_duration_since(lost.since) >= dead_after;
            news |= lost.for_good;
        }
        news
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn next_deadline(&self, dead_after: Option<Duration>) -> Option<Instant> {
        let dead_after = dead_after?;
        self.lost.values().filter(|lost| !lost.for_good).map(|lost| lost.since + dead_after).min()
    }

    /// What is heard of a stack. This node's own host is here.
    pub(super) fn state(&self, stack: StackNow<'_>, is_own: bool) -> StackState {
        if stack.said.is_some() {
            return if self.is_quiet(stack.name) { StackState::Quiet } else { StackState::Up };
        }
        let for_good = self.lost.get(stack.name).is_some_and(|lost| lost.for_good);
        let dead = !is_own && (for_good || self.silent_hosts.contains(&stack.known.index));
        if dead { StackState::Dead } else { StackState::Lost }
    }
}
