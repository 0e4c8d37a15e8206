//! What the kernel tells by itself over a netlink socket.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use netlink_sys::{AsyncSocket, TokioSocket};

use crate::machine::Event;

/// Messages that are read at once.
const AT_ONCE: usize = 64;

/// A socket that has subscribed, and room for its longest message.
pub(super) struct Told {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Told {
    /// `message_bytes` is the longest that the kernel writes at once.
    pub(super) fn new(socket: TokioSocket, message_bytes: usize) -> Self {
        Self { socket, buffer: Vec::with_capacity(message_bytes) }
    }

    /// Waits until there is something to tell, as `read` takes it from each message; and [`Event::EventsLost`] where the kernel had no
    /// room. Cancel-safe.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn next(&mut self, read: fn(&[u8], &mut Vec<Event>)) -> io::Result<Vec<Event>> {
        poll_fn(|context| self.poll_next(context, read)).await
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        read: fn(&[u8], &mut Vec<Event>),
    ) -> Poll<io::Result<Vec<Event>>> {
        let mut events = Vec::new();
        for _ in 0..AT_ONCE {
            self.buffer.clear();
            match self.socket.poll_recv(context, &mut self.buffer) {
                Poll::Ready(Ok(())) => read(&self.buffer, &mut events),
                Poll::Ready(Err(e)) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    events.push(Event::EventsLost);
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending if events.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(events))
    }
}
