//! What others have changed in the routing node's kernel: how often it was put right, and what stands in the way still.

use serde::{Deserialize, Serialize};

/// What can be changed under `batond`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A setting below `/proc/sys/net`.
    Setting,
    /// Work that an interface leaves to its device again.
    Offload,
    /// The Ethernet address of the kernel's end of the local port.
    Address,
    /// The MTU of an interface.
    Mtu,
    /// An interface is gone or down.
    Interface,
    /// Packets whose checksums their sender's device has not computed.
    Checksum,
}

impl model::environment::Subject for Subject {
    const ALL: &'static [Self] =
        &[Self::Setting, Self::Offload, Self::Address, Self::Mtu, Self::Interface, Self::Checksum];

    fn as_str(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Offload => "offload",
            Self::Address => "address",
            Self::Mtu => "mtu",
            Self::Interface => "interface",
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
    use std::collections::BTreeSet;

    use model::environment::Subject as _;

    use super::*;

    #[test]
    fn every_subject_has_the_word_that_its_json_has() {
        for &subject in Subject::ALL {
            assert_eq!(serde_json::to_value(subject).unwrap(), subject.as_str());
        }
    }

    #[test]
    fn repairs_are_counted_and_what_stands_is_what_was_found_last() {
        let mut environment = Environment::default();
        environment.put_right(Subject::Offload, "tx of loc0 was on");
        environment.put_right(Subject::Offload, "tx of loc0 was on");
        let finding = Finding { subject: Subject::Mtu, sentence: "the MTU of loc0 is 1400".to_owned() };
        environment.stands(BTreeSet::from([finding.clone()]));
        let json = serde_json::to_value(&environment).unwrap();
        let sentence = "the MTU of loc0 is 1400";
        let standing = serde_json::json!([{ "subject": "mtu", "sentence": sentence }]);
        assert_eq!(json, serde_json::json!({ "put_right": { "offload": 2 }, "standing": standing }));
        environment.stands(BTreeSet::new());
        assert!(environment.standing.is_empty());
    }
}
