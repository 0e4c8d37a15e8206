//! How the main table makes room: a breadth-first search for the shortest chain of entries that can each move to their
//! other line, then the moves, last one first, each on its own (Li et al., EuroSys 2014). Nothing is locked during the
//! search; a move that finds things changed ends the attempt, and the writer tries again.

use super::cuckoo::Cuckoo;
use super::hash::Secret;
use super::key::Exact;
use super::memory::prefetch;
use super::share::Place;

/// Lines that the control thread looks at before the table counts as full: enough to fill 93 of 100 slots of four-slot lines,
/// 82 of two-slot lines (`tests/hostile.rs`).
pub(super) const FAR: usize = 256;
/// Lines that a worker looks at: a packet can wait for some hundred nanoseconds.
pub(super) const NEAR: usize = 8;

/// A line that was reached in the search. Small, because a search begins with an array of them.
#[derive(Clone, Copy)]
struct Step {
    line: u32,
    /// The number of the step, and the slot of its line, from which an entry could move here.
    from: u16,
    slot: u16,
}

/// Stands for "from nowhere".
const ROOT: u16 = u16::MAX;
const _: () = assert!(FAR < ROOT as usize);

impl<K: Exact> Cuckoo<K> {
    /// Makes an empty slot in one of a place's lines, if a search of `SEARCH` lines finds a way. `true`: there was one at some
    /// moment, so trying again is worth it. No lock may be held.
    #[inline(never)]
    pub(super) fn make_room<const SEARCH: usize>(&self, place: Place, secret: &Secret) -> bool {
        let root = |line| Step { line, from: ROOT, slot: 0 };
        let mut steps = [root(0); SEARCH];
        let mut known = 0;
        for line in [place.first, place.second] {
            if let Some(step) = steps.get_mut(known) {
                *step = root(line);
                known += 1;
            }
        }
        for at in 0..SEARCH {
            let Some(step) = steps.get(at).copied().filter(|_| at < known) else { return false };
            let number = step.line;
            let line = self.line(number);
            if line.empty_slot::<K>().is_some() {
                self.shift_along(&steps, step, secret);
                return true;
            }
            for (slot, entry) in line.slots::<K>().enumerate() {
                let Some((words, meta)) = entry.read() else { continue };
                let home = self.place(secret, K::from_parts(words, meta.service()));
                let other = if home.first == number { home.second } else { home.first };
                // Each line once: else a search in a crowded corner spends its steps going round in it.
                if steps.iter().take(known).any(|step| step.line == other) {
                    continue;
                }
                let Some(next) = steps.get_mut(known) else { continue };
                // Looked at some lines later: the fetches of a search overlap.
                prefetch(self.line(other));
                *next = Step { line: other, from: at as u16, slot: slot as u16 };
                known += 1;
            }
        }
        false
    }

    /// Moves entries along the way to `end`, whose line has room.
    fn shift_along(&self, steps: &[Step], mut end: Step, secret: &Secret) {
        while end.from != ROOT {
            let Some(step) = steps.get(usize::from(end.from)).copied() else { return };
            if !self.shift(step.line, usize::from(end.slot), end.line, secret) {
                return;
            }
            end = step;
        }
    }
}
