//! Which applications are registered here, who is told of them, and what they are told of targets. Pure.
//!
//! | | registered | this stack comes to own the DVIPA | it no longer does |
//! | --- | --- | --- | --- |
//! | routing application, on the owner | Registered | – | Waiting |
//! | routing application, elsewhere | Waiting (row C13) | Registered | – |
//! | target application | Registered | – | – |
//!
//! Which sockets take the clients of a service:
//!
//! | registrations of the service | take its clients |
//! | --- | --- |
//! | none has named a socket, none holds or waits | all listeners of the port |
//! | some have named sockets | these, but for those whose registration holds or waits |
//! | none has named a socket, some hold or wait | none |

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::codec::Address;
use model::control_socket::request::Role;
use model::control_socket::{JobName, Refusal, RequestId, Target};
use model::message::{Application, Applications, FromStack, Targets};
use model::{Dvipa, Epoch, Protocol, Service, StackName};

use crate::control_socket::rules::Turns;
use crate::control_socket::{ApplicationId, Command, Registration, Rules};
use crate::machine::{Cookie, MAX_TAKERS, TakersOf};

/// A subscriber is told that there are no targets if the routing stack has not said which for so long.
const TARGETS_WITHIN: Duration = Duration::from_secs(2);

/// Applications of a former run register again within this time, as long as the library waits for an agent. Until then the same
/// sockets take clients as before.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Which sockets took the clients of which services when a former run ended.
pub(super) type Left = BTreeMap<(Dvipa, u16), BTreeSet<Cookie>>;

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
    /// Routing applications whose clients are let in: those in force, and while nobody is known to own their DVIPA those that
    /// were.
    let_in: BTreeSet<Key>,
    /// Until when it counts.
    left: (Left, Instant),
    targets: BTreeMap<Service, Vec<Target>>,
    /// What each routing stack was told, and for which epoch.
    told: BTreeMap<(StackName, Dvipa), (Epoch, Vec<Application>)>,
    rules: Rules,
    turns: Turns,
}

impl Directory {
    pub(super) fn new(own: StackName, rules: Rules, left: Left, now: Instant) -> Self {
        Self {
            own,
            registrations: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            owners: BTreeMap::new(),
            let_in: BTreeSet::new(),
            left: (left, now + BACK_WITHIN),
            targets: BTreeMap::new(),
            told: BTreeMap::new(),
            rules,
            turns: Turns::default(),
        }
    }

    /// These rules hold from now on for who registers. What is registered stays.
    pub(super) fn rule(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// An application registers: the answer.
    pub(super) fn register(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        registration: Registration,
    ) -> Command {
        if registration.job == JobName::listener() {
            let detail = Some("the name `listener` is for servers without a control socket".to_owned());
            return Command::Failed { request, why: Refusal::Invalid, detail };
        }
        if let Err((why, detail)) = self.rules.permit(&registration, self.registrations.values()) {
            return Command::Failed { request, why, detail };
        }
        let is_full = |port: &u16| self.named(registration.dvipa, *port).count() >= MAX_TAKERS;
        if registration.listener.is_some_and(|named| is_full(&named.bound.port())) {
            let detail = Some(format!("{MAX_TAKERS} sockets are named for the port"));
            return Command::Failed { request, why: Refusal::TooMany, detail };
        }
        let is_in_force = self.is_in_force(&registration);
        let was_let_in = || match registration.listener {
            Some(named) => {
                // Another process that shares the socket may have come back before.
                let is_it = |r: &Registration| r.listener.is_some_and(|of| of.cookie == named.cookie);
                self.left.0.values().any(|open| open.contains(&named.cookie))
                    || self.let_in.iter().any(|key| self.registrations.get(key).is_some_and(is_it))
            }
            None => {
                registration.ports.iter().all(|port| !self.left.0.contains_key(&(registration.dvipa, *port)))
            }
        };
        if is_in_force || (!self.owners.contains_key(&registration.dvipa) && was_let_in()) {
            self.let_in.insert((application, request));
        }
        self.use_up_left(&registration);
        self.registrations.insert((application, request), registration);
        if is_in_force { Command::Registered(request) } else { Command::Waiting(request) }
    }

    /// The application is back: whether its socket takes clients is from now on up to its registration, and ends with it.
    fn use_up_left(&mut self, registration: &Registration) {
        for port in &registration.ports {
            let service = (registration.dvipa, *port);
            if let Some(open) = self.left.0.get_mut(&service) {
                if let Some(cookie) = registration.named(*port) {
                    open.remove(&cookie);
                }
                if open.is_empty() {
                    self.left.0.remove(&service);
                }
            }
        }
    }

    /// A registration can't be kept after all.
    pub(super) fn unregister(&mut self, application: ApplicationId, request: RequestId) {
        self.registrations.remove(&(application, request));
        self.let_in.remove(&(application, request));
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

    /// The application looks at the offers of a registration from now on.
    pub(super) fn takes_offers(&mut self, application: ApplicationId, request: RequestId) {
        if let Some(registration) = self.registrations.get_mut(&(application, request)) {
            registration.takes_offers = true;
        }
    }

    /// An application is gone.
    pub(super) fn ended(&mut self, application: ApplicationId) {
        self.registrations.retain(|(who, _), _| *who != application);
        self.subscriptions.retain(|(who, _), _| *who != application);
        self.let_in.retain(|(who, _)| *who != application);
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
        for (key, r) in self.registrations.iter().filter(|(_, r)| r.role == Role::Routing) {
            match owners.get(&r.dvipa) {
                Some(owner) if *owner == self.own => drop(self.let_in.insert(*key)),
                Some(_) => drop(self.let_in.remove(key)),
                None => {}
            }
        }
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
        if self.left.1 <= now {
            self.left.0.clear();
        }
        let due = self.subscriptions.iter_mut().filter(|(_, (_, until))| until.is_some_and(|at| at <= now));
        let none = |((application, request), (_, until)): (&Key, &mut (Service, Option<Instant>))| {
            *until = None;
            (*application, Command::Targets(*request, Vec::new()))
        };
        due.map(none).collect()
    }

    /// When [`Directory::time_passed`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let left = (!self.left.0.is_empty()).then_some(self.left.1);
        self.subscriptions.values().filter_map(|(_, until)| *until).chain(left).min()
    }

    /// What routing stacks are to be told, which list these DVIPAs in these epochs, of registrations and of listeners that hold
    /// accepts back.
    pub(super) fn news<'a>(
        &mut self,
        listing: impl Iterator<Item = (&'a StackName, Dvipa, Epoch)>,
        held: &BTreeSet<(Dvipa, u16)>,
    ) -> Vec<(StackName, FromStack)> {
        let mut messages = Vec::new();
        let mut told = BTreeMap::new();
        for (stack, dvipa, epoch) in listing {
            let key = (stack.clone(), dvipa);
            let now = (epoch, self.applications(dvipa, held));
            let before = self.told.remove(&key);
            // That there are none is said only to who knows of some.
            let is_news = before.as_ref().map_or(!now.1.is_empty(), |before| *before != now);
            if is_news {
                let (dvipa, applications) = (Address(dvipa.address()), now.1.clone());
                let message = FromStack::Applications(Applications { dvipa, epoch, applications });
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

    /// Which sockets take new connections, of services of which not all do.
    pub(super) fn takers(&self) -> TakersOf {
        let mut takers = TakersOf::new();
        for (key, r) in &self.registrations {
            let is_open = match r.role {
                Role::Target => !r.hold_accepts,
                Role::Routing => self.let_in.contains(key),
            };
            for port in &r.ports {
                match r.named(*port) {
                    None if is_open => {}
                    named => {
                        let of = takers.entry((r.dvipa, *port)).or_default();
                        of.open.extend(named.filter(|_| is_open));
                        of.holds |= !is_open && r.role == Role::Target;
                    }
                }
            }
        }
        for ((dvipa, port), open) in &self.left.0 {
            let named: BTreeSet<_> = self.named(*dvipa, *port).collect();
            takers.entry((*dvipa, *port)).or_default().open.extend(open.difference(&named));
        }
        takers
    }

    /// The sockets that applications have named for a service.
    fn named(&self, dvipa: Dvipa, port: u16) -> impl Iterator<Item = Cookie> {
        self.registrations.values().filter(move |r| r.dvipa == dvipa).filter_map(move |r| r.named(port))
    }

    /// The application that a connection is for: with this job name, or, if none is meant, a routing application, and if there is
    /// none any; one that takes no offers only if no other is meant. Routing applications that share the service have turns, and so
    /// have several processes of one user under the same name.
    pub(super) fn find(
        &mut self,
        service: Service,
        job: Option<&str>,
    ) -> Option<(ApplicationId, &Registration)> {
        let of_it = self.registrations.iter().filter(|(_, r)| r.covers(service));
        let fits = of_it.filter(|(_, r)| match job {
            Some(job) => r.job.as_str() == job && self.is_in_force(r),
            None => self.is_in_force(r),
        });
        let fits: Vec<(&Key, &Registration)> = fits.collect();
        let first =
            |(_, r): &(&Key, &Registration)| (r.takes_offers, (r.role == Role::Routing) == job.is_none());
        let (_, best) = *fits.iter().max_by_key(|found| first(found))?;
        let shares = |r: &Registration| {
            let is_same = (&r.job, r.peer.uid) == (&best.job, best.peer.uid);
            let any = job.is_none() && r.role == Role::Routing;
            (r.role, r.takes_offers) == (best.role, best.takes_offers) && (is_same || any)
        };
        let sharing = fits.iter().filter(|(_, r)| shares(r)).map(|(key, _)| **key).collect();
        let key = self.turns.next(sharing)?;
        Some((key.0, self.registrations.get(&key)?))
    }

    /// An application has registered for the service under this name, and that is in force.
    pub(super) fn is_called(&self, application: ApplicationId, service: Service, job: &JobName) -> bool {
        let is_it = |r: &Registration| r.covers(service) && r.job == *job && self.is_in_force(r);
        self.registrations.iter().any(|((who, _), r)| *who == application && is_it(r))
    }

    /// What an application is called that has registered for the service.
    pub(super) fn job_of(&self, application: ApplicationId, service: Service) -> Option<Target> {
        let mut of_it =
            self.registrations.iter().filter(|((who, _), r)| *who == application && r.covers(service));
        of_it.next().map(|(_, r)| Target { stack: self.own.clone(), job: r.job.clone() })
    }

    fn is_in_force(&self, registration: &Registration) -> bool {
        registration.role == Role::Target || self.owners.get(&registration.dvipa) == Some(&self.own)
    }

    /// Of a routing application that waits nobody is told: it is nobody's target.
    fn applications(&self, dvipa: Dvipa, held: &BTreeSet<(Dvipa, u16)>) -> Vec<Application> {
        let of_it = self.registrations.values().filter(|r| r.dvipa == dvipa && self.is_in_force(r));
        let each = |r: &Registration| {
            let (role, job) = (r.role, r.job.clone());
            r.ports
                .iter()
                .map(move |port| Application { port: *port, role, job: job.clone() })
                .collect::<Vec<_>>()
        };
        let held = held.iter().filter(|(of, _)| *of == dvipa);
        let held =
            held.map(|(_, port)| Application { port: *port, role: Role::Target, job: JobName::listener() });
        let all: BTreeSet<_> = of_it.flat_map(each).chain(held).collect();
        all.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
