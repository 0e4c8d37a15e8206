//! Addresses of ranges (VIPARANGE, row W9): at which stack each is active. From what stacks say, in turns ([`model::ranges`]); so
//! every routing stack that has the range finds the same one, and a late or repeated word changes nothing.
//!
//! | event | the address is nobody's | another stack has it | this stack has it |
//! | --- | --- | --- | --- |
//! | a stack claims it in a later turn than all others | it has it | it has it; the connections of the other one stay there | – |
//! | a stack claims it in an earlier turn | it has it | it waits | the latest of those that wait has it |
//! | a stack claims it no longer, is dead or forgotten | – | it waits no longer | the latest of those that wait has it; if none waits it stays defined until no connection is left |
//! | an operator's order | the stack is told, and claims it | the same | the same |
//! | a session is lost | – | – | – (the host may serve on) |
//!
//! An active address is kept as the statements that an operator would have to write for it: a VIPADEFINE, or a VIPABACKUP where
//! this node is a backup of the range or another one has a VIPADEFINE for it, and a VIPADISTRIBUTE of all ports to the stack that
//! has it. So ownership, epochs, announcements, the DPT and takeovers know nothing of ranges. Statements of the file take an
//! address out of its range for as long as they are there.
//!
//! When an address moves, the stack that had it takes new connections until the other one has reported a listener, or for
//! [`RELIEVED`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::codec::Address;
use model::dpt::{Method, Refuse, Shared};
use model::message::ToStack;
use model::ranges::{self, Activate, MAX_ADDRESSES, Turn};
use model::{Dvipa, Limits, Protocol, Rank, StackIndex, StackName};

use super::pace::Urgency;
use super::{Action, Note, Offence, OrderRefusal, Refusal, RoutingStack};
use crate::config::{
    Candidate, Destip, Forwards, Moveable, TargetRules, VipaBackup, VipaDefine, VipaDistribute, VipaDynamic,
    Weights,
};

/// For so long the stack that had an address takes new connections, if the one that has it now reports no listener.
pub(super) const RELIEVED: Duration = Duration::from_secs(2);
/// How often the connections of an address are counted while it moves or ends.
const COUNTED: Duration = Duration::from_secs(1);

/// Where the addresses of ranges are active.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// What each stack claims.
    claims: BTreeMap<StackName, BTreeMap<Dvipa, Claim>>,
    active: BTreeMap<Dvipa, Active>,
    /// What stacks have been told in their sessions.
    told: BTreeMap<StackName, ranges::Ranges>,
    /// What follows is to be computed anew.
    changed: bool,
    counted_at: Option<Instant>,
}

/// What a stack says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) turn: Turn,
    pub(super) ordered: bool,
}

/// An address that is active, or was and has connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Active {
    /// The stack that has it.
    pub(super) stack: StackName,
    pub(super) claim: Claim,
    /// No stack claims it any more: it ends with its last connection.
    pub(super) ends: bool,
    /// The stack that had it before takes new connections until then; none: the time has not begun.
    relieves: Option<(StackName, Option<Instant>)>,
    /// Stacks that had it may have connections.
    moves: bool,
    /// How many connections each stack had when they were counted last.
    pub(super) connections: BTreeMap<StackIndex, u64>,
}

impl Ranges {
    /// What follows from it is to be computed anew.
    pub(super) fn reconsider(&mut self) {
        self.changed = true;
    }

    /// A stack claims these addresses, and no others.
    pub(super) fn claim(&mut self, stack: &StackName, claims: BTreeMap<Dvipa, Claim>) {
        let before = self.claims.insert(stack.clone(), claims).unwrap_or_default();
        let now_claimed = self.claims.get(stack).into_iter().flatten().map(|(dvipa, _)| *dvipa);
        let touched: BTreeSet<Dvipa> = before.into_keys().chain(now_claimed).collect();
        touched.into_iter().for_each(|dvipa| self.follow(dvipa));
    }

    /// The stack is dead, or forgotten.
    pub(super) fn forget(&mut self, stack: &StackName) {
        self.told.remove(stack);
        if let Some(claims) = self.claims.remove(stack) {
            claims.into_keys().for_each(|dvipa| self.follow(dvipa));
        }
    }

    /// A stack has reported a listener on the address.
    pub(super) fn listens(&mut self, stack: &StackName, dvipa: Dvipa) {
        if let Some(active) = self.active.get_mut(&dvipa).filter(|active| active.stack == *stack) {
            self.changed |= active.relieves.take().is_some();
        }
    }

    /// The latest claim to an address.
    fn latest(&self, dvipa: Dvipa) -> Option<(&StackName, Claim)> {
        let claims = self.claims.iter().filter_map(|(stack, claims)| Some((stack, *claims.get(&dvipa)?)));
        claims.max_by_key(|(stack, claim)| (claim.turn, Reverse(*stack)))
    }

    /// Follows the claims to an address.
    fn follow(&mut self, dvipa: Dvipa) {
        let latest = self.latest(dvipa).map(|(stack, claim)| (stack.clone(), claim));
        let waits = |of: &StackName| self.claims.get(of).is_some_and(|claims| claims.contains_key(&dvipa));
        let room = self.active.len() < MAX_ADDRESSES;
        match (self.active.get_mut(&dvipa), latest) {
            (None, None) => return,
            (Some(active), None) => (active.ends, active.relieves) = (true, None),
            (None, Some((stack, claim))) if room => {
                let (ends, moves, connections) = (false, false, BTreeMap::new());
                self.active.insert(dvipa, Active { stack, claim, ends, relieves: None, moves, connections });
            }
            (None, Some(_)) => return,
            (Some(active), Some((stack, claim))) => {
                if active.stack != stack {
                    let before = std::mem::replace(&mut active.stack, stack);
                    active.relieves = waits(&before).then_some((before, None));
                    active.moves = true;
                }
                (active.claim, active.ends) = (claim, false);
            }
        }
        self.changed = true;
    }

    /// The connections to an address were counted.
    fn counted(&mut self, dvipa: Dvipa, connections: BTreeMap<StackIndex, u64>, holder: Option<StackIndex>) {
        let Some(active) = self.active.get_mut(&dvipa) else { return };
        active.moves = connections.keys().any(|stack| Some(*stack) != holder);
        if active.ends && connections.is_empty() {
            self.active.remove(&dvipa);
            self.changed = true;
        } else {
            active.connections = connections;
        }
    }

    /// What is to be counted now.
    fn take_uncounted(&mut self, now: Instant) -> Vec<Dvipa> {
        let uncounted = self.active.iter().filter(|(_, active)| active.is_counted()).map(|(dvipa, _)| *dvipa);
        let uncounted: Vec<Dvipa> = uncounted.collect();
        if uncounted.is_empty() || self.counted_at.is_some_and(|at| at + COUNTED > now) {
            return Vec::new();
        }
        self.counted_at = Some(now);
        uncounted
    }

    /// When something is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let counts = self.counted_at.filter(|_| self.active.values().any(Active::is_counted));
        let relieved = self.active.values().filter_map(|active| active.relieves.as_ref()?.1);
        relieved.chain(counts.map(|at| at + COUNTED)).min()
    }

    fn expire(&mut self, now: Instant) {
        for active in self.active.values_mut() {
            let is_over = |until: &mut Option<Instant>| *until.get_or_insert(now + RELIEVED) <= now;
            self.changed |= active.relieves.take_if(|(_, until)| is_over(until)).is_some();
        }
    }

    /// The statements of the file, and those of the addresses that are active and have none there. `defined`: another routing stack has a
    /// VIPADEFINE for the address.
    fn complete(&self, file: &VipaDynamic, defined: impl Fn(Dvipa) -> bool) -> VipaDynamic {
        let mut all = file.clone();
        for (dvipa, active) in self.active.iter().filter(|(dvipa, _)| !file.has_statement(**dvipa)) {
            let Some(range) = file.range_of(*dvipa) else { continue };
            let prefix_bits = range.range.prefix_len();
            let (dvipa, moveable, forwards) = (*dvipa, range.moveable, Forwards::WhenOwner);
            match range.rank.or_else(|| Rank::new(1).filter(|_| defined(dvipa))) {
                Some(rank) => {
                    let (prefix_bits, moveable) = (Some(prefix_bits), Some(moveable));
                    all.backups.push(VipaBackup { dvipa, rank, prefix_bits, moveable, forwards });
                }
                None => {
                    let refuse = Refuse::default();
                    all.defines.push(VipaDefine { dvipa, prefix_bits, moveable, refuse, forwards });
                }
            }
            all.distributes.extend([Protocol::Tcp, Protocol::Udp].map(|p| active.distribution(dvipa, p)));
        }
        all.distributes.sort_by_key(|d| d.dvipa);
        all
    }

    /// What stacks are to know: the ranges, and where their addresses are active that are not taken out of them.
    fn message(&self, definitions: &VipaDynamic, taken: impl Fn(Dvipa) -> bool) -> ranges::Ranges {
        let range = |range: &crate::config::VipaRange| ranges::Range {
            network: Address(range.range.network()),
            prefix_bits: range.range.prefix_len(),
            disruptive: range.moveable == Moveable::Disruptive,
        };
        let active = |(dvipa, active): (&Dvipa, &Active)| ranges::Active {
            address: Address(dvipa.address()),
            stack: active.stack.clone(),
            turn: active.claim.turn,
            ordered: active.claim.ordered && !active.ends,
        };
        let is_free = |dvipa: Dvipa| definitions.range_of(dvipa).is_some() && !taken(dvipa);
        let all = self.active.iter().filter(|(dvipa, _)| is_free(**dvipa));
        ranges::Ranges {
            ranges: definitions.ranges.iter().map(range).collect(),
            active: all.map(active).collect(),
        }
    }

    /// The active addresses of ranges.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Dvipa, &Active)> {
        self.active.iter().map(|(dvipa, active)| (*dvipa, active))
    }

    /// What was said to a stack in its session is void.
    pub(super) fn session_over(&mut self, stack: &StackName) {
        self.told.remove(stack);
    }
}

impl Active {
    fn is_counted(&self) -> bool {
        self.ends || self.moves
    }

    /// Everything that comes to the address goes to the stack that has it.
    fn distribution(&self, dvipa: Dvipa, protocol: Protocol) -> VipaDistribute {
        let relieves = self.relieves.iter().map(|(stack, _)| stack);
        let destip = std::iter::once(&self.stack).chain(relieves).cloned().map(Candidate::Name);
        VipaDistribute {
            dvipa,
            protocol,
            ports: Vec::new(),
            destip: Destip::List(destip.collect()),
            method: Method::default(),
            weights: Weights::Equal,
            content_routed: false,
            routing: None,
            quic: Shared::default(),
            refuse: Refuse::default(),
            rules: TargetRules::default(),
            limits: Limits::NONE,
            policies: Vec::new(),
        }
    }
}

impl RoutingStack {
    /// A stack says which addresses of ranges it claims.
    pub(super) fn bound(&mut self, from: &StackName, said: ranges::Bound) -> Result<(), Refusal> {
        let ignored = said.addresses.len().saturating_sub(MAX_ADDRESSES);
        let (mut claims, mut foreign) = (BTreeMap::new(), None);
        for ranges::BoundAddress { address, turn, ordered } in said.addresses.into_iter().take(MAX_ADDRESSES)
        {
            let dvipa = Dvipa::new(address.0);
            match self.file.range_of(dvipa) {
                Some(_) => drop(claims.insert(dvipa, Claim { turn, ordered })),
                None => foreign = Some(dvipa),
            }
        }
        self.ranges.claim(from, claims);
        match (foreign, ignored) {
            (Some(dvipa), _) => Err(Offence::NotOurs { dvipa }.by(from)),
            (None, 0) => Ok(()),
            (None, ignored) => Err(Offence::TooManyAddresses { ignored }.by(from)),
        }
    }

    /// An operator wants an address active at a stack.
    pub(super) fn activate(&mut self, dvipa: Dvipa, stack: StackName) -> Result<(), OrderRefusal> {
        self.in_a_range(dvipa)?;
        if self.stacks.known(&stack).is_none() {
            return Err(OrderRefusal::NoSuchStack(stack));
        }
        if !self.stacks.is_up(&stack) {
            return Err(OrderRefusal::NotHere(stack));
        }
        let latest = self.ranges.latest(dvipa).map(|(_, claim)| claim.turn);
        let known = self.ranges.active.get(&dvipa).map(|active| active.claim.turn);
        let turn = latest.max(known).unwrap_or_default().next();
        self.order_address(stack, dvipa, turn, true);
        Ok(())
    }

    /// An operator takes back what [`Self::activate`] ordered: applications that are bound to the address decide.
    pub(super) fn deactivate(&mut self, dvipa: Dvipa) -> Result<(), OrderRefusal> {
        self.in_a_range(dvipa)?;
        let claims = self.ranges.claims.iter().filter_map(|(stack, all)| Some((stack, all.get(&dvipa)?)));
        let ordered: Vec<(StackName, Turn)> =
            claims.filter(|(_, claim)| claim.ordered).map(|(stack, c)| (stack.clone(), c.turn)).collect();
        if ordered.is_empty() {
            return Err(OrderRefusal::NotOrdered(dvipa));
        }
        for (stack, turn) in ordered {
            self.order_address(stack, dvipa, turn, false);
        }
        Ok(())
    }

    fn order_address(&mut self, to: StackName, dvipa: Dvipa, turn: Turn, active: bool) {
        let message = ToStack::Activate(Activate { address: Address(dvipa.address()), turn, active });
        self.actions.push_back(Action::Send { to, message });
    }

    fn in_a_range(&self, dvipa: Dvipa) -> Result<(), OrderRefusal> {
        if self.file.has_statement(dvipa) || self.peers.define(dvipa) {
            return Err(OrderRefusal::Defined(dvipa));
        }
        self.file.range_of(dvipa).map(drop).ok_or(OrderRefusal::NotInARange(dvipa))
    }

    /// As [`Action::CountStacks`] asked.
    pub(super) fn counted_of(&mut self, dvipa: Dvipa, connections: Vec<(StackIndex, u64)>) {
        let holder = self.ranges.active.get(&dvipa).and_then(|active| self.stack_index(&active.stack));
        self.ranges.counted(dvipa, connections.into_iter().collect(), holder);
    }

    /// The statements that follow from a file.
    pub(super) fn with_ranges(&self, file: &VipaDynamic) -> VipaDynamic {
        self.ranges.complete(file, |dvipa| self.peers.define(dvipa))
    }

    /// Does what is due, and what follows from where addresses are active, if that has changed.
    pub(super) fn follow_ranges(&mut self, now: Instant) {
        self.ranges.expire(now);
        let uncounted = self.ranges.take_uncounted(now);
        self.actions.extend(uncounted.into_iter().map(|dvipa| Action::CountStacks { dvipa }));
        if !std::mem::take(&mut self.ranges.changed) {
            return;
        }
        let before = self.standings();
        let mut written = self.with_ranges(&self.file);
        while let Err(OrderRefusal::TooManyDvipas(dvipa)) = self.dvipas.define(&written, now) {
            written.defines.retain(|d| d.dvipa != dvipa);
            written.backups.retain(|b| b.dvipa != dvipa);
            written.distributes.retain(|d| d.dvipa != dvipa);
            self.actions.push_back(Action::Note(Note::NoNumber { dvipa }));
        }
        if written != self.written {
            self.note_active(&written);
            self.written = written;
            let complete = self.peers.complete(&self.written);
            let former = std::mem::replace(&mut self.config.vipadynamic, complete);
            self.rights.define(&self.config.vipadynamic);
            self.dvipas.set_forwards(&self.config.vipadynamic);
            self.mark_definitions(&former, &before);
            self.reconsider();
        }
        // Stacks are told of turns, too.
        self.pace.want(Urgency::Now);
    }

    /// Where addresses are active from now on, for the log.
    fn note_active(&mut self, written: &VipaDynamic) {
        let at = |of: &VipaDynamic, dvipa| of.distributes_of(dvipa).first().map(|d| d.destip.clone());
        for (dvipa, active) in &self.ranges.active {
            let of_a_range = written.has_statement(*dvipa) && !self.file.has_statement(*dvipa);
            if of_a_range && at(written, *dvipa) != at(&self.written, *dvipa) && active.relieves.is_none() {
                let (dvipa, stack, ordered) = (*dvipa, active.stack.clone(), active.claim.ordered);
                self.actions.push_back(Action::Note(Note::Active { dvipa, stack, ordered }));
            }
        }
    }

    /// Says to stacks what they do not know of ranges.
    pub(super) fn tell_ranges(&mut self) {
        let taken = |dvipa| self.file.has_statement(dvipa) || self.peers.define(dvipa);
        let message = self.ranges.message(&self.file, taken);
        let up: Vec<StackName> = self.stacks.up().cloned().collect();
        for to in up {
            let told = self.ranges.told.get(&to);
            if told.map_or(message == ranges::Ranges::default(), |told| *told == message) {
                continue;
            }
            self.ranges.told.insert(to.clone(), message.clone());
            let message = ToStack::Ranges(message.clone());
            self.actions.push_back(Action::Send { to, message });
        }
    }
}
