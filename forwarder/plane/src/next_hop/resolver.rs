//! Which next hop each stack has, and which hosts do not answer: events of the kernel in, questions to the kernel and a table
//! out.
//!
//! | event | effect |
//! | --- | --- |
//! | `Wanted` | replaces the list; a new destination is looked up, what nobody wants is forgotten; the neighbour of a stack that is not heard of any more is asked whether it is there |
//! | `Routed` | the way to a destination; an unknown neighbour on it is probed |
//! | `RoutesChanged` | every destination is looked up again; ways stay as they are until the answer |
//! | `Seen` | a neighbour's state; its last link-layer address stays in force, also when it does not answer, until all stacks behind it are dead |
//! | `TooBig` | a router's path MTU to a destination, for [`MTU_LIFE`] |
//! | [`Timer::Retry`] | what has no route is looked up, what has no address or does not answer is probed |
//! | [`Timer::Confirm`] | the neighbours of stacks that are not heard of are asked again whether they are there |
//! | [`Timer::Forget`] | path MTUs that were learned too long ago are forgotten |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use forwarder::tables::Family;
use forwarder::{Mac, Neighbours};
use model::StackIndex;
use model::dpt::StackState;

/// Between two attempts to find what is missing.
const RETRY: Duration = Duration::from_secs(1);
/// How often the neighbour of a stack that is not heard of is asked whether it is there. The kernel takes three seconds to
/// give it up.
const CONFIRM: Duration = Duration::from_secs(5);
/// How long a path MTU is believed (RFC 1191 6.3, RFC 8201 5.3).
const MTU_LIFE: Duration = Duration::from_secs(600);
/// The least path MTU that is believed: IPv6's least (RFC 8200 5). Smaller ones would serve only senders of forged messages.
const LEAST_MTU: u16 = 1280;
/// The least that is believed of a message that quotes no packet of a connection which the stack has (RFC 8899 4.6.1: such a message is not
/// to be relied on). Routers that quote 8 bytes of a packet (RFC 792) can't say more; the tunnels that are usual leave more than this.
const LEAST_UNPROVEN_MTU: u16 = 1400;

/// A cluster address of a stack, and what is heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which stack.
    pub stack: StackIndex,
    /// Where its packets go.
    pub address: IpAddr,
    /// What is heard of it.
    pub state: StackState,
}

/// What the resolver is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stacks' cluster addresses, all of them.
    Wanted(Vec<Wanted>),
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
    /// A router says that packets of this node to a destination are too big for the way.
    TooBig {
        /// To whom.
        destination: IpAddr,
        /// The longest IP packet that the way takes, in bytes.
        mtu: u16,
        /// The stack that has the connection of the packet that the router quotes, if it quotes so much and the CRT has it.
        owner: Option<StackIndex>,
    },
    /// The deadline has passed.
    Tick,
}

/// What the kernel says of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its address is known.
    At {
        /// Its link-layer address.
        mac: Mac,
        /// How far it can be believed.
        trust: Trust,
    },
    /// The kernel asks for its address.
    Resolving,
    /// It does not answer.
    Silent,
    /// It is gone from the table, which says nothing of it.
    Gone,
}

/// How far a neighbour's address can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It answered lately.
    Fresh,
    /// It ought to be confirmed.
    Stale,
    /// An operator wrote it down: nobody asks whether it is there.
    Fixed,
}

/// What the resolver asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the kernel for its way to this address: answered by [`Event::Routed`].
    LookUp(IpAddr),
    /// Have the kernel find out this neighbour's address, unless it knows it: answered by [`Event::Seen`].
    Probe(IpAddr),
    /// Have the kernel ask whether this neighbour is there, also if it answered a moment ago.
    Confirm(IpAddr),
    /// What is known changed.
    Publish(Known),
}

/// What the resolver knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The ways to the stacks.
    pub neighbours: Neighbours,
    /// Those stacks, of those that are not up, whose hosts are on the link and do not answer; sorted.
    pub silent: Vec<StackIndex>,
}

/// What can become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Something is missing: ask again.
    Retry,
    /// Stacks are not heard of: ask whether their hosts are there.
    Confirm,
    /// A path MTU is too old.
    Forget,
}

/// The state. One thread owns it.
#[derive(Debug, Default)]
pub struct Resolver {
    wanted: Vec<Wanted>,
    ways: BTreeMap<IpAddr, Option<IpAddr>>,
    macs: BTreeMap<IpAddr, Mac>,
    /// Neighbours that an operator wrote down.
    fixed: BTreeSet<IpAddr>,
    /// Neighbours that do not answer.
    silent: BTreeSet<IpAddr>,
    /// Path MTUs, and until when they are believed.
    mtus: BTreeMap<IpAddr, (u16, Instant)>,
    published: Known,
    timers: BTreeMap<Timer, Instant>,
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
            Event::TooBig { destination, mtu, owner } => self.too_big(destination, (mtu, owner), now),
            Event::Tick => self.tick(now),
        }
        self.publish();
        self.set_timers(now);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.values().min().copied()
    }

    fn want(&mut self, wanted: Vec<Wanted>) {
        let destinations: BTreeSet<IpAddr> = wanted.iter().map(|wanted| wanted.address).collect();
        self.ways.retain(|destination, _| destinations.contains(destination));
        self.mtus.retain(|destination, _| destinations.contains(destination));
        for destination in destinations {
            self.ways.entry(destination).or_insert_with(|| {
                self.actions.push_back(Action::LookUp(destination));
                None
            });
        }
        let before = std::mem::replace(&mut self.wanted, wanted);
        let was_up = |stack| before.iter().any(|b| b.stack == stack && b.state == StackState::Up);
        let lost_now = self.unheard().filter(|(wanted, _)| was_up(wanted.stack));
        let lost_now: Vec<IpAddr> = lost_now.map(|(_, neighbour)| neighbour).collect();
        self.actions.extend(lost_now.into_iter().map(Action::Confirm));
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
            Seen::At { mac, trust } => {
                self.macs.insert(neighbour, mac);
                self.silent.remove(&neighbour);
                if trust == Trust::Fixed {
                    self.fixed.insert(neighbour)
                } else {
                    self.fixed.remove(&neighbour)
                };
                // Nobody but the forwarder may be talking to it, so that the kernel has no reason to confirm it.
                if trust == Trust::Stale && self.is_used(neighbour) {
                    self.actions.push_back(Action::Probe(neighbour));
                }
            }
            Seen::Resolving => {}
            Seen::Silent => {
                self.silent.insert(neighbour);
            }
            Seen::Gone if self.is_used(neighbour) => self.actions.push_back(Action::Probe(neighbour)),
            Seen::Gone => {
                self.macs.remove(&neighbour);
                self.fixed.remove(&neighbour);
                self.silent.remove(&neighbour);
            }
        }
    }

    fn too_big(&mut self, destination: IpAddr, (mtu, owner): (u16, Option<StackIndex>), now: Instant) {
        let mut stacks = self.wanted.iter().filter(|wanted| wanted.address == destination).peekable();
        if stacks.peek().is_none() {
            return;
        }
        let is_proven = stacks.any(|wanted| Some(wanted.stack) == owner);
        let mtu = mtu.max(if is_proven { LEAST_MTU } else { LEAST_UNPROVEN_MTU });
        let known = self.mtus.entry(destination).or_insert((u16::MAX, now));
        // What is longer is about a packet from before, or forged.
        if mtu <= known.0 {
            *known = (mtu, now + MTU_LIFE);
        }
    }

    fn tick(&mut self, now: Instant) {
        let due = |timers: &mut BTreeMap<Timer, Instant>, timer| {
            let is_due = timers.get(&timer).is_some_and(|at| *at <= now);
            is_due.then(|| timers.remove(&timer)).is_some()
        };
        if due(&mut self.timers, Timer::Retry) {
            for (destination, way) in &self.ways {
                match way {
                    None => self.actions.push_back(Action::LookUp(*destination)),
                    Some(hop) if self.is_missing(*hop) => self.actions.push_back(Action::Probe(*hop)),
                    Some(_) => {}
                }
            }
        }
        if due(&mut self.timers, Timer::Confirm) {
            let unheard: Vec<IpAddr> = self.unheard().map(|(_, neighbour)| neighbour).collect();
            self.actions.extend(unheard.into_iter().map(Action::Confirm));
        }
        if due(&mut self.timers, Timer::Forget) {
            self.mtus.retain(|_, (_, until)| *until > now);
        }
    }

    fn set_timers(&mut self, now: Instant) {
        if self.ways.values().any(|way| way.is_none_or(|hop| self.is_missing(hop))) {
            self.timers.entry(Timer::Retry).or_insert(now + RETRY);
        }
        if self.unheard().next().is_some() {
            self.timers.entry(Timer::Confirm).or_insert(now + CONFIRM);
        }
        match self.mtus.values().map(|(_, until)| *until).min() {
            Some(until) => self.timers.insert(Timer::Forget, until),
            None => self.timers.remove(&Timer::Forget),
        };
    }

    fn is_used(&self, neighbour: IpAddr) -> bool {
        self.ways.values().flatten().any(|hop| *hop == neighbour)
    }

    /// Its address is not known, or it does not answer although a stack behind it is up.
    fn is_missing(&self, neighbour: IpAddr) -> bool {
        let is_up = |wanted: &&Wanted| wanted.state == StackState::Up;
        let hops = || self.wanted.iter().filter(is_up).filter_map(|wanted| self.way(wanted.address));
        !self.macs.contains_key(&neighbour)
            || (self.silent.contains(&neighbour) && hops().any(|hop| hop == neighbour))
    }

    fn way(&self, destination: IpAddr) -> Option<IpAddr> {
        self.ways.get(&destination).copied().flatten()
    }

    /// The hosts on the link of stacks that are not up, but for those that are known not to answer or that nobody asks.
    fn unheard(&self) -> impl Iterator<Item = (Wanted, IpAddr)> {
        let down = self.wanted.iter().filter(|wanted| wanted.state != StackState::Up);
        let on_link = down.filter(|wanted| self.way(wanted.address) == Some(wanted.address));
        let asked = on_link
            .filter(|wanted| !self.silent.contains(&wanted.address) && !self.fixed.contains(&wanted.address));
        asked.map(|wanted| (*wanted, wanted.address))
    }

    /// Every way to the stack ends at its own host on the link, and that does not answer.
    fn is_silent(&self, stack: StackIndex) -> bool {
        let addresses =
            self.wanted.iter().filter(|wanted| wanted.stack == stack).map(|wanted| wanted.address);
        let mut ways = addresses.filter_map(|address| Some((address, self.way(address)?))).peekable();
        ways.peek().is_some() && ways.all(|(address, hop)| hop == address && self.silent.contains(&hop))
    }

    fn publish(&mut self) {
        let (mut neighbours, mut silent) = (Neighbours::new(), BTreeSet::new());
        for Wanted { stack, address, state } in &self.wanted {
            if *state != StackState::Up && self.is_silent(*stack) {
                silent.insert(*stack);
            }
            let hop = self.way(*address);
            let hop = hop.filter(|hop| *state != StackState::Dead || !self.silent.contains(hop));
            if let Some(mac) = hop.and_then(|hop| self.macs.get(&hop)) {
                neighbours.set(*stack, family(*address), *mac);
            }
            if let Some((mtu, _)) = self.mtus.get(address) {
                neighbours.set_mtu(*stack, family(*address), *mtu);
            }
        }
        let known = Known { neighbours, silent: silent.into_iter().collect() };
        if known != self.published {
            self.published = known.clone();
            self.actions.push_back(Action::Publish(known));
        }
    }
}

fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

#[cfg(test)]
mod tests;
