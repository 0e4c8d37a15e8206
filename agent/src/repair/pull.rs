//! Takes a connection away from a server that knows nothing of it (design: injection and pulling).

use std::os::fd::{AsFd, OwnedFd};

use model::ConnectionState;
use model::connection_state::Phase;

use super::dump::{discard, dump, thaw};
use super::refused::{Refused, system};

/// Takes the connection out of the server that has the socket, without FIN or RST: the server finds its connection
/// aborted. Its packets must be kept away from this host before (the freeze map).
///
/// Both queues must be empty: nothing that the client has not got, and nothing that the server has not read. Whether the
/// server still owes an answer can't be seen here: who asks for it must know that from the protocol spoken.
///
/// # Errors
/// [`Refused`]: the connection is as it was.
pub fn pull(socket: OwnedFd) -> Result<ConnectionState, Refused> {
    let state = dump(socket.as_fd())?;
    let refused = if state.phase != Phase::Established {
        Some(Refused::NotEstablished("half-closed"))
    } else if state.send.bytes.is_empty() && state.receive.bytes.is_empty() {
        None
    } else {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (unread, unacknowledged) = (length(&state.receive.bytes), length(&state.send.bytes));
        Some(Refused::QueuesNotEmpty { unread, unacknowledged })
    };
    if let Some(refused) = refused {
        thaw(socket.as_fd(), &state).map_err(system("leave repair mode"))?;
        return Err(refused);
    }
    discard(socket).map_err(system("disconnect the socket"))?;
    Ok(state)
}
