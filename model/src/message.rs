//! What stacks tell each other.
//!
//! The documents' messages: the VIPA list (seed figure 5 and 6), SRVSTAT, NEWCONN, TERMCONN (figure 8). Field numbers
//! are the encoding: a field is never renumbered, a new one gets a new number and is an `Option`, and a reader skips
//! numbers that it does not know. A message kind that a reader does not know is ignored whole ([`crate::codec`]).

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::codec::{Address, WireConnection};
use crate::control_socket::request::Role;
use crate::control_socket::{JobName, Target};
use crate::transfer::{TransferMessage, Why};
use crate::{Epoch, Protocol, StackName};

/// A message from one stack to another. Its number is in the frame ([`crate::codec`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who is speaking; first on every session, both ways.
    Hello(Hello),
    /// Routing stack → all: what is distributed and to whom.
    VipaList(VipaList),
    /// Target → routing stack: which applications listen.
    Srvstat(Srvstat),
    /// Target → routing stack: these connections are here.
    Newconn(Newconn),
    /// Target → routing stack: these connections have ended.
    Termconn(Termconn),
    /// Target → routing stack: how busy it is (the documents' WLM).
    Load(Load),
    /// Both ways, when there is nothing else to say.
    Heartbeat(Heartbeat),
    /// All ways, while a connection moves.
    Transfer(TransferMessage),
    /// Target → routing stack: which applications have registered on control sockets.
    Applications(Applications),
    /// Routing stack → a stack with such an application: where its connections can be transferred to.
    Targets(Targets),
    /// Routing stack → the stack that has a connection: transfer it.
    Move(Move),
    /// The stack that has a connection → routing stack: it does not follow [`Move`].
    Stays(Stays),
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
    /// The sender owns it now (otherwise it is a backup for it).
    #[n(2)]
    pub owner: bool,
    /// The sender's rank as a backup; 255 for its primary (VIPADEFINE).
    #[n(3)]
    pub rank: u8,
    /// What is distributed.
    #[n(4)]
    pub distributions: Vec<VipaListDistribution>,
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

/// How busy a target is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Load {
    /// Use of all its processors over the last interval, in thousandths (0 idle, 1000 all busy).
    #[n(0)]
    pub cpu_permille: u16,
    /// Connections waiting in accept queues of distributed ports, in thousandths of the fullest queue's limit.
    #[n(1)]
    pub accept_queue_permille: u16,
    /// Share of the last interval in which some task waited for memory, in thousandths.
    #[n(2)]
    pub memory_pressure_permille: u16,
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

/// A sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Heartbeat {
    /// Counts up from 0 in each session.
    #[n(0)]
    pub sequence: u64,
}
