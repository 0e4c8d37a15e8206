//! Whose socket a connection is, and a descriptor of it (pidfd_getfd(2)).

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use model::Connection;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::calls;
use super::inspect;
use super::mode;
use super::options;
use super::refused::{Refused, system};
use crate::system::diag;
use model::connection_state::SocketOption;

/// A descriptor of a connection's socket: that of the process with this id, or of any process of this host.
///
/// # Errors
/// [`Refused::NotThere`], or what the system says.
pub fn find(connection: &Connection, pid: Option<u32>) -> Result<OwnedFd, Refused> {
    let link = link(connection, pid)?;
    let found = match pid {
        Some(pid) => in_process(pid, &link, connection),
        None => processes()?.into_iter().find_map(|pid| in_process(pid, &link, connection)),
    };
    found.map(|(socket, _)| socket).ok_or(Refused::NotThere { connection: *connection, pid })
}

/// Where a connection's socket was found. Unlike a descriptor it does not keep the socket open when its process closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The process that has it.
    pub process: u32,
    descriptor: i32,
}

/// A descriptor of a connection's socket, and where it was found: looked for in a likely process first.
///
/// # Errors
/// As [`find`].
pub fn find_near(connection: &Connection, likely: Option<u32>) -> Result<(OwnedFd, Place), Refused> {
    let link = link(connection, None)?;
    let of = |pid| in_process(pid, &link, connection);
    if let Some(found) = likely.and_then(of) {
        return Ok(found);
    }
    let found = processes()?.into_iter().find_map(of);
    found.ok_or(Refused::NotThere { connection: *connection, pid: None })
}

/// A descriptor of a connection's socket that was found there before: a matter of microseconds.
///
/// # Errors
/// As [`find`].
pub fn find_at(connection: &Connection, place: Place) -> Result<OwnedFd, Refused> {
    let link = link(connection, Some(place.process))?;
    let found = at(place, &link, connection);
    found.ok_or(Refused::NotThere { connection: *connection, pid: Some(place.process) })
}

/// What a process's descriptor of the connection's socket points to.
fn link(connection: &Connection, pid: Option<u32>) -> Result<String, Refused> {
    let not_there = || Refused::NotThere { connection: *connection, pid };
    let told = diag::ask(connection).map_err(system("tell of the connection"))?;
    // Without an inode nobody has a descriptor: it waits to be accepted, or was closed.
    let inode = told.map(|told| told.inode).filter(|inode| *inode != 0).ok_or_else(not_there)?;
    Ok(format!("socket:[{inode}]"))
}

fn processes() -> Result<Vec<u32>, Refused> {
    let entries = fs::read_dir("/proc").map_err(system("list the processes"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// A process that ends meanwhile, or closes the socket, has none.
fn in_process(pid: u32, link: &str, connection: &Connection) -> Option<(OwnedFd, Place)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut places = numbers.map(|descriptor| Place { process: pid, descriptor });
    places.find_map(|place| Some((at(place, link, connection)?, place)))
}

/// The socket at this place, if it is that connection's.
fn at(Place { process, descriptor }: Place, link: &str, connection: &Connection) -> Option<OwnedFd> {
    let to = fs::read_link(format!("/proc/{process}/fd/{descriptor}")).ok()?;
    if to != Path::new(link) {
        return None;
    }
    let process = pidfd_open(Pid::from_raw(i32::try_from(process).ok()?)?, PidfdFlags::empty()).ok()?;
    let socket = pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()).ok()?;
    // The number may be another descriptor's by now.
    inspect::identify(&socket).is_ok_and(|(found, _)| found == *connection).then_some(socket)
}

/// Lets a connection go on whose agent died while it was frozen: its socket leaves repair mode, if a process has it and it
/// is in that. Whether it was. For what a former run has left in the freeze map.
///
/// # Errors
/// What the system says. That nobody has the connection any more is none.
pub fn rescue(connection: &Connection) -> Result<bool, Refused> {
    let socket = match find(connection, None) {
        Err(Refused::NotThere { .. }) => return Ok(false),
        found => found?,
    };
    wake(socket.as_fd()).map_err(system("leave repair mode"))
}

/// As [`rescue`], for a socket that is at hand.
///
/// # Errors
/// What the system says.
pub fn wake(socket: BorrowedFd<'_>) -> io::Result<bool> {
    if !mode::is_on(socket)? {
        return Ok(false);
    }
    mode::leave(socket, mode::Leave::Probing)?;
    // Repair mode has forgotten what it was; a server's is on by its listener.
    options::write(socket, SocketOption::ReuseAddress, 1);
    Ok(true)
}

/// Has the kernel send the client a packet that it answers with an acknowledgment of all that it has (RFC 9293 3.8.4), without
/// a change to the connection. The server must not use the socket meanwhile: its calls would fail.
///
/// # Errors
/// What the system says.
pub fn prompt(socket: BorrowedFd<'_>) -> io::Result<()> {
    mode::enter(socket)?;
    wake(socket).map(drop)
}

/// Whether a socket is in repair mode.
///
/// # Errors
/// What the system says.
pub fn is_silent(socket: BorrowedFd<'_>) -> io::Result<bool> {
    mode::is_on(socket)
}

/// Whether a connection's socket is here and some process has no descriptor of it yet but will: it is on the way through a Unix
/// socket. To be asked when [`find`] has found none.
pub fn is_in_flight(connection: &Connection) -> bool {
    diag::ask(connection).is_ok_and(|told| told.is_some_and(|told| told.inode != 0))
}

/// Puts a socket into repair mode, if it is not in that, without reading its state.
///
/// # Errors
/// What the system says.
pub fn silence(socket: BorrowedFd<'_>) -> io::Result<()> {
    if mode::is_on(socket)? { Ok(()) } else { mode::enter(socket) }
}

/// How many bytes the client has not acknowledged, those that were not sent included.
///
/// # Errors
/// What the system says.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u32> {
    calls::count(socket, calls::Count::Unacknowledged)
}
