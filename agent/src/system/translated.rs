//! Connections to DVIPAs that this host's DNAT sends on, as it does to containers (ctnetlink): no socket of this network
//! namespace has them, so that connection tracking has to tell of their beginning and end.
//!
//! A filter in the kernel keeps the events of all other connections back.

use std::collections::HashSet;
use std::future::pending;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use model::{Connection, Protocol};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, Socket, SocketAddr as Kernel, TokioSocket};

use super::conntrack::{HEADER_BYTES, PROTOINFO, STATUS, TUPLE_ORIGINAL, attribute, is_in_use};
use super::kernel::attach_filter;
use super::told::Told;
use crate::machine::{Cookie, Event};

/// `1 << (NFNLGRP_CONNTRACK_NEW - 1)` and so on for UPDATE and DESTROY (linux/netfilter/nfnetlink_compat.h).
const GROUPS: u32 = 0b111;
/// Room for events that were not read yet, in bytes.
const BUFFER_BYTES: usize = 4 << 20;
/// The kernel writes one event at a time, and at most 32 kB of a dump.
const MESSAGE_BYTES: usize = 64 << 10;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`, and what of it is the message.
const GET: u16 = 1 << 8 | 1;
const DELETE: u8 = 2;
/// `NLM_F_REQUEST | NLM_F_DUMP`; `NLMSG_ERROR`, `NLMSG_DONE` (linux/netlink.h).
const DUMP: u16 = 0x1 | 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `CTA_STATUS_MASK`; `IPS_DST_NAT` (linux/netfilter/nf_conntrack_common.h).
const STATUS_MASK: u16 = 26;
const DESTINATION_TRANSLATED: u32 = 1 << 5;
/// `struct nfgenmsg` behind the netlink header.
const ATTRIBUTES: usize = HEADER_BYTES + 4;
/// `enum tcp_conntrack`.
const ESTABLISHED: u8 = 3;
const TIME_WAIT: u8 = 7;

/// Tells of connections that DNAT sends on; of none where the kernel can't.
pub struct Translated {
    told: Option<Told>,
}

impl Translated {
    /// Subscribes, if the kernel has netfilter.
    pub fn subscribe() -> Self {
        let open = || -> io::Result<TokioSocket> {
            let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
            attach_filter(socket.socket_mut().as_fd(), &filter())?;
            socket.socket_mut().set_rx_buf_sz(BUFFER_BYTES)?;
            socket.socket_mut().bind(&Kernel::new(0, GROUPS))?;
            Ok(socket)
        };
        let unheard = |cause| tracing::info!(%cause, "the kernel does not tell of containers' connections");
        Self { told: open().map_err(unheard).ok().map(|socket| Told::new(socket, MESSAGE_BYTES)) }
    }

    /// Waits until there is something to tell. Cancel-safe.
    ///
    /// # Errors
    /// What the system says.
    pub async fn next(&mut self) -> io::Result<Vec<Event>> {
        match &mut self.told {
            Some(told) => told.next(|bytes, events| events.extend(messages(bytes).filter_map(event))).await,
            None => pending().await,
        }
    }
}

/// All of them that are established, to one of these addresses.
///
/// # Errors
/// What the system says.
pub fn look(dvipas: &HashSet<IpAddr>) -> io::Result<Vec<(Cookie, Connection)>> {
    if !is_in_use() {
        return Ok(Vec::new());
    }
    let status = DESTINATION_TRANSLATED.to_be_bytes();
    let filter = [attribute(STATUS, &status), attribute(STATUS_MASK, &status)].concat();
    match dump(&request(&filter), dvipas) {
        // Linux 6.1 refuses the filter; older kernels do not look at it. What is not translated is left out here too.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => dump(&request(&[]), dvipas),
        found => found,
    }
}

fn dump(request: &[u8], dvipas: &HashSet<IpAddr>) -> io::Result<Vec<(Cookie, Connection)>> {
    let mut found = Vec::new();
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.send_to(request, &Kernel::new(0, 0), 0)?;
    let mut buffer = Vec::with_capacity(MESSAGE_BYTES);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        for message in messages(&buffer) {
            match message.kind {
                DONE => return Ok(found),
                ERROR => {
                    let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
                }
                _ => {}
            }
            if let Some(Event::Established(cookie, connection)) = event(message)
                && dvipas.contains(&connection.dvipa.ip())
            {
                found.push((cookie, connection));
            }
        }
    }
}

/// A dump of the entries that this filter lets through.
fn request(filter: &[u8]) -> Vec<u8> {
    let body = [&[0; 4][..], filter].concat();
    let bytes = (HEADER_BYTES + body.len()) as u32;
    [&bytes.to_ne_bytes()[..], &GET.to_ne_bytes(), &DUMP.to_ne_bytes(), &[0; 8], &body].concat()
}

/// Lets a message pass whose `CTA_STATUS` has `IPS_DST_NAT` (bpf_common.h; SKF_AD_NLATTR of linux/filter.h).
fn filter() -> [libc::sock_filter; 9] {
    const NLATTR: u32 = (-0x1000i32 + 12).cast_unsigned();
    let code = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    [
        code(libc::BPF_LD | libc::BPF_IMM, 0, 0, ATTRIBUTES as u32),
        code(libc::BPF_LDX | libc::BPF_IMM, 0, 0, STATUS.into()),
        code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, NLATTR),
        code(libc::BPF_JMP | libc::BPF_JEQ, 3, 0, 0),
        code(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
        code(libc::BPF_LD | libc::BPF_W | libc::BPF_IND, 0, 0, 4),
        code(libc::BPF_JMP | libc::BPF_JSET, 1, 0, DESTINATION_TRANSLATED),
        code(libc::BPF_RET, 0, 0, 0),
        code(libc::BPF_RET, 0, 0, u32::MAX),
    ]
}

/// A netlink message: its type and what is behind the header.
#[derive(Clone, Copy)]
struct Message<'m> {
    kind: u16,
    body: &'m [u8],
}

/// The messages in a datagram.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let [a, b, c, d, kind @ ..] = *datagram.first_chunk::<6>()?;
        let bytes = u32::from_ne_bytes([a, b, c, d]) as usize;
        let body = datagram.get(HEADER_BYTES..bytes)?;
        datagram = datagram.get(bytes.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: u16::from_ne_bytes(kind), body })
    })
}

/// The value of the attribute of this type.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some([l0, l1, k0, k1]) = attributes.first_chunk() {
        let bytes = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let value = attributes.get(4..bytes)?;
        // Nested, or in network byte order.
        if u16::from_ne_bytes([*k0, *k1]) & 0x3fff == wanted {
            return Some(value);
        }
        attributes = attributes.get(bytes.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

/// What a message says of a TCP connection that DNAT sends on.
fn event(message: Message<'_>) -> Option<Event> {
    let attributes = message.body.get(ATTRIBUTES - HEADER_BYTES..)?;
    let status = u32::from_be_bytes(*find(attributes, STATUS)?.first_chunk()?);
    if status & DESTINATION_TRANSLATED == 0 {
        return None;
    }
    let connection = connection(find(attributes, TUPLE_ORIGINAL)?)?;
    if message.kind.to_le_bytes()[0] == DELETE {
        return Some(Event::Ended(number(&connection)));
    }
    // Told of an update only if it has changed.
    match find(find(find(attributes, PROTOINFO)?, 1)?, 1)?.first()? {
        // One that one side has closed too.
        ESTABLISHED..TIME_WAIT => Some(Event::Established(number(&connection), connection)),
        TIME_WAIT.. => Some(Event::Ended(number(&connection))),
        _ => None,
    }
}

/// Reads `CTA_TUPLE_IP` and `CTA_TUPLE_PROTO`.
fn connection(tuple: &[u8]) -> Option<Connection> {
    let (addresses, ports) = (find(tuple, 1)?, find(tuple, 2)?);
    let address = |v4: u16| match find(addresses, v4) {
        Some(v4) => Some(IpAddr::from(Ipv4Addr::from(*v4.first_chunk::<4>()?))),
        None => Some(IpAddr::from(Ipv6Addr::from(*find(addresses, v4 + 2)?.first_chunk::<16>()?))),
    };
    let port = |kind| Some(u16::from_be_bytes(*find(ports, kind)?.first_chunk()?));
    if find(ports, 1)?.first() != Some(&(libc::IPPROTO_TCP as u8)) {
        return None;
    }
    let (client, dvipa) = (SocketAddr::new(address(1)?, port(2)?), SocketAddr::new(address(2)?, port(3)?));
    Connection::new(Protocol::Tcp, client, dvipa)
}

/// What stands for the number of its socket, which it has none of here: no socket's number is so large.
fn number(connection: &Connection) -> Cookie {
    let mut hasher = DefaultHasher::new();
    connection.hash(&mut hasher);
    Cookie(hasher.finish() | 1 << 63)
}

#[cfg(test)]
mod tests {
    use super::super::conntrack::NESTED;
    use super::*;

    fn told(kind: u16, status: u32, state: Option<u8>) -> Vec<u8> {
        let tuple = [
            attribute(1 | NESTED, &[attribute(1, &[198, 18, 0, 2]), attribute(2, &[198, 18, 9, 1])].concat()),
            attribute(
                2 | NESTED,
                &[attribute(1, &[6]), attribute(2, &[0x9c, 0x40]), attribute(3, &[0, 80])].concat(),
            ),
        ]
        .concat();
        let state =
            state.map(|state| attribute(PROTOINFO | NESTED, &attribute(1 | NESTED, &attribute(1, &[state]))));
        let body = [
            vec![2, 0, 0, 0],
            attribute(TUPLE_ORIGINAL | NESTED, &tuple),
            attribute(STATUS, &status.to_be_bytes()),
            state.unwrap_or_default(),
        ]
        .concat();
        let bytes = (HEADER_BYTES + body.len()) as u32;
        [&bytes.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], &body].concat()
    }

    fn read(bytes: &[u8]) -> Option<Event> {
        messages(bytes).find_map(event)
    }

    #[test]
    fn what_is_established_and_what_ends_is_told() {
        let expected =
            Connection::new(Protocol::Tcp, ([198, 18, 0, 2], 40_000).into(), ([198, 18, 9, 1], 80).into());
        let (update, delete) = (1 << 8, 1 << 8 | 2);
        let Some(Event::Established(cookie, connection)) = read(&told(update, 0x2e, Some(3))) else {
            panic!("established");
        };
        assert_eq!(Some(connection), expected);
        for open in 4..7 {
            let half_closed = read(&told(update, 0x2e, Some(open)));
            assert!(matches!(half_closed, Some(Event::Established(number, _)) if number == cookie), "{open}");
        }
        for ended in [told(update, 0x2e, Some(7)), told(update, 0x2e, Some(8)), told(delete, 0x22e, None)] {
            assert!(matches!(read(&ended), Some(Event::Ended(number)) if number == cookie));
        }
        // Without a new state, in the handshake, or not translated.
        for nothing in [told(update, 0x2e, None), told(update, 0x28, Some(2)), told(update, 0x0e, Some(3))] {
            assert!(read(&nothing).is_none());
        }
    }

    #[test]
    fn what_ends_early_is_nothing() {
        let whole = told(1 << 8, 0x2e, Some(3));
        for bytes in 0..whole.len() {
            assert!(read(&whole[..bytes]).is_none());
            let mut short = whole[..bytes].to_vec();
            if let Some(length) = short.first_chunk_mut::<4>() {
                *length = (bytes as u32).to_ne_bytes();
            }
            // It may say something, as long as it is within what there is.
            let _ = read(&short);
        }
    }
}
