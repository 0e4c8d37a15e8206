//! Token buckets: how often a worker may do what a stranger can make it do.
//!
//! Most of it has a limit for all together, and beyond that a small share for each that asks: each network (/24 of IPv4, /64 of
//! IPv6) or station. So a flood uses the limit up and its own share, and not those of others.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;

use crate::packet::Mac;
use crate::{Limits, Now};

/// So many actions a second, and up to a tenth of them at once. Owned by one worker.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// In thousandths: a rate a second fills as many of them a millisecond.
    level: u64,
    a_second: u64,
    filled: Now,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(a_second: u32) -> Self {
        let a_second = u64::from(a_second);
        Self { level: Self::capacity(a_second), a_second, filled: Now::default() }
    }

    fn capacity(a_second: u64) -> u64 {
        a_second.saturating_mul(100).max(1000)
    }

    /// Takes one token; `false` if there is none.
    pub(super) fn take(&mut self, now: Now) -> bool {
        let passed_ms = now.ms.saturating_sub(self.filled.ms);
        self.filled = now;
        let filled = self.level.saturating_add(passed_ms.saturating_mul(self.a_second));
        self.level = filled.min(Self::capacity(self.a_second));
        let rest = self.level.checked_sub(1000);
        self.level = rest.unwrap_or(self.level);
        rest.is_some()
    }
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Matter {
    /// An echo request to a DVIPA is answered.
    Echo,
    /// An ARP request or a solicitation for a DVIPA is answered.
    Neighbour,
    /// A packet of the segment's own goes to the node's kernel: ARP, neighbour discovery.
    Link,
    /// A packet of a session of the node with another stack or router goes to its kernel.
    Session,
    /// Any other packet goes to the node's kernel.
    Other,
    /// A connection or flow begins.
    Opening,
}

/// Who has the worker do it, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asker(u64);

impl Asker {
    /// One host.
    pub(super) fn host(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => Self(a.to_bits().into()),
            IpAddr::V6(a) => Self((a.to_bits() >> 64) as u64 ^ a.to_bits() as u64),
        }
    }
}

impl From<IpAddr> for Asker {
    /// The network of a host that may have any address of it.
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => Self((a.to_bits() >> 8).into()),
            IpAddr::V6(a) => Self((a.to_bits() >> 64) as u64),
        }
    }
}

impl From<Mac> for Asker {
    fn from(mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

/// All the limits of one worker. Their memory is taken at the start.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// Errors and refusals: for all together only.
    pub(super) answers: Bucket,
    echoes: Bucket,
    neighbours: Bucket,
    links: Bucket,
    sessions: Bucket,
    others: Bucket,
    /// Places that askers share by chance.
    shares: Box<[Bucket]>,
    /// The same for those who begin connections.
    openings: Box<[Bucket]>,
    hasher: RandomState,
    /// The worker receives more than it can handle: each network that begins connections has its share of it.
    pressed: bool,
}

impl Budgets {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            answers: Bucket::new(limits.answers_a_second),
            echoes: Bucket::new(limits.echoes_a_second),
            neighbours: Bucket::new(limits.neighbours_a_second),
            links: Bucket::new(limits.own_a_second),
            sessions: Bucket::new(limits.own_a_second),
            others: Bucket::new(limits.passed_a_second),
            shares: vec![Bucket::new(limits.share_a_second); limits.shares.max(1)].into(),
            openings: vec![Bucket::new(limits.opening_share_a_second); limits.shares.max(1)].into(),
            hasher: RandomState::new(),
            pressed: false,
        }
    }

    /// Says whether the worker receives more than it can handle.
    pub(super) fn set_pressed(&mut self, pressed: bool) {
        self.pressed = pressed;
    }

    /// Whether it may be done now, for this asker.
    pub(super) fn take(&mut self, matter: Matter, asker: impl Into<Asker>, now: Now) -> bool {
        let for_all = match matter {
            Matter::Echo => self.echoes.take(now),
            Matter::Neighbour => self.neighbours.take(now),
            Matter::Link => self.links.take(now),
            Matter::Session => self.sessions.take(now),
            Matter::Other => self.others.take(now),
            Matter::Opening => !self.pressed,
        };
        for_all || self.share(matter, asker.into()).is_some_and(|share| share.take(now))
    }

    fn share(&mut self, matter: Matter, asker: Asker) -> Option<&mut Bucket> {
        let at = self.hasher.hash_one((matter, asker)).checked_rem(self.shares.len() as u64)?;
        let shares = if matter == Matter::Opening { &mut self.openings } else { &mut self.shares };
        shares.get_mut(at as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_its_rate_and_no_more_than_a_tenth_at_once() {
        let mut bucket = Bucket::new(2000);
        let mut taken = |ms| (0..1000).filter(|_| bucket.take(Now { ms })).count();
        assert_eq!(
            (taken(10_000), taken(10_000), taken(10_001), taken(10_050), taken(99_999)),
            (200, 0, 2, 98, 200)
        );
    }

    #[test]
    fn who_asks_too_often_takes_nothing_of_others() {
        let limits = Limits { echoes_a_second: 100, share_a_second: 50, ..Limits::default() };
        let mut budgets = Budgets::new(limits);
        let mut taken = |address: &str, ms| {
            let asker: IpAddr = address.parse().unwrap();
            (0..1000).filter(|_| budgets.take(Matter::Echo, asker, Now { ms })).count()
        };
        assert_eq!(taken("198.19.0.1", 1000), 10 + 5, "the limit and its share");
        assert_eq!(taken("198.19.0.2", 1000), 0, "of the same network");
        assert_eq!((taken("198.18.0.2", 1000), taken("2001:db8::1", 1000)), (5, 5));
        assert_eq!((taken("198.19.0.1", 1100), taken("198.18.0.2", 1100)), (10 + 5, 5));
    }
}
