//! The agent's decisions: which DVIPAs this host has, what counts as a listener, what each routing stack is told.
//!
//! Pure: [`Machine::handle`] takes an event and the time, [`Machine::poll`] gives what is to be done,
//! [`Machine::next_deadline`] says when to come back. How a routing stack's session goes:
//!
//! | standing | SessionUp | SessionDown | VIPA list | a look begins | it is done | a socket changes |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | Apart | Greeted | Apart | (ignored) | – | – | – |
//! | Greeted | Greeted | Apart | Listed | – | – | – |
//! | Listed | Greeted | Apart | Listed | Looking | – | – |
//! | Looking | Greeted | Apart | Listed | – | complete account, Reporting | – |
//! | Reporting | Greeted | Apart | Listed | – | – | told |
//!
//! What the account says is numbered on from session to session: a routing stack that says how far it has heard, and lists the same
//! DVIPAs as before, is told what followed, and all that is here otherwise ([`log`]). In a session that goes on it is told of a new list's
//! DVIPAs only if there are others.
//!
//! A list is answered only after a look that began when its DVIPAs were in place: so an account that calls itself complete
//! is, also right after a restart of the agent and for connections that were here before the DVIPA was listed.
//!
//! A DVIPA is an address of this host while some list names this stack as a candidate target of it, or as its owner, and beyond
//! that while some list names it at all, or a range has it, and connections to it are here. A lost session changes no address.

mod addresses;
mod event;
mod flows;
mod kept;
pub mod listens;
mod log;
mod ranges;
mod registrations;
mod renewals;
mod reports;
mod routing_stack;
mod silences;
mod sockets;
mod stalls;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use model::message::{FromStack, Load, VipaList};
use model::{ClusterAddress, Connection, Dvipa, DvipaIndex, Epoch, StackName};

pub use event::{Action, Event, FailingServices, Forwarders, Origin, Takes, Timer};
pub use flows::FLOW_RECENT;
pub use kept::MOMENT;
pub use listens::{MAX_TAKERS, Served, Takers, TakersOf};
pub use log::LOGGED_CHANGES;
pub use ranges::ENDED_AT_ONCE;
pub use renewals::RENEWAL_ROUND;
pub use routing_stack::{CONNECTIONS_A_MESSAGE, Standing};
pub use silences::{MAX_LOOKED_AT, Speech, WAITING_CLIENTS};
pub use sockets::{Bound, Change, Cookie, Ifindex, Listener, Picture, RECENT, Scope};
pub use stalls::{STALL, Waiting};

use flows::Flows;
use kept::Kept;
use ranges::{Claims, Disruption};
use renewals::Renewals;
use routing_stack::RoutingStack;
use silences::Silences;
use sockets::Sockets;
use stalls::Stalls;

/// DVIPAs that a host can have; further ones of a list are ignored.
pub const MAX_DVIPAS: usize = DvipaIndex::MAX as usize + 1;
/// Outer sources of one routing stack: one a family; further ones of its list are ignored, so that all fit the programs' map.
pub const MAX_FORWARDERS: usize = 2;
/// The load is reported this often.
pub const LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// What concerns all connections is done in parts of so many: a matter of a few milliseconds, also where the first account of a million
/// connections is searched in memory that no cache has. What comes in has its turn in between.
pub const AT_A_STEP: usize = CONNECTIONS_A_MESSAGE / 4;

/// For how long a look at all sockets that nothing has asked for is not repeated, if it took so long: such looks take a twentieth of the time
/// at most. It is ten minutes at most: a host that stood still meanwhile only seems to take long.
pub fn rest_after_look(took: Duration) -> Duration {
    (took * 20).min(Duration::from_secs(600))
}

/// A look that failed is tried again after this long.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the machine knows of its own stack.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its name.
    pub name: StackName,
    /// Its cluster addresses.
    pub cluster_address: ClusterAddress,
    /// The interfaces that forwarded packets arrive at.
    pub interfaces: Vec<Ifindex>,
    /// The routing stacks it has sessions with.
    pub routing_stacks: Vec<StackName>,
    /// How often lost events and undone addresses are repaired.
    pub repair: Duration,
    /// A port fails when nobody was answered there for so long; `None`: that is no failure.
    pub unanswered: Option<Duration>,
}

/// What a former run of the agent left in force. It stays until every routing stack has sent a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// DVIPAs of this host.
    pub dvipas: BTreeMap<Dvipa, Option<Origin>>,
    /// Accepted outer sources.
    pub forwarders: Forwarders,
}

/// What operators are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// How it stands with each routing stack.
    pub standings: BTreeMap<StackName, Standing>,
    /// The DVIPAs of this host, and what each routing stack was told that it serves.
    pub dvipas: BTreeMap<Dvipa, BTreeMap<StackName, BTreeSet<Served>>>,
    /// Accepted outer sources.
    pub forwarders: BTreeSet<IpAddr>,
    /// Listening sockets of this host, counted or not.
    pub listeners: usize,
    /// Connections with a DVIPA.
    pub connections: usize,
}

/// The agent's state.
#[derive(Debug)]
pub struct Machine {
    own: Own,
    stacks: BTreeMap<StackName, RoutingStack>,
    sockets: Sockets,
    dvipas: BTreeMap<Dvipa, Option<Origin>>,
    forwarders: Forwarders,
    /// UDP ports of DVIPAs that are served here.
    served: BTreeSet<SocketAddr>,
    /// Connections that others speak for while they move.
    moving: HashSet<Connection>,
    /// Services of whose listeners not all take new connections.
    takers: TakersOf,
    /// Ports whose applications accept nothing.
    stalls: Stalls,
    silences: Silences,
    kept: Kept,
    failing: FailingServices,
    inherited: Option<Inherited>,
    look_under_way: bool,
    look_wanted: Option<Scope>,
    look_began: Instant,
    next_repair: Instant,
    /// When all connections are looked at again although no event was lost: not at each repair where there are very many.
    next_whole_look: Instant,
    next_load: Instant,
    renewals: Renewals,
    claims: Claims,
    flows: Flows,
    disruption: Option<Disruption>,
    actions: VecDeque<Action>,
    stopped: bool,
    /// [`AT_A_STEP`]; tests have it smaller.
    at_a_step: usize,
}

impl Machine {
    /// A machine that has seen no socket yet; its first action is to look.
    pub fn new(own: Own, inherited: Inherited, now: Instant) -> Self {
        Self {
            stacks: own.routing_stacks.iter().map(|s| (s.clone(), RoutingStack::default())).collect(),
            sockets: Sockets::default(),
            dvipas: inherited.dvipas.clone(),
            forwarders: inherited.forwarders.clone(),
            served: BTreeSet::new(),
            moving: HashSet::new(),
            takers: TakersOf::new(),
            stalls: Stalls::default(),
            silences: Silences::new(own.unanswered, now),
            kept: Kept::new(now),
            failing: FailingServices::new(),
            inherited: Some(inherited),
            look_under_way: false,
            look_wanted: Some(Scope::All),
            look_began: now,
            next_repair: now + own.repair,
            next_whole_look: now,
            next_load: now + LOAD_INTERVAL,
            renewals: Renewals::new(now),
            claims: Claims::default(),
            flows: Flows::default(),
            disruption: None,
            actions: VecDeque::new(),
            stopped: false,
            at_a_step: AT_A_STEP,
            own,
        }
    }

    /// Takes in what has happened.
    pub fn handle(&mut self, event: Event, now: Instant) {
        if self.stopped {
            return;
        }
        match event {
            Event::SessionUp(stack) => self.restart(&stack, Standing::Greeted),
            Event::SessionDown(stack) => self.restart(&stack, Standing::Apart),
            Event::Listed(from, list) => self.listed(&from, list, now),
            Event::Ranges(from, ranges) => self.ranges(&from, ranges),
            Event::Activate(from, order) => self.activate(&from, order),
            Event::Heard(from, number) => {
                if let Some(stack) = self.stacks.get_mut(&from) {
                    stack.heard = Some(number);
                }
            }
            Event::Asked(by, number) => {
                if let Some(stack) = self.stacks.get_mut(&by) {
                    stack.asked = Some(number);
                }
            }
            Event::Listening(cookie, listener) => {
                let change = self.sockets.listening(cookie, listener, now);
                self.tell(change);
            }
            Event::Established(cookie, connection) => {
                if self.concerns_clients(&connection) {
                    self.stalls.arrived(connection.dvipa.port());
                    let change = self.sockets.established(cookie, connection, now);
                    self.tell(change);
                }
            }
            Event::Claimed { connection, closing } => {
                if self.concerns_clients(&connection) {
                    if self.moving.contains(&connection) {
                        // It is here, and its transfer says whose it is: nobody is to take it for nobody's meanwhile.
                        self.stacks.values_mut().for_each(|stack| stack.missed = true);
                    }
                    self.tell([Change::Opened(connection)]);
                    self.tell(closing.then_some(Change::Ended(connection)));
                }
            }
            Event::Ended(cookie) => {
                let change = self.sockets.ended(cookie, now);
                self.tell(change);
            }
            Event::EndedAnswered(cookie, connection) => {
                let change = self.sockets.ended(cookie, now);
                self.tell(change);
                // A check of this host's own is no client.
                if self.concerns_clients(&connection) && self.silences.answered(connection.dvipa.port(), now)
                {
                    self.tell_listens();
                }
            }
            Event::Speeches(speeches) => {
                let is_client = |address| is_client(&self.dvipas, &self.own, address);
                self.kept.seen(&speeches, is_client, now);
                if self.silences.heard(&speeches, now) {
                    self.tell_listens();
                }
            }
            Event::Unanswered(after) => {
                if self.own.unanswered != after {
                    self.own.unanswered = after;
                    self.silences = Silences::new(after, now);
                    self.tell_listens();
                }
            }
            Event::UdpBound | Event::ListensElsewhere => self.want(Scope::Untold),
            Event::EventsLost => {
                self.stalls = Stalls::default();
                self.silences = Silences::new(self.own.unanswered, now);
                self.stacks.values_mut().for_each(|stack| stack.missed = true);
                self.want(Scope::All);
            }
            Event::Seen(scope, picture) => self.seen(scope, picture, now),
            Event::NotSeen => {
                self.look_under_way = false;
                self.next_repair = self.next_repair.min(now + LOOK_AGAIN);
                self.next_whole_look = now;
            }
            Event::Interfaces(interfaces) => {
                self.own.interfaces = interfaces;
                self.tell_listens();
            }
            Event::FlowsSeen(flows) => self.flows_seen(flows, now),
            Event::LoadSampled(load, queues) => {
                for to in self.reporting() {
                    let load = self.with_kept(&to, load.clone());
                    self.actions.push_back(Action::Send(to, FromStack::Load(load)));
                }
                if queues.is_some_and(|queues| self.stalls.sample(&queues, now)) {
                    self.tell_listens();
                }
            }
            Event::Reached(port) => self.stalls.arrived(port),
            Event::Failing(failing) => {
                if self.failing != failing {
                    self.failing = failing;
                    self.tell_listens();
                }
            }
            Event::NotAdded(dvipa) => {
                self.dvipas.remove(&dvipa);
                self.tell_listens();
            }
            Event::Moving(connection) => drop(self.moving.insert(connection)),
            Event::Rests { connection, ours } => self.rests(connection, ours),
            Event::Takers(takers) => {
                self.takers = takers;
                self.tell_listens();
            }
            Event::RoutingStacks(names) => {
                self.stacks.retain(|name, _| names.contains(name));
                for name in names {
                    self.stacks.entry(name).or_default();
                }
                self.settle();
                self.tell_listens();
            }
            Event::Repair(often) => {
                self.own.repair = often;
                self.next_repair = self.next_repair.min(now + often);
            }
            Event::Stop => self.stop(),
            Event::TimePassed => self.time_passed(now),
        }
    }

    /// The next thing to do, if there is one. To be called until there is none after each event.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if !self.look_under_way
            && let Some(scope) = self.look_wanted.take()
        {
            self.look_begins(scope, now);
            return Some(Action::Look(scope));
        }
        for (name, stack) in self.stacks.iter_mut().filter(|(_, stack)| !stack.is_behind) {
            let news = stack.take_news(self.at_a_step).into_iter().map(|m| Action::Send(name.clone(), m));
            self.actions.extend(news);
        }
        self.actions.pop_front()
    }

    /// Does the next part of what concerns all connections, which actions follow from; `false`: there is nothing such to do. To be
    /// called while [`Machine::is_busy`], after others have had their turn.
    pub fn step(&mut self) -> bool {
        let mut some = false;
        for stack in self.stacks.values_mut() {
            some |= std::mem::take(&mut stack.is_behind);
        }
        let most = self.at_a_step;
        let other = self.correct_some()
            || self.answer_some()
            || self.sockets.forget_some(most)
            || self.disrupt_some();
        some || other
    }

    /// Whether something is left for [`Machine::step`].
    pub fn is_busy(&self) -> bool {
        let is_told = |stack: &RoutingStack| stack.is_behind || stack.standing == Standing::Answering;
        self.sockets.is_correcting()
            || self.sockets.is_forgetting()
            || self.disruption.is_some()
            || self.stacks.values().any(is_told)
    }

    /// When [`Event::TimePassed`] is due.
    pub fn next_deadline(&self) -> Option<(Instant, Timer)> {
        let timers = [(self.next_repair, Timer::Repair), (self.next_load, Timer::Load)];
        timers.into_iter().filter(|_| !self.stopped).min_by_key(|(at, _)| *at)
    }

    /// Whether the look that is to begin is for a complete account, which UDP flows are part of.
    pub fn owes_an_account(&self) -> bool {
        self.stacks.values().any(|stack| stack.standing == Standing::Looking)
    }

    /// What has to go to a routing stack before the end of a transfer, on the same stream.
    pub fn fence(&mut self, routing_stack: &StackName) -> Option<FromStack> {
        self.stacks.get_mut(routing_stack).and_then(RoutingStack::fence)
    }

    /// Whether a socket of this connection is here.
    pub fn has(&self, connection: &Connection) -> bool {
        self.sockets.has(connection)
    }

    /// The routing stacks that are told of changes, with the DVIPAs that they list and their epochs.
    pub fn listing(&self) -> impl Iterator<Item = (&StackName, Dvipa, Epoch)> {
        let reporting = self.stacks.iter().filter(|(_, s)| s.standing == Standing::Reporting);
        reporting.flat_map(|(name, s)| s.entries().map(move |e| (name, Dvipa::new(e.address.0), e.epoch)))
    }

    /// Who owns this DVIPA, as in [`Machine::owners`].
    pub fn owner(&self, dvipa: Dvipa) -> Option<(&StackName, Epoch)> {
        let heard = self.stacks.iter().filter(|(_, stack)| stack.is_heard());
        let owners = heard.filter_map(|(name, stack)| {
            let entry = stack.entry(dvipa).filter(|entry| entry.owner)?;
            Some((name, entry.epoch))
        });
        owners.reduce(|newest, other| if other.1 > newest.1 { other } else { newest })
    }

    /// Who owns each DVIPA by the newest epoch, of those that there is a session with.
    pub fn owners(&self) -> BTreeMap<Dvipa, (StackName, Epoch)> {
        let mut owners = BTreeMap::new();
        for (name, stack) in &self.stacks {
            for entry in stack.entries().filter(|e| stack.is_heard() && e.owner) {
                let newest: &mut (StackName, Epoch) =
                    owners.entry(Dvipa::new(entry.address.0)).or_insert_with(|| (name.clone(), entry.epoch));
                if entry.epoch > newest.1 {
                    *newest = (name.clone(), entry.epoch);
                }
            }
        }
        owners
    }

    /// What operators are shown.
    pub fn view(&self) -> View {
        let told = |dvipa: Dvipa| {
            let of = |(name, stack): (&StackName, &RoutingStack)| {
                stack.told_of(dvipa).map(|served| (name.clone(), served.clone()))
            };
            self.stacks.iter().filter_map(of).collect()
        };
        View {
            standings: self.stacks.iter().map(|(name, stack)| (name.clone(), stack.standing)).collect(),
            dvipas: self.dvipas.keys().map(|d| (*d, told(*d))).collect(),
            forwarders: self.forwarders.keys().map(|(source, _)| *source).collect(),
            listeners: self.sockets.listeners().count(),
            connections: self.sockets.connection_count(),
        }
    }

    fn restart(&mut self, stack: &StackName, standing: Standing) {
        if let Some(stack) = self.stacks.get_mut(stack) {
            stack.restart(standing);
        }
    }

    fn listed(&mut self, from: &StackName, mut list: VipaList, now: Instant) {
        let Some(stack) = self.stacks.get_mut(from).filter(|s| s.standing != Standing::Apart) else { return };
        let mut named = BTreeSet::new();
        list.dvipas.retain(|entry| named.len() < MAX_DVIPAS && named.insert(entry.address));
        if stack.takes_over(&list) {
            stack.took_over = Some(now);
        }
        stack.listed_anew(list);
        if stack.standing == Standing::Greeted && !stack.said_ranges {
            // It would have said them before.
            stack.ranges = None;
        }
        stack.standing = Standing::Listed;
        stack.forget_unlisted();
        // What is active elsewhere may have changed; a second later it is looked at anew.
        self.disruption = None;
        self.settle();
        self.tell_listens();
        self.want(Scope::All);
    }

    fn look_begins(&mut self, scope: Scope, now: Instant) {
        (self.look_under_way, self.look_began) = (true, now);
        self.sockets.look_begins(now);
        for stack in self.stacks.values_mut() {
            if scope == Scope::All && stack.standing == Standing::Listed {
                stack.standing = Standing::Looking;
            }
        }
    }

    fn seen(&mut self, scope: Scope, picture: Picture, now: Instant) {
        if scope == Scope::All {
            let took = now.saturating_duration_since(self.look_began);
            self.next_whole_look = now + rest_after_look(took);
        }
        let changes = self.sockets.correct(scope, picture);
        self.tell(changes);
        self.correct_some();
    }

    /// Compares a part of the picture with what is known; `false`: there is none. The look is over when all is compared.
    fn correct_some(&mut self) -> bool {
        if !self.sockets.is_correcting() {
            return false;
        }
        let Self { sockets, dvipas, own, at_a_step, .. } = self;
        let is_wanted = |connection: &Connection| concerns_clients(dvipas, own, connection);
        let (changes, compared) = sockets.correct_some(*at_a_step, is_wanted);
        self.tell(changes);
        let Some((scope, picture)) = compared else { return true };
        self.look_under_way = false;
        if scope == Scope::All {
            self.found(&picture);
            if self.inherited.is_some() {
                self.settle();
            }
            self.answer(&picture.flows);
        }
        true
    }

    fn stop(&mut self) {
        for (name, stack) in &self.stacks {
            let entries = stack.entries().filter(|_| stack.standing == Standing::Reporting);
            let messages = entries.map(|e| Action::Send(name.clone(), RoutingStack::nothing_served(e)));
            self.actions.extend(messages);
        }
        self.look_wanted = None;
        self.stopped = true;
    }

    fn time_passed(&mut self, now: Instant) {
        if now >= self.next_repair {
            self.next_repair = now + self.own.repair;
            self.settle();
            let again = self.dvipas.iter().map(|(dvipa, origin)| Action::AddDvipa(*dvipa, *origin));
            self.actions.extend(again);
            self.allow_binds();
            self.tell_listens();
            self.want(if now >= self.next_whole_look { Scope::All } else { Scope::Untold });
        }
        if now >= self.next_load {
            self.next_load = now + LOAD_INTERVAL;
            self.actions.push_back(Action::SampleLoad);
            let (connections, wanted) = (self.sockets.connection_count(), self.wants_kept());
            let kept_due = self.kept.is_due(wanted, connections, now);
            if self.silences.is_due(connections, now) || kept_due {
                self.kept.begins(now);
                self.actions.push_back(Action::LookAtSpeeches);
            }
            self.renew(now);
            self.end_disrupted();
        }
    }

    fn want(&mut self, scope: Scope) {
        self.look_wanted = self.look_wanted.max(Some(scope));
    }

    fn reporting(&self) -> Vec<StackName> {
        let reporting = self.stacks.iter().filter(|(_, s)| s.standing == Standing::Reporting);
        reporting.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a routing stack selects by what its targets have to do.
    fn wants_kept(&self) -> bool {
        let mut heard = self.stacks.values().filter(|stack| stack.is_heard());
        heard.any(|stack| stack.list.as_ref().is_some_and(VipaList::wants_kept))
    }

    /// The load with what this routing stack wants to know of connections, if it does.
    fn with_kept(&self, to: &StackName, load: Load) -> Load {
        let stack = self.stacks.get(to).filter(|stack| stack.list.as_ref().is_some_and(VipaList::wants_kept));
        let counts = stack.and_then(|stack| self.kept.counts(|a| stack.entry(Dvipa::new(a)).is_some()));
        let (idle, elsewhere) = counts.unzip();
        Load { idle, elsewhere, ..load }
    }

    fn concerns_clients(&self, connection: &Connection) -> bool {
        concerns_clients(&self.dvipas, &self.own, connection)
    }
}

/// Both ends of a connection between applications of this host are here: no packet of it meets a forwarder.
fn concerns_clients(dvipas: &BTreeMap<Dvipa, Option<Origin>>, own: &Own, connection: &Connection) -> bool {
    let is_here = dvipas.contains_key(&Dvipa::new(connection.dvipa.ip()));
    is_here && is_client(dvipas, own, connection.client.ip())
}

/// This is no address of this host.
fn is_client(dvipas: &BTreeMap<Dvipa, Option<Origin>>, own: &Own, address: IpAddr) -> bool {
    !dvipas.contains_key(&Dvipa::new(address)) && !own.cluster_address.iter().any(|a| a == address)
}

#[cfg(test)]
mod tests;
