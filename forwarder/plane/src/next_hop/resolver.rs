//! Which next hop each stack has: events of the kernel in, questions to the kernel and a table out.
//!
//! | event | effect |
//! | --- | --- |
//! | `Wanted` | replaces the list; a new destination is looked up, what nobody wants is forgotten |
//! | `Routed` | the way to a destination; an unknown neighbour on it is probed |
//! | `RoutesChanged` | every destination is looked up again; ways stay as they are until the answer |
//! | `Seen` | a neighbour's state; its last link-layer address stays in force until the kernel gives it up |
//! | [`Timer::Retry`] | what has no route is looked up, what has no address is probed |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use forwarder::tables::Family;
use forwarder::{Mac, Neighbours};
use model::StackIndex;

/// Between two attempts to find what is missing.
const RETRY: Duration = Duration::from_secs(1);

/// What the resolver is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stacks' cluster addresses, all of them.
    Wanted(Vec<(StackIndex, IpAddr)>),
    /// The kernel's way to a destination: the destination itself if it is on the link, or a gateway; `None` if the
    /// local interface does not lead there.
    Routed {
        /// What was looked up.
        destination: IpAddr,
        /// The neighbour to send to.
        next_hop: Option<IpAddr>,
    },
    /// Some route changed.
    RoutesChanged,
    /// News of the neighbour table.
    Seen(IpAddr, Seen),
    /// The deadline has passed.
    Tick,
}

/// What the kernel says of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its address is known; `stale` if it was not confirmed for a while.
    At {
        /// Its link-layer address.
        mac: Mac,
        /// Ought to be confirmed.
        stale: bool,
    },
    /// The kernel asks for its address.
    Resolving,
    /// It does not answer, or is gone from the table.
    Gone,
}

/// What the resolver asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the kernel for its way to this address: answered by [`Event::Routed`].
    LookUp(IpAddr),
    /// Have the kernel find out or confirm this neighbour's address: answered by [`Event::Seen`].
    Probe(IpAddr),
    /// The table changed.
    Publish(Neighbours),
}

/// What can become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// Something is missing: ask again.
    Retry,
}

/// The state. One thread owns it.
#[derive(Debug, Default)]
pub struct Resolver {
    wanted: Vec<(StackIndex, IpAddr)>,
    ways: BTreeMap<IpAddr, Option<IpAddr>>,
    macs: BTreeMap<IpAddr, Mac>,
    published: Neighbours,
    timer: Option<(Timer, Instant)>,
    actions: VecDeque<Action>,
}

impl Resolver {
    /// Takes an event; its effects come out of [`Resolver::poll`].
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Wanted(wanted) => self.want(wanted),
            Event::Routed { destination, next_hop } => self.routed(destination, next_hop),
            Event::RoutesChanged => self.look_up_all(),
            Event::Seen(neighbour, seen) => self.seen(neighbour, seen),
            Event::Tick => self.tick(now),
        }
        self.publish();
        if self.timer.is_none() && self.is_incomplete() {
            self.timer = Some((Timer::Retry, now + RETRY));
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timer.map(|(_, at)| at)
    }

    fn want(&mut self, wanted: Vec<(StackIndex, IpAddr)>) {
        let destinations: BTreeSet<IpAddr> = wanted.iter().map(|(_, address)| *address).collect();
        self.ways.retain(|destination, _| destinations.contains(destination));
        for destination in destinations {
            self.ways.entry(destination).or_insert_with(|| {
                self.actions.push_back(Action::LookUp(destination));
                None
            });
        }
        self.wanted = wanted;
    }

    fn routed(&mut self, destination: IpAddr, next_hop: Option<IpAddr>) {
        // An answer may come after nobody wants it any more.
        let Some(way) = self.ways.get_mut(&destination) else { return };
        *way = next_hop;
        if let Some(neighbour) = next_hop.filter(|neighbour| !self.macs.contains_key(neighbour)) {
            self.actions.push_back(Action::Probe(neighbour));
        }
    }

    fn look_up_all(&mut self) {
        self.actions.extend(self.ways.keys().copied().map(Action::LookUp));
    }

    fn seen(&mut self, neighbour: IpAddr, seen: Seen) {
        match seen {
            Seen::At { mac, stale } => {
                self.macs.insert(neighbour, mac);
                // Nobody but the forwarder may be talking to it, so that the kernel has no reason to confirm it.
                if stale && self.is_used(neighbour) {
                    self.actions.push_back(Action::Probe(neighbour));
                }
            }
            Seen::Resolving => {}
            Seen::Gone => {
                self.macs.remove(&neighbour);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        let Some((Timer::Retry, at)) = self.timer else { return };
        if now < at {
            return;
        }
        self.timer = None;
        for (destination, way) in &self.ways {
            match way {
                None => self.actions.push_back(Action::LookUp(*destination)),
                Some(hop) if !self.macs.contains_key(hop) => self.actions.push_back(Action::Probe(*hop)),
                Some(_) => {}
            }
        }
    }

    fn is_used(&self, neighbour: IpAddr) -> bool {
        self.ways.values().flatten().any(|hop| *hop == neighbour)
    }

    fn is_incomplete(&self) -> bool {
        self.ways.values().any(|way| way.is_none_or(|hop| !self.macs.contains_key(&hop)))
    }

    fn publish(&mut self) {
        let mut table = Neighbours::new();
        for (stack, destination) in &self.wanted {
            let hop = self.ways.get(destination).copied().flatten();
            if let Some(mac) = hop.and_then(|hop| self.macs.get(&hop)) {
                table.set(*stack, family(*destination), *mac);
            }
        }
        if table != self.published {
            self.published = table.clone();
            self.actions.push_back(Action::Publish(table));
        }
    }
}

fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

#[cfg(test)]
mod tests;
