//! Where each connection was, as its applications were told.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// As many steps of a connection are kept.
const STEPS: usize = 24;

/// What a host's application was told of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// It has it.
    Came(&'static str),
    /// It has left it.
    Left(&'static str),
    /// It goes on there.
    Stayed(&'static str, String),
    /// It was to come, and the agent has ended.
    Closed(&'static str),
    /// It was to come, and does not.
    Withdrawn(&'static str, String),
    /// It ended there.
    Ended(&'static str, String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Came(host) => write!(f, "{host} has it"),
            Self::Left(host) => write!(f, "it has left {host}"),
            Self::Stayed(host, why) => write!(f, "it goes on at {host}: {why}"),
            Self::Closed(host) => write!(f, "{host} has accepted it, and its agent has ended"),
            Self::Withdrawn(host, why) => write!(f, "it does not come to {host}: {why}"),
            Self::Ended(host, how) => write!(f, "it ends at {host}: {how}"),
        }
    }
}

#[derive(Debug, Default)]
struct Trail {
    steps: VecDeque<(Instant, Step)>,
    /// Since it came somewhere last.
    left: bool,
    closed: bool,
}

/// All connections' trails by client.
#[derive(Debug, Default)]
pub(crate) struct Trails(Mutex<HashMap<SocketAddr, Trail>>);

impl Trails {
    fn all(&self) -> MutexGuard<'_, HashMap<SocketAddr, Trail>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, client: SocketAddr, step: Step) {
        let mut all = self.all();
        let trail = all.entry(client).or_default();
        match step {
            Step::Came(_) => (trail.left, trail.closed) = (false, false),
            Step::Left(_) => trail.left = true,
            Step::Closed(_) => trail.closed = true,
            Step::Stayed(..) => (trail.left, trail.closed) = (false, false),
            Step::Withdrawn(..) | Step::Ended(..) => {}
        }
        trail.steps.push_back((Instant::now(), step));
        if trail.steps.len() > STEPS {
            trail.steps.pop_front();
        }
    }

    /// Whether its source was told that it has moved, and the agent that it moved to died before its application had it.
    pub(crate) fn is_lost_in_hand(&self, client: SocketAddr) -> bool {
        self.all().get(&client).is_some_and(|trail| trail.left && trail.closed)
    }

    pub(crate) fn forget(&self, client: SocketAddr) {
        self.all().remove(&client);
    }

    /// The last steps, for a person.
    pub(crate) fn of(&self, client: SocketAddr) -> String {
        let all = self.all();
        let steps = all.get(&client).map(|trail| trail.steps.iter()).into_iter().flatten();
        steps.map(|(at, step)| format!("    {:?} ago: {step}\n", at.elapsed())).collect()
    }
}
