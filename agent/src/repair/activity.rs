//! Who spoke last on a connection, and what still waits, read without disturbing its socket.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use libc::IPPROTO_TCP;

use super::calls::{self, Count};
use super::refused::{Refused, system};

/// Where `struct tcp_info` of linux/tcp.h has the milliseconds since bytes were sent and received, in words.
const SINCE_SENT: usize = 11;
const SINCE_RECEIVED: usize = 13;

/// What a server and its client have been doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Bytes that the server has not read.
    pub unread: u32,
    /// Bytes that the server has written and that were never sent.
    pub unsent: u32,
    /// Since the server's last byte was sent, or since the begin; as exact as the kernel's ticks.
    pub since_sent: Duration,
    /// Since the client's last byte was received, or since the begin.
    pub since_received: Duration,
}

/// What they have been doing up to now.
///
/// # Errors
/// What the system says.
pub fn activity(socket: BorrowedFd<'_>) -> Result<Activity, Refused> {
    let count = |which| calls::count(socket, which).map_err(system("count queued bytes"));
    let info: [u32; SINCE_RECEIVED + 1] =
        calls::get(socket, IPPROTO_TCP, libc::TCP_INFO).map_err(system("tell the connection's state"))?;
    let since = |word: usize| Duration::from_millis(info.get(word).copied().unwrap_or(0).into());
    Ok(Activity {
        unread: count(Count::Unread)?,
        unsent: count(Count::Unsent)?,
        since_sent: since(SINCE_SENT),
        since_received: since(SINCE_RECEIVED),
    })
}
