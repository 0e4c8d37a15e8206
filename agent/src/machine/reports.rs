//! What the routing stacks are told: complete accounts, and changes as they happen.

use model::message::VipaListDvipa;
use model::{Connection, Dvipa, Protocol, StackName};

use super::Machine;
use super::event::Action;
use super::listens::{self, Served};
use super::routing_stack::{RoutingStack, Standing, Unfit};
use super::sockets::{Bound, Change, Cookie, Listener};

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

impl Machine {
    /// Tells all whom it concerns of these changes.
    pub(super) fn tell(&mut self, changes: impl IntoIterator<Item = Change>) {
        let mut listeners = false;
        for change in changes {
            match change {
                Change::Listeners => listeners = true,
                Change::Opened(c) | Change::Ended(c) if self.moving.contains(&c) => {}
                Change::Opened(c) | Change::Ended(c) => {
                    let dvipa = Dvipa::new(c.dvipa.ip());
                    let concerned = self.stacks.values_mut().filter(|s| s.entry(dvipa).is_some());
                    concerned.for_each(|s| s.note(change));
                }
            }
        }
        if listeners {
            self.tell_listens();
        }
    }

    /// A connection moves no longer. If it is here, or has ended here, that is news to all. If another host has it, the owner of its
    /// DVIPA has moved it and knows; the others hear that it has ended here, or they would forward it here when they take over.
    pub(super) fn rests(&mut self, connection: Connection, ours: bool) {
        if !self.moving.remove(&connection) {
            return;
        }
        if self.has(&connection) {
            return self.tell([Change::Opened(connection)]);
        }
        if ours {
            return self.tell([Change::Ended(connection)]);
        }
        let dvipa = Dvipa::new(connection.dvipa.ip());
        let owner = self.owner(dvipa).map(|(owner, _)| owner.clone());
        let others = self.stacks.iter_mut().filter(|(name, _)| owner.as_ref() != Some(*name));
        let concerned = others.filter(|(_, stack)| stack.entry(dvipa).is_some());
        concerned.for_each(|(_, stack)| stack.note(Change::Ended(connection)));
    }

    /// Tells every routing stack that is told of changes what is served now, where that is not what it knows.
    pub(super) fn tell_listens(&mut self) {
        self.note_served();
        self.srvstats(Standing::Reporting, false);
        self.claim();
    }

    /// Tells all whom it concerns again of the connections whose turn it is.
    pub(super) fn renew(&mut self, now: Instant) {
        let due = self.renewals.take(now, &self.sockets);
        for connection in due.into_iter().filter(|c| !self.moving.contains(c)) {
            let dvipa = Dvipa::new(connection.dvipa.ip());
            let concerned = self.stacks.values_mut().filter(|s| s.entry(dvipa).is_some());
            concerned.for_each(|s| s.name_again(connection));
        }
        self.stacks.values_mut().for_each(RoutingStack::owe_number);
    }

    /// Answers the lists whose look is done, and which has seen these UDP flows: those that are served are part of a complete account.
    pub(super) fn answer(&mut self, flows: &[Connection]) {
        self.note_served();
        self.srvstats(Standing::Looking, true);
        let looking = self.stacks.iter_mut().filter(|(_, stack)| stack.standing == Standing::Looking);
        let mut names = Vec::new();
        for (name, stack) in looking {
            stack.begin_to_answer(flows);
            names.push(name.clone());
        }
        names.iter().for_each(|name| self.answer_next(name));
        self.claim();
    }

    /// Says the next part of an answer; `false`: there is none.
    pub(super) fn answer_some(&mut self) -> bool {
        let mut answering = self.stacks.iter().filter(|(_, stack)| stack.standing == Standing::Answering);
        let Some(name) = answering.next().map(|(name, _)| name.clone()) else { return false };
        self.answer_next(&name);
        if self.stacks.get(&name).is_some_and(|stack| stack.standing == Standing::Reporting) {
            // What was told it of listens is as old as the beginning of the answer.
            self.tell_listens();
        }
        true
    }

    fn answer_next(&mut self, name: &StackName) {
        let Some(stack) = self.stacks.get_mut(name) else { return };
        let part = stack.answer_some(self.at_a_step, &self.sockets, |c| self.moving.contains(c));
        self.actions.extend(part.into_iter().map(|message| Action::Send(name.clone(), message)));
    }

    fn srvstats(&mut self, of: Standing, complete: bool) {
        let names: Vec<_> =
            self.stacks.iter().filter(|(_, s)| s.standing == of).map(|(n, _)| n.clone()).collect();
        for name in names {
            let Some(entries) = self.stacks.get(&name).map(|s| s.entries().cloned().collect::<Vec<_>>())
            else {
                continue;
            };
            for entry in entries {
                let served = self.served(&entry);
                let unfit = self.unfit(&entry, &served);
                let Some(stack) = self.stacks.get_mut(&name) else { continue };
                let messages = [stack.srvstat(&entry, served, complete), stack.unfit(&entry, unfit)];
                self.actions.extend(messages.into_iter().flatten().map(|m| Action::Send(name.clone(), m)));
            }
        }
    }

    /// Notes which UDP ports are served here: whose flows routing stacks are told of.
    fn note_served(&mut self) {
        let of_entry = |entry: &VipaListDvipa| {
            let udp = self.served(entry).into_iter().filter(|(protocol, _)| *protocol == Protocol::Udp);
            udp.map(|(_, port)| SocketAddr::new(entry.address.0, port)).collect::<Vec<_>>()
        };
        self.served = self.stacks.values().flat_map(RoutingStack::entries).flat_map(of_entry).collect();
    }

    /// What this host serves of a DVIPA: nothing if it does not have the address.
    fn served(&self, entry: &VipaListDvipa) -> BTreeSet<Served> {
        let dvipa = Dvipa::new(entry.address.0);
        self.listened(entry, |cookie, listener| {
            let takers =
                self.takers.get(&(dvipa, listener.port)).filter(|_| listener.protocol == Protocol::Tcp);
            takers.is_none_or(|takers| takers.open.contains(&cookie))
        })
    }

    /// Which of the services of a DVIPA that this host serves are stalled, and which fail.
    fn unfit(&self, entry: &VipaListDvipa, served: &BTreeSet<Served>) -> Unfit {
        if !self.stalls.any() && !self.silences.any() && self.failing.is_empty() {
            return Unfit::default();
        }
        let dvipa = Dvipa::new(entry.address.0);
        let why = |service: &Served| {
            let checked = self.failing.get(&(dvipa, *service)).cloned();
            let silent = || self.silences.why(service.1).filter(|_| service.0 == Protocol::Tcp);
            Some((*service, checked.or_else(silent)?))
        };
        let failing: BTreeMap<Served, String> = served.iter().filter_map(why).collect();
        let unfit =
            served.iter().filter(|service| self.stalls.has(service.1) || failing.contains_key(service));
        let ports = unfit.filter(|(protocol, _)| *protocol == Protocol::Tcp).map(|(_, port)| *port).collect();
        Unfit { ports, failing }
    }

    /// Where the listeners of such services are, of those that this host is known to serve: at the DVIPA if one is bound to that,
    /// otherwise at a loopback address, so that a listener of many DVIPAs is one.
    pub fn listeners(
        &self,
        is_such: impl Fn(Dvipa, Served) -> bool,
    ) -> BTreeMap<(Dvipa, Served), SocketAddr> {
        let mut listeners = BTreeMap::new();
        let told = self.stacks.values().flat_map(RoutingStack::told);
        let told = told.flat_map(|(dvipa, told)| told.iter().map(|served| (*dvipa, *served)));
        for (dvipa, served) in told.filter(|(dvipa, served)| is_such(*dvipa, *served)) {
            let address = dvipa.address();
            let is_bound =
                |l: &Listener| (l.protocol, l.port, l.bound) == (served.0, served.1, Bound::Address(address));
            let at = if self.sockets.listeners().any(|(_, listener)| is_bound(listener)) {
                address
            } else if address.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            };
            listeners.insert((dvipa, served), SocketAddr::new(at, served.1));
        }
        listeners
    }

    /// The services that something listens for here that holds accepts back: connections can be transferred to it.
    pub fn held(&self) -> BTreeSet<(Dvipa, u16)> {
        let is_listened = |(dvipa, port): &(Dvipa, u16)| {
            let mut entries = self.stacks.values().filter_map(|stack| stack.entry(*dvipa));
            let is_such = |_, l: &Listener| l.protocol == Protocol::Tcp && l.port == *port;
            entries.any(|entry| !self.listened(entry, is_such).is_empty())
        };
        let holding = self.takers.iter().filter(|(_, takers)| takers.holds).map(|(service, _)| *service);
        holding.filter(is_listened).collect()
    }

    /// What such sockets listen for of a DVIPA.
    fn listened(
        &self,
        entry: &VipaListDvipa,
        is_such: impl Fn(Cookie, &Listener) -> bool,
    ) -> BTreeSet<Served> {
        let dvipa = Dvipa::new(entry.address.0);
        if !self.dvipas.contains_key(&dvipa) {
            return BTreeSet::new();
        }
        let such = self.sockets.listeners().filter(|(cookie, listener)| is_such(*cookie, listener));
        let whole = self.is_ordered(dvipa);
        let listeners = such.map(|(_, listener)| listener);
        listens::served(listeners, (dvipa, whole), &entry.distributions, &self.own.name, &self.own.interfaces)
    }
}
