//! Who spoke last on a connection, and what still waits, read without disturbing its socket (poll(2) would: it asks to be woken
//! for room).

use std::ffi::c_int;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use libc::{IPPROTO_TCP, SOL_SOCKET};
use transfer::host::Activity;

use super::calls::{self, Count};
use super::inspect;
use super::refused::{Refused, system};

/// Where `struct tcp_info` of linux/tcp.h has the milliseconds since bytes were sent and received, in words.
const SINCE_SENT: usize = 11;
const SINCE_RECEIVED: usize = 13;
/// And since the client has acknowledged something.
const SINCE_ACKNOWLEDGED: usize = 14;

/// Of linux/socket.h (`asm-generic/socket.h`).
const SO_MEMINFO: c_int = 55;
/// `SK_MEMINFO_…` of linux/sock_diag.h: the send buffer's size, and how much of it is used; how many there are.
const SEND_BUFFER: usize = 3;
const SEND_QUEUED: usize = 5;
const MEMINFO_WORDS: usize = 9;

/// What a server and its client have been doing up to now.
///
/// # Errors
/// What the system says.
pub fn activity(socket: BorrowedFd<'_>) -> Result<Activity, Refused> {
    let count = |which| calls::count(socket, which).map_err(system("count queued bytes"));
    let info: [u32; SINCE_ACKNOWLEDGED + 1] =
        calls::get(socket, IPPROTO_TCP, libc::TCP_INFO).map_err(system("tell the connection's state"))?;
    let since = |word: usize| Duration::from_millis(info.get(word).copied().unwrap_or(0).into());
    let memory: [u32; MEMINFO_WORDS] =
        calls::get(socket, SOL_SOCKET, SO_MEMINFO).map_err(system("tell the send buffer's use"))?;
    let of_memory = |word: usize| memory.get(word).copied().unwrap_or(0);
    Ok(Activity {
        unread: count(Count::Unread)?,
        unsent: count(Count::Unsent)?,
        since_sent: since(SINCE_SENT),
        since_received: since(SINCE_RECEIVED),
        since_acknowledged: since(SINCE_ACKNOWLEDGED),
        received: inspect::received(socket).map_err(system("count received bytes"))?,
        is_writable: has_room(of_memory(SEND_BUFFER), of_memory(SEND_QUEUED)),
    })
}

/// Who waits for room is woken when a third of the buffer is free (kernel `sk_stream_is_writeable`).
fn has_room(size: u32, used: u32) -> bool {
    size.saturating_sub(used) >= used / 2
}

#[cfg(test)]
mod tests {
    use super::has_room;

    #[test]
    fn a_server_is_told_of_room_when_a_third_of_its_buffer_is_free() {
        assert!(has_room(87_040, 0) && has_room(90, 60));
        assert!(!has_room(90, 62) && !has_room(90, 90) && !has_room(90, 100));
    }
}
