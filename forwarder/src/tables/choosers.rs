//! Targets for connections that are to move, chosen as workers select targets for SYNs: from a row of the same kind as those of the
//! DPT, by the same code. Owned by the control thread.
//!
//! A connection for which a target was chosen counts as the target's from then on, so that a crowd of choices does not go to
//! the one that had the fewest connections before it. From the moment at which it moves, or does not, the CRT counts it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use model::dpt::{Distribution, Shared, StackEntry};
use model::{Connection, StackIndex};

use super::choice::Counts;
use super::limiter::SharedClients;
use super::service::Service;
use super::{Builder, Built, Maglevs};
use crate::Now;
use crate::crt::Crt;
use crate::loads::Burden;

/// The most rows that are kept made ready; beyond it all are made again. A Maglev table has 131 kB.
const MAX_ROWS: usize = 256;
/// The most connections that count at the targets chosen for them before they move; beyond it the oldest do no longer.
const MAX_PROMISED: usize = 65_536;
/// A connection that has not begun to move for so long does not count at its target any more.
const PROMISED_MS: u64 = 10_000;

/// Everything that choices are made from. `K` says what a choice is about; rows of different keys have rotations of their own.
#[derive(Debug)]
pub struct Choosers<K> {
    rows: HashMap<K, (Shared<Distribution>, Arc<Service>)>,
    maglevs: Arc<Maglevs>,
    promised: Promised,
}

/// Connections that are about to move, by the targets that were chosen for them.
#[derive(Debug, Default)]
struct Promised {
    of: HashMap<Connection, (StackIndex, u64)>,
    counts: HashMap<StackIndex, u64>,
    /// In the order in which they were promised, with the time.
    order: VecDeque<(Connection, u64)>,
}

impl<K> Default for Choosers<K> {
    fn default() -> Self {
        Self { rows: HashMap::new(), maglevs: Arc::default(), promised: Promised::default() }
    }
}

impl<K: Eq + Hash + Clone> Choosers<K> {
    /// The target for a connection; `None`: the row has none for this client. `like`: the key whose rotation a row goes on with that
    /// is new. `stacks` are the DPT's.
    pub fn choose(
        &mut self,
        (key, like): (&K, &K),
        row: &Shared<Distribution>,
        connection: &Connection,
        (stacks, crt, now): (&[StackEntry], &Crt, Now),
    ) -> Option<StackIndex> {
        let service = self.service(key, like, row, stacks);
        self.promised.expire(now);
        // Chosen for again, it counts at one target.
        self.promised.end(connection);
        let counts = Both { crt, promised: &self.promised };
        let chosen = service.pick(connection.client, &counts, now)?;
        self.promised.begin(connection, chosen, now);
        Some(chosen)
    }

    /// The connection moves, or has ended: the CRT says who has it.
    pub fn settled(&mut self, connection: &Connection) {
        self.promised.end(connection);
    }

    /// How many Maglev tables there are.
    #[cfg(test)]
    pub(super) fn maglev_tables(&self) -> usize {
        self.maglevs.values().filter(|table| table.strong_count() > 0).count()
    }

    fn service(
        &mut self,
        key: &K,
        like: &K,
        row: &Shared<Distribution>,
        stacks: &[StackEntry],
    ) -> Arc<Service> {
        let before = self.rows.get(key).or_else(|| self.rows.get(like));
        let before = before.map(|(row, service)| (row.clone(), Arc::clone(service)));
        let mut built = Built::default();
        // What moves has begun before.
        let (maglevs, clients) = (Arc::clone(&self.maglevs), SharedClients::default());
        let mut builder = Builder { stacks, maglevs, clients: &clients, built: &mut built };
        let service = builder.successor(row, before.as_ref().map(|(row, service)| (row, service)));
        self.maglevs = builder.maglevs;
        // A row that leaves something out is asked once as a rule, and goes on with the rotation of the one that does not.
        if key == like {
            if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(key) {
                self.rows.clear();
            }
            self.rows.insert(key.clone(), (row.clone(), Arc::clone(&service)));
        }
        if built.maglevs > 0 {
            Arc::make_mut(&mut self.maglevs).retain(|_, table| table.strong_count() > 0);
        }
        service
    }
}

impl Promised {
    fn begin(&mut self, connection: &Connection, to: StackIndex, now: Now) {
        self.of.insert(*connection, (to, now.ms));
        let count = self.counts.entry(to).or_default();
        *count = count.saturating_add(1);
        self.order.push_back((*connection, now.ms));
    }

    fn end(&mut self, connection: &Connection) {
        let Some((to, _)) = self.of.remove(connection) else { return };
        if let Some(count) = self.counts.get_mut(&to) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&to);
            }
        }
    }

    fn expire(&mut self, now: Now) {
        while let Some((connection, since)) = self.order.front().copied() {
            let is_over = since.saturating_add(PROMISED_MS) <= now.ms || self.order.len() > MAX_PROMISED;
            let is_promised = self.of.get(&connection).is_some_and(|(_, at)| *at == since);
            if is_promised && !is_over {
                return;
            }
            if is_promised {
                self.end(&connection);
            }
            self.order.pop_front();
        }
    }
}

/// What the CRT has, and what is about to come.
struct Both<'c> {
    crt: &'c Crt,
    promised: &'c Promised,
}

impl Counts for Both<'_> {
    fn connections_of(&self, stack: StackIndex) -> u64 {
        let promised = self.promised.counts.get(&stack).copied().unwrap_or_default();
        self.crt.connections_of(stack).saturating_add(promised)
    }

    fn burden_of(&self, stack: StackIndex) -> Burden {
        self.crt.loads().burden(stack, self.connections_of(stack))
    }
}
