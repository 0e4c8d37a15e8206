//! Addresses that applications make DVIPAs (VIPARANGE, row W9): what routing stacks and stacks tell each other of them.
//!
//! An address is active at the stack of the latest *turn*. A stack takes the turn after the last that it has heard of when an
//! application binds to an address to which none was bound there, and has it for as long as that is so; an operator's order names
//! a turn itself. So every routing stack finds the same one out of what the stacks say, in whichever order it hears that.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::StackName;
use crate::codec::Address;

/// The most addresses of ranges that one stack is bound to, and that are active at a time.
pub const MAX_ADDRESSES: usize = 1024;

/// Of two stacks the one with the later turn has the address.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Turn(#[n(0)] pub u64);

impl Turn {
    /// The turn of an application that has been bound for longer than its agent runs.
    pub const EARLIEST: Self = Self(0);

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Routing stack → stack: the ranges, and where their addresses are active. Replaces what the sender said before as a whole.
/// Comes before the VIPA list that follows from it; a routing stack that has no ranges, and had none in the session, does not send it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Ranges {
    /// The ranges.
    #[n(0)]
    pub ranges: Vec<Range>,
    /// The active addresses.
    #[n(1)]
    pub active: Vec<Active>,
}

/// One VIPARANGE.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Range {
    /// Its first address.
    #[n(0)]
    pub network: Address,
    /// How many bits its addresses have in common.
    #[n(1)]
    pub prefix_bits: u8,
    /// Connections end when their address moves (MOVEABLE DISRUPTIVE).
    #[n(2)]
    pub disruptive: bool,
}

/// One active address.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Active {
    /// The address.
    #[n(0)]
    pub address: Address,
    /// Where.
    #[n(1)]
    pub stack: StackName,
    /// Since which turn.
    #[n(2)]
    pub turn: Turn,
    /// By an operator's order.
    #[n(3)]
    pub ordered: bool,
}

/// Stack → routing stack: the addresses of its ranges that the sender claims. Replaces what the sender said before as a whole; what it
/// said in a former session holds until then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Bound {
    /// The addresses, at most [`MAX_ADDRESSES`].
    #[n(0)]
    pub addresses: Vec<BoundAddress>,
}

/// One address that a stack claims.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BoundAddress {
    /// The address.
    #[n(0)]
    pub address: Address,
    /// Since which turn.
    #[n(1)]
    pub turn: Turn,
    /// An operator has ordered it there, whether or not an application is bound to it.
    #[n(2)]
    pub ordered: bool,
}

/// Routing stack → stack: an operator wants this address active at the receiver, or takes that back. The receiver says [`Bound`] then.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Activate {
    /// The address.
    #[n(0)]
    pub address: Address,
    /// The turn of the order: later than all that the sender has heard of.
    #[n(1)]
    pub turn: Turn,
    /// `false`: the order is taken back. Applications that are bound to it count on.
    #[n(2)]
    pub active: bool,
}
