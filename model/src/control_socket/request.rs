//! What an application asks of its stack's agent.

use minicbor::{Decode, Encode};

use super::notification::By;
use super::{JobName, OfferId, RequestId, Target, messages};
use crate::codec::{Address, WireConnection};

messages! {
    /// A message from an application. Number 4 was `Take`: given connections are passed without being asked for now.
    Request {
        /// With the listening socket that is to take the application's clients, if it names one. Answered by `Registered`,
        /// `Waiting` (and `Registered` later), or `Failed`.
        1 => Register,
        /// Answered by `Targets`, now and at each change, or `Failed`.
        2 => Subscribe,
        /// With the connection and, if there is one, its application state. Answered by `Transferred` or `Failed`.
        3 => Transfer,
        /// Answered by `Arriving` and `Connection`, or `Withdrawn` if the transfer has failed meanwhile.
        5 => Accept,
        /// Not answered.
        6 => Reject,
        /// With the connection. Answered as `Transfer`.
        7 => Resume,
        /// With the connection. Answered by `Claimed` or `Failed`.
        8 => Claim,
        /// Not answered.
        9 => Taken,
        /// Not answered.
        10 => TakesOffers,
        /// Answered by `Said` or `Failed`.
        11 => Say,
        /// Answered by `Chosen` or `Failed`.
        12 => Choose,
        /// Answered by `Views` or `Failed`.
        13 => View,
    }
}

/// What an application does for a DVIPA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Role {
    /// It talks to clients first and decides where each connection goes: on the stack that owns the DVIPA.
    #[n(0)]
    Routing,
    /// Connections are transferred to it.
    #[n(1)]
    Target,
}

/// Makes the application known.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Register {
    /// Also names the registration.
    #[n(0)]
    pub request: RequestId,
    /// As what.
    #[n(1)]
    pub role: Role,
    /// Under which name.
    #[n(2)]
    pub job: JobName,
    /// For which address.
    #[n(3)]
    pub dvipa: Address,
    /// For which TCP ports of it: at least one, at most [`MAX_PORTS`](super::MAX_PORTS).
    #[n(4)]
    pub ports: Vec<u16>,
    /// A target only: its listener gets no new connections, it serves only those that are transferred to it.
    #[n(5)]
    pub hold_accepts: bool,
    /// The application will look at offers and given connections. If not, there are none until `TakesOffers`; applications of versions
    /// that do not say it take them.
    #[n(6)]
    pub takes_offers: Option<bool>,
}

/// Asks which targets there are for a service that the application has registered for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Subscribe {
    /// Each `Targets` names it.
    #[n(0)]
    pub request: RequestId,
    /// The DVIPA.
    #[n(1)]
    pub dvipa: Address,
    /// The port.
    #[n(2)]
    pub port: u16,
}

/// Asks that a connection be moved.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Transfer {
    /// The answer names it.
    #[n(0)]
    pub request: RequestId,
    /// Where to. `None`: its transaction is complete, and it goes to the routing application of its DVIPA and port,
    /// which decides what comes next.
    #[n(1)]
    pub to: Option<Target>,
    /// Whether the target is asked.
    #[n(2)]
    pub consent: Consent,
    /// What to do about bytes that the client has not acknowledged.
    #[n(3)]
    pub unacknowledged: Unacknowledged,
    /// The last bytes that the application has read from the connection, to be read once more by the next application: at most
    /// [`MAX_GIVEN_BACK_BYTES`](super::MAX_GIVEN_BACK_BYTES).
    #[cbor(n(4), with = "minicbor::bytes")]
    pub given_back: Option<Vec<u8>>,
}

/// Whether the target application is asked before a connection is moved to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Consent {
    /// It accepts or rejects.
    #[default]
    #[n(0)]
    Asked,
    /// It is not asked and takes the connection when it likes (giveconnection and takeconnection).
    #[n(1)]
    Presumed,
}

/// What to do about bytes that were sent and that the client has not acknowledged yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Unacknowledged {
    /// The transfer is refused.
    #[default]
    #[n(0)]
    Refuse,
    /// The transfer waits for the acknowledgement this long, and is refused then.
    #[n(1)]
    Wait(#[n(0)] Milliseconds),
    /// They move too: the target's kernel sends them again.
    #[n(2)]
    Carry,
}

/// A duration on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Milliseconds(#[n(0)] pub u32);

/// Asks whether a connection is the application's, whose agent ended after `Arriving`: or says, of one that it was given and has
/// not taken, that it waits here. If it is not the application's, its socket is dead.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claim {
    /// The answer names it.
    #[n(0)]
    pub request: RequestId,
    /// It was given without asking, and is still to be taken.
    #[n(1)]
    pub given: bool,
}

/// A given connection was taken: from now on it does not expire.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Taken {
    /// Which.
    #[n(0)]
    pub by: By,
}

/// From now on the application looks at offers and given connections.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TakesOffers {
    /// The registration.
    #[n(0)]
    pub request: RequestId,
}

/// Says something to another application of a service that both have registered for. It comes to it at most once, and is
/// lost if that application, or a stack between the two, has ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Say {
    /// The answer names it.
    #[n(0)]
    pub request: RequestId,
    /// The DVIPA.
    #[n(1)]
    pub dvipa: Address,
    /// The port.
    #[n(2)]
    pub port: u16,
    /// To whom.
    #[n(3)]
    pub to: Target,
    /// The connection that it is about, if it is about one: of several processes it comes to the one that has been
    /// transferred that.
    #[n(4)]
    pub about: Option<WireConnection>,
    /// What: at most [`MAX_SAID_BYTES`](super::MAX_SAID_BYTES).
    #[cbor(n(5), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// Asks for the target that the routing stack chooses for a connection, as it selects targets for new connections: by the
/// service's method, weights, policies and drains.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Choose {
    /// The answer names it.
    #[n(0)]
    pub request: RequestId,
    /// Whose connection: its client, DVIPA and port.
    #[n(1)]
    pub connection: WireConnection,
    /// Among applications of these names, at most [`MAX_CHOICE`](super::MAX_CHOICE). Empty: among all targets.
    #[n(2)]
    pub jobs: Vec<JobName>,
    /// But not these, at most [`MAX_CHOICE`](super::MAX_CHOICE).
    #[n(3)]
    pub besides: Vec<Target>,
}

/// Asks how the targets of a service are: their weights, loads and connections.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct View {
    /// The answer names it.
    #[n(0)]
    pub request: RequestId,
    /// The DVIPA.
    #[n(1)]
    pub dvipa: Address,
    /// The port.
    #[n(2)]
    pub port: u16,
}

/// Accepts an offered connection.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Accept {
    /// Which.
    #[n(0)]
    pub offer: OfferId,
}

/// Rejects an offered connection: it goes on where it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Reject {
    /// Which.
    #[n(0)]
    pub offer: OfferId,
    /// Why, for the application that asked for the transfer.
    #[n(1)]
    pub reason: String,
}

/// Asks what became of a transfer whose agent ended before it was answered. If the connection has not moved, it goes on
/// here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Resume {
    /// The answer names it.
    #[n(0)]
    pub request: RequestId,
}
