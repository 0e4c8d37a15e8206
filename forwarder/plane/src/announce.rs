//! Tells the segment where a DVIPA is: gratuitous ARP, unsolicited neighbour advertisement. The routing stack's machine
//! says when, and how often.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use forwarder::packet::neighbour::{ADVERTISEMENT_BYTES, ALL_NODES, ALL_NODES_MAC, Advertisement, HOP_LIMIT};
use forwarder::packet::{Arp, arp, ethernet, ipv6, protocol};
use forwarder::{Mac, Port};
use model::Dvipa;

use crate::worker::inbox::{FRAME_BYTES, Frame, To};

type Bytes = ArrayVec<u8, FRAME_BYTES>;

/// The frame that says that `dvipa` is at `mac`, for the NIC, tagged if the NIC's frames are.
pub fn frame(dvipa: Dvipa, mac: Mac, vlan: Option<u16>) -> Frame {
    let bytes = match dvipa.address() {
        IpAddr::V4(address) => arp_announcement(address, mac, vlan),
        IpAddr::V6(address) => neighbour_advertisement(address, mac, vlan),
    };
    Frame { to: To::Port(Port::Nic), bytes }
}

/// RFC 5227 sections 1.1 and 3: an ARP request whose sender and target are the address. Hosts that know the address
/// take the new link-layer address from it.
fn arp_announcement(address: Ipv4Addr, mac: Mac, vlan: Option<u16>) -> Bytes {
    let mut bytes = ethernet_header(Mac::BROADCAST, mac, vlan, ethernet::ARP);
    let (operation, target_mac) = (arp::Operation::Request, Mac::default());
    bytes.extend(Arp { operation, sender_mac: mac, sender: address, target_mac, target: address }.to_bytes());
    bytes
}

/// RFC 4861 section 7.2.6: an advertisement to all nodes, with the override flag.
fn neighbour_advertisement(address: Ipv6Addr, mac: Mac, vlan: Option<u16>) -> Bytes {
    let mut bytes = ethernet_header(ALL_NODES_MAC, mac, vlan, ethernet::IPV6);
    let advertisement = Advertisement { target: address, mac, destination: ALL_NODES, solicited: false };
    let header = ipv6::Header {
        traffic_class: 0,
        payload_bytes: ADVERTISEMENT_BYTES as u16,
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        source: address,
        destination: ALL_NODES,
    };
    bytes.extend(header.to_bytes());
    bytes.extend(advertisement.to_bytes());
    bytes
}

fn ethernet_header(destination: Mac, source: Mac, vlan: Option<u16>, ethertype: u16) -> Bytes {
    let mut bytes = Bytes::new();
    bytes.extend(destination.0);
    bytes.extend(source.0);
    if let Some(vlan) = vlan {
        bytes.extend(ethernet::VLAN.to_be_bytes());
        bytes.extend(vlan.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests;
