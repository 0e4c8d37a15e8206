//! One DVIPA as a witness knows it.

use model::{Epoch, StackName};

/// Who has the witness's grant of a DVIPA, and who has it next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seat {
    /// The highest epoch that was granted.
    pub(super) highest: Epoch,
    pub(super) holder: Option<StackName>,
    /// Who has claimed it meanwhile, in this order.
    waiting: Vec<StackName>,
}

impl Seat {
    pub(super) fn new(highest: Epoch) -> Self {
        Self { highest, holder: None, waiting: Vec::new() }
    }

    /// This one claims it. An owner comes first.
    pub(super) fn wait(&mut self, node: &StackName, owner: bool) {
        if owner {
            self.waiting.insert(0, node.clone());
        } else {
            self.waiting.push(node.clone());
        }
    }

    /// This one has no claim any more.
    pub(super) fn leave(&mut self, node: &StackName) {
        self.waiting.retain(|other| other != node);
        if self.holder.as_ref() == Some(node) {
            self.holder = None;
        }
    }

    /// Takes out who is next, if it is free.
    pub(super) fn next(&mut self) -> Option<StackName> {
        (self.holder.is_none() && !self.waiting.is_empty()).then(|| self.waiting.remove(0))
    }

    /// Only its highest epoch is worth to be remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.holder.is_none() && self.waiting.is_empty()
    }
}
