//! What stacks have to do, beyond what the connection table counts: which of their connections are only kept open, what they have of
//! DVIPAs that are not this node's, and how long their connections last.
//!
//! The control thread writes, workers read when they select by it ([`tables`](crate::tables)). Numbers of one stack are read
//! one by one: together they may be of two moments, of which neither is wrong.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use model::StackIndex;

use crate::Now;
use crate::crt::Crt;
use crate::tables::Counts as _;

/// What has happened counts for so long, and then a third.
const MEMORY_MS: f64 = 5_000.0;
/// Of fewer connections that have ended of late nothing follows.
const FEW: f64 = 20.0;

/// What is known of each stack. All accesses are relaxed: nothing else is read because of them.
#[derive(Debug)]
pub struct Loads(Box<[Load]>);

#[derive(Debug, Default)]
struct Load {
    idle: AtomicU32,
    elsewhere: AtomicU32,
    lasts_us: AtomicU32,
    /// Connections that have ended, counted up. Of the control thread.
    ended: AtomicU32,
}

impl Load {
    /// What workers read.
    #[inline]
    fn numbers(&self) -> [&AtomicU32; 3] {
        [&self.idle, &self.elsewhere, &self.lasts_us]
    }
}

/// What a stack has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Burden {
    /// Its connections without those that are only kept open.
    pub busy: u64,
    /// How long a connection has been busy there of late until it ended, in microseconds; 0: not known.
    pub lasts_us: u32,
}

impl Default for Loads {
    /// Nothing is known.
    fn default() -> Self {
        Self((0..=StackIndex::MAX).map(|_| Load::default()).collect())
    }
}

impl Loads {
    /// The stack says that it has so many connections that are only kept open, and so many to DVIPAs that are not this node's.
    pub fn say(&self, stack: StackIndex, idle: u32, elsewhere: u32) {
        if let Some(load) = self.of(stack) {
            load.idle.store(idle, Ordering::Relaxed);
            load.elsewhere.store(elsewhere, Ordering::Relaxed);
        }
    }

    /// So many connections of the stack have ended, by its word.
    pub fn ended(&self, stack: StackIndex, count: u32) {
        if let Some(load) = self.of(stack) {
            load.ended.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn ended_by_now(&self, stack: StackIndex) -> u32 {
        self.of(stack).map_or(0, |load| load.ended.load(Ordering::Relaxed))
    }

    /// Nothing is known of the stack.
    fn forget(&self, stack: StackIndex) {
        if let Some(load) = self.of(stack) {
            load.numbers().iter().for_each(|number| number.store(0, Ordering::Relaxed));
        }
    }

    /// A time has passed in which the stack had so many connections in the table.
    pub(crate) fn pass(&self, stack: StackIndex, connections: u64, lasting: &mut Lasting, ms: f64) {
        let Some(load) = self.of(stack) else { return };
        // They are some of those in the table. Where these have become fewer, not more than are left are only kept open, however many
        // come before the stack says so itself.
        load.idle.fetch_min(u32::try_from(connections).unwrap_or(u32::MAX), Ordering::Relaxed);
        let ended = self.ended_by_now(stack);
        let new = ended.wrapping_sub(std::mem::replace(&mut lasting.seen, ended));
        let us = lasting.pass(self.burden(stack, connections).busy as f64, new.into(), ms);
        load.lasts_us.store(us, Ordering::Relaxed);
    }

    /// What a stack has to do that has so many connections in the table.
    #[inline]
    pub fn burden(&self, stack: StackIndex, connections: u64) -> Burden {
        let Some(load) = self.of(stack) else { return Burden { busy: connections, lasts_us: 0 } };
        let [idle, elsewhere, lasts_us] = load.numbers().map(|number| number.load(Ordering::Relaxed));
        Burden { busy: connections.saturating_sub(idle.into()).saturating_add(elsewhere.into()), lasts_us }
    }

    /// All numbers are those of the others.
    pub(crate) fn copy(&self, others: &Self) {
        for (to, from) in self.0.iter().zip(&others.0) {
            for (to, from) in to.numbers().into_iter().zip(from.numbers()) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    fn of(&self, stack: StackIndex) -> Option<&Load> {
        self.0.get(usize::from(stack.0))
    }
}

/// For how long a stack's connections have been busy of late until they ended: by Little's law, those that were busy at once over those
/// that ended in a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lasting {
    busy_ms: f64,
    ended: f64,
    /// Up to which count of [`Load::ended`].
    seen: u32,
}

impl Lasting {
    /// For so long so many were busy, and so many ended. Returns how long one was, in microseconds; 0: too few have ended.
    fn pass(&mut self, busy: f64, ended: f64, ms: f64) -> u32 {
        let keeps = (-ms / MEMORY_MS).exp();
        self.busy_ms = self.busy_ms * keeps + busy * ms;
        self.ended = self.ended * keeps + ended;
        if self.ended < FEW { 0 } else { ((self.busy_ms * 1000.0 / self.ended) as u32).max(1) }
    }
}

/// The longest time that one look at a stack stands for, in milliseconds.
const LONGEST_MS: u64 = 1_000;

/// The same of all stacks. Owned by the control thread.
#[derive(Debug, Default)]
pub struct Lastings {
    of: HashMap<StackIndex, Lasting>,
    at: Now,
}

impl Lastings {
    /// Time has passed; to be called often, with the stacks of which it is to be known.
    pub fn pass(&mut self, crt: &Crt, stacks: impl Iterator<Item = StackIndex>, now: Now) {
        let ms = now.ms.saturating_sub(std::mem::replace(&mut self.at, now).ms).min(LONGEST_MS) as f64;
        for stack in stacks {
            let begin = || Lasting { seen: crt.loads().ended_by_now(stack), ..Lasting::default() };
            let lasting = self.of.entry(stack).or_insert_with(begin);
            crt.loads().pass(stack, crt.connections_of(stack), lasting, ms);
        }
    }

    /// Nothing is known of the stack.
    pub fn forget(&mut self, crt: &Crt, stack: StackIndex) {
        self.of.remove(&stack);
        crt.loads().forget(stack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crt::Config;

    fn crt() -> Crt {
        let few = 64;
        let config = Config {
            connections_v4: few,
            connections_v6: few,
            flows: few,
            half_open: few,
            fragments: few,
            ..Config::default()
        };
        Crt::new(&config).unwrap()
    }

    #[test]
    fn connections_that_are_only_kept_open_are_no_burden_and_those_of_other_nodes_are() {
        let (loads, stack) = (Loads::default(), StackIndex(3));
        assert_eq!(loads.burden(stack, 7), Burden { busy: 7, lasts_us: 0 });
        loads.say(stack, 5, 2);
        loads.of(stack).unwrap().lasts_us.store(900, Ordering::Relaxed);
        assert_eq!(loads.burden(stack, 7), Burden { busy: 4, lasts_us: 900 });
        assert_eq!(loads.burden(stack, 1).busy, 2, "some have ended since");
        assert_eq!(loads.burden(StackIndex(2), 7).busy, 7, "another stack");
        assert_eq!(loads.burden(StackIndex(u16::MAX), 7).busy, 7, "no such stack");
        let copy = Loads::default();
        copy.copy(&loads);
        assert_eq!(copy.burden(stack, 7), loads.burden(stack, 7));
        loads.forget(stack);
        assert_eq!(loads.burden(stack, 7), Burden { busy: 7, lasts_us: 0 });
    }

    #[test]
    fn connections_last_as_long_as_so_many_are_busy_for_so_many_that_end() {
        let mut lasting = Lasting::default();
        let mut pass = |busy: f64, ended: f64, times: usize| {
            (0..times).map(|_| lasting.pass(busy, ended, 10.0)).last().unwrap()
        };
        assert_eq!(pass(4.0, 1.0, 19), 0, "few have ended");
        assert!((39_000..=41_000).contains(&pass(4.0, 1.0, 100)), "four at once, one each 10 ms");
        let us = pass(12.0, 1.0, 2000);
        assert!((119_000..=120_100).contains(&us), "{us}: what was before is forgotten");
        assert_eq!(pass(0.0, 0.0, 2000), 0, "nothing of late");
    }

    #[test]
    fn connections_that_were_only_kept_open_and_have_ended_are_not_taken_from_those_that_come() {
        let (loads, stack, mut lasting) = (Loads::default(), StackIndex(3), Lasting::default());
        loads.say(stack, 29_500, 0);
        loads.pass(stack, 30_000, &mut lasting, 10.0);
        assert_eq!(loads.burden(stack, 30_000).busy, 500);
        loads.pass(stack, 400, &mut lasting, 10.0);
        assert_eq!(loads.burden(stack, 1_400).busy, 1_000, "all that are left may be kept, and no others");
    }

    #[test]
    fn a_stacks_connections_are_measured_while_time_passes() {
        let (crt, stack) = (crt(), StackIndex(3));
        let mut lastings = Lastings::default();
        for ms in (0..4000).step_by(10) {
            crt.loads().say(stack, 0, 2);
            crt.loads().ended(stack, 1);
            lastings.pass(&crt, [stack].into_iter(), Now { ms });
        }
        let us = crt.loads().burden(stack, 0).lasts_us;
        assert!((19_000..=21_000).contains(&us), "{us}");
        lastings.forget(&crt, stack);
        assert_eq!(crt.loads().burden(stack, 0), Burden::default());
    }
}
