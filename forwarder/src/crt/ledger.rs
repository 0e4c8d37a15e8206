//! The accounts: how many connections each stack has, how full the parts are, what was refused, replaced and aged.

use model::StackIndex;

use super::StackCount;
use super::atomic::{AtomicU32, AtomicU64, Ordering};
use super::memory::Array;
use super::{CrtState, Entry};

/// What is counted for the whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Counter {
    ConnectionsV4,
    ConnectionsV6,
    FlowsV4,
    FlowsV6,
    HalfOpenV4,
    HalfOpenV6,
    HalfOpenEvicted,
    FragmentsEvicted,
    FlowsEvicted,
    /// TCP connections that ended to make room.
    GaveWay,
    RefusedFull,
    RefusedBusy,
    Aged,
    /// Where `Crt::age` goes on.
    AgeCursor,
    /// Entries that were frozen and are not any more.
    Thaws,
    /// The table's clock, in milliseconds after the system's that stops with the machine (`Crt::keep_time`).
    Clock,
}

/// Counters in the mapping.
pub(super) const COUNTERS: usize = 16;
/// Words of the per-stack account in the mapping: connections and half-open ones of each stack.
pub(super) const STACK_WORDS: usize = if cfg!(loom) { 8 } else { 2 * (StackIndex::MAX as usize + 1) };

/// The accounts. All updates are relaxed: a number is exact once its writers have paused.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) counters: Array<AtomicU64>,
    pub(super) stacks: Array<AtomicU32>,
}

impl Ledger {
    /// Adds to a counter.
    pub(super) fn add(&self, counter: Counter, n: u64) {
        self.counters.at(counter as usize).fetch_add(n, Ordering::Relaxed);
    }

    /// One entry less.
    pub(super) fn one_less(&self, counter: Counter) {
        self.counters.at(counter as usize).fetch_sub(1, Ordering::Relaxed);
    }

    /// A counter's value.
    pub(super) fn get(&self, counter: Counter) -> u64 {
        self.counters.at(counter as usize).load(Ordering::Relaxed)
    }

    /// How often an entry was frozen and then not any more.
    #[inline(always)]
    pub(super) fn thaws(&self) -> u64 {
        self.counters.at(Counter::Thaws as usize).load(Ordering::Acquire)
    }

    /// Sets a counter that only one thread uses.
    pub(super) fn set(&self, counter: Counter, value: u64) {
        self.counters.at(counter as usize).store(value, Ordering::Relaxed);
    }

    /// Begins with these accounts of the stacks, and nothing else but the clock.
    pub(super) fn begin(&self, stacks: &[u32]) {
        (0..COUNTERS).filter(|n| *n != Counter::Clock as usize).for_each(|n| {
            self.counters.at(n).store(0, Ordering::Relaxed);
        });
        for (number, count) in stacks.iter().enumerate().take(self.stacks.len()) {
            self.stacks.at(number).store(*count, Ordering::Relaxed);
        }
    }

    /// An entry has become another (`None`: there was, or is, none).
    pub(super) fn changed(&self, old: Option<Entry>, new: Option<Entry>) {
        let is_frozen = |entry: Option<Entry>| entry.is_some_and(|entry| entry.state == CrtState::Frozen);
        if is_frozen(old) && !is_frozen(new) {
            // After the entry's own change. Pairs with the acquire load in `thaws`: who sees the number sees the entry.
            self.counters.at(Counter::Thaws as usize).fetch_add(1, Ordering::Release);
        }
        let (old, new) = (old.and_then(account), new.and_then(account));
        if old == new {
            return;
        }
        if let Some(word) = new {
            self.stacks.at(word).fetch_add(1, Ordering::Relaxed);
        }
        if let Some(word) = old {
            self.stacks.at(word).fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// So many connections or flows of `owner` are new in the main table.
    pub(super) fn came(&self, of_protocol: Counter, owner: StackIndex, n: u32) {
        if n == 0 {
            return;
        }
        self.add(of_protocol, u64::from(n));
        self.stacks.at(usize::from(owner.0) * 2).fetch_add(n, Ordering::Relaxed);
    }

    /// A stack's connections.
    pub(super) fn stack(&self, stack: StackIndex) -> StackCount {
        let [connections, half_open] =
            [0, 1].map(|i| self.stacks.at(usize::from(stack.0) * 2 + i).load(Ordering::Relaxed));
        StackCount { connections, half_open }
    }
}

/// Where an entry is counted; a closing one is not.
pub(super) fn account(entry: Entry) -> Option<usize> {
    let half_open = usize::from(entry.state == CrtState::HalfOpen);
    (entry.state != CrtState::Closing).then_some(usize::from(entry.owner.0) * 2 + half_open)
}
