//! The control thread's loop: sessions, orders, timers and the forwarder meet the machine here. Nothing is
//! decided here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::handoff::Handoff;
use model::message::{FromStack, ToStack};
use model::peer::ToPeer;
use model::transfer::{FromHost, FromSource, FromTarget};
use model::{Connection, CrtState, Dvipa, StackIndex, StackName};
use ownership::etcd::News;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use transport::{DownReason, Endpoint, Events, Expiry, Renewal, SendError, Settings};

use super::admin::Asked;
use super::api::{EventName, OrderedBy};
use super::census::Census;
use super::epochs::Epochs;
use super::etcd::Etcd;
use super::events::Recent;
use super::forwarding::{Account, CrtFilter, Forwarding, TICK_MS, Ticked};
use super::history::History;
use super::listings::{Asker, Listing, Listings};
use super::timings::Timings;
use super::{notes, reload};
use crate::machine::{Action, Event, Refusal, RoutingStack, Scope};

/// How often the machine hears how many connections each stack has.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// A session that takes the place of another one begins sooner.
const REPLACED: Duration = Duration::from_secs(1);

/// How often workers are asked which requests are for other targets, where there are routes: a client waits that long for nothing.
const REQUESTS_EVERY: Duration = Duration::from_millis(1);

/// Until the neighbours have heard where the next owner is.
const NEIGHBOURS_HEAR: Duration = Duration::from_millis(200);

/// For how long the next owner, and its routes, are waited for before a `batond` that ends goes on to do so.
const HANDED_OVER: Duration = Duration::from_secs(1);

/// Events of sessions that are handed to the machine before what follows from all of them is computed and done. Many, so that a crowd
/// of events makes one change; few, so that heartbeats and timers do not wait for it.
pub const EVENTS_A_TURN: usize = 32;
/// The same for the connections that these events name: some 5 ms of the control thread.
pub const CONNECTIONS_A_TURN: usize = 20_000;

/// Everything that the control thread owns.
pub(super) struct Driver<F> {
    pub(super) machine: RoutingStack,
    pub(super) endpoint: Endpoint<ToStack>,
    /// Sessions with other routing stacks, if there are some.
    pub(super) peers: Option<Endpoint<ToPeer>>,
    /// etcd, where it decides.
    pub(super) etcd: Option<Etcd>,
    /// The highest epoch, where this node decides alone.
    pub(super) epochs: Epochs,
    /// What comes in there, if the first others were named while this node ran and the loop does not read it yet.
    pub(super) new_peers: Option<Events<ToPeer>>,
    /// How sessions are held.
    pub(super) settings: Settings,
    /// This stack's certificate, key and CA, which may be replaced.
    pub(super) renewal: Renewal,
    /// When the certificate ends that new sessions use.
    pub(super) expires: Expiry,
    pub(super) forwarding: F,
    /// The configuration file.
    pub(super) file: PathBuf,
    /// The text that is in force.
    pub(super) text: String,
    /// Those that were.
    pub(super) history: History,
    pub(super) started: Instant,
    /// When the configuration in force was read.
    pub(super) configured: Instant,
    /// What happened lately.
    pub(super) events: Recent,
    /// Which failures of transfers are in the log already.
    pub(super) failures: notes::Failures,
    /// Looks into the whole CRT.
    pub(super) listings: Listings,
    /// What each stack has of each service.
    pub(super) census: Census,
    /// When the sessions began that are up, in seconds since 1970.
    pub(super) sessions_since_s: BTreeMap<StackName, u64>,
    /// How long things take.
    pub(super) timings: Timings,
    /// Stacks with a new session in the place of the former one, of which nothing has come yet, and since when. To the machine the
    /// former one goes on.
    pub(super) replaced: BTreeMap<StackName, Instant>,
}

impl<F: Forwarding> Driver<F> {
    /// Runs until `stop` is ready; withdraws the routes then, and ends the sessions, so that peers know at once.
    pub(super) async fn run(
        mut self,
        mut events: Events<ToStack>,
        mut peers: Option<Events<ToPeer>>,
        mut news: Option<mpsc::Receiver<News>>,
        mut asked: mpsc::Receiver<Asked>,
        mut hangups: mpsc::Receiver<()>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        let mut ticks = interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut requests = interval(REQUESTS_EVERY);
        requests.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counts = interval(COUNT_EVERY);
        counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut withdraws, mut ends, mut handed_over) = (None, None, None);
        self.act();
        loop {
            let deadline = self.machine.next_deadline();
            peers = self.new_peers.take().or(peers);
            if self.machine.config().announce.is_none() && !self.machine.owns() {
                // What still arrives is forwarded for a moment.
                ends = ends.map(|ends: Instant| {
                    ends.min(*handed_over.get_or_insert(Instant::now() + NEIGHBOURS_HEAR))
                });
            }
            tokio::select! {
                () = &mut stop, if ends.is_none() => {
                    let announce = self.machine.config().announce;
                    let others = !self.machine.config().routing_stacks.is_empty();
                    let now = Instant::now();
                    let withdrawn = match announce {
                        Some(announce) => announce.withdrawn,
                        None if others && self.machine.owns() => HANDED_OVER,
                        None => break,
                    };
                    (ends, withdraws) = (Some(now + withdrawn), announce.map(|_| now));
                    if others {
                        // The next owner owns, and has its routes, first.
                        self.order_quietly(Event::Leave(true));
                        withdraws = withdraws.map(|now| now + HANDED_OVER.min(withdrawn / 2));
                    }
                }
                () = at(withdraws), if withdraws.is_some() => {
                    withdraws = None;
                    self.order_quietly(Event::Ends);
                }
                // Packets come until the routers have heard of it.
                () = at(ends), if ends.is_some() => break,
                Some(event) = events.recv() => {
                    let mut connections = self.heard(event);
                    for _ in 1..EVENTS_A_TURN {
                        let next = if connections < CONNECTIONS_A_TURN { events.try_next() } else { None };
                        let Some(event) = next else { break };
                        connections += self.heard(event);
                    }
                    self.act();
                }
                Some(event) = next_of(&mut peers) => self.peer(event),
                Some(news) = next_news(&mut news) => self.order_quietly(Event::Etcd(news)),
                Some(Asked { request, by, reply }) = asked.recv() => {
                    self.machine.hurry();
                    self.act();
                    self.answer(request, by, reply);
                }
                // After everybody else's turn; while there is always something else to do, with each tick.
                () = tokio::task::yield_now(), if self.listings.are_wanted() => self.look(),
                due = ticks.tick() => {
                    self.timings.late(due.elapsed());
                    self.look();
                    self.end_replaced();
                    self.reselect();
                    let Ticked { silent, link_returned, vacant, tokens_low, asked } = self.forwarding.tick();
                    if let Some(silent) = silent {
                        self.order_quietly(Event::SilentHosts(silent));
                    }
                    if !tokens_low.is_empty() {
                        self.order_quietly(Event::TokensLow(tokens_low));
                    }
                    if link_returned {
                        self.order_quietly(Event::LinkReturned);
                    }
                    if let Some((stacks, dvipas)) = vacant {
                        self.order_quietly(Event::Vacant { stacks, dvipas });
                    }
                    if let Some(until) = asked {
                        self.order_quietly(Event::Asked { until });
                    }
                }
                _ = requests.tick(), if self.forwarding.reads_requests() => self.reselect(),
                _ = counts.tick() => {
                    reload::renew(&mut self);
                    let connections = self.forwarding.connections();
                    self.order_quietly(Event::ConnectionCounts(connections));
                }
                () = at(deadline) => {
                    self.machine.tick(Instant::now());
                    self.act();
                }
                Some(()) = hangups.recv() => {
                    if let Err(refused) = reload::reload(&mut self, OrderedBy::Signal) {
                        tracing::error!(why = refused.text(), file = %self.file.display(), "reload refused, nothing changed");
                    }
                }
            }
        }
        if let Some(peers) = &self.peers {
            // First: what this node owned is taken over while its agents say goodbye.
            peers.close().await;
        }
        self.endpoint.close().await;
    }

    /// News of a session, for the machine; what follows is not done yet. Returns how many connections it names.
    fn heard(&mut self, event: transport::Event<FromStack>) -> usize {
        let mut connections = 0;
        match event {
            transport::Event::Up { peer, hello } => {
                self.replaced.remove(&peer);
                let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.sessions_since_s.insert(peer.clone(), since_1970.as_secs());
                self.hand_in(Event::SessionUp { stack: peer, hello });
            }
            transport::Event::Message { peer, message } => {
                connections = match &message {
                    FromStack::Newconn(newconn) => newconn.connections.len(),
                    FromStack::Termconn(termconn) => termconn.connections.len(),
                    _ => 1,
                };
                let event = self.with_home(peer, message);
                self.hand_in(event);
            }
            transport::Event::Misdirected { peer, message } => {
                self.hand_in(Event::Misdirected { from: peer, message });
            }
            transport::Event::Greets { peer, hello } => self.hand_in(Event::Greets { stack: peer, hello }),
            transport::Event::Quiet { peer } => self.hand_in(Event::Quiet { stack: peer }),
            transport::Event::Heard { peer } => self.hand_in(Event::Heard { stack: peer }),
            transport::Event::Down { peer, why: DownReason::Replaced } => {
                self.replaced.insert(peer, Instant::now());
            }
            transport::Event::Down { peer, .. } => {
                self.replaced.remove(&peer);
                self.sessions_since_s.remove(&peer);
                self.hand_in(Event::SessionDown { stack: peer });
            }
        }
        connections
    }

    /// Of new sessions that do not begin the former ones are over, too.
    fn end_replaced(&mut self) {
        let over = self.replaced.iter().filter(|(_, since)| since.elapsed() >= REPLACED);
        for stack in over.map(|(stack, _)| stack.clone()).collect::<Vec<_>>() {
            self.replaced.remove(&stack);
            self.sessions_since_s.remove(&stack);
            self.order_quietly(Event::SessionDown { stack });
        }
    }

    /// News of a session with another routing stack.
    fn peer(&mut self, event: transport::Event<ToPeer>) {
        match event {
            transport::Event::Up { peer, .. } => {
                let named = self.machine.config().routing_stacks.iter().any(|other| other.name == peer);
                if !named && let Some(peers) = &self.peers {
                    peers.hang_up(&peer);
                }
                self.order_quietly(Event::PeerUp { stack: peer });
            }
            transport::Event::Message { peer, message } => {
                self.order_quietly(Event::PeerMessage { from: peer, message });
            }
            transport::Event::Down { peer, .. } => self.order_quietly(Event::PeerDown { stack: peer }),
            transport::Event::Misdirected { .. }
            | transport::Event::Greets { .. }
            | transport::Event::Quiet { .. }
            | transport::Event::Heard { .. } => {}
        }
    }

    /// A message, and who has the connection that it would move.
    fn with_home(&mut self, from: StackName, message: FromStack) -> Event {
        let message = match message {
            FromStack::Transfer(message) => message,
            message => return Event::Message { from, message },
        };
        let connection = match &message {
            FromHost::Source(FromSource::Prepare(m)) => Some(m.connection.0),
            FromHost::Source(FromSource::Doubt(m)) => Some(m.about.connection.0),
            FromHost::Target(FromTarget::Active(m)) => Some(m.about.connection.0),
            _ => None,
        };
        if connection.is_some() {
            // What the events before this one have changed in the CRT.
            self.act();
        }
        // One that has ended is nobody's any more.
        let entry = connection.and_then(|connection| self.forwarding.crt_entry(&connection));
        match entry.filter(|entry| entry.state != CrtState::Closing) {
            Some(entry) => Event::Transfer { from, message, home: entry.stack },
            None => Event::Message { from, message: message.into() },
        }
    }

    /// Hands an event to the machine and does what follows; who caused it learns whether it was followed.
    pub(super) fn order(&mut self, event: Event) -> Result<(), Refusal> {
        let outcome = self.machine.handle(event, Instant::now());
        self.act();
        outcome
    }

    /// As [`Driver::order`], for events that nobody awaits an answer for.
    fn order_quietly(&mut self, event: Event) {
        self.hand_in(event);
        self.act();
    }

    /// Hands an event to the machine that nobody awaits an answer for: the machine counts the refusals.
    fn hand_in(&mut self, event: Event) {
        if let Err(refusal) = self.machine.handle(event, Instant::now()) {
            tracing::debug!(%refusal, "not followed");
        }
    }

    /// Does everything that the machine wants done.
    fn act(&mut self) {
        if let Some(fence) = self.machine.moved_fence() {
            self.forwarding.fence(fence);
        }
        while let Some(action) = self.machine.poll() {
            self.epochs.keep(self.machine.highest_epoch());
            if let Some(step) = step(&action) {
                transfer::halt::before("routing", step);
            }
            match action {
                Action::Send { to, message } => self.send(&to, &message),
                Action::Tell { to, message } => self.tell(&to, &message),
                Action::AskEtcd { ask, question } => {
                    if let Some(etcd) = &self.etcd {
                        etcd.ask(ask, question);
                    }
                }
                Action::Publish(dpt) => {
                    tracing::debug!(generation = dpt.generation, "DPT published");
                    self.forwarding.remember(&|| self.machine.numbering());
                    self.forwarding.publish(&dpt);
                }
                Action::Newconn { owner, first, last, earlier, connections, moving } => {
                    self.newconn(owner, &connections, Account { first, last, earlier }, &moving);
                }
                Action::Termconn { owner, connections } => self.forwarding.termconn(owner, &connections),
                Action::Looked { stack, since, until } => self.forwarding.looked(stack, since, until),
                Action::Loaded { stack, idle, elsewhere } => self.forwarding.loaded(stack, idle, elsewhere),
                Action::Freeze { connection, owner } => {
                    self.timings.holds(connection, Instant::now());
                    self.forwarding.freeze(&connection, owner);
                }
                Action::Thaw { connection, owner } => {
                    self.forwarding.thaw(&connection, owner);
                    self.timings.flows(&connection, Instant::now());
                }
                Action::HandOver { connection, to, handoff } => self.hand_over(connection, to, &handoff),
                Action::End { connection } => {
                    self.forwarding.end(&connection);
                    self.timings.flows(&connection, Instant::now());
                }
                Action::Choose { wanted, row } => {
                    let stack = self.forwarding.choose(&wanted, &row);
                    self.hand_in(Event::Chosen { wanted: Box::new(wanted), stack });
                }
                Action::List { stack, scope, limit } => self.list(stack, scope, limit),
                Action::Count { dvipa } => self.count(dvipa),
                Action::CountStacks { dvipa } => self.look_for(dvipa, Asker::Range(dvipa)),
                Action::Retire { stacks, dvipas } => self.forwarding.retire(stacks, dvipas),
                Action::Tokens { stack, tokens } => self.forwarding.tokens(stack, tokens),
                Action::Declined { connection, by } => self.forwarding.declined(&connection, by),
                Action::Stay { connection, why } => {
                    tracing::debug!(%connection, why = why.sentence(), "stays although its next request is for another stack");
                    self.forwarding.stay(&connection);
                }
                Action::Report { connection, source, target, way, outcome } => {
                    let failed = self.failures.write(&connection, (&source, &target), way.word(), &outcome);
                    if let Some(why) = failed {
                        let text = format!("from {source} to {target}: {why}");
                        self.events.add(EventName::TransferFailed, connection, text);
                    }
                }
                Action::Note(note) => {
                    let (about, text) = notes::write(&note);
                    self.events.add(notes::name(&note), about, text);
                }
                Action::Announce { dvipa } => {
                    tracing::info!(%dvipa, "announced");
                    self.forwarding.announce(dvipa);
                }
                Action::Route { dvipas } => {
                    let to = dvipas.iter().map(Dvipa::to_string).collect::<Vec<_>>().join(" ");
                    tracing::info!(%to, "routes for the routing daemon");
                    self.forwarding.route(dvipas);
                }
            }
        }
    }

    /// Connections that other stacks have stay theirs: who reported them is to be known.
    fn newconn(&mut self, by: StackIndex, reported: &[Connection], account: Account, moving: &[Connection]) {
        let connections = self.forwarding.newconn(by, reported, account, moving);
        if connections > 0
            && let Err(refusal) =
                self.machine.handle(Event::HeldElsewhere { by, connections }, Instant::now())
        {
            tracing::debug!(%refusal, "not followed");
        }
    }

    /// Has connections moved whose next requests are for others than who has them.
    fn reselect(&mut self) {
        let wanted = self.forwarding.wanted();
        if !wanted.is_empty() {
            self.order_quietly(Event::Reselect(wanted));
        }
    }

    /// If it can't be done, what follows from that is among the machine's next actions.
    fn hand_over(&mut self, connection: Connection, to: StackIndex, handoff: &Handoff) {
        let Err(error) = self.forwarding.hand_over(&connection, to, handoff) else {
            return self.timings.flows(&connection, Instant::now());
        };
        tracing::debug!(%connection, %error, "not handed over");
        self.hand_in(Event::NotHandedOver { connection, said: error.to_string() });
    }

    /// The answer comes with [`Self::look`].
    fn list(&mut self, stack: StackName, scope: Scope, limit: usize) {
        let (dvipa, port) = match scope {
            Scope::All => (None, None),
            Scope::Dvipa(dvipa) => (Some(dvipa.address()), None),
            Scope::Service(service) => (Some(service.dvipa.address()), Some(service.port)),
        };
        let Some(index) = self.machine.stack_index(&stack) else {
            // One that never was here has none.
            return self.hand_in(Event::Listed { stack, scope, connections: Vec::new(), more: 0 });
        };
        let (stack_filter, state) = (Some(index), Some(CrtState::Established));
        let filter = CrtFilter { dvipa, port, stack: stack_filter, state, ..CrtFilter::default() };
        // Evacuations are as many as drains at most, and each asks once at a time.
        let _ = self.listings.put(Listing::new(Asker::Evacuation(stack, scope), filter, limit));
    }

    /// As [`Self::list`], of all connections to a DVIPA.
    fn count(&mut self, dvipa: Dvipa) {
        self.look_for(dvipa, Asker::Idle(dvipa));
    }

    fn look_for(&mut self, dvipa: Dvipa, asker: Asker) {
        let filter = CrtFilter { dvipa: Some(dvipa.address()), ..CrtFilter::default() };
        let _ = self.listings.put(Listing::new(asker, filter, 0));
    }

    /// Looks at the next part of the CRT for those that want to know of all of it.
    fn look(&mut self) {
        let begun = Instant::now();
        let done = self.listings.step(&self.forwarding);
        self.census.spent(begun.elapsed());
        for Listing { asker, page, stacks, shares, .. } in done {
            match asker {
                Asker::Census => self.census.done(shares, Instant::now()),
                // Fails only if the client has gone away.
                Asker::Operator(reply) => drop(reply.send(self.crt(page))),
                Asker::Idle(dvipa) => self.order_quietly(Event::Counted { dvipa, connections: page.more }),
                Asker::Range(dvipa) => {
                    let connections = stacks.into_iter().collect();
                    self.order_quietly(Event::CountedStacks { dvipa, connections });
                }
                Asker::Evacuation(stack, scope) => {
                    let connections = page.entries.iter().map(|entry| entry.connection).collect();
                    self.order_quietly(Event::Listed { stack, scope, connections, more: page.more });
                }
            }
        }
    }

    fn send(&self, to: &StackName, message: &ToStack) {
        match self.endpoint.send(to, message) {
            // The end of a session that breaks off follows as an event; then everything is said again.
            Ok(()) | Err(SendError::NoSession(_) | SendError::QueueFull(_)) => {}
            Err(error @ SendError::Oversize { .. }) => tracing::error!(%error, "a message was dropped"),
        }
    }

    /// As [`Self::send`], to another routing stack.
    fn tell(&self, to: &StackName, message: &ToPeer) {
        if let Some(Err(error @ SendError::Oversize { .. })) =
            self.peers.as_ref().map(|p| p.send(to, message))
        {
            tracing::error!(%error, "a message was dropped");
        }
    }
}

/// The next event, if there is an endpoint; never if there is none.
async fn next_of(events: &mut Option<Events<ToPeer>>) -> Option<transport::Event<ToPeer>> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// As [`next_of`], from etcd.
async fn next_news(news: &mut Option<mpsc::Receiver<News>>) -> Option<News> {
    match news {
        Some(news) => news.recv().await,
        None => std::future::pending().await,
    }
}

/// Ready at the deadline; never if there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// What a step of a transfer is called.
fn step(action: &Action) -> Option<&'static str> {
    match action {
        Action::Send { message: ToStack::Transfer(message), .. } => Some(message.word()),
        Action::Freeze { .. } => Some("freeze"),
        Action::Thaw { .. } => Some("thaw"),
        _ => None,
    }
}
