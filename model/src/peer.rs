//! What routing stacks tell each other: who defines and who backs up which DVIPA, who owns it in which epoch, and what an owner has
//! been ordered, so that another one can take its place.
//!
//! Encoded as all messages are ([`crate::message`]). Both sides of such a session say the same kinds.

use minicbor::{Decode, Encode};

use crate::codec::{Address, Side, direction};
use crate::route::RouteSet;
use crate::{Epoch, Limits, Protocol, StackName, quic};

direction! {
    /// Routing stack ↔ routing stack.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum ToPeer {
        /// All that the sender defines and backs up, and how it stands with each.
        Definitions(Definitions) = 40 "Definitions",
        /// Which stacks have given it a complete account.
        Accounted(Accounted) = 41 "Accounted",
        /// What operators and controllers have ordered at the sender.
        Orders(Orders) = 42 "Orders",
    }
}

impl Side for ToPeer {
    type Other = ToPeer;
}

/// The VIPA list as routing stacks tell it each other. Replaces the former one of the same sender as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Definitions {
    /// The DVIPAs, by address.
    #[n(0)]
    pub dvipas: Vec<Definition>,
    /// The sender is about to end: others are to own what it owns.
    #[n(1)]
    pub leaving: Option<bool>,
    /// More of the same list follows: it is in force with its last part.
    #[n(2)]
    pub more: Option<bool>,
    /// The stacks whose agents lease DVIPAs to the sender, sorted; empty: it decides alone. `None`: its version does not say.
    #[n(3)]
    pub witnesses: Option<Vec<StackName>>,
    /// For how long, in milliseconds.
    #[n(4)]
    pub lease_ms: Option<u32>,
}

/// One DVIPA that the sender defines or backs up.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Definition {
    /// Its address.
    #[n(0)]
    pub address: Address,
    /// The highest epoch of its ownership that the sender knows; of an owner the present one.
    #[n(1)]
    pub epoch: Epoch,
    /// The sender owns it.
    #[n(2)]
    pub owner: bool,
    /// The sender's rank as a backup, 1 to 254; 255: it is the primary (VIPADEFINE).
    #[n(3)]
    pub rank: u8,
    /// Length of the network prefix, in bits, if its definition says it.
    #[n(4)]
    pub prefix_bits: Option<u8>,
    /// When it may move, if its definition says it: 0 immediate, 1 when idle; of an active address of a range 2 nondisruptive,
    /// 3 disruptive.
    #[n(5)]
    pub moveable: Option<u8>,
    /// The owner has it by an operator's order, so that its primary does not take it back by itself.
    #[n(6)]
    pub by_order: Option<bool>,
    /// The owner wants this stack to own it next.
    #[n(7)]
    pub next: Option<StackName>,
    /// What a client is told at a port that is not distributed: 0 reset, 1 nothing.
    #[n(8)]
    pub refuse: Option<u8>,
    /// The sender's own VIPADISTRIBUTE statements.
    #[n(9)]
    pub distributes: Vec<Distribute>,
    /// The sender wants to own it, and does not: where witnesses decide it has to wait for the owner to release it.
    #[n(10)]
    pub wants: Option<bool>,
}

/// One VIPADISTRIBUTE.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Distribute {
    /// TCP or UDP.
    #[n(0)]
    pub protocol: Protocol,
    /// The enumerated ports. Empty: not enumerated.
    #[n(1)]
    pub ports: Vec<u16>,
    /// Stack names and cluster addresses. Empty: ALL.
    #[n(2)]
    pub destip: Vec<String>,
    /// 0 round robin, 1 weighted round robin, 2 least connections, 3 Maglev, 4 source, 5 hot standby.
    #[n(3)]
    pub method: u8,
    /// Where the weights come from.
    #[n(4)]
    pub weights: Weights,
    /// CONTENTROUTED.
    #[n(5)]
    pub content_routed: bool,
    /// What a client is told while no target takes it: 0 reset, 1 nothing.
    #[n(6)]
    pub refuse: Option<u8>,
    /// Service policies, first match wins.
    #[n(7)]
    pub policies: Vec<Policy>,
    /// Its routes, if it has some.
    #[n(8)]
    pub routes: Option<RouteSet>,
    /// How its servers make QUIC connection IDs, with the keys: the session is encrypted, and its ends are routing stacks.
    #[n(9)]
    #[cbor(default)]
    pub quic: Vec<quic::Configuration>,
    /// How much its targets are given. `None`: the sender is of a version that does not say.
    #[n(10)]
    pub rules: Option<TargetRules>,
    /// How many connections of it may begin. `None`: any number, or the sender is of a version that does not say.
    #[n(11)]
    pub limits: Option<Limits>,
}

/// How much the targets of a distribution are given, and what counts when they fail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TargetRules {
    /// When so many of a hundred fail, all are selected as if none did.
    #[n(0)]
    pub panic_percent: u8,
    /// For how many seconds the share of a target grows that begins to serve.
    #[n(1)]
    pub slow_start_s: u16,
    /// The connections that a target may have before it is given no new one; none: any number.
    #[n(2)]
    pub max_connections: Option<u32>,
    /// For how many seconds a client keeps its target after its last connection.
    #[n(3)]
    pub affinity_s: Option<u16>,
    /// How many clients do.
    #[n(4)]
    pub affinity_clients: Option<u32>,
}

/// Where the weights of a distribution come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Weights {
    /// The load that the targets report. Otherwise `configured`, and what is not named there weighs 1.
    #[n(0)]
    pub load: bool,
    /// By stack name or cluster address.
    #[n(1)]
    pub configured: Vec<Weight>,
}

/// The weight of one candidate.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Weight {
    /// Its name or cluster address.
    #[n(0)]
    pub candidate: String,
    /// Its weight.
    #[n(1)]
    pub weight: u16,
}

/// One service policy.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Policy {
    /// The clients' network: its address.
    #[n(0)]
    pub network: Address,
    /// Its prefix length, in bits.
    #[n(1)]
    pub prefix_bits: u8,
    /// As [`Distribute::destip`].
    #[n(2)]
    pub destip: Vec<String>,
    /// Their weights.
    #[n(3)]
    pub weights: Weights,
}

/// The stacks whose connections the sender knows, because they have given it a complete account in the session that is up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Accounted {
    /// Their names, sorted.
    #[n(0)]
    pub stacks: Vec<StackName>,
}

/// What has been ordered at the sender, for the next owner of its DVIPAs. Replaces the former one of the same sender as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Orders {
    /// Drains.
    #[n(0)]
    pub drains: Vec<Drain>,
    /// Weights that a controller has set.
    #[n(1)]
    pub weights: Vec<ControllerWeights>,
}

/// A stack that gets no new connections.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Drain {
    /// Which.
    #[n(0)]
    pub stack: StackName,
    /// Of this DVIPA; none: of all.
    #[n(1)]
    pub dvipa: Option<Address>,
    /// Of this port of it; none: of all.
    #[n(2)]
    pub port: Option<u16>,
    /// The port's protocol.
    #[n(3)]
    pub protocol: Option<Protocol>,
}

/// The weights of one service that a controller has set.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ControllerWeights {
    /// Its DVIPA.
    #[n(0)]
    pub dvipa: Address,
    /// Its port.
    #[n(1)]
    pub port: u16,
    /// Its protocol.
    #[n(2)]
    pub protocol: Protocol,
    /// For how many milliseconds they hold yet.
    #[n(3)]
    pub expires_in_ms: u64,
    /// By stack.
    #[n(4)]
    pub weights: Vec<Weight>,
}
