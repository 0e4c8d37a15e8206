//! The definitions as they stand in the file, each with its place: what `check` needs to say where two of them clash.

use std::ops::Range;

use ipnet::IpNet;
use model::dpt::{Method, Refuse};
use model::quic::{Key, ServerId};
use model::route::{ClientProtocol, Match};
use model::{Dvipa, Limits, Protocol, Rank, StackName};

use super::section::At;
use super::vipadynamic::{Candidate, Forwards, Moveable, TargetRules};

/// All VIPADYNAMIC statements.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    pub(super) defines: Vec<DraftDefine>,
    pub(super) backups: Vec<DraftBackup>,
    pub(super) distributes: Vec<DraftDistribute>,
    pub(super) ranges: Vec<DraftRange>,
    /// Addresses of all VIPADEFINE and VIPABACKUP statements, also of those with another mistake; `None` for an address
    /// that is a mistake itself. So one mistake does not make a distribution of the address a second one.
    pub(super) mentioned: Vec<Option<Dvipa>>,
}

/// VIPADEFINE
#[derive(Debug)]
pub(super) struct DraftDefine {
    pub(super) dvipa: At<Dvipa>,
    pub(super) prefix_bits: u8,
    pub(super) moveable: Moveable,
    pub(super) refuse: Refuse,
    pub(super) forwards: Forwards,
}

/// VIPABACKUP
#[derive(Debug)]
pub(super) struct DraftBackup {
    pub(super) dvipa: At<Dvipa>,
    pub(super) rank: Rank,
    pub(super) prefix_bits: Option<u8>,
    pub(super) moveable: Option<Moveable>,
    pub(super) forwards: Forwards,
}

/// VIPADISTRIBUTE
#[derive(Debug)]
pub(super) struct DraftDistribute {
    pub(super) dvipa: At<Dvipa>,
    pub(super) protocol: Protocol,
    /// Empty: not enumerated.
    pub(super) ports: Vec<At<u16>>,
    pub(super) destip: DraftDestip,
    /// `None`: a mistake.
    pub(super) method: Option<Method>,
    /// Where it is written.
    pub(super) method_at: Option<Range<usize>>,
    pub(super) weights: DraftWeights,
    pub(super) content_routed: Option<At<bool>>,
    pub(super) refuse: Refuse,
    pub(super) rules: TargetRules,
    pub(super) limits: Limits,
    /// Where it says that targets begin slowly.
    pub(super) slow_start: Option<Range<usize>>,
    /// Where `affinity_s` is written.
    pub(super) affinity: Option<Range<usize>>,
    pub(super) policies: Vec<DraftPolicy>,
    pub(super) client_protocol: Option<At<ClientProtocol>>,
    pub(super) routes: Vec<DraftRoute>,
    pub(super) quic: Vec<DraftQuic>,
}

/// DESTIP
#[derive(Debug)]
pub(super) enum DraftDestip {
    All,
    List(Vec<At<Candidate>>),
    /// Something in the list is a mistake: what else it has can't be held against anything.
    Unclear,
}

/// Weights, and where they begin.
#[derive(Debug)]
pub(super) enum DraftWeights {
    Equal,
    Configured(Range<usize>, Vec<(At<Candidate>, u16)>),
    Load(Range<usize>),
}

/// A service policy.
#[derive(Debug)]
pub(super) struct DraftPolicy {
    pub(super) client: At<IpNet>,
    pub(super) destip: DraftDestip,
    pub(super) weights: DraftWeights,
}

/// A route.
#[derive(Debug)]
pub(super) struct DraftRoute {
    pub(super) span: Range<usize>,
    pub(super) name: At<String>,
    pub(super) hostnames: Vec<At<String>>,
    pub(super) matches: Vec<At<Match>>,
    pub(super) backends: Vec<(At<StackName>, u16)>,
}

/// A way of making QUIC connection IDs.
#[derive(Debug)]
pub(super) struct DraftQuic {
    pub(super) span: Range<usize>,
    pub(super) rotation: At<u8>,
    pub(super) server_id_bytes: At<u8>,
    pub(super) nonce_bytes: At<u8>,
    pub(super) key: Option<Key>,
    pub(super) length_in_first_octet: bool,
    pub(super) server_ids: Vec<(At<StackName>, At<ServerId>)>,
}

/// VIPARANGE
#[derive(Debug)]
pub(super) struct DraftRange {
    pub(super) range: At<IpNet>,
    pub(super) moveable: Moveable,
    pub(super) rank: Option<Rank>,
}
