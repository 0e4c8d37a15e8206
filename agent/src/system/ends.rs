//! sock_diag(7): the end of each socket.

use std::io;

use netlink_packet_sock_diag::constants::TCP_CLOSE;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket};

use super::told::Told;
use crate::machine::{Cookie, Event};

/// `1 << (SKNLGRP_INET_TCP_DESTROY - 1)` and so on for UDP and IPv6 (linux/sock_diag.h).
const DESTROY_GROUPS: u32 = 0b1111;
/// Room for ends that were not read yet, in bytes.
const DESTROY_BUFFER: usize = 4 << 20;
/// The kernel tells of one socket at a time, in some hundred bytes (`sock_diag_broadcast_destroy_work`).
const MESSAGE_BYTES: usize = 4096;
/// `sizeof(struct nlmsghdr)` of linux/netlink.h.
const HEADER_BYTES: usize = 16;

/// Tells of the end of every TCP and UDP socket of this network namespace, also of those that were opened before the
/// agent's programs were attached.
pub struct Ends {
    told: Told,
}

impl Ends {
    /// Subscribes.
    ///
    /// # Errors
    /// What the system says.
    pub fn subscribe() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_SOCK_DIAG)?;
        socket.socket_mut().set_rx_buf_sz(DESTROY_BUFFER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, DESTROY_GROUPS))?;
        Ok(Self { told: Told::new(socket, MESSAGE_BYTES) })
    }

    /// Waits until sockets have ended, and takes what is told of them. Cancel-safe.
    ///
    /// # Errors
    /// What the system says.
    pub async fn next(&mut self) -> io::Result<Vec<Event>> {
        self.told.next(|message, events| events.extend(ended(message))).await
    }
}

/// Reads a `struct inet_diag_msg` of linux/inet_diag.h, behind its netlink header.
fn ended(message: &[u8]) -> Option<Event> {
    let (_, [_family, state, _timer, _retransmissions, id @ ..]) = message.split_at_checked(HEADER_BYTES)?
    else {
        return None;
    };
    // Two ports, two addresses and an interface are before the number, whose lower half is written first.
    let (source_port, number) = (id.first_chunk::<2>()?, id.get(40..)?);
    let [low, high] =
        [number.first_chunk()?, number.get(4..)?.first_chunk()?].map(|half| u32::from_ne_bytes(*half));
    // Of sockets that never had a port nobody was told.
    let was_told = *source_port != [0; 2] || *state == TCP_CLOSE;
    was_told.then_some(Event::Ended(Cookie(u64::from(high) << 32 | u64::from(low))))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;

    fn cookie(socket: impl AsFd) -> Cookie {
        Cookie(rustix::net::sockopt::socket_cookie(socket).expect("a number"))
    }

    #[tokio::test]
    async fn the_end_of_each_socket_is_told() {
        // Others' tests close sockets in this namespace too.
        let mut ends = Ends::subscribe().expect("subscribed");
        let sockets = [(); 100].map(|()| UdpSocket::bind("127.0.0.1:0").expect("bound"));
        let mut missing: Vec<_> = sockets.iter().map(cookie).collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        missing.push(cookie(&listener));
        drop((sockets, listener));
        let told = async {
            while !missing.is_empty() {
                let events = ends.next().await.expect("told");
                missing
                    .retain(|one| !events.iter().any(|e| matches!(e, Event::Ended(other) if other == one)));
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told).await.expect("in time");
    }

    #[test]
    fn what_is_too_short_is_nothing() {
        for bytes in 0..68 {
            assert!(ended(&vec![0; bytes]).is_none());
        }
    }
}
