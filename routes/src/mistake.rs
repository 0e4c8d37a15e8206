//! What can be wrong with definitions of routes.

use std::fmt;

/// The part of the definitions that is wrong, by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A route.
    Route(usize),
    /// A host name of a route.
    Hostname(usize, usize),
    /// A match of a route.
    Match(usize, usize),
}

impl Place {
    /// The route that it is in.
    pub fn route(self) -> usize {
        match self {
            Place::Route(route) | Place::Hostname(route, _) | Place::Match(route, _) => route,
        }
    }
}

/// A definition that can't be used: where, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}; {fix}")]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Mistake {
    pub(crate) fn new(place: Place, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { place, what: what.into(), fix: fix.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |at: usize| at.saturating_add(1);
        match *self {
            Place::Route(route) => write!(f, "route {}", one(route)),
            Place::Hostname(route, at) => write!(f, "route {}, host name {}", one(route), one(at)),
            Place::Match(route, at) => write!(f, "route {}, match {}", one(route), one(at)),
        }
    }
}
