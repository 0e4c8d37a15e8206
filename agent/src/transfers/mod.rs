//! Live connections leave this host and come to it: drives the protocol's machines (`transfer`) with sockets, notes and
//! applications.
//!
//! What the machines want is done at once, in order, on the agent's one task: a system call of TCP_REPAIR takes some
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
//! the kernel, and then the application, has the silent descriptor, and asks the next agent whether it is its own (`claims`).
//!
//! In reading order: [`notes`] and [`dumps`] (what a restart remembers), `directory` (applications), `requests` (what they
//! ask), `leaving` and `coming` (what is done to sockets), `settling` and `answers` (does an unmodified server owe an
//! answer?), `giving` (unread bytes), `inherited` and `claims` (after a restart), `refusal` (why not).

mod answers;
mod claims;
mod coming;
mod directory;
pub mod dumps;
mod giving;
mod inherited;
mod leaving;
pub mod notes;
mod refusal;
mod requests;
mod settling;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::control_socket::OfferId;
use model::message::{Message, Targets};
use model::transfer::{Abilities, TransferId, TransferMessage};
use model::{Connection, Dvipa, Epoch, StackName};
use tokio::task::JoinSet;
use transfer::{Owner, Source, Target, source, target};

use crate::control_socket::{self, ApplicationId, Applications, Command, Registration};
use crate::runtime::status::TransfersStatus;
use crate::system::admissions::Admissions;
use crate::system::conversations::Conversations;
use crate::system::freezes::Freezes;
use claims::Awaited;
use coming::Coming;
use directory::Directory;
use dumps::Dumps;
use giving::Giving;
use leaving::{Leaving, Ordered, Orphan};
use notes::Notes;
use requests::{Found, Waiting};

/// How often what is over is swept away.
const SWEEP: Duration = Duration::from_secs(30);

/// What of the kernel a deed needs.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    /// Whose packets are kept away.
    pub freezes: &'a Freezes,
    /// Who may be put into a listener.
    pub admissions: &'a Admissions,
    /// What is said on connections.
    pub conversations: &'a Conversations,
    /// The DVIPAs of this host.
    pub dvipas: &'a HashSet<IpAddr>,
}

/// What has happened outside.
#[derive(Debug)]
pub enum News {
    /// An application wants something.
    Application(ApplicationId, control_socket::Event),
    /// The socket of a connection that shall move was looked for.
    Found(Box<Found>),
    /// Packets that had claimed the admissions of these transfers are through.
    Through(Vec<TransferId>),
}

/// How it stands with a connection that has moved or was to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is moving: NEWCONN and TERMCONN do not tell of it.
    Moves,
    /// It is this host's, or has ended here.
    Ours,
    /// Another has it, or nobody.
    Elsewhere,
}

/// All transfers from and to this host.
#[derive(Debug)]
pub struct Transfers {
    source: Source,
    target: Target,
    notes: Notes,
    dumps: Dumps,
    applications: Applications,
    directory: Directory,
    owners: BTreeMap<Dvipa, (StackName, Epoch)>,
    leaving: HashMap<Connection, Leaving>,
    /// Those that operators want moved and that nothing is done to yet.
    ordered: HashMap<Connection, Ordered>,
    coming: HashMap<TransferId, Coming>,
    /// Connections that were put into a listener and are still to be given bytes of their clients.
    giving: HashMap<Connection, Giving>,
    /// Connections that a former run has activated and whose descriptors are on their way to applications.
    awaited: HashMap<Connection, Awaited>,
    /// Connections that were given to applications and closed, because they did not take them.
    not_taken: u64,
    offers: HashMap<OfferId, TransferId>,
    last_offer: u64,
    /// Moved for a former run of this agent: whoever asked that one may still ask what became of it.
    orphans: HashMap<Connection, Orphan>,
    /// Requests that can't be followed yet.
    waiting: Vec<Waiting>,
    searches: JoinSet<Found>,
    /// Transfers whose admission a packet has claimed without making the connection, so far.
    claimed: Vec<TransferId>,
    /// Those of which such packets are being waited for.
    claims: JoinSet<Vec<TransferId>>,
    /// When it was looked for such.
    last_claims: Instant,
    /// By port: the process that the last connection was found in, where the next one is looked for first.
    servers: BTreeMap<u16, u32>,
    /// Connections that a packet has made here of late, and when.
    made: HashMap<Connection, Instant>,
    outbox: Vec<(StackName, Message)>,
    /// Connections whose standing may have changed, and whether they are this host's if they no longer move.
    touched: BTreeMap<Connection, bool>,
    next_sweep: Instant,
}

impl Transfers {
    /// Takes over what a former run has left. Must be called inside a tokio runtime. `incarnation` differs each time the
    /// agent starts.
    pub fn start(
        own: StackName,
        incarnation: u64,
        (notes, left): (Notes, notes::Left),
        (dumps, left_dumps): (Dumps, dumps::Left),
        applications: Applications,
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
        let mut transfers = Self {
            source: Source::new(incarnation),
            target: Target::new(abilities),
            directory: Directory::new(own),
            notes,
            dumps,
            applications,
            owners: BTreeMap::new(),
            leaving: HashMap::new(),
            ordered: HashMap::new(),
            coming: HashMap::new(),
            giving: HashMap::new(),
            awaited: HashMap::new(),
            not_taken: 0,
            offers: HashMap::new(),
            last_offer: 0,
            orphans: HashMap::new(),
            waiting: Vec::new(),
            searches: JoinSet::new(),
            claimed: Vec::new(),
            claims: JoinSet::new(),
            last_claims: now,
            servers: BTreeMap::new(),
            made: HashMap::new(),
            outbox: Vec::new(),
            touched: BTreeMap::new(),
            next_sweep: now + SWEEP,
        };
        transfers.inherit(left, left_dumps, kernel, now);
        transfers
    }

    /// Waits for what happens outside.
    pub async fn next(&mut self) -> News {
        tokio::select! {
            (application, event) = self.applications.next() => News::Application(application, event),
            Some(found) = self.searches.join_next() => match found {
                Ok(found) => News::Found(Box::new(found)),
                // It is only cancelled with everything else, and does not panic.
                Err(_) => std::future::pending().await,
            },
            Some(through) = self.claims.join_next() => match through {
                Ok(transfers) => News::Through(transfers),
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// What has happened outside, if anything has.
    pub fn try_next(&mut self) -> Option<News> {
        self.applications.try_next().map(|(application, event)| News::Application(application, event))
    }

    /// Takes in what has happened outside.
    pub fn hear(&mut self, news: News, kernel: Kernel<'_>, now: Instant) {
        match news {
            News::Application(application, event) => self.application(application, event, kernel, now),
            News::Found(found) => self.found(*found, kernel, now),
            News::Through(transfers) => self.claims_are_through(transfers, kernel, now),
        }
    }

    /// Takes in what a routing stack says about a transfer.
    pub fn message(&mut self, from: StackName, message: TransferMessage, now: Instant) {
        let word = message.word();
        let followed = match message {
            TransferMessage::Refuse(_)
            | TransferMessage::Consult(_)
            | TransferMessage::Freeze(_)
            | TransferMessage::Released(_)
            | TransferMessage::Aborted(_)
            | TransferMessage::Lost(_) => self.source.handle(source::Event::Received { from, message }, now),
            message => self.target.handle(target::Event::Received { from, message }, now),
        };
        if let Err(reason) = followed {
            tracing::debug!(message = word, reason = reason.name(), "a message of a transfer is void");
        }
    }

    /// Takes in which targets a routing stack says there are.
    pub fn targets(&mut self, from: &StackName, targets: Targets) {
        let commands = self.directory.hear(from, targets);
        self.tell_all(commands);
    }

    /// Takes in who owns which DVIPA now, and who lists which.
    pub fn owners<'a>(
        &mut self,
        owners: BTreeMap<Dvipa, (StackName, Epoch)>,
        listing: impl Iterator<Item = (&'a StackName, Dvipa, Epoch)>,
        now: Instant,
    ) {
        let before = std::mem::replace(&mut self.owners, owners);
        let all: BTreeSet<_> = before.keys().chain(self.owners.keys()).copied().collect();
        for dvipa in all {
            let owner = self.owners.get(&dvipa);
            if before.get(&dvipa) == owner {
                continue;
            }
            let owner = owner.map(|(stack, epoch)| Owner { stack: stack.clone(), epoch: *epoch });
            let followed = [
                self.source.handle(source::Event::Owner { dvipa, owner: owner.clone() }, now),
                self.target.handle(target::Event::Owner { dvipa, owner }, now),
            ];
            debug_assert!(followed.iter().all(Result::is_ok), "an owner is always heard");
        }
        let owners = self.owners.iter().map(|(dvipa, (stack, _))| (*dvipa, stack.clone())).collect();
        let commands = self.directory.owned(owners);
        self.tell_all(commands);
        self.outbox.extend(self.directory.news(listing));
    }

    /// What applications are registered as, and whether it is in force: a routing application waits until this stack owns
    /// its DVIPA (row C13).
    pub fn registrations(&self) -> impl Iterator<Item = (&Registration, bool)> {
        self.directory.registrations()
    }

    /// The ports whose listeners get no new connections.
    pub fn held(&self) -> BTreeSet<(Dvipa, u16)> {
        self.directory.held()
    }

    /// Does all that is to be done.
    pub fn act(&mut self, kernel: Kernel<'_>, now: Instant) {
        // A transfer that has ended is ended for its socket and its asker before the next one of the connection begins.
        self.do_what_is_wanted(kernel, now);
        self.look_again(now);
        self.look_at_settling(kernel, now);
        self.do_what_is_wanted(kernel, now);
        self.wait_for_claims();
        self.give(now);
    }

    fn do_what_is_wanted(&mut self, kernel: Kernel<'_>, now: Instant) {
        loop {
            if let Some(action) = self.source.poll() {
                self.source_deed(action, kernel, now);
            } else if let Some(action) = self.target.poll() {
                self.target_deed(action, kernel, now);
            } else {
                break;
            }
        }
    }

    /// What the deed of [`Transfers::next_deadline`] is.
    pub fn time_passed(&mut self, kernel: Kernel<'_>, now: Instant) {
        let followed = [
            self.source.handle(source::Event::TimePassed, now),
            self.target.handle(target::Event::TimePassed, now).map(drop),
        ];
        debug_assert!(followed.iter().all(Result::is_ok), "the time is always heard");
        self.give_up_awaited(kernel, now);
        self.look_for_claimed(kernel, now);
        let commands = self.directory.time_passed(now);
        self.tell_all(commands);
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.notes.sweep();
            self.made.retain(|_, made| *made + requests::PROMPTED_AGAIN > now);
            let late: Vec<_> = self.orphans.iter().filter(|(_, o)| o.until <= now).map(|(c, _)| *c).collect();
            late.iter().for_each(|connection| self.disconnect_orphan(connection));
            if let Err(cause) = kernel.freezes.sweep() {
                tracing::warn!(%cause, "what is frozen no longer can't be removed from its map");
            }
        }
    }

    /// When [`Transfers::time_passed`] and [`Transfers::act`] are due.
    pub fn next_deadline(&self, now: Instant) -> Instant {
        let deadlines = [
            self.source.next_deadline(),
            self.target.next_deadline(),
            self.directory.next_deadline(),
            self.waiting.iter().map(|waiting| waiting.next(now)).min(),
            self.giving.values().map(|giving| giving.next).min(),
            self.awaited.values().map(|awaited| awaited.until).min(),
            self.next_look(),
            self.next_claims(),
        ];
        deadlines.into_iter().flatten().fold(self.next_sweep, Instant::min)
    }

    /// How many move; what is only in the kernel is 0.
    pub fn status(&self) -> TransfersStatus {
        TransfersStatus {
            leaving: self.leaving.len() + self.ordered.len() + self.waiting.len(),
            coming: self.coming.len(),
            orphans: self.orphans.len(),
            awaited: self.awaited.len(),
            not_taken: self.not_taken,
            ..TransfersStatus::default()
        }
    }

    /// The messages for routing stacks that have gathered.
    pub fn take_messages(&mut self) -> Vec<(StackName, Message)> {
        std::mem::take(&mut self.outbox)
    }

    /// Connections whose standing has changed. One that has come here moves until the routing stack has settled that: until
    /// then it hears nothing else about it. So does one that has left, as long as a socket of it is here.
    pub fn take_touched(&mut self) -> Vec<(Connection, Standing)> {
        let standing = |(connection, ours): (Connection, bool)| {
            let moves = self.source.speaks_for(&connection)
                || self.target.unsettled(&connection)
                || self.orphans.contains_key(&connection);
            let rests = if ours { Standing::Ours } else { Standing::Elsewhere };
            (connection, if moves { Standing::Moves } else { rests })
        };
        std::mem::take(&mut self.touched).into_iter().map(standing).collect()
    }

    /// Tells all applications that the agent ends.
    pub async fn close(self) {
        self.applications.close().await;
    }

    fn send(&mut self, to: StackName, message: TransferMessage) {
        self.outbox.push((to, Message::Transfer(message)));
    }

    fn tell(&mut self, application: ApplicationId, command: Command) {
        if let Err(undelivered) = self.applications.tell(application, command) {
            tracing::debug!(%undelivered, "an application is not told");
        }
    }

    fn tell_all(&mut self, commands: Vec<(ApplicationId, Command)>) {
        for (application, command) in commands {
            self.tell(application, command);
        }
    }
}
