//! Why an event was not followed.

use model::message::OrderId;
use model::transfer::Reason;
use model::{Connection, Dvipa, Service, StackIndex, StackName};
use serde::{Deserialize, Serialize};

use super::rights::Wrong;

/// Why an event was not followed, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A peer caused it: it is counted with the peer's name.
    #[error("{from} {offence}")]
    Peer {
        /// The peer.
        from: StackName,
        /// What is wrong with what it said.
        offence: Offence,
    },
    /// An operator or a controller caused it: it is the answer.
    #[error(transparent)]
    Order(#[from] OrderRefusal),
}

/// What is wrong with what a peer said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Offence {
    /// A message of a stack that has no session.
    #[error("sent {message} without a session")]
    NoSession {
        /// The message's kind.
        message: &'static str,
    },
    /// A Hello without a cluster address, or with two of one family.
    #[error("must name one cluster address, or one of each family, in its Hello")]
    BadClusterAddress,
    /// There is no number left for another stack.
    #[error(
        "is one stack more than the {max} that this node can hold; it forgets those that are gone for {gone} minutes and have no connection",
        max = u32::from(StackIndex::MAX) + 1,
        gone = super::GONE_STACK.as_secs() / 60
    )]
    TooManyStacks,
    /// SRVSTAT with another epoch than the DVIPA has now.
    #[error("reports on {dvipa} in epoch {theirs}, which is in epoch {ours}")]
    OtherEpoch {
        /// About which DVIPA.
        dvipa: Dvipa,
        /// The epoch it names.
        theirs: u64,
        /// The epoch now.
        ours: u64,
    },
    /// A message about a DVIPA that this stack does not own.
    #[error("reports on {dvipa}, which this stack does not own")]
    NotOurs {
        /// About which DVIPA.
        dvipa: Dvipa,
    },
    /// A stack reports more listens than are kept.
    #[error("listens on more than {max} ports; {ignored} are ignored", max = super::MAX_LISTENS)]
    TooManyListens {
        /// How many are ignored.
        ignored: usize,
    },
    /// An application listens on a port of a DVIPA that another stack has for itself (row U2).
    #[error(
        "has a listener on {service}, where one of {holder} has listened for longer and gets the clients; give one of them another port"
    )]
    PortTaken {
        /// Where.
        service: Service,
        /// Who has it.
        holder: StackName,
    },
    /// A stack has blocks of ports that another one has been granted: it was away for longer than its owner waited for it.
    #[error(
        "has {blocks} blocks of ports of {dvipa} that are others' by now, and must not use them any more; sockets that have a port of them may collide with others'"
    )]
    PortsTaken {
        /// Of which DVIPA.
        dvipa: Dvipa,
        /// How many.
        blocks: u16,
    },
    /// A stack reports more registered applications than are kept.
    #[error("has more than {max} registered applications; {ignored} are ignored", max = super::MAX_APPLICATIONS)]
    TooManyApplications {
        /// How many are ignored.
        ignored: usize,
    },
    /// A stack claims more addresses of ranges than are kept.
    #[error("is bound to more than {max} addresses of ranges; {ignored} are ignored", max = model::ranges::MAX_ADDRESSES)]
    TooManyAddresses {
        /// How many are ignored.
        ignored: usize,
    },
    /// A message of a transfer that was not followed.
    #[error("sent {message}: {}", reason.sentence())]
    NotFollowed {
        /// The message's kind.
        message: &'static str,
        /// Why.
        reason: Reason,
    },
    /// The last part of a complete account without its first in the same session.
    #[error("ended an account of connections that it did not begin")]
    AccountWithoutFirst,
    /// Connections of DVIPAs that this stack does not own.
    #[error("reports {ignored} connections of addresses that this stack does not own")]
    ForeignConnections {
        /// How many.
        ignored: usize,
    },
    /// A message of a routing stack that batond.toml does not name, or that has no session.
    #[error("is no `routing_stack` of batond.toml that has a session")]
    UnknownRoutingStack,
    /// A stack says what only another may say ([`super::rights`]).
    #[error("sent {message}, which is void: {wrong}")]
    Wrong {
        /// The message's kind.
        message: &'static str,
        /// What is not its own.
        wrong: Wrong,
    },
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefusal {
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
    #[error(
        "{0} is one DVIPA too many: this node has numbers for {max}; those of former ones are free again some minutes after the reload that took them out",
        max = u32::from(model::DvipaIndex::MAX) + 1
    )]
    TooManyDvipas(Dvipa),
    /// A definition that other routing stacks can't be told.
    #[error(
        "the definitions of {dvipa} are {bytes} bytes long, and other routing stacks can be told {most}: name fewer candidates, or use destip = \"all\""
    )]
    DefinitionTooLong {
        /// Of which DVIPA.
        dvipa: Dvipa,
        /// How long they are.
        bytes: usize,
        /// How long they may be.
        most: usize,
    },
    /// A DVIPA that another routing stack owns, or none, is to move.
    #[error("{dvipa} is not owned here{}; say so to the routing stack that owns it", owner.as_ref().map_or(String::new(), |o| format!(", but by {o}")))]
    NotOwned {
        /// Which DVIPA.
        dvipa: Dvipa,
        /// Who owns it, if that is known.
        owner: Option<StackName>,
    },
    /// A DVIPA is to move to a stack that can't take it.
    #[error(
        "{stack} is no routing stack that is alive, stays, and defines or backs up {dvipa}; `baton vipa` names them"
    )]
    NotABackup {
        /// Which DVIPA.
        dvipa: Dvipa,
        /// Where it was to move.
        stack: StackName,
    },
    /// An order about an address that is in no range.
    #[error("{0} is in no `viparange` of this node; `baton vipa` lists them")]
    NotInARange(Dvipa),
    /// An order about an address that a statement takes out of its range.
    #[error(
        "{0} is in a range, but a `vipadefine` or `vipabackup` takes it out: its targets are those of its `vipadistribute`"
    )]
    Defined(Dvipa),
    /// An address is to be active at a stack that has no session.
    #[error("{0} has no session with this node now; `baton status` shows why")]
    NotHere(StackName),
    /// An order is to be taken back that was not given.
    #[error(
        "{0} is nowhere active by order; where an application is bound to it, it is active until that ends"
    )]
    NotOrdered(Dvipa),
    /// A configuration that changes what can't change while the node runs.
    #[error("the node's name or cluster address can't change while it runs; restart it")]
    OtherNode,
}

/// The kinds of [`Refusal`], for counters and metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// [`Offence::NoSession`]
    NoSession,
    /// [`Offence::BadClusterAddress`]
    BadClusterAddress,
    /// [`Offence::TooManyStacks`]
    TooManyStacks,
    /// [`Offence::OtherEpoch`]
    OtherEpoch,
    /// [`Offence::NotOurs`]
    NotOurs,
    /// [`Offence::TooManyListens`]
    TooManyListens,
    /// [`Offence::TooManyApplications`]
    TooManyApplications,
    /// [`Offence::PortTaken`]
    PortTaken,
    /// [`Offence::PortsTaken`]
    PortsTaken,
    /// [`Offence::TooManyAddresses`]
    TooManyAddresses,
    /// [`Offence::NotFollowed`]
    Transfer,
    /// [`Offence::AccountWithoutFirst`]
    AccountWithoutFirst,
    /// [`Offence::ForeignConnections`]
    ForeignConnections,
    /// [`Wrong::NoCandidate`]
    NoCandidate,
    /// [`Wrong::AnothersConnection`], [`Wrong::AnothersConnections`]
    AnothersConnection,
    /// [`Wrong::AnothersTransfer`]
    AnothersTransfer,
    /// [`Wrong::AnothersOrder`]
    AnothersOrder,
    /// [`Wrong::EpochTooHigh`]
    EpochTooHigh,
    /// [`Wrong::RoutingStacksOnly`]
    RoutingStacksOnly,
    /// [`Offence::UnknownRoutingStack`]
    UnknownRoutingStack,
    /// [`Refusal::Order`]
    Order,
}

impl Offence {
    /// This peer's.
    pub(super) fn by(self, from: &StackName) -> Refusal {
        Refusal::Peer { from: from.clone(), offence: self }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Offence::NoSession { .. } => RefusalKind::NoSession,
            Offence::BadClusterAddress => RefusalKind::BadClusterAddress,
            Offence::TooManyStacks => RefusalKind::TooManyStacks,
            Offence::OtherEpoch { .. } => RefusalKind::OtherEpoch,
            Offence::NotOurs { .. } => RefusalKind::NotOurs,
            Offence::TooManyListens { .. } => RefusalKind::TooManyListens,
            Offence::TooManyApplications { .. } => RefusalKind::TooManyApplications,
            Offence::PortTaken { .. } => RefusalKind::PortTaken,
            Offence::PortsTaken { .. } => RefusalKind::PortsTaken,
            Offence::TooManyAddresses { .. } => RefusalKind::TooManyAddresses,
            Offence::NotFollowed { .. } => RefusalKind::Transfer,
            Offence::AccountWithoutFirst => RefusalKind::AccountWithoutFirst,
            Offence::UnknownRoutingStack => RefusalKind::UnknownRoutingStack,
            Offence::ForeignConnections { .. } => RefusalKind::ForeignConnections,
            Offence::Wrong { wrong, .. } => match wrong {
                Wrong::NoCandidate(_) => RefusalKind::NoCandidate,
                Wrong::AnothersConnection(_) | Wrong::AnothersConnections(_) => {
                    RefusalKind::AnothersConnection
                }
                Wrong::AnothersTransfer(_) => RefusalKind::AnothersTransfer,
                Wrong::AnothersOrder => RefusalKind::AnothersOrder,
                Wrong::EpochTooHigh(..) => RefusalKind::EpochTooHigh,
                Wrong::RoutingStacksOnly => RefusalKind::RoutingStacksOnly,
            },
        }
    }
}

impl Refusal {
    /// The peer that caused it; none: an operator or a controller did.
    pub fn from(&self) -> Option<&StackName> {
        match self {
            Refusal::Peer { from, .. } => Some(from),
            Refusal::Order(_) => None,
        }
    }

    /// Which counter it belongs to.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Refusal::Peer { offence, .. } => offence.kind(),
            Refusal::Order(_) => RefusalKind::Order,
        }
    }
}
