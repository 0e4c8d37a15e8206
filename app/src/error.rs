//! What can go wrong, and what to do next.

use std::io;
use std::net::TcpStream;
use std::path::PathBuf;

use model::control_socket::Refusal;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no agent, or this user may not use its control socket; or an agent has ended and did not come back within half a
    /// minute. A connection that was to be moved goes on here.
    #[error(
        "cannot connect to the agent at {}: {cause}: is baton-agent running, and may this user write to the socket?",
        path.display()
    )]
    Connect {
        /// Where.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The agent does not do it.
    #[error("{}{}", why.sentence(), detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default())]
    Refused {
        /// Why.
        why: Refusal,
        /// What the target application or the kernel said.
        detail: Option<String>,
    },
    /// The agent that made an offer has ended before the connection came. Nothing was decided: the connection goes on where it
    /// was.
    #[error(
        "the agent that made this offer has ended: the connection goes on where it was, wait for the next offer"
    )]
    Closed,
    /// The agent has ended while a connection moved, and did not come back in time. It has moved or not: closing it sends nothing
    /// to the client if it was frozen. One that was to come here is closed already.
    #[error("the agent ended in the middle of a transfer and did not come back: close the connection")]
    InDoubt,
    /// The process has forked since it registered: what the agent says is for the parent.
    #[error(
        "process {registered} registered this application, and this is a child that it forked: register in the child, after the fork"
    )]
    Forked {
        /// The process that registered.
        registered: u32,
    },
    /// The system does not let us.
    #[error("the control socket can't be used: {0}")]
    System(#[from] io::Error),
}

impl Error {
    /// Why the agent refuses, if it does.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Error::Refused { why, .. } => Some(*why),
            Error::Closed
            | Error::Connect { .. }
            | Error::InDoubt
            | Error::Forked { .. }
            | Error::System(_) => None,
        }
    }
}

/// Why a connection has not moved, and the connection: it goes on where it is.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct TransferError<S: std::fmt::Debug = TcpStream> {
    /// Why.
    #[source]
    pub error: Error,
    /// The connection.
    pub stream: S,
}
