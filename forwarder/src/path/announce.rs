//! Frames that tell the segment where a DVIPA is now.

use std::net::IpAddr;

use model::Dvipa;

use super::neighbour;
use crate::packet::arp::Operation;
use crate::packet::neighbour::{ADVERTISEMENT_BYTES, ALL_NODES, ALL_NODES_MAC, Advertisement};
use crate::packet::{Arp, Mac, ethernet, ipv6};
use crate::tables::carrier::ethernet_header;
use crate::{Node, PacketBuffer};

/// The shortest frame on the wire, without its checksum (IEEE 802.3).
const SHORTEST_FRAME_BYTES: usize = 60;

/// Makes `packet` a frame for the NIC that announces a DVIPA: an ARP announcement (RFC 5227 3, a request for one's own
/// address) or an unsolicited neighbour advertisement (RFC 4861 7.2.6). For the control thread.
///
/// `false`, and the packet is of no use, if its buffer is too small.
#[must_use]
pub fn announce<B: PacketBuffer>(packet: &mut B, dvipa: Dvipa, node: &Node) -> bool {
    let (to, ethertype, body_bytes) = match dvipa.address() {
        IpAddr::V4(_) => (Mac::BROADCAST, ethernet::ARP, crate::packet::arp::BYTES),
        IpAddr::V6(_) => {
            (ALL_NODES_MAC, ethernet::IPV6, ipv6::HEADER_BYTES.saturating_add(ADVERTISEMENT_BYTES))
        }
    };
    let header = ethernet_header(to, node, ethertype);
    packet.truncate(0);
    if !packet.extend(header.len().saturating_add(body_bytes).max(SHORTEST_FRAME_BYTES)) {
        return false;
    }
    packet.bytes_mut().fill(0);
    let Some((head, body)) = packet.bytes_mut().split_at_mut_checked(header.len()) else {
        return false;
    };
    head.copy_from_slice(&header);
    match dvipa.address() {
        IpAddr::V4(address) => {
            let (sender_mac, target_mac, operation) = (node.mac, Mac::default(), Operation::Request);
            let arp = Arp { operation, sender_mac, sender: address, target_mac, target: address };
            body.first_chunk_mut().map(|b| *b = arp.to_bytes()).is_some()
        }
        IpAddr::V6(target) => {
            let advertisement =
                Advertisement { target, mac: node.mac, destination: ALL_NODES, solicited: false };
            neighbour::write_message(body, advertisement).is_some()
        }
    }
}
