//! Addresses of ranges (VIPARANGE, row W9): which this host claims, because an application is bound to one or an operator has ordered it.
//!
//! | event | nothing is bound to the address here | something is |
//! | --- | --- | --- |
//! | a listener binds to it | claimed, in the turn after the last known one | – |
//! | the last listener ends | – | claimed no longer, unless by order |
//! | an order, in a turn of its own | claimed by order | the same, and bound in its own turn |
//! | the order is taken back | claimed no longer | claimed in the turn of the bind |
//! | a list says that it is active here since a turn that this run does not know | by order: claimed since then | claimed since then |
//! | the agent begins, and finds a listener | – | claimed in the earliest turn, until a list says that it has a later one |
//!
//! A listener is a TCP socket in LISTEN or a UDP socket that is bound and not connected, and not of a container. Addresses of the host
//! itself are never claimed. Of a range that is DISRUPTIVE, connections to an address that is active elsewhere are ended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use model::codec::Address;
use model::message::FromStack;
use model::ranges::{Activate, Active, Bound, BoundAddress, MAX_ADDRESSES, Ranges, Turn};
use model::{Connection, Dvipa, StackName};

use super::Machine;
use super::event::Action;
use super::routing_stack::{RoutingStack, Standing};
use super::sockets::{self, Place};

/// The most connections that are ended at a time; further ones a moment later.
pub const ENDED_AT_ONCE: usize = 10_000;

/// What this host claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    all: BTreeMap<Dvipa, Claim>,
    /// What listeners were bound to at the first look, as long as some are; none: there was no look yet.
    found: Option<BTreeSet<Dvipa>>,
    /// The last turns of claims that have ended.
    ended: BTreeMap<Dvipa, Turn>,
}

/// Connections to addresses that have become active elsewhere are looked for.
#[derive(Debug)]
pub(super) struct Disruption {
    elsewhere: BTreeSet<IpAddr>,
    at: Place,
    /// How many may be ended yet.
    left: usize,
}

/// Since which turn an address is claimed.
#[derive(Clone, Copy, Debug, Default)]
struct Claim {
    bound: Option<Turn>,
    ordered: Option<Turn>,
}

impl Claim {
    fn turn(self) -> Option<Turn> {
        self.bound.max(self.ordered)
    }
}

impl Machine {
    /// A routing stack says its ranges, and where their addresses are active.
    pub(super) fn ranges(&mut self, from: &StackName, ranges: Ranges) {
        let Some(stack) = self.stacks.get_mut(from) else { return };
        (stack.ranges, stack.said_ranges) = (Some(ranges), true);
        self.allow_binds();
        self.claim();
        self.disruption = None;
        self.end_disrupted();
    }

    /// An operator's order.
    pub(super) fn activate(&mut self, from: &StackName, order: Activate) {
        let dvipa = Dvipa::new(order.address.0);
        let is_in_one = self.stacks.get(from).is_some_and(|stack| range_of(stack, dvipa).is_some());
        if !is_in_one || self.is_own(dvipa) || !self.has_looked() {
            return;
        }
        let is_full = self.claims.all.len() >= MAX_ADDRESSES;
        match (order.active, self.claims.all.get_mut(&dvipa)) {
            (true, Some(claim)) => claim.ordered = claim.ordered.max(Some(order.turn)),
            (true, None) if is_full => return,
            (true, None) => {
                self.claims.all.insert(dvipa, Claim { bound: None, ordered: Some(order.turn) });
            }
            (false, Some(claim)) => {
                let ended = claim.ordered.take().max(Some(order.turn)).unwrap_or_default();
                let known = self.claims.ended.entry(dvipa).or_default();
                *known = ended.max(*known);
            }
            (false, None) => return,
        }
        self.claim();
        self.tell_listens();
    }

    /// Whether the first look is done.
    pub(super) fn has_looked(&self) -> bool {
        self.claims.found.is_some()
    }

    /// The first look is done.
    pub(super) fn found(&mut self, picture: &sockets::Picture) {
        if self.claims.found.is_none() {
            let bound = picture.listeners.iter().filter_map(|(_, listener)| listener.bound.dvipa());
            self.claims.found = Some(bound.collect());
        }
    }

    /// Whether the host has the address by an operator's order: then listeners of the wildcard address count too.
    pub(super) fn is_ordered(&self, dvipa: Dvipa) -> bool {
        self.claims.all.get(&dvipa).is_some_and(|claim| claim.ordered.is_some())
    }

    /// Claims what is bound now, and says so to whom it concerns.
    pub(super) fn claim(&mut self) {
        let has_ranges = |stack: &RoutingStack| stack.ranges.is_some();
        if !self.stacks.values().any(has_ranges) || !self.has_looked() {
            return;
        }
        let bound = self.bound();
        let active = self.active();
        let all = self.claims.all.iter().filter(|(_, claim)| claim.bound.is_some()).map(|(dvipa, _)| *dvipa);
        let gone: Vec<Dvipa> = all.filter(|dvipa| !bound.contains(dvipa)).collect();
        for dvipa in gone {
            if let Some(claim) = self.claims.all.get_mut(&dvipa) {
                let ended = claim.bound.take().unwrap_or_default();
                let known = self.claims.ended.entry(dvipa).or_default();
                *known = ended.max(*known);
            }
        }
        for dvipa in &bound {
            self.claim_bound(*dvipa, active.get(dvipa));
        }
        self.adopt(&active, &bound);
        self.claims.all.retain(|_, claim| claim.turn().is_some());
        let (listening, ended) = (self.listening_addresses(), &mut self.claims.ended);
        if let Some(found) = &mut self.claims.found {
            found.retain(|dvipa| listening.contains(dvipa));
        }
        while ended.len() > MAX_ADDRESSES {
            ended.pop_first();
        }
        self.tell_claims();
    }

    /// Something is bound to an address, of which it is said that it is active there.
    fn claim_bound(&mut self, dvipa: Dvipa, active: Option<&Active>) {
        let Claims { all, found, ended } = &mut self.claims;
        if all.len() >= MAX_ADDRESSES && !all.contains_key(&dvipa) {
            return;
        }
        let claim = all.entry(dvipa).or_default();
        if claim.bound.is_some() {
            return;
        }
        let was_found = found.as_ref().is_some_and(|found| found.contains(&dvipa));
        claim.bound = Some(if was_found {
            Turn::EARLIEST
        } else {
            let known = active.map(|active| active.turn).max(claim.ordered).max(ended.get(&dvipa).copied());
            known.unwrap_or_default().next()
        });
    }

    /// What is active here since turns that this run of the agent does not know, a former run knew.
    fn adopt(&mut self, active: &BTreeMap<Dvipa, Active>, bound: &BTreeSet<Dvipa>) {
        for (dvipa, active) in active.iter().filter(|(_, active)| active.stack == self.own.name) {
            let ended = self.claims.ended.get(dvipa).copied();
            let known = self.claims.all.get(dvipa).and_then(|claim| claim.turn()).max(ended);
            if known >= Some(active.turn) || !(active.ordered || bound.contains(dvipa)) {
                continue;
            }
            let claim = self.claims.all.entry(*dvipa).or_default();
            let of = if active.ordered { &mut claim.ordered } else { &mut claim.bound };
            *of = Some(active.turn);
        }
    }

    /// Says to routing stacks that are told of changes what they do not know.
    fn tell_claims(&mut self) {
        for (name, stack) in &mut self.stacks {
            if stack.standing != Standing::Reporting || stack.ranges.is_none() {
                continue;
            }
            let of_it = self.claims.all.iter().filter(|(dvipa, _)| range_of(stack, **dvipa).is_some());
            let addresses = of_it.filter_map(|(dvipa, claim)| {
                let (address, ordered) = (Address(dvipa.address()), claim.ordered.is_some());
                Some(BoundAddress { address, turn: claim.turn()?, ordered })
            });
            let bound = Bound { addresses: addresses.collect() };
            if stack.told_bound.as_ref() != Some(&bound) {
                stack.told_bound = Some(bound.clone());
                self.actions.push_back(Action::Send(name.clone(), FromStack::Bound(bound)));
            }
        }
    }

    /// The addresses of ranges that listeners are bound to.
    fn bound(&self) -> BTreeSet<Dvipa> {
        let bound = self.listening_addresses().into_iter();
        bound.filter(|dvipa| !self.is_own(*dvipa) && self.is_in_a_range(*dvipa)).collect()
    }

    /// Whether the address is out of a range of any routing stack.
    pub(super) fn is_in_a_range(&self, dvipa: Dvipa) -> bool {
        self.stacks.values().any(|stack| range_of(stack, dvipa).is_some())
    }

    fn listening_addresses(&self) -> BTreeSet<Dvipa> {
        let own = self.sockets.listeners().filter(|(cookie, _)| !cookie.is_of_a_container());
        own.filter_map(|(_, listener)| listener.bound.dvipa()).collect()
    }

    fn is_own(&self, dvipa: Dvipa) -> bool {
        self.own.cluster_address.iter().any(|address| address == dvipa.address())
    }

    /// Where addresses are active, by the latest turn that any routing stack says.
    fn active(&self) -> BTreeMap<Dvipa, Active> {
        let mut all: BTreeMap<Dvipa, Active> = BTreeMap::new();
        for said in self.stacks.values().filter_map(|stack| stack.ranges.as_ref()).flat_map(|r| &r.active) {
            let known = all.entry(Dvipa::new(said.address.0)).or_insert_with(|| said.clone());
            if said.turn > known.turn {
                *known = said.clone();
            }
        }
        all
    }

    /// Lets applications bind to addresses of ranges before the host has them.
    pub(super) fn allow_binds(&mut self) {
        let ranges = self.stacks.values().filter_map(|stack| stack.ranges.as_ref()).flat_map(|r| &r.ranges);
        let v4: BTreeSet<bool> = ranges.map(|range| range.network.0.is_ipv4()).collect();
        self.actions.extend(v4.into_iter().map(|v4| Action::AllowBinds { v4 }));
    }

    /// Ends connections to addresses that are active elsewhere, of ranges where that is so.
    pub(super) fn end_disrupted(&mut self) {
        if self.disruption.is_some() {
            return;
        }
        let is_disruptive = |dvipa: Dvipa| {
            let mut ranges = self.stacks.values().filter_map(|stack| range_of(stack, dvipa));
            ranges.any(|disruptive| disruptive)
        };
        let active = self.active().into_iter().filter(|(_, active)| active.stack != self.own.name);
        let elsewhere: BTreeSet<IpAddr> =
            active.filter(|(dvipa, _)| is_disruptive(*dvipa)).map(|(dvipa, _)| dvipa.address()).collect();
        if elsewhere.is_empty() {
            return;
        }
        self.disruption = Some(Disruption { elsewhere, at: None, left: ENDED_AT_ONCE });
        self.disrupt_some();
    }

    /// Looks for some of them; `false`: none is looked for.
    pub(super) fn disrupt_some(&mut self) -> bool {
        let Some(mut disruption) = self.disruption.take() else { return false };
        let (part, is_last) = self.sockets.part(&mut disruption.at, self.at_a_step);
        let of_them = part.into_iter().filter(|c| disruption.elsewhere.contains(&c.dvipa.ip()));
        let connections: Vec<Connection> = of_them.take(disruption.left).collect();
        disruption.left -= connections.len();
        if !is_last && disruption.left > 0 {
            self.disruption = Some(disruption);
        }
        if !connections.is_empty() {
            self.actions.push_back(Action::End(connections));
        }
        true
    }
}

impl sockets::Bound {
    /// The one address that such a socket serves.
    fn dvipa(self) -> Option<Dvipa> {
        match self {
            Self::Address(address) => Some(Dvipa::new(address)),
            Self::AnyV4 | Self::AnyV6 | Self::AnyDual => None,
        }
    }
}

/// Whether the routing stack's range that the address is out of is disruptive; none: it is out of none.
fn range_of(stack: &RoutingStack, dvipa: Dvipa) -> Option<bool> {
    let ranges = stack.ranges.iter().flat_map(|ranges| &ranges.ranges);
    let mut of_it = ranges.filter(|range| {
        IpNet::new(range.network.0, range.prefix_bits).is_ok_and(|net| net.contains(&dvipa.address()))
    });
    of_it.next().map(|range| range.disruptive)
}
