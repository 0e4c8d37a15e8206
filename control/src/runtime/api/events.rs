//! The words of `/v1/events`.

use serde::{Deserialize, Serialize};

/// Query of `GET /v1/events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Events after the one with this number: `next` of the answer before.
    #[serde(default)]
    pub after: u64,
}

/// Answer of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsAnswer {
    /// What happened, oldest first.
    pub events: Vec<EventRow>,
    /// What to ask for next.
    pub next: u64,
    /// How many were forgotten since then.
    pub missed: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// Its number, counted from the start of the process.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What.
    pub event: EventName,
    /// To whom: a stack, a DVIPA, a connection or a file.
    pub about: String,
    /// The rest, for people.
    pub text: String,
}

/// What can happen. The log has the same word in the field `event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventName {
    /// A stack takes new connections of these services.
    TargetCame,
    /// It takes none any more, and why.
    TargetWent,
    /// The server of a target does not answer as it should, and why.
    TargetFailing,
    /// It does again.
    TargetWell,
    /// So many targets of a service fail that all are selected as if none did; or not any more.
    ServicePanics,
    /// Which applications are registered on a stack.
    Registered,
    /// This node owns a DVIPA from now on.
    DvipaGained,
    /// It does not own it any more.
    DvipaLost,
    /// Where an address of a range is active.
    AddressActive,
    /// Another routing stack is not heard any more.
    PeerDead,
    /// Another stack, or its configuration, contradicts this node's.
    Contradiction,
    /// An operator gives a stack no new connections.
    Drained,
    /// An operator ends that.
    Resumed,
    /// A connection was not moved, or was lost. One in ten seconds for each reason.
    TransferFailed,
    /// The configuration file was read again.
    Reloaded,
    /// It was refused.
    ReloadRefused,
    /// An order has changed the configuration: a key was set, or a former one is in force again.
    ConfigSet,
    /// Such an order was refused.
    ConfigRefused,
    /// The certificate was replaced.
    CertificateRenewed,
}

impl EventName {
    /// The word in JSON and in the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::TargetCame => "target-came",
            Self::TargetWent => "target-went",
            Self::TargetFailing => "target-failing",
            Self::TargetWell => "target-well",
            Self::ServicePanics => "service-panics",
            Self::Registered => "registered",
            Self::DvipaGained => "dvipa-gained",
            Self::DvipaLost => "dvipa-lost",
            Self::AddressActive => "address-active",
            Self::PeerDead => "peer-dead",
            Self::Contradiction => "contradiction",
            Self::Drained => "drained",
            Self::Resumed => "resumed",
            Self::TransferFailed => "transfer-failed",
            Self::Reloaded => "reloaded",
            Self::ReloadRefused => "reload-refused",
            Self::ConfigSet => "config-set",
            Self::ConfigRefused => "config-refused",
            Self::CertificateRenewed => "certificate-renewed",
        }
    }
}
