//! What the target's machine hears and what it wants done.

use model::handoff::Token;
use model::transfer::{FromHost, ToTarget, TransferId, Way, Why};
use model::{Connection, Dvipa, StackName};

use crate::Owner;

/// What a target's ledger holds of a transfer, so that a restarted agent says what its predecessor decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// The connection.
    pub connection: Connection,
    /// The transfer.
    pub transfer: TransferId,
    /// From which stack.
    pub source: StackName,
    /// The way in.
    pub way: Way,
}

/// How far a noted transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Its connection was activated (or made), even if it has ended since.
    Active,
    /// Packets with its handoff option may make the connection, and have not.
    Admitted,
    /// They may no longer.
    Barred,
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
    /// A routing stack says something.
    Received {
        /// Who.
        from: StackName,
        /// What.
        message: ToTarget,
    },
    /// The application accepts what [`Action::Ask`] offered.
    Accepted(TransferId),
    /// It rejects it.
    Rejected {
        /// Which.
        transfer: TransferId,
        /// Why, in its own words.
        said: String,
    },
    /// It is not asked, or given nothing, for this reason.
    Refused {
        /// Which.
        transfer: TransferId,
        /// Why.
        why: Why,
    },
    /// It has closed its control socket.
    ApplicationGone(TransferId),
    /// [`Action::Restore`] is done.
    Ready(TransferId),
    /// [`Action::Admit`] is done.
    Admitted {
        /// Which.
        transfer: TransferId,
        /// What it gave out: drawn anew each time, so that no other admission has it.
        token: Token,
    },
    /// [`Action::Restore`] or [`Action::Admit`] can't be done.
    NotReady {
        /// Which.
        transfer: TransferId,
        /// Why.
        why: Why,
    },
    /// [`Action::Pass`] is done.
    Passed(TransferId),
    /// The application did not take it.
    NotPassed(TransferId),
    /// [`Action::Activate`] is done.
    Activated(TransferId),
    /// The kernel has made the connection out of a packet with the token of this transfer, and noted it.
    Made(TransferId),
    /// [`Action::Bar`] is done.
    Barred {
        /// Which.
        transfer: TransferId,
        /// Before that the kernel had made the connection.
        made: bool,
    },
    /// A former run of this agent left this in the ledger. Said before any owner is.
    Inherited {
        /// What it noted.
        note: Note,
        /// How far it was.
        standing: Standing,
    },
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
        message: FromHost,
    },
    /// Offer the connection to the application; answer with [`Event::Accepted`] or [`Event::Rejected`].
    Ask {
        /// Which.
        transfer: TransferId,
        /// The connection.
        connection: Connection,
        /// The application's job name, if one is meant.
        job: Option<String>,
        /// What the source's application tells it.
        application: Vec<u8>,
    },
    /// Restore the socket in repair mode, with no packet of the connection let into this host; answer with
    /// [`Event::Ready`], or with [`Event::NotReady`], for instance because a socket of the connection is here.
    Restore {
        /// What [`Action::Activate`] will note, so that room for it can be found before it decides.
        note: Note,
        /// The dump.
        socket: Vec<u8>,
    },
    /// Note the transfer as admitted, and draw a token: a packet whose handoff option has it, and that begins where the option
    /// says, makes the connection from now on, even if other packets of it are kept away. A token of a former admission makes
    /// nothing. Answer with [`Event::Admitted`] or, if the transfer was barred or a socket of the connection is here,
    /// [`Event::NotReady`].
    ///
    /// The client's bytes in the dump were acknowledged, so that the client never sends them again: they are noted too, and
    /// given to the kernel once it has made the connection. That is this host's own business: the transfer does not wait
    /// for it.
    Admit {
        /// What to note.
        note: Note,
        /// The dump.
        socket: Vec<u8>,
    },
    /// Pass the silent socket to the application, with what the source's application tells it if it was not asked; answer
    /// with [`Event::Passed`] or [`Event::NotPassed`]. A second descriptor stays here.
    Pass {
        /// Which.
        transfer: TransferId,
        /// The application's job name, if one is meant.
        job: Option<String>,
        /// What the source's application tells it.
        application: Vec<u8>,
    },
    /// Write the note, then leave repair mode and let packets in; answer with [`Event::Activated`]. The writing is the
    /// moment of decision. Done again after a restart, when the application has the descriptor.
    Activate(Note),
    /// Void the admission, in one step with looking whether a packet has claimed it; note what was found, and answer with
    /// [`Event::Barred`]. If one has, the answer waits until the kernel has made the connection or dropped the packet. The note
    /// stays for as long as a packet may live.
    Bar(TransferId),
    /// Close the socket silently if there is one, and tell the application, if it was asked, that the offer is void.
    Discard(TransferId),
    /// Erase the note.
    Forget(TransferId),
}

impl Action {
    /// What the step is called.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Send { message, .. } => message.word(),
            Self::Ask { .. } => "ask",
            Self::Restore { .. } => "restore",
            Self::Admit { .. } => "admit",
            Self::Pass { .. } => "pass",
            Self::Activate(_) => "activate",
            Self::Bar(_) => "bar",
            Self::Discard(_) => "discard",
            Self::Forget(_) => "forget",
        }
    }
}
