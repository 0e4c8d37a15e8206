//! The socket options and controls of TCP_REPAIR, which no library has. All unsafe code of `repair` is here.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::repair::layout::{RepairOption, RepairWindow};

/// A type that the kernel may fill with any bytes and read without finding any that were never written.
///
/// # Safety
/// Every bit pattern is a value, and there is no padding.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: integers, and arrays of them.
unsafe impl Plain for c_int {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u8; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [c_int; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u32; N] {}
// SAFETY: five `u32`; `layout` asserts the size, so there is no padding.
unsafe impl Plain for RepairWindow {}
// SAFETY: two `u32`; `layout` asserts the size.
unsafe impl Plain for RepairOption {}

/// Reads a socket option. If the kernel's is shorter than `T`, the rest is zero; if it is longer, it is cut off.
///
/// # Errors
/// What the system says.
pub(super) fn get<T: Plain>(socket: impl AsFd, level: c_int, name: c_int) -> io::Result<T> {
    // SAFETY: zero is a value of every `Plain` type.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut bytes = size_of::<T>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `value` and `bytes` are valid for writes, `bytes` is the size of `value`, and the kernel writes no more than
    // that; whatever it writes is a value of a `Plain` type. A wrong size shows in the round trips of the tests.
    let result = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut bytes) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Writes a socket option.
///
/// # Errors
/// What the system says.
pub(super) fn set<T: Plain>(socket: impl AsFd, level: c_int, name: c_int, value: T) -> io::Result<()> {
    set_all(socket, level, name, &[value])
}

/// Writes a socket option that is a list.
///
/// # Errors
/// What the system says.
pub(super) fn set_all<T: Plain>(
    socket: impl AsFd,
    level: c_int,
    name: c_int,
    values: &[T],
) -> io::Result<()> {
    let bytes = size_of_val(values) as libc::socklen_t;
    // SAFETY: `values` is valid for reads of `bytes`, and a `Plain` type has no bytes that were never written.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, values.as_ptr().cast(), bytes) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A count of bytes that the kernel tells through ioctl(2).
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    /// Received and not read (`SIOCINQ`).
    Unread,
    /// Not acknowledged, a FIN included (`SIOCOUTQ`).
    Unacknowledged,
    /// Not sent, a FIN included (`SIOCOUTQNSD`).
    Unsent,
}

/// Asks for a count of bytes.
///
/// # Errors
/// What the system says.
pub(super) fn count(socket: impl AsFd, which: Count) -> io::Result<u32> {
    let request = match which {
        Count::Unread => libc::FIONREAD,
        Count::Unacknowledged => libc::TIOCOUTQ,
        Count::Unsent => libc::SIOCOUTQNSD,
    };
    let mut bytes: c_int = 0;
    // SAFETY: each of these requests writes one `int` and nothing else (tcp(7)).
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request, &raw mut bytes) };
    match result {
        0 => Ok(u32::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}
