//! What the table knows of a connection.

use model::StackIndex;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// A SYN (or the first UDP packet) has been sent to the owner, which has not confirmed the connection yet.
    HalfOpen = 1,
    /// The owner has it.
    Established = 2,
    /// The owner reported its end: forwarded for a short while, so that the last acknowledgements arrive.
    Closing = 3,
    /// It is moving from one stack to another: its packets wait.
    Frozen = 4,
    /// The routing node's own stack talks to the client.
    AnsweredHere = 5,
    /// Idle between two transactions: no stack has it.
    Parked = 6,
    /// It is the owner's once one of its packets has made it there: each carries what the owner's kernel needs for that.
    HandingOver = 7,
}

impl State {
    /// All of them, in the order of a connection's life.
    pub const ALL: [State; 7] = [
        State::HalfOpen,
        State::Established,
        State::Closing,
        State::Frozen,
        State::AnsweredHere,
        State::Parked,
        State::HandingOver,
    ];

    /// The word for displays.
    pub fn name(self) -> &'static str {
        match self {
            State::HalfOpen => "half-open",
            State::Established => "established",
            State::Closing => "closing",
            State::Frozen => "frozen",
            State::AnsweredHere => "answered-here",
            State::Parked => "parked",
            State::HandingOver => "handing-over",
        }
    }

    /// Whether it counts as one of its owner's connections.
    pub fn counts(self) -> bool {
        !matches!(self, State::HalfOpen | State::Closing)
    }
}

/// What a look-up finds: who has the connection, and in which state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The stack that its packets go to.
    pub owner: StackIndex,
    /// Where it is in its life.
    pub state: State,
}
