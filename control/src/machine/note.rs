//! What an operator would do something about, for the log: each once, when it happens.

use std::collections::{BTreeMap, BTreeSet};

use model::dpt::{Distribution, Dpt};
use model::message::Application;
use model::{Dvipa, DvipaIndex, Protocol, Service, StackIndex, StackName};

use super::TargetState;

/// A fact for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The stack is a current actual target of these services now.
    Came {
        /// Which stack.
        stack: StackName,
        /// Of what.
        services: Vec<Service>,
    },
    /// It is one no more.
    Went {
        /// Which stack.
        stack: StackName,
        /// Of what.
        services: Vec<Service>,
        /// Why not of the first of them; none: that is not distributed any more.
        why: Option<TargetState>,
    },
    /// These applications are registered on the stack for a DVIPA now, and no others.
    Registered {
        /// Which stack.
        stack: StackName,
        /// For which DVIPA.
        dvipa: Dvipa,
        /// Which applications.
        applications: Vec<Application>,
    },
    /// The stack and this node disagree about the longest packet on the ways between them.
    OtherMtu {
        /// Which stack.
        stack: StackName,
        /// What it has, in bytes.
        theirs: u16,
        /// What this node has, in bytes.
        ours: u16,
    },
}

/// A target of a service.
type Row = (StackIndex, Service);

/// Which targets came, and which went, from one DPT to the next.
pub(super) fn changes(before: &Dpt, after: &Dpt) -> (BTreeSet<Row>, BTreeSet<Row>) {
    let (before, after) = (changed(before, after), changed(after, before));
    (after.difference(&before).copied().collect(), before.difference(&after).copied().collect())
}

/// The targets in rows of a DPT that another one does not have just so.
fn changed(of: &Dpt, other: &Dpt) -> BTreeSet<Row> {
    type Key = (DvipaIndex, u16, Protocol);
    let key = |row: &Distribution| -> Key { (row.dvipa, row.port, row.protocol) };
    let theirs: BTreeMap<Key, &Distribution> =
        other.distributions.iter().map(|row| (key(row), row)).collect();
    let dvipas: BTreeMap<DvipaIndex, Dvipa> = of.dvipas.iter().map(|d| (d.index, d.dvipa)).collect();
    let changed = of.distributions.iter().filter(|row| theirs.get(&key(row)) != Some(row));
    let rows = changed.filter_map(|row| {
        let service = Service { dvipa: *dvipas.get(&row.dvipa)?, port: row.port, protocol: row.protocol };
        let targets = row.targets.iter().chain(row.policies.iter().flat_map(|policy| &policy.targets));
        Some(targets.map(move |target| (target.stack, service)))
    });
    rows.flatten().collect()
}
