//! A connection whose DVIPA is known, whatever its family.

use std::net::{IpAddr, SocketAddr};

use model::{DvipaIndex, Protocol, StackIndex};

use super::bucket::Budgets;
use super::fate::Fate;
use super::{Context, parse, select};
use crate::Reason;
use crate::crt::{Crt, Entry, KeyParts, KeyV4, KeyV6, Now, Refused};

/// Both ends of a connection whose DVIPA is known, for keys of either family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The client.
    pub(crate) client: SocketAddr,
    /// The DVIPA's index.
    pub(crate) dvipa: DvipaIndex,
    /// The DVIPA's port.
    pub(crate) port: u16,
    /// TCP or UDP.
    pub(crate) protocol: Protocol,
}

/// A key of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnyKey {
    /// Of an IPv4 connection.
    V4(KeyV4),
    /// Of an IPv6 connection.
    V6(KeyV6),
}

/// A connection, and where it is in the tables of what a worker knows of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// Which.
    pub(crate) key: AnyKey,
    /// The CRT's hash of the key, so that nobody can choose connections that meet in one place.
    pub(crate) hash: u64,
}

impl At {
    /// One of so many groups of places.
    #[inline]
    pub(crate) fn group(self, groups: usize) -> usize {
        (u64::from(self.hash as u32).wrapping_mul(groups as u64) >> 32) as usize
    }

    /// What a taken place is told by before its key is looked at; never 0.
    #[inline]
    pub(crate) fn tag(self) -> u32 {
        (self.hash >> 32) as u32 | 1
    }
}

impl Ends {
    /// What the CRT calls the connection.
    pub(crate) fn key(self) -> AnyKey {
        let Self { client, dvipa, port, protocol } = self;
        match client.ip() {
            IpAddr::V4(a) => AnyKey::V4(KeyV4::new(a, client.port(), dvipa, port, protocol)),
            IpAddr::V6(a) => AnyKey::V6(KeyV6::new(a, client.port(), dvipa, port, protocol)),
        }
    }

    /// The flow's hash, equal for a connection's packets and for ICMP errors about them.
    pub(crate) fn hash(self) -> u16 {
        let ports = u32::from(self.client.port()) << 16 | u32::from(self.port);
        match self.client.ip() {
            IpAddr::V4(a) => parse::flow_hash(a.to_bits(), ports),
            IpAddr::V6(a) => parse::flow_hash_v6(a.to_bits(), ports),
        }
    }
}

impl From<AnyKey> for KeyParts {
    fn from(key: AnyKey) -> Self {
        match key {
            AnyKey::V4(key) => key.into(),
            AnyKey::V6(key) => key.into(),
        }
    }
}

impl From<KeyParts> for AnyKey {
    fn from(KeyParts { client, dvipa, dvipa_port, protocol }: KeyParts) -> Self {
        Ends { client, dvipa, port: dvipa_port, protocol }.key()
    }
}

impl AnyKey {
    /// Where it is in a worker's own tables.
    #[inline]
    pub(crate) fn at(self, crt: &Crt) -> At {
        let hash = match self {
            AnyKey::V4(key) => crt.number(key),
            AnyKey::V6(key) => crt.number(key),
        };
        At { key: self, hash }
    }

    /// [`Crt::get`] for either family.
    pub fn entry(self, crt: &Crt, now: Now) -> Option<Entry> {
        match self {
            AnyKey::V4(key) => crt.get(key, now),
            AnyKey::V6(key) => crt.get(key, now),
        }
    }

    /// [`Crt::terminate`] for either family.
    pub fn terminate(self, crt: &Crt, owner: StackIndex, now: Now) -> bool {
        match self {
            AnyKey::V4(key) => crt.terminate(key, owner, now),
            AnyKey::V6(key) => crt.terminate(key, owner, now),
        }
    }

    /// [`Crt::bury`] for either family.
    pub fn bury(self, crt: &Crt, owner: StackIndex, now: Now) -> bool {
        match self {
            AnyKey::V4(key) => crt.bury(key, owner, now),
            AnyKey::V6(key) => crt.bury(key, owner, now),
        }
    }

    /// [`Crt::insert_flow`] for either family, where nobody is known to have had the flow.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn insert_flow(self, crt: &Crt, owner: StackIndex, now: Now) -> Result<Entry, Refused> {
        match self {
            AnyKey::V4(key) => crt.insert_flow(key, owner, None, now),
            AnyKey::V6(key) => crt.insert_flow(key, owner, None, now),
        }
    }

    /// What the CRT knows of it.
    pub(crate) fn get(self, cx: &Context<'_>) -> Option<Entry> {
        self.entry(cx.crt, cx.now)
    }

    /// [`select::decide`] for either family.
    pub(crate) fn fate(self, (opens, udp): (bool, bool), cx: &Context<'_>, budgets: &mut Budgets) -> Fate {
        match self {
            AnyKey::V4(key) => select::decide(cx.crt.place(key), None, (opens, udp), cx, budgets),
            AnyKey::V6(key) => select::decide(cx.crt.place(key), None, (opens, udp), cx, budgets),
        }
    }

    /// [`Crt::promote`] for either family. `false`: not now.
    pub(crate) fn promote(self, owner: StackIndex, cx: &Context<'_>) -> bool {
        match self {
            AnyKey::V4(key) => cx.crt.promote(key, owner, cx.now).is_ok(),
            AnyKey::V6(key) => cx.crt.promote(key, owner, cx.now).is_ok(),
        }
    }

    /// [`select::enter`] for either family.
    pub(crate) fn insert(self, stack: StackIndex, cx: &Context<'_>) -> Result<Entry, Reason> {
        match self {
            AnyKey::V4(key) => select::enter(cx.crt.place(key), stack, None, cx),
            AnyKey::V6(key) => select::enter(cx.crt.place(key), stack, None, cx),
        }
    }
}
