//! What the routing stack's machine hears, asks, and wants done.

use model::handoff::Token;
use model::transfer::{FromHost, Parcel, Reason, ToHost, Way, Why};
use model::{Connection, Dvipa, Epoch, StackName};

/// What the DPT says of a target. Asked once a transfer, when it is prepared.
pub trait Targets {
    /// How an application is reached that takes connections of this one's service on that stack.
    ///
    /// # Errors
    /// Why it is no target now, as a rule [`Reason::NotATarget`].
    fn reach(&self, connection: &Connection, target: &StackName, job: Option<&str>) -> Result<Reach, Reason>;
}

/// How an application is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Over its control socket: it can be asked, and can be given a descriptor and state.
    ControlSocket,
    /// As any server: it listens.
    Listener,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// This stack owns the DVIPA from now on, in this epoch.
    Owns {
        /// Which.
        dvipa: Dvipa,
        /// The epoch.
        epoch: Epoch,
    },
    /// It owns it no longer.
    Yields(Dvipa),
    /// A session with a stack begins.
    SessionUp(StackName),
    /// A session with a stack is over.
    SessionDown(StackName),
    /// A stack says something.
    Received {
        /// Who.
        from: StackName,
        /// What.
        message: FromHost,
    },
    /// Other messages than those of its transfer say that the connection is at the transfer's source no longer.
    Ended(Connection),
    /// [`Action::HandOver`] can't be done.
    NotHandedOver {
        /// Which connection.
        connection: Connection,
        /// Why not.
        why: Why,
    },
    /// The deadline has come.
    TimePassed,
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The connection is at the target.
    Moved,
    /// It is at the source.
    Stayed(Why),
    /// Nobody has it.
    Lost,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Tell a stack.
    Send {
        /// Whom.
        to: StackName,
        /// What.
        message: ToHost,
    },
    /// Hold the client's packets of this connection, within bounds. If there is no CRT entry, make one that names `owner`.
    Freeze {
        /// Which connection.
        connection: Connection,
        /// Who has it, if the CRT does not know.
        owner: StackName,
    },
    /// Point the entry at the owner, without handoff option, and let the held packets go there, in order.
    Thaw {
        /// Which connection.
        connection: Connection,
        /// To whom; `None`: whom the entry names.
        owner: Option<StackName>,
    },
    /// Point the entry at the target, let the held packets go there and every later one, all with the handoff option that
    /// has this token and describes the parcel's socket. First goes a bare ACK as from the client that begins where the option says: it makes
    /// the connection when the client is silent, or waits for the answer to bytes that it has sent and that were
    /// acknowledged. Until [`Action::Freeze`] or [`Action::Thaw`]; repeated, because that packet may get lost.
    HandOver {
        /// Which connection.
        connection: Connection,
        /// To whom.
        target: StackName,
        /// What the target's admission gave out.
        token: Token,
        /// What the option and the ACK are made of.
        parcel: Parcel,
    },
    /// Remove the entry and what is held: nobody has the connection, or another routing stack decides who.
    End(Connection),
    /// For counters and displays.
    Report {
        /// Which connection.
        connection: Connection,
        /// From whom.
        source: StackName,
        /// To whom.
        target: StackName,
        /// Which way.
        way: Way,
        /// How it ended.
        outcome: Outcome,
    },
}
