//! What the source's machine hears and what it wants done.

use std::time::Instant;

use model::control_socket::JobName;
use model::transfer::{Consent, FromSource, Ledger, ToSource, TransferId, Way, Why};
use model::{Connection, Dvipa, StackName};

use crate::Owner;

/// What an application, or an operator, asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Which connection; its socket is at hand.
    pub connection: Connection,
    /// To which stack.
    pub target: StackName,
    /// The target application's job name, if one is meant.
    pub job: Option<String>,
    /// Whether the target application is asked.
    pub consent: Consent,
    /// What the source's application tells the target's.
    pub application: Vec<u8>,
    /// Its job name, if an application asks.
    pub giver: Option<JobName>,
}

/// What the host remembers of a frozen connection, so that a restarted agent can ask for the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// The connection.
    pub connection: Connection,
    /// The transfer.
    pub transfer: TransferId,
    /// To which stack.
    pub target: StackName,
    /// The target's ledger.
    pub ledger: Ledger,
    /// The way into the target.
    pub way: Way,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The DVIPA's routing stack, or its epoch, or the session with it has changed; `None`: there is none to talk to.
    Owner {
        /// Which DVIPA.
        dvipa: Dvipa,
        /// Who owns it now.
        owner: Option<Owner>,
    },
    /// An application or an operator asks for a transfer.
    Asked(Ask),
    /// He takes it back, or has died.
    Cancelled(Connection),
    /// A routing stack says something.
    Received {
        /// Who.
        from: StackName,
        /// What.
        message: ToSource,
    },
    /// What [`Action::Dump`] brought.
    Dumped {
        /// Of which connection.
        connection: Connection,
        /// The socket, as the target's agent reads it.
        socket: Vec<u8>,
    },
    /// [`Action::Dump`] is refused by what the connection is; it goes on untouched once it is thawed.
    NotDumped {
        /// Which connection.
        connection: Connection,
        /// Why.
        why: Why,
    },
    /// A former run of this agent left a frozen connection. Said before any owner is.
    Inherited {
        /// What it noted.
        note: Note,
        /// Its socket is still there: an application holds it.
        alive: bool,
        /// When the former run would have given it up.
        until: Instant,
    },
    /// The socket of a connection that was inherited as not alive is there after all: an application has shown it.
    SocketFound(Connection),
    /// The deadline has come.
    TimePassed,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Tell a routing stack.
    Send {
        /// Whom.
        to: StackName,
        /// What.
        message: FromSource,
    },
    /// Write the note, let no packet of the connection in or out of this host's kernel, then put the socket into repair
    /// mode. The note outlives this process.
    Freeze(Note),
    /// Dump the frozen socket for this way, and answer with [`Event::Dumped`] or [`Event::NotDumped`].
    Dump {
        /// Which connection.
        connection: Connection,
        /// What for.
        way: Way,
    },
    /// Leave repair mode, let its packets in, erase the note.
    Thaw(Connection),
    /// Close the socket silently, erase the note; for as long as a packet may live its packets draw no answer here.
    Discard(Connection),
    /// Tell who asked: it has moved.
    Moved(Connection),
    /// Tell who asked: it has not, and why. Unless the reason says otherwise the connection is where it was.
    Failed {
        /// Which connection.
        connection: Connection,
        /// Why.
        why: Why,
    },
}

impl Action {
    /// What the step is called.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Send { message, .. } => message.word(),
            Self::Freeze(_) => "freeze",
            Self::Dump { .. } => "dump",
            Self::Thaw(_) => "thaw",
            Self::Discard(_) => "discard",
            Self::Moved(_) => "moved",
            Self::Failed { .. } => "failed",
        }
    }
}
