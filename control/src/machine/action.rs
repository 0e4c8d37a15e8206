//! What a routing stack wants done.

use model::dpt::Dpt;
use model::message::Message;
use model::{Connection, Dvipa, StackIndex, StackName};

/// Something to do, in the order in which [`super::RoutingStack::poll`] gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this on the session that is up; if there is none any more, forget it.
    Send {
        /// To whom.
        to: StackName,
        /// What.
        message: Message,
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
        /// The connections; all are to DVIPAs that this stack owns.
        connections: Vec<Connection>,
    },
    /// These connections of this stack have ended (TERMCONN).
    Termconn {
        /// Whose they were.
        owner: StackIndex,
        /// The connections; all are to DVIPAs that this stack owns.
        connections: Vec<Connection>,
    },
    /// Tell the segment that the address is here: gratuitous ARP or unsolicited neighbour advertisement.
    Announce {
        /// Which.
        dvipa: Dvipa,
    },
}
