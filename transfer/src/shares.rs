//! How many transfers there are to each target.

use std::collections::BTreeMap;

use model::StackName;

use crate::limits::TRANSFERS_TO_A_TARGET;

/// The targets that there are transfers to.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Shares(BTreeMap<StackName, usize>);

impl Shares {
    /// A transfer to this target begins.
    pub(crate) fn add(&mut self, target: &StackName) {
        match self.0.get_mut(target) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(target.clone(), 1)),
        }
    }

    /// One ends.
    pub(crate) fn remove(&mut self, target: &StackName) {
        if let Some(count) = self.0.get_mut(target) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(target);
            }
        }
    }

    /// No further one to this target may begin.
    pub(crate) fn is_used_up(&self, target: &StackName) -> bool {
        self.0.get(target).is_some_and(|count| *count >= TRANSFERS_TO_A_TARGET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::stack;

    #[test]
    fn a_place_is_free_again_when_a_transfer_has_ended() {
        let (one, other) = (stack("t1"), stack("t2"));
        let mut shares = Shares::default();
        (0..TRANSFERS_TO_A_TARGET).for_each(|_| shares.add(&one));
        assert!(shares.is_used_up(&one) && !shares.is_used_up(&other));
        shares.remove(&one);
        assert!(!shares.is_used_up(&one));
        shares.add(&one);
        assert!(shares.is_used_up(&one), "one place was free");
        (0..TRANSFERS_TO_A_TARGET).for_each(|_| shares.remove(&one));
        shares.remove(&other);
        assert!(shares.0.is_empty(), "nothing is kept of a target without transfers");
    }
}
