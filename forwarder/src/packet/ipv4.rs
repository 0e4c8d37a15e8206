//! IPv4 (RFC 791).

use std::net::Ipv4Addr;

use super::{Fragment, Malformed, Sum};

/// Bytes of a header without options.
pub const HEADER_BYTES: usize = 20;

/// An IPv4 packet: a header that holds together, and what it says is behind it.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'p> {
    header: &'p [u8; HEADER_BYTES],
    header_bytes: usize,
    payload: &'p [u8],
}

impl<'p> Ipv4<'p> {
    /// Reads a whole packet and verifies its header's checksum. Bytes behind its total length are padding.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &'p [u8]) -> Result<Self, Malformed> {
        let (header, header_bytes) = Self::header(bytes)?;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if total < header_bytes || total > bytes.len() {
            return Err(Malformed::Length);
        }
        let whole = bytes.get(..header_bytes).ok_or(Malformed::Truncated)?;
        if Sum::default().bytes(whole).finish() != 0 {
            return Err(Malformed::Checksum);
        }
        let payload = bytes.get(header_bytes..total).ok_or(Malformed::Length)?;
        Ok(Self { header, header_bytes, payload })
    }

    /// Reads the beginning of a packet that an ICMP error quotes: the total length may exceed what is there, and the
    /// checksum is whatever the routers on the way made of it.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] if options are missing, [`Malformed::Header`] if it is not IPv4.
    pub fn parse_quoted(bytes: &'p [u8]) -> Result<Self, Malformed> {
        let (header, header_bytes) = Self::header(bytes)?;
        let payload = bytes.get(header_bytes..).ok_or(Malformed::Truncated)?;
        Ok(Self { header, header_bytes, payload })
    }

    fn header(bytes: &'p [u8]) -> Result<(&'p [u8; HEADER_BYTES], usize), Malformed> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(Malformed::Truncated)?;
        let header_bytes = usize::from(header[0] & 0x0f).saturating_mul(4);
        if header[0] >> 4 != 4 || header_bytes < HEADER_BYTES {
            return Err(Malformed::Header);
        }
        if header_bytes > bytes.len() {
            return Err(Malformed::Truncated);
        }
        Ok((header, header_bytes))
    }

    /// Who sent it.
    pub fn source(self) -> Ipv4Addr {
        Ipv4Addr::new(self.header[12], self.header[13], self.header[14], self.header[15])
    }

    /// To whom.
    pub fn destination(self) -> Ipv4Addr {
        Ipv4Addr::new(self.header[16], self.header[17], self.header[18], self.header[19])
    }

    /// The transport protocol's number.
    pub fn protocol(self) -> u8 {
        self.header[9]
    }

    /// Time to live.
    pub fn ttl(self) -> u8 {
        self.header[8]
    }

    /// DSCP and ECN.
    pub fn traffic_class(self) -> u8 {
        self.header[1]
    }

    /// It may not be fragmented.
    pub fn dont_fragment(self) -> bool {
        self.header[6] & 0x40 != 0
    }

    /// Where it stands in its datagram; `None` if it is a whole one.
    pub fn fragment(self) -> Option<Fragment> {
        let word = u16::from_be_bytes([self.header[6], self.header[7]]);
        let identification = u32::from(u16::from_be_bytes([self.header[4], self.header[5]]));
        let fragment = Fragment { offset: word & 0x1fff, more: word & 0x2000 != 0, identification };
        (fragment.more || !fragment.is_first()).then_some(fragment)
    }

    /// Bytes of the header with its options.
    pub fn header_bytes(self) -> usize {
        self.header_bytes
    }

    /// What is behind the header.
    pub fn payload(self) -> &'p [u8] {
        self.payload
    }

    /// Bytes of header and payload.
    pub fn total_bytes(self) -> usize {
        self.header_bytes.saturating_add(self.payload.len())
    }
}

/// Whether a host may have this address: not "this network", loopback, multicast or broadcast (RFC 6890). 240.0.0.0/4 is
/// reserved, but large networks use it, and Linux serves it.
pub fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    is_host_octet(first) || (first == 255 && !address.is_broadcast())
}

/// Whether a host may have any address that begins with this octet.
#[inline(always)]
pub(crate) fn is_host_octet(first: u8) -> bool {
    // A bit each, but for 0, 127, 224 to 239, and 255: costs a packet half of what these comparisons do.
    static OCTETS: [u32; 8] = [!1, !0, !0, !0 >> 1, !0, !0, !0, 0x7fff_0000];
    OCTETS.get(usize::from(first >> 5)).is_some_and(|octets| octets >> (first & 31) & 1 != 0)
}

/// What a header without options says; written by [`Header::to_bytes`] with its checksum.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes of header and payload.
    pub total_bytes: u16,
    /// Identification.
    pub identification: u16,
    /// The word of flags and fragment offset.
    pub flags: u16,
    /// Time to live.
    pub ttl: u8,
    /// What is behind it.
    pub protocol: u8,
    /// Who sends it.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
}

/// The flag "don't fragment" in the word of flags and offset.
pub const DONT_FRAGMENT: u16 = 0x4000;

impl Header {
    /// The header as bytes, checksum included.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = self.without_checksum();
        let [c0, c1] = Sum::default().bytes(&bytes).finish().to_be_bytes();
        bytes[10] = c0;
        bytes[11] = c1;
        bytes
    }

    /// The header as bytes with a checksum of zero.
    pub fn without_checksum(self) -> [u8; HEADER_BYTES] {
        let [l0, l1] = self.total_bytes.to_be_bytes();
        let [i0, i1] = self.identification.to_be_bytes();
        let [f0, f1] = self.flags.to_be_bytes();
        let [s0, s1, s2, s3] = self.source.octets();
        let [d0, d1, d2, d3] = self.destination.octets();
        [
            0x45,
            self.traffic_class,
            l0,
            l1,
            i0,
            i1,
            f0,
            f1,
            self.ttl,
            self.protocol,
            0,
            0,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ]
    }
}
