//! What stacks tell each other.
//!
//! The documents' messages: the VIPA list (seed figure 5 and 6), SRVSTAT, NEWCONN, TERMCONN (figure 8). Field numbers
//! are the encoding: a field is never renumbered, a new one gets a new number and is an `Option`, and a reader skips
//! numbers that it does not know. A message kind that a reader does not know is ignored whole ([`crate::codec`]).
//!
//! Messages have the type of their direction, so that a reader decides only about what can come. One of the other direction is
//! refused where the session is read ([`crate::codec::Received::Misdirected`]).

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::codec::{Address, Side, WireConnection, direction};
use crate::control_socket::request::Role;
use crate::control_socket::{JobName, Target, TargetView};
use crate::handoff::Token;
use crate::ownership::{FromWitness, ToWitness};
use crate::ports::{PortsGranted, PortsHeld};
use crate::ranges::{Activate, Bound, Ranges};
use crate::transfer::{FromHost, ToHost, Why};
use crate::{Epoch, Protocol, StackName};

pub use crate::load::Load;

direction! {
    /// Routing stack → stack.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum ToStack {
        /// What is distributed and to whom; to all.
        VipaList(VipaList) = 2 "a VIPA list",
        /// Where connections can be transferred to; to a stack with an application that is registered for them.
        Targets(Targets) = 9 "Targets",
        /// Transfer this connection; to the stack that has it.
        Move(Move) = 10 "Move",
        /// How far it has heard what became of connections.
        Heard(Heard) = 13 "Heard",
        /// An application says something to one here.
        Say(Say) = 15 "Say",
        /// Which target it has chosen.
        Chosen(Chosen) = 50 "Chosen",
        /// How the targets of a service are.
        Views(Views) = 51 "Views",
        /// Which ports of a DVIPA it may give to applications.
        PortsGranted(PortsGranted) = 53 "PortsGranted",
        /// Which addresses applications make DVIPAs, and where they are active.
        Ranges(Ranges) = 60 "Ranges",
        /// An address is to be active there, or not by order any more.
        Activate(Activate) = 62 "Activate",
        /// It is to give out tokens ahead.
        TokensWanted(TokensWanted) = 54 "TokensWanted",
        /// Until when connections were asked about.
        Asked(Asked) = 58 "Asked",
        ;
        /// While a connection moves.
        Transfer(ToHost),
        /// As a witness of ownership.
        Ownership(ToWitness),
    }
}

direction! {
    /// Stack → routing stack.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum FromStack {
        /// Which applications listen.
        Srvstat(Srvstat) = 3 "SRVSTAT",
        /// These connections are here.
        Newconn(Newconn) = 4 "NEWCONN",
        /// These connections have ended.
        Termconn(Termconn) = 5 "TERMCONN",
        /// How busy it is (the documents' WLM).
        Load(Load) = 6 "Load",
        /// Which applications have registered on control sockets.
        Applications(Applications) = 8 "Applications",
        /// It does not follow [`Move`].
        Stays(Stays) = 11 "Stays",
        /// How far it has said what became of its connections.
        Told(Told) = 12 "Told",
        /// The ends of transfers that follow come after what it has said of connections.
        After(After) = 14 "After",
        /// An application says something to one of another stack.
        Say(Say) = 15 "Say",
        /// Choose a target for a connection.
        Choose(Choose) = 48 "Choose",
        /// How are the targets of a service?
        View(View) = 49 "View",
        /// Which ports of a DVIPA it gives to applications, and how many more it wants.
        PortsHeld(PortsHeld) = 52 "PortsHeld",
        /// Which addresses of ranges it claims.
        Bound(Bound) = 61 "Bound",
        /// Tokens ahead of connections.
        TokensGiven(TokensGiven) = 55 "TokensGiven",
        /// It does not take a connection that was handed over with one of them.
        Declined(Declined) = 56 "Declined",
        /// It has said of all connections that it was asked about which it has.
        Looked(Looked) = 59 "Looked",
        /// Whose applications serve nobody.
        Stalled(Stalled) = 76 "Stalled",
        ;
        /// While a connection moves.
        Transfer(FromHost),
        /// As a witness of ownership.
        Ownership(FromWitness),
    }
}

direction! {
    /// What every session begins with and is kept alive by, both ways. It ends in the session: nobody else hears it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Pulse {
        /// Who is speaking; first on every session.
        Hello(Hello) = 1 "Hello",
        /// When there is nothing else to say.
        Heartbeat(Heartbeat) = 7 "Heartbeat",
    }
}

impl Side for ToStack {
    type Other = FromStack;
}

impl Side for FromStack {
    type Other = ToStack;
}

/// Who is speaking. The name must be the one in the certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// The stack's name.
    #[n(0)]
    pub stack: String,
    /// Its cluster addresses, at most one a family.
    #[n(1)]
    pub cluster_addresses: Vec<Address>,
    /// A number that differs each time the process starts: a peer that sees a new one forgets what the former said.
    #[n(2)]
    pub incarnation: u64,
    /// The software's version, shown to operators.
    #[n(3)]
    pub version: String,
    /// How often it gives a sign of life, in milliseconds.
    #[n(4)]
    pub heartbeat_ms: Option<u32>,
    /// The longest IP packet that the ways between the stacks take, in bytes, as it is configured there.
    #[n(5)]
    pub fabric_mtu: Option<u16>,
}

/// What a routing stack distributes. Replaces the former list of the same sender as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct VipaList {
    /// The DVIPAs.
    #[n(0)]
    pub dvipas: Vec<VipaListDvipa>,
    /// The outer source addresses of packets that this routing stack forwards.
    #[n(1)]
    pub forwarders: Vec<Address>,
    /// It selects by what its targets have to do, and wants to know which connections are only kept open ([`Load::idle`]).
    #[n(2)]
    pub by_load: Option<bool>,
}

impl VipaList {
    /// Whether its sender wants to know which connections are only kept open.
    pub fn wants_kept(&self) -> bool {
        self.by_load == Some(true)
    }
}

/// One DVIPA in a VIPA list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct VipaListDvipa {
    /// Its address.
    #[n(0)]
    pub address: Address,
    /// The epoch of its ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// The sender owns it now (otherwise it would take it over).
    #[n(2)]
    pub owner: bool,
    /// The sender's rank as a backup; 255 for its primary (VIPADEFINE).
    #[n(3)]
    pub rank: u8,
    /// What is distributed.
    #[n(4)]
    pub distributions: Vec<VipaListDistribution>,
    /// The sender knows that another owns it, and forwards packets to it all the same: it owned it until a moment ago, or always
    /// forwards.
    #[n(5)]
    pub forwards: Option<bool>,
}

/// One VIPADISTRIBUTE in a VIPA list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct VipaListDistribution {
    /// TCP or UDP.
    #[n(0)]
    pub protocol: Protocol,
    /// The enumerated ports. Empty: not enumerated (row U1).
    #[n(1)]
    pub ports: Vec<u16>,
    /// The candidate targets by stack name. Empty: ALL.
    #[n(2)]
    pub candidates: Vec<String>,
    /// A routing application decides where its connections go. `None`: the sender is of a version that does not say.
    #[n(3)]
    pub content_routed: Option<bool>,
}

/// Which applications listen on distributed ports of one DVIPA.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Srvstat {
    /// The DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// The epoch of the VIPA list that it answers.
    #[n(1)]
    pub epoch: Epoch,
    /// `true`: these are all; what was reported before and is not here has ended. `false`: changes only.
    #[n(2)]
    pub complete: bool,
    /// The listens and ends of listening.
    #[n(3)]
    pub listens: Vec<Listen>,
}

/// One application's listen, or its end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Listen {
    /// TCP or UDP.
    #[n(0)]
    pub protocol: Protocol,
    /// The port.
    #[n(1)]
    pub port: u16,
    /// It listens (`false`: it stopped).
    #[n(2)]
    pub listening: bool,
}

/// The services of a DVIPA whose applications here serve nobody (row B9): they have accepted none of the clients that wait for some
/// seconds, or they fail. Replaces what the sender said of that DVIPA before as a whole, and so does a complete [`Srvstat`], after which
/// all serve.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Stalled {
    /// The DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// The epoch of the VIPA list that it answers.
    #[n(1)]
    pub epoch: Epoch,
    /// The TCP ports of all of them.
    #[n(2)]
    pub ports: Vec<u16>,
    /// Which of them fail, and why. `None`: none, or the sender is of a version that does not check.
    #[n(3)]
    pub failing: Option<Vec<Failing>>,
}

/// A service whose application here does not answer as it should.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Failing {
    /// TCP or UDP.
    #[n(0)]
    pub protocol: Protocol,
    /// The port.
    #[n(1)]
    pub port: u16,
    /// What was seen of it, for people.
    #[n(2)]
    pub why: String,
}

/// Connections that are at the sender now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Newconn {
    /// `true`: the first part of a complete account; entries of the sender that no part of it names have ended.
    #[n(0)]
    pub first: bool,
    /// `true`: the last part of a complete account.
    #[n(1)]
    pub last: bool,
    /// The connections of this part.
    #[n(2)]
    pub connections: Vec<WireConnection>,
}

/// Connections that have ended at the sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Termconn {
    /// Which.
    #[n(0)]
    pub connections: Vec<WireConnection>,
}

/// The applications that are registered for a DVIPA on the sender's control sockets (rows C1 and C2). Replaces what the
/// sender said of that DVIPA before as a whole. Sent after the SRVSTAT that answers a VIPA list, if there are any, and at
/// each change.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Applications {
    /// The DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// The epoch of the VIPA list that it answers.
    #[n(1)]
    pub epoch: Epoch,
    /// One for each registration and port of it.
    #[n(2)]
    pub applications: Vec<Application>,
}

/// An application that is registered for a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Application {
    /// The port.
    #[n(0)]
    pub port: u16,
    /// As what.
    #[n(1)]
    pub role: Role,
    /// Its name.
    #[n(2)]
    pub job: JobName,
}

/// Where the connections to a TCP port of a DVIPA can be transferred to now. Replaces what was said of the port before as
/// a whole. Sent when an application registers for it, and at each change while one is registered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Targets {
    /// The DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// The epoch of its ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// The port.
    #[n(2)]
    pub port: u16,
    /// The targets, sorted. A server without a control socket has the job name [`JobName::listener`].
    #[n(3)]
    pub targets: Vec<Target>,
}

/// An operator wants a connection of the receiver transferred. The receiver answers with PREPARE, or with [`Stays`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Move {
    /// Which connection.
    #[n(0)]
    pub connection: WireConnection,
    /// The epoch of its DVIPA's ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// To which stack.
    #[n(2)]
    pub target: StackName,
    /// To which application there; `None`: to any.
    #[n(3)]
    pub job: Option<JobName>,
    /// What the answer names.
    #[n(4)]
    pub order: Option<OrderId>,
    /// For how many milliseconds neither side must have said anything; `None`: as the receiver likes.
    #[n(5)]
    pub quiet_ms: Option<u32>,
    /// The sequence number of the client's first byte that is not the receiver's any more: the connection moves only if all before it
    /// have come there, and no other; `None`: whatever has come.
    #[n(6)]
    pub next: Option<u32>,
}

/// The number of an operator's order, given by the routing stack.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct OrderId(#[n(0)] pub u64);

/// The connection that [`Move`] is about stays where it is. Agents before this message said so in their log only.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Stays {
    /// Which connection.
    #[n(0)]
    pub connection: WireConnection,
    /// The epoch of its DVIPA's ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// What it answers.
    #[n(2)]
    pub order: OrderId,
    /// Why.
    #[n(3)]
    pub why: Why,
}

/// What became of the sender's connections has been said up to this number, on the same stream as [`Newconn`] and [`Termconn`].
/// Changes are numbered from 1 on in each run of an agent, for each routing stack by itself; a complete account takes a number too, and
/// so does what is named again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Told {
    /// The number of the last change that was said, or that is part of the complete account that was given.
    #[n(0)]
    pub number: u64,
    /// What was said from [`Heard`]'s number on is a complete account together with what was heard before: it stands in the
    /// place of one.
    #[n(1)]
    pub since: Option<u64>,
}

/// What became of the receiver's connections has been heard up to this number of this run, in this session or former ones. Sent
/// before a VIPA list, if anything was heard: the receiver may then answer the list with what followed, and a
/// [`Told::since`] at its end, instead of a complete account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Heard {
    /// [`Told::number`].
    #[n(0)]
    pub number: u64,
}

/// The sender gave a connection away only after it had said of connections what has numbers up to this one. Sent before
/// [`crate::transfer::Done`] on the same stream, which is another one than that of [`Told`]: what comes in there until that
/// number may be about the connection before it moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct After {
    /// [`Told::number`].
    #[n(0)]
    pub number: u64,
}

/// The sender has asked about connections ([`crate::ask`]) until now. Answered by [`Looked`]; another one is sent only after that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Asked {
    /// The time, by a clock of the sender's that counts up.
    #[n(0)]
    pub number: u64,
}

/// The sender has read all that its kernel told before it read this [`Asked`], and has sent the NEWCONN that follow from it: on the same
/// stream, before this. So of the connections that it was asked about until then it has no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Looked {
    /// [`Asked::number`].
    #[n(0)]
    pub number: u64,
    /// Some of what the kernel told since the last one was lost: this one says nothing, and the next ones nothing of what was asked
    /// before it.
    #[n(1)]
    pub anew: bool,
}

/// An application says something to another one of the same service. Not repeated, and not answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Say {
    /// The DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// The epoch of its ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// The port.
    #[n(2)]
    pub port: u16,
    /// Who says it.
    #[n(3)]
    pub from: Target,
    /// To whom.
    #[n(4)]
    pub to: Target,
    /// The connection that it is about, if it is about one.
    #[n(5)]
    pub about: Option<WireConnection>,
    /// What.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// The number that an agent gives a question; the answer names it. Not used twice while the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Question(#[n(0)] pub u64);

/// An application that has a connection leaves it to the routing stack to which target it goes. Answered by [`Chosen`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Choose {
    /// The connection.
    #[n(0)]
    pub connection: WireConnection,
    /// The epoch of its DVIPA's ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// What the answer names.
    #[n(2)]
    pub question: Question,
    /// Among applications of these names; empty: among all targets.
    #[n(3)]
    pub jobs: Vec<JobName>,
    /// But not these.
    #[n(4)]
    pub besides: Vec<Target>,
}

/// Where a connection is to go, by the method, weights, policies and drains that hold for new connections.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Chosen {
    /// The connection.
    #[n(0)]
    pub connection: WireConnection,
    /// The epoch of its DVIPA's ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// What it answers.
    #[n(2)]
    pub question: Question,
    /// The target; `None`: there is none to choose.
    #[n(3)]
    pub target: Option<Target>,
    /// The question was not followed, for this reason.
    #[n(4)]
    pub why: Option<Why>,
}

/// An application wants to know how the targets of a service are. Answered by [`Views`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct View {
    /// The DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// The epoch of its ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// The port.
    #[n(2)]
    pub port: u16,
}

/// How the targets of a service are now, drained ones included.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Views {
    /// The DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// The epoch of its ownership.
    #[n(1)]
    pub epoch: Epoch,
    /// The port.
    #[n(2)]
    pub port: u16,
    /// The targets, sorted by name.
    #[n(3)]
    pub views: Vec<TargetView>,
    /// The question was not followed, for this reason.
    #[n(4)]
    pub why: Option<Why>,
}

/// The owner of a DVIPA needs tokens to hand over connections without asking: those that it was given are nearly used up. Answered
/// by [`TokensGiven`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TokensWanted {
    /// A DVIPA of the sender's.
    #[n(0)]
    pub dvipa: Address,
    /// The epoch of its ownership.
    #[n(1)]
    pub epoch: Epoch,
}

/// A batch of tokens: a packet with one of them makes a connection at the sender, to whatever listens there. They are to be used in
/// their order, after those of former batches, of which the fourth last is void now. All are void when the session is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TokensGiven {
    /// The tokens.
    #[n(0)]
    pub tokens: Vec<Token>,
}

/// A connection that was handed over with a token given out ahead is not taken, and no packet of it will be: nothing listens, or
/// the accept queue is full. Another target may have it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Declined {
    /// Which.
    #[n(0)]
    pub connection: WireConnection,
}

/// A sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Heartbeat {
    /// Counts up from 0 in each session.
    #[n(0)]
    pub sequence: u64,
}
