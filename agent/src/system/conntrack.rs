//! Connections that move, made known to this host's connection tracking (ctnetlink).
//!
//! A stateful filter takes the packets of a connection whose beginning it did not see for invalid, or for a new connection
//! without SYN. So a connection that comes has an entry before its first packet does, established and without window
//! tracking, which would miss what was said elsewhere (`nf_conntrack_tcp_be_liberal` for this one connection).

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use model::Connection;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as Kernel};

/// Entries of this network namespace.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// How long the entry lasts if no packet of the connection comes, in seconds; the first one renews it for as long as Linux
/// keeps any established connection.
const TIMEOUT_S: u32 = 120;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW` (linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h).
const NEW: u16 = 1 << 8;
/// `NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE`: one that is there is changed.
const FLAGS: u16 = 0x1 | 0x4 | 0x400;
pub(super) const HEADER_BYTES: usize = 16;
pub(super) const NESTED: u16 = 0x8000;
pub(super) const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
pub(super) const STATUS: u16 = 3;
pub(super) const PROTOINFO: u16 = 4;
const TIMEOUT: u16 = 7;
/// `IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED`.
const IN_BOTH_DIRECTIONS: u32 = 2 | 4 | 8;
/// `TCP_CONNTRACK_ESTABLISHED`.
const ESTABLISHED: u8 = 3;
/// `struct nf_ct_tcp_flags`: `IP_CT_TCP_FLAG_BE_LIBERAL` is set, and nothing else is touched.
const LIBERAL: [u8; 2] = [8, 8];

/// Makes this connection known, if this network namespace tracks connections at all: if it has an entry of any.
///
/// # Errors
/// What the kernel says.
pub fn make_known(connection: &Connection) -> io::Result<()> {
    if is_in_use() { send(&request(connection)) } else { Ok(()) }
}

/// Whether this network namespace tracks connections: there is one.
pub(super) fn is_in_use() -> bool {
    fs::read_to_string(COUNT).is_ok_and(|count| count.trim() != "0")
}

fn send(request: &[u8]) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.send_to(request, &Kernel::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    // `struct nlmsgerr`: a negative error number, 0 for none.
    let code = answer.get(HEADER_BYTES..).and_then(|rest| rest.first_chunk::<4>());
    match code.map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn request(connection: &Connection) -> Vec<u8> {
    let Connection { client, dvipa, .. } = *connection;
    let family = if client.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let tcp = [
        attribute(1, &[ESTABLISHED]),
        attribute(2, &[0]),
        attribute(3, &[0]),
        attribute(4, &LIBERAL),
        attribute(5, &LIBERAL),
    ];
    let body = [
        // `struct nfgenmsg`.
        vec![family as u8, 0, 0, 0],
        tuple(TUPLE_ORIGINAL, client, dvipa),
        tuple(TUPLE_REPLY, dvipa, client),
        attribute(STATUS, &IN_BOTH_DIRECTIONS.to_be_bytes()),
        attribute(TIMEOUT, &TIMEOUT_S.to_be_bytes()),
        attribute(PROTOINFO | NESTED, &attribute(1 | NESTED, &tcp.concat())),
    ]
    .concat();
    let bytes = (HEADER_BYTES + body.len()) as u32;
    let header = [&bytes.to_ne_bytes()[..], &NEW.to_ne_bytes(), &FLAGS.to_ne_bytes(), &[0; 8]].concat();
    [header, body].concat()
}

/// `CTA_TUPLE_IP` and `CTA_TUPLE_PROTO` of one direction.
fn tuple(kind: u16, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let address = |kind_v4: u16, address: IpAddr| match address {
        IpAddr::V4(a) => attribute(kind_v4, &a.octets()),
        IpAddr::V6(a) => attribute(kind_v4 + 2, &a.octets()),
    };
    let addresses = [address(1, from.ip()), address(2, to.ip())].concat();
    let ports = [
        attribute(1, &[libc::IPPROTO_TCP as u8]),
        attribute(2, &from.port().to_be_bytes()),
        attribute(3, &to.port().to_be_bytes()),
    ]
    .concat();
    attribute(kind | NESTED, &[attribute(1 | NESTED, &addresses), attribute(2 | NESTED, &ports)].concat())
}

/// A netlink attribute, padded to four bytes.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let bytes = (4 + value.len()) as u16;
    let mut attribute = [&bytes.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        assert_eq!(attribute(1, &[6]), [[5, 0, 1, 0], [6, 0, 0, 0]].concat());
    }

    #[test]
    fn a_request_has_its_own_length() {
        let [client, dvipa] = ["198.18.0.2:40000", "198.18.9.1:80"].map(|a| a.parse().unwrap());
        let connection = Connection { protocol: model::Protocol::Tcp, client, dvipa };
        let request = request(&connection);
        assert_eq!(u32::from_ne_bytes(request[..4].try_into().unwrap()) as usize, request.len());
        assert_eq!(request.len() % 4, 0);
    }
}
