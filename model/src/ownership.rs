//! What routing stacks and witnesses tell each other about the ownership of DVIPAs. What each does with it stands in the crate
//! `ownership`.

use minicbor::{Decode, Encode};

use crate::codec::{Address, direction};
use crate::{Epoch, StackName};

direction! {
    /// What a witness is told.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[expect(missing_docs, reason = "each variant holds the message of its name")]
    pub enum ToWitness {
        Claims(Claims) = 64 "Claims",
        Renew(Renew) = 65 "Renew",
    }
}

direction! {
    /// What a witness says.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[expect(missing_docs, reason = "each variant holds the message of its name")]
    pub enum FromWitness {
        Granted(Granted) = 66 "Granted",
        Unleased(Unleased) = 67 "Unleased",
    }
}

/// The number of something that a run of a routing stack asks a witness. It counts up in that run, over all witnesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Ask(#[n(0)] pub u64);

/// Routing stack → witness: all the DVIPAs that it owns or wants to own. Replaces its former list as a whole, so that what is not
/// named any more is released; and renews its lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Claims {
    /// Which run of the routing stack asks (its incarnation).
    #[n(0)]
    pub run: u64,
    /// The number of this; the list is known by it.
    #[n(1)]
    pub ask: Ask,
    /// For how long it asks to be leased to from each ask on, in milliseconds.
    #[n(2)]
    pub lease_ms: u32,
    /// The DVIPAs.
    #[n(3)]
    pub claims: Vec<Claim>,
}

/// One DVIPA that a routing stack owns or wants to own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Claim {
    /// The DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// In which epoch.
    #[n(1)]
    pub epoch: Epoch,
    /// It owns the DVIPA in this epoch, by other witnesses, and asks this one to join them.
    #[n(2)]
    pub owned: bool,
}

/// Routing stack → witness: the lease is to be renewed, the list is as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Renew {
    /// Which run of the routing stack asks.
    #[n(0)]
    pub run: u64,
    /// The number of this.
    #[n(1)]
    pub ask: Ask,
    /// [`Claims::ask`] of the list.
    #[n(2)]
    pub list: Ask,
}

/// Witness → routing stack: it is leased to, and all of its list is granted but what is named here. Said again, with the number of the
/// last ask, when more of the list is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Granted {
    /// Which run of the routing stack is answered.
    #[n(0)]
    pub run: u64,
    /// What it answers.
    #[n(1)]
    pub ask: Ask,
    /// [`Claims::ask`] of the list that this is about.
    #[n(2)]
    pub list: Ask,
    /// What of the list is not granted.
    #[n(3)]
    pub without: Vec<Withheld>,
}

/// A claim that is not granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Withheld {
    /// The DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// The highest epoch that the witness knows of it.
    #[n(1)]
    pub highest: Epoch,
    /// Who has the witness's grant. It is the claimant's when this one ends. `None`: the claim's epoch is not above `highest`.
    #[n(2)]
    pub holder: Option<StackName>,
}

/// Witness → routing stack: it is not leased to. The witness began anew, or waits, or the lease has lapsed, or the list is not known: it
/// has to claim again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Unleased {
    /// Which run of the routing stack is answered.
    #[n(0)]
    pub run: u64,
    /// What it answers.
    #[n(1)]
    pub ask: Ask,
    /// For how long the witness leases to no run but the former one, or to none, in milliseconds.
    #[n(2)]
    pub wait_ms: u32,
}
