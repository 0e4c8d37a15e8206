//! Repair mode: a socket whose queues and numbers can be read and written, and which sends nothing when it is closed.
//!
//! It does not make the kernel deaf or dumb by itself: packets that arrive are taken, and timers send. While a connection
//! moves, the freeze map keeps its packets away from the host ([`crate::system::freezes`]).

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use super::calls;

/// `TCP_REPAIR_ON`, `TCP_REPAIR_OFF`, `TCP_REPAIR_OFF_NO_WP` of linux/tcp.h.
const ON: c_int = 1;
const OFF: c_int = 0;
const OFF_NO_PROBE: c_int = -1;

/// Which numbers and bytes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// None. While [`Queue::Send`] is selected, the kernel counts as sent what it would send.
    None = 0,
    /// What the client sent.
    Receive = 1,
    /// What the client is sent.
    Send = 2,
}

/// How a socket leaves repair mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// With a window probe, if it is established: the client's answer says what it has.
    Probing,
    /// Without a packet.
    Silently,
}

pub(super) fn enter(socket: impl AsFd) -> io::Result<()> {
    calls::set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, ON)
}

/// Whether a socket is in repair mode.
pub(super) fn is_on(socket: impl AsFd) -> io::Result<bool> {
    calls::get::<c_int>(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR).map(|value| value == ON)
}

/// The kernel forgets `SO_REUSEADDR` here: it is to be set again.
pub(super) fn leave(socket: impl AsFd, how: Leave) -> io::Result<()> {
    let value = if how == Leave::Probing { OFF } else { OFF_NO_PROBE };
    calls::set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, value)
}

/// What follows is about this queue.
pub(super) fn select(socket: impl AsFd, queue: Queue) -> io::Result<()> {
    calls::set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue as c_int)
}

/// The sequence number after the queue's last byte.
pub(super) fn sequence(socket: impl AsFd, queue: Queue) -> io::Result<u32> {
    select(&socket, queue)?;
    calls::get(socket, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ)
}

/// Sets the sequence number of an empty queue of a socket that is not connected.
pub(super) fn set_sequence(socket: impl AsFd, queue: Queue, number: u32) -> io::Result<()> {
    select(&socket, queue)?;
    calls::set(socket, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, number)
}
