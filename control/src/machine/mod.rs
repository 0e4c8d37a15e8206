//! The routing stack: which DVIPAs it owns, which stacks may be selected for a new connection, and what it tells whom.
//!
//! Pure: [`RoutingStack::handle`] takes an [`Event`] and the time, [`RoutingStack::poll`] gives the [`Action`]s until
//! there are none, [`RoutingStack::next_deadline`] says when [`RoutingStack::tick`] wants to be called at the latest.
//!
//! A session with a stack goes through these states; each cell says what an event does to it.
//!
//! | event | none | up |
//! | --- | --- | --- |
//! | session up | number given; VIPA list; *up* | as session down, then as in none; its listens and applications hold until it says them anew |
//! | session down | – | forgets what it said, target lost, dead when its host is silent too; *none* |
//! | quiet, heard | – | selected last, and again as before ([`losses`]) |
//! | SRVSTAT | refused | listens of that DVIPA, if the epoch is the present one |
//! | NEWCONN | refused | connections of owned DVIPAs confirmed; accounts keep their first and last part |
//! | TERMCONN | refused | connections of owned DVIPAs ended |
//! | Told | refused | NEWCONN and TERMCONN are heard up to its number, which the next session's VIPA list follows ([`Heard`]) |
//! | After | refused | of a connection that has moved, Done counts when NEWCONN and TERMCONN are heard up to its number |
//! | Applications | refused | those of that DVIPA, if the epoch is the present one |
//! | Choose, View | refused | answered, if the epoch is the present one ([`choosing`]) |
//! | PortsHeld | refused | blocks of ports are granted ([`ports`]) |
//! | Bound | refused | addresses of ranges are active at the stack, or no longer ([`ranges`]) |
//! | TokensGiven | refused | they are the workers' ([`tokens`]) |
//! | Declined | refused | the CRT entry that a worker made goes |
//! | of a transfer | refused | [`transfer::Routing`] decides |
//! | Stays | refused | the order that it answers is over |
//! | Load | refused | smoothed; a new weight only if it differs enough; which connections are only kept open goes to the workers |
//!
//! Sessions with other routing stacks have a table of their own ([`peers`]), and so has what follows from them for ownership
//! ([`succession`], [`ownership`]).
//!
//! What a stack may say is a table of its own ([`rights`]): a message that it may not say is refused and counted with its
//! name, and nothing else happens.
//!
//! Whatever an event changes in the DPT and the VIPA list is computed anew when the actions are polled, and goes out only if it
//! differs from what is out; several events at once make one change. What each event changes is said in one place ([`dirty`]), what
//! is kept from one change to the next in [`board`], and how often there is one in a storm of events in [`pace`].

mod action;
mod announce;
mod board;
mod choosing;
mod controller;
mod definitions;
mod direct;
mod dirty;
mod drain;
mod evacuation;
mod event;
mod load;
mod looks;
mod losses;
mod messages;
mod moves;
mod note;
mod numbers;
mod orders;
mod ownership;
mod pace;
mod peers;
mod picture;
mod ports;
mod ramps;
mod ranges;
mod refusal;
mod reselecting;
mod rights;
mod roster;
mod session;
mod settling;
mod stacks;
mod succession;
mod targets;
mod tokens;
mod transfers;
mod view;
mod views;
mod vipalist;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use model::dpt::Dpt;
use model::message::VipaList;
use model::numbering::Numbering;
use model::transfer::{Reason, Why};
use model::{Dvipa, Epoch, StackIndex, StackName};

pub use action::Action;
pub use choosing::{Among, ToChoose};
pub use evacuation::{MAX_AT_ONCE, Terms as EvacuationTerms};
pub use event::{Event, Scope};
pub use note::Note;
pub use numbers::{GONE_DVIPA, GONE_STACK};
pub use orders::{Order, Progress};
pub use refusal::{Offence, OrderRefusal, Refusal, RefusalKind};
pub use reselecting::Wanted;
pub use transfers::TransferCounts;
pub use view::*;

use crate::config::{Config, VipaDynamic};
use announce::{Announcements, Routes};
use board::Board;
use choosing::Choosing;
use controller::ControllerWeights;
use direct::Direct;
use dirty::{Dirty, Mark};
use drain::Drains;
use evacuation::Evacuations;
use orders::Orders;
use ownership::Dvipas;
use pace::{Pace, Urgency};
use peers::{Contradiction, Peers};
use picture::Picture;
use ports::Ports;
use ramps::Ramps;
use ranges::Ranges;
use reselecting::Reselections;
use rights::{Rights, Wrong};
use stacks::Stacks;
use transfer::routing::Event as News;
use transfers::Transfers;

/// How long after its start a routing stack waits for the stacks of before: until then nothing is certain about connections
/// that nobody claims.
pub const SETTLES: Duration = Duration::from_secs(10);
/// The most listens that are kept of one stack; a report of more is cut and counted.
pub const MAX_LISTENS: usize = 65_536;
/// The most registered applications that are kept of one stack; a report of more is cut and counted.
pub const MAX_APPLICATIONS: usize = 4_096;
/// The most drains that are kept at once.
pub const MAX_DRAINS: usize = 4_096;
/// The most services that can have weights of a controller at once.
pub const MAX_WEIGHED_SERVICES: usize = 4_096;
/// The most reasons and peers for which refusals are counted apart; beyond it they are counted without the peer's name.
pub const MAX_REFUSED: usize = 16_384;
/// The longest that weights of a controller hold.
pub const MAX_WEIGHT_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Who this process is: what can't be in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A number that differs each time the process starts.
    pub incarnation: u64,
    /// The software's version.
    pub version: String,
    /// The epoch with which this process begins to own DVIPAs. Higher than all that a former process of this node
    /// gave out: seconds since 1970 serve.
    pub first_epoch: Epoch,
}

/// The state machine of a routing stack. Owned by the control thread.
#[derive(Debug)]
pub struct RoutingStack {
    identity: Identity,
    config: Box<Config>,
    /// The definitions as they are in the file; `written` has those of active addresses of ranges too, and those of `config` are
    /// completed by what peers have said.
    file: VipaDynamic,
    written: VipaDynamic,
    dvipas: Dvipas,
    peers: Peers,
    contradictions: BTreeMap<Dvipa, Contradiction>,
    /// Living peers that ask other witnesses than this stack.
    other_witnesses: BTreeMap<StackName, peers::Witnesses>,
    stacks: Stacks,
    drains: Drains,
    controller: ControllerWeights,
    direct: Direct,
    ports: Ports,
    ramps: Ramps,
    ranges: Ranges,
    /// Stacks that have given tokens in their sessions.
    have_given: BTreeSet<StackIndex>,
    announcements: Announcements,
    routes: Routes,
    transfers: Transfers,
    orders: Orders,
    evacuations: Evacuations,
    reselections: Reselections,
    choosing: Choosing,
    /// The DPT as it is, and what has changed since it was computed.
    board: Board,
    dirty: Dirty,
    /// What the workers have.
    published: Dpt,
    /// What stacks have, and how often it changed.
    list: VipaList,
    list_generation: u64,
    /// Whether and when `published` and `list` are to be computed anew.
    pace: Pace,
    /// When this stack has waited for the others for long enough; none: it has.
    settles: Option<Instant>,
    actions: VecDeque<Action>,
    rights: Rights,
    /// How often, and because of which peer.
    refused: BTreeMap<(RefusalKind, Option<StackName>), u64>,
    work: Work,
}

/// What a routing stack has computed since its start: counted, because what an event costs is to follow what it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// How often what follows from events was computed.
    pub settles: u64,
    /// Services of the DPT that were computed for it.
    pub services: u64,
    /// Candidates of services that were looked at for it.
    pub targets: u64,
}

impl RoutingStack {
    /// A routing stack that knows no other stack yet. It owns the DVIPAs that it defines, if no other routing stack can.
    ///
    /// # Errors
    /// [`OrderRefusal::TooManyDvipas`] if it defines more than CRT entries can name, [`OrderRefusal::DefinitionTooLong`] if one can't be
    /// told to peers.
    pub fn new(identity: Identity, config: Config, now: Instant) -> Result<Self, OrderRefusal> {
        Self::resumed(identity, config, None, now)
    }

    /// As [`RoutingStack::new`], over a CRT whose entries have the numbers of a former process: stacks and DVIPAs keep them. Its stacks
    /// are lost until they are heard.
    ///
    /// # Errors
    /// As [`RoutingStack::new`].
    pub fn resumed(
        identity: Identity,
        config: Config,
        numbering: Option<&Numbering>,
        now: Instant,
    ) -> Result<Self, OrderRefusal> {
        let stacks = Stacks::new(config.node.name.clone(), config.node.cluster_address);
        let mut new = Self {
            file: config.vipadynamic.clone(),
            written: config.vipadynamic.clone(),
            dvipas: Dvipas::new(&identity, &config.cluster, numbering, now),
            peers: Peers::new(config.routing_stacks.iter().map(|peer| peer.name.clone()), now),
            contradictions: BTreeMap::new(),
            other_witnesses: BTreeMap::new(),
            transfers: Transfers::new(identity.incarnation),
            identity,
            config: Box::new(config),
            stacks,
            drains: Drains::default(),
            controller: ControllerWeights::default(),
            direct: Direct::default(),
            ports: Ports::default(),
            ramps: Ramps::new(now),
            ranges: Ranges::default(),
            have_given: BTreeSet::new(),
            announcements: Announcements::default(),
            routes: Routes::default(),
            orders: Orders::default(),
            evacuations: Evacuations::new(),
            reselections: Reselections::default(),
            choosing: Choosing::default(),
            board: Board::default(),
            dirty: Dirty::default(),
            published: Dpt::default(),
            list: VipaList::default(),
            list_generation: 0,
            pace: Pace::new(now),
            settles: Some(now + SETTLES),
            actions: VecDeque::new(),
            rights: Rights::default(),
            refused: BTreeMap::new(),
            work: Work::default(),
        };
        new.config.vipadynamic = new.peers.complete(&new.written);
        new.rights.define(&new.config.vipadynamic);
        if let Some(numbering) = numbering {
            new.stacks.resume(&numbering.stacks, now);
            new.mark(Mark::States, Urgency::Now);
        }
        new.check_lengths(&new.written)?;
        new.dvipas.define(&new.config.vipadynamic, now)?;
        new.mark_definitions(&VipaDynamic::default(), &BTreeMap::new());
        new.succeed(now);
        Ok(new)
    }

    /// Takes note of an event. Call [`RoutingStack::poll`] until it gives nothing afterwards.
    ///
    /// # Errors
    /// Why the event was not followed, or not wholly: to be logged if a peer caused it, to be answered if an operator
    /// did. It is counted here already; the machine goes on.
    pub fn handle(&mut self, event: Event, now: Instant) -> Result<(), Refusal> {
        self.tick(now);
        let outcome = match event {
            Event::Configure(config) => self.configure(config, now).map_err(Refusal::Order),
            Event::SessionUp { stack, hello } => self.session_up(&stack, &hello, now),
            Event::SessionDown { stack } => {
                self.session_over(&stack, now);
                Ok(())
            }
            Event::Greets { stack, hello } => self.says_mtu(&stack, hello.fabric_mtu),
            Event::Quiet { stack } => self.hears(&stack, false),
            Event::Heard { stack } => self.hears(&stack, true),
            Event::SilentHosts(silent) => {
                if self.stacks.losses.silent_hosts(silent) {
                    self.mark(Mark::States, Urgency::Now);
                }
                Ok(())
            }
            Event::Message { from, message } => self.message(&from, message, None, now),
            Event::Transfer { from, message, home } => self.message(&from, message.into(), Some(home), now),
            Event::Misdirected { from, message } => {
                Err(Offence::Wrong { message, wrong: Wrong::RoutingStacksOnly }.by(&from))
            }
            Event::HeldElsewhere { by, connections } => match self.stack_name(by).cloned() {
                Some(from) => {
                    Err(Offence::Wrong { message: "NEWCONN", wrong: Wrong::AnothersConnections(connections) }
                        .by(&from))
                }
                None => Ok(()),
            },
            Event::Asked { until } => {
                self.ask_for_looks(until);
                Ok(())
            }
            Event::LinkReturned => {
                self.announce_again(now);
                Ok(())
            }
            Event::Ends => {
                self.end_routes();
                Ok(())
            }
            Event::Drain { stack, scope } => {
                let drained = self.known(&stack, scope).and_then(|()| self.begin_drain(stack, scope));
                self.tell_orders(now);
                drained.map_err(Refusal::Order)
            }
            Event::Resume { stack, scope } => {
                self.forget_evacuations(&stack, scope);
                // What was drained may not be there any more.
                let known = self.known(&stack, scope);
                self.mark_stack(&stack, |index| Mark::scope(scope, index), Urgency::Now);
                let ended = self.drains.end(stack, scope);
                self.tell_orders(now);
                ended.map_err(|not_draining| known.err().unwrap_or(not_draining).into())
            }
            Event::Evacuate { stack, scope, terms } => {
                let begun = self.begin_evacuation(stack, scope, terms, now);
                self.tell_orders(now);
                begun.map_err(Refusal::Order)
            }
            Event::StopEvacuation { stack, scope } => {
                self.stop_evacuation(stack, scope, now).map_err(Refusal::Order)
            }
            Event::Listed { stack, scope, connections, more } => {
                self.listed(stack, scope, (connections, more), now);
                Ok(())
            }
            Event::SetWeights { service, weights, ttl } => {
                let set = self.set_weights(service, weights, ttl, now);
                self.tell_orders(now);
                set.map_err(Refusal::Order)
            }
            Event::Move { connection, source, target, job, quiet_ms } => {
                let source =
                    self.stack_name(source).cloned().ok_or(OrderRefusal::NoSuchConnection(connection));
                let moved =
                    source.and_then(|s| self.order_move(connection, s, (target, job), (quiet_ms, None), now));
                moved.map_err(Refusal::Order)
            }
            Event::NotHandedOver { connection, said } => {
                let why = Why::new(Reason::NoWay, &said);
                self.transfer_news(News::NotHandedOver { connection, why }, now);
                Ok(())
            }
            Event::Chosen { wanted, stack } => {
                self.chosen(*wanted, stack);
                Ok(())
            }
            Event::TokensLow(stacks) => {
                self.want_tokens(&stacks);
                Ok(())
            }
            Event::Reselect(all) => {
                self.reselect(all, now);
                Ok(())
            }
            Event::ConnectionCounts(counts) => {
                self.stacks.count_connections(counts);
                self.retire(now);
                Ok(())
            }
            Event::Vacant { stacks, dvipas } => {
                self.vacant(stacks, dvipas);
                Ok(())
            }
            Event::PeerUp { stack } => self.peer_up(&stack, now),
            Event::PeerDown { stack } => {
                self.peer_down(&stack);
                Ok(())
            }
            Event::PeerMessage { from, message } => self.peer_says(&from, message),
            Event::Activate { dvipa, stack } => self.activate(dvipa, stack).map_err(Refusal::Order),
            Event::Deactivate { dvipa } => self.deactivate(dvipa).map_err(Refusal::Order),
            Event::CountedStacks { dvipa, connections } => {
                self.counted_of(dvipa, connections);
                Ok(())
            }
            Event::Etcd(news) => {
                self.etcd_says(news, now);
                Ok(())
            }
            Event::MoveDvipa { dvipa, to } => self.move_dvipa(dvipa, to).map_err(Refusal::Order),
            Event::Counted { dvipa, connections } => {
                self.counted(dvipa, connections);
                Ok(())
            }
            Event::Leave(leaving) => {
                self.leave(leaving);
                Ok(())
            }
        };
        self.follow_ranges(now);
        self.succeed(now);
        self.evacuate(now);
        if let Err(refusal) = &outcome {
            self.count(refusal);
        }
        outcome
    }

    /// Counts a refusal. That a stack says what it may not say is for the log, once for each reason.
    fn count(&mut self, refusal: &Refusal) {
        let from = refusal.from().cloned();
        let mut key = (refusal.kind(), from.clone());
        if self.refused.len() >= MAX_REFUSED && !self.refused.contains_key(&key) {
            key.1 = None;
        }
        let count = self.refused.entry(key).or_default();
        *count = count.saturating_add(1);
        if let (1, Refusal::Peer { from, offence: Offence::Wrong { .. } }) = (*count, refusal) {
            let (stack, said) = (from.clone(), refusal.to_string());
            self.actions.push_back(Action::Note(Note::Wrong { stack, said }));
        }
    }

    /// Does what is due at `now`. A clock that goes backwards only delays.
    pub fn tick(&mut self, now: Instant) {
        self.pace.tick(now);
        let one_more_dead = self.stacks.losses.expire(self.config.cluster.dead_after, now);
        let settled = self.settles.take_if(|at| *at <= now).is_some();
        if settled {
            self.reconsider();
            self.grant_all_ports();
        }
        self.follow_ranges(now);
        self.know_ports(now);
        self.succeed(now);
        if one_more_dead || settled {
            self.mark(Mark::States, Urgency::Now);
        }
        for service in self.controller.expire(now) {
            self.mark(Mark::Service(service), Urgency::Now);
        }
        self.grow_shares(now);
        for dvipa in self.announcements.due(now) {
            self.actions.push_back(Action::Announce { dvipa });
        }
        if self.transfers.routing.next_deadline().is_some_and(|due| due <= now) {
            self.transfer_news(News::TimePassed, now);
        }
        let unanswered = self.orders.expire(now);
        self.orders_over(unanswered, now);
        self.evacuate(now);
        self.reselect_due(now);
    }

    /// When [`RoutingStack::tick`] has something to do, if ever.
    pub fn next_deadline(&self) -> Option<Instant> {
        let transfers = self.transfers.routing.next_deadline();
        let orders = self.orders.next_deadline();
        let deadlines =
            [self.controller.next_deadline(), self.announcements.next_deadline(), transfers, orders];
        let deadlines = deadlines.into_iter().chain([
            self.settles,
            self.pace.next_deadline(),
            self.peers.next_deadline(),
            self.dvipas.next_deadline(),
            self.ranges.next_deadline(),
            self.ports.next_deadline(),
            self.ramps.next_deadline(),
            self.reselections.next_deadline(),
            self.stacks.losses.next_deadline(self.config.cluster.dead_after),
        ]);
        let evacuations = self.evacuations.values().map(|evacuation| evacuation.next_deadline());
        deadlines.chain(evacuations).flatten().min()
    }

    /// The next thing to do, or nothing.
    pub fn poll(&mut self) -> Option<Action> {
        if self.pace.take().is_some() {
            self.settle();
        }
        self.actions.pop_front()
    }

    /// Whether it owns a DVIPA.
    pub fn owns(&self) -> bool {
        self.dvipas.iter().next().is_some()
    }

    /// Until when workers may take this stack for the owner of what it owns, if that has changed. To be asked before what
    /// [`RoutingStack::poll`] gives is done.
    pub fn moved_fence(&mut self) -> Option<Instant> {
        self.dvipas.moved_fence()
    }

    /// Computes with the next poll what waits in a storm of changes: an operator is about to be shown what this stack knows, and the
    /// workers must not be behind that.
    pub fn hurry(&mut self) {
        self.pace.hurry();
    }

    /// The DPT that the workers have, or get with the next polls.
    pub fn dpt(&self) -> &Dpt {
        &self.published
    }

    /// In a storm of changes: the DPT is behind them, by milliseconds.
    #[cfg(test)]
    pub(crate) fn is_settling(&self) -> bool {
        self.pace.next_deadline().is_some()
    }

    /// What was computed since the start.
    pub fn work(&self) -> Work {
        self.work
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The name of a stack by its number.
    pub fn stack_name(&self, index: StackIndex) -> Option<&StackName> {
        self.stacks.name(index)
    }

    /// The number of a stack by its name, if it is here or was until a while ago.
    pub fn stack_index(&self, name: &StackName) -> Option<StackIndex> {
        self.stacks.known(name).map(|k| k.index)
    }

    /// This is to be computed anew.
    fn mark(&mut self, mark: Mark, urgency: Urgency) {
        self.dirty.mark(mark);
        self.pace.want(urgency);
    }

    /// As [`Self::mark`], for a stack that has a number: without one it is in no table.
    fn mark_stack(&mut self, stack: &StackName, mark: impl FnOnce(StackIndex) -> Mark, urgency: Urgency) {
        self.pace.want(urgency);
        if let Some(index) = self.stack_index(stack) {
            self.dirty.mark(mark(index));
        }
    }

    fn picture(&self) -> Picture<'_> {
        let settled = self.settles.is_none();
        let others = (&self.controller, &self.direct, &self.ports, &self.ramps);
        Picture::new(&self.config, &self.dvipas, &self.stacks, &self.drains, others, settled)
    }

    /// The stack is quiet, or heard again.
    fn hears(&mut self, stack: &StackName, heard: bool) -> Result<(), Refusal> {
        if self.stacks.said_mut(stack).is_some() && self.stacks.losses.quiet(stack, !heard) {
            self.mark_stack(stack, Mark::Stack, Urgency::Now);
        }
        Ok(())
    }

    /// Forgets what the stack said, and what was about to be said to it.
    fn session_over(&mut self, stack: &StackName, now: Instant) {
        self.load_is_void(stack);
        self.stacks.session_down(stack, now);
        self.dvipas.session(stack, false, now);
        self.reconsider();
        self.mark_stack(stack, Mark::Stack, Urgency::Now);
        self.transfers.forget_told(stack);
        self.ports.session_over(stack);
        self.ranges.session_over(stack);
        self.void_tokens(stack);
        self.transfer_news(News::SessionDown(stack.clone()), now);
        let unanswered = self.orders.session_down(stack, now);
        self.orders_over(unanswered, now);
        self.actions.retain(|action| !matches!(action, Action::Send { to, .. } if to == stack));
    }
}
