//! Whose word counts when two stacks say that they have a connection.
//!
//! A host that was cut off still has the connections of clients that have long been served elsewhere, and says so when it is
//! back. A move is no such case: its transfer changes the owner.

use forwarder::crt::Entry;
use model::StackIndex;

/// What is known of a stack that says that it has a connection, and of the one that the CRT names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// Who says it.
    pub(super) by: StackIndex,
    /// It says it of what it had before, in a complete account or in place of one, not as news.
    pub(super) earlier: bool,
    /// The owner that the CRT names is heard of.
    pub(super) owner_is_up: bool,
}

impl Claim {
    /// Whether the entry stays as it is: it is another living stack's, and confirmed. While it is half-open there, only news
    /// count: an account may name a connection before that.
    pub(super) fn is_void(self, entry: Entry) -> bool {
        entry.owner != self.by && self.owner_is_up && (entry.state.counts() || self.earlier)
    }
}

#[cfg(test)]
mod tests {
    use model::CrtState;

    use super::*;

    const OWNER: StackIndex = StackIndex(1);
    const OTHER: StackIndex = StackIndex(2);

    fn is_void(by: StackIndex, state: CrtState, earlier: bool, owner_is_up: bool) -> bool {
        Claim { by, earlier, owner_is_up }.is_void(Entry { owner: OWNER, state })
    }

    #[test]
    fn a_connection_of_a_living_stack_is_taken_by_no_claim() {
        for state in [CrtState::Established, CrtState::Frozen, CrtState::HandingOver] {
            assert!(
                [true, false].into_iter().all(|account| is_void(OTHER, state, account, true)),
                "{state:?}"
            );
        }
        assert!(is_void(OTHER, CrtState::HalfOpen, true, true), "it may have been selected anew");
    }

    #[test]
    fn what_is_not_confirmed_or_not_heard_of_any_more_is_whose_claim_it_is() {
        assert!(!is_void(OTHER, CrtState::HalfOpen, false, true));
        assert!(!is_void(OTHER, CrtState::Closing, false, true));
        for account in [true, false] {
            assert!(!is_void(OTHER, CrtState::Established, account, false));
            assert!(!is_void(OWNER, CrtState::Established, account, true), "its own");
        }
    }
}
