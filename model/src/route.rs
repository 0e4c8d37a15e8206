//! Routes: which first requests of clients go to which stacks. What the configuration says, as data; `routes` makes of it what workers
//! ask.
//!
//! The words and the precedence are those of Gateway API's HTTPRoute.

use std::fmt;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::StackName;

/// The protocol that clients of a distributed port speak: how their first bytes are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum ClientProtocol {
    /// HTTP/1.0 and HTTP/1.1.
    #[default]
    #[n(0)]
    Http,
    /// TLS: its ClientHello.
    #[n(1)]
    Tls,
    /// PostgreSQL: its StartupMessage.
    #[n(2)]
    Postgresql,
    /// MQTT 3.1, 3.1.1 and 5: its CONNECT packet.
    #[n(3)]
    Mqtt,
    /// Redis: the first command.
    #[n(4)]
    Redis,
    /// Bytes of no known protocol.
    #[n(5)]
    Raw,
}

impl fmt::Display for ClientProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ClientProtocol::Http => "http",
            ClientProtocol::Tls => "tls",
            ClientProtocol::Postgresql => "postgresql",
            ClientProtocol::Mqtt => "mqtt",
            ClientProtocol::Redis => "redis",
            ClientProtocol::Raw => "raw",
        })
    }
}

/// All routes of a distributed port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct RouteSet {
    /// What clients speak.
    #[n(0)]
    pub protocol: ClientProtocol,
    /// The routes, in the order of the file, which decides between matches that are equally specific.
    #[n(1)]
    pub routes: Vec<Route>,
}

/// One route: requests to one of these host names that one of these matches describes go to these backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Route {
    /// Its name, shown where a connection's route is.
    #[n(0)]
    pub name: String,
    /// Host names (HTTP), or server names (TLS). A name that begins with `*.` stands for all names that end so. Empty: all.
    #[n(1)]
    pub hostnames: Vec<String>,
    /// One of these has to hold. Empty: every request.
    #[n(2)]
    pub matches: Vec<Match>,
    /// Where the requests go. Empty: to the targets of the distribution.
    #[n(3)]
    pub backends: Vec<Backend>,
}

/// What a request has to be like. All that is said has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Encode, Decode)]
pub struct Match {
    /// HTTP: the path. PostgreSQL: the database. MQTT: the client identifier. Redis: the key of the first command. For HTTP a
    /// [`Pattern::Prefix`] is one of whole path elements.
    #[n(0)]
    pub subject: Option<Pattern>,
    /// HTTP: the method.
    #[n(1)]
    pub method: Option<String>,
    /// HTTP: header lines.
    #[n(2)]
    pub headers: Vec<Named>,
    /// HTTP: query parameters.
    #[n(3)]
    pub query_params: Vec<Named>,
    /// TLS: an application protocol that the client offers.
    #[n(4)]
    pub alpn: Option<String>,
    /// PostgreSQL, MQTT: the user.
    #[n(5)]
    pub user: Option<Pattern>,
    /// Redis: the hash slot of the key.
    #[n(6)]
    pub slots: Option<Slots>,
    /// Raw: how the bytes begin.
    #[n(7)]
    pub bytes: Option<Vec<u8>>,
}

/// A text that a part of a request is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Encode, Decode)]
pub enum Pattern {
    /// It is this.
    #[n(0)]
    Exact(#[n(0)] String),
    /// It begins with this.
    #[n(1)]
    Prefix(#[n(0)] String),
    /// The regular expression matches it as a whole.
    #[n(2)]
    RegularExpression(#[n(0)] String),
}

/// A header or a query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Encode, Decode)]
pub struct Named {
    /// Its name; of headers without regard to case.
    #[n(0)]
    pub name: String,
    /// Its value.
    #[n(1)]
    pub value: Pattern,
}

/// Hash slots of a Redis cluster, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Encode, Decode)]
pub struct Slots {
    /// The first.
    #[n(0)]
    pub first: u16,
    /// The last, at most [`Slots::MAX`].
    #[n(1)]
    pub last: u16,
}

impl Slots {
    /// The largest slot.
    pub const MAX: u16 = 16_383;
}

/// Where requests of a route go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Backend {
    /// The stack.
    #[n(0)]
    pub stack: StackName,
    /// Its share of the route's requests relative to the other backends'; 0: none.
    #[n(1)]
    pub weight: u16,
}
