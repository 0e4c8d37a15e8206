//! Connections, as the CRT knows them.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{Dvipa, Protocol, Service};

/// One connection of a client with a DVIPA. Both addresses are of one family and canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The client's address and port (the remote end, also of a connection that a target opened itself).
    pub client: SocketAddr,
    /// The DVIPA and its port.
    pub dvipa: SocketAddr,
}

impl Connection {
    /// A connection with canonical addresses; `None` if the families differ.
    pub fn new(protocol: Protocol, client: SocketAddr, dvipa: SocketAddr) -> Option<Self> {
        let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
        let (client, dvipa) = (canonical(client), canonical(dvipa));
        (client.is_ipv4() == dvipa.is_ipv4()).then_some(Self { protocol, client, dvipa })
    }

    /// What the client connected to.
    pub fn service(&self) -> Service {
        Service { dvipa: Dvipa::new(self.dvipa.ip()), port: self.dvipa.port(), protocol: self.protocol }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.protocol, self.client, self.dvipa)
    }
}
