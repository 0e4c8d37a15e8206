//! Which stack has which cluster address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{ClusterAddress, StackName};

use super::ownership::Dvipas;
use super::stacks::{StackNow, Stacks};
use crate::config::Candidate;

/// Who is behind each cluster address. This node comes first, then the stacks that are here, in the order in which
/// they came, then those that are gone, the last one first.
#[derive(Debug)]
pub(super) struct Roster<'a> {
    by_address: BTreeMap<IpAddr, &'a StackName>,
}

impl<'a> Roster<'a> {
    /// The stacks as they are now.
    pub(super) fn new(own: &'a StackName, own_address: ClusterAddress, stacks: &'a Stacks) -> Self {
        let mut by_address: BTreeMap<IpAddr, &StackName> = own_address.iter().map(|a| (a, own)).collect();
        let mut all: Vec<StackNow<'_>> = stacks.iter().filter(|stack| stack.name != own).collect();
        all.sort_by_key(|stack| match stack.said {
            Some(_) => (0, stack.known.greeting),
            None => (1, u64::MAX - stack.known.greeting),
        });
        for stack in all {
            for address in stack.known.cluster_address.iter() {
                by_address.entry(address).or_insert(stack.name);
            }
        }
        Self { by_address }
    }

    /// The name of the stack that a definition means, if it is known.
    pub(super) fn name_of(&self, candidate: &'a Candidate) -> Option<&'a StackName> {
        match candidate {
            Candidate::Name(name) => Some(name),
            Candidate::Address(address) => self.by_address.get(address).copied(),
        }
    }

    /// Does another stack, or a DVIPA, have an address of this one?
    pub(super) fn conflicts(&self, stack: StackNow<'_>, dvipas: &Dvipas) -> bool {
        stack.known.cluster_address.iter().any(|address| {
            let another = self.by_address.get(&address).is_some_and(|holder| *holder != stack.name);
            another || dvipas.owned(address.into()).is_some()
        })
    }
}
