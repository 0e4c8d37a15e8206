//! Which addresses this host has, and whose packets it takes: what all lists together say.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::message::VipaListDvipa;
use model::{ClusterAddress, Dvipa, Epoch, StackName};

use super::event::{Action, Forwarders, Origin, Takes};
use super::listens::is_candidate;
use super::sockets::Scope;
use super::{MAX_DVIPAS, MAX_FORWARDERS, Machine};

impl Machine {
    /// Makes addresses and accepted sources what the lists say now.
    pub(super) fn settle(&mut self) {
        // Before the first look it is not known what connections hold an address that no list gives this host.
        if self.has_looked() && self.stacks.values().all(|s| s.list.is_some()) {
            self.inherited = None;
        }
        let wanted = self.wanted_dvipas();
        let forwarders = self.wanted_forwarders(&wanted);
        if forwarders != self.forwarders {
            self.forwarders.clone_from(&forwarders);
            self.actions.push_back(Action::SetForwarders(forwarders));
        }
        for dvipa in self.dvipas.keys().copied().filter(|d| !wanted.contains_key(d)).collect::<Vec<_>>() {
            self.dvipas.remove(&dvipa);
            self.sockets.forget(dvipa.address());
            self.actions.push_back(Action::RemoveDvipa(dvipa));
        }
        self.sockets.forget_some(self.at_a_step);
        for (dvipa, origin) in wanted {
            let before = self.dvipas.insert(dvipa, origin);
            if before != Some(origin) {
                self.actions.push_back(Action::AddDvipa(dvipa, origin));
            }
            if before.is_none() {
                self.sockets.remember(dvipa.address());
                self.want(Scope::All);
            }
        }
    }

    /// The forwarders of each DVIPA's present owner, of those that know of it and forward packets too,
    /// and of a stack that still calls it its own from an earlier epoch. What was inherited holds for DVIPAs that nobody has listed
    /// yet.
    fn wanted_forwarders(&self, dvipas: &BTreeMap<Dvipa, Option<Origin>>) -> Forwarders {
        let owned = self.stacks.iter().flat_map(|(name, stack)| {
            let owned = stack.entries().filter(|entry| entry.owner || entry.forwards == Some(true));
            owned.map(move |entry| (Dvipa::new(entry.address.0), entry, (name, stack)))
        });
        let owned: Vec<_> = owned.filter(|(dvipa, ..)| dvipas.contains_key(dvipa)).collect();
        let mut newest = BTreeMap::new();
        for (dvipa, entry, (name, _)) in owned.iter().filter(|(_, entry, _)| entry.owner) {
            let known = newest.entry(*dvipa).or_insert(newer(entry, name));
            *known = (*known).max(newer(entry, name));
        }
        let mut wanted = Forwarders::new();
        for (dvipa, entry, (name, stack)) in owned {
            let is_newest = !entry.owner || newest.get(&dvipa) == Some(&newer(entry, name));
            let takes = if is_newest { Takes::All } else { Takes::WhatIsHere };
            for source in stack.forwarders().take(MAX_FORWARDERS) {
                let known = wanted.entry((source, dvipa)).or_insert(takes);
                if takes == Takes::All {
                    *known = Takes::All;
                }
            }
        }
        let inherited = self.inherited.iter().flat_map(|inherited| &inherited.forwarders);
        wanted.extend(
            inherited
                .filter(|((_, dvipa), _)| !newest.contains_key(dvipa))
                .map(|(key, takes)| (*key, *takes)),
        );
        wanted
    }

    fn wanted_dvipas(&self) -> BTreeMap<Dvipa, Option<Origin>> {
        let in_use: BTreeSet<_> = self.sockets.addresses().map(Dvipa::new).collect();
        let named = |e: &VipaListDvipa| e.distributions.iter().any(|d| is_candidate(d, &self.own.name));
        let mut wanted = BTreeMap::new();
        let all = self.stacks.iter().flat_map(|(name, stack)| stack.entries().map(move |e| (name, e)));
        for (stack, entry) in all {
            let dvipa = Dvipa::new(entry.address.0);
            // The owner's own kernel serves what is not distributed.
            let own = entry.owner && *stack == self.own.name;
            if own || named(entry) || (self.dvipas.contains_key(&dvipa) && in_use.contains(&dvipa)) {
                wanted.insert(dvipa, self.origin(dvipa));
            }
        }
        // One of a range is in no list of a routing stack that has begun anew, until hosts have said that it is bound.
        for (dvipa, origin) in &self.dvipas {
            if in_use.contains(dvipa) && self.is_in_a_range(*dvipa) {
                wanted.entry(*dvipa).or_insert(*origin);
            }
        }
        for (dvipa, origin) in self.inherited.iter().flat_map(|i| &i.dvipas) {
            wanted.entry(*dvipa).or_insert(*origin);
        }
        while wanted.len() > MAX_DVIPAS {
            wanted.pop_last();
        }
        wanted
    }

    /// The way to the routing stack that owns this DVIPA, by the newest epoch. None if it is this host itself.
    fn origin(&self, dvipa: Dvipa) -> Option<Origin> {
        let owners = self.stacks.iter();
        let owners = owners.filter_map(|(name, s)| Some((name, s, s.entry(dvipa).filter(|e| e.owner)?)));
        let (_, owner, _) = owners.max_by_key(|(name, _, entry)| newer(entry, name))?;
        let addresses: Vec<_> = owner.forwarders().collect();
        let to = |v4: bool| addresses.iter().copied().find(|a| a.is_ipv4() == v4);
        let ClusterAddress { v4, v6 } = self.own.cluster_address;
        let way = |from: Option<IpAddr>| {
            let from = from?;
            Some(Origin { to: to(from.is_ipv4())?, from })
        };
        way(v4.map(IpAddr::V4)).or_else(|| way(v6.map(IpAddr::V6))).filter(|o| o.to != o.from)
    }
}

/// Of two owners the one that counts is that of the later epoch; of the same epoch, which only stacks that decide alone can have, the
/// one whose name comes first, as in [`Machine::owners`].
fn newer<'a>(entry: &VipaListDvipa, name: &'a StackName) -> (Epoch, Reverse<&'a StackName>) {
    (entry.epoch, Reverse(name))
}
