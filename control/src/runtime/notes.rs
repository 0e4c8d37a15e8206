//! The machine's notes, in the log.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use model::transfer::Reason;
use model::{Connection, StackName};
use transfer::routing::Outcome;

use super::api::EventName;
use crate::machine::Note;

/// For how long failures of transfers for the same reason are not news: an evacuation tries thousands of connections.
const QUIETLY: Duration = Duration::from_secs(10);
/// How many of one kind are named in a line.
const NAMED: usize = 4;

/// What a note is called.
pub(super) fn name(note: &Note) -> EventName {
    match note {
        Note::Came { .. } => EventName::TargetCame,
        Note::Went { .. } => EventName::TargetWent,
        Note::Fails { .. } => EventName::TargetFailing,
        Note::Recovers { .. } => EventName::TargetWell,
        Note::Panics { .. } => EventName::ServicePanics,
        Note::Registered { .. } => EventName::Registered,
        Note::Gained { .. } => EventName::DvipaGained,
        Note::Lost { .. } => EventName::DvipaLost,
        Note::Active { .. } => EventName::AddressActive,
        Note::PeerDead { .. } => EventName::PeerDead,
        Note::Wrong { .. }
        | Note::NoNumber { .. }
        | Note::Contradiction { .. }
        | Note::OtherWitnesses { .. }
        | Note::Unheard { .. }
        | Note::OtherMtu { .. } => EventName::Contradiction,
    }
}

/// Writes a note down. Returns what it is about, and the rest.
pub(super) fn write(note: &Note) -> (String, String) {
    let event = name(note).word();
    match note {
        Note::Came { stack, services } => {
            let services = list(services);
            tracing::info!(event, %stack, services, "takes new connections");
            (stack.to_string(), format!("takes new connections of {services}"))
        }
        Note::Went { stack, services, why } => {
            let (services, why) = (list(services), why.map_or("not-distributed", |why| why.word()));
            tracing::info!(event, %stack, services, why, "takes no new connections any more");
            (stack.to_string(), format!("takes no new connections of {services} any more: {why}"))
        }
        Note::Fails { stack, service, why } => {
            tracing::warn!(event, %stack, %service, why, "the server fails");
            (stack.to_string(), format!("{service} fails: {why}"))
        }
        Note::Recovers { stack, service } => {
            tracing::info!(event, %stack, %service, "the server is well again");
            (stack.to_string(), format!("{service} is well again"))
        }
        Note::Panics { service, begins: true } => {
            const TEXT: &str =
                "so many of its targets fail or are stalled that all are selected as if none were";
            tracing::error!(event, %service, "{TEXT}");
            (service.to_string(), TEXT.to_owned())
        }
        Note::Panics { service, begins: false } => {
            const TEXT: &str = "targets that fail or are stalled are left out again";
            tracing::info!(event, %service, "{TEXT}");
            (service.to_string(), TEXT.to_owned())
        }
        Note::Registered { stack, dvipa, applications } => {
            let named: Vec<String> =
                applications.iter().map(|a| format!("{}:{} ({:?})", a.job, a.port, a.role)).collect();
            let applications = list(&named);
            tracing::info!(event, %stack, %dvipa, applications, "applications registered");
            (stack.to_string(), format!("for {dvipa}: {applications}"))
        }
        Note::Wrong { stack, said } => {
            tracing::warn!(event, %stack, "{said}; `baton stats` counts what else of this kind it says");
            (stack.to_string(), said.clone())
        }
        Note::Gained { dvipa, epoch, from } => {
            let from = from.as_ref().map_or("none that lives", StackName::as_str);
            tracing::info!(event, %dvipa, epoch = epoch.0, from, "owned from now on");
            (dvipa.to_string(), format!("owned from now on, in epoch {}; before by {from}", epoch.0))
        }
        Note::Active { dvipa, stack, ordered } => {
            tracing::info!(event, %dvipa, %stack, ordered, "the address of a range is active");
            (dvipa.to_string(), format!("active at {stack}{}", if *ordered { ", by order" } else { "" }))
        }
        Note::NoNumber { dvipa } => {
            const TEXT: &str =
                "the address of a range is not active: this node has no number left for another DVIPA";
            tracing::warn!(event, %dvipa, "{TEXT}");
            (dvipa.to_string(), TEXT.to_owned())
        }
        Note::Lost { dvipa, to } => {
            let to = to.as_ref().map_or("none that is known", StackName::as_str);
            tracing::info!(event, %dvipa, to, "not owned any more");
            (dvipa.to_string(), format!("not owned any more; now by {to}"))
        }
        Note::PeerDead { stack } => {
            const TEXT: &str = "the routing stack is not heard any more: what it owned is taken over";
            tracing::warn!(event, %stack, "{TEXT}");
            (stack.to_string(), TEXT.to_owned())
        }
        Note::Contradiction { dvipa, rank, stacks } => {
            let stacks = list(stacks);
            let what = if *rank == u8::MAX { "have a vipadefine" } else { "have a vipabackup of one rank" };
            let text =
                format!("these routing stacks {what} of it: let one have it, or give them different ranks");
            tracing::error!(event, %dvipa, rank, stacks, "{text}");
            (dvipa.to_string(), format!("{text} ({stacks})"))
        }
        Note::Unheard { dvipa } => {
            const TEXT: &str = "owned, but no routing stack has said what it distributes: its packets are dropped; start its primary, or give this node a vipadistribute of its own";
            tracing::error!(event, %dvipa, "{TEXT}");
            (dvipa.to_string(), TEXT.to_owned())
        }
        Note::OtherWitnesses { stack, theirs: (witnesses, lease_ms) } => {
            const TEXT: &str = "this routing stack has other witnesses than this node, or another lease, so that both may own one DVIPA: have one `cluster.witnesses` and `cluster.lease_ms` in all batond.toml";
            let witnesses = list(witnesses);
            tracing::error!(event, %stack, witnesses, lease_ms, "{TEXT}");
            (stack.to_string(), TEXT.to_owned())
        }
        Note::OtherMtu { stack, theirs, ours } => {
            const TEXT: &str = "the stack's fabric_mtu differs from this node's: packets may get lost; configure the same one";
            tracing::warn!(event, %stack, theirs, ours, "{TEXT}");
            (stack.to_string(), format!("{TEXT} ({theirs} there, {ours} here)"))
        }
    }
}

/// How transfers end, in the log: of those that fail for one reason, one in [`QUIETLY`].
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<Option<Reason>, Instant>);

impl Failures {
    /// A transfer has ended. Returns why it failed, if that is news.
    pub(super) fn write(
        &mut self,
        connection: &Connection,
        (source, target): (&StackName, &StackName),
        way: &str,
        outcome: &Outcome,
    ) -> Option<&'static str> {
        let reason = match outcome {
            Outcome::Moved => {
                tracing::debug!(%connection, %source, %target, way, "moved");
                return None;
            }
            Outcome::Stayed(why) => Some(why.reason),
            Outcome::Lost => None,
        };
        let why = reason.unwrap_or(Reason::OutcomeLost).sentence();
        let event = EventName::TransferFailed.word();
        if self.is_news(reason, Instant::now()) {
            tracing::info!(event, %connection, %source, %target, way, why, "not moved; others like it follow at debug level");
            Some(why)
        } else {
            tracing::debug!(event, %connection, %source, %target, way, why, "not moved");
            None
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
