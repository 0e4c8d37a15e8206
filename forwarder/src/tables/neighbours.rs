//! The ways to the stacks: link-layer addresses, and the longest packets that they take.

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
/// resolved it, and what routers on the way have said of its MTU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    macs: BTreeMap<(StackIndex, Family), Mac>,
    mtus: BTreeMap<(StackIndex, Family), u16>,
}

impl Neighbours {
    /// None known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes the next hop on the way to the stack's cluster address of this family.
    pub fn set(&mut self, stack: StackIndex, family: Family, next_hop: Mac) {
        self.macs.insert((stack, family), next_hop);
    }

    /// The next hop, if it is known.
    pub fn get(&self, stack: StackIndex, family: Family) -> Option<Mac> {
        self.macs.get(&(stack, family)).copied()
    }

    /// Notes the longest IP packet that the way to the stack's cluster address of this family takes, in bytes.
    pub fn set_mtu(&mut self, stack: StackIndex, family: Family, mtu: u16) {
        self.mtus.insert((stack, family), mtu);
    }

    /// The longest IP packet that the way takes, if a router has said it.
    pub fn mtu(&self, stack: StackIndex, family: Family) -> Option<u16> {
        self.mtus.get(&(stack, family)).copied()
    }
}
