//! Link-layer addresses of the ways to the stacks.

use std::collections::BTreeMap;

use model::StackIndex;

use crate::packet::{Mac, ethernet};

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Its EtherType.
    pub fn ethertype(self) -> u16 {
        match self {
            Family::V4 => ethernet::IPV4,
            Family::V6 => ethernet::IPV6,
        }
    }
}

/// For each stack and family of its cluster address: the link-layer address of the next hop, as the node's kernel
/// resolved it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours(BTreeMap<(StackIndex, Family), Mac>);

impl Neighbours {
    /// None known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes the next hop on the way to the stack's cluster address of this family.
    pub fn set(&mut self, stack: StackIndex, family: Family, next_hop: Mac) {
        self.0.insert((stack, family), next_hop);
    }

    /// The next hop, if it is known.
    pub fn get(&self, stack: StackIndex, family: Family) -> Option<Mac> {
        self.0.get(&(stack, family)).copied()
    }
}
