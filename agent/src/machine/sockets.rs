//! What sockets this host has: built from events, repaired from complete pictures.
//!
//! A socket is known by its cookie, which the kernel never gives twice. Events arrive in order but may be lost; a picture
//! (sock_diag) is complete but may be older than an event that has already been handled, and the kernel tells of an
//! end a moment before the picture shows it. So a picture changes nothing about a socket of which an event told
//! within [`RECENT`] before the look began, or later. What that leaves wrong, the next picture puts right.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::{Connection, Protocol};

/// An event counts more than a picture for this long.
pub const RECENT: Duration = Duration::from_secs(1);
/// Recent events that are remembered; beyond it the oldest are forgotten early.
const RECENT_EVENTS: usize = 1 << 20;

/// The kernel's number of a socket, the same in BPF and in sock_diag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub u64);

impl Cookie {
    /// Where the bits begin that tell what stands for a container's socket: 2^48 sockets are more than a host opens.
    pub const OF_CONTAINERS: u32 = 48;

    /// Whether it stands for a container's socket.
    pub fn is_of_a_container(self) -> bool {
        self.0 >> Self::OF_CONTAINERS != 0
    }
}

/// The kernel's number of a network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ifindex(pub u32);

/// The local address of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// This one, canonical.
    Address(IpAddr),
    /// 0.0.0.0.
    AnyV4,
    /// `[::]`, IPv6 only.
    AnyV6,
    /// `[::]` that serves IPv4 too.
    AnyDual,
}

impl Bound {
    /// What a socket with this local address serves.
    pub fn new(address: IpAddr, v6only: bool) -> Self {
        match address {
            IpAddr::V6(a) if a.is_unspecified() && v6only => Bound::AnyV6,
            IpAddr::V6(a) if a.is_unspecified() => Bound::AnyDual,
            _ => match address.to_canonical() {
                IpAddr::V4(a) if a.is_unspecified() => Bound::AnyV4,
                address => Bound::Address(address),
            },
        }
    }
}

/// A listening socket: TCP in LISTEN, or UDP bound and not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its address.
    pub bound: Bound,
    /// Its port.
    pub port: u16,
    /// The only interface whose packets it takes (SO_BINDTODEVICE), if any.
    pub interface: Option<Ifindex>,
}

/// What a look covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Listeners whose ends are not told of: UDP's and containers'.
    Untold,
    /// All listeners and connections.
    All,
}

/// All sockets of a scope at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Listeners.
    pub listeners: Vec<(Cookie, Listener)>,
    /// TCP connections with a DVIPA as their local address.
    pub connections: Vec<(Cookie, Connection)>,
    /// UDP flows that reached this host lately, if they were asked for.
    pub flows: Vec<Connection>,
}

/// A change of the known sockets that others may have to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Some listener came or went.
    Listeners,
    /// A connection is here.
    Opened(Connection),
    /// A connection has ended.
    Ended(Connection),
}

/// The known sockets.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    listeners: HashMap<Cookie, Listener>,
    connections: HashMap<Connection, Cookie>,
    cookies: HashMap<Cookie, Connection>,
    recent: Recent,
}

impl Sockets {
    /// All listeners.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (Cookie, &Listener)> {
        self.listeners.iter().map(|(cookie, listener)| (*cookie, listener))
    }

    /// All connections.
    pub(super) fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.connections.keys()
    }

    /// Whether this connection is here.
    pub(super) fn has(&self, connection: &Connection) -> bool {
        self.connections.contains_key(connection)
    }

    /// How many connections there are.
    pub(super) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// A socket listens.
    pub(super) fn listening(&mut self, cookie: Cookie, listener: Listener, now: Instant) -> Option<Change> {
        self.recent.note(cookie, now);
        (self.listeners.insert(cookie, listener) != Some(listener)).then_some(Change::Listeners)
    }

    /// A connection is established.
    pub(super) fn established(
        &mut self,
        cookie: Cookie,
        connection: Connection,
        now: Instant,
    ) -> Option<Change> {
        self.recent.note(cookie, now);
        self.open(cookie, connection)
    }

    /// A socket no longer listens, or its connection has ended, or it is gone.
    pub(super) fn ended(&mut self, cookie: Cookie, now: Instant) -> Option<Change> {
        self.recent.note(cookie, now);
        self.close(cookie)
    }

    /// Forgets the connections of a local address, without telling.
    pub(super) fn forget(&mut self, address: IpAddr) {
        self.connections.retain(|connection, _| connection.dvipa.ip() != address);
        self.cookies.retain(|_, connection| connection.dvipa.ip() != address);
    }

    /// A look begins; its picture comes with [`Sockets::correct`].
    pub(super) fn look_begins(&mut self, now: Instant) {
        self.recent.forget_before(now);
        self.recent.kept_from = Some(now);
    }

    /// Makes what is known equal to the picture that the last look has brought.
    pub(super) fn correct(&mut self, scope: Scope, picture: &Picture) -> Vec<Change> {
        self.recent.kept_from = None;
        let mut changes = Vec::new();
        let seen =
            picture.listeners.iter().map(|(c, _)| *c).chain(picture.connections.iter().map(|(c, _)| *c));
        let seen: HashSet<Cookie> = seen.collect();
        for cookie in self.known(scope) {
            if !seen.contains(&cookie) && !self.recent.contains(cookie) {
                changes.extend(self.close(cookie));
            }
        }
        for &(cookie, listener) in &picture.listeners {
            if !self.recent.contains(cookie) && self.listeners.insert(cookie, listener) != Some(listener) {
                changes.push(Change::Listeners);
            }
        }
        for &(cookie, connection) in &picture.connections {
            if !self.recent.contains(cookie) {
                changes.extend(self.open(cookie, connection));
            }
        }
        changes
    }

    fn known(&self, scope: Scope) -> Vec<Cookie> {
        let in_scope = |cookie: Cookie, listener: &Listener| {
            scope == Scope::All || listener.protocol == Protocol::Udp || cookie.is_of_a_container()
        };
        let listeners = self.listeners.iter().filter(|(c, l)| in_scope(**c, l)).map(|(c, _)| *c);
        let connections = self.cookies.keys().copied().filter(|_| scope == Scope::All);
        listeners.chain(connections).collect()
    }

    fn open(&mut self, cookie: Cookie, connection: Connection) -> Option<Change> {
        match self.connections.insert(connection, cookie) {
            Some(same) if same == cookie => return None,
            Some(former) => drop(self.cookies.remove(&former)),
            None => {}
        }
        self.cookies.insert(cookie, connection);
        Some(Change::Opened(connection))
    }

    fn close(&mut self, cookie: Cookie) -> Option<Change> {
        if self.listeners.remove(&cookie).is_some() {
            return Some(Change::Listeners);
        }
        let connection = self.cookies.remove(&cookie)?;
        self.connections.remove(&connection);
        Some(Change::Ended(connection))
    }
}

/// Which sockets an event told of lately: within [`RECENT`] before now, or before the look under way began.
#[derive(Debug, Default)]
struct Recent {
    kept_from: Option<Instant>,
    order: VecDeque<(Instant, Cookie)>,
    times: HashMap<Cookie, u32>,
}

impl Recent {
    fn note(&mut self, cookie: Cookie, now: Instant) {
        self.forget_before(self.kept_from.map_or(now, |began| began.min(now)));
        if self.order.len() == RECENT_EVENTS {
            self.forget_oldest();
        }
        self.order.push_back((now, cookie));
        *self.times.entry(cookie).or_default() += 1;
    }

    fn contains(&self, cookie: Cookie) -> bool {
        self.times.contains_key(&cookie)
    }

    /// Forgets what is older than [`RECENT`] at this time.
    fn forget_before(&mut self, time: Instant) {
        while self.order.front().is_some_and(|(at, _)| time.saturating_duration_since(*at) > RECENT) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, cookie)) = self.order.pop_front() else { return };
        if let Some(times) = self.times.get_mut(&cookie) {
            *times -= 1;
            if *times == 0 {
                self.times.remove(&cookie);
            }
        }
    }
}

#[cfg(test)]
mod tests;
