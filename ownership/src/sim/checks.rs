//! What must be true at every instant.

use std::collections::BTreeMap;

use histories::Nanos;
use model::{Dvipa, Epoch};

use super::process::Node;

/// What was seen of ownership, by one that sees all hosts and the true time.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Who began to own a DVIPA in which epoch, in this order.
    gained: BTreeMap<Dvipa, Vec<(Epoch, usize)>>,
    /// The last epoch of which each target has accepted a packet.
    accepted: BTreeMap<(usize, Dvipa), (Epoch, usize)>,
    /// How often a DVIPA was gained.
    pub(super) gains: u64,
    /// The first thing that was wrong.
    pub(super) wrong: Option<String>,
}

impl Record {
    pub(super) fn blame(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// Epochs grow from ownership to ownership.
    pub(super) fn gained(&mut self, node: usize, dvipa: Dvipa, epoch: Epoch) {
        self.gains += 1;
        let former = self.gained.entry(dvipa).or_default();
        let last = former.last().copied();
        former.push((epoch, node));
        if let Some((last, owner)) = last.filter(|(last, _)| *last >= epoch) {
            self.blame(format!(
                "epochs do not grow: n{node} gains {dvipa} in {} after n{owner} in {}",
                epoch.0, last.0
            ));
        }
    }

    /// A target never accepts from an owner after a later one, nor from two in one epoch.
    pub(super) fn accepted(&mut self, target: usize, dvipa: Dvipa, epoch: Epoch, from: usize) {
        let last = self.accepted.insert((target, dvipa), (epoch, from));
        if let Some((last, owner)) = last
            && (last > epoch || (last == epoch && owner != from))
        {
            self.blame(format!(
                "a target accepts from two: t{target}, {dvipa}, n{from} in {} after n{owner} in {}",
                epoch.0, last.0
            ));
        }
    }

    /// At most one node forwards as the owner; and a node does so only while it owns.
    pub(super) fn look(&mut self, nodes: &[Node], dvipas: &[Dvipa], now: Nanos) {
        for dvipa in dvipas {
            let mut owner = None;
            for (place, node) in nodes.iter().enumerate() {
                let local = node.clock.at(now);
                let Some(epoch) = node.worker.forwards(*dvipa, local) else { continue };
                let held = node.tenures.as_ref().and_then(|tenures| tenures.held(*dvipa, local));
                if held.is_none() && !node.worker.fence_is_void {
                    self.blame(format!("n{place} forwards {dvipa} in {}, and does not hold it", epoch.0));
                }
                if let Some(other) = owner.replace(place) {
                    self.blame(format!("two owners: n{other} and n{place} forward {dvipa}"));
                }
            }
        }
    }
}
