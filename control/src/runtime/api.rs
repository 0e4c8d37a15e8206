//! The words of the admin API: what is asked and what is answered, as JSON. `docs/admin-api.md` describes them for
//! people; [`crate::machine`]'s views are the answers of `/v1/vipa` and `/v1/dpt`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use model::control_socket::JobName;
use model::message::OrderId;
use model::{Blame, Connection, CrtState, Dvipa, Protocol, Service, StackName};
use serde::{Deserialize, Serialize};

mod configuration;
mod events;
mod ordered_by;

pub use super::census::{DptAnswer, ShareRow, TurnedAwayRow};
pub use super::web::{MovingRow, WatchAnswer};
pub use configuration::*;
pub use events::*;
pub use ordered_by::*;

use super::environment::Environment;
use super::etcd::EtcdView;
use super::forwarding::{CrtStats, PortView, RouteCount};
use crate::config::DecidedBy;
use crate::machine::{EvacuationTerms, EvacuationView, RefusedView, StatusView};

/// How many connections of a drained stack move to each target at once unless `at_once` says otherwise.
pub const AT_ONCE: usize = 32;
/// Rows that `/v1/crt` answers unless `limit` says otherwise.
pub const CRT_LIMIT: usize = 100;
/// The most rows that `/v1/crt` answers.
pub const CRT_LIMIT_MAX: usize = 10_000;

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// `batond`.
    pub program: String,
    /// What the machine says.
    #[serde(flatten)]
    pub machine: StatusView,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Where sessions are accepted.
    pub listen: SocketAddr,
    /// The configuration file.
    pub config: PathBuf,
    /// Seconds since the configuration in force was read.
    pub config_age_s: u64,
    /// How full the CRT is.
    pub crt: CrtStats,
    /// The NIC and the local port.
    #[serde(default)]
    pub ports: Vec<PortView>,
    /// What others have changed in the node's kernel.
    #[serde(default)]
    pub environment: Environment,
    /// When the certificate ends that new sessions use.
    #[serde(default)]
    pub certificate: transport::Expiry,
    /// When the sessions began that are up, in seconds since 1970.
    #[serde(default)]
    pub sessions_since_s: BTreeMap<StackName, u64>,
    /// Who decides which routing stack owns a DVIPA.
    #[serde(default)]
    pub decided_by: DecidedBy,
    /// The etcd that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdView>,
}

/// Body of `POST /v1/vipa/move`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DvipaOrder {
    /// A DVIPA that this stack owns.
    pub dvipa: Dvipa,
    /// The routing stack that shall own it.
    pub to: StackName,
}

/// Body of `POST /v1/vipa/activate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActiveOrder {
    /// An address of a range.
    pub dvipa: Dvipa,
    /// Where it shall be active; none: where an application is bound to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackName>,
}

/// Query of `GET /v1/crt`: all fields are optional and narrow the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrtQuery {
    /// Client address, or address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientFilter>,
    /// DVIPA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dvipa: Option<IpAddr>,
    /// Port of the DVIPA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The stack that has the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackName>,
    /// The entry's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CrtState>,
    /// Rows at most ([`CRT_LIMIT`]; not above [`CRT_LIMIT_MAX`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A client by address, or by address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ClientFilter {
    /// Any port.
    Address(IpAddr),
    /// This port.
    Socket(SocketAddr),
}

impl FromStr for ClientFilter {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let socket = text.parse().map(ClientFilter::Socket);
        socket
            .or_else(|_| text.parse().map(ClientFilter::Address))
            .map_err(|_| format!("`{text}` is no client: write ADDRESS, ADDRESS:PORT or [IPV6]:PORT"))
    }
}

impl TryFrom<String> for ClientFilter {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ClientFilter> for String {
    fn from(filter: ClientFilter) -> String {
        match filter {
            ClientFilter::Address(address) => address.to_string(),
            ClientFilter::Socket(socket) => socket.to_string(),
        }
    }
}

/// Answer of `GET /v1/crt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrtAnswer {
    /// Connections that pass the filter, sorted by DVIPA and client, at most `limit`.
    pub connections: Vec<CrtRow>,
    /// How many more pass it.
    pub more: u64,
    /// How full the CRT is, all connections counted.
    pub crt: CrtStats,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrtRow {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The client's address and port.
    pub client: SocketAddr,
    /// The DVIPA and its port.
    pub dvipa: SocketAddr,
    /// The stack that has it.
    pub stack: String,
    /// Its state.
    pub state: CrtState,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
    /// The transfer that is under way, or whose source has not confirmed its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferRow>,
}

/// A transfer under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRow {
    /// Its number, which agents log too.
    pub id: String,
    /// From which stack.
    pub source: StackName,
    /// To which stack.
    pub target: StackName,
    /// `restore` or `inject`.
    pub way: String,
    /// `consulting`, `dumping`, `offered`, `committed`, `in-doubt`, `moved`, `returning`, `lost`.
    pub step: String,
}

/// Answer of `GET /v1/stats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsAnswer {
    /// Seconds since the start, when all counters were 0.
    pub uptime_s: u64,
    /// What became of packets.
    pub packets: Vec<CounterRow>,
    /// What became of sessions and messages.
    pub cluster: Vec<CounterRow>,
    /// What became of transfers.
    #[serde(default)]
    pub transfers: Vec<CounterRow>,
    /// Messages and orders that were not followed, by reason.
    pub refused: Vec<RefusedView>,
    /// Connections by stack, sorted by name.
    pub connections: Vec<StackConnections>,
    /// Requests by route, of [`MOST_ROUTES`] routes at most.
    #[serde(default)]
    pub routes: Vec<RouteCount>,
    /// What each stack has of each service.
    #[serde(default)]
    pub shares: Vec<ShareRow>,
    /// What was refused of each service.
    #[serde(default)]
    pub turned_away: Vec<TurnedAwayRow>,
    /// How full the CRT is.
    pub crt: CrtStats,
    /// The NIC and the local port.
    #[serde(default)]
    pub ports: Vec<PortView>,
    /// What others have changed in the node's kernel.
    #[serde(default)]
    pub environment: Environment,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRow {
    /// Its name; the metric is `baton_packets_NAME_total`, `baton_cluster_NAME_total` or `baton_transfers_NAME_total`.
    pub name: String,
    /// Its value.
    pub value: u64,
    /// Who can mend it, if anybody has to.
    pub fault: Option<Blame>,
    /// What it means.
    pub sentence: String,
}

/// So many routes are shown with their counts; those of a port come in the order of its file.
pub const MOST_ROUTES: usize = 1000;

/// How many connections a stack has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackConnections {
    /// Its name.
    pub stack: String,
    /// Entries of the CRT.
    pub connections: u64,
}

/// Query of `POST /v1/drain/STACK` and `/v1/resume/STACK`: no field, all that the stack does; `dvipa`, that
/// DVIPA; with `port` too, that service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeQuery {
    /// One DVIPA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dvipa: Option<IpAddr>,
    /// One port of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Of this protocol; TCP if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// Query of `POST /v1/drain/STACK`: as [`ScopeQuery`], and whether and how its connections are moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainQuery {
    /// One DVIPA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dvipa: Option<IpAddr>,
    /// One port of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Of this protocol; TCP if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// `true`: its connections are moved to the others; `false`: no more of them are. Nothing: as it was.
    #[serde(default, rename = "move", skip_serializing_if = "Option::is_none")]
    pub moves: Option<bool>,
    /// For how many seconds at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// For how many milliseconds a connection must have been quiet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_ms: Option<u32>,
    /// How many move to each target at once ([`AT_ONCE`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<usize>,
}

impl DrainQuery {
    /// Of what the stack drains.
    pub fn scope(&self) -> ScopeQuery {
        ScopeQuery { dvipa: self.dvipa, port: self.port, protocol: self.protocol }
    }

    /// How its connections are moved.
    pub fn terms(&self) -> EvacuationTerms {
        EvacuationTerms {
            quiet_ms: self.quiet_ms,
            at_once: self.at_once.unwrap_or(AT_ONCE),
            time: self.for_s.map(Duration::from_secs),
        }
    }
}

/// Answer of `GET /v1/drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainAnswer {
    /// The stacks whose connections are moved to the others, by name, and those for which that has ended and the drain has
    /// not.
    pub evacuations: Vec<EvacuationView>,
}

/// Body of `POST /v1/weights`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsOrder {
    /// The service's DVIPA.
    pub dvipa: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its protocol; TCP if nothing is said.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// Weights by stack name, 0 to 65 535; stacks that are not named keep theirs. None at all: takes back what
    /// was set.
    pub weights: BTreeMap<StackName, u16>,
    /// How many seconds they hold.
    pub ttl_s: u64,
}

/// Body of `POST /v1/move`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveOrder {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The DVIPA and its port.
    pub dvipa: SocketAddr,
    /// To which stack.
    pub target: StackName,
    /// To which application there; to any, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// For how many milliseconds an unmodified server and its client must have been quiet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_ms: Option<u32>,
}

impl MoveOrder {
    /// Which connection is meant; `None` if the addresses are of two families.
    pub fn connection(&self) -> Option<Connection> {
        Connection::new(Protocol::Tcp, self.client, self.dvipa)
    }
}

/// Answer of `POST /v1/move`: the order has gone to the connection's stack. `GET /v1/move/ORDER` tells what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveOrdered {
    /// The order's number.
    pub order: OrderId,
    /// The stack that has the connection.
    pub source: String,
    /// The stack that it shall move to.
    pub target: StackName,
}

/// Answer of `GET /v1/move/ORDER`. Orders that are over are kept for a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveAnswer {
    /// The order's number.
    pub order: OrderId,
    /// The client's address and port.
    pub client: SocketAddr,
    /// The DVIPA and its port.
    pub dvipa: SocketAddr,
    /// The stack that had the connection.
    pub source: StackName,
    /// The stack that it should move to.
    pub target: StackName,
    /// How far it is.
    pub state: MoveState,
    /// The way into the target (`restore`, `inject`); null if the transfer did not begin.
    pub way: Option<String>,
    /// For how long the client's packets were held, microseconds; null if they were not, or still are.
    pub pause_us: Option<u64>,
    /// From the order to its end, microseconds; null as long as it is not over.
    pub took_us: Option<u64>,
    /// Why it stayed.
    pub reason: Option<String>,
    /// What that means, and what can be done.
    pub sentence: Option<String>,
    /// What the application or the kernel said about it.
    pub said: Option<String>,
}

/// How far an order to move a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoveState {
    /// The connection's stack was told.
    Told,
    /// The transfer is under way.
    Moving,
    /// The connection is at the target.
    Moved,
    /// It is where it was.
    Stayed,
    /// Nobody has it any more.
    Lost,
}

pub(super) fn tcp() -> Protocol {
    Protocol::Tcp
}

impl WeightsOrder {
    /// Which service is meant.
    pub fn service(&self) -> Service {
        Service { dvipa: Dvipa::new(self.dvipa), port: self.port, protocol: self.protocol }
    }
}

/// Answer of an order that was followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The DPT's generation afterwards.
    pub generation: u64,
    /// The order changed the DPT.
    pub dpt_changed: bool,
}

/// Answer of everything that was not done; the HTTP status says whose fault it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong and what to do about it.
    pub error: String,
    /// Mistakes in the configuration file, in its order; empty for other problems.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<MistakeRow>,
}

/// One mistake in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MistakeRow {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub fix: String,
}
