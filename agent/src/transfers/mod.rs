//! Live connections leave this host and come to it: the host's machine ([`transfer::Host`]) with its hands, its notes and
//! applications.
//!
//! What the machine wants is done at once, in order, on the agent's one task: a system call of TCP_REPAIR takes some
//! microseconds and waits for nobody. What does wait is an event: an application's answer, a routing stack's message, the
//! search for a socket among all processes.
//!
//! | | source | target |
//! | --- | --- | --- |
//! | frozen | note, freeze map, repair mode | note, freeze map, socket in repair mode |
//! | it moves | departed in the freeze map, disconnected, note erased | note turned, flows, wakes, descriptor to the application |
//! | it stays | flows, wakes, note erased | departed in the freeze map, socket closed silently |
//!
//! A connection of an unmodified server is not taken from it until it has moved: its socket is silent meanwhile, and goes
//! on if it stays.
//!
//! A connection that is put into a listener here begins with what its client has sent before: the bytes are kept in memory that
//! outlives the agent, and given to the kernel once a packet has made the connection.
//!
//! A connection is in its application's control socket before it is noted as active, so that a kill of this agent costs none:
//! the kernel, and then the application, has the silent descriptor, and asks the next agent whether it is its own.
//!
//! In reading order: [`notes`] and [`dumps`] (what a restart remembers), `directory` (applications), `requests` (what they
//! ask), `questions` (what they ask about targets), `hands` (what there is beside the machine), `deeds` (what is done for it), `answers` (where an unmodified server and its
//! client stand), `refusal` (why not).

mod answers;
mod deeds;
mod directory;
pub mod dumps;
mod hands;
#[cfg(test)]
mod limits;
pub mod notes;
mod questions;
mod refusal;
mod requests;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use model::control_socket::{Refusal, RequestId, Target};
use model::message::{Chosen, FromStack, Move, Say, Targets, Views};
use model::transfer::{Abilities, ToHost, ToTarget, TransferId, Way, Why};
use model::{Connection, ConnectionState, Dvipa, Epoch, Protocol, Service, StackName};
use tokio::task::JoinSet;
use transfer::host::{ApplicationId, Kept, Left, Standing};
use transfer::{Host, Owner};

use crate::control_socket::{self, Applications, Command, Registration, Rules};
use crate::machine::{Picture, Scope, TakersOf};
use crate::repair::{Places, Unread};
use crate::runtime::status::TransfersStatus;
use crate::system::admissions::Admissions;
use crate::system::conversations::Conversations;
use crate::system::diag;
use crate::system::freezes::Freezes;
use crate::system::listeners::Listeners;
use directory::Directory;
use dumps::Dumps;
use hands::{At, Finished, Hands};
use notes::Notes;
use requests::Found;

/// Deeds that are done at a time: some 20 µs each, the dump or restoration of a connection with full queues a millisecond.
const DEEDS_AT_ONCE: usize = 64;

/// What of the kernel a deed needs.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    /// Whose packets are kept away.
    pub freezes: &'a Arc<Freezes>,
    /// Who may be put into a listener.
    pub admissions: &'a Admissions,
    /// What is said on connections.
    pub conversations: &'a Conversations,
    /// Which sockets take new connections.
    pub listeners: &'a Listeners,
    /// The DVIPAs of this host.
    pub dvipas: &'a HashSet<IpAddr>,
}

/// What has happened outside.
#[derive(Debug)]
pub enum News {
    /// An application wants something.
    Application(ApplicationId, control_socket::Event),
    /// The sockets of connections that shall move were looked for.
    Found(Vec<Found>, Places),
    /// Packets that had claimed the admissions of these transfers are through.
    Through(Vec<TransferId>),
    /// A connection is active, its unsent bytes included.
    Finished(Finished),
    /// These are kept away no longer.
    Ended(Vec<Connection>),
}

/// All transfers from and to this host.
#[derive(Debug)]
pub struct Transfers {
    host: Host,
    hands: Hands,
    /// Operators' orders whose connections have still to be looked for.
    orders: VecDeque<Move>,
    /// The search under way, if there is one.
    search: JoinSet<(Vec<Found>, Places)>,
    /// What the last search has learnt, if another one follows.
    places: Places,
    /// By port: the process that the last connection was found in, where the next one is looked for first.
    servers: BTreeMap<u16, u32>,
}

impl Transfers {
    /// Takes over what a former run has left. Must be called inside a tokio runtime. `incarnation` differs each time the
    /// agent starts.
    pub fn start(
        own: StackName,
        incarnation: u64,
        (notes, left): (Notes, notes::Left),
        (dumps, left_dumps): (Dumps, dumps::Left),
        (applications, rules): (Applications, Rules),
        able: &crate::system::abilities::Abilities,
        kernel: Kernel<'_>,
    ) -> Self {
        let abilities = Abilities {
            ledger: notes.ledger(),
            restores: able.repair.is_ok(),
            injects: able.injection.is_ok(),
            incarnation,
        };
        let now = Instant::now();
        let takers = kernel.listeners.left().unwrap_or_else(|cause| {
            tracing::error!(%cause, "which sockets take clients can't be read");
            directory::Left::new()
        });
        let directory = Directory::new(own, rules, takers, now);
        let mut hands = Hands::new(directory, notes, dumps, applications);
        let left = left_behind(left, left_dumps, &mut hands, kernel);
        let mut host = Host::new(abilities, now);
        host.inherit(left, &mut At { hands: &mut hands, kernel }, now);
        let (orders, search, places, servers) = Default::default();
        Self { host, hands, orders, search, places, servers }
    }

    /// Waits for what happens outside.
    pub async fn next(&mut self) -> News {
        tokio::select! {
            (application, event) = self.hands.applications.next() => News::Application(application, event),
            Some(found) = self.search.join_next() => match found {
                Ok((found, places)) => News::Found(found, places),
                // It is only cancelled with everything else, and does not panic.
                Err(_) => std::future::pending().await,
            },
            Some(through) = self.hands.claims.join_next() => match through {
                Ok(transfers) => News::Through(transfers),
                Err(_) => std::future::pending().await,
            },
            Some(finished) = self.hands.finishing.join_next() => match finished {
                Ok(finished) => News::Finished(finished),
                Err(_) => std::future::pending().await,
            },
            ended = hands::next_ended(&mut self.hands.ended) => News::Ended(ended),
        }
    }

    /// What has happened outside, if anything has.
    pub fn try_next(&mut self) -> Option<News> {
        self.hands.applications.try_next().map(|(application, event)| News::Application(application, event))
    }

    /// Takes in what has happened outside.
    pub fn hear(&mut self, news: News, kernel: Kernel<'_>, now: Instant) {
        match news {
            News::Application(application, event) => self.application(application, event, kernel, now),
            News::Found(found, places) => self.searched(found, places, kernel, now),
            News::Through(transfers) => {
                self.host.claims_are_through(&transfers, &mut At { hands: &mut self.hands, kernel }, now);
            }
            News::Finished(finished) => self.hands.finished(finished),
            News::Ended(connections) => {
                for connection in connections {
                    if let Err(cause) = kernel.freezes.remove_ended(&connection) {
                        tracing::warn!(%connection, %cause, "can't be removed from the freeze map");
                    }
                }
            }
        }
    }

    /// Takes in what a routing stack says about a transfer.
    pub fn message(&mut self, from: StackName, message: ToHost, now: Instant) {
        let word = message.word();
        let offered = match &message {
            ToHost::Target(ToTarget::Offer(m)) if m.way == Way::Restore => {
                let giver = m.giver.clone().map(|job| Target { stack: m.source.clone(), job });
                giver.map(|giver| (m.about.transfer, giver))
            }
            _ => None,
        };
        match (self.host.received(from, message, now), offered) {
            (Ok(()), Some((transfer, giver))) => self.hands.givers.insert(transfer, giver),
            (Ok(()), None) => {}
            (Err(reason), _) => {
                tracing::debug!(message = word, reason = reason.name(), "a message of a transfer is void");
            }
        }
    }

    /// An application of another stack says something to one of this stack. It is lost if that has ended or does not keep up.
    pub fn said(&mut self, Say { dvipa, port, from, to, about, bytes, .. }: Say) {
        let service = Service { dvipa: Dvipa::new(dvipa.0), port, protocol: Protocol::Tcp };
        let about = about.map(|about| about.0);
        let has_it = about.and_then(|connection| self.hands.came.of(&connection));
        // It may have been given to another job than the one that is spoken to.
        let has_it = has_it.filter(|has_it| self.hands.directory.is_called(*has_it, service, &to.job));
        let found = has_it.or_else(|| {
            self.hands.directory.find(service, Some(to.job.as_str())).map(|(application, _)| application)
        });
        let heard = Command::Heard { from, port, about, bytes };
        let delivered =
            found.is_some_and(|application| self.hands.applications.tell_if_room(application, heard));
        if !delivered {
            tracing::debug!(%to, "what was said to an application is lost");
        }
    }

    /// Takes in which targets a routing stack says there are.
    pub fn targets(&mut self, from: &StackName, targets: Targets) {
        let commands = self.hands.directory.hear(from, targets);
        self.hands.tell_all(commands);
    }

    /// Takes in which target a routing stack has chosen.
    pub fn chosen(&mut self, from: &StackName, chosen: Chosen) {
        let told = self.hands.questions.chosen(from, chosen);
        self.hands.tell_all(told.into_iter().collect());
    }

    /// Takes in how targets are, as a routing stack says.
    pub fn viewed(&mut self, from: &StackName, views: Views, now: Instant) {
        let told = self.hands.questions.viewed(from, views, now);
        self.hands.tell_all(told);
    }

    /// The session with a routing stack is over: it answers no question any more.
    pub fn apart(&mut self, from: &StackName) {
        let owners = &self.hands.owners;
        let is_its = |dvipa| owners.get(&dvipa).is_some_and(|(owner, _)| owner == from);
        let told = self.hands.questions.disowned(is_its);
        self.hands.tell_all(told);
    }

    /// A message of [`Self::take_messages`] can't be sent, because there is no session.
    pub fn not_sent(&mut self, message: &FromStack) {
        let told = self.hands.questions.not_sent(message);
        self.hands.tell_all(told);
    }

    /// Takes in who owns which DVIPA now.
    pub fn owners(&mut self, owners: BTreeMap<Dvipa, (StackName, Epoch)>, now: Instant) {
        let before = std::mem::replace(&mut self.hands.owners, owners);
        let all: BTreeSet<_> = before.keys().chain(self.hands.owners.keys()).copied().collect();
        for dvipa in all {
            let owner = self.hands.owners.get(&dvipa);
            if before.get(&dvipa) != owner {
                let owner = owner.map(|(stack, epoch)| Owner { stack: stack.clone(), epoch: *epoch });
                self.host.owner(dvipa, owner, now);
            }
        }
        let is_other = |dvipa| before.get(&dvipa) != self.hands.owners.get(&dvipa);
        let told = self.hands.questions.disowned(is_other);
        self.hands.tell_all(told);
        let owners = self.hands.owners.iter().map(|(dvipa, (stack, _))| (*dvipa, stack.clone())).collect();
        let commands = self.hands.directory.owned(owners);
        self.hands.tell_all(commands);
    }

    /// Tells those who list DVIPAs what is registered for them, and which services something listens for that holds accepts back.
    pub fn tell<'a>(
        &mut self,
        listing: impl Iterator<Item = (&'a StackName, Dvipa, Epoch)>,
        held: &BTreeSet<(Dvipa, u16)>,
    ) {
        let news = self.hands.directory.news(listing, held);
        self.hands.outbox.extend(news);
    }

    /// Who owns this DVIPA now, and in which epoch.
    pub fn owner(&self, dvipa: Dvipa) -> Option<&(StackName, Epoch)> {
        self.hands.owners.get(&dvipa)
    }

    /// Who may register for what from now on.
    pub fn rule(&mut self, rules: Rules) {
        self.hands.directory.rule(rules);
    }

    /// Refuses a registration.
    pub fn refuse_registration(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        why: Refusal,
        detail: String,
    ) {
        self.hands.refuse(application, request, why, Some(detail));
    }

    /// What applications are registered as, and whether it is in force: a routing application waits until this stack owns
    /// its DVIPA (row C13).
    pub fn registrations(&self) -> impl Iterator<Item = (&Registration, bool)> {
        self.hands.directory.registrations()
    }

    /// Which sockets take new connections, of services of which not all do; the kernel knows it when this returns.
    pub fn takers(&self, kernel: Kernel<'_>) -> TakersOf {
        let takers = self.hands.directory.takers();
        if let Err(cause) = kernel.listeners.set(&takers) {
            tracing::error!(%cause, "which sockets take clients can't be set");
        }
        takers
    }

    /// A connection has begun here: perhaps a packet has made one that was admitted.
    pub fn begun(&mut self, connection: Connection, kernel: Kernel<'_>, now: Instant) {
        self.host.begun(connection, &mut At { hands: &mut self.hands, kernel }, now);
    }

    /// The kernel does not take an admitted connection.
    pub fn not_taken_by_kernel(&mut self, connection: &Connection, why: Why, now: Instant) {
        self.host.not_taken(connection, why, now);
    }

    /// Does what is to be done, as much as is a matter of a few milliseconds; `false`: some is left, which comes before whatever else
    /// happens to transfers.
    pub fn act(&mut self, kernel: Kernel<'_>, now: Instant) -> bool {
        self.host.act(&mut At { hands: &mut self.hands, kernel }, now, DEEDS_AT_ONCE)
    }

    /// What the deed of [`Transfers::next_deadline`] is.
    pub fn time_passed(&mut self, kernel: Kernel<'_>, now: Instant) {
        self.host.time_passed(&mut At { hands: &mut self.hands, kernel }, now);
        let mut commands = self.hands.directory.time_passed(now);
        commands.extend(self.hands.questions.time_passed(now));
        self.hands.tell_all(commands);
    }

    /// When [`Transfers::time_passed`] and [`Transfers::act`] are due.
    pub fn next_deadline(&self) -> Instant {
        let due = self.host.next_deadline();
        let others = [self.hands.directory.next_deadline(), self.hands.questions.next_deadline()];
        others.into_iter().flatten().fold(due, Instant::min)
    }

    /// How many move; what is only in the kernel is 0.
    pub fn status(&self) -> TransfersStatus {
        TransfersStatus {
            leaving: self.host.leaving(),
            coming: self.host.coming(),
            orphans: self.host.orphans(),
            awaited: self.host.awaited(),
            not_taken: self.hands.not_taken,
            ..TransfersStatus::default()
        }
    }

    /// The messages for routing stacks that have gathered.
    pub fn take_messages(&mut self) -> Vec<(StackName, FromStack)> {
        std::mem::take(&mut self.hands.outbox)
    }

    /// Connections whose standing has changed: [`Host::take_touched`].
    pub fn take_touched(&mut self) -> Vec<(Connection, Standing)> {
        self.host.take_touched()
    }

    /// Tells all applications that the agent ends.
    pub async fn close(self) {
        self.hands.applications.close().await;
    }
}

/// What a former run has left, where it can be seen.
fn left_behind(left: notes::Left, dumps: dumps::Left, hands: &mut Hands, kernel: Kernel<'_>) -> Left {
    let mut kept = Vec::new();
    for (transfer, which, socket) in dumps {
        match (which, ConnectionState::decode(&socket)) {
            (Kept::Unsent, Ok(state)) => {
                kept.push((transfer, state.connection, which, 0));
                hands.unsent.insert(transfer, state);
            }
            (Kept::Unread, Ok(state)) => {
                kept.push((transfer, state.connection, which, state.receive.bytes.len()));
                hands.unread.extend(Unread::of(state).map(|unread| (transfer, unread)));
            }
            (_, Err(_)) => hands.dumps.forget(transfer, which),
        }
    }
    let away = kernel.freezes.all().unwrap_or_else(|cause| {
        tracing::error!(%cause, "what is kept away can't be read");
        Vec::new()
    });
    let here = diag::look(Scope::All, kernel.dvipas).unwrap_or_else(|cause| {
        tracing::error!(%cause, "the kernel does not show its sockets");
        Picture::default()
    });
    let here = here.connections.into_iter().map(|(_, connection)| connection).collect();
    let notes::Left { leaving, coming, void } = left;
    let moving = (leaving.len(), coming.len(), void.len());
    if moving != (0, 0, 0) {
        tracing::info!(
            leaving = moving.0,
            coming = moving.1,
            void = moving.2,
            "takes over what a former run has noted"
        );
    }
    Left { leaving, coming, void, kept, away, here }
}
