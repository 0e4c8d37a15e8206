//! What an agent tells an application.

use minicbor::{Decode, Encode};

use super::name::stack_name;
use super::{JobName, OfferId, Refusal, RequestId, Target, TargetView, messages};
use crate::StackName;
use crate::codec::WireConnection;

messages! {
    /// A message to an application.
    Notification {
        /// First on every control socket.
        1 => Welcome,
        /// Answers `Register`, and follows `Waiting`.
        2 => Registered,
        /// Answers `Register`, and follows `Registered` when this stack loses the DVIPA.
        3 => Waiting,
        /// Answers `Subscribe`.
        4 => Targets,
        /// With its application state, if it has some. To be answered by `Accept` or `Reject`.
        5 => Offer,
        /// An offer is void.
        6 => Withdrawn,
        /// With the connection and, if none came with `Arriving`, its application state.
        7 => Connection,
        /// Answers `Transfer`: the connection has moved.
        8 => Transferred,
        /// A request was not done.
        9 => Failed,
        /// The agent closes the control socket after this.
        10 => Goodbye,
        /// With the silent connection and, if it was not offered before, its application state. Followed by `Connection`, or
        /// `Withdrawn` if the transfer has failed after all.
        11 => Arriving,
        /// Answers `Claim`: the connection is the application's.
        12 => Claimed,
        /// Answers `Say`: it is on its way.
        13 => Said,
        /// What another application says.
        14 => Heard,
        /// Answers `Choose`.
        15 => Chosen,
        /// Answers `View`, in parts.
        16 => Views,
    }
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// The stack's name.
    #[cbor(n(0), with = "stack_name")]
    pub stack: StackName,
    /// The agent's version, for people.
    #[n(1)]
    pub version: String,
}

/// A registration is in force.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Registered {
    /// Which.
    #[n(0)]
    pub request: RequestId,
}

/// A registration has to wait: this stack does not own the DVIPA, it may take it over later.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Waiting {
    /// Which.
    #[n(0)]
    pub request: RequestId,
}

/// The targets of a service, or changes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Targets {
    /// The subscription.
    #[n(0)]
    pub request: Option<RequestId>,
    /// `true`: the first part of a complete list: what was said before is void.
    #[n(1)]
    pub first: bool,
    /// `true`: the last part of a list or of a change: what was said until here holds together.
    #[n(2)]
    pub last: bool,
    /// Targets that there are.
    #[n(3)]
    pub added: Vec<Target>,
    /// Targets that there are no longer.
    #[n(4)]
    pub removed: Vec<Target>,
}

/// A connection is about to be moved here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
    /// Its number.
    #[n(0)]
    pub offer: OfferId,
    /// The connection: client, DVIPA, port.
    #[n(1)]
    pub connection: WireConnection,
    /// The application that it is for.
    #[n(2)]
    pub job: JobName,
    /// Who gives it; `None`: an operator or a server without a control socket, or it is not known.
    #[n(3)]
    pub giver: Option<Target>,
}

/// An offer is void: the transfer has failed or was given up, or a given connection was not taken in time.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Withdrawn {
    /// Which.
    #[n(0)]
    pub offer: OfferId,
    /// Why.
    #[n(1)]
    pub why: Refusal,
}

/// A connection has come, but whether it stays is not decided yet: nothing may be done with it. It is passed now, so that the
/// application has it whatever becomes of the agent: one whose agent ends meanwhile asks the next one with `Claim`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Arriving {
    /// What brings it.
    #[n(0)]
    pub by: By,
    /// The connection: client, DVIPA, port.
    #[n(1)]
    pub connection: WireConnection,
    /// Who gives it, as in [`Offer`].
    #[n(2)]
    pub giver: Option<Target>,
}

/// A connection is the application's from now on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Connection {
    /// What brought it.
    #[n(0)]
    pub by: By,
    /// The connection: client, DVIPA, port.
    #[n(1)]
    pub connection: WireConnection,
}

/// What brought a connection to an application. Number 1 was the answer to a `Take`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum By {
    /// It accepted this offer.
    #[n(0)]
    Offer(#[n(0)] OfferId),
    /// It was given this without being asked.
    #[n(2)]
    Given(#[n(0)] OfferId),
    /// It has claimed this as given to it, of a former run of the agent.
    #[n(3)]
    Claim(#[n(0)] RequestId),
}

/// A claimed connection is the application's.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claimed {
    /// Which request.
    #[n(0)]
    pub request: RequestId,
}

/// What was to be said is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Said {
    /// Which request.
    #[n(0)]
    pub request: RequestId,
}

/// The target that was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Chosen {
    /// Which request.
    #[n(0)]
    pub request: RequestId,
    /// It.
    #[n(1)]
    pub target: Target,
}

/// How the targets of a service are, or a part of that.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Views {
    /// Which request.
    #[n(0)]
    pub request: RequestId,
    /// The last part.
    #[n(1)]
    pub last: bool,
    /// The targets of this part; the parts are sorted.
    #[n(2)]
    pub views: Vec<TargetView>,
}

/// Another application says something.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Heard {
    /// Who.
    #[n(0)]
    pub from: Target,
    /// The port that both have registered for.
    #[n(1)]
    pub port: u16,
    /// The connection that it is about, if it is about one.
    #[n(2)]
    pub about: Option<WireConnection>,
    /// What.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// A connection has moved: the application closes its descriptor, which sends nothing to the client.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Transferred {
    /// Which request.
    #[n(0)]
    pub request: RequestId,
}

/// A request was not done. A connection that was to be moved goes on where it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Failed {
    /// Which.
    #[n(0)]
    pub request: RequestId,
    /// Why.
    #[n(1)]
    pub why: Refusal,
    /// What there is to say beyond that: a rejecting target's own words, or what the kernel said.
    #[n(2)]
    pub detail: Option<String>,
}

/// The end of a control socket.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Goodbye {
    /// Why.
    #[n(0)]
    pub why: Refusal,
}
