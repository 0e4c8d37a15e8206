//! baton-app for C. `include/baton.h` says what each call does; here is how.
//!
//! In reading order: `types` (the structs of the header), `borrow` (what C passes, checked), [`error`] (numbers and texts),
//! [`application`], [`choice`] and [`offer`] (the calls).
//!
//! # Safety
//! Every call trusts C for the same things, which the header states: a pointer is NULL or points to what its type says, for
//! as long as the call takes; an application or an offer comes from here and was not freed; an offer is answered once.

pub mod application;
mod borrow;
pub mod choice;
pub mod error;
pub mod offer;
mod types;
