//! IPv6 and its extension headers (RFC 8200).

use std::net::Ipv6Addr;

use super::{Fragment, Malformed, protocol};

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 40;
/// The most extension headers that are followed; more of them are [`Malformed::Header`].
const MAX_EXTENSIONS: usize = 8;

/// An IPv6 packet: headers that hold together up to the transport, and what is behind them.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'p> {
    header: &'p [u8; HEADER_BYTES],
    protocol: u8,
    header_bytes: usize,
    fragment: Option<Fragment>,
    payload: &'p [u8],
}

impl<'p> Ipv6<'p> {
    /// Reads a whole packet. Bytes behind its payload length are padding.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &'p [u8]) -> Result<Self, Malformed> {
        let header = Self::header(bytes)?;
        let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let bytes = bytes.get(..HEADER_BYTES.saturating_add(payload)).ok_or(Malformed::Length)?;
        Self::walk(header, bytes)
    }

    /// Reads the beginning of a packet that an ICMPv6 error quotes: its end may be missing.
    ///
    /// # Errors
    /// What is wrong with its headers.
    pub fn parse_quoted(bytes: &'p [u8]) -> Result<Self, Malformed> {
        Self::walk(Self::header(bytes)?, bytes)
    }

    fn header(bytes: &'p [u8]) -> Result<&'p [u8; HEADER_BYTES], Malformed> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(Malformed::Truncated)?;
        if header[0] >> 4 == 6 { Ok(header) } else { Err(Malformed::Header) }
    }

    /// Follows the extension headers to the transport, or to a later fragment's payload.
    fn walk(header: &'p [u8; HEADER_BYTES], bytes: &'p [u8]) -> Result<Self, Malformed> {
        let mut found =
            Self { header, protocol: header[6], header_bytes: HEADER_BYTES, fragment: None, payload: &[] };
        for _ in 0..=MAX_EXTENSIONS {
            let rest = bytes.get(found.header_bytes..).ok_or(Malformed::Truncated)?;
            found.payload = rest;
            if found.fragment.is_some_and(|f| !f.is_first()) || !is_extension(found.protocol) {
                return Ok(found);
            }
            let [next, len, o0, o1, i0, i1, i2, i3] = *rest.first_chunk::<8>().ok_or(Malformed::Truncated)?;
            let len = match found.protocol {
                protocol::FRAGMENT => {
                    if found.fragment.is_some() {
                        return Err(Malformed::Header);
                    }
                    let word = u16::from_be_bytes([o0, o1]);
                    let identification = u32::from_be_bytes([i0, i1, i2, i3]);
                    found.fragment =
                        Some(Fragment { offset: word >> 3, more: word & 1 == 1, identification });
                    8
                }
                protocol::AUTHENTICATION => usize::from(len).saturating_add(2).saturating_mul(4),
                _ => usize::from(len).saturating_add(1).saturating_mul(8),
            };
            found.protocol = next;
            found.header_bytes = found.header_bytes.saturating_add(len);
        }
        Err(Malformed::Header)
    }

    /// Who sent it.
    pub fn source(self) -> Ipv6Addr {
        self.address_at(8)
    }

    /// To whom.
    pub fn destination(self) -> Ipv6Addr {
        self.address_at(24)
    }

    fn address_at(self, at: usize) -> Ipv6Addr {
        super::chunk_at::<16>(self.header, at).map_or(Ipv6Addr::UNSPECIFIED, |a| Ipv6Addr::from(*a))
    }

    /// What is behind the extension headers.
    pub fn protocol(self) -> u8 {
        self.protocol
    }

    /// Hop limit.
    pub fn hop_limit(self) -> u8 {
        self.header[7]
    }

    /// DSCP and ECN.
    pub fn traffic_class(self) -> u8 {
        self.header[0] << 4 | self.header[1] >> 4
    }

    /// Where it stands in its datagram; `None` if it has no fragment header. An atomic fragment (RFC 6946) is the
    /// first and last one.
    pub fn fragment(self) -> Option<Fragment> {
        self.fragment
    }

    /// Bytes of all headers before the payload.
    pub fn header_bytes(self) -> usize {
        self.header_bytes
    }

    /// What is behind the extension headers.
    pub fn payload(self) -> &'p [u8] {
        self.payload
    }

    /// Bytes of headers and payload.
    pub fn total_bytes(self) -> usize {
        self.header_bytes.saturating_add(self.payload.len())
    }
}

fn is_extension(number: u8) -> bool {
    matches!(
        number,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
    )
}

/// Whether a host may have this address as the source of a packet that crosses routers: neither unspecified, loopback
/// nor multicast (RFC 4291 2.5, 2.7).
pub fn is_host(address: Ipv6Addr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

/// What a fixed header says; the flow label is 0.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes behind the fixed header.
    pub payload_bytes: u16,
    /// What is behind it.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Who sends it.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
}

impl Header {
    /// The header as bytes.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let [l0, l1] = self.payload_bytes.to_be_bytes();
        let fixed = [
            0x60 | self.traffic_class >> 4,
            self.traffic_class << 4,
            0,
            0,
            l0,
            l1,
            self.next_header,
            self.hop_limit,
        ];
        let (head, addresses) = bytes.split_at_mut(8);
        head.copy_from_slice(&fixed);
        let (source, destination) = addresses.split_at_mut(16);
        source.copy_from_slice(&self.source.octets());
        destination.copy_from_slice(&self.destination.octets());
        bytes
    }
}
