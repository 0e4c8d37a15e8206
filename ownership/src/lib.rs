//! Who owns a DVIPA, in which epoch and until when: one protocol in two roles, checked as a whole.
//!
//! What a routing node *wants* is decided elsewhere, by rank, liveness and operators; here it is decided what it *may*.
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
//! In reading order: [`lease`], [`tenures`], [`witness`].

pub mod lease;
pub mod tenures;
pub mod witness;

#[cfg(test)]
mod sim;

use model::Epoch;

/// An epoch that is named is at most so far above the highest that is known. Epochs are counted up one by one, or begin with a clock's
/// milliseconds; what is further away would leave none for those that follow, and is void.
pub const MAX_LEAP: u64 = 1 << 42;

/// Whether an epoch can be meant by one that knows this highest one.
pub(crate) fn is_near(epoch: Epoch, highest: Epoch) -> bool {
    epoch.0 <= highest.0.saturating_add(MAX_LEAP) && epoch.0 < u64::MAX
}

pub use tenures::{Action, Decider, Leased, Settings, Tenures, WhyLost};
pub use witness::{Deed, Grant, Kept, Void, Witness};
