//! What the socket programs tell, out of their ring buffer.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use libbpf_rs::RingBufferBuilder;
use model::transfer::{Reason, Why};
use model::{Connection, Protocol};
use tokio::io::unix::AsyncFd;

use super::kernel::{self, Ring};
use super::maps::Maps;
use crate::machine::{Bound, Cookie, Event, Ifindex, Listener};

/// Bytes of `struct event` of bpf/events.h.
const EVENT_BYTES: usize = 56;
/// What its `kind` may be.
const LISTENING: u8 = 1;
const LISTEN_ENDED: u8 = 2;
const ESTABLISHED: u8 = 3;
const ENDED: u8 = 4;
const UDP_BOUND: u8 = 5;
const CLAIMED: u8 = 6;
const CLAIMED_CLOSING: u8 = 7;
const LISTENS_ELSEWHERE: u8 = 8;
const NOT_TAKEN: u8 = 9;
const PORTS_LOW: u8 = 10;
const DECLINED: u8 = 11;
const ENDED_ANSWERED: u8 = 12;

/// What the programs tell.
#[derive(Clone, Debug)]
pub enum Told {
    /// Of sockets.
    Socket(Event),
    /// Few ports of a DVIPA are left that applications may be given.
    PortsLow,
    /// The kernel does not take a connection that was admitted, and would not from another packet.
    NotTaken {
        /// Which.
        connection: Connection,
        /// Why.
        why: Why,
    },
    /// The same of a connection whose token was given out ahead.
    Declined(Connection),
}

/// The reader of the ring buffer.
pub struct Events {
    ring: AsyncFd<Ring>,
    /// Filled and emptied by [`Events::take`] alone.
    read: Arc<Mutex<Vec<Told>>>,
}

impl Events {
    /// A reader of the programs' events, also of those that they told before there was one.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(maps: &Maps) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let read = Arc::new(Mutex::new(Vec::new()));
        let mut builder = RingBufferBuilder::new();
        let into = Arc::clone(&read);
        builder.add(&maps.events, move |bytes| {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend(parse(bytes));
            0
        })?;
        Ok(Self { ring: kernel::register(builder.build()?)?, read })
    }

    /// Waits until there are events, and takes at most `most` of them. Cancel-safe. After `most` events the caller
    /// [takes](Events::take) until it gets fewer: the events that are left end no wait.
    ///
    /// # Errors
    /// What the system says.
    pub async fn next(&mut self, most: usize) -> std::io::Result<Vec<Told>> {
        loop {
            let mut ready = self.ring.readable_mut().await?;
            ready.clear_ready();
            let events = self.take(most);
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Takes at most `most` of the events that are there; fewer if there are no more.
    pub fn take(&self, most: usize) -> Vec<Told> {
        let read = || std::mem::take(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner));
        let mut all = Vec::new();
        loop {
            let left = most.saturating_sub(all.len());
            // It only fails if what is called for an event does. What the programs do not write is read and left out.
            let consumed = self.ring.get_ref().0.consume_raw_n(left);
            all.append(&mut read());
            if all.len() >= most || usize::try_from(consumed).unwrap_or(0) < left {
                return all;
            }
        }
    }
}

/// Reads a `struct event`; `None` for what the programs do not write.
fn parse(bytes: &[u8]) -> Option<Told> {
    let bytes: &[u8; EVENT_BYTES] = bytes.try_into().ok()?;
    let (cookie, rest) = bytes.split_first_chunk::<8>()?;
    let (local, rest) = rest.split_first_chunk::<16>()?;
    let (remote, rest) = rest.split_first_chunk::<16>()?;
    let (interface, rest) = rest.split_first_chunk::<4>()?;
    let (local_port, rest) = rest.split_first_chunk::<2>()?;
    let (remote_port, rest) = rest.split_first_chunk::<2>()?;
    let [kind, v6, v6only, ..] = *rest else { return None };

    let cookie = Cookie(u64::from_ne_bytes(*cookie));
    let end = |address: &[u8; 16], port: &[u8; 2]| {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*address)), u16::from_ne_bytes(*port))
    };
    let (local, remote) = (end(local, local_port), end(remote, remote_port));
    if kind == PORTS_LOW {
        return Some(Told::PortsLow);
    }
    if kind == NOT_TAKEN {
        let connection = Connection::new(Protocol::Tcp, remote, local)?;
        return Some(Told::NotTaken { connection, why: why_not(cookie.0) });
    }
    if kind == DECLINED {
        return Connection::new(Protocol::Tcp, remote, local).map(Told::Declined);
    }
    let event = match kind {
        LISTENING => {
            let address = if v6 == 0 { local.ip().to_canonical() } else { local.ip() };
            let interface = Some(u32::from_ne_bytes(*interface)).filter(|i| *i != 0).map(Ifindex);
            let bound = Bound::new(address, v6only != 0);
            let listener = Listener { protocol: Protocol::Tcp, bound, port: local.port(), interface };
            Some(Event::Listening(cookie, listener))
        }
        ESTABLISHED => Connection::new(Protocol::Tcp, remote, local).map(|c| Event::Established(cookie, c)),
        LISTEN_ENDED | ENDED => Some(Event::Ended(cookie)),
        ENDED_ANSWERED => Some(
            Connection::new(Protocol::Tcp, remote, local)
                .map_or(Event::Ended(cookie), |connection| Event::EndedAnswered(cookie, connection)),
        ),
        UDP_BOUND => Some(Event::UdpBound),
        LISTENS_ELSEWHERE => Some(Event::ListensElsewhere),
        CLAIMED | CLAIMED_CLOSING => Connection::new(Protocol::Tcp, remote, local)
            .map(|connection| Event::Claimed { connection, closing: kind == CLAIMED_CLOSING }),
        _ => None,
    };
    event.map(Told::Socket)
}

/// Why the kernel does not take a connection: its error, or 0 if nobody listens.
fn why_not(error: u64) -> Why {
    let said = match i32::try_from(error) {
        Ok(0) => "nothing listens on the port there".to_owned(),
        Ok(libc::EINVAL) => "its kernel does not take what the connection has agreed on: set net.ipv4.tcp_sack, tcp_timestamps and \
                             tcp_window_scaling to 1 there"
            .to_owned(),
        error => format!(
            "its kernel does not take the connection: {}",
            std::io::Error::from_raw_os_error(error.unwrap_or(libc::EIO))
        ),
    };
    Why::new(Reason::NotRestored, &said)
}

#[cfg(test)]
mod tests;
