//! The VIPA list: what this stack distributes, as it tells all stacks (row W2).

use std::collections::{BTreeMap, BTreeSet};

use model::Dvipa;
use model::codec::Address;
use model::dpt::{Duty, Method};
use model::message::{VipaList, VipaListDistribution, VipaListDvipa};

use super::ownership::Held;
use super::picture::Picture;
use super::succession::PRIMARY;
use crate::config::{Destip, VipaDistribute};

impl Picture<'_> {
    /// The list as it is now: what this stack owns, then what it would take over. Of DVIPAs that are not `dirty`, what the former list
    /// says stays.
    pub(super) fn vipa_list(&self, former: &VipaList, dirty: &BTreeSet<Dvipa>) -> VipaList {
        let definitions = &self.config.vipadynamic;
        let former = former.dvipas.iter().map(|entry| ((Dvipa::new(entry.address.0), entry.owner), entry));
        let former: BTreeMap<(Dvipa, bool), &VipaListDvipa> = former.collect();
        let ranks: BTreeMap<Dvipa, u8> =
            definitions.backups.iter().map(|b| (b.dvipa, b.rank.get())).collect();
        let entry = |(dvipa, held): (Dvipa, Held)| {
            let owner = held.duty() == Some(Duty::Owner);
            let kept = former.get(&(dvipa, owner)).filter(|_| !dirty.contains(&dvipa));
            kept.map(|entry| (*entry).clone()).unwrap_or_else(|| {
                let distributions = definitions.distributes_of(dvipa).iter();
                VipaListDvipa {
                    address: Address(dvipa.address()),
                    epoch: held.epoch,
                    owner,
                    rank: ranks.get(&dvipa).copied().unwrap_or(PRIMARY),
                    distributions: distributions.map(|d| self.list_distribution(d)).collect(),
                    forwards: matches!(held.duty(), Some(Duty::Former | Duty::Partner)).then_some(true),
                }
            })
        };
        let others = self.dvipas.iter_warm().filter(|(_, held)| held.duty() != Some(Duty::Owner));
        let dvipas = self.dvipas.iter().chain(others).map(entry).collect();
        let by_load = definitions.distributes.iter().any(|d| d.method == Method::PowerOfTwo);
        VipaList {
            dvipas,
            forwarders: self.config.node.cluster_address.iter().map(Address).collect(),
            by_load: by_load.then_some(true),
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
            content_routed: Some(distribution.content_routed),
        }
    }
}
