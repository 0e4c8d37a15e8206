//! A stack of one host, for tests of applications: connections move between the applications of its control socket, by
//! their descriptors alone. Clients, applications and messages are real; what is missing is the other host.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use channel::listener::Access;
use model::Service;
use model::control_socket::request::{Consent, Role};
use model::control_socket::{OfferId, Refusal, RequestId, Target, TargetState, TargetView, WeightFrom};
use model::message::Load;
use model::{Connection, StackName};
use tokio::sync::mpsc;

use super::{
    Answer, ApplicationId, Applications, Choice, Command, Event, Held, Moving, Registration, Saying, Settings,
};
use crate::repair;

/// A running stack; it ends when this is dropped.
#[derive(Debug)]
pub struct FakeStack {
    path: PathBuf,
    orders: mpsc::UnboundedSender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeStack {
    /// Opens a control socket at `path` on a thread of its own. The stack is named `here` and owns every DVIPA.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(path: &Path) -> io::Result<Self> {
        let settings = Settings {
            stack: StackName::new("here").map_err(io::Error::other)?,
            path: path.to_path_buf(),
            access: Access { mode: 0o600, group: None },
            users: None,
        };
        let (orders, mut ordered) = mpsc::unbounded_channel();
        let (opened, is_open) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let stack = settings.stack.clone();
                let applications = match Applications::open(settings) {
                    Ok(applications) => applications,
                    Err(cause) => return drop(opened.send(Err(cause))),
                };
                // The test that started it waits for this.
                let _ = opened.send(Ok(()));
                let mut backend = Backend::new(stack, applications);
                loop {
                    tokio::select! {
                        (application, event) = backend.applications.next() => backend.event(application, event),
                        owner = ordered.recv() => match owner {
                            Some(owner) => backend.own(owner),
                            None => break,
                        },
                    }
                }
                backend.applications.close().await;
            });
        });
        is_open.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { path: path.to_path_buf(), orders, thread: Some(thread) })
    }

    /// Where its control socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on it owns the DVIPAs, or it is only a backup for them.
    pub fn own(&self, owner: bool) {
        // The thread lives as long as `self`.
        let _ = self.orders.send(owner);
    }

    /// Ends it, as an agent ends.
    pub fn stop(&mut self) {
        let (gone, _) = mpsc::unbounded_channel();
        self.orders = gone;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the fake stack has panicked");
        }
    }
}

impl Drop for FakeStack {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A transfer that a target has been asked about.
struct Transfer {
    from: ApplicationId,
    request: RequestId,
    to: ApplicationId,
    socket: OwnedFd,
}

struct Backend {
    stack: StackName,
    applications: Applications,
    owner: bool,
    registrations: BTreeMap<(ApplicationId, RequestId), Registration>,
    subscriptions: BTreeMap<(ApplicationId, RequestId), Service>,
    transfers: BTreeMap<OfferId, Transfer>,
    last_offer: u64,
    turn: usize,
}

impl Backend {
    fn new(stack: StackName, applications: Applications) -> Self {
        Self {
            stack,
            applications,
            owner: true,
            registrations: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            transfers: BTreeMap::new(),
            last_offer: 0,
            turn: 0,
        }
    }

    fn event(&mut self, application: ApplicationId, event: Event) {
        match event {
            Event::Register(request, registration, _) => self.register(application, request, registration),
            Event::Subscribe(request, service) => {
                self.subscriptions.insert((application, request), service);
                self.tell(application, Command::Targets(request, self.targets(service)));
            }
            Event::Transfer(request, moving) => self.transfer(application, request, moving),
            // What a former run did not finish has not moved: here the sockets of its transfers ended with it.
            Event::Resume(request, _) => self.fail(application, request, Refusal::Aborted, None),
            // And what it had decided stays so.
            Event::Claim(request, held) => self.tell(application, Command::Claimed(request, held.socket)),
            Event::Say(request, said) => self.say(application, request, said),
            Event::Choose(request, choice) => self.choose(application, request, &choice),
            Event::View(request, service) => {
                self.tell(application, Command::Views(request, self.views(service)));
            }
            Event::Answer(offer, answer) => self.answer(offer, answer),
            Event::Passed(offer) => self.passed(offer),
            Event::NotTaken(held) => drop(repair::reset(held.socket)),
            Event::TakesOffers(request) => {
                if let Some(registration) = self.registrations.get_mut(&(application, request)) {
                    registration.takes_offers = true;
                }
            }
            Event::Ended => self.ended(application),
        }
    }

    fn register(&mut self, application: ApplicationId, request: RequestId, registration: Registration) {
        let waits = registration.role == Role::Routing && !self.owner;
        self.registrations.insert((application, request), registration);
        let answer = if waits { Command::Waiting(request) } else { Command::Registered(request) };
        self.tell(application, answer);
        self.tell_targets();
    }

    fn name(&self, application: ApplicationId, service: Service) -> Option<Target> {
        let mut of_it =
            self.registrations.iter().filter(|((who, _), r)| *who == application && r.covers(service));
        of_it.next().map(|(_, r)| Target { stack: self.stack.clone(), job: r.job.clone() })
    }

    fn say(&mut self, from: ApplicationId, request: RequestId, said: Saying) {
        let Saying { service, to, about, bytes } = said;
        let is_meant = |r: &Registration| r.job == to.job && to.stack == self.stack && r.covers(service);
        let meant = self.registrations.iter().find(|(_, r)| is_meant(r)).map(|((who, _), _)| *who);
        if let (Some(to), Some(from)) = (meant, self.name(from, service)) {
            self.tell(to, Command::Heard { from, port: service.port, about, bytes });
        }
        self.tell(from, Command::Said(request));
    }

    fn own(&mut self, owner: bool) {
        self.owner = owner;
        let routing: Vec<_> =
            self.registrations.iter().filter(|(_, r)| r.role == Role::Routing).map(|(key, _)| *key).collect();
        for (application, request) in routing {
            let command = if owner { Command::Registered(request) } else { Command::Waiting(request) };
            self.tell(application, command);
        }
    }

    fn transfer(&mut self, from: ApplicationId, request: RequestId, moving: Moving) {
        let Moving { held, to, consent, unacknowledged: _, state, given_back } = moving;
        if !given_back.is_empty() {
            // It moves descriptors, whose queues it can't change.
            let (why, detail) = (Refusal::NotNow, Some(format!("{} bytes given back", given_back.len())));
            return self.tell(from, Command::Failed { request, why, detail });
        }
        let Some(((to, _), registration)) = self.find(to.as_ref(), &held.connection) else {
            return self.fail(from, request, Refusal::UnknownTarget, None);
        };
        if !registration.takes_offers {
            return self.fail(from, request, Refusal::TakesNoOffers, None);
        }
        let (connection, job) = (held.connection, registration.job.clone());
        let giver = self.name(from, connection.service());
        self.last_offer += 1;
        let offer = OfferId(self.last_offer);
        let command = match (consent, held.socket.try_clone()) {
            (Consent::Asked, _) => Command::Offer { offer, connection, job, giver, state },
            (Consent::Presumed, Ok(socket)) => {
                Command::Give { offer, held: Held { socket, connection }, giver, state }
            }
            (Consent::Presumed, Err(_)) => return self.fail(from, request, Refusal::AgentFull, None),
        };
        self.transfers.insert(offer, Transfer { from, request, to, socket: held.socket });
        self.tell(to, command);
    }

    /// The target has the connection, whatever becomes of this stack.
    fn passed(&mut self, offer: OfferId) {
        let Some(Transfer { from, request, to, socket }) = self.transfers.remove(&offer) else { return };
        match self.applications.tell(to, Command::Connection(offer, socket)) {
            Ok(()) => self.tell(from, Command::Transferred(request)),
            Err(_) => self.fail(from, request, Refusal::NoAnswer, None),
        }
    }

    fn find(
        &self,
        target: Option<&Target>,
        connection: &Connection,
    ) -> Option<((ApplicationId, RequestId), &Registration)> {
        let fits = |r: &&Registration| match target {
            Some(target) => r.role == Role::Target && r.job == target.job && target.stack == self.stack,
            None => r.role == Role::Routing,
        };
        self.registrations
            .iter()
            .find(|(_, r)| fits(r) && r.covers(connection.service()))
            .map(|(key, r)| (*key, r))
    }

    fn answer(&mut self, offer: OfferId, answer: Answer) {
        let Some(transfer) = self.transfers.get(&offer) else { return };
        let (from, request, to, same) =
            (transfer.from, transfer.request, transfer.to, transfer.socket.try_clone());
        let refused = match (answer, same) {
            (Answer::Accepted, Ok(socket)) => {
                match self.applications.tell(to, Command::Pass(offer, socket)) {
                    Ok(()) => return,
                    Err(_) => (Refusal::NoAnswer, None),
                }
            }
            (Answer::Accepted, Err(_)) => (Refusal::AgentFull, None),
            (Answer::Rejected { why, detail }, _) => (why, detail),
        };
        self.transfers.remove(&offer);
        self.fail(from, request, refused.0, refused.1);
    }

    fn ended(&mut self, application: ApplicationId) {
        self.registrations.retain(|(who, _), _| *who != application);
        self.subscriptions.retain(|(who, _), _| *who != application);
        let asked: Vec<_> =
            self.transfers.iter().filter(|(_, t)| t.to == application).map(|(o, _)| *o).collect();
        for offer in asked {
            self.answer(offer, Answer::Rejected { why: Refusal::Gone, detail: None });
        }
        self.tell_targets();
    }

    fn targets(&self, service: Service) -> Vec<Target> {
        let target = |r: &Registration| Target { stack: self.stack.clone(), job: r.job.clone() };
        let all = self.registrations.values().filter(|r| r.role == Role::Target && r.covers(service));
        let mut targets: Vec<Target> = all.map(target).collect();
        targets.sort();
        targets.dedup();
        targets
    }

    /// Chooses one after the other.
    fn choose(&mut self, application: ApplicationId, request: RequestId, choice: &Choice) {
        let mut targets = self.targets(choice.connection.service());
        targets.retain(|t| choice.jobs.is_empty() || choice.jobs.contains(&t.job));
        targets.retain(|t| !choice.besides.contains(t));
        let turn = self.turn.checked_rem(targets.len()).unwrap_or_default();
        self.turn = self.turn.wrapping_add(1);
        match targets.into_iter().nth(turn) {
            Some(target) => self.tell(application, Command::Chosen(request, target)),
            None => self.fail(application, request, Refusal::NoTarget, None),
        }
    }

    /// All are idle, and weigh the same.
    fn views(&self, service: Service) -> Vec<TargetView> {
        let view = |target| TargetView {
            target,
            state: TargetState::Ready,
            weight: 1,
            weight_from: WeightFrom::Equal,
            connections: 7,
            load: Some(Load { cpu_permille: 250, ..Load::default() }),
            holds_accepts: false,
        };
        self.targets(service).into_iter().map(view).collect()
    }

    fn tell_targets(&mut self) {
        for ((application, request), service) in self.subscriptions.clone() {
            self.tell(application, Command::Targets(request, self.targets(service)));
        }
    }

    fn fail(&mut self, to: ApplicationId, request: RequestId, why: Refusal, detail: Option<String>) {
        self.tell(to, Command::Failed { request, why, detail });
    }

    fn tell(&mut self, application: ApplicationId, command: Command) {
        if let Err(undelivered) = self.applications.tell(application, command) {
            tracing::debug!(%undelivered, "not told");
        }
    }
}
