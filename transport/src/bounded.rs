//! A listener that lets in a bounded number of clients, each for a bounded time, so that clients that hold connections
//! open cannot use up this process's file descriptors or lock others out for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Connections at once; one more is closed at once.
const CLIENTS: usize = 64;
/// How long a connection may last.
const LIFE: Duration = Duration::from_secs(60);

/// A listener with limits.
#[derive(Debug)]
pub struct Bounded<L> {
    listener: L,
    room: Arc<Semaphore>,
    life: Duration,
}

impl<L> Bounded<L> {
    /// For clients that ask and go.
    pub fn new(listener: L) -> Self {
        Self::with(listener, CLIENTS, LIFE)
    }

    /// For clients that listen for longer.
    pub fn lasting(listener: L, life: Duration) -> Self {
        Self::with(listener, CLIENTS, life)
    }

    /// For so many clients at once, each for so long.
    pub(crate) fn with(listener: L, clients: usize, life: Duration) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(clients)), life }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Client<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (io, address) = self.listener.accept().await;
            if let Ok(place) = self.room.clone().try_acquire_owned() {
                return (Client { io, life: Box::pin(sleep(self.life)), _place: place }, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when its time is over.
#[derive(Debug)]
pub struct Client<I> {
    io: I,
    life: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl<I> Client<I> {
    /// The connection, to look at.
    pub fn inner(&self) -> &I {
        &self.io
    }

    fn alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.life.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Client<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Client<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.alive(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_client_that_says_nothing_is_let_go_and_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded::with(listener, 1, Duration::from_millis(300));
        let _silent = TcpStream::connect(address).await.unwrap();
        let (mut client, _) = bounded.accept().await;
        let mut one_too_many = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        tokio::select! {
            _ = bounded.accept() => panic!("there is room for one"),
            end = one_too_many.read(&mut byte) => assert_eq!(end.unwrap_or(0), 0),
        }
        let error = client.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
        let _next = TcpStream::connect(address).await.unwrap();
        bounded.accept().await;
    }
}
