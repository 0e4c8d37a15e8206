//! Numbers of stacks and DVIPAs that are to be given to others: not before nothing can name them any more.
//!
//! | what may name a number | until |
//! | --- | --- |
//! | a worker's tables | every worker has tables without it: it has dropped those of before |
//! | packets and questions that a worker holds, fragments' entries | [`HOLDS_MS`] later: each of them ends sooner |
//! | entries of the CRT | the [walk](super::walk) has ended them, and has come round once without finding one |

use forwarder::Now;
use forwarder::crt::{Crt, Row};
use hashbrown::HashSet;
use model::dpt::{Dpt, stack_of};
use model::{DvipaIndex, StackIndex};

use super::walk::Place;

/// The longest that a worker holds anything by itself, with much to spare: packets of connections that move, 5 s; fragments' entries,
/// 10 s; half-open entries, 10 s; connections that nobody claimed, some seconds.
const HOLDS_MS: u64 = 60_000;

/// The numbers that rest.
#[derive(Debug, Default)]
pub(super) struct Retiring(Vec<Batch>);

/// Numbers that were retired together.
#[derive(Debug)]
struct Batch {
    stacks: HashSet<StackIndex>,
    dvipas: HashSet<DvipaIndex>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The DPT in force may still name them.
    Named,
    /// The tables of this generation are the first without them.
    Tables { generation: u64 },
    /// No worker's tables name them any more.
    Holds { until_ms: u64 },
    /// The walk looks for their entries.
    Entries { until: Place, found: bool },
}

impl Retiring {
    /// These are nobody's any more. `dpt`: the one in force.
    pub(super) fn begin(&mut self, stacks: Vec<StackIndex>, dvipas: Vec<DvipaIndex>, dpt: &Dpt) {
        let (stacks, dvipas) = (stacks.into_iter().collect(), dvipas.into_iter().collect());
        self.0.push(Batch { stacks, dvipas, stage: Stage::Named });
        self.published(dpt);
    }

    /// This DPT is in force.
    pub(super) fn published(&mut self, dpt: &Dpt) {
        for batch in self.0.iter_mut().filter(|batch| batch.stage == Stage::Named) {
            let named = batch.stacks.iter().any(|index| stack_of(&dpt.stacks, *index).is_some())
                || dpt.dvipas.iter().any(|entry| batch.dvipas.contains(&entry.index));
            if !named {
                batch.stage = Stage::Tables { generation: dpt.generation };
            }
        }
    }

    /// The oldest tables that a worker may have are of this generation.
    pub(super) fn workers_have(&mut self, oldest: u64, now: Now, after_a_round: Place) {
        for batch in &mut self.0 {
            match batch.stage {
                Stage::Tables { generation } if generation <= oldest => {
                    batch.stage = Stage::Holds { until_ms: now.ms.saturating_add(HOLDS_MS) };
                }
                Stage::Holds { until_ms } if until_ms <= now.ms => {
                    batch.stage = Stage::Entries { until: after_a_round, found: false };
                }
                _ => {}
            }
        }
    }

    /// Whether there is anything to look for.
    pub(super) fn are_looked_for(&self) -> bool {
        self.0.iter().any(|batch| matches!(batch.stage, Stage::Entries { .. }))
    }

    /// Whether the entry names one of them, and so goes.
    pub(super) fn end_of(&mut self, row: &Row) -> bool {
        let mut ends = false;
        for batch in &mut self.0 {
            if let Stage::Entries { found, .. } = &mut batch.stage
                && (batch.stacks.contains(&row.entry.owner) || batch.dvipas.contains(&row.key.dvipa))
            {
                (*found, ends) = (true, true);
            }
        }
        ends
    }

    /// The walk is here; returns numbers that nothing names any more.
    pub(super) fn walked(
        &mut self,
        crt: &Crt,
        here: Place,
        after_a_round: Place,
    ) -> Option<(Vec<StackIndex>, Vec<DvipaIndex>)> {
        let is_left = |stack: &StackIndex| {
            let count = crt.stack_count(*stack);
            count.connections > 0 || count.half_open > 0
        };
        let done = self.0.iter_mut().position(|batch| match batch.stage {
            Stage::Entries { until, found } if until <= here => {
                let again = found || batch.stacks.iter().any(is_left);
                if again {
                    batch.stage = Stage::Entries { until: after_a_round, found: false };
                }
                !again
            }
            _ => false,
        })?;
        let Batch { stacks, dvipas, .. } = self.0.swap_remove(done);
        Some((stacks.into_iter().collect(), dvipas.into_iter().collect()))
    }
}
