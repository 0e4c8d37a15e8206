//! Who owns which DVIPA, as an agent knows it.

use std::collections::BTreeMap;

use model::{Connection, Dvipa, Epoch, StackName};

/// The routing stack that owns a DVIPA now and has a session with this agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Which stack.
    pub stack: StackName,
    /// The epoch of its ownership.
    pub epoch: Epoch,
}

/// The owners by DVIPA.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Owners(BTreeMap<Dvipa, Owner>);

impl Owners {
    pub(crate) fn set(&mut self, dvipa: Dvipa, owner: Option<Owner>) {
        match owner {
            Some(owner) => drop(self.0.insert(dvipa, owner)),
            None => drop(self.0.remove(&dvipa)),
        }
    }

    pub(crate) fn of(&self, dvipa: Dvipa) -> Option<&Owner> {
        self.0.get(&dvipa)
    }

    /// Is this the word of the DVIPA's present owner in its present epoch? Anything else is void.
    pub(crate) fn is_present(&self, from: &StackName, (connection, epoch): (Connection, Epoch)) -> bool {
        let owner = self.of(connection.service().dvipa);
        owner.is_some_and(|owner| owner.stack == *from && owner.epoch == epoch)
    }
}
