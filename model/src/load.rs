//! How busy a target is, as it says itself.

use minicbor::{Decode, Encode};

/// How busy a target is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Load {
    /// Use of all its processors over the last interval, in thousandths (0 idle, 1000 all busy).
    #[n(0)]
    pub cpu_permille: u16,
    /// Connections waiting in accept queues of distributed ports, in thousandths of the fullest queue's limit.
    #[n(1)]
    pub accept_queue_permille: u16,
    /// Share of the last interval in which some task waited for memory, in thousandths.
    #[n(2)]
    pub memory_pressure_permille: u16,
    /// TCP connections to DVIPAs of the reader's list that are only kept open: nobody waits for an answer, and nothing was said for a
    /// moment. `None`: the sender does not know.
    #[n(3)]
    pub idle: Option<u32>,
    /// TCP connections to its other DVIPAs that are not.
    #[n(4)]
    pub elsewhere: Option<u32>,
}
