//! Typed views of headers: parsing is checked once, here.
//!
//! Each view's `parse` takes any bytes, never panics, and either says what is wrong ([`Malformed`]) or returns a view
//! whose accessors can't fail. Views of IP end where the IP header says, so that padding never counts as payload.
//! [`frame`] is where headers are written.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod frame;
pub mod gue;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
mod mac;
pub mod neighbour;
pub mod transport;

pub use arp::Arp;
pub use checksum::Sum;
pub use ethernet::Ethernet;
pub use gue::Gue;
pub use icmp::Icmp;
pub use ipv4::Ipv4;
pub use ipv6::Ipv6;
pub use mac::Mac;
pub use neighbour::Solicitation;
pub use transport::{Ports, Tcp, Udp};

use crate::Reason;

/// What is wrong with bytes that should be a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They end within it.
    Truncated,
    /// Length fields contradict each other or the bytes.
    Length,
    /// A fixed field has an impossible value.
    Header,
    /// A checksum is wrong.
    Checksum,
}

impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Reason {
        match malformed {
            Malformed::Truncated => Reason::Truncated,
            Malformed::Length => Reason::BadLength,
            Malformed::Header => Reason::BadHeader,
            Malformed::Checksum => Reason::BadChecksum,
        }
    }
}

/// Protocol numbers (IANA) that the path knows.
pub mod protocol {
    /// IPv6 hop-by-hop options (RFC 8200 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// IPv4 in IP (RFC 2003).
    pub const IPV4: u8 = 4;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// IPv6 in IP (RFC 2473).
    pub const IPV6: u8 = 41;
    /// IPv6 routing header (RFC 8200 4.4).
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200 4.5).
    pub const FRAGMENT: u8 = 44;
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options (RFC 8200 4.6).
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Where a fragment stands in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Where its payload begins in the datagram's, in units of 8 bytes.
    pub offset: u16,
    /// More follow.
    pub more: bool,
    /// The datagram's identification.
    pub identification: u32,
}

impl Fragment {
    /// It has the transport header.
    pub fn is_first(self) -> bool {
        self.offset == 0
    }
}

/// Bytes `at..at + N`, if they are there.
pub(crate) fn chunk_at<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// Bytes `at..at + N` to write on, if they are there.
pub(crate) fn chunk_at_mut<const N: usize>(bytes: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    bytes.get_mut(at..)?.first_chunk_mut()
}

/// Copies bytes between places of one length; `None`, and nothing is copied, if the lengths differ.
pub(crate) fn copy(to: &mut [u8], from: &[u8]) -> Option<()> {
    if to.len() != from.len() {
        return None;
    }
    to.copy_from_slice(from);
    Some(())
}

#[cfg(test)]
mod tests;
