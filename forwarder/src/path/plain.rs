//! What later stages read of a plain packet, now that its owner is known: from its header again, which is in the nearest
//! cache, rather than from a copy that each stage would carry along. Bought 1.5 ns a packet.

use model::Protocol;

use super::encapsulate::Inner;
use super::ends::AnyKey;
use super::parse::{flow_hash, flow_hash_v6};
use crate::crt::{Key, KeyParts, KeyV4, KeyV6};
use crate::packet::{chunk_at, ethernet, transport};
use crate::tables::Family;

/// The key of a packet that [`super::parse`] found plain.
pub(crate) trait PlainKey: Key + Into<KeyParts> {
    /// The family of packets that have such keys.
    const FAMILY: Family;
    /// Bytes of the packet's IP header.
    const HEADER_BYTES: usize;

    /// The same key.
    fn any(self) -> AnyKey;

    /// Of an untagged frame: bytes from the IP header on, padding left out; and DSCP with ECN. Of a frame that is shorter than `parse` lets pass: 0.
    fn shape(frame: &[u8]) -> (u16, u8);

    /// What has to be known of the packet to carry it, whose frame has a tag of `TAG` bytes.
    #[inline(always)]
    fn inner<const TAG: usize>(self, frame: &[u8]) -> Inner {
        let (len, traffic_class) = Self::shape(frame.get(TAG..).unwrap_or_default());
        let l2_bytes = ethernet::HEADER_BYTES.wrapping_add(TAG);
        Inner { family: Self::FAMILY, l2_bytes, len, traffic_class, hash: self.flow() }
    }

    /// The sequence number, bytes and flags of a TCP packet, whose frame has a tag of `TAG` bytes.
    fn segment<const TAG: usize>(self, frame: &[u8]) -> Option<(u32, usize, u8)> {
        let untagged = frame.get(TAG..)?;
        let (len, _) = Self::shape(untagged);
        let tcp = untagged.get(ethernet::HEADER_BYTES.wrapping_add(Self::HEADER_BYTES)..)?;
        let [s0, s1, s2, s3, _, _, _, _, offset, flags] = *chunk_at::<10>(tcp, 4)?;
        let headers = Self::HEADER_BYTES.saturating_add(usize::from(offset >> 4).saturating_mul(4));
        Some((u32::from_be_bytes([s0, s1, s2, s3]), usize::from(len).saturating_sub(headers), flags))
    }

    /// What is behind the UDP header of a packet whose frame has a tag of `TAG` bytes.
    fn said<const TAG: usize>(self, frame: &[u8]) -> &[u8] {
        let packet = frame.get(TAG..).and_then(|untagged| {
            let (len, _) = Self::shape(untagged);
            untagged.get(ethernet::HEADER_BYTES..)?.get(..usize::from(len))
        });
        packet
            .and_then(|packet| packet.get(Self::HEADER_BYTES..)?.get(transport::UDP_BYTES..))
            .unwrap_or_default()
    }

    /// The flow's hash ([`flow_hash`]).
    fn flow(self) -> u16;

    /// Its service, as it is counted.
    fn counted(self) -> u64;

    /// Whether the packet is UDP.
    fn is_udp(self) -> bool {
        self.into().protocol == Protocol::Udp
    }

    /// Whether the packet may open a connection: a SYN, or any UDP packet. Its frame has a tag of `TAG` bytes.
    fn opens<const TAG: usize>(self, frame: &[u8]) -> bool {
        const FLAGS: usize = 13;
        let l2_bytes = ethernet::HEADER_BYTES.wrapping_add(TAG);
        let flags = l2_bytes.wrapping_add(Self::HEADER_BYTES).wrapping_add(FLAGS);
        self.is_udp() || frame.get(flags).is_some_and(|flags| transport::opens(*flags))
    }
}

impl PlainKey for KeyV4 {
    const FAMILY: Family = Family::V4;
    const HEADER_BYTES: usize = 20;

    fn any(self) -> AnyKey {
        AnyKey::V4(self)
    }

    #[inline(always)]
    fn flow(self) -> u16 {
        flow_hash((self.ends() >> 32) as u32, self.ends() as u32)
    }

    #[inline(always)]
    fn counted(self) -> u64 {
        self.counted()
    }

    #[inline(always)]
    fn shape(frame: &[u8]) -> (u16, u8) {
        let Some([_, class, l0, l1]) = chunk_at::<4>(frame, ethernet::HEADER_BYTES) else { return (0, 0) };
        (u16::from_be_bytes([*l0, *l1]), *class)
    }
}

impl PlainKey for KeyV6 {
    const FAMILY: Family = Family::V6;
    const HEADER_BYTES: usize = 40;

    fn any(self) -> AnyKey {
        AnyKey::V6(self)
    }

    #[inline(always)]
    fn flow(self) -> u16 {
        // Not by way of an address type, whose bytes would be stored and read again in other sizes: cost 4 ns.
        let (client, ports) = self.ends();
        flow_hash_v6(client, ports)
    }

    #[inline(always)]
    fn counted(self) -> u64 {
        self.counted()
    }

    #[inline(always)]
    fn shape(frame: &[u8]) -> (u16, u8) {
        let Some([v, c, _, _, l0, l1]) = chunk_at::<6>(frame, ethernet::HEADER_BYTES) else { return (0, 0) };
        (u16::from_be_bytes([*l0, *l1]).wrapping_add(40), v << 4 | c >> 4)
    }
}
