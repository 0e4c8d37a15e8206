//! Who owns a DVIPA, in which epoch and until when: one protocol in two roles, checked as a whole; and the same by etcd's leases.
//!
//! What a routing node *wants* is decided elsewhere, by rank, liveness and operators; here it is decided what it *may*: by witnesses, by
//! [`etcd`], or by the node itself. The node's side of each is an [`Ownership`].
//!
//! ```text
//! routing node                                   each witness
//!   │ Claims (ask 7: all that it wants) ──────────►│ grants what is free, in an epoch above the highest
//!   │◄───────────────── Granted (7, but what is not)│
//!   │ owns what a majority has granted             │
//!   │ Renew (ask 8, list 7) ──────────────────────►│ counts the lease anew, from now
//!   │◄────────────────────────── Granted (8, list 7)│
//!   │ counts the lease from when it sent 8         │
//! ```
//!
//! # Why no two own
//! A witness grants a DVIPA to one node at a time, and two majorities have a witness in common. The node believes in a lease for a shorter
//! time than the witness ([`lease`]), and a witness that has forgotten its grants leases to none until they must have lapsed.
//!
//! # Why epochs grow
//! An ownership begins with the grants of a majority in one epoch, each above the highest that its witness had granted and has on disk. The
//! majority of any former owner, at whatever time, shares a witness with it, which had granted that owner's epoch.
//!
//! # What a driver has to keep to
//! The contract of [`tenures`], and that of [`Deed::Keep`]. Messages may get lost, come late, twice and in any order. Clocks are monotonic,
//! and count while the process is stopped. A witness whose disk is lost is another witness.
//!
//! In reading order: [`lease`], [`tenures`], [`witness`], [`etcd`].

use std::time::Instant;

use model::ownership::FromWitness;
use model::{Dvipa, Epoch, StackName};

pub mod etcd;
pub mod lease;
pub mod tenures;
pub mod witness;

#[cfg(test)]
mod sim;

pub use tenures::{Action, Decider, Leased, Settings, Tenures, WhyLost};
pub use witness::{Deed, Grant, Kept, Void, Witness};

/// An epoch that is named is at most so far above the highest that is known. Epochs are counted up one by one, or begin with a clock's
/// milliseconds; what is further away would leave none for those that follow, and is void.
pub const MAX_LEAP: u64 = 1 << 42;

/// Whether an epoch can be meant by one that knows this highest one.
pub(crate) fn is_near(epoch: Epoch, highest: Epoch) -> bool {
    epoch.0 <= highest.0.saturating_add(MAX_LEAP) && epoch.0 < u64::MAX
}

/// What a routing node may own. [`Tenures`] where witnesses decide, or none does; [`etcd::Leases`] where etcd decides.
pub trait Ownership: std::fmt::Debug {
    /// Whether this node wants to own the DVIPA, as it was decided elsewhere. What it does not want any more it does not own from now
    /// on.
    fn want(&mut self, dvipa: Dvipa, wanted: bool, now: Instant);

    /// Whether it wants to.
    fn wants(&self, dvipa: Dvipa) -> bool;

    /// Whether an epoch that somebody names can be meant: one that is more than [`MAX_LEAP`] above all that are known can't.
    fn is_credible(&self, epoch: Epoch) -> bool;

    /// Somebody (a peer, an agent) names this epoch of the DVIPA: the next is above it.
    fn saw(&mut self, dvipa: Dvipa, epoch: Epoch);

    /// The session with a stack, which may be a witness, begins or is over.
    fn session(&mut self, _witness: &StackName, _up: bool, _now: Instant) {}

    /// A witness says something.
    fn heard(&mut self, _witness: &StackName, _message: FromWitness, _now: Instant) {}

    /// Something comes from etcd.
    fn told(&mut self, _news: etcd::News, _now: Instant) {}

    /// Whether this node hears nothing of the etcd that decides: it can't own anything, and others are to.
    fn is_cut_off(&self) -> bool {
        false
    }

    /// The deadline has come.
    fn tick(&mut self, now: Instant);

    /// When [`Ownership::tick`] is due.
    fn next_deadline(&self) -> Option<Instant>;

    /// The next thing to do, if there is one. To be called until there is none after each of the others.
    fn poll(&mut self) -> Option<Action>;

    /// In which epoch this node owns the DVIPA at this time; `None`: it does not. What is polled comes later where the process did not
    /// run for a while.
    fn held(&self, dvipa: Dvipa, now: Instant) -> Option<Epoch>;

    /// How a DVIPA that is owned is leased by witnesses; `None`: it is not owned, or others decide.
    fn leased(&self, _dvipa: Dvipa) -> Option<Leased> {
        None
    }

    /// When the first DVIPA that is owned is so no longer, unless a lease is renewed before. `None`: none is owned, or this node decides
    /// alone.
    fn fence(&self) -> Option<Instant>;

    /// For a fault: it counts its leases from the answer.
    #[cfg(test)]
    fn asked_now(&mut self, now: Instant);

    /// For a fault: it believes in a lease for as long as is counted elsewhere.
    #[cfg(test)]
    fn without_margin(&mut self);
}
