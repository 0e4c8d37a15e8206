//! TCP (RFC 9293) and UDP (RFC 768), as far as a distributor looks.

use super::{Malformed, chunk_at};

/// Bytes of a TCP header without options.
pub const TCP_BYTES: usize = 20;
/// Bytes of a UDP header.
pub const UDP_BYTES: usize = 8;

/// TCP flag bits.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Ends a connection at once.
    pub const RST: u8 = 0x04;
    /// What was sent so far is to be handed on.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// Urgent data follows.
    pub const URG: u8 = 0x20;
    /// Congestion was met, or ECN is offered (RFC 3168 6.1).
    pub const ECE: u8 = 0x40;
    /// The sender has slowed down, or ECN is offered (RFC 3168 6.1).
    pub const CWR: u8 = 0x80;
}

/// The ports at the beginning of both transport headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The sender's.
    pub source: u16,
    /// The receiver's.
    pub destination: u16,
}

impl Ports {
    /// Reads them, and nothing else: all that an ICMP error has to quote.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let [s0, s1, d0, d1] = *bytes.first_chunk().ok_or(Malformed::Truncated)?;
        Ok(Self { source: u16::from_be_bytes([s0, s1]), destination: u16::from_be_bytes([d0, d1]) })
    }
}

/// What a TCP header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Both ports.
    pub ports: Ports,
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgment number, whether it counts or not.
    pub acknowledgment: u32,
    /// The flag bits ([`flags`]).
    pub flags: u8,
    /// Bytes of the header with its options.
    pub header_bytes: usize,
}

impl Tcp {
    /// Reads a segment's header.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], or [`Malformed::Length`] if its data offset is impossible.
    pub fn parse(segment: &[u8]) -> Result<Self, Malformed> {
        let header = segment.first_chunk::<TCP_BYTES>().ok_or(Malformed::Truncated)?;
        let header_bytes = usize::from(header[12] >> 4).saturating_mul(4);
        if header_bytes < TCP_BYTES {
            return Err(Malformed::Length);
        }
        let number = |at| chunk_at(header, at).map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let (sequence, acknowledgment) = (number(4), number(8));
        Ok(Self { ports: Ports::parse(header)?, sequence, acknowledgment, flags: header[13], header_bytes })
    }

    /// It opens a connection: SYN without ACK, RST or FIN.
    pub fn opens(self) -> bool {
        opens(self.flags)
    }
}

/// The flags are those of a segment that opens a connection.
#[inline(always)]
pub(crate) fn opens(flags: u8) -> bool {
    flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN) == flags::SYN
}

/// What a UDP header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Both ports.
    pub ports: Ports,
    /// Bytes of header and payload, as it says.
    pub len: usize,
}

impl Udp {
    /// Reads a whole datagram's header.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], or [`Malformed::Length`] if it claims more bytes than there are, or less than itself.
    pub fn parse(datagram: &[u8]) -> Result<Self, Malformed> {
        let udp = Self::parse_first_fragment(datagram)?;
        if udp.len > datagram.len() { Err(Malformed::Length) } else { Ok(udp) }
    }

    /// Reads the header in a datagram's first fragment, which is shorter than the datagram.
    ///
    /// # Errors
    /// As [`Udp::parse`], but for a length beyond the bytes.
    pub fn parse_first_fragment(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = bytes.first_chunk::<UDP_BYTES>().ok_or(Malformed::Truncated)?;
        let len = chunk_at::<2>(header, 4).map_or(0, |l| usize::from(u16::from_be_bytes(*l)));
        if len < UDP_BYTES { Err(Malformed::Length) } else { Ok(Self { ports: Ports::parse(header)?, len }) }
    }
}
