//! sock_diag(7): all sockets at once, or what is told of one.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use model::{Connection, Protocol};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_MULTIPART, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    Nla as _,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, TCP_LISTEN};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, Timer,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

use crate::machine::{Bound, Cookie, Ifindex, Listener, Picture, Scope, Speech};

/// The kernel writes at most 32 kB of a dump at a time.
const REPLY_BYTES: usize = 64 << 10;
/// `INET_DIAG_MD5SIG` of linux/inet_diag.h: present if there are keys; told to root only.
const MD5_KEYS: u16 = 18;
/// linux/sock_diag.h.
const SOCK_DESTROY: u16 = 21;

/// All sockets of the scope; of connections those with one of these local addresses.
///
/// # Errors
/// What the system says.
pub fn look(scope: Scope, dvipas: &HashSet<IpAddr>) -> io::Result<Picture> {
    let mut picture = Picture::default();
    for family in [AF_INET, AF_INET6] {
        dump(family, IPPROTO_UDP, StateFlags::CLOSE, |socket| {
            picture.listeners.extend(listener(Protocol::Udp, socket));
        })?;
        if scope == Scope::All {
            dump(family, IPPROTO_TCP, tcp_states(), |socket| {
                if socket.header.state == TCP_LISTEN {
                    picture.listeners.extend(listener(Protocol::Tcp, socket));
                } else {
                    let ours = |(_, c): &(Cookie, Connection)| dvipas.contains(&c.dvipa.ip());
                    picture.connections.extend(connection(socket).filter(ours));
                }
            })?;
        }
    }
    Ok(picture)
}

/// All listeners of the network namespace that the thread is in.
///
/// # Errors
/// What the system says.
pub(super) fn listeners() -> io::Result<Vec<(Cookie, Listener)>> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        for (protocol, number, states) in [
            (Protocol::Udp, IPPROTO_UDP, StateFlags::CLOSE),
            (Protocol::Tcp, IPPROTO_TCP, StateFlags::LISTEN),
        ] {
            dump(family, number, states, |socket| found.extend(listener(protocol, socket)))?;
        }
    }
    Ok(found)
}

/// The local addresses and ports of all sockets, in every state, also of what is left of connections (TIME_WAIT). Not of TCP sockets that
/// are only bound, which the kernel does not tell of.
///
/// # Errors
/// What the system says.
pub(super) fn local_ports(note: &mut impl FnMut(IpAddr, u16)) -> io::Result<()> {
    for family in [AF_INET, AF_INET6] {
        for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
            dump(family, protocol, StateFlags::all(), |socket| {
                let id = &socket.header.socket_id;
                note(id.source_address.to_canonical(), id.source_port);
            })?;
        }
    }
    Ok(())
}

/// The accept queue of a listener that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptQueue {
    /// The listener's port.
    pub port: u16,
    /// How many wait.
    pub waiting: u32,
    /// How full it is, in thousandths of its limit.
    pub permille: u16,
}

/// The accept queues of TCP listeners on these ports in which connections wait.
///
/// # Errors
/// What the system says.
pub fn accept_queues(ports: &HashSet<u16>) -> io::Result<Vec<AcceptQueue>> {
    let mut queues = Vec::new();
    for family in [AF_INET, AF_INET6] {
        dump(family, IPPROTO_TCP, StateFlags::LISTEN, |socket| {
            let header = &socket.header;
            if header.recv_queue > 0 && ports.contains(&header.socket_id.source_port) {
                let waiting = u64::from(header.recv_queue) * 1000 / u64::from(header.send_queue.max(1));
                let permille = u16::try_from(waiting.min(1000)).unwrap_or(1000);
                let (port, waiting) = (header.socket_id.source_port, header.recv_queue);
                queues.push(AcceptQueue { port, waiting, permille });
            }
        })?;
    }
    Ok(queues)
}

/// Of connections that a process has, with one of these local addresses: who has spoken last, and how long ago. Also of those whose clients
/// have closed: a client that waits too long goes, and a server that hangs does not see it.
///
/// # Errors
/// What the system says.
pub fn speeches(dvipas: &HashSet<IpAddr>) -> io::Result<Vec<Speech>> {
    let mut speeches = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let states = StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT;
        dump_with(ExtensionFlags::INFO, family, IPPROTO_TCP, states, |socket| {
            let id = &socket.header.socket_id;
            // One without a number waits in the accept queue.
            if socket.header.inode == 0 || !dvipas.contains(&id.source_address.to_canonical()) {
                return;
            }
            let speech = socket.nlas.iter().find_map(|nla| match nla {
                Nla::TcpInfo(info) => {
                    let dvipa = std::net::SocketAddr::new(id.source_address.to_canonical(), id.source_port);
                    speech(dvipa, id.destination_address.to_canonical(), info)
                }
                _ => None,
            });
            speeches.extend(speech);
        })?;
    }
    Ok(speeches)
}

/// `tcpi_unacked`, `tcpi_last_data_sent` and `tcpi_last_data_recv` of `struct tcp_info` (linux/tcp.h), the latter in milliseconds.
fn speech(dvipa: std::net::SocketAddr, client: IpAddr, info: &[u8]) -> Option<Speech> {
    let word = |at: usize| info.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    let (unacknowledged, sent, received) = (word(24)?, word(44)?, word(52)?);
    let carried = Carried::of(info)?;
    let has_sent = unacknowledged > 0 || carried.acknowledged > 0;
    let waits = carried.received > 0 && (!has_sent || received < sent);
    let long = |ms: u32| Duration::from_millis(ms.into());
    let (silent, waits) = (has_sent.then(|| long(sent)), waits.then(|| long(received)));
    // Where nothing was sent or received yet, the kernel counts from the handshake.
    let quiet = long(sent.min(received));
    Some(Speech { dvipa: dvipa.ip(), port: dvipa.port(), client, silent, waits, quiet })
}

/// What no socket option tells of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its segments are signed with TCP-MD5 (RFC 2385).
    pub signed: bool,
    /// The number of its socket, as in `/proc/PID/fd`; 0 if no process has a descriptor of it.
    pub inode: u32,
    /// The number of its socket, which no other one ever has.
    pub cookie: Cookie,
    /// What it has carried; none if only a trace of it is left (TIME-WAIT).
    pub carried: Option<Carried>,
}

/// What a connection has carried since its socket was made (RFC 4898 `tcpEStatsAppHCThruOctets…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Bytes of the client that came in order, those that were not read included.
    pub received: u64,
    /// Bytes that the client has acknowledged.
    pub acknowledged: u64,
}

impl Carried {
    /// `tcpi_bytes_acked` and `tcpi_bytes_received` of `struct tcp_info` (linux/tcp.h, since Linux 4.1).
    fn of(info: &[u8]) -> Option<Self> {
        let [acknowledged, received] = [120, 128].map(|at| info.get(at..)?.first_chunk().copied());
        Some(Self {
            received: u64::from_ne_bytes(received?),
            acknowledged: u64::from_ne_bytes(acknowledged?),
        })
    }
}

/// Asks about one connection; `None` if it is not here.
///
/// # Errors
/// What the system says.
pub fn ask(connection: &Connection) -> io::Result<Option<Told>> {
    // The keys are told with `struct tcp_info` only.
    let request = about(connection, ExtensionFlags::INFO);
    let mut told = None;
    let result: io::Result<()> = ASKER.with_borrow_mut(|asker| {
        let mut opened = match asker.take() {
            Some(asker) => asker,
            None => Asker::open()?,
        };
        opened.exchange(&written(request, NLM_F_REQUEST), |socket| {
            // Without the connection, the kernel tells of the listener that would take it.
            told = (socket.header.state != TCP_LISTEN).then(|| Told {
                signed: socket.nlas.iter().any(|nla| nla.kind() == MD5_KEYS),
                inode: socket.header.inode,
                cookie: cookie(&socket.header.socket_id),
                carried: socket.nlas.iter().find_map(|nla| match nla {
                    Nla::TcpInfo(info) => Carried::of(info),
                    _ => None,
                }),
            });
        })?;
        // After an error an answer might still come: then the next question gets a socket of its own.
        *asker = Some(opened);
        Ok(())
    });
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(|()| told),
    }
}

/// A question about one connection.
fn about(connection: &Connection, extensions: ExtensionFlags) -> InetRequest {
    let Connection { client, dvipa, .. } = connection;
    let family = if client.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut socket_id = if client.is_ipv4() { SocketId::new_v4() } else { SocketId::new_v6() };
    (socket_id.source_address, socket_id.source_port) = (dvipa.ip(), dvipa.port());
    (socket_id.destination_address, socket_id.destination_port) = (client.ip(), client.port());
    // `INET_DIAG_NOCOOKIE`: whichever it is.
    socket_id.cookie = [0xff; 8];
    InetRequest { family, protocol: IPPROTO_TCP, extensions, states: StateFlags::all(), socket_id }
}

/// Ends a connection of this host: its client is told (RST), and the holder of its socket.
///
/// # Errors
/// What the system says; that it is not here is none.
pub fn destroy(connection: &Connection) -> io::Result<()> {
    let mut request = written(about(connection, ExtensionFlags::empty()), NLM_F_REQUEST | NLM_F_ACK);
    // Such a request is one of another type (linux/sock_diag.h), behind the length (linux/netlink.h).
    if let Some(kind) = request.get_mut(4..6) {
        kind.copy_from_slice(&SOCK_DESTROY.to_ne_bytes());
    }
    match Asker::open()?.exchange(&request, |_| {}) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Listening, or established and not yet closed by both sides.
fn tcp_states() -> StateFlags {
    StateFlags::LISTEN
        | StateFlags::ESTABLISHED
        | StateFlags::FIN_WAIT1
        | StateFlags::FIN_WAIT2
        | StateFlags::CLOSE_WAIT
        | StateFlags::CLOSING
        | StateFlags::LAST_ACK
}

fn listener(protocol: Protocol, socket: &InetResponse) -> Option<(Cookie, Listener)> {
    let id = &socket.header.socket_id;
    let v6only = socket.nlas.iter().any(|nla| matches!(nla, Nla::SkV6Only(true)));
    let interface = Some(id.interface_id).filter(|i| *i != 0).map(Ifindex);
    let bound = Bound::new(id.source_address, v6only);
    let listener = Listener { protocol, bound, port: id.source_port, interface };
    (id.source_port != 0).then_some((cookie(id), listener))
}

/// `None` for what is left of a connection without its socket (TIME-WAIT, or FIN-WAIT-2 kept by a timer).
fn connection(socket: &InetResponse) -> Option<(Cookie, Connection)> {
    let id = &socket.header.socket_id;
    let client = std::net::SocketAddr::new(id.destination_address, id.destination_port);
    let dvipa = std::net::SocketAddr::new(id.source_address, id.source_port);
    let connection = Connection::new(Protocol::Tcp, client, dvipa)?;
    (socket.header.timer != Some(Timer::TimeWait)).then_some((cookie(id), connection))
}

/// The kernel writes the lower half first (`sock_diag_save_cookie`).
fn cookie(id: &SocketId) -> Cookie {
    let [a, b, c, d, e, f, g, h] = id.cookie;
    let (low, high) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
    Cookie(u64::from(high) << 32 | u64::from(low))
}

fn dump(family: u8, protocol: u8, states: StateFlags, each: impl FnMut(&InetResponse)) -> io::Result<()> {
    dump_with(ExtensionFlags::empty(), family, protocol, states, each)
}

fn dump_with(
    extensions: ExtensionFlags,
    family: u8,
    protocol: u8,
    states: StateFlags,
    each: impl FnMut(&InetResponse),
) -> io::Result<()> {
    let socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    let request = InetRequest { family, protocol, extensions, states, socket_id };
    Asker::open()?.exchange(&written(request, NLM_F_REQUEST | NLM_F_DUMP), each)
}

thread_local! {
    /// For questions that are asked for every connection that moves: opening a socket would take longer than the answer.
    static ASKER: RefCell<Option<Asker>> = const { RefCell::new(None) };
}

/// A socket to ask on, of the network namespace that the thread was in when it was opened.
struct Asker {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Asker {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, buffer: vec![0; REPLY_BYTES] })
    }

    /// Sends a request and reads its answers: many and an end to a dump, one to another request.
    fn exchange(&mut self, request: &[u8], mut each: impl FnMut(&InetResponse)) -> io::Result<()> {
        self.socket.send(request, 0)?;
        loop {
            let bytes = self.socket.recv(&mut self.buffer.as_mut_slice(), 0)?;
            for message in messages(self.buffer.get(..bytes).unwrap_or_default()) {
                let message = message?;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(e) if e.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(e) => return Err(e.to_io()),
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => each(&response),
                    _ => {}
                }
                if message.header.flags & NLM_F_MULTIPART == 0 {
                    return Ok(());
                }
            }
        }
    }
}

fn written(request: InetRequest, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The netlink messages in a datagram, each padded to four bytes.
fn messages(datagram: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<SockDiagMessage>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest);
        let bytes = message.as_ref().map_or(rest.len(), |m| m.header.length as usize);
        rest = rest.get(bytes.next_multiple_of(4)..).unwrap_or_default();
        Some(message.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)))
    })
}

#[cfg(test)]
mod tests;
