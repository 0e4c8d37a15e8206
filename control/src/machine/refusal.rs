//! Why an event was not followed.

use model::message::{Message, OrderId};
use model::transfer::Reason;
use model::{Connection, Dvipa, Service, StackIndex, StackName};
use serde::{Deserialize, Serialize};

/// Why an event was not followed, or not wholly. What a peer causes is counted (see [`Refusal::kind`]), what an
/// operator causes is answered to him.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A message of a stack that has no session.
    #[error("{from} sent {message} without a session")]
    NoSession {
        /// The sender.
        from: StackName,
        /// The message's kind.
        message: &'static str,
    },
    /// A message before the sender's Hello.
    #[error("{from} sent {message} before its Hello")]
    BeforeHello {
        /// The sender.
        from: StackName,
        /// The message's kind.
        message: &'static str,
    },
    /// A Hello whose name is not the one in the certificate.
    #[error("{from} says in its Hello that it is `{claimed}`, which its certificate does not prove")]
    OtherName {
        /// The name in the certificate.
        from: StackName,
        /// The name in the Hello.
        claimed: String,
    },
    /// A Hello without a cluster address, or with two of one family.
    #[error("{from} must name one cluster address, or one of each family, in its Hello")]
    BadClusterAddress {
        /// The sender.
        from: StackName,
    },
    /// There is no number left for another stack.
    #[error("{from} is stack number {}, more than this node can hold; restart it to forget the stacks that are gone", u32::from(StackIndex::MAX) + 2)]
    TooManyStacks {
        /// The sender.
        from: StackName,
    },
    /// SRVSTAT with another epoch than the DVIPA has now.
    #[error("{from} reports on {dvipa} in epoch {theirs}, which is in epoch {ours}")]
    OtherEpoch {
        /// The sender.
        from: StackName,
        /// About which DVIPA.
        dvipa: Dvipa,
        /// The epoch it names.
        theirs: u64,
        /// The epoch now.
        ours: u64,
    },
    /// A message about a DVIPA that this stack does not own.
    #[error("{from} reports on {dvipa}, which this stack does not own")]
    NotOurs {
        /// The sender.
        from: StackName,
        /// About which DVIPA.
        dvipa: Dvipa,
    },
    /// A stack reports more listens than are kept.
    #[error("{from} listens on more than {max} ports; {ignored} are ignored", max = super::MAX_LISTENS)]
    TooManyListens {
        /// The sender.
        from: StackName,
        /// How many are ignored.
        ignored: usize,
    },
    /// A stack reports more registered applications than are kept.
    #[error("{from} has more than {max} registered applications; {ignored} are ignored", max = super::MAX_APPLICATIONS)]
    TooManyApplications {
        /// The sender.
        from: StackName,
        /// How many are ignored.
        ignored: usize,
    },
    /// A message of a transfer that was not followed.
    #[error("{from} sent {message}: {}", reason.sentence())]
    NotFollowed {
        /// The sender.
        from: StackName,
        /// The message's kind.
        message: &'static str,
        /// Why.
        reason: Reason,
    },
    /// The last part of a complete account without its first in the same session.
    #[error("{from} ended an account of connections that it did not begin")]
    AccountWithoutFirst {
        /// The sender.
        from: StackName,
    },
    /// Connections of DVIPAs that this stack does not own.
    #[error("{from} reports {ignored} connections of addresses that this stack does not own")]
    ForeignConnections {
        /// The sender.
        from: StackName,
        /// How many.
        ignored: usize,
    },
    /// There is no such stack to drain, resume or weigh.
    #[error("no stack `{0}` is known here or named in a definition")]
    NoSuchStack(StackName),
    /// There is no such connection to move.
    #[error("{0} is no connection in the CRT; `baton crt` lists them")]
    NoSuchConnection(Connection),
    /// There is no such order, or it was over for too long.
    #[error("there is no order {}: outcomes are kept for a minute", _0.0)]
    NoSuchOrder(OrderId),
    /// The stack's connections are not being moved in this scope.
    #[error("the connections of {0} are not being moved there; `baton drain {0} --move` begins that")]
    NotEvacuated(StackName),
    /// The connection can't move there.
    #[error("{connection} can't move to {target}: {}", reason.sentence())]
    NotMoved {
        /// Which connection.
        connection: Connection,
        /// To whom.
        target: StackName,
        /// Why not.
        reason: Reason,
    },
    /// The stack is not draining in this scope.
    #[error("{0} is not draining there; `baton dpt` shows what drains")]
    NotDraining(StackName),
    /// More drains than are kept.
    #[error("no more than {max} drains are kept; resume some first", max = super::MAX_DRAINS)]
    TooManyDrains,
    /// An order about a DVIPA that is not distributed.
    #[error("no port of {0} is distributed by this stack; `baton vipa` lists what is")]
    NoSuchDvipa(Dvipa),
    /// An order about a service that is not distributed.
    #[error("{0} is not distributed by this stack; `baton dpt` lists what is")]
    NotDistributed(Service),
    /// Weights for a stack that is not a candidate target.
    #[error("{stack} is not a candidate target of {service}; add it to destip first")]
    NotACandidate {
        /// The stack.
        stack: StackName,
        /// The service.
        service: Service,
    },
    /// Weights that would hold for too long, or for no time.
    #[error("weights hold for 1 s to {max} s, not {0} s; repeat them before they expire", max = super::MAX_WEIGHT_LIFE.as_secs())]
    BadWeightLife(u64),
    /// More controller-set weights than are kept.
    #[error("no more than {max} services can have weights of a controller", max = super::MAX_WEIGHED_SERVICES)]
    TooManyWeights,
    /// More DVIPAs than CRT entries can name.
    #[error("{0} is one DVIPA too many: this node has numbered {max} since its start; restart it", max = u32::from(model::DvipaIndex::MAX) + 1)]
    TooManyDvipas(Dvipa),
    /// A configuration that changes what can't change while the node runs.
    #[error("the node's name or cluster address can't change while it runs; restart it")]
    OtherNode,
}

/// The kinds of [`Refusal`], for counters and metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// [`Refusal::NoSession`]
    NoSession,
    /// [`Refusal::BeforeHello`]
    BeforeHello,
    /// [`Refusal::OtherName`]
    OtherName,
    /// [`Refusal::BadClusterAddress`]
    BadClusterAddress,
    /// [`Refusal::TooManyStacks`]
    TooManyStacks,
    /// [`Refusal::OtherEpoch`]
    OtherEpoch,
    /// [`Refusal::NotOurs`]
    NotOurs,
    /// [`Refusal::TooManyListens`]
    TooManyListens,
    /// [`Refusal::TooManyApplications`]
    TooManyApplications,
    /// [`Refusal::NotFollowed`]
    Transfer,
    /// [`Refusal::AccountWithoutFirst`]
    AccountWithoutFirst,
    /// [`Refusal::ForeignConnections`]
    ForeignConnections,
    /// Any that an operator or a controller caused.
    Order,
}

impl Refusal {
    /// Which counter it belongs to.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Refusal::NoSession { .. } => RefusalKind::NoSession,
            Refusal::BeforeHello { .. } => RefusalKind::BeforeHello,
            Refusal::OtherName { .. } => RefusalKind::OtherName,
            Refusal::BadClusterAddress { .. } => RefusalKind::BadClusterAddress,
            Refusal::TooManyStacks { .. } => RefusalKind::TooManyStacks,
            Refusal::OtherEpoch { .. } => RefusalKind::OtherEpoch,
            Refusal::NotOurs { .. } => RefusalKind::NotOurs,
            Refusal::TooManyListens { .. } => RefusalKind::TooManyListens,
            Refusal::TooManyApplications { .. } => RefusalKind::TooManyApplications,
            Refusal::NotFollowed { .. } => RefusalKind::Transfer,
            Refusal::AccountWithoutFirst { .. } => RefusalKind::AccountWithoutFirst,
            Refusal::ForeignConnections { .. } => RefusalKind::ForeignConnections,
            Refusal::NoSuchStack(_)
            | Refusal::NoSuchConnection(_)
            | Refusal::NoSuchOrder(_)
            | Refusal::NotEvacuated(_)
            | Refusal::NotMoved { .. }
            | Refusal::NotDraining(_)
            | Refusal::TooManyDrains
            | Refusal::NoSuchDvipa(_)
            | Refusal::NotDistributed(_)
            | Refusal::NotACandidate { .. }
            | Refusal::BadWeightLife(_)
            | Refusal::TooManyWeights
            | Refusal::TooManyDvipas(_)
            | Refusal::OtherNode => RefusalKind::Order,
        }
    }
}

/// A message's kind as a word.
pub(super) fn word(message: &Message) -> &'static str {
    match message {
        Message::Hello(_) => "Hello",
        Message::VipaList(_) => "a VIPA list",
        Message::Srvstat(_) => "SRVSTAT",
        Message::Newconn(_) => "NEWCONN",
        Message::Termconn(_) => "TERMCONN",
        Message::Load(_) => "Load",
        Message::Heartbeat(_) => "Heartbeat",
        Message::Transfer(message) => message.word(),
        Message::Applications(_) => "Applications",
        Message::Targets(_) => "Targets",
        Message::Move(_) => "Move",
        Message::Stays(_) => "Stays",
    }
}
