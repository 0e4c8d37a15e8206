//! Two stacks of one host, as an agent and the `batond` beside it: TLS over a Unix socket in place of QUIC, which spares both
//! the datagrams, their acknowledgments and QUIC's timers.
//!
//! The socket has an abstract name (unix(7)), made of the address at which the peer listens: a name of the network namespace, as the
//! address is. So nothing is configured. Any process of the namespace can take the name first; one of another user than root and
//! ours is not spoken to, and QUIC is used.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net as unix;
use std::sync::Arc;

use model::StackName;
use rustls::pki_types::ServerName;
use tokio::net::{UnixListener, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// A session's stream.
pub(crate) type Stream = TlsStream<UnixStream>;

fn name_of(address: SocketAddr) -> String {
    format!("baton/sessions/{address}")
}

fn unspecified(like: SocketAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Whether an address is one of this network namespace: the kernel then uses it as source too.
pub(crate) fn is_here(address: SocketAddr) -> bool {
    let source = UdpSocket::bind((unspecified(address), 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address.ip())
}

/// Listens beside the UDP socket at this address. Must be called inside a tokio runtime.
///
/// # Errors
/// What the system says.
pub(crate) fn listen(address: SocketAddr) -> io::Result<UnixListener> {
    let listener = unix::UnixListener::bind_addr(&unix::SocketAddr::from_abstract_name(name_of(address))?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Answers a stack that dialled.
///
/// # Errors
/// What TLS says.
pub(crate) async fn accept(stream: UnixStream, tls: Arc<rustls::ServerConfig>) -> io::Result<Stream> {
    TlsAcceptor::from(tls).accept(stream).await.map(Into::into)
}

/// Whether the other end is a process of root or of our own user.
pub(crate) fn is_of_this_user(stream: &UnixStream) -> bool {
    let ours = fs::metadata("/proc/self").map(|own| own.uid());
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || ours.is_ok_and(|ours| peer.uid() == ours))
}

/// The socket of a stack that listens beside this address of this host; `None`: it is not there, or another user's process is. Never
/// waits: a listener that has too many to accept counts as none.
pub(crate) fn reach(address: SocketAddr) -> Option<UnixStream> {
    let any = SocketAddr::new(unspecified(address), address.port());
    [address, any].into_iter().find_map(|listens_at| {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).ok()?;
        socket.set_nonblocking(true).ok()?;
        socket.connect(&socket2::SockAddr::unix(format!("\0{}", name_of(listens_at))).ok()?).ok()?;
        let stream = UnixStream::from_std(OwnedFd::from(socket).into()).ok()?;
        is_of_this_user(&stream).then_some(stream)
    })
}

/// Shakes hands with the stack that was reached.
///
/// # Errors
/// What TLS says, and if the name can't be one of a certificate.
pub(crate) async fn dial(
    stream: UnixStream,
    peer: &StackName,
    tls: Arc<rustls::ClientConfig>,
) -> io::Result<Stream> {
    let name = ServerName::try_from(peer.as_str().to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(tls).connect(name, stream).await.map(Into::into)
}
