//! What the table knows of a connection.

use model::{CrtState, StackIndex};

/// What a look-up finds: who has the connection, and in which state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The stack that its packets go to.
    pub owner: StackIndex,
    /// Where it is in its life.
    pub state: CrtState,
}
