//! What others change on a host: how often it was put right, and what stands in the way still. Agents and routing nodes watch
//! different subjects in the same way.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What can be changed under a program.
pub trait Subject: Copy + Ord {
    /// The word in JSON, logs and metrics.
    fn as_str(self) -> &'static str;
}

/// Something that only the operator can put right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding<S> {
    /// What it is about.
    pub subject: S,
    /// What was found, and what to do.
    pub sentence: String,
}

impl<S> Finding<S> {
    /// A finding.
    pub fn new(subject: S, sentence: impl Into<String>) -> Self {
        Self { subject, sentence: sentence.into() }
    }
}

/// The host's condition, as far as others can change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "S: Deserialize<'de> + Ord"))]
pub struct Environment<S> {
    /// How often something was changed and put right since the start.
    pub put_right: BTreeMap<S, u64>,
    /// What stands in the way now.
    pub standing: BTreeSet<Finding<S>>,
}

impl<S> Default for Environment<S> {
    fn default() -> Self {
        Self { put_right: BTreeMap::new(), standing: BTreeSet::new() }
    }
}

impl<S: Subject> Environment<S> {
    /// Something was changed, and is as it should be again.
    pub fn put_right(&mut self, subject: S, what: &str) {
        tracing::warn!(subject = subject.as_str(), "{what}: put right");
        let times = self.put_right.entry(subject).or_default();
        *times = times.saturating_add(1);
    }

    /// This is all that stands in the way now. What is new and what is gone is logged once.
    pub fn stands(&mut self, findings: BTreeSet<Finding<S>>) {
        for finding in findings.difference(&self.standing) {
            tracing::warn!(subject = finding.subject.as_str(), "{}", finding.sentence);
        }
        for finding in self.standing.difference(&findings) {
            tracing::info!(subject = finding.subject.as_str(), "no longer: {}", finding.sentence);
        }
        self.standing = findings;
    }
}
