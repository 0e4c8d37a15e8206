//! The socket options that go with a connection.

use std::ffi::c_int;
use std::os::fd::AsFd;

use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET};
use model::connection_state::{SocketFamily, SocketOption};

use super::calls;

/// `SO_BUF_LOCK` of asm-generic/socket.h (Linux 5.14).
const SO_BUF_LOCK: c_int = 72;

/// Where the kernel has each option that is one number.
fn place(option: SocketOption) -> (c_int, c_int) {
    match option {
        SocketOption::NoDelay => (IPPROTO_TCP, libc::TCP_NODELAY),
        SocketOption::Cork => (IPPROTO_TCP, libc::TCP_CORK),
        SocketOption::KeepAlive => (SOL_SOCKET, libc::SO_KEEPALIVE),
        SocketOption::KeepIdle => (IPPROTO_TCP, libc::TCP_KEEPIDLE),
        SocketOption::KeepInterval => (IPPROTO_TCP, libc::TCP_KEEPINTVL),
        SocketOption::KeepCount => (IPPROTO_TCP, libc::TCP_KEEPCNT),
        SocketOption::UserTimeout => (IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
        SocketOption::Linger => (SOL_SOCKET, libc::SO_LINGER),
        SocketOption::Linger2 => (IPPROTO_TCP, libc::TCP_LINGER2),
        SocketOption::SendBuffer => (SOL_SOCKET, libc::SO_SNDBUF),
        SocketOption::ReceiveBuffer => (SOL_SOCKET, libc::SO_RCVBUF),
        SocketOption::BufferLock => (SOL_SOCKET, SO_BUF_LOCK),
        SocketOption::Tos => (IPPROTO_IP, libc::IP_TOS),
        SocketOption::TrafficClass => (IPPROTO_IPV6, libc::IPV6_TCLASS),
        SocketOption::Mark => (SOL_SOCKET, libc::SO_MARK),
        SocketOption::Priority => (SOL_SOCKET, libc::SO_PRIORITY),
        SocketOption::OobInline => (SOL_SOCKET, libc::SO_OOBINLINE),
        SocketOption::NotSentLowWater => (IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
        SocketOption::ReceiveLowWater => (SOL_SOCKET, libc::SO_RCVLOWAT),
        SocketOption::ReuseAddress => (SOL_SOCKET, libc::SO_REUSEADDR),
        SocketOption::Ttl => (IPPROTO_IP, libc::IP_TTL),
        SocketOption::HopLimit => (IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    }
}

/// Reads all options that a socket of this family has. To be called before repair mode, which changes one of them.
pub(super) fn read(socket: impl AsFd, family: SocketFamily) -> Vec<(SocketOption, i64)> {
    let applies = |option: &&SocketOption| {
        family != SocketFamily::V4 || !matches!(option, SocketOption::TrafficClass | SocketOption::HopLimit)
    };
    let value = |option: SocketOption| {
        let (level, name) = place(option);
        if option == SocketOption::Linger {
            let [on, seconds] = calls::get::<[c_int; 2]>(&socket, level, name).ok()?;
            return Some(if on == 0 { -1 } else { i64::from(seconds) });
        }
        calls::get::<c_int>(&socket, level, name).ok().map(i64::from)
    };
    SocketOption::ALL.iter().filter(applies).filter_map(|option| Some((*option, value(*option)?))).collect()
}

/// Sets an option; whether the kernel took it. A value that the kernel knows no more is no reason to lose a connection.
pub(super) fn write(socket: impl AsFd, option: SocketOption, value: i64) -> bool {
    let Ok(value) = c_int::try_from(value) else { return false };
    let (level, name) = place(option);
    let result = match option {
        SocketOption::Linger => calls::set(socket, level, name, [c_int::from(value >= 0), value.max(0)]),
        // The kernel doubles what it is given; only root may exceed the system's limit.
        SocketOption::SendBuffer => calls::set(socket, level, libc::SO_SNDBUFFORCE, value / 2),
        SocketOption::ReceiveBuffer => calls::set(socket, level, libc::SO_RCVBUFFORCE, value / 2),
        _ => calls::set(socket, level, name, value),
    };
    result.is_ok()
}
