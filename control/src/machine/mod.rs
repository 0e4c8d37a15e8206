//! The routing stack: which DVIPAs it owns, which stacks may be selected for a new connection, and what it tells whom.
//!
//! Pure: [`RoutingStack::handle`] takes an [`Event`] and the time, [`RoutingStack::poll`] gives the [`Action`]s until
//! there are none, [`RoutingStack::next_deadline`] says when [`RoutingStack::tick`] wants to be called at the latest.
//!
//! A session with a stack goes through these states; each cell says what an event does to it.
//!
//! | event | none | greeting | greeted |
//! | --- | --- | --- | --- |
//! | session up | our Hello; *greeting* | our Hello | forgets what it said; our Hello; *greeting* |
//! | session down | – | *none* | forgets what it said, target lost, dead when its host is silent too; *none* |
//! | quiet, heard | – | – | selected last, and again as before ([`losses`]) |
//! | Hello | refused | number given; VIPA list; *greeted* | same incarnation: address and version; other: forgets, VIPA list |
//! | VIPA list | refused | refused | – (another routing stack's) |
//! | SRVSTAT | refused | refused | listens of that DVIPA, if the epoch is the present one |
//! | NEWCONN | refused | refused | connections of owned DVIPAs confirmed; accounts keep their first and last part |
//! | TERMCONN | refused | refused | connections of owned DVIPAs ended |
//! | Applications | refused | refused | those of that DVIPA, if the epoch is the present one |
//! | of a transfer | refused | refused | [`transfer::Routing`] decides |
//! | Load | refused | refused | smoothed; a new weight only if it differs enough |
//! | Heartbeat | refused | – | – |
//!
//! Whatever an event changes, the DPT and the VIPA list are computed anew from the whole picture when the actions are
//! polled, and go out only if they differ from what is out; several events at once make one change. Which events can
//! change them is said in one place ([`changes`]), and how often they are computed in a storm of changes in [`pace`].

mod action;
mod announce;
mod controller;
mod departed;
mod drain;
mod evacuation;
mod event;
mod load;
mod losses;
mod messages;
mod moves;
mod note;
mod orders;
mod ownership;
mod pace;
mod picture;
mod refusal;
mod roster;
mod session;
mod stacks;
mod targets;
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

use model::codec::Address;
use model::dpt::Dpt;
use model::message::{Hello, Message, VipaList};
use model::transfer::{Reason, Why};
use model::{Dvipa, Epoch, Service, StackIndex, StackName};

pub use action::Action;
pub use evacuation::{MAX_AT_ONCE, Terms as EvacuationTerms};
pub use event::{Event, Scope};
pub use note::Note;
pub use orders::{Order, Progress};
pub use refusal::{Refusal, RefusalKind};
pub use transfers::TransferCounts;
pub use view::*;

use crate::config::Config;
use announce::Announcements;
use controller::ControllerWeights;
use drain::Drains;
use evacuation::Evacuations;
use orders::Orders;
use ownership::Dvipas;
use pace::{Pace, Urgency};
use picture::Picture;
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
    dvipas: Dvipas,
    stacks: Stacks,
    drains: Drains,
    controller: ControllerWeights,
    announcements: Announcements,
    transfers: Transfers,
    orders: Orders,
    evacuations: Evacuations,
    /// What the workers have.
    published: Dpt,
    /// What greeted stacks have, and how often it changed.
    list: VipaList,
    list_generation: u64,
    /// Whether and when `published` and `list` are to be computed anew.
    pace: Pace,
    /// When this stack has waited for the others for long enough; none: it has.
    settles: Option<Instant>,
    actions: VecDeque<Action>,
    refused: BTreeMap<RefusalKind, u64>,
}

impl RoutingStack {
    /// A routing stack that owns the DVIPAs that it defines and knows no other stack yet.
    ///
    /// # Errors
    /// [`Refusal::TooManyDvipas`] if it defines more than CRT entries can name.
    pub fn new(identity: Identity, config: Config, now: Instant) -> Result<Self, Refusal> {
        let mut new = Self {
            dvipas: Dvipas::new(identity.first_epoch),
            transfers: Transfers::new(identity.incarnation),
            identity,
            config: Box::new(config),
            stacks: Stacks::default(),
            drains: Drains::default(),
            controller: ControllerWeights::default(),
            announcements: Announcements::default(),
            orders: Orders::default(),
            evacuations: Evacuations::new(),
            published: Dpt::default(),
            list: VipaList::default(),
            list_generation: 0,
            pace: Pace::new(now),
            settles: Some(now + SETTLES),
            actions: VecDeque::new(),
            refused: BTreeMap::new(),
        };
        let owned = new.dvipas.define(&new.config.vipadynamic)?;
        new.announcements.begin(owned, now);
        new.own_transfers(now);
        Ok(new)
    }

    /// Takes note of an event. Call [`RoutingStack::poll`] until it gives nothing afterwards.
    ///
    /// # Errors
    /// Why the event was not followed, or not wholly: to be logged if a peer caused it, to be answered if an operator
    /// did. It is counted here already; the machine goes on.
    pub fn handle(&mut self, event: Event, now: Instant) -> Result<(), Refusal> {
        self.tick(now);
        if let Some(urgency) = changes(&event) {
            self.pace.want(urgency);
        }
        let outcome = match event {
            Event::Configure(config) => self.configure(config, now),
            Event::SessionUp { stack } => self.session_up(stack, now),
            Event::SessionDown { stack } => {
                self.session_over(&stack, now);
                Ok(())
            }
            Event::Quiet { stack } => self.hears(&stack, false),
            Event::Heard { stack } => self.hears(&stack, true),
            Event::SilentHosts(silent) => {
                if self.stacks.losses.silent_hosts(silent) {
                    self.pace.want(Urgency::Now);
                }
                Ok(())
            }
            Event::Message { from, message } => self.message(&from, message, now),
            Event::LinkReturned => {
                self.announce_again(now);
                Ok(())
            }
            Event::Drain { stack, scope } => {
                self.known(&stack, scope).and_then(|()| self.drains.begin(stack, scope))
            }
            Event::Resume { stack, scope } => {
                self.forget_evacuations(&stack, scope);
                // What was drained may not be there any more.
                let known = self.known(&stack, scope);
                self.drains.end(stack, scope).map_err(|not_draining| known.err().unwrap_or(not_draining))
            }
            Event::Evacuate { stack, scope, terms } => self.begin_evacuation(stack, scope, terms, now),
            Event::StopEvacuation { stack, scope } => self.stop_evacuation(stack, scope, now),
            Event::Listed { stack, scope, connections, more } => {
                self.listed(stack, scope, (connections, more), now);
                Ok(())
            }
            Event::SetWeights { service, weights, ttl } => self.set_weights(service, weights, ttl, now),
            Event::Move { connection, source, target, job, quiet_ms } => {
                match self.stack_name(source).cloned() {
                    Some(source) => self.order_move(connection, source, (target, job), quiet_ms, now),
                    None => Err(Refusal::NoSuchConnection(connection)),
                }
            }
            Event::NotHandedOver { connection, said } => {
                let why = Why::new(Reason::NoWay, &said);
                self.transfer_news(News::NotHandedOver { connection, why }, now);
                Ok(())
            }
            Event::ConnectionCounts(counts) => {
                self.stacks.count_connections(counts);
                Ok(())
            }
        };
        self.evacuate(now);
        if let Err(refusal) = &outcome {
            let count = self.refused.entry(refusal.kind()).or_default();
            *count = count.saturating_add(1);
        }
        outcome
    }

    /// Does what is due at `now`. A clock that goes backwards only delays.
    pub fn tick(&mut self, now: Instant) {
        self.pace.tick(now);
        let one_more_dead = self.stacks.losses.expire(self.config.cluster.dead_after, now);
        let settled = self.settles.take_if(|at| *at <= now).is_some();
        if self.controller.expire(now) || one_more_dead || settled {
            self.pace.want(Urgency::Now);
        }
        for dvipa in self.announcements.due(now) {
            self.actions.push_back(Action::Announce { dvipa });
        }
        if self.transfers.routing.next_deadline().is_some_and(|due| due <= now) {
            self.transfer_news(News::TimePassed, now);
        }
        self.transfers.departed.expire(now);
        let unanswered = self.orders.expire(now);
        self.orders_over(unanswered, now);
        self.evacuate(now);
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
            self.stacks.losses.next_deadline(self.config.cluster.dead_after),
        ]);
        let evacuations = self.evacuations.values().map(|evacuation| evacuation.next_deadline());
        deadlines.chain(evacuations).flatten().min()
    }

    /// The next thing to do, or nothing.
    pub fn poll(&mut self) -> Option<Action> {
        if let Some(urgency) = self.pace.take() {
            self.settle(urgency);
        }
        self.actions.pop_front()
    }

    /// Computes with the next poll what waits in a storm of changes: somebody is about to be shown what this stack knows, and the
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

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The name of a stack by its number.
    pub fn stack_name(&self, index: StackIndex) -> Option<&StackName> {
        self.stacks.name(index)
    }

    /// The number of a stack by its name, if it ever was here.
    pub fn stack_index(&self, name: &StackName) -> Option<StackIndex> {
        self.stacks.known(name).map(|k| k.index)
    }

    /// Computes the DPT and, if it can have changed, the VIPA list, and gives out what differs from what is out.
    fn settle(&mut self, urgency: Urgency) {
        let picture = self.picture();
        let mut dpt = picture.dpt();
        let list = (urgency == Urgency::Now).then(|| picture.vipa_list());
        dpt.generation = self.published.generation;
        if dpt != self.published || dpt.generation == 0 {
            dpt.generation = dpt.generation.saturating_add(1);
            let notes = self.notes_of(&dpt);
            self.actions.extend(notes.into_iter().map(Action::Note));
            self.published = dpt.clone();
            // Before whatever else waits, because that may name what this DPT introduces.
            self.actions.push_front(Action::Publish(dpt));
        }
        if let Some(list) = list
            && (list != self.list || self.list_generation == 0)
        {
            self.list = list;
            self.list_generation = self.list_generation.saturating_add(1);
            // Who is no candidate for a service any more will not say when its listening ends.
            for (stack, void) in self.picture().void_listens() {
                self.stacks.forget_listens(&stack, &void);
            }
        }
        for to in self.stacks.without_list(self.list_generation) {
            self.actions.push_back(Action::Send { to, message: Message::VipaList(self.list.clone()) });
        }
        let told = self.picture().told(&self.transfers.routing);
        for (to, targets) in self.transfers.tell(told) {
            self.actions.push_back(Action::Send { to, message: Message::Targets(targets) });
        }
    }

    /// Which targets come and go with this DPT.
    fn notes_of(&self, dpt: &Dpt) -> Vec<Note> {
        let (came, went) = note::changes(&self.published, dpt);
        let by_stack = |rows: BTreeSet<(StackIndex, Service)>| {
            let mut stacks: BTreeMap<StackIndex, Vec<Service>> = BTreeMap::new();
            rows.into_iter().for_each(|(stack, service)| stacks.entry(stack).or_default().push(service));
            stacks
                .into_iter()
                .filter_map(|(stack, services)| Some((self.stack_name(stack)?.clone(), services)))
        };
        let came = by_stack(came).map(|(stack, services)| Note::Came { stack, services });
        let picture = self.picture();
        let went = by_stack(went).map(|(stack, services)| {
            let why = services.first().and_then(|service| picture.state_of(*service, &stack));
            Note::Went { stack, services, why }
        });
        came.chain(went).collect()
    }

    fn picture(&self) -> Picture<'_> {
        let settled = self.settles.is_none();
        Picture::new(&self.config, &self.dvipas, &self.stacks, &self.drains, &self.controller, settled)
    }

    fn configure(&mut self, config: Box<Config>, now: Instant) -> Result<(), Refusal> {
        if config.node != self.config.node {
            return Err(Refusal::OtherNode);
        }
        let owned = self.dvipas.define(&config.vipadynamic)?;
        self.config = config;
        let owned_now = |dvipa| self.dvipas.owned(dvipa).is_some();
        self.announcements.retain(owned_now);
        self.actions.retain(|action| !matches!(action, Action::Announce { dvipa } if !owned_now(*dvipa)));
        self.announce(owned, now);
        self.own_transfers(now);
        let distributes = &self.config.vipadynamic.distributes;
        self.controller.retain(|service| distributes.iter().any(|d| d.covers(*service)));
        Ok(())
    }

    fn announce(&mut self, dvipas: Vec<Dvipa>, now: Instant) {
        self.announcements.begin(dvipas, now);
        for dvipa in self.announcements.due(now) {
            self.actions.push_back(Action::Announce { dvipa });
        }
    }

    /// As if every DVIPA that this stack owns had become its own now.
    fn announce_again(&mut self, now: Instant) {
        let defines = self.config.vipadynamic.defines.iter().map(|define| define.dvipa);
        let owned = defines.filter(|dvipa| self.dvipas.owned(*dvipa).is_some()).collect();
        self.announce(owned, now);
    }

    fn session_up(&mut self, stack: StackName, now: Instant) -> Result<(), Refusal> {
        self.session_over(&stack, now);
        self.stacks.session_up(stack.clone())?;
        let cluster_addresses = self.config.node.cluster_address.iter().map(Address).collect();
        let hello = Hello {
            stack: self.config.node.name.to_string(),
            cluster_addresses,
            incarnation: self.identity.incarnation,
            version: self.identity.version.clone(),
            ..Hello::default()
        };
        self.actions.push_back(Action::Send { to: stack, message: Message::Hello(hello) });
        Ok(())
    }

    /// The stack is quiet, or heard again.
    fn hears(&mut self, stack: &StackName, heard: bool) -> Result<(), Refusal> {
        if self.stacks.said_mut(stack).is_some() && self.stacks.losses.quiet(stack, !heard) {
            self.pace.want(Urgency::Now);
        }
        Ok(())
    }

    /// Forgets what the stack said, and what was about to be said to it.
    fn session_over(&mut self, stack: &StackName, now: Instant) {
        self.stacks.session_down(stack, now);
        self.transfers.forget_told(stack);
        self.transfer_news(News::SessionDown(stack.clone()), now);
        let unanswered = self.orders.session_down(stack, now);
        self.orders_over(unanswered, now);
        self.actions.retain(|action| !matches!(action, Action::Send { to, .. } if to == stack));
    }

    fn set_weights(
        &mut self,
        service: Service,
        weights: Vec<(StackName, u16)>,
        ttl: Duration,
        now: Instant,
    ) -> Result<(), Refusal> {
        let picture = self.picture();
        let distribution = picture.distribution_of(service).ok_or(Refusal::NotDistributed(service))?;
        weights.iter().try_for_each(|(stack, _)| self.known(stack, Scope::Service(service)))?;
        if let Some((stack, _)) = weights.iter().find(|(stack, _)| !picture.is_candidate(distribution, stack))
        {
            return Err(Refusal::NotACandidate { stack: stack.clone(), service });
        }
        self.controller.set(service, weights, ttl, now)
    }

    /// Is there such a stack, or does a definition name it? And is there what the order is about?
    fn known(&self, stack: &StackName, scope: Scope) -> Result<(), Refusal> {
        let distributes = &self.config.vipadynamic.distributes;
        let named = || distributes.iter().any(|d| d.destip.names(stack));
        if self.stacks.known(stack).is_none() && !named() {
            return Err(Refusal::NoSuchStack(stack.clone()));
        }
        match scope {
            Scope::All => Ok(()),
            Scope::Dvipa(dvipa) if distributes.iter().any(|d| d.dvipa == dvipa) => Ok(()),
            Scope::Dvipa(dvipa) => Err(Refusal::NoSuchDvipa(dvipa)),
            Scope::Service(service) if distributes.iter().any(|d| d.covers(service)) => Ok(()),
            Scope::Service(service) => Err(Refusal::NotDistributed(service)),
        }
    }
}

/// Whether an event can change the DPT or the VIPA list. What a stack says of its connections and transfers does not.
fn changes(event: &Event) -> Option<Urgency> {
    match event {
        Event::Configure(_)
        | Event::SessionUp { .. }
        | Event::SessionDown { .. }
        | Event::Drain { .. }
        | Event::Resume { .. }
        | Event::Evacuate { .. }
        | Event::SetWeights { .. } => Some(Urgency::Now),
        Event::Message { message, .. } => match message {
            Message::Hello(_) => Some(Urgency::Now),
            Message::Srvstat(_) | Message::Applications(_) => Some(Urgency::Soon),
            // These say themselves when they do.
            Message::Load(_) | Message::Transfer(_) | Message::Newconn(_) => None,
            Message::VipaList(_)
            | Message::Targets(_)
            | Message::Termconn(_)
            | Message::Heartbeat(_)
            | Message::Move(_)
            | Message::Stays(_) => None,
        },
        // These say themselves when they do.
        Event::Quiet { .. } | Event::Heard { .. } | Event::SilentHosts(_) => None,
        Event::StopEvacuation { .. }
        | Event::Listed { .. }
        | Event::Move { .. }
        | Event::NotHandedOver { .. }
        | Event::ConnectionCounts(_)
        | Event::LinkReturned => None,
    }
}
