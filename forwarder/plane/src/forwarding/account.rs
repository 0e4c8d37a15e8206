//! Stacks' complete accounts of their connections, which come in parts.
//!
//! While the parts come it is noted which connections they name; after the last one the [walk](super::walk) looks for those that
//! none has named. Nothing is looked for at the beginning: a thousand accounts at once cost one round, and what they name.

use std::hash::BuildHasher;

use forwarder::crt::{CrtState, KeyParts, Row};
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use model::{Protocol, StackIndex};

use super::walk::Place;

/// The accounts that are being given, and those of which the rest is looked for.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    open: HashMap<StackIndex, Open>,
    hash: DefaultHashBuilder,
}

#[derive(Debug, Default)]
struct Open {
    /// What the stack has named, by 64 bits of a hash: of two connections with the same one, the one that ended stays until the
    /// next account. `None`: it had no connection before, so there is nothing to look for.
    named: Option<HashSet<u64>>,
    /// The last part has come; how far the walk has to go then.
    until: Option<Place>,
}

impl Accounts {
    /// The first part comes. `had_some`: the stack has confirmed connections already.
    pub(super) fn begin(&mut self, owner: StackIndex, had_some: bool) {
        self.open.insert(owner, Open { named: had_some.then(HashSet::new), until: None });
    }

    /// The last part has come: what none has named is ended until the walk is there.
    pub(super) fn end(&mut self, owner: StackIndex, until: Place) {
        match self.open.get_mut(&owner) {
            Some(Open { named: Some(_), until: end }) => *end = Some(until),
            Some(Open { named: None, .. }) => drop(self.open.remove(&owner)),
            None => {}
        }
    }

    /// Whether parts of it are still to come.
    pub(super) fn are_given_by(&self, owner: StackIndex) -> bool {
        self.open.get(&owner).is_some_and(|open| open.until.is_none())
    }

    /// The stack says that it has this connection.
    pub(super) fn named(&mut self, owner: StackIndex, key: KeyParts) {
        if let Some(named) = self.open.get_mut(&owner).and_then(|open| open.named.as_mut()) {
            named.insert(print(&self.hash, key));
        }
    }

    /// The stack that has this connection need not name it.
    pub(super) fn need_not_name(&mut self, key: KeyParts) {
        let print = print(&self.hash, key);
        self.open.values_mut().filter_map(|open| open.named.as_mut()).for_each(|named| {
            named.insert(print);
        });
    }

    /// Whether there is anything to look for.
    pub(super) fn are_looked_through(&self) -> bool {
        self.open.values().any(|open| open.until.is_some())
    }

    /// Whether the entry's stack does not have it any more. Half-open ones are younger than any account, and of UDP no account
    /// is given: both end by age.
    pub(super) fn end_of(&self, row: &Row) -> bool {
        if row.entry.state != CrtState::Established || row.key.protocol != Protocol::Tcp {
            return false;
        }
        match self.open.get(&row.entry.owner) {
            Some(Open { named: Some(named), until: Some(_) }) => !named.contains(&print(&self.hash, row.key)),
            _ => false,
        }
    }

    /// The walk is here.
    pub(super) fn walked(&mut self, here: Place) {
        self.open.retain(|_, open| open.until.is_none_or(|until| here < until));
    }
}

fn print(hash: &DefaultHashBuilder, KeyParts { client, dvipa, dvipa_port, protocol }: KeyParts) -> u64 {
    hash.hash_one((client, dvipa, dvipa_port, protocol))
}
