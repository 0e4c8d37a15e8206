//! How messages are written.
//!
//! A frame is: length of the rest (u32), version (u8), reserved flags (u8), kind (u16), all big-endian, then the body
//! in CBOR (RFC 8949) with numbered fields. A reader skips a frame whose version or kind it does not know, and fields
//! that it does not know, so that old and new stacks talk (row W2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use minicbor::decode::Error as CborError;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::message::Pulse;
use crate::{Connection, Protocol, StackName};

mod direction;

pub(crate) use direction::direction;
pub use direction::{Direction, Side};

/// The version that this software writes.
pub const VERSION: u8 = 1;
/// The bytes before the body.
pub const HEADER_BYTES: usize = 8;
/// Memory for a frame to begin with: most fit.
const USUAL_BYTES: usize = 256;
/// The longest body that is read or written. A longer list is sent in parts.
pub const MAX_BODY_BYTES: usize = 4 << 20;

/// What a frame's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of body that follow.
    pub body_bytes: usize,
    /// The format's version.
    pub version: u8,
    /// The message kind's number.
    pub kind: u16,
}

/// Why bytes from a peer are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The length field is too small or too large: the session can't go on.
    #[error("a frame of {0} bytes is outside of 4..={max}", max = MAX_BODY_BYTES + 4)]
    Length(u32),
    /// The body of a known kind does not decode: this message is void, the session goes on.
    #[error("malformed body of message kind {kind}: {cause}")]
    Body {
        /// The kind's number.
        kind: u16,
        /// What the decoder says.
        cause: CborError,
    },
}

/// What a frame was, to a reader of messages of this direction.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<M> {
    /// A message.
    Message(M),
    /// One of the session's own.
    Pulse(Pulse),
    /// A message of the other direction, called so: the peer says what only its reader may say. Its body was not read.
    Misdirected(&'static str),
    /// Of a version or kind that this software does not know: to be ignored.
    Unknown {
        /// The version it was written in.
        version: u8,
        /// Its kind.
        kind: u16,
    },
}

/// Reads a frame's header.
///
/// # Errors
/// [`CodecError::Length`] if the length is impossible.
pub fn decode_header(bytes: [u8; HEADER_BYTES]) -> Result<Header, CodecError> {
    let [l0, l1, l2, l3, version, _flags, k0, k1] = bytes;
    let rest = u32::from_be_bytes([l0, l1, l2, l3]);
    let body_bytes =
        usize::try_from(rest).ok().and_then(|n| n.checked_sub(4)).filter(|n| *n <= MAX_BODY_BYTES);
    let body_bytes = body_bytes.ok_or(CodecError::Length(rest))?;
    Ok(Header { body_bytes, version, kind: u16::from_be_bytes([k0, k1]) })
}

/// Reads a frame's body.
///
/// # Errors
/// [`CodecError::Body`] if the kind is known and its body is malformed.
pub fn decode_body<M: Side>(header: Header, body: &[u8]) -> Result<Received<M>, CodecError> {
    let Header { version, kind, .. } = header;
    if version != VERSION {
        return Ok(Received::Unknown { version, kind });
    }
    let message = M::decode(kind, body).map(|read| read.map(Received::Message));
    let read = message.or_else(|| Pulse::decode(kind, body).map(|read| read.map(Received::Pulse)));
    match (read, M::Other::word_of(kind)) {
        (Some(read), _) => read.map_err(|cause| CodecError::Body { kind, cause }),
        (None, Some(word)) => Ok(Received::Misdirected(word)),
        (None, None) => Ok(Received::Unknown { version, kind }),
    }
}

/// Writes a whole frame.
///
/// # Errors
/// [`CodecError::Length`] if the body would be longer than [`MAX_BODY_BYTES`].
pub fn encode(message: &impl Direction) -> Result<Vec<u8>, CodecError> {
    let mut frame = Vec::with_capacity(USUAL_BYTES);
    frame.extend_from_slice(&[0; HEADER_BYTES]);
    let kind = message.encode(&mut frame);
    let body_bytes = frame.len().saturating_sub(HEADER_BYTES);
    let rest = u32::try_from(body_bytes.saturating_add(4)).unwrap_or(u32::MAX);
    if body_bytes > MAX_BODY_BYTES {
        return Err(CodecError::Length(rest));
    }
    let ([l0, l1, l2, l3], [k0, k1]) = (rest.to_be_bytes(), kind.to_be_bytes());
    if let Some(header) = frame.first_chunk_mut() {
        *header = [l0, l1, l2, l3, VERSION, 0, k0, k1];
    }
    Ok(frame)
}

/// Writes a body behind the header; its kind is given back. Memory takes everything, so that no body of ours fails; one that did
/// would stay empty, which no reader takes.
pub(crate) fn body_of<T: Encode<()>>(kind: u16, body: &T, frame: &mut Vec<u8>) -> u16 {
    if minicbor::encode(body, &mut *frame).is_err() {
        frame.truncate(HEADER_BYTES);
    }
    kind
}

/// An IP address on the wire: a byte string of 4 or 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub IpAddr);

impl<C> Encode<C> for Address {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self.0 {
            IpAddr::V4(a) => e.bytes(&a.octets())?,
            IpAddr::V6(a) => e.bytes(&a.octets())?,
        };
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Address {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        let bytes = d.bytes()?;
        let v4 = <[u8; 4]>::try_from(bytes).map(|b| IpAddr::V4(Ipv4Addr::from(b)));
        let v6 = <[u8; 16]>::try_from(bytes).map(|b| IpAddr::V6(Ipv6Addr::from(b)));
        v4.or(v6)
            .map(|a| Address(a.to_canonical()))
            .map_err(|_| CborError::message("an address has 4 or 16 bytes"))
    }
}

impl<C> Encode<C> for StackName {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(self.as_str())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for StackName {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        StackName::new(d.str()?).map_err(|e| CborError::message(e.to_string()))
    }
}

/// A [`Connection`] on the wire: a byte string of 13 bytes (IPv4) or 37 bytes (IPv6): protocol number, client address,
/// client port, DVIPA, DVIPA's port, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireConnection(pub Connection);

impl<C> Encode<C> for WireConnection {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let mut bytes = Vec::with_capacity(37);
        bytes.push(self.0.protocol.number());
        for end in [self.0.client, self.0.dvipa] {
            match end.ip() {
                IpAddr::V4(a) => bytes.extend_from_slice(&a.octets()),
                IpAddr::V6(a) => bytes.extend_from_slice(&a.octets()),
            }
            bytes.extend_from_slice(&end.port().to_be_bytes());
        }
        e.bytes(&bytes)?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for WireConnection {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        fn end<const N: usize>(bytes: &[u8]) -> Option<(SocketAddr, &[u8])>
        where
            IpAddr: From<[u8; N]>,
        {
            let (address, rest) = bytes.split_first_chunk::<N>()?;
            let (port, rest) = rest.split_first_chunk::<2>()?;
            Some((SocketAddr::new(IpAddr::from(*address), u16::from_be_bytes(*port)), rest))
        }
        fn whole<const N: usize>(protocol: Protocol, bytes: &[u8]) -> Option<Connection>
        where
            IpAddr: From<[u8; N]>,
        {
            let (client, rest) = end::<N>(bytes)?;
            let (dvipa, rest) = end::<N>(rest)?;
            rest.is_empty().then(|| Connection::new(protocol, client, dvipa))?
        }
        let bad =
            || CborError::message("a connection has 13 or 37 bytes, TCP or UDP, both ends of one family");
        let (protocol, rest) = d.bytes()?.split_first().ok_or_else(bad)?;
        let protocol = match protocol {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => return Err(bad()),
        };
        let connection =
            if rest.len() == 12 { whole::<4>(protocol, rest) } else { whole::<16>(protocol, rest) };
        connection.map(WireConnection).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests;
