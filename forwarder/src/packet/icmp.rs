//! ICMP (RFC 792) and ICMPv6 (RFC 4443).

use super::Malformed;

/// Bytes before a message's body: type, code, checksum and four bytes that depend on the type.
pub const HEADER_BYTES: usize = 8;

/// Where the checksum is.
pub const CHECKSUM_AT: usize = 2;

/// Types of ICMP for IPv4.
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Its code "port unreachable".
    pub const PORT_UNREACHABLE: u8 = 3;
    /// Its code "fragmentation needed" (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Source quench.
    pub const SOURCE_QUENCH: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded; code 0 is "in transit".
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Types of ICMPv6.
pub mod v6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Its code "port unreachable".
    pub const PORT_UNREACHABLE: u8 = 4;
    /// Packet too big.
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded; code 0 is "hop limit exceeded in transit".
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Neighbour solicitation (RFC 4861 4.3).
    pub const SOLICITATION: u8 = 135;
    /// Neighbour advertisement (RFC 4861 4.4).
    pub const ADVERTISEMENT: u8 = 136;

    /// Whether messages of this type stay on their link: of neighbour discovery (RFC 4861 4), and of multicast listeners
    /// (RFC 2710 3, RFC 3810 5).
    pub fn is_of_the_link(kind: u8) -> bool {
        matches!(kind, 130..=137 | 143)
    }
}

/// A message of either ICMP. Its checksum is not verified here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp<'p> {
    /// The type.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// What is behind the first eight bytes: of an error, the quoted packet.
    pub body: &'p [u8],
}

impl<'p> Icmp<'p> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn parse(bytes: &'p [u8]) -> Result<Self, Malformed> {
        let ([kind, code, ..], body) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed::Truncated)?;
        Ok(Self { kind: *kind, code: *code, body })
    }

    /// An error of ICMP for IPv4 that concerns a connection. A redirect is none: it concerns a host's routes.
    pub fn is_error_v4(self) -> bool {
        matches!(self.kind, v4::UNREACHABLE | v4::SOURCE_QUENCH | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM)
    }

    /// An error of ICMPv6 (RFC 4443 2.1: types below 128).
    pub fn is_error_v6(self) -> bool {
        matches!(self.kind, v6::UNREACHABLE..=v6::PARAMETER_PROBLEM)
    }
}
