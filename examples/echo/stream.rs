//! What a client is owed, and how it gets it.

use std::io;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// No more is owed to a client than this, bytes: a client that does not read is not read from.
const MOST_OWED: usize = 64 * 1024;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// A client's bytes under way: the application state of a connection that moves.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Read, and not sent back yet.
    owed: Vec<u8>,
    /// The client has sent its last.
    ended: bool,
}

impl Stream {
    pub(crate) fn from_state(state: &[u8]) -> Self {
        let (ended, owed) = state.split_first().unwrap_or((&0, &[]));
        Self { owed: owed.to_vec(), ended: *ended != 0 }
    }

    pub(crate) fn to_state(&self) -> Vec<u8> {
        [&[u8::from(self.ended)], self.owed.as_slice()].concat()
    }

    /// Sends back what comes. True when the client has ended and is owed nothing, false when it is time.
    pub(crate) async fn go_on(&mut self, client: &TcpStream, until: Instant) -> io::Result<bool> {
        match timeout_at(until, self.echo(client)).await {
            Ok(ended) => ended.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// May be given up at any `await`: between them nothing is half done.
    async fn echo(&mut self, client: &TcpStream) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        while !(self.ended && self.owed.is_empty()) {
            let may_read = !self.ended && self.owed.len() < MOST_OWED;
            let done = tokio::select! {
                ready = client.readable(), if may_read => {
                    ready?;
                    client.try_read(&mut piece).map(|bytes| {
                        self.ended = bytes == 0;
                        self.owed.extend(piece.iter().take(bytes));
                    })
                }
                ready = client.writable(), if !self.owed.is_empty() => {
                    ready?;
                    client.try_write(&self.owed).map(|bytes| drop(self.owed.drain(..bytes)))
                }
            };
            match done {
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}
