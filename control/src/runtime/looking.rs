//! What an operator asks of the forwarder about packets and connections: what would become of one, what becomes of those that pass, and
//! what became of connections that have ended.

use std::net::SocketAddr;

use ipnet::IpNet;
use model::{Blame, Connection, CrtState, StackIndex};
use serde::{Deserialize, Serialize};

use super::api::ClientFilter;

/// A packet of a client that somebody asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketQuestion {
    /// Its connection.
    pub connection: Connection,
    /// Which segment it is, of TCP; none: one that opens the connection, or is in the middle of it if there is one.
    pub segment: Option<SegmentKind>,
    /// Bytes from its IP header on; none: as many as such a packet has without data.
    pub bytes: Option<u16>,
    /// Its TTL or hop limit; none: 64.
    pub ttl: Option<u8>,
}

/// A kind of TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentKind {
    /// It opens a connection.
    Syn,
    /// It is in the middle of one.
    Ack,
    /// It ends one.
    Rst,
}

/// What would become of a packet: the path's own answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foretold {
    /// The packet, in a line.
    pub packet: String,
    /// Packets to the DVIPA are this node's.
    pub is_ours: bool,
    /// Its service is in the DPT.
    pub is_distributed: bool,
    /// What the CRT knows of its connection.
    pub entry: Option<(StackIndex, CrtState)>,
    /// The policy by which a target for this client is selected.
    pub policy: Option<IpNet>,
    /// Who is asked about connections without an entry, and whether their silence says that nobody has one.
    pub asked: (Vec<StackIndex>, bool),
    /// What would become of it at once.
    pub at_once: Passed,
    /// And if it waits for something that does not happen: what then.
    pub later: Option<Passed>,
    /// The stack that it would go to.
    pub to: Option<StackIndex>,
    /// How packets get to that stack.
    pub way: Option<WayView>,
}

impl Foretold {
    /// What becomes of it in the end, if that is known.
    pub fn last(&self) -> &Passed {
        self.later.as_ref().unwrap_or(&self.at_once)
    }
}

/// What the path would do with a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// What it would be counted as, and what would happen besides.
    pub met: Vec<Met>,
    /// What would come out.
    pub given: Vec<GivenRow>,
}

/// Something that a packet meets: a counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// The counter's name.
    pub name: String,
    /// What it says of the packet.
    pub kind: MetKind,
    /// Who can mend it, if it is a drop.
    pub fault: Option<Blame>,
    /// What it means.
    pub sentence: String,
}

/// What a counter says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetKind {
    /// It was forwarded, answered or passed on.
    Done,
    /// It was dropped.
    Dropped,
    /// It happened besides.
    Note,
}

/// A frame that came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenRow {
    /// `nic`, `local` (the node's own kernel) or `dropped`.
    pub to: String,
    /// The frame in a line.
    pub packet: String,
    /// Its bytes in hexadecimal, if they were asked for; the first 1600 at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bytes: String,
    /// How many it had.
    pub len: usize,
}

/// How packets get to a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "by")]
pub enum WayView {
    /// It is this node's own kernel.
    Local,
    /// They can't.
    None {
        /// The counter that says why.
        counter: String,
        /// What it means.
        sentence: String,
    },
    /// Encapsulated, or with another Ethernet header.
    Carried {
        /// `l2`, `ipip` or `gue`.
        encapsulation: String,
        /// Bytes of the longest packet that fits, from its IP header on.
        longest: u16,
        /// The next hop's link-layer address.
        next_hop: String,
    },
}

/// What became of a connection that has ended or moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Which.
    pub connection: Connection,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What happened.
    pub what: FateKind,
    /// The stack that had it.
    pub stack: StackIndex,
    /// The stack that has it since then.
    pub to: Option<StackIndex>,
}

/// What can become of a connection's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FateKind {
    /// Its stack has said that it ended.
    Ended,
    /// Its stack has said which connections it has, and this was none of them.
    NotNamed,
    /// Its stack is dead, or is none any more.
    StackDead,
    /// Nobody had it after a transfer, or the stack that it was handed to did not take it.
    Lost,
    /// It moved to another stack.
    Moved,
    /// Another stack has it now, and said so itself.
    Taken,
}

impl FateKind {
    /// The word in displays.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::NotNamed => "not-named",
            Self::StackDead => "stack-dead",
            Self::Lost => "lost",
            Self::Moved => "moved",
            Self::Taken => "taken",
        }
    }
}

/// Body of `POST /v1/trace`: which packets are looked at. All fields are optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceOrder {
    /// Client address, or address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientFilter>,
    /// DVIPA, or DVIPA and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ClientFilter>,
    /// For so many seconds ([`TRACE_S`]; not above [`TRACE_S_MAX`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// Packets a second of all workers ([`TRACE_A_SECOND`]; not above [`TRACE_A_SECOND_MAX`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a_second: Option<u32>,
    /// Answer the frames' bytes too.
    #[serde(default)]
    pub bytes: bool,
}

/// Seconds that a trace lasts unless it is said.
pub const TRACE_S: u64 = 60;
/// Seconds that it lasts at most.
pub const TRACE_S_MAX: u64 = 3600;
/// The most packets a second that a trace notes.
pub const TRACE_A_SECOND_MAX: u32 = 10_000;
/// The most that is said of them at once.
pub const SEEN_AT_ONCE: usize = 1024;
/// Packets a second that it keeps unless it is said.
pub const TRACE_A_SECOND: u32 = 1000;
/// Seconds after which a trace ends that nobody reads.
pub const TRACE_UNREAD_S: u64 = 10;

/// Answer of `GET /v1/trace`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceAnswer {
    /// What was seen since the last answer, in the order of each worker.
    pub packets: Vec<TraceRow>,
    /// How many were not kept since the trace began, because they came too fast.
    pub missed: u64,
    /// The trace is over.
    pub over: bool,
}

/// What one packet met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRow {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The worker's number.
    pub worker: u16,
    /// The packet as it came; null: it had come before, and waited until now.
    pub came: Option<CameRow>,
    /// What it was counted as, and what happened besides.
    pub met: Vec<Met>,
    /// What came out; nothing: it waits.
    pub given: Vec<GivenRow>,
    /// What the CRT knows of its connection at the time of the answer: `established` says that its stack has it.
    pub entry: Option<EntryRow>,
}

/// A packet that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CameRow {
    /// `nic`, or `local` (the node's own kernel).
    pub from: String,
    /// The frame in a line.
    pub packet: String,
    /// Its bytes in hexadecimal, if they were asked for; the first 1600 at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bytes: String,
    /// How many it had.
    pub len: usize,
}

/// An entry of the CRT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRow {
    /// The stack that has the connection.
    pub stack: String,
    /// The entry's state.
    pub state: CrtState,
}

/// A packet that was seen, before the control thread has named the stacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The row, without its entry.
    pub row: TraceRow,
    /// The entry's stack and state.
    pub entry: Option<(StackIndex, CrtState)>,
}

/// What a trace has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenPage {
    /// Since it was asked last.
    pub packets: Vec<Seen>,
    /// How many were not kept since it began.
    pub missed: u64,
    /// It is over.
    pub over: bool,
}

/// Both ends of a filter.
pub fn parts(filter: Option<ClientFilter>) -> (Option<std::net::IpAddr>, Option<u16>) {
    match filter {
        None => (None, None),
        Some(ClientFilter::Address(address)) => (Some(address.to_canonical()), None),
        Some(ClientFilter::Socket(SocketAddr::V4(socket))) => {
            (Some((*socket.ip()).into()), Some(socket.port()))
        }
        Some(ClientFilter::Socket(SocketAddr::V6(socket))) => {
            (Some(std::net::IpAddr::from(*socket.ip()).to_canonical()), Some(socket.port()))
        }
    }
}
