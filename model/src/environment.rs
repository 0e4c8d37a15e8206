//! What others change on a host: how often it was put right, and what stands in the way still. Agents and routing nodes watch
//! different subjects in the same way.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What can be changed under a program.
pub trait Subject: Copy + Ord + 'static {
    /// All of them.
    const ALL: &'static [Self];
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

    /// Adds the metrics `environment_put_right_total` and `environment_standing`, a row for each subject.
    #[cfg(feature = "metrics")]
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

        type Labels = [(&'static str, &'static str); 1];
        let (put_right, standing) =
            (Family::<Labels, Counter>::default(), Family::<Labels, Gauge>::default());
        for subject in S::ALL {
            let labels = [("subject", subject.as_str())];
            let times = self.put_right.get(subject).copied().unwrap_or_default();
            put_right.get_or_create(&labels).inc_by(times);
            let findings = self.standing.iter().filter(|f| f.subject == *subject).count();
            standing.get_or_create(&labels).set(i64::try_from(findings).unwrap_or(i64::MAX));
        }
        let help = "How often a change to this host was found and undone";
        registry.register("environment_put_right", help, put_right);
        let help = "Changes to this host that only the operator can undo, now";
        registry.register("environment_standing", help, standing);
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Part {
        Door,
        Window,
    }

    impl Subject for Part {
        const ALL: &'static [Self] = &[Self::Door, Self::Window];

        fn as_str(self) -> &'static str {
            match self {
                Self::Door => "door",
                Self::Window => "window",
            }
        }
    }

    #[test]
    fn each_subject_has_its_rows_also_when_nothing_has_changed() {
        let mut environment = Environment::default();
        environment.put_right(Part::Door, "the door was open");
        environment.put_right(Part::Door, "the door was open");
        environment.stands(BTreeSet::from([Finding::new(Part::Window, "the window is broken")]));
        let mut registry = Registry::with_prefix("house");
        environment.register(&mut registry);
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        let rows: BTreeSet<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
        let wanted = [
            "house_environment_put_right_total{subject=\"door\"} 2",
            "house_environment_put_right_total{subject=\"window\"} 0",
            "house_environment_standing{subject=\"door\"} 0",
            "house_environment_standing{subject=\"window\"} 1",
        ];
        assert_eq!(rows, BTreeSet::from(wanted));
    }
}
