//! What can be read of a socket without disturbing it, and whether it can move.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use libc::{IPPROTO_TCP, SOL_SOCKET};
use model::connection_state::{Phase, SocketFamily, WindowScales};
use model::{Connection, Protocol};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::calls;
use super::refused::{Refused, system};
use crate::system::diag;

/// `TCPI_OPT_…` of linux/tcp.h.
const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WINDOW_SCALE: u8 = 4;
const ECN: u8 = 8;
/// Since Linux 6.7.
const MICROSECONDS: u8 = 64;

/// States of net/tcp_states.h.
const ESTABLISHED: u8 = 1;
const SYN_RECV: u8 = 3;

/// `TCP_AO_INFO` and `struct tcp_ao_info_opt` of linux/tcp.h (Linux 6.7); an error without keys.
const TCP_AO_INFO: i32 = 40;
const AO_INFO_BYTES: usize = 48;

/// Where `tcpi_bytes_received` is in `struct tcp_info` (linux/tcp.h).
const RECEIVED_AT: usize = 128;

/// The begin of `struct tcp_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Info {
    /// net/tcp_states.h.
    pub(super) state: u8,
    pub(super) timestamps: bool,
    /// Those sent to the client count microseconds.
    pub(super) microseconds: bool,
    pub(super) sack: bool,
    pub(super) ecn: bool,
    pub(super) scales: Option<WindowScales>,
}

impl Info {
    pub(super) fn of(socket: impl AsFd) -> Result<Self, Refused> {
        let bytes: [u8; 8] =
            calls::get(socket, IPPROTO_TCP, libc::TCP_INFO).map_err(system("tell the connection's state"))?;
        let [state, _, _, _, _, options, scales, _] = bytes;
        let (send, receive) = if cfg!(target_endian = "little") {
            (scales & 15, scales >> 4)
        } else {
            (scales >> 4, scales & 15)
        };
        Ok(Self {
            state,
            timestamps: options & TIMESTAMPS != 0,
            microseconds: options & MICROSECONDS != 0,
            sack: options & SACK != 0,
            ecn: options & ECN != 0,
            scales: (options & WINDOW_SCALE != 0).then_some(WindowScales { send, receive }),
        })
    }

    /// How far the connection is, if it is one.
    pub(super) fn phase(&self) -> Result<Phase, Refused> {
        Ok(match self.state {
            ESTABLISHED => Phase::Established,
            4 => Phase::FinWait1,
            5 => Phase::FinWait2,
            8 => Phase::CloseWait,
            9 => Phase::LastAck,
            11 => Phase::Closing,
            2 => return Err(Refused::NotEstablished("being opened")),
            // An application has a socket in this state only if data came with the SYN.
            SYN_RECV => return Err(Refused::FastOpen),
            10 => return Err(Refused::NotEstablished("none: the socket listens")),
            _ => return Err(Refused::NotEstablished("over, or was never opened")),
        })
    }
}

/// How many of the client's bytes the socket has taken, those that were not read included (`tcpi_bytes_received`).
///
/// # Errors
/// What the system says.
pub fn received(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let info: [u8; RECEIVED_AT + size_of::<u64>()] = calls::get(socket, IPPROTO_TCP, libc::TCP_INFO)?;
    Ok(info.last_chunk().copied().map_or(0, u64::from_ne_bytes))
}

/// Whose connection it is, and of which kind its socket.
pub(super) fn identify(socket: impl AsFd) -> Result<(Connection, SocketFamily), Refused> {
    let protocol: i32 = calls::get(&socket, SOL_SOCKET, libc::SO_PROTOCOL).map_err(|_| Refused::NotTcp)?;
    match protocol {
        libc::IPPROTO_TCP => {}
        libc::IPPROTO_MPTCP => return Err(Refused::Multipath),
        _ => return Err(Refused::NotTcp),
    }
    let of = |a: rustix::net::SocketAddrAny| SocketAddr::try_from(a).map_err(|_| Refused::NotTcp);
    let local = of(rustix::net::getsockname(&socket).map_err(|e| system("tell the own address")(e.into()))?)?;
    let remote = match rustix::net::getpeername(&socket) {
        Ok(address) => of(address.ok_or(Refused::NotTcp)?)?,
        Err(Errno::NOTCONN) => {
            Info::of(&socket)?.phase()?;
            return Err(Refused::NotEstablished("not connected"));
        }
        Err(e) => return Err(system("tell the client's address")(e.into())),
    };
    let connection = Connection::new(Protocol::Tcp, remote, local).ok_or(Refused::NotTcp)?;
    let family = match (local.is_ipv6(), connection.client.is_ipv4()) {
        (true, true) => SocketFamily::MappedV4,
        (true, false) => SocketFamily::V6,
        (false, _) => SocketFamily::V4,
    };
    Ok((connection, family))
}

/// Refuses what has state that can't be read.
pub(super) fn check(socket: impl AsFd, connection: &Connection, urgent_inline: bool) -> Result<(), Refused> {
    let link_local = |ip: IpAddr| matches!(ip, IpAddr::V6(a) if a.is_unicast_link_local());
    if link_local(connection.client.ip()) {
        return Err(Refused::LinkLocal(connection.client.ip()));
    }
    let name: [u8; 16] = calls::get(&socket, IPPROTO_TCP, libc::TCP_ULP).unwrap_or_default();
    if let Some(name) = name.split(|byte| *byte == 0).next().filter(|name| !name.is_empty()) {
        return Err(Refused::UpperProtocol(String::from_utf8_lossy(name).into_owned()));
    }
    if is_urgent(&socket, urgent_inline).map_err(|e| system("tell of urgent data")(e.into()))? {
        return Err(Refused::UrgentData);
    }
    let authenticated = calls::get::<[u8; AO_INFO_BYTES]>(&socket, IPPROTO_TCP, TCP_AO_INFO).is_ok();
    let told = diag::ask(connection).map_err(system("tell whether segments are signed"))?;
    if authenticated || told.is_some_and(|told| told.signed) {
        return Err(Refused::Signed);
    }
    Ok(())
}

/// Whether an urgent byte was announced and not read. In the stream (`SO_OOBINLINE`) only poll(2) tells, else only recv(2).
fn is_urgent(socket: impl AsFd, inline: bool) -> Result<bool, Errno> {
    if inline {
        let mut fds = [PollFd::new(&socket, PollFlags::PRI)];
        poll(&mut fds, Some(&Timespec::default()))?;
        return Ok(fds.iter().any(|fd| fd.revents().contains(PollFlags::PRI)));
    }
    let flags = RecvFlags::OOB | RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match rustix::net::recv(&socket, &mut [0u8; 1], flags) {
        // None was announced, or this is a state in which none can come any more.
        Err(Errno::INVAL | Errno::NOTCONN) | Ok((0, _)) => Ok(false),
        Ok(_) | Err(Errno::AGAIN) => Ok(true),
        Err(e) => Err(e),
    }
}
