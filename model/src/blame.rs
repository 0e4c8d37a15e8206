//! Who can mend what went wrong. Every reason that is counted, shown or answered says it, whichever crate declares it.

use serde::{Deserialize, Serialize};

/// Who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The client: what it sent, or that it has gone.
    Client,
    /// The application that asked.
    Application,
    /// Another stack of the cluster, its network, or the application at the other end of a transfer.
    Peer,
    /// The operator: the configuration, or how the hosts are set up.
    Operator,
    /// baton, or the host that it runs on: a limit was reached, or something failed.
    Us,
}

impl Blame {
    /// The word in displays, metrics and docs.
    pub fn word(self) -> &'static str {
        match self {
            Blame::Client => "client",
            Blame::Application => "application",
            Blame::Peer => "peer",
            Blame::Operator => "operator",
            Blame::Us => "us",
        }
    }
}
