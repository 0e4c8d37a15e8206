//! How the main table makes room: a breadth-first search for the shortest chain of entries that can each move to their
//! other line, then the moves, last one first, each on its own (Li et al., EuroSys 2014). Nothing is locked during the
//! search; a move that finds things changed ends the attempt, and the writer tries again.

use super::cuckoo::{Cuckoo, Place};
use super::hash::Secret;
use super::key::Exact;
use super::memory::prefetch;

/// Lines looked at before the table counts as full: enough to fill 93 of 100 slots of four-slot lines, 85 of two-slot lines
/// (`tests/hostile.rs`).
const SEARCH: usize = 256;

/// A line that was reached in the search.
#[derive(Clone, Copy, Default)]
struct Step {
    line: usize,
    /// The step and slot from which an entry could move here.
    from: Option<(usize, usize)>,
}

impl<K: Exact> Cuckoo<K> {
    /// Makes an empty slot in one of a place's lines. `true`: there was one at some moment, so trying again is worth it.
    /// No lock may be held.
    pub(super) fn make_room(&self, place: Place, secret: &Secret) -> bool {
        let mut steps = [Step::default(); SEARCH];
        let roots = [Step { line: place.first, from: None }, Step { line: place.second, from: None }];
        let mut known = roots.len();
        for (step, root) in steps.iter_mut().zip(roots) {
            *step = root;
        }
        for at in 0..SEARCH {
            let Some(step) = steps.get(at).copied().filter(|_| at < known) else { return false };
            let line = self.line(step.line);
            if line.empty_slot::<K>().is_some() {
                self.shift_along(&steps, step, secret);
                return true;
            }
            for (slot, entry) in line.slots::<K>().enumerate() {
                let Some((words, meta)) = entry.read() else { continue };
                let home = self.place(secret.hash(K::from_parts(words, meta.service())));
                let other = if home.first == step.line { home.second } else { home.first };
                // Each line once: else a search in a crowded corner spends its steps going round in it.
                if steps.iter().take(known).any(|step| step.line == other) {
                    continue;
                }
                let Some(next) = steps.get_mut(known) else { continue };
                // Looked at some lines later: the fetches of a search overlap.
                prefetch(self.line(other));
                *next = Step { line: other, from: Some((at, slot)) };
                known += 1;
            }
        }
        false
    }

    /// Moves entries along the way to `end`, whose line has room.
    fn shift_along(&self, steps: &[Step], mut end: Step, secret: &Secret) {
        while let Some((before, slot)) = end.from {
            let Some(step) = steps.get(before).copied() else { return };
            if !self.shift(step.line, slot, end.line, secret) {
                return;
            }
            end = step;
        }
    }
}
