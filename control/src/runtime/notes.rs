//! The machine's notes, in the log.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use model::transfer::Reason;
use model::{Connection, StackName};
use transfer::routing::Outcome;

use crate::machine::Note;

/// For how long failures of transfers for the same reason are not news: an evacuation tries thousands of connections.
const QUIETLY: Duration = Duration::from_secs(10);
/// How many of one kind are named in a line.
const NAMED: usize = 4;

/// Writes a note down.
pub(super) fn write(note: &Note) {
    match note {
        Note::Came { stack, services } => {
            tracing::info!(%stack, services = list(services), "takes new connections");
        }
        Note::Went { stack, services, why } => {
            let why = why.map_or("not-distributed", |why| why.word());
            tracing::info!(%stack, services = list(services), why, "takes no new connections any more");
        }
        Note::Registered { stack, dvipa, applications } => {
            let named: Vec<String> =
                applications.iter().map(|a| format!("{}:{} ({:?})", a.job, a.port, a.role)).collect();
            tracing::info!(%stack, %dvipa, applications = list(&named), "applications registered");
        }
        Note::Wrong { stack, said } => {
            tracing::warn!(%stack, "{said}; `baton stats` counts what else of this kind it says");
        }
        Note::Gained { dvipa, epoch, from } => {
            let from = from.as_ref().map_or("none that lives", StackName::as_str);
            tracing::info!(%dvipa, epoch = epoch.0, from, "owned from now on");
        }
        Note::Active { dvipa, stack, ordered } => {
            tracing::info!(%dvipa, %stack, ordered, "the address of a range is active");
        }
        Note::NoNumber { dvipa } => {
            tracing::warn!(%dvipa, "the address of a range is not active: this node has no number left for another DVIPA");
        }
        Note::Lost { dvipa, to } => {
            let to = to.as_ref().map_or("none that is known", StackName::as_str);
            tracing::info!(%dvipa, to, "not owned any more");
        }
        Note::PeerDead { stack } => {
            tracing::warn!(%stack, "the routing stack is not heard any more: what it owned is taken over");
        }
        Note::Contradiction { dvipa, rank, stacks } => {
            let stacks = list(stacks);
            let what = if *rank == u8::MAX { "have a vipadefine" } else { "have a vipabackup of one rank" };
            tracing::error!(%dvipa, rank, stacks, "these routing stacks {what} of it: let one have it, or give them different ranks");
        }
        Note::OtherWitnesses { stack, theirs: (witnesses, lease_ms) } => {
            let witnesses = list(witnesses);
            tracing::error!(%stack, witnesses, lease_ms, "this routing stack has other witnesses than this node, or another lease, so that both may own one DVIPA: have one `cluster.witnesses` and `cluster.lease_ms` in all batond.toml");
        }
        Note::OtherMtu { stack, theirs, ours } => {
            tracing::warn!(
                %stack,
                theirs,
                ours,
                "the stack's fabric_mtu differs from this node's: packets may get lost; configure the same one"
            );
        }
    }
}

/// How transfers end, in the log: of those that fail for one reason, one in [`QUIETLY`].
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<Option<Reason>, Instant>);

impl Failures {
    /// A transfer has ended.
    pub(super) fn write(
        &mut self,
        connection: &Connection,
        (source, target): (&StackName, &StackName),
        way: &str,
        outcome: &Outcome,
    ) {
        let reason = match outcome {
            Outcome::Moved => {
                tracing::debug!(%connection, %source, %target, way, "moved");
                return;
            }
            Outcome::Stayed(why) => Some(why.reason),
            Outcome::Lost => None,
        };
        let why = reason.unwrap_or(Reason::OutcomeLost).sentence();
        if self.is_news(reason, Instant::now()) {
            tracing::info!(%connection, %source, %target, way, why, "not moved; others like it follow at debug level");
        } else {
            tracing::debug!(%connection, %source, %target, way, why, "not moved");
        }
    }

    fn is_news(&mut self, reason: Option<Reason>, now: Instant) -> bool {
        let known = self.0.get(&reason).is_some_and(|at| now.saturating_duration_since(*at) < QUIETLY);
        if !known {
            self.0.insert(reason, now);
        }
        !known
    }
}

/// The first of them, and how many more there are.
fn list<T: Display>(all: &[T]) -> String {
    let named: Vec<String> = all.iter().take(NAMED).map(T::to_string).collect();
    let text = named.join(", ");
    match all.len().saturating_sub(NAMED) {
        0 if text.is_empty() => "none".to_owned(),
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(list(&["a", "b"]), "a, b");
        assert_eq!(list(&["a", "b", "c", "d", "e", "f"]), "a, b, c, d and 2 more");
        assert_eq!(list::<u8>(&[]), "none");
    }
}
