//! A transfer under way, as the routing stack sees it.

use model::StackName;
use model::control_socket::JobName;
use model::handoff::Token;
use model::transfer::{About, Collector, Consent, Ledger, Parcel, Request, Way, Why};

/// How far a transfer is.
#[derive(Clone, Debug, Hash)]
pub(super) enum Phase {
    /// The target's application is being asked, and nothing is held. The state that it is to read comes in; `None`: it is
    /// sent on, or there is none.
    Consulting(Option<Collector>),
    /// The client's packets are held; the parts come in. The target has the offer and nothing of the connection, so that
    /// this machine may abort alone.
    Awaiting(Collector),
    /// The target has everything but the permission, and prepares: this machine may still abort alone.
    Offering(Parcel),
    /// The target may activate: only it knows whether it has. The parcel is kept because what was sent may get lost.
    Committing(Permission, Parcel),
    /// The target is asked to void the transfer or to say that it is active.
    Asking(Why),
    /// It is active; the source is told.
    Releasing,
    /// It is void; the source is told, and the client's packets wait for it to thaw.
    Returning(Why),
    /// The target's host died with the outcome; the source is told.
    Losing,
}

/// What permits the target to activate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Permission {
    /// Commit.
    Commit,
    /// Packets whose handoff option has this token.
    Packets(Token),
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
    /// The run of the target's agent that is permitted to activate.
    pub(super) incarnation: u64,
    pub(super) consent: Consent,
    pub(super) job: Option<String>,
    pub(super) giver: Option<JobName>,
    pub(super) application_bytes: u32,
    /// The CRT entry points at the target with the handoff option on, or did.
    pub(super) handed_over: bool,
    pub(super) phase: Phase,
}
