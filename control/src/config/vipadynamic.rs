//! The `[[vipadynamic]]` block (row W1): which DVIPAs this stack has, and how their connections are distributed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use model::dpt::{Affinity, Method, Refuse, Shared};
use model::route::RouteSet;
use model::{Dvipa, Limits, Protocol, Rank, Service, StackName, quic};
use serde::{Deserialize, Serialize};

/// All VIPADYNAMIC statements of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipaDynamic {
    /// DVIPAs that this stack is the primary of, by address.
    pub defines: Vec<VipaDefine>,
    /// DVIPAs that this stack is a backup for, by address.
    pub backups: Vec<VipaBackup>,
    /// What is distributed, by DVIPA. Each names one that is defined or backed up here; no port of a DVIPA and protocol is
    /// in two of them, and at most one of them enumerates no ports.
    pub distributes: Vec<VipaDistribute>,
    /// Ranges out of which applications may make DVIPAs.
    pub ranges: Vec<VipaRange>,
    /// DVIPAs of the ranges of other routing stacks: their connections may be at any stack.
    pub elsewhere: BTreeSet<Dvipa>,
    /// DVIPAs that this stack backs up without a VIPADISTRIBUTE, and of which no routing stack has said yet what they distribute.
    pub unheard: BTreeSet<Dvipa>,
}

impl VipaDynamic {
    /// Whether this node forwards packets to the DVIPA, whoever owns it. A client of a content-routed port has to reach the owner's
    /// routing application, and one of a port with routes the node that answered its SYN.
    pub fn always_forwards(&self, dvipa: Dvipa) -> bool {
        let defined = self.define_of(dvipa).map(|d| d.forwards);
        let forwards = defined.or_else(|| self.backup_of(dvipa).map(|b| b.forwards));
        let routes_content =
            || self.distributes_of(dvipa).iter().any(|d| d.content_routed || d.routing.is_some());
        forwards == Some(Forwards::Always) && !routes_content()
    }

    /// The range that the DVIPA is out of, if it is out of one.
    pub fn range_of(&self, dvipa: Dvipa) -> Option<&VipaRange> {
        self.ranges.iter().find(|range| range.range.contains(&dvipa.address()))
    }

    /// Whether the DVIPA may move from stack to stack without its connections, so that any stack may have some of them.
    pub fn moves_alone(&self, dvipa: Dvipa) -> bool {
        self.elsewhere.contains(&dvipa) || self.range_of(dvipa).is_some()
    }

    /// Whether this node has a VIPADEFINE or a VIPABACKUP for it.
    pub fn has_statement(&self, dvipa: Dvipa) -> bool {
        self.defines.iter().any(|d| d.dvipa == dvipa) || self.backups.iter().any(|b| b.dvipa == dvipa)
    }
}

/// VIPADEFINE: this stack owns the DVIPA when nothing has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipaDefine {
    /// The address.
    pub dvipa: Dvipa,
    /// Length of the network prefix that is advertised, in bits.
    pub prefix_bits: u8,
    /// When a primary that comes back takes the address.
    pub moveable: Moveable,
    /// What a client is told at a port that is not distributed.
    pub refuse: Refuse,
    /// When this node forwards packets to it.
    pub forwards: Forwards,
}

/// When a node forwards packets to a DVIPA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwards {
    /// While it owns it, and for a moment after that.
    #[default]
    WhenOwner,
    /// Whoever owns it.
    Always,
}

/// When a DVIPA may move to another stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moveable {
    /// At once (MOVEABLE IMMEDIATE).
    #[default]
    Immediate,
    /// When it has no connections any more (MOVEABLE WHENIDLE).
    WhenIdle,
    /// At once, and its connections stay where they are (MOVEABLE NONDISRUPTIVE, in ranges only).
    NonDisruptive,
    /// At once, and its connections end (in ranges only).
    Disruptive,
}

impl fmt::Display for Moveable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Moveable::Immediate => "immediate",
            Moveable::WhenIdle => "whenidle",
            Moveable::NonDisruptive => "nondisruptive",
            Moveable::Disruptive => "disruptive",
        })
    }
}

/// VIPABACKUP: this stack takes the DVIPA over when its owner fails, by rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipaBackup {
    /// The address.
    pub dvipa: Dvipa,
    /// The place in the order of backups.
    pub rank: Rank,
    /// Length of the network prefix that is advertised, in bits, if it differs from the primary's.
    pub prefix_bits: Option<u8>,
    /// When the address may move on, if it differs from the primary's.
    pub moveable: Option<Moveable>,
    /// When this node forwards packets to it.
    pub forwards: Forwards,
}

/// VIPADISTRIBUTE: connections to these ports are spread over these stacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipaDistribute {
    /// The address.
    pub dvipa: Dvipa,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The enumerated ports, sorted, none twice, none 0. Empty: not enumerated (row U1).
    pub ports: Vec<u16>,
    /// The candidate targets.
    pub destip: Destip,
    /// How one is selected.
    pub method: Method,
    /// Where the weights come from.
    pub weights: Weights,
    /// Connections go to the routing application on this node first (CONTENTROUTED).
    pub content_routed: bool,
    /// What a client is told while no target takes it.
    pub refuse: Refuse,
    /// How much its targets are given, and what counts when they fail.
    pub rules: TargetRules,
    /// How many connections may begin.
    pub limits: Limits,
    /// Service policies, first match wins.
    pub policies: Vec<ServicePolicy>,
    /// Its routes: what a client's first request asks for decides where the connection goes.
    pub routing: Option<Routing>,
    /// How its servers make QUIC connection IDs, each way with rotation bits of its own. Empty: packets follow their flow.
    pub quic: Shared<Vec<quic::Configuration>>,
}

/// How many clients of a service are remembered with their targets, if it is not configured, and at most.
pub(crate) const AFFINITY_CLIENTS: u32 = 65_536;
pub(crate) const MOST_AFFINITY_CLIENTS: u32 = 1_048_576;

/// How much the targets of a VIPADISTRIBUTE are given, and what counts when they fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetRules {
    /// When so many of a hundred fail or are stalled, all are selected as if none were: 1 to 100.
    pub panic_percent: u8,
    /// For how many seconds the share of a target grows that begins to serve; 0: it has its whole share at once.
    pub slow_start_s: u16,
    /// The connections that a target may have, of all its services together, before it is given no new one of this one.
    pub max_connections: Option<NonZeroU32>,
    /// For how long a client keeps its target after its last connection.
    pub affinity: Option<Affinity>,
}

impl Default for TargetRules {
    fn default() -> Self {
        Self { panic_percent: 100, slow_start_s: 0, max_connections: None, affinity: None }
    }
}

/// The routes of a VIPADISTRIBUTE, and who may be selected for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The routes.
    pub set: Shared<RouteSet>,
    /// Who may be selected, with weights: nothing twice.
    pub lists: Vec<(Destip, Weights)>,
    /// Of each route, in the order of the set, the place in the lists; none: the distribution's own candidates.
    pub list_of: Vec<Option<usize>>,
}

impl Routing {
    /// Routes that many others share their backends with cost one list.
    pub fn new(set: RouteSet) -> Self {
        let (mut lists, mut list_of) = (Vec::new(), Vec::with_capacity(set.routes.len()));
        let mut known = BTreeMap::new();
        for route in &set.routes {
            let weights = route.backends.iter().map(|b| (Candidate::Name(b.stack.clone()), b.weight));
            let weights: BTreeMap<Candidate, u16> = weights.collect();
            list_of.push((!weights.is_empty()).then(|| {
                *known.entry(weights).or_insert_with_key(|weights| {
                    lists.push((
                        Destip::List(weights.keys().cloned().collect()),
                        Weights::Configured(weights.clone()),
                    ));
                    lists.len() - 1
                })
            }));
        }
        Self { set: set.into(), lists, list_of }
    }

    /// Whether a stack serves every route that another one serves: which of them a connection came by is not known later.
    pub fn can_follow(&self, source: &StackName, next: &StackName) -> bool {
        self.lists.iter().all(|(destip, _)| !destip.names(source) || destip.names(next))
    }
}

/// Who may be selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destip {
    /// Every stack of the cluster, also those that join later (row W11).
    All,
    /// These; never empty, none twice.
    List(Vec<Candidate>),
}

/// A stack as a definition names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Candidate {
    /// By name.
    Name(StackName),
    /// By one of its cluster addresses.
    Address(IpAddr),
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Candidate::Name(name) => name.fmt(f),
            Candidate::Address(address) => address.fmt(f),
        }
    }
}

/// Where a target's weight comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// All weigh the same.
    #[default]
    Equal,
    /// These; who is not named weighs 1.
    Configured(BTreeMap<Candidate, u16>),
    /// The live load that the targets report (the documents' WLM).
    Load,
}

/// A service policy: clients with this prefix are served by these targets with these weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePolicy {
    /// Which clients; host bits are zero.
    pub client: IpNet,
    /// Which targets they may be given; [`Destip::All`]: all candidates of the distribution.
    pub destip: Destip,
    /// Their weights.
    pub weights: Weights,
}

/// VIPARANGE: an application of any stack may make an address in here a DVIPA by binding to it (row W9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipaRange {
    /// The addresses; host bits are zero.
    pub range: IpNet,
    /// How they move: [`Moveable::NonDisruptive`] or [`Moveable::Disruptive`].
    pub moveable: Moveable,
    /// This node's place in the order of backups for them; none: it is their primary.
    pub rank: Option<Rank>,
}

impl VipaDynamic {
    /// The VIPADEFINE of a DVIPA.
    pub fn define_of(&self, dvipa: Dvipa) -> Option<&VipaDefine> {
        let at = self.defines.binary_search_by_key(&dvipa, |define| define.dvipa).ok()?;
        self.defines.get(at)
    }

    /// The VIPABACKUP of a DVIPA.
    pub fn backup_of(&self, dvipa: Dvipa) -> Option<&VipaBackup> {
        let at = self.backups.binary_search_by_key(&dvipa, |backup| backup.dvipa).ok()?;
        self.backups.get(at)
    }

    /// The distributions of a DVIPA, in the file's order.
    pub fn distributes_of(&self, dvipa: Dvipa) -> &[VipaDistribute] {
        let from = self.distributes.partition_point(|d| d.dvipa < dvipa);
        let of_it = self.distributes.get(from..).unwrap_or_default();
        of_it.get(..of_it.partition_point(|d| d.dvipa == dvipa)).unwrap_or_default()
    }
}

impl VipaDistribute {
    /// Is this connection's service one of it? An enumerated port is also covered by a definition without ports of the
    /// same DVIPA and protocol, which the one that enumerates it precedes.
    pub fn covers(&self, service: Service) -> bool {
        let ports = self.ports.is_empty() || self.ports.binary_search(&service.port).is_ok();
        ports && self.dvipa == service.dvipa && self.protocol == service.protocol
    }

    /// For how long the share of a target grows that begins to serve; none: it does not. A hot standby has all or nothing.
    pub fn slow_start(&self) -> Option<Duration> {
        let seconds = Some(self.rules.slow_start_s).filter(|_| self.method != Method::HotStandby);
        seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()))
    }
}

impl Destip {
    /// Is the stack in the list by name?
    pub fn names(&self, stack: &StackName) -> bool {
        match self {
            Destip::All => false,
            Destip::List(list) => list.contains(&Candidate::Name(stack.clone())),
        }
    }
}
