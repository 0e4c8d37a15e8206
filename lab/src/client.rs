//! A client of the lab: plain sockets in the client's namespace.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::sockopt::{Linger, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrStorage, bind, connect,
    sendto, setsockopt, socket,
};

use crate::namespace::Namespace;

/// How long a client waits for a connection or an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A keep-alive HTTP/1.1 connection of a client.
#[derive(Debug)]
pub struct HttpConnection {
    stream: BufReader<TcpStream>,
}

impl HttpConnection {
    /// Connects from inside `ns`, with any source address.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(ns: &Namespace, to: SocketAddr) -> io::Result<Self> {
        Self::over(ns.enter(|| TcpStream::connect_timeout(&to, PATIENCE))?)
    }

    /// As [`HttpConnection::open`], and waits so long for the connection and for each answer.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_patiently(ns: &Namespace, to: SocketAddr, patience: Duration) -> io::Result<Self> {
        let connection = Self::over(ns.enter(|| TcpStream::connect_timeout(&to, patience))?)?;
        connection.stream.get_ref().set_read_timeout(Some(patience))?;
        connection.stream.get_ref().set_write_timeout(Some(patience))?;
        Ok(connection)
    }

    /// As [`HttpConnection::open`], from this source address.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_from(ns: &Namespace, from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let stream = ns.enter(|| {
            let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            setsockopt(&socket, ReuseAddr, &true)?;
            bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
            connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
            io::Result::Ok(TcpStream::from(socket))
        })?;
        Self::over(stream)
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// The connection itself, for a client that speaks for itself.
    pub fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    /// Its socket.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// The client's end.
    ///
    /// # Panics
    /// If the kernel does not know the socket any more.
    pub fn local(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().expect("a connected socket has a local address")
    }

    /// Ends the connection with a reset, so that its source port is free at once.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn abort(self) -> io::Result<()> {
        setsockopt(self.stream.get_ref(), Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        Ok(())
    }

    /// Requests `path` and returns the body.
    ///
    /// # Errors
    /// What the kernel says, or `InvalidData` if the answer is not a complete 200.
    pub fn get(&mut self, path: &str) -> io::Result<Vec<u8>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut length = 0;
        for number in 0.. {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if number == 0 && !line.contains(" 200 ") {
                return Err(bad(&line));
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(|_| bad(&line))?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// Asks which target is at the other end.
    ///
    /// # Errors
    /// As [`HttpConnection::get`].
    pub fn target(&mut self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.get("/")?).trim().to_owned())
    }
}

/// Opens a connection, asks which target answers, and closes.
///
/// # Errors
/// As [`HttpConnection::get`].
pub fn ask(ns: &Namespace, to: SocketAddr) -> io::Result<String> {
    HttpConnection::open(ns, to)?.target()
}

/// A UDP socket of a client, bound to any port of the wildcard address of the peer's family, and connected.
///
/// # Errors
/// What the kernel says.
pub fn udp(ns: &Namespace, to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = ns.enter(|| {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        io::Result::Ok(socket)
    })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Asks `times` times on a connection each and counts the answers; a request without one counts as `failed`.
pub fn ask_often(ns: &Namespace, to: SocketAddr, times: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        *counts.entry(ask(ns, to).unwrap_or_else(|_| "failed".into())).or_default() += 1;
    }
    counts
}

/// Sends one TCP packet that opens nothing: a bare ACK from `from` to `to`, as of a connection that nobody knows.
///
/// # Errors
/// What the kernel says.
pub fn stray_ack(ns: &Namespace, from: SocketAddrV4, to: SocketAddrV4) -> io::Result<()> {
    let mut header = Vec::with_capacity(20);
    header.extend(from.port().to_be_bytes());
    header.extend(to.port().to_be_bytes());
    header.extend(0x1234_5678u32.to_be_bytes());
    header.extend(0x9abc_def0u32.to_be_bytes());
    // Five words, ACK, window 1024, checksum, urgent pointer.
    header.extend([0x50, 0x10, 0x04, 0x00, 0, 0, 0, 0]);
    let pseudo = [&from.ip().octets()[..], &to.ip().octets(), &[0, 6, 0, 20], &header].concat();
    let sum: u32 = pseudo.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0);
    header[16..18].copy_from_slice(&checksum.to_be_bytes());
    ns.enter(|| {
        let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp)?;
        bind(raw.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(*from.ip(), 0)))?;
        sendto(
            raw.as_raw_fd(),
            &header,
            &SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0)),
            MsgFlags::empty(),
        )?;
        Ok(())
    })
}
