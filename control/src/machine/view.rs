//! What the displays show of a routing stack: plain data, the same for tables and `--json`.

use std::num::NonZeroU32;

use ipnet::IpNet;
use model::control_socket::JobName;
use model::dpt::{Encapsulation, Method};
use model::{ClusterAddress, Dvipa, DvipaIndex, Epoch, Limits, Protocol, Service, StackIndex, StackName};
use serde::{Deserialize, Serialize};

use super::RefusalKind;
use crate::config::{DecidedBy, Moveable};

/// `baton status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// This stack's name.
    pub stack: StackName,
    /// Its cluster address.
    pub cluster_address: ClusterAddress,
    /// The software's version.
    pub version: String,
    /// The number that differs each time the process starts.
    pub incarnation: u64,
    /// The longest IP packet between the stacks, in bytes, as it is configured here.
    #[serde(default)]
    pub fabric_mtu: u16,
    /// How often the DPT has changed.
    pub generation: u64,
    /// How many DVIPAs this stack owns.
    pub dvipas_owned: usize,
    /// How many it backs up.
    pub dvipas_backed_up: usize,
    /// How many services the DPT has.
    pub services: usize,
    /// All stacks that are or were known, by name.
    pub stacks: Vec<StackView>,
    /// Messages and orders that were not followed, by reason; only those that occurred.
    pub refused: Vec<RefusedView>,
}

/// One stack in [`StatusView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackView {
    /// Its name.
    pub stack: StackName,
    /// Its number in CRT entries.
    pub index: StackIndex,
    /// Its cluster address, as it said.
    pub cluster_address: ClusterAddress,
    /// How packets are carried to it; none: it is this node's own kernel.
    pub encapsulation: Option<Encapsulation>,
    /// Its session.
    pub session: SessionState,
    /// Its software's version.
    pub version: String,
    /// The longest IP packet between the stacks, in bytes, as it is configured there; null: it did not say.
    #[serde(default)]
    pub fabric_mtu: Option<u16>,
    /// How many of its listens are known.
    pub listens: usize,
    /// How many connections the CRT has of it.
    pub connections: u64,
    /// How busy it is, if it said so in this session.
    pub load: Option<LoadView>,
    /// It drains in some scope.
    pub draining: bool,
}

/// The session with a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// Up.
    Up,
    /// Up, and nothing was heard of the peer for a moment.
    Quiet,
    /// Over: a target that is lost.
    Lost,
    /// Over, and the host does not answer either: its connections are ended.
    Dead,
}

/// How busy a target is, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadView {
    /// Use of all its processors.
    pub cpu_permille: u16,
    /// How full the fullest accept queue is.
    pub accept_queue_permille: u16,
    /// Share of time in which some task waited for memory.
    pub memory_pressure_permille: u16,
    /// The weight that follows, 1 to 100.
    pub weight: u16,
}

/// How often something was refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// The reason.
    pub reason: RefusalKind,
    /// The peer that caused it; none: operators and controllers.
    pub stack: Option<StackName>,
    /// How often.
    pub count: u64,
}

/// `baton vipa`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipaView {
    /// This stack's name.
    pub stack: StackName,
    /// Its DVIPAs, sorted by address.
    pub dvipas: Vec<DvipaView>,
    /// This stack is to own nothing, because it is about to end.
    #[serde(default)]
    pub leaving: bool,
    /// Who decides which routing stack owns one.
    #[serde(default)]
    pub decided_by: DecidedBy,
    /// For how long a routing stack is leased to, where something leases.
    #[serde(default)]
    pub lease_ms: Option<u64>,
    /// This stack shares DVIPAs with others.
    #[serde(default)]
    pub shared: bool,
    /// Routing stacks that ask other witnesses than this one, or for another time: two of them may own one DVIPA.
    #[serde(default)]
    pub other_witnesses: Vec<OtherWitnessesView>,
    /// Ranges out of which applications may make DVIPAs.
    pub ranges: Vec<RangeView>,
}

/// One DVIPA in [`VipaView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DvipaView {
    /// The address.
    pub dvipa: Dvipa,
    /// Its number in CRT entries, if this stack owns it or did.
    pub index: Option<DvipaIndex>,
    /// What this stack is for it.
    pub role: Role,
    /// The epoch of its ownership; 0: not owned and none is known.
    pub epoch: Epoch,
    /// This stack's rank as a backup (1 to 254); none: it is the primary.
    pub rank: Option<u8>,
    /// Length of the network prefix, in bits, if the definition says it.
    pub prefix_bits: Option<u8>,
    /// When it may move, if the definition says it.
    pub moveable: Option<Moveable>,
    /// The routing stack that owns it, as far as is known here.
    #[serde(default)]
    pub owner: Option<StackName>,
    /// Routing stacks whose definitions of it contradict each other: two primaries, or two backups of one rank.
    #[serde(default)]
    pub contradiction: Vec<StackName>,
    /// How it is leased; none: it is not owned, or this stack decides alone.
    #[serde(default)]
    pub lease: Option<LeaseView>,
    /// What is distributed.
    pub distributions: Vec<DistributionView>,
}

/// How a DVIPA is leased to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// By so many witnesses.
    pub by: u32,
    /// Of so many.
    pub of: u32,
    /// By a majority for so many milliseconds yet, unless they renew it.
    pub left_ms: u64,
}

/// A routing stack that asks other witnesses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherWitnessesView {
    /// Which.
    pub stack: StackName,
    /// Its witnesses; none: it decides alone.
    pub witnesses: Vec<StackName>,
    /// For how many milliseconds they lease.
    pub lease_ms: u32,
}

/// What this stack is for a DVIPA now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It owns it: packets come here.
    Owner,
    /// It would take it over.
    Backup,
}

/// One VIPADISTRIBUTE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DistributionView {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The enumerated ports; empty: not enumerated.
    pub ports: Vec<u16>,
    /// Names and cluster addresses as defined, or `all`.
    pub destip: Vec<String>,
    /// How a target is selected.
    pub method: Method,
    /// `equal`, `configured` or `load`.
    pub weights: String,
    /// Connections go to the routing application first.
    pub content_routed: bool,
    /// How many service policies there are.
    pub policies: usize,
}

/// One VIPARANGE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeView {
    /// The addresses.
    pub range: IpNet,
    /// How they move.
    pub moveable: Moveable,
    /// This stack's rank as a backup for them; none: it is the primary.
    #[serde(default)]
    pub rank: Option<u8>,
    /// Those that are active, sorted.
    #[serde(default)]
    pub active: Vec<ActiveView>,
}

/// One active address in [`RangeView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveView {
    /// The address.
    pub address: Dvipa,
    /// The stack that has it.
    pub stack: StackName,
    /// By an operator's order.
    pub ordered: bool,
    /// How it is with it.
    pub state: ActiveState,
    /// Other stacks that have connections to it, and how many.
    pub former: Vec<FormerView>,
}

/// How it is with an active address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActiveState {
    /// All that comes to it goes to its stack.
    Active,
    /// New connections go to its stack; others stay where the address was before.
    Moving,
    /// No application is bound to it any more; it is there until the last connection has ended.
    Ending,
    /// A VIPADEFINE or VIPABACKUP takes it out of its range.
    Defined,
}

/// A stack that had an address and still has connections to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerView {
    /// Which.
    pub stack: StackName,
    /// How many.
    pub connections: u64,
}

/// `baton dpt`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DptView {
    /// How often the DPT has changed.
    pub generation: u64,
    /// The services, sorted.
    pub services: Vec<ServiceView>,
}

/// One service with all its candidate targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its DVIPA.
    pub dvipa: Dvipa,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port is enumerated (row U1).
    pub enumerated: bool,
    /// No definition distributes it: one stack has the port for itself (row U2).
    #[serde(default)]
    pub direct: bool,
    /// How a target is selected.
    pub method: Method,
    /// Connections go to the routing application first.
    pub content_routed: bool,
    /// The candidates, by name, those that are only known by address last.
    pub targets: Vec<TargetView>,
    /// Service policies, in order.
    pub policies: Vec<PolicyView>,
    /// So many targets fail or are stalled that all are selected as if none were.
    #[serde(default)]
    pub panics: bool,
    /// The connections that a target may have, of all its services together, before it is given no new one of this one.
    #[serde(default)]
    pub max_connections: Option<NonZeroU32>,
    /// For how many seconds a client keeps its target after its last connection.
    #[serde(default)]
    pub affinity_s: Option<u16>,
    /// How many connections of it may begin.
    #[serde(default)]
    pub limits: Limits,
}

/// A service of whose targets some fail or are stalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfitView {
    /// Which.
    pub service: Service,
    /// They, and which of the two.
    pub targets: Vec<(StackName, TargetState)>,
    /// They are so many that all are selected as if none were.
    pub panics: bool,
}

/// One candidate target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetView {
    /// Its name, or its address as defined if no stack with it was ever seen.
    pub target: String,
    /// Its number in CRT entries, if it was ever seen.
    pub index: Option<StackIndex>,
    /// May it be selected, and if not, why.
    pub state: TargetState,
    /// Its share of new connections.
    pub weight: u16,
    /// Where the weight comes from.
    pub weight_source: WeightSource,
    /// How many connections the CRT has of this stack, all services together.
    pub connections: u64,
    /// How busy it is, if it said so.
    pub load: Option<LoadView>,
    /// The job names of the applications that are registered there for the service, sorted: on this node of routing
    /// applications, elsewhere of targets.
    #[serde(default)]
    pub applications: Vec<JobName>,
    /// What its agent has seen of the application, if that fails.
    #[serde(default)]
    pub why: Option<String>,
    /// How much of its share it is given, if it began to serve a moment ago, in percent.
    #[serde(default)]
    pub share_percent: Option<u8>,
    /// What the connection IDs of its QUIC servers have to call it, one for each way of making them.
    #[serde(default)]
    pub server_ids: Vec<ServerIdView>,
}

/// A server ID in QUIC connection IDs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerIdView {
    /// The rotation bits that such connection IDs begin with, as a number.
    pub rotation: u8,
    /// Its bytes, in hexadecimal digits.
    pub id: String,
}

/// A service policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Which clients.
    pub client: IpNet,
    /// Which targets they may be given.
    pub targets: Vec<TargetView>,
}

/// May a candidate be selected for a new connection, and if not, why: the first that applies, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetState {
    /// No stack of this name or address was ever seen.
    NeverSeen,
    /// Its session is over.
    Lost,
    /// It has a cluster address that another stack, or this node, has too.
    AddressConflict,
    /// It has no cluster address of a family that this node has.
    Unreachable,
    /// It did not yet say what listens there.
    NotReported,
    /// No application listens.
    NotListening,
    /// An application is here; content-routed connections reach it by transfer, not by selection.
    TransferOnly,
    /// An application listens, but none is registered as routing application: the port is not offered.
    NoRoutingApplication,
    /// An operator drains it.
    Draining,
    /// Its weight is 0.
    WeightZero,
    /// It has as many connections as it may (`max_connections`).
    Full,
    /// Its application does not answer as it should: not selected while enough others do ([`Selection`]).
    Failing,
    /// Clients wait there, and the application has accepted none for some seconds: not selected while enough others serve.
    Stalled,
    /// Nothing was heard of its stack for a moment: selected only if no other is left.
    Quiet,
    /// A current actual target.
    Listening,
}

/// Which of some candidates may be selected, by their states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// So many are unfit that none is taken for it.
    pub(super) panics: bool,
    /// What the unfit ones count as then: the best that there is.
    unfit_as: TargetState,
    state: TargetState,
}

impl Selection {
    /// Those that listen; quiet ones if nobody else is left, for it may be this node that hears nobody. When so many of a hundred are
    /// unfit, they count as the others: too few would have to serve all, and a client that waits is better than one that is refused.
    pub(super) fn new(states: impl Iterator<Item = TargetState> + Clone, panic_percent: u8) -> Self {
        let may = states.filter(|state| state.is_unfit() || state.serves_all());
        let (all, unfit) = (may.clone().count(), may.clone().filter(|state| state.is_unfit()).count());
        let panics = unfit > 0 && unfit * 100 >= all * usize::from(panic_percent);
        let best = may.clone().filter(|state| !state.is_unfit()).max();
        let unfit_as = best.unwrap_or(TargetState::Listening);
        let of = |state| Self { panics, unfit_as, state };
        of(may.map(|state| of(state).seen(state)).max().unwrap_or(TargetState::Listening))
    }

    /// May a candidate in this state be selected?
    pub(super) fn takes(self, state: TargetState) -> bool {
        self.seen(state) == self.state
    }

    fn seen(self, state: TargetState) -> TargetState {
        if self.panics && state.is_unfit() { self.unfit_as } else { state }
    }
}

impl TargetState {
    /// Its application listens and serves nobody.
    pub(super) fn is_unfit(self) -> bool {
        matches!(self, Self::Failing | Self::Stalled)
    }

    /// As far as is known it takes new connections.
    pub(super) fn serves_all(self) -> bool {
        matches!(self, Self::Quiet | Self::Listening)
    }

    /// What it means, and what can be done about it.
    pub fn sentence(self) -> &'static str {
        match self {
            TargetState::NeverSeen => {
                "no stack of this name or address has ever had a session with this node: start its baton-agent, or correct `destip`"
            }
            TargetState::Lost => "its session is over: its agent or its host is down, or can't be reached",
            TargetState::AddressConflict => {
                "it has a cluster address that another stack, or this node, has too: correct its agent.toml"
            }
            TargetState::Unreachable => "it has no cluster address of a family that this node has",
            TargetState::NotReported => "it has not said yet what listens there",
            TargetState::NotListening => {
                "no application listens on the port there: start the server, or look where it listens"
            }
            TargetState::TransferOnly => "content-routed connections reach it by transfer, not by selection",
            TargetState::NoRoutingApplication => {
                "an application listens there, but none is registered as routing application: start it"
            }
            TargetState::Draining => "an operator drains it: `baton resume` ends that",
            TargetState::WeightZero => "its weight is 0",
            TargetState::Full => {
                "it has as many connections, of all its services together, as `max_connections` of the service lets it have"
            }
            TargetState::Failing => {
                "its application does not answer as it should: it is not selected while enough others do; look at the server, and at \
                 `[[check]]` in its agent.toml"
            }
            TargetState::Stalled => {
                "clients wait there and the application has accepted none for 5 s: it is not selected while enough others serve; look \
                 whether it is stopped, hangs, or has as many connections as it takes"
            }
            TargetState::Quiet => {
                "nothing was heard of it for a moment: it is selected only if no other is left"
            }
            TargetState::Listening => "an application listens there",
        }
    }

    /// The word that displays show.
    pub fn word(self) -> &'static str {
        match self {
            TargetState::NeverSeen => "never-seen",
            TargetState::Lost => "lost",
            TargetState::AddressConflict => "address-conflict",
            TargetState::Unreachable => "unreachable",
            TargetState::NotReported => "not-reported",
            TargetState::NotListening => "not-listening",
            TargetState::TransferOnly => "transfer-only",
            TargetState::NoRoutingApplication => "no-routing-application",
            TargetState::Draining => "draining",
            TargetState::WeightZero => "weight-zero",
            TargetState::Full => "full",
            TargetState::Failing => "failing",
            TargetState::Stalled => "stalled",
            TargetState::Quiet => "quiet",
            TargetState::Listening => "listening",
        }
    }
}

/// Where a weight comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum WeightSource {
    /// Nothing says one.
    Equal,
    /// The definition.
    Configured,
    /// The load that the target reports.
    Load,
    /// An outside controller.
    Controller {
        /// How long it still holds, in milliseconds.
        expires_in_ms: u64,
    },
}

/// What becomes of the connections of a stack that is evacuated (`baton drain --move`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvacuationView {
    /// The stack.
    pub stack: StackName,
    /// Only of this DVIPA.
    pub dvipa: Option<Dvipa>,
    /// Only of this port.
    pub port: Option<u16>,
    /// Of this protocol.
    pub protocol: Option<Protocol>,
    /// How far it is.
    pub state: EvacuationState,
    /// Established connections that the stack had when the CRT was asked last; null: not yet.
    pub connections: Option<u64>,
    /// How many have moved.
    pub moved: u64,
    /// How many are gone with the host that took them over.
    pub lost: u64,
    /// How many move now.
    pub under_way: u64,
    /// How many wait for their turn, by why they did not move when they were tried last (null: not tried yet).
    pub waiting: Vec<ReasonCount>,
    /// How many can't move and are not tried any more, by the reason.
    pub refused: Vec<ReasonCount>,
    /// Since it began, until it ended, milliseconds.
    pub elapsed_ms: u64,
}

/// How far an evacuation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvacuationState {
    /// Connections are moved as they become idle.
    Moving,
    /// The stack has none any more.
    Empty,
    /// An operator has stopped it; the stack drains, with what it has.
    Stopped,
    /// Its time is over; the stack drains, with what it has.
    TimeOver,
}

/// How many connections, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// The reason's word.
    pub reason: Option<String>,
    /// What it means.
    pub sentence: Option<String>,
    /// How many.
    pub connections: u64,
}
