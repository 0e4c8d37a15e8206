//! Whose socket a connection is, and a descriptor of it (pidfd_getfd(2)).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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
    let inode = inode(connection, pid)?;
    let found = match pid {
        Some(pid) => in_process(pid, inode, connection),
        None => processes()?.into_iter().find_map(|pid| in_process(pid, inode, connection)),
    };
    found.ok_or(Refused::NotThere { connection: *connection, pid })
}

/// Where sockets were when processes were walked over: a server's other connections are looked for there first. What has become
/// of a descriptor since is seen when it is taken.
#[derive(Debug, Default)]
pub struct Places {
    /// By their inodes.
    known: HashMap<u64, Place>,
    /// Processes that were walked over.
    walked: usize,
}

/// Sockets whose places are remembered: those of a server with a million connections.
const PLACES: usize = 1 << 20;

impl Places {
    /// Descriptors of the sockets of all these connections, and where they were found: where they are known to be, or in one walk
    /// over the processes, the likely ones first, until all are found.
    ///
    /// # Errors
    /// As [`find`], for each.
    pub fn find_all(
        &mut self,
        connections: &[Connection],
        likely: &[u32],
    ) -> Vec<Result<(OwnedFd, Place), Refused>> {
        let not_there = |connection: &Connection| Refused::NotThere { connection: *connection, pid: None };
        let mut found: Vec<_> = connections.iter().map(|connection| Err(not_there(connection))).collect();
        let mut wanted = HashMap::new();
        for (connection, found) in connections.iter().zip(&mut found) {
            let inode = match inode(connection, None) {
                Ok(inode) => inode,
                Err(refused) => {
                    *found = Err(refused);
                    continue;
                }
            };
            let known = self.known.get(&inode).copied();
            match known.and_then(|place| Some((at(place, inode, connection)?, place))) {
                Some(there) => *found = Ok(there),
                None => drop(wanted.insert(inode, (connection, found))),
            }
        }
        let mut all = likely.iter().copied().chain(processes().unwrap_or_default());
        while !wanted.is_empty()
            && let Some(process) = all.next()
        {
            self.walked += 1;
            for descriptor in descriptors(process) {
                let place = Place { process, descriptor };
                let Some(inode) = to(place) else { continue };
                if let Some((connection, _)) = wanted.get(&inode)
                    && let Some(socket) = take(place, connection)
                    && let Some((_, found)) = wanted.remove(&inode)
                {
                    *found = Ok((socket, place));
                }
                if self.known.len() < PLACES {
                    self.known.insert(inode, place);
                }
            }
        }
        drop(wanted);
        found
    }
}

/// A descriptor of a connection's socket that was found there before: a matter of microseconds.
///
/// # Errors
/// As [`find`].
pub fn find_at(connection: &Connection, place: Place) -> Result<OwnedFd, Refused> {
    let inode = inode(connection, Some(place.process))?;
    let found = at(place, inode, connection);
    found.ok_or(Refused::NotThere { connection: *connection, pid: Some(place.process) })
}

/// The inode of the connection's socket.
fn inode(connection: &Connection, pid: Option<u32>) -> Result<u64, Refused> {
    let not_there = || Refused::NotThere { connection: *connection, pid };
    let told = diag::ask(connection).map_err(system("tell of the connection"))?;
    // Without an inode nobody has a descriptor: it waits to be accepted, or was closed.
    told.map(|told| told.inode.into()).filter(|inode| *inode != 0).ok_or_else(not_there)
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

fn in_process(pid: u32, inode: u64, connection: &Connection) -> Option<OwnedFd> {
    let mut places = descriptors(pid).into_iter().map(|descriptor| Place { process: pid, descriptor });
    places.find_map(|place| at(place, inode, connection))
}

/// The inode of the socket that the descriptor at this place points to (proc_pid_fd(5)).
fn to(Place { process, descriptor }: Place) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{process}/fd/{descriptor}")).ok()?;
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The socket at this place, if it is that connection's.
fn at(place: Place, inode: u64, connection: &Connection) -> Option<OwnedFd> {
    if to(place)? == inode { take(place, connection) } else { None }
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use model::Protocol;

    use super::*;

    #[test]
    fn a_server_whose_descriptors_were_walked_over_is_not_walked_over_for_its_other_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pairs: Vec<_> = (0..8)
            .map(|_| {
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                (client, listener.accept().unwrap().0)
            })
            .collect();
        let connection = |(client, server): &(TcpStream, TcpStream)| {
            let [client, server] = [client, server].map(|end| end.local_addr().unwrap());
            Connection::new(Protocol::Tcp, client, server).unwrap()
        };
        let connections: Vec<_> = pairs.iter().map(connection).collect();
        let (mut places, own) = (Places::default(), std::process::id());
        let (one, others) = connections.split_first().unwrap();
        let mut found = places.find_all(&[*one], &[own]);
        assert_eq!(places.walked, 1);
        found.extend(places.find_all(others, &[own]));
        assert_eq!(places.walked, 1, "the others were seen");
        for ((found, connection), (_, server)) in found.into_iter().zip(&connections).zip(&pairs) {
            let (socket, place) = found.unwrap();
            assert_eq!(inspect::identify(&socket).unwrap().0, *connection);
            assert_eq!(place, Place { process: own, descriptor: server.as_raw_fd() });
        }
        // One whose descriptor is another's by now is looked for again.
        let (moved, known) = (pairs[7].1.try_clone().unwrap(), places.known.len());
        let mut pairs = pairs;
        pairs.truncate(7);
        let again = places.find_all(&[connections[7]], &[own]).remove(0);
        assert!(places.walked > 1 && places.known.len() >= known);
        let there = again.map(|(_, place)| place);
        drop(moved);
        // The client's end is closed, and the server's is where it was moved to.
        assert!(there.is_ok_and(|place| place.process == own), "{connections:?}");
    }
}
