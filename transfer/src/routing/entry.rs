//! A transfer under way, as the routing stack sees it.

use model::StackName;
use model::transfer::{About, Collector, Consent, Ledger, Parcel, Preparation, Request, Way, Why};

/// How far a transfer is.
#[derive(Clone, Debug, Hash)]
pub(super) enum Phase {
    /// The client's packets are held; the parts come in.
    Awaiting(Collector),
    /// The target has the offer; nothing is permitted yet, so that this machine may abort alone.
    Offering(Parcel),
    /// This preparation may activate: only the target knows whether it has. The parcel is kept for injection, whose
    /// first packet may get lost.
    Committing(Preparation, Option<Parcel>),
    /// The target is asked to void the transfer or to say that it is active.
    Asking(Why),
    /// It is active; the source is told.
    Releasing,
    /// It is void; the source is told, and the client's packets wait for it to thaw.
    Returning(Why),
    /// The target's host died with the outcome; the source is told.
    Losing,
}

/// A transfer under way.
#[derive(Clone, Debug, Hash)]
pub(super) struct Entry {
    pub(super) about: About,
    pub(super) source: StackName,
    /// What the source asked; `None` if another routing stack was asked.
    pub(super) request: Option<Request>,
    pub(super) target: StackName,
    pub(super) way: Way,
    /// The target's ledger when the transfer began: only what it says out of that one counts.
    pub(super) ledger: Ledger,
    pub(super) consent: Consent,
    pub(super) job: Option<String>,
    /// The CRT entry points at the target with the handoff option on, or did.
    pub(super) handed_over: bool,
    pub(super) phase: Phase,
}
