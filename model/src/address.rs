//! DVIPAs, transport protocols, and the services that are distributed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// A dynamic virtual IP address: it belongs to applications, not to an adapter, and one routing stack owns it at a
/// time. IPv4-mapped IPv6 addresses are never stored: [`Dvipa::new`] writes them as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dvipa(IpAddr);

impl Dvipa {
    /// The DVIPA with this address in canonical form.
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// The address that clients use.
    pub fn address(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for Dvipa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<IpAddr> for Dvipa {
    fn from(address: IpAddr) -> Self {
        Self::new(address)
    }
}

/// The number of a DVIPA in this node's tables: given again only when nothing names it any more, at most
/// [`DvipaIndex::MAX`], so that a CRT entry can name its DVIPA in 12 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DvipaIndex(pub u16);

impl DvipaIndex {
    /// The largest index that a CRT entry can hold.
    pub const MAX: u16 = 4095;
}

/// A transport protocol that is distributed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    #[n(6)]
    Tcp,
    /// RFC 768.
    #[n(17)]
    Udp,
}

impl Protocol {
    /// The number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// What a client connects to: a DVIPA, a port and a protocol. The key of the DPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Service {
    /// The address.
    pub dvipa: Dvipa,
    /// The port, host order.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.dvipa.address(), self.port), self.protocol)
    }
}
