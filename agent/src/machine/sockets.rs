//! What sockets this host has: built from events, repaired from complete pictures.
//!
//! A socket is known by its cookie, which the kernel never gives twice. Events arrive in order but may be lost; a picture
//! (sock_diag) is complete but may be older than an event that has already been handled, and the kernel tells of an
//! end a moment before the picture shows it. So a picture changes nothing about a socket of which an event told
//! within [`RECENT`] before the look began, or later. What that leaves wrong, the next picture puts right.
//!
//! Whatever concerns all connections (a picture, a complete account, an address that is forgotten) is done in parts, in the order
//! of the cookies, and events come in between. So the tables are trees: they have an order that lasts, and grow by a leaf, not
//! by a copy of everything.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use model::{Connection, Protocol};

/// An event counts more than a picture for this long.
pub const RECENT: Duration = Duration::from_secs(1);
/// Recent events that are remembered; beyond it the oldest are forgotten early.
const RECENT_EVENTS: usize = 1 << 20;
/// Events that are not recent any more and are forgotten when another is noted.
const FORGOTTEN_AT_ONCE: usize = 8;

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
    /// TCP connections with a DVIPA as their local address, best in the order of the cookies: comparing them is a walk along what is
    /// known, and in any other order a million searches in memory that no cache has.
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

/// Where a walk over the connections is: behind this one; none: before the first.
pub(super) type Place = Option<Cookie>;

/// The known sockets.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    listeners: HashMap<Cookie, Listener>,
    connections: BTreeMap<Connection, Cookie>,
    cookies: BTreeMap<Cookie, Known>,
    /// How many connections each local address has.
    addresses: HashMap<IpAddr, usize>,
    /// Local addresses whose connections are being forgotten: none of these counts any more.
    forgotten: HashSet<IpAddr>,
    forgotten_to: Place,
    recent: Recent,
    /// The number of the last look that has begun.
    look: u32,
    correction: Option<Correction>,
}

/// A connection that is known.
#[derive(Clone, Copy, Debug)]
struct Known {
    connection: Connection,
    /// The last look that has seen it, or that it began after.
    seen: u32,
}

/// A picture that is being compared with what is known.
#[derive(Debug)]
struct Correction {
    scope: Scope,
    picture: Picture,
    /// How many of its connections have been taken in.
    taken: usize,
    /// Up to which connection it was looked whether it is in the picture.
    compared: Place,
}

impl Sockets {
    /// All listeners.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (Cookie, &Listener)> {
        self.listeners.iter().map(|(cookie, listener)| (*cookie, listener))
    }

    /// Those among the next `most` connections that count, and whether there are no more. A connection that is here all the while
    /// is in one part of a walk.
    pub(super) fn part(&self, at: &mut Place, most: usize) -> (Vec<Connection>, bool) {
        let mut part = Vec::with_capacity(most.min(self.cookies.len()));
        let mut left = most;
        for (cookie, known) in self.behind(*at).take(most) {
            (*at, left) = (Some(*cookie), left - 1);
            if self.counts(&known.connection) {
                part.push(known.connection);
            }
        }
        (part, left > 0)
    }

    /// The newest socket of a connection: later ones have higher cookies.
    pub(super) fn newest(&self) -> Option<Cookie> {
        self.cookies.keys().next_back().copied()
    }

    /// The local addresses that have connections.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.keys().copied().filter(|address| !self.forgotten.contains(address))
    }

    /// Whether this connection is here.
    pub(super) fn has(&self, connection: &Connection) -> bool {
        self.counts(connection) && self.connections.contains_key(connection)
    }

    /// How many connections there are.
    pub(super) fn connection_count(&self) -> usize {
        let forgotten = self.forgotten.iter().filter_map(|address| self.addresses.get(address));
        self.connections.len() - forgotten.sum::<usize>()
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

    /// Forgets the connections of a local address, without telling; [`Sockets::forget_some`] frees their places.
    pub(super) fn forget(&mut self, address: IpAddr) {
        if self.addresses.contains_key(&address) {
            self.forgotten.insert(address);
            self.forgotten_to = None;
        }
    }

    /// Connections of this local address count again, those included that are not forgotten yet.
    pub(super) fn remember(&mut self, address: IpAddr) {
        self.forgotten.remove(&address);
    }

    /// Looks at so many connections whether they are to be forgotten; `false`: none is.
    pub(super) fn forget_some(&mut self, most: usize) -> bool {
        if self.forgotten.is_empty() {
            return false;
        }
        let next: Vec<_> = self.behind(self.forgotten_to).take(most).map(|(c, known)| (*c, *known)).collect();
        let is_over = next.len() < most;
        for (cookie, known) in next {
            self.forgotten_to = Some(cookie);
            if !self.counts(&known.connection) {
                self.close(cookie);
            }
        }
        if is_over {
            self.forgotten.clear();
        }
        true
    }

    /// Whether some are still to be forgotten.
    pub(super) fn is_forgetting(&self) -> bool {
        !self.forgotten.is_empty()
    }

    /// A look begins; its picture comes with [`Sockets::correct`].
    pub(super) fn look_begins(&mut self, now: Instant) {
        self.recent.kept_from = Some(now);
        self.look = self.look.wrapping_add(1);
    }

    /// Makes the known listeners equal to the picture that the last look has brought; [`Sockets::correct_some`] does the connections.
    pub(super) fn correct(&mut self, scope: Scope, picture: Picture) -> Vec<Change> {
        let mut changes = Vec::new();
        let seen: HashSet<Cookie> = picture.listeners.iter().map(|(cookie, _)| *cookie).collect();
        for cookie in self.known_listeners(scope) {
            if !seen.contains(&cookie) && !self.recent.contains(cookie) {
                changes.extend(self.close(cookie));
            }
        }
        for &(cookie, listener) in &picture.listeners {
            if !self.recent.contains(cookie) && self.listeners.insert(cookie, listener) != Some(listener) {
                changes.push(Change::Listeners);
            }
        }
        self.correction = Some(Correction { scope, picture, taken: 0, compared: None });
        changes
    }

    /// Whether a picture is being compared.
    pub(super) fn is_correcting(&self) -> bool {
        self.correction.is_some()
    }

    /// Compares so many connections of the picture, and of those that are known, of which only these are wanted: what has changed, and
    /// the picture once all is compared.
    pub(super) fn correct_some(
        &mut self,
        most: usize,
        is_wanted: impl Fn(&Connection) -> bool,
    ) -> (Vec<Change>, Option<(Scope, Picture)>) {
        let (mut changes, mut left) = (Vec::new(), most);
        let Some(mut at) = self.correction.take() else { return (changes, None) };
        for &(cookie, connection) in at.picture.connections.iter().skip(at.taken).take(most) {
            (at.taken, left) = (at.taken + 1, left - 1);
            if is_wanted(&connection) && !self.recent.contains(cookie) {
                changes.extend(self.open(cookie, connection));
            }
        }
        if at.scope == Scope::All {
            let next: Vec<_> =
                self.behind(at.compared).take(left).map(|(c, known)| (*c, known.seen)).collect();
            left -= next.len();
            for (cookie, seen) in next {
                at.compared = Some(cookie);
                if seen != self.look && !self.recent.contains(cookie) {
                    changes.extend(self.close(cookie));
                }
            }
        }
        if left > 0 {
            self.recent.kept_from = None;
            return (changes, Some((at.scope, at.picture)));
        }
        self.correction = Some(at);
        (changes, None)
    }

    fn known_listeners(&self, scope: Scope) -> Vec<Cookie> {
        let in_scope = |cookie: Cookie, listener: &Listener| {
            scope == Scope::All || listener.protocol == Protocol::Udp || cookie.is_of_a_container()
        };
        self.listeners.iter().filter(|(c, l)| in_scope(**c, l)).map(|(c, _)| *c).collect()
    }

    fn behind(&self, at: Place) -> impl Iterator<Item = (&Cookie, &Known)> {
        self.cookies.range((at.map_or(Unbounded, Excluded), Unbounded))
    }

    /// Whether its local address is not being forgotten.
    fn counts(&self, connection: &Connection) -> bool {
        self.forgotten.is_empty() || !self.forgotten.contains(&connection.dvipa.ip())
    }

    fn open(&mut self, cookie: Cookie, connection: Connection) -> Option<Change> {
        if let Some(known) = self.cookies.get_mut(&cookie).filter(|known| known.connection == connection) {
            known.seen = self.look;
            return None;
        }
        match self.connections.insert(connection, cookie) {
            Some(former) => drop(self.cookies.remove(&former)),
            None => *self.addresses.entry(connection.dvipa.ip()).or_default() += 1,
        }
        self.cookies.insert(cookie, Known { connection, seen: self.look });
        Some(Change::Opened(connection))
    }

    fn close(&mut self, cookie: Cookie) -> Option<Change> {
        if self.listeners.remove(&cookie).is_some() {
            return Some(Change::Listeners);
        }
        let Known { connection, .. } = self.cookies.remove(&cookie)?;
        self.connections.remove(&connection);
        if let Some(count) = self.addresses.get_mut(&connection.dvipa.ip()) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&connection.dvipa.ip());
            }
        }
        Some(Change::Ended(connection))
    }
}

/// Which sockets an event told of lately: within [`RECENT`] before now, or before the look under way began.
#[derive(Debug, Default)]
struct Recent {
    kept_from: Option<Instant>,
    order: VecDeque<(Instant, Cookie)>,
    /// When an event told of it last, and how often it stands in the order.
    times: BTreeMap<Cookie, (Instant, u32)>,
}

impl Recent {
    fn note(&mut self, cookie: Cookie, now: Instant) {
        self.forget_before(self.kept_from.map_or(now, |began| began.min(now)));
        if self.order.len() == RECENT_EVENTS {
            self.forget_oldest();
        }
        self.order.push_back((now, cookie));
        let (last, times) = self.times.entry(cookie).or_insert((now, 0));
        (*last, *times) = (now, *times + 1);
    }

    fn contains(&self, cookie: Cookie) -> bool {
        let is_recent = |last: Instant| {
            self.kept_from.is_none_or(|began| began.saturating_duration_since(last) <= RECENT)
        };
        self.times.get(&cookie).is_some_and(|(last, _)| is_recent(*last))
    }

    /// Forgets what is older than [`RECENT`] at this time: some, since each event that is noted has some forgotten.
    fn forget_before(&mut self, time: Instant) {
        let is_old = |at: Instant| time.saturating_duration_since(at) > RECENT;
        for _ in 0..FORGOTTEN_AT_ONCE {
            if !self.order.front().is_some_and(|(at, _)| is_old(*at)) {
                break;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, cookie)) = self.order.pop_front() else { return };
        if let Some((_, times)) = self.times.get_mut(&cookie) {
            *times -= 1;
            if *times == 0 {
                self.times.remove(&cookie);
            }
        }
    }
}

#[cfg(test)]
mod tests;
