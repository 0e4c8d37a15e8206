//! The transfers of connections: [`transfer::Routing`] among the events and actions of this machine.

use std::collections::BTreeMap;
use std::time::Instant;

use model::codec::Address;
use model::connection_state::ConnectionState;
use model::handoff::{Handoff, Token};
use model::message::Told;
use model::transfer::{Done, FromHost, FromSource, Parcel, Reason, ToHost, ToSource, Way};
use model::{Connection, Dvipa, Epoch, StackName, message};
use transfer::Routing;
use transfer::routing::{Action as Step, Event as News, Outcome, Reach, Step as HowFar, Targets, UnderWay};

use super::dirty::{Concern, Mark};
use super::pace::Urgency;
use super::picture::Picture;
use super::targets::Told as Lists;
use super::{Action, Offence, Refusal, RoutingStack};

/// The transfers under way, and what became of the former ones.
#[derive(Debug)]
pub(super) struct Transfers {
    pub(super) routing: Routing,
    owned: BTreeMap<Dvipa, Epoch>,
    /// Connections under way of which a stack has said meanwhile that they have ended there.
    ended: BTreeMap<Connection, StackName>,
    told: Lists,
    counts: TransferCounts,
}

/// How transfers ended, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferCounts {
    /// How many began.
    pub begun: u64,
    /// How many connections moved, each way.
    pub moved: BTreeMap<Way, u64>,
    /// How many did not, refused ones included, for which reason.
    pub stayed: BTreeMap<Reason, u64>,
}

/// For events that ask for no target: the picture of many stacks is not drawn for nothing.
struct NotAsked;

impl Targets for NotAsked {
    fn reach(&self, _: &Connection, _: &StackName, _: Option<&str>) -> Result<Reach, Reason> {
        Err(Reason::NotATarget)
    }
}

impl Transfers {
    pub(super) fn new(incarnation: u64) -> Self {
        Self {
            routing: Routing::new(incarnation),
            owned: BTreeMap::new(),
            ended: BTreeMap::new(),
            told: Lists::new(),
            counts: TransferCounts::default(),
        }
    }

    /// The session with a stack is over: it has to be told everything again.
    pub(super) fn forget_told(&mut self, stack: &StackName) {
        self.told.retain(|(to, _), _| to != stack);
    }

    /// What everybody has been told.
    #[cfg(test)]
    pub(super) fn told(&self) -> &Lists {
        &self.told
    }

    /// Takes note of what everybody is to know of these services; returns whom to tell what.
    pub(super) fn tell(&mut self, told: Lists, concern: &Concern) -> Vec<(StackName, message::Targets)> {
        let mut news = Vec::new();
        for ((stack, service), list) in &told {
            if self.told.get(&(stack.clone(), *service)) != Some(list) {
                let (dvipa, port) = (Address(service.dvipa.address()), service.port);
                let (epoch, targets) = list.clone();
                news.push((stack.clone(), message::Targets { dvipa, epoch, port, targets }));
            }
        }
        self.told.retain(|(_, service), _| !concern.covers(*service));
        self.told.extend(told);
        news
    }

    /// A stack says that connections have ended. Of one under way that counts if it stays there: an agent that gives a
    /// transfer up alone does not wait until that is known here.
    pub(super) fn said_ended<'a>(
        &mut self,
        from: &StackName,
        connections: impl Iterator<Item = &'a Connection>,
    ) {
        // Those of a DVIPA that was yielded meanwhile go without a report.
        self.ended.retain(|connection, _| self.routing.speaks_for(connection));
        let under_way = connections.filter(|connection| self.routing.speaks_for(connection));
        self.ended.extend(under_way.map(|connection| (*connection, from.clone())));
    }

    /// It says that they are there: others, with the same addresses.
    pub(super) fn said_open<'a>(
        &mut self,
        from: &StackName,
        connections: impl Iterator<Item = &'a Connection>,
    ) {
        for connection in connections {
            if self.ended.get(connection) == Some(from) {
                self.ended.remove(connection);
            }
        }
    }

    fn count_stay(&mut self, reason: Reason) {
        let count = self.counts.stayed.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    fn count_end(&mut self, way: Way, outcome: &Outcome) {
        match outcome {
            Outcome::Moved => {
                let count = self.counts.moved.entry(way).or_default();
                *count = count.saturating_add(1);
            }
            Outcome::Stayed(why) => self.count_stay(why.reason),
            Outcome::Lost => self.count_stay(Reason::OutcomeLost),
        }
    }
}

impl RoutingStack {
    /// The transfer of this connection, if one is under way.
    pub fn under_way(&self, connection: &Connection) -> Option<UnderWay<'_>> {
        self.transfers.routing.under_way(connection)
    }

    /// All transfers under way.
    pub fn all_under_way(&self) -> impl Iterator<Item = UnderWay<'_>> {
        self.transfers.routing.all_under_way()
    }

    /// Those of these connections that an application is being asked about, and whose source is such a stack. They go on meanwhile.
    pub(super) fn asked_about(
        &self,
        connections: &[Connection],
        is_such: impl Fn(&StackName) -> bool,
    ) -> Vec<Connection> {
        let such = |transfer: UnderWay<'_>| transfer.step == HowFar::Consulting && is_such(transfer.source);
        let asked = |connection: &&Connection| self.under_way(connection).is_some_and(such);
        connections.iter().filter(asked).copied().collect()
    }

    /// Connections that an application was asked about are not at their sources any more.
    pub(super) fn no_longer_asked(&mut self, connections: Vec<Connection>, now: Instant) {
        for connection in connections {
            self.transfer_news(News::Ended(connection), now);
        }
    }

    /// What became of transfers since the start.
    pub fn transfer_counts(&self) -> TransferCounts {
        TransferCounts { begun: self.transfers.routing.begun(), ..self.transfers.counts.clone() }
    }

    /// Gives the transfers an event, and does what follows.
    fn transfer(&mut self, news: News, now: Instant) -> Result<(), Reason> {
        let routing = &mut self.transfers.routing;
        let outcome = if let News::Received { message: FromHost::Source(FromSource::Prepare(_)), .. } = news {
            let targets = Picture::new(
                &self.config,
                &self.dvipas,
                &self.stacks,
                &self.drains,
                (&self.controller, &self.direct, &self.ports, &self.ramps),
                self.settles.is_none(),
            );
            routing.handle(news, &targets, now)
        } else {
            routing.handle(news, &NotAsked, now)
        };
        self.follow(now);
        outcome
    }

    /// As [`Self::transfer`], for what is no message: only those can be refused.
    pub(super) fn transfer_news(&mut self, news: News, now: Instant) {
        let _ = self.transfer(news, now);
    }

    /// A stack says something about a transfer.
    pub(super) fn transfer_message(
        &mut self,
        from: &StackName,
        message: FromHost,
        now: Instant,
    ) -> Result<(), Refusal> {
        let word = message.word();
        if let FromHost::Source(FromSource::Done(done)) = &message
            && self.comes_too_early(from, done)
        {
            return Ok(());
        }
        // What a stack can do decides what others can be told of it.
        if matches!(message, FromHost::Abilities(_)) {
            self.mark(Mark::Abilities, Urgency::Soon);
        }
        let outcome = self.transfer(News::Received { from: from.clone(), message }, now);
        outcome.map_err(|reason| Offence::NotFollowed { message: word, reason }.by(from))
    }

    /// The source has given a connection away, and what it said of the connection before has not all come in yet: it comes on
    /// another stream of the session. Until it has, the transfer goes on, and speaks for the connection.
    fn comes_too_early(&mut self, from: &StackName, done: &Done) -> bool {
        let under_way = self.transfers.routing.under_way(&done.about.connection.0);
        let has_moved = under_way.is_some_and(|transfer| {
            transfer.transfer == done.about.transfer
                && transfer.step == HowFar::Moved
                && transfer.source == from
        });
        has_moved && self.stacks.said_mut(from).is_some_and(|said| said.keep_until_heard(*done))
    }

    /// A stack has said what became of its connections up to this number; `since`: in the place of a complete account.
    pub(super) fn told(&mut self, from: &StackName, told: Told, now: Instant) -> Result<(), Refusal> {
        let heard = self.stacks.heard(from);
        let Some(said) = self.stacks.said_mut(from) else { return Ok(()) };
        if let Some(since) = told.since {
            if heard.is_none_or(|heard| heard < since) {
                return Err(Offence::AccountWithoutFirst.by(from));
            }
            said.accounted = true;
            self.reconsider();
            self.mark(Mark::States, Urgency::Soon);
        }
        self.stacks.hear(from, Some(told.number));
        let ends = self.stacks.said_mut(from).map(|said| said.hear(told.number)).unwrap_or_default();
        for done in ends {
            let message = FromHost::Source(FromSource::Done(done));
            // Refused only if the transfer is over.
            let _ = self.transfer(News::Received { from: from.clone(), message }, now);
        }
        Ok(())
    }

    /// Says to the transfers which DVIPAs are owned here.
    pub(super) fn own_transfers(&mut self, now: Instant) {
        let owned = self.epochs();
        let before = std::mem::replace(&mut self.transfers.owned, owned.clone());
        for dvipa in before.keys().filter(|dvipa| !owned.contains_key(dvipa)) {
            self.transfer_news(News::Yields(*dvipa), now);
            self.orders_void(*dvipa, now);
        }
        for (dvipa, epoch) in owned.into_iter().filter(|(dvipa, epoch)| before.get(dvipa) != Some(epoch)) {
            self.transfer_news(News::Owns { dvipa, epoch }, now);
        }
    }

    /// Does what the transfers want done.
    fn follow(&mut self, now: Instant) {
        while let Some(step) = self.transfers.routing.poll() {
            match step {
                Step::Send { to, message } => {
                    if let ToHost::Source(ToSource::Refuse(refuse)) = &message {
                        self.transfers.count_stay(refuse.why.reason);
                        let over = self.orders.stays(&refuse.connection.0, refuse.why.clone(), now);
                        self.orders_over(over, now);
                    }
                    if let ToHost::Source(ToSource::Consult(consult)) = &message {
                        self.begin_order(&consult.about.connection.0);
                    }
                    self.actions.push_back(Action::Send { to, message: message.into() });
                }
                Step::Freeze { connection, owner } => {
                    self.begin_order(&connection);
                    self.orders.holds(&connection, now);
                    // Who asks has greeted, and has a number.
                    if let Some(owner) = self.stack_index(&owner) {
                        self.actions.push_back(Action::Freeze { connection, owner });
                    }
                }
                Step::Thaw { connection, owner } => {
                    self.orders.flows(&connection, now);
                    let owner = owner.and_then(|owner| self.stack_index(&owner));
                    self.actions.push_back(Action::Thaw { connection, owner });
                }
                Step::HandOver { connection, target, token, parcel } => {
                    self.orders.flows(&connection, now);
                    self.hand_over(connection, &target, token, &parcel, now);
                }
                Step::End(connection) => self.actions.push_back(Action::End { connection }),
                Step::Report { connection, source, target, way, outcome } => {
                    self.transfers.count_end(way, &outcome);
                    let over = self.orders.ended(&connection, &outcome, now);
                    let ended = self.transfers.ended.remove(&connection);
                    let ended_there =
                        matches!(outcome, Outcome::Stayed(_)) && ended.as_ref() == Some(&source);
                    let owner = self.stack_index(&source).filter(|_| ended_there);
                    self.actions.push_back(Action::Report { connection, source, target, way, outcome });
                    if let Some(owner) = owner {
                        self.actions.push_back(Action::Termconn { owner, connections: vec![connection] });
                    }
                    self.orders_over(over, now);
                }
            }
        }
    }

    /// A transfer of the connection has begun, perhaps on an operator's order.
    fn begin_order(&mut self, connection: &Connection) {
        if let Some(UnderWay { target, way, .. }) = self.transfers.routing.under_way(connection) {
            self.orders.begins(connection, target, way);
        }
    }

    fn hand_over(
        &mut self,
        connection: Connection,
        target: &StackName,
        token: Token,
        parcel: &Parcel,
        now: Instant,
    ) {
        let state = ConnectionState::decode(&parcel.socket).ok().filter(|s| s.connection == connection);
        if let (Some(to), Some(state)) = (self.stack_index(target), state) {
            let mut handoff = Handoff::new(&state, token);
            handoff.request_waits = self.request_waits(&connection, handoff.option.sent);
            self.actions.push_back(Action::HandOver { connection, to, handoff });
        } else {
            self.transfer_news(News::NotHandedOver { connection, why: Reason::Malformed.into() }, now);
        }
    }
}
