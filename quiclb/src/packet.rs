//! Where a client's datagram has its destination connection ID (RFC 8999 5).

/// The bit of the first octet that long headers have.
const LONG: u8 = 0x80;
/// Where the length of the destination connection ID is in a long header, behind the version.
const LENGTH_AT: usize = 5;
/// QUIC version 1 (RFC 9000), and its type of Handshake packets.
const V1: ([u8; 4], u8) = ([0, 0, 0, 1], 2);
/// QUIC version 2 (RFC 9369), and its type of Handshake packets.
const V2: ([u8; 4], u8) = ([0x6b, 0x33, 0x43, 0xcf], 3);

/// The connection ID that a client's datagram is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'d> {
    /// A server has made it. It is as long as these bytes.
    Servers(&'d [u8]),
    /// A server has made it, and these bytes begin with it: a short header does not say how long it is.
    BeginsWith(&'d [u8]),
    /// The client may have chosen it: until a server has answered, and that can't be seen in an Initial or 0-RTT packet. A client that
    /// chooses is to get the server that is selected for it, not the one that it names.
    Clients,
}

/// The connection ID that a datagram is sent to. `None`: the datagram ends before it, so that it is not QUIC.
pub fn destination(datagram: &[u8]) -> Option<Destination<'_>> {
    let (first, rest) = datagram.split_first()?;
    if first & LONG == 0 {
        return Some(Destination::BeginsWith(rest));
    }
    let version = rest.first_chunk::<4>()?;
    let length = usize::from(*datagram.get(LENGTH_AT)?);
    let id = datagram.get(LENGTH_AT..)?.get(1..)?.get(..length)?;
    let is_handshake = [V1, V2].contains(&(*version, first >> 4 & 3));
    Some(if is_handshake { Destination::Servers(id) } else { Destination::Clients })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A long header to a connection ID of three bytes.
    fn long(first: u8, version: u32) -> Vec<u8> {
        [&[first][..], &version.to_be_bytes(), &[3, 7, 8, 9, 0]].concat()
    }

    #[test]
    fn only_handshake_packets_and_short_headers_have_a_connection_id_that_a_server_has_made() {
        let read = |first, version| match destination(&long(first, version)) {
            Some(Destination::Servers(id)) => {
                assert_eq!(id, [7, 8, 9]);
                true
            }
            Some(Destination::Clients) => false,
            other => panic!("{other:?}"),
        };
        let of = |version| [0xc0, 0xd0, 0xe0, 0xf0].map(|first| read(first, version));
        assert_eq!(of(1), [false, false, true, false], "Initial, 0-RTT, Handshake, Retry");
        assert_eq!(of(0x6b33_43cf), [false, false, false, true], "Retry, Initial, 0-RTT, Handshake");
        assert_eq!(of(0xff00_001d), [false; 4], "a version whose types are not known");
        assert_eq!(destination(&[0x40, 7, 8]), Some(Destination::BeginsWith(&[7, 8])));
    }

    #[test]
    fn a_datagram_that_ends_before_its_connection_id_has_none() {
        let whole = long(0xe0, 1);
        (0..9).for_each(|bytes| assert_eq!(destination(&whole[..bytes]), None, "{bytes}"));
        assert!(destination(&whole[..9]).is_some());
        assert_eq!(destination(&[0x40]), Some(Destination::BeginsWith(&[])));
    }
}
