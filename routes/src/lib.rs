//! Which route takes a client's first request.
//!
//! [`Routes`] are made once from what the configuration says ([`model::route`]) and never change, so that workers share them.
//! [`Routes::read`] takes the first bytes of a client's connection and says which route they belong to, that they are not whole
//! yet, or why they are refused. It makes no allocation, lock, system call or panic, and looks at each byte a few times at most.
//!
//! In reading order: [`request`] (what is read of a request), the readers ([`http`] with [`plain`] and [`framing`], [`tls`], [`postgresql`],
//! [`mqtt`], [`redis`], [`raw`]), [`table`] (host → path → candidates), [`conditions`] (the rest of a match) with [`pattern`],
//! [`compile`] (definitions → tables) with
//! [`check`] and [`mistake`], [`refusal`] (what a refused client is told); [`spell`] makes first bytes.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::arithmetic_side_effects
    )
)]

mod check;
mod compile;
mod conditions;
mod cursor;
mod framing;
mod host;
mod http;
mod mistake;
mod mqtt;
mod pattern;
mod plain;
mod postgresql;
mod raw;
mod redis;
mod refusal;
mod request;
pub mod spell;
mod table;
mod tls;

pub use compile::{MAX_ENTRIES, MAX_REGEXES, MAX_ROUTES, MAX_TEXT};
pub use mistake::{Mistake, Place};
pub use model::route::{Backend, ClientProtocol};
pub use refusal::Refusal;

use request::{Alpn, Request};
use table::{Found, Tables};

/// The number of a route: its place in the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u16);

/// The routes of a distributed port, ready to be asked.
#[derive(Debug)]
pub struct Routes {
    protocol: ClientProtocol,
    names: Box<[Box<str>]>,
    backends: Box<[Box<[Backend]>]>,
    tables: Tables,
    alpn: Alpn,
    /// Sorted: what raw bytes may begin with.
    prefixes: Box<[Box<[u8]>]>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A request that a route takes.
    Whole(Decision),
    /// The beginning of a request. The caller limits for how many bytes it waits.
    NeedsMore,
    /// A request that is not served.
    Refused(Refusal),
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The route that takes it.
    pub route: RouteId,
    /// What follows it.
    pub framing: Framing,
}

/// Where the request ends, if that is beyond doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes, its head included, the next request begins.
    Ends {
        /// From the first byte that was read.
        request_bytes: u32,
    },
    /// All that follows belongs to the same target.
    Pinned(Pin),
}

/// Why a connection stays with the target of its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pin {
    /// The protocol's unit is the connection: TLS, PostgreSQL, MQTT, Redis, raw bytes.
    Connection,
    /// The client asked for encryption or to cancel a query, of which nothing can be read (PostgreSQL).
    Unreadable,
    /// The content has a transfer coding, and so ends where only its reader knows.
    TransferCoding,
    /// The content is longer than can be counted here.
    LongContent,
    /// Content with a method that gives it no meaning, so that a server may take it for the next request.
    UnexpectedContent,
    /// The client waits to be told to send its content, and may not send it.
    Expectation,
    /// A tunnel begins.
    Connect,
    /// Another protocol may begin.
    Upgrade,
    /// The connection ends with the answer.
    Closes,
    /// HTTP/1.0, whose persistent connections are not standardised.
    Version10,
    /// A header or an empty line of which servers may think differently.
    Doubtful,
}

impl Pin {
    /// The reason as one clause.
    pub fn sentence(self) -> &'static str {
        match self {
            Pin::Connection => "the protocol is routed by connection",
            Pin::Unreadable => "the client asked for encryption, or to cancel a query",
            Pin::TransferCoding => "the content has a transfer coding",
            Pin::LongContent => "the content is longer than can be counted here",
            Pin::UnexpectedContent => "the method gives content no meaning",
            Pin::Expectation => "the client waits to be told to send its content",
            Pin::Connect => "a tunnel begins",
            Pin::Upgrade => "another protocol may begin",
            Pin::Closes => "the connection ends with the answer",
            Pin::Version10 => "the request is HTTP/1.0",
            Pin::Doubtful => "servers may read a header or an empty line of it differently",
        }
    }
}

/// Which match takes a request, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What a worker does.
    pub read: Read,
    /// The route's host name and match that hold, by place in the definition.
    pub place: Option<MatchPlace>,
}

/// A host name and a match of a route, by place in the definition. `None`: the route has none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchPlace {
    /// The route.
    pub route: RouteId,
    /// The place in its host names.
    pub hostname: Option<u32>,
    /// The place in its matches.
    pub matching: Option<u32>,
}

impl Routes {
    /// What becomes of a connection that begins with these bytes.
    #[inline]
    pub fn read(&self, bytes: &[u8]) -> Read {
        self.explain(bytes).read
    }

    /// What [`Self::read`] says, without its short way for what most clients write: for tests, which compare.
    #[doc(hidden)]
    pub fn read_the_long_way(&self, bytes: &[u8]) -> Read {
        match self.protocol {
            ClientProtocol::Http => http::read_any(self, bytes).read,
            _ => self.read(bytes),
        }
    }

    /// What becomes of a connection that begins with these bytes, and which match says so.
    pub fn explain(&self, bytes: &[u8]) -> Explained {
        match self.protocol {
            ClientProtocol::Http => http::read(self, bytes),
            ClientProtocol::Tls => tls::read(self, bytes),
            ClientProtocol::Postgresql => postgresql::read(self, bytes),
            ClientProtocol::Mqtt => mqtt::read(self, bytes),
            ClientProtocol::Redis => redis::read(self, bytes),
            ClientProtocol::Raw => raw::read(self, bytes),
        }
    }

    /// The first match that holds for a request.
    fn decide(&self, request: &Request<'_>, framing: Framing) -> Explained {
        match self.tables.find(request) {
            Found::Match(place) => {
                let read = Read::Whole(Decision { route: place.route, framing });
                Explained { read, place: Some(place) }
            }
            Found::NoHost => Explained::refused(Refusal::Misdirected),
            Found::NoMatch => Explained::refused(Refusal::NotFound),
        }
    }

    /// What clients speak.
    pub fn protocol(&self) -> ClientProtocol {
        self.protocol
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Where requests of a route go. Empty: to the targets of the distribution.
    pub fn backends(&self, route: RouteId) -> &[Backend] {
        self.backends.get(usize::from(route.0)).map_or(&[], |backends| backends)
    }

    /// The name of a route.
    pub fn name(&self, route: RouteId) -> &str {
        self.names.get(usize::from(route.0)).map_or("", |name| name)
    }

    /// What a refused client is told, in the version of the protocol that its request has.
    pub fn answer(&self, refusal: Refusal, request: &[u8]) -> &'static [u8] {
        match self.protocol {
            ClientProtocol::Mqtt if mqtt::is_version_5(request) => refusal.mqtt_5(),
            protocol => refusal.answer(protocol),
        }
    }
}

impl Explained {
    fn refused(refusal: Refusal) -> Self {
        Self { read: Read::Refused(refusal), place: None }
    }

    const NEEDS_MORE: Self = Self { read: Read::NeedsMore, place: None };
}

#[cfg(test)]
mod tests;
