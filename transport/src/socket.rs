//! The UDP socket of an endpoint, as quinn wants it.
//!
//! It differs from quinn's own in what wakes the task that reads it: only what arrives. The kernel also tells that there is room
//! to send, each time that a datagram has left, which would be one wake-up for each datagram; so that is listened for only
//! while there is none.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A UDP socket. Shared by the endpoint, which reads it, and its connections, which send.
#[derive(Debug)]
pub(crate) struct Socket {
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    /// There was no room for a datagram, and nobody waits for it yet.
    is_full: AtomicBool,
}

impl Socket {
    /// Takes a bound socket. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        // This also makes it one that does not block.
        let state = UdpSocketState::new((&socket).into())?;
        // SAFETY: a `UdpSocket` has one descriptor from its making to its end, and owns it; the `AsyncFd` owns the socket. No
        // session would ever begin if it were another one.
        let io = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { io, state, is_full: AtomicBool::new(false) })
    }

    /// Waits until there is room to send.
    fn room(&self) -> io::Result<impl Future<Output = io::Result<()>> + use<>> {
        // epoll(7) takes a file once a descriptor.
        let same: OwnedFd = self.io.get_ref().as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` has one descriptor from its making to its end; the `AsyncFd` owns it. A test of this module would
        // hang if it were another file's.
        let same = unsafe { AsyncFd::register_with_interest(same, Interest::WRITABLE) }?;
        Ok(async move { same.writable().await.map(drop) })
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, awaited: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        if sent.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
            // Relaxed: a sender that tries again because it was not set in time sets it again.
            self.is_full.store(true, Ordering::Relaxed);
        }
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut readable = ready!(self.io.poll_read_ready(context))?;
            match self.state.recv(self.io.get_ref().into(), buffers, metas) {
                // Fewer than there was room for: there are no more, and the next one is told.
                Ok(received) if received < buffers.len().min(BATCH_SIZE) => {
                    readable.clear_ready();
                    return Poll::Ready(Ok(received));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                received => return Poll::Ready(received),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Lets one connection wait for room, if there was none.
struct Room {
    socket: Arc<Socket>,
    awaited: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.awaited.is_none() {
            if !self.socket.is_full.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            self.socket.is_full.store(false, Ordering::Relaxed);
            self.awaited = Some(Box::pin(self.socket.room()?));
        }
        let Some(room) = &mut self.awaited else { return Poll::Ready(Ok(())) };
        let is_there = ready!(room.as_mut().poll(context));
        self.awaited = None;
        Poll::Ready(is_there)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    fn transmit<'a>(destination: SocketAddr, contents: &'a [u8]) -> Transmit<'a> {
        Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None }
    }

    fn bound() -> Arc<Socket> {
        Arc::new(Socket::new(UdpSocket::bind("127.0.0.1:0").expect("bound")).expect("registered"))
    }

    async fn received(socket: &Socket, buffers: usize) -> usize {
        let mut memory = vec![[0; 2048]; buffers];
        let mut slices: Vec<_> = memory.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        let mut metas = vec![RecvMeta::default(); buffers];
        poll_fn(|context| socket.poll_recv(context, &mut slices, &mut metas)).await.expect("received")
    }

    #[tokio::test]
    async fn what_comes_before_and_after_the_socket_was_empty_is_received() {
        let (from, to) = (bound(), bound());
        let address = to.local_addr().expect("an address");
        for buffers in [1, 4] {
            for round in 0..3_u8 {
                for _ in 0..2 {
                    from.try_send(&transmit(address, &[round])).expect("sent");
                }
                let mut all = 0;
                while all < 2 {
                    all += received(&to, buffers).await;
                }
            }
        }
    }

    #[tokio::test]
    async fn who_found_no_room_waits_only_until_there_is_some() {
        let socket = bound();
        let mut room = Arc::clone(&socket).create_io_poller();
        let mut poll = async || poll_fn(|context| room.as_mut().poll_writable(context)).await;
        poll().await.expect("there is room");
        socket.is_full.store(true, Ordering::Relaxed);
        tokio::time::timeout(Duration::from_secs(5), poll()).await.expect("in time").expect("there is room");
    }
}
