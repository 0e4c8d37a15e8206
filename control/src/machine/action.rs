//! What a routing stack wants done.

use std::collections::BTreeSet;

use model::dpt::{Distribution, Dpt, Shared};
use model::handoff::{Handoff, Token};
use model::message::ToStack;
use model::ownership::Ask;
use model::peer::ToPeer;
use model::transfer::{Reason, Way};
use model::{Connection, Dvipa, DvipaIndex, StackIndex, StackName};
use ownership::etcd::Question;
use transfer::routing::Outcome;

use super::{Note, Scope, ToChoose};

/// Something to do, in the order in which [`super::RoutingStack::poll`] gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this on the session that is up; if there is none any more, forget it.
    Send {
        /// To whom.
        to: StackName,
        /// What.
        message: ToStack,
    },
    /// Send this to another routing stack; if its session is over, forget it.
    Tell {
        /// To whom.
        to: StackName,
        /// What.
        message: ToPeer,
    },
    /// Ask etcd this; to be answered with [`super::Event::Etcd`] whatever becomes of it.
    AskEtcd {
        /// The number by which the answer is known.
        ask: Ask,
        /// What.
        question: Question,
    },
    /// This is the DPT now. It always comes before an action that names a stack or a DVIPA for the first time.
    Publish(Dpt),
    /// These connections are at this stack: confirm their CRT entries or make them (NEWCONN).
    ///
    /// With `first` begins a complete account: the established entries of the owner are in doubt until a part names
    /// them. With `last` it ends: what is still in doubt is removed. An account whose session ends before its last
    /// part removes nothing; the next one begins with `first` again.
    Newconn {
        /// Whose they are.
        owner: StackIndex,
        /// This is the first part of a complete account.
        first: bool,
        /// This is the last part of a complete account.
        last: bool,
        /// No news: the connections may be older than what the CRT has, because the stack has not said yet what it had before its
        /// session began.
        earlier: bool,
        /// The connections; all are to DVIPAs that this stack owns, and none is moving.
        connections: Vec<Connection>,
        /// With `last`: connections that are moving. The stacks that have them do not name them, and they have not ended.
        moving: Vec<Connection>,
    },
    /// This stack has no connections that it was asked about between these times of [`super::Event::Asked`] but those that it has
    /// reported.
    Looked {
        /// Which stack.
        stack: StackIndex,
        /// From when on.
        since: u64,
        /// Until when.
        until: u64,
    },
    /// Of the connections of this stack so many are only kept open, and it has so many others to DVIPAs that are not this stack's.
    Loaded {
        /// Which stack.
        stack: StackIndex,
        /// Only kept open.
        idle: u32,
        /// To other DVIPAs, and not only kept open.
        elsewhere: u32,
    },
    /// These connections of this stack have ended (TERMCONN).
    Termconn {
        /// Whose they were.
        owner: StackIndex,
        /// The connections; all are to DVIPAs that this stack owns.
        connections: Vec<Connection>,
    },
    /// Hold the client's packets of this connection, within bounds. If there is no CRT entry, or one that ended, it is
    /// made.
    Freeze {
        /// Which connection.
        connection: Connection,
        /// Who has it, if the CRT does not know.
        owner: StackIndex,
    },
    /// Point the entry at the owner, without handoff option, and let the held packets go there, in order.
    Thaw {
        /// Which connection.
        connection: Connection,
        /// To whom; `None`: whom the entry names.
        owner: Option<StackIndex>,
    },
    /// Point the entry at the target, let the held packets go there and every later one, all with the handoff option;
    /// first of all one packet with the handoff's bytes, if it has any. Until [`Action::Freeze`] or [`Action::Thaw`]; repeated,
    /// because that packet may get lost. To be answered with [`super::Event::NotHandedOver`] if it can't be done.
    HandOver {
        /// Which connection.
        connection: Connection,
        /// To whom.
        to: StackIndex,
        /// How it goes on there.
        handoff: Handoff,
    },
    /// Remove the entry and what is held: nobody has the connection, or another routing stack decides who.
    End {
        /// Which connection.
        connection: Connection,
    },
    /// Choose a target out of this row as the workers select one for a SYN: to be answered with [`super::Event::Chosen`].
    Choose {
        /// For which connection, and what belongs to the answer.
        wanted: ToChoose,
        /// What to choose from.
        row: Shared<Distribution>,
    },
    /// Say which established connections the CRT has of this stack: to be answered with [`super::Event::Listed`].
    List {
        /// Which stack.
        stack: StackName,
        /// Which of its connections.
        scope: Scope,
        /// How many at most.
        limit: usize,
    },
    /// Say how many connections the CRT has to this DVIPA: to be answered with [`super::Event::Counted`].
    Count {
        /// Which.
        dvipa: Dvipa,
    },
    /// Say how many connections to this DVIPA each stack has in the CRT: to be answered with [`super::Event::CountedStacks`].
    CountStacks {
        /// Which.
        dvipa: Dvipa,
    },
    /// No DPT from the next one on names these numbers: end what else does, entries and whatever workers hold for a while. To be
    /// answered with [`super::Event::Vacant`] when nothing can name them any more.
    Retire {
        /// Of stacks.
        stacks: Vec<StackIndex>,
        /// Of DVIPAs.
        dvipas: Vec<DvipaIndex>,
    },
    /// A transfer has ended: for the log.
    Report {
        /// Which connection.
        connection: Connection,
        /// From whom.
        source: StackName,
        /// To whom.
        target: StackName,
        /// Which way in.
        way: Way,
        /// How it ended.
        outcome: Outcome,
    },
    /// A stack gives these tokens to the workers (`None`: those that it gave are void), for connections that they hand over unasked.
    Tokens {
        /// Which stack.
        stack: StackIndex,
        /// The tokens, in the order in which they are to be used.
        tokens: Option<Vec<Token>>,
    },
    /// The stack does not take a connection that a worker has handed over to it: remove its entry, if it is still half-open there.
    Declined {
        /// Which connection.
        connection: Connection,
        /// By whom.
        by: StackIndex,
    },
    /// A connection that workers wanted moved stays where it is.
    Stay {
        /// Which.
        connection: Connection,
        /// Why.
        why: Reason,
    },
    /// Write this down in the log.
    Note(Note),
    /// Have routes to these DVIPAs, which this stack owns and serves, in the table of the routing daemon, and to no others.
    Route {
        /// To which.
        dvipas: BTreeSet<Dvipa>,
    },
    /// Tell the segment that the address is here: gratuitous ARP or unsolicited neighbour advertisement.
    Announce {
        /// Which.
        dvipa: Dvipa,
    },
}
