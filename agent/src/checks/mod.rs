//! Checks of servers that an operator has asked for (row B9): who is asked when, and who fails by what was answered.
//!
//! What is asked is the listener: one that serves several DVIPAs is asked once. Its first answer decides; after that a change needs
//! [`Check::fall`] or [`Check::rise`] equal answers in a row. One that is no longer served is forgotten, so that a server that comes
//! back begins anew.
//!
//! | a listener is | after | it is |
//! | --- | --- | --- |
//! | not asked yet | one answer | serving or failing, as that says |
//! | serving | `fall` failures in a row | failing |
//! | failing | `rise` successes in a row | serving |
//!
//! Pure; [`probe`] asks.

mod probe;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use model::{Dvipa, Protocol};

use crate::machine::{FailingServices, Served};

/// How many questions begin at a time; others wait for the next second.
const AT_ONCE: usize = 256;

/// `[[check]]`: what some servers of this host are asked, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The ports of the services.
    pub ports: Vec<u16>,
    /// The networks of their DVIPAs; all if not given.
    pub dvipas: Option<Vec<IpNet>>,
    /// What is asked.
    pub asks: Asks,
    /// How often.
    pub interval: Duration,
    /// For how long an answer is waited for; at most the interval.
    pub timeout: Duration,
    /// How many successes in a row end a failure.
    pub rise: u32,
    /// How many failures in a row are one.
    pub fall: u32,
}

/// What a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// To take a connection.
    Tcp,
    /// For a resource, by HTTP/1.1.
    Http {
        /// Its path, with the query.
        path: String,
        /// The `Host` of the request; the address that is asked if not given.
        host: Option<String>,
        /// The status codes that are well; 200 to 399 if not given.
        status: Option<Vec<u16>>,
    },
    /// How it is, by the health protocol of gRPC.
    Grpc {
        /// Of which service; empty: of the server.
        service: String,
    },
    /// A program, which ends with status 0 if all is well.
    Script {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

impl Check {
    fn covers(&self, dvipa: Dvipa, (protocol, port): Served) -> bool {
        let networks = self.dvipas.as_ref();
        let is_of_it = networks.is_none_or(|of| of.iter().any(|network| network.contains(&dvipa.address())));
        self.protocol == protocol && self.ports.contains(&port) && is_of_it
    }

    /// What is asked, for people.
    fn word(&self) -> String {
        match &self.asks {
            Asks::Tcp => "tcp".to_owned(),
            Asks::Http { path, .. } => format!("GET {path}"),
            Asks::Grpc { service } if service.is_empty() => "grpc".to_owned(),
            Asks::Grpc { service } => format!("grpc {service}"),
            Asks::Script { command } => command.first().cloned().unwrap_or_default(),
        }
    }
}

/// Who is asked: the place of a check in the configuration, and a listener.
type Subject = (usize, SocketAddr);

/// A question that is to be put.
#[derive(Clone, Debug)]
pub struct Probe {
    subject: Subject,
    /// Of a listener that has gone and come, the answers before mean nothing.
    number: u64,
    asks: Asks,
    at: SocketAddr,
    /// It is another network namespace's, so that it is not reached by `lo`.
    elsewhere: bool,
    timeout: Duration,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Probed {
    subject: Subject,
    number: u64,
    outcome: Result<(), String>,
}

impl Probe {
    fn says(&self, outcome: Result<(), String>) -> Probed {
        Probed { subject: self.subject, number: self.number, outcome }
    }
}

impl Probed {
    /// The TCP port that has taken a connection and answered.
    pub fn reached(&self, checks: &Checks) -> Option<u16> {
        let (check, at) = self.subject;
        let asks = &checks.checks.get(check)?.asks;
        (self.outcome.is_ok() && !matches!(asks, Asks::Script { .. })).then_some(at.port())
    }
}

/// The checks, and what is known by them.
#[derive(Debug, Default)]
pub struct Checks {
    checks: Vec<Check>,
    subjects: BTreeMap<Subject, Known>,
    /// How many listeners have come.
    came: u64,
    /// The services that they are about.
    services: BTreeMap<(Dvipa, Served), Vec<Subject>>,
}

/// What is known of one listener by one check.
#[derive(Debug)]
struct Known {
    number: u64,
    next: Instant,
    /// It was answered at least once.
    asked: bool,
    /// Why it fails, if it does.
    fails: Option<String>,
    /// How many answers in a row say the contrary.
    contrary: u32,
}

/// One check of one listener, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckView {
    /// What is asked.
    pub check: String,
    /// Whom.
    pub at: SocketAddr,
    /// `None`: nothing was answered yet.
    pub outcome: Option<Result<(), String>>,
}

impl Checks {
    /// These checks, of which nothing is known yet.
    pub fn new(checks: Vec<Check>) -> Self {
        Self { checks, ..Self::default() }
    }

    /// Whether any is configured.
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// Whether any of them is about this service.
    pub fn covers(&self, dvipa: Dvipa, served: Served) -> bool {
        self.checks.iter().any(|check| check.covers(dvipa, served))
    }

    /// Takes which services are served here now, and where their listeners are: those of `elsewhere` in containers. Returns what is to be
    /// asked now.
    pub fn due(
        &mut self,
        listeners: &BTreeMap<(Dvipa, Served), SocketAddr>,
        elsewhere: impl Fn(Dvipa, Served) -> Option<SocketAddr>,
        now: Instant,
    ) -> Vec<Probe> {
        let Self { checks, subjects, services, came } = self;
        services.clear();
        let mut here = BTreeMap::new();
        for ((dvipa, served), at) in listeners {
            let container = elsewhere(*dvipa, *served);
            let at = container.unwrap_or(*at);
            let of_it = checks.iter().enumerate().filter(|(_, check)| check.covers(*dvipa, *served));
            let of_it: Vec<Subject> = of_it.map(|(number, _)| (number, at)).collect();
            here.extend(of_it.iter().map(|subject| (*subject, container.is_some())));
            services.insert((*dvipa, *served), of_it);
        }
        subjects.retain(|subject, _| here.contains_key(subject));
        for subject in here.keys() {
            subjects.entry(*subject).or_insert_with(|| {
                *came += 1;
                Known::new(*came, now)
            });
        }
        // Those that have waited longest: where there are more than can be asked at once, each has its turn.
        let mut due: Vec<_> = subjects.iter_mut().filter(|(_, known)| known.next <= now).collect();
        due.sort_by_key(|(_, known)| known.next);
        let ask = |(subject, known): (&Subject, &mut Known)| {
            let check = checks.get(subject.0)?;
            known.next = now + check.interval;
            let (asks, timeout) = (check.asks.clone(), check.timeout);
            let elsewhere = here.get(subject).copied().unwrap_or_default();
            Some(Probe { subject: *subject, number: known.number, asks, at: subject.1, elsewhere, timeout })
        };
        due.into_iter().take(AT_ONCE).filter_map(ask).collect()
    }

    /// Takes what was answered.
    pub fn answered(&mut self, Probed { subject, number, outcome }: Probed) {
        let known = self.subjects.get_mut(&subject).filter(|known| known.number == number);
        let (Some(check), Some(known)) = (self.checks.get(subject.0), known) else { return };
        let outcome = outcome.map_err(|why| format!("{}: {why}", check.word()));
        let is_contrary = outcome.is_err() != known.fails.is_some();
        known.contrary = if is_contrary { known.contrary.saturating_add(1) } else { 0 };
        let enough = if known.fails.is_some() { check.rise } else { check.fall };
        if !is_contrary || known.contrary >= enough || !known.asked {
            known.fails = outcome.err();
            known.contrary = 0;
        }
        known.asked = true;
    }

    /// The services that fail.
    pub fn failing(&self) -> FailingServices {
        let why = |subjects: &Vec<Subject>| {
            subjects.iter().find_map(|subject| self.subjects.get(subject)?.fails.clone())
        };
        self.services.iter().filter_map(|(service, subjects)| Some((*service, why(subjects)?))).collect()
    }

    /// What operators are shown.
    pub fn views(&self) -> Vec<CheckView> {
        let view = |((number, at), known): (&Subject, &Known)| {
            let outcome = known.fails.clone().map_or(Ok(()), Err);
            Some(CheckView {
                check: self.checks.get(*number)?.word(),
                at: *at,
                outcome: known.asked.then_some(outcome),
            })
        };
        self.subjects.iter().filter_map(view).collect()
    }
}

impl Known {
    fn new(number: u64, now: Instant) -> Self {
        Self { number, next: now, asked: false, fails: None, contrary: 0 }
    }
}

#[cfg(test)]
mod tests;
