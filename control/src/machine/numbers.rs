//! The numbers by which CRT entries name stacks and DVIPAs.
//!
//! | number | when |
//! | --- | --- |
//! | free | nothing names it |
//! | in use | a stack's from its first Hello, a DVIPA's from its definition |
//! | resting | the stack is gone for [`GONE_STACK`] and has no connection, session, drain or transfer, and no definition names it; the DVIPA is not defined for [`GONE_DVIPA`] |
//! | free again | the forwarder has ended what names it ([`super::Action::Retire`], [`super::Event::Vacant`]) |
//!
//! What comes back while its number rests gets another one. Those in use are kept beside a table that outlives its process; those
//! that rest are not, and their entries end with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::numbering::Numbering;
use model::{Dvipa, DvipaIndex, Epoch, StackIndex, StackName};

use super::dirty::Mark;
use super::pace::Urgency;
use super::{Action, RoutingStack};

/// A stack that is gone for so long, with nothing left of it, is forgotten.
pub const GONE_STACK: Duration = Duration::from_secs(600);
/// A DVIPA that is not defined for so long is forgotten, and its connections are ended.
pub const GONE_DVIPA: Duration = Duration::from_secs(60);

/// Numbers from 0 on, each given to one at a time.
#[derive(Debug)]
pub(super) struct Numbers {
    /// Below it numbers were given at least once.
    next: u16,
    max: u16,
    free: BTreeSet<u16>,
}

impl Numbers {
    /// All of 0 to `max` are free.
    pub(super) fn new(max: u16) -> Self {
        Self { next: 0, max, free: BTreeSet::new() }
    }

    /// How many are free.
    pub(super) fn left(&self) -> usize {
        usize::from(self.max) + 1 - usize::from(self.next) + self.free.len()
    }

    /// The lowest free one, if there is one.
    pub(super) fn give(&mut self) -> Option<u16> {
        self.free.pop_first().or_else(|| {
            let given = Some(self.next).filter(|next| *next <= self.max)?;
            self.next += 1;
            Some(given)
        })
    }

    /// This one was given by a former process.
    pub(super) fn take(&mut self, number: u16) {
        if number <= self.max {
            self.free.extend(self.next..number);
            self.next = self.next.max(number + 1);
            self.free.remove(&number);
        }
    }

    /// Nothing names this one any more.
    pub(super) fn take_back(&mut self, number: u16) {
        if number < self.next {
            self.free.insert(number);
        }
    }
}

impl RoutingStack {
    /// What the numbers that entries may have mean, for the process that goes on with the table.
    pub fn numbering(&self) -> Numbering {
        let (stacks, (epoch, dvipas)) = (self.stacks.numbering(), self.dvipas.numbering());
        Numbering { node: self.config.node.name.clone(), epoch, stacks, dvipas }
    }

    /// The highest epoch that this node gave or has heard of: to be kept before what follows from it is done.
    pub fn highest_epoch(&self) -> Epoch {
        self.dvipas.highest()
    }

    /// Forgets who is gone and has left nothing behind. To be called when it is known how many connections each stack has.
    pub(super) fn retire(&mut self, now: Instant) {
        let gone: Vec<StackName> = self.stacks.gone(GONE_STACK, now).collect();
        let gone: Vec<StackName> = gone.into_iter().filter(|stack| self.is_forgettable(stack)).collect();
        let stacks: Vec<StackIndex> = gone.iter().filter_map(|stack| self.forget_stack(stack)).collect();
        let forgotten: BTreeMap<Dvipa, DvipaIndex> = self.dvipas.forget(GONE_DVIPA, now);
        self.rights.forget(&forgotten, &gone, &self.config.vipadynamic);
        for dvipa in forgotten.keys() {
            self.direct.forget_dvipa(*dvipa);
            self.ports.forget_dvipa(*dvipa);
        }
        if !stacks.is_empty() || !forgotten.is_empty() {
            self.actions.push_back(Action::Retire { stacks, dvipas: forgotten.into_values().collect() });
        }
    }

    /// The forwarder has nothing any more that names these.
    pub(super) fn vacant(&mut self, stacks: Vec<StackIndex>, dvipas: Vec<DvipaIndex>) {
        stacks.into_iter().for_each(|index| self.stacks.numbers.take_back(index.0));
        dvipas.into_iter().for_each(|index| self.dvipas.numbers.take_back(index.0));
    }

    /// Whether nothing here needs to know the stack.
    fn is_forgettable(&self, stack: &StackName) -> bool {
        let named = self.config.vipadynamic.distributes.iter().any(|d| d.destip.names(stack));
        let has_some = self.stacks.known(stack).is_some_and(|known| known.connections > 0);
        let is_own = *stack == self.config.node.name;
        let moves = || self.transfers.routing.involves(stack);
        !is_own && !named && !has_some && !self.drains.any(stack) && !moves()
    }

    fn forget_stack(&mut self, stack: &StackName) -> Option<StackIndex> {
        // Its place in services, and who is asked.
        self.mark_stack(stack, Mark::Stack, Urgency::Soon);
        self.refused.retain(|(_, from), _| from.as_ref() != Some(stack));
        self.leave_ports(stack);
        self.stacks.forget(stack)
    }
}
