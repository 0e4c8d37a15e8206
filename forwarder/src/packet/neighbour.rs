//! Neighbour discovery (RFC 4861): solicitations and advertisements.

use std::net::Ipv6Addr;

use super::{Ipv6, Mac, Malformed, Sum, chunk_at, icmp, ipv6, protocol};

/// Bytes of a solicitation or advertisement without options.
pub const FIXED_BYTES: usize = 24;
/// Bytes of an advertisement with its link-layer address option.
pub const ADVERTISEMENT_BYTES: usize = 32;
/// The hop limit that proves that a message comes from the link (7.1).
pub const HOP_LIMIT: u8 = 255;
/// Option: link-layer address of the source.
const SOURCE_OPTION: u8 = 1;
/// Option: link-layer address of the target.
const TARGET_OPTION: u8 = 2;
/// All nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The link-layer address of [`ALL_NODES`] (RFC 2464 7).
pub const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// The address that a solicitation asks for or an advertisement is about; no other check is made.
///
/// # Errors
/// [`Malformed::Truncated`].
pub fn target(message: &[u8]) -> Result<Ipv6Addr, Malformed> {
    chunk_at::<16>(message, icmp::HEADER_BYTES).map(|a| Ipv6Addr::from(*a)).ok_or(Malformed::Truncated)
}

/// A valid solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Who asks; unspecified while it tests an address for duplicates.
    pub source: Ipv6Addr,
    /// Who is asked for.
    pub target: Ipv6Addr,
}

impl Solicitation {
    /// Reads a packet whose ICMPv6 type is [`icmp::v6::SOLICITATION`] and makes every check of RFC 4861 7.1.1.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(ip: &Ipv6<'_>) -> Result<Self, Malformed> {
        let message = ip.payload();
        let (source, destination, target) = (ip.source(), ip.destination(), target(message)?);
        let options = message.get(FIXED_BYTES..).ok_or(Malformed::Truncated)?;
        let len = u16::try_from(message.len()).map_err(|_| Malformed::Length)?;
        let sum = Sum::default().pseudo_v6(source.octets(), destination.octets(), len, protocol::ICMPV6);
        if sum.bytes(message).finish() != 0 {
            return Err(Malformed::Checksum);
        }
        let code = message.get(1).copied();
        let source_option = has_source_option(options)?;
        let tests_duplicate = source.is_unspecified();
        let lone = !tests_duplicate || (is_solicited_node(destination) && !source_option);
        let sane = code == Some(0) && !target.is_multicast() && (tests_duplicate || ipv6::is_host(source));
        if ip.hop_limit() == HOP_LIMIT && lone && sane {
            Ok(Self { source, target })
        } else {
            Err(Malformed::Header)
        }
    }
}

/// Whether a source link-layer address is among the options; every length must be right.
fn has_source_option(mut options: &[u8]) -> Result<bool, Malformed> {
    let mut found = false;
    while let Some([kind, units]) = options.first_chunk::<2>() {
        let len = usize::from(*units).saturating_mul(8);
        found |= *kind == SOURCE_OPTION;
        options = options.get(len..).filter(|_| len > 0).ok_or(Malformed::Length)?;
    }
    if options.is_empty() { Ok(found) } else { Err(Malformed::Length) }
}

/// A solicited-node multicast address: ff02::1:ff00:0/104 (RFC 4291 2.7.1).
pub fn is_solicited_node(address: Ipv6Addr) -> bool {
    address.to_bits() >> 24 == Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).to_bits() >> 24
}

/// An advertisement that `target` is at `mac`, overriding what neighbours believed. Written with its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The address in question, which is also the packet's source.
    pub target: Ipv6Addr,
    /// Where it is.
    pub mac: Mac,
    /// The packet's destination.
    pub destination: Ipv6Addr,
    /// It answers a solicitation.
    pub solicited: bool,
}

impl Advertisement {
    /// The ICMPv6 message as bytes.
    pub fn to_bytes(self) -> [u8; ADVERTISEMENT_BYTES] {
        const OVERRIDE: u8 = 0x20;
        const SOLICITED: u8 = 0x40;
        let mut bytes = [0; ADVERTISEMENT_BYTES];
        bytes[0] = icmp::v6::ADVERTISEMENT;
        bytes[4] = if self.solicited { OVERRIDE | SOLICITED } else { OVERRIDE };
        bytes[24] = TARGET_OPTION;
        bytes[25] = 1;
        let (head, option) = bytes.split_at_mut(26);
        option.copy_from_slice(&self.mac.0);
        if let Some(target) = head.get_mut(8..24) {
            target.copy_from_slice(&self.target.octets());
        }
        let (source, destination) = (self.target.octets(), self.destination.octets());
        let sum = Sum::default().pseudo_v6(source, destination, ADVERTISEMENT_BYTES as u16, protocol::ICMPV6);
        let [c0, c1] = sum.bytes(&bytes).finish().to_be_bytes();
        bytes[2] = c0;
        bytes[3] = c1;
        bytes
    }
}
