//! Which applications are registered here, who is told of them, and what they are told of targets. Pure.
//!
//! | | registered | this stack comes to own the DVIPA | it no longer does |
//! | --- | --- | --- | --- |
//! | routing application, on the owner | Registered | – | Waiting |
//! | routing application, elsewhere | Waiting (row C13) | Registered | – |
//! | target application | Registered | – | – |

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::codec::Address;
use model::control_socket::request::Role;
use model::control_socket::{Refusal, RequestId, Target};
use model::message::{Application, Applications, Message, Targets};
use model::{Connection, Dvipa, Epoch, Protocol, Service, StackName};

use crate::control_socket::{ApplicationId, Command, Registration};

/// A subscriber is told that there are no targets if the routing stack has not said which for so long.
const TARGETS_WITHIN: Duration = Duration::from_secs(2);

/// Who asks, and which of its requests.
type Key = (ApplicationId, RequestId);

/// All registrations and subscriptions.
#[derive(Debug)]
pub(super) struct Directory {
    own: StackName,
    registrations: BTreeMap<Key, Registration>,
    /// Until when the first answer may wait; `None` once it was given.
    subscriptions: BTreeMap<Key, (Service, Option<Instant>)>,
    owners: BTreeMap<Dvipa, StackName>,
    targets: BTreeMap<Service, Vec<Target>>,
    /// What each routing stack was told, and for which epoch.
    told: BTreeMap<(StackName, Dvipa), (Epoch, Vec<Application>)>,
}

impl Directory {
    pub(super) fn new(own: StackName) -> Self {
        Self {
            own,
            registrations: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            owners: BTreeMap::new(),
            targets: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// An application registers: the answer.
    pub(super) fn register(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        registration: Registration,
    ) -> Command {
        let competes = |r: &Registration| {
            r.role == Role::Routing
                && r.dvipa == registration.dvipa
                && r.ports.iter().any(|port| registration.ports.contains(port))
        };
        if registration.role == Role::Routing && self.registrations.values().any(competes) {
            return Command::Failed { request, why: Refusal::Taken, detail: None };
        }
        let is_in_force = self.is_in_force(&registration);
        self.registrations.insert((application, request), registration);
        if is_in_force { Command::Registered(request) } else { Command::Waiting(request) }
    }

    /// An application subscribes: the answer, if it is known already.
    pub(super) fn subscribe(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        service: Service,
        now: Instant,
    ) -> Option<Command> {
        let targets = self.targets.get(&service);
        let until = targets.is_none().then(|| now + TARGETS_WITHIN);
        self.subscriptions.insert((application, request), (service, until));
        targets.map(|targets| Command::Targets(request, targets.clone()))
    }

    /// Somebody looks at the offers of a registration from now on.
    pub(super) fn takes_offers(&mut self, application: ApplicationId, request: RequestId) {
        if let Some(registration) = self.registrations.get_mut(&(application, request)) {
            registration.takes_offers = true;
        }
    }

    /// An application is gone.
    pub(super) fn ended(&mut self, application: ApplicationId) {
        self.registrations.retain(|(who, _), _| *who != application);
        self.subscriptions.retain(|(who, _), _| *who != application);
    }

    /// These stacks own DVIPAs now: what routing applications are told.
    pub(super) fn owned(&mut self, owners: BTreeMap<Dvipa, StackName>) -> Vec<(ApplicationId, Command)> {
        let of = |owners: &BTreeMap<Dvipa, StackName>, dvipa| owners.get(&dvipa) == Some(&self.own);
        let changed = self
            .registrations
            .iter()
            .filter(|(_, r)| r.role == Role::Routing && of(&self.owners, r.dvipa) != of(&owners, r.dvipa));
        let commands = changed.map(|((application, request), r)| {
            let registered = of(&owners, r.dvipa);
            let word = if registered { Command::Registered } else { Command::Waiting };
            (*application, word(*request))
        });
        let commands = commands.collect();
        self.targets.retain(|service, _| owners.get(&service.dvipa) == self.owners.get(&service.dvipa));
        self.owners = owners;
        commands
    }

    /// A routing stack says which targets there are. Only the owner's word counts.
    pub(super) fn hear(&mut self, from: &StackName, targets: Targets) -> Vec<(ApplicationId, Command)> {
        let Targets { dvipa, port, targets, .. } = targets;
        let service = Service { dvipa: Dvipa::new(dvipa.0), port, protocol: Protocol::Tcp };
        if self.owners.get(&service.dvipa) != Some(from) {
            return Vec::new();
        }
        let of_it = self.subscriptions.iter_mut().filter(|(_, (s, _))| *s == service);
        let commands = of_it.map(|((application, request), (_, until))| {
            *until = None;
            (*application, Command::Targets(*request, targets.clone()))
        });
        let commands = commands.collect();
        self.targets.insert(service, targets);
        commands
    }

    /// Answers subscribers that have waited long enough.
    pub(super) fn time_passed(&mut self, now: Instant) -> Vec<(ApplicationId, Command)> {
        let due = self.subscriptions.iter_mut().filter(|(_, (_, until))| until.is_some_and(|at| at <= now));
        let none = |((application, request), (_, until)): (&Key, &mut (Service, Option<Instant>))| {
            *until = None;
            (*application, Command::Targets(*request, Vec::new()))
        };
        due.map(none).collect()
    }

    /// When [`Directory::time_passed`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.subscriptions.values().filter_map(|(_, until)| *until).min()
    }

    /// What routing stacks are to be told, which list these DVIPAs in these epochs.
    pub(super) fn news<'a>(
        &mut self,
        listing: impl Iterator<Item = (&'a StackName, Dvipa, Epoch)>,
    ) -> Vec<(StackName, Message)> {
        let mut messages = Vec::new();
        let mut told = BTreeMap::new();
        for (stack, dvipa, epoch) in listing {
            let key = (stack.clone(), dvipa);
            let now = (epoch, self.applications(dvipa));
            let before = self.told.remove(&key);
            // That there are none is said only to who knows of some.
            let is_news = before.as_ref().map_or(!now.1.is_empty(), |before| *before != now);
            if is_news {
                let (dvipa, applications) = (Address(dvipa.address()), now.1.clone());
                let message = Message::Applications(Applications { dvipa, epoch, applications });
                messages.push((stack.clone(), message));
            }
            told.insert(key, now);
        }
        self.told = told;
        messages
    }

    /// What is registered, and whether it is in force.
    pub(super) fn registrations(&self) -> impl Iterator<Item = (&Registration, bool)> {
        self.registrations.values().map(|registration| (registration, self.is_in_force(registration)))
    }

    /// The ports whose listeners get no new connections (row C12).
    pub(super) fn held(&self) -> BTreeSet<(Dvipa, u16)> {
        let held = self.registrations.values().filter(|r| r.role == Role::Target && r.hold_accepts);
        held.flat_map(|r| r.ports.iter().map(|port| (r.dvipa, *port))).collect()
    }

    /// The application that a connection is for: with this job name, or, if none is meant, the routing application that
    /// is in force, and after that any; one that takes no offers only if no other is meant.
    pub(super) fn find(
        &self,
        connection: &Connection,
        job: Option<&str>,
    ) -> Option<(ApplicationId, &Registration)> {
        let of_it = self.registrations.iter().filter(|(_, r)| r.covers(connection.service()));
        let fits = of_it.filter(|(_, r)| match job {
            Some(job) => r.job.as_str() == job,
            None => r.role == Role::Target || self.is_in_force(r),
        });
        let first =
            |(_, r): &(&Key, &Registration)| (r.takes_offers, (r.role == Role::Routing) == job.is_none());
        let ((application, _), registration) = fits.max_by_key(first)?;
        Some((*application, registration))
    }

    fn is_in_force(&self, registration: &Registration) -> bool {
        registration.role == Role::Target || self.owners.get(&registration.dvipa) == Some(&self.own)
    }

    fn applications(&self, dvipa: Dvipa) -> Vec<Application> {
        let of_it = self.registrations.values().filter(|r| r.dvipa == dvipa);
        let each = |r: &Registration| {
            let (role, job) = (r.role, r.job.clone());
            r.ports
                .iter()
                .map(move |port| Application { port: *port, role, job: job.clone() })
                .collect::<Vec<_>>()
        };
        let all: BTreeSet<_> = of_it.flat_map(each).collect();
        all.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
