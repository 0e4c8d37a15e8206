//! Which stack has which cluster address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{ClusterAddress, StackName};

use super::ownership::Dvipas;
use super::stacks::StackNow;
use crate::config::Candidate;

/// Who is behind each cluster address. This node comes first, then the stacks that are here, in the order in which
/// they came, then those that are gone, the last one first.
#[derive(Debug)]
pub(super) struct Roster {
    own: StackName,
    own_address: ClusterAddress,
    places: BTreeMap<StackName, Place>,
    by_address: BTreeMap<IpAddr, BTreeSet<(Turn, StackName)>>,
    moved: Moved,
}

/// Among the stacks with one address the first one has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// It is here, and greeted as that many others had.
    Here(u64),
    /// It is gone; the one that greeted last comes first.
    Gone(std::cmp::Reverse<u64>),
}

/// Where a stack stands.
type Place = (Turn, ClusterAddress);

/// Addresses that another stack has than before.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) addresses: BTreeSet<IpAddr>,
    /// The stacks that name them as theirs.
    pub(super) stacks: BTreeSet<StackName>,
}

impl Roster {
    /// This node alone.
    pub(super) fn new(own: StackName, own_address: ClusterAddress) -> Self {
        let (places, by_address, moved) = (BTreeMap::new(), BTreeMap::new(), Moved::default());
        Self { own, own_address, places, by_address, moved }
    }

    /// A stack that has greeted at least once stands here now.
    pub(super) fn place(&mut self, stack: &StackName, turn: Turn, address: ClusterAddress) {
        self.put(stack, Some((turn, address)));
    }

    /// A stack is forgotten.
    pub(super) fn remove(&mut self, stack: &StackName) {
        self.put(stack, None);
    }

    fn put(&mut self, stack: &StackName, now: Option<Place>) {
        let before = match now {
            Some(now) => self.places.insert(stack.clone(), now),
            None => self.places.remove(stack),
        };
        if *stack == self.own || before == now {
            return;
        }
        let addresses = before.iter().chain(&now).flat_map(|(_, address)| address.iter());
        let addresses: BTreeSet<IpAddr> = addresses.collect();
        let holders = |roster: &Self| -> Vec<Option<StackName>> {
            addresses.iter().map(|address| roster.holder(*address).cloned()).collect()
        };
        let held = holders(self);
        for (turn, address) in before.iter().flat_map(|(turn, a)| a.iter().map(move |a| (*turn, a))) {
            if let Some(stacks) = self.by_address.get_mut(&address) {
                stacks.remove(&(turn, stack.clone()));
            }
        }
        for (turn, address) in now.iter().flat_map(|(turn, a)| a.iter().map(move |a| (*turn, a))) {
            self.by_address.entry(address).or_default().insert((turn, stack.clone()));
        }
        for (address, before) in addresses.iter().zip(held) {
            let with_it = self.by_address.get(address).into_iter().flatten().map(|(_, stack)| stack);
            if self.holder(*address) != before.as_ref() {
                self.moved.addresses.insert(*address);
                self.moved.stacks.extend(with_it.chain(&before).cloned());
            }
            if self.by_address.get(address).is_some_and(BTreeSet::is_empty) {
                self.by_address.remove(address);
            }
        }
    }

    /// What has changed hands since the last call.
    pub(super) fn take_moved(&mut self) -> Moved {
        std::mem::take(&mut self.moved)
    }

    /// The stacks, but for this node's, that name the address as theirs.
    pub(super) fn with_address(&self, address: IpAddr) -> impl Iterator<Item = &StackName> {
        self.by_address.get(&address).into_iter().flatten().map(|(_, stack)| stack)
    }

    /// The stack that is behind a cluster address.
    pub(super) fn holder(&self, address: IpAddr) -> Option<&StackName> {
        if self.own_address.iter().any(|own| own == address) {
            return Some(&self.own);
        }
        self.by_address.get(&address)?.first().map(|(_, stack)| stack)
    }

    /// The name of the stack that a definition means, if it is known.
    pub(super) fn name_of<'a>(&'a self, candidate: &'a Candidate) -> Option<&'a StackName> {
        match candidate {
            Candidate::Name(name) => Some(name),
            Candidate::Address(address) => self.holder(*address),
        }
    }

    /// Does another stack, or a DVIPA, have an address of this one?
    pub(super) fn conflicts(&self, stack: StackNow<'_>, dvipas: &Dvipas) -> bool {
        stack.known.cluster_address.iter().any(|address| {
            let another = self.holder(address).is_some_and(|holder| holder != stack.name);
            another || dvipas.warm(address.into()).is_some()
        })
    }
}
