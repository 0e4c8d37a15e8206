//! Whose socket a connection is, and a descriptor of it (pidfd_getfd(2)).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use model::Connection;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use transfer::host::Place;

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
    found.ok_or(Refused::NotThere { connection: *connection, pid })
}

/// Descriptors of the sockets of all these connections, and where they were found: in one walk over the processes, the likely ones
/// first, until all are found.
///
/// # Errors
/// As [`find`], for each.
pub fn find_all(connections: &[Connection], likely: &[u32]) -> Vec<Result<(OwnedFd, Place), Refused>> {
    let not_there = |connection: &Connection| Refused::NotThere { connection: *connection, pid: None };
    let mut found: Vec<_> = connections.iter().map(|connection| Err(not_there(connection))).collect();
    let mut wanted = HashMap::new();
    for (connection, found) in connections.iter().zip(&mut found) {
        match link(connection, None) {
            Ok(link) => drop(wanted.insert(PathBuf::from(link), (connection, found))),
            Err(refused) => *found = Err(refused),
        }
    }
    let all = likely.iter().copied().chain(processes().unwrap_or_default());
    for process in all {
        if wanted.is_empty() {
            break;
        }
        for descriptor in descriptors(process) {
            let place = Place { process, descriptor };
            let Some((path, (connection, _))) = to(place).and_then(|to| wanted.get_key_value(&to)) else {
                continue;
            };
            if let Some(socket) = take(place, connection)
                && let Some((_, found)) = wanted.remove(&path.clone())
            {
                *found = Ok((socket, place));
            }
        }
    }
    drop(wanted);
    found
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

/// A process that ends meanwhile has none.
fn descriptors(pid: u32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn in_process(pid: u32, link: &str, connection: &Connection) -> Option<OwnedFd> {
    let mut places = descriptors(pid).into_iter().map(|descriptor| Place { process: pid, descriptor });
    places.find_map(|place| at(place, link, connection))
}

/// What the descriptor at this place points to.
fn to(Place { process, descriptor }: Place) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/fd/{descriptor}")).ok()
}

/// The socket at this place, if it is that connection's.
fn at(place: Place, link: &str, connection: &Connection) -> Option<OwnedFd> {
    if to(place)? == Path::new(link) { take(place, connection) } else { None }
}

/// A descriptor of the socket at this place. The number may be another descriptor's by now.
fn take(Place { process, descriptor }: Place, connection: &Connection) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(i32::try_from(process).ok()?)?, PidfdFlags::empty()).ok()?;
    let socket = pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()).ok()?;
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
