//! Ethernet II with up to two VLAN tags (IEEE 802.1Q).

use super::{Mac, Malformed};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag.
pub const SERVICE_VLAN: u16 = 0x88a8;
/// Bytes of an untagged header.
pub const HEADER_BYTES: usize = 14;
/// Bytes of one tag.
pub const TAG_BYTES: usize = 4;

/// What an Ethernet header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
    /// The VLAN of the outermost tag.
    pub vlan: Option<u16>,
    /// What follows the header, tags skipped.
    pub ethertype: u16,
    /// Bytes of the header with its tags.
    pub header_bytes: usize,
}

impl Ethernet {
    /// Reads a frame's header.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] if the frame ends within it.
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        let (head, mut rest) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed::Truncated)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *head;
        let mut ethertype = u16::from_be_bytes([t0, t1]);
        let (mut vlan, mut header_bytes) = (None, HEADER_BYTES);
        for _ in 0..2 {
            if ethertype != VLAN && ethertype != SERVICE_VLAN {
                break;
            }
            let ([v0, v1, t0, t1], behind) =
                rest.split_first_chunk::<TAG_BYTES>().ok_or(Malformed::Truncated)?;
            vlan = vlan.or(Some(u16::from_be_bytes([*v0, *v1]) & 0x0fff));
            ethertype = u16::from_be_bytes([*t0, *t1]);
            header_bytes = header_bytes.saturating_add(TAG_BYTES);
            rest = behind;
        }
        let (destination, source) = (Mac([d0, d1, d2, d3, d4, d5]), Mac([s0, s1, s2, s3, s4, s5]));
        Ok(Self { destination, source, vlan, ethertype, header_bytes })
    }
}

/// Writes both addresses into a frame's header, leaving tags and EtherType alone. A shorter frame stays as it is.
pub fn set_addresses(frame: &mut [u8], destination: Mac, source: Mac) {
    if let Some((to, from)) = frame.first_chunk_mut::<12>().map(|a| a.split_at_mut(6)) {
        to.copy_from_slice(&destination.0);
        from.copy_from_slice(&source.0);
    }
}
