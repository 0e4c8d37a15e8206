//! From a target's live load to its weight (the documents' WLM).
//!
//! The busiest of its resources counts. Reports come every second and tremble, so they are smoothed, and the weight
//! moves only when it would move by a fifth: a republished DPT costs the workers new tables, and a Maglev table some
//! clients their target.

use model::message::Load;

use super::LoadView;

/// The weight of an idle target.
const IDLE: u16 = 100;
/// The weight of a target that has not said anything yet: neither rushed nor starved.
pub(super) const UNREPORTED: u16 = 50;
/// Smoothing keeps weights in this many parts.
const PARTS: u32 = 256;

/// The load of one target.
#[derive(Clone, Debug)]
pub(super) struct TargetLoad {
    last: Load,
    smooth: u32,
    weight: u16,
}

impl TargetLoad {
    /// The first report.
    pub(super) fn new(load: Load) -> Self {
        let weight = raw(&load);
        Self { last: load, smooth: u32::from(weight) * PARTS, weight }
    }

    /// A further report: a quarter of it counts at once.
    pub(super) fn report(&mut self, load: Load) {
        self.smooth = (self.smooth * 3 + u32::from(raw(&load)) * PARTS) / 4;
        self.last = load;
        let weight = u16::try_from((self.smooth + PARTS / 2) / PARTS).unwrap_or(IDLE).clamp(1, IDLE);
        if weight.abs_diff(self.weight) >= (self.weight / 5).max(3) {
            self.weight = weight;
        }
    }

    /// Its weight, 1 to 100. Never 0: only a person takes a target out.
    pub(super) fn weight(&self) -> u16 {
        self.weight
    }

    /// Its last report.
    pub(super) fn last(&self) -> &Load {
        &self.last
    }

    /// For the displays.
    pub(super) fn view(&self) -> LoadView {
        LoadView {
            cpu_permille: self.last.cpu_permille.min(1000),
            accept_queue_permille: self.last.accept_queue_permille.min(1000),
            memory_pressure_permille: self.last.memory_pressure_permille.min(1000),
            weight: self.weight,
        }
    }
}

/// The weight of one report by itself: what its busiest resource leaves free.
fn raw(load: &Load) -> u16 {
    let busy = load.cpu_permille.max(load.accept_queue_permille).max(load.memory_pressure_permille).min(1000);
    ((1000 - busy) / 10).clamp(1, IDLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(cpu_permille: u16) -> Load {
        Load { cpu_permille, ..Load::default() }
    }

    #[test]
    fn the_busiest_resource_decides() {
        assert_eq!(raw(&Load::default()), 100);
        assert_eq!(raw(&cpu(300)), 70);
        assert_eq!(raw(&Load { cpu_permille: 300, accept_queue_permille: 900, ..Load::default() }), 10);
        assert_eq!(raw(&Load { memory_pressure_permille: 1000, ..Load::default() }), 1);
        assert_eq!(raw(&cpu(u16::MAX)), 1, "a lie is taken for the worst");
    }

    #[test]
    fn trembling_does_not_move_the_weight() {
        let mut load = TargetLoad::new(cpu(500));
        for i in 0..100 {
            load.report(cpu(if i % 2 == 0 { 420 } else { 580 }));
            assert_eq!(load.weight(), 50);
        }
    }

    #[test]
    fn a_lasting_change_moves_it_within_seconds() {
        let mut load = TargetLoad::new(cpu(0));
        for _ in 0..8 {
            load.report(cpu(900));
        }
        assert!((10..=25).contains(&load.weight()), "{}", load.weight());
        for _ in 0..20 {
            load.report(cpu(0));
        }
        assert!(load.weight() >= 80, "{}", load.weight());
    }

    #[test]
    fn a_busy_target_keeps_the_weight_of_one() {
        let mut load = TargetLoad::new(cpu(1000));
        for _ in 0..50 {
            load.report(cpu(1000));
        }
        assert_eq!(load.weight(), 1);
    }
}
