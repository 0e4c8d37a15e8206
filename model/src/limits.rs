//! How many connections of a service may begin.

use std::fmt;
use std::num::NonZeroU32;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// So many a second on average, and so many at once after a while without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Encode, Decode)]
pub struct Rate {
    /// Connections a second.
    #[n(0)]
    pub per_s: NonZeroU32,
    /// Connections at once.
    #[n(1)]
    pub burst: NonZeroU32,
}

impl Rate {
    /// The highest rate that can be configured.
    pub const MAX: u32 = 10_000_000;
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} a second, {} at once", self.per_s, self.burst)
    }
}

/// What may begin of a service. Established connections are not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Encode, Decode)]
pub struct Limits {
    /// Of all clients together.
    #[n(0)]
    pub service: Option<Rate>,
    /// Of each client: an IPv4 address, or an IPv6 /64.
    #[n(1)]
    pub client: Option<Rate>,
}

impl Limits {
    /// No limit.
    pub const NONE: Self = Self { service: None, client: None };
}
