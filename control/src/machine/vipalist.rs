//! The VIPA list: what this stack distributes, as it tells all stacks (row W2).

use std::collections::{BTreeMap, BTreeSet};

use model::codec::Address;
use model::message::{VipaList, VipaListDistribution, VipaListDvipa};
use model::{Dvipa, Epoch};

use super::picture::Picture;
use crate::config::{Destip, VipaDistribute};

/// The rank that a VIPA list gives for the primary.
const PRIMARY: u8 = 255;

impl Picture<'_> {
    /// The list as it is now: what this stack owns, and what it backs up.
    pub(super) fn vipa_list(&self) -> VipaList {
        let definitions = &self.config.vipadynamic;
        let mut by_dvipa: BTreeMap<Dvipa, Vec<VipaListDistribution>> = BTreeMap::new();
        for distribution in &definitions.distributes {
            by_dvipa.entry(distribution.dvipa).or_default().push(self.list_distribution(distribution));
        }
        let entry = |dvipa: Dvipa, epoch, owner, rank| {
            let distributions = by_dvipa.get(&dvipa).cloned().unwrap_or_default();
            VipaListDvipa { address: Address(dvipa.address()), epoch, owner, rank, distributions }
        };
        let owned = self.dvipas.iter().map(|(dvipa, held)| entry(dvipa, held.epoch, true, PRIMARY));
        let backed_up = definitions.backups.iter();
        let backed_up = backed_up.map(|backup| entry(backup.dvipa, Epoch(0), false, backup.rank.get()));
        VipaList {
            dvipas: owned.chain(backed_up).collect(),
            forwarders: self.config.node.cluster_address.iter().map(Address).collect(),
        }
    }

    /// Candidates go by name. One that is defined by an address that no stack has yet is named by the address, which
    /// is nobody's name: leaving it out could make the list empty, and that means ALL.
    fn list_distribution(&self, distribution: &VipaDistribute) -> VipaListDistribution {
        let mut candidates = BTreeSet::new();
        if let Destip::List(list) = &distribution.destip {
            candidates.extend(list.iter().map(|candidate| match self.roster.name_of(candidate) {
                Some(name) => name.to_string(),
                None => candidate.to_string(),
            }));
            if distribution.content_routed {
                candidates.insert(self.config.node.name.to_string());
            }
        }
        VipaListDistribution {
            protocol: distribution.protocol,
            ports: distribution.ports.clone(),
            candidates: candidates.into_iter().collect(),
        }
    }
}
