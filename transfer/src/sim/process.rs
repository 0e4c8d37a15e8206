//! What a host's memory, its control sockets and its applications have, beside the kernel's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::StackName;
use model::transfer::{FromHost, TransferId};

use super::kernel::Packet;
use crate::taking::Standing;

/// What an application does with a connection that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Application {
    /// How many of the client's bytes it has answered.
    pub(super) answered: u8,
    /// It has asked for a transfer and waits.
    pub(super) waits: bool,
    /// The agent that it has asked is gone: it asks the next one.
    pub(super) asks_again: bool,
    /// It was given the silent descriptor, and not told yet that the connection is its own.
    pub(super) untold: bool,
    /// The agent that was to tell it is gone: it asks the next one.
    pub(super) claims: bool,
}

/// What a host's memory holds of a transfer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Noted {
    Prepared,
    Stands(Standing),
}

/// What the kernel and the control sockets have for the agent's process.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Process {
    /// Offers that the application has not answered, with the state that came along.
    pub(super) offers: BTreeMap<TransferId, Vec<u8>>,
    /// What the application was told with an offer.
    pub(super) told: BTreeMap<TransferId, Vec<u8>>,
    /// What was read last: of which connection.
    pub(super) dump: Option<(usize, Vec<u8>)>,
    /// What was restored and is not active.
    pub(super) restored: BTreeMap<TransferId, usize>,
    /// What has been in an application's control socket since the agent last looked.
    pub(super) passed: VecDeque<TransferId>,
    /// Packets have made connections since.
    pub(super) made: bool,
    /// Which transfers' claims are waited for.
    pub(super) awaits: Option<Vec<TransferId>>,
    /// And which packets those are that were under way then.
    pub(super) awaited: BTreeSet<(usize, Packet)>,
    /// Connections of which it has had a descriptor.
    pub(super) held: BTreeSet<usize>,
    pub(super) sent: Vec<(StackName, FromHost)>,
    /// How many calls have changed something in this step.
    pub(super) calls: usize,
    /// After so many the process is dead.
    pub(super) fuse: Option<usize>,
}
