//! Why a connection can't move.

use std::io;

use model::connection_state::MAX_QUEUED_BYTES;
use model::transfer::{Reason, Why};

/// Why a connection stays where it is. It goes on there as if nobody had asked.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The descriptor is something else.
    #[error("The descriptor is no TCP socket of IPv4 or IPv6: give the connection's own.")]
    NotTcp,
    /// Before the handshake's end, or after the connection's.
    #[error("The connection is {0}: only one that is established or half-closed can move.")]
    NotEstablished(&'static str),
    /// RFC 9293 3.8.5.
    #[error("Urgent data of the client was not read yet: read it first.")]
    UrgentData,
    /// RFC 8684.
    #[error("The socket is Multipath TCP, whose subflows can't move one by one: listen with plain TCP.")]
    Multipath,
    /// Kernel TLS, or another protocol in the kernel.
    #[error(
        "The kernel speaks `{0}` on the connection (TCP_ULP), whose state can't be read: do it in the application."
    )]
    UpperProtocol(String),
    /// RFC 2385, RFC 5925.
    #[error("The connection's segments are signed (TCP-MD5 or TCP-AO), and the key can't be read.")]
    Signed,
    /// RFC 7413.
    #[error(
        "The handshake of a TCP Fast Open connection is not over yet: try again after the client's next packet."
    )]
    FastOpen,
    /// An address that means something only on one link.
    #[error("The client's address {0} is link-local: it means another host elsewhere.")]
    LinkLocal(std::net::IpAddr),
    /// More than the encoding takes.
    #[error(
        "{0} bytes are queued, more than the {MAX_QUEUED_BYTES} that can move: let the client or the application read first."
    )]
    QueuedTooMuch(usize),
    /// Bytes wait where the way of moving has no place for them.
    #[error(
        "{unread} bytes wait to be read and {unacknowledged} to be acknowledged: the queues must be empty to pull."
    )]
    QueuesNotEmpty {
        /// Received and not read.
        unread: u32,
        /// Sent or to be sent, and not acknowledged.
        unacknowledged: u32,
    },
    /// Packets still came or left.
    #[error("The connection did not stand still while it was read: freeze it first.")]
    Moving,
    /// No such socket.
    #[error("No process{} has a socket of the connection {connection}.", pid.map(|p| format!(" {p}")).unwrap_or_default())]
    NotThere {
        /// The connection.
        connection: model::Connection,
        /// The process that was asked, or any.
        pid: Option<u32>,
    },
    /// A system call.
    #[error("The kernel did not {what}: {cause}")]
    System {
        /// What it was asked.
        what: &'static str,
        /// What it says.
        cause: io::Error,
    },
}

impl Refused {
    /// What stands against the move passes by itself, or can be done away with.
    fn passes(&self) -> bool {
        match self {
            Self::UrgentData
            | Self::FastOpen
            | Self::QueuedTooMuch(_)
            | Self::QueuesNotEmpty { .. }
            | Self::Moving
            | Self::System { .. } => true,
            Self::NotTcp
            | Self::NotEstablished(_)
            | Self::Multipath
            | Self::UpperProtocol(_)
            | Self::Signed
            | Self::LinkLocal(_)
            | Self::NotThere { .. } => false,
        }
    }
}

impl From<&Refused> for Why {
    fn from(refused: &Refused) -> Self {
        let reason = if refused.passes() { Reason::NotDumpedNow } else { Reason::NotDumped };
        Self::new(reason, &refused.to_string())
    }
}

/// A failed system call, by what it was for.
pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Refused {
    move |cause| Refused::System { what, cause }
}
