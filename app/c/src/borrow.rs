//! What C passes, checked as far as it can be.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::error::Failure;

/// # Safety
/// `pointer` is NULL, or points to a `T` for as long as `'a`.
pub(crate) unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: as the caller says.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// # Safety
/// `pointer` is NULL, or points to room for a `T`, initialised or not.
pub(crate) unsafe fn store<T>(pointer: *mut T, name: &str, value: T) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: as the caller says; nothing is dropped there.
    unsafe { pointer.write(value) };
    Ok(())
}

/// # Safety
/// `pointer` is NULL, or points to a text ended by 0 for as long as `'a`.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: as the caller says.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| Failure::argument(format!("{name} is not UTF-8: pass a text")))
}

/// # Safety
/// `pointer` is NULL, or points to `count` values for as long as `'a`.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: as the caller says.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// # Safety
/// `pointer` is NULL, or points to `count` bytes for as long as `'a`.
pub(crate) unsafe fn bytes<'a>(
    pointer: *const c_void,
    count: usize,
    name: &str,
) -> Result<&'a [u8], Failure> {
    // SAFETY: as the caller says.
    unsafe { slice(pointer.cast(), count, name) }
}

/// # Safety
/// `fd` is negative, or open for as long as `'a`.
pub(crate) unsafe fn descriptor<'a>(fd: c_int) -> Result<BorrowedFd<'a>, Failure> {
    if fd < 0 {
        return Err(Failure::argument("fd is negative: pass the socket of the connection"));
    }
    // SAFETY: as the caller says. A closed one makes the system call fail (EBADF).
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// How long to wait: below 0, for ever.
pub(crate) fn timeout(ms: c_int) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}

fn null(name: &str) -> Failure {
    Failure::argument(format!("{name} is NULL: see baton.h"))
}
