//! What the transfers of this host have outside of their machine: descriptors, files, control sockets.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use model::codec::{Address, WireConnection};
use model::control_socket::{JobName, OfferId, Refusal, RequestId, Target};
use model::message::{FromStack, OrderId, Say, Stays};
use model::transfer::{Active, FromHost, FromTarget, Reason, TransferId, Void, Why};
use model::{Connection, ConnectionState, Dvipa, Epoch, StackName};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use transfer::host::{Activity, ApplicationId, Handle, Kept, Stand};

use super::Kernel;
use super::answers::stand;
use super::directory::Directory;
use super::dumps::Dumps;
use super::notes::Notes;
use super::questions::{Asked, Questions};
use crate::control_socket::{Applications, Command, Saying};
use crate::repair::{self, Restored, Unread};

/// All of it.
#[derive(Debug)]
pub(super) struct Hands {
    pub(super) notes: Notes,
    pub(super) dumps: Dumps,
    pub(super) applications: Applications,
    pub(super) directory: Directory,
    pub(super) questions: Questions,
    pub(super) owners: BTreeMap<Dvipa, (StackName, Epoch)>,
    /// Descriptors of connections that leave.
    pub(super) kept: HashMap<Connection, Socket>,
    /// Those that came with requests.
    pub(super) passed: HashMap<(ApplicationId, RequestId), Socket>,
    /// What has come of connections that come.
    pub(super) arriving: HashMap<TransferId, Arriving>,
    pub(super) givers: Givers,
    /// What kernels are to be given of the clients' bytes.
    pub(super) unread: HashMap<TransferId, Unread>,
    /// States with bytes that a former run has not sent.
    pub(super) unsent: HashMap<TransferId, ConnectionState>,
    pub(super) offers: HashMap<OfferId, TransferId>,
    last_offer: u64,
    /// Transfers of which packets that have claimed an admission are waited for.
    pub(super) claims: JoinSet<Vec<TransferId>>,
    /// Active connections whose unsent bytes are being given to the kernel.
    pub(super) finishing: JoinSet<Finished>,
    /// Connections that are kept away no longer, and whose entries have still to be removed.
    pub(super) ended: Option<mpsc::Receiver<Vec<Connection>>>,
    /// Connections that were given to applications and closed, because they did not take them.
    pub(super) not_taken: u64,
    /// Which application was passed which connection lately.
    pub(super) came: Came,
    /// How much applications have said since when.
    said: Option<(Instant, u32)>,
    pub(super) outbox: Vec<(StackName, FromStack)>,
}

/// A descriptor of a connection that an application or a server has.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) socket: OwnedFd,
    pub(super) connection: Connection,
    /// What the application has read and the next application is to read first.
    pub(super) given_back: Vec<u8>,
    /// Its state without the bytes, once it was dumped.
    pub(super) state: Option<ConnectionState>,
}

/// A connection that has been activated.
#[derive(Debug)]
pub struct Finished {
    pub(super) connection: Connection,
    pub(super) transfer: TransferId,
    /// Whom it is for, and how it was offered.
    pub(super) to: Option<(ApplicationId, OfferId)>,
    pub(super) has_unsent: bool,
    pub(super) socket: Result<OwnedFd, String>,
}

/// What has come of a connection.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    /// The application that it was offered or given to, and how.
    pub(super) to: Option<(ApplicationId, OfferId)>,
    /// Its dump, until something is done with it.
    pub(super) state: Option<ConnectionState>,
    pub(super) restored: Option<Restored>,
}

/// Which applications give the connections that come; of one without an entry it is not known, or none does.
///
/// The machine answers each offer that it does not take, and each late one, with Void or Active: what an offer has left here goes
/// when that is said.
#[derive(Debug, Default)]
pub(super) struct Givers(HashMap<TransferId, Target>);

impl Givers {
    pub(super) fn insert(&mut self, transfer: TransferId, giver: Target) {
        self.0.insert(transfer, giver);
    }

    pub(super) fn of(&self, transfer: TransferId) -> Option<Target> {
        self.0.get(&transfer).cloned()
    }

    /// The transfer is over.
    pub(super) fn over(&mut self, transfer: TransferId) {
        self.0.remove(&transfer);
    }

    /// Something is said to a routing stack.
    pub(super) fn said(&mut self, message: &FromHost) {
        if let FromHost::Target(
            FromTarget::Void(Void { about, .. }) | FromTarget::Active(Active { about, .. }),
        ) = message
        {
            self.over(about.transfer);
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// What all applications of a host may say to others in a second: sessions have room for it.
const SAID_A_SECOND: u32 = 256;

/// Connections of which it is remembered who has them.
const CAME: usize = 65_536;

/// Who was passed which connection: what is said about one comes to the process that has it. The oldest are forgotten.
#[derive(Debug, Default)]
pub(super) struct Came {
    by: HashMap<Connection, ApplicationId>,
    order: VecDeque<Connection>,
}

impl Came {
    pub(super) fn insert(&mut self, connection: Connection, application: ApplicationId) {
        if self.by.insert(connection, application).is_none() {
            self.order.push_back(connection);
        }
        if self.order.len() > CAME
            && let Some(oldest) = self.order.pop_front()
        {
            self.by.remove(&oldest);
        }
    }

    pub(super) fn of(&self, connection: &Connection) -> Option<ApplicationId> {
        self.by.get(connection).copied()
    }

    /// An application has ended.
    pub(super) fn ended(&mut self, application: ApplicationId) {
        self.by.retain(|_, who| *who != application);
        self.order.retain(|connection| self.by.contains_key(connection));
    }
}

impl Socket {
    pub(super) fn new(socket: OwnedFd, connection: Connection, given_back: Vec<u8>) -> Self {
        Self { socket, connection, given_back, state: None }
    }

    /// Why the application can't give back what it does, before anybody is asked about the connection.
    pub(super) fn gives_too_much_back(&self) -> Option<Why> {
        let activity = repair::activity(self.socket.as_fd()).ok()?;
        gives_too_much_back(&self.given_back, activity.received.saturating_sub(activity.unread.into()))
    }

    /// Puts what the application gives back before what it has not read.
    pub(super) fn give_back(&mut self, state: &mut ConnectionState) -> Result<(), Why> {
        let bytes = std::mem::take(&mut self.given_back);
        let received = repair::received(self.socket.as_fd()).unwrap_or(0);
        let not_read = (state.receive.bytes.len() as u64).saturating_add(state.phase.fin_received().into());
        if let Some(why) = gives_too_much_back(&bytes, received.saturating_sub(not_read)) {
            return Err(why);
        }
        state.receive.give_back(&bytes);
        state.check().map_err(|cause| Why::new(Reason::NotDumped, &cause.to_string()))
    }

    /// Takes the connection away from the process that has the socket.
    pub(super) fn disconnect(self) {
        if let Err(cause) = repair::discard(self.socket) {
            tracing::error!(connection = %self.connection, %cause, "a connection that has left can't be disconnected");
        }
    }
}

fn gives_too_much_back(bytes: &[u8], read: u64) -> Option<Why> {
    let said = || format!("{} bytes, and {read} were read", bytes.len());
    (bytes.len() as u64 > read).then(|| Why::new(Reason::GivenBack, &said()))
}

impl Hands {
    pub(super) fn new(directory: Directory, notes: Notes, dumps: Dumps, applications: Applications) -> Self {
        Self {
            notes,
            dumps,
            applications,
            directory,
            questions: Questions::default(),
            owners: BTreeMap::new(),
            kept: HashMap::new(),
            passed: HashMap::new(),
            arriving: HashMap::new(),
            givers: Givers::default(),
            unread: HashMap::new(),
            unsent: HashMap::new(),
            offers: HashMap::new(),
            last_offer: 0,
            claims: JoinSet::new(),
            finishing: JoinSet::new(),
            ended: None,
            not_taken: 0,
            came: Came::default(),
            said: None,
            outbox: Vec::new(),
        }
    }

    pub(super) fn tell(&mut self, application: ApplicationId, command: Command) {
        if let Err(undelivered) = self.applications.tell(application, command) {
            tracing::debug!(%undelivered, "an application is not told");
        }
    }

    pub(super) fn tell_all(&mut self, commands: Vec<(ApplicationId, Command)>) {
        for (application, command) in commands {
            self.tell(application, command);
        }
    }

    /// Gives an active connection to its application.
    pub(super) fn finished(&mut self, finished: Finished) {
        let Finished { connection, transfer, to, has_unsent, socket } = finished;
        if has_unsent {
            self.dumps.forget(transfer, Kept::Unsent);
        }
        match (socket, to) {
            (Ok(socket), Some((application, offer))) => {
                self.offers.remove(&offer);
                self.came.insert(connection, application);
                self.tell(application, Command::Connection(offer, socket));
            }
            (Ok(_), None) => tracing::error!(%connection, "is lost: it is for no application"),
            (Err(_), _) => {}
        }
    }

    /// Tells an application that its request is not done.
    pub(super) fn refuse(
        &mut self,
        application: ApplicationId,
        request: RequestId,
        why: Refusal,
        detail: Option<String>,
    ) {
        self.passed.remove(&(application, request));
        self.tell(application, Command::Failed { request, why, detail });
    }

    /// Sends what an application says to the routing stack, which passes it on.
    pub(super) fn say(&mut self, application: ApplicationId, request: RequestId, said: Saying, now: Instant) {
        let Saying { service, to, about, bytes } = said;
        let job = self.directory.job_of(application, service);
        let owner = self.owners.get(&service.dvipa).cloned();
        let (Some(from), Some((routing_stack, epoch))) = (job, owner) else {
            return self.refuse(application, request, Refusal::NoRoutingStack, None);
        };
        let (since, count) = self.said.filter(|(since, _)| *since + SECOND > now).unwrap_or((now, 0));
        if count >= SAID_A_SECOND {
            let detail = Some(format!("{SAID_A_SECOND} messages a second are passed on"));
            return self.refuse(application, request, Refusal::TooMany, detail);
        }
        self.said = Some((since, count + 1));
        let about = about.map(WireConnection);
        let (dvipa, port) = (Address(service.dvipa.address()), service.port);
        let message = FromStack::Say(Say { dvipa, epoch, port, from, to, about, bytes });
        self.outbox.push((routing_stack, message));
        self.tell(application, Command::Said(request));
    }

    /// What comes of an application's question.
    pub(super) fn asked(&mut self, application: ApplicationId, asked: Asked) {
        match asked {
            Asked::Ask(routing_stack, message) => self.outbox.push((routing_stack, message)),
            Asked::Answer(command) => self.tell(application, command),
            Asked::Waits => {}
        }
    }

    /// Tells an operator that a connection stays, and why.
    pub(super) fn stays_here(&mut self, order: Option<OrderId>, connection: &Connection, why: &Why) {
        tracing::debug!(%connection, %why, "a connection does not move");
        let owner = self.owners.get(&connection.service().dvipa).cloned();
        if let (Some(order), Some((to, epoch))) = (order, owner) {
            let connection = WireConnection(*connection);
            self.outbox.push((to, FromStack::Stays(Stays { connection, epoch, order, why: why.clone() })));
        }
    }

    pub(super) fn socket(&mut self, handle: Handle) -> Option<&mut Socket> {
        match handle {
            Handle::Kept(connection) => self.kept.get_mut(&connection),
            Handle::Passed(application, request) => self.passed.get_mut(&(application, request)),
        }
    }

    pub(super) fn take(&mut self, handle: Handle) -> Option<Socket> {
        match handle {
            Handle::Kept(connection) => self.kept.remove(&connection),
            Handle::Passed(application, request) => self.passed.remove(&(application, request)),
        }
    }

    pub(super) fn keep_socket(&mut self, connection: &Connection, socket: OwnedFd) {
        self.kept.insert(*connection, Socket::new(socket, *connection, Vec::new()));
    }

    /// The application that a connection is for, and the number that its offer has from now on.
    pub(super) fn addressee(
        &mut self,
        transfer: TransferId,
        connection: &Connection,
        job: Option<&str>,
    ) -> Result<(ApplicationId, OfferId, JobName), Reason> {
        let found = self.directory.find(connection.service(), job);
        let (application, registration) = found.ok_or(Reason::ApplicationGone)?;
        if !registration.takes_offers {
            return Err(Reason::TakesNoOffers);
        }
        self.last_offer += 1;
        let offer = OfferId(self.last_offer);
        self.arriving.entry(transfer).or_default().to = Some((application, offer));
        self.offers.insert(offer, transfer);
        Ok((application, offer, registration.job.clone()))
    }
}

/// The next entries to remove, if some are.
pub(super) async fn next_ended(ended: &mut Option<mpsc::Receiver<Vec<Connection>>>) -> Vec<Connection> {
    if let Some(some) = ended
        && let Some(some) = some.recv().await
    {
        return some;
    }
    *ended = None;
    std::future::pending().await
}

/// The hands at work.
#[derive(Debug)]
pub(super) struct At<'a> {
    pub(super) hands: &'a mut Hands,
    pub(super) kernel: Kernel<'a>,
}

/// What a server and its client have been doing, and where they stand.
pub(super) fn look(socket: BorrowedFd<'_>, kernel: Kernel<'_>) -> Result<(Activity, Stand), Why> {
    let activity = repair::activity(socket).map_err(|e| Why::from(&e))?;
    let noted = kernel.conversations.of(socket).and_then(|noted| {
        // From now on what is said is noted.
        if noted.is_none() {
            kernel.conversations.begin(socket)?;
        }
        Ok(noted)
    });
    let stand = match noted {
        Ok(noted) => noted.map_or(Stand::Unseen, |noted| stand(&noted, activity.received)),
        Err(cause) => {
            tracing::debug!(%cause, "what is said on a connection can't be read");
            Stand::Unseen
        }
    };
    Ok((activity, stand))
}

#[cfg(test)]
mod tests {
    use model::transfer::{About, Ledger};

    use super::*;

    #[test]
    fn nothing_of_a_giver_is_left_when_its_offer_is_answered_for_good() {
        let client = "198.18.0.2:40000".parse().unwrap();
        let own = "198.18.9.1:80".parse().unwrap();
        let connection = WireConnection(Connection::new(model::Protocol::Tcp, client, own).unwrap());
        let transfer = TransferId { incarnation: 1, number: 2 };
        let about = || About { connection, transfer, epoch: Epoch(1) };
        let mut givers = Givers::default();
        let giver: Target = "router@rt1".parse().unwrap();
        let void = Void { about: about(), ledger: Ledger(1), why: Reason::TooMany.into() };
        let active =
            Active { about: about(), source: giver.stack.clone(), way: model::transfer::Way::Restore };
        for said in [FromTarget::Void(void), FromTarget::Active(active)] {
            givers.insert(transfer, giver.clone());
            assert_eq!(givers.of(transfer), Some(giver.clone()));
            givers.said(&said.into());
            assert_eq!(givers.of(transfer), None);
        }
    }
}
