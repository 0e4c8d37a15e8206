//! What stacks tell each other while a connection moves.
//!
//! Three roles speak: the source's agent, the routing stack, the target's agent. Every message names the connection and
//! the epoch of its DVIPA; a message of another epoch than the present one is void. What each role does with them stands
//! in the crate `transfer`.

mod parcel;
mod reason;
#[cfg(test)]
mod tests;

use minicbor::{Decode, Encode};

pub use parcel::{
    Collector, MAX_APPLICATION_BYTES, MAX_PARTS, MAX_SOCKET_BYTES, PART_BYTES, Parcel, PartError, TooLarge,
};
pub use reason::{Reason, Why};

use crate::codec::{WireConnection, direction};
use crate::control_socket::JobName;
use crate::handoff::Token;
use crate::{Connection, Dvipa, Epoch, StackName};

/// One attempt to move one connection. Given by the routing stack and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct TransferId {
    /// The incarnation of the routing stack that gave it.
    #[n(0)]
    pub incarnation: u64,
    /// Counts up in that incarnation.
    #[n(1)]
    pub number: u64,
}

/// What a source's agent asked for. Given by that agent and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Request {
    /// The agent's incarnation.
    #[n(0)]
    pub incarnation: u64,
    /// Counts up in that incarnation.
    #[n(1)]
    pub number: u64,
}

/// The memory of a target host in which activations are noted. It outlives the agent's process but not the host: a run of the agent that
/// answers out of another ledger can't say what was noted in this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Ledger(#[n(0)] pub u64);

/// How the connection gets into the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Way {
    /// Restored with TCP_REPAIR and passed over the application's control socket.
    #[n(0)]
    Restore,
    /// Put into an unmodified listener by a packet that carries the handoff option.
    #[n(1)]
    Inject,
}

/// Whether the target application is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Consent {
    /// It accepts or rejects.
    #[n(0)]
    Asked,
    /// It is given the connection (giveconnection, takeconnection).
    #[n(1)]
    Presumed,
}

/// Whether the source still has the connection after the transfer's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Held {
    /// The transfer is not known (any more).
    #[n(0)]
    Unknown,
    /// It goes on at the source.
    #[n(1)]
    Here,
    /// It is at the source no longer.
    #[n(2)]
    Gone,
}

/// Which transfer of which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct About {
    /// The connection.
    #[n(0)]
    pub connection: WireConnection,
    /// The transfer.
    #[n(1)]
    pub transfer: TransferId,
    /// The epoch of the DVIPA's ownership.
    #[n(2)]
    pub epoch: Epoch,
}

/// Target → routing stack, when a session begins: what it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Abilities {
    /// Where it notes activations.
    #[n(0)]
    pub ledger: Ledger,
    /// Its kernel restores sockets (CONFIG_CHECKPOINT_RESTORE).
    #[n(1)]
    pub restores: bool,
    /// Its kernel creates connections from packets (`bpf_sk_assign_tcp_reqsk`).
    #[n(2)]
    pub injects: bool,
    /// Which run of its agent says this: only that one is permitted anything.
    #[n(3)]
    pub incarnation: u64,
}

/// Source → routing stack: may this connection move there?
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Prepare {
    /// The connection.
    #[n(0)]
    pub connection: WireConnection,
    /// The epoch of the DVIPA's ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// The source's name for what it asks.
    #[n(2)]
    pub request: Request,
    /// To which stack.
    #[n(3)]
    pub target: StackName,
    /// Whether its application is asked.
    #[n(4)]
    pub consent: Consent,
    /// How much application state comes along.
    #[n(5)]
    pub application_bytes: u32,
    /// The target application's job name, if one is meant.
    #[n(6)]
    pub job: Option<String>,
    /// The job name of the application that gives it, if one does.
    #[n(7)]
    pub giver: Option<JobName>,
}

/// Routing stack → source: no, and nothing has happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Refuse {
    /// The connection.
    #[n(0)]
    pub connection: WireConnection,
    /// The epoch of the DVIPA's ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// What was asked.
    #[n(2)]
    pub request: Request,
    /// Why not.
    #[n(3)]
    pub why: Why,
}

/// Routing stack → source: the target's application is being asked; send the [`State`](FromSource::State), if there is any,
/// and let the connection go on until [`Freeze`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Consult {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// What it answers.
    #[n(1)]
    pub request: Request,
}

/// Routing stack → source: the client's packets are held; freeze, dump, and send the [`Part`]s (again, if they were sent).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Freeze {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// What it answers.
    #[n(1)]
    pub request: Request,
    /// How the connection is to get into the target: decides what is dumped.
    #[n(2)]
    pub way: Way,
    /// The target's ledger.
    #[n(3)]
    pub ledger: Ledger,
}

/// Source → routing stack → target: a part of what moves (the documents' TRANSFER). See [`Parcel`]. What an application that is
/// asked is to read of its counterpart comes before, as a parcel without socket in parts of the same form
/// ([`FromSource::State`], [`ToTarget::State`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Part {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// Its place, from 0.
    #[n(1)]
    pub index: u16,
    /// How many there are.
    #[n(2)]
    pub of: u16,
    /// How many of all bytes are the dumped socket; the rest is application state.
    #[n(3)]
    pub socket_bytes: u32,
    /// The bytes.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// Source → routing stack: let the connection stay, if it still can.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Abandon {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// Why.
    #[n(1)]
    pub why: Why,
}

/// Source → routing stack: what has become of it? Repeated until there is an outcome.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Doubt {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// To which stack.
    #[n(1)]
    pub target: StackName,
    /// The target's ledger.
    #[n(2)]
    pub ledger: Ledger,
    /// The way into the target.
    #[n(3)]
    pub way: Way,
}

/// Routing stack → target: will you take this connection? If the application is asked, the state follows, and after
/// [`Agreed`] the [`Part`]s; otherwise the [`Part`]s. None of these permits anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Offer {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// From which stack.
    #[n(1)]
    pub source: StackName,
    /// The way in.
    #[n(2)]
    pub way: Way,
    /// Whether the application is asked.
    #[n(3)]
    pub consent: Consent,
    /// The target's ledger, as the routing stack knows it.
    #[n(4)]
    pub ledger: Ledger,
    /// The target application's job name, if one is meant.
    #[n(5)]
    pub job: Option<String>,
    /// How much application state comes along: without any the application can be asked at once.
    #[n(6)]
    pub application_bytes: u32,
    /// The run of the target's agent that is meant, and no other.
    #[n(7)]
    pub incarnation: u64,
    /// The job name of the application that gives it, if one does.
    #[n(8)]
    pub giver: Option<JobName>,
}

/// Target → routing stack: the application agrees ([`Way::Restore`]); the connection can be taken out of its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Agreed {
    /// Which transfer.
    #[n(0)]
    pub about: About,
}

/// Routing stack → target: activate as soon as you can ([`Way::Restore`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Commit {
    /// Which transfer.
    #[n(0)]
    pub about: About,
}

/// Target → routing stack: packets with the handoff option may come ([`Way::Inject`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Prepared {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// What the option has to have.
    #[n(1)]
    pub token: Token,
}

/// Routing stack → target: activate no more, and say whether you have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Abort {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// Why.
    #[n(1)]
    pub why: Why,
}

/// Target → routing stack: not activated, and never will be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Void {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// Out of which ledger this is said.
    #[n(1)]
    pub ledger: Ledger,
    /// Why.
    #[n(2)]
    pub why: Why,
}

/// Target → routing stack: activated; the connection is here. Repeated until [`Settled`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Active {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// From which stack.
    #[n(1)]
    pub source: StackName,
    /// Which way it got in.
    #[n(2)]
    pub way: Way,
}

/// Routing stack → source: the connection stays; thaw.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Aborted {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// Why.
    #[n(1)]
    pub why: Why,
    /// What the source had asked, should it not have heard Freeze; unknown to a routing stack that was not asked itself.
    #[n(2)]
    pub request: Option<Request>,
}

/// Routing stack → source: the connection has moved; discard silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Released {
    /// Which transfer.
    #[n(0)]
    pub about: About,
}

/// Routing stack → source: the target's host died with the outcome; nobody has the connection, discard silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Lost {
    /// Which transfer.
    #[n(0)]
    pub about: About,
}

/// Source → routing stack: the outcome is known here and done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Done {
    /// Which transfer.
    #[n(0)]
    pub about: About,
    /// Whether the connection is still there.
    #[n(1)]
    pub held: Held,
}

/// Routing stack → target: everybody knows; forget the note in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Settled {
    /// Which transfer.
    #[n(0)]
    pub about: About,
}

direction! {
    /// What a source is told.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[expect(missing_docs, reason = "each variant holds the message of its name")]
    pub enum ToSource {
        Refuse(Refuse) = 18 "Refuse",
        Freeze(Freeze) = 19 "Freeze",
        Aborted(Aborted) = 29 "Aborted",
        Released(Released) = 30 "Released",
        Lost(Lost) = 31 "Lost",
        Consult(Consult) = 35 "Consult",
    }
}

direction! {
    /// What a target is told.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[expect(missing_docs, reason = "each variant holds the message of its name, State a part of it")]
    pub enum ToTarget {
        Part(Part) = 20 "Part",
        Offer(Offer) = 23 "Offer",
        Commit(Commit) = 25 "Commit",
        Abort(Abort) = 26 "Abort",
        Settled(Settled) = 33 "Settled",
        State(Part) = 36 "State",
    }
}

direction! {
    /// What a source says.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[expect(missing_docs, reason = "each variant holds the message of its name, State a part of it")]
    pub enum FromSource {
        Prepare(Prepare) = 17 "Prepare",
        Part(Part) = 20 "Part",
        Abandon(Abandon) = 21 "Abandon",
        Doubt(Doubt) = 22 "Doubt",
        Done(Done) = 32 "Done",
        State(Part) = 36 "State",
    }
}

direction! {
    /// What a target says.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[expect(missing_docs, reason = "each variant holds the message of its name")]
    pub enum FromTarget {
        Prepared(Prepared) = 24 "Prepared",
        Void(Void) = 27 "Void",
        Active(Active) = 28 "Active",
        Agreed(Agreed) = 34 "Agreed",
    }
}

direction! {
    /// What a routing stack tells a host of its transfers.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum ToHost {
        ;
        /// As the connection's source.
        Source(ToSource),
        /// As its target.
        Target(ToTarget),
    }
}

direction! {
    /// What a host tells a routing stack of transfers.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum FromHost {
        /// Of none.
        Abilities(Abilities) = 16 "Abilities",
        ;
        /// As the connection's source.
        Source(FromSource),
        /// As its target.
        Target(FromTarget),
    }
}

impl std::fmt::Display for TransferId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.incarnation, self.number)
    }
}

impl Way {
    /// The word in displays and counters.
    pub fn word(self) -> &'static str {
        match self {
            Way::Restore => "restore",
            Way::Inject => "inject",
        }
    }
}

impl About {
    /// The DVIPA that the connection is to.
    pub fn dvipa(&self) -> Dvipa {
        self.connection.0.service().dvipa
    }
}

/// What messages are about. Those after the semicolon come before there is a transfer.
macro_rules! subject {
    ($($name:ident: $($variant:ident)+ $(; $early:ident)?,)+) => {
        $(impl $name {
            /// The connection and the epoch that it is about.
            pub fn subject(&self) -> (Connection, Epoch) {
                match self {
                    $(Self::$variant(m) => (m.about.connection.0, m.about.epoch),)+
                    $(Self::$early(m) => (m.connection.0, m.epoch),)?
                }
            }
        })+
    };
}

subject! {
    ToSource: Freeze Aborted Released Lost Consult; Refuse,
    ToTarget: Part Offer Commit Abort Settled State,
    FromSource: Part Abandon Doubt Done State; Prepare,
    FromTarget: Prepared Void Active Agreed,
}

impl FromSource {
    /// Which transfer it is about; `None`: it asks for one.
    pub fn about(&self) -> Option<&About> {
        match self {
            Self::Prepare(_) => None,
            Self::Part(m) | Self::State(m) => Some(&m.about),
            Self::Abandon(m) => Some(&m.about),
            Self::Doubt(m) => Some(&m.about),
            Self::Done(m) => Some(&m.about),
        }
    }
}

impl FromTarget {
    /// Which transfer it is about.
    pub fn about(&self) -> &About {
        match self {
            Self::Prepared(m) => &m.about,
            Self::Void(m) => &m.about,
            Self::Active(m) => &m.about,
            Self::Agreed(m) => &m.about,
        }
    }
}

impl ToHost {
    /// The connection and the epoch that it is about.
    pub fn subject(&self) -> (Connection, Epoch) {
        match self {
            Self::Source(m) => m.subject(),
            Self::Target(m) => m.subject(),
        }
    }
}
