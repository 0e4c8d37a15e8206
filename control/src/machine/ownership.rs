//! Which DVIPAs this stack owns, in which epoch and under which number.
//!
//! The owner is the stack with the VIPADEFINE. Each time an address becomes this stack's, its epoch rises; its number
//! is given once and stays, because CRT entries name it.

use std::collections::BTreeMap;

use model::{Dvipa, DvipaIndex, Epoch};

use super::Refusal;
use crate::config::VipaDynamic;

/// The DVIPAs that this stack owns or has owned.
#[derive(Debug)]
pub(super) struct Dvipas {
    first_epoch: Epoch,
    held: BTreeMap<Dvipa, Held>,
}

/// A DVIPA that this stack owns or has owned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Its number in CRT entries.
    pub(super) index: DvipaIndex,
    /// The epoch of the present or last ownership.
    pub(super) epoch: Epoch,
    owned: bool,
}

impl Dvipas {
    /// None yet; the first ownership of each has this epoch.
    pub(super) fn new(first_epoch: Epoch) -> Self {
        Self { first_epoch, held: BTreeMap::new() }
    }

    /// Owns what is defined, and only that. Returns what has become this stack's.
    pub(super) fn define(&mut self, definitions: &VipaDynamic) -> Result<Vec<Dvipa>, Refusal> {
        let defined: Vec<Dvipa> = definitions.defines.iter().map(|d| d.dvipa).collect();
        let room = usize::from(DvipaIndex::MAX) + 1 - self.held.len();
        if let Some(one_too_many) = defined.iter().filter(|d| !self.held.contains_key(d)).nth(room) {
            return Err(Refusal::TooManyDvipas(*one_too_many));
        }
        for (dvipa, held) in &mut self.held {
            held.owned = held.owned && defined.contains(dvipa);
        }
        let mut became = Vec::new();
        for dvipa in defined {
            let next = DvipaIndex(u16::try_from(self.held.len()).unwrap_or(DvipaIndex::MAX));
            let epoch_before = Epoch(self.first_epoch.0.saturating_sub(1));
            let held =
                self.held.entry(dvipa).or_insert(Held { index: next, epoch: epoch_before, owned: false });
            if !held.owned {
                held.owned = true;
                held.epoch = Epoch(held.epoch.0.saturating_add(1));
                became.push(dvipa);
            }
        }
        Ok(became)
    }

    /// A DVIPA that this stack owns now.
    pub(super) fn owned(&self, dvipa: Dvipa) -> Option<Held> {
        self.held.get(&dvipa).copied().filter(|held| held.owned)
    }

    /// A DVIPA that this stack owns or has owned.
    pub(super) fn held(&self, dvipa: Dvipa) -> Option<Held> {
        self.held.get(&dvipa).copied()
    }

    /// All that this stack owns now, by address.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Dvipa, Held)> {
        self.held.iter().filter(|(_, held)| held.owned).map(|(dvipa, held)| (*dvipa, *held))
    }
}
