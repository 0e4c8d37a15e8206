//! Stacks: the hosts' protocol stacks that make up the cluster.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// The name of a stack, unique in the cluster and written in its certificate: 1 to 63 characters out of
/// `a`–`z`, `0`–`9` and `-`, not beginning or ending with `-` (an RFC 1123 label, so that it is also a DNS name).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StackName(String);

/// Why a text is not a stack name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a stack name: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end")]
pub struct BadStackName(pub String);

impl StackName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`BadStackName`] if it is not an RFC 1123 label in lower case.
    pub fn new(name: impl Into<String>) -> Result<Self, BadStackName> {
        let name = name.into();
        let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let ends = !name.starts_with('-') && !name.ends_with('-');
        if (1..=63).contains(&name.len()) && letters && ends {
            Ok(Self(name))
        } else {
            Err(BadStackName(name))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for StackName {
    type Err = BadStackName;
    fn from_str(s: &str) -> Result<Self, BadStackName> {
        Self::new(s)
    }
}

impl TryFrom<String> for StackName {
    type Error = BadStackName;
    fn try_from(s: String) -> Result<Self, BadStackName> {
        Self::new(s)
    }
}

impl From<StackName> for String {
    fn from(name: StackName) -> String {
        name.0
    }
}

/// The number of a stack in this node's tables: given again only when nothing names it any more, at most
/// [`StackIndex::MAX`], so that a CRT entry can name its owner in 14 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StackIndex(pub u16);

impl StackIndex {
    /// The largest index that a CRT entry can hold.
    pub const MAX: u16 = 16_383;
}

/// The address or addresses (at most one a family, at least one) of a stack inside the cluster: what forwarders
/// encapsulate to. The documents' XCF address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterAddress {
    /// Where the stack takes packets with an outer IPv4 header.
    pub v4: Option<Ipv4Addr>,
    /// Where the stack takes packets with an outer IPv6 header.
    pub v6: Option<Ipv6Addr>,
}

impl ClusterAddress {
    /// Collects at most one address a family.
    ///
    /// Returns `None` if there is none, or two of a family.
    pub fn from_addresses(addresses: &[IpAddr]) -> Option<Self> {
        let mut all = Self { v4: None, v6: None };
        for address in addresses {
            let taken = match address.to_canonical() {
                IpAddr::V4(a) => all.v4.replace(a).is_some(),
                IpAddr::V6(a) => all.v6.replace(a).is_some(),
            };
            if taken {
                return None;
            }
        }
        (all.v4.is_some() || all.v6.is_some()).then_some(all)
    }

    /// The addresses, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

impl fmt::Display for ClusterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, address) in self.iter().enumerate() {
            write!(f, "{}{address}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// The number of an ownership of a DVIPA, above those of all before it. Every message about a DVIPA names the epoch, and older ones are
/// void.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct Epoch(#[n(0)] pub u64);

/// A backup's rank, 1 to 254, higher first (the documents' VIPABACKUP).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Rank(u8);

impl Rank {
    /// The rank, if it is in 1..=254.
    pub fn new(rank: u8) -> Option<Self> {
        (1..=254).contains(&rank).then_some(Self(rank))
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}
