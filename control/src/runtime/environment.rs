//! What others have changed in the routing node's kernel: how often it was put right, and what stands in the way still.

use std::collections::{BTreeMap, BTreeSet};

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
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Setting, Self::Offload, Self::Address, Self::Mtu, Self::Interface];

    /// The word in JSON, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Offload => "offload",
            Self::Address => "address",
            Self::Mtu => "mtu",
            Self::Interface => "interface",
        }
    }
}

/// Something that only the operator can put right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about.
    pub subject: Subject,
    /// What was found, and what to do.
    pub sentence: String,
}

/// The kernel's condition, as far as others can change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// How often something was changed and put right since the start.
    pub put_right: BTreeMap<Subject, u64>,
    /// What stands in the way now.
    pub standing: BTreeSet<Finding>,
}

impl Environment {
    /// Something was changed, and is as it should be again.
    pub fn put_right(&mut self, subject: Subject, what: &str) {
        tracing::warn!(subject = subject.as_str(), "{what}: put right");
        let times = self.put_right.entry(subject).or_default();
        *times = times.saturating_add(1);
    }

    /// This is all that stands in the way now. What is new and what is gone is logged once.
    pub fn stands(&mut self, findings: BTreeSet<Finding>) {
        for finding in findings.difference(&self.standing) {
            tracing::warn!(subject = finding.subject.as_str(), "{}", finding.sentence);
        }
        for finding in self.standing.difference(&findings) {
            tracing::info!(subject = finding.subject.as_str(), "no longer: {}", finding.sentence);
        }
        self.standing = findings;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_has_the_word_that_its_json_has() {
        for subject in Subject::ALL {
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
