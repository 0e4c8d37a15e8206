//! Which addresses this host has, and whose packets it takes: what all lists together say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::message::VipaListDvipa;
use model::{ClusterAddress, Dvipa};

use super::event::{Action, Origin};
use super::listens::is_candidate;
use super::routing_stack::RoutingStack;
use super::sockets::Scope;
use super::{MAX_DVIPAS, Machine};

impl Machine {
    /// Makes addresses and accepted sources what the lists say now.
    pub(super) fn settle(&mut self) {
        if self.stacks.values().all(|s| s.list.is_some()) {
            self.inherited = None;
        }
        let forwarders = self.wanted_forwarders();
        if forwarders != self.forwarders {
            self.forwarders.clone_from(&forwarders);
            self.actions.push_back(Action::SetForwarders(forwarders));
        }
        let wanted = self.wanted_dvipas();
        for dvipa in self.dvipas.keys().copied().filter(|d| !wanted.contains_key(d)).collect::<Vec<_>>() {
            self.dvipas.remove(&dvipa);
            self.sockets.forget(dvipa.address());
            self.actions.push_back(Action::RemoveDvipa(dvipa));
        }
        for (dvipa, origin) in wanted {
            let before = self.dvipas.insert(dvipa, origin);
            if before != Some(origin) {
                self.actions.push_back(Action::AddDvipa(dvipa, origin));
            }
            if before.is_none() {
                self.want(Scope::All);
            }
        }
    }

    fn wanted_forwarders(&self) -> BTreeSet<IpAddr> {
        let inherited = self.inherited.iter().flat_map(|i| i.forwarders.iter().copied());
        self.stacks.values().flat_map(RoutingStack::forwarders).chain(inherited).collect()
    }

    fn wanted_dvipas(&self) -> BTreeMap<Dvipa, Option<Origin>> {
        let in_use: BTreeSet<_> = self.sockets.connections().map(|c| Dvipa::new(c.dvipa.ip())).collect();
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
        let owners = self.stacks.values().filter_map(|s| Some((s, s.entry(dvipa).filter(|e| e.owner)?)));
        let (owner, _) = owners.max_by_key(|(_, entry)| entry.epoch)?;
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
