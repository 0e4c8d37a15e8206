//! Who gives way when the main table holds more TCP connections than it was made for: those that were idle for longest.
//!
//! Each round of the sweep counts how old the connections are, in classes; the next round ends those from the class on that
//! makes enough room, and stops when there is. A connection that was idle for less than `idle_tcp_s` never ends so. Used by the
//! thread that sweeps; relaxed, because only its own order counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ages::OLDEST;

const CLASSES: usize = 16;
/// Ticks a class.
const WIDTH: u64 = (OLDEST + 1).div_ceil(CLASSES as u64);
/// Nobody gives way.
const NOBODY: u64 = u64::MAX;

/// The ages of one family's TCP connections, and from which age on they end.
#[derive(Debug)]
pub(super) struct Pressure {
    /// Connections that the table was made for.
    room: u64,
    classes: [AtomicU64; CLASSES],
    from: AtomicU64,
    rounds: AtomicU64,
}

impl Pressure {
    pub(super) fn new(room: u64) -> Self {
        let classes = std::array::from_fn(|_| AtomicU64::new(0));
        Self { room, classes, from: AtomicU64::new(NOBODY), rounds: AtomicU64::new(0) }
    }

    /// Rounds so far.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds.load(Relaxed)
    }

    /// Counts a connection of this age, in ticks. Whether it has to end, where there are so many `entries`.
    pub(super) fn ends(&self, age: u64, entries: impl FnOnce() -> u64) -> bool {
        if let Some(class) = self.classes.get((age / WIDTH) as usize) {
            // One thread sweeps: no need for a read and write in one, which costs ten times as much.
            class.store(class.load(Relaxed).wrapping_add(1), Relaxed);
        }
        age >= self.from.load(Relaxed) && entries() > self.room
    }

    /// A round is over: chooses the youngest class that has to give way in the next one. `least`: no younger age does.
    pub(super) fn round(&self, entries: u64, least: u64) {
        let surplus = entries.saturating_sub(self.room);
        let (mut older, mut from) = (0, NOBODY);
        for (number, class) in self.classes.iter().enumerate().rev() {
            let count = class.swap(0, Relaxed);
            if older < surplus {
                from = (number as u64 * WIDTH).max(least);
            }
            older += count;
        }
        self.from.store(from, Relaxed);
        self.rounds.store(self.rounds().wrapping_add(1), Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_classes_that_make_enough_room_give_way() {
        let pressure = Pressure::new(100);
        let fill = |old: u32, young: u32| {
            (0..old).for_each(|_| assert!(!pressure.ends(OLDEST, || 100), "there is room"));
            (0..young).for_each(|_| assert!(!pressure.ends(0, || 100), "there is room"));
        };
        fill(30, 80);
        pressure.round(110, 1024);
        assert!(pressure.ends(OLDEST, || 110) && !pressure.ends(OLDEST - WIDTH, || 110));
        assert!(!pressure.ends(OLDEST, || 100), "there is room again");
        pressure.round(100, 1024);
        fill(5, 105);
        pressure.round(110, 1024);
        assert!(pressure.ends(1024, || 110), "all that may");
        assert!(!pressure.ends(1023, || 110), "and no others");
    }
}
