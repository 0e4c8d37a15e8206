//! The destination port table as the control thread decided it: the whole input of the workers but for MAC addresses.
//!
//! The routing stack's state machine emits a new [`Dpt`] at each change; `batond` joins it with the neighbours' MAC
//! addresses and hands it to the workers as one immutable snapshot.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::route::RouteSet;
use crate::{ClusterAddress, Dvipa, DvipaIndex, Limits, Protocol, StackIndex, StackName, quic};

/// A part that a DPT and its successors have in common: a clone is the same one, and who writes to it gets a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Whether the two are one, so that they need not be compared.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<A, T: FromIterator<A>> FromIterator<A> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = A>>(items: I) -> Self {
        T::from_iter(items).into()
    }
}

/// Everything the workers need to know. An index is the same stack's or DVIPA's for as long as anything can name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dpt {
    /// Counts the changes; shown, and lets a reader see that its change has reached the workers.
    pub generation: u64,
    /// DVIPAs that this stack owns or would take over, by index.
    pub dvipas: Vec<Shared<DvipaEntry>>,
    /// All stacks that a CRT entry may name, also those that are gone, sorted by index; some numbers may be nobody's.
    pub stacks: Shared<Vec<StackEntry>>,
    /// What is distributed, one entry a service (DVIPA, port, protocol), sorted.
    pub distributions: Vec<Shared<Distribution>>,
}

/// The entry of a stack, in [`Dpt::stacks`].
pub fn stack_of(stacks: &[StackEntry], index: StackIndex) -> Option<&StackEntry> {
    let at = stacks.binary_search_by_key(&index, |stack| stack.index).ok()?;
    stacks.get(at)
}

/// What the forwarder does for a DVIPA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duty {
    /// It forwards, and answers ARP and neighbour discovery for it.
    #[default]
    Owner,
    /// It forwards what still arrives. Another node owns the address and answers for it.
    Former,
    /// It forwards what routers send it, as the owner does. Another node owns the address and answers for it.
    Partner,
    /// Packets to it are none of this node's; the CRT knows its connections.
    Backup,
}

/// A DVIPA that this stack owns or would take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DvipaEntry {
    /// Its number in CRT entries.
    pub index: DvipaIndex,
    /// Its address.
    pub dvipa: Dvipa,
    /// What this node does for it.
    pub duty: Duty,
    /// Who is asked about a connection to it that has no entry.
    pub ask: Ask,
    /// What a client is told at a port that is not distributed, or when nobody has its connection.
    pub refuse: Refuse,
}

impl DvipaEntry {
    /// A DVIPA of this node with nobody to ask yet.
    pub fn new(index: DvipaIndex, dvipa: Dvipa) -> Self {
        Self { index, dvipa, duty: Duty::Owner, ask: Ask::default(), refuse: Refuse::default() }
    }
}

/// The stacks that may have a connection to a DVIPA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ask {
    /// Current actual targets, drained ones, and candidates whose listeners have ended, sorted by index.
    pub candidates: Vec<StackIndex>,
    /// Each of them would answer: a connection that none of them claims, when all have looked, is nobody's. `false` while a stack that
    /// may have connections has no session or has not given its first complete account.
    pub certain: bool,
}

/// What a client is told where nothing serves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refuse {
    /// RST, or ICMP port unreachable.
    #[default]
    Reset,
    /// Nothing.
    Silent,
}

/// A stack that CRT entries may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StackEntry {
    /// Its number in CRT entries.
    pub index: StackIndex,
    /// Its name.
    pub name: StackName,
    /// How its packets reach it.
    pub reach: Reach,
    /// Whether anything is heard of it.
    pub state: StackState,
}

/// What is heard of a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StackState {
    /// Its agent.
    #[default]
    Up,
    /// Nothing of its agent for a moment, while the session goes on. A SYN on one of its half-open entries is selected anew; one on an
    /// established entry waits until it is known how the stack is, because it may be a late copy.
    Quiet,
    /// Nothing of its agent; its host may serve on. A SYN on one of its entries is selected anew, every other packet goes to it.
    Lost,
    /// Nothing of its agent nor of its host: its entries go.
    Dead,
}

/// How packets reach a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// It is this node's own kernel: through the local port, as they are.
    Local,
    /// Encapsulated, to its cluster address.
    Remote {
        /// Where to. The family of the outer header is IPv4 if the stack has an IPv4 address and this node too,
        /// otherwise IPv6.
        cluster_address: ClusterAddress,
        /// How.
        encapsulation: Encapsulation,
    },
}

/// How a packet is carried to a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// IP in IP (RFC 2003, RFC 2473, RFC 4213).
    Ipip,
    /// Generic UDP encapsulation, variant 0 (draft-ietf-intarea-gue), UDP port 6080; the source port comes from the
    /// flow hash, so that the fabric and the target's RSS spread it.
    #[default]
    Gue,
    /// Only the Ethernet addresses change: the target is on the segment.
    L2,
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Encapsulation::Ipip => "ipip",
            Encapsulation::Gue => "gue",
            Encapsulation::L2 => "l2",
        })
    }
}

/// One row of the DPT: a service and the stacks that new connections of it may go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Distribution {
    /// Its DVIPA.
    pub dvipa: DvipaIndex,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// How a target is selected.
    pub method: Method,
    /// Current actual targets that take new connections, sorted by index; may be empty (new connections are then
    /// refused).
    pub targets: Vec<WeightedTarget>,
    /// Stacks with an application listening, selectable or not, sorted: they keep the UDP flows that they have.
    pub serving: Vec<StackIndex>,
    /// Service policies, first match wins. A client that matches none is served by `targets`.
    pub policies: Vec<Policy>,
    /// What a client is told while no target takes it.
    pub refuse: Refuse,
    /// A target that has so many connections, of all its services together, takes no new one.
    pub max_connections: Option<NonZeroU32>,
    /// For how long a client keeps its target after its last connection.
    pub affinity: Option<Affinity>,
    /// How many connections of it may begin.
    pub limits: Limits,
    /// Its routes, if it has some: the forwarder reads the first request of each connection before it selects a target.
    #[serde(skip)]
    pub routing: Option<Routing>,
    /// How its servers make QUIC connection IDs. Empty: packets follow their flow.
    #[serde(skip)]
    pub quic: Shared<Vec<quic::Configuration>>,
}

/// Timed affinity of a service: new connections of a client go to the target that it had last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Affinity {
    /// For so many seconds after its last connection has ended.
    pub seconds: u16,
    /// How many clients are remembered.
    pub clients: u32,
}

/// The routes of a service, and the stacks that requests of each may go to now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The routes.
    pub set: Shared<RouteSet>,
    /// Of each route in its order: the targets that take new connections, sorted by index; may be empty.
    pub targets: Vec<Vec<WeightedTarget>>,
}

/// A target that may be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WeightedTarget {
    /// The stack.
    pub stack: StackIndex,
    /// Its share of new connections relative to the others', 0 (none) to 65 535.
    pub weight: u16,
}

/// A service policy: for clients with this prefix, these targets and weights instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Which clients.
    pub client: IpNet,
    /// Which targets they may be given; may be empty.
    pub targets: Vec<WeightedTarget>,
}

/// How a target is selected for a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// One after the other, weights ignored (but 0 is never selected).
    #[default]
    RoundRobin,
    /// One after the other in proportion to the weights, evenly interleaved.
    WeightedRoundRobin,
    /// The fewest connections for its weight.
    LeastConnections,
    /// By a consistent hash of the client's address and port (Maglev, NSDI'16 section 3.4): every routing stack with
    /// the same targets selects the same one.
    Maglev,
    /// The same of the client's address alone, of IPv6 its first 64 bits: all connections of a client go to one target.
    Source,
    /// The target with the highest weight, of equals the first by name: the others only when it is not there.
    HotStandby,
    /// Of two that are drawn by weight, the one that has less to do (Mitzenmacher 2001): of connections that somebody waits for, and for
    /// how long those last there.
    PowerOfTwo,
}

impl Method {
    /// All of them; their places in it are their numbers in messages.
    pub const ALL: [Self; 7] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnections,
        Self::Maglev,
        Self::Source,
        Self::HotStandby,
        Self::PowerOfTwo,
    ];
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Method::RoundRobin => "round-robin",
            Method::WeightedRoundRobin => "weighted-round-robin",
            Method::LeastConnections => "least-connections",
            Method::Maglev => "maglev",
            Method::Source => "source",
            Method::HotStandby => "hot-standby",
            Method::PowerOfTwo => "power-of-two",
        })
    }
}
