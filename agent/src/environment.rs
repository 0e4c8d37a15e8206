//! What others have changed on this host: how often it was put right, and what stands in the way still.

use serde::Serialize;

/// What can be changed under the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A DVIPA is no address of `lo` any more.
    Address,
    /// A setting of the kernel that packets to DVIPAs need.
    Setting,
    /// A packet program is not attached any more.
    Program,
    /// A routing rule by which containers reach DVIPAs.
    Rule,
    /// An interface is gone, or can't be used.
    Interface,
    /// Another product's program gets packets before the agent's.
    Order,
    /// A setting of the kernel without which connections can't move as they are.
    HandOver,
    /// Packets whose checksums their sender's device has not computed.
    Checksum,
}

impl model::environment::Subject for Subject {
    const ALL: &'static [Self] = &[
        Self::Address,
        Self::Setting,
        Self::Program,
        Self::Rule,
        Self::Interface,
        Self::Order,
        Self::HandOver,
        Self::Checksum,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Setting => "setting",
            Self::Program => "program",
            Self::Rule => "rule",
            Self::Interface => "interface",
            Self::Order => "order",
            Self::HandOver => "hand_over",
            Self::Checksum => "checksum",
        }
    }
}

/// As [`model::environment::Finding`].
pub type Finding = model::environment::Finding<Subject>;
/// As [`model::environment::Environment`].
pub type Environment = model::environment::Environment<Subject>;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use model::environment::Subject as _;

    use super::*;

    #[test]
    fn every_subject_has_the_word_that_its_json_has() {
        for &subject in Subject::ALL {
            assert_eq!(serde_json::to_value(subject).unwrap(), subject.as_str());
        }
    }

    #[test]
    fn what_stands_is_what_was_found_last() {
        let mut environment = Environment::default();
        let order = Finding::new(Subject::Order, "another program comes first");
        environment.stands(BTreeSet::from([order.clone()]));
        environment.stands(BTreeSet::from([order.clone()]));
        assert_eq!(environment.standing, BTreeSet::from([order]));
        environment.stands(BTreeSet::new());
        assert!(environment.standing.is_empty());
    }

    #[test]
    fn repairs_are_counted_by_subject() {
        let mut environment = Environment::default();
        environment.put_right(Subject::Address, "198.18.9.1 was removed from lo");
        environment.put_right(Subject::Address, "198.18.9.1 was removed from lo");
        assert_eq!(environment.put_right, BTreeMap::from([(Subject::Address, 2)]));
    }
}
