//! Tells the segment where a DVIPA is: gratuitous ARP, unsolicited neighbour advertisement. The routing stack's machine
//! says when, and how often.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forwarder::packet::frame::{self, Bytes, Link};
use forwarder::packet::neighbour::{ALL_NODES, ALL_NODES_MAC, Advertisement};
use forwarder::packet::{Arp, arp};
use forwarder::{Mac, Port};
use model::Dvipa;

use crate::worker::inbox::{Frame, To};

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
    let (operation, target_mac) = (arp::Operation::Request, Mac::default());
    let message = Arp { operation, sender_mac: mac, sender: address, target_mac, target: address };
    frame::arp(&Link::new(Mac::BROADCAST, mac, vlan), message)
}

/// RFC 4861 section 7.2.6: an advertisement to all nodes, with the override flag.
fn neighbour_advertisement(address: Ipv6Addr, mac: Mac, vlan: Option<u16>) -> Bytes {
    let message = Advertisement { target: address, mac, destination: ALL_NODES, solicited: false };
    frame::advertisement(&Link::new(ALL_NODES_MAC, mac, vlan), message)
}

#[cfg(test)]
mod tests;
