//! What a descriptor is that an application has passed.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use channel::{Received, Sealed, Unfit};
use model::control_socket::{MAX_STATE_BYTES, Refusal};
use model::{Connection, Protocol};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, getpeername, getsockname, ipproto, sockopt};

use super::event::{Held, Named};
use super::machine::Enclosed;
use crate::machine::Cookie;
use crate::system::netns_cookie_of;

/// The number of a network namespace, as the kernel counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Namespace(pub(super) u64);

/// Takes what came beside a message: a connection, then state, or neither; or a listening socket.
///
/// # Errors
/// Why it can't be used.
pub(super) fn inspect(received: Received, home: Namespace) -> Result<Enclosed, Refusal> {
    if received.descriptors_lost {
        return Err(Refusal::AgentFull);
    }
    let mut descriptors = received.descriptors.into_iter();
    let first = descriptors.next();
    if let Some(listener) = first.as_ref().and_then(|socket| named(socket.as_fd(), home)) {
        return Ok(Enclosed { listener: first.zip(Some(listener)), ..Enclosed::default() });
    }
    let socket = first.map(|socket| held(socket, home)).transpose()?;
    let was_taken_away = matches!(socket, Some(None));
    let state = descriptors.next().map(state).transpose()?;
    Ok(Enclosed { connection: socket.flatten(), was_taken_away, state, listener: None })
}

/// A listening TCP socket of the agent's own network namespace.
fn named(socket: BorrowedFd<'_>, home: Namespace) -> Option<Named> {
    let is_tcp = sockopt::socket_protocol(socket).ok()? == Some(ipproto::TCP);
    let is_here = netns_cookie_of(socket).is_ok_and(|cookie| Namespace(cookie) == home);
    if !is_tcp || !is_here || !sockopt::socket_acceptconn(socket).ok()? {
        return None;
    }
    let bound = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    let bound = SocketAddr::new(bound.ip().to_canonical(), bound.port());
    // An IPv4 socket has no such option.
    let v6_only = sockopt::ipv6_v6only(socket).unwrap_or(false);
    Some(Named { cookie: Cookie(sockopt::socket_cookie(socket).ok()?), bound, v6_only })
}

fn state(memory: OwnedFd) -> Result<Sealed, Refusal> {
    Sealed::check(memory, MAX_STATE_BYTES).map_err(|unfit| match unfit {
        Unfit::TooLong { .. } => Refusal::StateTooLong,
        Unfit::NotSealed | Unfit::System(_) => Refusal::StateNotSealed,
    })
}

/// A connection that the application holds: a TCP socket of the agent's own network namespace. In another one anybody who
/// may make namespaces could have a socket with any address. `None` if an agent has taken its connection away.
fn held(socket: OwnedFd, home: Namespace) -> Result<Option<Held>, Refusal> {
    let is_tcp = is_tcp(socket.as_fd()).unwrap_or(false);
    let is_here = netns_cookie_of(socket.as_fd()).is_ok_and(|cookie| Namespace(cookie) == home);
    if !is_tcp || !is_here || sockopt::socket_acceptconn(&socket).unwrap_or(true) {
        return Err(Refusal::NoConnection);
    }
    let Some([client, own]) = ends(socket.as_fd()) else {
        // What `repair::discard` leaves behind, and no client can bring about.
        let is_aborted = matches!(sockopt::socket_error(&socket), Ok(Err(Errno::CONNABORTED)));
        return if is_aborted { Ok(None) } else { Err(Refusal::Ended) };
    };
    let connection = Connection::new(Protocol::Tcp, client, own).ok_or(Refusal::NoConnection)?;
    Ok(Some(Held { socket, connection }))
}

fn is_tcp(socket: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let internet = matches!(sockopt::socket_domain(socket)?, AddressFamily::INET | AddressFamily::INET6);
    let stream = sockopt::socket_type(socket)? == SocketType::STREAM;
    // Multipath TCP does not move, but an application that tries is told so by name.
    let is_tcp = matches!(sockopt::socket_protocol(socket)?, Some(ipproto::TCP | ipproto::MPTCP));
    Ok(internet && stream && is_tcp)
}

/// The client's end and this one; `None` if the socket is not connected any longer.
fn ends(socket: BorrowedFd<'_>) -> Option<[SocketAddr; 2]> {
    let client = SocketAddr::try_from(getpeername(socket).ok()??).ok()?;
    let own = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    Some([client, own])
}
