//! Generic UDP encapsulation, variant 0 (draft-ietf-intarea-gue-09, section 3).

use super::{Malformed, protocol};

/// The UDP port that receivers listen on (IANA).
pub const PORT: u16 = 6080;
/// Source ports are this with 14 bits of the flow's hash: the dynamic range (RFC 6335 6), whole.
pub const SOURCE_PORTS: u16 = 0xc000;
/// Bytes of a header without optional fields.
pub const HEADER_BYTES: usize = 4;

/// A data message of variant 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gue<'p> {
    /// What is inside: [`protocol::IPV4`] or [`protocol::IPV6`].
    pub protocol: u8,
    /// The packet inside.
    pub payload: &'p [u8],
    /// Bytes of the header with its optional fields.
    pub header_bytes: usize,
}

impl<'p> Gue<'p> {
    /// Reads a UDP datagram's payload. Optional fields are skipped.
    ///
    /// # Errors
    /// [`Malformed::Truncated`]; [`Malformed::Header`] if it is another variant, a control message, or has no IP inside.
    pub fn parse(bytes: &'p [u8]) -> Result<Self, Malformed> {
        let [first, protocol, ..] = *bytes.first_chunk::<HEADER_BYTES>().ok_or(Malformed::Truncated)?;
        let header_bytes = usize::from(first & 0x1f).saturating_add(1).saturating_mul(4);
        let control_or_other_variant = first & 0xe0 != 0;
        if control_or_other_variant || !matches!(protocol, protocol::IPV4 | protocol::IPV6) {
            return Err(Malformed::Header);
        }
        let payload = bytes.get(header_bytes..).ok_or(Malformed::Truncated)?;
        Ok(Self { protocol, payload, header_bytes })
    }
}
